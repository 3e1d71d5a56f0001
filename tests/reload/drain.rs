//! The real binary, and the signals that end it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use uma_gateway::demo::authorization_server::Kind;
use uma_gateway::demo::content_server::Reply;

use super::support::{Connection, LINK, Load, Neighbours, PATIENCE, Plan, free, get, request, until};

/// A gateway in a process of its own.
struct Process {
    child: Child,
    address: SocketAddr,
    health: SocketAddr,
}

impl Process {
    async fn start(around: &Neighbours, drain: &str) -> Self {
        let (address, health) = (free(), free());
        let plan = Plan { listeners: vec![format!("{{ address: {address} }}")], top: format!("drain: {drain}"), ..Plan::default() };
        let text = around.yaml(&plan).replace("health: { address: 127.0.0.1:0 }", &format!("health: {{ address: {health} }}"));
        around.write("gateway.yaml", &text);
        let process = Self { child: run(&around.file("gateway.yaml")), address, health };
        until("the gateway is ready", async || {
            let mut connection = Connection::try_open(health).await.ok()?;
            connection.try_send(&request("GET", "/readyz", None)).await.ok()?;
            (connection.read(false).await.ok()?.status == 200).then_some(())
        })
        .await;
        process
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(sent.success());
    }

    async fn end(&mut self) -> ExitStatus {
        until("the process ends", async || self.child.try_wait().expect("our own child")).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(config: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    command.arg("run").arg("--config").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the binary runs")
}

#[tokio::test]
async fn every_request_that_is_sent_before_the_end_of_the_delay_gets_its_whole_answer() {
    let delay = Duration::from_secs(1);
    let around = Neighbours::start(Kind::Uma2).await;
    let mut process = Process::start(&around, "{ delay: 1s, timeout: 20s }").await;
    let rpt = around.rpt();
    // One that is still under way when no new connection is taken any more.
    let mut slow = Connection::open(process.address, None).await;
    around.content().reply_next(1, Reply::ok("whole").after(delay * 3));
    slow.send(&request("GET", "/public/slow", None)).await;
    around.content().hit(1).await;
    let load = Load::start(process.address, &[(Some(&rpt), 200), (Some(&rpt), 200), (Some(&rpt), 200), (None, 401)]);
    sleep(Duration::from_millis(300)).await;

    let told = Instant::now();
    process.signal("TERM");
    until("it is draining", async || {
        let answer = get(process.health, "/readyz", None).await;
        (answer.status == 503 && answer.text() == "draining\n").then_some(())
    })
    .await;
    assert_eq!(get(process.address, LINK, Some(&rpt)).await.status, 200, "new connections are served during the delay");

    let answer = slow.answer(false).await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("connection")), (200, "whole", "close"));
    assert!(told.elapsed() > delay && told.elapsed() < PATIENCE);
    let code = process.end().await;
    assert_eq!(code.code(), Some(0));

    let outcome = load.end().await;
    let early: Vec<_> = outcome.bad.iter().filter(|(sent, _)| *sent < told + delay).collect();
    assert!(early.is_empty(), "{} of {}, the first {:?}", early.len(), outcome.good, early.first());
    assert!(outcome.bad.iter().any(|(sent, _)| *sent >= told + delay), "in the end nobody listens");
}

#[tokio::test]
async fn a_second_sigterm_ends_it_now() {
    let around = Neighbours::start(Kind::Uma2).await;
    let mut process = Process::start(&around, "{ delay: 1h, timeout: 1h }").await;
    process.signal("TERM");
    until("it is draining", async || (get(process.health, "/readyz", None).await.status == 503).then_some(())).await;
    process.signal("TERM");
    assert_eq!(process.end().await.code(), Some(1));
}

#[tokio::test]
async fn sighup_reads_the_configuration_anew_and_sigint_does_not_wait() {
    let around = Neighbours::start(Kind::Uma2).await;
    let mut process = Process::start(&around, "{ delay: 1h, timeout: 1s }").await;
    let text = std::fs::read_to_string(around.file("gateway.yaml")).expect("the file");
    around.write("gateway.yaml", &format!("{text}  - {{ path: /more/**, public: true }}\n"));
    process.signal("HUP");
    until("the new route", async || (get(process.address, "/more/a", None).await.header("content-type") != "application/problem+json").then_some(())).await;
    process.signal("INT");
    assert_eq!(process.end().await.code(), Some(0));
}

#[tokio::test]
async fn systemd_is_told_and_its_socket_is_taken() {
    let around = Neighbours::start(Kind::Uma2).await;
    let manager = std::os::unix::net::UnixDatagram::bind(around.file("notify")).expect("a socket");
    manager.set_nonblocking(true).expect("ours");
    let handed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = handed.local_addr().expect("bound");
    let plan = Plan { listeners: vec![format!("{{ address: {address} }}")], top: "drain: { delay: 0s, timeout: 5s }".into(), ..Plan::default() };
    around.plan(&plan);

    // As systemd does it: the first socket is file descriptor 3, and LISTEN_PID is the process itself.
    let mut command = Command::new("sh");
    command.arg("-c").arg("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"").arg("sh").arg(env!("CARGO_BIN_EXE_uma-gateway"));
    command.arg("run").arg("--config").arg(around.file("gateway.yaml")).env("NOTIFY_SOCKET", around.file("notify"));
    let child = command.stdin(Stdio::from(std::os::fd::OwnedFd::from(handed))).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut process = Process { child, address, health: address };

    let said = async |what: &str| {
        until(what, async || {
            let mut message = [0; 1024];
            let bytes = manager.recv(&mut message).ok()?;
            String::from_utf8_lossy(&message[..bytes]).contains(what).then_some(())
        })
        .await;
    };
    said("READY=1").await;
    let answer = get(address, "/public/a.txt", None).await;
    assert_ne!(answer.header("content-type"), "application/problem+json");
    process.signal("HUP");
    said("RELOADING=1").await;
    said("READY=1").await;
    process.signal("TERM");
    said("STOPPING=1").await;
    assert_eq!(process.end().await.code(), Some(0));
}
