//! What happens to a token and to a resource over time: upgraded, revoked, withdrawn, refused and later accepted, registered late.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::json;
use uma_gateway::cache::Lookup;
use uma_gateway::demo::authorization_server::{Alias, Endpoint, Fault};

use crate::support::{DECLARED, LINK, Setup, World, until};

/// When the last request with this token passed, asking until it is refused.
async fn until_refused(world: &World, rpt: &str) -> Instant {
    let mut last = Instant::now();
    until("the token is refused", async || {
        let asked = Instant::now();
        let status = world.get(LINK).bearer(rpt).await.status();
        assert!(matches!(status, 200 | 401), "{status}");
        if status == 200 {
            last = asked;
        }
        (status == 401).then_some(last)
    })
    .await
}

#[tokio::test]
async fn a_token_that_was_upgraded_in_place_passes_with_the_next_call() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    assert_eq!(world.put(LINK).bearer(&rpt).await.rows(), "I4 E8 C3: E8");
    assert!(world.control().upgrade_in_place(&rpt, "vacation", &["edit"]));
    let old = || match world.gateway.cache().look_up(&world.key(&rpt), tokio::time::Instant::now()) {
        Lookup::Active(entry) => entry.age(tokio::time::Instant::now()) > Duration::from_secs(1),
        _ => false,
    };
    until("the answer is a second old", async || old().then_some(())).await;
    let exchange = world.put(LINK).bearer(&rpt).await;
    assert_eq!((exchange.status(), exchange.rows().as_str()), (204, "I1 E7 I4 E10 U1: E10"));
    assert_eq!((exchange.calls(Endpoint::Introspection), exchange.calls(Endpoint::Permission)), (1, 0));
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_max_age() {
    let world = Setup::default().server("introspection: { max_age: 1s }").start().await;
    for end in ["revoked", "logged out", "disabled"] {
        let rpt = world.rpt(&["view"]);
        assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
        match end {
            "revoked" => world.control().revoke(&rpt),
            "logged out" => world.control().log_out("bob"),
            _ => world.control().enable_user("bob", false),
        }
        let at = Instant::now();
        let last = until_refused(&world, &rpt).await;
        assert!(last <= at + Duration::from_secs(1), "{end}: passed {:?} later", last - at);
    }
}

#[tokio::test]
async fn a_withdrawn_share_is_refused_within_max_age_and_a_new_one_seen_soon() {
    let config = "introspection: { max_age: 1s, negative_max_age: 300ms }";
    for setup in [Setup::default().keycloak(), Setup::default()] {
        let world = setup.server(config).start().await;
        let rpt = world.rpt(&["view"]);
        assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
        assert!(world.control().withdraw("alice", "vacation", "bob"));
        let at = Instant::now();
        let last = until_refused(&world, &rpt).await;
        assert!(last <= at + Duration::from_secs(1), "passed {:?} later", last - at);

        world.control().share("alice", "vacation", "bob", &["view"]);
        until("the new share is seen", async || (world.get(LINK).bearer(&rpt).await.status() == 200).then_some(())).await;
    }
}

#[tokio::test]
async fn a_scope_that_was_withdrawn_alone_ends_alone() {
    let world = Setup::default().keycloak().server("introspection: { max_age: 500ms }").start().await;
    let rpt = world.rpt(&["view", "edit"]);
    assert_eq!(world.put(LINK).bearer(&rpt).await.status(), 204);
    let album = world.control().resource_id("vacation").expect("it is registered");
    world.control().withdraw_scopes("alice", &album, "bob", &["edit"]);
    until("edit has ended", async || (world.put(LINK).bearer(&rpt).await.status() == 401).then_some(())).await;
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200, "view has not");
}

#[tokio::test]
async fn a_refusal_is_believed_for_a_short_while_only() {
    let world = Setup::default().server("introspection: { negative_max_age: 300ms }").start().await;
    let rpt = world.rpt(&["view"]);
    world.control().enable_user("bob", false);
    assert_eq!(world.get(LINK).bearer(&rpt).await.rows(), "I5 C3: I5");
    world.control().enable_user("bob", true);
    let last = until("the refusal is forgotten", async || {
        let exchange = world.get(LINK).bearer(&rpt).await;
        assert!(exchange.rows() == "I3 C3: I3" || exchange.status() == 200, "{}", exchange.rows());
        (exchange.status() == 200).then_some(exchange)
    })
    .await;
    assert_eq!(last.rows(), "I4 E10 U1: E10");
}

#[tokio::test]
async fn no_failure_is_remembered() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let failing = || Fault::status(StatusCode::SERVICE_UNAVAILABLE);
    world.control().fail_next(Endpoint::Introspection, 1, failing());
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 503);
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
    world.control().fail_next(Endpoint::Permission, 1, failing());
    assert_eq!(world.get(LINK).await.status(), 403);
    assert_eq!(world.get(LINK).await.status(), 401);
    world.control().register("alice", "tent", &["view"]);
    world.control().fail_next(Endpoint::ResourceSet, 1, failing());
    assert_eq!(world.get("/named/tent").await.status(), 403, "nobody knows whether there is such a resource");
    assert_eq!(world.get("/named/tent").await.status(), 401);
    let keycloak = Setup::default().keycloak().start().await;
    let rpt = keycloak.rpt(&["view"]);
    keycloak.control().fail_next(Endpoint::Live, 1, failing());
    assert_eq!(keycloak.get(LINK).bearer(&rpt).await.status(), 503);
    assert_eq!(keycloak.get(LINK).bearer(&rpt).await.status(), 200);
}

#[tokio::test]
async fn a_resource_that_is_registered_later_is_found_soon() {
    let world = World::start().await;
    assert_eq!(world.get("/named/tent").await.status(), 404);
    world.control().register("alice", "tent", &["view"]);
    until("the resource is found", async || (world.get("/named/tent").await.status() == 401).then_some(())).await;
    let rpt = world.control().grant_rpt("bob", &[("tent", &["view"])], 300);
    assert_eq!(world.get("/named/tent").bearer(&rpt).await.rows(), "I4 E10 U1: E10");
}

#[tokio::test]
async fn two_resources_of_one_name_and_owner_are_no_resource() {
    let world = World::start().await;
    world.control().register("alice", "twin", &["view"]);
    world.control().register("alice", "twin", &["view"]);
    let rpt = world.control().grant_rpt("bob", &[("twin", &["view"])], 300);
    let exchange = world.get("/named/twin").bearer(&rpt).await;
    assert_eq!(exchange.status(), 503, "which of them is meant cannot be told");
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn a_declared_resource_is_registered_once_and_asked_for_by_its_id() {
    let world = Setup::default().route(DECLARED).start().await;
    assert_eq!(world.get("/declared/tent").await.rows(), "D15 C3: D15");
    let id = world.control().resource_id("declared tent").expect("it is registered");
    assert_eq!(world.control().last_permission_request(), Some(json!({ "resource_id": id, "resource_scopes": ["view"] })));
    let (owner, _) = world.control().resources().into_iter().find(|(_, about)| about["name"] == "declared tent").expect("it is there");
    assert_eq!(owner, "alice");
    let before = world.control().calls(Endpoint::ResourceSet);
    assert_eq!(world.get("/declared/tent").await.status(), 401);
    assert_eq!(world.control().calls(Endpoint::ResourceSet), before);
}

#[tokio::test]
async fn a_declared_resource_that_is_there_already_keeps_the_scopes_that_only_the_server_knows() {
    let world = Setup::default().start().await;
    let id = world.control().register("alice", "declared tent", &["view", "edit"]);
    let scopes = |world: &World| {
        world.control().resources().into_iter().find(|(_, about)| about["name"] == "declared tent").map(|(_, about)| about["resource_scopes"].clone())
    };
    assert_eq!(scopes(&world), Some(json!(["view", "edit"])));
    let text = Setup::default().route(DECLARED).yaml(world.server.issuer(), world.address());
    let folder = tempfile::tempdir().expect("a folder");
    let environment = |name: &str| Some(if name == "CLIENT_SECRET" { "gateway-secret" } else { "proxy-secret" }.to_owned());
    let config = uma_gateway::config::parse(&text, &folder.path().join("gateway.yaml"), &environment).expect("no mistake");
    let options = uma_gateway::app::Options { log: Some(|| Box::new(std::io::sink())), ..uma_gateway::app::Options::default() };
    let declaring = uma_gateway::app::Gateway::start(config, &options).expect("it starts");
    until("the declaring gateway is ready", async || declaring.is_ready().then_some(())).await;
    assert_eq!((scopes(&world), world.control().resource_id("declared tent")), (Some(json!(["view", "edit"])), Some(id)));
}

#[tokio::test]
async fn what_an_answer_calls_a_permission_is_read_in_every_spelling_and_never_with_good_will() {
    let world = World::start().await;
    let cases = [
        (Fault::aliases(Alias::Rsid), 200),
        // The word of UMA 1.0 counts with the profiles that speak it.
        (Fault::aliases(Alias::ResourceSetId), 401),
        (Fault::aliases(Alias::Both), 200),
        (Fault::aliases(Alias::DisagreeingResource), 401),
        (Fault::aliases(Alias::DisagreeingScopes), 401),
        (Fault::in_permissions("resource_scopes", json!([])), 401),
        (Fault::in_permissions("resource_scopes", json!(null)), 401),
        (Fault::in_permissions("resource_scopes", json!(["View"])), 401),
        (Fault::in_permissions("resource_scopes", json!(["edit", "view"])), 200),
        (Fault::in_permissions("exp", json!(1)), 401),
        (Fault::in_permissions("nbf", json!(9_000_000_000_i64)), 401),
        (Fault::in_permissions("exp", json!(null)), 200),
        (Fault::member("permissions", json!([])), 401),
        (Fault::without("permissions"), 401),
        (Fault::member("exp", json!(1)), 401),
        (Fault::member("nbf", json!(9_000_000_000_i64)), 401),
        (Fault::member("aud", json!(["other", "content-gateway"])), 200),
        (Fault::member("aud", json!("other")), 401),
        (Fault::without("aud"), 200),
        (Fault::member("extra", json!({ "deep": [1, 2, 3] })), 200),
    ];
    for (at, (fault, status)) in cases.into_iter().enumerate() {
        let rpt = world.rpt(&["view"]);
        world.control().fail_next(Endpoint::Introspection, 1, fault);
        let exchange = world.get(LINK).bearer(&rpt).await;
        assert_eq!(exchange.status(), status, "case {at}: {}", exchange.rows());
    }
}

#[tokio::test]
async fn a_token_is_worth_what_its_own_resource_is() {
    let world = Setup::default().start().await;
    world.control().register("alice", "work", &["view"]);
    let rpt = world.control().grant_rpt("bob", &[("work", &["view"])], 300);
    assert_eq!(world.get(LINK).bearer(&rpt).await.rows(), "I4 E8 C3: E8");
    assert_eq!(world.get("/named/work").bearer(&rpt).await.status(), 404, "the path leads on, and the application knows no such page");
}
