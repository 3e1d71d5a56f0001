//! How shares stand in the configuration that is in force.
//!
//! An upstream that has another name, and a route or an owner's place there that is gone, close what was shared by them. The log says so once for each
//! configuration, by number and example, the API says it of each share, and a gauge counts them. Nothing here opens or closes anything: requests are judged by
//! `enforcement`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::config::Config;
use super::place::{Place, place};
use super::registrar::Registrar;
use crate::routing::{ResourceChoice, RouteConfig};
use crate::stack::Snapshot;
use crate::store::{Registered, Resource, ResourceKey, ResourceRecord, Store, View};
use crate::telemetry::{Metrics, ShareState};

/// Why a registered share opens nothing, whatever its owner grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Owners share by another authorization server.
    Server,
    /// No route shares the path.
    Route,
    /// The path is another owner's.
    Owner,
    /// The content is elsewhere, by the upstream's name.
    Upstream,
}

impl Unserved {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Server => "owners share by another authorization server now",
            Self::Route => "no route lets owners share this path any more",
            Self::Owner => "the route lets another owner share this path now",
            Self::Upstream => "the route has an upstream of another name now",
        }
    }
}

/// What of a share says where it stands.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    authorization_server: &'a str,
    path: &'a str,
    owner: &'a str,
    upstream: &'a str,
}

impl<'a> Shared<'a> {
    pub fn of(resource: &'a Resource) -> Self {
        let Resource { authorization_server, path, owner, upstream, .. } = resource;
        Self { authorization_server, path: path.as_deref().unwrap_or_default(), owner, upstream }
    }

    fn found(known: &'a Registered) -> Self {
        let Registered { authorization_server, path, owner, upstream, .. } = known;
        Self { authorization_server, path: path.as_deref().unwrap_or_default(), owner, upstream }
    }

    /// Why a configuration closes it; `None`: it does not. `config` is its section `shares`.
    pub fn unserved(self, snapshot: &Snapshot, config: Option<&Config>) -> Option<Unserved> {
        let Some(config) = config else { return Some(Unserved::Route) };
        if *config.server.issuer != *self.authorization_server {
            return Some(Unserved::Server);
        }
        match place(snapshot, config, self.path) {
            Err(_) => Some(Unserved::Route),
            Ok(Place { owner: Some(owner), .. }) if *owner != *self.owner => Some(Unserved::Owner),
            Ok(Place { route, .. }) if *route.config().upstream_name != *self.upstream => Some(Unserved::Upstream),
            Ok(_) => None,
        }
    }
}

/// How all shares that are registered stand in one configuration.
#[derive(Debug, Default)]
pub struct Survey {
    /// How many there are.
    pub all: u64,
    closed: HashSet<ResourceKey>,
    /// One that is closed: the one that was made first.
    pub example: Option<Example>,
}

/// A share that is closed.
#[derive(Clone, Debug)]
pub struct Example {
    key: ResourceKey,
    id: Option<Box<str>>,
    /// Its path.
    pub path: Option<Box<str>>,
    /// Whose it is.
    pub owner: Arc<str>,
    /// Where its content was, by name.
    pub upstream: Box<str>,
    /// Why it is closed.
    pub why: Unserved,
}

impl Survey {
    /// How many are closed.
    #[must_use]
    pub fn closed(&self) -> usize {
        self.closed.len()
    }
}

/// Looks how all shares stand in this configuration. `config` is its section `shares`.
#[must_use]
pub fn survey(view: &View, snapshot: &Snapshot, config: Option<&Config>) -> Survey {
    let mut survey = Survey::default();
    view.each(|known| {
        survey.all = survey.all.saturating_add(1);
        let Some(why) = Shared::found(known).unserved(snapshot, config) else { return };
        survey.closed.insert(known.key);
        if survey.example.as_ref().is_none_or(|example| known.key < example.key) {
            let Registered { key, link, path, owner, upstream, .. } = known;
            survey.example = Some(Example { key: *key, id: link.clone(), path: path.clone(), owner: Arc::clone(owner), upstream: upstream.clone(), why });
        }
    });
    survey
}

/// A configuration, and its section `shares`.
type InForce = (Arc<Snapshot>, Option<Arc<Config>>);

/// What is known of how shares stand. Lives on the control thread.
pub struct Standings {
    store: Store,
    metrics: Arc<Metrics>,
    closed: RefCell<HashSet<ResourceKey>>,
    /// What was withdrawn while a survey is under way, which may count it.
    withdrawn: RefCell<Vec<ResourceKey>>,
    surveys: Cell<u32>,
    /// What the authorization server knows no more, and when that was seen last.
    lost: RefCell<BTreeMap<ResourceKey, Instant>>,
    /// The [`terms`] of the configuration that the shares were held against last.
    terms: Cell<Option<u64>>,
    hasher: RandomState,
    /// The configuration in force, for what is registered later.
    in_force: RefCell<Option<InForce>>,
    /// What was found closed when it was registered, while a survey is under way, which may not have seen it.
    late: RefCell<Vec<ResourceKey>>,
    /// How many are closed, the example and why, as the log has it.
    told: Cell<Option<(usize, ResourceKey, Unserved)>>,
}

impl Standings {
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        let standings = Self {
            store,
            metrics,
            closed: RefCell::default(),
            withdrawn: RefCell::default(),
            surveys: Cell::default(),
            lost: RefCell::default(),
            terms: Cell::default(),
            hasher: RandomState::new(),
            in_force: RefCell::default(),
            late: RefCell::default(),
            told: Cell::default(),
        };
        standings.count();
        standings
    }

    /// Brings the gauge up to date.
    pub fn count(&self) {
        let counts = self.store.counts();
        let closed = self.closed.borrow();
        let lost = self.lost.borrow().keys().filter(|key| !closed.contains(key)).count() as u64;
        let closed = closed.len() as u64;
        let open = counts.registered.saturating_sub(closed).saturating_sub(lost);
        let all = [
            (ShareState::Open, open),
            (ShareState::Closed, closed),
            (ShareState::Lost, lost),
            (ShareState::Wanted, counts.wanted),
            (ShareState::Unwanted, counts.unwanted),
        ];
        all.into_iter().for_each(|(state, count)| self.metrics.shares(state, count));
    }

    /// It is registered now, maybe long after it was asked for, and by another configuration.
    pub fn registered(&self, record: &ResourceRecord) {
        let in_force = self.in_force.borrow();
        let Some((snapshot, config)) = &*in_force else { return };
        let Some(why) = Shared::of(&record.resource).unserved(snapshot, config.as_deref()) else { return };
        let Resource { owner, link, path, .. } = &record.resource;
        let (id, path, why) = (link.as_deref(), path.as_deref(), why.words());
        tracing::warn!(owner, id, path, why, "a share is registered, and closed: the configuration is another one than when its path was shared");
        self.closed.borrow_mut().insert(record.key);
        if self.surveys.get() > 0 {
            self.late.borrow_mut().push(record.key);
        }
    }

    /// It is registered no more.
    pub fn withdrawn(&self, key: ResourceKey) {
        self.closed.borrow_mut().remove(&key);
        self.lost.borrow_mut().remove(&key);
        if self.surveys.get() > 0 {
            self.withdrawn.borrow_mut().push(key);
        }
        self.count();
    }

    /// The authorization server knows it no more. True: that is news.
    pub fn lost(&self, key: ResourceKey) -> bool {
        let is_news = self.lost.borrow_mut().insert(key, Instant::now()).is_none();
        self.count();
        is_news
    }

    /// When that was seen last.
    pub fn lost_at(&self, key: ResourceKey) -> Option<Instant> {
        self.lost.borrow().get(&key).copied()
    }

    /// The authorization server knows it again.
    pub fn found(&self, key: ResourceKey) {
        if self.lost.borrow_mut().remove(&key).is_some() {
            self.count();
        }
    }

    fn take(&self, survey: Survey) {
        let Survey { all, mut closed, example } = survey;
        closed.extend(self.late.take());
        for key in self.withdrawn.take() {
            closed.remove(&key);
        }
        let count = closed.len();
        self.closed.replace(closed);
        self.count();
        let told = example.as_ref().map(|example| (count, example.key, example.why));
        if self.told.replace(told) == told {
            return;
        }
        match example {
            Some(Example { id, path, owner, upstream, why, .. }) => tracing::warn!(
                closed = count,
                of = all,
                example = path.as_deref(),
                id = id.as_deref(),
                owner = &*owner,
                upstream = &*upstream,
                why = why.words(),
                "shares are closed: the configuration is another one than when their paths were shared. Give route, owner and upstream the names that they had, \
                 or have the shares deleted and made anew"
            ),
            None => tracing::info!(of = all, "no share is closed by the configuration any more"),
        }
    }
}

impl Registrar {
    /// Looks how all shares stand in this configuration, beside whatever else is to be done. `config` is its section `shares`.
    pub async fn survey(self: Rc<Self>, snapshot: Arc<Snapshot>, config: Option<Arc<Config>>) {
        let standings = self.standings();
        let terms = Some(terms(&standings.hasher, &snapshot, config.as_deref()));
        standings.in_force.replace(Some((Arc::clone(&snapshot), config.clone())));
        if standings.terms.get() == terms {
            return;
        }
        let view = standings.store.view();
        let _surveying = Surveying::new(&standings.surveys, &standings.withdrawn);
        // A million of them take seconds.
        let read = tokio::task::spawn_blocking(move || survey(&view, &snapshot, config.as_deref()));
        if let Ok(survey) = read.await {
            standings.take(survey);
            standings.terms.set(terms);
        }
    }
}

/// What of a configuration says where shares stand. Where none of it is other than before, as after a change of certificates, nobody need look again.
fn terms(hasher: &RandomState, snapshot: &Snapshot, config: Option<&Config>) -> u64 {
    let mut terms = hasher.build_hasher();
    config.map(|config| (&config.server.issuer, &config.host, &config.prefix)).hash(&mut terms);
    for route in snapshot.routes.routes() {
        let RouteConfig { host, pattern, upstream_name, opt_ins, .. } = route.config();
        let shared = route.protect().map(|protect| {
            let ResourceChoice::Shared { owner } = &protect.resource else { return None };
            Some((&protect.server.issuer, owner.as_ref().map(|owner| &owner.text)))
        });
        (host.to_string(), &pattern.text, upstream_name, opt_ins, shared).hash(&mut terms);
    }
    terms.finish()
}

/// A survey that is under way.
struct Surveying<'a> {
    surveys: &'a Cell<u32>,
    withdrawn: &'a RefCell<Vec<ResourceKey>>,
}

impl<'a> Surveying<'a> {
    fn new(surveys: &'a Cell<u32>, withdrawn: &'a RefCell<Vec<ResourceKey>>) -> Self {
        surveys.set(surveys.get().saturating_add(1));
        Self { surveys, withdrawn }
    }
}

impl Drop for Surveying<'_> {
    fn drop(&mut self) {
        self.surveys.set(self.surveys.get().saturating_sub(1));
        if self.surveys.get() == 0 {
            self.withdrawn.take();
        }
    }
}
