//! What goes wrong with the log goes wrong with the log alone; and what no record tells is counted.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use uma_gateway::app::{Gateway, Options};
use uma_gateway::config;

const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that answers 404 to everything but one path.
fn start(log: &str, options: &Options) -> Gateway {
    let text = format!(
        "version: 1\nworkers: 1\nlisteners: [ {{ address: 127.0.0.1:0 }} ]\nlog: {{ {log} }}\nupstreams: {{ content: {{ servers: [ \"http://127.0.0.1:9\" ] }} }}\n\
         routes: [ {{ path: /public, public: true }} ]\n"
    );
    let config = config::parse(&text, Path::new("/etc/gateway.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    Gateway::start(config, options).expect("it starts")
}

/// Sends so many requests at once over one connection and reads every answer.
fn ask(connection: &mut BufReader<TcpStream>, count: usize) {
    connection.get_mut().write_all("GET /nowhere HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(count).as_bytes()).expect("sent");
    for _ in 0..count {
        let (mut line, mut length) = (String::new(), 0);
        connection.read_line(&mut line).expect("a status line");
        assert!(line.starts_with("HTTP/1.1 404 "), "{line}");
        while line != "\r\n" {
            line.clear();
            connection.read_line(&mut line).expect("a field");
            length = line.to_lowercase().strip_prefix("content-length: ").map_or(length, |value| value.trim().parse().unwrap());
        }
        connection.read_exact(&mut vec![0; length]).expect("a body");
    }
}

fn connect(gateway: &Gateway) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(gateway.address(0).unwrap()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

/// The number of a series.
fn count(gateway: &Gateway, series: &str) -> u64 {
    let text = gateway.telemetry().metrics().encode().expect("metrics");
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).expect(series)
}

#[test]
fn a_full_disk_loses_lines_and_no_request() {
    let gateway = start("to: /dev/full", &Options::default());
    ask(&mut connect(&gateway), 100);
    gateway.telemetry().flush(PATIENCE);
    assert!(count(&gateway, "uma_gateway_log_lines_dropped_total{reason=\"write\"}") >= 100);
    ask(&mut connect(&gateway), 1);
}

#[test]
fn a_reader_that_does_not_read_loses_lines_and_no_request() {
    static OUT: OnceLock<PipeWriter> = OnceLock::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    OUT.set(writer).expect("once");
    let gateway = start("to: stdout", &Options { log: Some(|| Box::new(OUT.get().unwrap().try_clone().unwrap())), ..Options::default() });
    let (mut connection, began) = (connect(&gateway), Instant::now());
    while count(&gateway, "uma_gateway_log_lines_dropped_total{reason=\"full\"}") == 0 {
        ask(&mut connection, 500);
        assert!(began.elapsed() < PATIENCE, "something reads, or a request waits");
    }
    ask(&mut connection, 100);
    // Else the log's thread would stand in its write for ever.
    drop(reader);
}

#[test]
fn what_is_answered_before_there_is_a_request_is_counted() {
    let gateway = start("access: off", &Options::default());
    for (sent, status, reason) in [
        ("GET /\u{1} HTTP/1.1\r\n\r\n".to_owned(), "HTTP/1.1 400 ", "malformed"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024)), "HTTP/1.1 431 ", "head_too_large"),
    ] {
        let mut connection = connect(&gateway);
        connection.get_mut().write_all(sent.as_bytes()).expect("sent");
        let mut answer = String::new();
        connection.read_line(&mut answer).expect("an answer");
        assert!(answer.starts_with(status), "{answer}");
        let began = Instant::now();
        while count(&gateway, &format!("uma_gateway_connection_faults_total{{reason=\"{reason}\"}}")) == 0 {
            assert!(began.elapsed() < PATIENCE, "{reason} is not counted");
            std::thread::yield_now();
        }
    }
    assert_eq!(count(&gateway, "uma_gateway_connections_total{outcome=\"accepted\"}"), 2);
}
