//! The gateway under hostile and under ordinary input, against a content server that reads everything as carelessly as it can be read.
//!
//! `hostile/` holds the cases by classes, `benign/` what ordinary clients send; `cases.rs` says how they are written. With `--features holes` each defence
//! is taken down in turn, and some case must notice.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may stop at the first surprise"
)]

mod benign;
mod careless;
mod cases;
mod judge;
mod naive;
mod runner;
mod steps;
#[path = "../gateway/support/tls.rs"]
#[expect(dead_code, reason = "it serves other tests as well")]
mod tls;
mod upstream;
mod wire;
mod world;

#[cfg(feature = "holes")]
mod holes;

use std::collections::BTreeMap;

use tokio::sync::RwLock;

use crate::cases::Case;
use crate::world::World;

/// Held by whoever needs that no hole is open; the test that opens them waits for all others.
static NO_HOLE: RwLock<()> = RwLock::const_new(());

/// What is wrong with these cases; those that wait for deadlines wait together.
async fn faults(world: &World, cases: &[Case]) -> Vec<String> {
    let (slow, quick): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.slow);
    let mut faults = Vec::new();
    for case in quick {
        faults.extend(runner::run(world, case).await);
    }
    let slow = futures_util::future::join_all(slow.into_iter().map(|case| runner::run(world, case))).await;
    faults.extend(slow.into_iter().flatten());
    faults
}

#[test]
fn the_corpora_are_as_large_as_they_are_said_to_be() {
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    let cases = cases::load("hostile");
    for case in &cases {
        *classes.entry(case.class.clone()).or_default() += 1;
    }
    for (class, count) in &classes {
        println!("{count:4} {class}");
        assert!(*count >= 15, "{class}: {count}");
    }
    println!("{} hostile cases in {} classes, {} benign ones", cases.len(), classes.len(), benign::count());
    assert!(cases.len() >= 400 && classes.len() >= 20 && benign::count() >= 200);
    let mut lines: Vec<(&str, &str, &str)> =
        cases.iter().map(|case| (case.class.as_str(), case.line.as_str(), case.fault.as_deref().unwrap_or_default())).collect();
    lines.sort_unstable();
    let twice: Vec<_> = lines.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test]
async fn no_hostile_case_gets_past() {
    let _shut = NO_HOLE.read().await;
    let world = World::start().await;
    let only = std::env::var("CORPUS_CLASS").ok();
    let cases: Vec<Case> = cases::load("hostile").into_iter().filter(|case| only.as_ref().is_none_or(|only| case.class == *only)).collect();
    let faults = faults(&world, &cases).await;
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn none_does_while_the_configuration_is_read_anew_again_and_again() {
    let _shut = NO_HOLE.read().await;
    let world = World::start().await;
    let mut cases = cases::load("hostile");
    // They wait for seconds, and are nobody's decision.
    cases.retain(|case| !case.slow);
    let (faults, reloads) = tokio::select! {
        never = world.reload_for_ever() => never,
        faults = faults(&world, &cases) => (faults, world.reloads()),
    };
    println!("{reloads} reloads meanwhile");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    assert!(reloads > 5, "{reloads} reloads");
}

#[tokio::test]
async fn every_ordinary_address_passes() {
    let _shut = NO_HOLE.read().await;
    let faults = benign::urls(&World::start().await).await;
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn every_ordinary_message_passes() {
    let _shut = NO_HOLE.read().await;
    let faults = benign::messages(&World::start().await).await;
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn a_naive_proxy_is_seen_to_fail() {
    let _shut = NO_HOLE.read().await;
    let upstream = upstream::Upstream::start().await;
    let proxy = naive::start(upstream.address).await;
    let paths: Vec<Case> = cases::load("hostile").into_iter().filter(|case| case.is_path).collect();
    let mut through = 0;
    for case in &paths {
        let mut connection = wire::H1::open(&wire::Door::plain(proxy)).await;
        let text = case.template.replace("@@", &case.line);
        connection.send(&cases::octets(&text, &|name| if name == "host" { "Host: gateway.example.org\r\n".into() } else { world::AIM.into() })).await;
        connection.answer(false).await;
        through += usize::from(upstream.take().iter().any(|message| careless::protected(&message.target).is_some()));
    }
    println!("a naive proxy lets {through} of {} path cases through", paths.len());
    assert!(through * 2 >= paths.len(), "{through} of {}", paths.len());
}
