//! Why there was no answer, in words that name the key to change.
//!
//! Where TLS or plain http fails, the other of the two is tried on the same port: a wrong scheme is the mistake that errors describe worst.

use std::error::Error as _;
use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Uri};
use tokio::time::Instant;

use crate::authorization_server::AskError;
use crate::http_client::{HttpClient, HttpError};

const PATIENCE: Duration = Duration::from_secs(3);
const HEAD_ENOUGH: usize = 64 * 1024;

/// What is wrong and how to mend it.
pub struct Trouble {
    pub what: String,
    pub mend: String,
}

/// An address that is asked, and the keys that it hangs on.
pub struct Asked<'a> {
    pub http: &'a HttpClient,
    pub address: Uri,
    /// The key that holds the address.
    pub key: String,
    /// The key that names the CA, where there is one.
    pub ca: Option<String>,
    /// Whether a CA is named.
    pub ca_named: bool,
}

impl Asked<'_> {
    fn authority(&self) -> &str {
        self.address.authority().map_or("", |authority| authority.as_str())
    }

    /// The trouble behind an error of an authorization server.
    pub async fn trouble(&self, error: &AskError) -> Trouble {
        match error {
            AskError::Unreachable(error) => self.http_trouble(error).await,
            AskError::Timeout => self.http_trouble(&HttpError::Timeout).await,
            AskError::NoPat(error) => Trouble { what: error.to_string(), mend: String::new() },
            other => Trouble { what: other.to_string(), mend: String::new() },
        }
    }

    /// The trouble behind a call without an answer.
    pub async fn http_trouble(&self, error: &HttpError) -> Trouble {
        let (who, key) = (self.authority(), &self.key);
        let trouble = |what: String, mend: String| Trouble { what, mend };
        match error {
            HttpError::Connect(cause) => match refused_or_unknown(cause) {
                Some(ErrorKind::ConnectionRefused) => trouble(format!("nothing listens at {who}"), format!("start it, or correct `{key}`")),
                _ => trouble(format!("no connection to {who}: {}", innermost(cause)), format!("correct `{key}`, or look at DNS, routes and firewalls")),
            },
            HttpError::Timeout => {
                trouble(format!("{who} did not answer in time"), format!("look whether it is up and reachable from here, or correct `{key}`"))
            }
            HttpError::UnknownCertificate(_) => trouble(format!("{who} shows a certificate of an issuer that is not trusted here"), self.name_the_ca()),
            HttpError::Certificate(cause) => {
                trouble(format!("the certificate of {who} is not valid here: {cause}"), format!("renew it, or write in `{key}` the name that it is for"))
            }
            HttpError::CertificateOfCa(_) => trouble(
                format!("{who} shows the certificate of a CA as its own"),
                "give it one of its own: openssl req -x509 with -addext basicConstraints=critical,CA:FALSE".to_owned(),
            ),
            HttpError::Tls(_) if self.speaks_other_scheme().await => {
                trouble(format!("{who} speaks plain http, and the address says https"), format!("write http:// in `{key}`, or name the port that speaks TLS"))
            }
            HttpError::Tls(cause) => trouble(format!("no TLS connection to {who}: {cause}"), self.name_the_ca()),
            HttpError::Broken(_) if self.is_plain() && self.speaks_other_scheme().await => self.https_needed(),
            other => trouble(format!("{who}: {other}"), format!("look whether `{key}` names an HTTP server")),
        }
    }

    /// That the server wants https where the address says http.
    pub fn https_needed(&self) -> Trouble {
        Trouble { what: format!("{} speaks https, and the address says http", self.authority()), mend: format!("write https:// in `{}`", self.key) }
    }

    pub fn is_plain(&self) -> bool {
        self.address.scheme() == Some(&Scheme::HTTP)
    }

    fn name_the_ca(&self) -> String {
        match &self.ca {
            Some(key) if self.ca_named => format!("the file that `{key}` names holds another CA: name the one that issued this certificate"),
            Some(key) => format!("name the CA's file: `{key}: FILE`"),
            None => "add its CA to those that this system trusts".to_owned(),
        }
    }

    /// Whether the same port answers to the other of http and https.
    pub async fn speaks_other_scheme(&self) -> bool {
        let scheme = if self.is_plain() { "https" } else { "http" };
        let Ok(request) = Request::get(format!("{scheme}://{}/", self.authority())).body(Bytes::new()) else { return false };
        match self.http.send(request, HEAD_ENOUGH, Instant::now() + PATIENCE).await {
            Ok(_) | Err(HttpError::TooLarge | HttpError::BodyBroken(_)) => true,
            // A certificate, trusted or not, is shown by TLS only.
            Err(HttpError::UnknownCertificate(_) | HttpError::Certificate(_)) => self.is_plain(),
            Err(_) => false,
        }
    }
}

fn refused_or_unknown(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

fn innermost(error: &hyper_util::client::legacy::Error) -> String {
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        last = cause.to_string();
        next = cause.source();
    }
    last
}
