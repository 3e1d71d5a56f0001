//! The UMA grant: a ticket and claims are traded for an RPT (UMA 2.0 Grant, 3.3).
//!
//! Default deny: only what the owner has shared with the requesting party is granted, and whoever shows no claims gets `need_info`, never an RPT.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::json;

use super::answer::Answer;
use super::asked::Asked;
use super::mint;
use super::state::{Granted, Pending, State, Ticket, Token, TokenKind};
use super::token::words;

/// The claim token formats that are understood. Each says that the token is pushed as it is.
const FORMATS: [&str; 3] = [
    "http://openid.net/specs/openid-connect-core-1_0.html#IDToken",
    "urn:ietf:params:oauth:token-type:id_token",
    "urn:ietf:params:oauth:token-type:access_token",
];

impl State {
    pub(super) fn uma_grant(&mut self, asked: &Asked) -> Result<Answer, Answer> {
        let client = self.trading_client(asked)?;
        if asked.form.get("claim_token").is_some() != asked.form.get("claim_token_format").is_some() {
            return Err(Answer::bad_request("invalid_request", "claim_token and claim_token_format come together"));
        }
        let text = asked.form.get("ticket").ok_or_else(|| Answer::bad_request("invalid_request", "ticket is missing"))?;
        let mut ticket = self.take_ticket(text).ok_or_else(|| self.ticket_refused())?;
        let Some(user) = self.requesting_party(asked, &client, &ticket) else {
            return Err(self.need_info(ticket));
        };
        ticket.user = Some(user.clone());
        let (granted, missing) = self.assess(asked, &client, &user, &ticket)?;
        if granted.is_empty() {
            return Err(self.not_granted(asked, ticket, &user, missing));
        }
        Ok(self.issue_rpt(asked, &client, &user, &ticket, granted))
    }

    /// The client. Keycloak also takes the client that the user's Bearer token was issued to.
    fn trading_client(&self, asked: &Asked) -> Result<String, Answer> {
        match asked.bearer() {
            Some(bearer) => match self.live_token(bearer) {
                Some(token) if token.user.is_some() => Ok(token.client.clone()),
                _ => Err(Answer::unauthorized("Bearer error=\"invalid_token\"", "invalid_grant", "Invalid bearer token")),
            },
            None => self.client(asked),
        }
    }

    fn ticket_refused(&self) -> Answer {
        if self.keycloak() {
            return Answer::error(StatusCode::FORBIDDEN, "invalid_ticket", "Invalid permission ticket.");
        }
        Answer::bad_request("invalid_grant", "the ticket is unknown, used or expired")
    }

    /// Who asks, by whatever the client has: Bearer token, claim token, PCT, or claims gathered with the ticket.
    fn requesting_party(&self, asked: &Asked, client: &str, ticket: &Ticket) -> Option<String> {
        if let Some(token) = asked.bearer() {
            return self.live_token(token)?.user.clone();
        }
        if let (Some(token), Some(format)) = (asked.form.get("claim_token"), asked.form.get("claim_token_format")) {
            return FORMATS.contains(&format).then(|| self.claimed(token)).flatten();
        }
        if let Some((_, user)) = asked.form.get("pct").and_then(|pct| self.pcts.get(pct)).filter(|(owner, _)| owner == client) {
            return Some(user.clone());
        }
        ticket.user.clone()
    }

    /// The user of a claim token, given as it is or base64url-encoded (UMA 2.0 Grant, 3.3.1).
    fn claimed(&self, token: &str) -> Option<String> {
        let decoded = || URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let found = self.live_token(token).or_else(|| decoded().and_then(|text| self.live_token(&text)));
        found.filter(|token| matches!(token.kind, TokenKind::Access | TokenKind::Id)).and_then(|token| token.user.clone())
    }

    fn need_info(&mut self, ticket: Ticket) -> Answer {
        if self.keycloak() {
            return Answer::error(StatusCode::FORBIDDEN, "access_denied", "not_authorized");
        }
        let ticket = self.renew(ticket);
        let required = json!([{
            "claim_token_format": FORMATS, "claim_type": "urn:oid:0.9.2342.19200300.100.1.1", "friendly_name": "user", "name": "sub", "issuer": [self.issuer],
        }]);
        let redirect = format!("{}/claims", self.issuer);
        Answer::json(StatusCode::FORBIDDEN, &json!({ "error": "need_info", "ticket": ticket, "required_claims": required, "redirect_user": redirect }))
    }

    /// The calculation of UMA 2.0 Grant, 3.3.4: what is granted, and what was asked for but is not.
    fn assess(&self, asked: &Asked, client: &str, user: &str, ticket: &Ticket) -> Result<(Vec<Granted>, Vec<Pending>), Answer> {
        let requested: BTreeSet<&str> = words(asked.form.get("scope").unwrap_or_default()).filter(|word| *word != "openid").collect();
        let offered =
            |scope: &&str| ticket.permissions.iter().filter_map(|(id, _)| self.resources.get(id)).any(|found| found.scopes.iter().any(|own| own == scope));
        if !self.keycloak() && !requested.iter().all(offered) {
            return Err(Answer::bad_request("invalid_scope", "no resource of the ticket has this scope"));
        }
        let registered = self.clients.get(client).map(|client| &client.scopes);
        let extra = requested.iter().filter(|scope| registered.is_some_and(|own| own.contains(**scope)));
        let extra: Vec<String> = extra.map(|scope| (*scope).to_owned()).collect();
        let exp = self.now().saturating_add(self.settings.permission_lifetime.unwrap_or(self.settings.rpt_lifetime));
        let (mut granted, mut missing) = (Vec::new(), Vec::new());
        for (id, scopes) in &ticket.permissions {
            let available = self.resources.get(id).map(|resource| resource.scopes.clone()).unwrap_or_default();
            // Keycloak reads a ticket without scopes as one for all of them.
            let wanted = if scopes.is_empty() && self.keycloak() { &available } else { scopes };
            let wanted: BTreeSet<&String> = wanted.iter().chain(extra.iter().filter(|scope| available.contains(scope))).collect();
            let now = self.granted_now(id, user);
            let (has, lacks): (Vec<&String>, Vec<&String>) = wanted.into_iter().partition(|scope| now.contains(*scope));
            if !has.is_empty() {
                granted.push(Granted { resource: id.clone(), scopes: has.into_iter().cloned().collect(), exp });
            }
            if !lacks.is_empty() {
                missing.push(Pending { resource: id.clone(), user: user.to_owned(), scopes: lacks.into_iter().cloned().collect() });
            }
        }
        Ok((granted, missing))
    }

    /// The errors of UMA 2.0 Grant, 3.3.6, for a request that no share covers.
    fn not_granted(&mut self, asked: &Asked, ticket: Ticket, user: &str, missing: Vec<Pending>) -> Answer {
        if self.keycloak() {
            let submits = asked.form.get("submit_request").is_none_or(|value| value == "true");
            if submits {
                self.submit(missing);
            }
            return Answer::error(StatusCode::FORBIDDEN, "access_denied", if submits { "request_submitted" } else { "not_authorized" });
        }
        let Some(interval) = self.settings.ask_owner.filter(|_| self.users.contains_key(user)) else {
            return Answer::error(StatusCode::FORBIDDEN, "request_denied", "");
        };
        self.submit(missing);
        let ticket = self.renew(ticket);
        Answer::json(StatusCode::FORBIDDEN, &json!({ "error": "request_submitted", "ticket": ticket, "interval": interval }))
    }

    fn submit(&mut self, missing: Vec<Pending>) {
        for pending in missing {
            if !self.pending.contains(&pending) {
                self.pending.push(pending);
            }
        }
    }

    /// Another ticket for the same request: its text is new, its life begins again.
    pub(super) fn renew(&mut self, ticket: Ticket) -> String {
        let exp = self.now().saturating_add(self.settings.ticket_lifetime);
        self.issue_ticket(Ticket { exp, ..ticket })
    }

    fn issue_rpt(&mut self, asked: &Asked, client: &str, user: &str, ticket: &Ticket, granted: Vec<Granted>) -> Answer {
        let lifetime = self.settings.rpt_lifetime;
        let earlier = asked.form.get("rpt").map(str::to_owned);
        let upgraded = earlier.as_deref().and_then(|rpt| self.tokens.get(rpt)).filter(|old| upgradable(old, client, user, ticket)).cloned();
        let mut token = self.new_token(TokenKind::Rpt, Some(user), client, "", lifetime);
        token.audience.clone_from(&ticket.client);
        token.permissions = granted;
        token.extra = self.next_rpt_claims.clone();
        if let Some(old) = &upgraded {
            merge(&mut token.permissions, &old.permissions);
        }
        let mut answer = match (&upgraded, earlier) {
            (Some(_), Some(text)) if self.settings.upgrade_in_place && !self.settings.jwt_shaped => {
                self.tokens.insert(text.clone(), token);
                json!({ "token_type": "Bearer", "expires_in": lifetime, "access_token": text })
            }
            (Some(_), Some(text)) => {
                // The new string replaces the old one (UMA 2.0 Grant, 3.3.5.1).
                if let Some(old) = self.tokens.get_mut(&text) {
                    old.revoked = true;
                }
                self.token_body(token, lifetime, true)
            }
            _ => self.token_body(token, lifetime, true),
        };
        if let Some(members) = answer.as_object_mut() {
            if upgraded.is_some() || self.keycloak() {
                members.insert("upgraded".into(), upgraded.is_some().into());
            }
            if !self.keycloak() {
                let pct = mint::opaque();
                self.pcts.insert(pct.clone(), (client.to_owned(), user.to_owned()));
                members.insert("pct".into(), pct.into());
            }
        }
        Answer::json(StatusCode::OK, &answer)
    }
}

/// Whether an RPT, even an expired one, may hand its permissions on: same client, same person, same resource server, not revoked.
fn upgradable(old: &Token, client: &str, user: &str, ticket: &Ticket) -> bool {
    old.kind == TokenKind::Rpt && !old.revoked && old.client == client && old.user.as_deref() == Some(user) && old.audience == ticket.client
}

/// Adds permissions; of two for one resource the scopes are joined.
pub(super) fn merge(into: &mut Vec<Granted>, more: &[Granted]) {
    for granted in more {
        match into.iter_mut().find(|own| own.resource == granted.resource) {
            Some(own) => {
                let new: Vec<String> = granted.scopes.iter().filter(|scope| !own.scopes.contains(scope)).cloned().collect();
                own.scopes.extend(new);
            }
            None => into.push(granted.clone()),
        }
    }
}
