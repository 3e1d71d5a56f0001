//! Shares whose resource somebody has deleted at the authorization server, behind the gateway's back.
//!
//! Whoever deleted it may have meant it, so nothing is registered anew: the record keeps its id, by which nobody gets a ticket, and no folder above takes its
//! path. It stays so until the share is deleted, too.

use std::rc::Rc;
use std::time::Duration;

use super::registrar::{Held, Registrar, Trouble, patience};
use crate::store::{Resource, ResourceKey, ResourceRecord, State};
use crate::telemetry::AUDITED;
use crate::uma::ResourceId;

/// How long after it was looked for in vain it is not looked for again: whoever asks for a ticket causes it.
const AGAIN: Duration = Duration::from_secs(5);

impl Registrar {
    /// The authorization server gives no ticket for this share, since it does not know its resource.
    pub async fn lost(self: Rc<Self>, key: ResourceKey) {
        if self.standings().lost_at(key).is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        if let Err(trouble) = self.look_for(key).await {
            tracing::debug!(error = &trouble as &dyn std::error::Error, "whether the authorization server has lost a share cannot be told yet");
        }
    }

    /// What one of a server's endpoints says another may not.
    async fn look_for(self: &Rc<Self>, key: ResourceKey) -> Result<(), Trouble> {
        // Whoever deletes or changes it meanwhile does not wait for this.
        let Some(_looking) = self.hold(Held::Look(key)) else { return Ok(()) };
        let record = self.store().resource(key).await?.ok_or(Trouble::Gone)?;
        let State::Registered { resource_id, .. } = &record.state else { return Err(Trouble::NotSettled) };
        let server = self.server(&record.resource.authorization_server).ok_or(Trouble::Gone)?;
        let id = ResourceId(resource_id.as_str().into());
        match server.describe(Some(&record.resource.owner), &id, patience(&server)).await? {
            Some(_) => self.standings().found(key),
            None if self.store().resource(key).await?.is_some_and(|now| now.state == record.state) => self.is_lost(&record, &server.config().name),
            None => {}
        }
        Ok(())
    }

    /// Says it once.
    pub(super) fn is_lost(&self, record: &ResourceRecord, server: &str) {
        if self.standings().lost(record.key) {
            let Resource { owner, link, path, .. } = &record.resource;
            let (id, path) = (link.as_deref(), path.as_deref());
            let what = "the authorization server has deleted the resource of a share behind the gateway's back: its path is closed until the share is deleted";
            tracing::warn!(target: AUDITED, authorization_server = server, owner, id, path, "{what}");
        }
    }
}
