//! Ticket and claims in, RPT out (UMA 2.0 Grant, 3.3). Servers differ in how they say no; here they all say it in one way.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use serde::Deserialize;

use super::step::excerpt;
use super::{ANSWER, Application, AuthorizationServer, ClaimsToken, Client, FetchError, bearer};
use crate::http_client::{basic_auth, form};
use crate::secret::Secret;
use crate::uma::{PermissionTicket, Rpt};

pub(super) const STEP: &str = "trading the ticket";
const UMA_TICKET: &str = "urn:ietf:params:oauth:grant-type:uma-ticket";
const ID_TOKEN: &str = "http://openid.net/specs/openid-connect-core-1_0.html#IDToken";

/// What the authorization server makes of a ticket.
#[derive(Debug)]
pub enum Traded {
    /// An RPT.
    Rpt {
        /// The token.
        rpt: Rpt,
        /// Whether it also holds the permissions of the RPT that was sent along; if not, that one keeps its own (3.3.5).
        upgraded: bool,
        /// How long it lives, if the server says so.
        expires_in: Option<Duration>,
    },
    /// The server wants claims (`need_info`).
    NeedInfo {
        /// The ticket to go on with.
        ticket: PermissionTicket,
        /// What it wants to know, by the names that it gives.
        wanted: Vec<String>,
        /// Where it asks the user by itself.
        redirect: Option<String>,
        /// UMA 1.0: the format in which it takes the user's ID token as the claim.
        format: Option<String>,
    },
    /// The owner is asked (`request_submitted`).
    Submitted {
        /// The ticket to go on with; Keycloak gives none.
        ticket: Option<PermissionTicket>,
        /// The pause before the next poll, if the server says so.
        interval: Option<Duration>,
    },
    /// No (`request_denied`); final.
    Denied,
    /// The ticket is unknown, used or expired (`invalid_grant`): the resource has a new one.
    TicketRefused,
    /// The RPT that was sent along cannot be upgraded: trade without it.
    RptRefused,
}

impl Traded {
    /// The specification's word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Rpt { upgraded: true, .. } => "RPT, upgraded",
            Self::Rpt { .. } => "RPT",
            Self::NeedInfo { .. } => "need_info",
            Self::Submitted { .. } => "request_submitted",
            Self::Denied => "request_denied",
            Self::TicketRefused => "invalid_grant",
            Self::RptRefused => "invalid_rpt",
        }
    }
}

/// A token endpoint's answer, good or bad, with the members of both.
#[derive(Deserialize, Default)]
pub(super) struct TokenAnswer {
    pub(super) access_token: Option<String>,
    pub(super) id_token: Option<String>,
    pub(super) expires_in: Option<f64>,
    upgraded: Option<bool>,
    error: Option<String>,
    error_description: Option<String>,
    ticket: Option<String>,
    interval: Option<f64>,
    redirect_user: Option<String>,
    #[serde(default)]
    required_claims: Vec<RequiredClaim>,
}

#[derive(Deserialize)]
struct RequiredClaim {
    friendly_name: Option<String>,
    name: Option<String>,
    claim_type: Option<String>,
}

impl Client {
    /// Trades `ticket`, with the claims if there are any, and with an earlier RPT if that is to be upgraded. Returns the status with the outcome.
    ///
    /// The application authenticates itself and pushes the claims (3.3.1). Without an application the claims token itself is the credential, as Keycloak
    /// takes it. A server of UMA 1.0 is asked at its `rpt_endpoint`, with the claims token as the authorization API token.
    ///
    /// # Errors
    /// When no answer comes, it is not usable, or refuses the application or the claims themselves.
    pub async fn trade(
        &self,
        server: &AuthorizationServer,
        ticket: &PermissionTicket,
        claims: Option<&ClaimsToken>,
        earlier: Option<&Rpt>,
    ) -> Result<(StatusCode, Traded), FetchError> {
        if let Some(endpoint) = &server.rpt_endpoint {
            return self.trade_at_rpt_endpoint(server, endpoint, (ticket, claims, earlier)).await;
        }
        let mut fields = vec![("grant_type", UMA_TICKET), ("ticket", ticket.0.expose())];
        if let Some(rpt) = earlier {
            fields.push(("rpt", rpt.0.expose()));
        }
        let (status, answer) = match (&self.options.application, claims) {
            (None, None) => return Err(FetchError::NeedsApplication),
            (None, Some(claims)) => self.call_token_endpoint(STEP, server, &fields, Some(claims.access())).await?,
            (Some(_), claims) => {
                if let Some(claims) = claims {
                    fields.extend([("claim_token", claims.identity().expose()), ("claim_token_format", ID_TOKEN)]);
                }
                self.call_token_endpoint(STEP, server, &fields, None).await?
            }
        };
        let traded = if status.is_success() { granted(answer)? } else { not_granted(status, answer)? };
        Ok((status, traded))
    }

    /// Posts a form to the token endpoint, authenticated as the application, or with `token` as Bearer. An error answer is returned as an answer.
    pub(super) async fn call_token_endpoint(
        &self,
        step: &'static str,
        server: &AuthorizationServer,
        fields: &[(&str, &str)],
        token: Option<&Secret>,
    ) -> Result<(StatusCode, TokenAnswer), FetchError> {
        let mut fields = fields.to_vec();
        let authorization = match (token, &self.options.application) {
            (Some(token), _) => Some(bearer(token)?),
            (None, Some(Application { id, secret: Some(secret) })) => Some(basic_auth(id, secret.expose())),
            (None, Some(Application { id, secret: None })) => {
                fields.push(("client_id", id));
                None
            }
            (None, None) => return Err(FetchError::NeedsApplication),
        };
        let mut request: Request<Bytes> = Request::new(form(&fields));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = server.token_endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, http::HeaderValue::from_static("application/json"));
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        let answer = self.http.send(request, ANSWER, self.deadline()).await.map_err(|source| FetchError::Server { step, source })?;
        let status = answer.status();
        match serde_json::from_slice::<TokenAnswer>(answer.body()) {
            Ok(read) => Ok((status, read)),
            Err(source) if status.is_success() => Err(FetchError::Malformed { step, source }),
            // A proxy's error page, or a redirect: the status says what there is to say.
            Err(_) => Ok((status, TokenAnswer::default())),
        }
    }
}

impl TokenAnswer {
    /// The answer as an error that ends the fetch.
    pub(super) fn refusal(self, step: &'static str, status: StatusCode) -> FetchError {
        let error = self.error.as_deref().map_or_else(|| status.canonical_reason().unwrap_or_default().to_owned(), excerpt);
        FetchError::Refused { step, status: status.as_u16(), error, description: self.error_description.as_deref().map_or_else(String::new, excerpt) }
    }
}

fn granted(answer: TokenAnswer) -> Result<Traded, FetchError> {
    let token = answer.access_token.filter(|token| !token.is_empty()).ok_or(FetchError::Lacks { step: STEP, member: "access_token" })?;
    Ok(Traded::Rpt { rpt: Rpt(token.into()), upgraded: answer.upgraded.unwrap_or(false), expires_in: seconds(answer.expires_in) })
}

fn not_granted(status: StatusCode, mut answer: TokenAnswer) -> Result<Traded, FetchError> {
    let ticket = answer.ticket.take().filter(|ticket| !ticket.is_empty()).map(|ticket| PermissionTicket(ticket.into()));
    let error = answer.error.as_deref().unwrap_or_default();
    match (error, answer.error_description.as_deref().unwrap_or_default()) {
        ("need_info", _) => {
            let ticket = ticket.ok_or(FetchError::Lacks { step: STEP, member: "ticket" })?;
            let wanted = answer.required_claims.into_iter().filter_map(|claim| claim.friendly_name.or(claim.name).or(claim.claim_type));
            Ok(Traded::NeedInfo { ticket, wanted: wanted.map(|name| excerpt(&name)).collect(), redirect: answer.redirect_user, format: None })
        }
        // Keycloak says it in the description, without a ticket.
        ("request_submitted", _) | ("access_denied", "request_submitted") => Ok(Traded::Submitted { ticket, interval: seconds(answer.interval) }),
        ("request_denied" | "access_denied", _) => Ok(Traded::Denied),
        // A 401 speaks of the claims token that was shown as a credential, not of the ticket.
        ("invalid_grant", _) if status != StatusCode::UNAUTHORIZED => Ok(Traded::TicketRefused),
        ("invalid_ticket" | "expired_ticket", _) => Ok(Traded::TicketRefused),
        ("invalid_rpt", _) => Ok(Traded::RptRefused),
        _ => Err(answer.refusal(STEP, status)),
    }
}

/// Seconds as servers write them; anything that is no time counts as not said.
pub(super) fn seconds(number: Option<f64>) -> Option<Duration> {
    number.and_then(|number| Duration::try_from_secs_f64(number).ok())
}
