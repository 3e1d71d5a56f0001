//! What the configuration says of one upstream.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

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
    /// Deadlines.
    pub timeouts: Timeouts,
}

/// `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Host and port, port always present.
    pub authority: Authority,
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
