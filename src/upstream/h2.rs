//! HTTP/2 towards content servers: bounds of our own, a connection that several requests share, and the form that a head takes on it.

use std::cell::{Cell, RefCell};
use std::io;
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
use tokio::time::Instant;

use super::upload;
use crate::body::Body;

/// Requests at a time on one connection; for more a further one is opened.
const MOST: u32 = 100;
/// The same as a count.
const STREAMS: usize = MOST as usize;
/// Bytes of one answer that may be on the way (RFC 9113, 5.2). It is what a client that does not read holds up here.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all answers of a connection: each has room for its whole window, so that answers which nobody reads hold up no other. Memory is bounded
/// by the requests under way, 64 KiB for each, whichever connections they share.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST;
/// Bytes of an answer's head.
const HEAD: u32 = 64 * 1024;
/// Between pings while requests are under way, and how long the server may take to answer one.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// The head of a frame, in octets: with it, what came is the beginning of settings (RFC 9113, 3.4 and 4.1).
const FRAME_HEAD: u64 = 9;

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
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .keep_alive_while_idle(false)
        .initial_max_send_streams(STREAMS)
        .max_concurrent_streams(0)
}

/// How long it is believed that a server ends its connections after so many requests.
const BELIEVED: Duration = Duration::from_secs(60);

/// The connections to one server.
#[derive(Default)]
pub(super) struct Connections {
    all: RefCell<Vec<Rc<Connection>>>,
    life: Rc<Life>,
}

/// After how many requests the server ended a connection that left out others, and until when that is believed: further connections are left in time.
#[derive(Default)]
struct Life(Cell<Option<(u64, Instant)>>);

impl Life {
    fn learn(&self, requests: u64) {
        let known = self.requests();
        // One that takes none is another matter.
        if requests > 0 && known.is_none_or(|known| requests < known) {
            self.0.set(Some((requests, Instant::now() + BELIEVED)));
        }
    }

    /// How many requests a connection lasts; none where nothing is known.
    fn requests(&self) -> Option<u64> {
        self.0.get().filter(|(_, until)| *until > Instant::now()).map(|(requests, _)| requests)
    }
}

/// What a server says of itself while a connection lives.
pub(super) struct Said {
    /// Requests at a time.
    pub(super) most: Cell<usize>,
    /// Whether it takes extended CONNECT (RFC 8441, 3).
    pub(super) takes_connect: Cell<bool>,
    /// Has the connection's task look at its settings again, and whether new requests are taken.
    pub(super) look: Notify,
    /// Tells that it has looked, or has ended.
    pub(super) looked: Notify,
    /// Nothing new is taken.
    pub(super) ended: Cell<bool>,
    came: Rc<Came>,
}

/// The octets that came.
#[derive(Default)]
pub(super) struct Came {
    pub(super) octets: Cell<u64>,
    /// How many there may be before the head of an answer, while one is awaited.
    until: Cell<Option<u64>>,
    more: Notify,
}

impl Came {
    /// From now on `octets` more may come before [`Came::has_answered`]. They are those of interim answers (RFC 9110, 15.2), which no other limit counts.
    pub(super) fn awaits_answer(&self, octets: usize) {
        self.until.set(Some(self.octets.get().saturating_add(octets as u64)));
    }

    /// The head is there.
    pub(super) fn has_answered(&self) {
        self.until.set(None);
    }

    /// Whether more came than may come before a head.
    pub(super) fn is_too_much(&self) -> bool {
        self.until.get().is_some_and(|until| self.octets.get() > until)
    }

    /// So many more.
    pub(super) fn add(&self, octets: usize) {
        let before = self.octets.get();
        self.octets.set(before.wrapping_add(octets as u64));
        // Nobody waits for what comes later.
        if before < FRAME_HEAD {
            self.more.notify_waiters();
        }
    }
}

impl Said {
    /// Nothing yet; `came` counts the octets that come.
    pub(super) fn nothing(came: Rc<Came>) -> Rc<Self> {
        let (look, looked) = (Notify::new(), Notify::new());
        Rc::new(Self { most: Cell::new(STREAMS), takes_connect: Cell::new(false), look, looked, ended: Cell::new(false), came })
    }

    /// Waits for the server's settings, which are the first that it sends (RFC 9113, 3.4): before they are known, more requests than it takes might be sent.
    ///
    /// # Errors
    /// When the connection ends before.
    pub(super) async fn settings(&self) -> io::Result<()> {
        while !self.ended.get() {
            let (more, looked) = (self.came.more.notified(), self.looked.notified());
            let here = self.came.octets.get() >= FRAME_HEAD;
            // Nothing wakes the connection's task when settings come.
            self.look.notify_one();
            looked.await;
            if self.ended.get() {
                // Nobody would tell of it again.
                break;
            }
            if here {
                return Ok(());
            }
            tokio::select! {
                () = more => {}
                () = self.looked.notified() => {}
            }
        }
        Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection ended before settings of HTTP/2 came"))
    }
}

struct Connection {
    sender: http2::SendRequest<Body>,
    said: Rc<Said>,
    peer: Option<SocketAddr>,
    life: Rc<Life>,
    streams: Cell<usize>,
    idle_until: Cell<Instant>,
    /// Requests that it has carried.
    carried: Cell<u64>,
    answered: Cell<bool>,
    /// Its first request was not answered.
    in_vain: Cell<bool>,
    /// It goes away: it takes no new request.
    retired: Cell<bool>,
    /// The server refused a stream, and has answered none since.
    full: Cell<bool>,
}

impl Connection {
    fn stands(&self) -> bool {
        let spent = self.life.requests().is_some_and(|most| self.carried.get() >= most);
        !spent && !self.retired.get() && !self.sender.is_closed()
    }

    fn has_room(&self) -> bool {
        !self.full.get() && self.streams.get() < STREAMS.min(self.said.most.get())
    }
}

/// A place on a connection for one request; given back when dropped.
pub(super) struct Place {
    pub(super) sender: http2::SendRequest<Body>,
    connection: Rc<Connection>,
    idle: Duration,
    /// Which of the connection's requests it is, from 1.
    number: u64,
}

impl Connections {
    /// A place on a connection that stands: the one with the most requests that has room, so that those which are not needed grow old.
    ///
    /// `leads`: whether a connection to this address still leads to the server.
    pub(super) fn take(&self, idle: Duration, leads: impl Fn(Option<&SocketAddr>) -> bool) -> Option<Place> {
        let mut all = self.all.borrow_mut();
        all.retain(|connection| connection.stands());
        let roomy = all.iter().filter(|connection| connection.has_room() && leads(connection.peer.as_ref()));
        roomy.max_by_key(|connection| connection.streams.get()).map(|connection| Place::on(connection, idle))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Keeps a new connection, of which the server says what `said` holds; gives the first place on it.
    pub(super) fn keep(&self, sender: http2::SendRequest<Body>, said: Rc<Said>, peer: Option<SocketAddr>, idle: Duration) -> Place {
        let connection = Rc::new(Connection {
            sender,
            said,
            peer,
            life: Rc::clone(&self.life),
            streams: Cell::new(0),
            idle_until: Cell::new(Instant::now() + idle),
            carried: Cell::new(0),
            answered: Cell::new(false),
            in_vain: Cell::new(false),
            retired: Cell::new(false),
            full: Cell::new(false),
        });
        let place = Place::on(&connection, idle);
        self.all.borrow_mut().push(connection);
        place
    }

    /// Drops connections that are over, and tells when to look again; nothing when there is none.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut all = self.all.borrow_mut();
        all.retain(|connection| connection.stands() && (connection.streams.get() > 0 || connection.idle_until.get() > now));
        // One that is in use now has its whole time from the end of that use on.
        all.iter().map(|connection| connection.idle_until.get().max(now + Duration::from_secs(1))).min()
    }
}

impl Place {
    fn on(connection: &Rc<Connection>, idle: Duration) -> Self {
        connection.streams.set(connection.streams.get().saturating_add(1));
        connection.carried.set(connection.carried.get().saturating_add(1));
        Self { sender: connection.sender.clone(), connection: Rc::clone(connection), idle, number: connection.carried.get() }
    }

    /// Whether the server takes extended CONNECT (RFC 8441, 3), as its settings say.
    pub(super) fn takes_connect(&self) -> bool {
        self.connection.said.takes_connect.get()
    }

    /// The request was answered.
    pub(super) fn answered(&self) {
        self.connection.answered.set(true);
        self.connection.full.set(false);
    }

    /// The request was not answered.
    pub(super) fn unanswered(&self) {
        if self.number == 1 {
            self.connection.in_vain.set(true);
        }
    }

    /// Whether the connection serves others, as far as is known: it has answered, or has not turned away its first request. Streams are numbered as they
    /// begin, so a server that leaves out the first one leaves out all (RFC 9113, 6.8).
    pub(super) fn serves(&self) -> bool {
        self.connection.answered.get() || !self.connection.in_vain.get()
    }

    /// The connection goes away: it takes nothing new, and its place among all connections is free for another one. `left_out`: the request was sent on it,
    /// after the last one that the server took.
    pub(super) fn retire(&self, left_out: bool) {
        self.connection.retired.set(true);
        self.connection.said.look.notify_one();
        if left_out {
            self.connection.life.learn(self.number.saturating_sub(1));
        }
    }

    /// The server refused a stream: the connection has no room until it has answered another one.
    pub(super) fn fill(&self) {
        self.connection.full.set(true);
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
