//! The discovery document: where the server's endpoints are (UMA 2.0 Grant, 2; RFC 8414).
//!
//! Endpoints come from the document alone and only on hosts that the configuration names; nothing here follows a redirect.

use http::uri::{Authority, Parts, Scheme};
use http::{HeaderValue, Uri};
use serde_json::Value;

use super::config::{Config, ProfileChoice};
use super::error::AskError;
use super::json;
use super::profile::{Document, Live, Profile};
use super::who::Proof;
use crate::http_client::is_loopback;

/// An endpoint as it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where the call goes: the backchannel's scheme and authority, if there is one.
    pub uri: Uri,
    /// The `Host` of the published address, which a backchannel keeps.
    pub host: HeaderValue,
}

/// What the document says.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The kind of server.
    pub profile: &'static Profile,
    /// Token endpoint.
    pub token: Endpoint,
    /// Introspection endpoint.
    pub introspection: Endpoint,
    /// Permission endpoint; absent: the server does not speak UMA.
    pub permission: Option<Endpoint>,
    /// Resource registration endpoint; likewise.
    pub registration: Option<Endpoint>,
    /// Where the live decision is asked.
    pub decision: Endpoint,
    /// Where owners sign in, as browsers reach it: the published address, whatever the backchannel. Absent: there is none, or none that is expected.
    pub authorization: Option<Uri>,
    /// Where tokens are taken back (RFC 7009), if there is such a place.
    pub revocation: Option<Endpoint>,
    /// Whether the answer of the authorization endpoint always names the issuer (RFC 9207, 3).
    pub names_issuer: bool,
    /// Whether a consent can outlive the session in which it was given (OpenID Connect Core, 11).
    pub offline: bool,
}

impl Metadata {
    /// The permission endpoint.
    ///
    /// # Errors
    /// There is none: the server does not speak UMA.
    pub fn permission(&self) -> Result<&Endpoint, AskError> {
        self.permission.as_ref().ok_or_else(no_uma)
    }

    /// The resource registration endpoint.
    ///
    /// # Errors
    /// There is none: the server does not speak UMA.
    pub fn registration(&self) -> Result<&Endpoint, AskError> {
        self.registration.as_ref().ok_or_else(no_uma)
    }
}

fn no_uma() -> AskError {
    AskError::Discovery("the server does not speak UMA".into())
}

/// Where the document may be, the likeliest address first: as configured, or the issuer with the place of the profile's document behind it. Without a profile
/// UMA 2.0 comes before UMA 1.0. The ForgeRock line calls itself `…/oauth2` and has its documents of UMA below `…/uma`.
///
/// # Errors
/// When an address that results is not one.
pub fn addresses(config: &Config) -> Result<Vec<Endpoint>, AskError> {
    if let Some(uri) = &config.discovery {
        return Ok(vec![endpoint(config, uri.clone())?]);
    }
    let issuer = config.issuer.trim_end_matches('/');
    let speaks_uma = config.speaks_uma();
    let bases = [below_uma(issuer).filter(|_| speaks_uma), Some(issuer.to_owned())];
    let documents: &[Document] = match config.profile {
        ProfileChoice::Named(profile) => &[profile.document],
        ProfileChoice::Auto => &[Document::Uma2, Document::Uma1],
    };
    let addresses = documents.iter().flat_map(|document| bases.iter().flatten().map(|base| format!("{base}{}", document.suffix())));
    let inserted = documents.contains(&Document::OpenId).then(|| inserted(issuer)).flatten();
    addresses
        .chain(inserted)
        .map(|address| endpoint(config, address.parse().map_err(|_| AskError::Discovery("the issuer is not an address".into()))?))
        .collect()
}

/// `https://id.example.org/realms/a` as `https://id.example.org/.well-known/oauth-authorization-server/realms/a` (RFC 8414, 3.1).
fn inserted(issuer: &str) -> Option<String> {
    let uri: Uri = issuer.parse().ok()?;
    Some(format!("{}://{}/.well-known/oauth-authorization-server{}", uri.scheme_str()?, uri.authority()?, uri.path().trim_end_matches('/')))
}

/// `https://am.example.org/am/oauth2/realms/root` as `https://am.example.org/am/uma/realms/root`; `None`: it has no such segment.
fn below_uma(issuer: &str) -> Option<String> {
    let at = issuer.rfind("/oauth2")?;
    let (before, rest) = (issuer.get(..at)?, issuer.get(at..)?.strip_prefix("/oauth2")?);
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{before}/uma{rest}"))
}

/// Reads a document that was fetched from one of [`addresses`].
///
/// # Errors
/// Another issuer, a missing endpoint, or an endpoint on a host or by a scheme that the configuration does not allow.
pub fn read(config: &Config, body: &[u8]) -> Result<Metadata, AskError> {
    let document = json::parse(body).map_err(|error| AskError::Discovery(format!("the document is not JSON: {error}").into()))?;
    let issuer = document.get("issuer").and_then(Value::as_str).unwrap_or_default();
    if issuer != &*config.issuer {
        return Err(AskError::Discovery(
            format!("the document names issuer `{}`, the configuration `{}`; they must be the same, byte for byte", shorten(issuer), config.issuer).into(),
        ));
    }
    // Where the certificate is asked for may be another address (RFC 8705, 5).
    let aliases = document.get("mtls_endpoint_aliases").filter(|_| config.client.proof == Proof::Certificate);
    let find = |names: &[&str]| -> Result<Endpoint, AskError> {
        let text = aliases
            .into_iter()
            .chain([&document])
            .flat_map(|document| names.iter().map(|name| document.get(*name)))
            .find_map(|found| found.and_then(Value::as_str))
            .ok_or_else(|| AskError::Discovery(format!("the document has no `{}`", names.first().unwrap_or(&"")).into()))?;
        // Not quoted: whatever stands there may hold a password.
        let uri: Uri = text.parse().map_err(|_| AskError::Discovery(format!("`{}` is not an address", names.first().unwrap_or(&"")).into()))?;
        endpoint(config, uri)
    };
    let profile = Profile::choose(config.profile, &document)?;
    let names = profile.document.endpoints();
    let token = find(&["token_endpoint"])?;
    let introspection = match find(&["introspection_endpoint", "token_introspection_endpoint"]) {
        Err(_) if profile.introspects_below_token => with_path(&token, &format!("{}/introspect", token.uri.path().trim_end_matches('/')))?,
        found => found?,
    };
    let decision = match profile.live_decision {
        Some(Live::Entitlement) => entitlement(&find(&["rpt_endpoint"])?, &config.client.id)?,
        Some(Live::Permissions) | None => token.clone(),
    };
    let (permission, registration) = match names {
        Some(names) => (Some(find(&[names.permission])?), Some(find(&[names.registration])?)),
        None => (None, None),
    };
    let authorization = document.get("authorization_endpoint").and_then(Value::as_str).and_then(|text| front(config, text));
    let revocation = find(&["revocation_endpoint"]).ok();
    let names_issuer = document.get("authorization_response_iss_parameter_supported").and_then(Value::as_bool).unwrap_or(false);
    let offline = document.get("scopes_supported").and_then(Value::as_array).is_some_and(|all| all.iter().any(|scope| scope == "offline_access"));
    Ok(Metadata { profile, token, introspection, permission, registration, decision, authorization, revocation, names_issuer, offline })
}

/// An address that owners' browsers are sent to: on a host that the configuration names, and by https unless that is nobody's business.
fn front(config: &Config, text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let secure = uri.scheme() == Some(&Scheme::HTTPS) || config.allow_insecure || is_loopback(authority.host());
    (secure && !authority.as_str().contains('@') && named(config, authority)).then_some(uri)
}

/// `…/authz/entitlement/CLIENT` beside `…/authz/authorize`; no document names it.
fn entitlement(rpt: &Endpoint, client: &str) -> Result<Endpoint, AskError> {
    let (folder, _) = rpt.uri.path().trim_end_matches('/').rsplit_once('/').unwrap_or_default();
    let client = percent_encoding::utf8_percent_encode(client, super::resources::SEGMENT);
    with_path(rpt, &format!("{folder}/entitlement/{client}"))
}

/// The same endpoint with another path and query.
pub(super) fn with_path(endpoint: &Endpoint, path_and_query: &str) -> Result<Endpoint, AskError> {
    let mut parts = endpoint.uri.clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    let uri = Uri::from_parts(parts).map_err(|_| AskError::Discovery("an endpoint's address cannot be written".into()))?;
    Ok(Endpoint { uri, host: endpoint.host.clone() })
}

fn endpoint(config: &Config, uri: Uri) -> Result<Endpoint, AskError> {
    let (Some(scheme), Some(authority)) = (uri.scheme().cloned(), uri.authority().cloned()) else {
        return Err(AskError::Discovery("an endpoint's address is not absolute".into()));
    };
    if authority.as_str().contains('@') {
        return Err(AskError::Discovery("an endpoint's address holds user information".into()));
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| AskError::Discovery("an endpoint's host is not one".into()))?;
    let Some(backchannel) = &config.backchannel else {
        if !named(config, &authority) {
            return Err(AskError::Discovery(
                format!(
                    "an endpoint is on `{}`, another host than the issuer; where that is meant, name the host by `discovery` or use `backchannel`",
                    place(&authority)
                )
                .into(),
            ));
        }
        if scheme != Scheme::HTTPS && !config.allow_insecure && !is_loopback(authority.host()) {
            return Err(AskError::Discovery(
                format!("an endpoint on `{}` is plain http; write `allow_insecure: true` if that is meant", place(&authority)).into(),
            ));
        }
        return Ok(Endpoint { uri, host });
    };
    let mut parts: Parts = uri.into_parts();
    parts.scheme = backchannel.scheme().cloned();
    parts.authority = backchannel.authority().cloned();
    let uri = Uri::from_parts(parts).map_err(|_| AskError::Discovery("the backchannel is not an address".into()))?;
    Ok(Endpoint { uri, host })
}

fn named(config: &Config, authority: &Authority) -> bool {
    let issuer: Option<Uri> = config.issuer.parse().ok();
    [issuer.as_ref(), config.discovery.as_ref()].into_iter().flatten().filter_map(Uri::authority).any(|known| known == authority)
}

/// Host and port alone, as far as they can be told.
fn place(authority: &Authority) -> String {
    authority.port_u16().map_or_else(|| shorten(authority.host()), |port| shorten(&format!("{}:{port}", authority.host())))
}

/// A text of the server's for a message. One with user information holds a password, and is not quoted.
fn shorten(text: &str) -> String {
    if text.contains('@') {
        return "an address with user information".to_owned();
    }
    text.chars().filter(|character| !character.is_control()).take(120).collect()
}
