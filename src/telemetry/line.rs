//! A record as a line of the access log, as a line of the audit log, and as a whole for `explain`.
//!
//! The names follow OpenTelemetry's where it has any. Only what stands in a [`Record`] can be written, and a record holds no secret.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::metrics::version_label;
use super::time::Rfc3339;
use super::{CacheState, Record};
use crate::response::Row;
use crate::uma::Scope;

/// The whole record, for `explain`.
#[must_use]
pub fn to_json(record: &Record) -> serde_json::Value {
    serde_json::to_value(Line(record, Kind::Whole)).unwrap_or_default()
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
        // Writing into memory cannot fail, and every key is a text.
        let _ = serde_json::to_writer(out, self);
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

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(record, kind) = *self;
        let map = serializer.serialize_map(None)?;
        let mut line = Members(map);
        line.put("time", Some(Shown(Rfc3339(record.time))))?;
        line.put(
            "target",
            match kind {
                Kind::Access => Some("access"),
                Kind::Audit => Some("audit"),
                Kind::Whole => None,
            },
        )?;
        line.put("request_id", Some(&*record.id.0))?;
        line.put("trace_id", record.trace_id.map(Shown))?;
        line.http(record)?;
        if kind != Kind::Audit {
            line.served(record)?;
        }
        line.decided(record)?;
        if kind != Kind::Access {
            line.judged(record)?;
        }
        if kind == Kind::Whole {
            line.explained(record)?;
        }
        line.0.end()
    }
}

/// The members of a line; one that is not known is left out.
struct Members<M>(M);

impl<M: SerializeMap> Members<M> {
    fn put<T: Serialize>(&mut self, name: &'static str, value: Option<T>) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.0.serialize_entry(name, &value))
    }

    /// What was asked and answered.
    fn http(&mut self, record: &Record) -> Result<(), M::Error> {
        self.put("http.request.method", Some(record.method.as_str()))?;
        self.put("server.address", record.host.as_deref())?;
        self.put("url.path", record.path.as_deref())?;
        self.put("http.route", record.route.as_deref())?;
        self.put("http.response.status_code", (record.status != 0).then_some(record.status))?;
        self.put("client.address", record.client.map(Shown))
    }

    /// How it was served.
    fn served(&mut self, record: &Record) -> Result<(), M::Error> {
        self.put("url.scheme", Some(record.scheme))?;
        self.put("network.protocol.version", Some(version_label(record.version)))?;
        self.put("network.peer.address", record.peer.filter(|peer| record.client != Some(*peer)).map(Shown))?;
        self.put("user_agent.original", record.user_agent.as_deref())?;
        self.put("duration_ms", Some(millis(record.duration)))?;
        self.put("overhead_ms", (record.status != 0).then(|| millis(record.overhead)))?;
        self.put("http.request.body.size", Some(record.bytes_in))?;
        self.put("http.response.body.size", Some(record.bytes_out))?;
        self.put("complete", (!record.complete).then_some(false))?;
        self.put("upstream.name", record.upstream.as_deref())?;
        self.put("upstream.address", record.upstream_address.as_deref())?;
        self.put("upstream.duration_ms", record.upstream_duration.map(millis))
    }

    /// What was decided, and why.
    fn decided(&mut self, record: &Record) -> Result<(), M::Error> {
        self.put("uma.decision", record.outcome().map(super::Outcome::label))?;
        self.put("uma.row", record.row().map(Row::label))?;
        let rows: Vec<_> = record.rows.iter().map(Row::label).collect();
        self.put("uma.rows", (!rows.is_empty()).then_some(rows))?;
        self.put("uma.reason", record.reason)?;
        self.put("uma.authorization_server", record.server.as_deref())?;
        self.put("uma.authorization_server_ms", (!record.authorization_server.is_zero()).then(|| millis(record.authorization_server)))?;
        self.put("uma.resource_id", record.resource.as_ref().map(|resource| &*resource.0))?;
        self.put("uma.scopes", scopes(&record.needed))?;
        self.put("uma.subject", record.subject.as_deref())?;
        self.put("uma.ticket_issued", Some(record.ticket_issued))?;
        self.put("uma.cache", cache_word(record.cache))
    }

    /// On what grounds.
    fn judged(&mut self, record: &Record) -> Result<(), M::Error> {
        self.put("uma.granted", scopes(&record.granted))?;
        self.put("uma.client_id", record.client_id.as_deref())?;
        self.put("uma.token_id", record.token.as_ref().and_then(|token| std::str::from_utf8(token).ok()))?;
        self.put(
            "uma.cache_age_ms",
            match record.cache {
                CacheState::Hit(age) => Some(millis(age)),
                CacheState::None | CacheState::NegativeHit | CacheState::Miss => None,
            },
        )
    }

    /// What helps to understand it.
    fn explained(&mut self, record: &Record) -> Result<(), M::Error> {
        self.put("uma.row_meaning", record.row().map(|row| row.meaning().trim()))?;
        self.put("uma.resource_name", record.resource_name.as_deref())?;
        self.put("uma.owner", record.owner.as_deref())?;
        self.put("uma.username", record.username.as_deref())?;
        self.put("uma.token_left_s", record.token_left.map(|left| left.as_secs()))
    }
}

/// Serialised as it is shown.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

const fn cache_word(cache: CacheState) -> Option<&'static str> {
    match cache {
        CacheState::None => None,
        CacheState::Hit(_) => Some("hit"),
        CacheState::NegativeHit => Some("negative_hit"),
        CacheState::Miss => Some("miss"),
    }
}

fn scopes(scopes: &[Scope]) -> Option<Vec<&str>> {
    (!scopes.is_empty()).then(|| scopes.iter().map(|scope| &*scope.0).collect())
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
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
}

#[cfg(test)]
mod tests;
