//! Calls as the gateway's own client, and the change of its secret while it is in use.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::{Instant, sleep};

use super::discovery::Endpoint;
use super::error::AskError;
use super::server::{Server, error_member, form_request};
use crate::http_client::{HttpClient, basic_auth};
use crate::secret::Secret;
use crate::telemetry::{AsEndpoint, SecretKind};

/// Between two trials of a new secret; grows to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Server {
    /// A call with the client's own credentials. While the secret is being replaced, a refusal of the old one is not the last word.
    pub(super) async fn as_client(&self, name: AsEndpoint, endpoint: &Endpoint, body: Bytes, deadline: Instant) -> Result<Response<Bytes>, AskError> {
        let response = self.call_with(&self.secret.held(), name, endpoint, body.clone(), deadline).await?;
        let Some(next) = self.secret.next().filter(|_| refuses_client(&response)) else { return Ok(response) };
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
        secret: &Secret,
        name: AsEndpoint,
        endpoint: &Endpoint,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Bytes>, AskError> {
        let authorization: HeaderValue = basic_auth(&self.config.client.id, secret.expose());
        self.call(name, endpoint, form_request(Some(authorization)), body, deadline).await
    }

    /// Connects anew from now on, with other files of trust or identity; calls under way end as they began.
    pub fn connect_with(&self, http: HttpClient) {
        self.http.replace(http);
    }

    /// What the configuration now says the client's secret is. True: it is another one, to be tried by [`Server::try_secret`].
    pub fn offer_secret(&self, secret: &Secret) -> bool {
        self.secret.offer(secret)
    }

    /// Asks for a PAT with the new secret until that has worked once; the old one stays in use meanwhile. Ends also when there is nothing to try any more.
    pub async fn try_secret(self: Rc<Self>) {
        let mut pause = PAUSES.0;
        while let Some(next) = self.secret.next() {
            match self.pat_with(&next, Instant::now() + self.config.timeout.max(Duration::from_secs(5))).await {
                Ok(()) => self.took(&next),
                Err(error) => {
                    // Said once, and shown until it works.
                    let trial = self.health.dependency(SecretKind::Client.label(), &self.config.name);
                    trial.failed(format_args!("the new client secret does not work yet; the one before stays in use: {error}"));
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
        // The new one works, or the file has the old one again.
        if let Some(trial) = self.health.known(SecretKind::Client.label(), &self.config.name) {
            trial.recovered();
        }
    }

    fn took(&self, secret: &Secret) {
        if self.secret.worked(secret) {
            self.metrics().secret_loaded(SecretKind::Client, &self.config.name);
            tracing::info!(authorization_server = &*self.config.name, "the new client secret works and is in use");
        }
    }
}

/// Whether an answer says that the client is not who it says (RFC 6749, 5.2).
fn refuses_client(response: &Response<Bytes>) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::BAD_REQUEST => matches!(error_member(response.body()).as_deref(), Some("invalid_client" | "unauthorized_client")),
        _ => false,
    }
}
