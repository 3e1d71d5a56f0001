//! The store itself: opened once, used by whoever runs on the control thread.

use std::sync::Arc;

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use super::config::Config;
use super::counting::{Counting, Counts};
use super::crypto::KeyRing;
use super::error::StoreError;
use super::lookup::{Registered, ResourceKey};
use super::records::{Credential, CredentialKey, Resource, ResourceRecord, State, fits};
use super::resources::Found;
use super::view::View;
use super::{credentials, database, migrations, resources};

/// Octets that all records together may have in memory, as [`weight`] counts them: a million of ordinary length fit.
pub(super) const MOST_OCTETS: u64 = 1 << 30;
/// What a record takes besides its texts.
const RECORD: u64 = 256;
/// Octets of what an authorization server calls a resource.
const LONGEST_ID: usize = 512;

/// The records. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) database: Mutex<Database>,
    keys: KeyRing,
    view: Arc<View>,
    counting: Counting,
}

pub(super) struct Database {
    /// None after the store was closed.
    connection: Option<SqliteConnection>,
    /// What all records weigh.
    pub(super) octets: u64,
}

impl Database {
    fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.connection.as_mut().ok_or(StoreError::Closed)
    }
}

impl Store {
    /// Opens the file, or makes it: brings its schema up to date, encrypts with the current key what an old one had encrypted, and fills the view.
    ///
    /// # Errors
    /// The file cannot be used, is another's, or needs a newer binary or a key that was not given. What it holds was not changed then.
    pub async fn open(config: &Config) -> Result<Self, StoreError> {
        let keys = KeyRing::new(&config.key, &config.old_keys)?;
        let mut connection = database::open(&config.file).await?;
        credentials::check_keys(&mut connection, &keys, &config.file).await?;
        let renewed = credentials::rotate(&mut connection, &keys).await?;
        if renewed > 0 {
            tracing::info!(credentials = renewed, key = keys.current(), "credentials were encrypted with the current key");
        }
        let (view, octets, counting) = resources::load(&mut connection).await?;
        let database = Mutex::new(Database { connection: Some(connection), octets });
        Ok(Self { inner: Arc::new(Inner { database, keys, view: Arc::new(view), counting }) })
    }

    /// What the file has of registered resources, for who only checks a configuration: nothing is changed, and nobody else may have the file open meanwhile.
    /// `None`: there is no file, or it is of an earlier release.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub async fn peek(config: &Config) -> Result<Option<View>, StoreError> {
        let keys = KeyRing::new(&config.key, &config.old_keys)?;
        let Some(mut connection) = database::peek(&config.file).await? else { return Ok(None) };
        credentials::check_keys(&mut connection, &keys, &config.file).await?;
        let (view, ..) = resources::load(&mut connection).await?;
        connection.close().await?;
        Ok(Some(view))
    }

    /// What requests look at. It follows every change.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.inner.view)
    }

    /// How many resource records there are in each state. It follows every change, and nobody waits for it.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.counting.counts()
    }

    /// The number of the schema that the file has.
    #[must_use]
    pub const fn schema() -> usize {
        migrations::MIGRATIONS.len()
    }

    /// Ends the connection, after what was begun. Whatever is asked of the store later fails.
    ///
    /// # Errors
    /// The log could not be brought into the file. Nothing is lost: the next start does it.
    pub async fn close(&self) -> Result<(), StoreError> {
        let connection = self.inner.database.lock().await.connection.take();
        match connection {
            Some(connection) => Ok(connection.close().await?),
            None => Ok(()),
        }
    }

    /// Keeps a credential, in the place of an earlier one of the same owner at the same authorization server.
    ///
    /// # Errors
    /// It is not kept; an earlier one is.
    pub async fn put_credential(&self, credential: &Credential) -> Result<CredentialKey, StoreError> {
        credential.check()?;
        let (inner, credential) = (Arc::clone(&self.inner), credential.clone());
        finish(async move {
            let mut database = inner.database.lock().await;
            credentials::put(database.connection()?, &inner.keys, &credential).await
        })
        .await
    }

    /// The credential of an owner.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub async fn credential(&self, authorization_server: &str, owner: &str) -> Result<Option<Credential>, StoreError> {
        let mut database = self.inner.database.lock().await;
        credentials::of(database.connection()?, &self.inner.keys, authorization_server, owner).await
    }

    /// Forgets the credential of an owner; resource records that name it do so no more. Whether there was one.
    ///
    /// # Errors
    /// It may still be there.
    pub async fn forget_credential(&self, authorization_server: &str, owner: &str) -> Result<bool, StoreError> {
        let (inner, server, owner) = (Arc::clone(&self.inner), authorization_server.to_owned(), owner.to_owned());
        finish(async move { credentials::forget(inner.database.lock().await.connection()?, &server, &owner).await }).await
    }

    /// Writes down that a resource shall be registered. The authorization server is asked afterwards, and [`registered`](Self::registered) says what it calls it.
    ///
    /// # Errors
    /// [`StoreError::Taken`]: a record has the path or the link already. [`StoreError::TooManyTemplates`]: its owner has too many in one folder, or all have. [`StoreError::Full`].
    pub async fn want(&self, resource: &Resource) -> Result<ResourceKey, StoreError> {
        self.insert(resource, None).await
    }

    /// The same, where an owner has `most` records at an authorization server at most.
    ///
    /// # Errors
    /// [`StoreError::TooMany`], besides.
    pub async fn want_one_of(&self, resource: &Resource, most: u64) -> Result<ResourceKey, StoreError> {
        self.insert(resource, Some(most)).await
    }

    async fn insert(&self, resource: &Resource, most: Option<u64>) -> Result<ResourceKey, StoreError> {
        resource.check()?;
        let (inner, resource) = (Arc::clone(&self.inner), resource.clone());
        finish(async move {
            let mut database = inner.database.lock().await;
            let octets = database.octets.saturating_add(weight(&resource));
            if octets > MOST_OCTETS {
                return Err(StoreError::Full);
            }
            let key = resources::insert(database.connection()?, &resource, most).await?;
            database.octets = octets;
            inner.counting.more(&State::Wanted);
            Ok(key)
        })
        .await
    }

    /// Writes down what the authorization server calls a wanted resource. From now on it is in the view. To say the same again is no mistake. The record, as it
    /// is now.
    ///
    /// # Errors
    /// [`StoreError::Absent`]: no such record is wanted. [`StoreError::Taken`]: another record of this authorization server has the id.
    pub async fn registered(&self, key: ResourceKey, resource_id: &str, policy_uri: Option<&str>) -> Result<ResourceRecord, StoreError> {
        let (resource_id, policy_uri) = (resource_id.to_owned(), policy_uri.map(str::to_owned));
        if resource_id.is_empty() || resource_id.len() > LONGEST_ID {
            return Err(StoreError::Unfit("resource id"));
        }
        fits("user_access_policy_uri", policy_uri.as_ref())?;
        let inner = Arc::clone(&self.inner);
        finish(async move {
            let mut database = inner.database.lock().await;
            let (record, before) = resources::registered(database.connection()?, key, &resource_id, policy_uri.as_deref()).await?;
            inner.counting.changed(&before, &record.state);
            if let Some(known) = Registered::of(record.clone()) {
                inner.view.put(&Arc::new(known));
            }
            Ok(record)
        })
        .await
    }

    /// Writes down that a resource shall be deleted at the authorization server. It leaves the view first, and stays out of it whatever the disk says: what an
    /// owner has withdrawn is not let through. The record, with the path that it had.
    ///
    /// # Errors
    /// [`StoreError::Absent`]: there is no such record. Any other: the record may be registered again after a restart.
    pub async fn unwant(&self, key: ResourceKey) -> Result<ResourceRecord, StoreError> {
        let inner = Arc::clone(&self.inner);
        finish(async move {
            let mut database = inner.database.lock().await;
            let connection = database.connection()?;
            let mut record = resources::one(connection, Found::Key(key)).await?.ok_or(StoreError::Absent)?;
            if let Some(known) = Registered::of(record.clone()) {
                inner.view.remove(&known);
            }
            resources::unwant(connection, key).await?;
            let unwanted = State::Unwanted { resource_id: record.state.resource_id().map(str::to_owned) };
            inner.counting.changed(&record.state, &unwanted);
            record.state = unwanted;
            // Who is found by a link leaves the path to others.
            let left = record.resource.path.as_ref().filter(|_| record.resource.link.is_some()).map_or(0, String::len);
            database.octets = database.octets.saturating_sub(left as u64);
            Ok(record)
        })
        .await
    }

    /// Removes a record that the authorization server knows no more, or never knew: one that is unwanted, or wanted.
    ///
    /// # Errors
    /// [`StoreError::Absent`]: there is no such record, or it is registered.
    pub async fn remove(&self, key: ResourceKey) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        finish(async move {
            let mut database = inner.database.lock().await;
            let removed = resources::remove(database.connection()?, key).await?;
            database.octets = database.octets.saturating_sub(weight(&removed.resource));
            inner.counting.less(&removed.state);
            Ok(())
        })
        .await
    }

    /// A record, in whatever state.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn resource(&self, key: ResourceKey) -> Result<Option<ResourceRecord>, StoreError> {
        self.one(Found::Key(key)).await
    }

    /// The record with this canonical path at this authorization server, in whatever state.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn resource_at(&self, authorization_server: &str, path: &str) -> Result<Option<ResourceRecord>, StoreError> {
        self.one(Found::Path(authorization_server, path)).await
    }

    /// The record with this link, in whatever state.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn resource_of_link(&self, link: &str) -> Result<Option<ResourceRecord>, StoreError> {
        self.one(Found::Link(link)).await
    }

    /// The first record of an owner that has this name, in whatever state.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn resource_named(&self, authorization_server: &str, owner: &str, name: &str) -> Result<Option<ResourceRecord>, StoreError> {
        self.one(Found::Name(authorization_server, owner, name)).await
    }

    /// Whether another record than this one, or any, of whatever state, has this id at an authorization server.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn is_anothers(&self, authorization_server: &str, key: Option<ResourceKey>, resource_id: &str) -> Result<bool, StoreError> {
        resources::others(self.inner.database.lock().await.connection()?, authorization_server, key, resource_id).await
    }

    /// Whether a record with this name at an authorization server, of this owner or of any, in whatever state, has no id yet.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn is_pending(&self, authorization_server: &str, owner: Option<&str>, name: &str) -> Result<bool, StoreError> {
        resources::pending(self.inner.database.lock().await.connection()?, authorization_server, owner, name).await
    }

    /// The records with this name at an authorization server, whoever owns them and in whatever state; those first that have no id yet. At most `most`.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn namesakes(&self, authorization_server: &str, name: &str, most: u32) -> Result<Vec<ResourceRecord>, StoreError> {
        resources::namesakes(self.inner.database.lock().await.connection()?, authorization_server, name, most).await
    }

    /// How many records an owner has at an authorization server, in whatever state.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn count_of(&self, authorization_server: &str, owner: &str) -> Result<u64, StoreError> {
        resources::count(self.inner.database.lock().await.connection()?, authorization_server, owner).await
    }

    /// Writes down another name and other scopes of a registered resource, which the authorization server knows of already. The record, as it is now.
    ///
    /// # Errors
    /// [`StoreError::Absent`]: there is no such record, or it is not registered. It is as it was then.
    pub async fn describe(&self, key: ResourceKey, name: &str, scopes: &[String]) -> Result<ResourceRecord, StoreError> {
        let (inner, name, scopes) = (Arc::clone(&self.inner), name.to_owned(), scopes.to_vec());
        finish(async move {
            let mut database = inner.database.lock().await;
            let connection = database.connection()?;
            let record = resources::one(connection, Found::Key(key)).await?.ok_or(StoreError::Absent)?;
            Resource { name: name.clone(), scopes: scopes.clone(), ..record.resource }.check()?;
            let (before, after) = resources::describe(connection, key, &name, &scopes).await?;
            database.octets = database.octets.saturating_sub(weight(&before.resource)).saturating_add(weight(&after.resource));
            // What was withdrawn stays out of the view, though the disk may not know of it.
            if let (Some(known), Some(earlier)) = (Registered::of(after.clone()), Registered::of(before))
                && inner.view.has(&earlier)
            {
                inner.view.put(&Arc::new(known));
            }
            Ok(after)
        })
        .await
    }

    async fn one(&self, found: Found<'_>) -> Result<Option<ResourceRecord>, StoreError> {
        resources::one(self.inner.database.lock().await.connection()?, found).await
    }

    /// The records of an owner at an authorization server that follow `after`, in the order in which they were wanted: at most `most` of them.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn resources_of(
        &self,
        authorization_server: &str,
        owner: &str,
        after: Option<ResourceKey>,
        most: u32,
    ) -> Result<Vec<ResourceRecord>, StoreError> {
        resources::of_owner(self.inner.database.lock().await.connection()?, (authorization_server, owner), after, most).await
    }

    /// The records that follow `after` and are not registered, at most `most` of them: what a start has to settle with the authorization servers. A wanted
    /// one that the server lists by name and owner is [`registered`](Self::registered), one that it does not list is registered there now; an unwanted one
    /// is deleted there and then [removed](Self::remove).
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn unsettled(&self, after: Option<ResourceKey>, most: u32) -> Result<Vec<ResourceRecord>, StoreError> {
        resources::unsettled(self.inner.database.lock().await.connection()?, after, most).await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(..)")
    }
}

/// Lets a change come to its end though its caller goes away: half of it would be a database that the view does not follow.
async fn finish<T: Send + 'static>(change: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Result<T, StoreError> {
    tokio::spawn(change).await.unwrap_or(Err(StoreError::Closed))
}

/// What a record may take in memory.
pub(super) fn weight(resource: &Resource) -> u64 {
    let texts = [&resource.authorization_server, &resource.owner, &resource.upstream].into_iter().chain(&resource.path).chain(&resource.link);
    let octets: usize = texts.chain(&resource.scopes).map(String::len).sum();
    RECORD + LONGEST_ID as u64 + octets as u64
}
