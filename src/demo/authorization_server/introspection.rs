//! Introspection (RFC 7662; UMA 2.0 Federated Authorization, 5.1).

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Kind;
use super::answer::Answer;
use super::asked::Asked;
use super::state::{Granted, State, Token, TokenKind, subject};

impl State {
    pub(super) fn introspect(&mut self, asked: &Asked) -> Answer {
        if asked.method != Method::POST {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "introspection takes POST");
        }
        let (caller, owner) = match self.introspector(asked) {
            Ok(caller) => caller,
            Err(refusal) => return refusal,
        };
        let Some(text) = asked.form.get("token").filter(|_| !asked.form.repeated()) else {
            return Answer::bad_request("invalid_request", "token is missing, or a parameter is repeated");
        };
        let permissions_only = match asked.form.get("token_type_hint") {
            Some("requesting_party_token") => true,
            Some(hint) if self.keycloak() && !matches!(hint, "access_token" | "refresh_token") => {
                return Answer::bad_request("invalid_request", "Unsupported token type");
            }
            _ => false,
        };
        // A token for another resource server is none of the caller's business (RFC 7662, 4). Keycloak tells everyone.
        let token = self.live_token(text).filter(|token| self.keycloak() || token.kind != TokenKind::Rpt || token.audience == caller);
        let token = token.filter(|token| self.kind != Kind::Am || self.concerns(token, owner.as_deref()));
        match token {
            // Nothing else: neither why nor since when (RFC 7662, 2.2).
            None => Answer::json(StatusCode::OK, &json!({ "active": false })),
            Some(token) if self.keycloak() => Answer::json(StatusCode::OK, &self.keycloak_introspection(token, permissions_only).into()),
            Some(token) => Answer::json(StatusCode::OK, &self.introspection(token).into()),
        }
    }

    /// The resource server that asks: by its PAT, or by id and secret where that is allowed.
    fn introspector(&self, asked: &Asked) -> Result<(String, Option<String>), Answer> {
        if self.keycloak() {
            // Keycloak takes the client's own credentials only, and says so with an odd code.
            return match self.client(asked) {
                Ok(client) if asked.bearer().is_none() => Ok((client, None)),
                _ => Err(Answer::error(StatusCode::UNAUTHORIZED, "invalid_request", "Authentication failed.")),
            };
        }
        if asked.bearer().is_none() && self.settings.client_may_introspect {
            return self.client(asked).map(|client| (client, None));
        }
        if self.uma1() {
            return Err(Answer::unauthorized("Basic realm=\"/\"", "invalid_client", "Client authentication failed"));
        }
        self.protector(asked).map(|protector| (protector.client, protector.owner))
    }

    /// Whether AM tells this owner of a token: of one that is for the owner's resources only.
    fn concerns(&self, token: &Token, owner: Option<&str>) -> bool {
        let owns = |granted: &Granted| self.resources.get(&granted.resource).is_some_and(|resource| Some(&*resource.owner) == owner);
        token.kind != TokenKind::Rpt || token.permissions.iter().all(owns)
    }

    fn introspection(&self, token: &Token) -> Map<String, Value> {
        let mut answer = self.who_and_when(token);
        match token.kind {
            TokenKind::Rpt => {
                let permissions: Vec<Value> = token.permissions.iter().filter_map(|granted| self.permission_entry(token, granted)).collect();
                answer.insert("permissions".into(), permissions.into());
                if self.uma1() {
                    answer.retain(|name, _| matches!(name.as_str(), "active" | "iss" | "exp" | "permissions"));
                }
            }
            TokenKind::Access | TokenKind::Id | TokenKind::Pat => {
                answer.insert("scope".into(), token.scope.clone().into());
            }
        }
        answer.extend(token.extra.clone());
        answer
    }

    /// A permission as UMA 2.0 Federated Authorization, 5.1.1, has it: only what is still shared.
    fn permission_entry(&self, token: &Token, granted: &Granted) -> Option<Value> {
        let now = self.granted_now(&granted.resource, token.user.as_deref().unwrap_or_default());
        let scopes: Vec<&String> = granted.scopes.iter().filter(|scope| now.contains(*scope)).collect();
        let shared = !scopes.is_empty() && granted.exp > self.now();
        if self.uma1() {
            return shared.then(|| json!({ "resource_set_id": granted.resource, "scopes": scopes }));
        }
        shared.then(|| json!({ "resource_id": granted.resource, "resource_scopes": scopes, "exp": granted.exp, "iat": token.iat }))
    }

    /// With the hint permissions and nothing about the person, without it the other way round; both as the RPT was issued, whatever was withdrawn since.
    fn keycloak_introspection(&self, token: &Token, permissions_only: bool) -> Map<String, Value> {
        let mut answer = self.who_and_when(token);
        answer.insert("typ".into(), "Bearer".into());
        if permissions_only {
            for name in ["iss", "sub", "sid", "azp", "client_id", "username", "preferred_username", "scope", "nbf", "token_type"] {
                answer.remove(name);
            }
            if token.kind == TokenKind::Rpt {
                let permissions = token.permissions.iter().map(|granted| {
                    let mut entry = self.keycloak_permission(granted);
                    if let Some(members) = entry.as_object_mut() {
                        members.insert("resource_id".into(), granted.resource.clone().into());
                        members.insert("resource_scopes".into(), granted.scopes.clone().into());
                    }
                    entry
                });
                answer.insert("permissions".into(), permissions.collect::<Vec<_>>().into());
            }
        } else {
            answer.insert("azp".into(), token.client.clone().into());
            answer.insert("scope".into(), token.scope.clone().into());
            answer.extend(token.extra.clone());
        }
        answer
    }

    fn who_and_when(&self, token: &Token) -> Map<String, Value> {
        let mut answer = Map::new();
        answer.insert("active".into(), true.into());
        answer.insert("iss".into(), self.issuer.clone().into());
        answer.insert("aud".into(), token.audience.clone().into());
        answer.insert("client_id".into(), token.client.clone().into());
        answer.insert("token_type".into(), "Bearer".into());
        answer.insert("jti".into(), token.id.clone().into());
        answer.insert("iat".into(), token.iat.into());
        answer.insert("exp".into(), token.exp.into());
        if let Some(user) = &token.user {
            answer.insert("sub".into(), subject(user).into());
            answer.insert("username".into(), user.clone().into());
            answer.insert("sid".into(), token.session.clone().into());
        }
        answer
    }
}
