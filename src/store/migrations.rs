//! The schema, step by step.
//!
//! A step that was released is never changed; a new one follows. Each runs in a transaction of its own, with the number of the schema (`user_version`), so a
//! process that dies has made a step or has not. A step keeps no copy of what was there: whoever wants to go back copies the file before the newer binary
//! starts.

use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use super::error::StoreError;

/// The files of this program (`application_id`): "UMAG".
const APPLICATION: i64 = 0x554d_4147;

/// The n-th one leads to schema n.
pub(super) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE credential (
    record INTEGER PRIMARY KEY AUTOINCREMENT,
    authorization_server TEXT NOT NULL,
    owner TEXT NOT NULL,
    key_id TEXT NOT NULL,
    access_token BLOB NOT NULL,
    refresh_token BLOB,
    expires_at INTEGER,
    scope TEXT NOT NULL,
    UNIQUE (authorization_server, owner)
) STRICT;
CREATE INDEX credential_key ON credential (key_id);
CREATE TABLE resource (
    record INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL CHECK (state IN ('wanted', 'registered', 'unwanted')),
    authorization_server TEXT NOT NULL,
    path TEXT,
    link TEXT UNIQUE,
    resource_id TEXT,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT,
    icon_uri TEXT,
    scopes TEXT NOT NULL,
    user_access_policy_uri TEXT,
    upstream TEXT NOT NULL,
    credential INTEGER REFERENCES credential (record) ON DELETE SET NULL,
    UNIQUE (authorization_server, path),
    CHECK (path IS NOT NULL OR link IS NOT NULL),
    CHECK (state <> 'registered' OR resource_id IS NOT NULL)
) STRICT;
CREATE INDEX resource_owner ON resource (authorization_server, owner, record);
CREATE INDEX resource_unsettled ON resource (record) WHERE state <> 'registered';
CREATE INDEX resource_credential ON resource (credential);
",
    "
ALTER TABLE credential ADD COLUMN grantee TEXT NOT NULL DEFAULT '';
",
    // Records that had one resource between them: whose it is nobody knows here, so all of them are closed, and registered anew if the server can tell.
    "
UPDATE resource SET state = CASE state WHEN 'registered' THEN 'wanted' ELSE state END, resource_id = NULL, user_access_policy_uri = NULL
WHERE resource_id IS NOT NULL AND (authorization_server, resource_id) IN
    (SELECT authorization_server, resource_id FROM resource WHERE resource_id IS NOT NULL GROUP BY authorization_server, resource_id HAVING count(*) > 1);
CREATE UNIQUE INDEX resource_id ON resource (authorization_server, resource_id);
CREATE INDEX resource_name ON resource (authorization_server, name);
",
];

/// The schema of the file that is open. An empty file has none.
///
/// # Errors
/// The file was written by something else, or by a newer release. It was not changed.
pub(super) async fn schema(connection: &mut SqliteConnection, file: &Path, known: usize) -> Result<usize, StoreError> {
    let application: i64 = number(connection, "PRAGMA application_id").await?;
    let found: i64 = number(connection, "PRAGMA user_version").await?;
    let tables: i64 = number(connection, "SELECT count(*) FROM sqlite_schema").await?;
    let empty = application == 0 && found == 0 && tables == 0;
    let schema = usize::try_from(found).ok().filter(|_| application == APPLICATION || empty);
    let Some(schema) = schema else { return Err(StoreError::NotOurs { path: file.to_owned() }) };
    if schema > known {
        return Err(StoreError::Newer { path: file.to_owned(), found, known: i64::try_from(known).unwrap_or(i64::MAX) });
    }
    Ok(schema)
}

/// Makes the steps from this schema on.
///
/// # Errors
/// A step failed; those before it stay.
pub(super) async fn migrate(connection: &mut SqliteConnection, schema: usize, migrations: &'static [&'static str]) -> Result<(), StoreError> {
    for (place, step) in migrations.iter().copied().enumerate().skip(schema) {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(step).execute(&mut *transaction).await?;
        let numbers = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {}", place + 1);
        sqlx::raw_sql(AssertSqlSafe(numbers)).execute(&mut *transaction).await?;
        transaction.commit().await?;
        tracing::info!(schema = place + 1, "the records have a new schema");
    }
    Ok(())
}

async fn number(connection: &mut SqliteConnection, query: &'static str) -> Result<i64, StoreError> {
    Ok(sqlx::query(query).fetch_one(connection).await?.try_get(0)?)
}
