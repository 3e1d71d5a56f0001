//! When the gateway's own tokens end, its secret is wrong, or Keycloak is away: closed, said as it is, and over soon after.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::support::{BEACH, CLIENT_APP, Plan, Realm, now, payload, run, until};

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn tickets_go_on_when_the_gateways_own_token_lives_four_seconds() {
    let realm = Realm::short();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let began = Instant::now();
    until("ten seconds of tickets", async || {
        let asked = now();
        let answer = world.get_without_token(BEACH).await;
        let left = payload(answer.challenge().ticket.0.expose())["exp"].as_i64().expect("a time") - asked;
        assert!(left >= 0, "a ticket that had ended {left} s before it was asked for");
        (began.elapsed() > Duration::from_secs(10)).then_some(())
    })
    .await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    // A ticket may have a moment left.
    let rpt = until("an RPT", async || bob.trade(&world.get_without_token(BEACH).await.challenge()).await.ok()).await;
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_ticket_that_has_ended_is_refused_and_the_next_one_is_good() {
    let realm = Realm::short();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;

    let old = world.get_without_token(BEACH).await.challenge();
    let refused = until("the end of a ticket", async || bob.trade(&old).await.err()).await;
    assert_eq!((refused.0, &*refused.1), (403, "invalid_ticket"), "{refused:?}");
    let rpt = until("an RPT", async || bob.trade(&world.get_without_token(BEACH).await.challenge()).await.ok()).await;
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_refused_protection_token_is_renewed_within_the_request() {
    let realm = Realm::photoz().with_new_resource_server().await;
    let album = realm.album().await;
    let world = Plan::behind(&realm).vacation(&album.by_id()).start().await;
    world.get_without_token(BEACH).await.challenge();

    // The gateway's token still has minutes to go by its own word. Keycloak counts in seconds.
    let time = now() + 1;
    until("the next second", async || (now() > time).then_some(())).await;
    realm.refuse_tokens_before(time).await;
    let answer = world.get_without_token(BEACH).await;
    answer.challenge();
    assert_eq!(answer.rows, "D15 C6 C3");
    assert_eq!(world.get_without_token(BEACH).await.rows, "D15 C3");
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn with_a_wrong_client_secret_nobody_is_told_that_their_token_is_bad() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let world = Plan::behind(&realm).vacation(&album.by_id()).start().await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    let world = Plan::behind(&realm).secret("not-the-secret").vacation(&album.by_id()).start_unready().await;
    for _ in 0..3 {
        let answer = world.get(BEACH, &rpt.token).await;
        answer.assert_unreachable(503);
        assert!(answer.rows.starts_with("I8"), "{}", answer.rows);
        world.get(BEACH, "nonsense").await.assert_unreachable(503);
        let answer = world.get_without_token(BEACH).await;
        answer.assert_unreachable(403);
        assert_eq!(answer.rows, "D15 C2");
    }
    assert!(world.content().saw_nothing());
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn while_keycloak_is_away_known_tokens_pass_until_max_age_and_everything_else_is_closed() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("10s").vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let known = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    let unknown = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &known.token).await.assert_passed();

    world.keycloak.shut().await;
    let shut = Instant::now();
    world.get(BEACH, &known.token).await.assert_passed();
    let refused = world.refused(BEACH, &known.token, shut, Duration::from_secs(10)).await;
    refused.assert_unreachable(503);
    assert_eq!(refused.rows, "I7a");
    let hits = world.content().hits();
    let answer = world.get(BEACH, &unknown.token).await;
    answer.assert_unreachable(503);
    assert_eq!(answer.rows, "I6");
    let answer = world.get_without_token(BEACH).await;
    answer.assert_unreachable(403);
    assert!(matches!(&*answer.rows, "D15 C7" | "D15 C2"), "{}", answer.rows);
    world.get_without_token("/public/welcome.txt").await.assert_passed();
    assert_eq!(world.content().hits(), hits + 1);

    world.keycloak.open().await;
    for token in [Some(&known.token), Some(&unknown.token), None] {
        let expected = if token.is_some() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        until("recovery", async || {
            let answer = world.ask(http::Method::GET, BEACH, token.map(String::as_str)).await;
            (answer.status() == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_gateway_that_starts_before_keycloak_is_ready_soon_after_it() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start_behind_a_shut_door().await;
    world.get_without_token(BEACH).await.assert_unreachable(403);
    world.get(BEACH, "nonsense").await.assert_unreachable(503);

    world.keycloak.open().await;
    until("the first ticket", async || (world.get_without_token(BEACH).await.status() == StatusCode::UNAUTHORIZED).then_some(())).await;
}

#[tokio::test]
#[ignore = "ends Keycloak for everybody, so .ci/run runs it alone: just keycloak"]
async fn the_server_really_ended_and_came_back_without_its_memory() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("3s").vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let old = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &old.token).await.assert_passed();

    let shut = Instant::now();
    run("tests/keycloak/stop").await;
    // Until it has ended it may say yes once more.
    let bound = shut.elapsed() + Duration::from_secs(3);
    world.refused(BEACH, &old.token, shut, bound).await.assert_unreachable(503);
    world.get_without_token(BEACH).await.assert_unreachable(403);
    world.get_without_token("/public/welcome.txt").await.assert_passed();

    run("tests/keycloak/start").await;
    // It knows neither the album nor what it told the gateway before; the owner registers and shares one of the same name.
    let album = realm.register(&album.name).await;
    realm.share(&album, "bob", &["view"]).await;
    let challenge = until("a ticket", async || {
        let answer = world.get_without_token(BEACH).await;
        (answer.status() == StatusCode::UNAUTHORIZED).then(|| answer.challenge())
    })
    .await;
    assert_eq!(world.get(BEACH, &old.token).await.status(), StatusCode::UNAUTHORIZED);
    let rpt = realm.sign_in("bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();
}
