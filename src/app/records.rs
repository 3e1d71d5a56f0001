//! The records: opened before anything is served, closed after the last question.

use super::StartError;
use crate::authorization_server::PatStore;
use crate::config;
use crate::store::Lookup;
use crate::telemetry::Health;

/// The store that the configuration names, if it names one.
pub struct Records {
    #[cfg(feature = "store")]
    store: Option<crate::store::Store>,
}

impl Records {
    /// Opens the store. With it migrations run, and tokens of old keys are encrypted anew.
    pub async fn open(config: &config::Gateway) -> Result<Self, StartError> {
        #[cfg(feature = "store")]
        let store = match &config.store {
            Some(section) => Some(crate::store::Store::open(section).await?),
            None => None,
        };
        // Without the feature the configuration refuses the section.
        #[cfg(not(feature = "store"))]
        let _ = config;
        Ok(Self {
            #[cfg(feature = "store")]
            store,
        })
    }

    /// The store, if there is one.
    #[cfg(feature = "store")]
    pub const fn store(&self) -> Option<&crate::store::Store> {
        self.store.as_ref()
    }

    /// From now on requests find what is in it.
    pub fn show(&self, lookup: &Lookup) {
        #[cfg(feature = "store")]
        if let Some(store) = &self.store {
            lookup.open(store.view());
        }
        #[cfg(not(feature = "store"))]
        let _ = lookup;
    }

    /// Where owners' protection API access tokens are kept.
    #[cfg(feature = "store")]
    pub fn pats(&self, health: &Health) -> PatStore {
        PatStore::of(self.store.as_ref(), health)
    }

    /// Nowhere, without records.
    #[cfg(not(feature = "store"))]
    pub fn pats(&self, _: &Health) -> PatStore {
        PatStore::default()
    }

    /// Closes it; what could not be written into the file now is at the next start.
    pub async fn close(self) {
        #[cfg(feature = "store")]
        if let Some(store) = self.store
            && let Err(error) = store.close().await
        {
            tracing::warn!(%error, "the records were not closed");
        }
    }
}
