//! HTTP/2 towards content servers: bounds of our own, a connection that several requests share, and the form that a head takes on it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderName, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{HeaderValue, Method, Uri, Version, request};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::upload;
use crate::body::Body;

/// Requests at a time on one connection; for more a further one is opened.
pub(super) const STREAMS: usize = 100;
/// Bytes of one answer that may be on the way (RFC 9113, 5.2), and of all answers of a connection.
const WINDOWS: (u32, u32) = (64 * 1024, 1024 * 1024);
/// Bytes of an answer's head.
const HEAD: u32 = 64 * 1024;
/// Between pings while requests are under way, and how long the server may take to answer one.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// The head of a frame, in octets: with it, what came is the beginning of settings (RFC 9113, 3.4 and 4.1).
const FRAME_HEAD: u64 = 9;
/// How long one that waits for settings waits between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// Runs what hyper wants run, on this worker's thread.
#[derive(Clone, Copy)]
pub(super) struct OnWorker;

impl<F> Executor<F> for OnWorker
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(upload::bounded(future));
    }
}

/// hyper's client side with our bounds.
pub(super) fn bounded(builder: &mut http2::Builder<OnWorker>) -> &mut http2::Builder<OnWorker> {
    builder
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_header_list_size(HEAD)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .keep_alive_while_idle(false)
        .initial_max_send_streams(STREAMS)
        .max_concurrent_streams(0)
}

/// The connections to one server.
#[derive(Default)]
pub(super) struct Connections(RefCell<Vec<Rc<Connection>>>);

/// What a server says of itself while a connection lives.
pub(super) struct Said {
    /// Requests at a time.
    pub(super) most: Cell<usize>,
    /// Whether it takes extended CONNECT (RFC 8441, 3).
    pub(super) takes_connect: Cell<bool>,
    /// Has the connection's task look at its settings again.
    pub(super) look: Notify,
    /// The octets that came.
    came: Rc<Cell<u64>>,
    /// Its settings were read.
    settled: Cell<bool>,
}

impl Said {
    /// Nothing yet; `came` counts the octets that come.
    pub(super) fn nothing(came: Rc<Cell<u64>>) -> Rc<Self> {
        Rc::new(Self { most: Cell::new(STREAMS), takes_connect: Cell::new(false), look: Notify::new(), came, settled: Cell::new(false) })
    }

    /// Whether the server takes extended CONNECT, as its settings say, which are the first that it sends (RFC 9113, 3.4); no without them within `time`.
    async fn connect(&self, time: Duration) -> bool {
        let last = Instant::now() + time;
        while !self.takes_connect.get() && !self.settled.get() && Instant::now() < last {
            let here = self.came.get() >= FRAME_HEAD;
            self.look.notify_one();
            sleep(LOOK).await;
            self.settled.set(here);
        }
        self.takes_connect.get()
    }
}

struct Connection {
    sender: http2::SendRequest<Body>,
    said: Rc<Said>,
    peer: Option<SocketAddr>,
    streams: Cell<usize>,
    idle_until: Cell<Instant>,
}

/// A place on a connection for one request; given back when dropped.
pub(super) struct Place {
    pub(super) sender: http2::SendRequest<Body>,
    connection: Rc<Connection>,
    idle: Duration,
}

impl Connections {
    /// A place on a connection that stands: the one with the most requests that has room, so that those which are not needed grow old.
    ///
    /// `leads`: whether a connection to this address still leads to the server.
    pub(super) fn take(&self, idle: Duration, leads: impl Fn(Option<&SocketAddr>) -> bool) -> Option<Place> {
        let mut all = self.0.borrow_mut();
        all.retain(|connection| !connection.sender.is_closed());
        let roomy = all.iter().filter(|connection| connection.streams.get() < STREAMS.min(connection.said.most.get()) && leads(connection.peer.as_ref()));
        roomy.max_by_key(|connection| connection.streams.get()).map(|connection| Place::on(connection, idle))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Keeps a new connection, of which the server says what `said` holds; gives the first place on it.
    pub(super) fn keep(&self, sender: http2::SendRequest<Body>, said: Rc<Said>, peer: Option<SocketAddr>, idle: Duration) -> Place {
        let connection = Rc::new(Connection { sender, said, peer, streams: Cell::new(0), idle_until: Cell::new(Instant::now() + idle) });
        let place = Place::on(&connection, idle);
        self.0.borrow_mut().push(connection);
        place
    }

    /// Drops connections that are over, and tells when to look again; nothing when there is none.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut all = self.0.borrow_mut();
        all.retain(|connection| !connection.sender.is_closed() && (connection.streams.get() > 0 || connection.idle_until.get() > now));
        // One that is in use now has its whole time from the end of that use on.
        all.iter().map(|connection| connection.idle_until.get().max(now + Duration::from_secs(1))).min()
    }
}

impl Place {
    fn on(connection: &Rc<Connection>, idle: Duration) -> Self {
        connection.streams.set(connection.streams.get().saturating_add(1));
        Self { sender: connection.sender.clone(), connection: Rc::clone(connection), idle }
    }

    /// Whether the server takes extended CONNECT (RFC 8441, 3), as it says at the beginning of a connection; within `time`.
    pub(super) async fn takes_connect(&self, time: Duration) -> bool {
        self.connection.said.connect(time).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get().saturating_sub(1));
        self.connection.idle_until.set(Instant::now() + self.idle);
    }
}

/// The head as HTTP/2 carries it (RFC 9113, 8.2.2 and 8.3.1): authority and scheme beside the path, nothing that concerns the connection.
pub(super) fn as_h2(head: &mut request::Parts, secure: bool) {
    head.version = Version::HTTP_2;
    for name in [CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        head.headers.remove(name);
    }
    if head.headers.remove(UPGRADE).is_some() {
        head.method = Method::CONNECT;
        head.extensions.insert(Protocol::from_static("websocket"));
        head.headers.remove(SEC_WEBSOCKET_KEY);
    }
    let Some(authority) = head.headers.remove(HOST).and_then(|host| host.to_str().ok()?.parse().ok()) else { return };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

/// The head as HTTP/1.1 carries it, also if it was made for HTTP/2 before.
pub(super) fn as_h1(head: &mut request::Parts) {
    head.version = Version::HTTP_11;
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = None;
    if let Some(host) = parts.authority.take().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        head.headers.insert(HOST, host);
    }
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_goes_to_http2_and_back() {
        let request = http::Request::get("/a?b").header(HOST, "photos:81").header(CONNECTION, "te").header("te", "trailers").body(()).unwrap();
        let (mut head, ()) = request.into_parts();
        as_h2(&mut head, true);
        assert_eq!(head.uri.to_string(), "https://photos:81/a?b");
        assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["te"]);
        as_h1(&mut head);
        assert_eq!(head.uri.to_string(), "/a?b");
        assert_eq!(head.headers[HOST], "photos:81");
        as_h1(&mut head);
        assert_eq!(head.uri.to_string(), "/a?b");
    }

    #[test]
    fn a_handshake_becomes_an_extended_connect() {
        let request = http::Request::get("/a?b").header(HOST, "photos:81").header(CONNECTION, "upgrade").header(UPGRADE, "websocket");
        let (mut head, ()) = request.header(SEC_WEBSOCKET_KEY, "x").header("sec-websocket-version", "13").body(()).unwrap().into_parts();
        as_h2(&mut head, false);
        assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("CONNECT", "http://photos:81/a?b"));
        assert_eq!(head.extensions.get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["sec-websocket-version"]);
    }
}
