//! What authorization servers have said of tokens, kept for a while: introspection answers, refusals, live decisions.
//!
//! The answer is kept, never a verdict; resource, scopes and times are judged anew at each use. The key is a keyed hash of the whole token and of its
//! server, so two tokens never share an entry and a dump of the cache holds no token. Refusals live in a pool of their own, so that sprayed tokens cannot push
//! out good ones. Nothing here asks anybody; tickets are never kept.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod entry;
mod memo;
#[cfg(test)]
mod races;
mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use aws_lc_rs::hmac;
use moka::Expiry;
use tokio::time::Instant;

use crate::authorization_server::{Config, ServerIdentity};
use crate::holes::{Hole, open};
use crate::telemetry::{CacheCounters, CacheKind, Metrics};
use crate::uma::{Introspection, ResourceId, Scope};

pub use entry::{Entry, LiveEntry};
pub use memo::Memo;
use shared::{Count, Counts, Pool, Turn};

/// Bytes that the pools may take, roughly.
const POSITIVE_BYTES: u64 = 256 << 20;
const NEGATIVE_BYTES: u64 = 32 << 20;
const LIVE_BYTES: u64 = 64 << 20;

/// An entry that is too old stays visible for so long, to tell "too old" from "never seen".
const STALE: Duration = Duration::from_secs(60);

/// A keyed hash (HMAC-SHA-256, key of this process) of a whole token and its server's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// Eight hexadecimal digits that name the token in logs.
    #[must_use]
    pub fn short(&self) -> [u8; 8] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 8];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            }
        }
        digits
    }
}

/// What the cache knows of a token.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A fresh answer.
    Active(Arc<Entry>),
    /// An answer that is too old to be used.
    Stale,
    /// A fresh refusal.
    Inactive,
    /// Nothing.
    Unknown,
}

/// How a token is to be purged.
#[derive(Clone, Debug)]
pub enum Purge<'a> {
    /// This token.
    Token(CacheKey),
    /// All tokens of this subject at this server.
    Subject(ServerIdentity, &'a str),
    /// All tokens of this session at this server.
    Session(ServerIdentity, &'a str),
    /// Everything.
    All,
}

/// The pools, shared by all threads.
pub struct Introspections {
    key: hmac::Key,
    positive: Pool<CacheKey, Arc<Entry>>,
    negative: Pool<CacheKey, Instant>,
    live: Pool<(CacheKey, ResourceId), Arc<LiveEntry>>,
    /// Grows with each purge: an answer that was asked for before a purge is not kept after it.
    epoch: Count,
    /// Changes of what is kept, counted by the first octet of the key.
    changes: Counts,
    /// Whoever keeps or purges: an answer must not slip in between a purge's beginning and its end. Those who only look take no turn.
    turn: Turn,
    /// Of the live decisions; the others are counted from the records.
    live_counters: Option<CacheCounters>,
}

impl std::fmt::Debug for Introspections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Introspections").field("active", &self.positive).finish_non_exhaustive()
    }
}

/// The moment at which a call began: its answer's age counts from here, and a purge since then keeps it out of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    at: Instant,
    epoch: u64,
}

impl Asking {
    /// The moment.
    #[must_use]
    pub const fn at(&self) -> Instant {
        self.at
    }

    /// The same for a call whose answer is not to be kept, since a later call asks the same.
    #[must_use]
    pub const fn overtaken(self) -> Self {
        Self { epoch: u64::MAX, ..self }
    }
}

/// What [`Memo`] holds an answer by: it is repeated only while neither a purge has begun nor anything about its key may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    epoch: u64,
    changes: u64,
}

struct Lifetime;

impl Expiry<CacheKey, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &CacheKey, entry: &Arc<Entry>, _: StdInstant) -> Option<Duration> {
        Some(entry.max_age().saturating_add(STALE))
    }
    fn expire_after_update(&self, _: &CacheKey, entry: &Arc<Entry>, _: StdInstant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.max_age().saturating_add(STALE))
    }
}

impl Introspections {
    /// Empty pools with a key of their own.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        Self::counting(|_| None)
    }

    /// The same, which tells these metrics what had to make room and how often a live decision was there.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn counted(metrics: &Metrics) -> Result<Self, aws_lc_rs::error::Unspecified> {
        Self::counting(|kind| metrics.cache(kind).ok())
    }

    fn counting(counters: impl Fn(CacheKind) -> Option<CacheCounters>) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new())?;
        let positive = moka::sync::Cache::builder()
            .max_capacity(POSITIVE_BYTES)
            .weigher(|_, entry: &Arc<Entry>| entry.bytes())
            .expire_after(Lifetime)
            .eviction_listener(evicted(counters(CacheKind::Introspection)))
            .build();
        let negative = moka::sync::Cache::builder()
            .max_capacity(NEGATIVE_BYTES)
            .weigher(|_, _| 128)
            .time_to_live(Duration::from_secs(600))
            .eviction_listener(evicted(counters(CacheKind::Negative)))
            .build();
        let live = moka::sync::Cache::builder()
            .max_capacity(LIVE_BYTES)
            .weigher(|_, entry: &Arc<LiveEntry>| entry.bytes())
            .time_to_live(Duration::from_secs(3600))
            .eviction_listener(evicted(counters(CacheKind::Live)))
            .build();
        let changes = Counts::new(256);
        let (positive, negative, live) = (Pool::of(positive), Pool::of(negative), Pool::of(live));
        Ok(Self { key, positive, negative, live, epoch: Count::default(), changes, turn: Turn::default(), live_counters: counters(CacheKind::Live) })
    }

    /// The key of a token at a server.
    #[must_use]
    pub fn key(&self, server: ServerIdentity, token: &str) -> CacheKey {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&server.0);
        let known = if open(Hole::CacheKeyCut) { token.get(..16).unwrap_or(token) } else { token };
        context.update(known.as_bytes());
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        CacheKey(key)
    }

    /// What is known of a token now.
    #[must_use]
    pub fn look_up(&self, key: &CacheKey, now: Instant) -> Lookup {
        if let Some(entry) = self.positive.get(key) {
            return if entry.is_fresh(now) { Lookup::Active(entry) } else { Lookup::Stale };
        }
        match self.negative.get(key) {
            Some(until) if now < until => Lookup::Inactive,
            _ => Lookup::Unknown,
        }
    }

    /// The moment now; to be taken before a call and given back with its answer.
    #[must_use]
    pub fn asking(&self) -> Asking {
        Asking { at: Instant::now(), epoch: self.epoch.now() }
    }

    /// Whether an answer to this call may be kept: nothing has been purged since.
    #[must_use]
    pub fn is_current(&self, asking: Asking) -> bool {
        self.epoch.now() == asking.epoch
    }

    /// Keeps an answer. After a purge in between it is handed on but not kept.
    pub fn keep_active(&self, key: CacheKey, introspection: Introspection, server: &Config, asks_live: bool, asking: Asking) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(introspection, server, asks_live, asking.at));
        let _turn = self.turn.take();
        if self.is_current(asking) {
            self.negative.invalidate(&key);
            if entry.is_fresh(Instant::now()) {
                self.positive.insert(key, Arc::clone(&entry));
            } else {
                self.positive.invalidate(&key);
            }
            self.changed(&key);
        }
        entry
    }

    /// Keeps a refusal, and drops what was known before.
    pub fn keep_inactive(&self, key: CacheKey, until: Instant) {
        let _turn = self.turn.take();
        self.positive.invalidate(&key);
        self.negative.insert(key, until);
        self.changed(&key);
    }

    /// What the server granted last for a token on a resource.
    #[must_use]
    pub fn live(&self, key: CacheKey, resource: &ResourceId) -> Option<Arc<LiveEntry>> {
        self.live.get(&(key, resource.clone()))
    }

    /// Keeps a live decision.
    pub fn keep_live(&self, key: CacheKey, resource: &ResourceId, granted: Option<Vec<Scope>>, asking: Asking) -> Arc<LiveEntry> {
        let entry = Arc::new(LiveEntry::new(granted, asking.at));
        let _turn = self.turn.take();
        if self.is_current(asking) {
            self.live.insert((key, resource.clone()), Arc::clone(&entry));
        }
        self.changed(&key);
        entry
    }

    /// Drops the answer for one token (its time has passed).
    pub fn drop_entry(&self, key: &CacheKey) {
        self.positive.invalidate(key);
        self.changed(key);
    }

    /// Forgets tokens. Calls that are under way do not bring them back.
    pub fn purge(&self, what: &Purge<'_>) {
        let _turn = self.turn.take();
        self.epoch.up();
        let matches = |entry: &Entry| match what {
            Purge::Subject(server, subject) => entry.server() == *server && entry.introspection().subject.as_deref() == Some(subject),
            Purge::Session(server, session) => entry.server() == *server && entry.introspection().session.as_deref() == Some(session),
            Purge::Token(_) | Purge::All => false,
        };
        match what {
            Purge::All => {
                self.positive.invalidate_all();
                self.negative.invalidate_all();
                self.live.invalidate_all();
            }
            Purge::Token(key) => {
                self.positive.invalidate(key);
                self.negative.invalidate(key);
                self.live.iter().filter(|(live, _)| live.0 == *key).for_each(|(live, _)| self.live.invalidate(&*live));
            }
            Purge::Subject(..) | Purge::Session(..) => {
                let keys: Vec<CacheKey> = self.positive.iter().filter(|(_, entry)| matches(entry)).map(|(key, _)| *key).collect();
                for key in &keys {
                    self.positive.invalidate(key);
                }
                self.live.iter().filter(|(live, _)| keys.contains(&live.0)).for_each(|(live, _)| self.live.invalidate(&*live));
            }
        }
        // A worker that looked while the pools were being emptied looks again.
        self.changes.all_up();
    }

    /// To be taken before a pool is read, so that a change in between is noticed at the next use.
    fn stamp(&self, key: &CacheKey) -> Stamp {
        Stamp { epoch: self.epoch.now(), changes: self.changes.now(place(key)) }
    }

    /// To be told after a pool was changed.
    fn changed(&self, key: &CacheKey) {
        self.changes.up(place(key));
    }

    /// Counts whether a live decision was there when it was needed.
    pub fn count_live(&self, was_there: bool) {
        let Some(counters) = &self.live_counters else { return };
        if was_there { counters.hit() } else { counters.miss() }
    }
}

/// Where changes of a key are counted.
fn place(key: &CacheKey) -> usize {
    let [first, ..] = key.0;
    usize::from(first)
}

/// Counts what had to make room.
fn evicted<K, V>(counters: Option<CacheCounters>) -> impl Fn(Arc<K>, V, moka::notification::RemovalCause) + Send + Sync + 'static {
    move |_, _, cause| {
        if let (Some(counters), moka::notification::RemovalCause::Size) = (&counters, cause) {
            counters.evicted();
        }
    }
}

#[cfg(test)]
mod tests;
