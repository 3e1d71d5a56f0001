//! A record as a line of the access log, as a line of the audit log, and as a whole for `explain`.
//!
//! The names follow OpenTelemetry's where it has any. Only what stands in a [`Record`] can be written, and a record holds no secret.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use super::json::{List, Millis, Object};
use super::metrics::version_label;
use super::time::Rfc3339;
use super::{CacheState, Record};
use crate::response::Row;
use crate::uma::Scope;

/// The whole record, for `explain`.
#[must_use]
pub fn to_json(record: &Record) -> serde_json::Value {
    let mut line = Vec::new();
    Line(record, Kind::Whole).write_json(&mut line);
    serde_json::from_slice(&line).unwrap_or_default()
}

/// Which members a line has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// How the request was served.
    Access,
    /// How it was decided.
    Audit,
    /// Everything.
    Whole,
}

/// One line, without its end.
pub struct Line<'a>(pub &'a Record, pub Kind);

impl Line<'_> {
    /// As a JSON object.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let Self(record, kind) = *self;
        let mut line = Object::begin(out);
        line.put("time", Some(Rfc3339(record.time)));
        line.put(
            "target",
            match kind {
                Kind::Access => Some("access"),
                Kind::Audit => Some("audit"),
                Kind::Whole => None,
            },
        );
        line.put("request_id", Some(&*record.id.0));
        line.put("trace_id", record.trace_id);
        http(&mut line, record);
        if kind != Kind::Audit {
            served(&mut line, record);
        }
        decided(&mut line, record);
        if kind != Kind::Access {
            judged(&mut line, record);
        }
        if kind == Kind::Whole {
            explained(&mut line, record);
        }
        line.end();
    }

    /// For people: time, status, method and path, what was decided and why, how long it took, who asked.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        let Self(record, kind) = self;
        let mut text = String::with_capacity(160);
        let _ = write!(text, "{} {} ", Rfc3339(record.time), if *kind == Kind::Audit { "audit" } else { "access" });
        match record.status {
            0 => text.push_str("---"),
            status => drop(write!(text, "{status}")),
        }
        let _ = write!(text, " {} ", record.method);
        plain(&mut text, record.host.as_deref().unwrap_or("-"));
        plain(&mut text, record.path.as_deref().unwrap_or(" -"));
        let decision = record.outcome().map_or("-", super::Outcome::label);
        let _ = write!(text, " {decision} {} {}", record.row().map_or("-", Row::label), millis(record.duration));
        let _ = write!(text, "ms {} client=", cache_word(record.cache).unwrap_or("uncached"));
        match record.client {
            Some(client) => drop(write!(text, "{client}")),
            None => text.push('-'),
        }
        for (name, value) in [("subject", &record.subject), ("route", &record.route), ("upstream", &record.upstream)] {
            if let Some(value) = value {
                let _ = write!(text, " {name}=");
                plain(&mut text, value);
            }
        }
        if *kind == Kind::Audit {
            if let Some(resource) = &record.resource {
                text.push_str(" resource=");
                plain(&mut text, &resource.0);
            }
            text.push_str(" scopes=");
            for (place, scope) in record.needed.iter().enumerate() {
                text.push_str(if place == 0 { "" } else { "," });
                plain(&mut text, &scope.0);
            }
        }
        text.push_str(" id=");
        plain(&mut text, &record.id.0);
        let _ = out.write_all(text.as_bytes());
    }
}

/// What was asked and answered.
fn http(line: &mut Object<'_>, record: &Record) {
    line.put("http.request.method", Some(record.method.as_str()));
    line.put("server.address", record.host.as_deref());
    line.put("url.path", record.path.as_deref());
    line.put("http.route", record.route.as_deref());
    line.put("http.response.status_code", (record.status != 0).then_some(u64::from(record.status)));
    line.put("client.address", record.client);
}

/// How it was served.
fn served(line: &mut Object<'_>, record: &Record) {
    line.put("url.scheme", Some(record.scheme));
    line.put("network.protocol.version", Some(version_label(record.version)));
    line.put("network.peer.address", record.peer.filter(|peer| record.client != Some(*peer)));
    line.put("user_agent.original", record.user_agent.as_deref());
    line.put("duration_ms", Some(Millis(record.duration)));
    line.put("overhead_ms", (record.status != 0 && !record.overhead.is_zero()).then_some(Millis(record.overhead)));
    line.put("http.request.body.size", Some(record.bytes_in));
    line.put("http.response.body.size", Some(record.bytes_out));
    line.put("complete", (!record.complete).then_some(false));
    line.put("upstream.name", record.upstream.as_deref());
    line.put("upstream.address", record.upstream_address.as_deref());
    line.put("upstream.duration_ms", record.upstream_duration.map(Millis));
}

/// What was decided, and why.
fn decided(line: &mut Object<'_>, record: &Record) {
    line.put("uma.decision", record.outcome().map(super::Outcome::label));
    line.put("uma.row", record.row().map(Row::label));
    let rows = record.rows.iter().map(Row::label);
    line.put("uma.rows", rows.clone().next().map(|_| List(rows)));
    line.put("uma.reason", record.reason.as_deref());
    line.put("uma.authorization_server", record.server.as_deref());
    line.put("uma.authorization_server_ms", (!record.authorization_server.is_zero()).then_some(Millis(record.authorization_server)));
    line.put("uma.resource_id", record.resource.as_ref().map(|resource| &*resource.0));
    line.put("uma.scopes", scopes(&record.needed));
    line.put("uma.subject", record.subject.as_deref());
    line.put("uma.ticket_issued", Some(record.ticket_issued));
    line.put("uma.cache", cache_word(record.cache));
}

/// On what grounds.
fn judged(line: &mut Object<'_>, record: &Record) {
    line.put("uma.granted", scopes(&record.granted));
    line.put("uma.client_id", record.client_id.as_deref());
    line.put("uma.token_id", record.token.as_ref().and_then(|token| std::str::from_utf8(token).ok()));
    line.put(
        "uma.cache_age_ms",
        match record.cache {
            CacheState::Hit(age) => Some(Millis(age)),
            CacheState::None | CacheState::NegativeHit | CacheState::Miss => None,
        },
    );
}

/// What helps to understand it.
fn explained(line: &mut Object<'_>, record: &Record) {
    line.put("uma.row_meaning", record.row().map(|row| row.meaning().trim()));
    line.put("uma.resource_name", record.resource_name.as_deref());
    line.put("uma.owner", record.owner.as_deref());
    line.put("uma.username", record.username.as_deref());
    line.put("uma.token_left_s", record.token_left.map(|left| left.as_secs()));
    line.put("uma.opt_ins", (!record.opt_ins.is_empty()).then(|| List(record.opt_ins.names())));
    line.put("uma.route_line", record.route_line.map(u64::from));
}

const fn cache_word(cache: CacheState) -> Option<&'static str> {
    match cache {
        CacheState::None => None,
        CacheState::Hit(_) => Some("hit"),
        CacheState::NegativeHit => Some("negative_hit"),
        CacheState::Miss => Some("miss"),
    }
}

fn scopes(scopes: &[Scope]) -> Option<List<impl Iterator<Item = &str> + Clone>> {
    (!scopes.is_empty()).then(|| List(scopes.iter().map(|scope| &*scope.0)))
}

/// Milliseconds with three places.
fn millis(duration: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "2^52 µs are more than a century")]
    let micros = duration.as_micros() as f64;
    micros / 1000.0
}

/// Nothing that a terminal would obey, and no line ends: whoever chooses a path or a name must not write the log.
pub fn plain(out: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
}

#[cfg(test)]
mod tests;
