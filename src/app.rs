//! From a checked configuration to running threads. The only file that knows all rooms.
//!
//! Each worker is a thread with a runtime, a socket and connections of its own; one more thread, the control thread, runs everything that talks to
//! authorization servers. [`Gateway::start`] returns once every socket is bound and every thread is up; what is still missing then shows in `/readyz`.

mod certificates;
mod control;
mod doors;
mod explain;
mod keeping;
mod listeners;
mod probe;
mod records;
mod reload;
mod shares;
mod snapshot;
mod watching;
mod worker;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::admin::{DoorError, Status};
use crate::authorization_server::Resources;
use crate::cache::Introspections;
use crate::config;
use crate::enforcement::{self, Guesses, Judge};
use crate::listener::{self, Cut, Drain};
use crate::stack::{Current, Snapshot};
use crate::store::Lookup;
use crate::telemetry::{Health, Metrics, Telemetry};
use crate::upstream::Fleet;

pub use explain::{Explainer, Question, explain_offline};
pub use probe::{Probe, probe};
pub use reload::{Refused, Reloads, Why};

/// A gateway that runs.
pub struct Gateway {
    listeners: listeners::Listeners,
    doors: doors::Addresses,
    workers: Vec<JoinHandle<()>>,
    control: Threads,
    telemetry: Telemetry,
    judge: Judge,
    current: Current,
    status: Arc<Status>,
    in_force: InForce,
    reloads: Reloads,
    terms: listener::Terms,
}

/// The configuration in force, as it was read.
type InForce = Arc<ArcSwap<config::Gateway>>;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error(transparent)]
    Bind(#[from] listener::BindError),
    /// A listener's address cannot be had because a socket of the service manager has it, which is at another one.
    #[error(
        "{wanted} cannot be had: the service manager has handed over a socket at {handed}, and no listener has exactly this address. Write `address: {}` \
         here, or `ListenStream={wanted}` in the .socket unit", listener_address(*handed)
    )]
    Handed {
        /// What the configuration says.
        wanted: SocketAddr,
        /// Where the socket listens.
        handed: SocketAddr,
    },
    /// The admin door.
    #[error(transparent)]
    Admin(#[from] DoorError),
    /// The shares API.
    #[error("the shares API: {0}")]
    Shares(DoorError),
    /// The health address cannot be had.
    #[error("the health address {address} cannot be had: {error}")]
    Health {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Routes contradict each other. The configuration's own check finds this first.
    #[error("the routes cannot be served together: {0}")]
    Routes(String),
    /// TLS files of an authorization server.
    #[error("authorization server `{name}`: {error}")]
    Tls {
        /// The server.
        name: Arc<str>,
        /// Why.
        error: crate::http_client::HttpClientError,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] crate::telemetry::LogError),
    /// The records.
    #[cfg(feature = "store")]
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] crate::telemetry::MetricsError),
    /// The system gives no thread, runtime or randomness.
    #[error("the system does not let the gateway start: {0}")]
    System(String),
}

impl StartError {
    /// With its causes, and where the configuration names what cannot be had.
    #[must_use]
    pub fn told(&self, places: &config::Places) -> String {
        let place = match self {
            Self::Bind(error) => places.of(error.address()),
            Self::Handed { wanted: address, .. }
            | Self::Health { address, .. }
            | Self::Admin(DoorError::Address(address, _))
            | Self::Shares(DoorError::Address(address, _)) => places.of(*address),
            Self::Admin(_) => places.socket(),
            _ => None,
        };
        let mut told = place.map_or_else(String::new, |place| format!("{place}: "));
        told.push_str(&self.to_string());
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            told = format!("{told}: {cause}");
            source = cause.source();
        }
        told
    }
}

/// As YAML has it: a bracket would begin a list.
fn listener_address(address: SocketAddr) -> String {
    if address.is_ipv6() { format!("\"{address}\"") } else { address.to_string() }
}

/// What a start may be given besides the configuration.
#[derive(Clone, Default)]
pub struct Options {
    /// Where log lines go instead of standard output.
    pub log: Option<fn() -> Box<dyn std::io::Write + Send>>,
    /// Deadlines and bounds of listeners.
    pub listener: listener::Settings,
    /// Whether a change of the configuration file, or of one that it names, is taken into force by itself.
    pub watch: bool,
    /// Sockets that listen already, from a service manager; a listener with the same address takes its socket from here.
    pub sockets: Arc<Vec<TcpListener>>,
}

impl Gateway {
    /// Binds every address and starts every thread.
    ///
    /// # Errors
    /// See [`StartError`]; nothing stays behind.
    pub fn start(config: config::Gateway, options: &Options) -> Result<Self, StartError> {
        let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let (listeners, certificates) = (listeners::Listeners::default(), certificates::Certificates::default());
        let plan = listeners.plan(&config.listeners, workers, &options.sockets)?;
        let bound = doors::Bound::all(&config)?;
        let Rooms { judge, current, telemetry, status, control } = Rooms::build(config, options)?;
        crate::telemetry::init_events(&control.config.log, &telemetry);
        for warning in &control.config.warnings {
            tracing::warn!("{warning}");
        }
        listeners::tell_unserved(&control.config.listeners, &options.sockets);

        let in_force: InForce = Arc::new(ArcSwap::from_pointee(control.config.clone()));
        let (stop, stopped) = watch::channel(false);
        let doors = doors::Addresses::default();
        let terms = worker::terms(&options.listener, &control.config.connections, telemetry.metrics());
        let (reloads, orders) = Reloads::channel();
        let parts = worker::Parts {
            current: Arc::clone(&current),
            judge: judge.clone(),
            telemetry: telemetry.clone(),
            terms: terms.clone(),
            health: control.health.clone(),
            fleet: Arc::clone(&control.fleet),
            pseudonym: pseudonym()?,
        };
        let serving = control::Serving {
            workers,
            listeners: listeners.clone(),
            terms: terms.clone(),
            certificates: certificates.clone(),
            inherited: Arc::clone(&options.sockets),
            addresses: bound.announce(&doors),
            doors: bound,
            explainer: Explainer::new(judge.clone(), Arc::clone(&current), control.health.clone()),
            in_force: Arc::clone(&in_force),
            reloads: reloads.clone(),
            orders,
            watch: options.watch,
        };
        let control = Threads { stop, threads: vec![control::start(control, serving, stopped)?] };
        let (threads, senders) = worker::start_all(workers, &parts)?;
        listeners.serve_by(senders);
        listeners.carry_out(plan, Duration::ZERO);
        certificates.look_after(listeners.tls(), &current.load().upstreams);
        telemetry.metrics().config_loaded(true);
        status.started();
        Ok(Self { listeners, doors, workers: threads, control, telemetry, judge, current, status, in_force, reloads, terms })
    }

    /// The address of a listener, by its place in the configuration.
    #[must_use]
    pub fn address(&self, listener: usize) -> Option<SocketAddr> {
        self.listeners.address(listener)
    }

    /// The address of the health listener.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.doors.health()
    }

    /// The address of the admin door, where it has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.doors.admin()
    }

    /// The address of the shares API, where it has one.
    #[must_use]
    pub fn shares_address(&self) -> Option<SocketAddr> {
        self.doors.shares()
    }

    /// Records, log and metrics.
    #[must_use]
    pub const fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The introspection cache.
    #[must_use]
    pub const fn cache(&self) -> &Arc<Introspections> {
        &self.judge.cache
    }

    /// The configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The same, as it was read.
    #[must_use]
    pub fn config(&self) -> Arc<config::Gateway> {
        self.in_force.load_full()
    }

    /// Whether every authorization server has been reached once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.is_ready()
    }

    /// Asks for reloads.
    #[must_use]
    pub const fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// How the gateway is to end, as the configuration in force has it.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.in_force.load().drain
    }

    /// Is no longer ready, and goes on serving: whoever sends requests here is to look for another gateway.
    pub fn draining(&self) {
        self.status.draining();
    }

    /// Stops: no new connections, requests under way get `drain` to finish. Returns when every thread has ended, or after `drain` and a second; a refresh
    /// token that is being exchanged for another one is waited for, ten seconds at most.
    pub fn stop(mut self, drain: Duration) {
        self.halt(drain);
    }

    fn halt(&mut self, drain: Duration) {
        if self.workers.is_empty() {
            return;
        }
        // What a listener that went earlier has cut off is another matter.
        self.terms.take_cut();
        self.listeners.stop(drain);
        join(&mut self.workers, drain.saturating_add(Duration::from_secs(1)));
        match self.terms.take_cut() {
            nothing if nothing == Cut::default() => tracing::info!("stopped: nothing was cut off"),
            Cut { connections, requests, tunnels } => {
                tracing::warn!(connections, requests, tunnels, ?drain, "stopped: what was still under way when the time for it was over was cut off");
            }
        }
        self.control.stop(control::SETTLING.saturating_add(Duration::from_secs(1)));
        self.telemetry.flush(Duration::from_secs(1));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.halt(Duration::ZERO);
    }
}

/// A name for `Via` that tells this process from every other and nothing else (RFC 9110, 7.6.3).
fn pseudonym() -> Result<Arc<str>, StartError> {
    let mut random = [0; 4];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| StartError::System("no randomness".into()))?;
    Ok(format!("uma-{:08x}", u32::from_be_bytes(random)).into())
}

/// What a gateway is made of before any thread runs.
struct Rooms {
    judge: Judge,
    current: Current,
    telemetry: Telemetry,
    status: Arc<Status>,
    control: control::Parts,
}

impl Rooms {
    fn build(config: config::Gateway, options: &Options) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        let telemetry = match options.log {
            Some(log) => Telemetry::start_into(&config.log, Arc::clone(&metrics), log())?,
            None => Telemetry::start(&config.log, Arc::clone(&metrics))?,
        };
        let fleet = Fleet::new(Arc::clone(&metrics));
        let health = Health::new(Arc::clone(&metrics));
        let cache = Arc::new(Introspections::counted(telemetry.metrics()).map_err(|_| StartError::System("no randomness".into()))?);
        let resources = Resources::default();
        let (sender, questions) = enforcement::channel();
        let (follower, follows) = enforcement::follows(&metrics);
        let records = Lookup::default();
        let judge = Judge {
            cache: Arc::clone(&cache),
            resources: resources.clone(),
            records: records.clone(),
            control: sender,
            follower,
            guesses: Guesses::default(),
            dry: false,
        };
        let snapshot::Built { snapshot, wanted, tokens } = snapshot::build(&config, None, &records, &metrics)?;
        let status = Arc::new(Status::new(config.authorization_servers.iter().map(|server| Arc::clone(&server.name)), health.clone()));
        let current: Current = Arc::new(ArcSwap::from_pointee(snapshot));
        let control = control::Parts {
            config,
            wanted,
            tokens,
            questions,
            follows,
            cache,
            resources,
            records,
            health,
            fleet,
            telemetry: telemetry.clone(),
            status: Arc::clone(&status),
            current: Arc::clone(&current),
        };
        Ok(Self { judge, current, telemetry, status, control })
    }
}

/// Threads that end when they are told.
struct Threads {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn stop(&mut self, patience: Duration) {
        self.stop.send_replace(true);
        join(&mut self.threads, patience);
    }
}

/// Waits for threads that have been told to end.
fn join(threads: &mut Vec<JoinHandle<()>>, patience: Duration) {
    let until = Instant::now().checked_add(patience);
    for thread in threads.drain(..) {
        // A thread cannot be joined with a deadline.
        while !thread.is_finished() && until.is_none_or(|until| Instant::now() < until) {
            std::thread::sleep(Duration::from_millis(2));
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}
