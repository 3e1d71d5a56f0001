//! Which servers can be reached, as all workers found; spoken of when it changes, not for each request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Server;

/// The state of all servers; shared by all workers, outlives reloads.
#[derive(Debug, Default)]
pub struct Health {
    servers: Mutex<HashMap<Server, Arc<Condition>>>,
}

/// The state of one server.
#[derive(Debug, Default)]
pub(super) struct Condition {
    down: AtomicBool,
}

impl Health {
    /// Whether the last attempt to connect to this server failed.
    #[must_use]
    pub fn is_down(&self, server: &Server) -> bool {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).get(server).is_some_and(|condition| condition.down.load(Ordering::Relaxed))
    }

    /// The state of a server; asked once by each worker, not for each request.
    pub(super) fn of(&self, server: &Server) -> Arc<Condition> {
        Arc::clone(self.servers.lock().unwrap_or_else(PoisonError::into_inner).entry(server.clone()).or_default())
    }
}

impl Condition {
    /// A connection failed.
    pub(super) fn fell(&self, upstream: &str, address: &str, error: &super::UpstreamError) {
        if !self.down.swap(true, Ordering::Relaxed) {
            tracing::warn!(upstream, address, error = error as &dyn std::error::Error, "upstream cannot be reached");
        }
    }

    /// A connection stands.
    pub(super) fn stands(&self, upstream: &str, address: &str) {
        // Read first: a write by every worker for every connection would make them wait for each other's cache line.
        if self.down.load(Ordering::Relaxed) && self.down.swap(false, Ordering::Relaxed) {
            tracing::info!(upstream, address, "upstream can be reached again");
        }
    }
}
