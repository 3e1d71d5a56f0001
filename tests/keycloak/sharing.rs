//! What the owner decides: sharing, requests that wait for her, grants that hold less than was asked for.

use std::time::Duration;

use http::{Method, StatusCode};
use uma_gateway::client::{ClientOptions, FetchError};

use super::support::{BEACH, CLIENT_APP, PLAN, Plan, Realm, as_user, until};

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn nothing_is_open_before_alice_shares_and_what_she_shares_is() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let refused = world.fetch(Method::GET, BEACH, "bob").await.expect_err("nothing is shared");
    assert!(matches!(refused, FetchError::Submitted { .. }), "{refused}");
    realm.share(&album, "bob", &["view"]).await;
    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("the content").0, StatusCode::OK);
    assert!(world.fetch(Method::GET, BEACH, "carol").await.is_err(), "shared with Bob, not with Carol");
    assert_eq!(world.content().hits(), 1);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_submitted_request_waits_for_alice_and_her_approval_opens_the_album() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let challenge = world.get_without_token(BEACH).await.challenge();
    let refused = bob.trade(&challenge).await.err().expect("Alice has not decided");
    assert_eq!(refused, (403, "access_denied".into(), "request_submitted".into()));

    let mut pending = realm.pending(&album).await;
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert_eq!((pending[0]["requesterName"].as_str(), pending[0]["scopeName"].as_str()), (Some("bob"), Some("view")));
    realm.approve(pending.remove(0)).await;

    let challenge = world.get_without_token(BEACH).await.challenge();
    let rpt = bob.trade(&challenge).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn fetch_waits_for_the_approval() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let options = ClientOptions { wait: super::support::PATIENCE, poll: Duration::from_millis(200), ..as_user("bob") };
    let approval = async {
        let request = until("the submitted request", async || realm.pending(&album).await.pop()).await;
        realm.approve(request).await;
    };
    let (fetched, ()) = tokio::join!(world.fetch_with(Method::GET, BEACH, options), approval);
    assert_eq!(fetched.expect("the content").0, StatusCode::OK);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn who_may_view_may_not_edit() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    let refused = world.ask(Method::PUT, BEACH, Some(&rpt.token)).await;
    let challenge = refused.refusal("insufficient_scope");
    let start = format!(r#"UMA realm="photoz", as_uri="{}", error="insufficient_scope", ticket=""#, realm.issuer());
    assert!(refused.challenge_line().starts_with(&start), "{}", refused.challenge_line());
    assert_eq!(world.content().hits(), 1);

    realm.share(&album, "bob", &["edit"]).await;
    let rpt = bob.trade(&challenge).await.expect("an RPT to edit with");
    assert_eq!(world.ask(Method::PUT, BEACH, Some(&rpt.token)).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_partial_grant_opens_its_own_part_only() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let scopes = "{ GET: [view], POST: [view, edit], PUT: [edit] }";
    let world = Plan::behind(&realm).protect("/albums/vacation/**", &album.by_name(), scopes).start().await;

    // Keycloak answers 200 to a ticket for view and edit although it grants only view.
    let challenge = world.ask(Method::POST, BEACH, None).await.challenge();
    let rpt = realm.sign_in("bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();
    world.ask(Method::PUT, BEACH, Some(&rpt.token)).await.refusal("insufficient_scope");
    world.ask(Method::POST, BEACH, Some(&rpt.token)).await.refusal("insufficient_scope");
    assert_eq!(world.content().hits(), 1);

    let error = world.fetch(Method::POST, BEACH, "bob").await.expect_err("a part only");
    assert!(matches!(error, FetchError::StillRefused { .. }), "{error}");
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn no_scopes_means_any_permission_on_the_resource_but_not_any_token() {
    let realm = Realm::photoz();
    let (album, other) = (realm.album().await, realm.album().await);
    realm.share(&album, "bob", &["edit"]).await;
    realm.share(&other, "bob", &["view"]).await;
    let plan = Plan::behind(&realm).protect("/albums/vacation/**", &album.by_name(), "{ GET: [] }");
    let world = plan.protect("/albums/work/**", &other.by_name(), "{ GET: [view] }").start().await;

    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    let rpt_of_the_other = bob.trade(&world.get_without_token(PLAN).await.challenge()).await.expect("an RPT");
    world.get(PLAN, &rpt_of_the_other.token).await.assert_passed();
    world.get(BEACH, &rpt_of_the_other.token).await.refusal("insufficient_scope");
    world.get(BEACH, bob.access()).await.refusal("insufficient_scope");
}
