//! Rows I: what is known of a token, and how it is found out.

use std::time::{Duration, Instant};

use http::StatusCode;
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::response::Row;

use crate::support::{Connection, Expect, LINK, Next, Says, Setup, World, row_tests, until};

row_tests! {
    I1: a_fresh_answer_is_used_again_and_nobody_is_asked, a_fresh_answer_is_used_while_the_server_is_away;
    I2: an_answer_near_its_end_is_used_and_renewed_behind_it;
    I3: a_refusal_is_remembered_and_challenged_again;
    I3b: a_client_that_sprays_tokens_is_slowed_down, live_decisions_have_a_share_and_a_bucket_too;
    I4: an_active_token_is_introspected_and_its_answer_kept;
    I5: an_inactive_token_is_challenged_and_the_refusal_kept;
    I6: a_token_that_cannot_be_judged_is_an_outage, every_unusable_answer_is_an_outage_and_none_is_kept;
    I7a: an_answer_that_is_too_old_does_not_replace_the_server;
    I8: a_refused_credential_is_renewed_and_the_question_repeated, a_credential_that_is_refused_twice_is_an_outage;
    I9: a_token_that_the_server_cannot_read_is_challenged;
    I10: without_a_protection_token_nothing_can_be_introspected;
}

const PASSED: Says<'_> = Says::Passed(200, &[]);
const OUTAGE: Says<'_> = Says::Problem(503, "as-unreachable", &[("retry-after", "5")]);

fn failing() -> Fault {
    Fault::status(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn an_active_token_is_introspected_and_its_answer_kept(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer: PASSED, calls: &calls, hits: 1, next: Next::Active, rows: "I4 E10 U1: E10" });
    assert_eq!(exchange.answer.text(), "The water was warm.\n");
    assert_eq!(exchange.line["uma.subject"], "id-of-bob");
}

async fn a_fresh_answer_is_used_again_and_nobody_is_asked(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.get(LINK).bearer(&rpt).await;
    for _ in 0..3 {
        let exchange = world.get(LINK).bearer(&rpt).await;
        exchange.proves(row, &Expect { answer: PASSED, calls: &[], hits: 1, next: Next::Active, rows: "I1 E10 U1: E10" });
    }
}

async fn a_fresh_answer_is_used_while_the_server_is_away(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.get(LINK).bearer(&rpt).await;
    world.control().stop().await;
    let exchange = world.get(LINK).bearer(&rpt).await;
    exchange.proves(row, &Expect { answer: PASSED, calls: &[], hits: 1, next: Next::Active, rows: "I1 E10 U1: E10" });
}

async fn an_answer_near_its_end_is_used_and_renewed_behind_it(row: Row) {
    let world = Setup::default().server("introspection: { max_age: 4s, refresh_window: 90% }").start().await;
    let rpt = world.rpt(&["view"]);
    world.get(LINK).bearer(&rpt).await;
    let before = world.control().calls(Endpoint::Introspection);
    let exchange = until("an answer near its end", async || {
        let exchange = world.get(LINK).bearer(&rpt).await;
        exchange.passed("I2").then_some(exchange)
    })
    .await;
    world.control().called(Endpoint::Introspection, before + 1).await;
    exchange.proves(row, &Expect { answer: PASSED, calls: &[(Endpoint::Introspection, 1)], hits: 1, next: Next::Active, rows: "I2 E10 U1: E10" });
}

async fn a_refusal_is_remembered_and_challenged_again(row: Row) {
    let world = World::start().await;
    world.get(LINK).bearer("unknown-to-the-server").await;
    let exchange = world.get(LINK).bearer("unknown-to-the-server").await;
    let answer = Says::Problem(401, "permission-required", &[]);
    exchange.proves(row, &Expect { answer, calls: &[(Endpoint::Permission, 1)], hits: 0, next: Next::Refused, rows: "I3 C3: I3" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("invalid_token"));
}

async fn a_client_that_sprays_tokens_is_slowed_down(row: Row) {
    let world = Setup::default().limits("{ introspections: { rate: 1/s, burst: 1 } }").start().await;
    let rpt = world.rpt(&["view"]);
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
    let (mut number, answer) = (0, Says::Problem(429, "too-many-requests", &[("retry-after", "1")]));
    // One second brings one more back, and a slow machine needs a second.
    let exchange = loop {
        let exchange = world.get(LINK).bearer(&format!("another-token-{number}")).await;
        if exchange.status() == 429 || number == 100 {
            break exchange;
        }
        number += 1;
    };
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::Nothing, rows: "I3b: I3b" });
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200, "a token that the cache holds never counts");
    assert_eq!(world.get(LINK).bearer("another-token").from("127.0.0.2").await.status(), 401, "another client has its own count");
}

async fn live_decisions_have_a_share_and_a_bucket_too(row: Row) {
    // A quarter of what one server is asked at once.
    const SHARE: usize = 64;
    let limits = "{ introspections: { rate: 1/s, burst: 100 }, tickets: { rate: 1000/s, burst: 1000 }, off_for: [127.0.0.2/32] }";
    let world = Setup::default().keycloak().limits(limits).start().await;
    let rpts: Vec<String> = (0..SHARE + 80).map(|_| world.rpt(&["view"])).collect();
    for rpt in &rpts {
        // It lacks the scope, so nobody asks for a live decision yet.
        assert_eq!(world.put(LINK).bearer(rpt).from("127.0.0.2").await.status(), 401);
    }
    let (gate, began) = (Gate::closed(), Instant::now());
    world.control().fail(Endpoint::Live, Fault::held(&gate));
    let mut waiting = Vec::new();
    for rpt in &rpts[..SHARE] {
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(&world.get(LINK).bearer(rpt).bytes()).await;
        waiting.push(connection);
    }
    world.control().called(Endpoint::Live, SHARE as u64).await;
    let exchange = world.get(LINK).bearer(&rpts[SHARE]).await;
    let answer = || Says::Problem(429, "too-many-requests", &[("retry-after", "1")]);
    exchange.proves(row, &Expect { answer: answer(), calls: &[], hits: 0, next: Next::Active, rows: "I1 I3b: I3b" });
    let mut other = Connection::open(world.address(), Some("127.0.0.3".parse().expect("an address"))).await;
    other.send(&world.get(LINK).bearer(&rpts[SHARE]).bytes()).await;
    world.control().called(Endpoint::Live, SHARE as u64 + 1).await;
    gate.open();
    for connection in waiting.iter_mut().chain([&mut other]) {
        assert_eq!(connection.answer(false).await.status, 200);
    }
    assert_eq!(world.get(LINK).bearer(&rpts[0]).await.status(), 200, "what is known costs nothing");

    let mut limited = 0;
    for rpt in &rpts[SHARE + 1..] {
        let exchange = world.get(LINK).bearer(rpt).await;
        if exchange.status() != 200 {
            exchange
                .proves(row, &Expect { answer: Says::Problem(429, "too-many-requests", &[]), calls: &[], hits: 0, next: Next::Active, rows: "I1 I3b: I3b" });
            limited += 1;
        }
    }
    let calls = world.control().calls(Endpoint::Live);
    assert!(calls <= 102 + began.elapsed().as_secs(), "the burst, one a second, and the other client's: {calls}");
    assert!(limited > 0);
}

async fn an_inactive_token_is_challenged_and_the_refusal_kept(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.control().revoke(&rpt);
    let exchange = world.get(LINK).bearer(&rpt).await;
    let answer = Says::Problem(401, "permission-required", &[]);
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer, calls: &calls, hits: 0, next: Next::Refused, rows: "I5 C3: I5" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("invalid_token"));
}

async fn a_token_that_cannot_be_judged_is_an_outage(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.control().fail_next(Endpoint::Introspection, 1, failing());
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer: OUTAGE, calls: &calls, hits: 0, next: Next::Nothing, rows: "I6: I6" });
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200, "the failure was not kept");

    world.control().stop().await;
    let exchange = world.get(LINK).bearer("not-seen-before").await;
    exchange.proves(row, &Expect { answer: OUTAGE, calls: &[], hits: 0, next: Next::Nothing, rows: "I6: I6" });
}

async fn every_unusable_answer_is_an_outage_and_none_is_kept(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let faults = [
        Fault::close(),
        Fault::truncate(),
        Fault::too_many_requests(),
        Fault::redirect(&format!("{}/elsewhere", world.server.issuer())),
        Fault::text(StatusCode::OK, ""),
        Fault::not_json(),
        Fault::huge(300 * 1024),
        Fault::deep(200),
        Fault::duplicate("active", "true"),
        Fault::without("active"),
        Fault::member("active", "true".into()),
        Fault::member("active", 1.into()),
        Fault::member("exp", "tomorrow".into()),
        Fault::member("exp", 1_900_000_000_000_i64.into()),
        Fault::member("permissions", "all".into()),
        Fault::text(StatusCode::BAD_REQUEST, "not JSON"),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        world.control().fail_next(Endpoint::Introspection, 1, fault);
        let exchange = world.get(LINK).bearer(&rpt).await;
        let calls = [(Endpoint::Introspection, 1)];
        assert_eq!(exchange.status(), 503, "fault {at}");
        exchange.proves(row, &Expect { answer: OUTAGE, calls: &calls, hits: 0, next: Next::Nothing, rows: "I6: I6" });
    }
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
}

async fn an_answer_that_is_too_old_does_not_replace_the_server(row: Row) {
    let world = Setup::default().server("introspection: { max_age: 300ms, refresh_window: 0% }").start().await;
    let rpt = world.rpt(&["view"]);
    world.get(LINK).bearer(&rpt).await;
    until("the answer is too old", async || (world.holds(&rpt) == Next::Stale).then_some(())).await;
    world.control().fail_next(Endpoint::Introspection, 1, failing());
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer: OUTAGE, calls: &calls, hits: 0, next: Next::Stale, rows: "I7a: I7a" });
}

async fn a_refused_credential_is_renewed_and_the_question_repeated(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.control().revoke_pats();
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 2), (Endpoint::Pat, 1)];
    exchange.proves(row, &Expect { answer: PASSED, calls: &calls, hits: 1, next: Next::Active, rows: "I8 I4 E10 U1: E10" });
}

async fn a_credential_that_is_refused_twice_is_an_outage(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.control().fail_next(Endpoint::Introspection, 2, Fault::unauthorized());
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 2), (Endpoint::Pat, 1)];
    exchange.proves(row, &Expect { answer: OUTAGE, calls: &calls, hits: 0, next: Next::Nothing, rows: "I8 I6: I6" });
}

async fn a_token_that_the_server_cannot_read_is_challenged(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.control().fail_next(Endpoint::Introspection, 1, Fault::error(StatusCode::BAD_REQUEST, "invalid_token"));
    let exchange = world.get(LINK).bearer(&rpt).await;
    let answer = Says::Problem(401, "permission-required", &[]);
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Permission, 1)];
    exchange.proves(row, &Expect { answer, calls: &calls, hits: 0, next: Next::Nothing, rows: "I9 C3: I9" });
    assert_eq!(exchange.challenge().error.as_deref(), Some("invalid_token"));
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200, "nothing was kept");
}

async fn without_a_protection_token_nothing_can_be_introspected(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.control().revoke_pats();
    world.control().fail(Endpoint::Pat, failing().after(Duration::from_millis(1)));
    let exchange = world.get(LINK).bearer(&rpt).await;
    let calls = [(Endpoint::Introspection, 1), (Endpoint::Pat, 1)];
    exchange.proves(row, &Expect { answer: OUTAGE, calls: &calls, hits: 0, next: Next::Nothing, rows: "I10 I6: I6" });
}
