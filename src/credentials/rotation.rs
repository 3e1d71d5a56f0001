//! A proxy credential that is replaced while it is in use: the old one stays until the new one has worked once.
//!
//! Requests that may be repeated try the new one, once a second at most, and go again with the old one where it is refused; all others go with the one
//! that worked last. So it does not matter whether the content server or the gateway's file is changed first.
//!
//! A success alone proves nothing: the server may serve that resource to anybody, or a cache in front of it may. The new one has worked when a request with
//! it is answered 2xx, and the very same request is refused (401, 407) with the old one; or refused (401, 403, 407) with none at all, which is tried in the
//! background, once a second at most, with GET and HEAD. So neither who asks for what is public nor who asks for what is not there can take the old one
//! away. Where nothing is ever asked that may be repeated, both stay, and the one that was not refused last is used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::Proxy;

/// Between two trials of a credential that was refused, and between two requests without one.
const PACE: Duration = Duration::from_secs(1);

/// The credential before this one, while there is one. Read by workers for each request: at rest it costs one load.
#[derive(Default)]
pub(super) struct Rotation {
    pending: AtomicBool,
    before: ArcSwapOption<Proxy>,
    /// The old one was refused last: what cannot be repeated goes with the new one.
    old_refused: AtomicBool,
    tried: Mutex<Option<Instant>>,
    gone_without: Mutex<Option<Instant>>,
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
        due(&self.tried)
    }

    /// Whether a request may be sent without a credential, to see whether the server looks at it; asking counts as sending.
    pub(super) fn go_without_now(&self) -> bool {
        self.pending.load(Ordering::Relaxed) && due(&self.gone_without)
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

/// Whether it was longer ago than the pace; now it is not.
fn due(last: &Mutex<Option<Instant>>) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| last.elapsed() >= PACE);
    if due {
        *last = Some(Instant::now());
    }
    due
}

impl std::fmt::Debug for Rotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotation").field("pending", &self.pending).finish_non_exhaustive()
    }
}
