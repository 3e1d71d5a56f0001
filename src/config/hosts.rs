//! `hosts`: defaults for the routes of a host, and the shapes that hosts and routes share (`cors`, `identity_headers`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::checker::{Checker, Keys};
use super::description::Section;
use super::methods::method_scopes;
use super::names::Names;
use super::problem::{Problem, shown};
use super::tree::{Node, Value};
use super::upstreams::header_entries;
use super::values::{Wrong, boolean, duration, host, list, parse_url, parsed, scalar, word};
use crate::authorization_server;
use crate::routing::{Claim, Cors, MethodScopes, ScopesMatch};

/// What a host gives to its routes. The outer `Option`: whether it says so; the inner one: whether it could be read.
#[derive(Default)]
pub(super) struct Defaults {
    /// Where the host is named.
    pub(super) span: Option<super::problem::Span>,
    pub(super) upstream: Option<Option<usize>>,
    pub(super) server: Option<Option<Arc<authorization_server::Config>>>,
    pub(super) scopes: Option<Option<MethodScopes>>,
    pub(super) scopes_match: Option<ScopesMatch>,
    pub(super) cors: Option<Cors>,
    pub(super) identity_headers: Vec<(HeaderName, Claim)>,
}

/// Each host of the file with its defaults.
pub(super) type Hosts = Vec<(Box<str>, Defaults)>;

/// The section `hosts`.
pub(super) fn hosts(
    node: &Node,
    about: &'static Section,
    servers: &Names<Arc<authorization_server::Config>>,
    upstreams: &Names<usize>,
    checker: &mut Checker<'_>,
) -> Hosts {
    let Value::Map(entries) = &node.value else {
        checker.error(
            Problem::at(node.span, format!("hosts are wanted, each with its defaults, and here stands {}", node.kind())).write("{ www.example.org: { … } }"),
        );
        return Vec::new();
    };
    let mut hosts: Hosts = Vec::new();
    for entry in entries {
        let key = Node { span: entry.key_span, value: Value::Scalar { text: entry.key.clone(), plain: false } };
        let name = host(&key, checker);
        let defaults = checker.section(&entry.value, entry.key_span, about).map(|keys| defaults(&keys, servers, upstreams, checker)).unwrap_or_default();
        if let Some(name) = name {
            if hosts.iter().any(|(other, _)| *other == name) && !hosts.iter().any(|(other, _)| **other == *entry.key) {
                checker.error(Problem::at(entry.key_span, format!("the host `{name}` stands twice: case makes no difference")));
            }
            hosts.push((name, defaults));
        }
    }
    hosts
}

fn defaults(keys: &Keys<'_>, servers: &Names<Arc<authorization_server::Config>>, upstreams: &Names<usize>, checker: &mut Checker<'_>) -> Defaults {
    let upstream = keys.entry("upstream").map(|entry| {
        let name = scalar(&entry.value, checker, "the name of an upstream")?;
        upstreams.find(Some((name, entry.value.span)), keys.span, checker)
    });
    let server = keys.entry("authorization_server").map(|entry| {
        let name = scalar(&entry.value, checker, "the name of an authorization server")?;
        servers.find(Some((name, entry.value.span)), keys.span, checker)
    });
    Defaults {
        span: Some(keys.span),
        upstream,
        server,
        scopes: keys.entry("scopes").map(|entry| method_scopes(&entry.value, checker)),
        scopes_match: keys.read("scopes_match", checker, scopes_match),
        cors: keys.open("cors", checker).and_then(|keys| cors(&keys, checker)),
        identity_headers: keys.read("identity_headers", checker, identity_headers).unwrap_or_default(),
    }
}

/// `all` or `any`.
pub(super) fn scopes_match(node: &Node, checker: &mut Checker<'_>) -> Option<ScopesMatch> {
    word(node, checker, &[("all", ScopesMatch::All), ("any", ScopesMatch::Any)])
}

/// `cors`.
pub(super) fn cors(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Cors> {
    let origins = keys.read("origins", checker, |node, checker| {
        let origins = list(node, checker, origin)?;
        if origins.is_empty() {
            checker.error(Problem::at(node.span, "no origin stands here").label("name one, or leave `cors` out"));
            return None;
        }
        if origins.len() > 1 && origins.iter().any(|origin| origin == "*") {
            checker.error(Problem::at(node.span, "`*` stands alone: it is every origin"));
            return None;
        }
        Some(origins)
    });
    let credentials = keys.read("credentials", checker, boolean).unwrap_or(false);
    let max_age = keys.read("max_age", checker, |node, checker| duration(node, checker, Duration::ZERO, Duration::from_secs(24 * 3600)));
    let origins = origins?;
    if credentials && origins.iter().any(|origin| origin == "*") {
        let problem = Problem::at(keys.key_span("credentials").unwrap_or(keys.span), "`credentials` needs named origins: browsers refuse it with `*`");
        checker.error(problem);
        return None;
    }
    Some(Cors { origins, credentials, max_age: max_age.unwrap_or(Duration::from_secs(600)) })
}

/// A web origin as browsers write it: lower case, no path, no default port (RFC 6454, 6.2).
fn origin(node: &Node, checker: &mut Checker<'_>) -> Option<HeaderValue> {
    parsed(node, checker, "an origin", |text| {
        if text == "*" {
            return Ok(HeaderValue::from_static("*"));
        }
        if text == "null" {
            return Err(Wrong::because("every sandboxed page has it"));
        }
        let uri = parse_url(text)?;
        let scheme = uri.scheme_str().unwrap_or("https");
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let port = uri.port_u16().filter(|port| !matches!((scheme, *port), ("https", 443) | ("http", 80)));
        let right = format!("{scheme}://{host}{}", port.map(|port| format!(":{port}")).unwrap_or_default());
        match HeaderValue::from_str(&right) {
            Ok(value) if right == text && !host.contains('*') => Ok(value),
            _ if host.contains('*') => Err(Wrong::because("each origin by its full name")),
            _ => Err(Wrong::because("as browsers write it: scheme, host in lower case, port if it is not the usual one").write(right)),
        }
    })
}

/// `identity_headers`.
pub(super) fn identity_headers(node: &Node, checker: &mut Checker<'_>) -> Option<Vec<(HeaderName, Claim)>> {
    let entries = header_entries(node, checker)?;
    let read: Vec<_> = entries
        .into_iter()
        .map(|(name, entry)| {
            let name = name.filter(|name| {
                let spoken = matches!(name.as_str(), "authorization" | "cookie");
                if spoken {
                    checker.error(Problem::at(entry.key_span, format!("`{}` carries credentials, not an identity", shown(&entry.key))));
                }
                !spoken
            });
            Some((name?, parsed(&entry.value, checker, "a claim", claim)?))
        })
        .collect();
    read.into_iter().collect()
}

fn claim(text: &str) -> Result<Claim, Wrong> {
    match text {
        "sub" => Ok(Claim::Subject),
        "username" | "preferred_username" => Ok(Claim::Username),
        "client_id" | "azp" => Ok(Claim::Client),
        "subject" | "user" => Err(Wrong::because("did you mean `sub` or `username`?")),
        "client" => Err(Wrong::because("did you mean `client_id`?")),
        _ if text.contains(['{', '}']) || text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err(Wrong::because("the name of a member of the introspection answer").write("sub"))
        }
        _ => Ok(Claim::Other(Arc::from(text))),
    }
}
