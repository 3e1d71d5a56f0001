//! The memory in front of the cache never says anything that the cache would not say.

use std::time::Duration;

use tokio::time::advance;

use super::super::tests::{of, server};
use super::*;
use crate::cache::Purge;
use crate::uma::Scope;

struct World {
    cache: Introspections,
    memo: Memo,
}

impl World {
    fn new() -> Self {
        Self { cache: Introspections::new().expect("randomness"), memo: Memo::default() }
    }

    /// Keeps an answer, and has the memory see it.
    fn keep(&mut self, token: &str) -> CacheKey {
        let server = server(1);
        let key = self.cache.key(server.identity, token);
        self.cache.keep_active(key, of("bob", "session"), &server, true, self.cache.asking());
        assert!(self.is_active(token));
        key
    }

    fn is_active(&mut self, token: &str) -> bool {
        let (key, known) = self.memo.look_up(&self.cache, server(1).identity, token, Instant::now());
        assert_eq!(key, self.cache.key(server(1).identity, token));
        matches!(known, Lookup::Active(_))
    }

    fn is_remembered(&self, token: &str) -> bool {
        let tail = self.memo.tail(token);
        self.memo.slots.get(place(tail)).is_some_and(|slot| slot.as_ref().is_some_and(|slot| slot.is_of(server(1).identity, tail, token)))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_repeated_until_it_is_too_old() {
    let mut world = World::new();
    world.keep("token");
    assert!(world.is_remembered("token"));
    advance(Duration::from_secs(29)).await;
    assert!(world.is_active("token"));
    advance(Duration::from_secs(1)).await;
    assert!(!world.is_active("token"));
    assert!(!world.is_remembered("token"));
}

#[tokio::test(start_paused = true)]
async fn whatever_makes_the_cache_forget_a_token_makes_the_memory_forget_it() {
    let identity = server(1).identity;
    let table: [(&str, &dyn Fn(&Introspections, CacheKey)); 6] = [
        ("refused", &|cache, key| cache.keep_inactive(key, Instant::now() + Duration::from_secs(5))),
        ("dropped", &|cache, key| cache.drop_entry(&key)),
        ("purged", &|cache, key| cache.purge(&Purge::Token(key))),
        ("subject", &|cache, _| cache.purge(&Purge::Subject(identity, "bob"))),
        ("session", &|cache, _| cache.purge(&Purge::Session(identity, "session"))),
        ("all", &|cache, _| cache.purge(&Purge::All)),
    ];
    for (token, forget) in table {
        let mut world = World::new();
        let key = world.keep(token);
        forget(&world.cache, key);
        assert!(!world.is_active(token), "{token}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_answer_replaces_the_one_that_is_remembered() {
    let mut world = World::new();
    let key = world.keep("token");
    world.cache.keep_active(key, of("alice", "session"), &server(1), true, world.cache.asking());
    let (_, known) = world.memo.look_up(&world.cache, server(1).identity, "token", Instant::now());
    let Lookup::Active(entry) = known else { panic!("it is known") };
    assert_eq!(entry.introspection().subject.as_deref(), Some("alice"));
}

#[tokio::test(start_paused = true)]
async fn another_token_or_server_is_not_taken_for_the_one_that_is_remembered() {
    let mut world = World::new();
    let tail = "x".repeat(TAIL);
    world.keep(&format!("one{tail}"));
    assert!(!world.is_active(&format!("two{tail}")), "only the end is the same");
    assert!(!world.is_active(&tail));
    let (_, known) = world.memo.look_up(&world.cache, server(2).identity, &format!("one{tail}"), Instant::now());
    assert!(matches!(known, Lookup::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_live_decision_is_repeated_until_there_is_another_one() {
    let mut world = World::new();
    let key = world.keep("token");
    let (identity, resource) = (server(1).identity, ResourceId("album".into()));
    let granted = |world: &mut World, resource: &ResourceId| {
        assert!(world.is_active("token"));
        world.memo.live(&world.cache, identity, "token", key, resource).and_then(|live| live.granted().map(<[Scope]>::to_vec))
    };
    assert_eq!(granted(&mut world, &resource), None);
    let view = vec![Scope("view".into())];
    world.cache.keep_live(key, &resource, Some(view.clone()), world.cache.asking());
    assert_eq!(granted(&mut world, &resource), Some(view.clone()));
    assert_eq!(granted(&mut world, &resource), Some(view));
    assert_eq!(granted(&mut world, &ResourceId("other".into())), None);
    world.cache.keep_live(key, &resource, None, world.cache.asking());
    assert_eq!(granted(&mut world, &resource), None);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_answer_gives_its_place_away_only_after_many_have_asked_for_it() {
    let mut world = World::new();
    let tail = "x".repeat(TAIL);
    world.keep(&format!("first{tail}"));
    for number in 1..PATIENCE {
        world.keep(&format!("{number}{tail}"));
        assert!(world.is_remembered(&format!("first{tail}")), "{number}");
    }
    world.keep(&format!("last{tail}"));
    assert!(world.is_remembered(&format!("last{tail}")));
}

#[test]
fn a_token_that_is_too_long_is_not_remembered() {
    let mut world = World::new();
    let (token, longest) = ("x".repeat(LONGEST + 1), "y".repeat(LONGEST));
    world.keep(&token);
    world.keep(&longest);
    assert!(!world.is_remembered(&token));
    assert!(world.is_remembered(&longest));
}

#[test]
fn a_live_decision_that_changes_behind_the_look_at_its_token_is_not_repeated() {
    let mut world = World::new();
    let key = world.keep("token");
    let (identity, resource) = (server(1).identity, ResourceId("album".into()));
    let granted = |world: &mut World| world.memo.live(&world.cache, identity, "token", key, &resource).map(|live| live.granted().is_some());
    world.cache.keep_live(key, &resource, Some(vec![Scope("view".into())]), world.cache.asking());
    assert!(world.is_active("token"));
    assert_eq!(granted(&mut world), Some(true));
    world.cache.keep_live(key, &resource, None, world.cache.asking());
    assert_eq!(granted(&mut world), Some(false));
}

#[test]
fn tokens_with_different_ends_are_remembered_side_by_side() {
    let mut world = World::new();
    let tokens: Vec<String> = (0..64).map(|number| format!("token-{number}")).collect();
    for token in &tokens {
        world.keep(token);
    }
    // A few may share a place by chance.
    assert!(tokens.iter().filter(|token| world.is_remembered(token)).count() > 32);
}

#[test]
fn the_memory_shows_nothing_of_what_it_holds() {
    let mut world = World::new();
    world.keep("very-secret");
    assert_eq!(format!("{:?}", world.memo), "Memo { .. }");
}
