use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::*;
use crate::uma::Timestamp;

pub(super) fn server(identity: u8) -> Config {
    Config { identity: ServerIdentity([identity; 16]), ..crate::authorization_server::testing::config() }
}

pub(super) fn of(subject: &str, session: &str) -> Introspection {
    Introspection { subject: Some(subject.into()), session: Some(session.into()), ..Introspection::default() }
}

fn keep(cache: &Introspections, token: &str, introspection: Introspection) -> CacheKey {
    let server = server(1);
    let key = cache.key(server.identity, token);
    cache.keep_active(key, introspection, &server, false, cache.asking());
    key
}

fn is_active(cache: &Introspections, key: &CacheKey) -> bool {
    matches!(cache.look_up(key, Instant::now()), Lookup::Active(_))
}

#[test]
fn tokens_that_differ_in_one_octet_or_in_their_server_have_different_keys() {
    let cache = Introspections::new().expect("randomness");
    let key = cache.key(server(1).identity, "header.payload.signature1");
    assert_ne!(key, cache.key(server(1).identity, "header.payload.signature2"));
    assert_ne!(key, cache.key(server(2).identity, "header.payload.signature1"));
    assert_eq!(key, cache.key(server(1).identity, "header.payload.signature1"));
    let other = Introspections::new().expect("randomness");
    assert_ne!(key, other.key(server(1).identity, "header.payload.signature1"), "the key of the hash is the process's own");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_until_max_age_and_then_called_stale() {
    let cache = Introspections::new().expect("randomness");
    let key = keep(&cache, "t", Introspection::default());
    advance(Duration::from_millis(29_999)).await;
    assert!(is_active(&cache, &key));
    advance(Duration::from_millis(1)).await;
    assert!(matches!(cache.look_up(&key, Instant::now()), Lookup::Stale));
}

#[tokio::test(start_paused = true)]
async fn an_answer_never_outlives_its_token() {
    let cache = Introspections::new().expect("randomness");
    let soon = Introspection { exp: Some(Timestamp(Timestamp::now().0 + 3)), ..Introspection::default() };
    let key = keep(&cache, "t", soon);
    assert!(is_active(&cache, &key));
    advance(Duration::from_secs(4)).await;
    assert!(!is_active(&cache, &key));
    let over = Introspection { exp: Some(Timestamp(Timestamp::now().0 - 1)), ..Introspection::default() };
    let key = keep(&cache, "u", over);
    assert!(matches!(cache.look_up(&key, Instant::now()), Lookup::Unknown), "not kept at all");
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_the_asking_and_not_from_the_answer() {
    let cache = Introspections::new().expect("randomness");
    let server = server(1);
    let key = cache.key(server.identity, "t");
    let asking = cache.asking();
    advance(Duration::from_secs(29)).await;
    cache.keep_active(key, Introspection::default(), &server, false, asking);
    advance(Duration::from_secs(1)).await;
    assert!(!is_active(&cache, &key));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_drops_the_answer_and_is_forgotten_after_its_time() {
    let cache = Introspections::new().expect("randomness");
    let key = keep(&cache, "t", Introspection::default());
    cache.keep_inactive(key, Instant::now() + Duration::from_secs(5));
    assert!(matches!(cache.look_up(&key, Instant::now()), Lookup::Inactive));
    advance(Duration::from_secs(5)).await;
    assert!(matches!(cache.look_up(&key, Instant::now()), Lookup::Unknown));
}

#[tokio::test(start_paused = true)]
async fn refusals_of_sprayed_tokens_do_not_push_out_an_answer() {
    let cache = Introspections::new().expect("randomness");
    let hot = keep(&cache, "hot", Introspection::default());
    let until = Instant::now() + Duration::from_secs(5);
    for number in 0..270_000 {
        cache.keep_inactive(cache.key(server(1).identity, &format!("junk-{number}")), until);
    }
    assert!(is_active(&cache, &hot));
}

#[tokio::test(start_paused = true)]
async fn one_caller_alone_is_told_to_renew_in_the_last_part_of_an_answers_life() {
    let cache = Introspections::new().expect("randomness");
    let key = keep(&cache, "t", Introspection::default());
    let Lookup::Active(entry) = cache.look_up(&key, Instant::now()) else { panic!("kept") };
    advance(Duration::from_millis(23_999)).await;
    assert!(!entry.wants_renewal(Instant::now()));
    advance(Duration::from_millis(1)).await;
    assert!(entry.wants_renewal(Instant::now()));
    assert!(!entry.wants_renewal(Instant::now()));
}

#[test]
fn purging_by_subject_or_session_leaves_the_others() {
    let cache = Introspections::new().expect("randomness");
    let (bob, bob_too, carol) = (keep(&cache, "b1", of("bob", "s1")), keep(&cache, "b2", of("bob", "s2")), keep(&cache, "c", of("carol", "s3")));
    cache.purge(&Purge::Session(server(1).identity, "s1"));
    assert!(!is_active(&cache, &bob) && is_active(&cache, &bob_too) && is_active(&cache, &carol));
    cache.purge(&Purge::Subject(server(2).identity, "bob"));
    assert!(is_active(&cache, &bob_too), "the same name at another server is somebody else");
    cache.purge(&Purge::Subject(server(1).identity, "bob"));
    assert!(!is_active(&cache, &bob_too) && is_active(&cache, &carol));
    cache.purge(&Purge::All);
    assert!(!is_active(&cache, &carol));
}

#[test]
fn an_answer_that_was_asked_for_before_a_purge_is_not_kept_after_it() {
    let cache = Introspections::new().expect("randomness");
    let server = server(1);
    let key = cache.key(server.identity, "t");
    let (asking, resource) = (cache.asking(), ResourceId("album".into()));
    cache.purge(&Purge::Token(key));
    cache.keep_active(key, Introspection::default(), &server, false, asking);
    cache.keep_live(key, &resource, Some(vec![]), asking);
    assert!(!is_active(&cache, &key));
    assert!(cache.live(key, &resource).is_none());
}

#[test]
fn purging_a_token_takes_its_live_decisions_along() {
    let cache = Introspections::new().expect("randomness");
    let key = keep(&cache, "t", Introspection::default());
    let resource = ResourceId("album".into());
    cache.keep_live(key, &resource, Some(vec![Scope(Arc::from("view"))]), cache.asking());
    assert!(cache.live(key, &resource).is_some());
    cache.purge(&Purge::Token(key));
    assert!(cache.live(key, &resource).is_none());
}

#[test]
fn the_name_of_a_token_in_the_log_is_the_beginning_of_its_key() {
    let mut key = [0; 32];
    key[..5].copy_from_slice(&[0x01, 0x9a, 0xbc, 0xdf, 0x77]);
    assert_eq!(&CacheKey(key).short(), b"019abcdf");
}

#[test]
fn a_change_of_one_token_does_not_make_workers_look_again_for_all_others() {
    let cache = Introspections::new().expect("randomness");
    let (one, other) = (CacheKey([1; 32]), CacheKey([2; 32]));
    let (before, of_other) = (cache.stamp(&one), cache.stamp(&other));
    cache.drop_entry(&one);
    assert_ne!(cache.stamp(&one), before);
    assert_eq!(cache.stamp(&other), of_other);
}

#[test]
fn live_decisions_are_counted_as_there_or_not() {
    let metrics = Metrics::new().expect("definitions are valid");
    let cache = Introspections::counted(&metrics).expect("randomness");
    cache.count_live(true);
    cache.count_live(true);
    cache.count_live(false);
    let text = metrics.encode().expect("metrics");
    for line in ["uma_cache_hits_total{cache=\"live\"} 2\n", "uma_cache_misses_total{cache=\"live\"} 1\n"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn each_pool_has_room_for_the_tokens_of_a_busy_gateway() {
    let answer = Entry::new(of("bob", "s"), &server(1), false, Instant::now()).bytes();
    let live = LiveEntry::new(Some(vec![Scope("view".into())]), Instant::now()).bytes();
    for (bytes, weight) in [(POSITIVE_BYTES, answer), (NEGATIVE_BYTES, 128), (LIVE_BYTES, live)] {
        assert!(bytes / u64::from(weight) > 200_000, "{bytes} for entries of {weight}");
    }
}

#[test]
fn an_entry_tells_whose_it_is_and_whether_the_live_decision_is_asked_besides() {
    let asked = Instant::now();
    for asks_live in [true, false] {
        let entry = Entry::new(of("bob", "s"), &server(3), asks_live, asked);
        assert_eq!((entry.asks_live(), entry.server(), entry.max_age()), (asks_live, server(3).identity, Duration::from_secs(30)));
        assert_eq!(entry.introspection(), &of("bob", "s"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_decision_is_asked_again_by_one_caller_in_the_last_part_of_its_life() {
    let (asked, server) = (Instant::now(), server(1));
    let live = LiveEntry::new(Some(vec![Scope("view".into())]), asked);
    advance(Duration::from_millis(23_999)).await;
    assert_eq!(live.age(Instant::now()), Duration::from_millis(23_999));
    assert!(!live.wants_renewal(&server, Instant::now()));
    advance(Duration::from_millis(1)).await;
    assert!(live.wants_renewal(&server, Instant::now()));
    assert!(!live.wants_renewal(&server, Instant::now()));
}

/// Whoever fills an answer with long texts must not get more memory than the pools have.
#[test]
fn an_entry_weighs_at_least_what_a_server_wrote_into_it() {
    let text = || -> Arc<str> { "x".repeat(1000).into() };
    let weight = |fill: &dyn Fn(&mut Introspection)| {
        let mut introspection = Introspection::default();
        fill(&mut introspection);
        Entry::new(introspection, &server(1), false, Instant::now()).bytes()
    };
    let bare = weight(&|_| {});
    assert!(bare >= 256, "{bare}");
    let fills: [(&str, &dyn Fn(&mut Introspection)); 9] = [
        ("issuer", &|answer| answer.issuer = Some(text())),
        ("subject", &|answer| answer.subject = Some(text())),
        ("username", &|answer| answer.username = Some(text())),
        ("session", &|answer| answer.session = Some(text())),
        ("client", &|answer| answer.client = Some(text())),
        ("audience", &|answer| answer.audience = vec![text()]),
        ("claims", &|answer| answer.claims = vec![(text(), "".into()), ("".into(), text())]),
        ("resource", &|answer| answer.permissions = vec![crate::uma::Permission { resource: Some(ResourceId(text())), scopes: None, exp: None, nbf: None }]),
        ("scope", &|answer| {
            answer.permissions =
                vec![crate::uma::Permission { resource: Some(ResourceId("".into())), scopes: Some(vec![Scope(text())]), exp: None, nbf: None }];
        }),
    ];
    for (name, fill) in fills {
        let texts = if name == "claims" { 2000 } else { 1000 };
        let more = weight(fill).saturating_sub(bare);
        assert!((texts..texts + 200).contains(&more), "{name}: {more}");
    }
    let live = |granted: Option<Vec<Scope>>| LiveEntry::new(granted, Instant::now()).bytes();
    assert!(live(None) >= 100);
    assert!(live(Some(vec![Scope(text()), Scope(text())])) >= live(None) + 2000);
}

#[test]
fn the_cache_shows_how_much_it_holds_and_nothing_of_it() {
    let cache = Introspections::new().expect("randomness");
    keep(&cache, "t", of("bob", "s1"));
    let shown = format!("{cache:?}");
    assert!(shown.starts_with("Introspections { active: Pool(") && shown.ends_with(", .. }"), "{shown}");
}

/// An entry is looked at by its own times, so this is only about memory.
#[test]
fn an_answer_leaves_the_memory_a_while_after_it_is_too_old() {
    let cache = Introspections::new().expect("randomness");
    let key = keep(&cache, "t", Introspection::default());
    let Lookup::Active(entry) = cache.look_up(&key, Instant::now()) else { panic!("kept") };
    let lasts = Some(Duration::from_secs(30) + STALE);
    assert_eq!(Lifetime.expire_after_create(&key, &entry, StdInstant::now()), lasts);
    assert_eq!(Lifetime.expire_after_update(&key, &entry, StdInstant::now(), None), lasts);
}
