//! One request and its answer: over one connection, or over a second one when the first turns out to be dead, or from another server.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::Either;
use http::header::UPGRADE;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::answer::clean_trailers;
use super::choose::{Dice, Group, Tried};
use super::connect::{Taken, chain};
use super::error::of_the_client;
use super::h2::{as_h1, as_h2};
use super::pool::{Busy, Connection, Slot};
use super::{Config, Protocol, UpstreamError};
use crate::body::{Body, BodyError, Pace, Watch};
use crate::credentials::Call;

/// An answer's head, and what it came over.
pub(super) struct Answered {
    pub(super) answer: Response<Incoming>,
    pub(super) connection: Connection,
    pub(super) busy: Busy,
    /// The server's place.
    pub(super) place: usize,
    /// Where the bare stream arrives, if an upgrade was asked for and the answer is 101.
    pub(super) taken: Option<oneshot::Receiver<Taken>>,
}

/// An answer, what it came over, and where that arrives if it was upgraded.
type Sent = (Response<Incoming>, Connection, Option<oneshot::Receiver<Taken>>);

/// What became of an attempt that gave no answer.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost an allocation")]
enum Failed {
    /// Nothing of it can have been acted on, so the request may be sent again.
    Unsent(UpstreamError, request::Parts, Body),
    /// That was it.
    For(UpstreamError),
}

/// Sends a request to one server after the other until one takes it. What a server may have begun to act on goes to no other.
///
/// `asking` hears of each server before it is asked, and may change the head for it.
pub(super) async fn send(
    group: &Group,
    config: &Config,
    dice: &Dice,
    mut head: request::Parts,
    mut body: Body,
    asking: impl Fn(&mut request::Parts, &Slot),
) -> Result<Answered, UpstreamError> {
    let wish = group.wish(config.sticky.as_ref(), &head.headers);
    group.earn(config);
    let (mut tried, mut last) = (Tried::default(), None);
    while let Some((place, slot)) = group.choose(config, dice, tried, wish) {
        if last.is_some() {
            if !group.spend() {
                break;
            }
            // The server before may have wanted another form.
            as_h1(&mut head);
        }
        asking(&mut head, slot);
        let busy = Busy::at(slot);
        match at(group, slot, config, head, body).await {
            Ok((answer, connection, taken)) => {
                judge(slot, config, answer.status());
                return Ok(Answered { answer, connection, busy, place, taken });
            }
            Err(Failed::For(error)) => {
                note(slot, config, &error);
                return Err(error);
            }
            Err(Failed::Unsent(error, unsent, whole)) => {
                note(slot, config, &error);
                (head, body) = (unsent, whole);
                tried.add(place);
                last = Some(error);
                group.retries.connect();
            }
        }
    }
    let error = last.unwrap_or(UpstreamError::NoServer);
    if error.is_of_connecting() {
        group.dependency.failed(chain(&error));
    }
    Err(error)
}

/// Answers that say that a server is failing, for those who want them counted.
fn judge(slot: &Slot, config: &Config, status: StatusCode) {
    if config.ejection.server_errors && matches!(status.as_u16(), 500 | 502..=504) {
        slot.member.failed(&config.ejection);
    } else {
        slot.member.succeeded();
    }
}

fn note(slot: &Slot, config: &Config, error: &UpstreamError) {
    let counts = match error {
        UpstreamError::Connect(_) | UpstreamError::ConnectTimeout(_) | UpstreamError::Tls(_) | UpstreamError::Protocol => true,
        UpstreamError::Exchange(cause) => config.ejection.server_errors && of_the_client(cause).is_none(),
        UpstreamError::AnswerTimeout(_) => config.ejection.server_errors,
        _ => false,
    };
    if counts {
        slot.member.failed(&config.ejection);
    }
}

/// One server: an idle connection, and a new one when that turns out to be dead.
async fn at(group: &Group, slot: &Rc<Slot>, config: &Config, head: request::Parts, body: Body) -> Result<Sent, Failed> {
    // Over HTTP/2 no connection changes its protocol; a stream may, where the server must speak it (RFC 8441).
    let exclusive = head.headers.contains_key(UPGRADE) && config.protocol != Protocol::H2;
    let secure = slot.member.connector.is_secure();
    let (head, body) = match slot.take(config.timeouts.unused(), exclusive) {
        None => (head, body),
        Some(connection) => match reuse(connection, config, secure, head, body).await {
            Err(Failed::Unsent(error, head, body)) => {
                if !group.spend() {
                    return Err(Failed::For(error));
                }
                group.retries.stale();
                (head, body)
            }
            outcome => return outcome,
        },
    };
    // A new connection, not the next idle one: when a server was restarted, all idle ones are dead.
    match slot.connect(config, exclusive).await {
        Ok(connection) => {
            group.dependency.recovered();
            if !config.ejection.server_errors {
                slot.member.succeeded();
            }
            attempt(connection, config, secure, head, body).await.map_err(|(error, _)| Failed::For(error))
        }
        Err(error) => Err(Failed::Unsent(error, head, body)),
    }
}

/// Tries a connection that was there. It may have died unnoticed; a request that was not answered at all and has no body is then given back.
async fn reuse(connection: Connection, config: &Config, secure: bool, head: request::Parts, body: Body) -> Result<Sent, Failed> {
    let spare = (body.is_empty() && is_idempotent(&head.method)).then(|| head.clone());
    let received = match &connection {
        Connection::H1(single) => Some((Rc::clone(&single.received), single.received.get())),
        // What comes on a shared connection may be for others.
        Connection::H2(_) => None,
    };
    match attempt(connection, config, secure, head, body).await {
        Ok(answered) => Ok(answered),
        // hyper had not begun with it.
        Err((error, Some(unsent))) => {
            let (head, body) = unsent.into_parts();
            Err(Failed::Unsent(error, head, body))
        }
        Err((error, None)) => match (error, spare) {
            (UpstreamError::Exchange(cause), Some(head))
                if received.is_none_or(|(received, before)| received.get() == before) && of_the_client(&cause).is_none() =>
            {
                Err(Failed::Unsent(UpstreamError::Exchange(cause), head, Body::empty()))
            }
            (error, _) => Err(Failed::For(error)),
        },
    }
}

type Unsent = Option<Request<Body>>;

async fn attempt(mut connection: Connection, config: &Config, secure: bool, mut head: request::Parts, body: Body) -> Result<Sent, (UpstreamError, Unsent)> {
    let limit = config.timeouts.response;
    let (body, progress) = if body.is_empty() {
        (body, None)
    } else {
        let progress = Rc::new(Cell::new(Instant::now()));
        (body.watched(Box::new(Progress(Rc::clone(&progress)))), Some(progress))
    };
    let (mut taken, mut as_it_was) = (None, None);
    let sending = match &mut connection {
        Connection::H1(single) => {
            as_h1(&mut head);
            taken = head.headers.contains_key(UPGRADE).then(|| single.taken());
            Either::Left(single.sender.try_send_request(Request::from_parts(head, body)))
        }
        Connection::H2(place) => {
            if head.headers.contains_key(UPGRADE) {
                if !place.takes_connect(config.timeouts.connect).await {
                    return Err((UpstreamError::Answer("the server takes no WebSocket over HTTP/2, which `protocol: h2` wants"), None));
                }
                as_it_was = Some(head.clone());
            }
            as_h2(&mut head, secure);
            let body = if head.extensions.get::<Call>().is_some() { body.of_call() } else { body };
            Either::Right(place.sender.try_send_request(Request::from_parts(head, body)))
        }
    };
    let mut answer = pin!(sending);
    let mut timer = pin!(sleep(limit));
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut answer => break outcome,
            () = &mut timer => match progress.as_ref().map(|progress| progress.get() + limit) {
                // The client is still sending; the server has its time from the last piece on.
                Some(later) if later > Instant::now() => timer.as_mut().reset(later),
                _ => return Err((UpstreamError::AnswerTimeout(limit), None)),
            },
        }
    };
    match outcome {
        Ok(answer) => Ok((answer, connection, taken)),
        Err(mut error) => {
            let unsent = error.take_message().map(|unsent| match as_it_was {
                Some(head) => Request::from_parts(head, unsent.into_body()),
                None => unsent,
            });
            Err((UpstreamError::Exchange(error.into_error()), unsent))
        }
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}

/// Notes when the last piece of a request body went out.
struct Progress(Rc<Cell<Instant>>);

impl Watch for Progress {
    fn data(&mut self, _bytes: usize) -> Result<(), BodyError> {
        self.0.set(Instant::now());
        Ok(())
    }

    fn end(&mut self, _complete: bool) {
        self.0.set(Instant::now());
    }
}

/// Holds the connection while an answer's body streams; keeps it for the next request when the body has ended, drops it when the body broke off.
pub(super) struct Lease {
    /// None: silence ends nothing.
    pace: Option<Pace>,
    unused: Duration,
    connection: Option<Connection>,
    busy: Option<Busy>,
    /// By the head's `Connection`.
    named: Vec<HeaderName>,
}

impl Lease {
    pub(super) fn new(connection: Connection, busy: Busy, config: &Config, named: Vec<HeaderName>) -> Self {
        let idle = config.timeouts.idle;
        Self { pace: (!idle.is_zero()).then(|| Pace::new(idle)), unused: config.timeouts.unused(), connection: Some(connection), busy: Some(busy), named }
    }
}

impl Watch for Lease {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.pace.as_mut().map_or(Ok(()), |pace| pace.data(bytes))
    }

    fn waiting(&mut self, context: &mut std::task::Context<'_>) -> Result<(), BodyError> {
        self.pace.as_mut().map_or(Ok(()), |pace| pace.waiting(context))
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        clean_trailers(trailers, &self.named);
    }

    fn end(&mut self, complete: bool) {
        if let (Some(connection), Some(busy), true) = (self.connection.take(), self.busy.take(), complete) {
            busy.slot.keep(connection, self.unused);
        }
    }
}
