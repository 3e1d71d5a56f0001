//! Tests of the doors, over real sockets.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::response::Row;
use crate::secret::Secret;
use crate::telemetry::config::LogConfig;
use crate::telemetry::{Health, METRICS_CONTENT_TYPE, Metrics, Record, RequestId, Telemetry};

/// Status, head and body of an answer.
struct Heard {
    status: u16,
    head: String,
    body: String,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.body))
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: String) -> Heard {
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Heard { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().expect("definitions are valid"))
}

fn telemetry() -> Telemetry {
    Telemetry::start_into(&LogConfig::default(), metrics(), Box::new(io::sink())).expect("a thread")
}

fn record(id: &str) -> Box<Record> {
    let mut record = Box::new(Record::new(RequestId(id.into()), http::Method::GET, None, "http"));
    record.rows.push(Row::D7);
    record.status = 404;
    record
}

/// Explains by saying what it was asked; refuses a URL that is none.
fn echo() -> Explain {
    Rc::new(|asked| {
        Box::pin(async move {
            if asked.url.authority().is_none() {
                return Err("the URL has no host".into());
            }
            Ok(json!({ "method": asked.method.as_str(), "url": asked.url.to_string(), "token": asked.token.is_some() }))
        })
    })
}

/// A reload that finds a mistake.
fn never() -> Reload {
    Rc::new(|| Box::pin(async { Err(vec!["gateway.yaml:3:1: unknown key `rutes`".to_owned()]) }))
}

async fn probe(status: &Arc<Status>, path: &str) -> Heard {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = listener.local_addr().expect("an address");
    let served = spawn_local(serve_health(listener, Arc::clone(status), metrics()));
    let heard = ask(TcpStream::connect(address).await.expect("connected"), get(path)).await;
    served.abort();
    heard
}

/// No owner links the gateway.
fn nobody() -> Links {
    Rc::new(|_| None)
}

/// A door on a socket, and what `requests` hear from it.
async fn operator(telemetry: &Telemetry, requests: &[String]) -> Vec<Heard> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("admin.sock");
    let door = OpenDoor::open(&AdminDoor::Socket(path.clone())).expect("a door");
    let served = spawn_local(serve_admin(door, telemetry.clone(), echo(), never(), nobody()));
    let mut heard = Vec::new();
    for request in requests {
        heard.push(ask(UnixStream::connect(&path as &Path).await.expect("connected"), request.clone()).await);
    }
    served.abort();
    assert!(served.await.is_err_and(|error| error.is_cancelled()));
    assert!(!path.exists(), "the socket goes with the door");
    heard
}

#[tokio::test]
async fn probes_tell_alive_started_and_ready_apart() {
    let status = Arc::new(Status::new(["keycloak".into()], Health::new(metrics())));
    let local = LocalSet::new();
    let asked = async {
        let mut seen = Vec::new();
        for step in ["at first", "started", "reached", "draining"] {
            match step {
                "started" => status.started(),
                "reached" => status.contacted("keycloak"),
                "draining" => status.draining(),
                _ => {}
            }
            let mut codes = Vec::new();
            for path in ["/livez", "/startupz", "/readyz"] {
                codes.push(probe(&status, path).await.status);
            }
            seen.push((step, codes));
        }
        seen
    };
    assert_eq!(
        local.run_until(asked).await,
        [("at first", vec![200, 503, 503]), ("started", vec![200, 200, 503]), ("reached", vec![200, 200, 200]), ("draining", vec![200, 200, 503]),]
    );
}

#[tokio::test]
async fn who_asks_is_heard_however_many_have_connected_and_say_nothing() {
    let asked = async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("an address");
        let address = listener.local_addr().expect("an address");
        let served = spawn_local(serve_health(listener, Arc::new(Status::new([], Health::new(metrics()))), metrics()));
        let connect = || async { TcpStream::connect(address).await.expect("connected") };
        let silent = futures_util::future::join_all((0..200).map(|_| connect())).await;
        let heard = tokio::time::timeout(std::time::Duration::from_secs(5), ask(connect().await, get("/livez"))).await;
        assert_eq!(heard.expect("an answer before the silent ones are too late").status, 200);
        served.abort();
        drop(silent);
    };
    LocalSet::new().run_until(asked).await;
}

#[tokio::test]
async fn a_verbose_probe_names_what_is_missing() {
    let status = Arc::new(Status::new(["keycloak".into()], Health::new(metrics())));
    status.started();
    let heard = LocalSet::new().run_until(probe(&status, "/readyz?verbose")).await;
    assert_eq!(heard.status, 503);
    assert_eq!(
        heard.body,
        "[+] started\n[+] not draining\n[-] authorization_server keycloak: not reached yet\n[+] configuration: as the file says\nnot ready\n"
    );
}

#[tokio::test]
async fn metrics_are_served_as_text_and_nothing_else_is() {
    let status = Arc::new(Status::new([], Health::new(metrics())));
    let (found, missing) = LocalSet::new().run_until(async { (probe(&status, "/metrics").await, probe(&status, "/records").await) }).await;
    assert!(found.head.contains(&format!("content-type: {METRICS_CONTENT_TYPE}")));
    assert!(found.body.contains("\nbuild_info{"));
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn a_record_that_has_just_been_sent_is_found_by_its_id() {
    let telemetry = telemetry();
    telemetry.send(record("4q7zk2"));
    let requests = [get("/records/4q7zk2"), get("/records/none"), get("/")];
    let heard = LocalSet::new().run_until(operator(&telemetry, &requests)).await;
    let [found, missing, index] = heard.as_slice() else { panic!("three answers") };
    assert_eq!((found.status, &found.json()["request_id"], &found.json()["uma.row"]), (200, &json!("4q7zk2"), &json!("D7")));
    assert_eq!((missing.status, &missing.json()["status"]), (404, &json!(404)));
    assert_eq!(index.status, 200);
}

#[tokio::test]
async fn the_last_records_come_newest_first() {
    let telemetry = telemetry();
    ["one", "two", "three"].into_iter().for_each(|id| telemetry.send(record(id)));
    let heard = LocalSet::new().run_until(operator(&telemetry, &[get("/records?last=2"), get("/records?last=many")])).await;
    let [found, refused] = heard.as_slice() else { panic!("two answers") };
    let ids: Vec<_> = found.json().as_array().expect("a list").iter().map(|record| record["request_id"].clone()).collect();
    assert_eq!(ids, ["three", "two"]);
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_question_is_explained_and_a_bad_one_is_not_quoted() {
    let requests = [
        post("/explain", r#"{"method":"PUT","url":"http://localhost/albums","token":"planted-rpt"}"#),
        post("/explain", r#"{"method":"PUT","url":"/albums"}"#),
        post("/explain", r#"{"method":"PUT","url":"http://:x planted"}"#),
        post("/explain", r#"{"method":"PUT","token":["planted-rpt"]}"#),
        post("/explain", &"x".repeat(70 << 10)),
        get("/explain"),
        post("/records/4q7zk2", ""),
    ];
    let heard = LocalSet::new().run_until(operator(&telemetry(), &requests)).await;
    assert_eq!(heard.iter().map(|heard| heard.status).collect::<Vec<_>>(), [200, 400, 400, 400, 413, 405, 405]);
    assert_eq!(heard[0].json(), json!({ "method": "PUT", "url": "http://localhost/albums", "token": true }));
    assert!(heard.iter().all(|heard| !heard.body.contains("planted")));
}

#[tokio::test]
async fn on_an_address_only_the_bearer_of_the_token_is_let_in() {
    let door = OpenDoor::open(&AdminDoor::Address { address: "127.0.0.1:0".parse().expect("an address"), token: Secret::from("open sesame") });
    let door = door.expect("a door");
    let address = door.address().expect("an address");
    let local = LocalSet::new();
    let asked = async {
        let served = spawn_local(serve_admin(door, telemetry(), echo(), never(), nobody()));
        let mut codes = Vec::new();
        for header in ["", "authorization: Bearer open\r\n", "authorization: Basic open sesame\r\n", "authorization: bearer open sesame\r\n"] {
            let request = format!("GET /records HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
            codes.push(ask(TcpStream::connect(address).await.expect("connected"), request).await.status);
        }
        served.abort();
        codes
    };
    assert_eq!(local.run_until(asked).await, [401, 401, 401, 200]);
}

#[tokio::test]
async fn the_client_asks_through_either_kind_of_door() {
    let folder = tempfile::tempdir().expect("a folder");
    let any = "127.0.0.1:0".parse().expect("an address");
    for door in [AdminDoor::Socket(folder.path().join("admin.sock")), AdminDoor::Address { address: any, token: Secret::from("open sesame") }] {
        let telemetry = telemetry();
        telemetry.send(record("4q7zk2"));
        let asked = async {
            let open = OpenDoor::open(&door).expect("a door");
            let door = match (&door, open.address()) {
                (AdminDoor::Address { token, .. }, Some(address)) => AdminDoor::Address { address, token: token.clone() },
                _ => door.clone(),
            };
            let served = spawn_local(serve_admin(open, telemetry, echo(), never(), nobody()));
            let client = AdminClient::new(&door);
            let found = client.record("4q7zk2").await.expect("a record");
            let missing = client.record("none").await;
            let explained = client.explain(&http::Method::PUT, &"http://localhost/albums".parse().expect("a URL"), Some(&Secret::from("rpt"))).await;
            served.abort();
            (found, missing, explained.expect("an explanation"))
        };
        let (found, missing, explained) = LocalSet::new().run_until(asked).await;
        assert_eq!(found["request_id"], "4q7zk2");
        assert_eq!(missing.expect_err("none").to_string(), "no such record: the last 10,000 requests are kept");
        assert_eq!(explained, json!({ "method": "PUT", "url": "http://localhost/albums", "token": true }));
    }
}

#[tokio::test]
async fn the_client_says_where_nobody_answers_and_when_its_token_is_wrong() {
    let gone = AdminClient::new(&AdminDoor::Socket("/nowhere/admin.sock".into())).record("4q7zk2").await;
    assert_eq!(gone.expect_err("nobody").to_string(), "no gateway answers at /nowhere/admin.sock");

    let open = OpenDoor::open(&AdminDoor::Address { address: "127.0.0.1:0".parse().expect("an address"), token: Secret::from("open sesame") });
    let open = open.expect("a door");
    let wrong = AdminDoor::Address { address: open.address().expect("an address"), token: Secret::from("guess") };
    let asked = async {
        let served = spawn_local(serve_admin(open, telemetry(), echo(), never(), nobody()));
        let refused = AdminClient::new(&wrong).record("4q7zk2").await;
        served.abort();
        refused
    };
    assert_eq!(LocalSet::new().run_until(asked).await.expect_err("refused").to_string(), "the token of `admin` is needed");
}

#[tokio::test]
async fn an_id_cannot_lead_to_another_path() {
    let heard = AdminClient::new(&AdminDoor::Socket("/nowhere/admin.sock".into())).record("../explain").await;
    assert!(matches!(heard, Err(AdminClientError::NoId)));
}
