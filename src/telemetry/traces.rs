//! Traces by OTLP/HTTP, off unless the environment asks for them (OpenTelemetry, environment variables).
//!
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_TRACES_EXPORTER=otlp` switch them on; the exporter itself reads the rest
//! (`…_HEADERS`, `…_TIMEOUT`, `OTEL_BSP_…`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`). The log's thread makes the spans of a finished record; the
//! exporter's own thread sends them, and drops them when the collector does not keep up. A request never waits, and no token, ticket or query is told.

use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient as ExportClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};

use super::metrics::{method_label, version_label};
use super::trace::{Step, Timed, Trace, TraceParent};
use super::{Outcome, Record};
use crate::http_client::{HttpClient, TlsFiles};
use crate::response::Row;
use crate::uma::Scope;

/// The name of the service where `OTEL_SERVICE_NAME` says none.
const SERVICE: &str = "uma-gateway";
/// Bytes of a collector's answer that are read.
const ANSWER: usize = 64 * 1024;
/// The longest that one export may take.
const EXPORT: Duration = Duration::from_secs(10);
/// What the last spans get when the process ends.
const LAST: Duration = Duration::from_millis(500);

/// Why traces cannot be exported although the environment asks for them.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The exporter does not accept its variables.
    #[error("OTEL_EXPORTER_OTLP_…: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The client's own part.
    #[error("the traces' connection cannot be prepared")]
    Client(#[from] crate::http_client::HttpClientError),
    /// Its thread.
    #[error("the traces' thread cannot be started")]
    Thread(#[from] std::io::Error),
    /// A variable that cannot be used.
    #[error("{0} is not one that this gateway knows")]
    Variable(&'static str),
}

/// Where spans go.
pub struct Traces {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// Which traces are recorded (`OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The caller's choice counts.
    parent_based: bool,
    /// Of the others, those whose id is below this are recorded.
    below: u64,
}

/// The exporter and the sampling, where the environment asks for traces.
///
/// # Errors
/// It asks for what cannot be had.
pub fn from_environment() -> Result<Option<(Traces, Sampling)>, TracesError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if !asked_for(&variable)? {
        return Ok(None);
    }
    let sampling = Sampling::read(&variable)?;
    let exporter = SpanExporter::builder().with_http().with_http_client(Client::start()?).build()?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    // The detectors' own attributes come later and win, but an unset name would become `unknown_service`.
    let resource = Resource::builder();
    let resource = if variable("OTEL_SERVICE_NAME").is_none() { resource.with_service_name(SERVICE) } else { resource };
    processor.set_resource(&resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build());
    let scope = InstrumentationScope::builder(SERVICE).with_version(env!("CARGO_PKG_VERSION")).build();
    Ok(Some((Traces { processor, scope }, sampling)))
}

fn asked_for(variable: &impl Fn(&str) -> Option<String>) -> Result<bool, TracesError> {
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        Some("otlp") => Ok(true),
        Some("none") => Ok(false),
        Some(_) => Err(TracesError::Variable("the exporter of OTEL_TRACES_EXPORTER")),
        None => Ok(["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"].iter().any(|name| variable(name).is_some())),
    }
}

impl Sampling {
    fn read(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, TracesError> {
        let ratio = || match variable("OTEL_TRACES_SAMPLER_ARG") {
            None => Ok(u64::MAX),
            Some(text) => part(&text).ok_or(TracesError::Variable("the number of OTEL_TRACES_SAMPLER_ARG")),
        };
        let name = variable("OTEL_TRACES_SAMPLER");
        let (parent_based, below) = match name.as_deref().unwrap_or("parentbased_always_on") {
            "always_on" => (false, u64::MAX),
            "always_off" => (false, 0),
            "traceidratio" => (false, ratio()?),
            "parentbased_always_on" => (true, u64::MAX),
            "parentbased_always_off" => (true, 0),
            "parentbased_traceidratio" => (true, ratio()?),
            _ => return Err(TracesError::Variable("the sampler of OTEL_TRACES_SAMPLER")),
        };
        Ok(Self { parent_based, below })
    }

    /// The place of a request that comes with this parent.
    pub fn begin(self, parent: Option<&TraceParent>) -> Trace {
        Trace::new(parent, |id| match parent {
            Some(parent) if self.parent_based => parent.sampled,
            // By the id alone, so that everyone who samples this way records the same traces.
            _ => {
                let [.., a, b, c, d, e, f, g, h] = id.0;
                self.below == u64::MAX || u64::from_be_bytes([a, b, c, d, e, f, g, h]) < self.below
            }
        })
    }
}

/// The part of all ids that a number from 0 to 1 stands for.
fn part(text: &str) -> Option<u64> {
    let ratio: f64 = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "between 0 and 2^64, and the cast saturates")]
    Some((ratio * u64::MAX as f64) as u64)
}

impl Traces {
    /// Hands on the spans of a request, if its trace is recorded.
    pub fn export(&self, record: &Record) {
        let Some(trace) = record.trace.as_ref().filter(|trace| trace.sampled) else { return };
        let spans = Spans { record, trace, scope: &self.scope };
        for timed in &trace.steps {
            self.processor.on_end(spans.step(timed));
        }
        self.processor.on_end(spans.server());
    }

    /// Sends what is left; for the end of the process.
    pub fn flush(&self) {
        // Whoever stops cannot wait for a collector that does not answer.
        let _ = self.processor.shutdown_with_timeout(LAST);
    }
}

/// Makes the spans of one record.
struct Spans<'a> {
    record: &'a Record,
    trace: &'a Trace,
    scope: &'a InstrumentationScope,
}

impl Spans<'_> {
    fn server(&self) -> SpanData {
        let Self { record, trace, .. } = self;
        let method = match method_label(&record.method) {
            "_OTHER" => "HTTP",
            known => known,
        };
        let name = record.route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        let mut span = self.span(name.into(), trace.span.0, SpanKind::Server, (record.started, record.started + record.duration));
        span.parent_span_id = trace.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.0));
        span.parent_span_is_remote = trace.parent.is_some();
        let attributes = &mut span.attributes;
        put(attributes, "http.request.method", Some(method_label(&record.method)));
        put(attributes, "url.scheme", Some(record.scheme));
        put(attributes, "url.path", record.path.as_deref());
        put(attributes, "http.route", record.route.as_deref());
        put(attributes, "server.address", record.host.as_deref());
        put(attributes, "network.protocol.version", Some(version_label(record.version)));
        put(attributes, "user_agent.original", record.user_agent.as_deref());
        attributes.extend(record.client.map(|client| KeyValue::new("client.address", client.to_string())));
        attributes.extend((record.status != 0).then(|| KeyValue::new("http.response.status_code", i64::from(record.status))));
        put(attributes, "uma.request_id", Some(&record.id.0));
        self.decided(attributes);
        if record.status >= 500 {
            put(attributes, "error.type", Some(&record.status.to_string()));
            span.status = Status::error("");
        } else if !record.complete {
            put(attributes, "error.type", Some("aborted"));
            span.status = Status::error("");
        }
        span
    }

    fn step(&self, timed: &Timed) -> SpanData {
        let Self { record, trace, .. } = self;
        let times = (timed.began, timed.ended);
        let mut span = match timed.step {
            Step::Upstream => self.span(method_label(&record.method).into(), trace.upstream.0, SpanKind::Client, times),
            Step::Authorize => self.span(timed.step.label().into(), super::trace::SpanId::random().0, SpanKind::Internal, times),
            Step::Permission | Step::Introspect | Step::Decision | Step::Resource => {
                self.span(timed.step.label().into(), super::trace::SpanId::random().0, SpanKind::Client, times)
            }
        };
        let attributes = &mut span.attributes;
        match timed.step {
            Step::Upstream => {
                put(attributes, "http.request.method", Some(method_label(&record.method)));
                put(attributes, "server.address", record.upstream_address.as_deref());
                put(attributes, "uma.upstream", record.upstream.as_deref());
                let relayed = record.rows.iter().last() == Some(Row::U1);
                attributes.extend((timed.answered && relayed).then(|| KeyValue::new("http.response.status_code", i64::from(record.status))));
            }
            Step::Authorize => {
                put(attributes, "uma.authorization_server", record.server.as_deref());
                put(attributes, "uma.resource_id", record.resource.as_ref().map(|resource| &*resource.0));
                put(attributes, "uma.scopes", scopes(&record.needed).as_deref());
                self.decided(attributes);
            }
            Step::Permission | Step::Introspect | Step::Decision | Step::Resource => {
                put(attributes, "uma.authorization_server", record.server.as_deref());
            }
        }
        // A refusal is a good answer; none at all is an error.
        if !timed.answered {
            span.status = Status::error("");
        }
        span
    }

    fn decided(&self, attributes: &mut Vec<KeyValue>) {
        put(attributes, "uma.decision", self.record.outcome().map(Outcome::label));
        put(attributes, "uma.row", self.record.row().map(Row::label));
    }

    /// A child of the request's span.
    fn span(&self, name: std::borrow::Cow<'static, str>, id: [u8; 8], kind: SpanKind, (began, ended): (Instant, Instant)) -> SpanData {
        let (trace, flags) = (TraceId::from_bytes(self.trace.id.0), TraceFlags::SAMPLED);
        SpanData {
            span_context: SpanContext::new(trace, SpanId::from_bytes(id), flags, false, TraceState::NONE),
            parent_span_id: SpanId::from_bytes(self.trace.span.0),
            parent_span_is_remote: false,
            span_kind: kind,
            name,
            start_time: self.at(began),
            end_time: self.at(ended),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// The time of day of a moment of this request, by one reading of the clock, so that children lie within their parent.
    fn at(&self, moment: Instant) -> SystemTime {
        self.record.time + moment.saturating_duration_since(self.record.started)
    }
}

fn put(attributes: &mut Vec<KeyValue>, name: &'static str, value: Option<&str>) {
    attributes.extend(value.map(|value| KeyValue::new(name, value.to_owned())));
}

fn scopes(scopes: &[Scope]) -> Option<String> {
    (!scopes.is_empty()).then(|| scopes.iter().map(|scope| &*scope.0).collect::<Vec<_>>().join(" "))
}

/// The exporter asks on a thread without a runtime; the client's connections live on one that has one.
#[derive(Debug)]
struct Client {
    runtime: tokio::runtime::Handle,
    http: HttpClient,
}

impl Client {
    fn start() -> Result<Self, TracesError> {
        let http = HttpClient::new(&TlsFiles::default())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        // It ends with the process; it holds nothing that would have to be put away.
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(Self { runtime: handle, http })
    }
}

#[async_trait::async_trait]
impl ExportClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { http.send(request, ANSWER, tokio::time::Instant::now() + EXPORT).await });
        Ok(sent.await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::trace::{SpanId as OurSpanId, TraceId as OurTraceId};

    fn environment(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn traces_are_off_unless_they_are_asked_for() {
        let table: [(&'static [(&str, &str)], Option<bool>); 7] = [
            (&[], Some(false)),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")], Some(true)),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")], Some(true)),
            (&[("OTEL_TRACES_EXPORTER", "otlp")], Some(true)),
            (&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")], Some(false)),
            (&[("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "otlp")], Some(false)),
            (&[("OTEL_TRACES_EXPORTER", "zipkin")], None),
        ];
        for (pairs, expected) in table {
            assert_eq!(asked_for(&environment(pairs)).ok(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_caller_decides_and_without_one_the_sampler() {
        let parent = |sampled| TraceParent { trace: OurTraceId([7; 16]), span: OurSpanId([1; 8]), sampled };
        let table: [(&'static [(&str, &str)], [bool; 3]); 7] = [
            (&[], [true, true, false]),
            (&[("OTEL_TRACES_SAMPLER", "parentbased_always_off")], [false, true, false]),
            (&[("OTEL_TRACES_SAMPLER", "always_on")], [true, true, true]),
            (&[("OTEL_TRACES_SAMPLER", "always_off")], [false, false, false]),
            (&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")], [false, false, false]),
            (&[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "1.0")], [true, true, false]),
            (&[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.0")], [false, true, false]),
        ];
        for (pairs, expected) in table {
            let sampling = Sampling::read(&environment(pairs)).expect("known");
            let sampled = [None, Some(parent(true)), Some(parent(false))].map(|parent| sampling.begin(parent.as_ref()).sampled);
            assert_eq!(sampled, expected, "{pairs:?}");
        }
        for pairs in [&[("OTEL_TRACES_SAMPLER", "xray")][..], &[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")]] {
            assert!(Sampling::read(&environment(pairs)).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn a_ratio_records_about_that_part() {
        let sampling = Sampling::read(&environment(&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.25")])).expect("known");
        let sampled = (0..4_000).filter(|_| sampling.begin(None).sampled).count();
        assert!((800..1_200).contains(&sampled), "{sampled}");
    }
}
