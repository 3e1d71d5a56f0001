//! Every way to fail does what it says.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::World;
use crate::demo::Gate;
use crate::demo::authorization_server::{Alias, Endpoint, Fault};

async fn ready() -> (World, String, String) {
    let world = World::new().await;
    let album = world.control().register("alice", "vacation", &["view"]);
    let rpt = world.control().grant_rpt("bob", &[("vacation", &["view"])], 60);
    (world, album, rpt)
}

#[tokio::test]
async fn faults_are_used_up_in_their_order_and_then_all_is_as_usual() {
    let (world, album, _) = ready().await;
    let pat = world.pat().await;
    let request = json!([{ "resource_id": album, "resource_scopes": ["view"] }]);
    let faults = [
        Fault::unauthorized(),
        Fault::invalid_bearer_token(),
        Fault::too_many_requests(),
        Fault::invalid_resource_id(),
        Fault::status(StatusCode::BAD_GATEWAY),
    ];
    for fault in faults {
        world.control().fail_next(Endpoint::Permission, 1, fault);
    }
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(world.protection(Method::POST, "permission_endpoint", "", &pat, &request).await.status.as_u16());
    }
    assert_eq!(seen, [401, 403, 429, 400, 502, 201]);
    assert_eq!(world.control().tickets().len(), 1, "a fault that replaces the answer has no effect");
}

#[tokio::test]
async fn a_fault_stays_until_it_is_cleared() {
    let (world, _, rpt) = ready().await;
    world.control().fail(Endpoint::Introspection, Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    for _ in 0..3 {
        assert_eq!(world.introspect(&rpt).await["error"], "server_error");
    }
    world.control().heal(Endpoint::Introspection);
    assert_eq!(world.introspect(&rpt).await["active"], true);
}

#[tokio::test]
async fn answers_are_edited_in_every_way_that_a_server_may_err() {
    let (world, album, rpt) = ready().await;
    let pat = format!("Bearer {}", world.pat().await);
    let answer = async |fault: Fault| {
        world.control().fail_next(Endpoint::Introspection, 1, fault);
        let reply = world.post("introspection_endpoint", Some(&pat), &[("token", &rpt)]).await;
        String::from_utf8_lossy(&reply.body).into_owned()
    };
    assert!(answer(Fault::member("active", json!("true"))).await.contains(r#""active":"true""#));
    assert!(!answer(Fault::without("active")).await.contains("active\":"));
    assert!(answer(Fault::duplicate("active", "false")).await.starts_with(r#"{"active":false,"#));
    assert!(answer(Fault::huge(10 << 20)).await.len() > 10 << 20);
    assert!(answer(Fault::deep(20_000)).await.contains(&"[".repeat(20_000)));
    assert!(answer(Fault::not_json()).await.starts_with('<'));
    let of = |text: String| serde_json::from_str::<Value>(&text).expect("JSON")["permissions"][0].clone();
    assert_eq!(
        of(answer(Fault::aliases(Alias::Rsid)).await),
        json!({ "rsid": album, "rsname": "named", "scopes": ["view"], "exp": of(answer(Fault::late(Duration::ZERO)).await)["exp"], "iat": of(answer(Fault::late(Duration::ZERO)).await)["iat"] })
    );
    assert_eq!(of(answer(Fault::aliases(Alias::ResourceSetId)).await)["resource_set_id"], album);
    assert_eq!(of(answer(Fault::aliases(Alias::DisagreeingScopes)).await)["scopes"], json!(["another"]));
    assert_eq!(of(answer(Fault::aliases(Alias::DisagreeingResource)).await)["rsid"], "another");
    assert_eq!(of(answer(Fault::in_permissions("exp", json!(1))).await)["exp"], 1);
    assert_eq!(of(answer(Fault::in_permissions("exp", Value::Null)).await).get("exp"), None);
}

#[tokio::test]
async fn a_connection_can_end_before_or_within_the_answer() {
    let (world, _, rpt) = ready().await;
    let url = world.endpoint("introspection_endpoint");
    let pat = format!("Bearer {}", world.pat().await);
    for fault in [Fault::close(), Fault::truncate()] {
        world.control().fail_next(Endpoint::Introspection, 1, fault);
        let reply = super::client::send(Method::POST, &url, Some(&pat), "application/x-www-form-urlencoded", format!("token={rpt}")).await;
        assert!(reply.is_err());
    }
    assert_eq!(world.introspect(&rpt).await["active"], true);
}

#[tokio::test]
async fn an_answer_waits_behind_its_gate() {
    let (world, _, rpt) = ready().await;
    let gate = Gate::closed();
    world.control().fail_next(Endpoint::Introspection, 1, Fault::held(&gate));
    let control = world.control().clone();
    let (answer, ()) = tokio::join!(world.introspect(&rpt), async {
        control.called(Endpoint::Introspection, 1).await;
        gate.open();
    });
    assert_eq!(answer["active"], true);
}

#[tokio::test]
async fn an_answer_can_be_late_hang_or_drip() {
    let (world, _, rpt) = ready().await;
    world.control().fail_next(Endpoint::Introspection, 1, Fault::late(Duration::from_millis(60)));
    let asked = Instant::now();
    assert_eq!(world.introspect(&rpt).await["active"], true);
    assert!(asked.elapsed() >= Duration::from_millis(60));
    world.control().fail_next(Endpoint::Introspection, 1, Fault::drip(Duration::from_millis(1)));
    assert_eq!(world.introspect(&rpt).await["active"], true);
    world.control().fail_next(Endpoint::Introspection, 1, Fault::hang());
    assert!(tokio::time::timeout(Duration::from_millis(100), world.introspect(&rpt)).await.is_err());
}

#[tokio::test]
async fn a_stopped_server_refuses_and_a_resumed_one_remembers() {
    let (world, _, rpt) = ready().await;
    world.control().stop().await;
    let refused = tokio::net::TcpStream::connect(world.server.address()).await;
    assert_eq!(refused.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
    world.control().resume().await;
    assert_eq!(world.introspect(&rpt).await["active"], true);
}

#[tokio::test]
async fn a_server_can_be_of_another_mind_about_its_name_and_the_time() {
    let (world, _, rpt) = ready().await;
    world.control().set_issuer("https://elsewhere.example");
    let reply =
        super::client::send(Method::GET, &format!("http://{}/.well-known/uma2-configuration", world.server.address()), None, "text/plain", String::new()).await;
    assert_eq!(reply.expect("an answer").text("issuer"), "https://elsewhere.example");
    assert_eq!(world.introspect(&rpt).await["iss"], "https://elsewhere.example");
    world.control().set_clock(3_600);
    assert_eq!(world.introspect(&rpt).await, json!({ "active": false }));
}
