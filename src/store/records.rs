//! What is kept of a resource and of a credential.
//!
//! Names are those of Federated Authorization for UMA 2.0, section 3.1, and of RFC 6749. Nothing here reads or writes.

use std::time::SystemTime;

use super::error::StoreError;
use super::lookup::ResourceKey;
use crate::path::{CanonicalPath, OptIns};
use crate::secret::Secret;

/// Octets of one text of a record.
const LONGEST: usize = 8 * 1024;
/// Characters of what an authorization server shows of a resource: Keycloak keeps no more.
const LONGEST_SHOWN: usize = 255;
/// Octets of a link id.
const LONGEST_LINK: usize = 128;
/// Scopes of one resource.
const MOST_SCOPES: usize = 256;

/// Which credential: the same as long as authorization server and owner have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialKey(pub(super) i64);

/// A resource as it shall be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The issuer: the name in the configuration may change.
    pub authorization_server: String,
    /// The canonical path by which it is asked for, without query; unique at its authorization server. `/**` at its end: whatever stands below, too.
    pub path: Option<String>,
    /// The id of its link, of letters, digits, `-` and `_`; unique.
    pub link: Option<String>,
    /// The resource owner.
    pub owner: String,
    /// `name`.
    pub name: String,
    /// `type`.
    pub kind: Option<String>,
    /// `icon_uri`.
    pub icon_uri: Option<String>,
    /// `resource_scopes`.
    pub scopes: Vec<String>,
    /// Where the content is.
    pub upstream: String,
    /// The credential that it was registered with.
    pub credential: Option<CredentialKey>,
}

/// How far a resource record has come. Whoever registers writes `Wanted` first and `Registered` afterwards, so that a process that dies in between finds the
/// record at its next start, and asks the server whether it knows a resource of that name and owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// To be registered; the server may know it already.
    Wanted,
    /// Registered.
    Registered {
        /// `_id`: what the authorization server calls it.
        resource_id: String,
        /// `user_access_policy_uri`.
        policy_uri: Option<String>,
    },
    /// To be deleted at the server; it may be gone there already.
    Unwanted {
        /// `_id`, unless the server has not said it.
        resource_id: Option<String>,
    },
}

impl State {
    /// `_id`, where the server has said it.
    #[must_use]
    pub fn resource_id(&self) -> Option<&str> {
        match self {
            Self::Registered { resource_id, .. } | Self::Unwanted { resource_id: Some(resource_id) } => Some(resource_id),
            Self::Wanted | Self::Unwanted { resource_id: None } => None,
        }
    }
}

/// A resource record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRecord {
    /// Which one.
    pub key: ResourceKey,
    /// What it is.
    pub resource: Resource,
    /// How far it has come.
    pub state: State,
}

/// A protection API token and what renews it, of one owner at one authorization server.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The issuer.
    pub authorization_server: String,
    /// The resource owner who has authorised it.
    pub owner: String,
    /// The token.
    pub access_token: Secret,
    /// What renews it.
    pub refresh_token: Option<Secret>,
    /// When the access token ends, to the second.
    pub expires_at: Option<SystemTime>,
    /// `scope`, as the server has granted it.
    pub scope: String,
    /// Which client it was issued to, and as whom the server knows the owner, in the words of whoever keeps it: with other words it is another's.
    pub grantee: String,
}

impl Resource {
    /// Whether it can be kept.
    ///
    /// # Errors
    /// [`StoreError::Unfit`]: it cannot; nobody need be asked to register it.
    pub fn check(&self) -> Result<(), StoreError> {
        let unfit = |what| Err(StoreError::Unfit(what));
        if self.path.is_none() && self.link.is_none() {
            return unfit("path and link are missing");
        }
        if self.path.as_ref().is_some_and(|path| !is_canonical(path)) {
            return unfit("path is not canonical");
        }
        if self.link.as_ref().is_some_and(|link| !is_link(link)) {
            return unfit("link is not of letters and digits");
        }
        fits("authorization server", Some(&self.authorization_server))?;
        fits("owner", Some(&self.owner))?;
        shown("name", Some(&self.name))?;
        shown("type", self.kind.as_ref())?;
        shown("icon_uri", self.icon_uri.as_ref())?;
        fits("upstream location", Some(&self.upstream))?;
        if self.scopes.len() > MOST_SCOPES {
            return unfit("scopes are too many");
        }
        self.scopes.iter().try_for_each(|scope| fits("scope", Some(scope)))
    }
}

impl Credential {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        fits("authorization server", Some(&self.authorization_server))?;
        fits("owner", Some(&self.owner))
    }
}

/// Whether a text that has to stand somewhere is neither empty nor too long.
pub(super) fn fits(what: &'static str, text: Option<&String>) -> Result<(), StoreError> {
    match text {
        Some(text) if text.is_empty() || text.len() > LONGEST => Err(StoreError::Unfit(what)),
        _ => Ok(()),
    }
}

/// The same for what people are shown.
fn shown(what: &'static str, text: Option<&String>) -> Result<(), StoreError> {
    if text.is_some_and(|text| text.chars().count() > LONGEST_SHOWN || text.contains(char::is_control)) {
        return Err(StoreError::Unfit(what));
    }
    fits(what, text)
}

/// Whichever opt-ins the route has: what counts is that the path has one spelling.
fn is_canonical(path: &str) -> bool {
    let all = OptIns { encoded_slash: true, encoded_percent: true, semicolon: true };
    path.len() <= LONGEST && CanonicalPath::parse_within(path, all).is_ok_and(|canonical| canonical.as_str() == path)
}

fn is_link(link: &str) -> bool {
    (1..=LONGEST_LINK).contains(&link.len()) && link.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}
