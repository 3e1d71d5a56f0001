//! Tokens by client credentials (RFC 6749, 4.4) for upstreams that want one.
//!
//! [`keep`] runs on the control thread and renews a [`Token`] before its end; workers read the token without a lock. A request that finds none waits
//! within its budget while one is being asked for, and is refused when the last attempt failed. Nothing here lets a request go without.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::authorization_server::{ClientCredentials, disbelieves_client};
use crate::http_client::{HttpClient, HttpError, form};
use crate::secret::Rotating;
use crate::telemetry::{Dependency, Health};
use crate::uma::Timestamp;

/// Bytes of a token answer.
const MOST: usize = 64 * 1024;
/// For one attempt.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Life of a token whose answer does not tell it.
const UNTOLD: Duration = Duration::from_secs(300);
/// A token is renewed when less than this, or less than a fifth of its life where that is shorter, is left.
const EARLY: Duration = Duration::from_secs(60);
/// Between two attempts: an upstream that refuses every token must not make us hammer the server.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A token that is kept ready: `Authorization: Bearer …`, marked sensitive.
pub struct Token {
    current: ArcSwapOption<HeaderValue>,
    progress: watch::Sender<Progress>,
    refused: Notify,
}

/// What the keeper is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Asking,
    Held,
    Failed,
}

impl Default for Token {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), progress: watch::Sender::new(Progress::Asking), refused: Notify::new() }
    }
}

impl Token {
    /// The token, if there is one now.
    #[cfg(test)]
    #[must_use]
    pub fn current(&self) -> Option<Arc<HeaderValue>> {
        self.current.load_full()
    }

    /// The token; while the keeper asks for one, waits until `deadline`.
    pub async fn obtain(&self, deadline: Instant) -> Option<Arc<HeaderValue>> {
        self.wait(None, deadline).await
    }

    /// Another token than this one, which an upstream refused; waits until `deadline`.
    pub async fn other_than(&self, refused: &Arc<HeaderValue>, deadline: Instant) -> Option<Arc<HeaderValue>> {
        self.wait(Some(refused), deadline).await
    }

    /// Says that an upstream refused this token.
    pub fn refuse(&self, refused: &Arc<HeaderValue>) {
        // Others may have said so before: then it is another token already, or one is being asked for.
        if self.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, refused)) {
            let first = self.progress.send_if_modified(|progress| {
                let held = *progress == Progress::Held;
                if held {
                    *progress = Progress::Asking;
                }
                held
            });
            if first {
                self.refused.notify_one();
            }
        }
    }

    async fn wait(&self, refused: Option<&Arc<HeaderValue>>, deadline: Instant) -> Option<Arc<HeaderValue>> {
        let usable = || self.current.load_full().filter(|current| refused.is_none_or(|refused| !Arc::ptr_eq(current, refused)));
        if let Some(current) = usable() {
            return Some(current);
        }
        let mut progress = self.progress.subscribe();
        let settled = timeout_at(deadline, progress.wait_for(|progress| *progress != Progress::Asking)).await;
        settled.ok().and_then(Result::ok).map(drop).and_then(|()| usable())
    }

    /// Has another token asked for, though this one is still good: the client's secret has changed.
    pub fn ask_anew(&self) {
        self.refused.notify_one();
    }

    pub(super) fn publish(&self, value: Option<HeaderValue>, progress: Progress) {
        self.current.store(value.map(Arc::new));
        self.progress.send_replace(progress);
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

/// Where and as whom a token is had.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The upstream's name, for the log and the metric.
    pub upstream: Arc<str>,
    /// The token endpoint.
    pub token_endpoint: Uri,
    /// The client.
    pub client: ClientCredentials,
    /// What for.
    pub scopes: Vec<String>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The server was not reached or gave no answer.
    #[error("the token endpoint did not answer")]
    Http(#[from] HttpError),
    /// It said no.
    #[error("the token endpoint answered {status}{}", look_at.as_ref().map_or_else(String::new, |key| format!("; look at `{key}`")))]
    Refused {
        /// The status.
        status: StatusCode,
        /// Where it refuses the client: the key of the configuration that has what it refused.
        look_at: Option<String>,
    },
    /// No assertion of the client's can be made.
    #[error("the client's assertion cannot be signed")]
    Unsigned,
    /// What it gave is no token answer (RFC 6749, 5.1).
    #[error("the token endpoint's answer is not a bearer token")]
    Malformed,
}

/// Asks for a token once, as a check does: the header that an upstream would get.
///
/// # Errors
/// See [`TokenError`].
pub async fn ask(grant: &Grant, client: &HttpClient) -> Result<HeaderValue, TokenError> {
    let answer = client.send(request(grant)?, MOST, Instant::now() + ATTEMPT).await?;
    read(grant, &answer).map(|(value, _)| value)
}

/// Keeps a token for ever: asks, renews early, and asks again when an upstream refused it. Runs on the control thread.
///
/// What shows who the client is, `who` says; `worked` is told when something new has worked for the first time.
pub async fn keep(token: Arc<Token>, grant: Grant, who: Arc<Rotating<ClientCredentials>>, client: HttpClient, health: Health, worked: impl Fn()) {
    let dependency = health.dependency("proxy_credential", &grant.upstream);
    let send = async |request| client.send(request, MOST, Instant::now() + ATTEMPT).await;
    keep_with(&token, &grant, &dependency, async |grant: &Grant| either(grant, &who, &send, &worked).await).await;
}

/// Asks with the new secret or key, if there is one that has not worked yet, and with the old one if that fails.
async fn either(
    grant: &Grant,
    who: &Rotating<ClientCredentials>,
    send: &impl AsyncFn(Request<Bytes>) -> Result<Response<Bytes>, HttpError>,
    worked: &impl Fn(),
) -> Result<(HeaderValue, Duration, bool), TokenError> {
    let ask = async |client: ClientCredentials| {
        let grant = Grant { client, ..grant.clone() };
        read(&grant, &send(request(&grant)?).await?)
    };
    let Some(next) = who.next() else { return ask(who.held()).await.map(|(value, life)| (value, life, true)) };
    let what = next.proof.what();
    match ask(next.clone()).await {
        Ok((value, life)) => {
            if who.worked(&next) {
                tracing::info!(upstream = &*grant.upstream, "the new client {what} works and is in use");
                worked();
            }
            Ok((value, life, true))
        }
        Err(error) => {
            tracing::warn!(upstream = &*grant.upstream, %error, "the new client {what} does not work yet; the one before stays in use");
            ask(who.held()).await.map(|(value, life)| (value, life, false))
        }
    }
}

/// `ask` gives the token, its life, and whether nothing is left to be tried.
async fn keep_with(token: &Token, grant: &Grant, dependency: &Dependency, ask: impl AsyncFn(&Grant) -> Result<(HeaderValue, Duration, bool), TokenError>) {
    let mut failures: u32 = 0;
    let mut end: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        let pause = match ask(grant).await {
            Ok((value, life, settled)) => {
                dependency.recovered();
                failures = 0;
                end = Some(asked + life);
                token.publish(Some(value), Progress::Held);
                let renewal = life.saturating_sub(EARLY.min(life / 5)).max(PAUSE);
                if settled { renewal } else { renewal.min(LONGEST_PAUSE) }
            }
            Err(error) => {
                dependency.failed(&error);
                failures = failures.saturating_add(1);
                token.progress.send_replace(Progress::Failed);
                PAUSE.saturating_mul(1 << failures.min(6).saturating_sub(1)).min(LONGEST_PAUSE)
            }
        };
        rest(token, asked, pause, &mut end).await;
    }
}

/// Waits until it is time to ask again; a token whose end comes meanwhile is taken away.
async fn rest(token: &Token, asked: Instant, pause: Duration, end: &mut Option<Instant>) {
    let until = asked + pause;
    loop {
        let over = end.unwrap_or(until).min(until);
        tokio::select! {
            () = token.refused.notified() => return sleep_until(asked + PAUSE).await,
            () = sleep_until(over) => {}
        }
        if end.is_some_and(|end| end <= Instant::now()) {
            *end = None;
            token.publish(None, Progress::Failed);
        }
        if until <= Instant::now() {
            return;
        }
    }
}

fn request(grant: &Grant) -> Result<Request<Bytes>, TokenError> {
    let scope = grant.scopes.join(" ");
    let mut fields = vec![("grant_type", "client_credentials")];
    if !scope.is_empty() {
        fields.push(("scope", &scope));
    }
    let told = grant.client.tell(&form(&fields), Timestamp::now()).ok_or(TokenError::Unsigned)?;
    let mut request = Request::new(told.body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = grant.token_endpoint.clone();
    let headers = request.headers_mut();
    headers.extend(told.authorization.map(|value| (AUTHORIZATION, value)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(request)
}

/// The header and how long it lives.
fn read(grant: &Grant, answer: &Response<Bytes>) -> Result<(HeaderValue, Duration), TokenError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        access_token: String,
        token_type: String,
        expires_in: Option<u64>,
    }
    if answer.status() != StatusCode::OK {
        let key = || format!("upstreams.{}.credentials.oauth2.client.{}", grant.upstream, grant.client.proof.key());
        return Err(TokenError::Refused { status: answer.status(), look_at: disbelieves_client(answer).then(key) });
    }
    // The error of serde_json may quote the token, so it goes no further.
    let answer: Answer = serde_json::from_slice(answer.body()).map_err(|_| TokenError::Malformed)?;
    let b64token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !answer.token_type.eq_ignore_ascii_case("bearer") || answer.access_token.is_empty() || !answer.access_token.bytes().all(b64token) {
        return Err(TokenError::Malformed);
    }
    let mut value = HeaderValue::try_from(["Bearer ", &answer.access_token].concat()).map_err(|_| TokenError::Malformed)?;
    value.set_sensitive(true);
    Ok((value, answer.expires_in.map_or(UNTOLD, Duration::from_secs)))
}

#[cfg(test)]
mod tests;
