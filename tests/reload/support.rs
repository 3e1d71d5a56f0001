//! A gateway on real files, its two neighbours, and clients that never rest.

#[expect(dead_code, reason = "the tests of the whole gateway use the rest of it")]
#[path = "../gateway/support/http.rs"]
mod http;
#[path = "../support/port.rs"]
mod port;
#[path = "../gateway/support/until.rs"]
mod until;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use uma_gateway::app::{Gateway, Options, Refused, Why};
use uma_gateway::config;
use uma_gateway::demo::authorization_server::{self, AuthorizationServer, Control, Kind, RunningServer};
use uma_gateway::demo::content_server::{self, ContentServer, Records, RunningContentServer};

pub use self::http::{Answer, Connection};
pub use port::free;
pub use until::until;

/// How long a test waits for something that has to come.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions.
const REST: Duration = Duration::from_millis(5);

/// What the load asks for.
pub const LINK: &str = "/albums/vacation/notes.txt";

/// What stands in a configuration besides the neighbours.
#[derive(Clone)]
pub struct Plan {
    pub listeners: Vec<String>,
    /// Of the authorization server's section, besides a timeout that no machine reaches by standing still for a while.
    pub server: String,
    pub routes: Vec<String>,
    pub top: String,
    pub limits: String,
    /// The name of the content server's section.
    pub upstream: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            listeners: vec!["{ address: 127.0.0.1:0 }".into()],
            server: "introspection: { max_age: 600s }".into(),
            routes: Vec::new(),
            top: String::new(),
            limits: "{ off_for: [127.0.0.1/32] }".into(),
            upstream: "content".into(),
        }
    }
}

/// Two neighbours and a folder with the files of a gateway.
pub struct Neighbours {
    server: RunningServer,
    content: RunningContentServer,
    pub folder: tempfile::TempDir,
}

impl Neighbours {
    pub async fn start(kind: Kind) -> Self {
        let server = AuthorizationServer::start(authorization_server::Options { kind, ..authorization_server::Options::default() }).await.expect("a port");
        server.control().register("alice", "vacation", &["view", "edit"]);
        server.control().share("alice", "vacation", "bob", &["view"]);
        let content = ContentServer::start(content_server::Options::default()).await.expect("a port");
        let neighbours = Self { server, content, folder: tempfile::tempdir().expect("a folder") };
        neighbours.write("client-secret", "gateway-secret");
        neighbours.write("proxy-password", "proxy-secret");
        neighbours
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as a careful program does: never half of it is seen.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(&format!("{name}.new")), text).expect("written");
        std::fs::rename(self.file(&format!("{name}.new")), self.file(name)).expect("renamed");
    }

    pub fn plan(&self, plan: &Plan) {
        self.write("gateway.yaml", &self.yaml(plan));
    }

    pub fn yaml(&self, plan: &Plan) -> String {
        let routes: String = plan.routes.iter().map(|route| format!("  - {route}\n")).collect();
        format!(
            "version: 1
workers: 2
listeners: [ {listeners} ]
health: {{ address: 127.0.0.1:0 }}
log: {{ access: off, level: warn }}
limits: {limits}
{top}
authorization_servers:
  server:
    issuer: {issuer}
    realm: photoz
    client: {{ id: content-gateway, secret: {{ file: client-secret }} }}
    {server}
    timeout: 60s
upstreams:
  {upstream}:
    servers: [ \"http://{content}\" ]
    credentials: {{ basic: {{ username: gateway, password: {{ file: proxy-password }} }} }}
routes:
  - {{ path: /albums/vacation/**, protect: {{ resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view], PUT: [edit] }} }} }}
  - {{ path: /public/**, public: true }}
{routes}",
            listeners = plan.listeners.join(", "),
            limits = plan.limits,
            upstream = plan.upstream,
            top = plan.top,
            issuer = self.server.issuer(),
            server = plan.server,
            content = self.content.address(),
        )
    }

    pub fn control(&self) -> &Control {
        self.server.control()
    }

    pub fn content(&self) -> &Records {
        self.content.records()
    }

    /// An RPT of Bob's that may view.
    pub fn rpt(&self) -> String {
        self.control().grant_rpt("bob", &[("vacation", &["view"])], 3600)
    }
}

/// A gateway between them, in this process.
pub struct World {
    pub gateway: Gateway,
    pub around: Neighbours,
}

impl World {
    pub async fn start(kind: Kind, plan: &Plan) -> Self {
        let around = Neighbours::start(kind).await;
        around.plan(plan);
        Self::over(around, false).await
    }

    pub async fn over(around: Neighbours, watch: bool) -> Self {
        let config = config::load(&around.file("gateway.yaml")).unwrap_or_else(|problems| panic!("{problems}"));
        let options = Options { log: Some(|| Box::new(std::io::sink())), watch, ..Options::default() };
        let gateway = Gateway::start(config, &options).expect("it starts");
        until("the gateway is ready", async || gateway.is_ready().then_some(())).await;
        Self { gateway, around }
    }

    /// Writes another configuration and takes it into force.
    pub async fn reload(&self, plan: &Plan) -> Result<(), Refused> {
        self.around.plan(plan);
        self.gateway.reloads().reload(Why::Operator).await.map(drop)
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.address(0).expect("one listener")
    }

    pub async fn get(&self, target: &str) -> Answer {
        get(self.address(), target, None).await
    }

    pub async fn health(&self, target: &str) -> Answer {
        get(self.gateway.health_address().expect("a health address"), target, None).await
    }

    /// The value of a series of metrics, by the beginning of its line.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.health("/metrics").await.text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

/// A request on a connection of its own.
pub async fn get(address: SocketAddr, target: &str, token: Option<&str>) -> Answer {
    let mut connection = Connection::open(address, None).await;
    connection.send(&request("GET", target, token)).await;
    connection.answer(false).await
}

pub fn request(method: &str, target: &str, token: Option<&str>) -> Vec<u8> {
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    format!("{method} {target} HTTP/1.1\r\nHost: photos.example.org\r\n{authorization}\r\n").into_bytes()
}

/// Clients that ask for the same thing again and again, each on a connection that it keeps.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Outcome>>,
}

/// What the clients got.
#[derive(Default)]
pub struct Outcome {
    /// Answers as expected.
    pub good: usize,
    /// When a request had been sent that got something else, or had not come to be sent, and what.
    pub bad: Vec<(Instant, String)>,
}

impl Load {
    /// Each of these is a client: the token that it shows and the status that it expects.
    pub fn start(address: SocketAddr, clients: &[(Option<&str>, u16)]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = clients.iter().map(|(token, status)| tokio::spawn(client(address, token.map(str::to_owned), *status, Arc::clone(&stop)))).collect();
        Self { stop, clients }
    }

    pub async fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcome::default();
        for client in self.clients {
            let one = client.await.expect("a client that does not panic");
            all.good += one.good;
            all.bad.extend(one.bad);
        }
        all
    }
}

async fn client(address: SocketAddr, token: Option<String>, status: u16, stop: Arc<AtomicBool>) -> Outcome {
    let bytes = request("GET", LINK, token.as_deref());
    let mut outcome = Outcome::default();
    let mut open = None;
    while !stop.load(Ordering::Relaxed) {
        let (sent, answer) = ask(&mut open, address, &bytes).await;
        match answer {
            Ok(answer) if answer.status == status => outcome.good += 1,
            Ok(answer) => outcome.bad.push((sent, format!("{} {}", answer.status, answer.text()))),
            Err(error) => {
                outcome.bad.push((sent, error.to_string()));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    outcome
}

/// One request, and when it had been sent; the connection is kept unless the answer says that it ends.
async fn ask(open: &mut Option<Connection>, address: SocketAddr, bytes: &[u8]) -> (Instant, std::io::Result<Answer>) {
    let sent = send(open.take(), address, bytes).await;
    let at = Instant::now();
    let answer = async {
        let mut connection = sent?;
        let answer = connection.read(false).await?;
        if answer.header("connection") != "close" {
            *open = Some(connection);
        }
        Ok(answer)
    };
    (at, answer.await)
}

async fn send(open: Option<Connection>, address: SocketAddr, bytes: &[u8]) -> std::io::Result<Connection> {
    let mut connection = match open {
        Some(connection) => connection,
        None => Connection::try_open(address).await?,
    };
    connection.try_send(bytes).await?;
    Ok(connection)
}
