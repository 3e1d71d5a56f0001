//! Where owners' protection API access tokens outlive a restart: the records, where the configuration has some.
//!
//! Whoever renews a token waits until it is written before it is used, so what is in use is always what a restart finds. Nothing here asks a server.

use std::collections::BTreeSet;
#[cfg(feature = "store")]
use std::error::Error as _;
use std::sync::Arc;
use std::time::SystemTime;

use super::config::Config;
use super::consent::person;
use super::error::AskError;
use crate::secret::Secret;
#[cfg(feature = "store")]
use crate::store::{Counts, Credential, Store, StoreError};
#[cfg(feature = "store")]
use crate::telemetry::{AsEndpoint, Dependency, Health};
use crate::uma::ResourceId;

/// A token of an owner as it is kept.
pub(super) struct Kept {
    pub access: Secret,
    /// What renews it.
    pub refresh: Option<Secret>,
    /// When the access token ends, to the second.
    pub expires_at: SystemTime,
    /// `scope`, as the server has granted it.
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "nothing is kept without records"))]
    pub scope: String,
}

impl Kept {
    /// What is kept of a consent that has ended: nothing that could be used.
    pub fn ended() -> Self {
        Self { access: Secret::from(""), refresh: None, expires_at: SystemTime::UNIX_EPOCH, scope: String::new() }
    }

    /// Whether it is that.
    fn has_ended(&self) -> bool {
        self.access.matches("") && self.refresh.is_none()
    }
}

/// The way to what is kept. Clones lead to the same; the default keeps nothing.
#[derive(Clone, Default)]
pub struct PatStore {
    #[cfg(feature = "store")]
    records: Option<Records>,
}

#[cfg(feature = "store")]
#[derive(Clone)]
struct Records {
    store: Store,
    /// Whether they can be read and written.
    usable: Arc<Dependency>,
}

impl PatStore {
    /// Keeps tokens in this store; `health` is told when it fails.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn of(store: Option<&Store>, health: &Health) -> Self {
        let records = |store: &Store| {
            let usable = health.dependency("records", "store");
            let told = store.clone();
            usable.tell(move || {
                let Counts { registered, wanted, unwanted } = told.counts();
                format!("schema {}; shares: {registered} registered, {wanted} to be registered, {unwanted} to be deleted", Store::schema())
            });
            // It is open, or the gateway would not have started.
            usable.recovered();
            Records { store: store.clone(), usable }
        };
        Self { records: store.map(records) }
    }

    /// Whether anything is kept.
    #[cfg(feature = "store")]
    pub(super) const fn is_there(&self) -> bool {
        self.records.is_some()
    }

    /// Nothing is, without records.
    #[cfg(not(feature = "store"))]
    pub(super) const fn is_there(&self) -> bool {
        false
    }

    /// The token of an owner, if it was issued to this client, and by whom the configuration means.
    pub(super) async fn get(&self, config: &Config, owner: &str) -> Result<Option<Kept>, AskError> {
        #[cfg(feature = "store")]
        if let Some(records) = &self.records {
            let credential = match records.store.credential(&config.issuer, owner).await {
                // Nothing mends it but another consent, which takes its place.
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::error!(authorization_server = &*config.name, owner, %error, "the owner's protection API access token cannot be read any more");
                    None
                }
                other => records.told(other)?,
            };
            let ours = grantee(config, owner);
            return Ok(credential.filter(|credential| credential.grantee == ours).map(|credential| Kept {
                access: credential.access_token,
                refresh: credential.refresh_token,
                expires_at: credential.expires_at.unwrap_or(SystemTime::UNIX_EPOCH),
                scope: credential.scope,
            }));
        }
        let _ = (config, owner);
        Ok(None)
    }

    /// The owners whose consent had ended when it was written down last, or of whom that cannot be told.
    pub async fn ended(&self, config: &Config) -> BTreeSet<Arc<str>> {
        let mut ended = BTreeSet::new();
        for owner in config.owners.keys() {
            let goes_on = self.get(config, owner).await.is_ok_and(|kept| kept.is_none_or(|kept| !kept.has_ended()));
            if !goes_on {
                ended.insert(Arc::clone(owner));
            }
        }
        ended
    }

    /// Those of these resources, all of one name, that are no shares. While a share of the name has no id yet none of them is known not to be it; `owners` are
    /// those whose it could be, `None`: anybody's.
    pub(super) async fn unshared(
        &self,
        issuer: &str,
        name: &str,
        owners: Option<&BTreeSet<String>>,
        found: Vec<ResourceId>,
    ) -> Result<Vec<ResourceId>, AskError> {
        #[cfg(feature = "store")]
        if let Some(records) = self.records.as_ref().filter(|_| !found.is_empty()) {
            let owners = owners.map_or_else(|| vec![None], |owners| owners.iter().map(|owner| Some(owner.as_str())).collect());
            for owner in owners {
                if records.told(records.store.is_pending(issuer, owner, name).await)? {
                    return Err(AskError::unusable(AsEndpoint::Resource.label(), "a share of this name is being registered"));
                }
            }
            let mut unshared = Vec::new();
            for id in found {
                if !records.told(records.store.is_anothers(issuer, None, &id.0).await)? {
                    unshared.push(id);
                }
            }
            return Ok(unshared);
        }
        let _ = (issuer, name, owners);
        Ok(found)
    }

    /// Writes the token of an owner, in the place of an earlier one. When this has returned it is on the disk.
    pub(super) async fn put(&self, config: &Config, owner: &str, kept: &Kept) -> Result<(), AskError> {
        #[cfg(feature = "store")]
        if let Some(records) = &self.records {
            let credential = Credential {
                authorization_server: config.issuer.to_string(),
                owner: owner.to_owned(),
                access_token: kept.access.clone(),
                refresh_token: kept.refresh.clone(),
                expires_at: Some(kept.expires_at),
                scope: kept.scope.clone(),
                grantee: grantee(config, owner),
            };
            return records.told(records.store.put_credential(&credential).await).map(drop);
        }
        let _ = (config, owner, kept);
        Ok(())
    }
}

#[cfg(feature = "store")]
impl Records {
    /// Says once that the records fail, and once that they do not any more.
    fn told<T>(&self, outcome: Result<T, StoreError>) -> Result<T, AskError> {
        match outcome {
            Ok(value) => {
                self.usable.recovered();
                Ok(value)
            }
            Err(error) => {
                let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
                self.usable.failed(format_args!("{error}{cause}"));
                Err(AskError::Records)
            }
        }
    }
}

/// Whom a token is for: another client cannot renew it, and with another user name or subject it is another person's.
#[cfg_attr(not(feature = "store"), expect(dead_code, reason = "nothing is kept without records"))]
fn grantee(config: &Config, owner: &str) -> String {
    let (username, subject) = person(config, owner).unzip();
    serde_json::json!([&*config.client.id, username, subject]).to_string()
}
