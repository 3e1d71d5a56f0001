//! Traces, read by a real decoder: the binary between two servers, and a collector that keeps what it is sent.
#![cfg(feature = "otel")]
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use uma_gateway::demo::authorization_server::{self, AuthorizationServer, RunningServer};
use uma_gateway::demo::content_server::{self, ContentServer, RunningContentServer};

const PATIENCE: Duration = Duration::from_secs(20);
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What the collector has been sent.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collected {
    /// Listens for `/v1/traces`.
    async fn start() -> (Self, SocketAddr) {
        let collected = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let kept = collected.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = hyper::service::service_fn(move |request| take(request, kept.clone()));
                tokio::spawn(async move { hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
            }
        });
        (collected, address)
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().expect("no panic");
        requests.iter().flat_map(|request| &request.resource_spans).flat_map(|of| &of.scope_spans).flat_map(|of| of.spans.clone()).collect()
    }

    /// The spans of the request with this path, once its server span is there: the server span and its children by name.
    async fn trace(&self, path: &str) -> (Span, Vec<Span>) {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let spans = self.spans();
                if let Some(server) = spans.iter().find(|span| span.kind == SERVER && attribute(span, "url.path") == path) {
                    let children = spans.iter().filter(|span| span.parent_span_id == server.span_id).cloned().collect();
                    return (server.clone(), children);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("no span of {path}"))
    }
}

async fn take(request: Request<Incoming>, kept: Collected) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
    assert_eq!(request.headers().get("content-type").expect("a type"), "application/x-protobuf");
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    kept.0.lock().expect("no panic").push(ExportTraceServiceRequest::decode(body).expect("a message"));
    Ok(Response::new(Full::default()))
}

/// An attribute as text.
fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name).and_then(|attribute| attribute.value.clone()?.value);
    match found {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The binary between an authorization server and a content server of this process.
struct World {
    gateway: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    server: RunningServer,
    content: RunningContentServer,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(environment: &[(&str, String)]) -> Self {
        let server = AuthorizationServer::start(authorization_server::Options::default()).await.expect("a port");
        server.control().register("alice", "vacation", &["view"]);
        let content = ContentServer::start(content_server::Options::default()).await.expect("a port");
        content.records().reply(content_server::Reply::ok("anything"));
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "version: 1
listeners: [ {{ address: 127.0.0.1:0 }} ]
authorization_servers:
  server: {{ issuer: \"{issuer}\", client: {{ id: content-gateway, secret: {{ env: CLIENT_SECRET }} }} }}
upstreams:
  content: {{ servers: [ \"http://{content}\" ], credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }} }}
routes:
  - {{ path: /albums/vacation/**, protect: {{ resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view] }} }} }}
  - {{ path: /public/**, public: true }}
",
            issuer = server.issuer(),
            content = content.address()
        );
        std::fs::write(folder.path().join("gateway.yaml"), text).expect("written");
        let mut gateway = Command::new(env!("CARGO_BIN_EXE_uma-gateway"))
            .args(["run", "--config", "gateway.yaml"])
            .current_dir(folder.path())
            .env_clear()
            .envs([("CLIENT_SECRET", "gateway-secret"), ("PROXY_PASSWORD", "proxy-secret")])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(gateway.stdout.take().expect("piped")).lines();
        let address = loop {
            let line: serde_json::Value = serde_json::from_str(&lines.next_line().await.expect("text").expect("a line")).expect("JSON");
            if line["message"] == "listening" {
                break line["address"].as_str().and_then(|address| address.parse().ok()).expect("an address");
            }
        };
        Self { gateway, lines, address, server, content, _folder: folder }
    }

    /// Sends a request and reads its answer; gives the status.
    async fn get(&self, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        let mut head = format!("GET {target} HTTP/1.1\r\nHost: photos.example.org\r\nConnection: close\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    /// With a token that suffices; waits until the gateway knows the resource.
    async fn permitted(&self, target: &str, headers: &[(&str, &str)]) {
        let token = format!("Bearer {}", self.server.control().grant_rpt("bob", &[("vacation", &["view"])], 300));
        let headers = [headers, &[("Authorization", token.as_str())]].concat();
        let ready = async {
            // The resource is looked up in the background; until then the answer is 404 or 503, of another path.
            while self.get("/albums/vacation/wait.txt", &headers).await >= 400 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("ready");
        let fresh = format!("Bearer {}", self.server.control().grant_rpt("bob", &[("vacation", &["view"])], 300));
        let headers = [headers.get(..headers.len() - 1).unwrap_or_default(), &[("Authorization", fresh.as_str())]].concat();
        assert_eq!(self.get(target, &headers).await, 200);
    }

    /// The access line of this path.
    async fn line(&mut self, path: &str) -> serde_json::Value {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let line = self.lines.next_line().await.expect("text").expect("a line");
                let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
                if line["url.path"] == path {
                    return line;
                }
            }
        });
        found.await.expect("an access line")
    }

    fn told_upstream(&self) -> content_server::Recorded {
        self.content.records().last().expect("a request")
    }
}

async fn traced(more: &[(&str, &str)]) -> (World, Collected) {
    let (collected, address) = Collected::start().await;
    let mut environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")), ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned())];
    environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    (World::start(&environment).await, collected)
}

#[tokio::test]
async fn one_request_shows_enforcement_introspection_and_the_upstream_as_children() {
    let (mut world, collected) = traced(&[]).await;
    world.permitted("/albums/vacation/notes.txt?secret=in-the-query", &[("traceparent", PARENT), ("tracestate", "vendor=1")]).await;
    let told = world.told_upstream();
    let (server, children) = collected.trace("/albums/vacation/notes.txt").await;

    assert_eq!(server.name, "GET /albums/vacation/**");
    assert_eq!((hex(&server.trace_id).as_str(), hex(&server.parent_span_id).as_str()), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/albums/vacation/**"),
        ("uma.decision", "permitted"),
        ("uma.row", "E10"),
        ("server.address", "photos.example.org"),
    ] {
        assert_eq!(attribute(&server, name), value, "{name}");
    }
    let mut names: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GET", "uma.authorize", "uma.introspect"]);
    for child in &children {
        assert_eq!(child.trace_id, server.trace_id);
        let inside = server.start_time_unix_nano <= child.start_time_unix_nano && child.end_time_unix_nano <= server.end_time_unix_nano;
        assert!(inside && child.start_time_unix_nano < child.end_time_unix_nano, "{child:?}");
    }
    let upstream = children.iter().find(|child| child.kind == CLIENT && child.name == "GET").expect("the upstream's");
    assert_eq!(attribute(upstream, "http.response.status_code"), "200");
    assert_eq!(attribute(upstream, "server.address"), world.content.address().to_string());
    // The content server's own spans hang below that one.
    assert_eq!(told.header("traceparent"), Some(format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex(&upstream.span_id)).as_str()));
    assert_eq!(told.header("tracestate"), Some("vendor=1"));
    assert_eq!(world.line("/albums/vacation/notes.txt").await["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(!format!("{:?}", collected.spans()).contains("in-the-query"));
}

#[tokio::test]
async fn a_challenge_shows_its_ticket_and_no_secret_is_told() {
    let (world, collected) = traced(&[("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")]).await;
    world.permitted("/albums/vacation/notes.txt", &[]).await;
    assert_eq!(world.get("/albums/vacation/other.txt", &[("traceparent", "00-nonsense-01"), ("tracestate", "vendor=1")]).await, 401);
    let (server, children) = collected.trace("/albums/vacation/other.txt").await;
    assert!(server.parent_span_id.is_empty() && server.trace_id.len() == 16, "an invalid parent begins a new trace");
    assert_eq!(server.status.as_ref().map_or(0, |status| status.code), 0, "a challenge is no error");
    let mut names: Vec<&str> = children.iter().map(|child| child.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["uma.authorize", "uma.permission"]);

    let whole = format!("{:?}", collected.0.lock().expect("no panic"));
    for told in ["service.name", "uma-gateway", "deployment.environment.name", "service.version"] {
        assert!(whole.contains(told), "{told}");
    }
    let secrets = world.server.control().tickets().into_iter().chain(["gateway-secret".into(), "proxy-secret".into(), "Bearer".into()]);
    for secret in secrets {
        assert!(!whole.contains(&secret), "{secret}");
    }
}

#[tokio::test]
async fn the_caller_decides_what_is_recorded_and_the_upstream_is_told_so() {
    let (world, collected) = traced(&[]).await;
    assert_eq!(world.get("/public/quiet.txt", &[("traceparent", &PARENT.replace("-01", "-00"))]).await, 200);
    let told = world.told_upstream().header("traceparent").expect("told").to_owned();
    assert!(told.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && told.ends_with("-00") && !told.contains("00f067aa0ba902b7"), "{told}");
    assert_eq!(world.get("/public/loud.txt", &[]).await, 200);
    let (_, children) = collected.trace("/public/loud.txt").await;
    assert_eq!(children.len(), 1, "a public route is not judged");
    assert!(collected.spans().iter().all(|span| attribute(span, "url.path") != "/public/quiet.txt"));
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let (mut world, collected) = traced(&[("OTEL_BSP_SCHEDULE_DELAY", "3600000")]).await;
    assert_eq!(world.get("/public/last.txt", &[]).await, 200);
    assert!(collected.spans().is_empty());
    let id = world.gateway.id().expect("it runs").to_string();
    assert!(Command::new("kill").arg(&id).status().await.expect("kill").success());
    assert!(world.gateway.wait().await.expect("it ends").success());
    collected.trace("/public/last.txt").await;
}

#[tokio::test]
async fn without_the_variables_nothing_is_added() {
    let mut world = World::start(&[]).await;
    assert_eq!(world.get("/public/a.txt", &[("traceparent", PARENT), ("tracestate", "vendor=1")]).await, 200);
    assert_eq!(world.told_upstream().header("traceparent"), Some(PARENT), "it goes on as it came");
    assert_eq!(world.line("/public/a.txt").await["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(world.get("/public/b.txt", &[]).await, 200);
    assert_eq!(world.told_upstream().header("traceparent"), None);
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_up_nobody() {
    let world = World::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9".to_owned()), ("OTEL_BSP_SCHEDULE_DELAY", "1".to_owned())]).await;
    for _ in 0..50 {
        assert_eq!(world.get("/public/a.txt", &[]).await, 200);
    }
}

#[tokio::test]
async fn variables_that_cannot_be_used_stop_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("gateway.yaml"), "version: 1\nlisteners: [ { address: 127.0.0.1:0 } ]\nupstreams: { content: { servers: [ http://127.0.0.1:9 ] } }\nroutes: [ { path: /**, public: true } ]\n")
        .expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_uma-gateway"))
        .args(["run", "--config", "gateway.yaml"])
        .current_dir(folder.path())
        .envs([("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_TRACES_SAMPLER", "sometimes")])
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("OTEL_TRACES_SAMPLER"), "{said}");
}
