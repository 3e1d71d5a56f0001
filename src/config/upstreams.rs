//! `upstreams`: from its sections to [`upstream::Config`] and the proxy credential beside it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

use super::checker::{Checker, Keys};
use super::client;
use super::description::Section;
use super::guard;
use super::problem::{Problem, Span, shown};
use super::secrets::{header_value, secret};
use super::servers::secure;
use super::suggest::nearest;
use super::tls;
use super::tree::{Entry, Node, Value};
use super::values::{Wrong, duration, duration_or_zero, list, parse_host, parsed, text, word};
use crate::credentials::{Config as Credentials, Credential};
use crate::secret::Secret;
use crate::upstream::{Config, HostPolicy, Protocol, Timeouts};

mod balance;

const HOUR: Duration = Duration::from_secs(3600);

/// One section.
pub(super) fn upstream(entry: &Entry, about: &'static Section, checker: &mut Checker<'_>) -> Option<(Config, Credentials)> {
    let keys = checker.section(&entry.value, entry.key_span, about)?;
    let servers = keys.section_of("servers").and_then(|about| keys.read("servers", checker, |node, checker| balance::servers(node, about, checker)));
    let credential = match keys.open("credentials", checker) {
        Some(keys) => credential(&keys, checker),
        None if keys.names("credentials") => None,
        None => Some(Credential::None),
    };
    let host = keys.read("host", checker, host_policy);
    let protocol = keys.read("protocol", checker, |node, checker| word(node, checker, &[("h1", Protocol::H1), ("h2", Protocol::H2), ("auto", Protocol::Auto)]));
    let tls = match keys.open("tls", checker) {
        Some(keys) => tls::upstream(&keys, checker).map(Arc::new),
        None if keys.names("tls") => None,
        None => Some(Arc::default()),
    };
    let timeouts = timeouts(&keys, checker);
    if let (Some(span), Some(servers)) = (keys.key_span("tls"), &servers)
        && servers.iter().all(|server| !server.address.is_secure())
    {
        checker.error(Problem::at(span, "`tls` has no effect: no server begins with https://").label("leave it out, or write https://"));
    }
    let config = Config::new(&entry.key, servers.clone().unwrap_or_default());
    let config = Config { host: host.unwrap_or_default(), protocol: protocol.unwrap_or_default(), timeouts, ..balance::read(&keys, config, checker) };
    servers?;
    Some((Config { tls: tls?, ..config }, Credentials { credential: credential? }))
}

fn host_policy(node: &Node, checker: &mut Checker<'_>) -> Option<HostPolicy> {
    parsed(node, checker, "`preserve`, `upstream` or a host", |text| match text {
        "preserve" => Ok(HostPolicy::Preserve),
        "upstream" => Ok(HostPolicy::Upstream),
        _ => {
            let (name, port) = match text.rsplit_once(':') {
                Some((name, port)) if port.parse::<u16>().is_ok() && !name.ends_with(':') => (name, format!(":{port}")),
                _ => (text, String::new()),
            };
            let known = if text.contains('.') { None } else { nearest(text, ["preserve", "upstream"]) };
            if let Some(known) = known {
                return Err(Wrong::because(format!("did you mean `{known}`?")));
            }
            let name = parse_host(name)?;
            let value = HeaderValue::from_str(&format!("{name}{port}")).ok().filter(|_| !name.contains('*'));
            value.map(HostPolicy::Named).ok_or_else(|| Wrong::because("one host, not many"))
        }
    })
}

fn timeouts(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Timeouts {
    let Some(keys) = keys.open("timeouts", checker) else { return Timeouts::default() };
    let default = Timeouts::default();
    let mut read = |name, default| keys.read(name, checker, |node, checker| duration(node, checker, Duration::from_millis(1), HOUR)).unwrap_or(default);
    let (connect, response) = (read("connect", default.connect), read("response", default.response));
    let idle = keys.read("idle", checker, |node, checker| duration_or_zero(node, checker, HOUR));
    Timeouts { connect, response, idle: idle.unwrap_or(default.idle) }
}

fn credential(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Credential> {
    let basic = keys.open("basic", checker).map(|keys| basic(&keys, checker));
    let bearer = keys.open("bearer", checker).map(|keys| bearer(&keys, checker));
    let jwt = keys.open("jwt", checker).map(|keys| jwt(&keys, checker));
    let headers = keys.entry("headers").map(|entry| headers(&entry.value, checker));
    let oauth2 = keys.open("oauth2", checker).map(|keys| oauth2(&keys, checker));
    basic.or(bearer).or(jwt).or(headers).or(oauth2).flatten()
}

/// RFC 7617, 2: a colon ends the user name; the encoding is UTF-8.
fn basic(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Credential> {
    let username = keys.read("username", checker, username);
    let password = keys.read("password", checker, secret);
    let (username, password) = (username?, password?);
    let pair = Secret::from(format!("{username}:{}", password.expose()));
    let value = Secret::from(format!("Basic {}", STANDARD.encode(pair.expose())));
    header_value(&value, keys.span, checker).map(Credential::Authorization)
}

/// RFC 7617, 2.
pub(super) fn username(node: &Node, checker: &mut Checker<'_>) -> Option<Arc<str>> {
    let name = text(node, checker)?;
    if name.contains(':') {
        checker.error(Problem::at(node.span, "a user name of Basic authentication has no colon in it"));
        return None;
    }
    Some(name)
}

fn jwt(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Credential> {
    // Whoever reads no secrets has no key to sign with, and asks nobody.
    let read = checker.environment.is_some();
    let signer = guard::signer(keys, checker);
    if read { signer.map(|signer| Credential::Jwt(Arc::new(signer))) } else { Some(Credential::None) }
}

fn bearer(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Credential> {
    let token = keys.read("token", checker, secret)?;
    let right = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if !token.expose().bytes().all(right) {
        checker.error(Problem::at(keys.span, "this is not a Bearer token").label("letters, digits and - . _ ~ + / = (RFC 6750, 2.1)"));
        return None;
    }
    header_value(&Secret::from(format!("Bearer {}", token.expose())), keys.span, checker).map(Credential::Authorization)
}

fn headers(node: &Node, checker: &mut Checker<'_>) -> Option<Credential> {
    let entries = header_entries(node, checker)?;
    let read: Vec<_> = entries
        .into_iter()
        .map(|(name, entry)| {
            let value = secret(&entry.value, checker).and_then(|value| header_value(&value, entry.value.span, checker));
            Some((name?, value?))
        })
        .collect();
    read.into_iter().collect::<Option<Vec<_>>>().map(Credential::Headers)
}

fn oauth2(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Credential> {
    let token_endpoint = keys.read("token_endpoint", checker, |node, checker| secure(node, None, checker));
    let audience = token_endpoint.as_ref().map(|uri| Arc::from(uri.to_string()));
    let client = keys.open("client", checker).and_then(|keys| client::at_endpoint(&keys, audience, checker));
    let scopes = keys.read("scopes", checker, |node, checker| list(node, checker, super::methods::scope));
    let scopes = scopes.unwrap_or_default().into_iter().map(|scope| scope.0.to_string()).collect();
    Some(Credential::Oauth2 { token_endpoint: token_endpoint?, client: client?, scopes })
}

/// The entries of a mapping from headers, a name that may not be set as `None`.
pub(super) fn header_entries<'t>(node: &'t Node, checker: &mut Checker<'_>) -> Option<Vec<(Option<HeaderName>, &'t Entry)>> {
    let Value::Map(entries) = &node.value else {
        checker.error(Problem::at(node.span, format!("a section of headers is wanted, and here stands {}", node.kind())).write("{ X-Name: … }"));
        return None;
    };
    if entries.is_empty() {
        checker.error(Problem::at(node.span, "no header stands here").label("name one, or leave the section out"));
        return None;
    }
    let mut seen: Vec<(HeaderName, &Entry)> = Vec::new();
    let mut named = Vec::new();
    for entry in entries {
        let name = header_name(&entry.key, entry.key_span, checker);
        if let Some(name) = &name {
            match seen.iter().find(|(other, first)| other == name && first.key != entry.key) {
                Some((_, first)) => {
                    let at = first.key_span.place;
                    let problem = Problem::at(entry.key_span, format!("`{}` stands twice: case makes no difference", shown(&entry.key)));
                    checker.error(problem.label(format!("it stands at {}:{} already", at.line, at.column)));
                }
                None => seen.push((name.clone(), entry)),
            }
        }
        named.push((name, entry));
    }
    Some(named)
}

/// Headers that say how a message travels or where it comes from: the gateway writes them itself.
const OWN: [&str; 22] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-type",
    "content-encoding",
    "expect",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
    "x-request-id",
];

/// The name of a header that the configuration may give a meaning to.
pub(super) fn header_name(key: &str, span: Span, checker: &mut Checker<'_>) -> Option<HeaderName> {
    let problem = |message: String| Problem::at(span, message);
    let right = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && key.starts_with(|c: char| c.is_ascii_alphabetic());
    match HeaderName::from_bytes(key.as_bytes()) {
        Ok(name) if right && !OWN.contains(&name.as_str()) => Some(name),
        Ok(_) if right => {
            checker.error(problem(format!("`{key}` is a header that the gateway writes itself")));
            None
        }
        _ => {
            let instead: String = key.chars().take(64).map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let instead = instead.trim_matches('-').to_owned();
            let problem = problem(format!("`{}` is not the name of a header", shown(key))).label("letters, digits and -; _ is dropped by many servers");
            checker.error(if instead.is_empty() { problem } else { problem.write(instead) });
            None
        }
    }
}
