//! Rows C: how a ticket is had, and what is said when there is none.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::response::Row;

use crate::support::{Exchange, Expect, LINK, Next, Says, Setup, World, row_tests, until};

row_tests! {
    C1: a_client_that_asks_for_too_many_tickets_is_slowed_down;
    C2: without_a_protection_token_there_is_no_ticket, a_server_that_fails_again_and_again_is_given_a_rest;
    C3: the_challenge_stands_on_one_line_as_specified, a_slow_ticket_in_time_is_a_ticket;
    C4: a_resource_that_the_server_has_lost_is_looked_up_again;
    C5: a_refused_permission_request_is_not_repeated_with_less;
    C6: a_refused_protection_token_is_renewed_and_the_ticket_asked_for_again, a_protection_token_that_is_refused_twice_is_an_outage;
    C7: every_failure_of_the_permission_endpoint_is_closed;
    O1: a_plain_oauth_server_is_answered_for_in_the_words_of_rfc_6750;
}

const CHALLENGE: Says<'_> = Says::Problem(401, "permission-required", &[]);
const UNREACHABLE: Says<'_> = Says::Problem(403, "as-unreachable", &[]);
/// The server can be asked, and knows the resource no more.
const UNKNOWN: Says<'_> = Says::Problem(403, "unknown-resource", &[]);

async fn a_plain_oauth_server_is_answered_for_in_the_words_of_rfc_6750(row: Row) {
    let world = Setup::default().oauth().server("audience: any").start().await;
    let required = |challenge| Says::Problem(401, "token-required", challenge);
    let exchange = world.get(LINK).await;
    let challenge = [("www-authenticate", "Bearer realm=\"photoz\", scope=\"view\"")];
    exchange.proves(row, &Expect { answer: required(&challenge), calls: &[], hits: 0, next: Next::NoToken, rows: "D15 O1: D15" });
    let exchange = world.get(LINK).bearer("unknown-to-the-server").await;
    let challenge = [("www-authenticate", "Bearer realm=\"photoz\", error=\"invalid_token\", scope=\"view\"")];
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer: required(&challenge), calls: &calls, hits: 0, next: Next::Refused, rows: "I5 O1: I5" });

    let token = world.control().access_token("bob", "openid view", 300);
    let exchange = world.get(LINK).bearer(&token).await;
    assert_eq!((exchange.status(), exchange.rows().as_str()), (200, "I4 E10 U1: E10"));
    let exchange = world.put(LINK).bearer(&token).await;
    assert_eq!((exchange.status(), exchange.rows().as_str()), (403, "I1 E8 O1: E8"), "a moment old, so not asked again");
    assert_eq!(exchange.answer.header("www-authenticate"), "Bearer realm=\"photoz\", error=\"insufficient_scope\", scope=\"edit\"");
    assert_eq!(exchange.answer.json()["type"], "urn:uma-gateway:insufficient-scope");
    // Whatever permissions of UMA a token has, here its own scopes count.
    assert_eq!(world.get(LINK).bearer(&world.rpt(&["view"])).await.status(), 403);
    assert_eq!((world.control().calls(Endpoint::Pat), world.control().calls(Endpoint::Permission), world.control().calls(Endpoint::ResourceSet)), (0, 0, 0));

    let checked = Setup::default().oauth().start().await;
    let exchange = checked.get(LINK).bearer(&checked.control().access_token("bob", "view", 300)).await;
    assert!(exchange.status() == 401 && exchange.passed("E2"), "the audience is the application, not the gateway");
}

/// The first answer of 429: one second brings one more back, and a slow machine needs a second.
async fn refused<'w>(mut ask: impl AsyncFnMut(u32) -> Exchange<'w>) -> Exchange<'w> {
    for number in 0..100 {
        let exchange = ask(number).await;
        if exchange.status() == 429 {
            return exchange;
        }
    }
    panic!("nobody is slowed down");
}

async fn a_client_that_asks_for_too_many_tickets_is_slowed_down(row: Row) {
    let world = Setup::default().limits("{ tickets: { rate: 1/s, burst: 1 } }").start().await;
    assert_eq!(world.get(LINK).await.status(), 401);
    let exchange = refused(async |_| world.get(LINK).await).await;
    let answer = || Says::Problem(429, "too-many-requests", &[("retry-after", "1")]);
    exchange.proves(row, &Expect { answer: answer(), calls: &[], hits: 0, next: Next::NoToken, rows: "D15 C1: C1" });
    let exchange = refused(async |number| world.get(LINK).bearer(&format!("unknown-to-the-server-{number}")).await).await;
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer: answer(), calls: &calls, hits: 0, next: Next::Refused, rows: "I5 C1: C1" });
}

async fn without_a_protection_token_there_is_no_ticket(row: Row) {
    let world = World::start().await;
    world.control().revoke_pats();
    world.control().fail(Endpoint::Pat, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    let exchange = world.get(LINK).await;
    let calls = [(Endpoint::Permission, 1), (Endpoint::Pat, 1)];
    exchange.proves(row, &Expect { answer: UNREACHABLE, calls: &calls, hits: 0, next: Next::NoToken, rows: "D15 C6 C2: C2" });
}

async fn a_server_that_fails_again_and_again_is_given_a_rest(row: Row) {
    let world = World::start().await;
    world.control().fail(Endpoint::Permission, Fault::close());
    let exchange = until("a rest", async || {
        let exchange = world.get(LINK).await;
        exchange.passed("C2").then_some(exchange)
    })
    .await;
    exchange.proves(row, &Expect { answer: UNREACHABLE, calls: &[], hits: 0, next: Next::NoToken, rows: "D15 C2: C2" });
    world.control().heal_all();
    until("the rest is over", async || (world.get(LINK).await.status() == 401).then_some(())).await;
}

async fn the_challenge_stands_on_one_line_as_specified(row: Row) {
    let world = World::start().await;
    let exchange = world.get(LINK).await;
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &[(Endpoint::Permission, 1)], hits: 0, next: Next::NoToken, rows: "D15 C3: D15" });
    let (issuer, ticket) = (world.server.issuer(), world.control().last_ticket().expect("a ticket"));
    assert_eq!(exchange.answer.header("www-authenticate"), format!("UMA realm=\"photoz\", as_uri=\"{issuer}\", ticket=\"{ticket}\""));
    assert_eq!(exchange.answer.headers.get_all("www-authenticate").iter().count(), 1);
    let asked = world.control().last_permission_request().expect("one request");
    assert_eq!(asked, json!({ "resource_id": world.control().resource_id("vacation"), "resource_scopes": ["view"] }));

    let exchange = world.get(LINK).bearer("unknown-to-the-server").await;
    let ticket = world.control().last_ticket().expect("a ticket");
    let expected = format!("UMA realm=\"photoz\", as_uri=\"{issuer}\", error=\"invalid_token\", ticket=\"{ticket}\"");
    assert_eq!(exchange.answer.header("www-authenticate"), expected);
}

async fn a_slow_ticket_in_time_is_a_ticket(row: Row) {
    let world = World::start().await;
    world.control().fail_next(Endpoint::Permission, 1, Fault::late(Duration::from_millis(300)));
    let exchange = world.get(LINK).await;
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &[(Endpoint::Permission, 1)], hits: 0, next: Next::NoToken, rows: "D15 C3: D15" });
}

async fn a_resource_that_the_server_has_lost_is_looked_up_again(row: Row) {
    let world = World::start().await;
    assert!(world.control().remove_resource("vacation"));
    let exchange = world.get(LINK).await;
    let calls = [(Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer: UNKNOWN, calls: &calls, hits: 0, next: Next::NoToken, rows: "D15 C4: C4" });

    world.control().register("alice", "vacation", &["view", "edit"]);
    let exchange = world.get(LINK).await;
    assert_eq!(exchange.rows(), "D15 C3: D15", "the next request finds its new id");
    assert!(exchange.calls(Endpoint::ResourceSet) > 0);
}

async fn a_refused_permission_request_is_not_repeated_with_less(row: Row) {
    let world = World::start().await;
    for fault in [Fault::invalid_scope(), Fault::error(StatusCode::FORBIDDEN, "access_denied"), Fault::status(StatusCode::NOT_FOUND)] {
        world.control().fail_next(Endpoint::Permission, 1, fault);
        let exchange = world.get(LINK).await;
        let calls = [(Endpoint::Permission, 1)];
        exchange.proves(row, &Expect { answer: UNREACHABLE, calls: &calls, hits: 0, next: Next::NoToken, rows: "D15 C5: C5" });
    }
}

async fn a_refused_protection_token_is_renewed_and_the_ticket_asked_for_again(row: Row) {
    let world = World::start().await;
    world.control().revoke_pats();
    let exchange = world.get(LINK).await;
    let calls = [(Endpoint::Permission, 2), (Endpoint::Pat, 1)];
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::NoToken, rows: "D15 C6 C3: D15" });

    let world = Setup::default().keycloak().start().await;
    world.control().revoke_pats();
    let exchange = world.get(LINK).await;
    exchange.proves(row, &Expect { answer: CHALLENGE, calls: &calls, hits: 0, next: Next::NoToken, rows: "D15 C6 C3: D15" });
}

async fn a_protection_token_that_is_refused_twice_is_an_outage(row: Row) {
    let world = World::start().await;
    world.control().fail_next(Endpoint::Permission, 2, Fault::unauthorized());
    let exchange = world.get(LINK).await;
    let calls = [(Endpoint::Permission, 2), (Endpoint::Pat, 1)];
    exchange.proves(row, &Expect { answer: UNREACHABLE, calls: &calls, hits: 0, next: Next::NoToken, rows: "D15 C6: C6" });
}

async fn every_failure_of_the_permission_endpoint_is_closed(row: Row) {
    let (world, hasty) = (World::start().await, Setup::default().server("timeout: 300ms").start().await);
    let faults = [
        Fault::status(StatusCode::INTERNAL_SERVER_ERROR),
        Fault::status(StatusCode::BAD_GATEWAY),
        Fault::too_many_requests(),
        Fault::close(),
        Fault::truncate(),
        Fault::not_json(),
        Fault::without("ticket"),
        Fault::member("ticket", json!(7)),
        Fault::member("ticket", json!("")),
        Fault::member("ticket", json!("with\nline")),
        Fault::member("ticket", json!("\u{fc}")),
        Fault::json(StatusCode::OK, &json!({ "ticket": "but not created" })),
        Fault::redirect(&format!("{}/elsewhere", world.server.issuer())),
        Fault::huge(300 * 1024),
    ];
    let too_late = [Fault::hang(), Fault::late(Duration::from_millis(700))];
    for (at, (world, fault)) in faults.into_iter().map(|fault| (&world, fault)).chain(too_late.into_iter().map(|fault| (&hasty, fault))).enumerate() {
        world.control().fail_next(Endpoint::Permission, 1, fault);
        let exchange = world.get(LINK).await;
        let calls = [(Endpoint::Permission, 1)];
        assert_eq!(exchange.status(), 403, "fault {at}");
        exchange.proves(row, &Expect { answer: UNREACHABLE, calls: &calls, hits: 0, next: Next::NoToken, rows: "D15 C7: C7" });
        // A success between two failures, so that the server is not given a rest; where there is little time, a slow machine may need more than one.
        until("a ticket again", async || (world.get(LINK).await.status() == 401).then_some(())).await;
    }
}
