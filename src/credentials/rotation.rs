//! A proxy credential that is replaced while it is in use: the old one stays until the new one has worked once.
//!
//! Requests that may be repeated try the new one, once a second at most, and go again with the old one where it is refused; all others go with the one
//! that worked last. So it does not matter whether the content server or the gateway's file is changed first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::Proxy;

/// Between two trials of a credential that was refused.
const PACE: Duration = Duration::from_secs(1);

/// The credential before this one, while there is one. Read by workers for each request: at rest it costs one load.
#[derive(Default)]
pub(super) struct Rotation {
    pending: AtomicBool,
    before: ArcSwapOption<Proxy>,
    /// The old one was refused last: what cannot be repeated goes with the new one.
    old_refused: AtomicBool,
    tried: Mutex<Option<Instant>>,
    refused_before: AtomicBool,
    told: Option<Arc<dyn Fn(Trial) + Send + Sync>>,
}

/// What came of a new credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It was refused, and the old one stays in use. Told once.
    Refused,
    /// It worked, and the old one is gone.
    Worked,
}

impl Rotation {
    /// Falls back on `before`; `told` hears how it goes.
    pub(super) fn from(before: Arc<Proxy>, told: Arc<dyn Fn(Trial) + Send + Sync>) -> Self {
        Self { pending: AtomicBool::new(true), before: ArcSwapOption::new(Some(before)), told: Some(told), ..Self::default() }
    }

    /// The old credential, until the new one has worked.
    pub(super) fn before(&self) -> Option<Arc<Proxy>> {
        if self.pending.load(Ordering::Relaxed) { self.before.load_full() } else { None }
    }

    /// Whether a request that may be repeated shows the new one first; asking counts as trying.
    pub(super) fn try_now(&self) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let due = tried.is_none_or(|tried| tried.elapsed() >= PACE);
        if due {
            *tried = Some(Instant::now());
        }
        due
    }

    /// Whether a request that may not be repeated goes with the new one.
    pub(super) fn prefers_new(&self) -> bool {
        self.old_refused.load(Ordering::Relaxed)
    }

    pub(super) fn old_was_refused(&self) {
        self.old_refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn new_was_refused(&self) {
        self.old_refused.store(false, Ordering::Relaxed);
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if !self.refused_before.swap(true, Ordering::Relaxed) {
            self.tell(Trial::Refused);
        }
    }

    /// The new one worked: from now on there is no other.
    pub(super) fn new_worked(&self) {
        if self.pending.swap(false, Ordering::Relaxed) {
            self.before.store(None);
            self.tell(Trial::Worked);
        }
    }

    fn tell(&self, trial: Trial) {
        if let Some(told) = &self.told {
            told(trial);
        }
    }
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotation").field("pending", &self.pending).finish_non_exhaustive()
    }
}
