//! A configuration that is another one than when paths were shared.

use serde_json::{Value, json};
use uma_gateway::demo::authorization_server::Kind;

use super::support::{Answer, Connection, Neighbours, Plan, World, until};

const KEY: &str = "the-key-of-the-operator-whom-nobody-guesses";
const PATH: &str = "/users/alice/notes.txt";

/// Owners share below their own folder.
fn plan(owner: &str, folder: &str) -> Plan {
    let top = "store: { file: records.db, key: { file: store-key } }\n\
               shares: { address: 127.0.0.1:0, scope: share, admin_key: { file: operator }, public_url: \"https://photos.example.org\" }";
    let route = format!("{{ path: \"{folder}/{{user}}/**\", protect: {{ resource: {{ shared: true, owner: \"{owner}\" }}, scopes: {{ GET: [view] }} }} }}");
    Plan { top: top.into(), routes: vec![route], ..Plan::default() }
}

async fn api(world: &World, method: &str, target: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut connection = Connection::open(world.gateway.shares_address().expect("an address"), None).await;
    connection.send(head.as_bytes()).await;
    connection.answer(false).await
}

/// Waits until so many shares are open and closed.
async fn counted(world: &World, open: f64, closed: f64) {
    until("they are counted", async || {
        let counts = (world.metric("uma_shares{state=\"open\"}").await, world.metric("uma_shares{state=\"closed\"}").await);
        (counts == (Some(open), Some(closed))).then_some(())
    })
    .await;
}

async fn start(plan: &Plan) -> World {
    use std::os::unix::fs::PermissionsExt as _;
    let around = Neighbours::start(Kind::Uma2).await;
    for (name, secret) in [("operator", KEY.to_owned()), ("store-key", "0123456789abcdef".repeat(4))] {
        around.write(name, &secret);
        std::fs::set_permissions(around.file(name), std::fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    around.plan(plan);
    World::over(around, false).await
}

#[tokio::test]
async fn a_share_that_another_configuration_closes_says_why_until_it_has_what_it_had() {
    let before = plan("{user}", "/users");
    let world = start(&before).await;
    counted(&world, 0.0, 0.0).await;
    let answer = api(&world, "POST", "/shares", &json!({ "path": PATH, "owner": "alice" })).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    counted(&world, 1.0, 0.0).await;
    assert_eq!(answer.json()["closed"], Value::Null);
    let target = format!("/shares/{}", answer.json()["id"].as_str().expect("an id"));

    for (another, why) in [
        (Plan { upstream: "files".into(), ..before.clone() }, "the route has an upstream of another name now"),
        (plan("bob", "/users"), "the route lets another owner share this path now"),
        (plan("{user}", "/people"), "no route lets owners share this path any more"),
    ] {
        world.reload(&another).await.expect("no mistakes");
        counted(&world, 0.0, 1.0).await;
        let share = api(&world, "GET", &target, &Value::Null).await.json();
        assert_eq!((&share["closed"], &share["state"]), (&json!(why), &json!("registered")));
        assert_eq!(world.get(PATH).await.status, 404, "{why}");
        world.reload(&before).await.expect("no mistakes");
        counted(&world, 1.0, 0.0).await;
        assert_eq!(api(&world, "GET", &target, &Value::Null).await.json()["closed"], Value::Null);
        assert_eq!(world.get(PATH).await.status, 401);
    }
    world.reload(&Plan { upstream: "files".into(), ..before }).await.expect("no mistakes");
    counted(&world, 0.0, 1.0).await;
    assert_eq!(api(&world, "DELETE", &target, &Value::Null).await.status, 204);
    counted(&world, 0.0, 0.0).await;
}
