//! The records: what was kept is there after a restart, whole and unreadable to others.
#![cfg(feature = "store")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod api;
mod ask;
mod created;
mod credentials;
mod gateway;
mod keys;
mod killed;
mod kills;
mod link;
mod million;
mod opening;
mod owner;
mod pats;
#[path = "../support/port.rs"]
mod port;
mod resources;

use std::path::{Path, PathBuf};

use sqlx::{ConnectOptions as _, SqliteConnection};
use tempfile::TempDir;
use uma_gateway::secret::Secret;
use uma_gateway::store::{Config, Credential, Key, Resource, Store, StoreError};

/// The authorization server of all records.
const SERVER: &str = "https://id.example.org/realms/photoz";

/// A folder with one database.
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

    fn config(&self) -> Config {
        config(&self.file())
    }

    async fn store(&self) -> Store {
        Store::open(&self.config()).await.expect("a store")
    }

    async fn refused(&self) -> StoreError {
        Store::open(&self.config()).await.expect_err("this file is refused")
    }

    /// The database without the store.
    async fn database(&self) -> SqliteConnection {
        sqlx::sqlite::SqliteConnectOptions::new().filename(self.file()).create_if_missing(true).connect().await.expect("a database")
    }

    /// Every octet that the store has on the disk.
    fn octets(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        files.flat_map(|file| std::fs::read(file).expect("a file")).collect()
    }
}

/// A key of its own for each digit.
fn key(digit: char) -> Key {
    Key::parse(&Secret::from(format!("1{}", digit.to_string().repeat(63))).from_origin(&format!("the secret file key-{digit}"))).expect("a key")
}

fn config(file: &Path) -> Config {
    Config { file: file.to_owned(), key: key('a'), old_keys: Vec::new() }
}

fn album(number: usize) -> Resource {
    Resource {
        authorization_server: SERVER.into(),
        path: Some(format!("/albums/{number}")),
        link: Some(format!("link-{number}")),
        owner: format!("owner-{number}"),
        name: format!("album {number}"),
        kind: Some("urn:photoz:album".into()),
        icon_uri: Some("https://photos.example.org/album.png".into()),
        scopes: vec!["view".into(), format!("edit {number}")],
        upstream: format!("http://127.0.0.1:9101/{number}"),
        credential: None,
    }
}

fn credential(number: usize) -> Credential {
    Credential {
        authorization_server: SERVER.into(),
        owner: format!("owner-{number}"),
        access_token: Secret::from(format!("access-token-{number}")),
        refresh_token: Some(Secret::from(format!("refresh-token-{number}"))),
        expires_at: Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000)),
        scope: "uma_protection".into(),
        grantee: format!("content-gateway for owner-{number}"),
    }
}

/// Whether two credentials say the same.
fn same(one: &Credential, other: &Credential) -> bool {
    let tokens =
        |credential: &Credential| (credential.access_token.expose().to_owned(), credential.refresh_token.as_ref().map(|token| token.expose().to_owned()));
    let rest = |credential: &Credential| {
        (credential.authorization_server.clone(), credential.owner.clone(), credential.expires_at, credential.scope.clone(), credential.grantee.clone())
    };
    tokens(one) == tokens(other) && rest(one) == rest(other)
}

/// Whether the octets stand somewhere in the others.
fn holds(octets: &[u8], wanted: &[u8]) -> bool {
    aho_corasick::AhoCorasick::new([wanted]).expect("a pattern").is_match(octets)
}
