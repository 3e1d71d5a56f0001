//! `routes`: from its sections, with the defaults of `hosts`, to [`RouteConfig`].
//!
//! What is wrong with one route is reported here or in `resource`; what is wrong between routes, `routing` says.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::checker::{Checker, Keys};
use super::created::{self, Created};
use super::description::Section;
use super::guard;
use super::hosts::{Defaults, Hosts, cors, identity_headers, scopes_match};
use super::methods::method_scopes;
use super::names::Names;
use super::problem::{Problem, Span};
use super::resource::{self, Path};
use super::tree::{Node, Value};
use super::values::{duration_or_zero, host, list, only_true, scalar, word};
use crate::authorization_server;
use crate::path::OptIns;
use crate::routing::{
    Access, Claim, HostPattern, MethodScopes, Pattern, PatternProblem, PatternProblemKind, Place, Protect, ResourceChoice, Rewrite, RouteConfig, RouteTable,
    ScopesMatch, Upgrade, unused_parameters,
};

const HOUR: Duration = Duration::from_secs(3600);

/// What routes refer to.
pub(super) struct Surroundings<'a> {
    pub(super) servers: &'a Names<Arc<authorization_server::Config>>,
    pub(super) upstreams: &'a Names<usize>,
    pub(super) hosts: &'a Hosts,
    /// The first upstream that has one of its servers, for each upstream at its place.
    pub(super) contents: &'a [usize],
    /// The headers that carry the credential of each upstream, at its place.
    pub(super) credential_headers: &'a [Vec<HeaderName>],
    pub(super) body_limit: Option<u64>,
}

/// All routes that could be read, also those with mistakes in parts that do not matter between routes.
pub(super) fn routes(node: &Node, about: &'static Section, around: &Surroundings<'_>, checker: &mut Checker<'_>) -> Vec<RouteConfig> {
    let Value::List(items) = &node.value else {
        checker.error(Problem::at(node.span, "a list of routes is wanted").label("put `- ` in front of each"));
        return Vec::new();
    };
    if items.is_empty() {
        checker.error(Problem::at(node.span, "no route stands here, so nothing could pass").write("[ { path: \"/public/**\", public: true } ]"));
    }
    let routes: Vec<RouteConfig> = items.iter().filter_map(|item| route(item, about, around, checker)).collect();
    between(&routes, items, checker);
    by_uris(&routes, checker);
    unused_hosts(&routes, around.hosts, checker);
    routes
}

fn route(node: &Node, about: &'static Section, around: &Surroundings<'_>, checker: &mut Checker<'_>) -> Option<RouteConfig> {
    let keys = checker.section(node, first_key(node), about)?;
    let host_span = keys.key_span("host");
    let host = keys.read("host", checker, host);
    let nothing = Defaults::default();
    let defaults = host.as_ref().and_then(|host| around.hosts.iter().find(|(name, _)| name == host)).map_or(&nothing, |(_, defaults)| defaults);
    let pattern = keys.entry("path").and_then(|entry| pattern(&entry.value, checker).map(|pattern| (pattern, entry.value.span)));
    let upstream = upstream(&keys, defaults, around, checker);
    let access = access(&keys, defaults, pattern.as_ref().map(|(pattern, span)| Path { pattern, span: *span }), around, checker);
    let rewrite = keys.entry("rewrite").and_then(|entry| {
        let text = scalar(&entry.value, checker, "a path")?;
        // Where the route's own path is wrong, what its rewrite may name is not known.
        let (pattern, _) = pattern.as_ref()?;
        Rewrite::parse(text, pattern).map_err(|problem| checker.error(resource::template_problem(&entry.value, &problem))).ok()
    });
    let cors = keys.open("cors", checker).map(|keys| cors(&keys, checker));
    let identity_headers = keys.read("identity_headers", checker, identity_headers);
    let identity_headers = identity_headers.unwrap_or_else(|| defaults.identity_headers.clone());
    let cors = match &access {
        Access::Guard(found) => {
            guard::of_route(&keys, found, &identity_headers, checker);
            None
        }
        Access::Public | Access::Protect(_) => cors.unwrap_or_else(|| defaults.cors.clone()),
    };
    both_identity_and_credential(&keys, &identity_headers, around.credential_headers.get(upstream), checker);
    let upgrades =
        keys.read("upgrade", checker, |node, checker| list(node, checker, |node, checker| word(node, checker, &[("websocket", Upgrade::WebSocket)])));
    let upgrade_grace = keys.read("upgrade_grace", checker, |node, checker| duration_or_zero(node, checker, HOUR));
    let covers_protected = keys.read("covers_protected", checker, only_true).is_some();
    let opt_in = |name: &'static str, checker: &mut Checker<'_>| keys.read(name, checker, only_true).is_some();
    let opt_ins = OptIns {
        encoded_slash: opt_in("encoded_slash", checker),
        encoded_percent: opt_in("encoded_percent", checker),
        semicolon: opt_in("semicolon", checker),
    };
    let covers_all = keys.read("covers", checker, |node, checker| word(node, checker, &[("all", ())])).is_some();
    if host_span.is_some() && host.is_none() {
        return None;
    }
    let (pattern, place) = pattern?;
    Some(RouteConfig {
        place: place.place,
        host: host.and_then(|host| HostPattern::parse(&host).ok()).unwrap_or(HostPattern::Any),
        pattern,
        upstream,
        content: around.contents.get(upstream).copied().unwrap_or(upstream),
        upstream_name: around.upstreams.all.get(upstream).map_or_else(|| Arc::from(""), |(name, _)| Arc::from(&**name)),
        access,
        rewrite,
        cors,
        identity_headers,
        body_limit: around.body_limit,
        upgrades: upgrades.unwrap_or_default(),
        upgrade_grace: upgrade_grace.unwrap_or_default(),
        covers_all,
        covers_protected,
        opt_ins,
    })
}

/// `covers: all` where no parameter is left for it to cover.
fn covers_nothing(route: &Keys<'_>, path: Option<Path<'_>>, resource: Option<&ResourceChoice>, checker: &mut Checker<'_>) {
    // A rewrite that drops a parameter is what it is for, too.
    if let (Some(span), Some(path), Some(resource)) = (route.key_span("covers"), path, resource)
        && !route.names("rewrite")
        && unused_parameters(path.pattern, resource).is_empty()
    {
        let why = if path.pattern.parameters().next().is_none() { "the path has no parameter" } else { "the resource uses every parameter of the path" };
        checker.warn(Problem::at(span, format!("`covers: all` has no effect here: {why}")).label("leave it out"));
    }
}

/// A header that would say who asks where the upstream looks for the gateway's own credential.
fn both_identity_and_credential(keys: &Keys<'_>, identity: &[(HeaderName, Claim)], credential: Option<&Vec<HeaderName>>, checker: &mut Checker<'_>) {
    for (name, _) in identity.iter().filter(|(name, _)| credential.is_some_and(|names| names.contains(name))) {
        let span = keys.key_span("identity_headers").unwrap_or(keys.span);
        checker.error(Problem::at(span, format!("`{name}` carries the credential of this route's upstream")).label("another header for the identity"));
    }
}

/// A route has no key that names it: its first key stands for it.
fn first_key(node: &Node) -> Span {
    match &node.value {
        Value::Map(entries) => entries.first().map_or(node.span, |entry| entry.key_span),
        _ => node.span,
    }
}

pub(super) fn pattern(node: &Node, checker: &mut Checker<'_>) -> Option<Pattern> {
    let text = scalar(node, checker, "a path")?;
    let pattern = Pattern::parse(text).map_err(|problem| checker.error(pattern_problem(node, &problem))).ok()?;
    if let Some((offset, instead)) = pattern.as_elsewhere() {
        let name = text.get(offset..).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let what = if name.starts_with(':') { "parameter" } else { "pattern" };
        let problem =
            Problem::at(resource::part(node, offset, name.len()), format!("`{}` is a name like any other here, and no {what}", super::problem::shown(name)));
        checker.warn(problem.write(super::problem::shown(&instead)));
    }
    Some(pattern)
}

fn pattern_problem(node: &Node, problem: &PatternProblem) -> Problem {
    let shown = Problem::at(resource::part(node, problem.offset, problem.length), problem.to_string());
    let shown = match problem.kind {
        PatternProblemKind::RestNotLast => shown.label("one segment in the middle is `{name}`"),
        _ => shown,
    };
    let folder = match &node.value {
        Value::Scalar { text, .. } if problem.kind == PatternProblemKind::Asterisk => text.strip_suffix("/*").filter(|folder| Pattern::parse(folder).is_ok()),
        _ => None,
    };
    match (&problem.instead, folder) {
        (Some(instead), _) => shown.write(super::problem::shown(instead)),
        (None, Some(folder)) => shown.write(format!("{0}/**      or {0}/{{name}} for one segment", super::problem::shown(folder))),
        (None, None) => shown,
    }
}

/// The upstream's place; 0 where it has a mistake, which has been reported then.
fn upstream(keys: &Keys<'_>, defaults: &Defaults, around: &Surroundings<'_>, checker: &mut Checker<'_>) -> usize {
    let found = match keys.entry("upstream") {
        Some(entry) => {
            scalar(&entry.value, checker, "the name of an upstream").and_then(|name| around.upstreams.find(Some((name, entry.value.span)), keys.span, checker))
        }
        None if keys.names("upstream") => None,
        None => match defaults.upstream {
            Some(given) => given,
            None => around.upstreams.find(None, keys.span, checker),
        },
    };
    found.unwrap_or(0)
}

fn access(keys: &Keys<'_>, defaults: &Defaults, path: Option<Path<'_>>, around: &Surroundings<'_>, checker: &mut Checker<'_>) -> Access {
    let public = keys.read("public", checker, only_true).is_some();
    let matching = keys.read("scopes_match", checker, scopes_match);
    let misplaced = |names: &[&'static str], why: &str, checker: &mut Checker<'_>| {
        for span in names.iter().filter_map(|name| keys.key_span(name)) {
            checker.error(Problem::at(span, why).label("leave it out"));
        }
    };
    if let Some(protect) = keys.open("protect", checker) {
        if is_guard(&protect, checker) {
            return Access::Guard(guard::guard(&protect, checker).unwrap_or_else(guard::stand_in));
        }
        if !keys.names("rewrite") {
            misplaced(&["covers_protected"], "only a public route covers protected ones, or one with `rewrite`", checker);
        }
        let scopes_match = matching.or(defaults.scopes_match).unwrap_or_default();
        return Access::Protect(Protect { scopes_match, ..protected(&protect, keys, defaults, path, around, checker) });
    }
    if public {
        misplaced(&["scopes_match", "covers"], "a public route needs no permission", checker);
        if let Some(span) = keys.key_span("identity_headers") {
            let problem = Problem::at(span, "`identity_headers` has no effect here: on a public route nobody is known");
            checker.warn(problem.label("leave it out"));
        }
    }
    Access::Public
}

/// Who says whether somebody may pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Uma,
    Guard,
}

/// What is meant for a guard is read as one, so that no other mistakes are made of it.
fn is_guard(protect: &Keys<'_>, checker: &mut Checker<'_>) -> bool {
    let mode = protect.read("mode", checker, |node, checker| word(node, checker, &[("uma", Mode::Uma), ("guard", Mode::Guard)]));
    let accepts = protect.entry("accept");
    if let Some(entry) = accepts.filter(|_| mode == Some(Mode::Uma) || !protect.names("mode")) {
        checker.error(Problem::at(entry.key_span, "`accept` says what a guard accepts, and this route is none").write("mode: guard"));
    }
    mode == Some(Mode::Guard) || (accepts.is_some() && !protect.names("resource"))
}

fn protected(keys: &Keys<'_>, route: &Keys<'_>, defaults: &Defaults, path: Option<Path<'_>>, around: &Surroundings<'_>, checker: &mut Checker<'_>) -> Protect {
    let server = match keys.entry("authorization_server") {
        Some(entry) => scalar(&entry.value, checker, "the name of an authorization server")
            .and_then(|name| around.servers.find(Some((name, entry.value.span)), keys.span, checker)),
        None if keys.names("authorization_server") => None,
        None => match &defaults.server {
            Some(given) => given.clone(),
            None => around.servers.find(None, keys.span, checker),
        },
    };
    let scopes = match keys.entry("scopes") {
        Some(entry) => method_scopes(&entry.value, checker),
        None if keys.names("scopes") => None,
        None => defaults.scopes.clone().unwrap_or_else(|| missing_scopes(keys.span, checker)),
    };
    let needed = scopes.as_ref();
    if server.as_ref().is_some_and(|server| !server.speaks_uma()) {
        let resource = resource::of_token(keys, needed, checker);
        let server = server.unwrap_or_else(|| Arc::new(super::servers::stand_in("")));
        // Read, so that it counts as known; what stands there has been refused.
        let _ = keys.entry("resource");
        created::misplaced(keys, "here: this authorization server knows no resources", checker);
        return Protect { place: keys.span.place, ..protect(server, resource, scopes, Created::default()) };
    }
    if !keys.names("resource") {
        let problem = Problem::at(keys.span, "`resource` is missing: `protect` needs it");
        checker.error(problem.write("resource: { id: a1b0c2d3 }"));
    }
    let resource = keys.entry("resource").and_then(|entry| {
        let keys = keys.open("resource", checker)?;
        let found = resource::resource(&keys, &entry.value, path, needed, route.names("covers"), checker);
        if let (Some(server), Some(found)) = (&server, &found) {
            resource::has_pat(server, found, entry.value.span, checker);
            resource::finds_uris(server, found, entry.value.span, checker);
        }
        covers_nothing(route, path, found.as_ref(), checker);
        found
    });
    let created = created::created(keys, needed, resource.as_ref(), checker);
    let server = server.unwrap_or_else(|| Arc::new(super::servers::stand_in("")));
    let place = keys.key_span("resource").unwrap_or(keys.span).place;
    Protect { place, ..protect(server, resource.unwrap_or_else(resource::stand_in), scopes, created) }
}

fn protect(server: Arc<authorization_server::Config>, resource: ResourceChoice, scopes: Option<MethodScopes>, created: Created) -> Protect {
    let Created { on_create, unregister_on_delete } = created;
    let (place, scopes_match) = (Place::default(), ScopesMatch::default());
    Protect { server, resource, place, scopes: scopes.unwrap_or_default(), scopes_match, on_create, unregister_on_delete }
}

fn missing_scopes(span: Span, checker: &mut Checker<'_>) -> Option<MethodScopes> {
    let problem = Problem::at(span, "`scopes` is missing: a protected route says which method needs what");
    checker.error(problem.write("scopes: { GET: [view], \"PUT, DELETE\": [edit] }"));
    None
}

/// Contradictions between routes, each shown at the path of the route that should change.
fn between(routes: &[RouteConfig], items: &[Node], checker: &mut Checker<'_>) {
    let Err(problems) = RouteTable::new(routes.to_vec()) else { return };
    for problem in problems {
        let place = problem.place();
        let paths = items.iter().filter_map(|item| match &item.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == "path").map(|entry| entry.value.span),
            _ => None,
        });
        let span = paths.into_iter().find(|span| span.place == place).unwrap_or(Span::at(place));
        checker.error(Problem::at(span, problem.to_string()).hint(problem.help()));
    }
}

/// Resources that are looked up at a server by the path.
fn by_uris(routes: &[RouteConfig], checker: &mut Checker<'_>) {
    let looked_up = |route: &&RouteConfig| matches!(&route.access, Access::Protect(protect) if matches!(protect.resource, ResourceChoice::Uris));
    routes.iter().filter(looked_up).for_each(|route| one_reading(route, "uris", "a resource", checker));
}

/// What is found by the path needs one reading of it.
pub(super) fn one_reading(route: &RouteConfig, key: &str, what: &str, checker: &mut Checker<'_>) {
    if let Some(name) = route.opt_ins.names().next() {
        let message = format!("`{name}` and `{key}` do not go together: {what} is found by a path that has one reading");
        checker.error(Problem::at(Span::at(route.place), message).label("leave one of them out"));
    }
}

fn unused_hosts(routes: &[RouteConfig], hosts: &Hosts, checker: &mut Checker<'_>) {
    for (name, defaults) in hosts {
        let pattern = HostPattern::parse(name).ok();
        if let Some(span) = defaults.span.filter(|_| !routes.iter().any(|route| Some(&route.host) == pattern.as_ref())) {
            checker.warn(Problem::at(span, format!("no route has `host: {name}`")).label("these defaults have no effect"));
        }
    }
}
