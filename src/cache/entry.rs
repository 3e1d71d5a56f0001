//! One kept answer and its own times.

use std::time::Duration;

use tokio::time::Instant;

use super::shared::Flag;
use crate::authorization_server::{Config, ServerIdentity};
use crate::holes::{Hole, open};
use crate::uma::{Introspection, Scope, Timestamp};

/// An introspection answer.
#[derive(Debug)]
pub struct Entry {
    introspection: Introspection,
    server: ServerIdentity,
    asked: Instant,
    expires_at: Instant,
    max_age: Duration,
    renew_after: Duration,
    asks_live: bool,
    renewing: Flag,
}

impl Entry {
    pub(super) fn new(introspection: Introspection, server: &Config, asks_live: bool, asked: Instant) -> Self {
        // A revoked token lives until its entry expires; the entry therefore never outlives `max_age`, whatever `exp` says.
        let left = introspection.exp.map_or(Duration::MAX, |exp| exp.after(Timestamp::now()));
        let lifetime = server.max_age.min(left);
        let window = window(server);
        Self {
            introspection,
            server: server.identity,
            asked,
            expires_at: asked.checked_add(lifetime).unwrap_or(asked),
            max_age: server.max_age,
            renew_after: server.max_age.saturating_sub(window),
            asks_live,
            renewing: Flag::lowered(),
        }
    }

    /// What the server said.
    #[must_use]
    pub const fn introspection(&self) -> &Introspection {
        &self.introspection
    }

    /// Whose word it is.
    #[must_use]
    pub const fn server(&self) -> ServerIdentity {
        self.server
    }

    /// Whether the server's introspection does not follow a withdrawal, so that the live decision must be asked besides.
    #[must_use]
    pub const fn asks_live(&self) -> bool {
        self.asks_live
    }

    /// How old the answer is, counted from when it was asked for.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.asked)
    }

    /// Whether it may still be used.
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.expires_at || open(Hole::StaleCache)
    }

    /// Whether it is in the last part of its life and nobody renews it yet. Only one caller is told so.
    #[must_use]
    pub fn wants_renewal(&self, now: Instant) -> bool {
        self.age(now) >= self.renew_after && self.renewing.raise()
    }

    pub(super) const fn max_age(&self) -> Duration {
        self.max_age
    }

    pub(super) fn bytes(&self) -> u32 {
        let introspection = &self.introspection;
        let texts = [&introspection.issuer, &introspection.subject, &introspection.username, &introspection.session, &introspection.client];
        let permissions = introspection.permissions.iter();
        let permissions =
            permissions.map(|permission| sum([96, permission.resource.as_ref().map_or(0, |resource| resource.0.len()), scopes(permission.named())]));
        let claims = introspection.claims.iter().map(|(name, value)| sum([64, name.len(), value.len()]));
        let audience = introspection.audience.iter().map(|audience| sum([32, audience.len()]));
        let texts = texts.into_iter().flatten().map(|text| sum([16, text.len()]));
        u32::try_from(sum(permissions.chain(claims).chain(audience).chain(texts).chain([400]))).unwrap_or(u32::MAX)
    }
}

/// What a server granted at one moment to one token on one resource; `None`: nothing.
#[derive(Debug)]
pub struct LiveEntry {
    granted: Option<Vec<Scope>>,
    asked: Instant,
    renewing: Flag,
}

impl LiveEntry {
    pub(super) const fn new(granted: Option<Vec<Scope>>, asked: Instant) -> Self {
        Self { granted, asked, renewing: Flag::lowered() }
    }

    /// The granted scopes; `None`: the server said no.
    #[must_use]
    pub fn granted(&self) -> Option<&[Scope]> {
        self.granted.as_deref()
    }

    /// How old the answer is, counted from when it was asked for.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.asked)
    }

    /// As [`Entry::wants_renewal`].
    #[must_use]
    pub fn wants_renewal(&self, server: &Config, now: Instant) -> bool {
        self.age(now) >= server.max_age.saturating_sub(window(server)) && self.renewing.raise()
    }

    pub(super) fn bytes(&self) -> u32 {
        u32::try_from(sum([200, self.granted.as_deref().map_or(0, scopes)])).unwrap_or(u32::MAX)
    }
}

fn scopes(scopes: &[Scope]) -> usize {
    sum(scopes.iter().map(|scope| sum([32, scope.0.len()])))
}

fn sum(lengths: impl IntoIterator<Item = usize>) -> usize {
    lengths.into_iter().fold(0, usize::saturating_add)
}

/// How long before `max_age` an answer is asked for again.
fn window(server: &Config) -> Duration {
    server.max_age.saturating_mul(u32::from(server.refresh_window.min(100))).checked_div(100).unwrap_or_default()
}
