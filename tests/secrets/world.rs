//! The binary at its most talkative, between servers that remember, and everything that it writes.

#[path = "../support/port.rs"]
mod port;
#[path = "../gateway/support/until.rs"]
mod until;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uma_gateway::demo::authorization_server::{self, AuthorizationServer, Control, Endpoint, Kind, RunningServer};
use uma_gateway::demo::content_server::{self, ContentServer, Records, RunningContentServer};

use crate::planted::Planted;
use port::free;
pub use until::until;

/// How long a test waits for something that has to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions.
const REST: Duration = Duration::from_millis(5);

/// The secrets of the gateway itself.
pub struct Own {
    pub client: String,
    pub owner: String,
    pub password: String,
    pub bearer: String,
    pub header: String,
    pub oauth2: String,
    pub guard: String,
    pub admin: String,
    /// The operator's key of the shares API.
    pub shares: String,
    pub collector: String,
}

/// The binary, its neighbours, and what it wrote.
pub struct World {
    pub planted: Planted,
    pub own: Own,
    pub server: RunningServer,
    pub keycloak: RunningServer,
    content: RunningContentServer,
    pub folder: tempfile::TempDir,
    health: SocketAddr,
    pub admin: SocketAddr,
    shares: SocketAddr,
    collected: Arc<Mutex<Vec<u8>>>,
    child: Child,
    written: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    pub address: SocketAddr,
}

impl World {
    pub async fn start() -> Self {
        let mut planted = Planted::default();
        let own = Own {
            client: planted.plant("client secret"),
            owner: planted.plant("owner's password"),
            password: planted.plant("proxy password (basic)"),
            bearer: planted.plant("proxy token (bearer)"),
            header: planted.plant("proxy key (header)"),
            oauth2: planted.plant("proxy client's secret (oauth2)"),
            guard: planted.plant("password of a guard"),
            admin: planted.plant("admin token"),
            shares: planted.plant("admin key of shares"),
            collector: planted.plant("the collector's key"),
        };
        let server = AuthorizationServer::start(authorization_server::Options::default()).await.expect("a port is free");
        let kind = Kind::Keycloak { realm: "photoz".into() };
        let keycloak = AuthorizationServer::start(authorization_server::Options { kind, ..authorization_server::Options::default() }).await.expect("a port");
        for control in [server.control(), keycloak.control()] {
            control.add_resource_server("content-gateway", &own.client);
            control.add_resource_server("token-client", &own.oauth2);
            control.register("alice", "vacation", &["view", "edit"]);
        }
        server.control().add_user("alice", &own.owner);
        let content = ContentServer::start(content_server::Options { credential: None, ..content_server::Options::default() }).await.expect("a port is free");
        let folder = tempfile::tempdir().expect("a folder");
        let (health, admin, shares) = (free(), free(), free());
        write_files(&mut planted, &own, &folder);
        let text = configuration(&server, &keycloak, content.address(), [health, admin, shares]);
        std::fs::write(folder.path().join("gateway.yaml"), text).expect("it can be written");
        let (collected, collector) = collect().await;

        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["run", "--config", "gateway.yaml"]).current_dir(folder.path());
        command.env("PROXY_PASSWORD", &own.password).env("RUST_BACKTRACE", "1").env("UMA_GATEWAY_LOG", "trace");
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")).env("OTEL_BSP_SCHEDULE_DELAY", "20");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("x-key={}", own.collector));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let written = Arc::new(Mutex::new(String::new()));
        let readers = vec![keep(child.stdout.take().expect("piped"), &written), keep(child.stderr.take().expect("piped"), &written)];
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut world = Self { planted, own, server, keycloak, content, folder, health, admin, shares, collected, child, written, readers, address: nowhere };
        world.address = until("it listens", async || world.listening()).await;
        until("it is ready", async || world.health("/readyz").await.starts_with("HTTP/1.1 200").then_some(())).await;
        world
    }

    fn listening(&self) -> Option<SocketAddr> {
        let text = self.log();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == "listening").and_then(|line| line["address"].as_str()?.parse().ok())
    }

    pub fn control(&self) -> &Control {
        self.server.control()
    }

    /// What the content server saw.
    pub fn upstream(&self) -> &Records {
        self.content.records()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.written.lock().expect("no panic").clone()
    }

    /// Sends these bytes, as far as they are read, and reads to the end of the connection.
    pub async fn say(&self, bytes: &[u8]) -> String {
        exchange(self.address, bytes).await
    }

    /// A page of the health address.
    pub async fn health(&self, path: &str) -> String {
        exchange(self.health, format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    /// A page of the admin door.
    pub async fn admin(&self, method: &str, path: &str, token: &str, body: &str) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(self.admin, head.as_bytes()).await
    }

    /// An answer of the shares API.
    pub async fn shares(&self, method: &str, path: &str, token: &str, body: &str) -> String {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(self.shares, head.as_bytes()).await
    }

    /// Runs another command of the binary; gives all that it says.
    pub fn command(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(arguments).current_dir(self.folder.path()).env("PROXY_PASSWORD", &self.own.password).env("UMA_GATEWAY_ADMIN_TOKEN", &self.own.admin);
        let Output { stdout, stderr, .. } = command.output().expect("it runs");
        assert!(!(stdout.is_empty() && stderr.is_empty()), "{arguments:?} says nothing");
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }

    /// What the collector of traces was sent.
    pub fn traces(&self) -> Vec<u8> {
        self.collected.lock().expect("no panic").clone()
    }

    /// Everything that both servers and the content server were sent: the planted secrets really went that way.
    pub fn driven(&self) -> String {
        let mut text = String::new();
        for control in [self.server.control(), self.keycloak.control()] {
            let endpoints = [Endpoint::Discovery, Endpoint::Pat, Endpoint::Permission, Endpoint::Introspection, Endpoint::Live, Endpoint::ResourceSet];
            for seen in endpoints.into_iter().flat_map(|endpoint| control.requests(endpoint)) {
                let _ = writeln!(text, "{} {:?} {}", seen.target, plain(&seen.headers), seen.body);
            }
        }
        for seen in self.upstream().requests() {
            let _ = writeln!(text, "{} {:?} {}", seen.target, seen.headers, String::from_utf8_lossy(&seen.body));
        }
        text
    }

    /// Tickets, protection tokens and tokens for upstreams that the servers have made.
    pub fn know_minted(&mut self) {
        let mut minted: Vec<(&str, String)> = Vec::new();
        for control in [self.server.control(), self.keycloak.control()] {
            minted.extend(control.tickets().into_iter().map(|ticket| ("ticket", ticket)));
            for seen in [Endpoint::Permission, Endpoint::ResourceSet, Endpoint::Introspection].into_iter().flat_map(|endpoint| control.requests(endpoint)) {
                let bearer = seen.headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
                minted.extend(bearer.map(|token| ("protection token (PAT)", token.to_owned())));
            }
        }
        for seen in self.content.records().requests().iter().filter(|seen| seen.target.starts_with("/token/")) {
            let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
            minted.extend(token.map(|token| ("proxy token (oauth2)", token.to_owned())));
        }
        for seen in self.content.records().requests().iter().filter(|seen| seen.target.starts_with("/signed/")) {
            let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
            let parts = token.into_iter().flat_map(|token| token.split('.').skip(1));
            minted.extend(parts.map(|part| ("assertion for an upstream", part.to_owned())));
        }
        minted.sort();
        minted.dedup();
        for (kind, text) in minted {
            self.planted.know(kind, &text);
        }
    }

    /// Ends the process; gives everything that it wrote.
    pub fn end(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        self.log()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fields as they were sent, sensitive or not.
pub fn plain(headers: &http::HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}

/// Secrets' files, and a certificate with its key, of which a line in the middle is the secret.
fn write_files(planted: &mut Planted, own: &Own, folder: &tempfile::TempDir) {
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    for (name, secret) in [
        ("client", &own.client),
        ("owner", &own.owner),
        ("bearer", &own.bearer),
        ("key", &own.header),
        ("oauth2", &own.oauth2),
        ("guard", &own.guard),
        ("admin", &own.admin),
        ("shares", &own.shares),
    ] {
        write(name, &format!("{secret}\n"));
    }
    let key = KeyPair::generate().expect("randomness").public_key_raw().iter().skip(1).take(32).fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    });
    write("store-key", &key);
    planted.know("key of the records", &key);
    let key = KeyPair::generate().expect("a key").serialize_pem();
    write("signing.key", &key);
    planted.know("key that signs assertions", key.lines().nth(2).expect("a second line"));
    for (name, kind) in [("client-tls", "client key of an upstream"), ("server-tls", "key of a listener")] {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name").self_signed(&key).expect("a certificate");
        write(&format!("{name}.crt"), &certificate.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
        planted.know(kind, key.serialize_pem().lines().nth(2).expect("a second line"));
    }
}

fn configuration(server: &RunningServer, keycloak: &RunningServer, content: SocketAddr, [health, admin, shares]: [SocketAddr; 3]) -> String {
    let dead = free();
    let (sections, route) = if cfg!(feature = "store") {
        (
            format!(
                "store: {{ file: records.db, key: {{ file: store-key }} }}\n\
                 shares: {{ address: {shares}, authorization_server: keycloak, scope: share, owner: username, admin_key: {{ file: shares }}, public_url: \"http://gateway.example.org\" }}\n"
            ),
            "  - { path: \"/users/{user}/**\", upstream: basic, protect: { authorization_server: keycloak, resource: { shared: true, owner: \"{user}\" }, scopes: { GET: [view] } } }\n",
        )
    } else {
        (String::new(), "")
    };
    format!(
        r#"version: 1
workers: 2
listeners:
  - {{ address: 127.0.0.1:0, h2c: true }}
  - {{ address: "127.0.0.2:0", tls: {{ certificates: [ {{ certificate: server-tls.crt, key: server-tls.key }} ] }} }}
health: {{ address: {health} }}
admin: {{ address: {admin}, token: {{ file: admin }} }}
{sections}log: {{ level: trace, access: on, audit: audit.log }}
limits: {{ off_for: [127.0.0.1/32] }}
authorization_servers:
  server:
    issuer: "{issuer}"
    client: {{ id: content-gateway, secret: {{ file: client }} }}
    pat: {{ owners: {{ alice: {{ password: {{ file: owner }} }} }} }}
    timeout: 300ms
    introspection: {{ max_age: 1s }}
  keycloak:
    issuer: "{keycloak}"
    audience: any
    client: {{ id: content-gateway, secret: {{ file: client }} }}
    timeout: 300ms
    introspection: {{ max_age: 1s }}
upstreams:
  basic: {{ servers: [ "http://{content}" ], credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }} }}
  bearer: {{ servers: [ "http://{content}" ], credentials: {{ bearer: {{ token: {{ file: bearer }} }} }} }}
  header: {{ servers: [ "http://{content}" ], credentials: {{ headers: {{ X-Upstream-Key: {{ file: key }} }} }} }}
  oauth2: {{ servers: [ "http://{content}" ], credentials: {{ oauth2: {{ token_endpoint: "{issuer}/token", client: {{ id: token-client, secret: {{ file: oauth2 }} }} }} }} }}
  jwt: {{ servers: [ "http://{content}" ], credentials: {{ jwt: {{ key: {{ file: signing.key }}, issuer: gateway, audience: content }} }} }}
  dead: {{ servers: [ "https://localhost:{dead}" ], tls: {{ client_certificate: client-tls.crt, client_key: client-tls.key }} }}
routes:
  - {{ path: /albums/vacation/**, upstream: basic, protect: {{ authorization_server: server, resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view], PUT: [edit] }} }} }}
  - {{ path: /keycloak/**, rewrite: "/albums/vacation/{{**}}", covers_protected: true, upstream: bearer, identity_headers: {{ X-User: sub }}, protect: {{ authorization_server: keycloak, resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view] }} }} }}
  - {{ path: /public/**, upstream: header, public: true }}
  - {{ path: /socket/**, upstream: header, public: true, upgrade: [websocket] }}
  - {{ path: /token/**, upstream: oauth2, public: true }}
  - {{ path: /signed/**, upstream: jwt, public: true }}
  - {{ path: /guarded/**, upstream: header, protect: {{ mode: guard, accept: {{ basic: {{ username: gateway, password: {{ file: guard }} }} }} }} }}
  - {{ path: /dead/**, upstream: dead, public: true }}
{route}"#,
        issuer = server.issuer(),
        keycloak = keycloak.issuer(),
        dead = dead.port(),
    )
}

/// A collector of traces that keeps the bytes that it is sent.
async fn collect() -> (Arc<Mutex<Vec<u8>>>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let collected: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&collected);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let body = http_body_util::BodyExt::collect(request.into_body()).await?.to_bytes();
                    kept.lock().expect("no panic").extend_from_slice(&body);
                    Ok::<_, hyper::Error>(http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(stream), service));
        }
    });
    (collected, address)
}

fn keep(from: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let mut text = into.lock().expect("no panic");
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
        }
    })
}

/// Sends as much as is read, and reads to the end.
async fn exchange(to: SocketAddr, bytes: &[u8]) -> String {
    let talk = async {
        let Ok(mut stream) = TcpStream::connect(to).await else { return String::new() };
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, talk).await.expect("the connection ends")
}
