//! The live decision of Keycloak: what is granted now, asked by the resource server with the RPT as `subject_token`.
//!
//! Introspection there keeps a permission until the RPT ends, whatever the owner does meanwhile; this call does not.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::asked::Asked;
use super::state::{Granted, State};

impl State {
    pub(super) fn live_decision(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        if asked.bearer().is_none() {
            self.client(asked)?;
        }
        let audience = asked.form.get("audience").ok_or_else(|| Answer::bad_request("invalid_request", "You must provide the issuedFor"))?;
        if self.clients.get(audience).is_none_or(|server| !server.resource_server) {
            return Err(Answer::bad_request("invalid_client", "Client does not support permissions"));
        }
        let subject = asked.bearer().or_else(|| asked.form.get("subject_token"));
        let refused = || Answer::bad_request("unauthorized_client", "Invalid identity");
        let user = subject.and_then(|text| self.live_token(text)).and_then(|token| token.user.clone()).ok_or_else(refused)?;
        let mut granted = Vec::new();
        for wanted in asked.form.all("permission") {
            let (resource, scopes) = wanted.split_once('#').map_or((wanted, None), |(resource, scopes)| (resource, Some(scopes)));
            let found = self.find_resource(resource).ok_or_else(|| Answer::bad_request("invalid_resource", "Resource with id does not exist."))?;
            if scopes.is_some_and(|scopes| !scopes.split(',').all(|scope| found.scopes.iter().any(|own| own == scope))) {
                return Err(Answer::bad_request("invalid_scope", "One of the given scopes is invalid"));
            }
            let now = self.granted_now(&found.id, &user);
            let has: BTreeSet<String> = match scopes {
                Some(scopes) => scopes.split(',').filter(|scope| now.contains(*scope)).map(str::to_owned).collect(),
                None => now,
            };
            if !has.is_empty() {
                granted.push(Granted { resource: found.id.clone(), scopes: has.into_iter().collect(), exp: 0 });
            }
        }
        if granted.is_empty() {
            return Err(Answer::error(StatusCode::FORBIDDEN, "access_denied", "not_authorized"));
        }
        match asked.form.get("response_mode") {
            Some("permissions") => {
                let list: Vec<Value> = granted.iter().map(|granted| self.keycloak_permission(granted)).collect();
                Ok(Answer::json(StatusCode::OK, &Value::from(list)))
            }
            Some("decision") => Ok(Answer::json(StatusCode::OK, &json!({ "result": true }))),
            _ => Err(Answer::bad_request("invalid_request", "response_mode is decision or permissions here")),
        }
    }
}
