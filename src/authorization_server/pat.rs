//! Protection API access tokens: that of the gateway's own client, and one for each owner who has one, renewed early, never lost to a passing failure.
//!
//! A server may copy the token's end into the tickets that it issues, so a token near its end is renewed before it is used. Where an owner's token is had from,
//! only [`PatSource`] knows; it is refreshed where the server gave a refresh token.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::config::{Owner, PatSource};
use super::discovery::Metadata;
use super::error::AskError;
use super::json;
use super::profile::{PatOwners, Profile};
use super::server::{Server, error_member, status};
use crate::http_client::form;
use crate::secret::Secret;
use crate::telemetry::AsEndpoint;
use crate::uma::{Pat, Timestamp};

/// A token is renewed when less than this is left of it, or less than a fifth of its life where that is shorter.
const EARLY: Duration = Duration::from_secs(60);
/// What a token without `expires_in` is trusted for.
const UNTOLD_LIFE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);
/// How long a refused password is not tried again: servers lock accounts after a few failures.
const REFUSED: Duration = Duration::from_secs(300);

/// The tokens of one server.
pub(super) struct Pats {
    own: Slot,
    owners: BTreeMap<Arc<str>, Slot>,
}

/// The place of one token.
struct Slot {
    /// `None`: the client's own credentials.
    source: RefCell<Option<PatSource>>,
    current: RefCell<Option<Rc<Held>>>,
    refresh: RefCell<Option<Secret>>,
    flight: tokio::sync::Mutex<()>,
    /// When a renewal failed last: while the old token is good, one try a second is enough.
    failed: Cell<Option<Instant>>,
    /// Since when a person is needed.
    refused: Cell<Option<Instant>>,
}

impl Pats {
    pub fn new(owners: &BTreeMap<Arc<str>, Owner>) -> Self {
        let owners = owners.iter().map(|(name, owner)| (Arc::clone(name), Slot::new(Some(owner.source.clone())))).collect();
        Self { own: Slot::new(None), owners }
    }

    /// The place of the token for resources of `owner`; `None`: there is none, though others have one.
    fn slot(&self, owner: Option<&str>) -> Option<&Slot> {
        match owner {
            Some(owner) if !self.owners.is_empty() => self.owners.get(owner),
            _ => Some(&self.own),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Slot> {
        std::iter::once(&self.own).chain(self.owners.values())
    }
}

impl Slot {
    fn new(source: Option<PatSource>) -> Self {
        Self {
            source: RefCell::new(source),
            current: RefCell::default(),
            refresh: RefCell::default(),
            flight: tokio::sync::Mutex::default(),
            failed: Cell::default(),
            refused: Cell::default(),
        }
    }
}

/// A token and its times.
pub struct Held {
    header: HeaderValue,
    until: Instant,
    renew_at: Instant,
}

impl Held {
    /// `Bearer …`, marked sensitive.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// When it ends, counted from when it came.
    #[must_use]
    pub const fn until(&self) -> Instant {
        self.until
    }

    /// When it is renewed.
    #[must_use]
    pub const fn renew_at(&self) -> Instant {
        self.renew_at
    }
}

impl Server {
    /// A token for resources of `owner` with enough life left; one flight for all who ask. A failed renewal keeps what is still valid.
    ///
    /// # Errors
    /// There is none, and none can be had before `deadline`.
    pub async fn pat(&self, owner: Option<&str>, deadline: Instant) -> Result<Rc<Held>, AskError> {
        let slot = self.pats.slot(owner).ok_or(AskError::UnknownOwner)?;
        let now = Instant::now();
        let held = slot.current.borrow().clone();
        match held {
            Some(held) if now < held.renew_at => Ok(held),
            Some(held) if now < held.until && slot.failed.get().is_some_and(|failed| now < failed + RETRY) => Ok(held),
            Some(held) => match self.renew_pat(owner, &held, deadline).await {
                Err(_) if Instant::now() < held.until => {
                    slot.failed.set(Some(Instant::now()));
                    Ok(held)
                }
                renewed => renewed,
            },
            None => self.fetch_pat(owner, None, deadline).await,
        }
    }

    /// A token other than `old`, which was refused or is near its end.
    ///
    /// # Errors
    /// None can be had before `deadline`; the old one is kept.
    pub async fn renew_pat(&self, owner: Option<&str>, old: &Rc<Held>, deadline: Instant) -> Result<Rc<Held>, AskError> {
        self.fetch_pat(owner, Some(old), deadline).await
    }

    /// Owners who have a token of their own.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pats.owners.keys()
    }

    /// What the configuration now says of owners: other passwords are used from now on, tokens stay.
    pub fn offer_owners(&self, owners: &BTreeMap<Arc<str>, Owner>) {
        for (name, owner) in owners {
            let Some(slot) = self.pats.owners.get(name) else { continue };
            let PatSource::Password { password: offered, .. } = &owner.source;
            let is_news = slot.source.borrow().as_ref().is_none_or(|PatSource::Password { password, .. }| !password.matches(offered.expose()));
            if is_news {
                slot.source.replace(Some(owner.source.clone()));
                slot.refused.set(None);
            }
        }
        // Whoever is refused with the new one as well is counted again.
        self.count_consents();
    }

    async fn fetch_pat(&self, owner: Option<&str>, old: Option<&Rc<Held>>, deadline: Instant) -> Result<Rc<Held>, AskError> {
        let slot = self.pats.slot(owner).ok_or(AskError::UnknownOwner)?;
        let metadata = self.metadata(deadline).await?;
        if owner.is_some() && slot.source.borrow().is_none() && metadata.profile.pats != PatOwners::Client {
            // The client's own token would not do for somebody else's resources.
            return Err(AskError::UnknownOwner);
        }
        let _flight = timeout_at(deadline, slot.flight.lock()).await.map_err(|_| AskError::Timeout)?;
        // Somebody else may have renewed it while this one waited.
        let current = slot.current.borrow().clone();
        if let Some(current) = current
            && old.is_none_or(|old| !Rc::ptr_eq(old, &current))
        {
            return Ok(current);
        }
        let response = self.grant(slot, owner, &metadata, deadline).await?;
        if response.status() != StatusCode::OK {
            let error = status(AsEndpoint::Token, &response);
            self.complain(&format!("no protection API access token{}: {error}", of(owner)));
            return Err(error);
        }
        self.keep_pat(owner, &response)
    }

    /// Asks for a token in the way that this slot has: by its refresh token, else from its source.
    async fn grant(&self, slot: &Slot, owner: Option<&str>, metadata: &Metadata, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        let Some(source) = slot.source.borrow().clone() else { return self.ask_for_pat(metadata, deadline).await };
        let refresh = slot.refresh.borrow().clone();
        if let Some(refresh) = refresh {
            let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
            fields.extend(metadata.profile.pat_scope.map(|scope| ("scope", scope)));
            let response = self.as_client(AsEndpoint::Token, &metadata.token, form(&fields), deadline).await?;
            if !refuses_grant(&response) {
                return Ok(response);
            }
            slot.refresh.take();
        }
        if slot.refused.get().is_some_and(|since| since.elapsed() < REFUSED) {
            return Err(AskError::NeedsConsent);
        }
        let response = self.as_client(AsEndpoint::Token, &metadata.token, source_form(&source, metadata.profile), deadline).await?;
        if refuses_grant(&response) {
            self.needs_consent(slot, owner);
            return Err(AskError::NeedsConsent);
        }
        Ok(response)
    }

    /// Nothing but a person can mend it (RFC 6749, 5.2: `invalid_grant`): said once, counted, and the owner's paths are closed.
    fn needs_consent(&self, slot: &Slot, owner: Option<&str>) {
        if slot.refused.replace(Some(Instant::now())).is_none() {
            let server = &*self.config.name;
            tracing::warn!(
                authorization_server = server,
                owner,
                "the server refuses this owner's password or consent; what the owner has is closed until that is mended"
            );
        }
        self.count_consents();
    }

    fn count_consents(&self) {
        let missing = self.pats.all().filter(|slot| slot.refused.get().is_some()).count();
        self.metrics().owners_without_consent(&self.config.name, missing);
    }

    /// Takes the token out of an answer and keeps it.
    pub(super) fn keep_pat(&self, owner: Option<&str>, response: &Response<Bytes>) -> Result<Rc<Held>, AskError> {
        let slot = self.pats.slot(owner).ok_or(AskError::UnknownOwner)?;
        let (held, refresh) = read(response.body())?;
        let held = Rc::new(held);
        slot.current.replace(Some(Rc::clone(&held)));
        // A server that gives no other refresh token means the old one (RFC 6749, 6).
        if let Some(refresh) = refresh.filter(|_| slot.source.borrow().is_some()) {
            slot.refresh.replace(Some(refresh));
        }
        if slot.refused.take().is_some() {
            tracing::info!(authorization_server = &*self.config.name, owner, "the owner's protection API access token is there again");
            self.count_consents();
        }
        let first = self.pats.all().filter_map(|slot| slot.current.borrow().as_ref().map(|held| held.until)).min().unwrap_or(held.until);
        let left = first.saturating_duration_since(Instant::now());
        self.metrics().pat_expires(&self.config.name, Timestamp::now().0.saturating_add(i64::try_from(left.as_secs()).unwrap_or(0)));
        self.content();
        Ok(held)
    }

    pub(super) async fn ask_for_pat(&self, metadata: &Metadata, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        self.as_client(AsEndpoint::Token, &metadata.token, own_form(metadata.profile), deadline).await
    }

    /// Asks for a token with another client secret, to see whether the server takes it.
    ///
    /// # Errors
    /// It does not, or gave no answer.
    pub(super) async fn pat_with(&self, secret: &Secret, deadline: Instant) -> Result<(), AskError> {
        let metadata = self.metadata(deadline).await?;
        if !metadata.profile.uma {
            let response = self.call_with(secret, AsEndpoint::Introspection, &metadata.introspection, form(&[("token", "unknown")]), deadline).await?;
            return if response.status() == StatusCode::OK { Ok(()) } else { Err(status(AsEndpoint::Introspection, &response)) };
        }
        let first = self.pats.owners.first_key_value();
        let owner = first.map(|(name, _)| &**name);
        let source = first.and_then(|(_, slot)| slot.source.borrow().clone());
        let form = source.map_or_else(|| own_form(metadata.profile), |source| source_form(&source, metadata.profile));
        let response = self.call_with(secret, AsEndpoint::Token, &metadata.token, form, deadline).await?;
        match response.status() {
            StatusCode::OK => self.keep_pat(owner, &response).map(drop),
            // The client was believed, and the owner was not.
            _ if owner.is_some() && refuses_grant(&response) => Ok(()),
            _ => Err(status(AsEndpoint::Token, &response)),
        }
    }
}

/// The client's own credentials.
fn own_form(profile: &Profile) -> Bytes {
    let mut fields = vec![("grant_type", "client_credentials")];
    fields.extend(profile.pat_scope.map(|scope| ("scope", scope)));
    form(&fields)
}

fn source_form(source: &PatSource, profile: &Profile) -> Bytes {
    let PatSource::Password { username, password } = source;
    let mut fields = vec![("grant_type", "password"), ("username", username), ("password", password.expose())];
    fields.extend(profile.pat_scope.map(|scope| ("scope", scope)));
    form(&fields)
}

/// Whether the refresh token, password or consent is refused (RFC 6749, 5.2; the old Keycloak says so with 401).
fn refuses_grant(response: &Response<Bytes>) -> bool {
    matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) && error_member(response.body()).as_deref() == Some("invalid_grant")
}

fn of(owner: Option<&str>) -> String {
    owner.map_or_else(String::new, |owner| format!(" of {owner}"))
}

/// The token and the refresh token.
fn read(body: &[u8]) -> Result<(Held, Option<Secret>), AskError> {
    let unusable = |why: &'static str| AskError::unusable("token", why);
    let document = json::parse(body).map_err(|_| unusable("it is not JSON"))?;
    let token = document.get("access_token").and_then(Value::as_str).ok_or_else(|| unusable("it has no access token"))?;
    if !document.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(unusable("its token is not a Bearer token"));
    }
    let pat = Pat(token.into());
    let mut header = HeaderValue::try_from(format!("Bearer {}", pat.0.expose())).map_err(|_| unusable("its token cannot be sent"))?;
    header.set_sensitive(true);
    let life = document.get("expires_in").and_then(Value::as_u64).map_or(UNTOLD_LIFE, |seconds| Duration::from_secs(seconds.min(10 * 365 * 86_400)));
    let now = Instant::now();
    let until = now + life;
    let refresh = document.get("refresh_token").and_then(Value::as_str).filter(|token| !token.is_empty()).map(Secret::from);
    Ok((Held { header, until, renew_at: until - EARLY.min(life / 5) }, refresh))
}
