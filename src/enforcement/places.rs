//! How much of something each client has under way: of calls to an authorization server, and of requests that the records follow where nobody else counts.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Those who have any. Clones count together, on whichever thread.
#[derive(Clone, Debug)]
pub(super) struct Places<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One place of a client's, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    places: Places<K>,
    client: K,
}

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Copy> Places<K> {
    /// A place for one more; `None`: the client has `most`.
    pub(super) fn take(&self, client: K, most: usize) -> Option<Place<K>> {
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

#[cfg(test)]
impl<K> Places<K> {
    /// Whether nobody has any, and nobody is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
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
    use crate::routing::LimitKey;

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
        assert!(places.is_empty(), "whoever has none is forgotten");
    }
}
