//! One downstream connection: hyper's state machine, our deadlines, and the step from a parsed head to a `routing::Request`.
//!
//! A request body that nobody reads to its end closes the connection after the answer; what still arrives is thrown away for a moment,
//! because a reset would take the answer from a client that is still sending. Over HTTP/2 it is the stream that ends so (`unread.rs`).

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue, STRICT_TRANSPORT_SECURITY, UPGRADE};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tower::{Service, ServiceExt};

use super::drain::UnderWay;
use super::held::Held;
use super::seats::{Asks, Seat};
use super::transport::{Opened, Protocol, Transport, asked, open};
use super::unread::{PATIENCE, Said};
use super::uploads::{Upload, Uploads};
use super::watchdog::{Exchange, LINGER, Watchdog, Watched, poll_forget};
use super::{Event, Settings, Socket, Terms, Tls, h2, id};
use crate::body::{Body, BodyError, Pace, Tunnel, TunnelEnd, Watch};
use crate::response::Rejection;
use crate::routing::{Counted, Peer, Request, ServedHosts};
use crate::telemetry::Recorder;

/// How hyper buffers: bounds what a head or a body piece can hold in memory.
const BUFFER: usize = 64 * 1024;
/// The bound on a head's fields that hyper has by itself.
const HYPERS_FIELDS: usize = 100;
/// What a connection on which nothing is being asked gets when the listener stops.
pub(super) const LAST_CALL: Duration = Duration::from_millis(500);

/// What a connection of HTTP/1.1 says to the preface of HTTP/2, where the library closes without a word.
const NO_HTTP_2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n\
Connection: close\r\nContent-Length: 186\r\n\r\n\
{\"type\":\"urn:uma-gateway:http-version\",\"title\":\"HTTP version not supported\",\"status\":505,\n \"detail\":\"HTTP/2 is not spoken here without asking first: choose it by TLS, or use HTTP/1.1.\"}\n";

/// What all connections of a worker's listener share.
pub(super) struct Shared<S> {
    pub(super) service: S,
    pub(super) terms: Terms,
    /// What no reload changes of them.
    pub(super) settings: Arc<Settings>,
    pub(super) hosts: ServedHosts,
    pub(super) http: http1::Builder,
    pub(super) http2: hyper::server::conn::http2::Builder<h2::OnWorker>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) h2c: bool,
    /// `Strict-Transport-Security` of every answer.
    pub(super) hsts: Option<HeaderValue>,
    /// TLS handshakes under way.
    pub(super) handshakes: Cell<usize>,
    pub(super) under_way: Rc<UnderWay>,
    pub(super) draining: Cell<bool>,
    pub(super) drain: Notify,
}

impl<S> Shared<S> {
    /// For this socket; the listener beside it.
    pub(super) fn of(socket: Socket, terms: Terms, service: S) -> (Self, TcpListener) {
        let Socket { listener, hosts, tls, h2c } = socket;
        let hsts = tls.as_ref().and_then(|tls| tls.hsts()).and_then(|seconds| HeaderValue::try_from(format!("max-age={seconds}")).ok());
        let settings = terms.now();
        let (http, http2) = (http(&settings), h2::http(&settings));
        let (handshakes, draining, drain) = (Cell::new(0), Cell::new(false), Notify::new());
        let under_way = Rc::default();
        (Self { service, terms, settings, hosts, http, http2, tls, h2c, hsts, handshakes, under_way, draining, drain }, listener)
    }
}

/// hyper's server side with our bounds.
fn http(settings: &Settings) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_header_size(settings.head_bytes).max_buf_size(BUFFER.max(settings.head_bytes));
    // Its own bound needs no saying: with another one it prepares the place of every possible field for each head.
    if settings.head_fields != HYPERS_FIELDS {
        http.max_headers(settings.head_fields);
    }
    http
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(stream: TcpStream, address: SocketAddr, seat: Seat, shared: Rc<Shared<S>>)
where
    S: Service<Request, Response = http::Response<Body>, Error = Infallible> + Clone + 'static,
{
    let Ok(local) = stream.local_addr() else { return };
    let seat = Arc::new(seat);
    // Without it the second of two small writes waits for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let settings = shared.terms.now();
    let watchdog = Rc::new(Watchdog::new(Arc::clone(&settings), Rc::clone(&shared.under_way)));
    let mut next = open(stream, &watchdog, &shared).await;
    let Some(peer) = next.as_ref().map(|opened| peer(address, local, &opened.transport, &shared)) else { return };
    while let Some(opened) = next {
        // A box: who asks nothing does not hold the room for it.
        next = match Box::pin(carry(opened, &peer, &watchdog, &settings, &seat, &shared)).await {
            Some(parked) => asked(parked, &watchdog, &shared).await,
            None => None,
        };
    }
}

/// Serves what is asked, to the end of the connection, or until it has to wait for long; then it can be served again.
async fn carry<S>(opened: Opened, peer: &Peer, watchdog: &Rc<Watchdog>, settings: &Settings, seat: &Arc<Seat>, shared: &Rc<Shared<S>>) -> Option<Opened>
where
    S: Service<Request, Response = http::Response<Body>, Error = Infallible> + Clone + 'static,
{
    let Opened { transport, protocol, begun } = opened;
    let io = TokioIo::new(Watched { stream: transport, begun, watchdog: Rc::clone(watchdog), wasted: 0 });
    // What a 101 leaves for this connection.
    let upgraded = Rc::new(Cell::new(None));
    let uploads = shared.terms.uploads();
    let service = hyper::service::service_fn(|request| {
        let offered = request.headers().contains_key(UPGRADE);
        // Over HTTP/1 each connection asks one at a time, and connections are counted.
        let counted = watchdog.is_shared().then(|| seat.ask());
        let beyond = matches!(counted, Some(None)).then_some(Rejection::Overloaded);
        let peer = counting_as(peer, seat, counted.as_ref().and_then(Option::as_ref));
        let mut exchange = watchdog.asked(counted.flatten());
        let many = h2::too_many_fields(&request, shared.settings.head_fields);
        let (mut request, stream) = arrived(request, peer, &mut exchange, watchdog, &uploads);
        request.refusal = request.refusal.or(beyond);
        let pace = Pace::bounded(settings.write, settings.whole_write);
        let (service, watchdog, hsts, upgraded) = (shared.service.clone(), Rc::clone(watchdog), shared.hsts.clone(), Rc::clone(&upgraded));
        async move {
            let mut answer = if many {
                h2::head_too_large()
            } else {
                let Ok(answer) = service.oneshot(request).await;
                answer
            };
            exchange.answered();
            let exchange = match stream {
                Some(stream) => h2::connected(&mut answer, stream, exchange, watchdog.settings()),
                None => {
                    upgraded.set(changed(&mut answer, offered, &watchdog));
                    Some(exchange)
                }
            };
            Ok::<_, Infallible>(leaving(answer, exchange, Held::here(|| pace), &watchdog, hsts))
        }
    });
    let done = match protocol {
        Protocol::H1 => {
            // A box, so that connections which speak HTTP/2 do not hold the room for it.
            let mut connection = Box::new(shared.http.serve_connection(io, service));
            let done = until_done(Pin::new(connection.as_mut()), watchdog, shared).await;
            if !matches!(done, Done::Cut) {
                let parts = connection.into_parts();
                let mut io = parts.io.into_inner();
                // Empty lines may come before a head (RFC 9112, 2.2).
                if matches!(done, Done::Quiet) && parts.read_buf.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
                    return Some(parked(io));
                }
                refuse_http_2(&mut io, &done).await;
                // A box: while HTTP is spoken nothing holds the room for what comes after it.
                Box::pin(after(io, upgraded.take(), parts.read_buf, &shared.under_way, settings)).await;
            }
            done
        }
        Protocol::H2 => {
            watchdog.share();
            // A box, so that connections which speak HTTP/1.1 do not hold the room for it.
            let mut connection = Box::pin(shared.http2.serve_connection(io, service));
            until_done(connection.as_mut(), watchdog, shared).await
        }
    };
    told(done, watchdog, &shared.settings);
    watchdog.unread.close();
    Box::pin(broken_off(watchdog)).await;
    None
}

/// The other end, with what a request counts as: itself over HTTP/2, else its connection.
fn counting_as(peer: &Peer, seat: &Arc<Seat>, asks: Option<&Arc<Asks>>) -> Peer {
    let counted = asks.map_or_else(|| Counted::new(Arc::clone(seat) as _), |asks| Counted::new(Arc::clone(asks) as _));
    Peer { counted, ..peer.clone() }
}

/// What is left of a connection of HTTP/1 that waits for its next request.
fn parked(io: Watched) -> Opened {
    #[cfg(test)]
    super::parked_tests::PARKED.set(super::parked_tests::PARKED.get() + 1);
    Opened { transport: io.stream, protocol: Protocol::H1, begun: io.begun }
}

/// Why a connection is driven no more.
enum Done {
    /// It has ended.
    Ended(hyper::Result<()>),
    /// A deadline or budget of ours has ended it.
    Cut,
    /// Nothing is asked, and nothing left to be written or looked at: it can be taken apart and served again. Of HTTP/1 only.
    Quiet,
}

/// Answers the preface of HTTP/2, which the library does not.
async fn refuse_http_2(io: &mut Watched, done: &Done) {
    if matches!(done, Done::Ended(Err(error)) if error.is_parse_version_h2()) {
        let _ = timeout(LINGER.0, io.write_all(NO_HTTP_2)).await;
    }
}

/// Tells of an end that no record tells of.
fn told(done: Done, watchdog: &Watchdog, settings: &Settings) {
    let event = match done {
        Done::Ended(ended) if !watchdog.is_abused() => ended.err().as_ref().and_then(before_a_request),
        _ => Some(Event::Expired),
    };
    event.into_iter().for_each(|event| (settings.on_event)(event));
}

/// The other end, as requests carry it.
fn peer<S>(address: SocketAddr, local: SocketAddr, transport: &Transport, shared: &Shared<S>) -> Peer {
    let (address, local) = (canonical(address), canonical(local));
    Peer { address, local, scheme: transport.scheme(), hosts: shared.hosts.clone(), certificate: transport.certificate(), counted: Counted::default() }
}

/// What a 101 leaves for its connection.
fn changed(answer: &mut http::Response<Body>, offered: bool, watchdog: &Watchdog) -> Option<Box<Tunnel>> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return answer.body_mut().take_tunnel();
    }
    if offered {
        // What the client may have sent in the other protocol already must never be read as a request (RFC 9931, 6).
        watchdog.abandon();
    }
    None
}

/// What the library has answered by itself, with a status only: no record tells of it.
fn before_a_request(error: &hyper::Error) -> Option<Event> {
    match error {
        error if error.is_parse_too_large() => Some(Event::HeadTooLarge),
        error if error.is_parse() || error.is_parse_version_h2() => Some(Event::Malformed),
        _ => None,
    }
}

/// A connection of hyper's, whatever is spoken on it.
pub(super) trait Drive {
    /// Goes on; ready when the connection has ended, in whatever way.
    fn drive(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    /// Lets it end after what is under way.
    fn wind_down(self: Pin<&mut Self>);
}

impl<H> Drive for http1::Connection<TokioIo<Watched>, H>
where
    H: hyper::service::HttpService<Incoming, ResBody = Outgoing>,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn drive(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll(context)
    }

    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives the connection as far as it goes.
async fn until_done<S>(mut connection: Pin<&mut impl Drive>, watchdog: &Watchdog, shared: &Shared<S>) -> Done {
    let mut drain = pin!(shared.drain.notified());
    drain.as_mut().enable();
    let mut timer = pin!(sleep_until(watchdog.deadline().unwrap_or_else(Instant::now)));
    let mut registered = false;
    let mut told = false;
    let mut expired = false;
    let mut broken = false;
    let mut mistakes = 0_usize;
    poll_fn(move |context| {
        // The task's waker stays the same, so one poll is enough to be woken when the drain begins.
        if !registered {
            registered = true;
            let _ = drain.as_mut().poll(context);
        }
        loop {
            if let Poll::Ready(ended) = connection.as_mut().drive(context) {
                // At a CONNECT that announces content hyper resets the stream, which is right, and leaves off as if the connection had ended, which is not:
                // asked again it goes on. One that has really ended says so again, so it is not asked for ever.
                if ended.is_ok() && watchdog.is_shared() && !watchdog.is_leaving() && !watchdog.is_abused() && mistakes < h2::MISTAKES {
                    mistakes = mistakes.saturating_add(1);
                    continue;
                }
                return Poll::Ready(Done::Ended(ended));
            }
            if watchdog.is_abused() {
                if broken {
                    return Poll::Ready(Done::Cut);
                }
                // The stream breaks off when it is read from.
                broken = true;
                continue;
            }
            watchdog.unread.poll(context, if shared.draining.get() { LAST_CALL } else { PATIENCE });
            if shared.draining.get() && !told {
                // HTTP/2 can say that no more is taken and still answer what is on the way (RFC 9113, 6.8).
                if watchdog.is_busy() || (watchdog.is_shared() && !watchdog.is_fresh()) {
                    told = true;
                    connection.as_mut().wind_down();
                    continue;
                }
                // A request may be on the way, sent before anybody could know: closed now, it would be lost.
                watchdog.hurry(Instant::now() + LAST_CALL);
            }
            let passed = deadline_passed(timer.as_mut(), watchdog, context);
            if matches!(passed, Poll::Ready(Done::Cut)) && watchdog.is_stuck() {
                watchdog.give_up();
                // It finds that out when it writes on.
                let _ = connection.as_mut().drive(context);
                return passed;
            }
            if matches!(passed, Poll::Ready(Done::Cut)) && watchdog.is_shared() && !watchdog.is_fresh() && !watchdog.is_busy() {
                if expired {
                    return Poll::Ready(Done::Ended(Ok(())));
                }
                // A request may be on the way: GOAWAY says whether it was taken (RFC 9113, 6.8).
                (told, expired) = (true, true);
                (shared.settings.on_event)(Event::Expired);
                watchdog.wind_down(Instant::now() + LAST_CALL);
                connection.as_mut().wind_down();
                continue;
            }
            return passed;
        }
    })
    .await
}

fn deadline_passed(mut timer: Pin<&mut tokio::time::Sleep>, watchdog: &Watchdog, context: &mut Context<'_>) -> Poll<Done> {
    let Some(deadline) = watchdog.deadline() else { return Poll::Pending };
    let parks = watchdog.parks();
    let next = parks.map_or(deadline, |parks| parks.min(deadline));
    if timer.deadline() > next {
        timer.as_mut().reset(next);
    }
    while timer.as_mut().poll(context).is_ready() {
        let now = Instant::now();
        if now >= deadline {
            // Nobody is cut off whose answers are all out.
            return Poll::Ready(if watchdog.is_leaving() { Done::Ended(Ok(())) } else { Done::Cut });
        }
        if parks.is_some_and(|parks| now >= parks) {
            return Poll::Ready(Done::Quiet);
        }
        timer.as_mut().reset(next);
    }
    Poll::Pending
}

fn arrived(request: http::Request<Incoming>, peer: Peer, exchange: &mut Exchange, watchdog: &Rc<Watchdog>, uploads: &Uploads) -> (Request, Option<OnUpgrade>) {
    let (mut head, incoming) = request.into_parts();
    // hyper leaves the handle of an upgrade here; ours is the body of a 101.
    let stream = h2::connect(&mut head);
    let mut body = Body::stream(incoming);
    let mut refusal = watchdog.suspect().map(Rejection::Malformed);
    if !body.is_empty() {
        let settings = watchdog.settings();
        // Over HTTP/1 there is one at a time.
        let upload = watchdog.is_shared().then(|| uploads.begin());
        watchdog.receiving(true);
        if matches!(upload, Some(None)) {
            refusal = refusal.or(Some(Rejection::Overloaded));
        }
        let pace = Pace::bounded(settings.body, settings.whole_body);
        let inbound = Inbound { pace, of_call: settings.call, said: exchange.said(), watchdog: Rc::clone(watchdog), _upload: upload.flatten() };
        body = body.without_trailers().watched(Box::new(inbound));
    }
    let recorder = Recorder::new(id::next(), head.method.clone(), Some(peer.address.ip()), peer.scheme);
    (Request { head, body, peer, refusal, recorder }, stream)
}

fn leaving(
    mut answer: http::Response<Body>,
    exchange: Option<Exchange>,
    held: Option<Rc<Held>>,
    watchdog: &Watchdog,
    hsts: Option<HeaderValue>,
) -> http::Response<Outgoing> {
    if watchdog.is_shared() {
        // What ends a connection of HTTP/1.1 ends a request here.
        answer.headers_mut().remove(CONNECTION);
    } else if watchdog.is_abandoned() {
        // hyper closes a connection whose request body was not read, but says so only when it knows in time.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(hsts) = hsts {
        answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
    answer.map(|body| Outgoing { body, exchange, held })
}

/// Watches a request body: its pace, and whether it is read to its end.
struct Inbound {
    pace: Pace,
    /// Without a message in a call.
    of_call: Duration,
    said: Option<Said>,
    watchdog: Rc<Watchdog>,
    _upload: Option<Upload>,
}

impl Watch for Inbound {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.pace.data(bytes)
    }

    fn waiting(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        self.pace.waiting(context)
    }

    fn call(&mut self) {
        self.pace = Pace::new(self.of_call);
    }

    fn end(&mut self, complete: bool) {
        self.watchdog.receiving(false);
        if !complete {
            self.watchdog.abandon();
        }
    }

    fn unread(&mut self, rest: Incoming) -> Option<Incoming> {
        match self.said.take() {
            Some(said) => {
                self.watchdog.unread.keep(rest, said);
                None
            }
            None => Some(rest),
        }
    }
}

/// An answer's body; hyper drops it when it has taken the last of it, and from then on the connection idles.
pub(super) struct Outgoing {
    body: Body,
    exchange: Option<Exchange>,
    held: Option<Rc<Held>>,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(held) = &self.held {
            held.taken();
        }
        if self.exchange.as_ref().is_some_and(|exchange| exchange.holds_back(context)) {
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(frame))), Some(exchange)) = (&frame, &self.exchange) {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            exchange.sent(bytes);
            if let Some(held) = &self.held {
                held.handed(bytes);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What comes after HTTP.
async fn after(io: Watched, tunnel: Option<Box<Tunnel>>, begun: Bytes, under_way: &Rc<UnderWay>, settings: &Settings) {
    match tunnel {
        Some(tunnel) => {
            let _open = Upgraded::new(Arc::clone(&settings.on_event), Some(Rc::clone(under_way)));
            tunnelled(*tunnel, io, begun, settings.write).await;
        }
        None => linger(io).await,
    }
}

/// Carries bytes of another protocol; `begun` came before HTTP had ended.
async fn tunnelled(tunnel: Tunnel, mut io: Watched, begun: Bytes, write: Duration) {
    io.watchdog.no_more_heads();
    if !begun.is_empty() {
        io.begun = begun;
    }
    let end = tunnel.run(&mut io, write).await;
    if matches!(end, TunnelEnd::Stuck) && io.watchdog.is_stuck() {
        let _ = io.reset();
    }
    tracing::debug!(?end, "an upgraded connection has ended");
}

/// Tells of an upgraded connection, and of its end, also when its task is dropped.
pub(super) struct Upgraded {
    on_event: Arc<dyn Fn(Event) + Send + Sync>,
    /// Where it is a connection; a stream is a request under way.
    under_way: Option<Rc<UnderWay>>,
}

impl Upgraded {
    pub(super) fn new(on_event: Arc<dyn Fn(Event) + Send + Sync>, under_way: Option<Rc<UnderWay>>) -> Self {
        if let Some(under_way) = &under_way {
            under_way.upgraded();
        }
        on_event(Event::TunnelOpened);
        Self { on_event, under_way }
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if let Some(under_way) = &self.under_way {
            under_way.closed();
        }
        (self.on_event)(Event::TunnelClosed);
    }
}

/// Reads and forgets until the peer has closed, for a short while.
async fn linger(mut io: Watched) {
    // hyper leaves this out when an upgrade was offered.
    let _ = timeout(LINGER.0, io.shutdown()).await;
    let _ = timeout(LINGER.0, poll_fn(|context| io.poll_forget(context))).await;
}

/// Waits until one that was told why its connection ends has closed, for a short while.
async fn broken_off(watchdog: &Watchdog) {
    if let Some(socket) = watchdog.left.take().and_then(|socket| TcpStream::from_std(socket).ok()) {
        let mut wasted = 0;
        let _ = timeout(LINGER.0, poll_fn(|context| poll_forget(&socket, &mut wasted, context))).await;
    }
}

/// An IPv4 peer of an IPv6 socket under its own address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
