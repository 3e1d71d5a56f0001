//! The discovery document: where the server's endpoints are (UMA 2.0 Grant, 2; RFC 8414).
//!
//! Endpoints come from the document alone and only on hosts that the configuration names; nothing here follows a redirect.

use http::uri::{Authority, Parts, Scheme};
use http::{HeaderValue, Uri};
use serde_json::Value;

use super::config::Config;
use super::error::AskError;
use super::json;
use super::profile::Profile;
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
    pub profile: Profile,
    /// Token endpoint.
    pub token: Endpoint,
    /// Introspection endpoint.
    pub introspection: Endpoint,
    /// Permission endpoint.
    pub permission: Endpoint,
    /// Resource registration endpoint.
    pub registration: Endpoint,
}

/// The address of the document: as configured, or the issuer with `/.well-known/uma2-configuration` behind it.
///
/// # Errors
/// When the address that results is not one.
pub fn address(config: &Config) -> Result<Endpoint, AskError> {
    let uri = match &config.discovery {
        Some(uri) => uri.clone(),
        None => format!("{}/.well-known/uma2-configuration", config.issuer.trim_end_matches('/'))
            .parse()
            .map_err(|_| AskError::Discovery("the issuer is not an address".into()))?,
    };
    endpoint(config, uri)
}

/// Reads a document that was fetched from [`address`].
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
    let find = |names: &[&str]| -> Result<Endpoint, AskError> {
        let text = names
            .iter()
            .find_map(|name| document.get(*name).and_then(Value::as_str))
            .ok_or_else(|| AskError::Discovery(format!("the document has no `{}`", names.first().unwrap_or(&"")).into()))?;
        // Not quoted: whatever stands there may hold a password.
        let uri: Uri = text.parse().map_err(|_| AskError::Discovery(format!("`{}` is not an address", names.first().unwrap_or(&"")).into()))?;
        endpoint(config, uri)
    };
    Ok(Metadata {
        profile: Profile::choose(config.profile, &document),
        token: find(&["token_endpoint"])?,
        introspection: find(&["introspection_endpoint", "token_introspection_endpoint"])?,
        permission: find(&["permission_endpoint"])?,
        registration: find(&["resource_registration_endpoint"])?,
    })
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
