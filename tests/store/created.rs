//! A gateway that is killed (SIGKILL) between the content server's 201 and the registration: the record is written, its path stays closed, and the next start
//! registers it, once. The same for what a content server has deleted.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{AuthorizationServer, Endpoint, Fault, Options, RunningServer};
use uma_gateway::demo::content_server::{self, ContentServer, Reply};

use crate::World;
use crate::ask::ask;
use crate::owner::until;
use crate::port::free;

/// What is made.
const PLACE: &str = "/folders/alice/42";

struct Gateway {
    process: Child,
    address: SocketAddr,
}

impl Gateway {
    async fn start(folder: &Path, server: &RunningServer, content: SocketAddr) -> Self {
        let address = free();
        configure(folder, server.issuer(), address, content);
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["run", "--config", "created.yaml"]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let gateway = Self { process: command.spawn().expect("it runs"), address };
        until("it serves", async || TcpStream::connect(address).await.is_ok().then_some(())).await;
        gateway
    }

    /// The status; 0 where nobody answers.
    async fn ask(&self, method: &str, path: &str, token: &str) -> u16 {
        ask(self.address, method, path, token, &Value::Null).await.map_or(0, |answer| answer.status)
    }

    async fn kill(mut self) {
        self.process.kill().await.expect("killed");
    }
}

fn configure(folder: &Path, issuer: &str, address: SocketAddr, content: SocketAddr) {
    use std::os::unix::fs::PermissionsExt;
    for (name, secret) in [("client", "gateway-secret".to_owned()), ("store-key", "0123456789abcdef".repeat(4))] {
        let file = folder.join(name);
        std::fs::write(&file, secret).expect("a secret");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
    }
    let text = format!(
        "version: 1\nlisteners: [ {{ address: {address} }} ]\n\
         authorization_servers: {{ server: {{ issuer: \"{issuer}\", audience: any, timeout: 20s, client: {{ id: content-gateway, secret: {{ file: client }} }} }} }}\n\
         upstreams: {{ content: {{ servers: [ \"http://{content}\" ] }} }}\nstore: {{ file: records.db, key: {{ file: store-key }} }}\n\
         shares: {{ address: {}, scope: share, owner: username, public_url: \"https://photos.example.org\" }}\nroutes:\n\
         - {{ path: /folders/alice, protect: {{ resource: {{ id: folders }}, scopes: {{ POST: [create] }}, register_on_create: {{ location: \"/folders/{{user}}/{{folder}}\" }} }} }}\n\
         - {{ path: \"/folders/{{user}}/{{folder}}\", protect: {{ resource: {{ shared: true, owner: \"{{user}}\" }}, scopes: {{ \"GET, DELETE\": [view] }}, unregister_on_delete: true }} }}\n",
        free()
    );
    std::fs::write(folder.join("created.yaml"), text).expect("a configuration");
}

/// The names of what was made.
fn made(server: &RunningServer) -> Vec<String> {
    let all = server.control().resources().into_iter();
    all.filter_map(|(_, description)| description.get("name").and_then(Value::as_str).filter(|name| name.starts_with("share ")).map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_gateway_that_is_killed_after_the_201_registers_at_its_next_start() {
    let world = World::new();
    let server = AuthorizationServer::start(Options::default()).await.expect("a port");
    let control = server.control();
    control.register_with_id("folders", "alice", "folders of alice", &["create"]);
    let content = ContentServer::start(content_server::Options::default()).await.expect("a port");
    content.records().reply(Reply::status(201).header("Location", PLACE));
    let rpt = control.grant_rpt("alice", &[("folders", &["create"])], 3000);
    let gateway = Gateway::start(world.folder.path(), &server, content.address()).await;
    // What it knows by now it does not have to ask for.
    until("it can ask", async || (gateway.ask("GET", "/folders/alice/43", &rpt).await == 404).then_some(())).await;
    let gate = Gate::closed();
    control.reset_calls();
    control.fail(Endpoint::ResourceSet, Fault::held(&gate));

    let (address, token) = (gateway.address, rpt.clone());
    let answer = tokio::spawn(async move { ask(address, "POST", "/folders/alice", &token, &Value::Null).await.map(|answer| answer.status) });
    until("it registers", async || (control.calls(Endpoint::ResourceSet) > 0).then_some(())).await;
    gateway.kill().await;
    assert_eq!(answer.await.expect("it ends"), None, "killed before its answer went on");

    // The server has done nothing of it, or will: nobody knows.
    let gateway = Gateway::start(world.folder.path(), &server, content.address()).await;
    assert_eq!(gateway.ask("GET", PLACE, &rpt).await, 404, "closed");
    gate.open();
    control.heal(Endpoint::ResourceSet);
    until("it is registered", async || (gateway.ask("GET", PLACE, &rpt).await == 401).then_some(())).await;
    let names = made(&server);
    let [name] = &names[..] else { panic!("once: {names:?}") };

    // Deleted, while the server does not answer: closed before the answer, and so after a restart.
    content.records().reply_as_usual();
    content.records().reply(Reply::status(204));
    let theirs = control.grant_rpt("bob", &[(name.as_str(), &["view"])], 3000);
    control.fail(Endpoint::ResourceSet, Fault::hang());
    assert_eq!(gateway.ask("DELETE", PLACE, &theirs).await, 204);
    gateway.kill().await;
    let gateway = Gateway::start(world.folder.path(), &server, content.address()).await;
    assert_eq!(gateway.ask("GET", PLACE, &theirs).await, 404, "closed for good");
    control.heal(Endpoint::ResourceSet);
    until("it is deleted there", async || made(&server).is_empty().then_some(())).await;
    gateway.kill().await;
}
