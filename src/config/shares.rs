//! The section `shares`, and what routes and shares want of each other.

use std::sync::Arc;

use super::checker::{Checker, Keys};
use super::created;
use super::doors::{Taken, free_address};
use super::methods::scope;
use super::names::Names;
use super::problem::{Problem, Span, shown};
use super::resource::part;
use super::routes::one_reading;
use super::secrets::secret;
use super::tree::Node;
use super::values::{Wrong, number, parse_url, parsed, scalar, socket, word};
use crate::authorization_server;
use crate::routing::{HostPattern, Pattern, Protect, ResourceChoice, RouteConfig, Segment, ServedHosts};
use crate::secret::Secret;
use crate::shares::{Config, OwnerClaim, Where};
use crate::uma::Scope;

/// Where links are when nothing else is said.
const PREFIX: &str = "/s";
/// Octets of a key that nobody guesses.
const KEY: usize = 32;
/// How many shares an owner may have when nothing else is said, and at most.
const PER_OWNER: (u64, u64) = (1000, 1_000_000);

/// `shares`.
pub(super) fn shares(keys: &Keys<'_>, servers: &Names<Arc<authorization_server::Config>>, taken: &mut Taken, checker: &mut Checker<'_>) -> Option<Config> {
    if cfg!(not(feature = "store")) {
        checker.error(Problem::at(keys.span, "this gateway was built without records").label("leave `shares` out, or take a build with the feature `store`"));
    }
    let socket = keys.read("socket", checker, socket);
    let address = free_address(keys, taken, checker);
    let server = server(keys, servers, checker);
    let scope = keys.read("scope", checker, one_scope);
    let owner = keys.read("owner", checker, |node, checker| word(node, checker, &[("sub", OwnerClaim::Subject), ("username", OwnerClaim::Username)]));
    let admin_key = keys.read("admin_key", checker, admin_key);
    let public = keys.read("public_url", checker, public_url);
    let prefix = match keys.entry("prefix") {
        Some(entry) => prefix(&entry.value, checker),
        None => Some(Arc::from(PREFIX)),
    };
    let per_owner = keys.read("per_owner", checker, |node, checker| number(node, checker, 1, PER_OWNER.1));
    let at = socket.map(Where::Socket).or(address.map(Where::Address));
    let (public_url, host) = public?;
    let (server, scope, per_owner) = (server?, scope?, per_owner.unwrap_or(PER_OWNER.0));
    Some(Config { at: at?, server, scope, owner: owner.unwrap_or_default(), admin_key, public_url, host, prefix: prefix?, per_owner })
}

/// The operator's key: nothing else stands between a guess and everybody's shares.
fn admin_key(node: &Node, checker: &mut Checker<'_>) -> Option<Secret> {
    let key = secret(node, checker)?;
    let octets = key.expose().len();
    // Where secrets are not read it says nothing.
    if checker.environment.is_some() && octets < KEY {
        let problem = Problem::at(node.span, format!("the key has {octets} octets: whoever guesses it shares for every owner"));
        checker.error(problem.hint("make one   openssl rand -base64 32"));
    }
    Some(key)
}

fn one_scope(node: &Node, checker: &mut Checker<'_>) -> Option<Scope> {
    parsed(node, checker, "one scope", |text| if text.contains(' ') { Err(Wrong::because("without blanks")) } else { Ok(()) })?;
    scope(node, checker)
}

fn server(keys: &Keys<'_>, servers: &Names<Arc<authorization_server::Config>>, checker: &mut Checker<'_>) -> Option<Arc<authorization_server::Config>> {
    let (server, span) = match keys.entry("authorization_server") {
        Some(entry) => {
            let name = scalar(&entry.value, checker, "the name of an authorization server")?;
            (servers.find(Some((name, entry.value.span)), keys.span, checker)?, entry.value.span)
        }
        None => (servers.find(None, keys.span, checker)?, keys.span),
    };
    if !server.speaks_uma() {
        checker.error(Problem::at(span, "this authorization server knows no resources: its profile is `oauth`").label("nothing can be shared by it"));
        return None;
    }
    Some(server)
}

/// The address without a slash at the end, and its host.
fn public_url(node: &Node, checker: &mut Checker<'_>) -> Option<(Arc<str>, Box<str>)> {
    parsed(node, checker, "the address of the gateway, as the world has it", |text| {
        let url = parse_url(text)?;
        let bare = text.trim_end_matches('/');
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        if !matches!(url.path(), "" | "/") || url.query().is_some() || host.is_empty() {
            let authority = url.authority().map_or("photos.example.org", http::uri::Authority::as_str);
            return Err(Wrong::because("scheme and host alone; `prefix` says the path").write(format!("{}://{authority}", url.scheme_str().unwrap_or("https"))));
        }
        Ok((Arc::from(bare), host.into()))
    })
}

fn prefix(node: &Node, checker: &mut Checker<'_>) -> Option<Arc<str>> {
    let text = scalar(node, checker, "a path")?;
    let problem = match Pattern::parse(text) {
        Ok(pattern) if pattern.rest || pattern.segments.is_empty() || pattern.parameters().next().is_some() => {
            Problem::at(node.span, "links are below a literal path").write(PREFIX)
        }
        Ok(pattern) => return Some(pattern.text),
        Err(problem) => {
            let shown_there = Problem::at(part(node, problem.offset, problem.length), problem.to_string());
            shown_there.write(shown(problem.instead.as_deref().unwrap_or(PREFIX)))
        }
    };
    checker.error(problem);
    None
}

/// What only the whole file shows: that shares have records and routes, that routes have shares, and that links are nobody else's.
pub(super) fn together(file: &Keys<'_>, shares: Option<&Config>, routes: &[RouteConfig], checker: &mut Checker<'_>) {
    let span = file.key_span("shares");
    if let Some(span) = span.filter(|_| !file.names("store")) {
        let problem = Problem::at(span, "`store` is missing: what owners share is kept there");
        checker.error(problem.write("store: { file: records.db, key: { file: store-key } }"));
    }
    let shared: Vec<(&RouteConfig, &Protect)> = routes.iter().filter_map(|route| Some((route, shared(route)?))).collect();
    let missing = |route: &RouteConfig, why: &str| {
        let problem = Problem::at(Span::at(route.place), format!("`shares` is missing: {why}"));
        problem.write("shares: { address: 127.0.0.1:9092, scope: share, public_url: \"https://photos.example.org\" }")
    };
    for (route, protect) in &shared {
        let at = |message: String| Problem::at(Span::at(route.place), message);
        if span.is_none() {
            checker.error(missing(route, "this route's resources are what owners have shared"));
        }
        if let Some(shares) = shares.filter(|shares| shares.server.issuer != protect.server.issuer) {
            let message = format!("the owners of `{}` share, and `{}` decides here", shown(&shares.server.name), shown(&protect.server.name));
            checker.error(at(message).hint("use     the same authorization server in `shares` and in the route"));
        }
        one_reading(route, "shared", "a share", checker);
        if protect.resource.owner().is_none() && shares.is_some_and(|shares| shares.admin_key.is_none()) {
            let problem = at("nobody could share anything here: the route names no `owner`, and `shares` no `admin_key`".to_owned());
            checker.warn(problem.hint("add     `owner` to its resource, or `admin_key` to `shares`"));
        }
    }
    if let Some((route, ..)) = routes.iter().find_map(created::registering).filter(|_| span.is_none() && shared.is_empty()) {
        checker.error(missing(route, "what is created here is registered for its owner"));
    }
    created::together(shares, routes, &shared, checker);
    if let Some(shares) = shares {
        hosts(shares, &shared, checker);
        clashes(shares, routes, checker);
    }
    if let Some(span) = span.filter(|_| shared.is_empty() && !routes.is_empty()) {
        let problem = Problem::at(span, "no route lets owners share anything");
        checker.warn(problem.label("a route does so by `protect: { resource: { shared: true, owner: … } }`"));
    }
}

/// A path is shared for one site: two hosts would be one record.
fn hosts(shares: &Config, shared: &[(&RouteConfig, &Protect)], checker: &mut Checker<'_>) {
    let first = shared.first().map(|(route, _)| &route.host);
    for (route, _) in shared {
        let at = |message: String| Problem::at(Span::at(route.place), message);
        if !route.host.matches(&shares.host) {
            let problem = at(format!("shares are at {}, the host of `public_url`, and this route is for {}", shares.host, route.host));
            checker.error(problem.hint("use     the same host, or none"));
        } else if first.is_some_and(|first| *first != route.host) {
            checker.error(at("routes whose resources are shared have the same `host`, or none".to_owned()).hint("use     the `host` of the first of them"));
        }
    }
}

/// Routes below the path of links, which would never be reached.
fn clashes(shares: &Config, routes: &[RouteConfig], checker: &mut Checker<'_>) {
    let prefix: Vec<&str> = shares.prefix.split('/').skip(1).collect();
    let elsewhere = |route: &RouteConfig| route.host != HostPattern::Any && !route.host.matches(&shares.host);
    for route in routes.iter().filter(|route| !elsewhere(route)) {
        let literals = route.pattern.segments.iter().map_while(|segment| match segment {
            Segment::Literal(literal) => Some(&**literal),
            Segment::Parameter(_) => None,
        });
        let literals: Vec<&str> = literals.collect();
        let alike = |one: &str, other: &str| crate::path::alike(one) == crate::path::alike(other);
        if literals.len() >= prefix.len() && literals.iter().zip(&prefix).all(|(one, other)| alike(one, other)) {
            let problem = Problem::at(Span::at(route.place), format!("shareable links are below {}: this route would be theirs", shares.prefix));
            checker.error(problem.hint("use     another path, or another `prefix` in `shares`"));
        }
    }
}

fn shared(route: &RouteConfig) -> Option<&Protect> {
    match &route.access {
        crate::routing::Access::Protect(protect) => Some(protect).filter(|protect| matches!(protect.resource, ResourceChoice::Shared { .. })),
        crate::routing::Access::Public | crate::routing::Access::Guard(_) => None,
    }
}

/// Links at a host that no listener serves.
pub(super) fn unserved(shares: &Config, span: Span, served: &[ServedHosts], checker: &mut Checker<'_>) {
    let here = HostPattern::Exact(shares.host.clone());
    if !served.iter().any(|hosts| hosts.overlaps(&here)) {
        checker.error(
            Problem::at(span, format!("no listener serves {}, the host of `public_url`: links would lead nowhere", shares.host))
                .hint("add the host to the `hosts` of a listener, or leave those out to serve any"),
        );
    }
}
