//! Why an authorization server could not be asked, or what it said instead.
//!
//! An [`AskError`] means "could not decide": the answer is then closed. It is cloned to everyone who waits for the same call.

use std::sync::Arc;

use http::StatusCode;

use crate::http_client::HttpError;
use crate::telemetry::AsEndpoint;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// The request's budget was used up.
    #[error("no answer within the request's time budget")]
    Timeout,
    /// The server cannot be reached, or TLS failed.
    #[error("the server cannot be reached: {0}")]
    Unreachable(Arc<HttpError>),
    /// Too many calls are under way already.
    #[error("too many calls to the server are under way")]
    Busy,
    /// The last calls failed; the server is given a rest.
    #[error("the server is given a rest after repeated failures")]
    Resting,
    /// A status that the call does not know.
    #[error("the {endpoint} endpoint answered {status}{}{}{}", said(.error), likely(.endpoint, *.status, .error.as_deref()), mend(.look_at))]
    Status {
        /// The endpoint's name.
        endpoint: &'static str,
        /// The status.
        status: StatusCode,
        /// The body's `error` member, shortened, where it had one.
        error: Option<Arc<str>>,
        /// Where it refuses the client: the key of the configuration that has what it refused.
        look_at: Option<Arc<str>>,
    },
    /// The answer is not what the specification asks for.
    #[error("the {endpoint} endpoint's answer cannot be used: {why}")]
    Unusable {
        /// The endpoint's name.
        endpoint: &'static str,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// The gateway's own credential was refused twice.
    #[error("the {endpoint} endpoint refuses the gateway's own credential{}", mend(.look_at))]
    CredentialRefused {
        /// The endpoint's name.
        endpoint: &'static str,
        /// Where it was asked as the client: the key of the configuration that has what it refused.
        look_at: Option<Arc<str>>,
    },
    /// No assertion of the client's can be made.
    #[error("the client's assertion cannot be signed")]
    Unsigned,
    /// No protection API access token can be had.
    #[error("no protection API access token: {0}")]
    NoPat(Arc<AskError>),
    /// The owner's consent has ended, or the password is wrong: nothing but a person can mend it.
    #[error("the owner has to consent again")]
    NeedsConsent,
    /// The records cannot be read or written: a token that is not kept is not used.
    #[error("the records cannot be read or written")]
    Records,
    /// A PAT of this owner is needed, and the configuration has none.
    #[error("the configuration has no protection API access token of this owner")]
    UnknownOwner,
    /// The discovery document is not to be used.
    #[error("discovery: {0}")]
    Discovery(Arc<str>),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

fn said(error: &Option<Arc<str>>) -> String {
    error.as_ref().map_or_else(String::new, |error| format!(" ({error})"))
}

fn mend(key: &Option<Arc<str>>) -> String {
    key.as_ref().map_or_else(String::new, |key| format!("; look at `{key}`"))
}

/// What such an answer most often means.
fn likely(endpoint: &str, status: StatusCode, error: Option<&str>) -> &'static str {
    let is = |one: AsEndpoint| endpoint == one.label();
    let has_no_document = is(AsEndpoint::Discovery) && (300..=500).contains(&status.as_u16()) && status != StatusCode::TOO_MANY_REQUESTS;
    if has_no_document {
        "; the likely cause is a wrong `profile` or `issuer`"
    } else if (is(AsEndpoint::Permission) || is(AsEndpoint::Resource)) && lacks_protection(status, error) {
        "; the token lacks the role or scope uma_protection (at Keycloak: Service account roles of the gateway's client, or Role mapping of the owner where owners have a PAT each)"
    } else {
        ""
    }
}

/// Whether it is the right to the protection API that is missing (UMA 2.0 Federated Authorization, 1.3; Keycloak says `invalid_scope`).
pub(super) fn lacks_protection(status: StatusCode, error: Option<&str>) -> bool {
    status == StatusCode::FORBIDDEN && matches!(error, Some("invalid_scope" | "insufficient_scope"))
}

impl AskError {
    /// Whether all that is missing is the owner: to link the gateway, or with another password.
    #[must_use]
    pub fn needs_consent(&self) -> bool {
        match self {
            Self::NeedsConsent => true,
            Self::NoPat(cause) => cause.needs_consent(),
            _ => false,
        }
    }

    /// Where it is no JSON, not what stands there.
    pub(super) fn no_json(endpoint: &'static str, error: &serde_json::Error) -> Self {
        Self::unusable(endpoint, format!("it is not JSON: {error}"))
    }

    pub(super) fn unusable(endpoint: &'static str, why: impl Into<Arc<str>>) -> Self {
        Self::Unusable { endpoint, why: why.into() }
    }
}

impl From<HttpError> for AskError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Timeout => Self::Timeout,
            other => Self::Unreachable(Arc::new(other)),
        }
    }
}
