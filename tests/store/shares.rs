//! A gateway whose owners share is killed again and again (SIGKILL), at any moment: what it had answered holds, nothing is registered twice, and what was half
//! done is finished by the next one. What the authorization server lists is what counts.
//!
//! SHARES_KILLS says how often (6).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use uma_gateway::demo::authorization_server::{AuthorizationServer, Options, RunningServer};

use crate::World;
use crate::gateway::free;

const KEY: &str = "the-operators-key";
/// How long is waited for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

struct Gateway {
    process: Child,
    api: SocketAddr,
}

impl Gateway {
    /// Starts one, and waits until its API answers.
    async fn start(folder: &Path, server: &RunningServer) -> Self {
        let api = free();
        configure(folder, server.issuer(), api);
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["run", "--config", "shares.yaml"]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().expect("it runs");
        let gateway = Self { process, api };
        let ready = async {
            while gateway.ask("GET", "/shares?owner=alice", &Value::Null).await.is_none_or(|(status, _)| status != 200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("it is there");
        gateway
    }

    /// Status and body; nothing when there is nobody to answer.
    async fn ask(&self, method: &str, target: &str, body: &Value) -> Option<(u16, Value)> {
        ask(self.api, method, target, body).await
    }

    async fn kill(mut self) {
        self.process.kill().await.expect("killed");
    }

    /// All shares of Alice's, page by page.
    async fn shares(&self) -> Vec<Value> {
        let (mut shares, mut after) = (Vec::new(), String::new());
        loop {
            let (status, page) = self.ask("GET", &format!("/shares?owner=alice{after}"), &Value::Null).await.expect("an answer");
            assert_eq!(status, 200, "{page}");
            shares.extend(page.get("shares").and_then(Value::as_array).expect("a list").iter().cloned());
            let Some(next) = page.get("after").and_then(Value::as_str) else { return shares };
            after = format!("&after={next}");
        }
    }
}

async fn ask(api: SocketAddr, method: &str, target: &str, body: &Value) -> Option<(u16, Value)> {
    let (head, body) = exchange(api, method, target, body).await?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body))
}

/// Head and body of an answer.
async fn exchange(api: SocketAddr, method: &str, target: &str, body: &Value) -> Option<(String, Value)> {
    let mut stream = TcpStream::connect(api).await.ok()?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn configure(folder: &Path, issuer: &str, api: SocketAddr) {
    use std::os::unix::fs::PermissionsExt;
    for (name, secret) in [("client", "gateway-secret".to_owned()), ("operator", KEY.to_owned()), ("store-key", "0123456789abcdef".repeat(4))] {
        let file = folder.join(name);
        std::fs::write(&file, secret).expect("a secret");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
    }
    let text = format!(
        "version: 1\nlisteners: [ {{ address: {} }} ]\nlog: {{ to: gateway.log, audit: audit.log }}\nauthorization_servers: {{ server: {{ issuer: \"{issuer}\", client: {{ id: content-gateway, secret: {{ file: client }} }} }} }}\n\
         upstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}\nstore: {{ file: records.db, key: {{ file: store-key }} }}\n\
         shares: {{ address: {api}, scope: share, admin_key: {{ file: operator }}, public_url: \"https://photos.example.org\", per_owner: 100000 }}\n\
         routes: [ {{ path: /users/alice/**, protect: {{ resource: {{ shared: true }}, scopes: {{ GET: [view] }} }} }} ]\n",
        free()
    );
    std::fs::write(folder.join("shares.yaml"), text).expect("a configuration");
}

/// What was answered.
#[derive(Default)]
struct Answered {
    /// Shares by their numbers, which the server has registered.
    created: BTreeMap<usize, String>,
    /// Those of them that were withdrawn, or may have been.
    withdrawn: Vec<usize>,
}

/// Shares and withdraws until nobody answers any more.
async fn work(api: SocketAddr, numbers: std::ops::Range<usize>, count: Arc<AtomicUsize>) -> Answered {
    let mut answered = Answered::default();
    for number in numbers {
        let wish = json!({ "path": format!("/users/alice/{number}"), "owner": "alice", "name": format!("share {number}") });
        let mut answer = ask(api, "POST", "/shares", &wish).await;
        // On a busy machine the server may take longer than the gateway waits; then nothing was promised.
        while matches!(answer, Some((503, _))) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = ask(api, "POST", "/shares", &wish).await;
        }
        let Some((status, share)) = answer else { break };
        // 202: the server took its time, and the gateway goes on with it.
        assert!(matches!(status, 201 | 202), "{status} {share}");
        let id = share.get("id").and_then(Value::as_str).expect("an id").to_owned();
        answered.created.insert(number, id.clone());
        count.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(3) {
            answered.withdrawn.push(number);
            let Some((status, _)) = ask(api, "DELETE", &format!("/shares/{id}"), &Value::Null).await else { break };
            assert!(matches!(status, 204 | 202 | 503), "{status}");
        }
    }
    answered
}

#[tokio::test]
async fn a_gateway_that_is_killed_loses_no_share_and_registers_none_twice() {
    let world = World::new();
    let server = AuthorizationServer::start(Options::default()).await.expect("a port");
    let mut all = Answered::default();
    let kills = std::env::var("SHARES_KILLS").map_or(6, |text| text.parse::<usize>().expect("a number"));
    for round in 0..kills {
        let gateway = Gateway::start(world.folder.path(), &server).await;
        // Four at a time, so that some of them are always in the middle of it.
        let (begin, count) = (round * 4000, Arc::new(AtomicUsize::new(0)));
        let numbers = (0..4).map(|worker| begin + worker * 1000..begin + (worker + 1) * 1000);
        let workers: Vec<_> = numbers.map(|numbers| tokio::spawn(work(gateway.api, numbers, Arc::clone(&count)))).collect();
        // From the first moment on to well within.
        let at_work = async {
            while count.load(Ordering::Relaxed) < round % 12 * 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, at_work).await.expect("it gets to work");
        tokio::time::sleep(Duration::from_millis(u64::try_from(round).expect("small") * 37 % 50)).await;
        gateway.kill().await;
        for worker in workers {
            let answered = worker.await.expect("it ends when nobody answers");
            all.created.extend(answered.created);
            all.withdrawn.extend(answered.withdrawn);
        }
    }

    let gateway = Gateway::start(world.folder.path(), &server).await;
    let settled = async {
        loop {
            let shares = gateway.shares().await;
            if shares.iter().all(|share| share["state"] == "registered") && shares.len() == server.control().resources().len() {
                return shares;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let shares = tokio::time::timeout(PATIENCE, settled).await.expect("what was half done is finished");

    let mut listed: Vec<String> =
        server.control().resources().iter().map(|(_, description)| description["name"].as_str().expect("a name").to_owned()).collect();
    let mut kept: Vec<String> = shares.iter().map(|share| share["name"].as_str().expect("a name").to_owned()).collect();
    listed.sort();
    kept.sort();
    assert_eq!(listed, kept, "what the server lists is what is shared");
    let count = listed.len();
    listed.dedup();
    assert_eq!(listed.len(), count, "nothing is registered twice");
    for share in &shares {
        assert_eq!(server.control().resource_id(share["name"].as_str().expect("a name")).as_deref(), share["resource_id"].as_str());
    }
    for (number, id) in &all.created {
        let there = shares.iter().any(|share| share.get("id").and_then(Value::as_str) == Some(id));
        assert!(there || all.withdrawn.contains(number), "{number} was answered and is lost");
    }
    println!("{} created, {} withdrawn, {} left over {kills} kills", all.created.len(), all.withdrawn.len(), shares.len());
    assert!(all.created.len() >= kills / 2, "the gateway got to work");
}

/// The lines of a log that have these texts at these members.
fn lines(file: &Path, wanted: &[(&str, &str)]) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last one may not be whole yet.
    let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| wanted.iter().all(|(name, value)| line[*name] == *value)).collect()
}

#[tokio::test]
async fn every_request_leaves_a_line_and_every_change_another_in_the_audit_log() {
    let world = World::new();
    let server = AuthorizationServer::start(Options::default()).await.expect("a port");
    let gateway = Gateway::start(world.folder.path(), &server).await;
    let id_of = |head: &str| head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id").to_owned();
    let wish = json!({ "path": "/users/alice/x", "owner": "alice", "name": "x" });
    let (head, share) = exchange(gateway.api, "POST", "/shares", &wish).await.expect("an answer");
    let (posted, share) = (id_of(&head), share["id"].as_str().expect("an id").to_owned());
    let target = format!("/shares/{share}");
    let (head, _) = exchange(gateway.api, "PATCH", &target, &json!({ "name": "y" })).await.expect("an answer");
    let changed = id_of(&head);
    let (head, _) = exchange(gateway.api, "DELETE", &target, &Value::Null).await.expect("an answer");
    let withdrawn = id_of(&head);
    let (head, _) = exchange(gateway.api, "GET", &format!("/shares/{KEY}-and-more-of-it"), &Value::Null).await.expect("an answer");
    let missed = id_of(&head);

    let (log, audit) = (world.folder.path().join("gateway.log"), world.folder.path().join("audit.log"));
    for (id, method, path, status) in [
        (&posted, "POST", Some("/shares"), 201),
        (&changed, "PATCH", Some(&*target), 200),
        (&withdrawn, "DELETE", Some(&*target), 204),
        (&missed, "GET", None, 404),
    ] {
        let line = crate::owner::until("an access line", async || lines(&log, &[("target", "access"), ("request_id", id)]).pop()).await;
        assert_eq!((line["http.request.method"].as_str(), line["url.path"].as_str()), (Some(method), path), "{line}");
        assert_eq!((line["http.response.status_code"].as_u64(), line["client.address"].as_str()), (Some(status), Some("127.0.0.1")), "{line}");
    }
    for (id, message) in [(&posted, "a path is shared"), (&changed, "a share was changed"), (&withdrawn, "a share was withdrawn")] {
        let line = crate::owner::until("an audit line", async || lines(&audit, &[("message", message), ("request_id", id)]).pop()).await;
        assert_eq!((line["owner"].as_str(), line["id"].as_str(), line["path"].as_str()), (Some("alice"), Some(&*share), Some("/users/alice/x")), "{line}");
        assert_eq!(line["by"].as_str(), Some("operator"), "{line}");
    }
    for file in [log, audit] {
        assert!(!std::fs::read_to_string(file).expect("text").contains(KEY), "no token");
    }
    gateway.kill().await;
}
