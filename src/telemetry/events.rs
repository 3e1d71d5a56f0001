//! Operational events (`tracing`) as lines among the others, in the same format and by the same thread.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::Telemetry;
use super::config::{Format, Level, LogConfig};
use super::line::plain;
use super::time::Rfc3339;

/// The target of events that belong into the audit log as well: what was decided about an owner, without a request.
pub const AUDITED: &str = concat!(env!("CARGO_CRATE_NAME"), "::audit");

/// Overrides `log.level`, in the form `warn,uma_gateway=debug`.
const FILTER_VARIABLE: &str = "UMA_GATEWAY_LOG";

/// Sends the process's events to this log. Gives `false` when the process has a subscriber already (several gateways in one process): then that one stays.
pub fn init_events(config: &LogConfig, telemetry: &Telemetry) -> bool {
    let asked = std::env::var(FILTER_VARIABLE).ok().and_then(|text| text.parse().ok());
    let events = Events { format: config.format, telemetry: telemetry.clone() };
    tracing_subscriber::registry().with(asked.unwrap_or_else(|| filter(config.level))).with(events).try_init().is_ok()
}

/// Our own events from this level on; of libraries only warnings, since what they say at lower levels may quote a message.
fn filter(level: Level) -> Targets {
    let level = match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    };
    // What h2 warns of is what a peer does, as often as it likes.
    let ours = Targets::new().with_default(level.min(tracing::Level::WARN)).with_target(env!("CARGO_CRATE_NAME"), level);
    ours.with_target("h2", tracing::Level::ERROR).with_target(AUDITED, tracing::Level::INFO)
}

/// Writes events as lines.
struct Events {
    format: Format,
    telemetry: Telemetry,
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let audited = event.metadata().target() == AUDITED;
        self.telemetry.send_event(line(self.format, event, SystemTime::now()), audited);
    }
}

fn line(format: Format, event: &Event<'_>, now: SystemTime) -> Vec<u8> {
    let mut fields = Fields(Map::new());
    event.record(&mut fields);
    let message = fields.0.remove("message");
    let (level, target) = (event.metadata().level(), event.metadata().target());
    match format {
        Format::Json => {
            let mut object = Map::new();
            object.insert("time".to_owned(), Rfc3339(now).to_string().into());
            object.insert("level".to_owned(), level.as_str().into());
            object.insert("target".to_owned(), target.into());
            object.extend(message.map(|message| ("message".to_owned(), message)));
            object.extend(fields.0.into_iter().filter(|(name, _)| !matches!(name.as_str(), "time" | "level" | "target")));
            Value::Object(object).to_string().into_bytes()
        }
        Format::Text => {
            let mut text = String::new();
            let _ = write!(text, "{} {level:<5} ", Rfc3339(now));
            let values = message.map(|message| (None, message)).into_iter().chain(fields.0.into_iter().map(|(name, value)| (Some(name), value)));
            for (place, (name, value)) in values.enumerate() {
                text.push_str(if place == 0 { "" } else { " " });
                if let Some(name) = name {
                    let _ = write!(text, "{name}=");
                }
                match value {
                    Value::String(value) => plain(&mut text, &value),
                    other => drop(write!(text, "{other}")),
                }
            }
            text.into_bytes()
        }
    }
}

/// Collects an event's fields.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    /// An error with its causes: `a: b: c`.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(next) = cause {
            let _ = write!(text, ": {next}");
            cause = next.source();
        }
        self.put(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Keeps lines instead of sending them.
    #[derive(Clone)]
    struct Keep(Format, Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Keep {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let line = line(self.0, event, SystemTime::UNIX_EPOCH);
            self.1.lock().expect("no panic").push(String::from_utf8(line).expect("UTF-8"));
        }
    }

    fn lines(format: Format, emit: impl FnOnce()) -> Vec<String> {
        let kept = Keep(format, Arc::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter(Level::Info)).with(kept.clone()), emit);
        std::mem::take(&mut kept.1.lock().expect("no panic"))
    }

    #[test]
    fn an_event_is_one_json_object_with_the_time_that_access_lines_have() {
        let lines = lines(Format::Json, || tracing::warn!(kind = "upstream", attempts = 3, "not\nreachable"));
        let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
        let value: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["level"], "WARN");
        assert_eq!(value["message"], "not\nreachable");
        assert_eq!(value["attempts"], 3);
    }

    #[test]
    fn text_holds_no_control_characters_of_others() {
        let lines = lines(Format::Text, || tracing::warn!(name = "a\u{1b}[31mb\n", "reachable"));
        let [line] = lines.as_slice() else { panic!("one line: {lines:?}") };
        assert_eq!(line, "1970-01-01T00:00:00.000Z WARN  reachable name=a\\u{1b}[31mb\\u{a}");
    }

    #[test]
    fn an_error_is_shown_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("inner"));
        let lines = lines(Format::Json, || tracing::error!(error = &error as &dyn std::error::Error, "failed"));
        assert!(lines.concat().contains("\"error\":\"outer: inner\""), "{lines:?}");
    }

    #[test]
    fn libraries_are_heard_from_warnings_on() {
        let lines = lines(Format::Text, || {
            tracing::info!(target: "hyper::proto", "quotes a message");
            tracing::debug!("ours, too low");
            tracing::warn!(target: "hyper::proto", "heard");
            tracing::warn!(target: "h2::proto", "a peer's doing");
        });
        assert_eq!(lines, ["1970-01-01T00:00:00.000Z WARN  heard"]);
    }
}
