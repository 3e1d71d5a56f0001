//! What enforcement hands on: a request that may pass, and on whose behalf.

use std::sync::Arc;

use crate::cache::Entry;
use crate::routing::Routed;

/// The right to pass, made in this room only.
#[derive(Clone, Debug)]
pub struct Permit {
    entry: Option<Arc<Entry>>,
}

impl Permit {
    /// Everyone may pass: a public route.
    pub(super) const fn public() -> Self {
        Self { entry: None }
    }

    /// The bearer of this answer may pass.
    pub(super) const fn of(entry: Arc<Entry>) -> Self {
        Self { entry: Some(entry) }
    }

    /// The answer that it rests on; none on a public route.
    pub(super) fn into_entry(self) -> Option<Arc<Entry>> {
        self.entry
    }

    /// Whether the answer belongs to somebody: a shared cache must not keep it.
    #[must_use]
    pub const fn is_personal(&self) -> bool {
        self.entry.is_some()
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.entry.as_ref()?.introspection().subject.as_deref()
    }

    /// The user name, where the server tells it.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.entry.as_ref()?.introspection().username.as_deref()
    }

    /// The client application.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.entry.as_ref()?.introspection().client.as_deref()
    }

    /// Another member of the introspection answer.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.entry.as_ref()?.introspection().claims.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}

/// A request that may pass.
#[derive(Debug)]
pub struct Permitted<S> {
    routed: Routed<S>,
    permit: Permit,
}

impl<S> Permitted<S> {
    pub(super) const fn new(routed: Routed<S>, permit: Permit) -> Self {
        Self { routed, permit }
    }

    /// A request of a public route, for tests of the rooms to the left.
    #[cfg(test)]
    pub(crate) const fn public_for_tests(routed: Routed<S>) -> Self {
        Self::new(routed, Permit::public())
    }

    /// The request and its permit, for the room that builds the outbound head.
    #[must_use]
    pub fn into_parts(self) -> (Routed<S>, Permit) {
        (self.routed, self.permit)
    }
}
