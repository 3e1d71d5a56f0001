//! What a check asks of a server besides what requests need: what it holds, what it thinks of our own PAT, why it refuses our client.
//!
//! Reads only: nothing here changes anything at a server or asks for a ticket.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::error::AskError;
use super::json;
use super::profile::Search;
use super::resources::{Description, describe, with_query};
use super::server::{Introspected, Protected, Server, status};
use crate::telemetry::AsEndpoint;
use crate::uma::{ResourceId, Rpt};

const ENDPOINT: AsEndpoint = AsEndpoint::Resource;
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
        let endpoint = with_query(metadata.registration()?, &query.finish())?;
        let request = || Request::builder().method(Method::GET).header(http::header::ACCEPT, "application/json");
        let call = Protected { name: ENDPOINT, metadata: &metadata, endpoint: &endpoint, owner, deadline };
        let response = self.protected(call, request, &Bytes::new(), &mut false).await?;
        if response.status() != StatusCode::OK {
            return Err(status(ENDPOINT, &response));
        }
        match json::parse(response.body()) {
            Ok(Value::Array(all)) => Ok(all.iter().map(describe).collect()),
            _ => Err(AskError::unusable(ENDPOINT.label(), "it is not a list of resources")),
        }
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

    /// Whether the token endpoint refuses our client because it has no service account. Keycloak says the same of a wrong secret but for the description.
    pub async fn lacks_service_account(&self, deadline: Instant) -> bool {
        let Ok(metadata) = self.metadata(deadline).await else { return false };
        let Ok(response) = self.ask_for_pat(&metadata, deadline).await else { return false };
        let description = json::parse(response.body()).ok().and_then(|body| body.get("error_description").and_then(Value::as_str).map(str::to_lowercase));
        description.is_some_and(|text| text.contains("service account"))
    }
}
