//! What the operator shares for Alice: hers at OpenAM, closed at once when it is withdrawn, kept over restarts.
//!
//! Owners have no way to share with tokens of their own here. OpenAM tells about a token only to the application that it was issued to, and not whose it is.

use std::path::Path;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::support::{BEACH, Body, CLIENT_APP, World, bearer, call, fetch_link, share_at, text, until, wish_for};
use super::{Album, GATEWAY, REGISTERING, at, rpt, section, token};

/// A gateway that has Alice's token, and its records in this folder.
pub async fn sharing(records: &Path) -> World {
    World::sharing(&section(GATEWAY, "alice"), records).await
}

/// What the operator shares, one after the other as other tests register.
pub async fn shared(world: &World, wish: Value) -> Value {
    let _alone = REGISTERING.lock().await;
    world.shared(wish).await
}

/// The resource of a share of Alice's.
pub fn album(share: &Value) -> Album {
    Album { owner: "alice", client: GATEWAY, name: text(share, "name"), id: text(share, "resource_id") }
}

impl Album {
    /// What OpenAM says of a resource of the owner's.
    async fn at_openam(&self, path: &str) -> (StatusCode, Value) {
        let pat = text(&token(self.client, self.owner, "uma_protection").await, "access_token");
        call(Method::GET, &at(&format!("oauth2/resource_set{path}")), bearer(&pat), Body::Nothing).await
    }

    /// Those with this name in OpenAM's own list of what the owner has.
    async fn listed(&self) -> Vec<String> {
        let (status, list) = self.at_openam("").await;
        assert_eq!(status, StatusCode::OK, "{list}");
        let mut named = Vec::new();
        for id in list.as_array().expect("a list").iter().filter_map(Value::as_str) {
            let (_, description) = self.at_openam(&format!("/{id}")).await;
            if description["name"] == *self.name {
                named.push(id.to_owned());
            }
        }
        named
    }

    /// Its scopes there.
    async fn scopes(&self) -> Value {
        let (status, mut description) = self.at_openam(&format!("/{}", self.id)).await;
        assert_eq!(status, StatusCode::OK, "{description}");
        description["scopes"].take()
    }
}

/// The resource that is shared first after OpenAM's start is never deleted there: let it be another one.
async fn let_another_be_the_first() {
    Album::of_alice().await.share().await;
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn what_the_operator_shares_for_alice_is_hers_at_openam_and_closed_at_once_when_it_is_withdrawn() {
    let_another_be_the_first().await;
    let records = tempfile::tempdir().expect("a folder");
    let world = sharing(records.path()).await;
    let wish = wish_for(&["view"]);
    for client in [CLIENT_APP, GATEWAY] {
        let hers = token(client, "alice", if client == GATEWAY { "uma_protection" } else { "openid" }).await;
        let (status, refused) = world.api(&text(&hers, "access_token"), Method::POST, "/shares", wish.clone()).await;
        assert!(matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), "{status} {refused}");
    }
    let share = shared(&world, wish.clone()).await;
    let (album, link) = (album(&share), text(&share, "link"));
    assert_eq!((album.listed().await, album.scopes().await), (vec![album.id.clone()], json!(["view"])));
    assert_eq!(world.operator(Method::POST, "/shares", wish.clone()).await.0, StatusCode::CONFLICT, "once");

    fetch_link(&link, "bob", "bob-password").await.assert_refused(3);
    album.share().await;
    fetch_link(&link, "bob", "bob-password").await.assert_came();
    fetch_link(&link, "carol", "carol-password").await.assert_refused(3);

    // The next gateway has it from the records and registers nothing.
    let world = world.restarted().await;
    assert_eq!(world.operator(Method::GET, &share_at(&share), Value::Null).await, (StatusCode::OK, share.clone()));
    fetch_link(&link, "bob", "bob-password").await.assert_came();
    assert_eq!((album.listed().await, world.server.calls_to("POST /openam/oauth2/resource_set")), (vec![album.id.clone()], 1));
    let seen: Vec<String> = world.content().requests().into_iter().map(|request| request.target).collect();
    assert_eq!(seen, [BEACH, BEACH], "nothing of the link");

    let rpt = rpt(&world, "bob").await;
    world.get(Some(&rpt)).await.assert_passed();
    assert_eq!(world.operator(Method::DELETE, &share_at(&share), Value::Null).await, (StatusCode::NO_CONTENT, Value::Null));
    // OpenAM itself lets the RPT live on.
    let path = link.strip_prefix(&world.address("")).expect("a link to this gateway");
    for path in [BEACH, path] {
        assert_eq!(world.ask(Method::GET, path, Some(&rpt)).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(fetch_link(&link, "bob", "bob-password").await.code, 1);
    assert_eq!(album.listed().await, [""; 0]);
    let world = world.restarted().await;
    assert_eq!(world.get(Some(&rpt)).await.status(), StatusCode::NOT_FOUND);

    // Shared again it is another resource, which nothing of before opens.
    let again = shared(&world, wish).await;
    assert_ne!((&again["resource_id"], &again["link"]), (&share["resource_id"], &share["link"]));
    fetch_link(&text(&again, "link"), "bob", "bob-password").await.assert_refused(3);
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn a_share_with_other_scopes_has_them_at_openam_and_its_link_asks_for_all_of_them() {
    let records = tempfile::tempdir().expect("a folder");
    let world = sharing(records.path()).await;
    let share = shared(&world, wish_for(&["view"])).await;
    let (album, link) = (album(&share), text(&share, "link"));
    album.share().await;
    fetch_link(&link, "bob", "bob-password").await.assert_came();

    let change = async |scopes: &[&str]| {
        let (status, changed) = world.operator(Method::PATCH, &share_at(&share), json!({ "scopes": scopes })).await;
        assert_eq!((status, &changed["resource_id"]), (StatusCode::OK, &share["resource_id"]), "{changed}");
    };
    change(&["edit", "view"]).await;
    assert_eq!(album.scopes().await, json!(["edit", "view"]));
    // Of a ticket OpenAM grants all scopes or none; Bob may view, so the path's ticket does for him and the link's does not.
    fetch_link(&link, "bob", "bob-password").await.assert_refused(3);
    world.fetch("bob", "bob-password", None).await.assert_came();

    change(&["view"]).await;
    assert_eq!((album.scopes().await, album.listed().await), (json!(["view"]), vec![album.id.clone()]));
    fetch_link(&link, "bob", "bob-password").await.assert_came();
    let edit = world.fetch_by("PUT", "bob", "bob-password", None).await;
    assert!(edit.told.contains("405"), "no scope of the share is for it: {}", edit.told);
}

#[tokio::test]
#[ignore = "needs OpenAM: just uma1"]
async fn what_is_withdrawn_while_openam_is_away_is_closed_at_once_and_gone_from_it_later() {
    let_another_be_the_first().await;
    let records = tempfile::tempdir().expect("a folder");
    let world = sharing(records.path()).await;
    let wish = wish_for(&["view"]);
    let share = shared(&world, wish.clone()).await;
    let album = album(&share);
    album.share().await;
    let rpt = rpt(&world, "bob").await;
    world.get(Some(&rpt)).await.assert_passed();

    world.server.shut().await;
    assert_eq!(world.operator(Method::DELETE, &share_at(&share), Value::Null).await.0, StatusCode::ACCEPTED);
    assert_eq!(world.get(Some(&rpt)).await.status(), StatusCode::NOT_FOUND);
    for (wish, expected) in [(wish.clone(), StatusCode::CONFLICT), (wish_for(&["view"]), StatusCode::SERVICE_UNAVAILABLE)] {
        let (status, answer) = world.operator(Method::POST, "/shares", wish).await;
        assert_eq!(status, expected, "{answer}");
    }
    assert_eq!(album.listed().await, [album.id.as_str()]);

    world.server.open().await;
    until("OpenAM has deleted it", async || album.listed().await.is_empty().then_some(())).await;
    let again = until("its name is free", async || {
        let _alone = REGISTERING.lock().await;
        let (status, share) = world.operator(Method::POST, "/shares", wish.clone()).await;
        (status == StatusCode::CREATED).then_some(share)
    })
    .await;
    assert_ne!(again["resource_id"], share["resource_id"]);
    assert_eq!(world.get(Some(&rpt)).await.status(), StatusCode::UNAUTHORIZED);
}
