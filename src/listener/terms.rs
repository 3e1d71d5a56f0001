//! What holds for connections that begin now: settings that a reload may change, and the count of the connections that there are.
//!
//! One for all workers and listeners of a gateway. A connection keeps the settings that it began with.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::seats::Seats;
use super::uploads::Uploads;
use super::{Limits, Settings};

/// Between two words on the same trouble.
const CALM: Duration = Duration::from_secs(10);

/// Settings in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Terms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where the configuration says nothing.
    base: Settings,
    now: ArcSwap<Settings>,
    seats: Arc<Seats>,
    /// Request bodies beyond those that each connection has of its own.
    uploads: Arc<AtomicUsize>,
    trouble: Trouble,
}

/// Whether the system gives connections, as the log has it.
#[derive(Debug, Default)]
struct Trouble {
    told: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl From<Settings> for Terms {
    fn from(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            now: ArcSwap::from_pointee(settings.clone()),
            base: settings,
            seats: Arc::default(),
            uploads: Arc::default(),
            trouble: Trouble::default(),
        }))
    }
}

impl Terms {
    /// Takes what the configuration says into force, for connections that begin from now on; gives how many there may be.
    pub fn limit_to(&self, limits: &Limits) -> usize {
        let settings = limits.over(&self.0.base);
        let most = settings.connections;
        self.0.now.store(Arc::new(settings));
        most
    }

    /// What holds now.
    pub(super) fn now(&self) -> Arc<Settings> {
        self.0.now.load_full()
    }

    /// The system gave a worker no connection: said once for all of them, not ten times a second.
    pub(super) fn not_accepted(&self, error: &io::Error) {
        let trouble = &self.0.trouble;
        let mut last = trouble.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !trouble.told.load(Ordering::Relaxed) && last.is_none_or(|last| last.elapsed() >= CALM) {
            *last = Some(Instant::now());
            trouble.told.store(true, Ordering::Relaxed);
            tracing::warn!(%error, "no connection can be accepted");
        }
    }

    /// It gave one.
    pub(super) fn accepted(&self) {
        let told = &self.0.trouble.told;
        if told.load(Ordering::Relaxed) && told.swap(false, Ordering::Relaxed) {
            tracing::info!("connections are accepted again");
        }
    }

    /// Request bodies of a new connection.
    pub(super) fn uploads(&self) -> Uploads {
        Uploads::new(&self.0.uploads, self.0.base.uploads)
    }

    /// The count of connections.
    pub(super) fn seats(&self) -> &Arc<Seats> {
        &self.0.seats
    }
}
