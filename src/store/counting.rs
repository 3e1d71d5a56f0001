//! How many resource records are in which state, without a look into the database.

use std::sync::atomic::{AtomicU64, Ordering};

use super::records::State;

/// Records by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Registered at the authorization server.
    pub registered: u64,
    /// To be registered there.
    pub wanted: u64,
    /// To be deleted there.
    pub unwanted: u64,
}

/// The counts while they change. Whoever changes one has the database; whoever reads takes no lock.
#[derive(Debug, Default)]
pub(super) struct Counting {
    registered: AtomicU64,
    wanted: AtomicU64,
    unwanted: AtomicU64,
}

impl Counting {
    fn of(&self, state: &State) -> &AtomicU64 {
        match state {
            State::Registered { .. } => &self.registered,
            State::Wanted => &self.wanted,
            State::Unwanted { .. } => &self.unwanted,
        }
    }

    /// One more is in this state.
    pub fn more(&self, state: &State) {
        self.of(state).fetch_add(1, Ordering::Relaxed);
    }

    /// One less is.
    pub fn less(&self, state: &State) {
        self.of(state).fetch_sub(1, Ordering::Relaxed);
    }

    /// One went from this state to that.
    pub fn changed(&self, from: &State, to: &State) {
        self.less(from);
        self.more(to);
    }

    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts { registered: read(&self.registered), wanted: read(&self.wanted), unwanted: read(&self.unwanted) }
    }
}
