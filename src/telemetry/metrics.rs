//! Metrics in the Prometheus text format, with OpenTelemetry's names for HTTP (semantic conventions, `http.server.*`) and our own for UMA.
//!
//! The only module that knows the `prometheus` crate. No label ever holds a path, a host, a subject, a token or a ticket: labels are the words of
//! `words.rs`, status codes, and names from the configuration. One set per gateway, handed around as an `Arc`, so several gateways fit into one process.

mod handles;
mod servers;
mod words;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::process_collector::ProcessCollector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::response::Row;

pub(super) use handles::{Active, Handles};
pub use servers::{Counting, RetryCounters, ServerCounters};
#[cfg(feature = "otel")]
pub(super) use words::method_label;
pub(super) use words::version_label;
pub use words::{AsEndpoint, AsOutcome, CacheKind, ConnectionFault, Followed, Outcome, SecretKind, ShareState};

/// The media type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Buckets of OpenTelemetry's HTTP durations, in seconds.
const HTTP_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// What the gateway itself adds, in seconds: OpenTelemetry's first bucket would swallow all of it.
const OVERHEAD_BUCKETS: [f64; 15] =
    [0.000_001, 0.000_002_5, 0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05];

/// Routes that get series of their own; a configuration that is reloaded for ever must not fill the memory.
const ROUTE_LIMIT: usize = 4096;

/// A label that stands for everything else.
const OTHER: &str = "_OTHER";

/// A metric could not be defined.
#[derive(Debug, thiserror::Error)]
#[error("a metric cannot be defined")]
pub struct MetricsError(#[from] prometheus::Error);

/// Every metric of one gateway.
pub struct Metrics {
    registry: Registry,
    server_duration: HistogramVec,
    client_duration: HistogramVec,
    active: IntGaugeVec,
    overhead: Histogram,
    decisions: IntCounterVec,
    tickets: IntCounter,
    as_requests: IntCounterVec,
    as_duration: HistogramVec,
    cache_hits: IntCounterVec,
    cache_misses: IntCounterVec,
    cache_evictions: IntCounterVec,
    pat_expiry: IntGaugeVec,
    without_consent: IntGaugeVec,
    resources: IntGaugeVec,
    shares: IntGaugeVec,
    followed: IntCounterVec,
    reload_successful: IntGauge,
    reload_success_time: IntGauge,
    secret_loaded: IntGaugeVec,
    dependency_up: IntGaugeVec,
    lines_dropped: IntCounterVec,
    panics: IntCounter,
    connections: IntGauge,
    connections_limit: IntGauge,
    connections_total: IntCounterVec,
    tunnels: IntGauge,
    certificate_expiry: IntGaugeVec,
    certificate_reads: IntCounterVec,
    connection_faults: IntCounterVec,
    servers: servers::Families,
    routes: Mutex<HashSet<Arc<str>>>,
}

/// Counters of one part of the cache. Hits and misses of the introspection cache are counted from the records; the cache counts the rest.
#[derive(Clone)]
pub struct CacheCounters {
    hits: IntCounter,
    misses: IntCounter,
    evictions: IntCounter,
}

impl CacheCounters {
    /// An answer was there.
    pub fn hit(&self) {
        self.hits.inc();
    }

    /// None was.
    pub fn miss(&self) {
        self.misses.inc();
    }

    /// An entry had to go.
    pub fn evicted(&self) {
        self.evictions.inc();
    }
}

impl Metrics {
    /// A new set, all at zero.
    ///
    /// # Errors
    /// When a definition is not valid, which a test rules out.
    pub fn new() -> Result<Self, MetricsError> {
        let define = Define(Registry::new());
        let http = ["http_request_method", "http_response_status_code", "http_route", "url_scheme", "network_protocol_version", "error_type"];
        let client = ["http_request_method", "http_response_status_code", "server_address", "error_type"];
        let metrics = Self {
            server_duration: define.histograms("http_server_request_duration_seconds", "Time from a request's head to the end of its answer.", &http)?,
            client_duration: define.histograms(
                "http_client_request_duration_seconds",
                "Time from a request to a content server to its answer's head.",
                &client,
            )?,
            active: define.gauges("http_server_active_requests", "Requests that are being answered.", &["http_request_method", "url_scheme"])?,
            overhead: define.overhead("uma_gateway_overhead_duration_seconds", "Time to an answer's head without waiting for other servers.")?,
            decisions: define.counters("uma_decisions_total", "Decisions, by outcome and by row of the decision table.", &["outcome", "reason"])?,
            tickets: define.counter("uma_tickets_total", "Permission tickets handed to clients.")?,
            as_requests: define.counters("uma_as_requests_total", "Requests to authorization servers.", &["endpoint", "outcome"])?,
            as_duration: define.histograms("uma_as_request_duration_seconds", "Time that authorization servers take to answer.", &["endpoint"])?,
            cache_hits: define.counters("uma_cache_hits_total", "Answers found in the cache.", &["cache"])?,
            cache_misses: define.counters("uma_cache_misses_total", "Answers not found in the cache.", &["cache"])?,
            cache_evictions: define.counters("uma_cache_evictions_total", "Entries that had to make room.", &["cache"])?,
            pat_expiry: define.gauges("uma_pat_expiry_timestamp_seconds", "When the protection API access token expires.", &["authorization_server"])?,
            without_consent: define.gauges(
                "uma_owners_without_consent",
                "Owners whose password or consent the authorization server refuses, or whom it lets protect nothing.",
                &["authorization_server"],
            )?,
            resources: define.gauges("uma_resources_registered", "Resources that the gateway has registered.", &["authorization_server"])?,
            shares: define.gauges("uma_shares", "Shares, by how they stand.", &["state"])?,
            followed: define.counters("uma_shares_followed_total", "What content servers made or deleted, by what became of its share.", &["outcome"])?,
            reload_successful: define.gauge("uma_gateway_config_last_reload_successful", "1 when the configuration was read without mistakes last time.")?,
            reload_success_time: define.gauge("uma_gateway_config_last_reload_success_timestamp_seconds", "When the configuration in force was read.")?,
            secret_loaded: define.gauges("uma_gateway_secret_loaded_timestamp_seconds", "When the secret in use was taken into use.", &["kind", "name"])?,
            dependency_up: define.gauges("uma_gateway_dependency_up", "1 while a server that the gateway needs can be used.", &["kind", "name"])?,
            lines_dropped: define.counters("uma_gateway_log_lines_dropped_total", "Log lines and records that were lost.", &["reason"])?,
            panics: define.counter("uma_gateway_panics_total", "Faults in the gateway that ended a connection.")?,
            connections: define.gauge("uma_gateway_connections", "Open downstream connections.")?,
            connections_limit: define.gauge("uma_gateway_connections_limit", "Downstream connections that may be open at a time.")?,
            connections_total: define.counters("uma_gateway_connections_total", "Downstream connections, accepted or refused.", &["outcome"])?,
            tunnels: define.gauge("uma_gateway_tunnels", "Upgraded connections that are open.")?,
            certificate_expiry: define.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When a listener's certificate ends.",
                &["listener", "certificate"],
            )?,
            certificate_reads: define.counters(
                "uma_gateway_tls_reloads_total",
                "Certificates that changed while the gateway ran, put in use or refused.",
                &["kind", "name", "outcome"],
            )?,
            connection_faults: define.counters(
                "uma_gateway_connection_faults_total",
                "Downstream connections that ended without a request's record, by what was wrong.",
                &["reason"],
            )?,
            servers: servers::Families::define(&define)?,
            routes: Mutex::default(),
            registry: define.0.clone(),
        };
        define.gauges("build_info", "The version that runs.", &["version"])?.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1);
        metrics.preset()?;
        Ok(metrics)
    }

    /// The process, and closed label sets at zero, so that a first failure is an increase.
    fn preset(&self) -> Result<(), MetricsError> {
        self.registry.register(Box::new(ProcessCollector::for_self()))?;
        for kind in CacheKind::ALL {
            self.cache_hits.get_metric_with_label_values(&[kind.label()])?;
            self.cache_misses.get_metric_with_label_values(&[kind.label()])?;
            self.cache_evictions.get_metric_with_label_values(&[kind.label()])?;
        }
        for reason in ["full", "write"] {
            self.lines_dropped.get_metric_with_label_values(&[reason])?;
        }
        for outcome in ["accepted", "refused"] {
            self.connections_total.get_metric_with_label_values(&[outcome])?;
        }
        for row in Row::ALL {
            if let Some(outcome) = Outcome::of_row(*row) {
                self.decisions.get_metric_with_label_values(&[outcome.label(), row.label()])?;
            }
        }
        for fault in ConnectionFault::ALL {
            self.connection_faults.get_metric_with_label_values(&[fault.label()])?;
        }
        for followed in Followed::ALL {
            self.followed.get_metric_with_label_values(&[followed.label()])?;
        }
        for endpoint in AsEndpoint::ALL {
            self.as_duration.get_metric_with_label_values(&[endpoint.label()])?;
            for outcome in AsOutcome::ALL {
                self.as_requests.get_metric_with_label_values(&[endpoint.label(), outcome.label()])?;
            }
        }
        Ok(())
    }

    /// Everything, as text (`text/plain; version=0.0.4`).
    ///
    /// # Errors
    /// When the metrics contradict each other, which a test rules out.
    pub fn encode(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// What asking an authorization server has come to.
    pub fn authorization_server_answered(&self, endpoint: AsEndpoint, outcome: AsOutcome) {
        if let Ok(requests) = self.as_requests.get_metric_with_label_values(&[endpoint.label(), outcome.label()]) {
            requests.inc();
        }
    }

    /// How long an authorization server took.
    pub fn authorization_server_took(&self, endpoint: AsEndpoint, took: Duration) {
        if let Ok(duration) = self.as_duration.get_metric_with_label_values(&[endpoint.label()]) {
            duration.observe(took.as_secs_f64());
        }
    }

    /// When a server's protection API access token expires, in seconds since 1970; 0: there is none.
    pub fn pat_expires(&self, authorization_server: &str, timestamp: i64) {
        set(&self.pat_expiry, &[authorization_server], timestamp);
    }

    /// How many owners' password or consent a server refuses.
    pub fn owners_without_consent(&self, authorization_server: &str, count: usize) {
        set(&self.without_consent, &[authorization_server], i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How many resources are registered at a server.
    pub fn resources_registered(&self, authorization_server: &str, count: usize) {
        set(&self.resources, &[authorization_server], i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The counters of one part of the cache, to be kept.
    ///
    /// # Errors
    /// Never, as a test shows; the type of the library has it.
    pub fn cache(&self, kind: CacheKind) -> Result<CacheCounters, MetricsError> {
        Ok(CacheCounters {
            hits: self.cache_hits.get_metric_with_label_values(&[kind.label()])?,
            misses: self.cache_misses.get_metric_with_label_values(&[kind.label()])?,
            evictions: self.cache_evictions.get_metric_with_label_values(&[kind.label()])?,
        })
    }

    /// So many shares stand in this way.
    pub fn shares(&self, state: ShareState, count: u64) {
        set(&self.shares, &[state.label()], i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A content server has made or deleted something whose share follows.
    pub fn share_followed(&self, outcome: Followed) {
        increment(&self.followed, &[outcome.label()]);
    }

    /// A configuration was read: into force, or refused.
    pub fn config_loaded(&self, successful: bool) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            self.reload_success_time.set(now());
        }
    }

    /// When the certificates of listeners end, in seconds since 1970: listener, certificate, time. Others are forgotten.
    pub fn certificates_expire<'a>(&self, all: impl IntoIterator<Item = (&'a str, String, i64)>) {
        self.certificate_expiry.reset();
        for (listener, certificate, timestamp) in all {
            set(&self.certificate_expiry, &[listener, &certificate], timestamp);
        }
    }

    /// Files of TLS changed: they are in use, or refused. `kind` is `listener` or `upstream`.
    pub fn certificates_read(&self, kind: &str, name: &str, used: bool) {
        increment(&self.certificate_reads, &[kind, name, if used { "used" } else { "refused" }]);
    }

    /// A secret was taken into use: at the start, or when a new one has worked for the first time.
    pub fn secret_loaded(&self, kind: SecretKind, name: &str) {
        set(&self.secret_loaded, &[kind.label(), name], now());
    }

    /// A secret is used no more.
    pub fn secret_gone(&self, kind: SecretKind, name: &str) {
        // It may never have been there.
        let _ = self.secret_loaded.remove_label_values(&[kind.label(), name]);
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// How many downstream connections may be open at a time.
    pub fn connections_at_most(&self, count: usize) {
        self.connections_limit.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A downstream connection was accepted.
    pub fn connection_opened(&self) {
        increment(&self.connections_total, &["accepted"]);
        self.connections.inc();
    }

    /// A connection that was accepted has ended.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// A connection ended, or was never had, for a reason that no request's record tells.
    pub fn connection_failed(&self, fault: ConnectionFault) {
        increment(&self.connection_faults, &[fault.label()]);
    }

    /// A downstream connection was closed at once: there were too many.
    pub fn connection_refused(&self) {
        increment(&self.connections_total, &["refused"]);
    }

    /// A connection was upgraded.
    pub fn tunnel_opened(&self) {
        self.tunnels.inc();
    }

    /// An upgraded connection has ended.
    pub fn tunnel_closed(&self) {
        self.tunnels.dec();
    }

    /// What is under way: downstream connections, requests, upgraded connections.
    #[must_use]
    pub fn under_way(&self) -> (i64, i64, i64) {
        use prometheus::core::Collector as _;
        let families = self.active.collect();
        let requests = families.iter().flat_map(|family| family.get_metric()).map(|metric| metric.get_gauge().get_value()).sum::<f64>();
        #[expect(clippy::cast_possible_truncation, reason = "a gauge of whole numbers")]
        (self.connections.get(), requests as i64, self.tunnels.get())
    }

    /// Lines or records were lost because the log's thread did not keep up.
    pub(super) fn line_dropped(&self) {
        increment(&self.lines_dropped, &["full"]);
    }

    /// Lines were lost because they could not be written.
    pub(super) fn lines_unwritten(&self, lines: u64) {
        if lines == 0 {
            return;
        }
        if let Ok(counter) = self.lines_dropped.get_metric_with_label_values(&["write"]) {
            counter.inc_by(lines);
        }
    }

    pub(super) fn dependency(&self, kind: &str, name: &str, up: bool) {
        set(&self.dependency_up, &[kind, name], i64::from(up));
    }

    pub(super) fn dependency_gone(&self, kind: &str, name: &str) {
        // It may never have been asked.
        let _ = self.dependency_up.remove_label_values(&[kind, name]);
    }

    /// The route's label: its pattern, unless there have been too many.
    fn route_label<'a>(&self, route: Option<&'a Arc<str>>) -> &'a str {
        let Some(route) = route else { return "" };
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.contains(route) || (routes.len() < ROUTE_LIMIT && routes.insert(Arc::clone(route))) { route } else { OTHER }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn set(gauges: &IntGaugeVec, labels: &[&str], value: i64) {
    if let Ok(gauge) = gauges.get_metric_with_label_values(labels) {
        gauge.set(value);
    }
}

fn increment(counters: &IntCounterVec, labels: &[&str]) {
    if let Ok(counter) = counters.get_metric_with_label_values(labels) {
        counter.inc();
    }
}

/// Defines metrics and registers them.
struct Define(Registry);

impl Define {
    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, MetricsError> {
        let metric = HistogramVec::new(HistogramOpts::new(name, help).buckets(HTTP_BUCKETS.to_vec()), labels)?;
        self.register(metric)
    }

    fn overhead(&self, name: &str, help: &str) -> Result<Histogram, MetricsError> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(OVERHEAD_BUCKETS.to_vec()))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.register(IntCounter::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::new(name, help)?)
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: M) -> Result<M, MetricsError> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

#[cfg(test)]
mod tests;
