//! Calls as the gateway's own client, and the change of what shows who it is while that is in use.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::time::{Instant, sleep};

use super::discovery::Endpoint;
use super::error::AskError;
use super::server::{Server, form_request, status};
use super::who::{ClientCredentials, disbelieves_client, refuses_client};
use crate::http_client::HttpClient;
use crate::telemetry::{AsEndpoint, SecretKind};
use crate::uma::Timestamp;

/// Between two trials of a new secret; grows to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Server {
    /// A call with the client's own credentials. While these are being replaced, a refusal of the old ones is not the last word.
    pub(super) async fn as_client(&self, name: AsEndpoint, endpoint: &Endpoint, body: Bytes, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        let shown = self.client.held();
        let response = self.call_with(&shown, name, endpoint, body.clone(), deadline).await?;
        if !refuses_client(&response) {
            return Ok(response);
        }
        // Another call may have found out meanwhile that the new ones work.
        let Some(next) = self.client.after(&shown) else { return Ok(response) };
        let second = self.call_with(&next, name, endpoint, body, deadline).await?;
        if refuses_client(&second) {
            return Ok(response);
        }
        if second.status().is_success() {
            self.took(&next);
        }
        Ok(second)
    }

    pub(super) async fn call_with(
        &self,
        client: &ClientCredentials,
        name: AsEndpoint,
        endpoint: &Endpoint,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Bytes>, AskError> {
        let told = client.tell(&body, Timestamp::now()).ok_or(AskError::Unsigned)?;
        self.call(name, endpoint, form_request(told.authorization), told.body, deadline).await
    }

    /// What an unexpected answer to a call as the client becomes: where the client is not believed, it says what to look at.
    pub(super) fn refusal(&self, endpoint: AsEndpoint, response: &Response<Bytes>) -> AskError {
        match status(endpoint, response) {
            AskError::Status { endpoint, status, error, .. } => AskError::Status { endpoint, status, error, look_at: self.look_at(response) },
            other => other,
        }
    }

    /// Our own credential is refused at an endpoint that was asked as the client.
    pub(super) fn client_refused(&self, endpoint: AsEndpoint, response: &Response<Bytes>) -> AskError {
        AskError::CredentialRefused { endpoint: endpoint.label(), look_at: self.look_at(response) }
    }

    /// The key of the configuration that has what the server does not believe.
    fn look_at(&self, response: &Response<Bytes>) -> Option<Arc<str>> {
        let proof = self.client.next().unwrap_or_else(|| self.client.held()).proof;
        disbelieves_client(response).then(|| format!("authorization_servers.{}.client.{}", self.config.name, proof.key()).into())
    }

    /// Connects anew from now on, with other files of trust or identity; calls under way end as they began.
    pub fn connect_with(&self, http: HttpClient) {
        self.http.replace(http);
    }

    /// What the configuration now says shows who the client is. True: it is something else, to be tried by [`Server::try_client`].
    pub fn offer_client(&self, client: &ClientCredentials) -> bool {
        self.client.offer(client)
    }

    /// Asks for a PAT with the new secret or key until that has worked once; the old one stays in use meanwhile. Ends also when there is nothing to try any
    /// more.
    pub async fn try_client(self: Rc<Self>) {
        let mut pause = PAUSES.0;
        while let Some(next) = self.client.next() {
            match self.pat_with(&next, Instant::now() + self.config.timeout.max(Duration::from_secs(5))).await {
                Ok(()) => self.took(&next),
                Err(error) => {
                    // Said once, and shown until it works.
                    let trial = self.health.dependency(SecretKind::Client.label(), &self.config.name);
                    trial.failed(format_args!("the new client {} does not work yet; the one before stays in use: {error}", next.proof.what()));
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
        // The new one works, or the file has the old one again.
        self.ends_trial();
    }

    /// Whether a new secret or key is tried.
    pub fn is_on_trial(&self) -> bool {
        self.client.next().is_some()
    }

    /// No new secret or key is waited for: what was said of one holds no more.
    pub fn ends_trial(&self) {
        if let Some(trial) = self.health.known(SecretKind::Client.label(), &self.config.name) {
            trial.recovered();
        }
    }

    fn took(&self, client: &ClientCredentials) {
        if self.client.worked(client) {
            self.metrics().secret_loaded(SecretKind::Client, &self.config.name);
            tracing::info!(authorization_server = &*self.config.name, "the new client {} works and is in use", client.proof.what());
        }
    }
}
