//! The proxy credential of one upstream, ready to be put on a request.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::oauth2::{Grant, Token};
use super::{Config, Credential, HostPolicy, Reserved};
use crate::response::Rejection;

/// What one upstream's requests need besides what the client sent. Part of the snapshot.
#[derive(Debug)]
pub struct Proxy {
    source: Source,
    pub(super) host: HostPolicy,
    pub(super) reserved: Arc<Reserved>,
}

/// Where the credential comes from.
enum Source {
    None,
    Fixed(Vec<(HeaderName, HeaderValue)>),
    /// Kept ready by the control thread.
    Token(Grant, Arc<Token>),
}

impl Proxy {
    /// The credential of the upstream of this name. `reserved` are the names of all upstreams and routes.
    #[must_use]
    pub fn new(upstream: &Arc<str>, config: &Config, host: HostPolicy, reserved: Arc<Reserved>) -> Self {
        let source = match &config.credential {
            Credential::None => Source::None,
            Credential::Authorization(value) => Source::Fixed(vec![(AUTHORIZATION, sensitive(value))]),
            Credential::Headers(headers) => Source::Fixed(headers.iter().map(|(name, value)| (name.clone(), sensitive(value))).collect()),
            Credential::Oauth2 { token_endpoint, client, scopes } => {
                let grant = Grant { upstream: Arc::clone(upstream), token_endpoint: token_endpoint.clone(), client: client.clone(), scopes: scopes.clone() };
                Source::Token(grant, Arc::default())
            }
        };
        Self { source, host, reserved }
    }

    /// The token of an `oauth2` credential.
    pub(super) const fn token(&self) -> Option<&Arc<Token>> {
        match &self.source {
            Source::Token(_, token) => Some(token),
            Source::None | Source::Fixed(_) => None,
        }
    }

    /// The token that must be kept ready, and how it is had.
    pub(super) const fn kept(&self) -> Option<(&Grant, &Arc<Token>)> {
        match &self.source {
            Source::Token(grant, token) => Some((grant, token)),
            Source::None | Source::Fixed(_) => None,
        }
    }

    /// Puts the credential on a request, over whatever is there under its names.
    ///
    /// # Errors
    /// When there is no credential to put: the request must not leave without (row U7).
    pub(super) fn inject(&self, headers: &mut HeaderMap, token: Option<&HeaderValue>) -> Result<(), Rejection> {
        match &self.source {
            Source::None => {}
            Source::Fixed(fields) => {
                for (name, value) in fields {
                    headers.insert(name.clone(), value.clone());
                }
            }
            Source::Token(..) => {
                headers.insert(AUTHORIZATION, token.cloned().ok_or(Rejection::CredentialUnavailable)?);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed(..)",
            Self::Token(..) => "Token(..)",
        })
    }
}

/// A copy that cannot be printed.
fn sensitive(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}
