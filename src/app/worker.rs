//! One worker: a thread with a current-thread runtime, its own sockets, its own upstream connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use http::Response;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::Service;

use super::StartError;
use super::listeners::Serve;
use crate::body::Body;
use crate::enforcement::Judge;
use crate::listener::{self, Event, Limits, Settings, Terms};
use crate::routing::Request;
use crate::stack::{Current, stack};
use crate::telemetry::{ConnectionFault, Health, Metrics, Telemetry};
use crate::upstream::{Fleet, Pool, Upstream};

/// What every worker is made of.
pub struct Parts {
    pub current: Current,
    pub judge: Judge,
    pub telemetry: Telemetry,
    pub terms: Terms,
    pub health: Health,
    pub fleet: Arc<Fleet>,
    /// The gateway's name in `Via`.
    pub pseudonym: Arc<str>,
}

/// The listeners' settings, with their events counted.
pub fn terms(settings: &Settings, limits: &Limits, metrics: &Arc<Metrics>) -> Terms {
    let counts = Arc::clone(metrics);
    let terms = Terms::from(Settings { on_event: Arc::new(move |event| count(&counts, event)), ..settings.clone() });
    metrics.connections_at_most(terms.limit_to(limits));
    terms
}

fn count(metrics: &Metrics, event: Event) {
    match event {
        Event::Opened => metrics.connection_opened(),
        Event::Closed => metrics.connection_closed(),
        Event::Refused => metrics.connection_refused(),
        Event::Panicked => metrics.panicked(),
        Event::HandshakeFailed => metrics.connection_failed(ConnectionFault::Handshake),
        Event::AcceptFailed => metrics.connection_failed(ConnectionFault::NotAccepted),
        Event::Expired => metrics.connection_failed(ConnectionFault::Expired),
        Event::Malformed => metrics.connection_failed(ConnectionFault::Malformed),
        Event::HeadTooLarge => metrics.connection_failed(ConnectionFault::HeadTooLarge),
        Event::TunnelOpened => metrics.tunnel_opened(),
        Event::TunnelClosed => metrics.tunnel_closed(),
    }
}

/// The way to a worker.
pub type Sockets = mpsc::UnboundedSender<Serve>;

/// Starts them all; each gets a socket of every listener that [`super::listeners::Listeners`] opens.
pub fn start_all(workers: usize, parts: &Parts) -> Result<(Vec<JoinHandle<()>>, Vec<Sockets>), StartError> {
    let started = (0..workers).map(|number| start(number, parts)).collect::<Result<Vec<_>, _>>()?;
    Ok(started.into_iter().unzip())
}

fn start(number: usize, parts: &Parts) -> Result<(JoinHandle<()>, Sockets), StartError> {
    let (current, judge, telemetry) = (parts.current.clone(), parts.judge.clone(), parts.telemetry.clone());
    let (terms, health) = (parts.terms.clone(), parts.health.clone());
    let (pseudonym, fleet) = (Arc::clone(&parts.pseudonym), Arc::clone(&parts.fleet));
    let (sender, sockets) = mpsc::unbounded_channel::<Serve>();
    let (tells, told) = sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            // It belongs to this thread: a task that is woken goes straight to its queue, which a `LocalSet` would have to be woken for first.
            let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return drop(tells.send(error)),
            };
            drop(tells);
            runtime.block_on(async move {
                let upstream = Upstream::new(Pool::new(health, fleet));
                serve_all(sockets, &terms, stack(current, judge, &telemetry, upstream, &pseudonym)).await;
            });
        })
        .map_err(|error| StartError::System(error.to_string()))?;
    // The channel closes without a word when all is well.
    told.recv().map_or(Ok((thread, sender)), |error| Err(StartError::System(error.to_string())))
}

/// Serves sockets as they come, until the gateway ends and all of them have stopped.
async fn serve_all<S>(mut sockets: mpsc::UnboundedReceiver<Serve>, terms: &Terms, service: S)
where
    S: Service<Request, Response = Response<Body>, Error = Infallible> + Clone + 'static,
{
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            Some(Serve { socket, mut stopped }) = sockets.recv() => {
                let (service, terms) = (service.clone(), terms.clone());
                serving.spawn_local(async move {
                    let shutdown = async move {
                        // Whoever could say it is gone: then there is nothing to wait for.
                        stopped.wait_for(Option::is_some).await.ok().and_then(|patience| *patience).unwrap_or_default()
                    };
                    match listener::serve(socket, terms.clone(), move || service, shutdown).await {
                        Ok(cut) => terms.cut(cut),
                        Err(error) => tracing::error!(%error, "a listener's socket cannot be served"),
                    }
                });
            }
            Some(_) = serving.join_next() => {}
            else => break,
        }
    }
}
