//! One worker: a thread with a current-thread runtime, its own sockets, its own upstream connections.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio::task::LocalSet;

use super::StartError;
use crate::enforcement::Judge;
use crate::listener::{self, Bound, Event, Settings, Socket};
use crate::stack::{Current, stack};
use crate::telemetry::{Health, Metrics, Telemetry};
use crate::upstream::{Fleet, Pool, Upstream};

/// What every worker is made of.
pub struct Parts {
    pub current: Current,
    pub judge: Judge,
    pub telemetry: Telemetry,
    pub settings: Settings,
    pub health: Health,
    pub fleet: Arc<Fleet>,
    /// The gateway's name in `Via`.
    pub pseudonym: Arc<str>,
    pub stopped: watch::Receiver<bool>,
}

/// The listener's settings, with its events counted.
pub fn settings(settings: &Settings, metrics: &Arc<Metrics>) -> Settings {
    let metrics = Arc::clone(metrics);
    Settings { on_event: Arc::new(move |event| count(&metrics, event)), ..settings.clone() }
}

fn count(metrics: &Metrics, event: Event) {
    match event {
        Event::Opened => metrics.connection_opened(),
        Event::Closed => metrics.connection_closed(),
        Event::Refused => metrics.connection_refused(),
        Event::Panicked => metrics.panicked(),
        Event::AcceptFailed | Event::Expired => {}
    }
}

/// Starts them all; each gets a socket of every listener.
pub fn start_all(bound: Vec<Bound>, workers: usize, parts: &Parts) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut sockets: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for bound in bound {
        let all = bound.sockets(workers).map_err(|error| StartError::System(format!("a worker's socket: {error}")))?;
        for (list, socket) in sockets.iter_mut().zip(all) {
            list.push(socket);
        }
    }
    sockets.into_iter().enumerate().map(|(number, sockets)| start(number, sockets, parts)).collect()
}

fn start(number: usize, sockets: Vec<Socket>, parts: &Parts) -> Result<JoinHandle<()>, StartError> {
    let (current, judge, telemetry) = (parts.current.clone(), parts.judge.clone(), parts.telemetry.clone());
    let (settings, health, stopped) = (parts.settings.clone(), parts.health.clone(), parts.stopped.clone());
    let (pseudonym, fleet) = (Arc::clone(&parts.pseudonym), Arc::clone(&parts.fleet));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| StartError::System(error.to_string()))?;
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let upstream = Upstream::new(Pool::new(health, fleet));
                let service = stack(current, judge, &telemetry, upstream, pseudonym);
                let mut serving = tokio::task::JoinSet::new();
                for socket in sockets {
                    let (service, settings, mut stopped) = (service.clone(), settings.clone(), stopped.clone());
                    serving.spawn_local(async move {
                        let shutdown = async move {
                            let _ = stopped.wait_for(|stopped| *stopped).await;
                        };
                        if let Err(error) = listener::serve(socket, settings, move || service, shutdown).await {
                            tracing::error!(%error, "a listener's socket cannot be served");
                        }
                    });
                }
                while serving.join_next().await.is_some() {}
            });
        })
        .map_err(|error| StartError::System(error.to_string()))
}
