//! The live decision: what an authorization server grants now to the bearer of a token, for servers whose introspection does not follow a withdrawal.
//!
//! Asked by `response_mode=permissions`, so that the answer lists scopes; a bare yes would count one granted scope for all that were asked.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::error::AskError;
use super::profile::Profile;
use super::server::{error_member, status};
use super::{introspection, json};
use crate::http_client::form;
use crate::telemetry::AsEndpoint;
use crate::uma::{ResourceId, Rpt, Scope};

const ENDPOINT: AsEndpoint = AsEndpoint::Decision;

/// The form that asks.
pub fn request(client: &str, rpt: &Rpt, resource: &ResourceId) -> Bytes {
    form(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:uma-ticket"),
        ("audience", client),
        ("permission", &resource.0),
        ("response_mode", "permissions"),
        ("submit_request", "false"),
        ("subject_token", rpt.0.expose()),
    ])
}

/// Reads the answer; `None` is the server's "no".
///
/// # Errors
/// Neither a list of permissions nor a "no".
pub fn read(response: &Response<Bytes>, resource: &ResourceId) -> Result<Option<Vec<Scope>>, AskError> {
    match (response.status(), error_member(response.body()).as_deref()) {
        (StatusCode::OK, _) => granted(response.body(), resource),
        // What a withdrawn share, a refused or dead token and a deleted resource are answered with.
        (StatusCode::FORBIDDEN, Some("access_denied" | "not_authorized"))
        | (StatusCode::BAD_REQUEST, Some("invalid_resource" | "invalid_scope" | "invalid_grant")) => Ok(None),
        // Keycloak refuses the identity of an inactive token in these words; our own credential is refused by 401.
        (StatusCode::BAD_REQUEST, Some("unauthorized_client")) => Ok(None),
        (StatusCode::UNAUTHORIZED, _) => Err(AskError::CredentialRefused { endpoint: ENDPOINT.label(), look_at: None }),
        _ => Err(status(ENDPOINT, response)),
    }
}

/// A question to the entitlement API of the old Keycloak: the bearer of the token asks for itself.
///
/// # Errors
/// The token cannot stand in a header.
pub fn entitlement(rpt: &Rpt) -> Result<http::request::Builder, AskError> {
    let mut bearer =
        HeaderValue::try_from(format!("Bearer {}", rpt.0.expose())).map_err(|_| AskError::unusable(ENDPOINT.label(), "the token cannot be sent"))?;
    bearer.set_sensitive(true);
    Ok(Request::builder().method(Method::POST).header(AUTHORIZATION, bearer).header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json"))
}

/// Without scopes all that are granted are told; with them a part would be a "no" to all.
pub fn entitlement_body(resource: &ResourceId) -> Bytes {
    json!({ "permissions": [{ "resource_set_id": &*resource.0 }] }).to_string().into()
}

/// Reads its answer: a new token, with whatever is granted now.
///
/// # Errors
/// Neither a token nor a "no".
pub fn read_entitlement(profile: &Profile, response: &Response<Bytes>, resource: &ResourceId) -> Result<Option<Vec<Scope>>, AskError> {
    let unusable = |why: &'static str| AskError::unusable(ENDPOINT.label(), why);
    match (response.status(), error_member(response.body()).as_deref()) {
        (StatusCode::OK, _) => {
            let document = json::parse(response.body()).map_err(|error| AskError::no_json(ENDPOINT.label(), &error))?;
            let rpt = document.get("rpt").and_then(Value::as_str).ok_or_else(|| unusable("it has no token"))?;
            // It names other resources as well where it does not know this one.
            let granted = introspection::granted(profile, &Rpt(rpt.into()))?.into_iter().filter(|permission| permission.resource.as_ref() == Some(resource));
            let mut granted = granted.peekable();
            Ok(granted.peek().is_some().then(|| granted.filter_map(|permission| permission.scopes).flatten().collect()))
        }
        // The second is what a dead token is told.
        (StatusCode::FORBIDDEN, Some("not_authorized" | "invalid_bearer_token")) => Ok(None),
        _ => Err(status(ENDPOINT, response)),
    }
}

fn granted(body: &[u8], resource: &ResourceId) -> Result<Option<Vec<Scope>>, AskError> {
    let unusable = |why: &'static str| AskError::unusable(ENDPOINT.label(), why);
    let Ok(Value::Array(entries)) = json::parse(body) else { return Err(unusable("it is not a list of permissions")) };
    let mut found = None;
    for entry in &entries {
        let id = entry.get("rsid").and_then(Value::as_str).ok_or_else(|| unusable("a permission names no resource"))?;
        if id != &*resource.0 {
            continue;
        }
        let scopes: &mut Vec<Scope> = found.get_or_insert_with(Vec::new);
        match entry.get("scopes") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for scope in list {
                    scopes.push(Scope(scope.as_str().ok_or_else(|| unusable("a scope is not a text"))?.into()));
                }
            }
            Some(_) => return Err(unusable("the scopes are not a list")),
        }
    }
    Ok(found)
}
