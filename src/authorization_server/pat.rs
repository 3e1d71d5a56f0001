//! Protection API access tokens: that of the gateway's own client, and one for each owner who has one, renewed early, never lost to a passing failure.
//!
//! A server may copy the token's end into the tickets that it issues, so a token near its end is renewed before it is used. Where an owner's token is had from,
//! only [`PatSource`] knows; it is refreshed where the server gave a refresh token. How one is renewed, and kept over restarts, stands in `renewal`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::config::{Owner, PatSource};
use super::consent::Refusal;
use super::discovery::Metadata;
use super::error::{AskError, lacks_protection};
use super::profile::Profile;
use super::renewal::{Fresh, Outcome};
use super::search::Reading;
use super::server::{Server, error_member};
use super::who::ClientCredentials;
use crate::http_client::form;
use crate::secret::{Secret, random_part};
use crate::telemetry::{AUDITED, AsEndpoint, OwnerLacks};
use crate::uma::Timestamp;

/// A token is renewed when less than this is left of it, or less than a fifth of its life where that is shorter; up to half of it earlier, by chance: what was
/// got at one moment, for many owners or by many gateways, is not asked for anew at one moment.
const EARLY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// The tokens of one server.
pub(super) struct Pats {
    own: Slot,
    owners: BTreeMap<Arc<str>, Slot>,
}

/// The place of one token.
pub(super) struct Slot {
    /// `None`: the client's own credentials.
    pub source: RefCell<Option<PatSource>>,
    pub current: RefCell<Option<Rc<Held>>>,
    pub refresh: RefCell<Option<Secret>>,
    /// What the server has given and the records have not taken yet.
    pub unwritten: RefCell<Option<Fresh>>,
    /// The renewal that is under way, or was last.
    pub flight: RefCell<Option<watch::Receiver<Option<Outcome>>>>,
    /// Held while a token is written and then taken into use.
    pub change: tokio::sync::Mutex<()>,
    /// How often the owner has linked the gateway: what was asked for by an earlier consent does not count any more.
    pub links: Cell<u64>,
    /// Whether the records have been asked.
    pub recalled: Cell<bool>,
    /// When a renewal failed last: while the old token is good, one try a second is enough.
    failed: Cell<Option<Instant>>,
    /// That a person is needed.
    pub refused: Cell<Option<Refusal>>,
    /// Where the server said last that the owner may not protect resources.
    unprotected: Cell<Option<AsEndpoint>>,
    /// What was read with it, where the server cannot search.
    pub reading: tokio::sync::Mutex<Reading>,
}

impl Pats {
    pub fn new(owners: &BTreeMap<Arc<str>, Owner>) -> Self {
        let owners = owners.iter().map(|(name, owner)| (Arc::clone(name), Slot::new(Some(owner.source.clone())))).collect();
        Self { own: Slot::new(None), owners }
    }

    /// The place of the token for resources of `owner`; `None`: there is none, though others have one.
    pub fn slot(&self, owner: Option<&str>) -> Option<&Slot> {
        match owner {
            Some(owner) if !self.owners.is_empty() => self.owners.get(owner),
            _ => Some(&self.own),
        }
    }

    /// Every place.
    pub fn all(&self) -> impl Iterator<Item = &Slot> {
        std::iter::once(&self.own).chain(self.owners.values())
    }

    /// The owners who have one, each with its place.
    pub fn of_owners(&self) -> impl Iterator<Item = (&Arc<str>, &Slot)> {
        self.owners.iter()
    }
}

impl Slot {
    fn new(source: Option<PatSource>) -> Self {
        Self {
            source: RefCell::new(source),
            current: RefCell::default(),
            refresh: RefCell::default(),
            unwritten: RefCell::default(),
            flight: RefCell::default(),
            change: tokio::sync::Mutex::default(),
            links: Cell::default(),
            recalled: Cell::default(),
            failed: Cell::default(),
            refused: Cell::default(),
            unprotected: Cell::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// What a person has to do, if anything.
    fn lacks(&self) -> Option<OwnerLacks> {
        let unprotected = self.unprotected.get().map(|_| OwnerLacks::Protection);
        self.refused.get().map(|_| OwnerLacks::Consent).or(unprotected)
    }

    /// Whether nothing but the owner can help: the gateway has to be linked.
    fn waits_for_owner(&self) -> bool {
        matches!(self.refused.get(), Some(Refusal::Said(_))) && matches!(&*self.source.borrow(), Some(PatSource::Code { .. }))
    }
}

/// A token and its times.
pub struct Held {
    header: HeaderValue,
    until: Instant,
    renew_at: Instant,
}

impl Held {
    /// A token that is good for `life` from now on; `None`: it cannot be sent.
    pub(super) fn new(token: &str, life: Duration) -> Option<Self> {
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        header.set_sensitive(true);
        let (until, early) = (Instant::now() + life, EARLY.min(life / 5));
        Some(Self { header, until, renew_at: until - early - random_part(early / 2) })
    }

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
            Some(held) if now < held.renew_at && slot.unwritten.borrow().is_none() => Ok(held),
            Some(held) if now < held.until && slot.failed.get().is_some_and(|failed| now < failed + RETRY) => Ok(held),
            None if slot.waits_for_owner() => Err(AskError::NeedsConsent),
            Some(held) => match self.renew_pat(owner, &held, deadline).await {
                // Without consent nothing of the owner's is open, though the token may live on.
                Err(error) if Instant::now() < held.until && !matches!(error, AskError::NeedsConsent) => {
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

    /// What the configuration now says of owners: other passwords are used from now on, tokens stay. Whoever was refused is tried at once, and closed until
    /// there is a token.
    pub fn offer_owners(&self, owners: &BTreeMap<Arc<str>, Owner>) {
        for (name, owner) in owners {
            let Some(slot) = self.pats.owners.get(name) else { continue };
            let is_held = slot.source.borrow().as_ref().is_some_and(|held| held.is_same_password(&owner.source));
            if is_held || !matches!(owner.source, PatSource::Password { .. }) {
                continue;
            }
            slot.source.replace(Some(owner.source.clone()));
            if slot.refused.get().is_some() {
                slot.refused.set(Some(Refusal::Untried));
                // What comes of it is for whoever asks then.
                drop(self.flight(slot, Some(name)));
            }
        }
        self.count_consents();
    }

    /// Joins the renewal that is under way, or begins one. It comes to its end though everybody who waits goes away: a refresh token may be good for one use
    /// only, and the next one is in the answer.
    async fn fetch_pat(&self, owner: Option<&str>, old: Option<&Rc<Held>>, deadline: Instant) -> Outcome {
        let slot = self.pats.slot(owner).ok_or(AskError::UnknownOwner)?;
        // Somebody else may have renewed it.
        let current = slot.current.borrow().clone();
        if let Some(current) = current
            && old.is_none_or(|old| !Rc::ptr_eq(old, &current))
        {
            return Ok(current);
        }
        let mut flight = self.flight(slot, owner).ok_or(AskError::ShuttingDown)?;
        let landed = timeout_at(deadline, flight.wait_for(Option::is_some)).await.map_err(|_| AskError::Timeout)?;
        landed.map_err(|_| AskError::ShuttingDown)?.clone().unwrap_or(Err(AskError::ShuttingDown))
    }

    /// The owners who have to consent: for the metric, for people, and for workers, which close what is theirs.
    pub(super) fn count_consents(&self) {
        let identity = |name: &str| self.config.owners.get(name).map(|owner| owner.identity);
        let owners: Vec<_> = self.pats.of_owners().filter_map(|(name, slot)| Some((identity(name)?, slot.refused.get().is_some()))).collect();
        self.resources.close(&owners);
        let missing = self.pats.of_owners().filter_map(|(name, slot)| Some((Arc::clone(name), slot.lacks()?))).collect();
        self.health.owners_without_consent(&self.config.name, missing);
    }

    /// Hears from an answer of the protection API whether the server lets an owner protect resources. That it does not is said once, and counted until it does.
    pub(super) fn hear(&self, endpoint: AsEndpoint, owner: Option<&str>, response: &Response<Bytes>) {
        let slot = owner.and_then(|owner| self.pats.slot(Some(owner))).filter(|slot| slot.source.borrow().is_some());
        let (Some(slot), true) = (slot, matches!(endpoint, AsEndpoint::Resource | AsEndpoint::Permission)) else { return };
        let server = &*self.config.name;
        if lacks_protection(response.status(), error_member(response.body()).as_deref()) {
            if slot.unprotected.replace(Some(endpoint)).is_none() {
                tracing::warn!(
                    target: AUDITED,
                    authorization_server = server,
                    owner,
                    "the server does not let this owner protect resources: the role or scope uma_protection is missing; what the owner has is closed until then"
                );
                self.count_consents();
            }
        } else if response.status().is_success() && slot.unprotected.get() == Some(endpoint) {
            slot.unprotected.set(None);
            tracing::info!(target: AUDITED, authorization_server = server, owner, "the server lets this owner protect resources");
            self.count_consents();
        }
    }

    /// Whether the server lets an owner protect resources, as far as it has said so.
    pub(super) fn may_protect(&self, owner: &str) -> bool {
        self.pats.slot(Some(owner)).is_none_or(|slot| slot.unprotected.get().is_none())
    }

    /// Says when the first of the tokens ends; 0 where there is none.
    pub(super) fn tell_expiry(&self) {
        let first = self.pats.all().filter_map(|slot| slot.current.borrow().as_ref().map(|held| held.until)).min();
        let at = first.map_or(0, |first| {
            let left = first.saturating_duration_since(Instant::now());
            Timestamp::now().0.saturating_add(i64::try_from(left.as_secs()).unwrap_or(0))
        });
        self.metrics().pat_expires(&self.config.name, at);
    }

    pub(super) async fn ask_for_pat(&self, metadata: &Metadata, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        self.as_client(AsEndpoint::Token, &metadata.token, own_form(metadata.profile), deadline).await
    }

    /// Asks for a token with another secret or key of the client's, to see whether the server takes it.
    ///
    /// # Errors
    /// It does not, or gave no answer.
    pub(super) async fn pat_with(&self, client: &ClientCredentials, deadline: Instant) -> Result<(), AskError> {
        let metadata = self.metadata(deadline).await?;
        if !metadata.profile.uma {
            let response = self.call_with(client, AsEndpoint::Introspection, &metadata.introspection, form(&[("token", "unknown")]), deadline).await?;
            self.counted(AsEndpoint::Introspection, &response, response.status() == StatusCode::OK);
            return if response.status() == StatusCode::OK { Ok(()) } else { Err(self.refusal(AsEndpoint::Introspection, &response)) };
        }
        let first = self.pats.owners.first_key_value();
        let owner = first.map(|(name, _)| &**name);
        let source = first.and_then(|(_, slot)| slot.source.borrow().clone());
        let form = source.map_or_else(|| own_form(metadata.profile), |source| source_form(&source, metadata.profile));
        let response = self.call_with(client, AsEndpoint::Token, &metadata.token, form, deadline).await?;
        match response.status() {
            StatusCode::OK => self.keep_pat(owner, &response).await,
            // The client was believed, and the owner was not.
            _ if owner.is_some() && refuses_grant(&response) => Ok(()),
            _ => Err(self.refusal(AsEndpoint::Token, &response)),
        }
    }
}

/// The client's own credentials.
fn own_form(profile: &Profile) -> Bytes {
    let mut fields = vec![("grant_type", "client_credentials")];
    fields.extend(profile.pat_scope.map(|scope| ("scope", scope)));
    form(&fields)
}

/// A code that nobody has: the answer tells only whether the server believes the client.
pub(super) fn no_code() -> Bytes {
    form(&[("grant_type", "authorization_code"), ("code", "no-code-of-anybody"), ("redirect_uri", "http://127.0.0.1/")])
}

/// The first token of an owner, or [`no_code`].
pub(super) fn source_form(source: &PatSource, profile: &Profile) -> Bytes {
    let PatSource::Password { username, password } = source else { return no_code() };
    let mut fields = vec![("grant_type", "password"), ("username", username), ("password", password.expose())];
    fields.extend(profile.pat_scope.map(|scope| ("scope", scope)));
    form(&fields)
}

/// Whether the refresh token, code, password or consent is refused (RFC 6749, 5.2; the old Keycloak says so with 401).
pub(super) fn refuses_grant(response: &Response<Bytes>) -> bool {
    matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) && error_member(response.body()).as_deref() == Some("invalid_grant")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_came_at_one_moment_are_not_renewed_at_one_moment() {
        let left = |life| {
            let held = Held::new("token", Duration::from_secs(life)).unwrap();
            held.until() - held.renew_at()
        };
        for (life, earliest, latest) in [(3600, 90, 60), (50, 15, 10)] {
            let all: Vec<_> = (0..64).map(|_| left(life)).collect();
            assert!(all.iter().all(|left| (Duration::from_secs(latest)..=Duration::from_secs(earliest)).contains(left)), "{all:?}");
            assert!(all.windows(2).any(|two| two[0].abs_diff(two[1]) > Duration::from_millis(1)), "{all:?}");
        }
    }
}
