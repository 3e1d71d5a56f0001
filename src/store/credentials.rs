//! Credentials in the database: tokens go in and come out encrypted.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::crypto::{KeyRing, Place};
use super::database::begin;
use super::error::StoreError;
use super::records::{Credential, CredentialKey};
use crate::secret::Secret;

const TABLE: &str = "credential";
/// Credentials that are encrypted anew in one transaction.
const BATCH: i64 = 256;

/// Refuses a file that needs a key which is not there.
pub(super) async fn check_keys(connection: &mut SqliteConnection, keys: &KeyRing, file: &Path) -> Result<(), StoreError> {
    let needed = sqlx::query("SELECT key_id, count(*) FROM credential GROUP BY key_id ORDER BY key_id").fetch_all(connection).await?;
    for row in needed {
        let (id, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        if !keys.has(&id) {
            return Err(StoreError::MissingKey { path: file.to_owned(), id, count, given: keys.given() });
        }
    }
    Ok(())
}

/// Encrypts with the current key what an old one had encrypted; how many. A process that dies in between goes on at its next start.
pub(super) async fn rotate(connection: &mut SqliteConnection, keys: &KeyRing) -> Result<u64, StoreError> {
    let mut renewed = 0;
    loop {
        let mut transaction = begin(connection).await?;
        let query = sqlx::query("SELECT record, authorization_server, owner, key_id, access_token, refresh_token FROM credential WHERE key_id <> ? LIMIT ?");
        let rows = query.bind(keys.current()).bind(BATCH).fetch_all(&mut *transaction).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let record: i64 = row.try_get(0)?;
            let (server, owner): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            let (access, refresh) = opened(&row, keys, &server, &owner)?;
            let (access, refresh) = sealed(keys, &server, &owner, (&access, refresh.as_ref()))?;
            let update = sqlx::query("UPDATE credential SET key_id = ?, access_token = ?, refresh_token = ? WHERE record = ?");
            update.bind(keys.current()).bind(access).bind(refresh).bind(record).execute(&mut *transaction).await?;
            renewed += 1;
        }
        transaction.commit().await?;
    }
    if renewed > 0 {
        // What the old key can read leaves the log as well.
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await?;
    }
    Ok(renewed)
}

pub(super) async fn put(connection: &mut SqliteConnection, keys: &KeyRing, credential: &Credential) -> Result<CredentialKey, StoreError> {
    let Credential { authorization_server: server, owner, access_token, refresh_token, expires_at, scope, grantee } = credential;
    let (access, refresh) = sealed(keys, server, owner, (access_token, refresh_token.as_ref()))?;
    // Not with RETURNING: the driver hands a row out before the statement has come to its end, and the disk may not have it then.
    let mut transaction = begin(connection).await?;
    let insert = sqlx::query(
        "INSERT INTO credential (authorization_server, owner, key_id, access_token, refresh_token, expires_at, scope, grantee)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (authorization_server, owner) DO UPDATE SET key_id = excluded.key_id, access_token = excluded.access_token,
         refresh_token = excluded.refresh_token, expires_at = excluded.expires_at, scope = excluded.scope, grantee = excluded.grantee",
    );
    let insert = insert.bind(server).bind(owner).bind(keys.current()).bind(access).bind(refresh);
    insert.bind(expires_at.map(seconds)).bind(scope).bind(grantee).execute(&mut *transaction).await?;
    let select = sqlx::query("SELECT record FROM credential WHERE authorization_server = ? AND owner = ?");
    let record: i64 = select.bind(server).bind(owner).fetch_one(&mut *transaction).await?.try_get(0)?;
    let update = sqlx::query("UPDATE resource SET credential = ? WHERE authorization_server = ? AND owner = ? AND credential IS NULL");
    update.bind(record).bind(server).bind(owner).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(CredentialKey(record))
}

pub(super) async fn of(connection: &mut SqliteConnection, keys: &KeyRing, server: &str, owner: &str) -> Result<Option<Credential>, StoreError> {
    let query =
        sqlx::query("SELECT key_id, access_token, refresh_token, expires_at, scope, grantee FROM credential WHERE authorization_server = ? AND owner = ?");
    let Some(row) = query.bind(server).bind(owner).fetch_optional(connection).await? else { return Ok(None) };
    let (access_token, refresh_token) = opened(&row, keys, server, owner)?;
    let expires_at = row.try_get::<Option<i64>, _>("expires_at")?.map(time);
    let (authorization_server, owner) = (server.to_owned(), owner.to_owned());
    let (scope, grantee) = (row.try_get("scope")?, row.try_get("grantee")?);
    Ok(Some(Credential { authorization_server, owner, access_token, refresh_token, expires_at, scope, grantee }))
}

pub(super) async fn forget(connection: &mut SqliteConnection, server: &str, owner: &str) -> Result<bool, StoreError> {
    let delete = sqlx::query("DELETE FROM credential WHERE authorization_server = ? AND owner = ?");
    let mut transaction = begin(connection).await?;
    let deleted = delete.bind(server).bind(owner).execute(&mut *transaction).await?.rows_affected();
    transaction.commit().await?;
    Ok(deleted > 0)
}

type Tokens<'a> = (&'a Secret, Option<&'a Secret>);

fn sealed(keys: &KeyRing, server: &str, owner: &str, (access, refresh): Tokens<'_>) -> Result<(Vec<u8>, Option<Vec<u8>>), StoreError> {
    let place = |column| Place { table: TABLE, column, authorization_server: server, owner };
    let refresh = refresh.map(|token| keys.seal(place("refresh_token"), token)).transpose()?;
    Ok((keys.seal(place("access_token"), access)?, refresh))
}

fn opened(row: &SqliteRow, keys: &KeyRing, server: &str, owner: &str) -> Result<(Secret, Option<Secret>), StoreError> {
    let id: &str = row.try_get("key_id")?;
    let open = |column, sealed: &[u8]| keys.open(id, Place { table: TABLE, column, authorization_server: server, owner }, sealed);
    let refresh: Option<&[u8]> = row.try_get("refresh_token")?;
    let refresh = refresh.map(|sealed| open("refresh_token", sealed)).transpose()?;
    Ok((open("access_token", row.try_get("access_token")?)?, refresh))
}

/// Seconds since 1970; what is before counts as long past.
fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).unwrap_or(UNIX_EPOCH)
}
