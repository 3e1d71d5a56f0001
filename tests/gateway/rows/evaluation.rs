//! Rows E: what an active token is good for.

use std::time::Instant;

use http::StatusCode;
use serde_json::{Map, Value, json};
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::response::Row;
use uma_gateway::uma::ResourceId;

use crate::support::{Exchange, Expect, LINK, Next, Says, Setup, World, row_tests, until};

row_tests! {
    E1: a_token_of_another_issuer_is_challenged_and_forgotten, a_token_whose_time_has_passed_here_is_challenged;
    E2: a_token_for_another_audience_is_challenged;
    E5: a_token_that_is_bound_to_a_key_is_refused_without_a_ticket;
    E7: a_missing_scope_is_asked_for_again_once_the_answer_is_old, where_it_cannot_be_asked_again_the_old_answer_counts;
    E8: a_token_without_the_scope_is_challenged, a_token_without_permissions_is_challenged, who_has_asked_too_often_is_told_what_is_known_already;
    E8a: a_withdrawn_share_is_challenged_although_introspection_still_has_it;
    E8b: what_is_granted_now_is_asked_once;
    E8c: a_live_decision_that_cannot_be_had_is_an_outage;
    E10: a_sufficient_permission_passes;
}

const CHALLENGE: Says<'_> = Says::Problem(401, "permission-required", &[]);

fn claims(members: &[(&str, Value)]) -> Map<String, Value> {
    members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

async fn a_token_of_another_issuer_is_challenged_and_forgotten(row: Row) {
    let world = World::start().await;
    world.control().rpt_claims(claims(&[("iss", json!("https://elsewhere.example.org"))]));
    let rpt = world.rpt(&["view"]);
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Nothing, rows: "I4 E1 C3: E1" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("invalid_token"));
}

async fn a_token_whose_time_has_passed_here_is_challenged(row: Row) {
    let world = World::start().await;
    world.control().set_clock(-600);
    let rpt = world.rpt(&["view"]);
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Nothing, rows: "I4 E1 C3: E1" });
}

async fn a_token_for_another_audience_is_challenged(row: Row) {
    let world = World::start().await;
    // A plain access token of the application: its audience is the application itself.
    let token = world.control().access_token("bob", "openid", 300);
    let exchange = world.get(LINK).bearer(&token).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I4 E2 C3: E2" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("invalid_token"));
}

async fn a_token_that_is_bound_to_a_key_is_refused_without_a_ticket(row: Row) {
    let world = World::start().await;
    world.control().rpt_claims(claims(&[("cnf", json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }))]));
    let rpt = world.rpt(&["view"]);
    let answer = || Says::Problem(401, "sender-constrained-token", &[("www-authenticate", "Bearer error=\"invalid_token\"")]);
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer: answer(), calls: &calls, hits: 0, next: Next::Active, rows: "I4 E5: E5" });
    let exchange = world.get(LINK).bearer(&rpt).await;
    exchange.proves(row, &Expect { answer: answer(), calls: &[], hits: 0, next: Next::Active, rows: "I1 E5: E5" });
    assert_eq!(world.control().tickets().len(), 0);
}

async fn a_missing_scope_is_asked_for_again_once_the_answer_is_old(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let exchange = asked_again(&world, &rpt).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I1 E7 I4 E8 C3: E8" });
}

async fn where_it_cannot_be_asked_again_the_old_answer_counts(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.get(LINK).bearer(&rpt).await;
    world.control().fail(Endpoint::Introspection, Fault::close());
    let exchange = asked_again(&world, &rpt).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I1 E7 C3: E7" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("insufficient_scope"));
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
}

/// Asks for what the token lacks until its answer is old enough to be asked again.
async fn asked_again<'w>(world: &'w World, rpt: &str) -> Exchange<'w> {
    until("the answer is old enough to be asked again", async || {
        let exchange = world.put(LINK).bearer(rpt).await;
        exchange.passed("E7").then_some(exchange)
    })
    .await
}

async fn a_token_without_the_scope_is_challenged(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let exchange = world.put(LINK).bearer(&rpt).body("new").await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I4 E8 C3: E8" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("insufficient_scope"));
    let asked = world.control().last_permission_request().expect("one request");
    assert_eq!(asked["resource_scopes"], json!(["edit"]), "the ticket is for what this request needs and no more");
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200, "what it has still counts");
}

async fn a_token_without_permissions_is_challenged(row: Row) {
    let world = Setup::default().server("audience: any").start().await;
    let token = world.control().access_token("bob", "view edit", 300);
    let exchange = world.get(LINK).bearer(&token).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I4 E8 C3: E8" });
}

async fn who_has_asked_too_often_is_told_what_is_known_already(row: Row) {
    // 127.0.0.1 is limited, 127.0.0.2 is not.
    let limits = "{ introspections: { rate: 1/s, burst: 1 }, tickets: { rate: 1000/s, burst: 1000 }, off_for: [127.0.0.2/32] }";
    let world = Setup::default().limits(limits).start().await;
    let rpts: Vec<String> = (0..40).map(|_| world.rpt(&["view"])).collect();
    for rpt in &rpts {
        assert_eq!(world.get(LINK).bearer(rpt).from("127.0.0.2").await.status(), 200);
    }
    let (last, others) = rpts.split_last().expect("forty");
    until("the answers are old enough to be asked again", async || world.put(LINK).bearer(last).from("127.0.0.2").await.passed("E7").then_some(())).await;

    let (before, began) = (world.control().calls(Endpoint::Introspection), Instant::now());
    let mut limited = 0;
    for rpt in others {
        let exchange = world.put(LINK).bearer(rpt).await;
        assert_eq!(exchange.challenge().error.as_deref(), Some("insufficient_scope"));
        if !exchange.passed("I4") {
            let calls = [(Endpoint::Permission, 1)];
            exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I1 E7 E8 C3: E8" });
            limited += 1;
        }
    }
    let calls = world.control().calls(Endpoint::Introspection) - before;
    assert!(calls <= 2 + began.elapsed().as_secs(), "one a second at most: {calls}");
    assert!(limited > 0);
    assert_eq!(world.get(LINK).bearer(last).await.status(), 200, "what a token has costs nothing");
}

/// What the cache holds of the live decision: nothing, a no, or the granted scopes.
fn live(world: &World, rpt: &str) -> Option<Option<Vec<String>>> {
    let resource = ResourceId(world.control().resource_id("vacation")?.as_str().into());
    let entry = world.gateway.cache().live(world.key(rpt), &resource)?;
    Some(entry.granted().map(|scopes| scopes.iter().map(|scope| scope.0.to_string()).collect()))
}

async fn a_withdrawn_share_is_challenged_although_introspection_still_has_it(row: Row) {
    let world = Setup::default().keycloak().start().await;
    let rpt = world.rpt(&["view"]);
    assert!(world.control().withdraw("alice", "vacation", "bob"));
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Live, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I4 E8a C3: E8a" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("insufficient_scope"));
    assert_eq!(live(&world, &rpt), Some(None), "the no is kept");

    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::Active, rows: "I1 E8a C3: E8a" });
}

async fn what_is_granted_now_is_asked_once(row: Row) {
    let world = Setup::default().keycloak().start().await;
    let rpt = world.rpt(&["view"]);
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Live, 1)];
    exchange.proves(row, &Expect { answer: Says::Passed(200, &[]), calls: &calls, hits: 1, next: Next::Active, rows: "I4 E8b E10 U1: E10" });
    assert_eq!(live(&world, &rpt), Some(Some(vec!["view".to_owned()])));
    let again = world.get(LINK).bearer(&rpt).await;
    assert_eq!((again.rows().as_str(), again.calls(Endpoint::Live)), ("I1 E10 U1: E10", 0));
}

async fn a_live_decision_that_cannot_be_had_is_an_outage(row: Row) {
    let world = Setup::default().keycloak().start().await;
    let rpt = world.rpt(&["view"]);
    world.control().fail_next(Endpoint::Live, 1, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    let exchange = world.get(LINK).bearer(&rpt).await;
    let answer = Says::Problem(503, "as-unreachable", &[("retry-after", "5")]);
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Live, 1)];
    exchange.proves(row, &Expect { answer, calls: &calls, hits: 0, next: Next::Active, rows: "I4 E8c: E8c" });
    assert_eq!(live(&world, &rpt), None, "a failure is not kept");
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
}

async fn a_sufficient_permission_passes(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view", "edit"]);
    for (method, status) in [("PUT", 204), ("DELETE", 204), ("GET", 200), ("HEAD", 200)] {
        let exchange = world.ask(method, LINK).bearer(&rpt).await;
        let (calls, rows): (&[_], _) = if method == "PUT" { (&[(Endpoint::Introspection, 1)], "I4 E10 U1: E10") } else { (&[], "I1 E10 U1: E10") };
        exchange.proves(row, &Expect { answer: Says::Passed(status, &[]), calls, hits: 1, next: Next::Active, rows });
    }
}
