//! A secret, or whatever else shows who somebody is, that is replaced while it is in use.
//!
//! Nobody changes a secret on both sides at the same moment. So the old one stays in use until the new one has worked once; until then whoever is refused with
//! the one tries the other. Nothing here asks anybody: the callers do, and say what came of it.

use std::sync::{Mutex, PoisonError};

use super::Secret;

/// The secret in use, and the one that is to replace it. For the control plane: it takes a lock.
pub struct Rotating<T = Secret>(Mutex<State<T>>);

struct State<T> {
    held: T,
    next: Option<T>,
}

impl<T: Clone + PartialEq> Rotating<T> {
    /// A secret that nothing is to replace yet.
    #[must_use]
    pub const fn new(secret: T) -> Self {
        Self(Mutex::new(State { held: secret, next: None }))
    }

    /// The one that is in use.
    #[must_use]
    pub fn held(&self) -> T {
        self.with(|state| state.held.clone())
    }

    /// The one that has not worked yet.
    #[must_use]
    pub fn next(&self) -> Option<T> {
        self.with(|state| state.next.clone())
    }

    /// What to show when `shown` has been refused: the one that has not worked yet, or the one that has taken the place of `shown` since.
    #[must_use]
    pub fn after(&self, shown: &T) -> Option<T> {
        self.with(|state| state.next.iter().chain([&state.held]).find(|other| *other != shown).cloned())
    }

    /// What the configuration says now; true: it is news, and has to be tried.
    pub fn offer(&self, secret: &T) -> bool {
        self.with(|state| {
            if state.held == *secret {
                state.next = None;
                return false;
            }
            let known = state.next.as_ref().is_some_and(|next| next == secret);
            state.next = Some(secret.clone());
            !known
        })
    }

    /// This one worked; true: it has taken the place of the old one, which is gone.
    pub fn worked(&self, secret: &T) -> bool {
        self.with(|state| match state.next.take_if(|next| next == secret) {
            Some(next) => {
                state.held = next;
                true
            }
            None => false,
        })
    }

    fn with<R>(&self, change: impl FnOnce(&mut State<T>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> std::fmt::Debug for Rotating<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rotating(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_one_stays_until_the_new_one_has_worked() {
        let secret = Rotating::<Secret>::new("old".into());
        assert!(secret.offer(&"new".into()));
        assert!(!secret.offer(&"new".into()), "nothing new");
        assert!(secret.held().matches("old") && secret.next().is_some());
        assert!(!secret.worked(&"old".into()) && secret.next().is_some());
        assert!(secret.worked(&"new".into()));
        assert!(secret.held().matches("new") && secret.next().is_none());
    }

    #[test]
    fn whoever_was_refused_with_the_old_one_shows_the_new_one_though_it_has_worked_meanwhile() {
        let secret = Rotating::<Secret>::new("old".into());
        assert!(secret.after(&"old".into()).is_none(), "there is nothing else");
        assert!(secret.offer(&"new".into()));
        assert!(secret.after(&"old".into()).is_some_and(|next| next.matches("new")));
        assert!(secret.worked(&"new".into()));
        assert!(secret.after(&"old".into()).is_some_and(|held| held.matches("new")));
        assert!(secret.after(&"new".into()).is_none());
    }

    #[test]
    fn whoever_takes_a_new_one_back_has_the_old_one() {
        let secret = Rotating::<Secret>::new("old".into());
        assert!(secret.offer(&"new".into()));
        assert!(!secret.offer(&"old".into()));
        assert!(secret.next().is_none() && secret.held().matches("old"));
    }
}
