//! The proxy credential of one upstream, ready to be put on a request.

use std::sync::Arc;

use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::oauth2::Token;
use super::rotation::{Rotation, Trial};
use super::{Config, Credential, HostPolicy, Reserved, Signer};
use crate::response::Rejection;
use crate::uma::Timestamp;

/// What one upstream's requests need besides what the client sent. Part of the snapshot; the token of an `oauth2` credential lives outside it.
#[derive(Debug)]
pub struct Proxy {
    source: Source,
    pub(super) host: HostPolicy,
    pub(super) reserved: Arc<Reserved>,
    pub(super) rotation: Rotation,
}

/// Where the credential comes from.
enum Source {
    None,
    Fixed(Vec<(HeaderName, HeaderValue)>),
    /// Made for each request.
    Signed(Arc<Signer>),
    /// Kept by the control thread; `None`: nobody keeps it, so it cannot be had.
    Token(Option<Arc<Token>>),
}

impl Proxy {
    /// The credential of an upstream. `reserved` are the names of all upstreams and routes; `token` is the keeper's, for `oauth2` only.
    #[must_use]
    pub fn new(config: &Config, host: HostPolicy, reserved: Arc<Reserved>, token: Option<Arc<Token>>) -> Self {
        let source = match &config.credential {
            Credential::None => Source::None,
            Credential::Authorization(value) => Source::Fixed(vec![(AUTHORIZATION, sensitive(value))]),
            Credential::Jwt(signer) => Source::Signed(Arc::clone(signer)),
            Credential::Headers(headers) => Source::Fixed(headers.iter().map(|(name, value)| (name.clone(), sensitive(value))).collect()),
            Credential::Oauth2 { .. } => Source::Token(token),
        };
        Self { source, host, reserved, rotation: Rotation::default() }
    }

    /// The same proxy in the place of `old`, which goes to the same servers: where its credential is another one under the same names, the one that worked
    /// last stays until the new one has worked once. `told` hears how that goes.
    #[must_use]
    pub fn replacing(mut self, old: &Arc<Self>, told: Arc<dyn Fn(Trial) + Send + Sync>) -> Self {
        // If the old one itself has never worked, the one before it has.
        let proven = old.rotation.before().unwrap_or_else(|| Arc::clone(old));
        if let (Some(new), Some(names)) = (self.source.names(), proven.source.names())
            && new == names
            && !self.puts_the_same(&proven)
            && let Some(source) = proven.source.again()
        {
            let (host, reserved) = (self.host.clone(), Arc::clone(&self.reserved));
            self.rotation = Rotation::from(Arc::new(Self { source, host, reserved, rotation: Rotation::default() }), told);
        }
        self
    }

    /// The same proxy without any credential, to see whether a server asks for one.
    pub(super) fn bare(&self) -> Self {
        Self { source: Source::None, host: self.host.clone(), reserved: Arc::clone(&self.reserved), rotation: Rotation::default() }
    }

    /// Whether it puts nothing on requests.
    pub(super) const fn is_bare(&self) -> bool {
        matches!(self.source, Source::None)
    }

    /// Whether its credential has not worked yet, while another one has.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.rotation.before().is_some()
    }

    /// Whether two proxies put the same credential on requests, in the same way.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.puts_the_same(other) && self.host == other.host && self.reserved == other.reserved
    }

    /// Whether two proxies put the same credential on requests.
    #[must_use]
    pub fn puts_the_same(&self, other: &Self) -> bool {
        match (&self.source, &other.source) {
            (Source::None, Source::None) => true,
            (Source::Fixed(one), Source::Fixed(other)) => one == other,
            (Source::Signed(one), Source::Signed(other)) => one.is_same(other),
            (Source::Token(Some(one)), Source::Token(Some(other))) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether the credential is a token that is kept elsewhere, and where.
    pub(super) const fn token(&self) -> Option<Option<&Arc<Token>>> {
        match &self.source {
            Source::Token(token) => Some(token.as_ref()),
            Source::None | Source::Fixed(_) | Source::Signed(_) => None,
        }
    }

    /// Puts the credential on a request, over whatever is there under its names.
    ///
    /// # Errors
    /// When there is no credential to put: the request must not leave without (row U7).
    pub(super) fn inject(&self, headers: &mut HeaderMap, occasion: &Occasion<'_>) -> Result<(), Rejection> {
        match &self.source {
            Source::None => {}
            Source::Fixed(fields) => {
                for (name, value) in fields {
                    headers.insert(name.clone(), value.clone());
                }
            }
            Source::Signed(signer) => {
                let Occasion { method, target, subject, .. } = occasion;
                let value = signer.authorization(method, target, *subject, Timestamp::now());
                headers.insert(AUTHORIZATION, value.ok_or(Rejection::CredentialUnavailable)?);
            }
            Source::Token(_) => {
                headers.insert(AUTHORIZATION, occasion.token.cloned().ok_or(Rejection::CredentialUnavailable)?);
            }
        }
        Ok(())
    }
}

/// The request that a credential is put on.
pub(super) struct Occasion<'a> {
    /// Its method.
    pub(super) method: &'a Method,
    /// Path and query as they are sent.
    pub(super) target: &'a str,
    /// On whose behalf it is sent, where that is known.
    pub(super) subject: Option<&'a str>,
    /// The `Authorization` of an `oauth2` credential.
    pub(super) token: Option<&'a HeaderValue>,
}

impl Source {
    /// The headers that it sets; `None` where it is had elsewhere, and for none at all.
    fn names(&self) -> Option<Vec<&HeaderName>> {
        match self {
            Self::None | Self::Token(_) => None,
            Self::Fixed(fields) => Some(fields.iter().map(|(name, _)| name).collect()),
            Self::Signed(_) => Some(vec![&AUTHORIZATION]),
        }
    }

    /// The same once more, where it is at hand.
    fn again(&self) -> Option<Self> {
        match self {
            Self::None | Self::Token(_) => None,
            Self::Fixed(fields) => Some(Self::Fixed(fields.clone())),
            Self::Signed(signer) => Some(Self::Signed(Arc::clone(signer))),
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Fixed(_) => "Fixed(..)",
            Self::Signed(_) => "Signed(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// A copy that cannot be printed.
fn sensitive(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}
