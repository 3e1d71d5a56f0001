//! Kinds of authorization servers, met by the whole gateway: whose PAT is used, what is asked in which words, who introspects.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use uma_gateway::demo::authorization_server::{Endpoint, Fault, Seen};

use crate::support::{LINK, Setup, World, until};

/// A resource of Bob's, beside Alice's album.
const DIARY: &str = "{ path: /albums/work/plan.txt, upstream: content, protect: { resource: { name: diary, owner: bob }, scopes: { GET: [view] } } }";

const DIARY_LINK: &str = "/albums/work/plan.txt";

/// Alice's album by its id: the owner says whose PAT it takes.
fn by_id(id: &str) -> String {
    format!("{{ path: /albums/work, upstream: content, protect: {{ resource: {{ id: {id}, owner: alice }}, scopes: {{ GET: [view] }} }} }}")
}

async fn am() -> World {
    am_with(Setup::default()).await
}

async fn am_with(setup: Setup) -> World {
    let world = setup.am().route(DIARY).start_unready().await;
    world.control().register("bob", "diary", &["view"]);
    until("the gateway is ready", async || world.gateway.is_ready().then_some(())).await;
    until("both resources are known", async || {
        (world.get(LINK).connect().await.status == 401 && world.get(DIARY_LINK).connect().await.status == 401).then_some(())
    })
    .await;
    world.control().reset_calls();
    world
}

/// Whose token stands in `Authorization: Bearer`.
fn bearer(world: &World, seen: &Seen) -> Option<String> {
    let token = seen.headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?;
    world.control().user_of(token)
}

#[tokio::test]
async fn every_owner_has_a_pat_and_tickets_are_asked_for_with_that_of_the_routes_owner() {
    let world = am().await;
    for (link, name, owner) in [(LINK, "vacation", "alice"), (DIARY_LINK, "diary", "bob")] {
        let exchange = world.get(link).await;
        let challenge = exchange.challenge();
        assert_eq!((exchange.status(), &*challenge.as_uri), (401, world.server.issuer()));
        assert_eq!(challenge.ticket.0.expose().split('.').count(), 3, "AM's tickets are JWTs");
        let asked = world.control().last_request(Endpoint::Permission).expect("asked");
        assert_eq!(bearer(&world, &asked).as_deref(), Some(owner));
        assert_eq!(asked.json(), Some(json!({ "resource_id": world.control().resource_id(name), "resource_scopes": ["view"] })));
    }
}

#[tokio::test]
async fn introspection_is_asked_by_post_with_the_pat_of_the_routes_owner() {
    let world = am().await;
    for (link, name, owner) in [(LINK, "vacation", "alice"), (DIARY_LINK, "diary", "bob")] {
        let rpt = world.control().grant_rpt("carol", &[(name, &["view"])], 300);
        assert_eq!(world.get(link).bearer(&rpt).await.status(), 200, "{link}");
        let asked = world.control().last_request(Endpoint::Introspection).expect("asked");
        assert_eq!(bearer(&world, &asked).as_deref(), Some(owner));
        assert_eq!((asked.method.as_str(), &*asked.target, &*asked.body), ("POST", "/am/oauth2/introspect", &*format!("token={rpt}")));
    }
}

#[tokio::test]
async fn what_one_owners_pat_is_told_of_a_token_does_not_count_at_another_owners_resource() {
    let world = am().await;
    let rpt = world.control().grant_rpt("carol", &[("diary", &["view"])], 300);
    // With Alice's PAT the server calls it inactive: it is about Bob's diary.
    let refused = world.get(LINK).bearer(&rpt).await;
    assert_eq!((refused.status(), refused.challenge().error.as_deref()), (401, Some("invalid_token")));
    assert_eq!(world.get(DIARY_LINK).bearer(&rpt).await.status(), 200);
    let again = world.get(LINK).bearer(&rpt).await;
    assert_eq!((again.status(), again.calls(Endpoint::Introspection)), (401, 0), "both answers are kept");
    assert_eq!(world.get(DIARY_LINK).bearer(&rpt).await.calls(Endpoint::Introspection), 0);
}

#[tokio::test]
async fn an_id_with_an_owner_is_asked_about_with_that_owners_pat() {
    let world = Setup::default().am().route(&by_id("album-of-alice")).start().await;
    world.control().register_with_id("album-of-alice", "alice", "by id", &["view"]);
    let rpt = world.control().grant_rpt("carol", &[("album-of-alice", &["view"])], 300);
    assert_eq!(world.get("/albums/work").bearer(&rpt).await.status(), 200);
    assert_eq!(bearer(&world, &world.control().last_request(Endpoint::Introspection).expect("asked")).as_deref(), Some("alice"));
}

#[tokio::test]
async fn permissions_of_one_resource_add_up_and_scopes_are_compared_byte_for_byte() {
    let world = am().await;
    let rpt = world.control().grant_rpt("bob", &[("vacation", &["view"]), ("vacation", &["edit"])], 300);
    assert_eq!(world.put(LINK).bearer(&rpt).await.status(), 204);
    let rpt = world.control().grant_rpt("bob", &[("vacation", &["View"])], 300);
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 401);
}

#[tokio::test]
async fn a_refused_pat_is_renewed_once_by_its_refresh_token() {
    let world = am().await;
    world.control().revoke_pats();
    let exchange = world.get(LINK).await;
    assert_eq!((exchange.status(), exchange.calls(Endpoint::Pat), exchange.calls(Endpoint::Permission)), (401, 1, 2));
    assert!(exchange.passed("C6"));
    let asked = world.control().last_request(Endpoint::Pat).expect("asked");
    assert_eq!(asked.parameter("grant_type").as_deref(), Some("refresh_token"));
    assert_eq!(asked.parameter("scope").as_deref(), Some("uma_protection"));
    assert!(asked.parameter("refresh_token").is_some() && asked.parameter("password").is_none());
    assert!(asked.headers["authorization"].to_str().expect("text").starts_with("Basic "));
}

#[tokio::test]
async fn a_hundred_requests_with_a_refused_pat_cause_one_renewal() {
    let world = am_with(Setup::default()).await;
    world.control().revoke_pats();
    let answers = join_all((0..100).map(|_| async { world.get(LINK).connect().await.status })).await;
    assert!(answers.iter().all(|status| *status == 401), "{answers:?}");
    assert_eq!(world.control().calls(Endpoint::Pat), 1);
}

#[tokio::test]
async fn a_failing_server_takes_no_pat_away() {
    let world = am().await;
    world.control().revoke_pats();
    world.control().fail(Endpoint::Pat, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(world.get(LINK).await.status(), 403, "there is no ticket without a PAT");
    world.control().heal(Endpoint::Pat);
    let exchange = until("it is back", async || Some(world.get(LINK).await).filter(|exchange| exchange.status() == 401)).await;
    drop(exchange);
    let asked = world.control().last_request(Endpoint::Pat).expect("asked");
    assert_eq!(asked.parameter("grant_type").as_deref(), Some("refresh_token"), "the refresh token was kept, too");
}

#[tokio::test]
async fn a_refused_refresh_token_leads_back_to_the_password() {
    let world = am().await;
    // Another session: tokens of the old one are dead, the password is what it was.
    world.control().log_out("alice");
    let exchange = world.get(LINK).await;
    assert_eq!((exchange.status(), exchange.calls(Endpoint::Pat)), (401, 2));
    let asked = world.control().last_request(Endpoint::Pat).expect("asked");
    assert_eq!((asked.parameter("grant_type").as_deref(), asked.parameter("username").as_deref()), (Some("password"), Some("alice")));
}

#[tokio::test]
async fn an_owner_whose_password_is_refused_is_closed_and_nobody_else() {
    let world = am().await;
    world.control().add_user("alice", "another password");
    let exchange = world.get(LINK).await;
    assert_eq!(exchange.status(), 403);
    assert_eq!(exchange.answer.header("warning"), "199 - \"UMA Authorization Server Unreachable\"");
    assert!(exchange.passed("C2"), "{}", exchange.rows());
    assert_eq!(world.get(DIARY_LINK).await.status(), 401, "Bob's is open");
    assert!(world.metrics().await.contains("uma_owners_without_consent{authorization_server=\"server\"} 1"));
    // A password that was refused is not tried again and again: servers lock accounts.
    let calls = world.control().calls(Endpoint::Pat);
    for _ in 0..5 {
        assert_eq!(world.get(LINK).await.status(), 403);
    }
    assert_eq!(world.control().calls(Endpoint::Pat), calls);
    let rpt = world.control().grant_rpt("carol", &[("vacation", &["view"])], 300);
    let exchange = world.get(LINK).bearer(&rpt).await;
    assert!(exchange.status() == 503 && exchange.passed("I10"), "{}", exchange.rows());
}

#[tokio::test]
async fn openam_is_asked_in_the_words_of_uma_1_and_introspected_as_the_client() {
    let world = Setup::default().openam().start().await;
    let exchange = world.get(LINK).await;
    assert_eq!((exchange.status(), &*exchange.challenge().as_uri), (401, world.server.issuer()));
    assert_eq!(world.control().last_permission_request(), Some(json!({ "resource_set_id": world.control().resource_id("vacation"), "scopes": ["view"] })));
    let rpt = world.rpt(&["view"]);
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
    assert_eq!(world.put(LINK).bearer(&rpt).await.status(), 401);
    let asked = world.control().last_request(Endpoint::Introspection).expect("asked");
    assert!(asked.headers["authorization"].to_str().expect("text").starts_with("Basic "));
}

#[tokio::test]
async fn a_declared_resource_is_registered_and_completed_in_the_words_of_uma_1() {
    let tent = "{ path: /tent, upstream: content, protect: { resource: { register: { name: tent, type: tent, scopes: [view, sleep], owner: alice } }, scopes: { GET: [view] } } }";
    let world = Setup::default().openam().route(crate::support::DECLARED).route(tent).start_unready().await;
    world.control().register("alice", "tent", &["view"]);
    until("both are as declared", async || {
        let scopes = |name: &str| {
            let all = world.control().resources();
            let found = all.iter().find(|(_, description)| description.get("name") == Some(&json!(name)))?;
            (found.0 == "alice").then(|| found.1.get("scopes").cloned())?
        };
        (scopes("declared tent") == Some(json!(["view"])) && scopes("tent") == Some(json!(["view", "sleep"]))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn old_clients_find_ticket_and_as_uri_in_the_body_too() {
    let world = Setup::default().server("uma_1_0: { ticket_in_body: true }").start().await;
    let exchange = world.get(LINK).await;
    let (challenge, body) = (exchange.challenge(), exchange.answer.json());
    assert_eq!((exchange.status(), exchange.answer.header("content-type")), (401, "application/json"));
    assert_eq!(exchange.answer.header("cache-control"), "no-store");
    assert_eq!(body, json!({ "ticket": challenge.ticket.0.expose(), "as_uri": challenge.as_uri }));
    let page = world.get(LINK).header("Accept", "text/html").await;
    assert!(page.answer.header("content-type").starts_with("text/html") && !page.answer.text().contains(page.challenge().ticket.0.expose()));
    assert!(world.ask("HEAD", LINK).await.answer.body.is_empty());
    let usual = World::start().await;
    let exchange = usual.get(LINK).await;
    assert!(exchange.answer.header("content-type") == "application/problem+json" && exchange.answer.json().get("ticket").is_none());
}

#[tokio::test]
async fn a_token_that_lacks_a_permission_may_be_answered_403_with_a_ticket() {
    let world = Setup::default().server("uma_1_0: { insufficient_status: 403 }").server("as_uri: \"https://am.example.org/am\"").start().await;
    let exchange = world.put(LINK).bearer(&world.rpt(&["view"])).await;
    let challenge = exchange.challenge();
    assert_eq!((exchange.status(), challenge.error.as_deref(), &*challenge.as_uri), (403, Some("insufficient_scope"), "https://am.example.org/am"));
    assert_eq!(world.get(LINK).await.status(), 401, "none at all");
    assert_eq!(world.get(LINK).bearer("unknown-to-the-server").await.status(), 401, "not valid");
}

#[tokio::test]
async fn a_token_in_a_header_of_its_own_counts_where_that_is_configured_and_goes_no_further() {
    let world = Setup::default().server("rpt_header: X-FRDP-RPT").start().await;
    let rpt = world.rpt(&["view"]);
    let exchange = world.get(LINK).header("X-FRDP-RPT", &rpt).await;
    assert_eq!(exchange.status(), 200);
    let vary: Vec<_> = exchange.answer.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["Authorization", "x-frdp-rpt"], "a cache in front keeps it apart from what others get");
    assert_eq!(world.get(LINK).header("X-FRDP-RPT", &rpt).bearer(&rpt).await.status(), 200);
    let seen = world.upstream().last().expect("a request");
    assert!(seen.header("x-frdp-rpt").is_none() && !seen.header("authorization").expect("ours").contains(&rpt));
    let exchange = world.get(LINK).header("X-FRDP-RPT", &rpt).bearer(&world.rpt(&["view"])).await;
    assert!(exchange.status() == 400 && exchange.passed("D12"));

    let usual = World::start().await;
    let rpt = usual.rpt(&["view"]);
    assert_eq!(usual.get(LINK).header("X-FRDP-RPT", &rpt).await.status(), 401, "off");
    assert_eq!(usual.get("/public/welcome.txt").header("X-FRDP-RPT", &rpt).await.status(), 200);
    assert!(usual.upstream().last().expect("a request").header("x-frdp-rpt").is_none());
}
