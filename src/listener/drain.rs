//! How a gateway ends.

use std::cell::Cell;
use std::time::Duration;

/// `drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// From "not ready" to the end of new connections (5 s): whoever sends requests here has to notice.
    pub delay: Duration,
    /// For what is under way then (30 s).
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), timeout: Duration::from_secs(30) }
    }
}

/// What was cut off when the time for its end was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Connections of clients.
    pub connections: usize,
    /// Requests that were being answered on them.
    pub requests: usize,
    /// Of the connections, those that were upgraded.
    pub tunnels: usize,
}

impl std::ops::AddAssign for Cut {
    fn add_assign(&mut self, other: Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.requests = self.requests.saturating_add(other.requests);
        self.tunnels = self.tunnels.saturating_add(other.tunnels);
    }
}

/// Requests and upgraded connections of one worker's listener that are under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    requests: Cell<usize>,
    tunnels: Cell<usize>,
}

impl UnderWay {
    /// A request has come.
    pub(super) fn asked(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// Its answer has been handed over, or given up.
    pub(super) fn answered(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
    }

    /// A connection was upgraded.
    pub(super) fn upgraded(&self) {
        self.tunnels.set(self.tunnels.get().saturating_add(1));
    }

    /// An upgraded one has ended.
    pub(super) fn closed(&self) {
        self.tunnels.set(self.tunnels.get().saturating_sub(1));
    }

    /// All of it, with so many connections.
    pub(super) fn cut(&self, connections: usize) -> Cut {
        Cut { connections, requests: self.requests.get(), tunnels: self.tunnels.get() }
    }
}
