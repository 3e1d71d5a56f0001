//! Resources that Keycloak finds by their `uris`, with a method's name as the scope that it needs.

use http::{Method, StatusCode};

use super::support::{BEACH, CLIENT_APP, PLAN, Plan, Realm, until};

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_resource_is_found_by_its_path_and_a_method_is_its_scope() {
    // A client of its own has a resource `/*` of Keycloak's making, which everything falls to that has none nearer.
    let realm = Realm::photoz().with_new_resource_server().await;
    let album = realm.register_with_uris(Some("alice"), &["GET", "PUT"], &[BEACH]).await;
    realm.share(&album, "bob", &["GET"]).await;
    let world = Plan::behind(&realm).protect("/albums/**", "{ uris: true }", "http_method_as_scope").max_age("1s").start().await;

    let challenge = world.get_without_token(BEACH).await.challenge();
    let rpt = realm.sign_in("bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();
    assert_eq!(world.ask(Method::PUT, BEACH, Some(&rpt.token)).await.refusal("insufficient_scope").error.as_deref(), Some("insufficient_scope"));
    let refused = world.ask(Method::DELETE, BEACH, Some(&rpt.token)).await;
    assert_eq!((refused.status(), &*refused.rows), (StatusCode::METHOD_NOT_ALLOWED, "D9"), "the resource has no such scope");
    assert_eq!(world.get(PLAN, &rpt.token).await.status(), StatusCode::METHOD_NOT_ALLOWED, "what Keycloak has made for everything has no scopes");
    assert_eq!(world.content().hits(), 1);

    realm.delete(&album).await;
    until("it is not found", async || (world.get(BEACH, &rpt.token).await.status() == StatusCode::METHOD_NOT_ALLOWED).then_some(())).await;
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn an_owners_folder_is_nearer_than_a_pattern_of_the_client() {
    let realm = Realm::photoz().with_new_resource_server().await;
    let all = realm.register_with_uris(None, &["view"], &["/albums/*"]).await;
    let vacation = realm.register_with_uris(Some("alice"), &["view"], &["/albums/vacation/*"]).await;
    realm.share(&vacation, "bob", &["view"]).await;
    let world = Plan::behind(&realm).protect("/albums/**", "{ uris: true }", "{ GET: [view] }").start().await;

    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("the content").0, StatusCode::OK);
    assert!(world.fetch(Method::GET, BEACH, "carol").await.is_err());
    assert!(world.fetch(Method::GET, PLAN, "bob").await.is_err(), "Keycloak lets nobody have {}", all.name);
    assert_eq!(world.content().hits(), 1);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_pattern_of_the_client_counts_as_keycloak_weighs_it_but_not_where_an_owner_has_a_folder() {
    let realm = Realm::photoz().with_new_resource_server().await;
    let plans = realm.register_with_uris(None, &["view"], &["/albums/{album}/plan.txt"]).await;
    realm.register_with_uris(None, &["edit"], &["/albums/work/*"]).await;
    let world = Plan::behind(&realm).protect("/albums/**", "{ uris: true }", "{ GET: [view], PUT: [edit] }").max_age("1s").start().await;
    world.get_without_token(PLAN).await.challenge();
    let refused = world.ask(Method::PUT, PLAN, None).await;
    assert_eq!((refused.status(), &*refused.rows), (StatusCode::METHOD_NOT_ALLOWED, "D9"), "it is {}", plans.name);

    realm.register_with_uris(Some("alice"), &["view"], &["/albums/work/plan.txt/*"]).await;
    let refused = until("Alice's folder is seen", async || Some(world.get_without_token(PLAN).await).filter(|answer| answer.rows == "C7")).await;
    refused.assert_unreachable(403);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn two_owners_of_one_path_are_refused() {
    let realm = Realm::photoz().with_new_resource_server().await;
    for owner in ["alice", "bob"] {
        realm.register_with_uris(Some(owner), &["view"], &[BEACH]).await;
    }
    let world = Plan::behind(&realm).protect("/albums/**", "{ uris: true }", "{ GET: [view] }").start().await;
    let refused = world.get_without_token(BEACH).await;
    refused.assert_unreachable(403);
    assert_eq!(refused.rows, "C7");
}
