//! What the configuration says of one upstream.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

use super::UpstreamTls;
use crate::credentials::HostPolicy;

/// One section of `upstreams`, but for its credentials, which `credentials/` keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Its servers (one is used for now; several are the issue on traffic).
    pub servers: Vec<Server>,
    /// Which `Host` the upstream sees.
    pub host: HostPolicy,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// TLS towards those servers that want it.
    pub tls: Arc<UpstreamTls>,
    /// Deadlines.
    pub timeouts: Timeouts,
}

impl Config {
    /// An upstream with these servers and everything else as it is without a word in the file.
    #[must_use]
    pub fn of(name: &str, servers: Vec<Server>, timeouts: Timeouts) -> Self {
        Self { name: Arc::from(name), servers, host: HostPolicy::Upstream, protocol: Protocol::H1, tls: Arc::default(), timeouts }
    }
}

/// `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Host and port, port always present.
    pub authority: Authority,
    /// It speaks TLS.
    pub secure: bool,
}

/// `upstreams.*.protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2, without TLS by prior knowledge.
    H2,
    /// HTTP/2 where a TLS handshake agrees on it, else HTTP/1.1.
    Auto,
}

/// `upstreams.*.timeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands (5 s).
    pub connect: Duration,
    /// From the end of the request head to the head of the answer (60 s).
    pub response: Duration,
    /// Without a byte of a body, and for a connection in the pool (5 min).
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), response: Duration::from_secs(60), idle: Duration::from_secs(300) }
    }
}
