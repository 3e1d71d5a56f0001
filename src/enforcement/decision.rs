//! The decision itself: a plain function of what is needed, what the server said, and the time.
//!
//! Nothing here knows of sockets, caches or Tower. `explain` calls the same function.

use crate::authorization_server::{Audience, Config, Lenient};
use crate::holes::{Hole, open};
use crate::response::Row;
use crate::routing::ScopesMatch;
use crate::uma::{Introspection, Permission, ResourceId, Scope, Timestamp};

/// What a request needs.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// The server whose word counts.
    pub server: &'a Config,
    /// The resource.
    pub resource: &'a ResourceId,
    /// The scopes; none: a permission on the resource with any scopes.
    pub scopes: &'a [Scope],
    /// All of them or one.
    pub scopes_match: ScopesMatch,
}

/// What follows from an introspection answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The permission suffices; it ends at the given time, if it ends.
    Permit {
        /// End of the permission or of the token, whichever is earlier.
        until: Option<Timestamp>,
        /// Only by a reading that the specification does not have (`lenient`).
        leniently: bool,
    },
    /// The token's own time has passed.
    Expired,
    /// The token's own time has not begun.
    NotYetValid,
    /// Another issuer.
    WrongIssuer,
    /// For somebody else.
    WrongAudience,
    /// Bound to a key or certificate, which is not checked here.
    Bound,
    /// A permission or scope is missing, has ended or has not begun.
    Insufficient,
}

impl Decision {
    /// Its row; for an insufficient permission that of a fresh answer.
    #[must_use]
    pub const fn row(&self) -> Row {
        match self {
            Self::Permit { .. } => Row::E10,
            Self::Expired | Self::NotYetValid | Self::WrongIssuer => Row::E1,
            Self::WrongAudience => Row::E2,
            Self::Bound => Row::E5,
            Self::Insufficient => Row::E8,
        }
    }

    /// A constant text that says why.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Permit { leniently: true, .. } => "the permission suffices, read leniently",
            Self::Permit { .. } => "the permission suffices",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::WrongIssuer => "the token is from another issuer",
            Self::WrongAudience => "the token is for another audience",
            Self::Bound => "the token is bound to a key or certificate",
            Self::Insufficient => "a permission or scope is missing",
        }
    }
}

/// Judges an active token's answer (rows E1 to E10 but for those that ask somebody).
#[must_use]
pub fn decide(need: &Need<'_>, introspection: &Introspection, now: Timestamp) -> Decision {
    if introspection.exp.is_some_and(|exp| exp <= now) && !open(Hole::ExpiryUnchecked) {
        return Decision::Expired;
    }
    if introspection.nbf.is_some_and(|nbf| nbf > now) {
        return Decision::NotYetValid;
    }
    if introspection.issuer.as_ref().is_some_and(|issuer| *issuer != need.server.issuer) && !open(Hole::IssuerUnchecked) {
        return Decision::WrongIssuer;
    }
    if let Audience::Named(audience) = &need.server.audience
        && !introspection.audience.is_empty()
        && !introspection.audience.contains(audience)
        && !open(Hole::AudienceUnchecked)
    {
        return Decision::WrongAudience;
    }
    if introspection.bound {
        return Decision::Bound;
    }
    if let Some(until) = permitted(need, introspection, now, Lenient::default()) {
        return Decision::Permit { until, leniently: false };
    }
    permitted(need, introspection, now, need.server.lenient).map_or(Decision::Insufficient, |until| Decision::Permit { until, leniently: true })
}

/// Whether the permissions suffice, and until when.
fn permitted(need: &Need<'_>, introspection: &Introspection, now: Timestamp, lenient: Lenient) -> Option<Option<Timestamp>> {
    let concerns = |permission: &Permission| permission.resource.as_ref().map_or(lenient.without_resource, |resource| resource == need.resource);
    let live = || introspection.permissions.iter().filter(|permission| concerns(permission) && holds(permission, now));
    let all = |permission: &Permission| lenient.without_scopes && permission.scopes.is_none();
    let has = |scope: &Scope| live().any(|permission| permission.named().contains(scope) || all(permission));
    let enough = match need.scopes_match {
        _ if need.scopes.is_empty() || open(Hole::ScopeIgnored) => live().next().is_some(),
        ScopesMatch::All => need.scopes.iter().all(has),
        ScopesMatch::Any => need.scopes.iter().any(has),
    };
    let until = || {
        live()
            .filter(|permission| need.scopes.is_empty() || all(permission) || permission.named().iter().any(|scope| need.scopes.contains(scope)))
            .filter_map(|permission| permission.exp)
            .chain(introspection.exp)
            .min()
    };
    enough.then(until)
}

/// All scopes that a token has on a resource now, for the record and `explain`.
#[must_use]
pub fn granted(resource: &ResourceId, introspection: &Introspection, now: Timestamp) -> Vec<Scope> {
    let live = introspection.permissions.iter().filter(|permission| permission.resource.as_ref() == Some(resource) && holds(permission, now));
    let mut granted: Vec<Scope> = live.flat_map(Permission::named).cloned().collect();
    granted.sort_unstable();
    granted.dedup();
    granted
}

/// Whether `granted` holds what is needed. Compared byte for byte; no scopes needed means any will do.
#[must_use]
pub fn suffices(needed: &[Scope], scopes_match: ScopesMatch, granted: &[Scope]) -> bool {
    match scopes_match {
        _ if needed.is_empty() => true,
        ScopesMatch::All => needed.iter().all(|scope| granted.contains(scope)),
        ScopesMatch::Any => needed.iter().any(|scope| granted.contains(scope)),
    }
}

/// Whether a permission's own times hold; those of the token are judged before.
fn holds(permission: &Permission, now: Timestamp) -> bool {
    permission.exp.is_none_or(|exp| exp > now) && permission.nbf.is_none_or(|nbf| nbf <= now)
}

#[cfg(test)]
mod tests;
