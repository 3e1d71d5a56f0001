//! What the configuration says of a listener, and the bounds that every listener keeps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::TlsConfig;

/// One entry of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The address; port 0 takes any.
    pub address: SocketAddr,
    /// The hosts that are served here (lower case, `*.` allowed in front); empty: any. Another one is 421.
    pub hosts: Vec<Box<str>>,
    /// TLS; without it connections are plain.
    pub tls: Option<TlsConfig>,
    /// Plain HTTP/2 by prior knowledge is spoken beside HTTP/1.1.
    pub h2c: bool,
}

impl Config {
    /// A plain listener that serves any host.
    #[must_use]
    pub const fn at(address: SocketAddr) -> Self {
        Self { address, hosts: Vec::new(), tls: None, h2c: false }
    }
}

/// What the configuration says of connections: `limits`, and whom that does not bind. Where it says nothing, [`Settings`] hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `connections`.
    pub connections: Option<usize>,
    /// `connections_per_client`.
    pub connections_per_client: Option<usize>,
    /// `off_for`, and trusted proxies: peers that may have more connections than a client.
    pub off_for: Vec<IpNet>,
    /// `timeouts.head`.
    pub head: Option<Duration>,
    /// `timeouts.body`.
    pub body: Option<Duration>,
    /// `timeouts.write`.
    pub write: Option<Duration>,
    /// `timeouts.idle`.
    pub idle: Option<Duration>,
}

impl Limits {
    /// These where they say something, else those.
    #[must_use]
    pub fn over(&self, base: &Settings) -> Settings {
        Settings {
            connections: self.connections.unwrap_or(base.connections),
            connections_per_client: self.connections_per_client.unwrap_or(base.connections_per_client),
            off_for: self.off_for.clone(),
            head: self.head.unwrap_or(base.head),
            body: self.body.unwrap_or(base.body),
            whole_body: self.body.unwrap_or(base.whole_body).max(base.whole_body),
            write: self.write.unwrap_or(base.write),
            // Whoever lets one wait be longer means all of them too.
            whole_write: self.write.unwrap_or(base.whole_write).max(base.whole_write),
            idle: self.idle.unwrap_or(base.idle),
            ..base.clone()
        }
    }
}

/// Deadlines and bounds of a listener's connections.
#[derive(Clone)]
pub struct Settings {
    /// From accept, over a TLS handshake, to the end of the first head, and from the first byte of a later head to its end (10 s).
    pub head: Duration,
    /// Between the end of an answer and the first byte of the next head (60 s).
    pub idle: Duration,
    /// HTTP/1: without a request before what the HTTP library holds for the connection is given up until the next one comes (1 s).
    pub quiet: Duration,
    /// Without a byte of a request body that somebody waits for (15 s).
    pub body: Duration,
    /// All waits for a request body together, and a second more for each KiB that has come (60 s).
    pub whole_body: Duration,
    /// Without a message in a gRPC call that somebody reads (1 h): such calls are long conversations. Peers that are gone are found by pings.
    pub call: Duration,
    /// HTTP/2: between pings, in which the other side must show that it is there (20 s).
    pub ping: Duration,
    /// HTTP/2: for the answer to a ping (20 s).
    pub pong: Duration,
    /// Without the peer taking a byte of what is to be written (60 s).
    pub write: Duration,
    /// All waits for the peer to take something together, and a second more for each KiB that it has taken (60 s).
    pub whole_write: Duration,
    /// For requests that are still under way when the listener stops; whoever stops it may give less (1 h).
    pub drain: Duration,
    /// Connections at a time, all workers and listeners together (10,000).
    pub connections: usize,
    /// Connections at a time of one client, an IPv4 address or IPv6 /64 (256).
    pub connections_per_client: usize,
    /// Peers that this does not bind: many clients come by them.
    pub off_for: Vec<IpNet>,
    /// TLS handshakes under way at a time, of each worker; one more is closed at once (1,000).
    pub handshakes: usize,
    /// Requests at a time on one HTTP/2 connection (100).
    pub streams: u32,
    /// Request bodies under way at a time over HTTP/2, beyond 16 of each connection; all workers and listeners together (4,096).
    pub uploads: usize,
    /// Bytes of a request head (32 KiB).
    pub head_bytes: usize,
    /// Fields of a request head (100).
    pub head_fields: usize,
    /// Hears what happens to connections, for metrics. Called on the worker's thread, so it must be quick.
    pub on_event: Arc<dyn Fn(Event) + Send + Sync>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            quiet: Duration::from_secs(1),
            body: Duration::from_secs(15),
            whole_body: Duration::from_secs(60),
            call: Duration::from_secs(3600),
            ping: Duration::from_secs(20),
            pong: Duration::from_secs(20),
            write: Duration::from_secs(60),
            whole_write: Duration::from_secs(60),
            drain: Duration::from_secs(3600),
            connections: 10_000,
            connections_per_client: 256,
            off_for: Vec::new(),
            handshakes: 1_000,
            streams: 100,
            uploads: 4096,
            head_bytes: 32 * 1024,
            head_fields: 100,
            on_event: Arc::new(|_| ()),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("head", &self.head).field("idle", &self.idle).field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// One was accepted.
    Opened,
    /// One ended, in whatever way.
    Closed,
    /// One was closed at once: too many, from this client or at all.
    Refused,
    /// The system gave no connection (no file descriptors, for instance); accepting rests for a moment.
    AcceptFailed,
    /// A deadline of ours ended one.
    Expired,
    /// A TLS handshake failed, or did not end in time.
    HandshakeFailed,
    /// The HTTP library refused a head that it could not read, before there was a request.
    Malformed,
    /// It refused one that was too large.
    HeadTooLarge,
    /// A panic ended one, or a request on one.
    Panicked,
    /// One was upgraded: it carries another protocol from now on.
    TunnelOpened,
    /// An upgraded one ended, in whatever way.
    TunnelClosed,
}
