//! The door to upstreams: an `Outbound` in, the answer out.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{HOST, SET_COOKIE, TRANSFER_ENCODING};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tower::Service;

use super::answer::{Reader, announces_too_much, named_by_connection, relay, switched};
use super::connect::Taken;
use super::exchange::{Answered, Lease, send};
use super::far::Far;
use super::pool::{Busy, Connection, Slot};
use super::upload::Upload;
use super::websocket::Handshake;
use super::{Config, Pool, Protocol, UpstreamError};
use crate::body::Body;
use crate::credentials::{Outbound, OutboundParts};
use crate::response::{Rejection, Row};
use crate::telemetry::{Recorder, Step};

const BROKE_OFF: UpstreamError = UpstreamError::Answer("the connection broke off at its upgrade");

/// What this room reads of the snapshot that a request carries.
pub trait Snapshot {
    /// The upstream at this place of the configuration's list.
    fn upstream(&self, index: usize) -> Option<&Arc<Config>>;
}

/// Sends requests to upstreams, over the connections of one worker.
#[derive(Clone, Debug)]
pub struct Upstream {
    pool: Rc<Pool>,
}

impl Upstream {
    /// A door to the upstreams of one worker; clones share the pool.
    #[must_use]
    pub const fn new(pool: Rc<Pool>) -> Self {
        Self { pool }
    }
}

impl<S: Snapshot + 'static> Service<Outbound<S>> for Upstream {
    type Response = Response<Body>;
    type Error = Rejection;
    // hyper's sending future has no name, so the one allocation of an exchange is here.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Rejection>>>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outbound: Outbound<S>) -> Self::Future {
        let OutboundParts { head, body, upstream, private, rpt_header, own_login, recorder, snapshot } = outbound.into_parts();
        let config = snapshot.upstream(upstream).cloned();
        let pool = Rc::clone(&self.pool);
        Box::pin(async move {
            let config = config.ok_or(Rejection::Internal)?;
            let started = Instant::now();
            let step = recorder.step(Step::Upstream);
            let answered = ask(&pool, &config, head, body, Reader { private, rpt_header, own_login }, &recorder).await;
            recorder.with(|record| record.upstream_duration = Some(started.elapsed()));
            let answer = answered.inspect_err(|error| tracing::debug!(upstream = %config.name, %error, "no answer to relay"))?;
            step.answered();
            recorder.pass(Row::U1);
            Ok(answer)
        })
    }
}

async fn ask(
    pool: &Pool,
    config: &Arc<Config>,
    mut head: http::request::Parts,
    body: Body,
    reader: Reader,
    recorder: &Recorder,
) -> Result<Response<Body>, UpstreamError> {
    let group = pool.group(config)?;
    recorder.with(|record| record.upstream = Some(Arc::clone(&config.name)));
    let own_host = !head.headers.contains_key(HOST);
    let asking = |head: &mut http::request::Parts, slot: &Slot| {
        recorder.with(|record| record.upstream_address = Some(Arc::clone(&slot.member.label)));
        if let (true, Some(host)) = (own_host, &slot.host) {
            head.headers.insert(HOST, host.clone());
        }
    };
    let handshake = Handshake::of(&mut head)?;
    let stuck = group.stuck_to(config, &head.headers);
    let (body, upload) = if config.protocol == Protocol::H1 { (body, None) } else { Upload::of(body, config.timeouts.response) };
    let Answered { answer, connection, busy, place, taken } = send(&group, config, &pool.dice, head, body, asking).await?;
    if let (Some(handshake), Connection::H2(_), true) = (&handshake, &connection, answer.status().is_success()) {
        return Box::pin(over_h2(answer, handshake, config, connection, busy)).await;
    }
    let (head, body) = answer.into_parts();
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(taken)) = (head.status, taken) {
        let head = switched(head)?;
        if let Some(handshake) = &handshake {
            handshake.check(&head.headers)?;
        }
        // HTTP ends on it with its sender.
        drop(connection);
        let taken = timeout(config.timeouts.response, taken).await.ok().and_then(Result::ok);
        let Taken { stream, early, while_open } = taken.ok_or(BROKE_OFF)?;
        let far = Far::new(Box::new(stream), early, while_open, busy);
        return Ok(Response::from_parts(head, Body::tunnel(Box::new(far), config.timeouts.idle)));
    }
    if head.status.is_success() && handshake.as_ref().is_some_and(Handshake::is_extended) {
        return Err(UpstreamError::Answer("a handshake that was answered as an ordinary request"));
    }
    let chunked = head.headers.contains_key(TRANSFER_ENCODING) && matches!(connection, Connection::H1(_));
    // An answer that is refused takes its connection with it: where the next one begins is not certain.
    let (named, connection) = (named_by_connection(&head.headers), (!announces_too_much(&head)).then_some(connection));
    let mut head = relay(head, reader)?;
    if let Some(cookie) = group.cookie(config, stuck, place, recorder.with(|record| record.scheme)) {
        head.headers.append(SET_COOKIE, cookie);
    }
    let body = if chunked { begun(body)? } else { Body::stream(body) };
    let answer = body.watched(Box::new(Lease::new(connection, busy, config, named)));
    Ok(Response::from_parts(head, upload.into_iter().fold(answer, |answer, upload| answer.watched(upload.answered()))))
}

/// The body of an answer in chunks, with what of it has come together with the head: where that is malformed already, the client can still be told.
fn begun(mut body: Incoming) -> Result<Body, UpstreamError> {
    match body.frame().now_or_never().flatten() {
        Some(Ok(first)) => Ok(Body::begun(first, body)),
        Some(Err(error)) => Err(UpstreamError::Exchange(error)),
        None => Ok(Body::stream(body)),
    }
}

/// The tunnel that a stream of HTTP/2 has become (RFC 8441, 5).
async fn over_h2(
    mut answer: Response<Incoming>,
    handshake: &Handshake,
    config: &Config,
    connection: Connection,
    busy: Busy,
) -> Result<Response<Body>, UpstreamError> {
    let stream = timeout(config.timeouts.response, hyper::upgrade::on(&mut answer)).await.ok().and_then(Result::ok).ok_or(BROKE_OFF)?;
    let (mut head, _) = answer.into_parts();
    handshake.complete(&mut head)?;
    let head = switched(head)?;
    let far = Far::new(Box::new(TokioIo::new(stream)), Bytes::new(), Box::new(connection), busy);
    Ok(Response::from_parts(head, Body::tunnel(Box::new(far), config.timeouts.idle)))
}
