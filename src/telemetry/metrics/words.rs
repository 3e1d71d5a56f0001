//! The words that label time series: closed lists, so that renaming a variant never renames a series and no input becomes a label.

use http::{Method, Version};

use crate::response::{Row, Trail};

/// What was decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A permission, or a guard's credential, sufficed.
    Permitted,
    /// Nothing was needed.
    Public,
    /// 401 with a ticket.
    Challenged,
    /// The request itself is at fault, or over a limit.
    Refused,
    /// The authorization server could not be asked.
    Unreachable,
    /// The gateway or the content server failed.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Permitted, Self::Public, Self::Challenged, Self::Refused, Self::Unreachable, Self::Failed];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Permitted => "permitted",
            Self::Public => "public",
            Self::Challenged => "challenged",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        }
    }

    /// Whether the request was let through.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Permitted | Self::Public)
    }

    /// The outcome of a request that passed these rows; `None` where no decision was reached.
    #[must_use]
    pub fn of(rows: &Trail) -> Option<Self> {
        match rows.iter().last()? {
            Row::U1 if rows.iter().any(|row| row == Row::D6) => Some(Self::Public),
            last => Self::of_last(last),
        }
    }

    /// The outcome that a row stands for as a reason; `None` where it never is one: it only led to another, or was led to.
    pub(super) const fn of_row(row: Row) -> Option<Self> {
        match row {
            Row::U1 | Row::C3 | Row::O1 => None,
            other => Self::of_last(other),
        }
    }

    /// No `_` here: a new row has to say what it means for operators.
    const fn of_last(row: Row) -> Option<Self> {
        Some(match row {
            Row::D6 | Row::D8 => Self::Public,
            Row::E10 | Row::G4 | Row::U1 | Row::U6 => Self::Permitted,
            Row::D15 | Row::I3 | Row::I5 | Row::I9 | Row::E1 | Row::E2 | Row::E8 | Row::E8a | Row::C3 | Row::O1 => Self::Challenged,
            Row::D1 | Row::D2 | Row::D3 | Row::D5 | Row::D7 | Row::D9 | Row::D10 | Row::D12 | Row::D13 | Row::D14 => Self::Refused,
            Row::I3b | Row::E5 | Row::G1 | Row::G2 | Row::G3 | Row::C1 | Row::H408 | Row::H413 | Row::H414 | Row::H431 | Row::H501 | Row::H508 => Self::Refused,
            Row::D11 | Row::I6 | Row::I7a | Row::I8 | Row::I10 | Row::E8c | Row::C2 | Row::C4 | Row::C5 | Row::C6 | Row::C7 => Self::Unreachable,
            Row::U2 | Row::U3 | Row::U4 | Row::U5 | Row::U7 | Row::H500 => Self::Failed,
            // Stations on the way; whoever stops here has not been judged.
            Row::I1 | Row::I2 | Row::I4 | Row::E7 | Row::E8b => return None,
        })
    }
}

/// Which kind of secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    /// That of the gateway's own client at an authorization server.
    Client,
    /// What an upstream wants.
    ProxyCredential,
    /// That of the operator's door.
    AdminToken,
}

impl SecretKind {
    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client_secret",
            Self::ProxyCredential => "proxy_credential",
            Self::AdminToken => "admin_token",
        }
    }
}

/// What an authorization server was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsEndpoint {
    /// The discovery document.
    Discovery,
    /// The token endpoint, for the gateway's own tokens.
    Token,
    /// Permission tickets.
    Permission,
    /// Introspection.
    Introspection,
    /// The live decision for a token and a resource.
    Decision,
    /// Resource registration and look-up.
    Resource,
}

impl AsEndpoint {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Discovery, Self::Token, Self::Permission, Self::Introspection, Self::Decision, Self::Resource];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Token => "token",
            Self::Permission => "permission",
            Self::Introspection => "introspection",
            Self::Decision => "decision",
            Self::Resource => "resource",
        }
    }

    /// The dependency that fails where answers of this endpoint cannot be used: its name in the server's metadata, if it has one.
    #[must_use]
    pub const fn dependency(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Token => "protection_api",
            Self::Permission => "permission_endpoint",
            Self::Introspection => "introspection_endpoint",
            Self::Decision => "live_decision",
            Self::Resource => "resource_registration_endpoint",
        }
    }

    /// Whether a dependency of this kind is an authorization server, one of its endpoints, or a new secret to ask it with.
    #[must_use]
    pub fn is_of_server(kind: &str) -> bool {
        kind == "authorization_server" || kind == SecretKind::Client.label() || Self::ALL.iter().any(|endpoint| endpoint.dependency() == kind)
    }
}

/// How an authorization server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsOutcome {
    /// With what was asked for.
    Ok,
    /// With a refusal of the question (4xx).
    Refused,
    /// It refused the gateway's own credential (401, or what the server says instead).
    Unauthorized,
    /// With an error of its own (5xx, 429), a redirect, or something that cannot be used.
    Failed,
    /// Not in time.
    Timeout,
    /// Not at all.
    Unreachable,
}

impl AsOutcome {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Ok, Self::Refused, Self::Unauthorized, Self::Failed, Self::Timeout, Self::Unreachable];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Which part of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheKind {
    /// Answers about active tokens.
    Introspection,
    /// Refusals.
    Negative,
    /// Live decisions.
    Live,
}

impl CacheKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Introspection, Self::Negative, Self::Live];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Introspection => "introspection",
            Self::Negative => "negative",
            Self::Live => "live",
        }
    }
}

/// What became of the share of something that a content server has made or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Followed {
    /// Made, and registered.
    Registered,
    /// Made, and to be registered: the authorization server has not done it yet.
    Pending,
    /// Made where its owner has a share already.
    Known,
    /// Made, and its `Location` is not one that is registered.
    NotAccepted,
    /// Made by somebody who may not share there.
    NotAnOwner,
    /// Made, and not registered.
    Failed,
    /// Deleted, and withdrawn.
    Withdrawn,
    /// Deleted, and not withdrawn: the records failed.
    NotWithdrawn,
}

impl Followed {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Registered, Self::Pending, Self::Known, Self::NotAccepted, Self::NotAnOwner, Self::Failed, Self::Withdrawn, Self::NotWithdrawn];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Pending => "pending",
            Self::Known => "known",
            Self::NotAccepted => "not_accepted",
            Self::NotAnOwner => "not_an_owner",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
            Self::NotWithdrawn => "not_withdrawn",
        }
    }
}

/// How shares stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShareState {
    /// Registered, and the configuration lets requests come to it.
    Open,
    /// Registered, and closed: the configuration is another one than when its path was shared.
    Closed,
    /// Registered, and deleted at the authorization server by somebody else; not registered anew yet.
    Lost,
    /// To be registered at the authorization server.
    Wanted,
    /// Withdrawn, and to be deleted at the authorization server.
    Unwanted,
}

impl ShareState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Open, Self::Closed, Self::Lost, Self::Wanted, Self::Unwanted];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Wanted => "wanted",
            Self::Unwanted => "unwanted",
        }
    }
}

/// What was wrong with a connection, where no request tells it: some answers are given before there is a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionFault {
    /// The head could not be read: 400, and the end.
    Malformed,
    /// The head was too large or had too many fields: 431, and the end.
    HeadTooLarge,
    /// A TLS handshake failed, or took too long.
    Handshake,
    /// A deadline passed: a silent or slow peer.
    Expired,
    /// The system gave no connection.
    NotAccepted,
}

impl ConnectionFault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Malformed, Self::HeadTooLarge, Self::Handshake, Self::Expired, Self::NotAccepted];

    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::Handshake => "handshake",
            Self::Expired => "expired",
            Self::NotAccepted => "not_accepted",
        }
    }
}

/// The methods that get a series of their own (OpenTelemetry, HTTP metrics); the last one stands for every other.
pub const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "_OTHER"];

/// The place of a method in [`METHODS`].
pub fn method_place(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len().saturating_sub(1))
}

/// The word for a method.
pub fn method_label(method: &Method) -> &'static str {
    METHODS.get(method_place(method)).copied().unwrap_or("_OTHER")
}

/// `network.protocol.version`.
pub fn version_label(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rows: &[Row]) -> Option<Outcome> {
        let mut trail = Trail::default();
        rows.iter().for_each(|row| trail.push(*row));
        Outcome::of(&trail)
    }

    #[test]
    fn a_relayed_answer_is_permitted_or_public_by_what_came_before() {
        assert_eq!(outcome(&[Row::I1, Row::E10, Row::U1]), Some(Outcome::Permitted));
        assert_eq!(outcome(&[Row::D6, Row::U1]), Some(Outcome::Public));
        assert_eq!(outcome(&[Row::D6, Row::U3]), Some(Outcome::Failed));
    }

    #[test]
    fn a_request_that_ended_on_the_way_has_no_outcome() {
        assert_eq!(outcome(&[]), None);
        assert_eq!(outcome(&[Row::I4]), None);
    }

    #[test]
    fn a_method_that_nobody_knows_is_other() {
        assert_eq!(method_label(&Method::GET), "GET");
        assert_eq!(method_label(&Method::from_bytes(b"BREW").expect("a token")), "_OTHER");
    }
}
