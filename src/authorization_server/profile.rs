//! What differs between kinds of authorization servers, as data and small functions.
//!
//! A profile is chosen by the configuration or by what the discovery document says, once per refresh, never per answer.

use serde_json::{Value, json};

use super::config::ProfileChoice;
use crate::uma::{ResourceId, Scope};

/// A kind of authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// UMA 2.0 as written: introspection is asked with the PAT, the permissions are in the answer.
    Uma2,
    /// Keycloak: introspection is asked as the client, the permissions are in the token, withdrawal shows in the live decision only.
    Keycloak,
}

impl Profile {
    /// The profile that the configuration names, or the one whose marks the discovery document bears.
    #[must_use]
    pub fn choose(choice: ProfileChoice, document: &Value) -> Self {
        match choice {
            ProfileChoice::Uma2 => Self::Uma2,
            ProfileChoice::Keycloak => Self::Keycloak,
            // `policy_endpoint` is Keycloak's own member.
            ProfileChoice::Auto if document.get("policy_endpoint").is_some() => Self::Keycloak,
            ProfileChoice::Auto => Self::Uma2,
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uma2 => "uma2",
            Self::Keycloak => "keycloak",
        }
    }

    /// Whether the live decision is asked where the configuration does not say.
    #[must_use]
    pub const fn live_decision(self) -> bool {
        matches!(self, Self::Keycloak)
    }

    /// Whether introspection is authenticated by the PAT (else by the gateway's client credentials).
    #[must_use]
    pub const fn introspects_with_pat(self) -> bool {
        matches!(self, Self::Uma2)
    }

    /// Whether permissions stand in the token's own payload where the answer leaves them out.
    #[must_use]
    pub const fn reads_payload(self) -> bool {
        matches!(self, Self::Keycloak)
    }

    /// The `scope` of the token request for a PAT. Keycloak has a role of that name instead and would refuse the scope.
    #[must_use]
    pub const fn pat_scope(self) -> Option<&'static str> {
        match self {
            Self::Uma2 => Some("uma_protection"),
            Self::Keycloak => None,
        }
    }

    /// Whether an answer of the protection API says that the PAT is refused (RFC 6750: 401; Keycloak: 403 `invalid_bearer_token`).
    #[must_use]
    pub fn refuses_pat(self, status: http::StatusCode, error: Option<&str>) -> bool {
        status == http::StatusCode::UNAUTHORIZED || (self == Self::Keycloak && status == http::StatusCode::FORBIDDEN && error == Some("invalid_bearer_token"))
    }

    /// The body of a permission request (UMA 2.0 Federated Authorization, 4.1): one object, or for Keycloak always an array.
    #[must_use]
    pub fn permission_request(self, resource: &ResourceId, scopes: &[Scope]) -> Value {
        let scopes: Vec<&str> = scopes.iter().map(|scope| &*scope.0).collect();
        let permission = json!({ "resource_id": &*resource.0, "resource_scopes": scopes });
        match self {
            Self::Uma2 => permission,
            Self::Keycloak => json!([permission]),
        }
    }
}
