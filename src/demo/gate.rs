//! A gate that holds answers back, so that a test can say what happens meanwhile instead of sleeping.

use std::sync::Arc;

use tokio::sync::watch;

/// Holds answers back until it is opened. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A gate that is closed.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Opens it, for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub async fn passed(&self) {
        // It cannot fail: the sender lives in `self`.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
