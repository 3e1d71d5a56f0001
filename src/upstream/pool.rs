//! Connections of one worker to its upstreams, kept alive between requests.
//!
//! The pool lives outside the snapshot and belongs to the worker's thread: no lock, and a reload that keeps a server keeps its connections. How many there
//! may be is counted for all workers together; one that waits in vain makes another worker give up a connection that it does not use.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Mutex, MutexGuard, Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout};

use super::choose::{Dice, Group, Seat};
use super::connect::{Made, Single};
use super::fleet::{Fleet, Member};
use super::{Config, Protocol, UpstreamError, h2};
use crate::body::Room;
use crate::telemetry::{Counting, Health};

mod counted;

pub(super) use counted::Counted;

/// Idle connections kept for one server, by each worker.
const MOST_IDLE: usize = 128;
/// Those that are kept for as long as a connection may be unused. What is beyond them was opened in a burst, and is kept for [`BURST`] only.
const STEADY: usize = 16;
const BURST: Duration = Duration::from_secs(5);
/// Octets of request bodies that a worker keeps, to send them again where a server of HTTP/2 has not processed them.
const KEPT: usize = 4 * 1024 * 1024;
/// Upstreams remembered by their section's address; more than a configuration has, even shortly after a reload.
const REMEMBERED: usize = 256;

/// All connections of one worker to upstreams.
#[derive(Debug)]
pub struct Pool {
    health: Health,
    fleet: Arc<Fleet>,
    pub(super) dice: Dice,
    room: Room,
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
    /// What the worker's request bodies may keep, to be sent again.
    pub(super) room: Room,
    /// Requests under way, as far as this worker knows.
    active: Cell<u32>,
    waiting: Cell<usize>,
    released: Notify,
    // The one that was used last is at the end and is taken first, so that those which are not needed grow old.
    idle: RefCell<VecDeque<Idle>>,
    // Connections that requests share, and who is opening one: others wait for it instead of opening their own.
    shared: h2::Connections,
    opening: Mutex<()>,
    // The server chose HTTP/1.1 the last time, where it may choose.
    chose_h1: Cell<bool>,
    reaped: Cell<bool>,
    shrinks: Cell<bool>,
}

/// A connection, or a place on one, ready or soon ready for a request.
pub(super) enum Connection {
    /// One request at a time.
    H1(Single),
    /// One of many at a time.
    H2(h2::Place),
}

/// One of the connections that there may be, from the attempt to the end.
struct Place {
    _permit: OwnedSemaphorePermit,
    _count: Counting,
}

struct Idle {
    connection: Single,
    since: Instant,
    until: Instant,
}

impl Pool {
    /// An empty pool of one worker; what it learns of servers goes to `fleet`, and of upstreams to `health`.
    #[must_use]
    pub fn new(health: Health, fleet: Arc<Fleet>) -> Rc<Self> {
        Rc::new(Self { health, fleet, dice: Dice::new(), room: Room::of(KEPT), slots: RefCell::default(), known: RefCell::default() })
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
        let seats = config.servers.iter().map(|server| {
            let member = self.fleet.member(config, server);
            let tag = self.fleet.tag(config, &member);
            Seat { slot: self.slot(member, server.address.host()), weight: server.weight, tag }
        });
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
        let slot = Rc::new(Slot::new(member, host, self.room.clone()));
        slots.insert(key, Rc::downgrade(&slot));
        slot
    }
}

impl Slot {
    fn new(member: Arc<Member>, host: &str, room: Room) -> Self {
        Self {
            room,
            host: HeaderValue::from_str(host).ok(),
            member,
            active: Cell::new(0),
            waiting: Cell::new(0),
            released: Notify::new(),
            idle: RefCell::default(),
            shared: h2::Connections::default(),
            opening: Mutex::default(),
            chose_h1: Cell::new(false),
            reaped: Cell::new(false),
            shrinks: Cell::new(false),
        }
    }

    /// Requests under way.
    pub(super) const fn load(&self) -> u32 {
        self.active.get()
    }

    /// A connection that stands: a place on a shared one, or an idle one, the one that was used last.
    pub(super) fn take(&self, idle: Duration, exclusive: bool) -> Option<Connection> {
        let shared = if exclusive { None } else { self.take_place(idle) };
        shared.map(Connection::H2).or_else(|| self.take_single().map(Connection::H1))
    }

    fn take_place(&self, idle: Duration) -> Option<h2::Place> {
        self.shared.take(idle, |peer| self.member.connector.leads_to(peer))
    }

    fn take_single(&self) -> Option<Single> {
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
        // A place on a shared connection is given back by being dropped.
        let Connection::H1(connection) = connection else { return };
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
        let since = Instant::now();
        idle.push_back(Idle { connection, since, until: since + time });
        if self.waiting.get() > 0 {
            self.released.notify_one();
        }
        let beyond = idle.len() > STEADY;
        drop(idle);
        self.reap();
        if beyond && !self.shrinks.replace(true) {
            tokio::task::spawn_local(shrink(Rc::downgrade(self)));
        }
    }

    /// Looks after idle connections from now on.
    fn reap(self: &Rc<Self>) {
        if !self.reaped.replace(true) {
            tokio::task::spawn_local(reap(Rc::downgrade(self), Arc::clone(&self.member)));
        }
    }

    /// A new connection, its task running on this worker; with HTTP/2 perhaps a place on one that somebody else has just opened; or one that was released
    /// while there was no room for a new one. `exclusive`: one of HTTP/1.1, whatever the upstream speaks else.
    pub(super) async fn connect(self: &Rc<Self>, config: &Config, exclusive: bool) -> Result<Connection, UpstreamError> {
        let protocol = if exclusive { Protocol::H1 } else { config.protocol };
        let shares = match protocol {
            Protocol::H1 => false,
            Protocol::H2 => true,
            Protocol::Auto => self.member.connector.is_secure() && !self.chose_h1.get(),
        };
        // Who waits in the queue lets others pass.
        let permit = {
            let _turn = self.turn(shares, config).await?;
            if let Some(place) = shares.then(|| self.take_place(config.timeouts.unused())).flatten() {
                return Ok(Connection::H2(place));
            }
            if let Some(permit) = self.member.place() {
                return self.open(config, protocol, permit).await;
            }
            match self.wait(config, exclusive).await? {
                Found::Place(permit) => permit,
                Found::Connection(connection) => return Ok(connection),
            }
        };
        let _turn = self.turn(shares, config).await?;
        match shares.then(|| self.take_place(config.timeouts.unused())).flatten() {
            Some(place) => Ok(Connection::H2(place)),
            None => self.open(config, protocol, permit).await,
        }
    }

    /// The right to open a connection that others wait for.
    async fn turn(&self, shares: bool, config: &Config) -> Result<Option<MutexGuard<'_, ()>>, UpstreamError> {
        let time = config.timeouts.connect;
        if !shares {
            return Ok(None);
        }
        timeout(time, self.opening.lock()).await.map(Some).map_err(|_| UpstreamError::ConnectTimeout(time))
    }

    async fn open(self: &Rc<Self>, config: &Config, protocol: Protocol, permit: OwnedSemaphorePermit) -> Result<Connection, UpstreamError> {
        let place = Place { _permit: permit, _count: self.member.counters.connection() };
        let made = self.member.connector.connect(config, protocol, Box::new(place)).await;
        self.member.counters.connected(made.is_ok());
        Ok(match made? {
            Made::H1(single) => {
                if protocol == Protocol::Auto {
                    self.chose_h1.set(true);
                }
                Connection::H1(single)
            }
            Made::H2(sender, said, peer) => {
                self.chose_h1.set(false);
                let place = self.shared.keep(sender, said, peer, config.timeouts.unused());
                self.reap();
                Connection::H2(place)
            }
        })
    }

    /// Waits in the queue.
    async fn wait(&self, config: &Config, exclusive: bool) -> Result<Found, UpstreamError> {
        if self.waiting.get() >= config.queue.length {
            self.member.counters.full();
            return Err(UpstreamError::Full);
        }
        let _waits = Waits::new(&self.waiting, &self.member);
        let room = async {
            let mut place = std::pin::pin!(self.member.next_place());
            loop {
                tokio::select! {
                    permit = &mut place => return permit.map(Found::Place),
                    () = self.released.notified() => {}
                }
                if let Some(place) = (!exclusive).then(|| self.take_place(config.timeouts.unused())).flatten() {
                    return Some(Found::Connection(Connection::H2(place)));
                }
                let newest = self.idle.borrow_mut().pop_back();
                if let Some(Idle { mut connection, .. }) = newest
                    && connection.sender.ready().await.is_ok()
                {
                    return Some(Found::Connection(Connection::H1(connection)));
                }
            }
        };
        let room = timeout(config.queue.wait, room).await.ok().flatten();
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
        let next = idle.iter().map(|one| one.until).chain(self.shared.next_end()).min();
        if next.is_none() {
            self.reaped.set(false);
        }
        next
    }

    /// Drops what a burst has left and nobody has needed since, and tells when to look again; `None` when no more is idle than may stay.
    fn next_of_burst(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        let beyond = idle.len().saturating_sub(STEADY);
        let over = idle.iter().take(beyond).take_while(|one| one.since + BURST <= now).count();
        idle.drain(..over);
        let next = idle.front().filter(|_| over < beyond).map(|one| one.since + BURST);
        if next.is_none() {
            self.shrinks.set(false);
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
enum Found {
    Place(OwnedSemaphorePermit),
    Connection(Connection),
}

/// A request under way at a server.
pub(super) struct Busy {
    pub(super) slot: Rc<Slot>,
    _count: Counting,
}

impl Busy {
    pub(super) fn at(slot: &Rc<Slot>) -> Self {
        slot.active.set(slot.active.get().saturating_add(1));
        Self { slot: Rc::clone(slot), _count: slot.member.counters.request() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let slot = &self.slot;
        slot.active.set(slot.active.get().saturating_sub(1));
        // A shared connection may have room now.
        if slot.waiting.get() > 0 && !slot.shared.is_empty() {
            slot.released.notify_one();
        }
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

/// Drops what a burst has left; ends when that is gone.
async fn shrink(slot: Weak<Slot>) {
    while let Some(next) = slot.upgrade().and_then(|slot| slot.next_of_burst()) {
        sleep_until(next).await;
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
