//! How a resource is found by its name and owner.
//!
//! What a server finds is looked at once more: some fold case, and a permission on one resource must not open what is called like another. Where a server
//! cannot search, all descriptions are read once and kept; from then on a request's name costs the list, and one description. Before something is registered
//! all are read anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

use super::discovery::Metadata;
use super::error::AskError;
use super::profile::{Profile, Search};
use super::resources::{Description, ENDPOINT, ResourceKey, describe, with_query};
use super::server::Server;
use crate::uma::ResourceId;

/// Descriptions that are read where a server cannot search.
const MOST: usize = 5_000;

/// What was read so long ago may be called otherwise by now; so many are read again with one question.
const OLD: Duration = Duration::from_secs(30);
const AGAIN: usize = 20;

/// The descriptions that one PAT may read.
#[derive(Default)]
pub(super) struct Reading {
    known: HashMap<ResourceId, (Instant, Description)>,
    /// When the server was last asked which there are, all of which are known.
    whole: Option<Instant>,
}

impl Server {
    /// The id of the resource with exactly this name and owner, that is no share: whoever shares chooses its name, and must not choose by it what the
    /// configuration means by a name. `None`: the server has none.
    ///
    /// # Errors
    /// No usable answer before `deadline`; or there are several, or it may be another owner's; or the records cannot be read.
    pub async fn find(&self, key: &ResourceKey, deadline: Instant) -> Result<Option<ResourceId>, AskError> {
        self.find_unshared(key, false, deadline).await
    }

    /// The same before what the configuration declares is registered.
    pub(super) async fn find_declared(&self, key: &ResourceKey, deadline: Instant) -> Result<Option<ResourceId>, AskError> {
        self.find_unshared(key, true, deadline).await
    }

    async fn find_unshared(&self, key: &ResourceKey, anew: bool, deadline: Instant) -> Result<Option<ResourceId>, AskError> {
        let found = self.search(key, anew, deadline).await?;
        let owners = self.tells_owners(self.metadata(deadline).await?.profile, key).then(|| self.owners_of(key, &found));
        one(self.kept.unshared(&self.config.issuer, &key.name, owners.as_ref(), ids(found)).await?)
    }

    /// Whether what is found is certainly its owner's: the server says so, or the PAT that it is found with is for nobody else's.
    fn tells_owners(&self, profile: &Profile, key: &ResourceKey) -> bool {
        let by_pat = !self.config.owners.is_empty() && key.owner.is_some();
        !profile.hides_owners() && (profile.search == Search::Query || by_pat)
    }

    /// The owner who is asked for, in every way that one may be written.
    fn owners_of(&self, key: &ResourceKey, found: &[(ResourceId, Description)]) -> BTreeSet<String> {
        let asked = key.owner.as_deref().unwrap_or(&self.config.client.id).to_owned();
        let told = found.iter().flat_map(|(_, description)| [&description.owner, &description.owner_id]).flatten();
        told.cloned().chain([asked]).collect()
    }

    /// The id before a share is registered, be it one: though it was given this name a moment ago, and an error where the server only writes the owner in
    /// another way, since it would be registered for ever anew.
    pub(super) async fn find_anew(&self, key: &ResourceKey, deadline: Instant) -> Result<Option<ResourceId>, AskError> {
        one(ids(self.search(key, true, deadline).await?))
    }

    async fn search(&self, key: &ResourceKey, anew: bool, deadline: Instant) -> Result<Vec<(ResourceId, Description)>, AskError> {
        let metadata = self.metadata(deadline).await?;
        Ok(match metadata.profile.search {
            Search::Query => {
                let owner = key.owner.as_deref().unwrap_or(&self.config.client.id);
                let found = self.find_by_query(&metadata, key, deadline).await?;
                let named = found.into_iter().filter(|(_, description)| description.name == *key.name);
                let (owned, others): (Vec<_>, Vec<_>) = named.partition(|(_, description)| description.is_of(owner));
                if let (true, true, Some((_, other))) = (anew && key.owner.is_some(), owned.is_empty(), others.first()) {
                    let owner = other.owner.as_deref().unwrap_or_default();
                    return Err(AskError::unusable(ENDPOINT.label(), format!("it calls the owner {owner:?}: write that for `owner`")));
                }
                owned
            }
            Search::Filter => self.find_by_filter(&metadata, key, anew, deadline).await?,
            Search::Reading => self.find_by_reading(&metadata, key, anew, deadline).await?,
        })
    }

    /// The ids of what this server would take for the same name of the same owner: its search folds case, and so may what it keeps names in.
    ///
    /// # Errors
    /// As of [`Server::find`].
    pub async fn find_alike(&self, key: &ResourceKey, deadline: Instant) -> Result<Vec<ResourceId>, AskError> {
        let metadata = self.metadata(deadline).await?;
        if metadata.profile.search == Search::Query {
            return Ok(self.find_by_query(&metadata, key, deadline).await?.into_iter().map(|(id, _)| id).collect());
        }
        Ok(self.find_anew(key, deadline).await?.into_iter().collect())
    }

    /// What the server itself finds.
    async fn find_by_query(&self, metadata: &Metadata, key: &ResourceKey, deadline: Instant) -> Result<Vec<(ResourceId, Description)>, AskError> {
        let owner = key.owner.as_deref();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("name", &key.name)
            .append_pair("exactName", "true")
            .append_pair("owner", owner.unwrap_or(&self.config.client.id))
            .append_pair("deep", "true")
            .finish();
        let found = self.listed(metadata, &query, owner, deadline).await?;
        let id = |document: &Value| document.get("_id")?.as_str().filter(|id| !id.is_empty()).map(|id| ResourceId(id.into()));
        found
            .iter()
            .map(|document| Some((id(document)?, describe(document))))
            .collect::<Option<_>>()
            .ok_or_else(|| AskError::unusable(ENDPOINT.label(), "it describes a resource without id"))
    }

    /// The old Keycloak tells an owner's id only, and has one resource of a name at most; another one of that name would take its place.
    async fn find_by_filter(&self, metadata: &Metadata, key: &ResourceKey, anew: bool, deadline: Instant) -> Result<Vec<(ResourceId, Description)>, AskError> {
        let mut found = Vec::new();
        if let Some(filter) = filter(&key.name) {
            let endpoint = with_query(metadata.registration()?, &filter)?;
            for id in self.list(metadata, &endpoint, key.owner.as_deref(), deadline).await?.into_iter().take(MOST) {
                let description = self.describe(key.owner.as_deref(), &id, deadline).await?;
                found.extend(description.filter(|description| description.name == *key.name).map(|description| (id, description)));
            }
        } else {
            found.extend(self.read_named(metadata, key, anew, deadline).await?);
        }
        if found.is_empty() || key.alone { Ok(found) } else { Err(hidden()) }
    }

    async fn find_by_reading(&self, metadata: &Metadata, key: &ResourceKey, anew: bool, deadline: Instant) -> Result<Vec<(ResourceId, Description)>, AskError> {
        let mut found = Vec::new();
        for (id, description) in self.read_named(metadata, key, anew, deadline).await? {
            match (key.owner.as_deref(), &description.owner) {
                (Some(_), None) if self.config.owners.is_empty() && !key.alone => return Err(hidden()),
                (Some(owner), Some(_)) if !description.is_of(owner) => {}
                // With one PAT for all owners a resource of somebody else's may have the name of one of the gateway's own.
                (None, Some(_)) if self.config.owners.is_empty() && !description.is_of(&self.config.client.id) => {}
                _ => found.push((id, description)),
            }
        }
        Ok(found)
    }

    /// Those that have the name, among all that there are.
    async fn read_named(&self, metadata: &Metadata, key: &ResourceKey, anew: bool, deadline: Instant) -> Result<Vec<(ResourceId, Description)>, AskError> {
        let asked = Instant::now();
        let mut reading = self.reading(key, deadline).await?;
        // Whoever waited for a reading that began later than the question has its answer.
        if anew || reading.whole.is_none_or(|at| at < asked) {
            let began = Instant::now();
            let ids = self.list(metadata, metadata.registration()?, key.owner.as_deref(), deadline).await?;
            let there: HashSet<&ResourceId> = ids.iter().collect();
            reading.known.retain(|id, (at, _)| there.contains(id) && !(anew && *at < asked));
            self.read(&mut reading, &ids, key, deadline).await?;
            reading.whole = Some(began);
        }
        self.named(&mut reading, key, asked, deadline).await
    }

    /// What was read with the PAT that `key` is looked for with; whoever reads has it alone.
    async fn reading(&self, key: &ResourceKey, deadline: Instant) -> Result<MutexGuard<'_, Reading>, AskError> {
        let slot = self.pats.slot(key.owner.as_deref()).ok_or(AskError::UnknownOwner)?;
        timeout_at(deadline, slot.reading.lock()).await.map_err(|_| AskError::Timeout)
    }

    /// Reads what is not known, and some of what is old. What was read stays, also if there is no time for all.
    async fn read(&self, reading: &mut Reading, ids: &[ResourceId], key: &ResourceKey, deadline: Instant) -> Result<(), AskError> {
        if ids.len() > MOST {
            return Err(AskError::unusable(ENDPOINT.label(), format!("it lists more than {MOST} resources, which cannot be searched: name them by `id`")));
        }
        let mut again = 0;
        for id in ids {
            let age = reading.known.get(id).map(|(at, _)| at.elapsed());
            let is_old = age.is_some_and(|age| age >= OLD);
            if age.is_some() && (!is_old || again == AGAIN) {
                continue;
            }
            again += usize::from(is_old);
            self.read_one(reading, id, key, deadline).await?;
        }
        Ok(())
    }

    async fn read_one(&self, reading: &mut Reading, id: &ResourceId, key: &ResourceKey, deadline: Instant) -> Result<(), AskError> {
        // A call that has no time would look like a server that does not answer.
        let now = Instant::now();
        if now + self.config.timeout / 8 > deadline {
            return Err(AskError::Timeout);
        }
        match self.describe(key.owner.as_deref(), id, deadline).await? {
            Some(description) => reading.known.insert(id.clone(), (now, description)),
            None => reading.known.remove(id),
        };
        Ok(())
    }

    /// Those that have the name, as the server had them at `asked` or later.
    async fn named(&self, reading: &mut Reading, key: &ResourceKey, asked: Instant, deadline: Instant) -> Result<Vec<(ResourceId, Description)>, AskError> {
        let is_named = |description: &Description| description.name == *key.name;
        let ids: Vec<ResourceId> = reading.known.iter().filter(|(_, (_, description))| is_named(description)).map(|(id, _)| id.clone()).collect();
        let mut found = Vec::new();
        for id in ids {
            if reading.known.get(&id).is_some_and(|(at, _)| *at < asked) {
                self.read_one(reading, &id, key, deadline).await?;
            }
            found.extend(reading.known.get(&id).filter(|(_, description)| is_named(description)).map(|(_, description)| (id.clone(), description.clone())));
        }
        Ok(found)
    }
}

fn ids(found: Vec<(ResourceId, Description)>) -> Vec<ResourceId> {
    found.into_iter().map(|(id, _)| id).collect()
}

/// Two of a name: no arbitrary pick.
fn one(found: Vec<ResourceId>) -> Result<Option<ResourceId>, AskError> {
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(AskError::unusable(ENDPOINT.label(), "several resources have this name and owner")),
    }
}

/// The query for a name. The old Keycloak takes a filter apart at `&` and `=`, also where they are encoded: it finds nothing of a name that has one.
fn filter(name: &str) -> Option<String> {
    let name = Some(name).filter(|name| !name.contains(['&', '=']))?;
    Some(format!("filter=name={}", percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)))
}

/// One that the path's owner has nothing to do with would be found for every owner.
fn hidden() -> AskError {
    let why = "it does not say whose a resource is, so `owner` cannot tell resources of one name apart: put what the owner comes from into `name`";
    AskError::unusable(ENDPOINT.label(), why)
}

impl Description {
    fn is_of(&self, owner: &str) -> bool {
        [&self.owner, &self.owner_id].into_iter().any(|known| known.as_deref() == Some(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_old_keycloak_would_take_apart_is_not_asked_for_by_its_filter() {
        assert_eq!(filter("Album 7/a").as_deref(), Some("filter=name=Album%207%2Fa"));
        for name in ["a=b", "a & b", "=", "&"] {
            assert_eq!(filter(name), None, "{name}");
        }
    }
}
