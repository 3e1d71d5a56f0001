//! What a check asks of a server besides what requests need: what it holds, what it thinks of our own PAT, why it refuses our client.
//!
//! Reads only: nothing here changes anything at a server or asks for a ticket.

use serde_json::Value;
use tokio::time::Instant;

use super::error::AskError;
use super::json;
use super::pat::{no_code, refuses_grant};
use super::profile::Search;
use super::resources::{Description, describe};
use super::server::{Introspected, Server};
use crate::telemetry::AsEndpoint;
use crate::uma::{ResourceId, Rpt};

/// Resources that are read to find what a misspelt name may mean.
const READ: usize = 200;

impl Server {
    /// The ids of the resources that the protection API shows to the PAT of `owner`; a server may give a first page only.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn resource_ids(&self, owner: Option<&str>, deadline: Instant) -> Result<Vec<ResourceId>, AskError> {
        let metadata = self.metadata(deadline).await?;
        self.list(&metadata, metadata.registration()?, owner, deadline).await
    }

    /// Descriptions of at most 200 resources that the PAT of `owner` is shown; with `name` of those that have it.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn inventory(&self, owner: Option<&str>, name: Option<&str>, deadline: Instant) -> Result<Vec<Description>, AskError> {
        let metadata = self.metadata(deadline).await?;
        let mut all = match metadata.profile.search {
            Search::Query => self.inventory_by_query(owner, name, deadline).await?,
            Search::Filter | Search::Reading => {
                let mut all = Vec::new();
                for id in self.list(&metadata, metadata.registration()?, owner, deadline).await?.iter().take(READ) {
                    all.extend(self.describe(owner, id, deadline).await?);
                }
                all
            }
        };
        all.retain(|one| name.is_none_or(|name| one.name == name));
        Ok(all)
    }

    async fn inventory_by_query(&self, owner: Option<&str>, name: Option<&str>, deadline: Instant) -> Result<Vec<Description>, AskError> {
        let metadata = self.metadata(deadline).await?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("deep", "true").append_pair("max", &READ.to_string());
        if let Some(name) = name {
            query.append_pair("name", name).append_pair("exactName", "true");
        }
        Ok(self.listed(&metadata, &query.finish(), owner, deadline).await?.iter().map(describe).collect())
    }

    /// What introspection says of the PAT of `owner`.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn introspect_own(&self, owner: Option<&str>, deadline: Instant) -> Result<Introspected, AskError> {
        let pat = self.pat(owner, deadline).await?.header();
        let token = pat.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        self.introspect(owner, &Rpt(token.into()), deadline, &mut false).await
    }

    /// Whether the token endpoint believes our client and trades codes for it, by a code that nobody has.
    ///
    /// # Errors
    /// It does not, or gave no answer before `deadline`.
    pub async fn trades_codes(&self, deadline: Instant) -> Result<(), AskError> {
        let metadata = self.metadata(deadline).await?;
        let response = self.as_client(AsEndpoint::Token, &metadata.token, no_code(), deadline).await?;
        self.counted(AsEndpoint::Token, &response, false);
        if refuses_grant(&response) { Ok(()) } else { Err(self.refusal(AsEndpoint::Token, &response)) }
    }

    /// Whether the token endpoint refuses our client because it has no service account. Keycloak says the same of a wrong secret but for the description.
    pub async fn lacks_service_account(&self, deadline: Instant) -> bool {
        let Ok(metadata) = self.metadata(deadline).await else { return false };
        let Ok(response) = self.ask_for_pat(&metadata, deadline).await else { return false };
        self.counted(AsEndpoint::Token, &response, true);
        let description = json::parse(response.body()).ok().and_then(|body| body.get("error_description").and_then(Value::as_str).map(str::to_lowercase));
        description.is_some_and(|text| text.contains("service account"))
    }
}
