//! One call for all who want the same at the same time.
//!
//! Whoever asks joins a call that is under way, or is told to start one. Nobody who waits can end it, and it tells everyone when it lands, also when it breaks off.
//! A call that began too long ago is not joined: its answer may be older than what the question may be answered with. Lives on the control thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;

use tokio::sync::oneshot;

/// The calls under way, by what they ask.
pub(super) struct Flights<K, S, T> {
    under_way: RefCell<HashMap<K, Vec<Flight<S, T>>>>,
    numbers: Cell<u64>,
}

/// One call: when it began, and who waits for it.
struct Flight<S, T> {
    number: u64,
    began: S,
    overtaken: bool,
    waiting: Vec<oneshot::Sender<T>>,
}

/// What it takes to start a call: its number and its beginning.
#[derive(Debug)]
pub(super) struct Start<S> {
    number: u64,
    began: S,
}

impl<K, S, T> Default for Flights<K, S, T> {
    fn default() -> Self {
        Self { under_way: RefCell::default(), numbers: Cell::new(0) }
    }
}

impl<K: Hash + Eq + Clone, S: Copy, T: Clone> Flights<K, S, T> {
    /// Whether a call is under way that may be joined.
    pub fn has(&self, key: &K, may_join: impl Fn(&S) -> bool) -> bool {
        self.under_way.borrow().get(key).and_then(|flights| flights.last()).is_some_and(|flight| may_join(&flight.began))
    }

    /// Waits for the latest call if it `may_join` one that began then; else gives what the caller is to start one with, which begins `now`.
    pub fn join(&self, key: &K, reply: Option<oneshot::Sender<T>>, now: S, may_join: impl Fn(&S) -> bool) -> Option<Start<S>> {
        let mut under_way = self.under_way.borrow_mut();
        let flights = under_way.entry(key.clone()).or_default();
        if let Some(flight) = flights.last_mut().filter(|flight| may_join(&flight.began)) {
            flight.waiting.extend(reply);
            return None;
        }
        let number = self.numbers.replace(self.numbers.get().wrapping_add(1));
        flights.iter_mut().for_each(|flight| flight.overtaken = true);
        flights.push(Flight { number, began: now, overtaken: false, waiting: reply.into_iter().collect() });
        Some(Start { number, began: now })
    }

    /// A call that has begun; `broken_off` is what is told where it ends without an answer.
    pub fn begin(&self, key: K, start: Start<S>, broken_off: fn() -> T) -> Landing<'_, K, S, T> {
        Landing { flights: self, key, start, broken_off, landed: false }
    }

    fn take(&self, key: &K, number: u64) -> Vec<oneshot::Sender<T>> {
        let mut under_way = self.under_way.borrow_mut();
        let Some(flights) = under_way.get_mut(key) else { return Vec::new() };
        let waiting = flights.iter().position(|flight| flight.number == number).map(|at| flights.remove(at).waiting);
        if flights.is_empty() {
            under_way.remove(key);
        }
        waiting.unwrap_or_default()
    }
}

/// Tells everyone who waits for a call when it ends; one that breaks off in a panic must not leave its key taken for ever.
pub(super) struct Landing<'a, K: Hash + Eq + Clone, S: Copy, T: Clone> {
    flights: &'a Flights<K, S, T>,
    key: K,
    start: Start<S>,
    broken_off: fn() -> T,
    landed: bool,
}

impl<K: Hash + Eq + Clone, S: Copy, T: Clone> Landing<'_, K, S, T> {
    /// When the call began.
    pub const fn began(&self) -> S {
        self.start.began
    }

    /// Whether no later call has asked the same: only the latest answer is worth keeping.
    pub fn is_latest(&self) -> bool {
        let under_way = self.flights.under_way.borrow();
        under_way.get(&self.key).is_some_and(|flights| flights.iter().any(|flight| flight.number == self.start.number && !flight.overtaken))
    }

    /// Tells everyone.
    pub fn lands(mut self, result: &T) {
        self.tell(result);
    }

    fn tell(&mut self, result: &T) {
        self.landed = true;
        for reply in self.flights.take(&self.key, self.start.number) {
            let _ = reply.send(result.clone());
        }
    }
}

impl<K: Hash + Eq + Clone, S: Copy, T: Clone> Drop for Landing<'_, K, S, T> {
    fn drop(&mut self) {
        if !self.landed {
            self.tell(&(self.broken_off)());
        }
    }
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
