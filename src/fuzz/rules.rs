//! Target `rules`: any routes and any requests; the compiled table against a list that is tried route by route.
//!
//! One line is one route (`public HOST PATH WORDS…`, `protect HOST PATH WORDS…`; `-` is any host) or one request (`HOST TARGET`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

use super::accepted::Tables;
use super::lenient::{decoded, segments};
use crate::authorization_server::testing;
use crate::path::{CanonicalPath, OptIns};
use crate::routing::{
    Access, Authority, Cors, HostPattern, MethodScopes, Pattern, Place, Protect, ResourceChoice, Rewrite, RouteConfig, RouteTable, ScopesMatch, Segment,
    Template, Upgrade, public_at_another_host, unused_parameters,
};
use crate::uma::Scope;

const MOST_LINES: usize = 40;

/// Reads the lines, compiles the routes, and asks for each request in both ways.
pub fn rules(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(tables) = table(text) else { return };
    let mut named = Named::default();
    for line in text.lines().take(MOST_LINES) {
        let mut words = line.split(' ');
        let (Some(host), Some(target), None) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(authority) = Authority::parse(host.as_bytes()) else { continue };
        one_spelling(&authority);
        let Ok(path) = CanonicalPath::parse_within(target, OptIns { encoded_slash: true, encoded_percent: true, semicolon: true }) else { continue };
        if target.len() <= 160 {
            tables.look_up(authority.host(), &path);
            open_only_inside(&tables, authority.host(), &path);
            rewritten(&tables, authority.host(), &path);
            named.once(&tables, authority.host(), &path);
            alone(&tables, &path);
            at_two_hosts(&tables, &path);
        }
    }
}

/// A resource as a route names it: the route, the name and the owner.
type OfRoute = (Place, Arc<str>, Option<Arc<str>>);

/// What the paths' parameters were that led to a name and owner by a route.
#[derive(Default)]
struct Named(HashMap<OfRoute, Vec<String>>);

impl Named {
    /// No two paths of a route name one resource, where the route does not say that it is meant for all.
    fn once(&mut self, tables: &Tables, host: &str, path: &CanonicalPath) {
        let Some(found) = tables.table.find(host, path) else { return };
        let config = found.route.config();
        let admitted = config.opt_ins;
        // Nothing else gets as far as a name.
        if CanonicalPath::parse_within(path.as_str(), admitted).is_err() || config.covers_all {
            return;
        }
        let Some((name, owner)) = found.route.protect().and_then(|protect| protect.resource.named()) else { return };
        let fill = |template: &Template| template.fill(&found.params, path);
        let key = (config.place, fill(name), owner.map(fill));
        let values: Vec<String> =
            (0..config.pattern.parameters().count()).map(|place| crate::path::decoded(found.params.value(path, place)).into_owned()).collect();
        let before = self.0.entry(key).or_insert_with(|| values.clone());
        assert_eq!(*before, values, "{path} by {}", name.text);
    }
}

/// A pattern by itself takes what the list says that it takes.
fn alone(tables: &Tables, path: &CanonicalPath) {
    let own: Vec<Vec<u8>> = segments(path.as_str().as_bytes()).iter().map(|segment| decoded(segment)).collect();
    for (place, route) in tables.table.routes().iter().enumerate() {
        if let HostPattern::Exact(host) = &route.config().host {
            assert_eq!(route.config().pattern.takes(path.as_str()), tables.naive.matching(host, &own).contains(&place), "{path} by {}", route.config().pattern);
        }
    }
}

/// Where a path is public at one host and protected at another, that is told.
fn at_two_hosts(tables: &Tables, path: &CanonicalPath) {
    let configs: Vec<RouteConfig> = tables.table.routes().iter().map(|route| route.config().clone()).collect();
    let told = public_at_another_host(&configs);
    let takes = |route: &RouteConfig| route.rewrite.is_none() && route.pattern.takes(path.as_str());
    let is_public = |route: &RouteConfig| matches!(route.access, Access::Public);
    for public in configs.iter().filter(|route| is_public(route) && !route.covers_protected && takes(route)) {
        let HostPattern::Exact(here) = &public.host else { continue };
        let elsewhere = |other: &RouteConfig| matches!(&other.host, HostPattern::Exact(there) if there != here);
        let is_protected = configs.iter().any(|other| !is_public(other) && elsewhere(other) && takes(other));
        assert!(!is_protected || told.iter().any(|(route, _)| route.place == public.place), "nothing is told of {path} by {}", public.pattern);
    }
}

fn one_spelling(authority: &Authority) {
    assert_eq!(Authority::parse(authority.as_str().as_bytes()).as_ref(), Ok(authority));
    let host = authority.host();
    assert!(!host.is_empty() && !host.bytes().any(|byte| byte.is_ascii_uppercase() || b"/\\@?#, \t%".contains(&byte)), "{host}");
    assert!(authority.same_as(authority, 80));
}

/// A public route that takes a path which a protected one would take as well lies inside of it, or says that it is meant so.
fn open_only_inside(tables: &Tables, host: &str, path: &CanonicalPath) {
    let routes = tables.table.routes();
    let Some(found) = tables.table.find(host, path) else { return };
    let public = found.route.config();
    if found.route.protect().is_some() || public.covers_protected {
        return;
    }
    let own: Vec<Vec<u8>> = segments(path.as_str().as_bytes()).iter().map(|segment| decoded(segment)).collect();
    for place in tables.naive.matching(host, &own) {
        let Some(other) = routes.get(place).filter(|route| route.protect().is_some()) else { continue };
        let inside = samples(public).iter().all(|sample| {
            let host = if matches!(public.host, HostPattern::Any) { "any.invalid" } else { host };
            tables.naive.matching(host, sample).contains(&place)
        });
        assert!(inside, "{} is open at {path}, which {} protects", public.pattern, other.pattern());
    }
}

/// Paths that the pattern takes and that nobody else has thought of.
fn samples(route: &RouteConfig) -> Vec<Vec<Vec<u8>>> {
    let own: Vec<Vec<u8>> = route
        .pattern
        .segments
        .iter()
        .map(|segment| match segment {
            Segment::Literal(literal) => decoded(literal.as_bytes()),
            Segment::Parameter(_) => b"\x01nobody".to_vec(),
        })
        .collect();
    let more = [own.clone(), vec![b"\x01nobody".to_vec()]].concat();
    if route.pattern.rest { vec![own, more] } else { vec![own] }
}

/// What a rewrite makes of an accepted path is a path with one reading, and holds every parameter that the rewrite names.
fn rewritten(tables: &Tables, host: &str, path: &CanonicalPath) {
    let Some(found) = tables.table.find(host, path) else { return };
    let Some(rewrite) = &found.route.config().rewrite else { return };
    let Ok(sent) = rewrite.apply(&found.params, path) else { return };
    assert_eq!(CanonicalPath::parse_within(sent.as_str(), path.needs()).as_ref(), Ok(&sent));
    let mut expected = rewrite.template.text.strip_suffix("/{**}").unwrap_or(&rewrite.template.text).to_owned();
    for (place, name) in found.route.config().pattern.parameters().enumerate() {
        expected = expected.replace(&format!("{{{name}}}"), found.params.value(path, place));
    }
    if rewrite.rest {
        expected.push_str(found.params.rest(path));
    }
    let without_slash = |text: &str| text.trim_end_matches('/').to_owned();
    assert_eq!(without_slash(sent.as_str()), without_slash(&expected), "{path} by {}", rewrite.template.text);
}

/// The table that the lines make; `None` where a line is wrong or the routes contradict each other.
pub(super) fn table(text: &str) -> Option<Tables> {
    let lines = text.lines().take(MOST_LINES).enumerate();
    let of_routes = lines.filter(|(_, line)| line.starts_with("public ") || line.starts_with("protect "));
    let routes: Option<Vec<RouteConfig>> = of_routes.map(|(number, line)| route(number, line)).collect();
    match RouteTable::new(routes?) {
        Ok(table) => Some(Tables::new(table)),
        Err(problems) => {
            for problem in problems {
                assert!(problem.place().line > 0 && !problem.help().is_empty() && !problem.to_string().is_empty());
                assert!(problem.others().iter().all(|place| place.line > 0));
            }
            None
        }
    }
}

fn route(number: usize, line: &str) -> Option<RouteConfig> {
    let mut words = line.split(' ');
    let (access, host, path) = (words.next()?, words.next()?, words.next()?);
    let words: Vec<&str> = words.collect();
    let has = |word: &str| words.contains(&word);
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    let pattern = read_pattern(path)?;
    let names: Vec<Arc<str>> = pattern.parameters().cloned().collect();
    let resource = resource(&words, &names)?;
    // As `config/` has it: what is not used must be said.
    if access == "protect" && !has("all") && !unused_parameters(&pattern, &resource).is_empty() {
        return None;
    }
    let rewrite = match value("rewrite=") {
        Some(text) => Some(Rewrite::parse(text, &pattern).ok()?),
        None => None,
    };
    let scopes = MethodScopes { methods: vec![(Method::GET, [Scope("view".into())].into(), Place::default())], as_scope: false };
    let (server, place) = (Arc::new(testing::config()), Place::default());
    let protect = Protect { server, resource, place, scopes, scopes_match: ScopesMatch::All, on_create: None, unregister_on_delete: false };
    Some(RouteConfig {
        place: Place { line: u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1), column: 1 },
        host: if host == "-" { HostPattern::Any } else { HostPattern::parse(host).ok()? },
        pattern,
        upstream: 0,
        content: 0,
        upstream_name: "albums".into(),
        access: if access == "protect" { Access::Protect(protect) } else { Access::Public },
        rewrite,
        cors: has("cors").then(|| Cors {
            origins: vec![HeaderValue::from_static("https://app.example.org")],
            credentials: true,
            max_age: Duration::from_secs(60),
        }),
        identity_headers: Vec::new(),
        body_limit: has("limit").then_some(10),
        upgrades: if has("websocket") { vec![Upgrade::WebSocket] } else { Vec::new() },
        upgrade_grace: Duration::ZERO,
        covers_all: has("all"),
        covers_protected: has("covers"),
        opt_ins: OptIns { encoded_slash: has("slash"), encoded_percent: has("percent"), semicolon: has("semicolon") },
    })
}

/// `name=`, `register=`, `shared`, `uris`, else by an id; `owner=` beside the first three.
fn resource(words: &[&str], names: &[Arc<str>]) -> Option<ResourceChoice> {
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    let template = |text: &str| Template::parse(text, names).ok();
    let owner = match value("owner=") {
        Some(owner) => Some(template(owner)?),
        None => None,
    };
    Some(match (value("name="), value("register=")) {
        (Some(name), _) => ResourceChoice::Name { name: template(name)?, owner },
        (None, Some(name)) => ResourceChoice::Register { name: template(name).filter(Template::is_constant)?, kind: None, scopes: Arc::default(), owner },
        (None, None) if words.contains(&"shared") => ResourceChoice::Shared { owner },
        (None, None) if words.contains(&"uris") => ResourceChoice::Uris,
        (None, None) => ResourceChoice::Id { id: "r1".into(), owner: None },
    })
}

/// A problem of a pattern lies inside the text, and what is proposed instead is a pattern. Where it is written as other programs write it, what is proposed
/// is a pattern as well.
fn read_pattern(path: &str) -> Option<Pattern> {
    match Pattern::parse(path) {
        Ok(pattern) => {
            assert_eq!(&*pattern.text, path);
            if let Some((at, whole)) = pattern.as_elsewhere() {
                assert!(path.get(..at).is_some_and(|before| before.is_empty() || before.ends_with('/')), "{path:?}: {at}");
                assert!(whole != path && Pattern::parse(&whole).is_ok(), "{path:?}: {whole:?}");
            }
            Some(pattern)
        }
        Err(problem) => {
            assert!(path.get(problem.offset..problem.offset + problem.length).is_some(), "{path:?}: {problem:?}");
            None
        }
    }
}
