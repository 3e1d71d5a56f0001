//! Connections of one worker to its upstreams, kept alive between requests.
//!
//! The pool lives outside the snapshot and belongs to the worker's thread: no lock, and a reload that keeps a server keeps its connections. How many there
//! may be is counted for all workers together; one that waits in vain makes another worker give up a connection that it does not use.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::choose::{Dice, Group, Seat};
use super::connect::Opened;
use super::fleet::{Fleet, Member};
use super::{Config, Queue, UpstreamError};
use crate::body::Body;
use crate::telemetry::{Counting, Health};

mod counted;

pub(super) use counted::Counted;

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
    fleet: Arc<Fleet>,
    pub(super) dice: Dice,
    // By the member's address, which is not used again while the slot holds the member.
    slots: RefCell<HashMap<usize, Weak<Slot>>>,
    // Finding a section by its address spares hashing its name for each request; holding the section keeps the address from being used again.
    known: RefCell<Vec<(Arc<Config>, Rc<Group>)>>,
}

/// One server.
pub(super) struct Slot {
    pub(super) member: Arc<Member>,
    /// Its own `Host`.
    pub(super) host: Option<HeaderValue>,
    /// Requests under way, as far as this worker knows.
    active: Cell<u32>,
    waiting: Cell<usize>,
    released: Notify,
    // The one that was used last is at the end and is taken first, so that those which are not needed grow old.
    idle: RefCell<VecDeque<Idle>>,
    reaped: Cell<bool>,
}

/// A connection, ready or soon ready for a request.
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Body>,
    /// Bytes that have come from the server.
    pub(super) received: Rc<Cell<u64>>,
    handoff: Handoff,
    peer: Option<SocketAddr>,
}

/// Where whoever wants the bare stream after an upgrade waits for it.
type Handoff = Rc<RefCell<Option<oneshot::Sender<Taken>>>>;

/// A stream that HTTP has left, what came after the last answer, and its place among the connections.
pub(super) struct Taken {
    pub(super) stream: Counted,
    pub(super) early: Bytes,
    pub(super) place: Place,
}

/// One of the connections that there may be, from the attempt to the end.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _count: Counting,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

impl Pool {
    /// An empty pool of one worker; what it learns of servers goes to `fleet`, and of upstreams to `health`.
    #[must_use]
    pub fn new(health: Health, fleet: Arc<Fleet>) -> Rc<Self> {
        Rc::new(Self { health, fleet, dice: Dice::new(), slots: RefCell::default(), known: RefCell::default() })
    }

    /// The servers of an upstream.
    pub(super) fn group(&self, config: &Arc<Config>) -> Result<Rc<Group>, UpstreamError> {
        let mut known = self.known.borrow_mut();
        if let Some((_, group)) = known.iter().find(|(section, _)| Arc::ptr_eq(section, config)) {
            return Ok(Rc::clone(group));
        }
        if config.servers.is_empty() {
            return Err(UpstreamError::NoServer);
        }
        let seats =
            config.servers.iter().map(|server| Seat { slot: self.slot(self.fleet.member(config, server), server.address.host()), weight: server.weight });
        let group = Rc::new(Group::new(config, seats.collect(), self.health.dependency("upstream", &config.name), self.fleet.metrics()));
        // Sections that only this list holds belong to a configuration that is gone.
        known.retain(|(section, _)| Arc::strong_count(section) > 1);
        if known.len() < REMEMBERED {
            known.push((Arc::clone(config), Rc::clone(&group)));
        }
        Ok(group)
    }

    fn slot(&self, member: Arc<Member>, host: &str) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        let key = Arc::as_ptr(&member).addr();
        if let Some(slot) = slots.get(&key).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Rc::new(Slot::new(member, host));
        slots.insert(key, Rc::downgrade(&slot));
        slot
    }
}

impl Slot {
    fn new(member: Arc<Member>, host: &str) -> Self {
        Self {
            host: HeaderValue::from_str(host).ok(),
            member,
            active: Cell::new(0),
            waiting: Cell::new(0),
            released: Notify::new(),
            idle: RefCell::default(),
            reaped: Cell::new(false),
        }
    }

    /// Requests under way.
    pub(super) const fn load(&self) -> u32 {
        self.active.get()
    }

    /// An idle connection, the one that was used last.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let now = Instant::now();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let of_no_use = |one: &Idle| one.connection.sender.is_closed() || one.until <= now || !self.member.connector.leads_to(one.connection.peer.as_ref());
            let (ended, ready) = idle.get(at).map(|one| (of_no_use(one), one.connection.sender.is_ready()))?;
            if ended {
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
        if connection.sender.is_closed() {
            return;
        }
        if self.waiting.get() == 0 && self.member.is_waited_for() {
            // Another worker has more use for its place.
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= MOST_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, until: Instant::now() + time });
        if self.waiting.get() > 0 {
            self.released.notify_one();
        }
        if !self.reaped.replace(true) {
            tokio::task::spawn_local(reap(Rc::downgrade(self), Arc::clone(&self.member)));
        }
    }

    /// A new connection, its task running on this worker; or one that was released while there was no room for a new one.
    pub(super) async fn connect(&self, config: &Config) -> Result<Connection, UpstreamError> {
        let place = match self.member.place() {
            Some(permit) => permit,
            None => match self.wait(&config.queue).await? {
                Room::Place(permit) => permit,
                Room::Connection(connection) => return Ok(connection),
            },
        };
        let opened = self.member.connector.open(config.timeouts.connect).await;
        self.member.counters.connected(opened.is_ok());
        let Opened { stream, peer } = opened?;
        let place = Place { _permit: place, _count: self.member.counters.connection() };
        let received = Rc::new(Cell::new(0));
        let io = TokioIo::new(Counted::new(stream, Rc::clone(&received)));
        let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(io).await;
        let (sender, connection) = handshake.map_err(UpstreamError::Exchange)?;
        let handoff = Handoff::default();
        tokio::task::spawn_local(drive(connection, place, Rc::clone(&handoff)));
        Ok(Connection { sender, received, handoff, peer })
    }

    /// Waits in the queue.
    async fn wait(&self, queue: &Queue) -> Result<Room, UpstreamError> {
        if self.waiting.get() >= queue.length {
            self.member.counters.full();
            return Err(UpstreamError::Full);
        }
        let _waits = Waits::new(&self.waiting, &self.member);
        let room = async {
            let mut place = std::pin::pin!(self.member.next_place());
            loop {
                tokio::select! {
                    permit = &mut place => return permit.map(Room::Place),
                    () = self.released.notified() => {}
                }
                let newest = self.idle.borrow_mut().pop_back();
                if let Some(Idle { mut connection, .. }) = newest
                    && connection.sender.ready().await.is_ok()
                {
                    return Some(Room::Connection(connection));
                }
            }
        };
        let room = timeout(queue.wait, room).await.ok().flatten();
        room.ok_or_else(|| {
            self.member.counters.full();
            UpstreamError::Full
        })
    }

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

    /// Gives up a connection for another worker that waits.
    fn give_up_one(&self) {
        if self.waiting.get() == 0 && self.member.is_waited_for() {
            self.idle.borrow_mut().pop_front();
        }
    }
}

/// What whoever waited gets.
enum Room {
    Place(OwnedSemaphorePermit),
    Connection(Connection),
}

impl Connection {
    /// Where the bare stream arrives if the next request upgrades the connection. To be asked for before that request is sent.
    pub(super) fn taken(&self) -> oneshot::Receiver<Taken> {
        let (sender, receiver) = oneshot::channel();
        *self.handoff.borrow_mut() = Some(sender);
        receiver
    }
}

/// Runs a connection to its end. How it ends is told to whoever waits for an answer; an idle one may end as it likes.
async fn drive(mut connection: http1::Connection<TokioIo<Counted>, Body>, place: Place, handoff: Handoff) {
    if (&mut connection).await.is_err() {
        return;
    }
    let waiting = handoff.borrow_mut().take();
    if let Some(waiting) = waiting {
        let parts = connection.into_parts();
        let _ = waiting.send(Taken { stream: parts.io.into_inner(), early: parts.read_buf, place });
    }
}

/// A request under way at a server.
pub(super) struct Busy(pub(super) Rc<Slot>);

impl Busy {
    pub(super) fn at(slot: &Rc<Slot>) -> Self {
        slot.active.set(slot.active.get().saturating_add(1));
        Self(Rc::clone(slot))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

/// Counts who waits, here and everywhere.
struct Waits<'a>(&'a Cell<usize>, &'a Member, #[expect(dead_code, reason = "it counts while it lives")] Counting);

impl<'a> Waits<'a> {
    fn new(here: &'a Cell<usize>, member: &'a Member) -> Self {
        here.set(here.get().saturating_add(1));
        member.wait_begins();
        Self(here, member, member.counters.waits())
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
        self.1.wait_ends();
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("server", &self.member.label).finish_non_exhaustive()
    }
}

/// Drops idle connections when their time has come, or when another worker needs one; ends with the last of them.
async fn reap(slot: Weak<Slot>, member: Arc<Member>) {
    loop {
        let Some(next) = slot.upgrade().and_then(|slot| slot.next_end()) else { return };
        tokio::select! {
            () = sleep_until(next) => {}
            () = member.wanted.notified() => {
                if let Some(slot) = slot.upgrade() {
                    slot.give_up_one();
                }
            }
        }
    }
}
