//! How many requests that the records follow a client has under way, where nobody else counts: behind a trusted proxy its connections are the proxy's, and a
//! request that is followed goes on when they are gone. One count for all workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::routing::LimitKey;

/// The clients that have any. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<LimitKey, usize>>>);

/// A request's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    client: LimitKey,
}

impl Places {
    /// A place for one more; `None`: the client has `most`.
    pub(super) fn take(&self, client: LimitKey, most: usize) -> Option<Place> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = clients.entry(client).or_default();
        // One that has none is not in the table, and `most` is never zero.
        if *taken >= most.max(1) {
            return None;
        }
        *taken = taken.saturating_add(1);
        Some(Place { places: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = clients.get_mut(&self.client) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_so_many_places_and_one_that_is_given_back_can_be_taken_again() {
        let (places, alice, bob) = (Places::default(), LimitKey::of("192.0.2.1".parse().unwrap()), LimitKey::of("192.0.2.2".parse().unwrap()));
        let another = places.clone();
        let (first, second) = (places.take(alice, 2), another.take(alice, 2));
        assert!(first.is_some() && second.is_some() && places.take(alice, 2).is_none());
        assert!(places.take(bob, 2).is_some(), "another client has its own");
        drop(first);
        assert!(places.take(alice, 2).is_some());
        drop(second);
        assert!(places.0.lock().unwrap().is_empty(), "whoever has none is forgotten");
    }
}
