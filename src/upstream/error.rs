//! Why an upstream gave no answer that can be relayed.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use crate::body::BodyError;
use crate::http_client::HttpClientError;
use crate::response::Rejection;

/// Why there is nothing to relay.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The upstream has no server.
    #[error("the upstream has no server")]
    NoServer,
    /// There are as many connections as there may be.
    #[error("no room for another connection to the upstream")]
    Full,
    /// No connection stands.
    #[error("no connection to the upstream")]
    Connect(#[source] io::Error),
    /// The files for TLS cannot be used.
    #[error("no TLS towards the upstream can be spoken")]
    Trust(#[source] HttpClientError),
    /// TLS failed: the server's certificate, ours, or the protocol.
    #[error("no TLS connection to the upstream")]
    Tls(#[source] rustls::Error),
    /// HTTP/2 is wanted and the server does not speak it.
    #[error("the upstream does not speak HTTP/2, which `protocol: h2` wants")]
    Protocol,
    /// No connection stood in time.
    #[error("no connection to the upstream within {0:?}")]
    ConnectTimeout(Duration),
    /// The exchange broke off, or the answer is not HTTP.
    #[error("the exchange with the upstream failed")]
    Exchange(#[source] hyper::Error),
    /// The client's body broke off on its way.
    #[error("the request's body did not come to its end")]
    Client(#[source] BodyError),
    /// No head of an answer came in time.
    #[error("the upstream did not answer within {0:?}")]
    AnswerTimeout(Duration),
    /// The answer can be read in two ways, or asks for what was not offered.
    #[error("the upstream's answer is refused: {0}")]
    Answer(&'static str),
    /// The upstream refused the credential that it was shown.
    #[error("the upstream refused the gateway's credential")]
    CredentialRefused,
}

impl From<UpstreamError> for Rejection {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::NoServer
            | UpstreamError::Connect(_)
            | UpstreamError::Trust(_)
            | UpstreamError::Tls(_)
            | UpstreamError::Protocol
            | UpstreamError::Answer(_) => Self::BadUpstream,
            UpstreamError::Full => Self::Overloaded,
            UpstreamError::ConnectTimeout(_) | UpstreamError::AnswerTimeout(_) => Self::UpstreamTimeout,
            UpstreamError::CredentialRefused => Self::UpstreamCredentialRefused,
            UpstreamError::Exchange(error) => of_the_client(&error).map_or(Self::BadUpstream, blamed),
            UpstreamError::Client(error) => blamed(&error),
        }
    }
}

/// What the client is told that did not send its body as it should.
const fn blamed(error: &BodyError) -> Rejection {
    match error {
        BodyError::Broken(_) => Rejection::Malformed("the body broke off or its framing is malformed"),
        BodyError::TooLarge => Rejection::BodyTooLarge,
        BodyError::Stalled => Rejection::RequestTimeout,
    }
}

impl UpstreamError {
    /// Whether no connection could be had.
    pub(super) const fn is_of_connecting(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::ConnectTimeout(_) | Self::Trust(_) | Self::Tls(_) | Self::Protocol)
    }
}

/// What went wrong with the client's body, where that ended the exchange.
pub(super) fn of_the_client(error: &hyper::Error) -> Option<&BodyError> {
    error.source().and_then(|cause| cause.downcast_ref())
}
