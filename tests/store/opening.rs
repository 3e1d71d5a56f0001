//! Which files are opened, and what is said of the others.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sqlx::{Connection as _, Executor as _};
use uma_gateway::store::{Store, StoreError};

use crate::{World, album, config};

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[tokio::test]
async fn the_file_and_its_log_are_for_the_gateway_alone() {
    let world = World::new();
    let store = world.store().await;
    store.want(&album(1)).await.expect("wanted");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(world.folder.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().expect("a name").to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["records.db", "records.db-wal"]);
}

#[tokio::test]
async fn a_file_that_everybody_may_read_or_write_is_refused() {
    let world = World::new();
    world.store().await.close().await.expect("closed");
    for open in [0o604, 0o602, 0o644] {
        chmod(&world.file(), open);
        let error = world.refused().await;
        assert!(matches!(error, StoreError::OpenFile { .. }), "{open:o}: {error}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", world.file().display())), "{error}");
    }
    // A group is how a mounted volume is given to a process.
    chmod(&world.file(), 0o660);
    world.store().await;
}

#[tokio::test]
async fn a_folder_where_everybody_may_put_another_file_is_refused() {
    let world = World::new();
    chmod(world.folder.path(), 0o777);
    assert!(matches!(world.refused().await, StoreError::OpenFolder { .. }));
    assert!(!world.file().exists(), "nothing was made there");
    // As /tmp: others may add, and not replace.
    chmod(world.folder.path(), 0o1777);
    world.store().await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let world = World::new();
    let file = world.folder.path().join("nowhere/records.db");
    let error = Store::open(&config(&file)).await.expect_err("there is no such folder");
    assert!(error.to_string().starts_with(&format!("{} cannot be used", world.folder.path().join("nowhere").display())), "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused_and_left_as_it_is() {
    let world = World::new();
    let store = world.store().await;
    store.want(&album(1)).await.expect("wanted");
    store.close().await.expect("closed");
    let mut database = world.database().await;
    database.execute("PRAGMA user_version = 7").await.expect("a later schema");
    database.close().await.expect("closed");
    let before = world.octets();

    let error = world.refused().await.to_string();

    let file = world.file();
    let wanted = format!("{} was written by a newer uma-gateway (schema 7, this one knows up to 3); start that one again, or restore the copy", file.display());
    assert!(error.starts_with(&wanted), "{error}");
    assert_eq!(world.octets(), before);
}

#[tokio::test]
async fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let foreign = [
        "CREATE TABLE orders (id INTEGER)",
        "PRAGMA application_id = 7",
        // Its own count of schemas.
        "PRAGMA user_version = 1",
    ];
    for statement in foreign {
        let world = World::new();
        let mut database = world.database().await;
        database.execute(statement).await.expect("a statement");
        database.close().await.expect("closed");
        chmod(&world.file(), 0o600);
        let before = world.octets();
        assert!(matches!(world.refused().await, StoreError::NotOurs { .. }), "{statement}");
        assert_eq!(world.octets(), before, "{statement}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let world = World::new();
    let text = "version: 1\n".repeat(1000);
    std::fs::write(world.file(), &text).expect("a file");
    chmod(&world.file(), 0o600);
    let error = world.refused().await;
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error:?}");
    assert_eq!(world.octets(), text.as_bytes());
}

#[tokio::test]
async fn a_second_store_does_not_open_the_file() {
    let world = World::new();
    let store = world.store().await;
    let error = world.refused().await;
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    store.want(&album(1)).await.expect("the first one goes on");
    store.close().await.expect("closed");
    let second = world.store().await;
    assert!(second.resource_of_link("link-1").await.expect("read").is_some());
    assert!(matches!(store.want(&album(2)).await, Err(StoreError::Closed)));
}
