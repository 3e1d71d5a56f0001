//! The token endpoint: PAT, access tokens, claims tokens, refresh, revocation. RPTs are in `uma_grant`.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::Answer;
use super::asked::Asked;
use super::mint;
use super::state::{Refresh, State, Token, TokenKind};

const UMA_TICKET: &str = "urn:ietf:params:oauth:grant-type:uma-ticket";
const PROTECTION: &str = "uma_protection";
/// Refresh tokens live so many times as long as what they refresh.
const REFRESH_FACTOR: i64 = 12;

impl State {
    pub(super) fn token(&mut self, asked: &Asked) -> Answer {
        if asked.method != Method::POST {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "the token endpoint takes POST");
        }
        if asked.form.repeated() {
            return Answer::bad_request("invalid_request", "a parameter is repeated");
        }
        let answered = match asked.form.get("grant_type") {
            Some("client_credentials") => self.client_credentials_grant(asked),
            Some("password") => self.password_grant(asked),
            Some("authorization_code") => self.code_grant(asked),
            Some("refresh_token") => self.refresh_grant(asked),
            Some(UMA_TICKET) if self.keycloak() && asked.form.get("ticket").is_none() => self.live_decision(asked),
            Some(UMA_TICKET) => self.uma_grant(asked),
            Some(_) => Err(Answer::bad_request("unsupported_grant_type", "")),
            None => Err(Answer::bad_request("invalid_request", "grant_type is missing")),
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    /// Who asks: the client's id, once its secret or assertion has been checked. A public client is believed, since PKCE or its user vouches for it.
    pub(super) fn client(&self, asked: &Asked) -> Result<String, Answer> {
        let refused = || Answer::unauthorized("Basic realm=\"clients\"", "invalid_client", "Invalid client or Invalid client credentials");
        if asked.form.get("client_assertion").is_some() {
            return self.signed_by(asked).ok_or_else(refused);
        }
        let (id, secret) = asked.client_credentials()?.ok_or_else(refused)?;
        let client = self.clients.get(&id).ok_or_else(refused)?;
        let good = match (&client.secret, secret) {
            (Some(expected), Some(given)) => expected.matches(&given),
            (None, None) => client.key.is_none(),
            _ => false,
        };
        if good { Ok(id) } else { Err(refused()) }
    }

    fn client_credentials_grant(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let id = self.client(asked)?;
        let client = self.clients.get(&id).filter(|client| client.service_account && (client.secret.is_some() || client.key.is_some() || client.certified));
        let Some(client) = client else {
            return Err(Answer::error(StatusCode::UNAUTHORIZED, "unauthorized_client", "this client has no service account"));
        };
        let scope = asked.form.get("scope").unwrap_or_default();
        if self.am() && words(scope).any(|word| word == PROTECTION) {
            return Err(Answer::bad_request("invalid_scope", "a PAT is a resource owner's"));
        }
        // Keycloak gives a PAT for the role, whatever scope is asked for, and checks it only when it is used.
        let asks = self.keycloak() || words(scope).any(|word| word == PROTECTION);
        if asks && !client.protection && !self.keycloak() {
            return Err(Answer::bad_request("invalid_scope", "this client may not have uma_protection"));
        }
        let kind = if asks { TokenKind::Pat } else { TokenKind::Access };
        let token = self.new_token(kind, None, &id, if asks { PROTECTION } else { scope }, self.settings.pat_lifetime);
        Ok(self.token_answer(token, self.settings.pat_lifetime, false))
    }

    fn password_grant(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let client = self.client(asked)?;
        let (Some(name), Some(password)) = (asked.form.get("username"), asked.form.get("password")) else {
            return Err(Answer::bad_request("invalid_request", "username or password is missing"));
        };
        if !self.user_is(name, password) {
            return Err(Answer::bad_request("invalid_grant", "Invalid user credentials"));
        }
        self.user_tokens(&client, name, asked.form.get("scope").unwrap_or_default())
    }

    fn code_grant(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let client = self.client(asked)?;
        let code = asked.form.get("code").and_then(|code| self.codes.remove(code));
        let now = self.now();
        let refused = |why| Answer::bad_request("invalid_grant", why);
        let code = code.filter(|code| code.exp > now && code.client == client).ok_or_else(|| refused("Code not valid"))?;
        if asked.form.get("redirect_uri") != Some(code.redirect.as_str()) {
            return Err(refused("Incorrect redirect_uri"));
        }
        if let Some(challenge) = &code.challenge
            && asked.form.get("code_verifier").map(mint::code_challenge).as_ref() != Some(challenge)
        {
            return Err(refused("PKCE verification failed"));
        }
        self.user_tokens(&client, &code.user, &code.scope)
    }

    fn refresh_grant(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let client = self.client(asked)?;
        let text = asked.form.get("refresh_token").ok_or_else(|| Answer::bad_request("invalid_request", "refresh_token is missing"))?;
        let refused = || Answer::bad_request("invalid_grant", "Token is not active");
        let Refresh { token, lifetime } = self.refresh_tokens.get(text).filter(|refresh| refresh.token.client == client).cloned().ok_or_else(refused)?;
        if !self.alive(&token) {
            return Err(refused());
        }
        let mut renewed = Token { iat: self.now(), exp: self.now().saturating_add(lifetime), id: mint::uuid(), ..token };
        if let Some(scope) = asked.form.get("scope") {
            self.narrow(&mut renewed, scope)?;
        }
        // Permissions of an RPT are renewed with it; nothing is assessed anew and nothing is added (UMA 2.0 Grant, 3.6).
        let exp = renewed.iat.saturating_add(self.settings.permission_lifetime.unwrap_or(lifetime));
        renewed.permissions.iter_mut().for_each(|granted| granted.exp = exp);
        self.refresh_tokens.remove(text);
        Ok(self.token_answer(renewed, lifetime, true))
    }

    /// Keeps only the scopes that are asked for (RFC 6749, 6): they can become fewer, never more.
    fn narrow(&self, token: &mut Token, scope: &str) -> Result<(), Answer> {
        let wanted: Vec<&str> = words(scope).collect();
        if token.kind == TokenKind::Rpt {
            let held = |word: &&str| token.permissions.iter().any(|granted| granted.scopes.iter().any(|scope| scope == word));
            if !wanted.iter().all(held) {
                return Err(Answer::bad_request("invalid_scope", "a refresh cannot widen"));
            }
            for granted in &mut token.permissions {
                granted.scopes.retain(|scope| wanted.contains(&scope.as_str()));
            }
            token.permissions.retain(|granted| !granted.scopes.is_empty());
            return Ok(());
        }
        if !wanted.iter().all(|word| words(&token.scope).any(|held| held == *word)) {
            return Err(Answer::bad_request("invalid_scope", "a refresh cannot widen"));
        }
        wanted.join(" ").clone_into(&mut token.scope);
        Ok(())
    }

    /// Access token, refresh token and, for scope `openid`, the claims token of a user.
    fn user_tokens(&mut self, client: &str, user: &str, scope: &str) -> Result<Answer, Answer> {
        let asks_protection = words(scope).any(|word| word == PROTECTION);
        if asks_protection && self.clients.get(client).is_none_or(|client| !client.protection) {
            return Err(Answer::bad_request("invalid_scope", "this client may not have uma_protection"));
        }
        // A PAT of a person: it belongs to that owner (UMA 2.0 Federated Authorization, 1.3).
        let (kind, lifetime) = if asks_protection { (TokenKind::Pat, self.settings.pat_lifetime) } else { (TokenKind::Access, self.settings.token_lifetime) };
        let token = self.new_token(kind, Some(user), client, scope, lifetime);
        let mut answer = self.token_body(token, lifetime, true);
        if words(scope).any(|word| word == "openid") {
            let claims = self.new_token(TokenKind::Id, Some(user), client, "openid", self.settings.token_lifetime);
            let text = self.issue_token(claims);
            if let Some(members) = answer.as_object_mut() {
                members.insert("id_token".into(), text.into());
            }
        }
        Ok(Answer::json(StatusCode::OK, &answer))
    }

    pub(super) fn token_answer(&mut self, token: Token, lifetime: i64, refreshable: bool) -> Answer {
        Answer::json(StatusCode::OK, &self.token_body(token, lifetime, refreshable))
    }

    /// A token response (RFC 6749, 5.1). An RPT has no `scope`: each scope belongs to a resource (UMA 2.0 Grant, 3.3.5).
    pub(super) fn token_body(&mut self, token: Token, lifetime: i64, refreshable: bool) -> Value {
        let mut answer = json!({ "token_type": "Bearer", "expires_in": lifetime });
        let (kind, scope) = (token.kind, token.scope.clone());
        let refresh = refreshable.then(|| {
            let text = mint::opaque();
            let exp = token.iat.saturating_add(lifetime.saturating_mul(REFRESH_FACTOR));
            self.refresh_tokens.insert(text.clone(), Refresh { token: Token { exp, ..token.clone() }, lifetime });
            text
        });
        let text = self.issue_token(token);
        if let Some(members) = answer.as_object_mut() {
            members.insert("access_token".into(), text.into());
            if let Some(refresh) = refresh {
                members.insert("refresh_token".into(), refresh.into());
            }
            if kind != TokenKind::Rpt && !scope.is_empty() {
                members.insert("scope".into(), scope.into());
            }
        }
        answer
    }

    pub(super) fn user_is(&self, name: &str, password: &str) -> bool {
        self.users.get(name).is_some_and(|user| user.enabled && user.password.matches(password))
    }

    /// Revocation (RFC 7009): 200 whether or not the token was known.
    pub(super) fn revocation(&mut self, asked: &Asked) -> Answer {
        let client = match self.client(asked) {
            Ok(client) => client,
            Err(refusal) => return refusal,
        };
        let Some(text) = asked.form.get("token") else { return Answer::bad_request("invalid_request", "token is missing") };
        if let Some(token) = self.tokens.get_mut(text).filter(|token| token.client == client) {
            token.revoked = true;
        }
        if self.refresh_tokens.get(text).is_some_and(|refresh| refresh.token.client == client) {
            self.refresh_tokens.remove(text);
        }
        if self.pcts.get(text).is_some_and(|(owner, _)| *owner == client) {
            self.pcts.remove(text);
        }
        Answer::empty(StatusCode::OK)
    }
}

/// The words of a `scope` parameter.
pub(super) fn words(scope: &str) -> impl Iterator<Item = &str> {
    scope.split(' ').filter(|word| !word.is_empty())
}
