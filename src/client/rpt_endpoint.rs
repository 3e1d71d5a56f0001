//! Ticket in, RPT out, as UMA 1.0 has it: JSON at the server's `rpt_endpoint`, with the user's authorization API token (UMA 1.0.1 Core, 3.4 and 3.5).
//!
//! Claims are pushed only when the server asks for them. Answers of OpenAM and of Keycloak as it was then become the outcomes of UMA 2.0.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::step::excerpt;
use super::trade::STEP;
use super::{ANSWER, AuthorizationServer, ClaimsToken, Client, FetchError, Traded, bearer};
use crate::uma::{PermissionTicket, Rpt};

/// What an ID token is called as a claim; the second name is OpenAM's.
const ID_TOKEN: [&str; 2] =
    ["http://openid.net/specs/openid-connect-core-1_0.html#IDToken", "http://openid.net/specs/openid-connect-core-1_0.html#HybridIDToken"];

/// An answer, good or bad, with the members of both.
#[derive(Deserialize, Default)]
struct Answer {
    rpt: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    /// OpenAM's words where there is no `error`.
    message: Option<String>,
    ticket: Option<String>,
    /// OpenAM names the claims beside the error, UMA 1.0.1 inside of `error_details`.
    #[serde(default)]
    requesting_party_claims: Value,
    #[serde(default)]
    error_details: Value,
}

impl Client {
    /// Trades a ticket, with the claims token as credential, and with an earlier RPT if that is to be upgraded.
    pub(super) async fn trade_at_rpt_endpoint(
        &self,
        server: &AuthorizationServer,
        endpoint: &Uri,
        (ticket, claims, earlier): (&PermissionTicket, Option<&ClaimsToken>, Option<&Rpt>),
    ) -> Result<(StatusCode, Traded), FetchError> {
        let claims = claims.ok_or(FetchError::NeedsUser)?;
        let mut message = Map::from_iter([("ticket".to_owned(), json!(ticket.0.expose()))]);
        if let Some(rpt) = earlier {
            message.insert("rpt".into(), json!(rpt.0.expose()));
        }
        if let Some(format) = claims.format() {
            message.insert("claim_tokens".into(), json!([{ "format": format, "token": claims.identity().expose() }]));
        }
        let mut request: Request<Bytes> = Request::new(Bytes::from(Value::Object(message).to_string()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, bearer(claims.access())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self.http.send(request, ANSWER, self.deadline()).await.map_err(|source| FetchError::Server { step: STEP, source })?;
        let status = answer.status();
        let read = match serde_json::from_slice::<Answer>(answer.body()) {
            Ok(read) => read,
            Err(source) if status.is_success() => return Err(FetchError::Malformed { step: STEP, source }),
            Err(_) => Answer::default(),
        };
        let traded = if status.is_success() { granted(read)? } else { not_granted(server, ticket, status, read)? };
        Ok((status, traded))
    }
}

fn granted(answer: Answer) -> Result<Traded, FetchError> {
    let rpt = answer.rpt.filter(|rpt| !rpt.is_empty()).ok_or(FetchError::Lacks { step: STEP, member: "rpt" })?;
    Ok(Traded::Rpt { rpt: Rpt(rpt.into()), upgraded: false, expires_in: None })
}

fn not_granted(server: &AuthorizationServer, ticket: &PermissionTicket, status: StatusCode, answer: Answer) -> Result<Traded, FetchError> {
    match answer.error.as_deref().unwrap_or_default() {
        "need_info" => Ok(need_info(server, ticket, &answer)),
        "request_submitted" => Ok(Traded::Submitted { ticket: None, interval: None }),
        "not_authorized" | "request_denied" | "access_denied" => Ok(Traded::Denied),
        // The old Keycloak checks the signature before anything else, and takes a ticket that it cannot read for its own mistake.
        "invalid_ticket" | "expired_ticket" | "invalid_signature" => Ok(Traded::TicketRefused),
        "invalid_rpt" => Ok(Traded::RptRefused),
        error => {
            let said = if error.is_empty() { status.canonical_reason().unwrap_or_default() } else { error };
            let description = answer.error_description.or(answer.message).unwrap_or_default();
            Err(FetchError::Refused { step: STEP, status: status.as_u16(), error: excerpt(said), description: excerpt(&description) })
        }
    }
}

/// UMA 1.0.1 Core, 3.5.4: which claims are wanted. Servers go on with the ticket that they were shown unless they give another.
fn need_info(server: &AuthorizationServer, ticket: &PermissionTicket, answer: &Answer) -> Traded {
    let details = answer.error_details.get("requesting_party_claims").unwrap_or(&Value::Null);
    let listed = [&answer.requesting_party_claims, &details["required_claims"]].into_iter().find_map(Value::as_array);
    let claims = listed.map(Vec::as_slice).unwrap_or_default();
    let words = |claim: &Value| ["friendly_name", "name", "claim_type"].into_iter().find_map(|name| claim[name].as_str()).map(excerpt);
    let next = [answer.ticket.as_deref(), details["ticket"].as_str()].into_iter().flatten().find(|ticket| !ticket.is_empty());
    Traded::NeedInfo {
        ticket: next.map_or_else(|| ticket.clone(), |next| PermissionTicket(next.into())),
        wanted: claims.iter().filter_map(words).collect(),
        redirect: None,
        format: claims.iter().find_map(|claim| format(server, claim)),
    }
}

/// How the ID token of this very server may be pushed for `claim`, if it may.
fn format(server: &AuthorizationServer, claim: &Value) -> Option<String> {
    let issuers = claim["issuer"].as_array();
    if issuers.is_some_and(|issuers| !issuers.iter().any(|issuer| issuer.as_str() == Some(&server.issuer))) {
        return None;
    }
    let formats = claim["claim_token_format"].as_array()?;
    formats.iter().filter_map(Value::as_str).find(|format| ID_TOKEN.contains(format)).map(str::to_owned)
}
