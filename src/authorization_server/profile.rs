//! What differs between kinds of authorization servers, as data: one constant for each kind, and small functions that read it.
//!
//! A profile is chosen by the configuration or by what the discovery document says, once per refresh, never per answer.

use http::{StatusCode, Uri};
use serde_json::{Value, json};

use super::config::ProfileChoice;
use super::error::AskError;
use crate::uma::{ResourceId, Scope};

/// A kind of authorization server: everything in which it differs from the others.
#[derive(Debug)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Whether the server speaks UMA at all: permission tickets, resources, PATs. Without it a token's own scopes are what a route needs.
    pub uma: bool,
    /// The document that discovery asks for.
    pub(super) document: Document,
    /// Whether the document has no introspection endpoint, which then stands below the token endpoint.
    pub(super) introspects_below_token: bool,
    /// Whose resources a PAT is for.
    pub pats: PatOwners,
    /// The `scope` of the token request for a PAT. Keycloak has a role of that name instead and would refuse the scope.
    pub(super) pat_scope: Option<&'static str>,
    /// How the protection API refuses a PAT, besides 401 (RFC 6750, 3.1): status and `error`.
    pub(super) pat_refusals: &'static [(StatusCode, &'static str)],
    /// Who asks about tokens.
    pub(super) introspector: Introspector,
    /// What a permission request and a description call things.
    pub(super) words: Words,
    /// Whether a permission request is an array, also for one permission.
    pub(super) asks_in_array: bool,
    /// The names by which an introspection answer or a token may say which resource a permission is for.
    pub(super) resource_names: &'static [&'static str],
    /// How resources are found.
    pub(super) search: Search,
    /// Whether resources are found by the paths in their `uris`.
    pub finds_uris: bool,
    /// The members of a description that an update may send besides name and scopes; `None`: all that the server told.
    pub(super) updates: Option<&'static [&'static str]>,
    /// Whether an update has to say by `If-Match` that it means what is there.
    pub(super) if_match: bool,
    /// Whether resources are registered one after the other: what OpenAM registers at the same time as another can be shared with nobody.
    pub(super) registers_in_turn: bool,
    /// What no name of a share may have: OpenAM names policies after resources, so its owner could share it with nobody, or nobody could delete it any more.
    pub(super) unfit_in_names: &'static [char],
    /// Whether permissions stand in the token's own payload where the answer leaves them out.
    pub(super) reads_payload: bool,
    /// How the server is asked what it grants now, where it can be: then it is asked, unless the configuration says otherwise.
    pub(super) live_decision: Option<Live>,
    /// Whether a token's audience is the client that asked for it, and not the resource server that it is for.
    pub(super) audience_is_client: bool,
    /// Whether times may be in milliseconds.
    pub(super) milliseconds: bool,
}

/// A discovery document: its place below `/.well-known/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// UMA 2.0 Grant, 2.
    Uma2,
    /// UMA 1.0.1 Core, 1.4.
    Uma1,
    /// OpenID Connect Discovery, 4; RFC 8414, 3.
    OpenId,
}

/// Whose resources a PAT is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatOwners {
    /// That of the gateway's own client is for everybody's.
    Client,
    /// Each is for its owner's own, the gateway's client being one of them.
    Each,
    /// Each is for its owner's own, and the gateway's client has none.
    Persons,
}

/// Who authenticates an introspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Introspector {
    /// The owner's PAT (UMA 2.0 Federated Authorization, 5.1), as Bearer.
    Pat,
    /// The gateway's own client.
    Client,
}

/// What members are called in what is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// The resource of a permission request.
    pub resource: &'static str,
    /// Its scopes.
    pub scopes: &'static str,
    /// The scopes of a description.
    pub described_scopes: &'static str,
}

/// How a server says what it grants now to the bearer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// The grant `uma-ticket` with `response_mode=permissions`, asked as the client about the token.
    Permissions,
    /// The entitlement API of the old Keycloak, asked with the token itself, which answers with a new one.
    Entitlement,
}

/// How a resource is found by name and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// The list takes name and owner as a query.
    Query,
    /// The list takes the name as a filter. It is the server's only one of that name, whoever owns it.
    Filter,
    /// Descriptions are read one by one.
    Reading,
}

/// Where the endpoints stand in a document.
pub(super) struct EndpointNames {
    pub permission: &'static str,
    pub registration: &'static str,
}

impl Document {
    /// What follows the issuer.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Uma2 => "/.well-known/uma2-configuration",
            Self::Uma1 => "/.well-known/uma-configuration",
            Self::OpenId => "/.well-known/openid-configuration",
        }
    }

    /// UMA 2.0 Federated Authorization, 2; UMA 1.0.1 Core, 1.4.
    pub const fn endpoints(self) -> Option<EndpointNames> {
        match self {
            Self::OpenId => None,
            Self::Uma2 => Some(EndpointNames { permission: "permission_endpoint", registration: "resource_registration_endpoint" }),
            Self::Uma1 => Some(EndpointNames { permission: "permission_registration_endpoint", registration: "resource_set_registration_endpoint" }),
        }
    }
}

const UMA2_WORDS: Words = Words { resource: "resource_id", scopes: "resource_scopes", described_scopes: "resource_scopes" };
const UMA1_WORDS: Words = Words { resource: "resource_set_id", scopes: "scopes", described_scopes: "scopes" };

/// UMA 1.0.1 Resource Set Registration, 2.2; servers of that time refuse what they do not know, their own words too.
const UMA1_MEMBERS: &[&str] = &["type", "uri", "icon_uri", "labels"];

impl Profile {
    /// UMA 2.0 as written: introspection is asked with the PAT, the permissions are in the answer.
    pub const UMA2: &'static Self = &Self {
        name: "uma2",
        uma: true,
        document: Document::Uma2,
        introspects_below_token: false,
        pats: PatOwners::Client,
        pat_scope: Some("uma_protection"),
        pat_refusals: &[],
        introspector: Introspector::Pat,
        words: UMA2_WORDS,
        asks_in_array: false,
        resource_names: &["resource_id", "rsid"],
        search: Search::Reading,
        finds_uris: false,
        updates: None,
        if_match: false,
        registers_in_turn: false,
        unfit_in_names: &[],
        reads_payload: false,
        live_decision: None,
        audience_is_client: false,
        milliseconds: false,
    };

    /// Keycloak: introspection is asked as the client, the permissions are in the token, withdrawal shows in the live decision only.
    pub const KEYCLOAK: &'static Self = &Self {
        name: "keycloak",
        pat_scope: None,
        pat_refusals: &[(StatusCode::FORBIDDEN, "invalid_bearer_token")],
        introspector: Introspector::Client,
        asks_in_array: true,
        search: Search::Query,
        finds_uris: true,
        reads_payload: true,
        live_decision: Some(Live::Permissions),
        ..*Self::UMA2
    };

    /// ForgeRock AM and PingAM from version 7: a PAT belongs to one owner, and introspection is asked with the PAT of the owner of the route's resource.
    pub const FORGEROCK: &'static Self = &Self { name: "forgerock", pats: PatOwners::Persons, ..*Self::UMA2 };

    /// Keycloak of 2016 and 2017, which speaks UMA 1.0: its document names no introspection endpoint, its tokens name the requesting client as audience.
    pub const KEYCLOAK_UMA1: &'static Self = &Self {
        name: "keycloak-uma1",
        document: Document::Uma1,
        introspects_below_token: true,
        words: UMA1_WORDS,
        asks_in_array: false,
        resource_names: &["resource_set_id", "resource_id", "rsid"],
        search: Search::Filter,
        finds_uris: false,
        updates: Some(UMA1_MEMBERS),
        live_decision: Some(Live::Entitlement),
        audience_is_client: true,
        ..*Self::KEYCLOAK
    };

    /// OpenAM, which speaks UMA 1.0.1: a PAT belongs to one owner, introspection is asked as the client that asked for the ticket.
    pub const OPENAM_UMA1: &'static Self = &Self {
        name: "openam-uma1",
        document: Document::Uma1,
        pats: PatOwners::Each,
        introspector: Introspector::Client,
        words: UMA1_WORDS,
        resource_names: &["resource_set_id", "resource_id", "rsid"],
        updates: Some(UMA1_MEMBERS),
        if_match: true,
        registers_in_turn: true,
        unfit_in_names: &['"', '#', '%', '+', ',', '/', ';', '<', '=', '>', '\\'],
        milliseconds: true,
        ..*Self::UMA2
    };

    /// An OAuth server with introspection and without UMA. It is never recognised, only named: routes look different.
    pub const OAUTH: &'static Self = &Self { name: "oauth", uma: false, document: Document::OpenId, introspector: Introspector::Client, ..*Self::UMA2 };

    /// Every profile.
    pub const ALL: &'static [&'static Self] = &[Self::UMA2, Self::KEYCLOAK, Self::FORGEROCK, Self::KEYCLOAK_UMA1, Self::OPENAM_UMA1, Self::OAUTH];

    /// The profile that the configuration names, or the one whose marks the discovery document bears.
    ///
    /// # Errors
    /// The document bears the marks of none.
    pub fn choose(choice: ProfileChoice, document: &Value) -> Result<&'static Self, AskError> {
        match choice {
            ProfileChoice::Named(profile) => Ok(profile),
            ProfileChoice::Auto => {
                Self::recognised(document).ok_or_else(|| AskError::Discovery("the kind of server cannot be told; name it by `profile`".into()))
            }
        }
    }

    /// Keycloak's document has a member of its own, `policy_endpoint`; its protection API of all times is below `/authz/protection`. The ForgeRock line asks
    /// for permissions at `permission_request`. What else speaks UMA 2.0 is taken for what the specification says; UMA 1.0 leaves too much open for that.
    #[must_use]
    pub fn recognised(document: &Value) -> Option<&'static Self> {
        let path = |name: &str| document.get(name).and_then(Value::as_str)?.parse::<Uri>().ok().map(|uri| uri.path().trim_end_matches('/').to_owned());
        let forgerock = |path: &str| path.ends_with("/permission_request") && path.contains("/uma/");
        if document.get("policy_endpoint").is_some() {
            return Some(Self::KEYCLOAK);
        }
        if document.get("permission_endpoint").is_some() || document.get("resource_registration_endpoint").is_some() {
            let path = path("permission_endpoint").unwrap_or_default();
            return Some(if forgerock(&path) { Self::FORGEROCK } else { Self::UMA2 });
        }
        let path = path("permission_registration_endpoint")?;
        match () {
            () if path.contains("/authz/protection/") => Some(Self::KEYCLOAK_UMA1),
            () if forgerock(&path) => Some(Self::OPENAM_UMA1),
            () => None,
        }
    }

    /// Whether the client's token is for all owners and descriptions need not say whose a resource is.
    #[must_use]
    pub fn hides_owners(&self) -> bool {
        self.pats == PatOwners::Client && self.search != Search::Query
    }

    /// What of a name makes it one that no share can have, if anything does. A blank does so in front only.
    #[must_use]
    pub fn unfit_in(&self, name: &str) -> Option<char> {
        let blank = Some(' ').filter(|_| !self.unfit_in_names.is_empty() && name.starts_with(' '));
        blank.or_else(|| name.chars().find(|character| self.unfit_in_names.contains(character)))
    }

    /// Whether an answer of the protection API says that the PAT is refused.
    #[must_use]
    pub fn refuses_pat(&self, status: StatusCode, error: Option<&str>) -> bool {
        status == StatusCode::UNAUTHORIZED || self.pat_refusals.iter().any(|(refused, code)| status == *refused && error == Some(code))
    }

    /// The body of a permission request (UMA 2.0 Federated Authorization, 4.1; UMA 1.0.1 Core, 3.2).
    #[must_use]
    pub fn permission_request(&self, resource: &ResourceId, scopes: &[Scope]) -> Value {
        let scopes: Vec<&str> = scopes.iter().map(|scope| &*scope.0).collect();
        let permission = json!({ self.words.resource: &*resource.0, self.words.scopes: scopes });
        if self.asks_in_array { json!([permission]) } else { permission }
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Profile {}
