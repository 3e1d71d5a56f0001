//! What the gateway opens and writes: `listeners`, `health`, `admin`, `log`, and its `limits`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::checker::{Checker, Keys};
use super::description::Section;
use super::problem::{Problem, Span};
use super::secrets::secret;
use super::servers::secure;
use super::tls;
use super::tree::{Node, Value};
use super::values::{Wrong, address, boolean, duration, host, list, network, number, parse_url, parsed, rate, size, socket, word, writable};
use crate::admin::{AdminDoor, HealthConfig};
use crate::enforcement::{Limits, Rate};
use crate::listener::{self, Drain};
use crate::telemetry::config::{Access, Audit, Format, Level, LogConfig, To};

/// Connections that a configuration may allow.
const MOST_CONNECTIONS: u64 = 1_000_000;
const HOUR: Duration = Duration::from_secs(3600);

/// Addresses that are taken, so that no two doors have the same.
pub(super) type Taken = Vec<(SocketAddr, Span)>;

/// `listeners`.
pub(super) fn listeners(node: &Node, about: &'static Section, taken: &mut Taken, checker: &mut Checker<'_>) -> Option<Vec<listener::Config>> {
    let Value::List(items) = &node.value else {
        checker.error(Problem::at(node.span, "a list of listeners is wanted").write("[ { address: 127.0.0.1:8080 } ]"));
        return None;
    };
    if items.is_empty() {
        checker.error(Problem::at(node.span, "the gateway listens nowhere").write("[ { address: 127.0.0.1:8080 } ]"));
    }
    let listeners: Vec<Option<listener::Config>> = items.iter().map(|item| listener(item, about, taken, checker)).collect();
    listeners.into_iter().collect()
}

fn listener(node: &Node, about: &'static Section, taken: &mut Taken, checker: &mut Checker<'_>) -> Option<listener::Config> {
    let keys = checker.section(node, node.span, about)?;
    let address = free_address(&keys, taken, checker);
    let hosts = keys.read("hosts", checker, |node, checker| {
        let hosts = list(node, checker, host)?;
        if hosts.is_empty() {
            checker.error(Problem::at(node.span, "no host is served here").label("leave `hosts` out to serve any"));
        }
        Some(hosts)
    });
    let tls = keys.open("tls", checker).map(|keys| tls::listener(&keys, checker));
    let h2c = keys.read("h2c", checker, boolean).unwrap_or(false);
    if let (true, true, Some(span)) = (h2c, keys.names("tls"), keys.key_span("h2c")) {
        checker
            .error(Problem::at(span, "`h2c` is HTTP/2 without TLS, and this listener has TLS").label("leave it out: clients choose HTTP/2 in the handshake"));
    }
    let tls = match tls {
        Some(tls) => Some(tls?),
        None => None,
    };
    Some(listener::Config { address: address?, hosts: hosts.unwrap_or_default(), tls, h2c })
}

pub(super) fn free_address(keys: &Keys<'_>, taken: &mut Taken, checker: &mut Checker<'_>) -> Option<SocketAddr> {
    let entry = keys.entry("address")?;
    let address = address(&entry.value, checker)?;
    let same = |(other, _): &&(SocketAddr, Span)| *other == address && address.port() != 0;
    if let Some((_, first)) = taken.iter().find(same) {
        let at = first.place;
        checker.error(Problem::at(entry.value.span, format!("{address} stands twice")).label(format!("it stands at {}:{} already", at.line, at.column)));
    }
    taken.push((address, entry.value.span));
    Some(address)
}

/// `health`.
pub(super) fn health(keys: &Keys<'_>, taken: &mut Taken, checker: &mut Checker<'_>) -> Option<HealthConfig> {
    Some(HealthConfig { address: free_address(keys, taken, checker)? })
}

/// `admin`, and where owners' browsers reach it.
pub(super) fn admin(keys: &Keys<'_>, taken: &mut Taken, checker: &mut Checker<'_>) -> Option<(AdminDoor, Option<Arc<str>>)> {
    let socket = keys.read("socket", checker, socket);
    let address = free_address(keys, taken, checker);
    let token = keys.read("token", checker, secret);
    let public_url = keys.read("public_url", checker, public_url);
    let door = match (socket, address, token) {
        (Some(socket), ..) => Some(AdminDoor::Socket(socket)),
        (None, Some(address), Some(token)) => Some(AdminDoor::Address { address, token }),
        _ => None,
    };
    Some((door?, public_url))
}

/// An address that codes of owners come back to.
fn public_url(node: &Node, checker: &mut Checker<'_>) -> Option<Arc<str>> {
    let uri = secure(node, None, checker)?;
    if uri.query().is_some() {
        checker.error(Problem::at(node.span, "the gateway puts the rest behind this address").label("without a query (`?…`)"));
        return None;
    }
    Some(Arc::from(uri.to_string().trim_end_matches('/')))
}

/// `log`.
pub(super) fn log(keys: &Keys<'_>, checker: &mut Checker<'_>) -> LogConfig {
    let format = keys.read("format", checker, |node, checker| word(node, checker, &[("json", Format::Json), ("text", Format::Text)]));
    let level = keys.read("level", checker, |node, checker| {
        let levels = [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug), ("trace", Level::Trace)];
        word(node, checker, &levels)
    });
    let access = keys.read("access", checker, |node, checker| word(node, checker, &[("on", Access::On), ("denied", Access::Denied), ("off", Access::Off)]));
    let to = keys.read("to", checker, |node, checker| output(node, checker).map(|file| file.map_or(To::Stdout, To::File)));
    let audit = keys.read("audit", checker, |node, checker| output(node, checker).map(|file| file.map_or(Audit::Stdout, Audit::File)));
    LogConfig { format: format.unwrap_or_default(), level: level.unwrap_or_default(), access: access.unwrap_or_default(), to: to.unwrap_or_default(), audit }
}

/// `stdout` (`None`), or a file. What other programs call their outputs would be a file of that name here, which nobody means.
fn output(node: &Node, checker: &mut Checker<'_>) -> Option<Option<PathBuf>> {
    const MEANT: [&str; 12] = ["stdout", "stderr", "console", "syslog", "journal", "journald", "none", "off", "no", "false", "true", "-"];
    let Value::Scalar { text, .. } = &node.value else { return writable(node, checker).map(Some) };
    if text == "stdout" {
        return Some(None);
    }
    if !MEANT.contains(&&*text.to_ascii_lowercase()) {
        return writable(node, checker).map(Some);
    }
    parsed(node, checker, "`stdout` or a file", |text| match text.to_ascii_lowercase().as_str() {
        "none" | "off" | "no" | "false" => Err(Wrong::because("leave the key out for none; `access: off` is for the access log")),
        _ => Err(Wrong::because(format!("did you mean `stdout`? A file of this name is `./{text}`"))),
    })
}

/// `limits`; the largest body beside them, and what they say of connections.
pub(super) fn limits(keys: &Keys<'_>, checker: &mut Checker<'_>) -> (Limits, Option<u64>, listener::Limits) {
    let default = Limits::default();
    let body = keys.read("body", checker, size);
    let limits = Limits {
        tickets: bucket(keys, "tickets", default.tickets, checker),
        introspections: bucket(keys, "introspections", default.introspections, checker),
        off_for: keys.read("off_for", checker, |node, checker| list(node, checker, network)).unwrap_or_default(),
    };
    let connections = connections(keys, limits.off_for.clone(), checker);
    (limits, body, connections)
}

fn connections(keys: &Keys<'_>, off_for: Vec<ipnet::IpNet>, checker: &mut Checker<'_>) -> listener::Limits {
    let count = |name, most, checker: &mut Checker<'_>| {
        keys.read(name, checker, |node, checker| number(node, checker, 1, most)).and_then(|count| usize::try_from(count).ok())
    };
    let all = count("connections", MOST_CONNECTIONS, checker);
    let of_one = count("connections_per_client", MOST_CONNECTIONS, checker);
    if let (Some(span), Some(all), Some(of_one)) = (keys.key_span("connections_per_client"), all, of_one)
        && of_one > all
    {
        checker.error(Problem::at(span, format!("one client may have {of_one} connections, and all together {all}")).label("more than all there may be"));
    }
    let timeouts = keys.open("timeouts", checker);
    let mut time = |name| timeouts.as_ref()?.read(name, checker, |node, checker| duration(node, checker, Duration::from_millis(1), HOUR));
    let (head, body, write, idle) = (time("head"), time("body"), time("write"), time("idle"));
    listener::Limits { connections: all, connections_per_client: of_one, off_for, head, body, write, idle }
}

fn bucket(keys: &Keys<'_>, name: &'static str, default: Rate, checker: &mut Checker<'_>) -> Rate {
    let Some(keys) = keys.open(name, checker) else { return default };
    let rate = keys.read("rate", checker, rate).unwrap_or(default.rate);
    let burst = keys.read("burst", checker, |node, checker| number(node, checker, 1, 1_000_000));
    Rate { rate, burst: burst.and_then(|burst| u32::try_from(burst).ok()).unwrap_or(default.burst) }
}

/// `drain`.
pub(super) fn drain(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Drain {
    let default = Drain::default();
    let mut read = |name, default| keys.read(name, checker, |node, checker| duration(node, checker, Duration::ZERO, HOUR)).unwrap_or(default);
    Drain { delay: read("delay", default.delay), timeout: read("timeout", default.timeout) }
}

/// `open_with`: a URL in which only `{url}` stands for something.
pub(super) fn open_with(node: &Node, checker: &mut Checker<'_>) -> Option<Arc<str>> {
    parsed(node, checker, "the URL of an application", |text| {
        let filled = text.replace("{url}", "x");
        if filled.contains(['{', '}']) {
            return Err(Wrong::because("only `{url}` stands for something: the address asked for"));
        }
        parse_url(&filled).map(|_| Arc::from(text)).map_err(|_| Wrong::because("it begins with https://").write("\"https://app.example.org/open?link={url}\""))
    })
}
