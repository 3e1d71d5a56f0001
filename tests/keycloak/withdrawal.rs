//! What is taken back is refused within `max_age`: a share, a session, a user, a token. Each request that began later than that must have been refused.

use std::time::Duration;

use tokio::time::Instant;

use super::support::{BEACH, CLIENT_APP, Plan, Realm, Rpt, SHORT_APP, World, now, until};

const MAX_AGE: Duration = Duration::from_secs(2);

/// An album shared with `user`, a gateway with a `max_age` of two seconds, and an RPT that works.
async fn shared_with(realm: &Realm, user: &str) -> (World, String, Rpt) {
    let album = realm.album().await;
    let policy = realm.share(&album, user, &["view"]).await;
    let world = Plan::behind(realm).max_age("2s").vacation(&album.by_name()).start().await;
    let rpt = trade(realm, &world, user).await;
    world.get(BEACH, &rpt.token).await.assert_passed();
    (world, policy, rpt)
}

/// That the RPT is refused within MAX_AGE, and in the end because it is no more: where the live decision was renewed first, a "no" of that may come before.
async fn ends(world: &World, rpt: &Rpt) {
    world.refused(BEACH, &rpt.token, Instant::now(), MAX_AGE).await.challenge();
    until("a refusal of the token itself", async || {
        let challenge = world.get(BEACH, &rpt.token).await.challenge();
        (challenge.error.as_deref() == Some("invalid_token")).then_some(())
    })
    .await;
}

async fn trade(realm: &Realm, world: &World, user: &str) -> Rpt {
    let challenge = world.get_without_token(BEACH).await.challenge();
    realm.sign_in(user, CLIENT_APP).await.trade(&challenge).await.expect("an RPT")
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_withdrawn_share_is_refused_within_max_age_and_again_with_a_refreshed_rpt() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let policy = realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("2s").vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    realm.withdraw(&policy).await;
    let withdrawn = Instant::now();
    let refused = world.refused(BEACH, &rpt.token, withdrawn, MAX_AGE).await;
    refused.refusal("insufficient_scope");
    assert!(refused.rows.contains("E8a"), "{}", refused.rows);
    let hits = world.content().hits();

    // Keycloak still puts the permission into the refreshed token and still calls it active.
    let refreshed = bob.refresh(&rpt).await;
    assert_ne!(refreshed.token, rpt.token);
    let again = world.get(BEACH, &refreshed.token).await;
    let challenge = again.refusal("insufficient_scope");
    assert_eq!(again.rows, "I4 E8a C3");
    assert_eq!(bob.trade(&challenge).await.err().map(|refused| refused.0), Some(403));
    assert_eq!(world.content().hits(), hits);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_share_that_is_given_back_opens_again() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let policy = realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("1s").vacation(&album.by_name()).start().await;
    let rpt = trade(&realm, &world, "bob").await;
    world.get(BEACH, &rpt.token).await.assert_passed();

    realm.withdraw(&policy).await;
    world.refused(BEACH, &rpt.token, Instant::now(), Duration::from_secs(1)).await.refusal("insufficient_scope");
    realm.share(&album, "bob", &["view"]).await;
    until("access again", async || world.get(BEACH, &rpt.token).await.status().is_success().then_some(())).await;
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn what_was_granted_a_while_ago_is_asked_again_and_not_taken_for_a_no() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    // Every answer is too old for the next request, and a "no" would be believed for a minute.
    let plan = Plan::behind(&realm).introspection("max_age: 1ms, negative_max_age: 1m, refresh_window: 0%");
    let world = plan.vacation(&album.by_name()).start().await;
    let rpt = trade(&realm, &world, "bob").await;
    for _ in 0..5 {
        let passed = world.get(BEACH, &rpt.token).await;
        passed.assert_passed();
        assert!(passed.rows.ends_with("I4 E8b E10 U1"), "{}", passed.rows);
    }
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn after_signing_out_the_rpt_is_refused_within_max_age() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("2s").vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    bob.sign_out().await;
    ends(&world, &rpt).await;
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_disabled_users_rpt_is_refused_within_max_age() {
    let realm = Realm::photoz();
    let user = realm.new_user().await;
    let (world, _, rpt) = shared_with(&realm, &user).await;

    realm.disable(&user).await;
    ends(&world, &rpt).await;
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_revoked_rpt_is_refused_within_max_age_and_another_still_passes() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("2s").vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    let other = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("another RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    bob.revoke(&rpt.token).await;
    ends(&world, &rpt).await;
    world.get(BEACH, &other.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn an_expired_rpt_is_refused_however_long_max_age_is() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("10m").vacation(&album.by_name()).start().await;
    // Once more where a busy machine was slower than four seconds.
    let rpt = until("a use of an RPT in its time", async || {
        let bob = realm.sign_in("bob", SHORT_APP).await;
        let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.ok()?;
        world.get(BEACH, &rpt.token).await.status().is_success().then_some(rpt)
    })
    .await;

    let left = u64::try_from(rpt.exp() - now()).unwrap_or(0);
    world.refused(BEACH, &rpt.token, Instant::now(), Duration::from_secs(left)).await.refusal("invalid_token");
}
