//! A record as a person reads it, with the places of the configuration that it comes from.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use crate::config;
use crate::enforcement::{NOT_LINKED, OWNER_REFUSED};
use crate::response::Row;
use crate::routing::{Access, ResourceChoice};
use crate::store::UNREAD;
use crate::telemetry;

/// Where routes and their methods stand in the configuration.
#[derive(Default)]
pub struct Places {
    file: String,
    /// As it was given.
    path: String,
    routes: Vec<RoutePlace>,
    /// Where shareable links begin.
    links: Option<Arc<str>>,
}

struct RoutePlace {
    pattern: String,
    /// Whether its resources are what owners have shared.
    shared: bool,
    /// Whether they are found by the path.
    uris: bool,
    parameters: Vec<String>,
    line: u32,
    methods: Vec<(String, u32)>,
}

impl Places {
    /// The places of a configuration.
    pub fn of(config: &config::Gateway) -> Self {
        let file = config.file.file_name().map_or_else(|| config.file.display().to_string(), |name| name.to_string_lossy().into_owned());
        let routes = config.routes.iter().map(|route| RoutePlace {
            pattern: route.pattern.text.to_string(),
            shared: matches!(&route.access, Access::Protect(protect) if matches!(protect.resource, ResourceChoice::Shared { .. })),
            uris: matches!(&route.access, Access::Protect(protect) if matches!(protect.resource, ResourceChoice::Uris)),
            parameters: route.pattern.parameters().map(ToString::to_string).collect(),
            line: route.place.line,
            methods: match &route.access {
                Access::Protect(protect) => protect.scopes.methods.iter().map(|(method, _, place)| (method.to_string(), place.line)).collect(),
                Access::Public | Access::Guard(_) => Vec::new(),
            },
        });
        let links = config.shares.as_ref().map(|shares| Arc::clone(&shares.prefix));
        Self { file, path: config.file.display().to_string(), routes: routes.collect(), links }
    }

    /// Those of a configuration whose routes are not known, since it has mistakes.
    pub fn without_routes(path: &std::path::Path) -> Self {
        Self { path: path.display().to_string(), ..Self::default() }
    }

    /// `check --online` of the same configuration.
    fn online(&self, why: &str) -> String {
        let config = if self.path.is_empty() { String::new() } else { format!(" --config {}", telemetry::typed(&self.path)) };
        format!("{why}: uma-gateway check --online{config}")
    }

    /// Whether a path that led to a route is the link of a share.
    fn is_link(&self, path: &str) -> bool {
        self.links.as_ref().and_then(|prefix| path.strip_prefix(&**prefix)).is_some_and(|behind| behind.starts_with('/'))
    }

    /// Several hosts may have a route of the same path; the line tells them apart.
    fn find(&self, pattern: &str, line: Option<u64>) -> Option<&RoutePlace> {
        self.routes.iter().find(|route| route.pattern == pattern && line.is_none_or(|line| u64::from(route.line) == line))
    }
}

/// The record as seven lines at most.
pub fn print(record: &Value, places: &Places) -> String {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let list = |name: &str| -> Vec<&str> {
        record.get(name).and_then(Value::as_array).map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    };
    let mut out = String::new();
    let rows = list("uma.rows");
    let unread = text("uma.reason") == Some(UNREAD);
    if unread {
        let why =
            "on what owners have shared, which is not looked at here: only a gateway that runs reads its records, and is asked where the file has `admin`";
        line(&mut out, "depends", why, "");
    } else {
        verdict(&mut out, record, &rows);
    }
    if let Some(reason) = text("uma.authorization_server_down") {
        let server = text("uma.authorization_server").unwrap_or_default();
        line(&mut out, "but", &format!("no ticket comes while the authorization server {server} is down: {reason}"), "");
    }
    if rows.contains(&"D2") {
        line(&mut out, "host", text("server.address").unwrap_or_default(), "");
    }
    line(&mut out, "path", text("url.path").unwrap_or("(refused before it was read)"), "");
    let place = text("http.route").and_then(|route| places.find(route, record.get("uma.route_line").and_then(Value::as_u64)));
    let is_told = |reason: &str| {
        let of_shares = rows.contains(&"D10") && place.is_none_or(|place| place.shared);
        text("http.route").is_none()
            || rows.contains(&"D3")
            || of_shares
            || matches!(reason, NOT_LINKED | OWNER_REFUSED)
            || text("uma.decision") == Some("unreachable")
    };
    if let Some(reason) = text("uma.reason").filter(|reason| is_told(reason)) {
        line(&mut out, "because", reason, "");
    }
    let Some(route) = text("http.route") else {
        finish(&mut out, record, &rows, places, None);
        return out;
    };
    let at = |line: u32| format!("{}:{line}", places.file);
    let came = text("url.path").unwrap_or_default();
    // The route is that of the share's own path, which the record does not hold.
    let why_here = |place| if places.is_link(came) { "by the link of a share".to_owned() } else { parameters(place, came) };
    line(&mut out, "route", route, &place.map_or_else(String::new, |place| format!("{}   {}", at(place.line), why_here(place))));
    let needs = list("uma.scopes");
    if let Some(server) = text("uma.authorization_server") {
        let method = text("http.request.method").unwrap_or_default();
        let mapped = if method == "HEAD" { "GET" } else { method };
        let mapping = place
            .and_then(|place| place.methods.iter().find(|(known, _)| known == mapped))
            .map(|(_, line)| format!("   ({method} → {}, {})", words(&needs), at(*line)));
        let owner = text("uma.owner").map(|owner| format!("owner {owner}, ")).unwrap_or_default();
        line(&mut out, "needs", &format!("{}  on {}", words(&needs), resource(record)), &format!("{owner}server {server}{}", mapping.unwrap_or_default()));
        token(&mut out, record, &rows);
        has(&mut out, record, &rows, &needs);
    }
    finish(&mut out, record, &rows, places, place);
    out
}

/// What can be done now, where that is known.
fn finish(out: &mut String, record: &Value, rows: &[&str], places: &Places, place: Option<&RoutePlace>) {
    let opt_ins: Vec<String> =
        record.get("uma.opt_ins").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(|name| format!("{name}: true")).collect();
    let unread = record.get("uma.reason").and_then(Value::as_str) == Some(UNREAD);
    let next = if !opt_ins.is_empty() {
        Some(format!("ask for a plain path, or give the route `{}` after reading what that risks", opt_ins.join(", ")))
    } else if unread && record.get("http.route").is_none() {
        Some("404 (D10) if no share has this link; else it stands for the path of the share".to_owned())
    } else if unread {
        Some("404 (D10) if nobody has shared this path; else who may is asked as for any resource".to_owned())
    } else {
        next(record, rows, places, place)
    };
    if let Some(next) = next {
        line(out, "next", &next, "");
    }
}

/// What the token has, and what is missing.
fn has(out: &mut String, record: &Value, rows: &[&str], needs: &[&str]) {
    let granted = record.get("uma.granted").and_then(Value::as_array);
    let has: Vec<&str> = granted.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    if has.is_empty() && !rows.iter().any(|row| matches!(*row, "E8" | "E8a")) {
        return;
    }
    let missing: Vec<&str> = needs.iter().filter(|scope| !has.contains(scope)).copied().collect();
    let shown = format!("{} on {}", if has.is_empty() { "nothing".into() } else { words(&has) }, resource(record));
    line(out, "has", &shown, &if missing.is_empty() { String::new() } else { format!("missing: {}", words(&missing)) });
}

fn verdict(out: &mut String, record: &Value, rows: &[&str]) {
    let word = record.get("uma.decision").and_then(Value::as_str).unwrap_or("undecided");
    let row = record.get("uma.row").and_then(Value::as_str).unwrap_or("-");
    // The reason of a challenge is the row before it.
    let cause = rows.iter().rev().find(|row| !matches!(**row, "C3" | "O1" | "C6" | "U1")).copied().unwrap_or(row);
    let meaning = Row::ALL.iter().find(|known| known.label() == cause).map_or("", |row| row.meaning().trim());
    let status = match record.get("http.response.status_code").and_then(Value::as_u64) {
        Some(401) if rows.contains(&"C3") => "401 with a new ticket".to_owned(),
        Some(status) => status.to_string(),
        None => "forwarded".to_owned(),
    };
    let time = record.get("time").and_then(Value::as_str).and_then(|time| time.get(11..19)).unwrap_or_default();
    let took = record.get("duration_ms").and_then(Value::as_f64).filter(|took| *took > 0.0).map(|took| format!(", {took:.0} ms")).unwrap_or_default();
    let sent = record.get("upstream.name").and_then(Value::as_str).map_or_else(|| "nothing sent upstream".to_owned(), |name| format!("sent to {name}"));
    let _ = writeln!(out, "{word:<10} {cause} {}{meaning} → {status}        {time}{took}, {sent}", error(rows));
}

/// The challenge's `error`, where it has one.
fn error(rows: &[&str]) -> &'static str {
    if !rows.iter().any(|row| matches!(*row, "C3" | "O1")) || rows.contains(&"D15") {
        ""
    } else if rows.iter().any(|row| matches!(*row, "E7" | "E8" | "E8a")) {
        "insufficient_scope: "
    } else {
        "invalid_token: "
    }
}

fn token(out: &mut String, record: &Value, rows: &[&str]) {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let cache = match (text("uma.cache"), record.get("uma.cache_age_ms").and_then(Value::as_f64)) {
        (Some("hit"), age) => {
            let asked = if rows.contains(&"E7") { ", asked again now" } else { "" };
            format!("cache: {:.0} s old{asked}", age.unwrap_or_default() / 1000.0)
        }
        (Some("negative_hit"), _) => "cache: refused a moment ago".into(),
        (Some("miss"), _) => "cache: not in it, asked now".into(),
        _ => String::new(),
    };
    let state = if rows.contains(&"D15") {
        "none".to_owned()
    } else if rows.iter().any(|row| matches!(*row, "I3" | "I5" | "I9")) {
        "not active: expired, revoked, or never issued by this server".to_owned()
    } else if let Some(left) = record.get("uma.token_left_s").and_then(Value::as_u64) {
        format!("active, {} min {} s left", left / 60, left % 60)
    } else if text("uma.subject").is_some() {
        "active".to_owned()
    } else {
        return;
    };
    let user = text("uma.username").or_else(|| text("uma.subject")).map(|user| format!(", user {user}")).unwrap_or_default();
    let client = text("uma.client_id").map(|client| format!(", client {client}")).unwrap_or_default();
    line(out, "token", &format!("{state}{user}{client}"), &cache);
}

fn next(record: &Value, rows: &[&str], places: &Places, place: Option<&RoutePlace>) -> Option<String> {
    if record.get("uma.reason").and_then(Value::as_str) == Some(NOT_LINKED) {
        let server = record.get("uma.authorization_server").and_then(Value::as_str).unwrap_or_default();
        return Some(format!("the owner opens {{admin.public_url}}/owners/{server}/link, once, and signs in"));
    }
    // `uma.row` names the reason of a challenge, not the challenge.
    let row = if rows.contains(&"C3") {
        "C3"
    } else if rows.contains(&"O1") {
        "O1"
    } else {
        record.get("uma.row").and_then(Value::as_str)?
    };
    let hint = match row {
        "C3" if rows.contains(&"D15") => "the client trades the ticket for an RPT and asks again with it",
        "C3" if rows.iter().any(|row| matches!(*row, "E8" | "E8a")) => {
            "the client trades the ticket; if the authorization server refuses, the owner has not granted what is missing"
        }
        "C3" => "the client trades the ticket for a new RPT",
        "O1" => "the client gets a token with these scopes from the authorization server",
        "D2" => "name the host in a listener's `hosts`, or ask for one that is served",
        "D3" => "ask for the plain form of the path; the reason stands in the record (--json)",
        "D7" => "add a route for this path, or ask for another one",
        // Where nothing is needed the route has no such method; else what is there lacks a scope.
        "D9" if record.get("uma.authorization_server").is_none() => "add the method to the route's `scopes`",
        "D9" if place.is_some_and(|place| place.shared) => "its owner adds what is missing to the share's `scopes`, by `PATCH /shares/{id}`",
        "D9" => "add the scope to the resource at the authorization server",
        "D10" if place.is_some_and(|place| place.shared) => "whoever owns this path shares it, by `POST /shares` or with `admin_key`",
        // A link that leads nowhere.
        "D10" if record.get("http.route").is_none() => return None,
        "D10" if place.is_some_and(|place| place.uris) => "no resource at the authorization server has this path in its `uris`: add it there",
        "D10" => "the authorization server has no resource of this name and owner: check both there",
        "G1" | "G2" | "G3" => "only the gateway in front has what this guard accepts: ask that one, or compare its `credentials` with `accept`",
        "C1" | "I3b" => "this client asks too often; `limits` sets how often it may",
        "C2" | "C4" | "C5" | "C6" | "C7" | "D11" | "I6" | "I7a" | "I10" | "E8c" => return Some(places.online("see why with")),
        "U2" => return Some(places.online("the content server does not accept the gateway's credential: check `credentials` with")),
        "U3" | "U4" => return Some(places.online("the content server does not answer: check `servers` with")),
        _ => return None,
    };
    Some(hint.to_owned())
}

fn resource(record: &Value) -> String {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    match (text("uma.resource_name"), text("uma.resource_id")) {
        (Some(name), Some(id)) => format!("\"{name}\" ({id})"),
        (Some(name), None) => format!("\"{name}\" (no id known)"),
        (None, Some(id)) => id.to_owned(),
        (None, None) => "(no resource)".to_owned(),
    }
}

/// `album=vacation`, from the path that came.
fn parameters(place: &RoutePlace, path: &str) -> String {
    let pattern = place.pattern.split('/');
    let values = pattern.zip(path.split('/')).filter(|(segment, _)| segment.starts_with('{')).map(|(_, value)| value);
    place.parameters.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn words(words: &[&str]) -> String {
    if words.is_empty() { "any scope".to_owned() } else { words.join(", ") }
}

/// One line, whatever stands in it: a name at an authorization server may hold the end of a line, or what a terminal obeys.
fn line(out: &mut String, name: &str, left: &str, right: &str) {
    let shown = |text: &str| {
        let mut shown = String::new();
        telemetry::plain(&mut shown, text.trim_end());
        shown
    };
    let (left, right) = (shown(left), shown(right));
    let _ = if right.is_empty() { writeln!(out, "{name:<10} {left}") } else { writeln!(out, "{name:<10} {left:<36}  {right}") };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration with owners' shares below `/users/{user}` and links below `/s`.
    fn shared() -> Places {
        let route = RoutePlace {
            pattern: "/users/{user}/**".into(),
            shared: true,
            uris: false,
            parameters: vec!["user".into()],
            line: 13,
            methods: vec![("GET".into(), 16), ("PUT".into(), 16)],
        };
        Places { file: "gateway.yaml".into(), path: "gateway.yaml".into(), routes: vec![route], links: Some("/s".into()) }
    }

    #[test]
    fn the_id_of_a_link_is_not_shown_as_a_parameter() {
        let explained = |path: &str| {
            print(&serde_json::json!({ "http.route": "/users/{user}/**", "url.path": path, "uma.rows": ["D15", "C3"], "uma.row": "D15" }), &shared())
        };
        assert!(explained("/users/alice/x").contains("gateway.yaml:13   user=alice"), "{}", explained("/users/alice/x"));
        let link = explained("/s/kXB1");
        assert!(link.contains("gateway.yaml:13   by the link of a share") && !link.contains("user="), "{link}");
    }

    #[test]
    fn what_a_share_lacks_is_added_to_the_share_and_what_the_route_lacks_to_the_route() {
        let explained = |method: &str, server: Option<&str>, route: &str| {
            let record = serde_json::json!({
                "http.request.method": method, "http.route": route, "url.path": "/users/alice/x", "uma.authorization_server": server,
                "uma.scopes": if server.is_some() { vec!["edit"] } else { Vec::new() }, "uma.rows": ["D9"], "uma.row": "D9",
            });
            let record = serde_json::Value::from_iter(record.as_object().expect("members").clone().into_iter().filter(|(_, value)| !value.is_null()));
            print(&record, &shared())
        };
        assert!(explained("PUT", Some("keycloak"), "/users/{user}/**").contains("next       its owner adds what is missing to the share's `scopes`"));
        assert!(explained("POST", None, "/users/{user}/**").contains("next       add the method to the route's `scopes`"));
        assert!(explained("PUT", Some("keycloak"), "/files/**").contains("next       add the scope to the resource at the authorization server"));
    }

    #[test]
    fn what_was_wrong_with_the_servers_answer_is_explained_where_nobody_could_be_asked() {
        let why = "the introspection endpoint's answer cannot be used: `active` is not true or false";
        let explained = |decision: &str| {
            let record = serde_json::json!({ "http.route": "/albums/**", "uma.rows": ["I6"], "uma.row": "I6", "uma.decision": decision, "uma.reason": why });
            print(&record, &Places::default())
        };
        assert!(explained("unreachable").contains(why), "{}", explained("unreachable"));
        assert!(!explained("permitted").contains(why));
    }
}
