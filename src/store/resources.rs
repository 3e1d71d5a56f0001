//! Resource records in the database.

use futures_util::TryStreamExt as _;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::counting::Counting;
use super::database::begin;
use super::error::StoreError;
use super::lookup::{Registered, ResourceKey};
use super::open::weight;
use super::records::{CredentialKey, Resource, ResourceRecord, State};
use super::template::{MOST_TEMPLATES, MOST_TEMPLATES_OF_ALL, folder};
use super::view::{Filling, View};

/// The one record that is looked for.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    Key(ResourceKey),
    /// Authorization server and path.
    Path(&'a str, &'a str),
    Link(&'a str),
    /// Authorization server, owner and name.
    Name(&'a str, &'a str, &'a str),
}

/// Fills a view with all that is registered; what all records weigh, and how many are in which state.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<(View, u64, Counting), StoreError> {
    let (mut view, mut octets, counting) = (Filling::new(), 0_u64, Counting::default());
    let mut rows = sqlx::query("SELECT * FROM resource").fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let record = record(&row)?;
        octets = octets.saturating_add(weight(&record.resource));
        counting.more(&record.state);
        if let Some(known) = Registered::of(record) {
            view.add(known);
        }
    }
    Ok((view.finish(), octets, counting))
}

/// Unless the owner has `most` records there already, or the folder as many templates as one may have, of this owner or of all.
pub(super) async fn insert(connection: &mut SqliteConnection, resource: &Resource, most: Option<u64>) -> Result<ResourceKey, StoreError> {
    let Resource { authorization_server, path, link, owner, name, kind, icon_uri, scopes, upstream, credential } = resource;
    let scopes = serde_json::to_string(scopes).map_err(|_| StoreError::Unfit("scopes"))?;
    let insert = sqlx::query(
        "INSERT INTO resource (state, authorization_server, path, link, owner, name, type, icon_uri, scopes, upstream, credential)
         VALUES ('wanted', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
                 coalesce(?10, (SELECT record FROM credential WHERE authorization_server = ?1 AND owner = ?4)))",
    );
    let insert = insert.bind(authorization_server).bind(path).bind(link).bind(owner).bind(name).bind(kind).bind(icon_uri);
    let inserted = insert.bind(scopes).bind(upstream).bind(credential.map(|key| key.0));
    let mut transaction = begin(connection).await?;
    if let Some(most) = most
        && count(&mut transaction, authorization_server, owner).await? >= most
    {
        return Err(StoreError::TooMany);
    }
    if let Some(folder) = path.as_deref().and_then(folder) {
        let (of_owner, of_all) = templates(&mut transaction, authorization_server, folder, owner).await?;
        if of_owner >= MOST_TEMPLATES || of_all >= MOST_TEMPLATES_OF_ALL {
            return Err(StoreError::TooManyTemplates { of_owner: of_owner >= MOST_TEMPLATES });
        }
    }
    let inserted = inserted.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(ResourceKey(inserted.last_insert_rowid()))
}

/// The record, and the state that it was in before.
pub(super) async fn registered(
    connection: &mut SqliteConnection,
    key: ResourceKey,
    id: &str,
    policy: Option<&str>,
) -> Result<(ResourceRecord, State), StoreError> {
    let mut transaction = begin(connection).await?;
    let before = one(&mut transaction, Found::Key(key)).await?.ok_or(StoreError::Absent)?.state;
    let update = sqlx::query(
        "UPDATE resource SET state = 'registered', resource_id = ?1, user_access_policy_uri = ?2
         WHERE record = ?3 AND (state = 'wanted' OR state = 'registered' AND resource_id = ?1)",
    );
    if update.bind(id).bind(policy).bind(key.0).execute(&mut *transaction).await?.rows_affected() == 0 {
        return Err(StoreError::Absent);
    }
    let record = one(&mut transaction, Found::Key(key)).await?.ok_or(StoreError::Absent)?;
    transaction.commit().await?;
    Ok((record, before))
}

/// The path is free for another record, if this one is found by its link.
pub(super) async fn unwant(connection: &mut SqliteConnection, key: ResourceKey) -> Result<(), StoreError> {
    let mut transaction = begin(connection).await?;
    let update = sqlx::query("UPDATE resource SET state = 'unwanted', path = CASE WHEN link IS NULL THEN path END WHERE record = ?");
    update.bind(key.0).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn remove(connection: &mut SqliteConnection, key: ResourceKey) -> Result<ResourceRecord, StoreError> {
    let mut transaction = begin(connection).await?;
    let record = one(&mut transaction, Found::Key(key)).await?.ok_or(StoreError::Absent)?;
    if matches!(record.state, State::Registered { .. }) {
        return Err(StoreError::Absent);
    }
    sqlx::query("DELETE FROM resource WHERE record = ?").bind(key.0).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(record)
}

pub(super) async fn one(connection: &mut SqliteConnection, found: Found<'_>) -> Result<Option<ResourceRecord>, StoreError> {
    let query = match found {
        Found::Key(key) => sqlx::query("SELECT * FROM resource WHERE record = ?").bind(key.0),
        Found::Path(server, path) => sqlx::query("SELECT * FROM resource WHERE authorization_server = ? AND path = ?").bind(server).bind(path),
        Found::Link(link) => sqlx::query("SELECT * FROM resource WHERE link = ?").bind(link),
        Found::Name(server, owner, name) => {
            let query = sqlx::query("SELECT * FROM resource WHERE authorization_server = ? AND owner = ? AND name = ? ORDER BY record LIMIT 1");
            query.bind(server).bind(owner).bind(name)
        }
    };
    query.fetch_optional(connection).await?.map(|row| record(&row)).transpose()
}

pub(super) async fn of_owner(
    connection: &mut SqliteConnection,
    (server, owner): (&str, &str),
    after: Option<ResourceKey>,
    most: u32,
) -> Result<Vec<ResourceRecord>, StoreError> {
    let query = sqlx::query("SELECT * FROM resource WHERE authorization_server = ? AND owner = ? AND record > ? ORDER BY record LIMIT ?");
    let rows = query.bind(server).bind(owner).bind(after.map_or(0, |key| key.0)).bind(most).fetch_all(connection).await?;
    rows.iter().map(record).collect()
}

pub(super) async fn count(connection: &mut SqliteConnection, server: &str, owner: &str) -> Result<u64, StoreError> {
    let query = sqlx::query("SELECT count(*) FROM resource WHERE authorization_server = ? AND owner = ?");
    let count: i64 = query.bind(server).bind(owner).fetch_one(connection).await?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// How many templates name this folder and no more before what stands for any, of this owner and of all.
async fn templates(connection: &mut SqliteConnection, server: &str, folder: &str, owner: &str) -> Result<(i64, i64), StoreError> {
    // `0` follows `/`: the index on paths has them side by side.
    let query = sqlx::query(
        "SELECT count(*) FILTER (WHERE owner = ?3), count(*) FROM resource
         WHERE authorization_server = ?1 AND (path = ?2 || '/*' OR path > ?2 || '/*/' AND path < ?2 || '/*0')",
    );
    let row = query.bind(server).bind(folder).bind(owner).fetch_one(connection).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Whether a record, but this one, has that id at that authorization server.
pub(super) async fn others(connection: &mut SqliteConnection, server: &str, key: Option<ResourceKey>, id: &str) -> Result<bool, StoreError> {
    let query = sqlx::query("SELECT EXISTS (SELECT 1 FROM resource WHERE authorization_server = ? AND resource_id = ? AND record IS NOT ?)");
    Ok(query.bind(server).bind(id).bind(key.map(|key| key.0)).fetch_one(connection).await?.try_get(0)?)
}

/// Whether a record of that name, of this owner or of any, has no id yet.
pub(super) async fn pending(connection: &mut SqliteConnection, server: &str, owner: Option<&str>, name: &str) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM resource WHERE authorization_server = ?1 AND name = ?2 AND resource_id IS NULL AND (?3 IS NULL OR owner = ?3))",
    );
    Ok(query.bind(server).bind(name).bind(owner).fetch_one(connection).await?.try_get(0)?)
}

/// Those that have no id yet come first.
pub(super) async fn namesakes(connection: &mut SqliteConnection, server: &str, name: &str, most: u32) -> Result<Vec<ResourceRecord>, StoreError> {
    let query = sqlx::query("SELECT * FROM resource WHERE authorization_server = ? AND name = ? ORDER BY resource_id IS NOT NULL, record LIMIT ?");
    let rows = query.bind(server).bind(name).bind(most).fetch_all(connection).await?;
    rows.iter().map(record).collect()
}

/// Another name and other scopes for a registered resource: how it was, and how it is.
pub(super) async fn describe(
    connection: &mut SqliteConnection,
    key: ResourceKey,
    name: &str,
    scopes: &[String],
) -> Result<(ResourceRecord, ResourceRecord), StoreError> {
    let all = serde_json::to_string(scopes).map_err(|_| StoreError::Unfit("scopes"))?;
    let mut transaction = begin(connection).await?;
    let before = one(&mut transaction, Found::Key(key)).await?.ok_or(StoreError::Absent)?;
    let update = sqlx::query("UPDATE resource SET name = ?, scopes = ? WHERE record = ? AND state = 'registered'");
    if update.bind(name).bind(all).bind(key.0).execute(&mut *transaction).await?.rows_affected() == 0 {
        return Err(StoreError::Absent);
    }
    let after = one(&mut transaction, Found::Key(key)).await?.ok_or(StoreError::Absent)?;
    transaction.commit().await?;
    Ok((before, after))
}

pub(super) async fn unsettled(connection: &mut SqliteConnection, after: Option<ResourceKey>, most: u32) -> Result<Vec<ResourceRecord>, StoreError> {
    let query = sqlx::query("SELECT * FROM resource WHERE state <> 'registered' AND record > ? ORDER BY record LIMIT ?");
    let rows = query.bind(after.map_or(0, |key| key.0)).bind(most).fetch_all(connection).await?;
    rows.iter().map(record).collect()
}

fn record(row: &SqliteRow) -> Result<ResourceRecord, StoreError> {
    let damaged = StoreError::Damaged { what: "record of a resource" };
    let resource_id: Option<String> = row.try_get("resource_id")?;
    let state = match (row.try_get("state")?, resource_id) {
        ("wanted", _) => State::Wanted,
        ("registered", Some(resource_id)) => State::Registered { resource_id, policy_uri: row.try_get("user_access_policy_uri")? },
        ("unwanted", resource_id) => State::Unwanted { resource_id },
        _ => return Err(damaged),
    };
    let Ok(scopes) = serde_json::from_str(row.try_get("scopes")?) else { return Err(damaged) };
    let resource = Resource {
        authorization_server: row.try_get("authorization_server")?,
        path: row.try_get("path")?,
        link: row.try_get("link")?,
        owner: row.try_get("owner")?,
        name: row.try_get("name")?,
        kind: row.try_get("type")?,
        icon_uri: row.try_get("icon_uri")?,
        scopes,
        upstream: row.try_get("upstream")?,
        credential: row.try_get::<Option<i64>, _>("credential")?.map(CredentialKey),
    };
    Ok(ResourceRecord { key: ResourceKey(row.try_get("record")?), resource, state })
}
