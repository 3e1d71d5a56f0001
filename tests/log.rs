//! What goes wrong with the log goes wrong with the log alone; and what no record tells is counted.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at the first surprise")]

#[path = "support/port.rs"]
mod port;

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
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

/// The binary, with its standard output and error in files; killed when dropped.
struct Process {
    child: std::process::Child,
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
}

impl Process {
    /// `text`: the configuration after `listeners`.
    fn start(text: &str, out: Stdio) -> Self {
        let address = port::free();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("gateway.yaml"), format!("version: 1\nworkers: 1\nlisteners: [ {{ address: {address} }} ]\n{text}"))
            .expect("written");
        let error = std::fs::File::create(folder.path().join("error")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        let child = command.args(["run", "--config", "gateway.yaml"]).current_dir(folder.path()).stdout(out).stderr(error).spawn().expect("it starts");
        let process = Self { child, folder, address };
        until("it listens", || TcpStream::connect(address).is_ok());
        process
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().expect("kill").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fits() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const NOWHERE: &str = "upstreams: { content: { servers: [ \"http://127.0.0.1:9\" ] } }\nroutes: [ { path: /public, public: true } ]\n";
const LOST: &str = "uma-gateway: log lines are lost, ";

#[test]
fn the_first_line_that_is_lost_on_a_full_disk_is_told_on_standard_error_and_no_other() {
    let process = Process::start(&format!("log: {{ to: /dev/full }}\n{NOWHERE}"), Stdio::null());
    let mut connection = process.connect();
    ask(&mut connection, 1);
    until("it is told", || process.read("error").contains(LOST));
    for _ in 0..20 {
        ask(&mut connection, 200);
    }
    let told = process.read("error");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("/dev/full: No space left on device") && told.contains("uma_gateway_log_lines_dropped_total"), "{told}");
}

#[test]
fn a_reader_that_is_too_slow_is_told_on_standard_error_once() {
    // Nobody reads it.
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let process = Process::start(NOWHERE, Stdio::from(writer));
    let mut connection = process.connect();
    until("it is told", || {
        ask(&mut connection, 500);
        process.read("error").contains(LOST)
    });
    ask(&mut connection, 500);
    let told = process.read("error");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("slower than it is written"), "{told}");
}

/// A server that upgrades what asks for it and leaves everything else unanswered; it says when something has come.
fn silent_server() -> (std::net::SocketAddr, std::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, (came, comes)) = (listener.local_addr().expect("bound"), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let (mut stream, mut head, mut line) = (BufReader::new(stream), String::new(), String::new());
            while line != "\r\n" && stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                head.push_str(&line);
                if line != "\r\n" {
                    line.clear();
                }
            }
            if head.to_lowercase().contains("upgrade: websocket") {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.get_mut().write_all(answer.as_bytes()).expect("sent");
            }
            held.push(stream);
            if came.send(()).is_err() {
                return;
            }
        }
    });
    (address, comes)
}

#[test]
fn the_last_line_of_a_drain_counts_what_was_cut_off() {
    let (server, comes) = silent_server();
    let mut process = Process::start(
        &format!(
            "drain: {{ delay: 0s, timeout: 100ms }}\nlog: {{ to: log }}\nupstreams: {{ content: {{ servers: [ \"http://{server}\" ] }} }}\n\
             routes: [ {{ path: /public, public: true, upgrade: [websocket] }} ]\n"
        ),
        Stdio::null(),
    );
    let mut held: Vec<_> = (0..3).map(|_| process.connect()).collect();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (connection, fields) in held.iter_mut().zip([upgrade, "", ""]) {
        connection.get_mut().write_all(format!("GET /public HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n").as_bytes()).expect("sent");
        comes.recv_timeout(PATIENCE).expect("it has come");
    }
    let mut line = String::new();
    held.first_mut().unwrap().read_line(&mut line).expect("a status line");
    assert!(line.starts_with("HTTP/1.1 101 "), "{line}");
    process.signal("TERM");
    assert_eq!(process.child.wait().expect("ours").code(), Some(0));
    let log = process.read("log");
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{log}"));
    assert!(last["message"].as_str().unwrap_or_default().contains("was cut off"), "{log}");
    assert_eq!((&last["connections"], &last["requests"], &last["tunnels"]), (&3.into(), &2.into(), &1.into()), "{last}");
}

#[test]
fn a_drain_that_cuts_nothing_off_says_so() {
    let mut process = Process::start(&format!("drain: {{ delay: 0s, timeout: 20s }}\nlog: {{ to: log }}\n{NOWHERE}"), Stdio::null());
    ask(&mut process.connect(), 1);
    process.signal("TERM");
    assert_eq!(process.child.wait().expect("ours").code(), Some(0));
    assert!(process.read("log").lines().last().unwrap_or_default().contains("stopped: nothing was cut off"), "{}", process.read("log"));
}

#[test]
fn the_first_connection_that_is_refused_is_told_with_the_limit_and_the_next_ones_are_counted_only() {
    let process = Process::start(&format!("limits: {{ connections_per_client: 1 }}\nlog: {{ to: log }}\n{NOWHERE}"), Stdio::null());
    // The one that found out that it listens may hold the seat for a moment.
    let mut held = process.connect();
    until("a seat", || {
        held = process.connect();
        held.get_mut().write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").is_ok() && held.read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0)
    });
    for _ in 0..5 {
        assert!(matches!(process.connect().read(&mut [0; 1]), Ok(0) | Err(_)), "closed at once");
    }
    let told = || process.read("log").lines().filter(|line| line.contains("connections are refused")).map(str::to_owned).collect::<Vec<_>>();
    until("it is told", || !told().is_empty());
    let told = told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("limits.connections_per_client") && told[0].contains("\"client.address\":\"127.0.0.1\"") && told[0].contains("\"limit\":1"),
        "{told:?}"
    );
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

#[test]
fn a_log_that_was_moved_away_is_opened_anew_at_sighup() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, moved) = (folder.path().join("gateway.log"), folder.path().join("gateway.log.1"));
    let text = "version: 1\nlisteners: [ { address: 127.0.0.1:0 } ]\nlog: { to: gateway.log }\nupstreams: { content: { servers: [ \"http://127.0.0.1:9\" ] } }\n\
                routes: [ { path: /public, public: true } ]\n";
    std::fs::write(folder.path().join("gateway.yaml"), text).expect("written");
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_uma-gateway"))
        .args(["run", "--config", "gateway.yaml"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let says = |path: &Path, words: &str| {
        let began = Instant::now();
        while !std::fs::read_to_string(path).is_ok_and(|text| text.contains(words)) {
            assert!(began.elapsed() < PATIENCE, "{words} is not in {}", path.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    says(&log, "listening");
    std::fs::rename(&log, &moved).expect("moved");
    assert!(Command::new("kill").args(["-HUP", &gateway.id().to_string()]).status().expect("kill").success());
    says(&log, "configuration");
    gateway.kill().and_then(|()| gateway.wait()).expect("it ends");
}
