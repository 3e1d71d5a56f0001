//! The other side of the admin door: what `explain` asks a running gateway.

use std::io;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use super::AdminDoor;
use crate::secret::Secret;

/// Largest answer, in bytes.
const ANSWER: usize = 16 << 20;

/// Why the door gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there.
    #[error("no gateway answers at {door}: {error}")]
    Nobody {
        /// Where it was looked for.
        door: String,
        /// Why.
        error: io::Error,
    },
    /// It broke off.
    #[error("the gateway broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The gateway keeps the last 10,000 requests only.
    #[error("the gateway keeps no request of this id (it keeps the last 10,000, since its start)")]
    Unknown,
    /// Something else.
    #[error("the gateway answered {0}: {1}")]
    Refused(StatusCode, String),
    /// Not what was expected.
    #[error("the gateway's answer cannot be read")]
    Unreadable,
}

/// A door to be asked.
#[derive(Debug)]
pub struct AdminClient<'a> {
    door: &'a AdminDoor,
}

impl<'a> AdminClient<'a> {
    /// Asks at this door.
    #[must_use]
    pub const fn new(door: &'a AdminDoor) -> Self {
        Self { door }
    }

    /// The record of a request.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn record(&self, id: &str) -> Result<Value, AskError> {
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        self.ask(Method::GET, &format!("/records/{id}"), Bytes::new()).await
    }

    /// What a request would get that nobody made.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn explain(&self, method: &Method, url: &http::Uri, token: Option<&Secret>) -> Result<Value, AskError> {
        let question = json!({ "method": method.as_str(), "url": url.to_string(), "token": token.map(Secret::expose) });
        self.ask(Method::POST, "/explain", Bytes::from(question.to_string())).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value, AskError> {
        let nobody = |door: String| move |error| AskError::Nobody { door, error };
        match self.door {
            AdminDoor::Socket(path_of_socket) => {
                let stream = UnixStream::connect(path_of_socket).await.map_err(nobody(path_of_socket.display().to_string()))?;
                send(TokioIo::new(stream), None, method, path, body).await
            }
            AdminDoor::Address { address, token } => {
                let stream = TcpStream::connect(address).await.map_err(nobody(address.to_string()))?;
                send(TokioIo::new(stream), Some(token), method, path, body).await
            }
        }
    }
}

async fn send(io: impl Read + Write + Unpin + 'static, token: Option<&Secret>, method: Method, path: &str, body: Bytes) -> Result<Value, AskError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::task::spawn_local(connection);
    let mut request = Request::builder().method(method).uri(path).header(HOST, "admin").header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request.body(Full::new(body)).map_err(|_| AskError::Unreadable)?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(|_| AskError::Unreadable)?.to_bytes();
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|_| AskError::Unreadable),
        StatusCode::NOT_FOUND => Err(AskError::Unknown),
        status => Err(AskError::Refused(status, String::from_utf8_lossy(&body).trim().to_owned())),
    }
}
