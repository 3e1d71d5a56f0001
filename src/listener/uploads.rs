//! Request bodies under way over HTTP/2: each may hold a window of its stream in memory, until its content server takes it.
//!
//! A connection's window has room for all its streams, so that a body which nobody takes holds up no other (RFC 9113, 5.2). What all connections may hold
//! is bounded here instead: each connection has some bodies of its own, and all of them together have some more. A request beyond that is answered 503.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bodies that every connection may have under way, whatever others do.
const OWN: usize = 16;

/// Those of one connection.
pub(super) struct Uploads {
    here: Rc<Cell<usize>>,
    /// All those beyond each connection's own, of all workers and listeners.
    beyond: Arc<AtomicUsize>,
    most: usize,
}

/// One of them, until it is dropped.
pub(super) struct Upload {
    here: Rc<Cell<usize>>,
    beyond: Option<Arc<AtomicUsize>>,
}

impl Uploads {
    /// Of a new connection; `most`: how many `beyond` may count.
    pub(super) fn new(beyond: &Arc<AtomicUsize>, most: usize) -> Self {
        Self { here: Rc::default(), beyond: Arc::clone(beyond), most }
    }

    /// Another one, if there is room for it.
    pub(super) fn begin(&self) -> Option<Upload> {
        let beyond = if self.here.get() < OWN {
            None
        } else {
            let more = |count: usize| (count < self.most).then_some(count.saturating_add(1));
            self.beyond.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
            Some(Arc::clone(&self.beyond))
        };
        self.here.set(self.here.get().saturating_add(1));
        Some(Upload { here: Rc::clone(&self.here), beyond })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.here.set(self.here.get().saturating_sub(1));
        if let Some(beyond) = &self.beyond {
            beyond.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_its_own_and_shares_the_rest() {
        let beyond = Arc::<AtomicUsize>::default();
        let (greedy, modest) = (Uploads::new(&beyond, 3), Uploads::new(&beyond, 3));
        let mut held: Vec<_> = std::iter::from_fn(|| greedy.begin()).collect();
        assert_eq!(held.len(), OWN + 3);
        let own: Vec<_> = std::iter::from_fn(|| modest.begin()).collect();
        assert_eq!(own.len(), OWN, "nobody takes these");
        held.pop();
        assert!(modest.begin().is_some(), "what one gives back another may have");
        drop((held, own));
        assert_eq!(beyond.load(Ordering::Relaxed), 0);
        assert_eq!((greedy.here.get(), modest.here.get()), (0, 0));
    }
}
