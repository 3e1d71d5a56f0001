//! How a gateway ends.

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
