//! Tests of lines.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;
use crate::telemetry::RequestId;
use crate::uma::ResourceId;

fn record() -> Record {
    let mut record = Record::new(RequestId("4q7zk2".into()), http::Method::PUT, Some([127, 0, 0, 1].into()), "http");
    record.time = UNIX_EPOCH + Duration::from_millis(1_787_234_531_042);
    record.host = Some("photos.example.org".into());
    record.path = Some("/albums/vacation/beach.jpg".into());
    record.client = Some([203, 0, 113, 9].into());
    record.user_agent = Some("curl/8".into());
    record.route = Some("/albums/{album}/**".into());
    record.server = Some("keycloak".into());
    record.resource = Some(ResourceId("a1b0".into()));
    record.resource_name = Some("album vacation".into());
    record.owner = Some("alice".into());
    record.needed = Arc::from([Scope("edit".into())]);
    record.granted = vec![Scope("view".into())];
    record.subject = Some("f3c2".into());
    record.username = Some("bob".into());
    record.cache = CacheState::Hit(Duration::from_secs(12));
    record.token = Some(*b"0a1b2c3d");
    record.ticket_issued = true;
    for row in [Row::I1, Row::E7, Row::I4, Row::E8, Row::C3] {
        record.rows.push(row);
    }
    record.status = 401;
    record.duration = Duration::from_micros(2345);
    record.complete = true;
    record
}

fn json_line(kind: Kind) -> Value {
    let mut out = Vec::new();
    Line(&record(), kind).write_json(&mut out);
    serde_json::from_slice(&out).expect("JSON")
}

fn text_line(record: &Record, kind: Kind) -> String {
    let mut out = Vec::new();
    Line(record, kind).write_text(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn an_access_line_says_how_the_request_was_served() {
    let line = json_line(Kind::Access);
    for (name, value) in [
        ("time", json!("2026-08-20T14:02:11.042Z")),
        ("target", json!("access")),
        ("request_id", json!("4q7zk2")),
        ("http.request.method", json!("PUT")),
        ("url.path", json!("/albums/vacation/beach.jpg")),
        ("http.route", json!("/albums/{album}/**")),
        ("http.response.status_code", json!(401)),
        ("server.address", json!("photos.example.org")),
        ("client.address", json!("203.0.113.9")),
        ("network.peer.address", json!("127.0.0.1")),
        ("user_agent.original", json!("curl/8")),
        ("duration_ms", json!(2.345)),
        ("uma.decision", json!("challenged")),
        ("uma.row", json!("E8")),
        ("uma.rows", json!(["I1", "E7", "I4", "E8", "C3"])),
        ("uma.resource_id", json!("a1b0")),
        ("uma.scopes", json!(["edit"])),
        ("uma.subject", json!("f3c2")),
        ("uma.ticket_issued", json!(true)),
        ("uma.cache", json!("hit")),
    ] {
        assert_eq!(line[name], value, "{name}");
    }
}

#[test]
fn an_audit_line_says_what_was_decided_and_on_what_grounds() {
    let line = json_line(Kind::Audit);
    assert_eq!(line["target"], "audit");
    assert_eq!(line["uma.row"], "E8");
    assert_eq!(line["uma.granted"], json!(["view"]));
    assert_eq!(line["uma.cache_age_ms"], 12_000.0);
    assert_eq!(line["uma.token_id"], "0a1b2c3d");
    assert_eq!(line.get("duration_ms"), None);
}

#[test]
fn the_whole_record_explains_itself() {
    let whole = to_json(&record());
    assert_eq!(whole["uma.row_meaning"], "a permission or scope is missing: a challenge");
    assert_eq!(whole["uma.owner"], "alice");
    assert_eq!(whole["uma.resource_name"], "album vacation");
    assert_eq!(whole["uma.username"], "bob");
}

#[test]
fn text_is_one_line_for_people() {
    assert_eq!(
        text_line(&record(), Kind::Access),
        "2026-08-20T14:02:11.042Z access 401 PUT photos.example.org/albums/vacation/beach.jpg challenged E8 2.345ms hit client=203.0.113.9 \
         subject=f3c2 route=/albums/{album}/** id=4q7zk2"
    );
    assert!(text_line(&record(), Kind::Audit).contains(" resource=a1b0 scopes=edit id="));
}

#[test]
fn nobody_can_write_a_second_line() {
    let mut record = record();
    record.subject = Some("bob\n2026-08-20 audit 200 \u{1b}[2J".into());
    record.user_agent = Some("a\r\n{\"target\":\"audit\"}".into());
    let text = text_line(&record, Kind::Access);
    assert!(!text.contains(['\n', '\u{1b}']), "{text:?}");
    let mut out = Vec::new();
    Line(&record, Kind::Access).write_json(&mut out);
    assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
}

#[test]
fn a_request_that_was_broken_off_has_no_status() {
    let mut record = record();
    record.status = 0;
    record.complete = false;
    record.rows = crate::response::Trail::default();
    let mut out = Vec::new();
    Line(&record, Kind::Access).write_json(&mut out);
    let line: Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(line.get("http.response.status_code"), None);
    assert_eq!(line["complete"], false);
    assert_eq!(line.get("uma.decision"), None);
    assert!(text_line(&record, Kind::Access).contains(" access --- PUT "));
}
