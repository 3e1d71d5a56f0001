//! Nothing secret comes out: tokens, tickets, passwords and cookies are planted in every place that a request or a server can put them, and looked for in all that
//! the gateway's own process writes, at its most talkative level.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::Value;
use uma_gateway::admin::{AdminClient, AdminDoor};
use uma_gateway::demo::authorization_server::{AuthorizationServer, Control, Endpoint, Fault, Options};
use uma_gateway::demo::content_server::{self, ContentServer, Reply};
use uma_gateway::secret::Secret;

use crate::support::{Answer, Connection, LINK, until};

/// The binary with a configuration; what it writes is kept.
struct Running {
    child: Child,
    written: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(file: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["run", "--config"]).arg(file).env("PROXY_PASSWORD", "proxy-secret").env("RUST_BACKTRACE", "1");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let written = Arc::new(Mutex::new(String::new()));
        let readers = vec![keep(child.stdout.take().expect("piped"), &written), keep(child.stderr.take().expect("piped"), &written)];
        Self { child, written, readers }
    }

    fn text(&self) -> String {
        self.written.lock().expect("no panic").clone()
    }

    /// The address that it listens on, once it says so.
    async fn address(&self) -> SocketAddr {
        let listening = |text: String| {
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
            lines.iter().find(|line| line["message"] == "listening").and_then(|line| line["address"].as_str()?.parse().ok())
        };
        until("the gateway listens", async || listening(self.text())).await
    }

    /// Everything that it wrote, after its end.
    fn end(mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        self.text()
    }
}

fn keep(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = into.lock().expect("no panic");
            text.push_str(&line);
            text.push('\n');
        }
    })
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free").port()
}

fn configuration(issuer: &str, content: SocketAddr, health: u16) -> String {
    format!(
        r#"version: 1
listeners: [ {{ address: 127.0.0.1:0 }} ]
health: {{ address: 127.0.0.1:{health} }}
admin: {{ socket: admin.sock }}
log: {{ level: trace, access: on, audit: audit.log }}
limits: {{ off_for: [127.0.0.1/32] }}
authorization_servers:
  server: {{ issuer: "{issuer}", client: {{ id: content-gateway, secret: {{ file: client-secret }} }}, timeout: 300ms, introspection: {{ max_age: 1s }} }}
upstreams:
  content: {{ servers: [ "http://{content}" ], credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }} }}
routes:
  - {{ path: /albums/vacation/**, protect: {{ resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view], PUT: [edit] }} }} }}
  - {{ path: /public/**, public: true }}
"#
    )
}

async fn ask(to: SocketAddr, head: &str) -> Answer {
    let mut connection = Connection::open(to, None).await;
    connection.send(format!("{head}\r\n\r\n").replace('\n', "\r\n").replace("\r\r\n", "\r\n").as_bytes()).await;
    connection.answer(false).await
}

/// Every protection token that the server has been shown.
fn protection_tokens(control: &Control) -> Vec<String> {
    let requests = [Endpoint::Introspection, Endpoint::Permission, Endpoint::ResourceSet].map(|endpoint| control.requests(endpoint)).concat();
    let bearers = requests.iter().filter_map(|seen| seen.headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
    bearers.collect()
}

/// Walks through as many rows as a client and a failing server can reach, with secrets in every field. Gives the bodies of the answers.
async fn walk(to: SocketAddr, control: &Control, upstream: &content_server::Records, rpt: &str) -> Vec<String> {
    let authorization = format!("Authorization: Bearer {rpt}");
    let extra = "Cookie: session=planted-cookie\nX-Api-Key: planted-key\nProxy-Authorization: Basic cGxhbnRlZC1wcm94eQ==";
    let get = |target: &str, field: &str| format!("GET {target} HTTP/1.1\nHost: gateway.example.org\n{extra}\n{field}");
    let mut bodies = Vec::new();
    let heads = [
        get(LINK, "X: 1"),
        get(LINK, &authorization),
        get(LINK, &authorization),
        get(LINK, "Authorization: Bearer planted-unknown"),
        get(LINK, "Authorization: Bearer planted malformed"),
        get(LINK, "Authorization: Basic cGxhbnRlZC1iYXNpYw=="),
        get(&format!("{LINK}?access_token=planted-query"), "X: 1"),
        get(&format!("{LINK}?code=planted-code"), &authorization),
        get(&format!("/public/welcome.txt?access_token={rpt}"), &authorization),
        get(&format!("{LINK}/%00?planted-nowhere"), &authorization),
        get("/nowhere?planted-nowhere", &authorization),
        format!("PUT {LINK} HTTP/1.1\nHost: gateway.example.org\n{authorization}\nContent-Length: 0"),
        get(&format!("{LINK}\nHost: twice"), &authorization),
    ];
    for head in &heads {
        bodies.push(ask(to, head).await.text());
    }
    let quoting = |text: &str| Fault::json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": text, "error_description": rpt }));
    for endpoint in [Endpoint::Introspection, Endpoint::Permission] {
        for fault in [Fault::hang(), Fault::close(), Fault::not_json(), Fault::duplicate("ticket", "1"), Fault::unauthorized(), quoting("invalid_request")] {
            control.fail_next(endpoint, 1, fault);
            bodies.push(ask(to, &get(LINK, "Authorization: Bearer planted-unknown-2")).await.text());
            control.heal_all();
        }
    }
    control.fail_next(Endpoint::Permission, 1, Fault::text(StatusCode::BAD_REQUEST, format!("{rpt} planted-page")));
    bodies.push(ask(to, &get(LINK, "X: 1")).await.text());
    for reply in [Reply::garbage(), Reply::close(), Reply::unauthorized()] {
        upstream.reply_next(1, reply);
        bodies.push(ask(to, &get(LINK, &authorization)).await.text());
    }
    bodies
}

#[tokio::test]
async fn no_secret_leaves_the_gateway_in_a_log_a_metric_or_an_answer() {
    let server = AuthorizationServer::start(Options::default()).await.expect("a port is free");
    let content = ContentServer::start(content_server::Options::default()).await.expect("a port is free");
    server.control().register("alice", "vacation", &["view", "edit"]);
    let folder = tempfile::tempdir().expect("a folder");
    let health = free_port();
    std::fs::write(folder.path().join("client-secret"), "gateway-secret\n").expect("it can be written");
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, configuration(server.issuer(), content.address(), health)).expect("it can be written");
    let gateway = Running::start(&file);
    let to = gateway.address().await;
    until("the gateway is ready", async || {
        (ask(SocketAddr::from(([127, 0, 0, 1], health)), "GET /readyz HTTP/1.1\nHost: h").await.status == 200).then_some(())
    })
    .await;

    let rpt = server.control().grant_rpt("bob", &[("vacation", &["view"])], 300);
    let bodies = walk(to, server.control(), content.records(), &rpt).await;
    let door = AdminDoor::Socket(folder.path().join("admin.sock"));
    let admin = AdminClient::new(&door);
    let url = format!("http://gateway.example.org{LINK}?access_token=planted-query").parse().expect("an address");
    let explained = admin.explain(&http::Method::GET, &url, Some(&Secret::from(rpt.as_str()))).await.expect("an explanation");
    let records = admin.last(1_000).await.expect("the records");
    let metrics = ask(SocketAddr::from(([127, 0, 0, 1], health)), "GET /metrics HTTP/1.1\nHost: h").await.text();
    let audit = std::fs::read_to_string(folder.path().join("audit.log")).expect("the audit log");
    let log = gateway.end();

    let mut secrets: Vec<String> = server.control().tickets();
    secrets.extend(protection_tokens(server.control()));
    secrets.extend(["gateway:proxy-secret", "content-gateway:gateway-secret"].map(|pair| STANDARD.encode(pair)));
    let planted = ["planted", "cGxhbnRlZC", "gateway-secret", "proxy-secret", rpt.as_str()];
    secrets.extend(planted.map(str::to_owned));
    assert!(secrets.len() > 12, "there was something to hide");
    assert!(log.lines().count() > 20 && audit.lines().count() > 10 && records.as_array().is_some_and(|records| records.len() > 10));
    let outlets = [
        ("log", log),
        ("audit log", audit),
        ("metrics", metrics),
        ("records", records.to_string()),
        ("explanation", explained.to_string()),
        ("answers", bodies.concat()),
    ];
    for (name, text) in &outlets {
        for secret in &secrets {
            let at = text.find(secret.as_str());
            assert!(at.is_none(), "the {name} tells a secret: {}", at.map_or("", |at| &text[at.saturating_sub(200)..at + secret.len()]));
        }
    }
}
