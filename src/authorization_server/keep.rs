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
use crate::uma::{ResourceId, Scope};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the discovery document is read anew.
const DISCOVERY_AGE: Duration = Duration::from_secs(600);
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

impl Server {
    /// Keeps the server ready until the task is dropped. `contact` is told after the first round that found the server well.
    pub async fn keep(self: Rc<Self>, resources: Resources, wanted: Vec<Wanted>, contact: impl Fn()) {
        let mut pause = FIRST_PAUSE;
        let mut discovered = None;
        let mut told = vec![false; wanted.len()];
        let mut reconciled = vec![false; wanted.len()];
        loop {
            match self.round(&resources, &wanted, &mut discovered, &mut told, &mut reconciled).await {
                Ok(next) => {
                    contact();
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

    async fn round(
        &self,
        resources: &Resources,
        wanted: &[Wanted],
        discovered: &mut Option<Instant>,
        told: &mut [bool],
        reconciled: &mut [bool],
    ) -> Result<Instant, AskError> {
        let deadline = || Instant::now() + self.config().timeout.max(Duration::from_secs(5));
        if discovered.is_none_or(|at| at.elapsed() > DISCOVERY_AGE) {
            match self.discover(deadline()).await {
                Ok(_) => *discovered = Some(Instant::now()),
                // The last good document stays in use.
                Err(error) if self.known().is_none() => return Err(error),
                Err(_) => {}
            }
        }
        let pat = self.pat(deadline()).await?;
        let mut known = 0;
        for ((one, told), reconciled) in wanted.iter().zip(told).zip(reconciled) {
            // A declaration may be another one since the resource became known.
            if matches!(resources.see(&one.key), Seen::Known(_)) && (one.declared.is_none() || *reconciled) {
                known += 1;
                continue;
            }
            let found = self.resolve(resources, &one.key, one.declared.as_deref(), deadline()).await?;
            known += usize::from(found.is_some());
            *reconciled = true;
            if !std::mem::replace(told, true) || found.is_some() {
                self.report(one, found.as_ref(), deadline()).await;
            }
        }
        self.metrics().resources_registered(&self.config().name, known);
        Ok(pat.renew_at().min(Instant::now() + ROUND).max(Instant::now() + FIRST_PAUSE))
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
                    Reconciled::Updated => Some("updated: its type or scopes had drifted"),
                    Reconciled::Unchanged => None,
                };
                if let Some(word) = word {
                    tracing::info!(authorization_server = &*self.config().name, resource = &*key.name, id = &*id.0, "resource {word}");
                }
                Some(id)
            }
        };
        resources.keep(key, id.as_ref());
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
        if let Ok(Some(description)) = self.describe(id, deadline).await {
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
