//! How a protection API access token is renewed: one flight for each, which nobody's leaving ends, and what the server gives is written before it is used.
//!
//! The order is: the server's answer, the records, then use. So a token that was ever used is the one that a restart finds, with what renews it. A process
//! that is killed between the server's answer and the end of writing finds the refresh token from before; a server that takes each one once only will not
//! take that again, and the owner has to consent anew. Nothing on this side could prevent that.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::config::PatSource;
use super::consent::Refusal;
use super::discovery::Metadata;
use super::error::AskError;
use super::json;
use super::kept::Kept;
use super::pat::{Held, Slot, refuses_grant, source_form};
use super::profile::PatOwners;
use super::server::Server;
use crate::http_client::form;
use crate::secret::Secret;
use crate::telemetry::{AUDITED, AsEndpoint};

/// What a token without `expires_in` is trusted for.
const UNTOLD_LIFE: Duration = Duration::from_secs(60);
/// The longest life that is believed.
const LONGEST_LIFE: u64 = 10 * 365 * 86_400;
/// How long a renewal waits for the server, at least, whatever the requests that caused it wait; the second for the exchange of a refresh token, since an
/// answer that is given up may hold the only next one.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));
/// How long a refused password is not tried again: servers lock accounts after a few failures.
const REFUSED: Duration = Duration::from_secs(300);
/// A kept token that ends sooner is renewed at once.
const SHORT: Duration = Duration::from_secs(2);

impl Fresh {
    /// `Bearer …`, to ask about it before it is used.
    pub fn header(&self) -> HeaderValue {
        self.held.header()
    }
}

/// What a flight comes to.
pub(super) type Outcome = Result<Rc<Held>, AskError>;

/// A token as the server has just given it.
pub(super) struct Fresh {
    held: Held,
    pub access: Secret,
    pub refresh: Option<Secret>,
    expires_at: SystemTime,
    pub scope: String,
}

impl Server {
    /// The renewal that is under way, else a new one; `None`: the server is going.
    pub(super) fn flight(&self, slot: &Slot, owner: Option<&str>) -> Option<watch::Receiver<Option<Outcome>>> {
        let under_way = slot.flight.borrow().as_ref().filter(|flight| flight.borrow().is_none() && flight.has_changed().is_ok()).cloned();
        if under_way.is_some() {
            return under_way;
        }
        let (lands, flight) = watch::channel(None);
        slot.flight.replace(Some(flight.clone()));
        let (server, owner) = (self.me.upgrade()?, owner.map(Arc::<str>::from));
        spawn_local(async move {
            let outcome = server.renew(owner.as_deref()).await;
            lands.send_replace(Some(outcome));
        });
        Some(flight)
    }

    /// Waits for the renewals that are under way and may come to a refresh token that has to be written down.
    pub async fn settled(&self) {
        let exchanging = self.pats.of_owners().filter(|(_, slot)| self.kept.is_there() && slot.refresh.borrow().is_some());
        let flights: Vec<_> = exchanging.filter_map(|(_, slot)| slot.flight.borrow().clone()).collect();
        for mut flight in flights {
            // A flight that cannot land has ended.
            let _ = flight.wait_for(Option::is_some).await;
        }
    }

    async fn renew(&self, owner: Option<&str>) -> Outcome {
        let slot = self.pats.slot(owner).ok_or(AskError::UnknownOwner)?;
        let links = slot.links.get();
        let unwritten = slot.unwritten.take();
        if let Some(fresh) = unwritten {
            return self.take_in(slot, owner, links, fresh).await;
        }
        if let Some(owner) = owner.filter(|_| slot.source.borrow().is_some())
            && let Some(held) = self.recall(slot, owner).await?
        {
            return Ok(held);
        }
        let patience = if slot.refresh.borrow().is_some() { PATIENCE.1 } else { PATIENCE.0 };
        let deadline = Instant::now() + patience.max(self.config.timeout);
        let metadata = self.metadata(deadline).await?;
        if owner.is_some() && slot.source.borrow().is_none() && metadata.profile.pats != PatOwners::Client {
            // The client's own token would not do for somebody else's resources.
            return Err(AskError::UnknownOwner);
        }
        let response = self.grant(slot, owner, &metadata, deadline).await?;
        let fresh = match response.status() {
            StatusCode::OK => self.fresh(&response),
            _ => Err(self.refusal(AsEndpoint::Token, &response)),
        };
        let fresh = fresh.inspect_err(|error| self.answers.bad(AsEndpoint::Token, format_args!("no protection API access token{}: {error}", of(owner))))?;
        self.take_in(slot, owner, links, fresh).await
    }

    /// What the records have of this owner, where that is news: at the first time, or when another one of this process has renewed it, which a reload may
    /// leave behind for a while.
    async fn recall(&self, slot: &Slot, owner: &str) -> Result<Option<Rc<Held>>, AskError> {
        let _change = slot.change.lock().await;
        let kept = match self.kept.get(&self.config, owner).await {
            // What was read once is good without them.
            Err(_) if slot.recalled.get() => return Ok(None),
            kept => kept?,
        };
        let first = !slot.recalled.replace(true);
        let Some(kept) = kept else { return Ok(None) };
        let known = match (&*slot.refresh.borrow(), &kept.refresh) {
            (Some(held), Some(kept)) => held.matches(kept.expose()),
            (held, kept) => held.is_none() && kept.is_none(),
        };
        if known && !first {
            return Ok(None);
        }
        slot.refresh.replace(kept.refresh);
        let left = kept.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
        let held = Held::new(kept.access.expose(), left).filter(|_| left > SHORT).map(Rc::new);
        if let Some(held) = &held {
            self.put_into_use(slot, Some(owner), Rc::clone(held));
        }
        Ok(held)
    }

    /// Asks for a token in the way that this slot has: by its refresh token, else from its source.
    async fn grant(&self, slot: &Slot, owner: Option<&str>, metadata: &Metadata, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        let Some(mut source) = slot.source.borrow().clone() else { return self.ask_for_pat(metadata, deadline).await };
        let (links, refresh) = (slot.links.get(), slot.refresh.borrow().clone());
        if let Some(refresh) = refresh {
            let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
            // By a code more may have been granted than a PAT's scope; leaving it out means the same again (RFC 6749, 6).
            let narrows = matches!(source, PatSource::Password { .. });
            fields.extend(metadata.profile.pat_scope.filter(|_| narrows).map(|scope| ("scope", scope)));
            let response = self.as_client(AsEndpoint::Token, &metadata.token, form(&fields), deadline).await?;
            if !refuses_grant(&response) {
                return Ok(response);
            }
            slot.refresh.borrow_mut().take_if(|held| held.matches(refresh.expose()));
        }
        if matches!(source, PatSource::Code { .. }) {
            return Err(self.needs_consent(slot, owner, links).await);
        }
        if matches!(slot.refused.get(), Some(Refusal::Said(since)) if since.elapsed() < REFUSED) {
            return Err(AskError::NeedsConsent);
        }
        loop {
            let response = self.as_client(AsEndpoint::Token, &metadata.token, source_form(&source, metadata.profile), deadline).await?;
            if !refuses_grant(&response) {
                return Ok(response);
            }
            // Another password may have been offered meanwhile.
            match slot.source.borrow().clone().filter(|offered| !offered.is_same_password(&source)) {
                Some(offered) => source = offered,
                None => break,
            }
        }
        Err(self.needs_consent(slot, owner, links).await)
    }

    /// Nothing but a person can mend it (RFC 6749, 5.2: `invalid_grant`): written down, said once, counted, and the owner's paths are closed.
    async fn needs_consent(&self, slot: &Slot, owner: Option<&str>, links: u64) -> AskError {
        let _change = slot.change.lock().await;
        if slot.links.get() != links {
            return AskError::NeedsConsent;
        }
        slot.refresh.take();
        let is_news = !matches!(slot.refused.replace(Some(Refusal::Said(Instant::now()))), Some(Refusal::Said(_)));
        let had = slot.current.take().is_some();
        // Closed before it is written down.
        self.count_consents();
        self.tell_expiry();
        let server = &*self.config.name;
        if let Some(owner) = owner.filter(|_| is_news) {
            // The records tell for themselves where that fails; then the next start is refused as this one was.
            let _ = self.kept.put(&self.config, owner, &Kept::ended()).await;
        }
        if is_news {
            match &*slot.source.borrow() {
                Some(PatSource::Code { .. }) => tracing::warn!(
                    target: AUDITED,
                    authorization_server = server,
                    owner,
                    linked_before = had,
                    "the owner has to link the gateway: the server knows no consent, or none any more; what the owner has is closed until then"
                ),
                _ => tracing::warn!(
                    target: AUDITED,
                    authorization_server = server,
                    owner,
                    "the server refuses this owner's password or consent; what the owner has is closed until that is mended"
                ),
            }
        }
        AskError::NeedsConsent
    }

    /// Takes the token out of an answer that came outside of a flight.
    pub(super) async fn keep_pat(&self, owner: Option<&str>, response: &Response<Bytes>) -> Result<(), AskError> {
        let slot = self.pats.slot(owner).ok_or(AskError::UnknownOwner)?;
        self.take_in(slot, owner, slot.links.get(), self.fresh(response)?).await.map(drop)
    }

    /// Writes a token, then takes it into use. One that cannot be written is not used: it waits, and the one before stays as long as it is good.
    async fn take_in(&self, slot: &Slot, owner: Option<&str>, links: u64, mut fresh: Fresh) -> Outcome {
        let _change = slot.change.lock().await;
        if slot.links.get() != links {
            // The owner has linked the gateway meanwhile.
            return slot.current.borrow().clone().ok_or(AskError::NeedsConsent);
        }
        // A server that gives no other refresh token means the old one (RFC 6749, 6).
        fresh.refresh = fresh.refresh.take().or_else(|| slot.refresh.borrow().clone());
        self.write_then_use(slot, owner, fresh).await
    }

    /// The owner has consented anew: whatever stems from the consent before counts no more.
    pub(super) async fn link(&self, owner: &Arc<str>, fresh: Fresh) -> Outcome {
        let slot = self.pats.slot(Some(owner)).ok_or(AskError::UnknownOwner)?;
        let _change = slot.change.lock().await;
        let waiting = slot.unwritten.take();
        let linked = self.write_then_use(slot, Some(owner), fresh).await;
        if linked.is_err() {
            slot.unwritten.replace(waiting);
        }
        let held = linked?;
        slot.links.set(slot.links.get().wrapping_add(1));
        slot.recalled.set(true);
        tracing::info!(target: AUDITED, authorization_server = &*self.config.name, owner = &**owner, "the owner has linked the gateway");
        Ok(held)
    }

    async fn write_then_use(&self, slot: &Slot, owner: Option<&str>, fresh: Fresh) -> Outcome {
        let has_source = slot.source.borrow().is_some();
        if let Some(owner) = owner.filter(|_| has_source) {
            let Fresh { access, refresh, expires_at, scope, .. } = &fresh;
            let kept = Kept { access: access.clone(), refresh: refresh.clone(), expires_at: *expires_at, scope: scope.clone() };
            if let Err(error) = self.kept.put(&self.config, owner, &kept).await {
                slot.unwritten.replace(Some(fresh));
                return Err(error);
            }
        }
        if has_source {
            slot.refresh.replace(fresh.refresh);
        }
        let held = Rc::new(fresh.held);
        self.put_into_use(slot, owner, Rc::clone(&held));
        Ok(held)
    }

    fn put_into_use(&self, slot: &Slot, owner: Option<&str>, held: Rc<Held>) {
        slot.current.replace(Some(held));
        if slot.refused.take().is_some() {
            tracing::info!(authorization_server = &*self.config.name, owner, "the owner's protection API access token is there again");
            self.count_consents();
        }
        self.tell_expiry();
        self.answers.good(AsEndpoint::Token);
    }

    /// The token out of a token response.
    pub(super) fn fresh(&self, response: &Response<Bytes>) -> Result<Fresh, AskError> {
        let fresh = read(response.body());
        self.counted(AsEndpoint::Token, response, fresh.is_ok());
        fresh
    }
}

fn of(owner: Option<&str>) -> String {
    owner.map_or_else(String::new, |owner| format!(" of {owner}"))
}

/// The token out of a token response (RFC 6749, 5.1).
fn read(body: &[u8]) -> Result<Fresh, AskError> {
    let unusable = |why: &'static str| AskError::unusable("token", why);
    let document = json::parse(body).map_err(|error| AskError::no_json("token", &error))?;
    let token = document.get("access_token").and_then(Value::as_str).ok_or_else(|| unusable("it has no access token"))?;
    if !document.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(unusable("its token is not a Bearer token"));
    }
    let life = document.get("expires_in").and_then(Value::as_u64).map_or(UNTOLD_LIFE, |seconds| Duration::from_secs(seconds.min(LONGEST_LIFE)));
    let access = Secret::from(token);
    let held = Held::new(access.expose(), life).ok_or_else(|| unusable("its token cannot be sent"))?;
    let refresh = document.get("refresh_token").and_then(Value::as_str).filter(|token| !token.is_empty()).map(Secret::from);
    let scope = document.get("scope").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Fresh { held, access, refresh, expires_at: SystemTime::now() + life, scope })
}
