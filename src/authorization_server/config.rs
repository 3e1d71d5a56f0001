//! What the configuration says of one authorization server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::profile::Profile;
use super::who::ClientCredentials;
use crate::http_client::TlsFiles;
use crate::response::UnreachableStatus;
use crate::secret::Secret;

/// A digest of the server's own section without secrets: part of every cache key, so that a reload which leaves the section alone keeps its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIdentity(pub [u8; 16]);

/// One section of `authorization_servers`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Digest of the section.
    pub identity: ServerIdentity,
    /// The kind of server, or that discovery tells it.
    pub profile: ProfileChoice,
    /// The issuer, byte for byte as written: it must equal the one in the discovery document.
    pub issuer: Arc<str>,
    /// Full address of the discovery document, if it is not the profile's.
    pub discovery: Option<Uri>,
    /// Internal address (scheme and authority) that replaces that of every endpoint.
    pub backchannel: Option<Uri>,
    /// Plain http to a host other than loopback.
    pub allow_insecure: bool,
    /// The gateway's own client.
    pub client: ClientCredentials,
    /// Owners who have a PAT of their own, by the names that routes have for them; none: that of the gateway's client is for everybody's resources.
    pub owners: BTreeMap<Arc<str>, Owner>,
    /// Trust and client certificate for TLS.
    pub tls: TlsFiles,
    /// The audience that a token must name, if it names any.
    pub audience: Audience,
    /// The challenge's realm.
    pub realm: Arc<str>,
    /// What the challenge calls the server: the issuer, unless the configuration says otherwise.
    pub as_uri: Arc<str>,
    /// What old clients are told besides.
    pub uma_1_0: Uma10,
    /// Readings of an answer that are less strict than the specification.
    pub lenient: Lenient,
    /// A header in which a client may present its token besides `Authorization`.
    pub rpt_header: Option<HeaderName>,
    /// How long an introspection answer may be used.
    pub max_age: Duration,
    /// How long a refusal may be used.
    pub negative_max_age: Duration,
    /// The last part of `max_age`, in percent, in which an answer in use is renewed in the background.
    pub refresh_window: u8,
    /// Budget of one request for all calls that it causes.
    pub timeout: Duration,
    /// Whether the server is asked what is granted now; absent: as the profile has it.
    pub live_decision: Option<bool>,
    /// One status for every kind of unreachable; absent: as the decision table says.
    pub on_unreachable: Option<UnreachableStatus>,
}

/// `authorization_servers.*.uma_1_0`: what clients of UMA 1.0 look for in a challenge. UMA 2.0 has none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Uma10 {
    /// The answer's body is `{"ticket", "as_uri"}`.
    pub ticket_in_body: bool,
    /// A token that lacks a permission is answered 403, not 401 (UMA 1.0 Core, 3.3.2).
    pub insufficient_is_forbidden: bool,
}

/// `authorization_servers.*.lenient`: what some clients of Keycloak take a permission for. Each use is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lenient {
    /// A permission in which scopes are left out, by whoever speaks of it, grants every scope of its resource. An empty list grants none.
    pub without_scopes: bool,
    /// A permission without a resource is for every resource.
    pub without_resource: bool,
}

/// An owner who has a PAT of their own.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Where it comes from.
    pub source: PatSource,
    /// Stands for the server's identity in the key of every cached answer that was asked for with this PAT: what a server says of a token may depend on it.
    pub identity: ServerIdentity,
}

/// Where an owner's first PAT comes from; from then on it is refreshed.
#[derive(Clone, Debug)]
pub enum PatSource {
    /// The owner's name and password at the server (RFC 6749, 4.3).
    Password {
        /// User name.
        username: Arc<str>,
        /// Password.
        password: Secret,
    },
    /// An authorization code (RFC 6749, 4.1): the owner signs in at the server, once, and links the gateway.
    Code {
        /// The owner's user name there.
        username: Arc<str>,
        /// The owner's `sub` there; where it is named it counts, and the user name does not.
        subject: Option<Arc<str>>,
    },
}

impl Config {
    /// Whether it gives permission tickets; a plain OAuth server, which is always named, does not.
    #[must_use]
    pub const fn speaks_uma(&self) -> bool {
        match self.profile {
            ProfileChoice::Named(profile) => profile.uma,
            ProfileChoice::Auto => true,
        }
    }

    /// Whether a resource that is found by its name may be any owner's: one token is for all owners, and the server need not say whose a resource is.
    #[must_use]
    pub fn may_hide_owners(&self) -> bool {
        self.owners.is_empty()
            && match self.profile {
                ProfileChoice::Named(profile) => profile.hides_owners(),
                ProfileChoice::Auto => true,
            }
    }

    /// What stands for this server in the key of answers about tokens for resources of `owner`.
    #[must_use]
    pub fn identity_for(&self, owner: Option<&str>) -> ServerIdentity {
        // Where no owner has a PAT there is nothing to look up.
        owner.filter(|_| !self.owners.is_empty()).and_then(|owner| self.owners.get(owner)).map_or(self.identity, |owner| owner.identity)
    }
}

/// `authorization_servers.*.profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProfileChoice {
    /// What the discovery document says.
    #[default]
    Auto,
    /// This kind.
    Named(&'static Profile),
}

/// `authorization_servers.*.audience`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A token that names audiences must name this one.
    Named(Arc<str>),
    /// Not checked.
    Any,
}
