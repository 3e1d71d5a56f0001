//! What only the room itself can see: steps of the schema that do not exist yet, a bound that is far away.

#![expect(clippy::expect_used, reason = "helpers of tests: they stop at the first surprise")]

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::{ConnectOptions as _, Executor as _, Row as _, SqliteConnection};
use tempfile::TempDir;

use super::migrations::{MIGRATIONS, migrate, schema};
use super::open::{MOST_OCTETS, weight};
use super::{Config, Key, Resource, State, Store, StoreError};
use crate::secret::Secret;

const FIRST: &str = "CREATE TABLE a (x INTEGER); CREATE TABLE b (x INTEGER)";
const SECOND: &str = "ALTER TABLE a ADD COLUMN y INTEGER; INSERT INTO b VALUES (1)";
const BROKEN: &str = "INSERT INTO b VALUES (2); CREATE TABLE a (x INTEGER)";

struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("records.db")
    }

    async fn connection(&self) -> SqliteConnection {
        sqlx::sqlite::SqliteConnectOptions::new().filename(self.file()).create_if_missing(true).connect().await.expect("a database")
    }

    async fn store(&self) -> Store {
        let key = Key::parse(&Secret::from("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")).expect("a key");
        Store::open(&Config { file: self.file(), key, old_keys: Vec::new() }).await.expect("a store")
    }
}

async fn number(connection: &mut SqliteConnection, query: &'static str) -> i64 {
    connection.fetch_one(query).await.expect("a row").try_get(0).expect("a number")
}

fn album(number: usize) -> Resource {
    Resource {
        authorization_server: "https://id.example.org".into(),
        path: Some(format!("/albums/{number}")),
        link: Some(format!("link-{number}")),
        owner: "alice".into(),
        name: format!("album {number}"),
        kind: None,
        icon_uri: None,
        scopes: vec!["view".into()],
        upstream: "http://127.0.0.1:9101".into(),
        credential: None,
    }
}

#[tokio::test]
async fn each_step_of_the_schema_is_made_once() {
    let world = World::new();
    let mut connection = world.connection().await;
    migrate(&mut connection, 0, &[FIRST]).await.expect("one step");
    assert_eq!(schema(&mut connection, &world.file(), 2).await.expect("ours"), 1);
    migrate(&mut connection, 1, &[FIRST, SECOND]).await.expect("the next one");
    assert_eq!(schema(&mut connection, &world.file(), 2).await.expect("ours"), 2);
    migrate(&mut connection, 2, &[FIRST, SECOND]).await.expect("nothing to do");
    assert_eq!(number(&mut connection, "SELECT count(*) FROM b").await, 1);
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing_behind() {
    let world = World::new();
    let mut connection = world.connection().await;
    migrate(&mut connection, 0, &[FIRST, BROKEN]).await.expect_err("the second step cannot be made");
    assert_eq!(schema(&mut connection, &world.file(), 2).await.expect("ours"), 1);
    assert_eq!(number(&mut connection, "SELECT count(*) FROM b").await, 0);
    migrate(&mut connection, 1, &[FIRST, SECOND]).await.expect("the mended step");
    assert_eq!(number(&mut connection, "SELECT count(*) FROM b").await, 1);
}

#[tokio::test]
async fn the_schema_that_was_released_stays_as_it_is() {
    use aws_lc_rs::digest::{SHA256, digest};
    let digests: Vec<String> =
        MIGRATIONS.iter().map(|step| digest(&SHA256, step.as_bytes()).as_ref().iter().take(4).map(|octet| format!("{octet:02x}")).collect()).collect();
    assert_eq!(digests, ["f188bf66", "f3e366ef", "2fafdfa0"], "a step that files have made is not changed: add another one");
}

#[tokio::test]
async fn records_that_have_one_resource_between_them_are_closed() {
    let world = World::new();
    let mut options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.file()).create_if_missing(true);
    options = options.journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    let mut connection = options.connect().await.expect("a database");
    migrate(&mut connection, 0, MIGRATIONS.split_at(2).0).await.expect("as it was");
    let rows = "INSERT INTO resource (state, authorization_server, path, resource_id, owner, name, scopes, upstream) VALUES
        ('registered', 'https://id.example.org', '/alice', 'x', 'alice', 'Vacation', '[]', 'content'),
        ('registered', 'https://id.example.org', '/bob', 'x', 'bob', 'Vacation', '[]', 'content'),
        ('registered', 'https://id.example.org', '/carol', 'y', 'carol', 'Vacation', '[]', 'content'),
        ('unwanted', 'https://other.example.org', '/alice', 'x', 'alice', 'Vacation', '[]', 'content')";
    connection.execute(rows).await.expect("rows");
    sqlx::Connection::close(connection).await.expect("closed");
    #[cfg(unix)]
    std::fs::set_permissions(world.file(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");

    let store = world.store().await;

    let there = |path: &str| store.view().by_path("https://id.example.org", path).map(|known| known.resource_id.to_string());
    assert_eq!((there("/alice"), there("/bob"), there("/carol").as_deref()), (None, None, Some("y")));
    let states: Vec<State> = store.unsettled(None, 9).await.expect("read").into_iter().map(|record| record.state).collect();
    assert_eq!(states, [State::Wanted, State::Wanted, State::Unwanted { resource_id: Some("x".into()) }]);
}

#[tokio::test]
async fn records_do_not_take_more_memory_than_they_may() {
    let world = World::new();
    let store = world.store().await;
    store.inner.database.lock().await.octets = MOST_OCTETS - weight(&album(1));
    let last = store.want(&album(1)).await.expect("there is room for one");
    assert!(matches!(store.want(&album(2)).await, Err(StoreError::Full)));
    store.unwant(last).await.expect("unwanted");
    store.remove(last).await.expect("removed");
    store.want(&album(2)).await.expect("there is room again");
}

#[tokio::test]
async fn a_start_counts_what_is_there() {
    let world = World::new();
    let store = world.store().await;
    for number in 0..3 {
        let key = store.want(&album(number)).await.expect("wanted");
        if number > 0 {
            store.registered(key, &format!("id-{number}"), None).await.expect("registered");
        }
    }
    let octets = store.inner.database.lock().await.octets;
    store.close().await.expect("closed");
    let store = world.store().await;
    assert_eq!(store.inner.database.lock().await.octets, octets);
    assert_eq!(octets, 3 * weight(&album(0)));
    assert_eq!(store.view().paths(), 2);
    let view = store.view();
    let (one, two) = (view.by_path("https://id.example.org", "/albums/1").expect("one"), view.by_link("link-2").expect("two"));
    assert!(Arc::ptr_eq(&one.scopes, &two.scopes), "what records have in common is held once");
}

#[tokio::test]
async fn a_resource_that_is_said_twice_is_found_once() {
    let world = World::new();
    let store = world.store().await;
    let key = store.want(&album(1)).await.expect("wanted");
    for _ in 0..2 {
        store.registered(key, "id-1", None).await.expect("registered");
        assert_eq!(store.view().paths(), 1);
    }
    assert!(matches!(store.registered(key, "id-2", None).await, Err(StoreError::Absent)), "another id is another resource");
    store.unwant(key).await.expect("unwanted");
    assert_eq!(store.view().paths(), 0);
}
