//! The claims token: what the authorization server shall know of the requesting party (UMA 2.0 Grant, 3.3.1; OpenID Connect Core, 2).

use std::time::Duration;

use tokio::time::Instant;

use super::trade::{TokenAnswer, seconds};
use super::{AuthorizationServer, Client, FetchError, RequestingParty};
use crate::secret::Secret;

const STEP: &str = "signing in";

/// A token that speaks of the requesting party.
#[derive(Clone, Debug)]
pub struct ClaimsToken {
    id_token: Option<Secret>,
    access_token: Secret,
    ends: Option<Instant>,
    format: Option<String>,
}

impl ClaimsToken {
    /// A token that the user has already; the server finds out which kind it is.
    #[must_use]
    pub const fn given(token: Secret) -> Self {
        Self { id_token: None, access_token: token, ends: None, format: None }
    }

    /// The token to push as a claim: the ID token where there is one.
    #[must_use]
    pub fn identity(&self) -> &Secret {
        self.id_token.as_ref().unwrap_or(&self.access_token)
    }

    /// The token to show as a credential.
    #[must_use]
    pub const fn access(&self) -> &Secret {
        &self.access_token
    }

    /// Whether its time is over, as far as the server told.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ends.is_some_and(|end| end <= Instant::now())
    }

    /// The same token, to be pushed as a claim in this format: what a UMA 1.0 server asked for. Unasked it is the credential only.
    #[must_use]
    pub fn pushed_as(self, format: Option<String>) -> Self {
        Self { format, ..self }
    }

    /// The format that a UMA 1.0 server asked for.
    #[must_use]
    pub fn format(&self) -> Option<&str> {
        self.format.as_deref()
    }

    fn from_answer(answer: TokenAnswer) -> Result<Self, FetchError> {
        // A little early, so that a token does not end on its way.
        let lifetime = seconds(answer.expires_in).map(|life| life.saturating_sub((life / 5).min(Duration::from_secs(10))));
        let access_token = answer.access_token.ok_or(FetchError::Lacks { step: STEP, member: "access_token" })?;
        let ends = lifetime.and_then(|life| Instant::now().checked_add(life));
        Ok(Self { id_token: answer.id_token.map(Secret::from), access_token: access_token.into(), ends, format: None })
    }
}

impl Client {
    /// A claims token of the requesting party, with scope `openid`; `None` where nobody is named. At a UMA 1.0 server its access token is the
    /// authorization API token as well (AAT, scope `uma_authorization`): one sign-in for both.
    ///
    /// # Errors
    /// When the server refuses the user or the application, or the way through the browser fails.
    pub async fn claims_token(&self, server: &AuthorizationServer) -> Result<Option<ClaimsToken>, FetchError> {
        match &self.options.requesting_party {
            RequestingParty::Nobody => Ok(None),
            RequestingParty::Token(token) => Ok(Some(ClaimsToken::given(token.clone()))),
            RequestingParty::Password { username, password } => {
                let fields = [("grant_type", "password"), ("username", username), ("password", password.expose()), ("scope", server.scope())];
                self.token(server, &fields).await.map(Some)
            }
            RequestingParty::Browser => {
                let signed_in = self.sign_in(server).await?;
                let fields = [
                    ("grant_type", "authorization_code"),
                    ("code", signed_in.code.expose()),
                    ("redirect_uri", &signed_in.redirect),
                    ("code_verifier", signed_in.verifier.expose()),
                ];
                self.token(server, &fields).await.map(Some)
            }
        }
    }

    async fn token(&self, server: &AuthorizationServer, fields: &[(&str, &str)]) -> Result<ClaimsToken, FetchError> {
        let (status, answer) = self.call_token_endpoint(STEP, server, fields, None).await?;
        if status.is_success() { ClaimsToken::from_answer(answer) } else { Err(answer.refusal(STEP, status)) }
    }

    /// How the requesting party is known, in words.
    pub(super) fn how(&self, server: &AuthorizationServer) -> String {
        match &self.options.requesting_party {
            RequestingParty::Nobody => "no claims".to_owned(),
            RequestingParty::Token(_) => "token given".to_owned(),
            RequestingParty::Password { username, .. } => format!("{username} signs in ({})", server.scope()),
            RequestingParty::Browser => format!("sign in with the browser ({})", server.scope()),
        }
    }
}
