//! Which hole is open, in a build with the feature `holes`.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Hole;

const NONE: u8 = u8::MAX;
static OPEN: AtomicU8 = AtomicU8::new(NONE);

thread_local!(static PERMITTED: RefCell<HashSet<SocketAddr>> = RefCell::default());

/// Whether the hole is open.
#[must_use]
pub fn open(hole: Hole) -> bool {
    OPEN.load(Ordering::Relaxed) == hole as u8
}

/// Opens this hole in all gateways of the process, and shuts every other one.
pub fn open_only(hole: Hole) {
    OPEN.store(hole as u8, Ordering::Relaxed);
}

/// Shuts them all.
pub fn close() {
    OPEN.store(NONE, Ordering::Relaxed);
}

/// For [`Hole::StickyConnection`]: this client's connection was let through.
pub fn remember(client: SocketAddr) {
    PERMITTED.with_borrow_mut(|permitted| permitted.insert(client));
}

/// Whether it was.
#[must_use]
pub fn remembers(client: SocketAddr) -> bool {
    PERMITTED.with_borrow(|permitted| permitted.contains(&client))
}
