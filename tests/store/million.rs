//! What a request pays for many records. Prints figures; a loaded machine proves nothing, so only what is found is asserted.

use std::hint::black_box;
use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::{SERVER, World};

async fn figures(records: usize) {
    let world = World::new();
    world.store().await.close().await.expect("closed");
    let mut database = world.database().await;
    let fill = format!(
        "WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {records})
         INSERT INTO resource (state, authorization_server, path, resource_id, owner, name, scopes, upstream)
         SELECT 'registered', '{SERVER}', '/users/user-' || (n / 100) || '/albums/album-' || n, 'a1b0c2d3-0000-4000-8000-' || n, 'user-' || (n / 100),
         'album ' || n, '[\"view\",\"edit\"]', 'http://content.internal:9101/users/user-' || (n / 100) || '/albums/album-' || n FROM number"
    );
    database.execute(AssertSqlSafe(fill)).await.expect("filled");
    database.close().await.expect("closed");

    let began = Instant::now();
    let store = world.store().await;
    let opened = began.elapsed();

    let view = store.view();
    let paths: Vec<String> = (0..100_000).map(|place| place * 7919 % records).map(|n| format!("/users/user-{}/albums/album-{n}", n / 100)).collect();
    let look = |paths: &[String]| {
        let began = Instant::now();
        let found = paths.iter().filter(|path| black_box(view.by_path(SERVER, path)).is_some()).count();
        (found, began.elapsed().as_nanos() / paths.len() as u128)
    };
    let (found, _) = look(&paths);
    assert_eq!(found, paths.len());
    let best = (0..5).map(|_| look(&paths).1).min().expect("five");
    let hot: Vec<String> = paths.iter().take(10).cycle().take(100_000).cloned().collect();
    let best_hot = (0..5).map(|_| look(&hot).1).min().expect("five");
    assert!(view.by_path(SERVER, &format!("/users/user-0/albums/album-{records}")).is_none());
    let file = std::fs::metadata(world.file()).expect("a file").len() / 1024;
    println!("{records} records: {best} ns to find any, {best_hot} ns one of ten; opened in {opened:?}; {file} KiB on the disk");
}

#[tokio::test]
async fn ten_records_are_found() {
    figures(10).await;
}

#[tokio::test]
#[ignore = "takes half a gigabyte: just deep"]
async fn a_million_records_are_found() {
    figures(1_000_000).await;
}
