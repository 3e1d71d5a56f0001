//! The listeners that stand, and the workers that serve them: opened and closed while the gateway runs.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::StartError;
use crate::listener::{self, Bound, Config, Socket, Tls};

/// A socket for one worker, and the word that ends it: the time for what is under way then.
pub struct Serve {
    pub socket: Socket,
    pub stopped: watch::Receiver<Option<Duration>>,
}

/// All listeners. Clones share them.
#[derive(Clone, Default)]
pub struct Listeners(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// One for each worker; none any more once the gateway ends.
    workers: Vec<mpsc::UnboundedSender<Serve>>,
    open: Vec<Open>,
}

struct Open {
    config: Config,
    address: SocketAddr,
    stop: watch::Sender<Option<Duration>>,
    tls: Option<Arc<Tls>>,
}

/// Listeners that are bound and not served yet. Dropped, it leaves everything as it was.
pub struct Plan(Vec<Step>);

enum Step {
    Keep(SocketAddr),
    Open { config: Config, address: SocketAddr, tls: Option<Arc<Tls>>, sockets: Vec<Socket> },
}

impl Listeners {
    /// Hands sockets to these workers from now on.
    pub fn serve_by(&self, workers: Vec<mpsc::UnboundedSender<Serve>>) {
        self.lock().workers = workers;
    }

    /// Binds what these configurations have and the gateway has not yet. `inherited` are sockets of a service manager.
    pub fn plan(&self, configs: &[Config], workers: usize, inherited: &[TcpListener]) -> Result<Plan, StartError> {
        let inner = self.lock();
        // What is kept of two listeners on port 0 is kept once.
        let mut left: Vec<&Open> = inner.open.iter().collect();
        let mut steps = Vec::with_capacity(configs.len());
        for config in configs {
            if let Some(at) = left.iter().position(|open| open.config == *config) {
                steps.push(Step::Keep(left.swap_remove(at).address));
                continue;
            }
            // The same address with other settings, or one that overlaps: new sockets beside the old ones, which then end.
            let ours = inner.open.iter().find(|open| open.config.address == config.address).map(|open| open.address);
            let overlaps = inner.open.iter().any(|open| open.address.port() == config.address.port());
            let handed = inherited.iter().find(|socket| socket.local_addr().is_ok_and(|address| address == config.address));
            let bound: Bound = match (ours, handed) {
                (Some(address), _) => listener::bind_again(config, address)?,
                (None, Some(socket)) => listener::adopt(config, socket)?,
                (None, None) if overlaps => listener::bind_again(config, config.address)?,
                (None, None) => listener::bind(config)?,
            };
            let (address, tls) = (bound.local_addr(), bound.tls().cloned());
            let sockets = bound.sockets(workers).map_err(|error| StartError::System(format!("a worker's socket: {error}")))?;
            steps.push(Step::Open { config: config.clone(), address, tls, sockets });
        }
        Ok(Plan(steps))
    }

    /// Serves what was planned and ends what is not among it; requests under way there get `patience`. Gives the addresses that are new and those that went.
    pub fn carry_out(&self, plan: Plan, patience: Duration) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let mut inner = self.lock();
        let mut old = std::mem::take(&mut inner.open);
        let mut opened = Vec::new();
        for step in plan.0 {
            match step {
                Step::Keep(address) => inner.open.extend(old.iter().position(|open| open.address == address).map(|at| old.remove(at))),
                Step::Open { config, address, tls, sockets } => {
                    let (stop, stopped) = watch::channel(None);
                    for (worker, socket) in inner.workers.iter().zip(sockets) {
                        // A worker that is gone has ended with the gateway.
                        let _ = worker.send(Serve { socket, stopped: stopped.clone() });
                    }
                    opened.push(address);
                    inner.open.push(Open { config, address, stop, tls });
                }
            }
        }
        for open in &old {
            open.stop.send_replace(Some(patience));
        }
        (opened, old.iter().map(|open| open.address).collect())
    }

    /// The address of a listener, by its place in the configuration.
    pub fn address(&self, place: usize) -> Option<SocketAddr> {
        self.lock().open.get(place).map(|open| open.address)
    }

    /// The TLS of each listener that has it, with its address.
    pub fn tls(&self) -> Vec<(Arc<str>, Arc<Tls>)> {
        self.lock().open.iter().filter_map(|open| Some((open.address.to_string().into(), Arc::clone(open.tls.as_ref()?)))).collect()
    }

    /// No new connections; requests under way get `patience`, and then the workers end.
    pub fn stop(&self, patience: Duration) {
        let mut inner = self.lock();
        inner.workers.clear();
        for open in inner.open.drain(..) {
            open.stop.send_replace(Some(patience));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
