//! One authorization server as the control thread knows it: its metadata, its PAT, and the calls that are made of it.
//!
//! Lives on the control thread and is shared there by `Rc`. Each call ends at the deadline that the request brings along. Nothing here caches answers.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::answers::Answers;
use super::config::Config;
use super::discovery::{self, Endpoint, Metadata};
use super::error::AskError;
use super::kept::PatStore;
use super::link::Links;
use super::pat::Pats;
use super::profile::{Introspector, Live, PatOwners};
use super::resources::Resources;
use super::rest::{Rests, Sign};
use super::who::ClientCredentials;
use super::{introspection, json, live};
use crate::http_client::{HttpClient, form};
use crate::secret::Rotating;
use crate::telemetry::{AsEndpoint, AsOutcome, Dependency, Health, Metrics};
use crate::uma::{PermissionTicket, ResourceId, Rpt, Scope};

/// Largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 256 * 1024;
/// Calls to one server that may be under way at once.
pub const CONCURRENT_CALLS: usize = 256;

/// One authorization server.
pub struct Server {
    /// Itself, for what goes on though its callers go away.
    pub(super) me: Weak<Self>,
    pub(super) config: Arc<Config>,
    pub(super) http: RefCell<HttpClient>,
    /// What shows who the client is: as the section has it, until something else is offered.
    pub(super) client: Rotating<ClientCredentials>,
    metadata: RefCell<Option<Rc<Metadata>>>,
    discovering: tokio::sync::Mutex<()>,
    pub(super) registering: tokio::sync::Mutex<()>,
    /// Which of the addresses had the document last.
    found_at: Cell<usize>,
    pub(super) pats: Pats,
    pub(super) kept: PatStore,
    pub(super) links: Links,
    pub(super) health: Health,
    /// What workers see: told whose owners have to consent.
    pub(super) resources: Resources,
    calls: Semaphore,
    rests: Rests,
    metrics: Arc<Metrics>,
    /// Whether it answers.
    reachable: Arc<Dependency>,
    /// Whether its answers can be used.
    pub(super) answers: Answers,
}

/// A call to the protection API: where to, and with whose PAT.
#[derive(Clone, Copy)]
pub(super) struct Protected<'a> {
    pub name: AsEndpoint,
    pub metadata: &'a Metadata,
    pub endpoint: &'a Endpoint,
    /// The owner; absent: the gateway's own client.
    pub owner: Option<&'a str>,
    pub deadline: Instant,
}

/// Why a permission request gave no ticket.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TicketError {
    /// `invalid_resource_id`: the server does not know the resource (any more).
    #[error("the server does not know the resource")]
    InvalidResource,
    /// Another refusal: `invalid_scope`, a 4xx.
    #[error("the server refuses the permission request: {0}")]
    Refused(AskError),
    /// No PAT to ask with.
    #[error(transparent)]
    NoPat(AskError),
    /// No usable answer.
    #[error(transparent)]
    Failed(#[from] AskError),
}

/// What the server said of a token.
#[derive(Clone, Debug)]
pub enum Introspected {
    /// An answer as specified.
    Answer(introspection::Answer),
    /// 400 with a JSON `error`: the token as such is refused.
    TokenRefused,
}

impl Server {
    /// A server that nothing has been asked of yet.
    #[must_use]
    pub fn new(config: Arc<Config>, http: HttpClient, health: &Health, metrics: Arc<Metrics>, kept: PatStore, resources: Resources) -> Rc<Self> {
        let server = Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            reachable: health.dependency("authorization_server", &config.name),
            answers: Answers::new(health, &config.name),
            client: Rotating::new(config.client.clone()),
            pats: Pats::new(&config.owners),
            kept,
            links: Links::default(),
            health: health.clone(),
            resources,
            config,
            http: RefCell::new(http),
            metadata: RefCell::new(None),
            discovering: tokio::sync::Mutex::new(()),
            registering: tokio::sync::Mutex::new(()),
            found_at: Cell::new(0),
            calls: Semaphore::new(CONCURRENT_CALLS),
            rests: Rests::default(),
            metrics,
        });
        // Whether there is a token to use the protection API with is told from the beginning.
        let _ = health.dependency(AsEndpoint::Token.dependency(), &server.config.name);
        if !server.config.owners.is_empty() {
            server.count_consents();
        }
        server
    }

    /// Its section of the configuration.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What discovery has told last.
    #[must_use]
    pub fn known(&self) -> Option<Rc<Metadata>> {
        self.metadata.borrow().clone()
    }

    /// Whether the live decision is asked.
    #[must_use]
    pub fn live_decision(&self) -> bool {
        self.config.live_decision.unwrap_or_else(|| self.known().is_some_and(|metadata| metadata.profile.live_decision.is_some()))
    }

    /// The metadata, fetched if there is none yet. One flight for all who ask.
    ///
    /// # Errors
    /// When there is none and it cannot be had before `deadline`.
    pub async fn metadata(&self, deadline: Instant) -> Result<Rc<Metadata>, AskError> {
        if let Some(metadata) = self.known() {
            return Ok(metadata);
        }
        let _flight = timeout_at(deadline, self.discovering.lock()).await.map_err(|_| AskError::Timeout)?;
        match self.known() {
            Some(metadata) => Ok(metadata),
            None => self.discover(deadline).await,
        }
    }

    /// Fetches the document anew; the last good one stays when that fails.
    ///
    /// # Errors
    /// The document cannot be had, or is not to be used.
    pub async fn discover(&self, deadline: Instant) -> Result<Rc<Metadata>, AskError> {
        let response = self.discovery_answer(deadline).await?;
        self.accept_discovery(&response)
    }

    /// Whatever stands at the address of the discovery document, or the first refusal: a check tells it apart further than [`AskError`] does.
    ///
    /// # Errors
    /// No answer before `deadline`, or the address is not one that may be asked.
    pub async fn discovery_answer(&self, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        let addresses = discovery::addresses(&self.config)?;
        let mut first = None;
        // The old Keycloak answers 500 where it has no document, so whatever is no document leads on; a redirect says that the address is another one.
        let last = self.found_at.get();
        for (at, address) in addresses.iter().enumerate().skip(last).chain(addresses.iter().enumerate().take(last)) {
            let request = Request::builder().method(Method::GET).header(ACCEPT, "application/json");
            let response = self.call(AsEndpoint::Discovery, address, request, Bytes::new(), deadline).await?;
            match response.status() {
                StatusCode::OK => {
                    self.found_at.set(at);
                    return Ok(response);
                }
                status if status.is_redirection() => return Ok(response),
                _ => {}
            }
            first.get_or_insert(response);
        }
        // What is said at the likeliest address says most.
        first.ok_or_else(|| AskError::Discovery("there is no address to ask".into()))
    }

    /// Takes the document out of [`Server::discovery_answer`]; the last good one stays when that fails.
    ///
    /// # Errors
    /// It is none, or not to be used.
    pub fn accept_discovery(&self, response: &Response<Bytes>) -> Result<Rc<Metadata>, AskError> {
        let read = match response.status() {
            StatusCode::OK => discovery::read(&self.config, response.body()).map(Rc::new),
            _ => Err(status(AsEndpoint::Discovery, response)),
        };
        let metadata = self.judged(AsEndpoint::Discovery, response, read)?;
        self.metadata.replace(Some(Rc::clone(&metadata)));
        Ok(metadata)
    }

    /// Asks for a permission ticket (UMA 2.0 Federated Authorization, 4.1). Never shared, never repeated but for a refused PAT.
    ///
    /// # Errors
    /// See [`TicketError`]. `renewed` is told when the PAT was refused and renewed (row C6).
    pub async fn ticket(
        &self,
        owner: Option<&str>,
        resource: &ResourceId,
        scopes: &[Scope],
        deadline: Instant,
        renewed: &mut bool,
    ) -> Result<PermissionTicket, TicketError> {
        let metadata = self.metadata(deadline).await?;
        let body = Bytes::from(metadata.profile.permission_request(resource, scopes).to_string());
        let request = || Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
        let call = Protected { name: AsEndpoint::Permission, metadata: &metadata, endpoint: metadata.permission()?, owner, deadline };
        let response = self.protected(call, request, &body, renewed).await.map_err(|error| match error {
            AskError::NoPat(_) => TicketError::NoPat(error),
            other => TicketError::Failed(other),
        })?;
        let unknown = ["invalid_resource_id", "invalid_resource_set_id", "nonexistent_resource_set_id"];
        if response.status() == StatusCode::BAD_REQUEST && error_member(response.body()).is_some_and(|error| unknown.contains(&&*error)) {
            return Err(TicketError::InvalidResource);
        }
        let read = match response.status() {
            StatusCode::CREATED => ticket(response.body()),
            _ => Err(status(AsEndpoint::Permission, &response)),
        };
        let refusal = match self.judged(AsEndpoint::Permission, &response, read) {
            Ok(ticket) => return Ok(ticket),
            Err(error) => error,
        };
        Err(match response.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::UNAUTHORIZED => TicketError::Failed(refusal),
            code if code.is_client_error() => TicketError::Refused(refusal),
            _ => TicketError::Failed(refusal),
        })
    }

    /// Asks whether a token is active (RFC 7662), with the PAT of `owner` or as the client, as the profile has it.
    ///
    /// # Errors
    /// No usable answer before `deadline`. `renewed` is told when our credential was refused and renewed (row I8).
    pub async fn introspect(&self, owner: Option<&str>, rpt: &Rpt, deadline: Instant, renewed: &mut bool) -> Result<Introspected, AskError> {
        let metadata = self.metadata(deadline).await?;
        let pat_of = (metadata.profile.introspector == Introspector::Pat).then_some(owner);
        self.introspect_with(&metadata, pat_of, rpt, deadline, renewed).await
    }

    /// Asks about a token that somebody shows for themselves, not for a resource. Where a PAT is its owner's, nobody's is asked with, but the gateway asks as
    /// the client that it is.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn introspect_bearer(&self, token: &Rpt, deadline: Instant) -> Result<Introspected, AskError> {
        let metadata = self.metadata(deadline).await?;
        let by_pat = metadata.profile.introspector == Introspector::Pat && metadata.profile.pats != PatOwners::Persons;
        self.introspect_with(&metadata, by_pat.then_some(None), token, deadline, &mut false).await
    }

    /// With the PAT of this owner, or as the client.
    async fn introspect_with(
        &self,
        metadata: &Metadata,
        pat_of: Option<Option<&str>>,
        rpt: &Rpt,
        deadline: Instant,
        renewed: &mut bool,
    ) -> Result<Introspected, AskError> {
        let body = form(&[("token", rpt.0.expose())]);
        let request = || form_request(None);
        let response = if let Some(owner) = pat_of {
            let call = Protected { name: AsEndpoint::Introspection, metadata, endpoint: &metadata.introspection, owner, deadline };
            self.protected(call, request, &body, renewed).await?
        } else {
            self.as_client(AsEndpoint::Introspection, &metadata.introspection, body, deadline).await?
        };
        let read = match response.status() {
            StatusCode::OK => introspection::read(metadata.profile, response.body(), rpt).map(Introspected::Answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if pat_of.is_none() => Err(self.client_refused(AsEndpoint::Introspection, &response)),
            StatusCode::BAD_REQUEST => match error_member(response.body()).as_deref() {
                // These speak of us and not of the token (RFC 6749, 5.2).
                Some("invalid_client" | "unauthorized_client") => Err(self.client_refused(AsEndpoint::Introspection, &response)),
                Some(_) => Ok(Introspected::TokenRefused),
                None => Err(status(AsEndpoint::Introspection, &response)),
            },
            _ => Err(status(AsEndpoint::Introspection, &response)),
        };
        self.judged(AsEndpoint::Introspection, &response, read)
    }

    /// Asks what is granted now to the bearer of `rpt` on `resource`; `None`: nothing.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn granted_now(&self, rpt: &Rpt, resource: &ResourceId, deadline: Instant) -> Result<Option<Vec<Scope>>, AskError> {
        let metadata = self.metadata(deadline).await?;
        if metadata.profile.live_decision == Some(Live::Entitlement) {
            let request = live::entitlement(rpt)?;
            let response = self.call(AsEndpoint::Decision, &metadata.decision, request, live::entitlement_body(resource), deadline).await?;
            return self.judged(AsEndpoint::Decision, &response, live::read_entitlement(metadata.profile, &response, resource));
        }
        let body = live::request(&self.config.client.id, rpt, resource);
        let response = self.as_client(AsEndpoint::Decision, &metadata.decision, body, deadline).await?;
        let read = match live::read(&response, resource) {
            Err(AskError::CredentialRefused { .. }) => Err(self.client_refused(AsEndpoint::Decision, &response)),
            read => read,
        };
        self.judged(AsEndpoint::Decision, &response, read)
    }

    /// A call to the protection API: with the PAT, once more with a new one where it is refused.
    pub(super) async fn protected(
        &self,
        call: Protected<'_>,
        request: impl Fn() -> http::request::Builder,
        body: &Bytes,
        renewed: &mut bool,
    ) -> Result<Response<Bytes>, AskError> {
        let response = self.with_pat(call, request, body, renewed).await?;
        self.hear(call.name, call.owner, &response);
        Ok(response)
    }

    async fn with_pat(
        &self,
        call: Protected<'_>,
        request: impl Fn() -> http::request::Builder,
        body: &Bytes,
        renewed: &mut bool,
    ) -> Result<Response<Bytes>, AskError> {
        let Protected { name, metadata, endpoint, owner, deadline } = call;
        let pat = self.pat(owner, deadline).await.map_err(|error| AskError::NoPat(Arc::new(error)))?;
        let response = self.call(name, endpoint, request().header(AUTHORIZATION, pat.header()), body.clone(), deadline).await?;
        // RFC 7662, 2.3: both statuses speak of our credential. Elsewhere 403 may be a refusal of what is asked.
        let refused = |response: &Response<Bytes>| {
            metadata.profile.refuses_pat(response.status(), error_member(response.body()).as_deref())
                || (name == AsEndpoint::Introspection && response.status() == StatusCode::FORBIDDEN)
        };
        if !refused(&response) {
            return Ok(response);
        }
        *renewed = true;
        let pat = self.renew_pat(owner, &pat, deadline).await.map_err(|error| AskError::NoPat(Arc::new(error)))?;
        let response = self.call(name, endpoint, request().header(AUTHORIZATION, pat.header()), body.clone(), deadline).await?;
        if refused(&response) {
            self.answers.bad(AsEndpoint::Token, format_args!("{}: the protection API access token is refused, a new one too", name.label()));
            return Err(AskError::CredentialRefused { endpoint: name.label(), look_at: None });
        }
        Ok(response)
    }

    /// One call: bounded in number and time, counted, and remembered as the server's last sign of life. Whoever reads an answer that says that all is well
    /// counts it ([`Server::judged`]).
    pub(super) async fn call(
        &self,
        name: AsEndpoint,
        endpoint: &Endpoint,
        request: http::request::Builder,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Bytes>, AskError> {
        let _permit = self.calls.try_acquire().map_err(|_| AskError::Busy)?;
        if self.rests.spares(name) {
            return Err(AskError::Resting);
        }
        let request = request
            .uri(endpoint.uri.clone())
            .header(HOST, endpoint.host.clone())
            .body(body)
            .map_err(|_| AskError::unusable(name.label(), "the request cannot be written"))?;
        let started = Instant::now();
        let http = self.http.borrow().clone();
        let result = http.send(request, ANSWER_LIMIT, deadline).await.map_err(AskError::from);
        let failed = match &result {
            Ok(response) => response.status().is_server_error().then(|| status(name, response).to_string()),
            Err(error) => Some(error.to_string()),
        };
        self.metrics.authorization_server_took(name, started.elapsed());
        if let Some(outcome) = outcome(&result) {
            self.metrics.authorization_server_answered(name, outcome);
        }
        self.rests.saw(name, Sign::of(&result, deadline.saturating_duration_since(started) >= self.config.timeout / 2));
        match failed {
            None => self.reachable.recovered(),
            Some(reason) => self.reachable.failed(format_args!("{}: {reason}", name.label())),
        }
        result
    }

    /// The metrics that calls are counted in.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

pub(super) fn form_request(authorization: Option<HeaderValue>) -> http::request::Builder {
    let request = Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/x-www-form-urlencoded").header(ACCEPT, "application/json");
    match authorization {
        Some(value) => request.header(AUTHORIZATION, value),
        None => request,
    }
}

/// `None`: it depends on what the answer says.
fn outcome(result: &Result<Response<Bytes>, AskError>) -> Option<AsOutcome> {
    Some(match result {
        Ok(response) => match response.status().as_u16() {
            200..=299 => return None,
            401 => AsOutcome::Unauthorized,
            429 => AsOutcome::Failed,
            400..=499 => AsOutcome::Refused,
            _ => AsOutcome::Failed,
        },
        Err(AskError::Timeout) => AsOutcome::Timeout,
        Err(_) => AsOutcome::Unreachable,
    })
}

/// What an unexpected status becomes; the `error` member is kept where it is made of words, as the codes of RFC 6749 are: a server that puts a token there is
/// not quoted.
pub(super) fn status(endpoint: AsEndpoint, response: &Response<Bytes>) -> AskError {
    let error = error_member(response.body()).filter(|error| error.split(['_', '-', '.', ' ']).all(is_word));
    AskError::Status { endpoint: endpoint.label(), status: response.status(), error: error.map(Arc::from), look_at: None }
}

/// Whether a text without separators is a word or a status, as `invalid`, `clientId`, `HTTP`, `401`.
fn is_word(text: &str) -> bool {
    let capitals = text.bytes().filter(u8::is_ascii_uppercase).count();
    match text.len() {
        0..=3 => text.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        4..=20 => text.bytes().all(|byte| byte.is_ascii_alphabetic()) && (capitals <= 2 || (capitals == text.len() && capitals <= 8)),
        _ => false,
    }
}

/// The `error` member of an error answer, if it has the form of an error code (RFC 6749, 5.2).
pub(super) fn error_member(body: &[u8]) -> Option<String> {
    let document = json::parse(body).ok()?;
    let error = document.get("error")?.as_str()?;
    let plain = error.len() <= 64 && error.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b' '));
    plain.then(|| error.to_owned())
}

fn ticket(body: &[u8]) -> Result<PermissionTicket, AskError> {
    let unusable = |why: &'static str| AskError::unusable(AsEndpoint::Permission.label(), why);
    let document = json::parse(body).map_err(|error| AskError::no_json(AsEndpoint::Permission.label(), &error))?;
    let ticket = document.get("ticket").and_then(Value::as_str).ok_or_else(|| unusable("it has no ticket"))?;
    // A ticket that no header can carry is none (RFC 9110, 11.2).
    if ticket.is_empty() || !ticket.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
        return Err(unusable("its ticket has octets that a header cannot carry"));
    }
    Ok(PermissionTicket(ticket.into()))
}
