//! The way through the user's browser and back to a port of this machine: signing in (RFC 8252, RFC 7636) and claims gathering (UMA 2.0 Grant, 3.3.2).
//!
//! The port is open only while somebody is awaited, on loopback, and takes one return: the one with our own `state`. Nothing that comes back is logged.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::Url;

use super::step::excerpt;
use super::{AuthorizationServer, Client, FetchError, address};
use crate::secret::{Secret, random_text, s256};
use crate::uma::PermissionTicket;

/// How long the user has.
const PATIENCE: Duration = Duration::from_mins(5);
const CALLBACK: &str = "/callback";

/// Why the way through the browser led nowhere.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// No port for the way back, or no random numbers.
    #[error("no port of this machine can be opened for the browser's return")]
    NoPort(#[source] io::Error),
    /// The operating system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The user did not come back.
    #[error("nobody came back from the browser within {} minutes", PATIENCE.as_secs() / 60)]
    NobodyCame,
    /// A return that does not belong to this request.
    #[error("the browser came back with another `state` than it was sent with: somebody else's return, refused")]
    WrongState,
    /// A return from another server (RFC 9207).
    #[error("the browser came back from another authorization server than it was sent to: refused")]
    WrongIssuer,
    /// The server or the user refused.
    #[error("the authorization server sent the browser back with `{0}`")]
    Refused(String),
    /// What should have come back did not.
    #[error("the browser came back without `{0}`")]
    Lacks(&'static str),
    /// The address to open is none.
    #[error("the authorization server names no usable address for the browser")]
    NoAddress,
}

/// What is needed to fetch the token after the user has signed in.
pub(super) struct SignedIn {
    pub(super) code: Secret,
    pub(super) redirect: String,
    pub(super) verifier: Secret,
}

impl Client {
    /// Sends the user to sign in, and waits for the code.
    pub(super) async fn sign_in(&self, server: &AuthorizationServer) -> Result<SignedIn, FetchError> {
        let show = self.options.browser.as_ref().ok_or(FetchError::NeedsBrowser)?;
        let application = self.options.application.as_ref().ok_or(FetchError::NeedsApplication)?;
        let endpoint = server.authorization_endpoint.as_ref().ok_or(BrowserError::NoAddress)?;
        let mut url = Url::parse(&endpoint.to_string()).map_err(|_| BrowserError::NoAddress)?;
        let way_back = WayBack::open().await?;
        let (state, verifier) = (random()?, random()?);
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &application.id),
            ("redirect_uri", &way_back.address),
            ("scope", server.scope()),
            ("state", state.expose()),
            ("code_challenge", &s256(verifier.expose())),
            ("code_challenge_method", "S256"),
        ]);
        show(url.as_str());
        let returned = way_back.wait(&state).await?;
        if returned.value("iss").is_some_and(|issuer| issuer != server.issuer) {
            return Err(BrowserError::WrongIssuer.into());
        }
        let code = returned.value("code").ok_or(BrowserError::Lacks("code"))?.into();
        Ok(SignedIn { code, redirect: way_back.address, verifier })
    }

    /// Sends the user to the server's own questions, and waits for the new ticket.
    pub(super) async fn gather(&self, server: &AuthorizationServer, redirect: &str, ticket: &PermissionTicket) -> Result<PermissionTicket, FetchError> {
        let show = self.options.browser.as_ref().ok_or(FetchError::NeedsBrowser)?;
        let application = self.options.application.as_ref().ok_or(FetchError::NeedsApplication)?;
        let uri = redirect.parse().map_err(|_| BrowserError::NoAddress)?;
        self.check(&uri)?;
        address::check_no_downgrade(&server.token_endpoint, &uri, self.options.allow_insecure)?;
        let mut url = Url::parse(redirect).map_err(|_| BrowserError::NoAddress)?;
        let way_back = WayBack::open().await?;
        let state = random()?;
        url.query_pairs_mut().extend_pairs([
            ("client_id", application.id.as_str()),
            ("ticket", ticket.0.expose()),
            ("claims_redirect_uri", &way_back.address),
            ("state", state.expose()),
        ]);
        show(url.as_str());
        let returned = way_back.wait(&state).await?;
        let ticket = returned.value("ticket").ok_or(BrowserError::Lacks("ticket"))?;
        Ok(PermissionTicket(ticket.into()))
    }
}

/// 256 bits as text that fits anywhere.
fn random() -> Result<Secret, BrowserError> {
    random_text::<32>().map(Secret::from).ok_or(BrowserError::NoRandomness)
}

/// The parameters that the browser came back with.
#[derive(Clone)]
struct Returned(Vec<(String, String)>);

impl Returned {
    /// A parameter that is there exactly once and not empty.
    fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        values.next().filter(|value| !value.is_empty() && values.next().is_none())
    }
}

/// A port of this machine that the browser is sent back to.
struct WayBack {
    listener: TcpListener,
    address: String,
}

impl WayBack {
    async fn open() -> Result<Self, BrowserError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(BrowserError::NoPort)?;
        let port = listener.local_addr().map_err(BrowserError::NoPort)?.port();
        Ok(Self { listener, address: format!("http://127.0.0.1:{port}{CALLBACK}") })
    }

    /// Waits for the return with `state`. Browsers open connections on suspicion and ask for icons, so each connection has a task of its own.
    async fn wait(&self, state: &Secret) -> Result<Returned, BrowserError> {
        let (sender, mut returns) = mpsc::channel(1);
        let mut connections = JoinSet::new();
        let accept = async {
            loop {
                tokio::select! {
                    connection = self.listener.accept() => {
                        if let Ok((stream, _)) = connection {
                            connections.spawn(serve(stream, state.clone(), sender.clone()));
                        }
                    }
                    returned = returns.recv() => return returned.unwrap_or(Err(BrowserError::NobodyCame)),
                }
            }
        };
        timeout(PATIENCE, accept).await.unwrap_or(Err(BrowserError::NobodyCame))
    }
}

/// Answers one connection; reports a return only after the browser has its page.
async fn serve(stream: TcpStream, state: Secret, sender: mpsc::Sender<Result<Returned, BrowserError>>) {
    let outcome = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let (response, returned) = answer(&request, &state);
        if returned.is_some() {
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = returned;
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new().timer(TokioTimer::new()).keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // However the connection ends, what came in on it counts.
    let _ = connection.await;
    let returned = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(returned) = returned {
        let _ = sender.send(returned).await;
    }
}

fn answer(request: &Request<Incoming>, state: &Secret) -> (Response<Full<Bytes>>, Option<Result<Returned, BrowserError>>) {
    if request.uri().path() != CALLBACK || request.method() != Method::GET {
        return (page(StatusCode::NOT_FOUND, "Nothing here."), None);
    }
    let query = request.uri().query().unwrap_or_default();
    let returned = Returned(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
    if !returned.value("state").is_some_and(|text| state.matches(text)) {
        return (page(StatusCode::BAD_REQUEST, "This return does not belong to the request that was sent."), Some(Err(BrowserError::WrongState)));
    }
    if let Some(error) = returned.value("error") {
        let refused = BrowserError::Refused(excerpt(error));
        return (page(StatusCode::OK, "Access was refused. You can close this window."), Some(Err(refused)));
    }
    (page(StatusCode::OK, "Done. You can close this window and go back to the terminal."), Some(Ok(returned)))
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let html = format!("<!doctype html><meta charset=\"utf-8\"><title>uma-gateway fetch</title><p>{text}</p>\n");
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'"),
        ("referrer-policy", "no-referrer"),
    ] {
        response.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    response
}
