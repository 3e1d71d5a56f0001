//! The top of the file: opens each section in turn and puts the whole together.

use std::path::Path;
use std::sync::Arc;

use http::HeaderName;

use super::checker::{Checker, Environment, Keys};
use super::description::keys;
use super::hosts::{self, Hosts};
use super::mask::Hidden;
use super::names::{Names, named_entries};
use super::problem::{Problem, Problems, Span, shown};
use super::render::Source;
use super::routes::{self, Surroundings};
use super::tree::{Tree, Value};
use super::values::{list, network, number};
use super::{Gateway, Places, doors, guard, servers, shares, store, upstreams};
use crate::routing::{RouteConfig, ServedHosts};
use crate::{authorization_server, credentials, listener, upstream};

/// Reads the tree.
pub(super) fn read(tree: Tree, text: &str, file: &Path, environment: Option<Environment<'_>>) -> Result<Gateway, Problems> {
    let mut checker = Checker {
        errors: tree.problems,
        warnings: Vec::new(),
        files: Vec::new(),
        hidden: Hidden::by_name(&tree.root),
        directory: file.parent().unwrap_or(Path::new("")),
        environment,
    };
    let start = Span::new(1, 1, 1);
    let gateway = checker.section(&tree.root, start, &keys::FILE).and_then(|keys| gateway(&keys, file, &mut checker));
    let Checker { mut errors, mut warnings, hidden, mut files, .. } = checker;
    files.sort();
    files.dedup();
    for problems in [&mut errors, &mut warnings] {
        // An alias is read once for each use, and its mistakes are found as often.
        problems.sort_by(|a, b| (a.place, &a.message).cmp(&(b.place, &b.message)));
        problems.dedup();
    }
    match gateway {
        Some(gateway) if errors.is_empty() => {
            let line = |warning: &Problem| {
                let words = [&warning.message, &warning.label].into_iter().chain(&warning.hints).filter(|words| !words.is_empty());
                let words: Vec<&str> = words.map(String::as_str).collect();
                format!("{}:{}:{}: {}", file.display(), warning.place.line, warning.place.column, words.join("; "))
            };
            Ok(Gateway { files, warnings: warnings.iter().map(line).collect(), ..gateway })
        }
        _ => {
            if errors.is_empty() {
                // Cannot happen: whoever gives nothing has reported why. If it does, the answer is no.
                errors.push(Problem::of_file("the configuration could not be read"));
            }
            let shown = Source::of(text, &hidden, errors.iter().chain(&warnings));
            Err(Problems { file: file.to_owned(), files, shown, errors, warnings })
        }
    }
}

fn gateway(keys: &Keys<'_>, file: &Path, checker: &mut Checker<'_>) -> Option<Gateway> {
    let version = keys.read("version", checker, version);
    let mut taken = Vec::new();
    let listeners = keys.read("listeners", checker, |node, checker| doors::listeners(node, keys.section_of("listeners")?, &mut taken, checker));
    let health = keys.open("health", checker).and_then(|keys| doors::health(&keys, &mut taken, checker));
    let (mut socket, mut is_public) = (None, false);
    let admin = keys.open("admin", checker).and_then(|keys| {
        socket = keys.entry("socket").map(|entry| entry.value.span);
        is_public = keys.names("public_url");
        doors::admin(&keys, &mut taken, checker)
    });
    let (admin, public_url) = admin.map_or((None, None), |(door, public_url)| (Some(door), public_url));
    let servers = read_servers(keys, checker);
    servers::linkable(keys, is_public, checker);
    let (upstream_names, upstreams) = read_upstreams(keys, checker);
    let hosts: Hosts = keys
        .read("hosts", checker, |node, checker| Some(hosts::hosts(node, keys.section_of("hosts")?, &servers, &upstream_names, checker)))
        .unwrap_or_default();
    let (limits, body_limit, mut connections) = keys.open("limits", checker).map(|keys| doors::limits(&keys, checker)).unwrap_or_default();
    let credential_headers = credential_headers(&upstream_names, &upstreams);
    let contents = contents(&upstream_names, &upstreams);
    let around =
        Surroundings { servers: &servers, upstreams: &upstream_names, contents: &contents, hosts: &hosts, credential_headers: &credential_headers, body_limit };
    let routes = keys.read("routes", checker, |node, checker| Some(routes::routes(node, keys.section_of("routes")?, &around, checker)));
    let trusted_proxies = trusted_proxies(keys, checker);
    connections.off_for.extend(&trusted_proxies);
    let open_with = keys.read("open_with", checker, doors::open_with);
    let log = keys.open("log", checker).map(|keys| doors::log(&keys, checker)).unwrap_or_default();
    let store = keys.open("store", checker).and_then(|keys| store::store(&keys, checker));
    let shared = keys.open("shares", checker).and_then(|keys| shares::shares(&keys, &servers, &mut taken, checker));
    let drain = keys.open("drain", checker).map(|keys| doors::drain(&keys, checker)).unwrap_or_default();
    let workers = keys.read("workers", checker, |node, checker| number(node, checker, 1, 1024));
    if let (Some(listeners), Some(routes)) = (&listeners, &routes) {
        together(keys, (listeners, routes), shared.as_ref(), &upstream_names, checker);
        one_content(routes, &upstreams, checker);
    }
    version?;
    let (upstreams, credentials) = upstreams.into_iter().unzip();
    Some(Gateway {
        file: file.to_owned(),
        listeners: listeners?,
        health,
        admin,
        public_url,
        authorization_servers: servers.all.into_iter().map(|(_, server)| server).collect(),
        upstreams,
        credentials,
        routes: routes?,
        trusted_proxies,
        limits,
        connections,
        open_with,
        log,
        drain,
        store,
        shares: shared,
        workers: workers.and_then(|workers| usize::try_from(workers).ok()),
        places: Places::new(file, &taken, socket),
        files: Vec::new(),
        warnings: Vec::new(),
    })
}

/// What shows only when sections are seen together.
fn together(
    keys: &Keys<'_>,
    (listeners, routes): (&[listener::Config], &[RouteConfig]),
    shares: Option<&crate::shares::Config>,
    upstreams: &Names<usize>,
    checker: &mut Checker<'_>,
) {
    unserved(listeners, routes, shares.zip(keys.key_span("shares")), checker);
    shares::together(keys, shares, routes, checker);
    unused_upstreams(keys, upstreams, routes, checker);
    let asks = |listener: &listener::Config| listener.tls.as_ref().is_some_and(|tls| tls.client_auth != listener::ClientAuth::None);
    guard::unshown(routes, listeners.iter().any(asks), checker);
}

/// Routes for hosts that no listener serves: they can never match.
fn unserved(listeners: &[listener::Config], routes: &[RouteConfig], shares: Option<(&crate::shares::Config, Span)>, checker: &mut Checker<'_>) {
    let served: Vec<ServedHosts> = listeners.iter().filter_map(|listener| ServedHosts::new(&listener.hosts).ok()).collect();
    for route in routes.iter().filter(|route| !served.iter().any(|hosts| hosts.overlaps(&route.host))) {
        let problem = Problem::at(Span::at(route.place), format!("no listener serves {}: this route can never match", route.host));
        checker.error(problem.hint("add the host to the `hosts` of a listener, or leave those out to serve any"));
    }
    if let Some((shares, span)) = shares {
        shares::unserved(shares, span, &served, checker);
    }
}

/// Upstreams to which no route leads. Where there are mistakes, which those are is not known.
fn unused_upstreams(keys: &Keys<'_>, names: &Names<usize>, routes: &[RouteConfig], checker: &mut Checker<'_>) {
    let Some(Value::Map(entries)) = keys.entry("upstreams").map(|entry| &entry.value.value) else { return };
    if !checker.errors.is_empty() {
        return;
    }
    for (name, _) in names.all.iter().filter(|(_, place)| !routes.iter().any(|route| route.upstream == *place)) {
        let span = entries.iter().find(|entry| entry.key == **name).map_or(keys.span, |entry| entry.key_span);
        checker.warn(
            Problem::at(span, format!("no route leads to the upstream `{}`", shown(name))).label("name it as the `upstream` of a route, or leave it out"),
        );
    }
}

fn version(node: &super::tree::Node, checker: &mut Checker<'_>) -> Option<()> {
    super::values::parsed(node, checker, "a known version", |text| match text {
        "1" => Ok(()),
        _ => Err(super::values::Wrong::because("this gateway reads version 1").write("1")),
    })
}

fn read_servers(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Names<Arc<authorization_server::Config>> {
    let mut names = Names { what: "authorization server", key: "authorization_server", all: Vec::new(), present: keys.names("authorization_servers") };
    let Some((entry, about)) = keys.entry("authorization_servers").zip(keys.section_of("authorization_servers")) else { return names };
    for entry in named_entries(&entry.value, "an authorization server", checker) {
        let server = servers::server(entry, about, checker).unwrap_or_else(|| servers::stand_in(&entry.key));
        names.all.push((entry.key.as_str().into(), Arc::new(server)));
    }
    names
}

type Upstreams = Vec<(upstream::Config, credentials::Config)>;

fn read_upstreams(keys: &Keys<'_>, checker: &mut Checker<'_>) -> (Names<usize>, Upstreams) {
    let mut names = Names { what: "upstream", key: "upstream", all: Vec::new(), present: keys.names("upstreams") };
    let mut upstreams = Upstreams::new();
    let Some((entry, about)) = keys.entry("upstreams").zip(keys.section_of("upstreams")) else { return (names, upstreams) };
    for (place, entry) in named_entries(&entry.value, "an upstream", checker).into_iter().enumerate() {
        names.all.push((entry.key.as_str().into(), place));
        upstreams.extend(upstreams::upstream(entry, about, checker));
    }
    (names, upstreams)
}

/// The headers of each upstream's credential, at its place; none where an upstream has mistakes.
fn credential_headers(names: &Names<usize>, upstreams: &Upstreams) -> Vec<Vec<HeaderName>> {
    let of = |name: &str| upstreams.iter().find(|(upstream, _)| &*upstream.name == name).map(|(_, credentials)| &credentials.credential);
    let headers = |name| match of(name) {
        Some(credentials::Credential::Headers(headers)) => headers.iter().map(|(name, _)| name.clone()).collect(),
        _ => Vec::new(),
    };
    names.all.iter().map(|(name, _)| headers(name)).collect()
}

/// The first upstream that has one of its servers and tells it the same name, for each upstream at its place.
fn contents(names: &Names<usize>, upstreams: &Upstreams) -> Vec<usize> {
    let of = |name: &str| upstreams.iter().map(|(upstream, _)| upstream).find(|upstream| &*upstream.name == name);
    // A server that is told two names may be two sites.
    let shared = |one: &str, other: &str| {
        let both = of(one).zip(of(other)).filter(|(one, other)| one.host == other.host);
        both.is_some_and(|(one, other)| one.servers.iter().any(|server| other.servers.iter().any(|other| other.address == server.address)))
    };
    let mut first: Vec<usize> = Vec::with_capacity(names.all.len());
    for (name, place) in &names.all {
        let known = names.all.iter().zip(&first).find(|((other, _), _)| shared(name, other)).map(|(_, content)| *content);
        first.push(known.unwrap_or(*place));
    }
    first
}

/// Content that is protected by one route and reached by another: at another host, where the content server does not hear which a client named, or by another
/// upstream with the same server, where it does not tell their credentials apart.
fn one_content(routes: &[RouteConfig], upstreams: &Upstreams, checker: &mut Checker<'_>) {
    let mut warn = |route: &RouteConfig, protected: &RouteConfig, label: &str, mend: &str| {
        let message = format!("this route asks the content server for what `{}` at line {} protects", protected.pattern.text, protected.place.line);
        checker.warn(Problem::at(Span::at(route.place), message).label(label).hint(format!("{mend}, or say `covers_protected: true`")));
    };
    let hears = |route: &RouteConfig| {
        let upstream = upstreams.iter().find(|(upstream, _)| upstream.name == route.upstream_name);
        upstream.is_some_and(|(upstream, _)| upstream.host == credentials::HostPolicy::Preserve)
    };
    for (public, protected) in crate::routing::public_at_another_host(routes).into_iter().filter(|(public, _)| !hears(public)) {
        let mend = "use     `host: preserve` in the upstream, where the content server tells its hosts apart";
        warn(public, protected, "the hosts differ, and the content server does not hear which was asked", mend);
    }
    for (route, protected) in crate::routing::reached_by_another_name(routes) {
        let mend = "use     a path that no other route protects";
        warn(route, protected, "rewritten, by another upstream with the same server", mend);
    }
}

fn trusted_proxies(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Vec<ipnet::IpNet> {
    let networks = keys.read("trusted_proxies", checker, |node, checker| {
        let all = |node, checker: &mut Checker<'_>| {
            let network = network(node, checker)?;
            if network.prefix_len() == 0 {
                checker.warn(Problem::at(node.span, "every client is believed about its own address").label("name your proxies alone"));
            }
            Some(network)
        };
        list(node, checker, all)
    });
    networks.unwrap_or_default()
}
