//! A whole new configuration, or the old one stays.
//!
//! First everything that can fail: the file is read and checked, the snapshot built, files of trust read, sockets bound. Then everything that cannot: servers
//! become known before the first request can ask for them, the snapshot is swapped, and what is not named any more goes when nobody uses it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::InForce;
use super::certificates::Certificates;
use super::doors::{self, Doors};
use super::keeping::{Clients, Ended, Keeping};
use super::listeners::{Listeners, Plan};
use super::snapshot::{self, Before, Built};
use super::watching::{Content, Watched, content};
use crate::admin::Status;
use crate::config;
use crate::credentials::Credential;
use crate::enforcement::Desk;
use crate::listener::Terms;
use crate::stack::{Current, Snapshot};
use crate::store::Lookup;
use crate::telemetry::config::LogConfig;
use crate::telemetry::{AsEndpoint, Health, Metrics, SecretKind};
use crate::upstream::{Checks, Fleet};

/// Who wants the configuration read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// SIGHUP.
    Signal,
    /// The file, or one that it names, has changed.
    Files,
    /// The operator's door.
    Operator,
}

impl Why {
    const fn label(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Files => "files",
            Self::Operator => "operator",
        }
    }
}

/// Why a configuration was not taken: a line for each mistake, with file, line and column where it has one. The one before stays in force.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", mistakes.join("; "))]
pub struct Refused {
    /// The lines.
    pub mistakes: Vec<String>,
}

impl Refused {
    fn because(reason: &dyn std::error::Error) -> Self {
        let mut line = reason.to_string();
        let mut source = reason.source();
        while let Some(cause) = source {
            line = format!("{line}: {cause}");
            source = cause.source();
        }
        Self { mistakes: vec![line] }
    }
}

/// The settings that have changed and wait for a restart, by their keys.
pub type Waiting = Vec<&'static str>;

/// Asks for reloads. Clones ask the same gateway, from any thread.
#[derive(Clone)]
pub struct Reloads(mpsc::UnboundedSender<Order>);

/// One request for a reload.
pub struct Order {
    why: Why,
    reply: Option<oneshot::Sender<Result<Waiting, Refused>>>,
}

impl Reloads {
    /// The way to the control thread, and its end there.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Asks for a reload and waits for nothing; what comes of it is logged.
    pub fn ask(&self, why: Why) {
        // A gateway that has ended reloads nothing.
        let _ = self.0.send(Order { why, reply: None });
    }

    /// Reads the configuration file anew and takes it into force, but for what is returned. Requests that are under way keep the configuration that they
    /// began with.
    ///
    /// # Errors
    /// It is not taken, and why.
    pub async fn reload(&self, why: Why) -> Result<Waiting, Refused> {
        let (reply, answer) = oneshot::channel();
        let ended = || Refused { mistakes: vec!["the gateway is ending".to_owned()] };
        self.0.send(Order { why, reply: Some(reply) }).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// What only a restart changes: `workers`, `log`, `store`.
pub type Fixed = (Option<usize>, LogConfig, Option<crate::store::Config>);

/// These settings of a configuration.
pub fn fixed(config: &config::Gateway) -> Fixed {
    (config.workers, config.log.clone(), config.store.clone())
}

/// The configuration in force, and everything that runs for it. Lives on the control thread.
pub struct Running {
    pub file: PathBuf,
    pub workers: usize,
    /// As it runs, and as was told last.
    pub fixed: Fixed,
    pub told: Fixed,
    pub inherited: Arc<Vec<TcpListener>>,
    pub current: Current,
    pub records: Lookup,
    pub in_force: InForce,
    pub listeners: Listeners,
    pub terms: Terms,
    pub doors: Doors,
    pub desk: Rc<Desk>,
    pub keeping: Keeping,
    pub fleet: Arc<Fleet>,
    pub checks: Checks,
    pub certificates: Certificates,
    pub watched: Rc<Watched>,
    pub status: Arc<Status>,
    pub health: Health,
    pub metrics: Arc<Metrics>,
}

/// All that can fail has been done.
struct Prepared {
    config: config::Gateway,
    built: Built,
    clients: Clients,
    ended: Ended,
    listeners: Plan,
    doors: doors::Bound,
}

impl Running {
    /// Obeys an order, and those that wait with it: one reading serves them all.
    pub async fn obey(&mut self, first: Order, orders: &mut mpsc::UnboundedReceiver<Order>) {
        let mut all = vec![first];
        while let Ok(order) = orders.try_recv() {
            all.push(order);
        }
        let why = all.first().map_or("", |order| order.why.label());
        let outcome = match self.prepare().await {
            Ok(prepared) => Ok(self.carry_out(prepared, why)),
            Err(refused) => {
                self.metrics.config_loaded(false);
                self.status.reload_refused(refused.to_string());
                tracing::error!(why, reason = %refused, "the configuration is refused; the one before stays in force");
                Err(refused)
            }
        };
        for reply in all.into_iter().filter_map(|order| order.reply) {
            let _ = reply.send(outcome.clone());
        }
    }

    async fn prepare(&self) -> Result<Prepared, Refused> {
        let (config, built) = self.read().await?;
        let failed = |error: super::StartError| Refused { mistakes: vec![error.told(&config.places)] };
        let clients = self.keeping.clients(&config.authorization_servers).map_err(failed)?;
        let ended = self.keeping.ended(&config.authorization_servers).await;
        let doors = self.doors.plan(&config).map_err(failed)?;
        // Last: a socket that listens takes connections, and they would be lost if anything failed after it.
        let listeners = self.listeners.plan(&config.listeners, self.workers, &self.inherited).map_err(failed)?;
        Ok(Prepared { config, built, clients, ended, listeners, doors })
    }

    /// Reads and builds, off the control thread: authorization servers are asked meanwhile.
    async fn read(&self) -> Result<(config::Gateway, Built), Refused> {
        let (file, known, metrics) = (self.file.clone(), self.watched.files(), Arc::clone(&self.metrics));
        let before = Before { snapshot: self.current.load_full(), tokens: self.keeping.tokens() };
        let records = self.records.clone();
        let read = move || {
            let (files, content, outcome) = load(&file, known);
            let built = outcome.and_then(|config| {
                let built = snapshot::build(&config, Some(&before), &records, &metrics).map_err(|error| Refused::because(&error))?;
                Ok((config, built))
            });
            (files, content, built)
        };
        let (files, content, outcome) = tokio::task::spawn_blocking(read).await.map_err(|error| Refused::because(&error))?;
        self.watched.was_read(&files, content);
        outcome
    }

    /// Nothing here can fail. What waits for a restart.
    fn carry_out(&mut self, prepared: Prepared, why: &'static str) -> Waiting {
        let Prepared { config, built: Built { snapshot, wanted, tokens }, clients, ended, listeners, doors } = prepared;
        self.keeping.serve(&config.authorization_servers, clients, ended, wanted);
        self.keeping.renew(tokens);
        self.desk.limit_to(&config.limits);
        self.metrics.connections_at_most(self.terms.limit_to(&config.connections));
        let snapshot = Arc::new(snapshot);
        let old = self.current.swap(Arc::clone(&snapshot));
        self.checks.set(&self.fleet, snapshot.upstreams.iter());
        self.fleet.keep_only(snapshot.upstreams.iter());
        self.keeping.retire(&old, &config.authorization_servers);
        self.keeping.sweep();
        let (opened, closed) = self.listeners.carry_out(listeners, config.drain.timeout);
        self.certificates.look_after(self.listeners.tls(), &snapshot.upstreams);
        self.doors.carry_out(doors, &config);
        self.status.reloaded(config.authorization_servers.iter().map(|server| Arc::clone(&server.name)));
        note_credentials(&self.metrics, Some(&old), &snapshot, &config);
        self.health.show(|kind, name| match kind {
            kind if AsEndpoint::is_of_server(kind) => config.authorization_servers.iter().any(|server| *server.name == *name),
            "upstream" | "proxy_credential" => config.upstreams.iter().any(|upstream| *upstream.name == *name),
            _ => true,
        });
        self.metrics.config_loaded(true);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        for address in opened {
            tracing::info!(%address, "listening");
        }
        for address in closed {
            tracing::info!(%address, "no longer listening; requests under way are finished");
        }
        let waiting = self.tell_fixed(&config);
        let routes = config.routes.len();
        self.in_force.store(Arc::new(config));
        tracing::info!(why, routes, "the configuration was read anew and is in force");
        waiting
    }

    /// What only a restart changes; the log says it once.
    fn tell_fixed(&mut self, config: &config::Gateway) -> Waiting {
        let wanted = fixed(config);
        let all = [("workers", wanted.0 != self.fixed.0), ("log", wanted.1 != self.fixed.1), ("store", wanted.2 != self.fixed.2)];
        let waiting: Waiting = all.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect();
        if wanted != self.told {
            for key in &waiting {
                tracing::warn!(key, "this setting has changed and needs a restart; the gateway goes on with the old one");
            }
            self.told = wanted;
        }
        waiting
    }
}

/// Reads the file; also which files count from now on, and what stood in them before they were read, so that a change from then on is seen as one.
fn load(file: &Path, mut files: Vec<PathBuf>) -> (Vec<PathBuf>, Content, Result<config::Gateway, Refused>) {
    loop {
        let before = content(&files);
        let outcome = config::load(file);
        let named = match &outcome {
            Ok(config) => config.files.clone(),
            // A file with mistakes may name only some of its files: those of before count as well.
            Err(problems) => [problems.files(), &files].concat(),
        };
        let mut named: Vec<PathBuf> = named.into_iter().chain([file.to_owned()]).collect();
        named.sort();
        named.dedup();
        if named == files {
            return (files, before, outcome.map_err(|problems| Refused { mistakes: problems.lines() }));
        }
        files = named;
    }
}

/// Says when each proxy credential was taken into use. One that is still to be tried says so itself.
pub fn note_credentials(metrics: &Metrics, old: Option<&Snapshot>, new: &Snapshot, config: &config::Gateway) {
    let of = |snapshot: &Snapshot, name: &str| {
        let mut all = snapshot.upstreams.iter().zip(&snapshot.proxies);
        all.find(|(upstream, _)| *upstream.name == *name).map(|(_, proxy)| Arc::clone(proxy))
    };
    for ((upstream, proxy), credential) in new.upstreams.iter().zip(&new.proxies).zip(&config.credentials) {
        let known = old.and_then(|old| of(old, &upstream.name)).is_some_and(|old| old.puts_the_same(proxy));
        if matches!(credential.credential, Credential::None) {
            metrics.secret_gone(SecretKind::ProxyCredential, &upstream.name);
        } else if !known && !proxy.is_on_trial() {
            metrics.secret_loaded(SecretKind::ProxyCredential, &upstream.name);
        }
    }
    for upstream in old.iter().flat_map(|old| &old.upstreams).filter(|upstream| of(new, &upstream.name).is_none()) {
        metrics.secret_gone(SecretKind::ProxyCredential, &upstream.name);
    }
}
