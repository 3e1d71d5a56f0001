//! The figures that the gateway promises: one introspection for many, one ticket for each, and how often a server is asked at most.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::timeout;
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::uma::UmaChallenge;

use crate::support::{Connection, LINK, PATIENCE, Setup, World, until};

/// Requests that are being answered, as the metrics count them.
pub async fn under_way(world: &World) -> u64 {
    let metrics = world.metrics().await;
    metrics.lines().filter(|line| line.starts_with("http_server_active_requests{")).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test]
async fn a_hundred_first_uses_of_one_token_are_one_introspection_also_when_the_first_caller_goes_away() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let gate = Gate::closed();
    world.control().fail_next(Endpoint::Introspection, 1, Fault::held(&gate));
    let request = world.get(LINK).bearer(&rpt).bytes();
    let mut first = Connection::open(world.address(), None).await;
    first.send(&request).await;
    world.control().called(Endpoint::Introspection, 1).await;
    first.reset();

    let mut others = Vec::new();
    for _ in 0..99 {
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(&request).await;
        others.push(connection);
    }
    until("all wait", async || (under_way(&world).await == 99).then_some(())).await;
    gate.open();
    for connection in &mut others {
        assert_eq!(connection.answer(false).await.status, 200);
    }
    assert_eq!(world.control().calls(Endpoint::Introspection), 1);
    assert_eq!(world.upstream().hits(), 99);
}

#[tokio::test]
async fn a_thousand_requests_without_a_token_get_a_thousand_tickets() {
    let world = World::start().await;
    let request = world.get(LINK).bytes();
    let hundred = join_all((0..100).map(async |_| {
        let mut connection = Connection::open(world.address(), None).await;
        let mut tickets = Vec::new();
        for _ in 0..10 {
            connection.send(&request).await;
            let answer = connection.answer(false).await;
            tickets.push(UmaChallenge::of(&answer.headers).expect("a challenge").ticket.0.expose().to_owned());
        }
        tickets
    }));
    let tickets: HashSet<String> = hundred.await.into_iter().flatten().collect();
    assert_eq!(tickets.len(), 1_000);
    assert_eq!(world.control().calls(Endpoint::Permission), 1_000);
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn another_client_gets_its_burst_of_tickets_and_then_429_without_a_call() {
    let world = Setup::default().limits("{ tickets: { rate: 1/s, burst: 20 }, off_for: [127.0.0.1/32] }").start().await;
    let started = Instant::now();
    let statuses = join_all((0..60).map(async |_| world.get(LINK).from("127.0.0.2").await.status())).await;
    let issued = statuses.iter().filter(|status| **status == 401).count();
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    let refilled = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!((20..=20 + refilled).contains(&issued), "{issued} tickets");
    assert_eq!(world.control().calls(Endpoint::Permission), issued as u64);

    for _ in 0..40 {
        assert_eq!(world.get(LINK).await.status(), 401, "limits are off for this address");
    }
    assert_eq!(world.get(LINK).from("127.0.0.3").await.status(), 401, "and every client has its own");
}

#[tokio::test]
async fn a_hundred_requests_with_a_refused_protection_token_renew_it_once() {
    let world = World::start().await;
    world.control().revoke_pats();
    let statuses = join_all((0..100).map(async |_| world.get(LINK).await.status())).await;
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(world.control().calls(Endpoint::Pat), 1);
}

/// The figure for 600 s and `max_age: 30s`, scaled to 4 s and `max_age: 1s`: with N live tokens at most N × (time / (`max_age` − window) + 1) introspections,
/// and as many live decisions.
#[tokio::test]
async fn tokens_in_use_are_introspected_as_often_as_promised_and_no_more() {
    const TOKENS: u32 = 10;
    const TIME: Duration = Duration::from_secs(4);
    const ENDPOINTS: [Endpoint; 2] = [Endpoint::Introspection, Endpoint::Live];
    let world = Setup::default().keycloak().server("introspection: { max_age: 1s, refresh_window: 20% }").start().await;
    let calls = |endpoint| f64::from(u32::try_from(world.control().calls(endpoint)).unwrap());
    // A machine that stands still renews nothing meanwhile.
    let enough = || ENDPOINTS.iter().all(|endpoint| calls(*endpoint) >= f64::from(TOKENS) * 3.0);
    let started = Instant::now();
    let loads = join_all((0..TOKENS).map(async |_| {
        let request = world.get(LINK).bearer(&world.rpt(&["view"])).bytes();
        let mut connection = Connection::open(world.address(), None).await;
        while started.elapsed() < TIME || !enough() {
            connection.send(&request).await;
            assert_eq!(connection.answer(false).await.status, 200);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }));
    timeout(PATIENCE, loads).await.expect("what is used is renewed");
    let rounds = started.elapsed().as_secs_f64() / 0.8 + 1.0;
    let most = f64::from(TOKENS) * rounds;
    for endpoint in ENDPOINTS {
        let calls = calls(endpoint);
        assert!(calls <= most, "{endpoint:?}: {calls} calls, at most {most}");
    }
}

#[tokio::test]
async fn many_requests_for_an_unknown_resource_are_one_look_up() {
    let world = World::start().await;
    let gate = Gate::closed();
    world.control().fail_next(Endpoint::ResourceSet, 1, Fault::held(&gate));
    let done = Cell::new(0);
    let asked = join_all((0..50).map(async |_| {
        let status = world.get("/named/nothing").await.status();
        done.set(done.get() + 1);
        status
    }));
    let opened = async {
        until("all wait", async || (under_way(&world).await == 50).then_some(())).await;
        assert_eq!(done.get(), 0);
        gate.open();
    };
    let (statuses, ()) = tokio::join!(asked, opened);
    assert!(statuses.iter().all(|status| *status == 404), "{statuses:?}");
    assert_eq!(world.control().calls(Endpoint::ResourceSet), 1, "the list: the only description in it is known from the start");
}

/// The figure for 1,000 tokens: a revoked one is let through no longer than `max_age`. What counts is when a request was sent, so a busy machine makes the
/// figure better, never worse.
#[tokio::test]
async fn a_thousand_revoked_tokens_are_refused_within_max_age() {
    const CLIENTS: u32 = 100;
    const EACH: u32 = 10;
    const MAX_AGE: Duration = Duration::from_millis(500);
    let world = Setup::default().server("introspection: { max_age: 500ms }").start().await;
    let lags = join_all((0..CLIENTS).map(async |_| {
        let mut connection = Connection::open(world.address(), None).await;
        let mut lags = Vec::new();
        for _ in 0..EACH {
            let rpt = world.rpt(&["view"]);
            let request = world.get(LINK).bearer(&rpt).bytes();
            connection.send(&request).await;
            assert_eq!(connection.answer(false).await.status, 200);
            let revoked = Instant::now();
            world.control().revoke(&rpt);
            let mut last = Duration::ZERO;
            loop {
                let sent = revoked.elapsed();
                connection.send(&request).await;
                match connection.answer(false).await.status {
                    200 if sent < MAX_AGE * 10 => last = sent,
                    200 | 401 => break,
                    status => panic!("{status}"),
                }
                tokio::time::sleep(MAX_AGE / 8).await;
            }
            lags.push(last);
        }
        lags
    }));
    let mut lags = lags.await.concat();
    lags.sort_unstable();
    let of = |part: usize| lags[(lags.len() - 1) * part / 100];
    println!("lag of {} revocations with max_age {MAX_AGE:?}: median {:?}, 99 % {:?}, longest {:?}", lags.len(), of(50), of(99), of(100));
    assert_eq!(lags.len(), 1_000);
    assert!(of(100) <= MAX_AGE, "{:?}", of(100));
}

#[tokio::test]
async fn whoever_asks_after_a_revocation_is_not_told_what_was_asked_for_longer_ago_than_max_age() {
    let world = Setup::default().server("introspection: { max_age: 10ms }").start().await;
    let rpt = world.rpt(&["view"]);
    let gate = Gate::closed();
    // The server has called the token active, and the answer is on its way.
    world.control().fail_next(Endpoint::Introspection, 1, Fault::held(&gate));
    let request = world.get(LINK).bearer(&rpt).bytes();
    let mut before = Connection::open(world.address(), None).await;
    before.send(&request).await;
    world.control().called(Endpoint::Introspection, 1).await;
    world.control().revoke(&rpt);
    let revoked = Instant::now();
    until("max_age has passed", async || (revoked.elapsed() > Duration::from_millis(20)).then_some(())).await;
    let mut after = Connection::open(world.address(), None).await;
    after.send(&request).await;
    let refused = after.answer(false).await.status;
    gate.open();
    assert_eq!((before.answer(false).await.status, refused), (200, 401));
    // Nor is that late answer kept.
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 401);
}
