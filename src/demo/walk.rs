//! The ten steps: what the owner, Bob, Carol and the application do, through the real listener with the real client.
//!
//! Each step prints one line as it ends and is counted as good only if everything about it was as it should be: status, calls at the authorization server,
//! bytes. Of tickets only the first characters are shown.

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};

use super::authorization_server::Endpoint;
use super::content_server::BEACH;
use super::world::{APPLICATION, MAX_AGE, World};
use crate::client::{Application, Asked, AuthorizationServer, ClaimsToken, Client, ClientOptions, FetchError, FetchRequest, RequestingParty, Traded};
use crate::http_client::{HttpClient, HttpClientError, HttpError, TlsFiles};
use crate::secret::Secret;
use crate::uma::{Rpt, UmaChallenge};

/// How long any call may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the last step may take beyond `max_age`: the introspection itself.
const SLACK: Duration = Duration::from_millis(300);
const BODY: usize = 1 << 20;

/// The walk, and what was had on the way.
pub(super) struct Walk<'a> {
    world: &'a World,
    http: HttpClient,
    bob: Client,
    carol: Client,
    link: Uri,
    challenge: Option<UmaChallenge>,
    server: Option<AuthorizationServer>,
    claims: Option<ClaimsToken>,
    rpt: Option<Rpt>,
    seventh: Option<String>,
}

/// How a step ended.
struct Outcome {
    status: String,
    detail: String,
    good: bool,
}

/// Why a step could not be taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("an earlier step gave nothing to go on with")]
    Nothing,
    #[error("not an address")]
    Address(#[from] http::uri::InvalidUri),
    #[error("not a request")]
    Request(#[from] http::Error),
}

impl<'a> Walk<'a> {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn new(world: &'a World) -> Result<Self, HttpClientError> {
        let http = HttpClient::new(&TlsFiles::default())?;
        let client = |user: &str| {
            let application = Some(Application { id: APPLICATION.0.into(), secret: Some(Secret::from(APPLICATION.1)) });
            let requesting_party = RequestingParty::Password { username: user.into(), password: Secret::from(user) };
            Client::new(ClientOptions { application, requesting_party, timeout: PATIENCE, ..ClientOptions::default() }, http.clone())
        };
        let link = world.link().parse().unwrap_or_default();
        let (bob, carol) = (client("bob"), client("carol"));
        Ok(Self { world, bob, carol, http, link, challenge: None, server: None, claims: None, rpt: None, seventh: None })
    }

    /// Takes every step and tells it; gives how many went as they should. Where `tell` says that nobody listens, no further step is taken.
    ///
    /// # Errors
    /// What `tell` fails with.
    pub async fn all<E>(&mut self, mut tell: impl FnMut(&str) -> Result<bool, E>) -> Result<usize, E> {
        let mut good = 0;
        for number in 1..=10 {
            let (what, outcome) = match number {
                1 => ("Alice shares vacation with Bob: view", self.alice_shares()),
                2 => ("Bob opens the link, no token", self.bob_opens_the_link().await),
                3 => ("his application signs him in (openid)", self.bob_signs_in().await),
                4 => ("and trades ticket + claims token", self.bob_trades().await),
                5 => ("Bob asks again with the RPT", self.bob_asks_again().await),
                6 => ("and again", self.and_again().await),
                7 => ("Bob edits", self.bob_edits().await),
                8 => ("Carol trades her ticket", self.carol_trades().await),
                9 => ("Carol asks the content server directly", self.carol_goes_around().await),
                _ => ("Alice withdraws; Bob asks", self.alice_withdraws().await),
            };
            let outcome = outcome.unwrap_or_else(|failure| Outcome::new("", chain(&failure), false));
            good += usize::from(outcome.good);
            if !tell(&line(number, what, &outcome))? {
                break;
            }
        }
        Ok(good)
    }

    /// The id of the request that was refused in step 7.
    pub fn request_of_step_seven(&self) -> Option<&str> {
        self.seventh.as_deref()
    }

    fn alice_shares(&self) -> Result<Outcome, Failure> {
        let shared = self.world.owners().share("alice", "vacation", "bob", &["view"]);
        Ok(Outcome::new("link", self.link.to_string(), shared))
    }

    async fn bob_opens_the_link(&mut self) -> Result<Outcome, Failure> {
        match self.bob.ask(&FetchRequest::get(self.link.clone()), None).await? {
            Asked::Challenge(status, challenge) => {
                let detail = format!("ticket={}  as_uri={}", shortened(&challenge.ticket.0), challenge.as_uri);
                let good = status == StatusCode::UNAUTHORIZED && challenge.as_uri == self.world.addresses.authorization_server && challenge.error.is_none();
                self.challenge = Some(challenge);
                Ok(Outcome::new(status.as_str(), detail, good))
            }
            Asked::Answer(response) => Ok(Outcome::new(response.status().as_str(), "no challenge".into(), false)),
        }
    }

    async fn bob_signs_in(&mut self) -> Result<Outcome, Failure> {
        let as_uri = self.challenge.as_ref().ok_or(Failure::Nothing)?.as_uri.clone();
        let server = self.bob.discover(&self.link, &as_uri).await?;
        self.claims = self.bob.claims_token(&server).await?;
        self.server = Some(server);
        Ok(Outcome::new("200", "claims token".into(), self.claims.is_some()))
    }

    async fn bob_trades(&mut self) -> Result<Outcome, Failure> {
        let (Some(challenge), Some(server)) = (self.challenge.take(), &self.server) else { return Err(Failure::Nothing) };
        let (status, traded) = self.bob.trade(server, &challenge.ticket, self.claims.as_ref(), None).await?;
        let Traded::Rpt { rpt, expires_in, .. } = traded else { return Ok(Outcome::new(status.as_str(), traded.word().into(), false)) };
        let permissions = self.world.owners().permissions(rpt.0.expose());
        let words: Vec<String> = permissions.iter().map(|(name, scopes)| format!("{name} [{}]", scopes.join(", "))).collect();
        let life = expires_in.map_or_else(String::new, |life| format!(", {} min", life.as_secs() / 60));
        self.rpt = Some(rpt);
        Ok(Outcome::new(status.as_str(), format!("RPT: {}{life}", words.join(", ")), words == ["vacation [view]"]))
    }

    async fn bob_asks_again(&mut self) -> Result<Outcome, Failure> {
        let before = self.world.owners().calls(Endpoint::Introspection);
        let (status, bytes) = self.bytes_with_rpt().await?;
        let calls = self.world.owners().calls(Endpoint::Introspection) - before;
        let detail = format!("{} bytes    {calls} introspection{}", grouped(bytes), if calls == 1 { "" } else { "s" });
        Ok(Outcome::new(status.as_str(), detail, status == StatusCode::OK && bytes == BEACH && calls == 1))
    }

    async fn and_again(&mut self) -> Result<Outcome, Failure> {
        let before = self.world.owners().all_calls();
        let (status, bytes) = self.bytes_with_rpt().await?;
        let calls = self.world.owners().all_calls() - before;
        let detail = format!("{} bytes    {calls} calls to the authorization server", grouped(bytes));
        Ok(Outcome::new(status.as_str(), detail, status == StatusCode::OK && bytes == BEACH && calls == 0))
    }

    async fn bob_edits(&mut self) -> Result<Outcome, Failure> {
        let rpt = self.rpt.as_ref().ok_or(Failure::Nothing)?;
        let request = Request::put(self.link.clone()).header(AUTHORIZATION, format!("Bearer {}", rpt.0.expose())).body(Bytes::from_static(b"other bytes"))?;
        let response = self.send(request).await?;
        self.seventh = header(response.headers(), "x-request-id");
        let error = UmaChallenge::of(response.headers()).and_then(|challenge| challenge.error).unwrap_or_default();
        let good = response.status() == StatusCode::UNAUTHORIZED && error == "insufficient_scope";
        Ok(Outcome::new(response.status().as_str(), error, good))
    }

    async fn carol_trades(&self) -> Result<Outcome, Failure> {
        let Asked::Challenge(_, challenge) = self.carol.ask(&FetchRequest::get(self.link.clone()), None).await? else { return Err(Failure::Nothing) };
        let server = self.carol.discover(&self.link, &challenge.as_uri).await?;
        let claims = self.carol.claims_token(&server).await?;
        let (status, traded) = self.carol.trade(&server, &challenge.ticket, claims.as_ref(), None).await?;
        Ok(Outcome::new(status.as_str(), traded.word().into(), status == StatusCode::FORBIDDEN && matches!(traded, Traded::Denied)))
    }

    async fn carol_goes_around(&self) -> Result<Outcome, Failure> {
        let address: Uri = format!("{}{}", self.world.addresses.content_server, self.link.path()).parse()?;
        let response = self.send(Request::get(address).body(Bytes::new())?).await?;
        let good = response.status() == StatusCode::UNAUTHORIZED;
        Ok(Outcome::new(response.status().as_str(), "its guard knows only the gateway".into(), good))
    }

    async fn alice_withdraws(&self) -> Result<Outcome, Failure> {
        let rpt = self.rpt.as_ref().ok_or(Failure::Nothing)?;
        let withdrawn = self.world.owners().withdraw("alice", "vacation", "bob");
        let since = Instant::now();
        let limit = MAX_AGE + SLACK;
        loop {
            let asked = self.bob.ask(&FetchRequest::get(self.link.clone()), Some(rpt)).await?;
            let took = since.elapsed();
            let (status, refused) = match asked {
                Asked::Challenge(status, _) => (status, true),
                Asked::Answer(response) => (response.status(), response.status() != StatusCode::OK),
            };
            if refused || took > limit {
                let detail = format!("within {} s (max_age), after {:.1} s", MAX_AGE.as_secs(), took.as_secs_f32());
                return Ok(Outcome::new(status.as_str(), detail, withdrawn && status == StatusCode::UNAUTHORIZED && took <= limit));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks with the RPT and reads the content to its end.
    async fn bytes_with_rpt(&self) -> Result<(StatusCode, usize), Failure> {
        let rpt = self.rpt.as_ref().ok_or(Failure::Nothing)?;
        match self.bob.ask(&FetchRequest::get(self.link.clone()), Some(rpt)).await? {
            Asked::Challenge(status, _) => Ok((status, 0)),
            Asked::Answer(response) => {
                let status = response.status();
                let content = response.into_body().bytes(BODY, deadline()).await?;
                Ok((status, content.len()))
            }
        }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, Failure> {
        Ok(self.http.send(request, BODY, deadline()).await?)
    }
}

impl Outcome {
    fn new(status: &str, detail: String, good: bool) -> Self {
        Self { status: status.to_owned(), detail, good }
    }
}

fn line(number: usize, what: &str, outcome: &Outcome) -> String {
    let mark = if outcome.good { "" } else { "   ← not as it should be" };
    format!("{number:>2} {what:<41}{:<5}{}{mark}", outcome.status, outcome.detail)
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + PATIENCE
}

fn header(headers: &HeaderMap<HeaderValue>, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The first four characters of a secret.
fn shortened(secret: &Secret) -> String {
    secret.expose().chars().take(4).chain(['…']).collect()
}

/// A number with commas between its thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_groups() {
        assert_eq!(["7", "999", "48,213", "1,000,000"], [7, 999, 48_213, 1_000_000].map(grouped)[..]);
    }

    #[test]
    fn a_step_that_went_wrong_says_so() {
        assert_eq!(
            line(7, "Bob edits", &Outcome::new("204", "no content".into(), false)),
            " 7 Bob edits                                204  no content   ← not as it should be"
        );
    }
}
