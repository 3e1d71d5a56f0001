//! How many answers of this worker wait for clients that take nothing of them.
//!
//! Each holds the piece that is being written and the one behind it. Pieces are large, since that is what makes a transfer fast, as long as few wait; where
//! many do, content servers are read from in smaller pieces, so that clients that do not read cannot have the gateway hold 128 KiB for each of them.

use std::cell::Cell;

/// Answers that may wait with large pieces, for each worker.
const FEW: usize = 8;

thread_local! {
    // A worker is a thread.
    static WAITING: Cell<usize> = const { Cell::new(0) };
}

/// An answer that waits; it does no more when this is dropped.
#[derive(Debug)]
pub struct Untaken(());

impl Untaken {
    /// One more.
    #[must_use]
    pub fn begin() -> Self {
        WAITING.set(WAITING.get().saturating_add(1));
        Self(())
    }

    /// Whether so many wait that pieces are to be small.
    #[must_use]
    pub fn are_many() -> bool {
        WAITING.get() > FEW
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        WAITING.set(WAITING.get().saturating_sub(1));
    }
}
