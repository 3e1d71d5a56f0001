//! What operators look at says what is true: rules, board and runbook against the metrics of a gateway that the demo has walked through.
//!
//! `promtool` reads the expressions in `.ci/run prometheus`; here it is names, labels and the words of closed lists.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use uma_gateway::response::Row;
use uma_gateway::telemetry::{AsEndpoint, AsOutcome, CacheKind, ConnectionFault, Metrics, Outcome, ShareState};

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn rules() -> Value {
    serde_yaml::from_str(&file("deploy/prometheus/rules.yml")).expect("YAML")
}

fn board() -> Value {
    serde_json::from_str(&file("deploy/grafana/uma-gateway.json")).expect("JSON")
}

/// Every rule, alerts and records alike.
fn all_rules(rules: &Value) -> impl Iterator<Item = &Value> {
    rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
}

/// The expressions of a board, with their panels' titles.
fn expressions(board: &Value) -> Vec<(String, String)> {
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten().map(move |target| (panel, target)));
    let of_panels = targets.map(|(panel, target)| (panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
    let annotations = board["annotations"]["list"].as_array().unwrap();
    of_panels.chain(annotations.iter().map(|one| ("annotation".to_owned(), one["expr"].as_str().unwrap().to_owned()))).collect()
}

/// The metrics and, for each, its label names, after the walk of the demo.
fn walked() -> BTreeMap<String, BTreeSet<String>> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_uma-gateway"))
        .args(["demo", "--ports", "0,0,0"])
        .env("XDG_RUNTIME_DIR", folder.path())
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut address = None;
    for line in BufReader::new(demo.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        if let Some(found) = line.strip_prefix("what it counts http://").and_then(|rest| rest.strip_suffix("/metrics")) {
            address = Some(found.to_owned());
        }
        if line.contains(" of 10 ") {
            break;
        }
    }
    let mut stream = TcpStream::connect(address.expect("the demo says where")).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    demo.kill().and_then(|()| demo.wait()).expect("it ends");
    read.expect("an answer");
    // The demo speaks no TLS, its owners have no token of their own, and share nothing.
    let others = Metrics::new().expect("metrics");
    others.certificates_expire([("127.0.0.1:8443", "tls.crt".to_owned(), 1_787_234_531)]);
    others.certificates_read("listener", "127.0.0.1:8443", true);
    others.owners_without_consent("keycloak", 1);
    others.shares(ShareState::Closed, 1);
    let mut known = names(&others.encode().expect("text"));
    for (name, labels) in names(&text) {
        known.entry(name).or_default().extend(labels);
    }
    known
}

fn names(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && line.contains(' ')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = names.entry(name.to_owned()).or_default();
        known.extend(tokens(labels).into_iter().filter_map(|token| if let Token::Label(name, _) = token { Some(name) } else { None }));
    }
    names
}

/// A piece of an expression.
#[derive(Debug, PartialEq)]
enum Token {
    /// A word that is no function, keyword or unit.
    Word(String),
    /// `name="value"`, with any operator.
    Label(String, String),
    /// `{`
    Open,
    /// `}`
    Close,
    /// Anything else.
    Other,
}

/// Reads PromQL as far as names and labels need it: what `by (…)` and its kin list is left out.
fn tokens(expression: &str) -> Vec<Token> {
    const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    // Keywords, and the functions that may be followed by a list instead of their bracket.
    const WORDS: [&str; 11] = ["and", "or", "unless", "bool", "offset", "sum", "min", "max", "avg", "count", "topk"];
    let word_end = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (mut found, mut rest) = (Vec::new(), expression);
    while let Some(first) = rest.chars().next() {
        let mut used = first.len_utf8();
        match first {
            '{' => found.push(Token::Open),
            '}' => found.push(Token::Close),
            '[' => used = rest.find(']').expect("a closed range") + 1,
            '0'..='9' => used = word_end(rest),
            'a'..='z' | 'A'..='Z' | '_' => {
                used = word_end(rest);
                let (word, after) = rest.split_at(used);
                let next = after.trim_start();
                let operator = next.find('"').filter(|at| matches!(next.get(..*at), Some("=" | "!=" | "=~" | "!~")));
                if let Some(quote) = operator {
                    let value = next.get(quote + 1..).unwrap().split('"').next().unwrap();
                    found.push(Token::Label(word.to_owned(), value.to_owned()));
                    used = rest.len() - next.len() + quote + value.len() + 2;
                } else if LISTS.contains(&word) && next.starts_with('(') {
                    used = rest.len() - next.len() + next.find(')').expect("a closed list") + 1;
                } else if !next.starts_with('(') && !WORDS.contains(&word) {
                    found.push(Token::Word(word.to_owned()));
                }
            }
            _ => found.push(Token::Other),
        }
        rest = rest.get(used..).expect("ASCII");
    }
    found
}

/// The words that a label may have, where the list is closed.
fn words(metric: &str, label: &str) -> Option<Vec<&'static str>> {
    Some(match (metric, label) {
        ("uma_decisions_total" | "job_outcome:uma_decisions:ratio_rate5m" | "job_outcome:uma_decisions:rate5m", "outcome") => {
            Outcome::ALL.map(Outcome::label).to_vec()
        }
        ("uma_decisions_total", "reason") => Row::ALL.iter().map(|row| row.label()).collect(),
        ("uma_as_requests_total", "outcome") => AsOutcome::ALL.map(AsOutcome::label).to_vec(),
        (_, "endpoint") => AsEndpoint::ALL.map(AsEndpoint::label).to_vec(),
        (_, "cache") => CacheKind::ALL.map(CacheKind::label).to_vec(),
        ("uma_gateway_connection_faults_total", "reason") => ConnectionFault::ALL.map(ConnectionFault::label).to_vec(),
        ("uma_gateway_connections_total", "outcome") => vec!["accepted", "refused"],
        ("uma_gateway_upstream_health_checks_total" | "uma_gateway_upstream_connects_total", "outcome") => vec!["ok", "failed"],
        ("uma_gateway_dependency_up", "kind") => vec![
            "authorization_server",
            "protection_api",
            "discovery",
            "permission_endpoint",
            "introspection_endpoint",
            "live_decision",
            "resource_registration_endpoint",
            "upstream",
            "proxy_credential",
            "records",
            "client_secret",
        ],
        ("uma_shares", "state") => ShareState::ALL.map(ShareState::label).to_vec(),
        ("http_server_request_duration_seconds_count", "error_type") => vec!["aborted", ""],
        _ => return None,
    })
}

/// What is wrong with the names of an expression.
fn wrong(expression: &str, known: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    // What Prometheus itself adds to each series, and knows of each target.
    const ADDED: [&str; 2] = ["job", "instance"];
    let (mut wrong, mut metric) = (Vec::new(), String::new());
    for token in tokens(expression) {
        match token {
            Token::Word(name) => {
                if !known.contains_key(&name) && name != "up" {
                    wrong.push(format!("there is no {name}"));
                }
                metric = name;
            }
            Token::Label(label, value) => {
                if !ADDED.contains(&label.as_str()) && !known.get(&metric).is_some_and(|labels| labels.contains(&label)) {
                    wrong.push(format!("{metric} has no {label}"));
                }
                let words = words(&metric, &label).filter(|_| !value.starts_with('$'));
                for value in value.split('|').filter(|value| words.as_ref().is_some_and(|words| !words.contains(value))) {
                    wrong.push(format!("{metric}: {label} is never {value}"));
                }
            }
            Token::Open | Token::Close | Token::Other => {}
        }
    }
    wrong
}

#[test]
fn every_name_in_rules_and_board_exists_after_a_walk() {
    let (rules, board) = (rules(), board());
    let mut known = walked();
    // What rules record may be used by others; its labels are those that it is summed by.
    for rule in all_rules(&rules) {
        if let Some(name) = rule["record"].as_str() {
            let by = rule["expr"].as_str().unwrap().split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(','));
            let mut labels: BTreeSet<String> = by.map(|label| label.trim().to_owned()).collect();
            if let Some((scope, _)) = name.split_once(':') {
                labels.extend(scope.split('_').map(str::to_owned));
            }
            known.insert(name.to_owned(), labels);
        }
    }
    assert!(known.len() > 30, "{known:?}");
    let of_rules =
        all_rules(&rules).map(|rule| (rule["alert"].as_str().or(rule["record"].as_str()).unwrap().to_owned(), rule["expr"].as_str().unwrap().to_owned()));
    let mut problems = Vec::new();
    for (place, expression) in of_rules.chain(expressions(&board)) {
        problems.extend(wrong(&expression, &known).into_iter().map(|problem| format!("{place}: {problem}")));
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn the_check_finds_a_name_a_label_and_a_word_that_do_not_exist() {
    let known = names("uma_decisions_total{outcome=\"permitted\",reason=\"E10\"} 1\numa_tickets_total 3\n");
    let table = [
        ("sum by (outcome) (rate(uma_decisions_total{reason=~\"C1|I3b\"}[5m])) > 0.5 and on (job) uma_tickets_total offset 5m", 0),
        ("rate(uma_decision_total[5m])", 1),
        ("uma_tickets_total{outcome=\"permitted\"}", 1),
        ("uma_decisions_total{outcome=\"permited\"}", 1),
        ("uma_decisions_total{outcome!~\"permitted|pubic\", reason=\"Z1\"}", 2),
    ];
    for (expression, problems) in table {
        assert_eq!(wrong(expression, &known).len(), problems, "{expression}: {:?}", wrong(expression, &known));
    }
}

#[test]
fn every_alert_has_its_section_its_link_and_its_case() {
    let (rules, runbook, cases) = (rules(), file("RUNBOOK.md"), file("deploy/prometheus/tests.yml"));
    let sections: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts: Vec<&str> = all_rules(&rules).filter_map(|rule| rule["alert"].as_str()).collect();
    assert!(alerts.len() > 20);
    assert_eq!(sections, alerts, "the runbook has the alerts in the order of the rules, and no others");
    for rule in all_rules(&rules).filter(|rule| rule["alert"].is_string()) {
        let name = rule["alert"].as_str().unwrap();
        assert_eq!(rule["annotations"]["runbook_url"], format!("RUNBOOK.md#{}", name.to_lowercase()));
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("critical" | "warning")), "{name}");
        let section = runbook.split(&format!("\n## {name}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        assert!(section.contains("**What it means.**") && section.contains("hat to look at") && section.contains("hat to do"), "{name}");
        assert!(cases.contains(&format!("alertname: {name}\n        exp_alerts:\n")), "{name} never fires in tests.yml");
        assert!(cases.contains(&format!("alertname: {name}, exp_alerts: [] }}")), "{name} is never silent in tests.yml");
    }
    for link in runbook.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(alerts.iter().any(|alert| alert.to_lowercase() == link), "no section {link}");
    }
}

#[test]
fn the_board_has_no_two_panels_in_one_place() {
    let board = board();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = &panel["gridPos"];
        let number = |name: &str| place[name].as_u64().unwrap();
        for x in number("x")..number("x") + number("w") {
            for y in number("y")..number("y") + number("h") {
                assert!(x < 24 && places.insert((x, y)), "{}", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert!(!panel["description"].as_str().unwrap().is_empty() && !panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
        }
    }
}
