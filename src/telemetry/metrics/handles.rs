//! One worker's label handles: each combination of labels is looked up in the registry once, and then found in a small map of the worker's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Version};
use prometheus::{Histogram, IntCounter, IntGauge};

use super::words::{METHODS, method_label, method_place, version_label};
use super::{Metrics, Outcome};
use crate::response::Row;
use crate::telemetry::{CacheState, Record};

/// Combinations that one worker keeps; more than that, and it starts anew.
const KEPT: usize = 4096;

/// A worker's handles.
pub struct Handles {
    metrics: Arc<Metrics>,
    active: HashMap<(usize, &'static str), IntGauge>,
    served: HashMap<ServedKey, Served>,
    asked: HashMap<AskedKey, Asked>,
    decisions: HashMap<(Outcome, Row), IntCounter>,
    cache_hits: Option<IntCounter>,
    cache_negative_hits: Option<IntCounter>,
    cache_misses: Option<IntCounter>,
}

/// The address of a route's name stands for the route; [`Served`] keeps the name alive, so the address cannot come to mean another one.
#[derive(PartialEq, Eq, Hash)]
struct ServedKey {
    route: usize,
    method: usize,
    status: u16,
    scheme: &'static str,
    version: Version,
    complete: bool,
}

struct Served {
    duration: Histogram,
    _route: Option<Arc<str>>,
}

#[derive(PartialEq, Eq, Hash)]
struct AskedKey {
    server: usize,
    method: usize,
    status: u16,
    error: &'static str,
}

struct Asked {
    duration: Histogram,
    _server: Arc<str>,
}

/// A request that is being answered, while it lives.
pub struct Active(Option<IntGauge>);

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec();
        }
    }
}

impl Handles {
    /// Handles of one worker.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        let hits = |kind: super::CacheKind| metrics.cache_hits.get_metric_with_label_values(&[kind.label()]).ok();
        Self {
            cache_hits: hits(super::CacheKind::Introspection),
            cache_negative_hits: hits(super::CacheKind::Negative),
            cache_misses: metrics.cache_misses.get_metric_with_label_values(&[super::CacheKind::Introspection.label()]).ok(),
            metrics: Arc::clone(metrics),
            active: HashMap::new(),
            served: HashMap::new(),
            asked: HashMap::new(),
            decisions: HashMap::new(),
        }
    }

    /// A request has come.
    pub fn begin(&mut self, method: &Method, scheme: &'static str) -> Active {
        let place = method_place(method);
        if let Some(gauge) = self.active.get(&(place, scheme)) {
            gauge.inc();
            return Active(Some(gauge.clone()));
        }
        let Ok(gauge) = self.metrics.active.get_metric_with_label_values(&[METHODS.get(place).copied().unwrap_or_default(), scheme]) else {
            return Active(None);
        };
        gauge.inc();
        self.active.insert((place, scheme), gauge.clone());
        Active(Some(gauge))
    }

    /// A request has ended: everything that its record says is counted.
    pub fn end(&mut self, record: &Record) {
        self.served(record);
        self.asked(record);
        self.decided(record);
        if record.status != 0 {
            self.metrics.overhead.observe(record.overhead.as_secs_f64());
        }
        if record.ticket_issued {
            self.metrics.tickets.inc();
        }
        let cache = match record.cache {
            CacheState::None => &None,
            CacheState::Hit(_) => &self.cache_hits,
            CacheState::NegativeHit => &self.cache_negative_hits,
            CacheState::Miss => &self.cache_misses,
        };
        if let Some(counter) = cache {
            counter.inc();
        }
    }

    fn served(&mut self, record: &Record) {
        let key = ServedKey {
            route: record.route.as_ref().map_or(0, address),
            method: method_place(&record.method),
            status: record.status,
            scheme: record.scheme,
            version: record.version,
            complete: record.complete,
        };
        if let Some(served) = self.served.get(&key) {
            served.duration.observe(record.duration.as_secs_f64());
            return;
        }
        let status = status_label(record.status);
        let error = match record.status {
            _ if !record.complete => "aborted",
            500.. => status.as_str(),
            _ => "",
        };
        let route = self.metrics.route_label(record.route.as_ref());
        let labels = [method_label(&record.method), status.as_str(), route, record.scheme, version_label(record.version), error];
        let Ok(duration) = self.metrics.server_duration.get_metric_with_label_values(&labels) else { return };
        duration.observe(record.duration.as_secs_f64());
        make_room(&mut self.served);
        self.served.insert(key, Served { duration, _route: record.route.clone() });
    }

    /// The request to the content server, where there was one.
    fn asked(&mut self, record: &Record) {
        let last = record.rows.iter().last();
        let (status, error) = match last {
            Some(Row::U1 | Row::U6) => (record.status, ""),
            Some(Row::U2) => (0, "credential_refused"),
            Some(Row::U3) => (0, "connection"),
            Some(Row::U4) => (0, "timeout"),
            _ => return,
        };
        let (Some(server), Some(took)) = (record.upstream_address.as_ref().or(record.upstream.as_ref()), upstream_time(record)) else { return };
        let key = AskedKey { server: address(server), method: method_place(&record.method), status, error };
        if let Some(asked) = self.asked.get(&key) {
            asked.duration.observe(took.as_secs_f64());
            return;
        }
        let status = status_label(status);
        let Ok(duration) = self.metrics.client_duration.get_metric_with_label_values(&[method_label(&record.method), status.as_str(), server, error]) else {
            return;
        };
        duration.observe(took.as_secs_f64());
        make_room(&mut self.asked);
        self.asked.insert(key, Asked { duration, _server: Arc::clone(server) });
    }

    fn decided(&mut self, record: &Record) {
        let (Some(outcome), Some(row)) = (record.outcome(), record.row()) else { return };
        if let Some(counter) = self.decisions.get(&(outcome, row)) {
            counter.inc();
            return;
        }
        let Ok(counter) = self.metrics.decisions.get_metric_with_label_values(&[outcome.label(), row.label()]) else { return };
        counter.inc();
        self.decisions.insert((outcome, row), counter);
    }
}

/// A failure may not have told how long it took; then what the request took is the best there is.
fn upstream_time(record: &Record) -> Option<Duration> {
    record.upstream_duration.or_else(|| record.duration.checked_sub(record.authorization_server))
}

fn address(name: &Arc<str>) -> usize {
    Arc::as_ptr(name).cast::<u8>().addr()
}

fn make_room<Key, Value>(map: &mut HashMap<Key, Value>) {
    if map.len() >= KEPT {
        map.clear();
    }
}

/// The code, or nothing where there was no answer.
fn status_label(status: u16) -> String {
    if status == 0 { String::new() } else { status.to_string() }
}
