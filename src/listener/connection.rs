//! One downstream connection: hyper's state machine, our deadlines, and the step from a parsed head to a `routing::Request`.
//!
//! A request body that nobody reads to its end closes the connection after the answer; what still arrives is thrown away for a moment,
//! because a reset would take the answer from a client that is still sending.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tower::{Service, ServiceExt};

use super::watchdog::{Watchdog, Watched};
use super::{Event, Settings, id};
use crate::body::{Body, BodyError, Pace, Watch};
use crate::routing::{Peer, Request, ServedHosts};
use crate::telemetry::Recorder;

/// How hyper buffers: bounds what a head or a body piece can hold in memory.
const BUFFER: usize = 64 * 1024;
/// The bound on a head's fields that hyper has by itself.
const HYPERS_FIELDS: usize = 100;
/// How long and how much is thrown away after the last answer.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1024 * 1024);
/// What a connection on which nothing is being asked gets when the listener stops.
const LAST_CALL: Duration = Duration::from_millis(500);

/// What all connections of a worker's listener share.
pub(super) struct Shared<S> {
    pub(super) service: S,
    pub(super) settings: Rc<Settings>,
    pub(super) hosts: ServedHosts,
    pub(super) http: http1::Builder,
    pub(super) draining: Cell<bool>,
    pub(super) drain: Notify,
}

/// hyper's server side with our bounds.
pub(super) fn http(settings: &Settings) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_header_size(settings.head_bytes).max_buf_size(BUFFER.max(settings.head_bytes));
    // Its own bound needs no saying: with another one it prepares the place of every possible field for each head.
    if settings.head_fields != HYPERS_FIELDS {
        http.max_headers(settings.head_fields);
    }
    http
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(stream: TcpStream, address: SocketAddr, shared: Rc<Shared<S>>)
where
    S: Service<Request, Response = http::Response<Body>, Error = Infallible> + Clone + 'static,
{
    let Ok(local) = stream.local_addr() else { return };
    // Without it the second of two small writes waits for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let peer = Peer { address: canonical(address), local: canonical(local), scheme: "http", hosts: shared.hosts.clone() };
    let watchdog = Rc::new(Watchdog::new(Rc::clone(&shared.settings)));
    let io = TokioIo::new(Watched { stream, watchdog: Rc::clone(&watchdog) });
    let service = hyper::service::service_fn(|request| {
        watchdog.asked();
        let request = arrived(request, peer.clone(), &watchdog, &shared.settings);
        let (service, watchdog) = (shared.service.clone(), Rc::clone(&watchdog));
        async move {
            let Ok(answer) = service.oneshot(request).await;
            Ok::<_, Infallible>(leaving(answer, watchdog))
        }
    });
    let mut connection = shared.http.serve_connection(io, service);
    let Some(ended) = until_done(Pin::new(&mut connection), &watchdog, &shared).await else {
        (shared.settings.on_event)(Event::Expired);
        return;
    };
    if let Some(event) = ended.as_ref().err().and_then(before_a_request) {
        (shared.settings.on_event)(event);
    }
    linger(&connection.into_parts().io.into_inner().stream).await;
}

/// What the library has answered by itself, with a status only: no record tells of it.
fn before_a_request(error: &hyper::Error) -> Option<Event> {
    match error {
        error if error.is_parse_too_large() => Some(Event::HeadTooLarge),
        error if error.is_parse() => Some(Event::Malformed),
        _ => None,
    }
}

/// Drives the connection to its end; `None` when a deadline of ours ended it.
async fn until_done<S, H>(
    mut connection: Pin<&mut http1::Connection<TokioIo<Watched>, H>>,
    watchdog: &Watchdog,
    shared: &Shared<S>,
) -> Option<hyper::Result<()>>
where
    H: hyper::service::HttpService<Incoming, ResBody = Outgoing>,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut drain = pin!(shared.drain.notified());
    drain.as_mut().enable();
    let mut timer = pin!(sleep_until(watchdog.deadline().unwrap_or_else(Instant::now)));
    let mut registered = false;
    let mut told = false;
    poll_fn(move |context| {
        // The task's waker stays the same, so one poll is enough to be woken when the drain begins.
        if !registered {
            registered = true;
            let _ = drain.as_mut().poll(context);
        }
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            if shared.draining.get() && !told {
                if watchdog.is_busy() {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                // A request may be on the way, sent before anybody could know: closed now, it would be lost.
                watchdog.hurry(Instant::now() + LAST_CALL);
            }
            return deadline_passed(timer.as_mut(), watchdog, context);
        }
    })
    .await
}

fn deadline_passed(mut timer: Pin<&mut tokio::time::Sleep>, watchdog: &Watchdog, context: &mut Context<'_>) -> Poll<Option<hyper::Result<()>>> {
    let Some(deadline) = watchdog.deadline() else { return Poll::Pending };
    if timer.deadline() > deadline {
        timer.as_mut().reset(deadline);
    }
    while timer.as_mut().poll(context).is_ready() {
        if Instant::now() >= deadline {
            return Poll::Ready(None);
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}

fn arrived(request: http::Request<Incoming>, peer: Peer, watchdog: &Rc<Watchdog>, settings: &Settings) -> Request {
    let (mut head, incoming) = request.into_parts();
    // hyper leaves the handle of an upgrade here; nothing is ever upgraded.
    head.extensions.clear();
    let mut body = Body::stream(incoming);
    if !body.is_empty() {
        body = body.without_trailers().watched(Box::new(Inbound { pace: Pace::bounded(settings.body, settings.whole_body), watchdog: Rc::clone(watchdog) }));
    }
    let recorder = Recorder::new(id::next(), head.method.clone(), Some(peer.address.ip()), peer.scheme);
    Request { head, body, peer, recorder }
}

fn leaving(mut answer: http::Response<Body>, watchdog: Rc<Watchdog>) -> http::Response<Outgoing> {
    // hyper closes a connection whose request body was not read, but says so only when it knows in time.
    if watchdog.is_abandoned() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer.map(|body| Outgoing { body, watchdog })
}

/// Watches a request body: its pace, and whether it is read to its end.
struct Inbound {
    pace: Pace,
    watchdog: Rc<Watchdog>,
}

impl Watch for Inbound {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.pace.data(bytes)
    }

    fn waiting(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        self.pace.waiting(context)
    }

    fn end(&mut self, complete: bool) {
        if !complete {
            self.watchdog.abandon();
        }
    }
}

/// An answer's body; hyper drops it when it has taken the last of it, and from then on the connection idles.
struct Outgoing {
    body: Body,
    watchdog: Rc<Watchdog>,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.watchdog.answered();
    }
}

/// Reads and forgets until the peer has closed, for a short while.
async fn linger(stream: &TcpStream) {
    let (time, most) = LINGER;
    let _ = timeout(time, async {
        let mut waste = vec![0; 8 * 1024];
        let mut total = 0;
        while total < most && stream.readable().await.is_ok() {
            match stream.try_read(&mut waste) {
                Ok(0) => break,
                Ok(bytes) => total += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    })
    .await;
}

/// An IPv4 peer of an IPv6 socket under its own address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
