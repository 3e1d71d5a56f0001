//! Tokens on the disk are nothing to whoever has no key.

use sqlx::{Connection as _, Executor as _, Row as _};
use uma_gateway::store::{Config, Store, StoreError};

use crate::{SERVER, World, credential, holds, key, same};

/// What stands in the columns of the tokens.
async fn ciphertexts(world: &World) -> Vec<Vec<u8>> {
    let mut database = world.database().await;
    let rows = database.fetch_all("SELECT access_token, refresh_token FROM credential").await.expect("rows");
    database.close().await.expect("closed");
    rows.iter().flat_map(|row| [row.get::<Vec<u8>, _>(0), row.get(1)]).collect()
}

#[tokio::test]
async fn no_token_stands_in_the_file_or_its_log() {
    let world = World::new();
    let store = world.store().await;
    for number in 0..50 {
        store.put_credential(&credential(number)).await.expect("kept");
        // Renewed and forgotten ones have been there as well.
        store.put_credential(&credential(number)).await.expect("kept");
        if number % 3 == 0 {
            store.forget_credential(SERVER, &format!("owner-{number}")).await.expect("forgotten");
        }
    }
    let running = world.octets();
    store.close().await.expect("closed");
    for (when, octets) in [("while it runs", running), ("after its end", world.octets())] {
        assert!(holds(&octets, b"owner-1"), "{when}: what is not secret can be found, so the search works");
        assert!(!holds(&octets, b"access-token-"), "{when}");
        assert!(!holds(&octets, b"refresh-token-"), "{when}");
        assert!(!holds(&octets, b"1aaaaaaa"), "{when}: the key as it was written");
        assert!(!holds(&octets, &[0x1a, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa]), "{when}: the key itself");
    }
}

#[tokio::test]
async fn a_token_that_was_moved_to_another_owner_is_refused() {
    let world = World::new();
    let store = world.store().await;
    store.put_credential(&credential(1)).await.expect("kept");
    store.put_credential(&credential(2)).await.expect("kept");
    store.close().await.expect("closed");
    let mut database = world.database().await;
    let swap = "UPDATE credential SET (access_token, refresh_token) =
                (SELECT access_token, refresh_token FROM credential WHERE owner = 'owner-1') WHERE owner = 'owner-2'";
    database.execute(swap).await.expect("a thief's statement");
    database.close().await.expect("closed");

    let store = world.store().await;

    assert!(same(&store.credential(SERVER, "owner-1").await.expect("read").expect("there"), &credential(1)));
    assert!(matches!(store.credential(SERVER, "owner-2").await, Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_missing_one_named() {
    let world = World::new();
    let store = world.store().await;
    store.put_credential(&credential(1)).await.expect("kept");
    store.put_credential(&credential(2)).await.expect("kept");
    store.close().await.expect("closed");
    let before = world.octets();

    let wrong = Config { key: key('b'), old_keys: vec![key('c')], ..world.config() };
    let error = Store::open(&wrong).await.expect_err("the key is not there");

    let StoreError::MissingKey { id, count, given, .. } = &error else { panic!("{error:?}") };
    assert_eq!((id.len(), *count), (16, 2));
    assert!(given.contains("from the secret file key-b") && given.contains("from the secret file key-c") && !given.contains(id), "{given}");
    assert!(error.to_string().contains(&format!("needs the key {id} for 2 of its credentials")), "{error}");
    assert!(!format!("{error} {error:?}").contains("aaaa"), "no key is said");
    assert_eq!(world.octets(), before);
    let right = Config { key: key('b'), old_keys: vec![key('a')], ..world.config() };
    Store::open(&right).await.expect("with the key that was named");
}

#[tokio::test]
async fn a_key_is_replaced_and_then_needed_no_more() {
    let world = World::new();
    let store = world.store().await;
    for number in 0..600 {
        let credential = credential(number);
        let credential = if number % 2 == 0 { credential } else { uma_gateway::store::Credential { refresh_token: None, ..credential } };
        store.put_credential(&credential).await.expect("kept");
    }
    store.close().await.expect("closed");
    let before = ciphertexts(&world).await;

    let both = Config { key: key('b'), old_keys: vec![key('a')], ..world.config() };
    let store = Store::open(&both).await.expect("both keys");
    let running = world.octets();
    store.close().await.expect("closed");
    let new_alone = Config { key: key('b'), ..world.config() };
    let store = Store::open(&new_alone).await.expect("the new key alone");

    for number in 0..600 {
        let kept = store.credential(SERVER, &format!("owner-{number}")).await.expect("read").expect("there");
        assert_eq!(kept.access_token.expose(), credential(number).access_token.expose());
        assert_eq!(kept.refresh_token.is_some(), number % 2 == 0);
    }
    store.close().await.expect("closed");
    let old: Vec<&Vec<u8>> = before.iter().filter(|text| !text.is_empty()).collect();
    assert_eq!(old.len(), 900);
    let search = aho_corasick::AhoCorasick::new(old).expect("patterns");
    assert!(!search.is_match(&running) && !search.is_match(&world.octets()), "what the old key can read has left the disk");
}
