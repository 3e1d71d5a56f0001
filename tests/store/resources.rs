//! Resource records: wanted, registered, unwanted, and what a request sees of them.

use std::future::Future as _;
use std::task::{Context, Waker};

use uma_gateway::store::{Resource, ResourceKey, State, StoreError};

use crate::{SERVER, World, album, credential};

#[tokio::test]
async fn a_request_sees_a_resource_from_its_registration_to_its_withdrawal() {
    let world = World::new();
    let store = world.store().await;
    let view = store.view();
    let key = store.want(&album(1)).await.expect("wanted");
    assert_eq!((view.by_path(SERVER, "/albums/1"), view.by_link("link-1")), (None, None), "the server does not know it yet");

    store.registered(key, "id-1", Some("https://id.example.org/policies/1")).await.expect("registered");

    let known = view.by_path(SERVER, "/albums/1").expect("found");
    assert_eq!((&*known.resource_id, &*known.owner, &*known.upstream, known.key), ("id-1", "owner-1", "http://127.0.0.1:9101/1", key));
    assert_eq!(known.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["view", "edit 1"]);
    assert_eq!(view.by_link("link-1").expect("found"), known);
    for (server, path) in [(SERVER, "/albums/2"), (SERVER, "/albums/1/"), (SERVER, "/ALBUMS/1"), ("https://other.example.org", "/albums/1")] {
        assert_eq!(view.by_path(server, path), None, "{server} {path}");
    }
    assert_eq!((view.by_link("link-2"), view.by_link("")), (None, None));

    let record = store.unwant(key).await.expect("unwanted");

    assert_eq!(record.state, State::Unwanted { resource_id: Some("id-1".into()) });
    assert_eq!((view.by_path(SERVER, "/albums/1"), view.by_link("link-1")), (None, None), "the owner's no counts at once");
    store.remove(key).await.expect("removed");
    assert_eq!(store.resource(key).await.expect("read"), None);
}

#[tokio::test]
async fn a_record_is_whole_after_a_restart() {
    let world = World::new();
    let store = world.store().await;
    let credential = store.put_credential(&credential(1)).await.expect("kept");
    let full = Resource { credential: Some(credential), ..album(1) };
    let by_path = Resource { link: None, kind: None, icon_uri: None, scopes: vec![], ..album(2) };
    let by_link = Resource { path: None, name: "Straße 🎞 \"x\"".into(), ..album(3) };
    let mut records = Vec::new();
    for (resource, policy_uri) in [(full, Some("https://id.example.org/policies/1")), (by_path, None), (by_link, None)] {
        let key = store.want(&resource).await.expect("wanted");
        store.registered(key, &format!("id of {}", resource.name), policy_uri).await.expect("registered");
        records.push((key, resource, policy_uri));
    }
    store.close().await.expect("closed");

    let store = world.store().await;

    for (key, resource, policy_uri) in records {
        let record = store.resource(key).await.expect("read").expect("there");
        let resource_id = format!("id of {}", resource.name);
        assert_eq!(record.state, State::Registered { resource_id: resource_id.clone(), policy_uri: policy_uri.map(str::to_owned) });
        assert_eq!(record.resource, resource);
        let path = resource.path.as_deref();
        assert_eq!(path.and_then(|path| store.view().by_path(SERVER, path)).map(|known| known.key), path.map(|_| key));
        let link = resource.link.as_deref();
        assert_eq!(link.and_then(|link| store.view().by_link(link)).map(|known| known.key), link.map(|_| key));
        assert_eq!(path.is_some(), store.resource_at(SERVER, path.unwrap_or("/albums/3")).await.expect("read").is_some());
        assert_eq!(link.is_some(), store.resource_of_link(link.unwrap_or("link-2")).await.expect("read").is_some());
    }
}

#[tokio::test]
async fn a_path_and_a_link_have_one_record() {
    let world = World::new();
    let store = world.store().await;
    let key = store.want(&album(1)).await.expect("wanted");
    let same_path = Resource { link: None, ..album(1) };
    let same_link = Resource { link: Some("link-1".into()), ..album(2) };
    for (state, again) in [("wanted", &same_path), ("wanted", &same_link)] {
        assert!(matches!(store.want(again).await, Err(StoreError::Taken)), "{state}");
    }
    let elsewhere = Resource { authorization_server: "https://other.example.org".into(), ..same_path.clone() };
    store.want(&elsewhere).await.expect("another server's path");
    store.registered(key, "id-1", None).await.expect("registered");
    assert!(matches!(store.want(&same_path).await, Err(StoreError::Taken)));
    store.unwant(key).await.expect("unwanted");
    let next = store.want(&same_path).await.expect("free again, though the server may know the other one still");
    assert!(matches!(store.want(&same_link).await, Err(StoreError::Taken)), "the link is not");
    // What is found by its path alone keeps it.
    store.registered(next, "id-2", None).await.expect("registered");
    store.unwant(next).await.expect("unwanted");
    assert!(matches!(store.want(&same_path).await, Err(StoreError::Taken)));
    store.remove(next).await.expect("removed");
    assert!(![key, next].contains(&store.want(&same_path).await.expect("free again")), "keys are not used again");
}

#[tokio::test]
async fn what_the_server_calls_a_resource_has_one_record() {
    let world = World::new();
    let store = world.store().await;
    let (one, two) = (store.want(&album(1)).await.expect("wanted"), store.want(&album(2)).await.expect("wanted"));
    store.registered(one, "id-1", None).await.expect("registered");
    assert!(matches!(store.registered(two, "id-1", None).await, Err(StoreError::Taken)), "it is the other one's");
    assert_eq!(store.resource(two).await.expect("read").expect("there").state, State::Wanted);
    assert_eq!(store.view().by_path(SERVER, "/albums/2"), None);
    store.unwant(one).await.expect("unwanted");
    assert!(matches!(store.registered(two, "id-1", None).await, Err(StoreError::Taken)), "it is about to be deleted there");
    let elsewhere = store.want(&Resource { authorization_server: "https://other.example.org".into(), ..album(3) }).await.expect("wanted");
    store.registered(elsewhere, "id-1", None).await.expect("another server's");
}

#[tokio::test]
async fn what_is_not_in_that_state_is_left_alone() {
    let world = World::new();
    let store = world.store().await;
    let key = store.want(&album(1)).await.expect("wanted");
    store.registered(key, "id-1", None).await.expect("registered");
    assert!(matches!(store.remove(key).await, Err(StoreError::Absent)), "it is registered");
    assert!(store.view().by_link("link-1").is_some());
    store.unwant(key).await.expect("unwanted");
    store.unwant(key).await.expect("to say it again is no mistake");
    assert!(matches!(store.registered(key, "id-1", None).await, Err(StoreError::Absent)), "it is not wanted");
    assert!(store.view().by_link("link-1").is_none());
    store.remove(key).await.expect("removed");
    assert!(matches!(store.remove(key).await, Err(StoreError::Absent)));
    assert!(matches!(store.unwant(key).await, Err(StoreError::Absent)));
    let wanted = store.want(&album(2)).await.expect("wanted");
    store.remove(wanted).await.expect("one that the server never knew");
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused() {
    let world = World::new();
    let store = world.store().await;
    let long = "x".repeat(8193);
    let unfit = [
        Resource { path: None, link: None, ..album(1) },
        Resource { path: Some("/albums/../admin".into()), ..album(1) },
        Resource { path: Some("/albums/%61".into()), ..album(1) },
        Resource { path: Some("/albums?x".into()), ..album(1) },
        Resource { path: Some(format!("/{long}")), ..album(1) },
        Resource { link: Some("a/b".into()), ..album(1) },
        Resource { link: Some(String::new()), ..album(1) },
        Resource { link: Some("x".repeat(129)), ..album(1) },
        Resource { owner: String::new(), ..album(1) },
        Resource { owner: long.clone(), ..album(1) },
        Resource { name: String::new(), ..album(1) },
        Resource { upstream: String::new(), ..album(1) },
        Resource { authorization_server: String::new(), ..album(1) },
        Resource { scopes: vec!["x".into(); 257], ..album(1) },
        Resource { scopes: vec![String::new()], ..album(1) },
    ];
    for resource in unfit {
        assert!(matches!(store.want(&resource).await, Err(StoreError::Unfit(_))), "{resource:.200?}");
    }
    let nobody = Resource { credential: Some(store.put_credential(&credential(1)).await.expect("kept")), ..album(1) };
    store.forget_credential(SERVER, "owner-1").await.expect("forgotten");
    assert!(matches!(store.want(&nobody).await, Err(StoreError::Absent)), "there is no such credential");
    let key = store.want(&album(1)).await.expect("wanted");
    for id in ["", &"x".repeat(513)] {
        assert!(matches!(store.registered(key, id, None).await, Err(StoreError::Unfit(_))));
    }
    assert!(matches!(store.registered(key, "id-1", Some("")).await, Err(StoreError::Unfit(_))));
}

#[tokio::test]
async fn records_are_listed_in_pages() {
    let world = World::new();
    let store = world.store().await;
    let mut alices = Vec::new();
    for number in 0..7 {
        let owner = if number % 2 == 0 { "alice" } else { "bob" };
        let key = store.want(&Resource { owner: owner.into(), ..album(number) }).await.expect("wanted");
        if number == 2 {
            store.registered(key, "id-2", None).await.expect("registered");
        }
        if owner == "alice" {
            alices.push(key);
        }
    }
    let keys = |records: Vec<uma_gateway::store::ResourceRecord>| records.iter().map(|record| record.key).collect::<Vec<ResourceKey>>();
    let first = keys(store.resources_of(SERVER, "alice", None, 3).await.expect("read"));
    assert_eq!(first, alices[..3]);
    assert_eq!(keys(store.resources_of(SERVER, "alice", Some(first[2]), 3).await.expect("read")), alices[3..]);
    assert_eq!(store.resources_of("https://other.example.org", "alice", None, 3).await.expect("read"), []);
    let unsettled = store.unsettled(None, 100).await.expect("read");
    assert_eq!(unsettled.len(), 6);
    assert_eq!(store.unsettled(Some(unsettled[4].key), 100).await.expect("read"), unsettled[5..]);
}

#[tokio::test]
async fn a_change_whose_caller_goes_away_is_finished() {
    let world = World::new();
    let store = world.store().await;
    let key = store.want(&album(1)).await.expect("wanted");
    {
        let mut change = std::pin::pin!(store.registered(key, "id-1", None));
        assert!(change.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let view = store.view();
    let seen = async {
        while view.by_link("link-1").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), seen).await.expect("it is registered");
    let record = store.resource(key).await.expect("read").expect("there");
    assert_eq!(record.state, State::Registered { resource_id: "id-1".into(), policy_uri: None });
}

#[tokio::test]
async fn a_registered_resource_can_have_another_name_and_other_scopes() {
    let world = World::new();
    let store = world.store().await;
    let key = store.want(&album(1)).await.expect("wanted");
    let scopes = vec!["view".to_owned()];
    assert!(matches!(store.describe(key, "other", &scopes).await, Err(StoreError::Absent)), "it is not registered yet");
    store.registered(key, "id-1", None).await.expect("registered");

    let record = store.describe(key, "other", &scopes).await.expect("described");

    assert_eq!((record.resource.name.as_str(), &record.resource.scopes), ("other", &scopes));
    let known = store.view().by_path(SERVER, "/albums/1").expect("found");
    assert_eq!(known.scopes.iter().map(|scope| &**scope).collect::<Vec<_>>(), ["view"]);
    assert!(matches!(store.describe(key, "", &scopes).await, Err(StoreError::Unfit("name"))));
    assert_eq!(store.resource_named(SERVER, "owner-1", "other").await.expect("read").expect("there"), record);
    assert_eq!(store.resource_named(SERVER, "owner-1", "album 1").await.expect("read"), None);
    assert_eq!((store.count_of(SERVER, "owner-1").await.expect("read"), store.count_of(SERVER, "owner-2").await.expect("read")), (1, 0));
    store.unwant(key).await.expect("unwanted");
    assert!(matches!(store.describe(key, "again", &scopes).await, Err(StoreError::Absent)));
    assert_eq!(store.view().by_path(SERVER, "/albums/1"), None, "what was withdrawn stays so");
    store.close().await.expect("closed");
}
