//! An upstream's servers and how requests are spread over them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::uri::{Authority, PathAndQuery};

use super::HOUR;
use crate::config::checker::{Checker, Keys};
use crate::config::description::Section;
use crate::config::problem::Problem;
use crate::config::secrets::secret;
use crate::config::tree::{Node, Value};
use crate::config::values::{Wrong, boolean, duration, list, number, parse_url, parsed, percent};
use crate::upstream::{Address, Config, Ejection, HealthCheck, Queue, Server, Sticky, StickyKey};

/// Characters of a key of sticky cookies.
const LEAST_KEY: usize = 16;
/// More are not looked at for one request.
const MOST_SERVERS: usize = 64;

/// `servers`.
pub(super) fn servers(node: &Node, about: &'static Section, checker: &mut Checker<'_>) -> Option<Vec<Server>> {
    let mut first: Vec<(Address, &Node)> = Vec::new();
    let servers = list(node, checker, |item, checker| {
        let server = server(item, about, checker)?;
        if let Some((_, other)) = first.iter().find(|(address, _)| *address == server.address) {
            let at = other.span.place;
            checker.error(
                Problem::at(item.span, format!("the server {} stands twice", server.address))
                    .label(format!("it stands at {}:{} already; `weight` gives it a larger share", at.line, at.column)),
            );
            return None;
        }
        first.push((server.address.clone(), item));
        Some(server)
    })?;
    if servers.is_empty() {
        checker.error(Problem::at(node.span, "an upstream has at least one server").write("[http://127.0.0.1:9101]"));
        return None;
    }
    if servers.len() > MOST_SERVERS {
        checker.error(Problem::at(node.span, format!("an upstream has at most {MOST_SERVERS} servers")));
        return None;
    }
    Some(servers)
}

fn server(node: &Node, about: &'static Section, checker: &mut Checker<'_>) -> Option<Server> {
    if !matches!(node.value, Value::Map(_)) {
        return Some(Server { address: address(node, checker)?, weight: 1 });
    }
    let keys = checker.section(node, node.span, about)?;
    let address = keys.read("url", checker, address);
    let weight = count(&keys, "weight", checker, 1, 1000).unwrap_or(1);
    Some(Server { address: address?, weight })
}

fn address(node: &Node, checker: &mut Checker<'_>) -> Option<Address> {
    parsed(node, checker, "a server", |text| {
        if let Some((scheme, path)) = text.split_once(':').filter(|(scheme, _)| *scheme != "unix" && scheme.eq_ignore_ascii_case("unix")) {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Err(Wrong::because(format!("`{scheme}` is written in small letters")).write(format!("unix:{path}")));
        }
        if text.starts_with('/') {
            return Err(Wrong::because("a socket begins with unix:").write(format!("unix:{text}")));
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.strip_prefix('/') {
                Some(name) if !name.is_empty() && !path.contains('\0') => Ok(Address::Unix(PathBuf::from(path))),
                _ => Err(Wrong::because("a socket with its whole path").write(format!("unix:/{}", path.trim_start_matches('/')))),
            };
        }
        let uri = parse_url(text)
            .map_err(|wrong| if text.contains("://") { wrong } else { Wrong::because("the scheme is missing").write(format!("http://{text}")) })?;
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        match uri.scheme_str() {
            _ if !matches!(uri.path(), "" | "/") || uri.query().is_some() => {
                Err(Wrong::because("without a path; `rewrite` of a route changes paths").write(format!("{}://{authority}", uri.scheme_str().unwrap_or("http"))))
            }
            _ if uri.port_u16() == Some(0) => Err(Wrong::because("a port from 1 to 65535")),
            scheme => {
                let (port, kind): (u16, fn(Authority) -> Address) = if scheme == Some("https") { (443, Address::Https) } else { (80, Address::Http) };
                let full = if uri.port_u16().is_some() { authority.to_owned() } else { format!("{host}:{port}") };
                full.parse().map(kind).map_err(|_| Wrong::because("http://host:port"))
            }
        }
    })
}

/// Everything about several servers.
pub(super) fn read(keys: &Keys<'_>, config: Config, checker: &mut Checker<'_>) -> Config {
    let (sticky, sticky_key) = keys.open("sticky", checker).map(|keys| sticky(&keys, checker)).unwrap_or_default();
    Config {
        sticky,
        sticky_key,
        health_check: keys.open("health_check", checker).and_then(|keys| health_check(&keys, checker)),
        ejection: keys.open("ejection", checker).map_or(config.ejection, |keys| ejection(&keys, checker)),
        max_connections: size(keys, "max_connections", checker, 1, 65_535).unwrap_or(config.max_connections),
        queue: keys.open("queue", checker).map_or(config.queue, |keys| queue(&keys, checker)),
        retry_budget: keys.read("retry_budget", checker, percent).unwrap_or(config.retry_budget),
        ..config
    }
}

/// RFC 6265, 4.1.1: the name of a cookie is a token, as that of a header is.
fn sticky(keys: &Keys<'_>, checker: &mut Checker<'_>) -> (Option<Sticky>, Option<StickyKey>) {
    let token = |text: &str| HeaderName::from_bytes(text.as_bytes()).map_err(|_| no_token(text));
    let cookie = keys
        .read("cookie", checker, |node, checker| parsed(node, checker, "the name of a cookie", |text| token(text).map(|_| Sticky::Cookie(Arc::from(text)))));
    let header = keys.read("header", checker, |node, checker| parsed(node, checker, "the name of a header", token).map(Sticky::Header));
    let key = keys.read("key", checker, |node, checker| {
        let key = secret(node, checker)?;
        if checker.environment.is_some() && key.expose().len() < LEAST_KEY {
            checker.error(Problem::at(node.span, "this key can be guessed").label(format!("{LEAST_KEY} random characters at least")));
            return None;
        }
        Some(StickyKey(key))
    });
    if let (Some(span), true) = (keys.key_span("key"), header.is_some()) {
        checker.error(Problem::at(span, "`key` has no effect: it is a cookie that is made with it").label("leave it out"));
    }
    (cookie.or(header), key)
}

/// A name with characters that it may not have.
fn no_token(text: &str) -> Wrong {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|part| !part.is_empty());
    let instead: String = parts.collect::<Vec<_>>().join("-").chars().take(64).collect();
    let wrong = Wrong::because("letters, digits, - and _");
    if instead.is_empty() || !text.is_ascii() { wrong } else { wrong.write(instead) }
}

fn health_check(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<HealthCheck> {
    let path = keys.read("path", checker, |node, checker| {
        parsed(node, checker, "a path to ask for", |text| match text.parse::<PathAndQuery>() {
            Ok(path) if text.starts_with('/') => Ok(path),
            _ => Err(Wrong::because("it begins with /").write(format!("/{}", text.trim_start_matches('/')))),
        })
    });
    let interval = keys.read("interval", checker, |node, checker| duration(node, checker, Duration::from_millis(100), HOUR));
    let unhealthy_after = count(keys, "unhealthy_after", checker, 1, 100);
    Some(HealthCheck { path: path?, interval: interval.unwrap_or(Duration::from_secs(10)), unhealthy_after: unhealthy_after.unwrap_or(3) })
}

fn ejection(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Ejection {
    let default = Ejection::default();
    let failures = count(keys, "failures", checker, 1, 1000).unwrap_or(default.failures);
    let server_errors = keys.read("server_errors", checker, boolean).unwrap_or(default.server_errors);
    let mut read = |name, default| keys.read(name, checker, |node, checker| duration(node, checker, Duration::from_millis(1), HOUR)).unwrap_or(default);
    let (rest, longest_rest) = (read("rest", default.rest), read("longest_rest", default.longest_rest));
    Ejection { failures, server_errors, rest, longest_rest: longest_rest.max(rest) }
}

fn queue(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Queue {
    let default = Queue::default();
    let length = size(keys, "length", checker, 0, 1_000_000).unwrap_or(default.length);
    let wait = keys.read("wait", checker, |node, checker| duration(node, checker, Duration::from_millis(1), HOUR));
    Queue { length, wait: wait.unwrap_or(default.wait) }
}

fn count(keys: &Keys<'_>, name: &'static str, checker: &mut Checker<'_>, least: u64, most: u64) -> Option<u32> {
    keys.read(name, checker, |node, checker| number(node, checker, least, most)).and_then(|number| u32::try_from(number).ok())
}

fn size(keys: &Keys<'_>, name: &'static str, checker: &mut Checker<'_>, least: u64, most: u64) -> Option<usize> {
    keys.read(name, checker, |node, checker| number(node, checker, least, most)).and_then(|number| usize::try_from(number).ok())
}
