//! One worker: a thread with a current-thread runtime, its own sockets, its own upstream connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tower::Service;

use super::StartError;
use super::listeners::Serve;
use crate::body::Body;
use crate::enforcement::Judge;
use crate::listener::{self, Event, Settings};
use crate::routing::Request;
use crate::stack::{Current, stack};
use crate::telemetry::{Health, Metrics, Telemetry};
use crate::upstream::{Pool, Upstream};

/// What every worker is made of.
pub struct Parts {
    pub current: Current,
    pub judge: Judge,
    pub telemetry: Telemetry,
    pub settings: Settings,
    pub health: Health,
    /// The gateway's name in `Via`.
    pub pseudonym: Arc<str>,
}

/// The listener's settings, with its events counted.
pub fn settings(settings: &Settings, metrics: &Arc<Metrics>) -> Settings {
    let metrics = Arc::clone(metrics);
    Settings { on_event: Arc::new(move |event| count(&metrics, event)), ..settings.clone() }
}

fn count(metrics: &Metrics, event: Event) {
    match event {
        Event::Refused => metrics.connection_refused(),
        Event::Panicked => metrics.panicked(),
        Event::Opened | Event::Closed | Event::AcceptFailed | Event::Expired => {}
    }
}

/// Starts them all; each gets a socket of every listener that [`super::listeners::Listeners`] opens.
pub fn start_all(workers: usize, parts: &Parts) -> Result<(Vec<JoinHandle<()>>, Vec<mpsc::UnboundedSender<Serve>>), StartError> {
    let started = (0..workers).map(|number| start(number, parts)).collect::<Result<Vec<_>, _>>()?;
    Ok(started.into_iter().unzip())
}

fn start(number: usize, parts: &Parts) -> Result<(JoinHandle<()>, mpsc::UnboundedSender<Serve>), StartError> {
    let (current, judge, telemetry) = (parts.current.clone(), parts.judge.clone(), parts.telemetry.clone());
    let (settings, health) = (parts.settings.clone(), parts.health.clone());
    let pseudonym = Arc::clone(&parts.pseudonym);
    let (sender, mut sockets) = mpsc::unbounded_channel::<Serve>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| StartError::System(error.to_string()))?;
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let upstream = Upstream::new(Pool::new(health));
                let service = stack(current, judge, &telemetry, upstream, pseudonym);
                let mut serving = tokio::task::JoinSet::new();
                loop {
                    tokio::select! {
                        Some(serve) = sockets.recv() => {
                            let (service, settings) = (service.clone(), settings.clone());
                            serving.spawn_local(serve_one(serve, settings, service));
                        }
                        Some(_) = serving.join_next() => {}
                        // The gateway ends, and every listener has.
                        else => break,
                    }
                }
            });
        })
        .map_err(|error| StartError::System(error.to_string()))?;
    Ok((thread, sender))
}

async fn serve_one<S>(serve: Serve, settings: Settings, service: S)
where
    S: Service<Request, Response = http::Response<Body>, Error = Infallible> + Clone + 'static,
{
    let Serve { socket, mut stopped } = serve;
    let shutdown = async move {
        // Whoever could say it is gone: then there is nothing to wait for.
        stopped.wait_for(Option::is_some).await.ok().and_then(|patience| *patience).unwrap_or_default()
    };
    if let Err(error) = listener::serve(socket, settings, move || service, shutdown).await {
        tracing::error!(%error, "a listener's socket cannot be served");
    }
}
