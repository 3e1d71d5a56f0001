//! The other side of the operator's door: how the command line asks a gateway that runs.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::AdminDoor;
use crate::secret::Secret;

/// An explanation may take the gateway a while.
const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of an answer.
const ANSWER: usize = 16 << 20;

/// The operator's door gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// Nobody is there.
    #[error("no gateway answers at {0}")]
    Unreachable(String, #[source] io::Error),
    /// Not in time.
    #[error("the gateway did not answer within {0:?}")]
    Timeout(Duration),
    /// Something else than an admin door answered, or it broke off.
    #[error("the answer is not one of a gateway")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It says what is wrong.
    #[error("{detail}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// In words.
        detail: String,
    },
    /// Ids are letters and digits.
    #[error("this is not the id of a request")]
    NoId,
}

/// Asks one door.
#[derive(Debug)]
pub struct AdminClient<'a>(&'a AdminDoor);

impl<'a> AdminClient<'a> {
    /// Connects anew for each question.
    #[must_use]
    pub const fn new(door: &'a AdminDoor) -> Self {
        Self(door)
    }

    /// The record of a request.
    ///
    /// # Errors
    /// When it is not kept (any more), or nobody answers.
    pub async fn record(&self, id: &str) -> Result<Value, AdminClientError> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(AdminClientError::NoId);
        }
        self.ask(Request::get(format!("/records/{id}")), Bytes::new()).await
    }

    /// The last records, the newest first.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn last(&self, count: usize) -> Result<Value, AdminClientError> {
        self.ask(Request::get(format!("/records?last={count}")), Bytes::new()).await
    }

    /// Has the configuration read anew.
    ///
    /// # Errors
    /// When it is refused, with every mistake; or nobody answers.
    pub async fn reload(&self) -> Result<Value, AdminClientError> {
        self.ask(Request::post("/reload"), Bytes::new()).await
    }

    /// What a request would be answered.
    ///
    /// # Errors
    /// When the question is not understood, or nobody answers.
    pub async fn explain(&self, method: &Method, url: &Uri, token: Option<&Secret>) -> Result<Value, AdminClientError> {
        let question = json!({ "method": method.as_str(), "url": url.to_string(), "token": token.map(Secret::expose) });
        self.ask(Request::post("/explain").header(CONTENT_TYPE, "application/json"), Bytes::from(question.to_string())).await
    }

    async fn ask(&self, request: http::request::Builder, body: Bytes) -> Result<Value, AdminClientError> {
        let mut request = request.header(HOST, "localhost").body(Full::new(body)).map_err(broken)?;
        let asked = async {
            match self.0 {
                AdminDoor::Socket(path) => {
                    let stream = UnixStream::connect(path).await;
                    send(stream.map_err(|error| AdminClientError::Unreachable(path.display().to_string(), error))?, request).await
                }
                AdminDoor::Address { address, token } => {
                    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(broken)?;
                    bearer.set_sensitive(true);
                    request.headers_mut().insert(AUTHORIZATION, bearer);
                    let stream = TcpStream::connect(address).await;
                    send(stream.map_err(|error| AdminClientError::Unreachable(address.to_string(), error))?, request).await
                }
            }
        };
        let (status, body) = tokio::time::timeout(DEADLINE, asked).await.map_err(|_| AdminClientError::Timeout(DEADLINE))??;
        let value: Value = serde_json::from_slice(&body).map_err(broken)?;
        if status == StatusCode::OK {
            return Ok(value);
        }
        let detail = value.get("detail").and_then(Value::as_str).unwrap_or("the gateway refused the question").to_owned();
        Err(AdminClientError::Refused { status, detail })
    }
}

async fn send(stream: impl AsyncRead + AsyncWrite + Unpin, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), AdminClientError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(AdminClientError::Broken)?;
        Ok((status, body.to_bytes()))
    };
    // The connection moves the bytes of the answer; its own end says no more than the answer does.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = answered => answer,
        never = driven => match never {},
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> AdminClientError {
    AdminClientError::Broken(Box::new(error))
}
