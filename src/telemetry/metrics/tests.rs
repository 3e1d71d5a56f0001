//! Tests of the exposition.

use std::collections::BTreeSet;

use super::*;
use crate::response::Row;
use crate::telemetry::{CacheState, Record, RequestId};

/// The names that dashboards and alerts rely on.
const NAMES: [&str; 28] = [
    "build_info",
    "http_client_request_duration_seconds",
    "http_server_active_requests",
    "http_server_request_duration_seconds",
    "tls_certificate_expiry_timestamp_seconds",
    "uma_as_request_duration_seconds",
    "uma_as_requests_total",
    "uma_cache_evictions_total",
    "uma_cache_hits_total",
    "uma_cache_misses_total",
    "uma_decisions_total",
    "uma_gateway_config_last_reload_success_timestamp_seconds",
    "uma_gateway_config_last_reload_successful",
    "uma_gateway_connection_faults_total",
    "uma_gateway_connections",
    "uma_gateway_connections_limit",
    "uma_gateway_connections_total",
    "uma_gateway_dependency_up",
    "uma_gateway_log_lines_dropped_total",
    "uma_gateway_overhead_duration_seconds",
    "uma_gateway_panics_total",
    "uma_gateway_tls_reloads_total",
    "uma_gateway_tunnels",
    "uma_pat_expiry_timestamp_seconds",
    "uma_resources_registered",
    "uma_shares",
    "uma_shares_followed_total",
    "uma_tickets_total",
];

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().expect("definitions are valid"))
}

fn record(route: &str) -> Record {
    let mut record = Record::new(RequestId("4q7zk2".into()), http::Method::GET, None, "http");
    record.route = Some(route.into());
    record.upstream_address = Some("127.0.0.1:9101".into());
    record.upstream_duration = Some(Duration::from_millis(3));
    record.status = 200;
    record.complete = true;
    record.cache = CacheState::Hit(Duration::ZERO);
    [Row::I1, Row::E10, Row::U1].into_iter().for_each(|row| record.rows.push(row));
    record
}

fn everything(metrics: &Arc<Metrics>) -> String {
    let mut handles = Handles::new(metrics);
    drop(handles.begin(&http::Method::GET, "http"));
    handles.end(&record("/albums/\"quoted\\\"/{album}/**"));
    metrics.authorization_server_answered(AsEndpoint::Introspection, AsOutcome::Ok);
    metrics.authorization_server_took(AsEndpoint::Introspection, Duration::from_millis(4));
    metrics.pat_expires("keycloak", 1_787_234_531);
    metrics.resources_registered("keycloak", 3);
    metrics.shares(ShareState::Open, 3);
    metrics.config_loaded(true);
    metrics.certificates_expire([("127.0.0.1:8443", "tls.crt".to_owned(), 1_787_234_531)]);
    metrics.certificates_read("listener", "127.0.0.1:8443", true);
    metrics.dependency("upstream", "albums", true);
    metrics.encode().expect("metrics")
}

/// `name{label="value",…} number`, by hand: the text format's own grammar.
fn sample(line: &str) -> Option<&str> {
    let name = line.find(|character: char| !character.is_ascii_alphanumeric() && character != '_' && character != ':')?;
    let (name, mut rest) = line.split_at(name);
    if let Some(labels) = rest.strip_prefix('{') {
        rest = labels;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"")?;
            if label.is_empty() || !label.chars().all(|character| character.is_ascii_alphanumeric() || character == '_') {
                return None;
            }
            let mut escaped = false;
            let end = value.char_indices().find(|(_, character)| {
                let ends = *character == '"' && !escaped;
                escaped = *character == '\\' && !escaped;
                ends
            })?;
            rest = value.get(end.0.checked_add(1)?..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = rest.strip_prefix('}')?;
    }
    let number = rest.strip_prefix(' ')?;
    (number == "+Inf" || number.parse::<f64>().is_ok()).then_some(name)
}

#[test]
fn every_line_of_the_exposition_is_valid_and_every_name_is_there() {
    let text = everything(&metrics());
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(keyword), Some(name), Some(what)) = (words.next(), words.next(), words.next()) else { panic!("{line}") };
            assert!(!what.is_empty(), "{line}");
            match keyword {
                "TYPE" => assert!(matches!(what, "counter" | "gauge" | "histogram"), "{line}"),
                "HELP" => assert!(names.insert(name), "{name} stands twice"),
                other => panic!("{other}"),
            }
        } else {
            let name = sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(names.contains(name) || names.contains(family), "{name} has no description");
        }
    }
    // What the library says of the process is named by it (and by Prometheus' own conventions).
    names.retain(|name| !name.starts_with("process_"));
    assert_eq!(names, BTreeSet::from(NAMES));
}

#[test]
fn closed_label_sets_appear_before_anything_happens() {
    let text = metrics().encode().expect("metrics");
    assert!(text.contains("uma_as_requests_total{endpoint=\"permission\",outcome=\"timeout\"} 0"));
    assert!(text.contains("uma_cache_hits_total{cache=\"live\"} 0"));
    assert!(text.contains(&format!("build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_request_is_counted_under_the_names_of_its_route_and_server() {
    let metrics = metrics();
    let mut handles = Handles::new(&metrics);
    for _ in 0..3 {
        handles.end(&record("/albums/**"));
    }
    let text = metrics.encode().expect("metrics");
    for line in [
        "http_server_request_duration_seconds_count{error_type=\"\",http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/albums/**\",\
         network_protocol_version=\"1.1\",url_scheme=\"http\"} 3",
        "http_client_request_duration_seconds_count{error_type=\"\",http_request_method=\"GET\",http_response_status_code=\"200\",server_address=\"127.0.0.1:9101\"} 3",
        "uma_decisions_total{outcome=\"permitted\",reason=\"E10\"} 3",
        "uma_cache_hits_total{cache=\"introspection\"} 3",
        "uma_gateway_overhead_duration_seconds_count 3",
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
}

#[test]
fn a_worker_follows_a_route_whose_name_was_replaced() {
    let metrics = metrics();
    let mut handles = Handles::new(&metrics);
    // Each name is dropped before the next is made, as a reload does; the memory may well be the same.
    for number in 0..50 {
        handles.end(&record(&format!("/route{number:02}")));
    }
    let text = metrics.encode().expect("metrics");
    for number in 0..50 {
        assert!(text.lines().any(|line| line.contains(&format!("http_route=\"/route{number:02}\"")) && line.contains("_count{") && line.ends_with(" 1")));
    }
}

#[test]
fn routes_without_end_share_one_series() {
    let metrics = metrics();
    for number in 0..ROUTE_LIMIT {
        metrics.route_label(Some(&format!("/{number}").into()));
    }
    assert_eq!(metrics.route_label(Some(&"/one-more".into())), OTHER);
    assert_eq!(metrics.route_label(Some(&"/7".into())), "/7");
    assert_eq!(metrics.route_label(None), "");
}

#[test]
fn two_gateways_in_one_process_count_apart() {
    let (one, other) = (metrics(), metrics());
    one.panicked();
    assert!(one.encode().expect("metrics").contains("uma_gateway_panics_total 1"));
    assert!(other.encode().expect("metrics").contains("uma_gateway_panics_total 0"));
}

#[test]
fn a_connection_is_open_until_it_is_closed() {
    let metrics = metrics();
    metrics.connection_opened();
    assert!(metrics.encode().expect("metrics").contains("uma_gateway_connections 1"));
    metrics.connection_closed();
    let text = metrics.encode().expect("metrics");
    assert!(text.contains("uma_gateway_connections 0") && text.contains("uma_gateway_connections_total{outcome=\"accepted\"} 1"));
}
