//! What holds for connections that begin now: settings that a reload may change, and the count of the connections that there are.
//!
//! One for all workers and listeners of a gateway. A connection keeps the settings that it began with.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::seats::Seats;
use super::{Limits, Settings};

/// Settings in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Terms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where the configuration says nothing.
    base: Settings,
    now: ArcSwap<Settings>,
    seats: Arc<Seats>,
}

impl From<Settings> for Terms {
    fn from(settings: Settings) -> Self {
        Self(Arc::new(Inner { now: ArcSwap::from_pointee(settings.clone()), base: settings, seats: Arc::default() }))
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

    /// The count of connections.
    pub(super) fn seats(&self) -> &Arc<Seats> {
        &self.0.seats
    }
}
