//! Secrets change on both sides, never at the same moment.

use std::time::Duration;

use tokio::time::sleep;
use uma_gateway::admin::{AdminClient, AdminDoor};
use uma_gateway::app::Why;
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault, Kind};
use uma_gateway::demo::content_server::Reply;
use uma_gateway::jose::VerifyingKeys;

use super::support::{Connection, LINK, Load, Neighbours, Plan, World, free, get, until};

/// Long enough for many requests, short enough for a test.
const WHILE: Duration = Duration::from_millis(500);

async fn reload(world: &World) {
    world.gateway.reloads().reload(Why::Signal).await.expect("no mistakes");
}

fn plan(server: &str) -> Plan {
    Plan { server: server.into(), ..Plan::default() }
}

#[tokio::test]
async fn the_client_secret_is_changed_in_the_file_first() {
    // Keycloak's dialect: introspection and the live decision are asked with the client's own credentials.
    let plan = plan("introspection: { max_age: 20ms, negative_max_age: 10ms }");
    let world = World::start(Kind::Keycloak { realm: "photoz".into() }, &plan).await;
    let control = world.around.control();
    let rpt = world.around.rpt();
    let load = Load::start(world.address(), &[(Some(&rpt), 200), (Some(&rpt), 200), (None, 401)]);
    sleep(WHILE).await;

    world.around.write("client-secret", "another-secret");
    reload(&world).await;
    sleep(WHILE).await;
    control.add_resource_server("content-gateway", "another-secret");
    sleep(WHILE).await;
    // Nothing of the old one is left: asked for a PAT anew, the server gets the new secret alone.
    control.revoke_pats();
    let refused = control.calls(Endpoint::Pat);
    until("a PAT by the new secret", async || (control.calls(Endpoint::Pat) > refused).then_some(())).await;

    let outcome = load.end().await;
    assert!(outcome.bad.is_empty(), "{} of {}, the first {:?}", outcome.bad.len(), outcome.good, outcome.bad.first());
    assert!(outcome.good > 50);
    let series = "uma_gateway_secret_loaded_timestamp_seconds{kind=\"client_secret\",name=\"server\"}";
    assert!(world.metric(series).await.is_some());
}

#[tokio::test]
async fn a_key_takes_the_place_of_the_client_secret() {
    let plan = plan("introspection: { max_age: 20ms, negative_max_age: 10ms }");
    let world = World::start(Kind::Keycloak { realm: "photoz".into() }, &plan).await;
    let (control, rpt) = (world.around.control(), world.around.rpt());
    let load = Load::start(world.address(), &[(Some(&rpt), 200), (Some(&rpt), 200), (None, 401)]);
    let asked = async || {
        let before = control.calls(Endpoint::Introspection);
        until("more is asked", async || (control.calls(Endpoint::Introspection) > before + 10).then_some(())).await;
    };
    asked().await;

    let key = rcgen::KeyPair::generate().expect("a key");
    world.around.write("client.pem", &key.serialize_pem());
    let by_key = world.around.yaml(&plan).replace("secret: { file: client-secret }", "private_key: { file: client.pem }, key_id: \"2026-11\"");
    world.around.write("gateway.yaml", &by_key);
    reload(&world).await;
    asked().await;
    control.believe_key("content-gateway", VerifyingKeys::from_pem(key.public_key_pem().as_bytes()).expect("a public key"));
    asked().await;

    let outcome = load.end().await;
    assert!(outcome.bad.is_empty(), "{} of {}, the first {:?}", outcome.bad.len(), outcome.good, outcome.bad.first());
    let last = control.last_request(Endpoint::Introspection).expect("it was asked");
    assert!(last.parameter("client_assertion").is_some() && !last.headers.contains_key("authorization"));
}

#[tokio::test]
async fn an_owners_new_password_is_used_at_once_and_cached_answers_stay() {
    let around = Neighbours::start(Kind::Am).await;
    around.write("alice-password", "alice");
    let owners = "pat: { owners: { alice: { password: { file: alice-password } } } }\n    introspection: { max_age: 600s }";
    around.plan(&Plan { server: owners.into(), ..Plan::default() });
    let world = World::over(around, false).await;
    let (control, rpt) = (world.around.control(), world.around.rpt());
    assert_eq!(get(world.address(), LINK, Some(&rpt)).await.status, 200);
    control.add_user("alice", "another");
    assert_eq!(world.get(LINK).await.status, 403, "the old one is refused, and not tried again");
    let series = "uma_owners_without_consent{authorization_server=\"server\"}";
    assert_eq!(world.metric(series).await, Some(1.0));

    world.around.write("alice-password", "another");
    reload(&world).await;
    assert_eq!(world.get(LINK).await.status, 401, "a ticket again");
    assert_eq!(world.metric(series).await, Some(0.0));
    let asked = control.calls(Endpoint::Introspection);
    assert_eq!(get(world.address(), LINK, Some(&rpt)).await.status, 200);
    assert_eq!(control.calls(Endpoint::Introspection), asked, "the section is the same, so is what was cached");
}

#[tokio::test]
async fn the_client_secret_is_changed_at_the_server_first() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let control = world.around.control();
    let rpt = world.around.rpt();
    let load = Load::start(world.address(), &[(Some(&rpt), 200), (None, 401)]);
    control.add_resource_server("content-gateway", "another-secret");
    sleep(WHILE).await;
    let shown = || control.last_request(Endpoint::Permission).and_then(|seen| seen.headers.get("authorization").cloned());
    let old = until("a ticket", async || shown()).await;
    let before = control.calls(Endpoint::Pat);
    world.around.write("client-secret", "another-secret");
    reload(&world).await;
    until("the new secret is tried", async || (control.calls(Endpoint::Pat) > before).then_some(())).await;
    // One that is revoked on its way to the gateway would be refused, renewed as it is, and refused again.
    until("its token is used", async || (shown().as_ref() != Some(&old)).then_some(())).await;
    control.revoke_pats();
    sleep(WHILE).await;
    let outcome = load.end().await;
    assert!(outcome.bad.is_empty(), "{} of {}, the first {:?}", outcome.bad.len(), outcome.good, outcome.bad.first());
}

#[tokio::test]
async fn a_refusal_of_the_old_client_secret_that_comes_when_the_new_one_has_worked_already_is_not_the_last_word() {
    let world = World::start(Kind::Keycloak { realm: "photoz".into() }, &Plan::default()).await;
    let (control, rpt, gate) = (world.around.control(), world.around.rpt(), Gate::closed());
    let series = "uma_gateway_dependency_up{kind=\"client_secret\",name=\"server\"}";
    let is = async |value: f64| until("it is shown", async || (world.metric(series).await == Some(value)).then_some(())).await;
    world.around.write("client-secret", "another-secret");
    reload(&world).await;
    is(0.0).await;
    control.fail_next(Endpoint::Introspection, 1, Fault::held(&gate));
    control.add_resource_server("content-gateway", "another-secret");
    let story = async {
        until("it is asked about", async || (control.calls(Endpoint::Introspection) > 0).then_some(())).await;
        is(1.0).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(get(world.address(), LINK, Some(&rpt)), story);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_proxy_credential_is_changed_in_the_file_first() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let rpt = world.around.rpt();
    let load = Load::start(world.address(), &[(Some(&rpt), 200), (Some(&rpt), 200), (Some(&rpt), 200)]);
    sleep(WHILE).await;
    world.around.write("proxy-password", "another-password");
    reload(&world).await;
    sleep(WHILE * 3).await;
    assert!(world.around.content().requests().len() > 10);
    world.around.content().set_credential(Some(("gateway", "another-password")));
    sleep(WHILE * 2).await;
    // The new one has worked, so the old one is gone for good.
    world.around.content().set_credential(Some(("gateway", "proxy-secret")));
    until("the old one is not shown any more", async || (get(world.address(), LINK, Some(&rpt)).await.status == 502).then_some(())).await;
    world.around.content().set_credential(Some(("gateway", "another-password")));
    let bad = load.end().await.bad;
    let early: Vec<_> = bad.iter().filter(|(_, what)| !what.starts_with("502")).collect();
    assert!(early.is_empty(), "{:?}", early.first());
}

#[tokio::test]
async fn what_the_content_server_says_to_anybody_does_not_take_the_old_proxy_credential_away() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let content = world.around.content();
    world.around.write("proxy-password", "wrong-password");
    reload(&world).await;
    let shown = || content.requests().iter().map(|request| request.header("authorization").unwrap_or_default().to_owned()).collect::<Vec<_>>();
    let trials = || shown().iter().filter(|shown| **shown == "Basic Z2F0ZXdheTp3cm9uZy1wYXNzd29yZA==").count();
    for status in [404, 304, 400, 200] {
        content.reply_as_usual();
        content.reply(Reply::status(status));
        let before = trials();
        until("the new one is tried", async || {
            assert_eq!(get(world.address(), "/public/x", None).await.status, status);
            (trials() > before).then_some(())
        })
        .await;
        // What cannot be repeated goes with the one that has worked.
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(b"PUT /public/x HTTP/1.1\r\nHost: gateway.example.org\r\nContent-Length: 1\r\n\r\nx").await;
        assert_eq!(connection.answer(false).await.status, status);
        let put = content.requests().into_iter().rfind(|request| request.method == "PUT").expect("it came");
        assert_eq!(put.header("authorization"), Some("Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ="), "after {status}");
    }
}

#[tokio::test]
async fn no_request_fails_while_the_proxy_credential_changes() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let rpt = world.around.rpt();
    let load = Load::start(world.address(), &[(Some(&rpt), 200), (Some(&rpt), 200), (Some(&rpt), 200)]);
    for (number, password) in ["first", "second", "third"].into_iter().enumerate() {
        world.around.write("proxy-password", password);
        reload(&world).await;
        // Sometimes there is another reload before the new one has worked.
        if number == 1 {
            reload(&world).await;
        }
        sleep(WHILE / 2).await;
        world.around.content().set_credential(Some(("gateway", password)));
        sleep(WHILE).await;
    }
    let outcome = load.end().await;
    assert!(outcome.bad.is_empty(), "{} of {}, the first {:?}", outcome.bad.len(), outcome.good, outcome.bad.first());
    assert!(outcome.good > 50);
}

#[tokio::test]
async fn the_old_admin_token_opens_the_door_until_the_new_one_has() {
    let address = free();
    let around = super::support::Neighbours::start(Kind::Uma2).await;
    around.write("admin-token", "old-token");
    around.plan(&Plan { top: format!("admin: {{ address: {address}, token: {{ file: admin-token }} }}"), ..Plan::default() });
    let world = World::over(around, false).await;
    let door = |token: &str| AdminDoor::Address { address, token: token.into() };
    AdminClient::new(&door("old-token")).reload().await.expect("the door opens");

    world.around.write("admin-token", "new-token");
    AdminClient::new(&door("old-token")).reload().await.expect("the door opens");
    AdminClient::new(&door("old-token")).last(1).await.expect("the new one has not been shown");
    AdminClient::new(&door("new-token")).last(1).await.expect("the new one opens it");
    AdminClient::new(&door("old-token")).last(1).await.expect_err("and the old one no longer");

    world.around.write("gateway.yaml", "version: 1\nrutes: []\n");
    let refused = AdminClient::new(&door("new-token")).reload().await.expect_err("a mistake");
    assert!(refused.to_string().contains("gateway.yaml:2:1"), "{refused}");
}

#[tokio::test]
async fn a_new_client_secret_that_does_not_work_is_shown_until_it_does_or_is_taken_back() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let series = "uma_gateway_dependency_up{kind=\"client_secret\",name=\"server\"}";
    let is = async |value: f64| until("it is shown", async || (world.metric(series).await == Some(value)).then_some(())).await;
    assert_eq!(world.metric(series).await, None, "nothing is tried");
    world.around.write("client-secret", "a-typo");
    reload(&world).await;
    is(0.0).await;
    let verbose = world.health("/readyz?verbose").await;
    let line = "[!] client_secret server: down (the new client secret does not work yet; the one before stays in use: the token endpoint answered 401";
    assert!(verbose.status == 200 && verbose.text().contains(line), "{}", verbose.text());
    assert!(!verbose.text().contains("a-typo"));
    world.around.write("client-secret", "gateway-secret");
    reload(&world).await;
    assert_eq!(world.metric(series).await, Some(1.0), "it counts at once");

    world.around.write("client-secret", "a-typo");
    reload(&world).await;
    is(0.0).await;
    // Taken back together with something that makes another server of the section.
    world.around.write("client-secret", "gateway-secret");
    world.around.plan(&plan("introspection: { max_age: 300s }"));
    reload(&world).await;
    assert_eq!(world.metric(series).await, Some(1.0), "nothing is tried any more");

    world.around.write("client-secret", "another-secret");
    reload(&world).await;
    is(0.0).await;
    world.around.control().add_resource_server("content-gateway", "another-secret");
    is(1.0).await;
    assert!(world.health("/readyz?verbose").await.text().contains("[+] client_secret server: up"));
}
