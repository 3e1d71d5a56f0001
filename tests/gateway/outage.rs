//! The authorization server goes away, hangs, or comes back: nothing passes that should not, nobody waits longer than the budget, and no herd follows.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};

use crate::support::{Connection, LINK, Setup, World, until};

/// An answer is renewed when half of this is over: at least the other half is left when the server is killed.
const MAX_AGE: Duration = Duration::from_secs(6);

/// What one client saw: when it asked, and the answer.
type Log = Vec<(Instant, u16)>;

/// Asks again and again until told to stop.
async fn load(world: &World, token: Option<&str>, over: &Cell<bool>, last: &Cell<u16>) -> Log {
    let ask = world.get(LINK);
    let request = token.map_or(ask.bytes(), |token| world.get(LINK).bearer(token).bytes());
    let mut connection = Connection::open(world.address(), None).await;
    let mut log = Log::new();
    while !over.get() {
        let asked = Instant::now();
        connection.send(&request).await;
        let status = connection.answer(false).await.status;
        last.set(status);
        log.push((asked, status));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    log
}

#[tokio::test]
async fn a_server_killed_under_load_costs_what_the_cache_does_not_hold_and_comes_back_without_a_herd() {
    let world = Setup::default().server("introspection: { max_age: 6s, refresh_window: 50% }").start().await;
    let tokens: Vec<String> = (0..6).map(|_| world.rpt(&["view"])).collect();
    let clients: Vec<Option<&str>> = tokens.iter().map(|token| Some(token.as_str())).chain([None, None]).collect();
    let (over, last): (Cell<bool>, Vec<Cell<u16>>) = (Cell::new(false), clients.iter().map(|_| Cell::new(0)).collect());
    let all = |with: u16, without: u16| clients.iter().zip(&last).all(|(token, last)| last.get() == if token.is_some() { with } else { without });

    let loads = join_all(clients.iter().zip(&last).map(|(token, last)| load(&world, *token, &over, last)));
    let story = async {
        until("everyone is served", async || all(200, 401).then_some(())).await;
        world.control().stop().await;
        let dead = Instant::now();
        until("the last answer is too old", async || all(503, 403).then_some(())).await;
        let before = world.calls();
        let resumed = Instant::now();
        world.control().resume().await;
        until("everyone is served again", async || all(200, 401).then_some(())).await;
        let after = world.calls();
        over.set(true);
        (dead, before, after, resumed)
    };
    let (logs, (dead, before, after, resumed)) = tokio::join!(loads, story);

    let mut served = 0;
    for (token, log) in clients.iter().zip(&logs) {
        let cached = log.iter().filter(|(asked, status)| *asked > dead && *asked < resumed && *status == 200).count();
        for (asked, status) in log {
            served += usize::from(*status == 200);
            match token {
                Some(_) => assert!(matches!(status, 200 | 503), "{status}"),
                None => assert!(matches!(status, 401 | 403), "{status}"),
            }
            if *asked > dead + MAX_AGE && *asked < resumed {
                assert!(matches!(status, 503 | 403), "{status} without anybody to ask");
            }
        }
        assert!(token.is_none() || cached > 0, "cached tokens keep working");
    }
    assert_eq!(world.upstream().hits(), served, "nothing else reached the upstream");
    let calls = |endpoint| after[&endpoint] - before[&endpoint];
    assert!(calls(Endpoint::Introspection) <= 2 * tokens.len() as u64, "{} introspections", calls(Endpoint::Introspection));
    assert!(calls(Endpoint::Pat) + calls(Endpoint::Discovery) + calls(Endpoint::ResourceSet) <= 3);
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_server_lets_nothing_pass_and_recovers_by_itself() {
    let world = Setup::default().start_unready().await;
    world.control().stop().await;
    let rpt = world.rpt(&["view"]);
    let early = world.get(LINK).bearer(&rpt).await;
    assert!(matches!(early.status(), 200 | 503), "{}", early.status());
    world.control().resume().await;
    until("it is served", async || (world.get(LINK).bearer(&rpt).await.status() == 200).then_some(())).await;
}

#[tokio::test]
async fn a_server_that_hangs_costs_a_request_its_budget_and_no_more() {
    const BUDGET: Duration = Duration::from_secs(5);
    let world = Setup::default().server("timeout: 5s").start().await;
    let rpt = world.rpt(&["view"]);
    let timed = async |token: Option<&str>| {
        let started = Instant::now();
        let ask = world.get(LINK);
        let exchange = if let Some(token) = token { world.get(LINK).bearer(token).await } else { ask.await };
        (exchange.status(), exchange.rows(), started.elapsed())
    };
    world.control().fail(Endpoint::Introspection, Fault::hang());
    world.control().fail(Endpoint::Permission, Fault::hang());
    let (with, without) = tokio::join!(timed(Some(&rpt)), timed(None));
    assert_eq!((with.0, with.1.as_str()), (503, "I6: I6"));
    assert_eq!((without.0, without.1.as_str()), (403, "D15 C7: C7"));
    assert!(with.2.max(without.2) < BUDGET * 3 / 2, "{:?}", (with.2, without.2));

    // One budget for both calls: what the first took, the second does not have. With one for each it would be eight seconds.
    world.control().heal_all();
    world.control().fail(Endpoint::Introspection, Fault::late(BUDGET * 3 / 5));
    world.control().fail(Endpoint::Permission, Fault::hang());
    let both = timed(Some("unknown-to-the-server")).await;
    assert_eq!((both.0, both.1.as_str()), (403, "I5 C7: C7"));
    assert!(both.2 < BUDGET * 3 / 2, "{:?}", both.2);
}

#[tokio::test]
async fn a_late_answer_still_fills_the_cache() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    // The call itself has the budget of one request, so it is the waiting that ends first only when the question waited too.
    world.control().fail_next(Endpoint::Introspection, 1, Fault::late(Duration::from_millis(250)));
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
    assert_eq!(world.get(LINK).bearer(&rpt).await.rows(), "I1 E10 U1: E10");
}

#[tokio::test]
async fn one_status_for_every_outage_where_the_configuration_says_so() {
    for status in [403, 503] {
        let world = Setup::default().server(&format!("on_unreachable: {status}")).start().await;
        world.control().stop().await;
        for exchange in [world.get(LINK).await, world.get(LINK).bearer("never-seen").await] {
            assert_eq!(exchange.status(), status);
            assert_eq!(exchange.answer.header("warning"), "199 - \"UMA Authorization Server Unreachable\"");
            assert_eq!(exchange.answer.headers.contains_key("retry-after"), status == 503);
            assert!(!exchange.answer.headers.contains_key("www-authenticate"));
        }
    }
}

#[tokio::test]
async fn a_client_without_the_right_to_the_protection_api_is_told_what_is_missing() {
    let world = Setup::default().keycloak().start().await;
    // As Keycloak answers a token without the role.
    world.control().fail(Endpoint::Permission, Fault::error(http::StatusCode::FORBIDDEN, "invalid_scope"));
    let exchange = world.get(LINK).await;
    assert_eq!(exchange.status(), 403);
    let missing = "lacks the role or scope uma_protection (at Keycloak: Service account roles of the gateway's client, or Role mapping of the owner where owners have a PAT each)";
    let verbose = world.verbose().await;
    assert!(verbose.lines().any(|line| line.starts_with("[!] permission_endpoint server: down (") && line.contains(missing)), "{verbose}");
    assert!(exchange.line["uma.reason"].as_str().is_some_and(|reason| reason.contains(missing)), "{}", exchange.line);
}
