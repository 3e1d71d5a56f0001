//! Servers that the gateway needs: a failing one is named in the log and in a metric, once, not per request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Metrics;

/// How a dependency stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not asked yet.
    Unknown,
    /// It answered last time.
    Up,
    /// It failed last time.
    Down,
}

/// All dependencies of one gateway. Clones share them.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Arc<Metrics>,
    dependencies: Mutex<Vec<Arc<Dependency>>>,
    /// Owners for whom nothing can be done, by authorization server.
    consents: Mutex<BTreeMap<Arc<str>, Lacking>>,
}

/// Owners, and what each lacks.
type Lacking = Vec<(Arc<str>, OwnerLacks)>;

/// What a person has to do for an owner, without which the owner's paths are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerLacks {
    /// The owner has to link the gateway, or the password is refused.
    Consent,
    /// The server does not let the owner protect resources.
    Protection,
}

impl OwnerLacks {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Consent => "has to consent",
            Self::Protection => "is not let protect resources (uma_protection)",
        }
    }
}

/// A server that the gateway needs. All threads share one of each.
#[derive(Debug)]
pub struct Dependency {
    kind: &'static str,
    name: Arc<str>,
    state: AtomicU8,
    /// No configuration names it any more, though a request that is under way may still use it.
    hidden: AtomicBool,
    reason: Mutex<Option<String>>,
    detail: OnceLock<Detail>,
    metrics: Arc<Metrics>,
}

/// What is told of a dependency that is up.
struct Detail(Box<dyn Fn() -> String + Send + Sync>);

impl std::fmt::Debug for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Detail(..)")
    }
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner { metrics, dependencies: Mutex::default(), consents: Mutex::default() }))
    }

    /// The dependency of this kind (`authorization_server`, `upstream`) and name; the same one each time.
    #[must_use]
    pub fn dependency(&self, kind: &'static str, name: &str) -> Arc<Dependency> {
        let mut dependencies = self.0.dependencies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = dependencies.iter().find(|known| known.kind == kind && &*known.name == name) {
            return Arc::clone(known);
        }
        let dependency = Arc::new(Dependency {
            kind,
            name: name.into(),
            state: AtomicU8::new(UNKNOWN),
            hidden: AtomicBool::new(false),
            reason: Mutex::default(),
            detail: OnceLock::new(),
            metrics: Arc::clone(&self.0.metrics),
        });
        dependencies.push(Arc::clone(&dependency));
        dependency
    }

    /// The same, if it was ever named.
    #[must_use]
    pub fn known(&self, kind: &str, name: &str) -> Option<Arc<Dependency>> {
        let dependencies = self.0.dependencies.lock().unwrap_or_else(PoisonError::into_inner);
        dependencies.iter().find(|known| known.kind == kind && &*known.name == name).cloned()
    }

    /// All of them, in the order in which they were named.
    #[must_use]
    pub fn dependencies(&self) -> Vec<Arc<Dependency>> {
        self.0.dependencies.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|one| !one.hidden.load(Ordering::Relaxed)).cloned().collect()
    }

    /// These owners lack something at an authorization server, and no others.
    pub fn owners_without_consent(&self, authorization_server: &Arc<str>, owners: Vec<(Arc<str>, OwnerLacks)>) {
        self.0.metrics.owners_without_consent(authorization_server, owners.len());
        self.0.consents.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(authorization_server), owners);
    }

    /// The owners who lack something, each with the authorization server.
    #[must_use]
    pub fn without_consent(&self) -> Vec<(Arc<str>, Arc<str>, OwnerLacks)> {
        let consents = self.0.consents.lock().unwrap_or_else(PoisonError::into_inner);
        consents.iter().flat_map(|(server, owners)| owners.iter().map(|(owner, lacks)| (Arc::clone(server), Arc::clone(owner), *lacks))).collect()
    }

    /// Shows those that `named` holds for, by kind and name, and no others: another configuration is in force.
    pub fn show(&self, named: impl Fn(&str, &str) -> bool) {
        self.0.consents.lock().unwrap_or_else(PoisonError::into_inner).retain(|server, _| named("authorization_server", server));
        for one in &*self.0.dependencies.lock().unwrap_or_else(PoisonError::into_inner) {
            one.show(named(one.kind, &one.name));
        }
    }
}

impl Dependency {
    fn show(&self, shown: bool) {
        let mut held = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let was_hidden = self.hidden.swap(!shown, Ordering::Relaxed);
        if !shown && !was_hidden {
            // Named again, it begins anew.
            *held = None;
            self.state.store(UNKNOWN, Ordering::Relaxed);
            self.metrics.dependency_gone(self.kind, &self.name);
        }
    }

    /// It failed. The reason is for operators: it names no secret and no address of a client.
    pub fn failed(&self, reason: impl std::fmt::Display) {
        // The usual case is that nothing changes, and costs one load.
        if self.state.load(Ordering::Relaxed) == DOWN {
            return;
        }
        // Held over the whole change, so that state, reason and metric cannot come apart.
        let mut held = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.swap(DOWN, Ordering::Relaxed) == DOWN {
            return;
        }
        let reason = reason.to_string();
        tracing::warn!(kind = self.kind, name = &*self.name, reason, "dependency failed");
        *held = Some(reason);
        if !self.hidden.load(Ordering::Relaxed) {
            self.metrics.dependency(self.kind, &self.name, false);
        }
    }

    /// It answered.
    pub fn recovered(&self) {
        if self.state.load(Ordering::Relaxed) == UP {
            return;
        }
        let mut held = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        match self.state.swap(UP, Ordering::Relaxed) {
            UP => return,
            DOWN => tracing::info!(kind = self.kind, name = &*self.name, "dependency recovered"),
            _ => tracing::debug!(kind = self.kind, name = &*self.name, "dependency reached"),
        }
        *held = None;
        if !self.hidden.load(Ordering::Relaxed) {
            self.metrics.dependency(self.kind, &self.name, true);
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.state.load(Ordering::Relaxed) {
            UP => Standing::Up,
            DOWN => Standing::Down,
            _ => Standing::Unknown,
        }
    }

    /// Why it is down.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is told of it while it is up.
    pub fn tell(&self, detail: impl Fn() -> String + Send + Sync + 'static) {
        let _ = self.detail.set(Detail(Box::new(detail)));
    }

    /// What is told of it while it is up.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        self.detail.get().filter(|_| self.standing() == Standing::Up).map(|detail| detail.0())
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> (Health, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new().expect("definitions are valid"));
        (Health::new(Arc::clone(&metrics)), metrics)
    }

    #[test]
    fn only_the_first_failure_counts_as_a_change() {
        let (health, metrics) = health();
        let upstream = health.dependency("upstream", "albums");
        upstream.failed("refused");
        upstream.failed("timed out");
        assert_eq!((upstream.standing(), upstream.reason().as_deref()), (Standing::Down, Some("refused")));
        assert!(metrics.encode().expect("metrics").contains("uma_gateway_dependency_up{kind=\"upstream\",name=\"albums\"} 0"));
        upstream.recovered();
        assert_eq!((upstream.standing(), upstream.reason()), (Standing::Up, None));
        assert!(metrics.encode().expect("metrics").contains("uma_gateway_dependency_up{kind=\"upstream\",name=\"albums\"} 1"));
    }

    #[test]
    fn a_dependency_that_was_never_asked_is_neither_up_nor_down() {
        let (health, metrics) = health();
        assert_eq!(health.dependency("upstream", "albums").standing(), Standing::Unknown);
        assert!(!metrics.encode().expect("metrics").contains("uma_gateway_dependency_up{"));
    }

    #[test]
    fn what_no_configuration_names_any_more_is_not_shown_and_begins_anew_when_it_is() {
        let (health, metrics) = health();
        let upstream = health.dependency("upstream", "albums");
        upstream.failed("refused");
        health.show(|_, name| name != "albums");
        upstream.failed("refused by whoever still asks");
        assert!(health.dependencies().is_empty());
        assert!(!metrics.encode().expect("metrics").contains("uma_gateway_dependency_up{"));
        health.show(|_, _| true);
        upstream.recovered();
        assert_eq!(health.dependencies().len(), 1);
    }

    #[test]
    fn everyone_shares_one_of_each() {
        let (health, _) = health();
        assert!(Arc::ptr_eq(&health.dependency("upstream", "albums"), &health.dependency("upstream", "albums")));
        assert_eq!(health.dependencies().len(), 1);
    }
}
