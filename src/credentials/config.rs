//! What the configuration says of proxy credentials.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};

use super::Signer;
use crate::authorization_server::ClientCredentials;

/// The proxy credential of one upstream, and what the outbound head of that upstream needs besides.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the content server wants.
    pub credential: Credential,
}

/// `upstreams.*.credentials`. Values are ready to send and marked sensitive.
#[derive(Clone, Debug, Default)]
pub enum Credential {
    /// None.
    #[default]
    None,
    /// `Authorization`, for `basic` and `bearer`.
    Authorization(HeaderValue),
    /// `Authorization` with an assertion that is signed for each request.
    Jwt(Arc<Signer>),
    /// Headers of the user's choice.
    Headers(Vec<(HeaderName, HeaderValue)>),
    /// A token by client credentials (RFC 6749, 4.4), renewed early.
    Oauth2 {
        /// Where it is had.
        token_endpoint: Uri,
        /// As whom.
        client: ClientCredentials,
        /// For what.
        scopes: Vec<String>,
    },
}

/// `upstreams.*.host`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum HostPolicy {
    /// What the client asked for.
    Preserve,
    /// The server's own authority.
    #[default]
    Upstream,
    /// This one.
    Named(HeaderValue),
}
