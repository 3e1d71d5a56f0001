//! Requests as the server sees them: which endpoint, which parameters, whose credentials.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::Kind;
use super::answer::Answer;

/// What a call was for. Calls are counted, remembered and made to fail by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// The discovery documents, also those that this server does not have.
    Discovery,
    /// The token endpoint, asked by client credentials or for the scope `uma_protection` alone: this is how a gateway gets its PATs.
    Pat,
    /// The token endpoint, asked for anything else.
    Token,
    /// The permission endpoint.
    Permission,
    /// The introspection endpoint.
    Introspection,
    /// The token endpoint, asked for a live decision (Keycloak's `response_mode`).
    Live,
    /// The resource registration endpoint.
    ResourceSet,
    /// The revocation endpoint.
    Revocation,
    /// The login form, and claims gathering.
    Authorize,
    /// Anything else.
    Other,
}

/// A call as it was seen, for assertions.
#[derive(Clone)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Seen {
    /// The first value of a form parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.body.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.body).ok()
    }
}

impl std::fmt::Debug for Seen {
    // Headers and body hold tokens and tickets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Seen({} {}, {} header fields, {} bytes)",
            self.method,
            self.target.split('?').next().unwrap_or_default(),
            self.headers.len(),
            self.body.len()
        )
    }
}

/// A request that has been read whole.
pub(super) struct Asked {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub form: Parameters,
    pub query: Parameters,
    pub place: Place,
}

/// The resources of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Uma2Configuration,
    OpenidConfiguration,
    Token,
    Introspection,
    Permission,
    /// The whole collection, or one resource.
    ResourceSet(Option<String>),
    Authorize,
    Claims,
    Revocation,
    /// Where an owner shares and withdraws; no standard has it.
    Share,
    Nowhere,
    /// A path of another realm.
    NoRealm,
}

impl Asked {
    pub fn new(kind: &Kind, method: Method, target: &str, headers: HeaderMap, body: Vec<u8>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let form = if is_form(&headers) { Parameters::parse(&body) } else { Parameters::default() };
        Self { place: Place::of(kind, path), query: Parameters::parse(query.as_bytes()), form, method, target: target.to_owned(), headers, body }
    }

    pub fn endpoint(&self) -> Endpoint {
        match &self.place {
            Place::Uma2Configuration | Place::OpenidConfiguration => Endpoint::Discovery,
            // A document that it does not have.
            Place::Nowhere if self.target.contains("/.well-known/") => Endpoint::Discovery,
            Place::Token if self.form.get("response_mode").is_some() => Endpoint::Live,
            Place::Token if self.form.get("grant_type") == Some("client_credentials") || self.form.get("scope") == Some("uma_protection") => Endpoint::Pat,
            Place::Token => Endpoint::Token,
            Place::Introspection => Endpoint::Introspection,
            Place::Permission => Endpoint::Permission,
            Place::ResourceSet(_) => Endpoint::ResourceSet,
            Place::Authorize | Place::Claims => Endpoint::Authorize,
            Place::Revocation => Endpoint::Revocation,
            Place::Root | Place::Share | Place::Nowhere | Place::NoRealm => Endpoint::Other,
        }
    }

    pub fn seen(&self) -> Seen {
        Seen { method: self.method.clone(), target: self.target.clone(), headers: self.headers.clone(), body: String::from_utf8_lossy(&self.body).into_owned() }
    }

    /// The token of `Authorization: Bearer`.
    pub fn bearer(&self) -> Option<&str> {
        self.authorization("Bearer")
    }

    /// Client id and secret, by Basic (each part form-urlencoded first, RFC 6749, 2.3.1) or in the form.
    ///
    /// # Errors
    /// When there is an attempt at Basic that cannot be read.
    pub fn client_credentials(&self) -> Result<Option<(String, Option<String>)>, Answer> {
        if let Some(basic) = self.authorization("Basic") {
            let refused = || Answer::unauthorized("Basic realm=\"clients\"", "invalid_client", "the Basic credentials cannot be read");
            let text = STANDARD.decode(basic).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(refused)?;
            let (id, secret) = text.split_once(':').ok_or_else(refused)?;
            return Ok(Some((form_decode(id), Some(form_decode(secret)))));
        }
        Ok(self.form.get("client_id").map(|id| (id.to_owned(), self.form.get("client_secret").map(str::to_owned))))
    }

    fn authorization(&self, scheme: &str) -> Option<&str> {
        let (given, rest) = self.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
    }
}

impl Place {
    fn of(kind: &Kind, path: &str) -> Self {
        let (rest, keycloak) = match kind {
            Kind::Uma2 => (path, false),
            Kind::Am | Kind::OpenAm => return Self::of_am(kind, path),
            Kind::Keycloak { .. } if path == "/" => return Self::Root,
            Kind::Keycloak { realm } => match path.strip_prefix("/realms/").and_then(|rest| rest.strip_prefix(realm.as_str())) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => (rest, true),
                _ if path.starts_with("/realms/") => return Self::NoRealm,
                _ => return Self::Nowhere,
            },
        };
        let rest = match (keycloak, rest) {
            (true, rest) => match rest.strip_prefix("/authz/protection") {
                Some(protection) => protection,
                None => match rest.strip_prefix("/protocol/openid-connect") {
                    Some("/auth") => "/authorize",
                    Some("/token/introspect") => "/introspect",
                    Some(other @ ("/token" | "/revoke")) => other,
                    Some(_) => return Self::Nowhere,
                    None if rest.starts_with("/.well-known/") || rest == "/share" => rest,
                    None => return Self::Nowhere,
                },
            },
            (false, rest) => rest,
        };
        match rest {
            "/" => Self::Root,
            "/.well-known/uma2-configuration" => Self::Uma2Configuration,
            "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server" => Self::OpenidConfiguration,
            "/token" => Self::Token,
            "/introspect" => Self::Introspection,
            "/permission" => Self::Permission,
            "/authorize" => Self::Authorize,
            "/claims" => Self::Claims,
            "/revoke" => Self::Revocation,
            "/share" => Self::Share,
            "/resource_set" | "/resource_set/" => Self::ResourceSet(None),
            other => match other.strip_prefix("/resource_set/") {
                Some(id) if !id.contains('/') => Self::ResourceSet(Some(percent_decode_str(id).decode_utf8_lossy().into_owned())),
                _ => Self::Nowhere,
            },
        }
    }
}

impl Place {
    /// The paths of AM: tokens below `/oauth2`, UMA below `/uma`, but for OpenAM's resources.
    fn of_am(kind: &Kind, path: &str) -> Self {
        let old = *kind == Kind::OpenAm;
        let resources = if old { "/am/oauth2/resource_set" } else { "/am/uma/resource_set" };
        match path {
            "/" => Self::Root,
            "/am/uma/.well-known/uma2-configuration" if !old => Self::Uma2Configuration,
            "/am/uma/.well-known/uma-configuration" if old => Self::Uma2Configuration,
            "/am/oauth2/.well-known/openid-configuration" => Self::OpenidConfiguration,
            "/am/oauth2/access_token" => Self::Token,
            "/am/oauth2/introspect" => Self::Introspection,
            "/am/oauth2/authorize" => Self::Authorize,
            "/am/oauth2/token/revoke" => Self::Revocation,
            "/am/uma/permission_request" => Self::Permission,
            _ => match path.strip_prefix(resources) {
                Some("") => Self::ResourceSet(None),
                Some(rest) => match rest.strip_prefix('/').filter(|id| !id.contains('/')) {
                    Some(id) => Self::ResourceSet(Some(percent_decode_str(id).decode_utf8_lossy().into_owned())),
                    None => Self::Nowhere,
                },
                None => Self::Nowhere,
            },
        }
    }
}

/// Form or query parameters, in order.
#[derive(Clone, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// The first value; an empty one counts as absent (RFC 6749, 3.2).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The names that come more than once although they must not (RFC 6749, 3.2); `permission` may.
    pub fn repeated(&self) -> bool {
        self.0.iter().enumerate().any(|(at, (key, _))| key != "permission" && self.0.iter().skip(at + 1).any(|(other, _)| other == key))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"))
}

fn form_decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
