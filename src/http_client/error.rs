//! Why a call got no answer, told apart as far as an operator or a retry needs it. No message holds an address or a secret.

use std::error::Error;
use std::path::PathBuf;

use hyper_util::client::legacy;
use rustls::pki_types::pem;
use rustls::{CertificateError, Error as TlsError};

/// Why a client cannot be made from its files.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// A file is missing, unreadable, or holds nothing of the kind that is needed.
    #[error("{what} cannot be read from {}", file.display())]
    File {
        /// Certificate, certificates or key.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A client certificate without its key, or the other way round.
    #[error("a client certificate and its key belong together: only one of them is given")]
    HalfIdentity,
    /// The TLS library refuses what the files hold.
    #[error("the certificates or the key cannot be used")]
    Unusable(#[source] TlsError),
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection: refused, unreachable, or no such host.
    #[error("no connection to the server")]
    Connect(#[source] legacy::Error),
    /// The server's certificate comes from nobody that is trusted here.
    #[error("the server's certificate is from an unknown issuer: name its CA, or the system does not trust it")]
    UnknownCertificate(#[source] TlsError),
    /// The certificate is known but not valid: another name, expired, revoked.
    #[error("the server's certificate is not valid")]
    Certificate(#[source] TlsError),
    /// The server shows the certificate of a CA as its own, as plain `openssl req -x509` makes it.
    #[error("the server's certificate is a CA's; a server needs one of its own (openssl: -addext basicConstraints=critical,CA:FALSE)")]
    CertificateOfCa(#[source] TlsError),
    /// TLS failed in another way, for instance because the server speaks plain http.
    #[error("no TLS connection to the server")]
    Tls(#[source] TlsError),
    /// The deadline passed.
    #[error("the server did not answer in time")]
    Timeout,
    /// The answer is larger than the limit.
    #[error("the server's answer is larger than its limit")]
    TooLarge,
    /// The connection broke, or what came was no HTTP, before a head had arrived.
    #[error("the server gave no usable answer")]
    Broken(#[source] legacy::Error),
    /// Where the answer ends is said in two ways (RFC 9112, 6.1).
    #[error("the server's answer has both Content-Length and Transfer-Encoding")]
    Framing,
    /// The answer broke off.
    #[error("the server's answer broke off")]
    BodyBroken(#[source] hyper::Error),
}

impl HttpError {
    /// Whether the server has answered, though nobody can use it.
    #[must_use]
    pub const fn has_answered(&self) -> bool {
        matches!(self, Self::TooLarge | Self::Framing | Self::BodyBroken(_))
    }
}

impl From<legacy::Error> for HttpError {
    fn from(error: legacy::Error) -> Self {
        match tls_cause(&error) {
            // A CA of the same name with another key shows as a bad signature.
            Some(cause @ TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                Self::UnknownCertificate(cause.clone())
            }
            // The library has no name of its own for it.
            Some(cause @ TlsError::InvalidCertificate(CertificateError::Other(other))) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                Self::CertificateOfCa(cause.clone())
            }
            Some(cause @ TlsError::InvalidCertificate(_)) => Self::Certificate(cause.clone()),
            Some(cause) => Self::Tls(cause.clone()),
            None if error.is_connect() => Self::Connect(error),
            None => Self::Broken(error),
        }
    }
}

/// The TLS error somewhere below; `io::Error::source` skips what it wraps, so that is looked at instead.
fn tls_cause(error: &legacy::Error) -> Option<&TlsError> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}
