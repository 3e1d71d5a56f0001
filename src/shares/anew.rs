//! Shares whose resource somebody has deleted at the authorization server, behind the gateway's back.
//!
//! Such a resource is registered anew, as one that the configuration declares: nobody has anything of it until its owner grants that. The record stays
//! registered by the old id meanwhile, so the path is closed and no folder above takes its place.

use std::rc::Rc;
use std::time::Duration;

use super::registrar::{Registrar, Trouble, declared, gone, patience};
use crate::authorization_server::Created;
use crate::store::{Resource, ResourceKey, ResourceRecord, State, StoreError};
use crate::telemetry::AUDITED;
use crate::uma::ResourceId;

/// How long after it has failed it is not tried again: whoever asks for a ticket causes it.
const AGAIN: Duration = Duration::from_secs(5);

impl Registrar {
    /// The authorization server gives no ticket for this share, since it does not know its resource.
    pub async fn lost(self: Rc<Self>, key: ResourceKey) {
        if self.standings().lost_at(key).is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        if let Err(trouble) = self.register_anew(key).await {
            tracing::debug!(error = &trouble as &dyn std::error::Error, "a share that the authorization server has lost is not registered anew yet");
        }
    }

    /// Registers the resource of a share anew, if the server knows it no more. The record, as it is now.
    ///
    /// # Errors
    /// It is as it was, and closed: it is tried again when somebody asks. [`Trouble::NameTaken`]: the server has another resource of its name.
    pub async fn register_anew(self: &Rc<Self>, key: ResourceKey) -> Result<ResourceRecord, Trouble> {
        let record = self.store().resource(key).await?.ok_or(Trouble::Gone)?;
        let _hold = self.hold_link(&record.resource).ok_or(Trouble::NotSettled)?;
        // Somebody may have been quicker.
        let record = self.store().resource(key).await?.ok_or(Trouble::Gone)?;
        let State::Registered { resource_id, .. } = &record.state else { return Err(Trouble::NotSettled) };
        let server = self.server(&record.resource.authorization_server).ok_or(Trouble::Gone)?;
        let Resource { owner, link, path, .. } = &record.resource;
        // What one of its endpoints says another may not.
        if server.describe(Some(owner), &ResourceId(resource_id.as_str().into()), patience(&server)).await?.is_some() {
            self.standings().found(key);
            return Ok(record);
        }
        let (id, path, name) = (link.as_deref(), path.as_deref(), &*server.config().name);
        if self.standings().lost(key) {
            let what = "the authorization server has deleted the resource of a share behind the gateway's back; it is registered anew";
            tracing::warn!(target: AUDITED, authorization_server = name, owner, id, path, "{what}");
        }
        let created = self.create_anew(&server, &record).await?;
        let anew = self.store().registered_anew(key, (resource_id, &created.id.0), created.policy_uri.as_deref()).await;
        let anew = anew.map_err(|error| if matches!(error, StoreError::Taken) { Trouble::NameTaken } else { gone(error) })?;
        self.standings().found(key);
        let what = "a share that the authorization server had lost is registered anew; nobody is granted it yet";
        tracing::info!(target: AUDITED, authorization_server = name, owner, id, path, "{what}");
        Ok(anew)
    }

    /// What the server has of this name is the share's only if nobody else could have made it: it bears the share's random id, or was asked for here.
    async fn create_anew(self: &Rc<Self>, server: &crate::authorization_server::Server, record: &ResourceRecord) -> Result<Created, Trouble> {
        let (key, resource) = (record.key, &record.resource);
        let _name = self.hold_name(server, resource).await?;
        let declared = declared(server, resource);
        match self.known(server, record, &declared).await? {
            Some(known) if self.standings().was_asked_for(key) || bears_its_id(resource) => Ok(known),
            Some(_) => Err(Trouble::NameTaken),
            None => {
                self.standings().ask_for(key);
                Ok(server.register_new(&declared, patience(server)).await?)
            }
        }
    }
}

fn bears_its_id(resource: &Resource) -> bool {
    resource.link.as_deref().is_some_and(|link| link.len() >= super::ID && resource.name.contains(link))
}
