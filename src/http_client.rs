//! The HTTP client for everything that is not the content: authorization servers, token endpoints, probes, and the requesting party's `fetch`.
//!
//! One [`HttpClient`] keeps connections alive and is cheap to clone. Every call ends at its deadline and reads no more than its limit.
//! It never follows a redirect, never retries what may have been acted on, and its errors name no address, query or secret.

mod error;
mod form;
mod tls;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

pub use error::{HttpClientError, HttpError};
pub use form::{basic_auth, form};
pub use tls::Trust;

/// Whether a host, as it stands in an address, is this machine by its name or number: plain http may go there.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Trust and client certificate of a TLS client, as files in PEM form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// Certificates that are trusted instead of the platform's.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain.
    pub client_certificate: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
}

/// Idle connections go after this time, before common servers close them from their side.
const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept to one server.
const IDLE_PER_SERVER: usize = 8;
/// Bytes of a response head.
const HEAD: usize = 64 * 1024;

/// HTTP/1.1 with keep-alive over TCP or TLS 1.2 and later. Clones share their connections.
///
/// A connection is driven by the runtime that opened it: give each long-lived runtime a client of its own.
#[derive(Clone)]
pub struct HttpClient(Client<tls::Connector, Full<Bytes>>);

impl HttpClient {
    /// A client with this trust. Nothing is connected yet, and the platform's certificates are read only when an https address is first asked.
    ///
    /// # Errors
    /// When a file cannot be read, holds no certificate or key, or certificate and key do not fit together.
    pub fn new(files: &TlsFiles) -> Result<Self, HttpClientError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_SERVER)
            .http1_max_buf_size(HEAD)
            .build(tls::Connector::new(files)?);
        Ok(Self(client))
    }

    /// Sends `request` (its address absolute) and reads the whole answer, of at most `limit` body bytes, before `deadline`.
    /// A `Host` header that the request carries is sent as it is. Any status is an answer, a redirect too.
    ///
    /// # Errors
    /// See [`HttpError`]; after an error nothing is known of what the server did, except for `Connect` and the certificate errors, where it saw nothing.
    pub async fn send(&self, request: Request<Bytes>, limit: usize, deadline: Instant) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = self.open(request, deadline).await?.into_parts();
        Ok(Response::from_parts(head, body.bytes(limit, deadline).await?))
    }

    /// Sends `request` as [`HttpClient::send`] does, but hands the answer on when its head is there; `deadline` is that of the head.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn open(&self, request: Request<Bytes>, deadline: Instant) -> Result<Response<Streamed>, HttpError> {
        let answer = timeout_at(deadline, self.0.request(request.map(Full::new))).await.map_err(|_| HttpError::Timeout)??;
        if answer.headers().contains_key(CONTENT_LENGTH) && answer.headers().contains_key(TRANSFER_ENCODING) {
            return Err(HttpError::Framing);
        }
        Ok(answer.map(|rest| Streamed { ahead: Bytes::new(), rest }))
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}

/// The body of an answer that is still on its way.
#[derive(Debug)]
pub struct Streamed {
    /// What was read ahead and not yet handed out.
    ahead: Bytes,
    rest: Incoming,
}

impl Streamed {
    /// The next piece, `None` at the end. Waits no longer than until `deadline`.
    ///
    /// # Errors
    /// When the answer breaks off or the deadline passes.
    pub async fn chunk(&mut self, deadline: Instant) -> Result<Option<Bytes>, HttpError> {
        if !self.ahead.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ahead)));
        }
        loop {
            match timeout_at(deadline, self.rest.frame()).await.map_err(|_| HttpError::Timeout)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::BodyBroken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads on until the end or until more than `limit` bytes are there, and shows what is there; it is handed out later all the same.
    ///
    /// # Errors
    /// As [`Streamed::chunk`].
    pub async fn look_ahead(&mut self, limit: usize, deadline: Instant) -> Result<&[u8], HttpError> {
        let mut read = BytesMut::new();
        while read.len() <= limit {
            match self.chunk(deadline).await? {
                Some(piece) => read.extend_from_slice(&piece),
                None => break,
            }
        }
        self.ahead = read.freeze();
        Ok(&self.ahead)
    }

    /// The whole rest, of at most `limit` bytes.
    ///
    /// # Errors
    /// When it is larger, breaks off, or is not complete by `deadline`.
    pub async fn bytes(self, limit: usize, deadline: Instant) -> Result<Bytes, HttpError> {
        let Self { ahead, rest } = self;
        let room = limit.checked_sub(ahead.len()).ok_or(HttpError::TooLarge)?;
        let read = timeout_at(deadline, Limited::new(rest, room).collect()).await.map_err(|_| HttpError::Timeout)?;
        match read {
            Ok(whole) if ahead.is_empty() => Ok(whole.to_bytes()),
            Ok(whole) => Ok(Bytes::from([ahead.as_ref(), &whole.to_bytes()].concat())),
            Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooLarge),
            Err(error) => Err(error.downcast::<hyper::Error>().map_or(HttpError::TooLarge, |error| HttpError::BodyBroken(*error))),
        }
    }
}
