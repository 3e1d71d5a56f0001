//! What the configuration says of one upstream.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::uri::{Authority, PathAndQuery};

use super::UpstreamTls;
use crate::credentials::HostPolicy;
use crate::secret::Secret;

/// One section of `upstreams`, but for its credentials, which `credentials/` keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Its servers, in the order of the file.
    pub servers: Vec<Server>,
    /// Which `Host` the upstream sees.
    pub host: HostPolicy,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// TLS towards those servers that want it.
    pub tls: Arc<UpstreamTls>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// What keeps a client with one server.
    pub sticky: Option<Sticky>,
    /// What sticky cookies are made with; without it each process draws its own.
    pub sticky_key: Option<StickyKey>,
    /// Whether the servers are asked how they are.
    pub health_check: Option<HealthCheck>,
    /// When a server that fails is left alone.
    pub ejection: Ejection,
    /// Connections to one server at a time, all workers together.
    pub max_connections: usize,
    /// Requests that may wait for one of them.
    pub queue: Queue,
    /// Requests that may be sent once more, as a percentage of all; 0: none.
    pub retry_budget: u8,
}

impl Config {
    /// An upstream of which nothing else is said.
    #[must_use]
    pub fn new(name: &str, servers: Vec<Server>) -> Self {
        Self {
            name: name.into(),
            servers,
            host: HostPolicy::default(),
            protocol: Protocol::default(),
            tls: Arc::default(),
            timeouts: Timeouts::default(),
            sticky: None,
            sticky_key: None,
            health_check: None,
            ejection: Ejection::default(),
            max_connections: 1024,
            queue: Queue::default(),
            retry_budget: 20,
        }
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// Its share of the requests, beside those of the others; from 1.
    pub weight: u32,
}

impl Server {
    /// A server at this host and port.
    #[must_use]
    pub const fn at(authority: Authority) -> Self {
        Self { address: Address::Http(authority), weight: 1 }
    }
}

/// Where a server is. The port is always present.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `http://host:port`.
    Http(Authority),
    /// `https://host:port`.
    Https(Authority),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// Host and port; a socket of the file system has none.
    #[must_use]
    pub const fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Http(authority) | Self::Https(authority) => Some(authority),
            Self::Unix(_) => None,
        }
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        matches!(self, Self::Https(_))
    }

    /// `Host` for a request to it; a socket of the file system has no name, so it is `localhost`.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Http(authority) => authority.as_str(),
            // With TLS the name alone is what servers know themselves by.
            Self::Https(authority) => authority.as_str().strip_suffix(":443").unwrap_or(authority.as_str()),
            Self::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(authority) | Self::Https(authority) => f.write_str(authority.as_str()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
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
    /// Without a byte of a body or of an upgraded connection, and for a connection in the pool (5 min). Zero: silence ends nothing, and an unused
    /// connection is kept as long as by default.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), response: Duration::from_secs(60), idle: Duration::from_secs(300) }
    }
}

impl Timeouts {
    /// How long a connection may be unused.
    pub(super) fn unused(&self) -> Duration {
        if self.idle.is_zero() { Self::default().idle } else { self.idle }
    }
}

/// `upstreams.*.sticky`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// A cookie of the gateway's own with this name says which server answered before.
    Cookie(Arc<str>),
    /// Requests with the same value of this header go to the same server.
    Header(HeaderName),
}

/// `upstreams.*.sticky.key`: gateways that share it understand each other's cookies.
#[derive(Clone, Debug)]
pub struct StickyKey(pub Secret);

impl PartialEq for StickyKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.matches(other.0.expose())
    }
}

impl Eq for StickyKey {}

/// `upstreams.*.health_check`: GET of a path, without the credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked for.
    pub path: PathAndQuery,
    /// How often (10 s); an answer must come within it, and within 5 s.
    pub interval: Duration,
    /// Failures in a row that take a server out (3). One success takes it back.
    pub unhealthy_after: u32,
}

/// `upstreams.*.ejection`: a server that fails requests is left alone for a while, twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ejection {
    /// Failed attempts to connect in a row (5).
    pub failures: u32,
    /// Whether answers with 500, 502, 503 and 504, connections that break off and answers that do not come count as well.
    pub server_errors: bool,
    /// How long the first time (1 s).
    pub rest: Duration,
    /// How long at most (1 min).
    pub longest_rest: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, server_errors: false, rest: Duration::from_secs(1), longest_rest: Duration::from_secs(60) }
    }
}

/// `upstreams.*.queue`: requests that wait for a connection to one server, in each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    /// How many (1024); one more is answered 503.
    pub length: usize,
    /// How long (1 s).
    pub wait: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self { length: 1024, wait: Duration::from_secs(1) }
    }
}
