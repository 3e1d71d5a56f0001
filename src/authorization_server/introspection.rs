//! An introspection answer, whoever gave it, as one [`Introspection`] (RFC 7662, 2.2; UMA 2.0 Federated Authorization, 5.1.1).
//!
//! Only the JSON boolean `true` is active. Whatever is not as it should be makes the whole answer unusable: closed, and not cached.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::error::AskError;
use super::json;
use super::profile::Profile;
use crate::holes::{Hole, open};
use crate::uma::{Introspection, Permission, ResourceId, Rpt, Scope, Timestamp};

const ENDPOINT: &str = "introspection";

/// Seconds beyond this (the year 5138) are not seconds: a server that counts milliseconds would be believed until the year 50000.
const LATEST: i64 = 100_000_000_000;

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `active: true`.
    Active(Box<Introspection>),
    /// `active: false`.
    Inactive,
}

/// Reads the body of a 200.
///
/// # Errors
/// [`AskError::Unusable`] for anything that is not exactly as it should be.
pub fn read(profile: &Profile, body: &[u8], rpt: &Rpt) -> Result<Answer, AskError> {
    let answer = object(json::parse(body).map_err(|error| AskError::no_json(ENDPOINT, &error))?)?;
    match answer.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::String(_)) if open(Hole::ActiveTruthy) => {}
        Some(Value::Bool(false)) => return Ok(Answer::Inactive),
        _ => return Err(unusable("`active` is not true or false")),
    }
    let mut introspection = members(profile, &answer)?;
    introspection.permissions = if profile.uma { permissions(profile, &answer)?.unwrap_or_default() } else { own_scopes(&answer)? };
    if profile.reads_payload {
        // The server has just called exactly this string active, so its payload is the server's own word.
        if let Some(payload) = payload(rpt)? {
            complete(profile, &mut introspection, permissions(profile, &answer)?, &payload)?;
        }
    }
    // Such a server writes there who asked for the token. Which resource server it is for is told by the ids of its permissions alone. A client without a
    // name would be the list of nobody.
    let client = introspection.client.as_ref().filter(|client| profile.audience_is_client && !client.is_empty());
    if client.is_some_and(|client| introspection.audience == [Arc::clone(client)]) {
        introspection.audience.clear();
    }
    Ok(Answer::Active(Box::new(introspection)))
}

/// The token's own scopes (RFC 7662, 2.2), as a permission on itself. With UMA they say nothing.
fn own_scopes(answer: &Map<String, Value>) -> Result<Vec<Permission>, AskError> {
    Ok(text(answer, "scope")?.map(|scopes| Permission::of_token(&scopes)).into_iter().collect())
}

/// The permissions that a token of the form of a JWT holds.
///
/// # Errors
/// It has another form, or what it says of permissions cannot be read.
pub fn granted(profile: &Profile, rpt: &Rpt) -> Result<Vec<Permission>, AskError> {
    let payload = payload(rpt)?.ok_or_else(|| unusable("the token is no JWT"))?;
    Ok(permissions(profile, &payload)?.unwrap_or_default())
}

/// Takes from the token's payload what the answer left out. Where both speak, the stricter counts, and a contradiction refuses.
fn complete(profile: &Profile, introspection: &mut Introspection, answered: Option<Vec<Permission>>, payload: &Map<String, Value>) -> Result<(), AskError> {
    let own = members(profile, payload)?;
    for (said, token) in [
        (&introspection.subject, &own.subject),
        (&introspection.session, &own.session),
        (&introspection.issuer, &own.issuer),
        (&introspection.client, &own.client),
    ] {
        if let (Some(said), Some(token)) = (said, token)
            && said != token
        {
            return Err(unusable("the answer and the token contradict each other"));
        }
    }
    introspection.bound |= own.bound;
    introspection.exp = earlier(introspection.exp, own.exp);
    introspection.nbf = introspection.nbf.max(own.nbf);
    introspection.subject = introspection.subject.take().or(own.subject);
    introspection.session = introspection.session.take().or(own.session);
    introspection.issuer = introspection.issuer.take().or(own.issuer);
    introspection.client = introspection.client.take().or(own.client);
    if introspection.audience.is_empty() {
        introspection.audience = own.audience;
    }
    let granted = permissions(profile, payload)?.unwrap_or_default();
    introspection.permissions = match answered {
        None => granted,
        Some(answered) => both(&answered, &granted),
    };
    Ok(())
}

/// The permissions that both lists grant, each with the narrower times.
fn both(left: &[Permission], right: &[Permission]) -> Vec<Permission> {
    left.iter()
        .flat_map(|one| right.iter().filter(|other| other.resource == one.resource).map(move |other| (one, other)))
        .map(|(one, other)| Permission {
            resource: one.resource.clone(),
            // Absent only where both leave them out: whoever names none, or others, contradicts that anything is granted.
            scopes: (one.scopes.is_some() || other.scopes.is_some())
                .then(|| one.named().iter().filter(|scope| other.named().contains(scope)).cloned().collect()),
            exp: earlier(one.exp, other.exp),
            nbf: one.nbf.max(other.nbf),
        })
        .collect()
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The payload of a token that has the form of a signed JWT; `None` for an opaque one.
fn payload(rpt: &Rpt) -> Result<Option<Map<String, Value>>, AskError> {
    let mut parts = rpt.0.expose().split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(payload) else { return Ok(None) };
    object(json::parse(&bytes).map_err(|_| unusable("the token's payload is not JSON"))?).map(Some)
}

fn members(profile: &Profile, answer: &Map<String, Value>) -> Result<Introspection, AskError> {
    Ok(Introspection {
        exp: time(profile, answer, "exp")?,
        // Keycloak's tokens of 2016 say `nbf: 0` for "not set"; zero is long past either way.
        nbf: time(profile, answer, "nbf")?.filter(|nbf| nbf.0 != 0),
        issuer: text(answer, "iss")?,
        audience: audience(answer)?,
        subject: text(answer, "sub")?,
        username: either(text(answer, "username")?, || text(answer, "preferred_username"))?,
        session: either(text(answer, "sid")?, || text(answer, "session_state"))?,
        client: either(text(answer, "client_id")?, || text(answer, "azp"))?,
        // A token of type DPoP is bound though the answer does not say to what (RFC 9449, 6.1).
        bound: answer.get("cnf").is_some_and(|cnf| !cnf.is_null()) || text(answer, "token_type")?.is_some_and(|kind| kind.eq_ignore_ascii_case("dpop")),
        claims: claims(answer),
        permissions: Vec::new(),
    })
}

fn either(first: Option<Arc<str>>, second: impl FnOnce() -> Result<Option<Arc<str>>, AskError>) -> Result<Option<Arc<str>>, AskError> {
    if first.is_some() { Ok(first) } else { second() }
}

/// Texts that identity headers may name; at most 64 of at most 1 KiB, so that an answer's size stays bounded in the cache. `scope`, by which a token may share,
/// is among them whatever else there is, and may be longer.
fn claims(answer: &Map<String, Value>) -> Vec<(Arc<str>, Arc<str>)> {
    const KNOWN: [&str; 9] = ["active", "exp", "nbf", "iat", "iss", "aud", "permissions", "authorization", "cnf"];
    let longest = |name: &str| if name == "scope" { 8 * 1024 } else { 1024 };
    let scope = answer.get_key_value("scope");
    let others = answer.iter().filter(|(name, _)| name.as_str() != "scope" && !KNOWN.contains(&name.as_str()));
    scope
        .into_iter()
        .chain(others)
        .filter_map(|(name, value)| match value {
            Value::String(text) if text.len() <= longest(name) => Some((Arc::from(name.as_str()), Arc::from(text.as_str()))),
            Value::Number(number) => Some((Arc::from(name.as_str()), Arc::from(number.to_string()))),
            Value::Bool(yes) => Some((Arc::from(name.as_str()), Arc::from(yes.to_string()))),
            _ => None,
        })
        .take(64)
        .collect()
}

/// `permissions` or `authorization.permissions`, which agree where both are there; `None`: the answer does not speak of permissions.
fn permissions(profile: &Profile, answer: &Map<String, Value>) -> Result<Option<Vec<Permission>>, AskError> {
    let nested = answer.get("authorization").and_then(|authorization| authorization.get("permissions"));
    match (entries(profile, answer.get("permissions"))?, entries(profile, nested)?) {
        (Some(own), Some(nested)) if own != nested => Err(unusable("`permissions` and `authorization.permissions` contradict each other")),
        (own, nested) => Ok(own.or(nested)),
    }
}

fn entries(profile: &Profile, list: Option<&Value>) -> Result<Option<Vec<Permission>>, AskError> {
    match list {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(entries)) => entries.iter().filter_map(|entry| permission(profile, entry).transpose()).collect::<Result<_, _>>().map(Some),
        Some(_) => Err(unusable("`permissions` is not a list")),
    }
}

/// One entry; `None` where its aliases disagree or are not this kind of server's: such an entry grants nothing.
fn permission(profile: &Profile, entry: &Value) -> Result<Option<Permission>, AskError> {
    let Value::Object(entry) = entry else { return Err(unusable("an entry of `permissions` is not an object")) };
    let named = profile.resource_names.iter().any(|name| entry.contains_key(*name));
    const NAMES: [&str; 3] = ["resource_id", "rsid", "resource_set_id"];
    let resource = match alias(entry, &NAMES) {
        Some(Value::String(resource)) if named => Some(ResourceId(resource.as_str().into())),
        Some(Value::String(_)) => return Ok(None),
        Some(_) => return Err(unusable("a permission's resource is not a text")),
        None if NAMES.iter().any(|name| entry.contains_key(*name)) => return Ok(None),
        None => None,
    };
    if ["resource_scopes", "scopes"].iter().filter(|name| entry.contains_key(**name)).count() > 1 && alias(entry, &["resource_scopes", "scopes"]).is_none() {
        return Ok(None);
    }
    let scopes = match alias(entry, &["resource_scopes", "scopes"]) {
        None => None,
        Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(scopes)) => scopes
            .iter()
            .map(|scope| scope.as_str().map(|scope| Scope(scope.into())).ok_or_else(|| unusable("a scope is not a text")))
            .collect::<Result<_, _>>()
            .map(Some)?,
        Some(_) => return Err(unusable("a permission's scopes are not a list")),
    };
    Ok(Some(Permission { resource, scopes, exp: time(profile, entry, "exp")?, nbf: time(profile, entry, "nbf")? }))
}

/// The value that all names which are present agree on.
fn alias<'a>(entry: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    let mut present = names.iter().filter_map(|name| entry.get(*name));
    let first = present.next()?;
    present.all(|other| other == first).then_some(first)
}

fn time(profile: &Profile, answer: &Map<String, Value>, name: &'static str) -> Result<Option<Timestamp>, AskError> {
    match answer.get(name) {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            Some(seconds) if (0..=LATEST).contains(&seconds) => Ok(Some(Timestamp(seconds))),
            // No second of this millennium looks like a millisecond after April 1973, nor the other way round.
            Some(milliseconds) if profile.milliseconds && (0..=LATEST.saturating_mul(1000)).contains(&milliseconds) => Ok(Some(Timestamp(milliseconds / 1000))),
            _ => Err(unusable(format!("`{name}` is not a time in whole seconds"))),
        },
    }
}

fn text(answer: &Map<String, Value>, name: &'static str) -> Result<Option<Arc<str>>, AskError> {
    match answer.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str().into())),
        Some(_) => Err(unusable(format!("`{name}` is not a text"))),
    }
}

fn audience(answer: &Map<String, Value>) -> Result<Vec<Arc<str>>, AskError> {
    match answer.get("aud") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.as_str().into()]),
        // For nobody is not for everybody.
        Some(Value::Array(several)) if several.is_empty() => Ok(vec!["".into()]),
        Some(Value::Array(several)) => several.iter().map(|one| one.as_str().map(Arc::from).ok_or_else(|| unusable("`aud` is not a list of texts"))).collect(),
        Some(_) => Err(unusable("`aud` is not a text or a list")),
    }
}

fn object(value: Value) -> Result<Map<String, Value>, AskError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(unusable("it is not an object")),
    }
}

fn unusable(why: impl Into<Arc<str>>) -> AskError {
    AskError::unusable(ENDPOINT, why)
}
