//! The requesting party's side: from an address without a token to its content (UMA 2.0 Grant, 3; UMA 1.0.1 Core, 3).
//!
//! A [`Client`] asks, reads the challenge, discovers the authorization server, gets a claims token, trades the ticket and asks again.
//! [`Client::fetch`] walks all of it; [`Client::ask`], [`Client::discover`], [`Client::claims_token`] and [`Client::trade`] are its single steps.
//!
//! Whom it trusts: the user trusts the resource that is asked, and the resource names the authorization server in `as_uri`. Password, client secret
//! and claims token go to that server, so give [`ClientOptions::issuer`] where resources are not all your own. They never go over plain http except to
//! loopback, nor over http because an https resource said so. The RPT goes to the address asked and nowhere else: no redirect is followed.
//!
//! What the issuer does not protect is the RPT. A ticket does not say which resource server got it, so the one that is asked may hand on a ticket of
//! another's, and is then shown an RPT for the other's content. UMA has nothing against that: ask only addresses that may see the user's RPTs.

mod address;
mod browser;
mod claims;
pub mod command;
mod discovery;
mod error;
mod kept;
mod rpt_endpoint;
mod step;
#[cfg(test)]
mod tests;
mod trade;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WARNING, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use tokio::time::Instant;

use crate::http_client::{HttpClient, Streamed};
use crate::secret::Secret;
use crate::uma::{Rpt, Timestamp, UmaChallenge, challenges_of};

pub use browser::BrowserError;
pub use claims::ClaimsToken;
pub use discovery::AuthorizationServer;
pub use error::{AddressError, FetchError};
pub use step::{Step, StepKind};
pub use trade::Traded;

/// Bytes of an answer that is read only to be understood: a discovery document, a token response, the body of a 401.
const ANSWER: usize = 256 * 1024;

/// Hears each step as it happens.
pub type Observer = Arc<dyn Fn(&Step) + Send + Sync>;
/// Shows the requesting party an address to open in a browser.
pub type Show = Arc<dyn Fn(&str) + Send + Sync>;

/// Who the client is and how it goes about it.
#[derive(Clone)]
pub struct ClientOptions {
    /// The application's registration at the authorization server; `None` presents the claims token as Bearer, which Keycloak takes.
    pub application: Option<Application>,
    /// Where the claims come from.
    pub requesting_party: RequestingParty,
    /// The only authorization server that is trusted (its issuer, byte for byte); `None`: whichever the resource names. It protects what is shown to
    /// authorization servers, not the RPT, which the resource is shown.
    pub issuer: Option<String>,
    /// The discovery document, where it is not below the issuer (PingAM).
    pub discovery: Option<Uri>,
    /// Plain http to other hosts than loopback, and http servers named by https resources.
    pub allow_insecure: bool,
    /// For how long a submitted request is polled; zero: not at all.
    pub wait: Duration,
    /// The pause between polls where the server tells none.
    pub poll: Duration,
    /// Until the head of an answer is there, for each call.
    pub timeout: Duration,
    /// Opens a browser for the requesting party, for the sign-in and where the server gathers claims by itself.
    pub browser: Option<Show>,
    /// Hears each step.
    pub observer: Option<Observer>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            application: None,
            requesting_party: RequestingParty::Nobody,
            issuer: None,
            discovery: None,
            allow_insecure: false,
            wait: Duration::ZERO,
            poll: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            browser: None,
            observer: None,
        }
    }
}

/// The client application as the authorization server knows it.
#[derive(Clone, Debug)]
pub struct Application {
    /// Client id.
    pub id: String,
    /// Client secret; `None` for a public client.
    pub secret: Option<Secret>,
}

/// Where the claims of the requesting party come from.
#[derive(Clone, Debug)]
pub enum RequestingParty {
    /// Nowhere: the ticket is traded without claims.
    Nobody,
    /// The application asks for a token with the user's name and password (RFC 6749, 4.3), for trying and for tests.
    Password {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// A token of the authorization server that the user has already.
    Token(Secret),
    /// The user signs in with a browser: authorization code with PKCE on a loopback redirect (RFC 8252).
    Browser,
}

/// What to fetch.
#[derive(Clone)]
pub struct FetchRequest {
    /// The method.
    pub method: Method,
    /// The absolute address; it is sent as it is.
    pub address: Uri,
    /// Further headers. `Authorization` is the client's own and is replaced.
    pub headers: HeaderMap,
    /// The body, sent each time that the resource is asked.
    pub body: Bytes,
    /// An RPT from an earlier time: asked with at first, and upgraded if it does not do (UMA 2.0 Grant, 3.3.1).
    pub rpt: Option<Rpt>,
    /// The issuer that gave `rpt`, where it is known: no other is asked to upgrade it.
    pub rpt_issuer: Option<String>,
}

impl FetchRequest {
    /// A request without body or further headers.
    #[must_use]
    pub fn new(method: Method, address: Uri) -> Self {
        Self { method, address, headers: HeaderMap::new(), body: Bytes::new(), rpt: None, rpt_issuer: None }
    }

    /// `GET` of this address.
    #[must_use]
    pub fn get(address: Uri) -> Self {
        Self::new(Method::GET, address)
    }
}

impl std::fmt::Debug for FetchRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers, query and body are the user's own and may hold secrets.
        write!(f, "FetchRequest({} {})", self.method, address::shown(&self.address))
    }
}

/// The end of a fetch: the resource's answer, whatever its status, and the way there.
#[derive(Debug)]
pub struct Fetched {
    /// The answer; its body is still on its way.
    pub response: Response<Streamed>,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// The RPT that the resource was asked with last.
    pub rpt: Option<Rpt>,
    /// Whose RPT that is, if it was fetched on this way.
    pub granted: Option<Granted>,
}

/// What is known of a new RPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The issuer that gave it.
    pub issuer: String,
    /// When it ends, as far as the server or the token itself tells; no check of ours, only a reason not to show it in vain.
    pub expires: Option<Timestamp>,
}

/// What the resource said.
#[derive(Debug)]
pub enum Asked {
    /// An answer that is no UMA challenge.
    Answer(Response<Streamed>),
    /// A UMA challenge: there is a ticket to trade.
    Challenge(StatusCode, UmaChallenge),
}

/// The requesting party's client. Keeps nothing between fetches.
#[derive(Clone)]
pub struct Client {
    options: ClientOptions,
    http: HttpClient,
}

impl Client {
    /// A client that makes its calls with `http`.
    #[must_use]
    pub const fn new(options: ClientOptions, http: HttpClient) -> Self {
        Self { options, http }
    }

    /// Fetches the content, trading a ticket where the resource asks for it. The answer of the resource is returned whatever its status.
    ///
    /// # Errors
    /// See [`FetchError`]: nobody answers, the server refuses, the request was submitted to the owner, or an address must not be asked.
    pub async fn fetch(&self, request: &FetchRequest) -> Result<Fetched, FetchError> {
        walk::Walk::new(self, request).fetch().await
    }

    /// Asks the resource once, with `rpt` or without a token.
    ///
    /// # Errors
    /// When the address must not be asked or gives no answer.
    pub async fn ask(&self, request: &FetchRequest, rpt: Option<&Rpt>) -> Result<Asked, FetchError> {
        self.check(&request.address)?;
        let mut message = Request::new(request.body.clone());
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = request.address.clone();
        *message.headers_mut() = request.headers.clone();
        message.headers_mut().remove(AUTHORIZATION);
        if let Some(rpt) = rpt {
            message.headers_mut().insert(AUTHORIZATION, bearer(&rpt.0)?);
        }
        let mut response = self.http.open(message, self.deadline()).await.map_err(FetchError::Resource)?;
        let challenges = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && response.headers().contains_key(WWW_AUTHENTICATE);
        let challenge = if challenges { self.challenge(&mut response).await? } else { None };
        match challenge {
            Some(challenge) => {
                let status = response.status();
                // Read to the end so that the connection can be used again; what it says is for people.
                let _ = response.into_body().bytes(ANSWER, self.deadline()).await;
                Ok(Asked::Challenge(status, challenge))
            }
            None => Ok(Asked::Answer(response)),
        }
    }

    /// The challenge of an answer: in its header, or with the ticket in its body, which is left for whoever reads it if there is none.
    async fn challenge(&self, response: &mut Response<Streamed>) -> Result<Option<UmaChallenge>, FetchError> {
        if let Some(challenge) = UmaChallenge::of(response.headers()) {
            return Ok(Some(challenge));
        }
        if !challenges_of(response.headers()).iter().any(|challenge| challenge.is("UMA")) {
            return Ok(None);
        }
        let deadline = self.deadline();
        let read = Bytes::copy_from_slice(response.body_mut().look_ahead(ANSWER, deadline).await.map_err(FetchError::Resource)?);
        Ok(UmaChallenge::with_body(response.headers(), &read))
    }

    /// Whether an RPT of this issuer may be used: where only one is trusted, it is that one's.
    fn trusts(&self, issuer: &str) -> bool {
        self.options.issuer.as_deref().is_none_or(|trusted| trusted == issuer)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    fn check(&self, uri: &Uri) -> Result<(), AddressError> {
        address::check(uri, self.options.allow_insecure)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// `Authorization: Bearer …`, marked as sensitive.
fn bearer(token: &Secret) -> Result<HeaderValue, FetchError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| FetchError::TokenUnusable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether the resource says that its authorization server is out of reach (UMA 2.0 Grant, 3.2.2).
fn says_unreachable(headers: &HeaderMap) -> bool {
    let named = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("UMA Authorization Server Unreachable"));
    headers.get_all(WARNING).iter().any(named)
}
