//! HTTP/2 as this room serves it: budgets of our own for all that the other side may begin, and tasks that stay on the worker.
//!
//! RFC 9113. hyper and h2 bound what a single frame costs; how many requests, resets and bytes there may be at a time is set here. Pings find out
//! whether a silent peer is still there. A fault in one request resets that request and is counted; others on the connection go on.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use http::header::{CONNECTION, COOKIE, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::{Drive, Outgoing, Upgraded};
use super::held::bounded;
use super::watchdog::{Exchange, Watched};
use super::{Event, Settings};
use crate::body::Body;

/// Bytes of one request's body that may be on the way (RFC 9113, 5.2). A connection has as much for each request that it may carry at a time: a body that
/// nobody takes holds up no other. How many bodies there are is bounded by `uploads`.
const STREAM_WINDOW: u32 = 64 * 1024;
/// RFC 9113, 6.9.1.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// Bytes of one answer that wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that we had to reset for mistakes of the other side, before the connection ends.
pub(super) const MISTAKES: usize = 64;
/// Requests that the other side reset before we saw them, before the connection ends.
const UNSEEN_RESETS: usize = 20;

/// hyper's server side with our bounds.
pub(super) fn http(settings: &Settings) -> http2::Builder<OnWorker> {
    let mut http = http2::Builder::new(OnWorker { on_event: Arc::clone(&settings.on_event) });
    http.timer(TokioTimer::new())
        .keep_alive_interval(settings.ping)
        .keep_alive_timeout(settings.pong)
        .max_concurrent_streams(settings.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(settings.streams).min(LARGEST_WINDOW))
        .max_send_buf_size(SEND_BUFFER)
        // Always: what is said here stands as long as the connection, and a reload may bring the first route that allows it.
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(settings.head_bytes).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(MISTAKES)
        .max_pending_accept_reset_streams(UNSEEN_RESETS);
    http
}

/// Whether a head has too many fields: h2 counts bytes only. A cookie may come in crumbs (RFC 9113, 8.2.3), which are one field.
pub(super) fn too_many_fields(head: &Request<Incoming>, most: usize) -> bool {
    let headers = head.headers();
    let crumbs = headers.get_all(COOKIE).iter().count().saturating_sub(1);
    head.version() == Version::HTTP_2 && headers.len().saturating_sub(crumbs) > most
}

/// What an extended CONNECT (RFC 8441) leaves in its head: where its stream arrives once it was answered. The protocol stays there for admission to see.
pub(super) fn connect(head: &mut Parts) -> Option<OnUpgrade> {
    let protocol = head.extensions.remove::<Protocol>();
    let stream = head.extensions.remove::<OnUpgrade>();
    head.extensions.clear();
    head.extensions.insert(protocol?);
    stream.filter(|_| head.version == Version::HTTP_2 && head.method == Method::CONNECT)
}

/// The answer to an extended CONNECT as HTTP/2 has it (RFC 8441, 5): 200 with a tunnel, or no success. `exchange` lasts as long as the tunnel;
/// `write`: how long the client may take nothing.
pub(super) fn connected(answer: &mut Response<Body>, stream: OnUpgrade, exchange: Exchange, settings: &Settings) -> Option<Exchange> {
    let Some(tunnel) = answer.body_mut().take_tunnel() else {
        if answer.status().is_success() {
            // The client would take what follows for its tunnel.
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
        }
        return Some(exchange);
    };
    *answer.status_mut() = StatusCode::OK;
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        answer.headers_mut().remove(name);
    }
    *answer.body_mut() = Body::empty();
    let (write, on_event) = (settings.write, Arc::clone(&settings.on_event));
    tokio::task::spawn_local(async move {
        let _exchange = exchange;
        // Without one the client is gone, and the tunnel ends here.
        let Ok(stream) = stream.await else { return };
        let _open = Upgraded::new(on_event, None);
        let end = tunnel.run(TokioIo::new(stream), write).await;
        tracing::debug!(?end, "an upgraded stream has ended");
    });
    None
}

/// The answer to such a head. As that of hyper over HTTP/1.1 it is a status and nothing else.
pub(super) fn head_too_large() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    answer
}

/// Runs what hyper wants run, on this worker's thread.
#[derive(Clone)]
pub(super) struct OnWorker {
    on_event: Arc<dyn Fn(Event) + Send + Sync>,
}

impl<F> Executor<F> for OnWorker
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        let on_event = Arc::clone(&self.on_event);
        tokio::task::spawn_local(async move {
            // What the fault left behind is dropped with the request's own state.
            match bounded(AssertUnwindSafe(future).catch_unwind()).await {
                Some(Ok(())) => {}
                Some(Err(_)) => {
                    tracing::error!("a panic ended a request");
                    on_event(Event::Panicked);
                }
                None => on_event(Event::Expired),
            }
        });
    }
}

impl<H> Drive for http2::Connection<TokioIo<Watched>, H, OnWorker>
where
    H: hyper::service::HttpService<Incoming, ResBody = Outgoing>,
    H::Future: 'static,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn drive(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll(context)
    }

    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
