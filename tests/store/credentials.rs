//! Credentials: one of each owner at each authorization server.

use std::time::{Duration, UNIX_EPOCH};

use uma_gateway::store::Credential;

use crate::{SERVER, World, album, credential, same};

#[tokio::test]
async fn a_credential_is_there_after_a_restart() {
    let world = World::new();
    let store = world.store().await;
    let bare = Credential { refresh_token: None, expires_at: None, scope: String::new(), ..credential(2) };
    store.put_credential(&credential(1)).await.expect("kept");
    store.put_credential(&bare).await.expect("kept");
    store.close().await.expect("closed");

    let store = world.store().await;

    assert!(same(&store.credential(SERVER, "owner-1").await.expect("read").expect("there"), &credential(1)));
    assert!(same(&store.credential(SERVER, "owner-2").await.expect("read").expect("there"), &bare));
    assert!(store.credential(SERVER, "owner-3").await.expect("read").is_none());
    assert!(store.credential("https://other.example.org", "owner-1").await.expect("read").is_none());
}

#[tokio::test]
async fn a_renewed_credential_takes_the_place_of_the_old_one() {
    let world = World::new();
    let store = world.store().await;
    let key = store.put_credential(&credential(1)).await.expect("kept");
    let renewed = Credential { owner: "owner-1".into(), expires_at: Some(UNIX_EPOCH + Duration::from_secs(2_000_000_000)), ..credential(7) };
    assert_eq!(store.put_credential(&renewed).await.expect("kept"), key);
    assert!(same(&store.credential(SERVER, "owner-1").await.expect("read").expect("there"), &renewed));
    assert_ne!(store.put_credential(&credential(2)).await.expect("kept"), key);
}

#[tokio::test]
async fn a_resource_names_its_owners_credential_whichever_is_there_first() {
    let world = World::new();
    let store = world.store().await;
    let named = async |key| store.resource(key).await.expect("read").expect("there").resource.credential;
    let resource = |number| uma_gateway::store::Resource { credential: None, owner: "owner-1".into(), ..album(number) };
    let before = store.want(&resource(1)).await.expect("wanted");
    let others = store.want(&uma_gateway::store::Resource { credential: None, ..album(2) }).await.expect("wanted");
    assert_eq!(named(before).await, None);

    let credential = store.put_credential(&credential(1)).await.expect("kept");

    let after = store.want(&resource(3)).await.expect("wanted");
    assert_eq!((named(before).await, named(after).await, named(others).await), (Some(credential), Some(credential), None));
}

#[tokio::test]
async fn a_forgotten_credential_is_gone_and_resources_name_it_no_more() {
    let world = World::new();
    let store = world.store().await;
    let credential_key = store.put_credential(&credential(1)).await.expect("kept");
    let album = uma_gateway::store::Resource { credential: Some(credential_key), ..album(1) };
    let key = store.want(&album).await.expect("wanted");
    assert_eq!(store.resource(key).await.expect("read").expect("there").resource.credential, Some(credential_key));

    assert!(store.forget_credential(SERVER, "owner-1").await.expect("forgotten"));

    assert!(store.credential(SERVER, "owner-1").await.expect("read").is_none());
    assert_eq!(store.resource(key).await.expect("read").expect("there").resource.credential, None);
    assert!(!store.forget_credential(SERVER, "owner-1").await.expect("read"), "it was gone");
    assert_ne!(store.put_credential(&credential(1)).await.expect("kept"), credential_key, "keys are not used again");
}
