//! Connections of one worker to its upstreams, kept alive between requests.
//!
//! The pool lives outside the snapshot and belongs to the worker's thread: no lock, and a reload that keeps a server keeps its connections.
//! A plain TCP connection depends on the server's address alone, so that is the key; deadlines are those of the request that uses it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Config, Server, UpstreamError};
use crate::body::Body;
use crate::telemetry::{Dependency, Health};

mod counted;

use counted::Counted;

/// Connections to one server, of each worker: an upstream that hangs must not take all file descriptors.
const MOST: usize = 4096;
/// Idle connections kept for one server, by each worker.
const MOST_IDLE: usize = 128;
/// Bounds an answer's head and how much of a body is read at once. An answer has 100 fields at most, which is hyper's own bound.
const BUFFER: usize = 64 * 1024;
/// Upstreams remembered by their section's address; more than a configuration has, even shortly after a reload.
const REMEMBERED: usize = 256;

/// All connections of one worker to upstreams.
#[derive(Debug)]
pub struct Pool {
    health: Health,
    most: usize,
    slots: RefCell<HashMap<Server, Rc<Slot>>>,
    // Finding a server by its section's address spares hashing its name for each request; holding the section keeps the address from being used again.
    known: RefCell<Vec<(Arc<Config>, Rc<Slot>)>>,
}

/// One server.
pub(super) struct Slot {
    /// Host and port, for the record.
    pub(super) address: Arc<str>,
    /// The same, for `Host`.
    pub(super) host: Option<HeaderValue>,
    server: Server,
    dependency: Arc<Dependency>,
    most: usize,
    open: Rc<Cell<usize>>,
    // The one that was used last is at the end and is taken first, so that those which are not needed grow old.
    idle: RefCell<VecDeque<Idle>>,
    reaped: Cell<bool>,
}

/// A connection, ready or soon ready for a request.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Body>,
    /// Bytes that have come from the server.
    pub(super) received: Rc<Cell<u64>>,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

impl Pool {
    /// An empty pool; what it learns of servers goes to `health`.
    #[must_use]
    pub fn new(health: Health) -> Rc<Self> {
        Self::bounded(health, MOST)
    }

    /// The same with a bound of its own: so many connections to one server at a time (row U5).
    #[must_use]
    pub fn bounded(health: Health, most: usize) -> Rc<Self> {
        Rc::new(Self { health, most, slots: RefCell::default(), known: RefCell::default() })
    }

    /// The place of an upstream's server.
    pub(super) fn slot(&self, config: &Arc<Config>) -> Result<Rc<Slot>, UpstreamError> {
        let mut known = self.known.borrow_mut();
        if let Some((_, slot)) = known.iter().find(|(section, _)| Arc::ptr_eq(section, config)) {
            return Ok(Rc::clone(slot));
        }
        let server = config.servers.first().ok_or(UpstreamError::NoServer)?;
        let slot = Rc::clone(
            self.slots
                .borrow_mut()
                .entry(server.clone())
                .or_insert_with(|| Rc::new(Slot::new(server, self.most, self.health.dependency("upstream", &config.name)))),
        );
        // Sections that only this list holds belong to a configuration that is gone.
        known.retain(|(section, _)| Arc::strong_count(section) > 1);
        if known.len() < REMEMBERED {
            known.push((Arc::clone(config), Rc::clone(&slot)));
        }
        Ok(slot)
    }
}

impl Slot {
    fn new(server: &Server, most: usize, dependency: Arc<Dependency>) -> Self {
        let address = server.authority.as_str();
        Self {
            address: Arc::from(address),
            host: HeaderValue::from_str(address).ok(),
            server: server.clone(),
            dependency,
            most,
            open: Rc::default(),
            idle: RefCell::default(),
            reaped: Cell::new(false),
        }
    }

    /// An idle connection, the one that was used last.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let now = Instant::now();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let (closed, ready) = idle.get(at).map(|one| (one.connection.sender.is_closed() || one.until <= now, one.connection.sender.is_ready()))?;
            if closed {
                idle.remove(at);
            } else if ready {
                return idle.remove(at).map(|one| one.connection);
            }
            // Neither: its last request is still being sent. It may be ready for the next caller.
        }
        None
    }

    /// Keeps a connection whose exchange has ended.
    pub(super) fn keep(self: &Rc<Self>, connection: Connection, time: Duration) {
        if connection.sender.is_closed() || time.is_zero() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= MOST_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, until: Instant::now() + time });
        if !self.reaped.replace(true) {
            tokio::task::spawn_local(reap(Rc::downgrade(self)));
        }
    }

    /// A new connection, its task running on this worker.
    pub(super) async fn connect(&self, time: Duration) -> Result<Connection, UpstreamError> {
        let place = Place::take(&self.open, self.most).ok_or(UpstreamError::Full)?;
        let host = self.server.authority.host();
        let address = (host.trim_start_matches('[').trim_end_matches(']'), self.server.authority.port_u16().unwrap_or(80));
        let attempt = match timeout(time, TcpStream::connect(address)).await {
            Ok(attempt) => attempt.map_err(UpstreamError::Connect),
            Err(_) => Err(UpstreamError::ConnectTimeout(time)),
        };
        let stream = attempt.inspect_err(|error| self.dependency.failed(error))?;
        self.dependency.recovered();
        // Without it the second of two small writes waits for the server's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let received = Rc::new(Cell::new(0));
        let io = TokioIo::new(Counted::new(stream, Rc::clone(&received)));
        let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(io).await;
        let (sender, connection) = handshake.map_err(UpstreamError::Exchange)?;
        tokio::task::spawn_local(async move {
            let _place = place;
            // How it ends is told to whoever waits for an answer; an idle one may end as it likes.
            let _ = connection.await;
        });
        Ok(Connection { sender, received })
    }
}

/// One of the connections that there may be, from the attempt to the end.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(open: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        let count = open.get();
        (count < most).then(|| {
            open.set(count.saturating_add(1));
            Self(Rc::clone(open))
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Drops idle connections when their time has come; ends with the last of them.
async fn reap(slot: Weak<Slot>) {
    loop {
        let Some(next) = slot.upgrade().and_then(|slot| slot.next_end()) else { return };
        sleep_until(next).await;
    }
}

impl Slot {
    /// Drops what is over and tells when to look again; `None` when nothing is idle.
    fn next_end(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        idle.retain(|one| one.until > now && !one.connection.sender.is_closed());
        let next = idle.iter().map(|one| one.until).min();
        if next.is_none() {
            self.reaped.set(false);
        }
        next
    }
}
