//! What holds for connections that begin now: settings that a reload may change, and the count of the connections that there are.
//!
//! One for all workers and listeners of a gateway. A connection keeps the settings that it began with.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::drain::Cut;
use super::seats::{Full, Seats};
use super::uploads::Uploads;
use super::{Limits, Settings};

/// Between two words on the same trouble.
const CALM: Duration = Duration::from_secs(10);

/// Between two words on connections that are refused.
const MINUTE: Duration = Duration::from_secs(60);

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
    refusals: [Refusals; 2],
    cut: Mutex<Cut>,
}

/// Connections that were refused since the log told of it.
#[derive(Debug, Default)]
struct Refusals {
    count: AtomicUsize,
    told: Mutex<Option<Instant>>,
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
            refusals: Default::default(),
            cut: Mutex::default(),
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

    /// A connection was closed at once: said at the first, and once a minute while it goes on.
    pub(super) fn refused(&self, full: Full, client: IpAddr, settings: &Settings) {
        let [of_all, of_client] = &self.0.refusals;
        let refusals = if full == Full::OfAll { of_all } else { of_client };
        refusals.count.fetch_add(1, Ordering::Relaxed);
        // Another worker that is about to tell counts this one.
        let Ok(mut told) = refusals.told.try_lock() else { return };
        if told.is_some_and(|told| told.elapsed() < MINUTE) {
            return;
        }
        *told = Some(Instant::now());
        let refused = refusals.count.swap(0, Ordering::Relaxed);
        match full {
            Full::OfAll => tracing::warn!(refused, limit = settings.connections, "connections are refused: `limits.connections` are open"),
            Full::OfClient => {
                let limit = settings.connections_per_client;
                tracing::warn!(refused, limit, client.address = %client.to_canonical(), "connections are refused: a client has `limits.connections_per_client` open, or requests that go on without it");
            }
        }
    }

    /// Something was cut off when the time for its end was over.
    pub fn cut(&self, cut: Cut) {
        *self.0.cut.lock().unwrap_or_else(PoisonError::into_inner) += cut;
    }

    /// All of that since it was asked last.
    pub fn take_cut(&self) -> Cut {
        std::mem::take(&mut *self.0.cut.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The count of connections.
    pub(super) fn seats(&self) -> &Arc<Seats> {
        &self.0.seats
    }
}
