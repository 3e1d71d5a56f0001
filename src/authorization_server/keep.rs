//! Keeping a server ready in the background: its metadata fresh, its PAT ahead of its end, the resources that routes name known before anybody asks.
//!
//! One task for each server on the control thread. A failing server is asked again after a pause that grows to two seconds, so that it is found soon after
//! its return and by one call, not by a herd.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::error::AskError;
use super::resources::{Declared, Reconciled, ResourceKey, Resources, Seen};
use super::server::Server;
use crate::telemetry::AsEndpoint;
use crate::uma::{ResourceId, Scope};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the discovery document is read anew.
const DISCOVERY_AGE: Duration = Duration::from_secs(600);
/// How often known resources are looked up again.
const CHECK_AGE: Duration = Duration::from_secs(120);
/// How often unknown resources are looked for again.
const ROUND: Duration = Duration::from_secs(15);

/// A resource that a route names without path parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is found by.
    pub key: ResourceKey,
    /// That it is to be registered, and how.
    pub declared: Option<Arc<Declared>>,
    /// The scopes that routes ask for on it.
    pub scopes: Vec<Scope>,
}

/// What the rounds remember.
struct Rounds {
    discovered: Option<Instant>,
    checked: Option<Instant>,
    /// What became of each wanted resource last; it is spoken of when that changes.
    last: Vec<Option<Option<ResourceId>>>,
}

impl Server {
    /// Keeps the server ready until the task is dropped. `contact` is told after each round that found the server well.
    pub async fn keep(self: Rc<Self>, resources: Resources, wanted: Vec<Wanted>, contact: impl Fn()) {
        let mut pause = FIRST_PAUSE;
        let mut rounds = Rounds { discovered: None, checked: None, last: vec![None; wanted.len()] };
        loop {
            match self.round(&resources, &wanted, &mut rounds, &contact).await {
                Ok(next) => {
                    pause = FIRST_PAUSE;
                    sleep_until(next).await;
                }
                Err(error) => {
                    tracing::debug!(authorization_server = &*self.config().name, %error, "not ready");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn round(&self, resources: &Resources, wanted: &[Wanted], rounds: &mut Rounds, contact: &impl Fn()) -> Result<Instant, AskError> {
        if rounds.discovered.is_none_or(|at| at.elapsed() > DISCOVERY_AGE) {
            match self.discover(self.patience()).await {
                Ok(_) => rounds.discovered = Some(Instant::now()),
                // The last good document stays in use.
                Err(error) if self.known().is_none() => return Err(error),
                Err(_) => {}
            }
        }
        let renew_at = self.keep_pats().await?;
        let outcome = self.look_after(resources, wanted, rounds).await;
        // A resource that cannot be had is no reason to call the whole gateway unready.
        contact();
        outcome?;
        Ok(renew_at.min(Instant::now() + ROUND).max(Instant::now() + FIRST_PAUSE))
    }

    /// Renews the tokens that are near their end; the time of the next one. A plain OAuth server gives none. One owner's refusal keeps nobody else waiting.
    async fn keep_pats(&self) -> Result<Instant, AskError> {
        if !self.config().speaks_uma() {
            return Ok(Instant::now() + ROUND);
        }
        let owners: Vec<Option<&str>> = self.owners().map(|owner| Some(&**owner)).collect();
        let owners = if owners.is_empty() { vec![None] } else { owners };
        let (mut next, mut failure, mut answered) = (Instant::now() + ROUND, None, false);
        for owner in owners {
            match self.pat(owner, self.patience()).await {
                Ok(pat) => {
                    answered = true;
                    next = next.min(pat.renew_at());
                }
                Err(AskError::NeedsConsent) => answered = true,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !answered => Err(error),
            Some(_) => Ok(Instant::now() + LONGEST_PAUSE),
            None => Ok(next),
        }
    }

    /// Looks up or registers what is not known; one that fails does not keep the others waiting.
    async fn look_after(&self, resources: &Resources, wanted: &[Wanted], rounds: &mut Rounds) -> Result<(), AskError> {
        // What a name means at the server may change, and nobody tells.
        let all_anew = rounds.checked.is_none_or(|at| at.elapsed() > CHECK_AGE);
        let (mut known, mut outcome) = (0, Ok(()));
        for (one, last) in wanted.iter().zip(&mut rounds.last) {
            if !all_anew && last.is_some() && matches!(resources.see(&one.key), Seen::Known(_)) {
                known += 1;
                continue;
            }
            match self.resolve(resources, &one.key, one.declared.as_deref(), self.patience()).await {
                Ok(found) => {
                    known += usize::from(found.is_some());
                    if last.as_ref() != Some(&found) {
                        self.report(one, found.as_ref(), self.patience()).await;
                        *last = Some(found);
                    }
                }
                // That is for the owner to mend, and no reason to ask about everybody else's again and again.
                Err(AskError::NoPat(error)) if matches!(&*error, AskError::NeedsConsent) => {}
                Err(error) => {
                    // That there are several of a name, for instance: no single answer says so.
                    if matches!(error, AskError::Unusable { .. }) {
                        self.answers.bad(AsEndpoint::Resource, &error);
                    }
                    outcome = Err(error);
                }
            }
        }
        if all_anew && outcome.is_ok() {
            rounds.checked = Some(Instant::now());
        }
        self.metrics().resources_registered(&self.config().name, known);
        outcome
    }

    fn patience(&self) -> Instant {
        Instant::now() + self.config().timeout.max(Duration::from_secs(5))
    }

    /// Finds or registers a resource and keeps what came of it.
    ///
    /// # Errors
    /// The server gave no usable answer; nothing is kept.
    pub async fn resolve(
        &self,
        resources: &Resources,
        key: &ResourceKey,
        declared: Option<&Declared>,
        deadline: Instant,
    ) -> Result<Option<ResourceId>, AskError> {
        let id = match declared {
            None => self.find(key, deadline).await?,
            Some(declared) => {
                let (id, done) = self.reconcile(declared, deadline).await?;
                let word = match done {
                    Reconciled::Created => Some("registered"),
                    Reconciled::Updated => Some("updated: it lacked scopes, or had another type"),
                    Reconciled::Drifted | Reconciled::Unchanged => None,
                };
                if let Some(word) = word {
                    tracing::info!(authorization_server = &*self.config().name, resource = &*key.name, id = &*id.0, "resource {word}");
                }
                Some(id)
            }
        };
        resources.keep(key, id.as_ref());
        self.answers.good(AsEndpoint::Resource);
        Ok(id)
    }

    /// Says what an operator would otherwise find out by a denied request: a name that the server does not know, or scopes that it does not have.
    async fn report(&self, wanted: &Wanted, found: Option<&ResourceId>, deadline: Instant) {
        let server = &*self.config().name;
        let (name, owner) = (&*wanted.key.name, wanted.key.owner.as_deref().unwrap_or(&self.config().client.id));
        let Some(id) = found else {
            tracing::warn!(
                authorization_server = server,
                resource = name,
                owner,
                "the server has no resource of this name and owner; requests get 404 until it has"
            );
            return;
        };
        if let Ok(Some(description)) = self.describe(wanted.key.owner.as_deref(), id, deadline).await {
            let declared = wanted.declared.as_ref().map(|declared| &declared.scopes);
            let more: Vec<&str> =
                description.scopes.iter().map(String::as_str).filter(|has| declared.is_some_and(|all| !all.iter().any(|scope| *scope.0 == **has))).collect();
            if !more.is_empty() {
                tracing::warn!(
                    authorization_server = server,
                    resource = name,
                    owner,
                    more = more.join(" "),
                    "the resource has drifted: the server knows scopes of it that are not declared; they are left alone"
                );
            }
            let missing: Vec<&str> = wanted.scopes.iter().map(|scope| &*scope.0).filter(|scope| !description.scopes.iter().any(|has| has == scope)).collect();
            if !missing.is_empty() {
                tracing::warn!(
                    authorization_server = server,
                    resource = name,
                    owner,
                    missing = missing.join(" "),
                    "routes ask for scopes that the resource does not have"
                );
            }
        }
    }
}
