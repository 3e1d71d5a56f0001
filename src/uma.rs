//! The words of UMA as types: tickets, tokens, resources, scopes, permissions, introspection.
//!
//! Values only. Nothing here does I/O, and nothing that a token or ticket holds can be printed.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod challenge;

pub use challenge::{
    Challenge, ChallengeError, TicketUnusable, TokenError, UmaChallenge, bearer_challenge, challenge_body, challenges_of, is_token_byte, parse_challenges,
    uma_challenge,
};

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::secret::Secret;

/// Seconds since 1970 by the wall clock, as `exp`, `nbf` and `iat` count them (RFC 7519, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time now by the wall clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }

    /// Whole seconds from `now` until this time; zero when it has passed.
    #[must_use]
    pub fn after(self, now: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }
}

/// A permission ticket (UMA 2.0 Federated Authorization, 4.2): single-use, never cached, never shared, never logged.
#[derive(Clone, Debug)]
pub struct PermissionTicket(pub Secret);

/// A requesting party token as the client presented it.
#[derive(Clone, Debug)]
pub struct Rpt(pub Secret);

/// A protection API access token (UMA 2.0 Federated Authorization, 1.3).
#[derive(Clone, Debug)]
pub struct Pat(pub Secret);

/// The identifier of a resource at its authorization server (`_id` of registration, `resource_id` of a permission).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub Arc<str>);

/// A scope of a resource: compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub Arc<str>);

/// What a token of a plain OAuth server is for: itself. No server's resource has an empty id.
static OF_TOKEN: LazyLock<ResourceId> = LazyLock::new(|| ResourceId(Arc::from("")));

impl ResourceId {
    /// Where a token's own scopes stand, at a server that knows no resources.
    #[must_use]
    pub fn of_token() -> Self {
        OF_TOKEN.clone()
    }
}

impl std::fmt::Display for ResourceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One entry of `permissions` (UMA 2.0 Federated Authorization, 5.1.1), whatever names the server used for its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The resource that the permission is for; absent: the server named none, and it is for nothing.
    pub resource: Option<ResourceId>,
    /// The granted scopes; an empty list grants none. Absent: the server did not say which, and strictly read it grants none either.
    pub scopes: Option<Vec<Scope>>,
    /// End of this permission; absent: that of the token.
    pub exp: Option<Timestamp>,
    /// Start of this permission.
    pub nbf: Option<Timestamp>,
}

impl Permission {
    /// What a token has by its own scopes, as `scope` lists them (RFC 6749, 3.3).
    #[must_use]
    pub fn of_token(scopes: &str) -> Self {
        let scopes = scopes.split(' ').filter(|scope| !scope.is_empty()).map(|scope| Scope(scope.into())).collect();
        Self { resource: Some(ResourceId::of_token()), scopes: Some(scopes), exp: None, nbf: None }
    }

    /// The scopes that it names.
    #[must_use]
    pub fn named(&self) -> &[Scope] {
        self.scopes.as_deref().unwrap_or_default()
    }
}

/// What an authorization server says of an active token, in one shape for all kinds of servers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Introspection {
    /// End of the token (RFC 7662, 2.2).
    pub exp: Option<Timestamp>,
    /// Start of the token.
    pub nbf: Option<Timestamp>,
    /// The issuer, where the server names it.
    pub issuer: Option<Arc<str>>,
    /// The audience; empty: none named.
    pub audience: Vec<Arc<str>>,
    /// The requesting party.
    pub subject: Option<Arc<str>>,
    /// The requesting party's user name.
    pub username: Option<Arc<str>>,
    /// The session at the authorization server, for revocation.
    pub session: Option<Arc<str>>,
    /// The client that the token was issued to (`client_id` or `azp`).
    pub client: Option<Arc<str>>,
    /// Whether the token is bound to a key or certificate (`cnf`, RFC 7800).
    pub bound: bool,
    /// Further claims that identity headers may name, as text.
    pub claims: Vec<(Arc<str>, Arc<str>)>,
    /// The permissions.
    pub permissions: Vec<Permission>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_has_passed_is_no_time_away() {
        let now = Timestamp(1_000_000);
        for (at, expected) in [(now.0 + 300, 300), (now.0 + 1, 1), (now.0, 0), (now.0 - 1, 0), (i64::MIN, 0)] {
            assert_eq!(Timestamp(at).after(now), Duration::from_secs(expected), "{at}");
        }
    }

    #[test]
    fn resources_and_scopes_are_shown_as_they_are_written() {
        assert_eq!(ResourceId("7b72-a8".into()).to_string(), "7b72-a8");
        assert_eq!(Scope("https://photoz.example.org/view".into()).to_string(), "https://photoz.example.org/view");
    }
}
