//! A gateway that has no file descriptors left: it rests, says so once, counts it, and goes on as soon as there are some.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

#[path = "support/port.rs"]
mod port;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long something that has to come is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Accepting rests for so long.
const REST: Duration = Duration::from_millis(100);
const GET: &[u8] = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";

/// The binary with 64 descriptors.
struct Gateway {
    process: Child,
    address: SocketAddr,
    health: SocketAddr,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Gateway {
    fn start() -> Self {
        let (address, health) = (port::free(), port::free());
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text = format!(
            "version: 1\nworkers: 1\nlisteners: [ {{ address: {address} }} ]\nhealth: {{ address: {health} }}\nlog: {{ access: off }}\n\
             upstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\nroutes: [ {{ path: /a, public: true }} ]\n"
        );
        std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
        let output = std::fs::File::create(&log).unwrap();
        let process = Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$0\" run --config gateway.yaml", env!("CARGO_BIN_EXE_uma-gateway")])
            .current_dir(folder.path())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .stdin(Stdio::null())
            .spawn()
            .expect("it runs");
        let gateway = Self { process, address, health, log, _folder: folder };
        until("it listens", || TcpStream::connect(gateway.address).is_ok());
        gateway
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn says(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// A connection on which something was asked.
    fn asked(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("the kernel takes it");
        stream.write_all(GET).unwrap();
        stream
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let started = Instant::now();
    while !fits() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether an answer is there, without waiting for it.
fn answered(stream: &mut TcpStream) -> bool {
    let mut some = [0; 4096];
    stream.set_nonblocking(true).unwrap();
    let outcome = stream.read(&mut some);
    stream.set_nonblocking(false).unwrap();
    match outcome {
        Ok(bytes) => some[..bytes].starts_with(b"HTTP/1.1 404 ") || panic!("{:?}", String::from_utf8_lossy(&some[..bytes])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn without_descriptors_accepting_rests_is_told_once_and_recovers() {
    let mut gateway = Gateway::start();
    let (mut served, mut waiting) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while waiting.is_empty() {
        let mut stream = gateway.asked();
        let mut is_served = false;
        until("an answer, or no descriptor", || {
            is_served = answered(&mut stream);
            is_served || gateway.says("no connection can be accepted") > 0
        });
        if is_served {
            served.push(stream);
        } else {
            waiting.push(stream);
        }
        assert!(served.len() < 64, "there are 64 descriptors");
    }
    waiting.extend((0..5).map(|_| gateway.asked()));
    let mut probe = TcpStream::connect(gateway.health).expect("the kernel takes it");
    probe.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();

    // Whoever is served goes on being served; nothing is waited for here, it is what is watched.
    std::thread::sleep(10 * REST);
    assert!(gateway.process.try_wait().unwrap().is_none(), "it has ended: {}", gateway.log());
    let first = served.first_mut().unwrap();
    first.write_all(GET).unwrap();
    until("an answer on a connection that stands", || answered(first));
    // The first of them may have got the last descriptor: the system says that there is none left before anybody else asks for one.
    assert!(!waiting.iter_mut().skip(1).any(answered), "there was no descriptor");

    let freed = Instant::now();
    served.truncate(1);
    until("answers to those who waited", || {
        waiting.retain_mut(|stream| !answered(stream));
        waiting.is_empty()
    });
    println!("all who waited were answered {:?} after descriptors had come back", freed.elapsed());
    let turns = began.elapsed().as_millis() / REST.as_millis();
    let mut metrics = String::new();
    probe.set_read_timeout(Some(PATIENCE)).unwrap();
    probe.read_to_string(&mut metrics).unwrap();
    let faults = metrics.lines().find_map(|line| line.strip_prefix("uma_gateway_connection_faults_total{reason=\"not_accepted\"} ")).expect("it is counted");
    let faults: u128 = faults.parse().unwrap();
    assert!((1..=turns + 5).contains(&faults), "{faults} attempts in {turns} times {REST:?}: it spins");
    until("the word that all is well", || gateway.says("connections are accepted again") > 0);
    assert_eq!((gateway.says("no connection can be accepted"), gateway.says("connections are accepted again")), (1, 1), "{}", gateway.log());
    assert!(gateway.says("control door cannot be accepted") <= 1, "{}", gateway.log());
    assert!(gateway.process.try_wait().unwrap().is_none());
}
