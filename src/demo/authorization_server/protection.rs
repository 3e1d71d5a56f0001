//! Who may use the protection API, and its permission endpoint (UMA 2.0 Federated Authorization, 1.3 and 4).

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::Answer;
use super::asked::{Asked, Place};
use super::state::{State, Ticket, TokenKind};

/// Whose PAT was shown.
pub(super) struct Protector {
    /// The resource server.
    pub client: String,
    /// The owner whose PAT it is; none: the resource server's own, for all its resources.
    pub owner: Option<String>,
    /// When the PAT ends.
    pub exp: i64,
}

impl State {
    /// Checks the PAT of a protection API request.
    pub(super) fn protector(&self, asked: &Asked) -> Result<Protector, Answer> {
        let token = asked.bearer().and_then(|text| self.live_token(text)).ok_or_else(|| self.pat_refused())?;
        let protector = Protector { client: token.client.clone(), owner: token.user.clone(), exp: token.exp };
        let client = self.clients.get(&token.client);
        if self.keycloak() {
            // Keycloak: any token of a resource server's client may ask for tickets; resources need the role.
            return match client {
                Some(client) if !client.resource_server => {
                    Err(Answer::error(StatusCode::FORBIDDEN, "invalid_clientId", "Client application is not registered as a resource server."))
                }
                Some(client) if !client.protection && matches!(asked.place, Place::ResourceSet(_)) => {
                    Err(Answer::error(StatusCode::FORBIDDEN, "invalid_scope", "Requires uma_protection scope."))
                }
                _ => Ok(protector),
            };
        }
        if token.kind != TokenKind::Pat || client.is_none_or(|client| !client.protection) {
            return Err(Answer::error(StatusCode::FORBIDDEN, "insufficient_scope", "a PAT has scope uma_protection"));
        }
        Ok(protector)
    }

    fn pat_refused(&self) -> Answer {
        if self.keycloak() {
            return Answer::error(StatusCode::FORBIDDEN, "invalid_bearer_token", "Could not obtain bearer access_token from request.");
        }
        Answer::unauthorized("Bearer realm=\"protection\", error=\"invalid_token\"", "invalid_token", "the PAT is missing or not valid")
    }

    pub(super) fn permission(&mut self, asked: &Asked) -> Answer {
        let protector = match self.protector(asked) {
            Ok(protector) => protector,
            Err(refusal) => return refusal,
        };
        if asked.method != Method::POST {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "unsupported_method_type", "");
        }
        let permissions = match self.requested_permissions(asked, &protector) {
            Ok(permissions) => permissions,
            Err(refusal) => return refusal,
        };
        // Keycloak copies the PAT's end into the ticket.
        let exp = if self.keycloak() { protector.exp } else { self.now().saturating_add(self.settings.ticket_lifetime) };
        let ticket = self.issue_ticket(Ticket { client: protector.client, permissions, exp, user: None });
        Answer::json(StatusCode::CREATED, &json!({ "ticket": ticket }))
    }

    /// One object for one permission or an array for several (UMA 2.0 Federated Authorization, 4.1); Keycloak takes arrays only.
    fn requested_permissions(&self, asked: &Asked, protector: &Protector) -> Result<Vec<(String, Vec<String>)>, Answer> {
        let value: Value = serde_json::from_slice(&asked.body).map_err(|_| Answer::bad_request("invalid_request", "the body is not JSON"))?;
        if self.uma1() && !value.is_object() {
            return Err(Answer::bad_request("invalid_resource_set_id", "one object is wanted"));
        }
        let list = match value {
            Value::Array(list) if !list.is_empty() => list,
            Value::Array(_) => {
                return Err(Answer::bad_request(if self.keycloak() { "invalid_permission_request" } else { "invalid_request" }, "nothing is asked for"));
            }
            Value::Object(_) if self.keycloak() => return Err(Answer::bad_request("unknown_error", "Cannot parse the JSON")),
            object => vec![object],
        };
        let permissions: Vec<_> = list.iter().map(|entry| self.requested_permission(entry, protector)).collect::<Result<_, _>>()?;
        // All permissions of a ticket belong to one owner (UMA 2.0 Federated Authorization, 4).
        let owners = permissions.iter().filter_map(|(id, _)| self.resources.get(id)).map(|resource| &resource.owner);
        let one = owners.clone().zip(owners.skip(1)).all(|(left, right)| left == right);
        if one || self.keycloak() { Ok(permissions) } else { Err(Answer::bad_request("invalid_resource_id", "the resources have different owners")) }
    }

    fn requested_permission(&self, entry: &Value, protector: &Protector) -> Result<(String, Vec<String>), Answer> {
        let malformed = |why| Answer::bad_request("invalid_request", why);
        let (id, scopes) = if self.uma1() { ("resource_set_id", "scopes") } else { ("resource_id", "resource_scopes") };
        let id = entry.get(id).and_then(Value::as_str).ok_or_else(|| malformed("the resource is missing"))?;
        let known = self.resources.get(id).filter(|resource| resource.client == protector.client);
        let known = known.filter(|resource| protector.owner.as_ref().is_none_or(|owner| *owner == resource.owner));
        let unknown = if self.uma1() { "invalid_resource_set_id" } else { "invalid_resource_id" };
        let resource = known.ok_or_else(|| Answer::bad_request(unknown, "the resource is not registered"))?;
        let scopes = match entry.get(scopes) {
            Some(Value::Array(scopes)) => scopes.iter().map(|scope| scope.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>(),
            None if self.keycloak() => Some(Vec::new()),
            _ => None,
        };
        let scopes = scopes.ok_or_else(|| malformed("resource_scopes is missing or holds other things than texts"))?;
        if !scopes.iter().all(|scope| resource.scopes.contains(scope)) {
            return Err(Answer::bad_request("invalid_scope", "the resource has no such scope"));
        }
        Ok((id.to_owned(), scopes))
    }
}
