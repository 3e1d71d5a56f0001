//! Resources as Keycloak has them: found by name, missing, deleted, declared in the configuration.

use http::{Method, StatusCode};

use super::support::{Answer, BEACH, CLIENT_APP, Plan, Realm, World, unique, until};

/// Asks without a token until the answer has this status.
async fn answers(world: &World, status: StatusCode) -> Answer {
    until(status.as_str(), async || Some(world.get_without_token(BEACH).await).filter(|answer| answer.status() == status)).await
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_resource_that_belongs_to_the_gateways_own_client_needs_no_owner() {
    let realm = Realm::photoz();
    let world = Plan::behind(&realm).protect("/albums/vacation/**", "{ name: handbook }", "{ GET: [view] }").start().await;

    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("the content").0, StatusCode::OK);
    assert!(world.fetch(Method::GET, BEACH, "carol").await.is_err());
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_path_parameter_chooses_the_resource() {
    let realm = Realm::photoz();
    let prefix = unique("Album");
    let vacation = realm.register(&format!("{prefix} vacation")).await;
    realm.register(&format!("{prefix} work")).await;
    realm.share(&vacation, "bob", &["view"]).await;
    let resource = format!("{{ name: \"{prefix} {{album}}\", owner: alice }}");
    let world = Plan::behind(&realm).protect("\"/albums/{album}/**\"", &resource, "{ GET: [view] }").start().await;

    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("the content").0, StatusCode::OK);
    assert!(world.fetch(Method::GET, "/albums/work/plan.txt", "bob").await.is_err());
    let nowhere = world.get_without_token("/albums/family/tree.png").await;
    assert_eq!((nowhere.status(), &*nowhere.rows), (StatusCode::NOT_FOUND, "D10"));
    assert_eq!(world.content().hits(), 1);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_name_may_hold_any_character() {
    let realm = Realm::photoz();
    let album = realm.register(&unique("Zoë & Søn's 50% + \u{1f3d6} #1 a=b/c?")).await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("the content").0, StatusCode::OK);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_resource_that_does_not_exist_is_404_until_it_does() {
    let realm = Realm::photoz();
    let name = unique("Album");
    let resource = format!("{{ name: \"{name}\", owner: alice }}");
    let world = Plan::behind(&realm).vacation(&resource).start().await;

    let missing = world.get_without_token(BEACH).await;
    assert_eq!((missing.status(), &*missing.rows), (StatusCode::NOT_FOUND, "D10"));
    world.keycloak.clear();
    assert_eq!(world.get(BEACH, "nonsense").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(world.keycloak.calls(), [""; 0], "that it is missing is remembered");

    let album = realm.register(&name).await;
    realm.share(&album, "bob", &["view"]).await;
    answers(&world, StatusCode::UNAUTHORIZED).await;
    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("the content").0, StatusCode::OK);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_deleted_resource_is_out_of_reach_once_and_then_looked_up_anew() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("1s").vacation(&album.by_name()).start().await;
    let bob = realm.sign_in("bob", CLIENT_APP).await;
    let rpt = bob.trade(&world.get_without_token(BEACH).await.challenge()).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    realm.delete(&album).await;
    let refused = world.get_without_token(BEACH).await;
    refused.assert_unreachable(403);
    assert_eq!(refused.rows, "D15 C4");
    assert_eq!(answers(&world, StatusCode::NOT_FOUND).await.rows, "D10");

    let again = realm.register(&album.name).await;
    realm.share(&again, "bob", &["view"]).await;
    let challenge = answers(&world, StatusCode::UNAUTHORIZED).await.challenge();
    world.get(BEACH, &rpt.token).await.refusal("insufficient_scope");
    let rpt = bob.trade(&challenge).await.expect("an RPT for the new resource");
    world.get(BEACH, &rpt.token).await.assert_passed();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_token_for_a_deleted_resource_ends_within_max_age_and_never_in_a_500() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).max_age("1s").vacation(&album.by_id()).start().await;
    let challenge = world.get_without_token(BEACH).await.challenge();
    let rpt = realm.sign_in("bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT");
    world.get(BEACH, &rpt.token).await.assert_passed();

    realm.delete(&album).await;
    let refused = world.refused(BEACH, &rpt.token, tokio::time::Instant::now(), std::time::Duration::from_secs(1)).await;
    refused.assert_unreachable(403);
    assert!(refused.rows.ends_with("E8a C4"), "{}", refused.rows);
}

fn declared(name: &str, kind: &str, scopes: &str) -> String {
    format!("{{ register: {{ name: \"{name}\", type: \"{kind}\", scopes: {scopes}, owner: alice }} }}")
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_declared_resource_is_registered_once_and_kept_as_declared() {
    let realm = Realm::photoz();
    let name = unique("Declared");
    let plan = |kind, scopes| Plan::behind(&realm).protect("/albums/vacation/**", &declared(&name, kind, scopes), "{ GET: [view] }");
    let world = plan("urn:album", "[view]").start().await;

    let ids = realm.named(&name, "alice").await;
    assert_eq!(ids.len(), 1);
    assert_eq!(realm.described(&name, "alice").await, ("alice".into(), Some("urn:album".into()), vec!["view".into()]));
    let album = super::support::Album { id: ids[0].clone(), name: name.clone() };
    realm.share(&album, "bob", &["view"]).await;
    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("the content").0, StatusCode::OK);

    let world = world.restart_with(&plan("urn:album", "[view]")).await;
    assert_eq!(realm.named(&name, "alice").await, ids, "registered twice");

    let world = world.restart_with(&plan("urn:picture", "[view, edit]")).await;
    assert_eq!(realm.named(&name, "alice").await, ids);
    let scopes = vec!["edit".to_owned(), "view".to_owned()];
    assert_eq!(realm.described(&name, "alice").await, ("alice".into(), Some("urn:picture".into()), scopes));
    assert_eq!(world.fetch(Method::GET, BEACH, "bob").await.expect("what was shared still is").0, StatusCode::OK);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_declared_resource_without_an_owner_belongs_to_the_gateways_client() {
    let realm = Realm::photoz();
    let name = unique("Declared");
    let plan = || Plan::behind(&realm).protect("/albums/vacation/**", &format!("{{ register: {{ name: \"{name}\" }} }}"), "{ GET: [view], PUT: [edit] }");
    let world = plan().start().await;
    let ids = realm.named(&name, "content-gateway").await;
    assert_eq!(ids.len(), 1);
    assert_eq!(realm.described(&name, "content-gateway").await, ("content-gateway".into(), None, vec!["edit".into(), "view".into()]));
    world.get_without_token(BEACH).await.challenge();

    world.restart_with(&plan()).await.get_without_token(BEACH).await.challenge();
    assert_eq!(realm.named(&name, "content-gateway").await, ids);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_declared_resource_that_was_deleted_is_registered_again() {
    let realm = Realm::photoz();
    let name = unique("Declared");
    let world = Plan::behind(&realm).protect("/albums/vacation/**", &declared(&name, "urn:album", "[view]"), "{ GET: [view] }").start().await;
    world.get_without_token(BEACH).await.challenge();
    let album = super::support::Album { id: realm.named(&name, "alice").await.remove(0), name };

    realm.delete(&album).await;
    world.get_without_token(BEACH).await.assert_unreachable(403);
    answers(&world, StatusCode::UNAUTHORIZED).await;
    let again = realm.named(&album.name, "alice").await;
    assert_eq!(again.len(), 1);
    assert_ne!(again[0], album.id);
}
