//! Discovery documents (UMA 2.0 Grant, 2; UMA 2.0 Federated Authorization, 2), and the page that says what this is.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Kind;
use super::answer::Answer;
use super::asked::{Asked, Place};
use super::state::State;

impl State {
    pub(super) fn discovery(&self, asked: &Asked) -> Answer {
        if asked.method != Method::GET && asked.method != Method::HEAD {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "unsupported_method_type", "");
        }
        let mut document = match self.kind {
            Kind::Uma2 => self.document(),
            Kind::Keycloak { .. } => self.keycloak_document(),
            Kind::Am => self.am_document(),
            Kind::OpenAm => self.openam_document(),
        };
        if asked.place == Place::OpenidConfiguration
            && let Some(members) = document.as_object_mut()
        {
            // Keycloak's OpenID document has none of the members of UMA.
            for name in ["permission_endpoint", "resource_registration_endpoint", "policy_endpoint", "claims_interaction_endpoint"] {
                members.remove(name);
            }
        }
        Answer::json(StatusCode::OK, &document)
    }

    pub(super) fn welcome(&self, _asked: &Asked) -> Answer {
        Answer::html(
            StatusCode::OK,
            format!(
                "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Embedded authorization server</title>\n\
                 <p>This is the embedded UMA 2.0 authorization server of uma-gateway. It is for trying only: it keeps everything in memory, its passwords are its users' names.</p>\n\
                 <p>Issuer <code>{0}</code>, discovery <a href=\"{0}/.well-known/uma2-configuration\">uma2-configuration</a>.</p>\n",
                self.issuer
            ),
        )
    }

    fn document(&self) -> Value {
        let issuer = &self.issuer;
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "introspection_endpoint": format!("{issuer}/introspect"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "permission_endpoint": format!("{issuer}/permission"),
            "resource_registration_endpoint": format!("{issuer}/resource_set"),
            "claims_interaction_endpoint": format!("{issuer}/claims"),
            "uma_profiles_supported": [],
            "scopes_supported": ["openid", "uma_protection", "share"],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "grant_types_supported": GRANTS,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
            "service_documentation": "embedded in uma-gateway, for trying only",
        })
    }

    fn am_document(&self) -> Value {
        let (oauth2, uma) = (&self.issuer, self.issuer.replace("/am/oauth2", "/am/uma"));
        json!({
            "issuer": oauth2,
            "authorization_endpoint": format!("{oauth2}/authorize"),
            "token_endpoint": format!("{oauth2}/access_token"),
            "introspection_endpoint": format!("{oauth2}/introspect"),
            "revocation_endpoint": format!("{oauth2}/token/revoke"),
            "permission_endpoint": format!("{uma}/permission_request"),
            "resource_registration_endpoint": format!("{uma}/resource_set"),
            "grant_types_supported": GRANTS,
        })
    }

    fn openam_document(&self) -> Value {
        let (oauth2, uma) = (&self.issuer, self.issuer.replace("/am/oauth2", "/am/uma"));
        json!({
            "version": "1.0",
            "issuer": oauth2,
            "authorization_endpoint": format!("{oauth2}/authorize"),
            "token_endpoint": format!("{oauth2}/access_token"),
            "introspection_endpoint": format!("{oauth2}/introspect"),
            "permission_registration_endpoint": format!("{uma}/permission_request"),
            "resource_set_registration_endpoint": format!("{oauth2}/resource_set"),
            "rpt_endpoint": format!("{uma}/authz_request"),
        })
    }

    fn keycloak_document(&self) -> Value {
        let issuer = &self.issuer;
        let connect = format!("{issuer}/protocol/openid-connect");
        let protection = format!("{issuer}/authz/protection");
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{connect}/auth"),
            "token_endpoint": format!("{connect}/token"),
            "introspection_endpoint": format!("{connect}/token/introspect"),
            "revocation_endpoint": format!("{connect}/revoke"),
            "end_session_endpoint": format!("{connect}/logout"),
            "registration_endpoint": format!("{issuer}/clients-registrations/openid-connect"),
            "permission_endpoint": format!("{protection}/permission"),
            "resource_registration_endpoint": format!("{protection}/resource_set"),
            "policy_endpoint": format!("{protection}/uma-policy"),
            "scopes_supported": ["openid"],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "grant_types_supported": GRANTS,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "service_documentation": "embedded in uma-gateway, for trying only",
        })
    }
}

const GRANTS: [&str; 5] = ["authorization_code", "client_credentials", "password", "refresh_token", "urn:ietf:params:oauth:grant-type:uma-ticket"];
