//! Tests of a whole request's record, through both outer layers.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tower::{ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::response::{Rejection, RejectionLayer, Row};
use crate::telemetry::config::{Audit, LogConfig};
use crate::telemetry::{Metrics, Record, RequestId};

const SECRETS: [&str; 5] = ["planted-rpt", "planted-cookie", "planted-query", "planted-ticket", "planted-password"];

struct Asked {
    recorder: Recorder,
    head: http::request::Parts,
}

impl Recorded for Asked {
    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn head(&self) -> &http::request::Parts {
        &self.head
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("poisoned"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct World {
    telemetry: Telemetry,
    kept: Kept,
}

impl World {
    fn new() -> Self {
        let kept = Kept::default();
        let metrics = Arc::new(Metrics::new().expect("definitions are valid"));
        let config = LogConfig { audit: Some(Audit::Stdout), ..LogConfig::default() };
        Self { telemetry: Telemetry::start_into(&config, metrics, Box::new(kept.clone())).expect("a thread"), kept }
    }

    fn request(method: &str) -> Asked {
        let request = http::Request::builder()
            .method(method)
            .uri("/albums/vacation?token=planted-query")
            .header("authorization", "Bearer planted-rpt")
            .header("cookie", "session=planted-cookie")
            .header("x-password", "planted-password")
            .header("user-agent", "curl/8");
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let recorder = Recorder::new(RequestId("4q7zk2".into()), head.method.clone(), None, "http");
        recorder.with(|record| record.path = Some("/albums/vacation".into()));
        Asked { recorder, head }
    }

    async fn answer<F, Fut>(&self, request: Asked, inside: F) -> Response<Body>
    where
        F: FnMut(Asked) -> Fut,
        Fut: Future<Output = Result<Response<Body>, Rejection>>,
    {
        let stack = ServiceBuilder::new().layer(RecordLayer::new(&self.telemetry)).layer(RejectionLayer).service(service_fn(inside));
        stack.oneshot(request).await.unwrap_or_else(|never| match never {})
    }

    async fn record(&self) -> Record {
        self.telemetry.settled().await;
        self.telemetry.ring().find("4q7zk2").expect("a record")
    }

    fn counts(&self, line: &str) -> bool {
        self.telemetry.metrics().encode().expect("metrics").lines().any(|found| found.starts_with(line))
    }
}

fn challenge() -> Rejection {
    Rejection::PermissionRequired {
        challenge: HeaderValue::from_static("UMA realm=\"r\", ticket=\"planted-ticket\""),
        open_with: None,
        body: None,
        forbidden: false,
    }
}

#[tokio::test]
async fn a_relayed_answer_is_recorded_when_its_body_has_ended() {
    let world = World::new();
    let answer = world
        .answer(World::request("GET"), async |request: Asked| {
            [Row::I1, Row::E10, Row::U1].into_iter().for_each(|row| request.recorder.pass(row));
            Ok(Response::new(Body::full(Bytes::from_static(b"beach"))))
        })
        .await;
    assert_eq!(answer.headers()["x-request-id"], "4q7zk2");
    world.telemetry.settled().await;
    assert!(world.telemetry.ring().is_empty());
    assert!(world.counts("http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} 1"));

    assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "beach");
    let record = world.record().await;
    assert_eq!((record.status, record.bytes_out, record.complete), (200, 5, true));
    assert!(record.duration >= record.overhead && record.duration > Duration::ZERO);
    assert!(world.counts("http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} 0"));
    assert!(world.counts("uma_decisions_total{outcome=\"permitted\",reason=\"E10\"} 1"));
}

#[tokio::test]
async fn an_answer_without_a_body_is_recorded_at_once() {
    let world = World::new();
    let answer = world.answer(World::request("HEAD"), async |_| Err(Rejection::NoRoute)).await;
    assert!(answer.body().is_empty());
    let record = world.record().await;
    assert_eq!((record.status, record.complete, record.row()), (404, true, Some(Row::D7)));
}

#[tokio::test]
async fn a_body_that_is_broken_off_says_so() {
    let world = World::new();
    drop(world.answer(World::request("GET"), async |_| Err(Rejection::NoRoute)).await);
    let record = world.record().await;
    assert_eq!((record.bytes_out, record.complete), (0, false));
    let labels = "http_request_method=\"GET\",http_response_status_code=\"404\",http_route=\"\",network_protocol_version=\"1.1\",url_scheme=\"http\"";
    assert!(world.counts(&format!("http_server_request_duration_seconds_count{{error_type=\"aborted\",{labels}}} 1")));
}

#[tokio::test]
async fn a_client_that_goes_before_the_answer_leaves_a_record() {
    let world = World::new();
    let mut stack = ServiceBuilder::new()
        .layer(RecordLayer::new(&world.telemetry))
        .layer(RejectionLayer)
        .service(service_fn(|_: Asked| std::future::pending::<Result<Response<Body>, Rejection>>()));
    drop(stack.call(World::request("GET")));
    assert_eq!(world.record().await.status, 0);
    assert!(world.counts("http_server_active_requests{http_request_method=\"GET\",url_scheme=\"http\"} 0"));
}

#[tokio::test]
async fn a_rejection_notes_its_row_and_reason_and_is_answered() {
    let world = World::new();
    let answer = world
        .answer(World::request("GET"), async |request: Asked| {
            request.recorder.pass(Row::D15);
            Err(challenge())
        })
        .await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    drop(answer.into_body().collect().await.expect("a body"));
    let record = world.record().await;
    assert!(record.ticket_issued);
    assert_eq!(record.rows.iter().collect::<Vec<_>>(), [Row::D15, Row::C3]);
    assert_eq!(record.row(), Some(Row::D15));
    assert!(world.counts("uma_decisions_total{outcome=\"challenged\",reason=\"D15\"} 1"));
    assert!(world.counts("uma_tickets_total 1"));
}

#[tokio::test]
async fn planted_secrets_never_show_up() {
    let world = World::new();
    let answer = world.answer(World::request("GET"), async |_| Err(challenge())).await;
    drop(answer.into_body().collect().await.expect("a body"));
    let record = world.record().await;
    let whole = crate::telemetry::to_json(&record).to_string();
    let lines = String::from_utf8(world.kept.0.lock().expect("no panic").clone()).expect("UTF-8");
    let metrics = world.telemetry.metrics().encode().expect("metrics");
    assert_eq!(lines.lines().count(), 2, "access and audit: {lines}");
    for text in [lines, whole, metrics, format!("{record:?}")] {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
