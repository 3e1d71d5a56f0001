//! What the shares API writes down: a line of the access log for every request, and one of the audit log for every change.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use uma_gateway::demo::authorization_server::{AuthorizationServer, Options, RunningServer};

use crate::World;
use crate::ask::ask;
use crate::owner::{OPERATOR, until};
use crate::port::free;

struct Gateway {
    /// Killed when this is dropped.
    _process: Child,
    api: SocketAddr,
}

impl Gateway {
    /// Starts one, and waits until its API answers.
    async fn start(folder: &Path, server: &RunningServer) -> Self {
        Self::start_with(folder, server, "content").await
    }

    /// The same with an upstream of this name.
    async fn start_with(folder: &Path, server: &RunningServer, upstream: &str) -> Self {
        let api = free();
        configure(folder, server.issuer(), api, upstream);
        let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["run", "--config", "shares.yaml"]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().expect("it runs");
        let gateway = Self { _process: process, api };
        until("it is there", async || ask(api, "GET", "/shares?owner=alice", OPERATOR, &Value::Null).await.filter(|answer| answer.status == 200)).await;
        gateway
    }
}

fn configure(folder: &Path, issuer: &str, api: SocketAddr, upstream: &str) {
    use std::os::unix::fs::PermissionsExt;
    for (name, secret) in [("client", "gateway-secret".to_owned()), ("operator", OPERATOR.to_owned()), ("store-key", "0123456789abcdef".repeat(4))] {
        let file = folder.join(name);
        std::fs::write(&file, secret).expect("a secret");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("a mode");
    }
    let text = format!(
        "version: 1\nlisteners: [ {{ address: {} }} ]\nlog: {{ to: gateway.log, audit: audit.log }}\nauthorization_servers: {{ server: {{ issuer: \"{issuer}\", client: {{ id: content-gateway, secret: {{ file: client }} }} }} }}\n\
         upstreams: {{ {upstream}: {{ servers: [ http://127.0.0.1:1 ] }} }}\nstore: {{ file: records.db, key: {{ file: store-key }} }}\n\
         shares: {{ address: {api}, scope: share, admin_key: {{ file: operator }}, public_url: \"https://photos.example.org\", per_owner: 100000 }}\n\
         routes: [ {{ path: /users/alice/**, protect: {{ resource: {{ shared: true }}, scopes: {{ GET: [view] }} }} }} ]\n",
        free()
    );
    std::fs::write(folder.join("shares.yaml"), text).expect("a configuration");
}

/// What `check --online` says.
async fn checked(folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    let said = command.args(["check", "--online", "--config", "shares.yaml"]).current_dir(folder).output().await.expect("it runs");
    String::from_utf8(said.stdout).expect("text")
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
    let shared = ask(gateway.api, "POST", "/shares", OPERATOR, &wish).await.expect("an answer");
    let (posted, share) = (id_of(&shared.head), shared.body["id"].as_str().expect("an id").to_owned());
    let target = format!("/shares/{share}");
    let answer = ask(gateway.api, "PATCH", &target, OPERATOR, &json!({ "name": "y" })).await.expect("an answer");
    let changed = id_of(&answer.head);
    let answer = ask(gateway.api, "DELETE", &target, OPERATOR, &Value::Null).await.expect("an answer");
    let withdrawn = id_of(&answer.head);
    let answer = ask(gateway.api, "GET", &format!("/shares/{OPERATOR}-and-more-of-it"), OPERATOR, &Value::Null).await.expect("an answer");
    let missed = id_of(&answer.head);

    let (log, audit) = (world.folder.path().join("gateway.log"), world.folder.path().join("audit.log"));
    for (id, method, path, status) in [
        (&posted, "POST", Some("/shares"), 201),
        (&changed, "PATCH", Some(&*target), 200),
        (&withdrawn, "DELETE", Some(&*target), 204),
        (&missed, "GET", None, 404),
    ] {
        let line = until("an access line", async || lines(&log, &[("target", "access"), ("request_id", id)]).pop()).await;
        assert_eq!((line["http.request.method"].as_str(), line["url.path"].as_str()), (Some(method), path), "{line}");
        assert_eq!((line["http.response.status_code"].as_u64(), line["client.address"].as_str()), (Some(status), Some("127.0.0.1")), "{line}");
    }
    for (id, message) in [(&posted, "a path is shared"), (&changed, "a share was changed"), (&withdrawn, "a share was withdrawn")] {
        let line = until("an audit line", async || lines(&audit, &[("message", message), ("request_id", id)]).pop()).await;
        assert_eq!((line["owner"].as_str(), line["id"].as_str(), line["path"].as_str()), (Some("alice"), Some(&*share), Some("/users/alice/x")), "{line}");
        assert_eq!(line["by"].as_str(), Some("operator"), "{line}");
    }
    for file in [log, audit] {
        assert!(!std::fs::read_to_string(file).expect("text").contains(OPERATOR), "no token");
    }
}

#[tokio::test]
async fn shares_that_a_renamed_upstream_closes_are_told_once_with_an_example_and_what_to_do() {
    let world = World::new();
    let server = AuthorizationServer::start(Options::default()).await.expect("a port");
    let gateway = Gateway::start(world.folder.path(), &server).await;
    for path in ["/users/alice/first", "/users/alice/second/**"] {
        let shared = ask(gateway.api, "POST", "/shares", OPERATOR, &json!({ "path": path, "owner": "alice" })).await.expect("an answer");
        assert_eq!(shared.status, 201, "{}", shared.body);
    }
    let said = checked(world.folder.path()).await;
    assert!(said.contains("ok   store: the records are in use"), "{said}");
    drop(gateway);
    configure(world.folder.path(), server.issuer(), free(), "files");
    let said = checked(world.folder.path()).await;
    let expected = "warn store: this configuration closes 2 of 2 shares, such as /users/alice/first of alice, shared with upstream `content`: the route has an upstream of another name now → give";
    assert!(said.contains(expected), "{said}");

    let gateway = Gateway::start_with(world.folder.path(), &server, "files").await;

    let log = world.folder.path().join("gateway.log");
    let closed = || lines(&log, &[("level", "WARN"), ("why", "the route has an upstream of another name now")]);
    let line = until("it is told", async || closed().pop()).await;
    assert_eq!((&line["closed"], &line["of"], &line["example"], &line["upstream"]), (&json!(2), &json!(2), &json!("/users/alice/first"), &json!("content")));
    assert!(line["message"].as_str().is_some_and(|text| text.contains("the names that they had") && text.contains("made anew")), "{line}");
    let list = ask(gateway.api, "GET", "/shares?owner=alice", OPERATOR, &Value::Null).await.expect("an answer");
    assert_eq!(list.body["shares"][1]["closed"], "the route has an upstream of another name now", "{}", list.body);
    configure(world.folder.path(), server.issuer(), gateway.api, "content");
    until("it is told that they are open", async || lines(&log, &[("message", "no share is closed by the configuration any more")]).pop()).await;
    assert_eq!(closed().len(), 1);
}

#[tokio::test]
async fn a_share_that_was_deleted_at_the_server_is_told_once() {
    let world = World::new();
    let server = AuthorizationServer::start(Options::default()).await.expect("a port");
    let gateway = Gateway::start(world.folder.path(), &server).await;
    let shared = ask(gateway.api, "POST", "/shares", OPERATOR, &json!({ "path": "/users/alice/x", "owner": "alice" })).await.expect("an answer").body;
    let id = shared["id"].as_str().expect("an id");
    assert!(server.control().remove_resource(shared["resource_id"].as_str().expect("an id")));

    let changed = ask(gateway.api, "PATCH", &format!("/shares/{id}"), OPERATOR, &json!({})).await.expect("an answer");

    assert_eq!(changed.status, 409, "{}", changed.body);
    let changed = ask(gateway.api, "PATCH", &format!("/shares/{id}"), OPERATOR, &json!({})).await.expect("an answer");
    assert_eq!(changed.status, 409, "{}", changed.body);
    let gone = ask(gateway.api, "DELETE", &format!("/shares/{id}"), OPERATOR, &json!({})).await.expect("an answer");
    assert_eq!(gone.status, 204, "{}", gone.body);
    let audit = world.folder.path().join("audit.log");
    let changes = until("it is written", async || Some(lines(&audit, &[("id", id)])).filter(|all| all.len() >= 3)).await;
    let told: Vec<&str> = changes.iter().filter_map(|line| line["message"].as_str()).collect();
    let expected = ["a path is shared", "the authorization server has deleted the resource of a share", "a share was withdrawn"];
    assert!(told.len() == 3 && told.iter().zip(expected).all(|(told, begins)| told.starts_with(begins)), "{told:?}");
}
