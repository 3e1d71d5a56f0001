//! What threads share: the pools, counts, flags, and the turn of whoever changes something.
//!
//! In tests every use of them is a point where another thread of a model may go on, so that `races.rs` can run the threads in one order after the other.
//! Everywhere else they are what the standard library and moka have.

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::sync::Cache;

/// A count that only grows.
#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub fn now(&self) -> u64 {
        point();
        self.0.load(Ordering::Acquire)
    }

    pub fn up(&self) {
        point();
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Counts in a row. Those that are not there stay at 0.
pub(super) struct Counts(Box<[AtomicU64]>);

impl Counts {
    pub fn new(length: usize) -> Self {
        Self((0..length).map(|_| AtomicU64::new(0)).collect())
    }

    pub fn now(&self, at: usize) -> u64 {
        point();
        self.0.get(at).map_or(0, |count| count.load(Ordering::Acquire))
    }

    pub fn up(&self, at: usize) {
        point();
        if let Some(count) = self.0.get(at) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub fn all_up(&self) {
        point();
        for count in &self.0 {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// A flag that is raised once.
#[derive(Debug)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub const fn lowered() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Raises it; true: nobody had.
    pub fn raise(&self) -> bool {
        point();
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// What one thread at a time holds.
#[derive(Default)]
pub(super) struct Turn(Mutex<()>);

impl Turn {
    pub fn take(&self) -> MutexGuard<'_, ()> {
        #[cfg(test)]
        while modelled() {
            point();
            if let Ok(turn) = self.0.try_lock() {
                return turn;
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bounded map.
pub(super) struct Pool<K, V>(Cache<K, V>);

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Pool<K, V> {
    pub const fn of(cache: Cache<K, V>) -> Self {
        Self(cache)
    }

    pub fn get(&self, key: &K) -> Option<V> {
        point();
        self.0.get(key)
    }

    pub fn insert(&self, key: K, value: V) {
        point();
        self.0.insert(key, value);
    }

    pub fn invalidate(&self, key: &K) {
        point();
        self.0.invalidate(key);
    }

    pub fn invalidate_all(&self) {
        point();
        self.0.invalidate_all();
    }

    pub fn iter(&self) -> impl Iterator<Item = (Arc<K>, V)> + '_ {
        point();
        self.0.iter()
    }
}

impl<K, V> Debug for Pool<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.0.entry_count())
    }
}

#[cfg(not(test))]
const fn point() {}

#[cfg(test)]
pub(super) use modelling::{modelled, point, run};

/// Runs threads one at a time, in orders that [shuttle](https://docs.rs/shuttle) chooses.
#[cfg(test)]
mod modelling {
    use std::cell::Cell;

    thread_local!(static MODELLED: Cell<bool> = const { Cell::new(false) });

    /// Whether this is a thread of a model.
    pub fn modelled() -> bool {
        MODELLED.get()
    }

    /// Another thread of the model may go on here.
    pub fn point() {
        if modelled() {
            shuttle::thread::yield_now();
        }
    }

    /// Runs a model so many times, each time in another order.
    pub fn run(times: usize, model: impl Fn() + Send + Sync + 'static) {
        MODELLED.set(true);
        shuttle::check_random(model, times);
        MODELLED.set(false);
    }
}
