//! One request over one connection, and what is known of it when no answer came: whether the server has begun with it, and whether it can be sent again.

use std::cell::Cell;
use std::error::Error as _;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ::h2::Reason;
use http::header::UPGRADE;
use http::{Method, Request, Response, request};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::connect::{BUFFER, Single, Taken};
use super::error::of_the_client;
use super::h2::{Place, as_h1, as_h2};
use super::pool::{Connection, Slot};
use super::{Config, UpstreamError};
use crate::body::{Body, BodyError, Replay, Watch};
use crate::credentials::Call;

/// An answer, what it came over, and where that arrives if it was upgraded.
pub(super) type Sent = (Response<Incoming>, Connection, Option<oneshot::Receiver<Taken>>);

/// How many bytes may come before the head of an answer has come whole: its own, and those of interim answers.
const BEFORE_ANSWER: usize = 4 * BUFFER;

/// A request that was not answered.
pub(super) struct Lost {
    pub(super) error: UpstreamError,
    pub(super) fate: Fate,
    /// Its connection has served others, as far as is known.
    pub(super) served: bool,
    /// The request, where it can be sent again as it was.
    pub(super) again: Option<(request::Parts, Body)>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was not sent at all.
    Unsent,
    /// The server said that it has not processed it, and goes away (RFC 9113, 6.8): its stream is above the last one of GOAWAY.
    LeftOut,
    /// The server said that it has not processed it (RFC 9113, 8.7): `REFUSED_STREAM`.
    Refused,
    /// The connection broke before a byte of an answer: it may have been acted on.
    Silent,
    /// It may have been acted on: a stream that was reset is an answer that failed, as is one that did not come in time. Or the client is to blame.
    Over,
}

impl Lost {
    const fn over(error: UpstreamError) -> Self {
        Self { error, fate: Fate::Over, served: false, again: None }
    }
}

/// Sends the request and waits for the head of the answer. `reused`: the connection was there already, and may have died unnoticed.
pub(super) async fn attempt(connection: Connection, config: &Config, slot: &Slot, head: request::Parts, body: Body, reused: bool) -> Result<Sent, Lost> {
    match connection {
        Connection::H1(single) => over_h1(single, config, head, body, reused).await,
        Connection::H2(place) => over_h2(place, config, slot, head, body).await,
    }
}

async fn over_h1(mut single: Single, config: &Config, mut head: request::Parts, body: Body, reused: bool) -> Result<Sent, Lost> {
    as_h1(&mut head);
    let taken = head.headers.contains_key(UPGRADE).then(|| single.taken());
    let spare = (reused && body.is_empty() && is_idempotent(&head.method)).then(|| head.clone());
    let before = single.came.octets.get();
    single.came.awaits_answer(BEFORE_ANSWER);
    let (body, progress) = watched(body);
    let sending = single.sender.try_send_request(Request::from_parts(head, body));
    match in_time(sending, config.timeouts.response, progress).await? {
        Ok(answer) => {
            single.came.has_answered();
            Ok((answer, Connection::H1(single), taken))
        }
        Err(mut error) => {
            // hyper had not begun with it.
            if let Some(unsent) = error.take_message() {
                return Err(Lost { error: UpstreamError::Exchange(error.into_error()), fate: Fate::Unsent, served: false, again: Some(unsent.into_parts()) });
            }
            let cause = error.into_error();
            let silent = single.came.octets.get() == before && of_the_client(&cause).is_none();
            let fate = if silent { Fate::Silent } else { Fate::Over };
            Err(Lost { error: UpstreamError::Exchange(cause), fate, served: false, again: spare.map(|head| (head, Body::empty())) })
        }
    }
}

async fn over_h2(mut place: Place, config: &Config, slot: &Slot, mut head: request::Parts, body: Body) -> Result<Sent, Lost> {
    if head.headers.contains_key(UPGRADE) && !place.takes_connect() {
        return Err(Lost::over(UpstreamError::Answer("the server takes no WebSocket over HTTP/2, which `protocol: h2` wants")));
    }
    let spare = head.clone();
    as_h2(&mut head, slot.member.connector.is_secure());
    let body = if head.extensions.get::<Call>().is_some() { body.of_call() } else { body };
    let replay = (!body.is_empty()).then(|| Replay::of(body, &slot.room));
    let lent = replay.as_ref().map_or_else(|| Some(Body::empty()), Replay::lend);
    let (body, progress) = watched(lent.unwrap_or_else(Body::empty));
    let sending = place.sender.try_send_request(Request::from_parts(head, body));
    let mut error = match in_time(sending, config.timeouts.response, progress).await? {
        Ok(answer) => {
            replay.iter().for_each(Replay::forget);
            place.answered();
            return Ok((answer, Connection::H2(place), None));
        }
        Err(error) => error,
    };
    if let Some(cause) = replay.as_ref().and_then(Replay::failed) {
        return Err(Lost::over(UpstreamError::Client(cause)));
    }
    let unsent = error.take_message().is_some();
    let cause = error.into_error();
    let fate = match fate(&cause) {
        _ if unsent => Fate::Unsent,
        Fate::Silent if replay.is_some() || !is_idempotent(&spare.method) => Fate::Over,
        fate => fate,
    };
    place.unanswered();
    match fate {
        // Nothing new may begin on it; what is under way goes on.
        Fate::Unsent | Fate::LeftOut => place.retire(fate == Fate::LeftOut),
        Fate::Refused => place.fill(),
        Fate::Silent | Fate::Over => {}
    }
    let body = replay.as_ref().map_or_else(|| Some(Body::empty()), Replay::lend);
    Err(Lost { error: UpstreamError::Exchange(cause), fate, served: place.serves(), again: body.map(|body| (spare, body)) })
}

/// What HTTP/2 says of a request that was sent and not answered.
///
/// h2 gives an error of a GOAWAY of the server's to streams above its last one only; streams up to it go on, and end with the connection if they must.
fn fate(error: &hyper::Error) -> Fate {
    match error.source().and_then(|cause| cause.downcast_ref::<::h2::Error>()) {
        Some(said) if said.is_go_away() && said.is_remote() => Fate::LeftOut,
        Some(said) if said.is_reset() && said.is_remote() && said.reason() == Some(Reason::REFUSED_STREAM) => Fate::Refused,
        Some(said) if said.is_reset() => Fate::Over,
        _ => Fate::Silent,
    }
}

/// Waits for the outcome of sending, from the last piece of the body on.
async fn in_time<T>(sending: impl Future<Output = T>, limit: Duration, progress: Option<Rc<Cell<Instant>>>) -> Result<T, Lost> {
    let mut sending = pin!(sending);
    let mut timer = pin!(sleep(limit));
    loop {
        tokio::select! {
            biased;
            outcome = &mut sending => return Ok(outcome),
            () = &mut timer => match progress.as_ref().map(|progress| progress.get() + limit) {
                // The client is still sending; the server has its time from the last piece on.
                Some(later) if later > Instant::now() => timer.as_mut().reset(later),
                _ => return Err(Lost::over(UpstreamError::AnswerTimeout(limit))),
            },
        }
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}

/// The body, and when its last piece went out; nothing where there is none.
fn watched(body: Body) -> (Body, Option<Rc<Cell<Instant>>>) {
    if body.is_empty() {
        return (body, None);
    }
    let progress = Rc::new(Cell::new(Instant::now()));
    (body.watched(Box::new(Progress(Rc::clone(&progress)))), Some(progress))
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
