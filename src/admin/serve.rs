//! How doors are served: HTTP/1.1, one request a connection, few connections, short deadlines.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Connections that are served at once; more wait in the listener's queue.
const CONNECTIONS: usize = 64;

/// Bytes of a request's head and of what is buffered.
const BUFFER: usize = 16 << 10;

/// Header fields of a request.
const HEADERS: usize = 64;

/// After an error of `accept` (too many open files), so that the thread does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer of a door.
pub type Answer = Response<Full<Bytes>>;

/// What stands behind a listener.
pub trait Door {
    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>) -> Answer;
}

/// A listener of either kind.
pub trait Accept {
    /// One end of a connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    /// The next connection, and the address of its other end where it has one.
    async fn next(&self) -> io::Result<(Self::Stream, Option<SocketAddr>)>;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        self.accept().await.map(|(stream, address)| (stream, Some(address)))
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

/// A connection that is served, and whether anything was asked on it yet.
struct Served {
    asked: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// Serves for ever, on the thread's `LocalSet`. A connection that is not done within `deadline` is dropped, and the oldest one on which nothing was asked when
/// there is no room for another.
pub async fn serve(listener: impl Accept, door: Rc<impl Door + 'static>, deadline: Duration) -> Infallible {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut served: VecDeque<Served> = VecDeque::new();
    let mut failing = false;
    loop {
        match listener.next().await {
            Ok((stream, other)) => {
                failing = false;
                served.retain(|served| !served.asked.get() && !served.task.is_finished());
                if room.available_permits() == 0
                    && let Some(oldest) = served.pop_front()
                {
                    oldest.task.abort();
                }
                // The semaphore is never closed; were it, no limit would be held, so nothing is served.
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { std::future::pending().await };
                let (door, asked) = (Rc::clone(&door), Rc::new(Cell::new(false)));
                let seen = Rc::clone(&asked);
                let task = tokio::task::spawn_local(async move {
                    // Whether the other end went away or was too slow: nothing is left to be told.
                    let _ = tokio::time::timeout(deadline, connection(stream, other, door, seen)).await;
                    drop(permit);
                });
                served.push_back(Served { asked, task: task.abort_handle() });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a connection to a control door cannot be accepted");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    other: Option<SocketAddr>,
    door: Rc<impl Door + 'static>,
    asked: Rc<Cell<bool>>,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.set(true);
        let door = Rc::clone(&door);
        if let Some(other) = other {
            request.extensions_mut().insert(other);
        }
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// The body, unless it is longer than `most` octets; then the rest is read all the same, since a connection that is closed on unread bytes loses the answer.
pub async fn read(mut body: Incoming, most: usize) -> Option<Vec<u8>> {
    let (mut bytes, mut fits) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        fits = fits && bytes.len().saturating_add(data.len()) <= most;
        if fits {
            bytes.extend_from_slice(&data);
        }
    }
    fits.then_some(bytes)
}

/// A text.
pub fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// 200, as JSON.
pub fn found(value: &Value) -> Answer {
    json_of(StatusCode::OK, value)
}

/// JSON.
pub fn json_of(status: StatusCode, value: &Value) -> Answer {
    text(status, "application/json", format!("{value}\n"))
}

/// A problem (RFC 9457).
pub fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    text(status, "application/problem+json", format!("{body}\n"))
}

/// The one Bearer token of the header, as it stands there (RFC 6750, 2.1). With two headers nobody knows which one is meant.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut presented = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (presented.next(), presented.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// A plain text of one line.
pub fn plain(status: StatusCode, line: &'static str) -> Answer {
    text(status, "text/plain; charset=utf-8", line)
}

/// 405.
pub fn only(allow: &'static str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allow}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}
