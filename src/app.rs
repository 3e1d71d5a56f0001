//! From a checked configuration to running threads. The only file that knows all rooms.
//!
//! Each worker is a thread with a runtime, a socket and connections of its own; one more thread, the control thread, runs everything that talks to
//! authorization servers. [`Gateway::start`] returns once every socket is bound and every thread is up; what is still missing then shows in `/readyz`.

mod control;
mod explain;
mod probe;
mod snapshot;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::admin::Status;
use crate::authorization_server::Resources;
use crate::cache::Introspections;
use crate::config;
use crate::enforcement::{self, Judge};
use crate::listener;
use crate::stack::{Current, Snapshot};
use crate::telemetry::{Health, Metrics, Telemetry};
use crate::upstream::Fleet;

pub use explain::{Explainer, Question, explain_offline};
pub use probe::{Probe, probe};

/// A gateway that runs.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    health: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    workers: Threads,
    control: Threads,
    telemetry: Telemetry,
    judge: Judge,
    current: Current,
    status: Arc<Status>,
    config: config::Gateway,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be had.
    #[error(transparent)]
    Bind(#[from] listener::BindError),
    /// The admin door.
    #[error(transparent)]
    Admin(#[from] crate::admin::DoorError),
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
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] crate::telemetry::MetricsError),
    /// The system gives no thread, runtime or randomness.
    #[error("the system does not let the gateway start: {0}")]
    System(String),
}

/// What a start may be given besides the configuration.
#[derive(Clone, Default)]
pub struct Options {
    /// Where log lines go instead of standard output.
    pub log: Option<fn() -> Box<dyn std::io::Write + Send>>,
    /// Deadlines and bounds of listeners.
    pub listener: listener::Settings,
}

impl Gateway {
    /// Binds every address and starts every thread.
    ///
    /// # Errors
    /// See [`StartError`]; nothing stays behind.
    pub fn start(config: config::Gateway, options: &Options) -> Result<Self, StartError> {
        let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let bound = config.listeners.iter().map(listener::bind).collect::<Result<Vec<_>, _>>()?;
        let addresses = bound.iter().map(listener::Bound::local_addr).collect();
        let doors = control::Doors::bind(&config)?;
        let (health, admin) = (doors.health_address(), doors.admin_address());
        let Rooms { judge, current, telemetry, status, control } = Rooms::build(&config, options)?;
        crate::telemetry::init_events(&config.log, &telemetry);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }

        let (stop_workers, workers_stopped) = watch::channel(false);
        let (stop_control, control_stopped) = watch::channel(false);
        let (control_health, control_fleet) = (control.health.clone(), Arc::clone(&control.fleet));
        let explainer = Explainer::new(judge.clone(), Arc::clone(&current));
        let control = Threads { stop: stop_control, threads: vec![control::start(control, doors, explainer, control_stopped)?] };
        let parts = worker::Parts {
            current: Arc::clone(&current),
            judge: judge.clone(),
            telemetry: telemetry.clone(),
            settings: worker::settings(&options.listener, telemetry.metrics()),
            health: control_health,
            fleet: control_fleet,
            pseudonym: pseudonym()?,
            stopped: workers_stopped,
        };
        let workers = Threads { stop: stop_workers, threads: worker::start_all(bound, workers, &parts)? };
        telemetry.metrics().config_loaded(true);
        status.started();
        Ok(Self { addresses, health, admin, workers, control, telemetry, judge, current, status, config })
    }

    /// The address of a listener, by its place in the configuration.
    #[must_use]
    pub fn address(&self, listener: usize) -> Option<SocketAddr> {
        self.addresses.get(listener).copied()
    }

    /// The address of the health listener.
    #[must_use]
    pub const fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// The address of the admin door, where it has one.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
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

    /// The configuration that it was started with.
    #[must_use]
    pub const fn config(&self) -> &config::Gateway {
        &self.config
    }

    /// Whether every authorization server has been reached once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status.is_ready()
    }

    /// Stops: no new connections, requests under way get `drain` to finish. Returns when every thread has ended, or after `drain` and a second.
    pub fn stop(mut self, drain: Duration) {
        self.halt(drain);
    }

    fn halt(&mut self, drain: Duration) {
        self.workers.stop(drain + Duration::from_secs(1));
        self.control.stop(Duration::from_secs(1));
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
    fn build(config: &config::Gateway, options: &Options) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new()?);
        let telemetry = match options.log {
            Some(log) => Telemetry::start_into(&config.log, Arc::clone(&metrics), log())?,
            None => Telemetry::start(&config.log, Arc::clone(&metrics))?,
        };
        let fleet = Fleet::new(Arc::clone(&metrics));
        let health = Health::new(metrics);
        let cache = Arc::new(Introspections::counted(telemetry.metrics()).map_err(|_| StartError::System("no randomness".into()))?);
        let resources = Resources::default();
        let (sender, questions) = enforcement::channel();
        let judge = Judge {
            cache: Arc::clone(&cache),
            resources: resources.clone(),
            control: sender,
            limits: Arc::new(config.limits.clone()),
            open_with: config.open_with.clone(),
            dry: false,
        };
        let snapshot::Built { snapshot, wanted, tokens } = snapshot::build(config)?;
        let status = Arc::new(Status::new(config.authorization_servers.iter().map(|server| Arc::clone(&server.name)), health.clone()));
        let control = control::Parts {
            servers: config.authorization_servers.clone(),
            wanted,
            tokens,
            questions,
            cache,
            resources,
            limits: Arc::clone(&judge.limits),
            health,
            fleet,
            upstreams: snapshot.upstreams.clone(),
            telemetry: telemetry.clone(),
            status: Arc::clone(&status),
        };
        Ok(Self { judge, current: Arc::new(arc_swap::ArcSwap::from_pointee(snapshot)), telemetry, status, control })
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
        let until = Instant::now() + patience;
        for thread in self.threads.drain(..) {
            // A thread cannot be joined with a deadline.
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
