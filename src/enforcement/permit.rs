//! What enforcement hands on: a request that may pass, and on whose behalf.

use std::sync::Arc;

use crate::cache::Entry;
use crate::routing::Routed;

/// The right to pass, made in this room only.
#[derive(Clone, Debug)]
pub struct Permit(Basis);

/// What a permit rests on.
#[derive(Clone, Debug)]
enum Basis {
    /// Nothing: a public route.
    Public,
    /// The authorization server's answer.
    Entry(Arc<Entry>),
    /// The credential that a guard accepts, and on whose behalf the gateway says that it asks.
    Credential { subject: Option<Arc<str>> },
}

impl Permit {
    /// Everyone may pass: a public route.
    pub(super) const fn public() -> Self {
        Self(Basis::Public)
    }

    /// The bearer of this answer may pass.
    pub(super) const fn of(entry: Arc<Entry>) -> Self {
        Self(Basis::Entry(entry))
    }

    /// The bearer of a guard's credential may pass.
    pub(super) const fn guarded(subject: Option<Arc<str>>) -> Self {
        Self(Basis::Credential { subject })
    }

    /// The answer that it rests on; none on a public route and behind a guard.
    pub(super) fn into_entry(self) -> Option<Arc<Entry>> {
        match self.0 {
            Basis::Entry(entry) => Some(entry),
            Basis::Public | Basis::Credential { .. } => None,
        }
    }

    const fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.0 {
            Basis::Entry(entry) => Some(entry),
            Basis::Public | Basis::Credential { .. } => None,
        }
    }

    /// Whether the answer belongs to somebody: a shared cache must not keep it.
    #[must_use]
    pub const fn is_personal(&self) -> bool {
        !matches!(self.0, Basis::Public)
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match &self.0 {
            Basis::Public => None,
            Basis::Entry(entry) => entry.introspection().subject.as_deref(),
            Basis::Credential { subject } => subject.as_deref(),
        }
    }

    /// The user name, where the server tells it.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.entry()?.introspection().username.as_deref()
    }

    /// The client application.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.entry()?.introspection().client.as_deref()
    }

    /// Another member of the introspection answer.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.entry()?.introspection().claims.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Introspections;
    use crate::uma::Introspection;

    fn permit(introspection: Introspection) -> Permit {
        let cache = Introspections::new().expect("randomness");
        let server = crate::authorization_server::testing::config();
        let key = cache.key(server.identity, "token");
        Permit::of(cache.keep_active(key, introspection, &server, false, cache.asking()))
    }

    #[test]
    fn a_permit_tells_what_the_server_said_of_its_bearer() {
        let bob = permit(Introspection {
            subject: Some("6d1e".into()),
            username: Some("bob".into()),
            client: Some("photo-print".into()),
            claims: vec![("email".into(), "bob@example.org".into()), ("group".into(), "family".into())],
            ..Introspection::default()
        });
        assert_eq!((bob.subject(), bob.username(), bob.client()), (Some("6d1e"), Some("bob"), Some("photo-print")));
        assert_eq!((bob.claim("email"), bob.claim("group"), bob.claim("sub")), (Some("bob@example.org"), Some("family"), None));
        assert_eq!(bob.into_entry().and_then(|entry| entry.introspection().subject.clone()).as_deref(), Some("6d1e"));
    }

    #[test]
    fn what_the_server_left_out_is_nobody() {
        let unnamed = permit(Introspection::default());
        assert_eq!((unnamed.subject(), unnamed.username(), unnamed.client(), unnamed.claim("email")), (None, None, None, None));
    }

    #[test]
    fn behind_a_guard_a_permit_tells_on_whose_behalf_the_gateway_says_that_it_asks() {
        let guarded = Permit::guarded(Some("gateway".into()));
        assert_eq!((guarded.subject(), guarded.username(), guarded.client(), guarded.claim("email")), (Some("gateway"), None, None, None));
        assert!(guarded.into_entry().is_none());
    }

    #[test]
    fn a_public_permit_is_nobodys() {
        let public = Permit::public();
        assert_eq!((public.subject(), public.username(), public.client(), public.claim("email")), (None, None, None, None));
        assert!(public.into_entry().is_none());
    }
}
