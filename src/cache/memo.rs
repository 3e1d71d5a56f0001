//! One worker's own memory in front of the shared cache: the tokens that it has just seen, found without hashing all of them.
//!
//! It only ever repeats what [`Introspections`] said: an answer counts while it is fresh and while nothing about its key has been kept, dropped or purged
//! since ([`Stamp`]), so a refusal or a revocation that the shared cache knows is known here at the same moment. A token is recognised by all its
//! bytes; the hash that finds its place reads the last of them only. Bounded in slots and in bytes; what is pushed out is wiped.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::time::Instant;

use super::{CacheKey, Entry, Introspections, LiveEntry, Lookup, Stamp};
use crate::authorization_server::ServerIdentity;
use crate::secret::Secret;
use crate::uma::ResourceId;

/// Places; a power of two.
const SLOTS: usize = 1024;
/// A longer token is not remembered here: with this bound the memory of a worker stays under 4 MiB.
const LONGEST: usize = 4096;
/// How much of a token's end chooses its place: the end of a signature differs, the beginning of a token seldom does.
const TAIL: usize = 24;
/// So many other tokens must ask for a place before a fresh one gives way: where there are more tokens than places, copying each would cost more than it saves.
const PATIENCE: u8 = 8;

/// The memory of one worker. Empty it takes no room.
#[derive(Default)]
pub struct Memo {
    slots: Vec<Option<Slot>>,
    hasher: RandomState,
}

struct Slot {
    server: ServerIdentity,
    tail: u64,
    token: Secret,
    key: CacheKey,
    entry: Arc<Entry>,
    live: Option<(ResourceId, Arc<LiveEntry>)>,
    stamp: Stamp,
    asked_for: u8,
}

impl Memo {
    /// The key of a token and what is known of it now; from here if possible, else from `cache`.
    pub fn look_up(&mut self, cache: &Introspections, server: ServerIdentity, token: &str, now: Instant) -> (CacheKey, Lookup) {
        let tail = self.tail(token);
        let place = place(tail);
        if let Some(Some(slot)) = self.slots.get_mut(place) {
            if slot.is_of(server, tail, token) {
                if slot.entry.is_fresh(now) && slot.stamp == cache.stamp(&slot.key) {
                    slot.asked_for = 0;
                    return (slot.key, Lookup::Active(Arc::clone(&slot.entry)));
                }
                let key = slot.key;
                let (stamp, known) = (cache.stamp(&key), cache.look_up(&key, now));
                match &known {
                    Lookup::Active(entry) => (slot.entry, slot.live, slot.stamp) = (Arc::clone(entry), None, stamp),
                    Lookup::Stale | Lookup::Inactive | Lookup::Unknown => self.forget(place),
                }
                return (key, known);
            }
            slot.asked_for = slot.asked_for.saturating_add(1);
        }
        let key = cache.key(server, token);
        let (stamp, known) = (cache.stamp(&key), cache.look_up(&key, now));
        if let Lookup::Active(entry) = &known {
            self.remember(
                place,
                now,
                || Slot { server, tail, token: token.into(), key, entry: Arc::clone(entry), live: None, stamp, asked_for: 0 },
                token.len(),
            );
        }
        (key, known)
    }

    /// What the server granted last for a token that [`Memo::look_up`] has just found, as [`Introspections::live`].
    pub fn live(&mut self, cache: &Introspections, server: ServerIdentity, token: &str, key: CacheKey, resource: &ResourceId) -> Option<Arc<LiveEntry>> {
        let tail = self.tail(token);
        let place = place(tail);
        let Some(Some(slot)) = self.slots.get_mut(place).filter(|slot| slot.as_ref().is_some_and(|slot| slot.is_of(server, tail, token))) else {
            return cache.live(key, resource);
        };
        if let Some((known, live)) = &slot.live
            && known == resource
            && slot.stamp == cache.stamp(&key)
        {
            return Some(Arc::clone(live));
        }
        // The stamp is older than the answer, so that nothing that happens in between is missed.
        let live = cache.live(key, resource)?;
        slot.live = Some((resource.clone(), Arc::clone(&live)));
        Some(live)
    }

    fn tail(&self, token: &str) -> u64 {
        let bytes = token.as_bytes();
        self.hasher.hash_one(bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes))
    }

    fn remember(&mut self, place: usize, now: Instant, slot: impl FnOnce() -> Slot, length: usize) {
        if length > LONGEST {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        if let Some(kept) = self.slots.get_mut(place)
            && kept.as_ref().is_none_or(|kept| kept.asked_for >= PATIENCE || !kept.entry.is_fresh(now))
        {
            *kept = Some(slot());
        }
    }

    fn forget(&mut self, place: usize) {
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = None;
        }
    }
}

impl Slot {
    fn is_of(&self, server: ServerIdentity, tail: u64, token: &str) -> bool {
        // The keyed hash of the end comes first: how long the comparison of the rest takes tells nothing to whoever does not have the end already.
        self.tail == tail && self.server == server && self.token.expose() == token
    }
}

fn place(tail: u64) -> usize {
    usize::try_from(tail).unwrap_or(0) & (SLOTS - 1)
}

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "memo_tests.rs"]
mod tests;
