//! The listeners that stand, and the workers that serve them: opened and closed while the gateway runs.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::StartError;
use crate::listener::{self, BindError, Bound, Config, Socket, Tls};

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

impl Inner {
    fn shares_a_port(&self, config: &Config, going: &[&Open]) -> bool {
        going.iter().any(|open| open.config.address == config.address) || self.open.iter().any(|open| open.address.port() == config.address.port())
    }

    /// New sockets; beside those that are there, if the same address gets other settings or overlaps with one that goes.
    fn open(&self, config: &Config, going: &[&Open], workers: usize, inherited: &[TcpListener]) -> Result<Step, StartError> {
        let ours = going.iter().find(|open| open.config.address == config.address).map(|open| open.address);
        let handed = inherited.iter().find(|socket| socket.local_addr().is_ok_and(|address| address == config.address));
        let bound: Bound = match (ours, handed) {
            (_, Some(socket)) => listener::adopt(config, socket)?,
            (Some(address), None) => listener::bind_again(config, address)?,
            (None, None) if self.shares_a_port(config, going) => listener::bind_again(config, config.address)?,
            (None, None) => listener::bind(config).map_err(|error| handed_elsewhere(error, inherited))?,
        };
        let (address, tls) = (bound.local_addr(), bound.tls().cloned());
        let sockets = bound.sockets(workers).map_err(|error| StartError::System(format!("a worker's socket: {error}")))?;
        Ok(Step::Open { config: config.clone(), address, tls, sockets })
    }
}

/// A taken address whose port belongs to a socket of the service manager: it is we who have it.
fn handed_elsewhere(error: BindError, inherited: &[TcpListener]) -> StartError {
    let BindError::Taken(wanted) = error else { return error.into() };
    let mut handed = inherited.iter().filter_map(|socket| socket.local_addr().ok());
    handed.find(|handed| handed.port() == wanted.port()).map_or(error.into(), |handed| StartError::Handed { wanted, handed })
}

/// Tells of sockets of the service manager that no listener has taken: the system accepts connections there, and nobody answers.
pub fn tell_unserved(configs: &[Config], inherited: &[TcpListener]) {
    for address in inherited.iter().filter_map(|socket| socket.local_addr().ok()) {
        if !configs.iter().any(|config| config.address == address) {
            tracing::warn!(%address, "the service manager has handed over a socket that no listener has the address of: who connects there is not answered");
        }
    }
}

impl Listeners {
    /// Hands sockets to these workers from now on.
    pub fn serve_by(&self, workers: Vec<mpsc::UnboundedSender<Serve>>) {
        self.lock().workers = workers;
    }

    /// Binds what these configurations have and the gateway has not yet. `inherited` are sockets of a service manager.
    pub fn plan(&self, configs: &[Config], workers: usize, inherited: &[TcpListener]) -> Result<Plan, StartError> {
        let inner = self.lock();
        let mut left: Vec<&Open> = inner.open.iter().collect();
        // A listener that stays is kept once, also where two of them take any port.
        let kept: Vec<Option<SocketAddr>> =
            configs.iter().map(|config| left.iter().position(|open| open.config == *config).map(|at| left.swap_remove(at).address)).collect();
        let mut steps: Vec<Option<Step>> = kept.into_iter().map(|kept| kept.map(Step::Keep)).collect();
        // Addresses that are ours already come last: a new socket there takes connections at once, and they would be lost if another address failed.
        for again in [false, true] {
            for (step, config) in steps.iter_mut().zip(configs) {
                if step.is_none() && inner.shares_a_port(config, &left) == again {
                    *step = Some(inner.open(config, &left, workers, inherited)?);
                }
            }
        }
        Ok(Plan(steps.into_iter().flatten().collect()))
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
