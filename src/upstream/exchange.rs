//! One request and its answer over one connection, or over a second one when the first turns out to be dead.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::Either;
use http::{HeaderMap, Method, Request, Response, request};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use super::answer::{clean, relay};
use super::error::of_the_client;
use super::h2::{as_h1, as_h2};
use super::pool::{Connection, Slot};
use super::{Config, UpstreamError};
use crate::body::{Body, BodyError, Pace, Watch};

/// The answer for the client; its body gives the connection back when it has ended in good order.
///
/// `private`: no cache that others share may keep it.
pub(super) async fn exchange(slot: Rc<Slot>, config: &Config, head: request::Parts, body: Body, private: bool) -> Result<Response<Body>, UpstreamError> {
    let (answer, connection) = send(&slot, config, head, body).await?;
    let (head, body) = answer.into_parts();
    // An answer that is refused takes its connection with it: where the next one begins is not certain.
    let head = relay(head, private)?;
    let idle = config.timeouts.idle;
    let lease = Lease { pace: Pace::new(idle), idle, slot, connection: Some(connection) };
    Ok(Response::from_parts(head, Body::stream(body).watched(Box::new(lease))))
}

/// What became of an attempt that gave no answer.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost an allocation")]
enum Failed {
    /// Nothing was answered, so a request that may be repeated may be sent again.
    Dead(request::Parts, Body),
    /// That was it.
    For(UpstreamError),
}

async fn send(slot: &Rc<Slot>, config: &Config, head: request::Parts, body: Body) -> Result<(Response<Incoming>, Connection), UpstreamError> {
    let (head, body) = match slot.take(config.timeouts.idle) {
        None => (head, body),
        Some(connection) => match reuse(connection, config, slot.is_secure(), head, body).await {
            Ok(answered) => return Ok(answered),
            Err(Failed::For(error)) => return Err(error),
            Err(Failed::Dead(head, body)) => (head, body),
        },
    };
    // A new connection, not the next idle one: when a server was restarted, all idle ones are dead.
    let connection = slot.connect(config).await?;
    attempt(connection, config, slot.is_secure(), head, body).await.map_err(|(error, _)| error)
}

/// Tries a connection that was there. It may have died unnoticed; a request that was not answered at all and has no body is then given back.
async fn reuse(connection: Connection, config: &Config, secure: bool, head: request::Parts, body: Body) -> Result<(Response<Incoming>, Connection), Failed> {
    let spare = (body.is_empty() && is_idempotent(&head.method)).then(|| head.clone());
    let received = match &connection {
        Connection::H1(single) => Some((Rc::clone(&single.received), single.received.get())),
        // What comes on a shared connection may be for others.
        Connection::H2(_) => None,
    };
    match attempt(connection, config, secure, head, body).await {
        Ok(answered) => Ok(answered),
        // hyper had not begun with it.
        Err((_, Some(unsent))) => {
            let (head, body) = unsent.into_parts();
            Err(Failed::Dead(head, body))
        }
        Err((error, None)) => match (error, spare) {
            (UpstreamError::Exchange(cause), Some(head))
                if received.is_none_or(|(received, before)| received.get() == before) && of_the_client(&cause).is_none() =>
            {
                Err(Failed::Dead(head, Body::empty()))
            }
            (error, _) => Err(Failed::For(error)),
        },
    }
}

type Unsent = Option<Request<Body>>;

async fn attempt(
    mut connection: Connection,
    config: &Config,
    secure: bool,
    mut head: request::Parts,
    body: Body,
) -> Result<(Response<Incoming>, Connection), (UpstreamError, Unsent)> {
    let limit = config.timeouts.response;
    let (body, progress) = if body.is_empty() {
        (body, None)
    } else {
        let progress = Rc::new(Cell::new(Instant::now()));
        (body.watched(Box::new(Progress(Rc::clone(&progress)))), Some(progress))
    };
    let sending = match &mut connection {
        Connection::H1(single) => {
            as_h1(&mut head);
            Either::Left(single.sender.try_send_request(Request::from_parts(head, body)))
        }
        Connection::H2(place) => {
            as_h2(&mut head, secure);
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
        Ok(answer) => Ok((answer, connection)),
        Err(mut error) => {
            let unsent = error.take_message();
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
struct Lease {
    pace: Pace,
    idle: Duration,
    slot: Rc<Slot>,
    connection: Option<Connection>,
}

impl Watch for Lease {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.pace.data(bytes)
    }

    fn waiting(&mut self, context: &mut std::task::Context<'_>) -> Result<(), BodyError> {
        self.pace.waiting(context)
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        clean(trailers);
    }

    fn end(&mut self, complete: bool) {
        if let (Some(connection), true) = (self.connection.take(), complete) {
            self.slot.keep(connection, self.idle);
        }
    }
}
