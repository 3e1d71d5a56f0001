//! Connections of one worker to its upstreams, kept alive between requests.
//!
//! The pool lives outside the snapshot and belongs to the worker's thread: no lock, and a reload that keeps a server keeps its connections.
//! What a connection depends on is the key: the server's address, the protocol, and with TLS whom it trusts; deadlines are those of the request that uses it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper::client::conn::http1;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{Made, chain, connect};
use super::{Config, Protocol, Server, UpstreamError, h2};
use crate::body::Body;
use crate::http_client::TlsFiles;
use crate::telemetry::{Dependency, Health};

mod counted;

pub(super) use counted::Counted;

/// Connections to one server, of each worker: an upstream that hangs must not take all file descriptors.
const MOST: usize = 4096;
/// Idle connections kept for one server, by each worker.
const MOST_IDLE: usize = 128;
/// Upstreams remembered by their section's address; more than a configuration has, even shortly after a reload.
const REMEMBERED: usize = 256;

/// All connections of one worker to upstreams.
#[derive(Debug)]
pub struct Pool {
    health: Health,
    most: usize,
    slots: RefCell<HashMap<Key, Rc<Slot>>>,
    // Finding a server by its section's address spares hashing its name for each request; holding the section keeps the address from being used again.
    known: RefCell<Vec<(Arc<Config>, Rc<Slot>)>>,
}

/// What a connection depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    server: Server,
    protocol: Protocol,
    trust: Option<(TlsFiles, Option<super::ServerName<'static>>)>,
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
    // Connections that requests share, and who is opening one: others wait for it instead of opening their own.
    shared: h2::Connections,
    opening: Mutex<()>,
    // The server chose HTTP/1.1 the last time, where it may choose.
    chose_h1: Cell<bool>,
    reaped: Cell<bool>,
}

/// A connection, or a place on one, ready or soon ready for a request.
pub(super) enum Connection {
    /// One request at a time.
    H1(Single),
    /// One of many at a time.
    H2(h2::Place),
}

/// A connection of HTTP/1.1.
pub(super) struct Single {
    pub(super) sender: http1::SendRequest<Body>,
    /// Bytes that have come from the server.
    pub(super) received: Rc<Cell<u64>>,
}

struct Idle {
    connection: Single,
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
        let trust = server.secure.then(|| config.tls.identity());
        let slot = Rc::clone(
            self.slots
                .borrow_mut()
                .entry(Key { server: server.clone(), protocol: config.protocol, trust })
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
        // With TLS the name alone is what servers know themselves by.
        let host = address.strip_suffix(":443").filter(|_| server.secure).unwrap_or(address);
        Self {
            address: Arc::from(address),
            host: HeaderValue::from_str(host).ok(),
            server: server.clone(),
            dependency,
            most,
            open: Rc::default(),
            idle: RefCell::default(),
            shared: h2::Connections::default(),
            opening: Mutex::default(),
            chose_h1: Cell::new(false),
            reaped: Cell::new(false),
        }
    }

    /// An idle connection, the one that was used last.
    pub(super) fn take(&self, idle: Duration) -> Option<Connection> {
        self.shared.take(idle).map(Connection::H2).or_else(|| self.take_single().map(Connection::H1))
    }

    fn take_single(&self) -> Option<Single> {
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

    /// Whether the server speaks TLS.
    pub(super) const fn is_secure(&self) -> bool {
        self.server.secure
    }

    /// Keeps a connection whose exchange has ended.
    pub(super) fn keep(self: &Rc<Self>, connection: Connection, time: Duration) {
        // A place on a shared connection is given back by being dropped.
        let Connection::H1(connection) = connection else { return };
        if connection.sender.is_closed() || time.is_zero() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= MOST_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, until: Instant::now() + time });
        self.reap();
    }

    /// Looks after idle connections from now on.
    fn reap(self: &Rc<Self>) {
        if !self.reaped.replace(true) {
            tokio::task::spawn_local(reap(Rc::downgrade(self)));
        }
    }

    /// A new connection, its task running on this worker; with HTTP/2 perhaps a place on one that somebody else has just opened.
    pub(super) async fn connect(self: &Rc<Self>, config: &Config) -> Result<Connection, UpstreamError> {
        let time = config.timeouts.connect;
        let attempt = timeout(time, self.open(config)).await.unwrap_or(Err(UpstreamError::ConnectTimeout(time)));
        match &attempt {
            Ok(_) => self.dependency.recovered(),
            // Our own bound says nothing of the server.
            Err(UpstreamError::Full) => {}
            Err(error) => self.dependency.failed(chain(error)),
        }
        attempt
    }

    async fn open(self: &Rc<Self>, config: &Config) -> Result<Connection, UpstreamError> {
        let idle = config.timeouts.idle;
        let shares = match config.protocol {
            Protocol::H1 => false,
            Protocol::H2 => true,
            Protocol::Auto => self.server.secure && !self.chose_h1.get(),
        };
        let _turn = if shares { Some(self.opening.lock().await) } else { None };
        if let Some(place) = shares.then(|| self.shared.take(idle)).flatten() {
            return Ok(Connection::H2(place));
        }
        let place = Place::take(&self.open, self.most).ok_or(UpstreamError::Full)?;
        let made = connect(&self.server, config, place).await?;
        self.chose_h1.set(matches!(made, Made::H1(..)));
        Ok(match made {
            Made::H1(sender, received) => Connection::H1(Single { sender, received }),
            Made::H2(sender, most) => {
                let place = self.shared.keep(sender, most, idle);
                self.reap();
                Connection::H2(place)
            }
        })
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
        let next = idle.iter().map(|one| one.until).chain(self.shared.next_end()).min();
        if next.is_none() {
            self.reaped.set(false);
        }
        next
    }
}
