//! What the operator shares for Alice: hers at Keycloak 2.5.5, closed at once when it is withdrawn, kept over restarts.
//!
//! Owners have no way to share with tokens of their own here: a token of this Keycloak tells no scope that `shares.scope` could ask for. Nor have they a page
//! of theirs for it, so who may view what is Alice's is said by the administrator.

use std::path::Path;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::support::{BEACH, Body, World, basic, bearer, call, fetch_link, share_at, text, unique, until, wish_for};
use super::{GATEWAY, Realm};

/// A realm with a gateway, whose records are in this folder.
pub async fn sharing(records: &Path) -> (Realm, World) {
    let realm = Realm { name: "photoz", album: String::new(), id: String::new() };
    let world = World::sharing(&realm.section(), records).await;
    (realm, world)
}

impl Realm {
    /// Takes the resource of a share for the album.
    pub fn of_share(mut self, share: &Value) -> Self {
        (self.album, self.id) = (text(share, "name"), text(share, "resource_id"));
        self
    }

    /// What Keycloak says of resources.
    async fn at_keycloak(&self, path: &str) -> (StatusCode, Value) {
        let pat = text(&self.token(basic(GATEWAY), &[("grant_type", "client_credentials")]).await, "access_token");
        call(Method::GET, &self.at(&format!("authz/protection/resource_set{path}")), bearer(&pat), Body::Nothing).await
    }

    /// Those with the album's name in Keycloak's own list.
    async fn listed(&self) -> Vec<String> {
        let (status, list) = self.at_keycloak(&format!("?filter=name={}", self.album.replace(' ', "%20"))).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        list.as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The album's scopes there.
    async fn scopes(&self) -> Vec<String> {
        let (status, description) = self.at_keycloak(&format!("/{}", self.id)).await;
        assert_eq!(status, StatusCode::OK, "{description}");
        let mut scopes: Vec<String> = description["scopes"].as_array().expect("a list").iter().map(|scope| text(scope, "name")).collect();
        scopes.sort();
        scopes
    }

    /// The name of whoever owns the album there.
    async fn owner(&self) -> String {
        let (_, description) = self.at_keycloak(&format!("/{}", self.id)).await;
        text(&self.administer(Method::GET, &format!("users/{}", text(&description, "owner")), Body::Nothing).await, "username")
    }
}

#[tokio::test]
#[ignore = "needs Keycloak 2.5.5: just uma1"]
async fn what_the_operator_shares_for_alice_is_hers_at_keycloak_and_closed_at_once_when_it_is_withdrawn() {
    let records = tempfile::tempdir().expect("a folder");
    let (realm, world) = sharing(records.path()).await;
    let wish = wish_for(&["view"]);
    let hers = text(&realm.sign_in("alice").await, "access_token");
    assert_eq!(world.api(&hers, Method::POST, "/shares", wish.clone()).await.0, StatusCode::FORBIDDEN);
    let share = world.shared(wish.clone()).await;
    let (realm, link) = (realm.of_share(&share), text(&share, "link"));
    assert_eq!((realm.listed().await, realm.scopes().await, &*realm.owner().await), (vec![realm.id.clone()], vec!["view".into()], "alice"));
    // This Keycloak would take a second one of the name for the first.
    let second = json!({ "path": "/albums/vacation/notes.txt", "owner": "bob", "name": realm.album });
    for wish in [&wish, &second] {
        assert_eq!(world.operator(Method::POST, "/shares", wish.clone()).await.0, StatusCode::CONFLICT, "{wish}");
    }
    assert_eq!(realm.owner().await, "alice");

    fetch_link(&link, "bob", "bob").await.assert_refused(1);
    realm.share().await;
    fetch_link(&link, "bob", "bob").await.assert_came();
    fetch_link(&link, "carol", "carol").await.assert_refused(1);

    // The next gateway has it from the records and registers nothing.
    let world = world.restarted().await;
    assert_eq!(world.operator(Method::GET, &share_at(&share), Value::Null).await, (StatusCode::OK, share.clone()));
    fetch_link(&link, "bob", "bob").await.assert_came();
    assert_eq!((realm.listed().await, world.server.calls_to("POST /auth/realms/photoz/authz/protection/resource_set")), (vec![realm.id.clone()], 1));
    let seen: Vec<String> = world.content().requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, [BEACH, BEACH], "nothing of the link");

    let (rpt, _) = realm.rpt(&world, "bob").await;
    world.get(Some(&rpt)).await.assert_passed();
    assert_eq!(world.operator(Method::DELETE, &share_at(&share), Value::Null).await, (StatusCode::NO_CONTENT, Value::Null));
    let path = link.strip_prefix(&world.address("")).expect("a link to this gateway");
    for path in [BEACH, path] {
        assert_eq!(world.ask(Method::GET, path, Some(&rpt)).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(fetch_link(&link, "bob", "bob").await.code, 1);
    assert_eq!(realm.listed().await, [""; 0]);
    let world = world.restarted().await;
    assert_eq!(world.get(Some(&rpt)).await.status(), StatusCode::NOT_FOUND);

    // Shared again it is another resource, which nothing of before opens.
    let again = world.shared(wish).await;
    assert_ne!((&again["resource_id"], &again["link"]), (&share["resource_id"], &share["link"]));
    assert_eq!(world.get(Some(&rpt)).await.status(), StatusCode::UNAUTHORIZED);
    fetch_link(&text(&again, "link"), "bob", "bob").await.assert_refused(1);
}

#[tokio::test]
#[ignore = "needs Keycloak 2.5.5: just uma1"]
async fn a_share_with_other_scopes_has_them_at_keycloak_too() {
    let records = tempfile::tempdir().expect("a folder");
    let (realm, world) = sharing(records.path()).await;
    let share = world.shared(wish_for(&["view"])).await;
    let (realm, link) = (realm.of_share(&share), text(&share, "link"));
    realm.share().await;
    fetch_link(&link, "bob", "bob").await.assert_came();

    let change = async |scopes: &[&str]| {
        let (status, changed) = world.operator(Method::PATCH, &share_at(&share), json!({ "scopes": scopes })).await;
        assert_eq!((status, &changed["resource_id"]), (StatusCode::OK, &share["resource_id"]), "{changed}");
    };
    change(&["edit", "view"]).await;
    assert_eq!((realm.scopes().await, &*realm.owner().await), (vec!["edit".into(), "view".into()], "alice"));
    // The link's ticket asks for both; of them this Keycloak grants those that Bob has.
    fetch_link(&link, "bob", "bob").await.assert_came();

    change(&["view"]).await;
    assert_eq!((realm.scopes().await, realm.listed().await), (vec!["view".to_owned()], vec![realm.id.clone()]));
    fetch_link(&link, "bob", "bob").await.assert_came();
    let edit = world.fetch_by("PUT", "bob", "bob", None).await;
    assert!(edit.told.contains("405"), "no scope of the share is for it: {}", edit.told);
}

#[tokio::test]
#[ignore = "needs Keycloak 2.5.5: just uma1"]
async fn what_is_withdrawn_while_keycloak_is_away_is_closed_at_once_and_gone_from_it_later() {
    let records = tempfile::tempdir().expect("a folder");
    let (realm, world) = sharing(records.path()).await;
    let wish = wish_for(&["view"]);
    let share = world.shared(wish.clone()).await;
    let realm = realm.of_share(&share);
    realm.share().await;
    let (rpt, _) = realm.rpt(&world, "bob").await;
    world.get(Some(&rpt)).await.assert_passed();

    world.server.shut().await;
    assert_eq!(world.operator(Method::DELETE, &share_at(&share), Value::Null).await.0, StatusCode::ACCEPTED);
    assert_eq!(world.get(Some(&rpt)).await.status(), StatusCode::NOT_FOUND);
    for (wish, expected) in [(wish.clone(), StatusCode::CONFLICT), (wish_for(&["view"]), StatusCode::SERVICE_UNAVAILABLE)] {
        let (status, answer) = world.operator(Method::POST, "/shares", wish).await;
        assert_eq!(status, expected, "{answer}");
    }
    assert_eq!(realm.listed().await, [realm.id.as_str()]);

    world.server.open().await;
    until("Keycloak has deleted it", async || realm.listed().await.is_empty().then_some(())).await;
    let again = until("its name is free", async || {
        let (status, share) = world.operator(Method::POST, "/shares", wish.clone()).await;
        (status == StatusCode::CREATED).then_some(share)
    })
    .await;
    assert_ne!(again["resource_id"], share["resource_id"]);
    assert_eq!(world.get(Some(&rpt)).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
#[ignore = "needs Keycloak 2.5.5: just uma1"]
async fn a_name_that_keycloak_finds_nothing_of_is_found_all_the_same_and_taken_from_nobody() {
    // Its filter is taken apart at these two.
    let name = || format!("{} & 1 = 1", unique("Album"));
    let mut realm = Realm { name: "photoz", album: name(), id: String::new() };
    realm.register().await;
    realm.world().await.get(None).await.challenge();

    let records = tempfile::tempdir().expect("a folder");
    let (realm, world) = sharing(records.path()).await;
    let mut wish = wish_for(&["view"]);
    wish["name"] = name().into();
    let share = world.shared(wish).await;
    let realm = realm.of_share(&share);
    let second = json!({ "path": "/albums/vacation/notes.txt", "owner": "bob", "name": realm.album });
    assert_eq!(world.operator(Method::POST, "/shares", second).await.0, StatusCode::CONFLICT);
    assert_eq!((realm.scopes().await, &*realm.owner().await), (vec!["view".to_owned()], "alice"));
    assert_eq!(world.operator(Method::DELETE, &share_at(&share), Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(realm.at_keycloak(&format!("/{}", realm.id)).await.0, StatusCode::NOT_FOUND);
}
