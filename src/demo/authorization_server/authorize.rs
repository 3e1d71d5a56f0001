//! The login form: authorization codes (RFC 6749, 4.1, with PKCE) and claims gathering (UMA 2.0 Grant, 3.3.2).

use http::{Method, StatusCode};
use url::Url;

use super::answer::Answer;
use super::asked::{Asked, Parameters};
use super::mint;
use super::state::{Client, Code, State};

/// Seconds that a code may wait.
const CODE_LIFETIME: i64 = 60;

impl State {
    pub(super) fn authorize(&mut self, asked: &Asked) -> Answer {
        let parameters = if asked.method == Method::POST { &asked.form } else { &asked.query };
        let (client, redirect) = match self.redirect_of(parameters, "redirect_uri") {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        let state = parameters.get("state");
        // From here on errors go back to the client (RFC 6749, 4.1.2.1).
        if parameters.get("response_type") != Some("code") {
            return back(&redirect, &[("error", "unsupported_response_type")], state);
        }
        let challenge = parameters.get("code_challenge").map(str::to_owned);
        let public = self.clients.get(&client).is_none_or(|client| client.secret.is_none());
        let plain = challenge.is_some() && parameters.get("code_challenge_method") != Some("S256");
        if plain || (public && challenge.is_none()) {
            return back(&redirect, &[("error", "invalid_request"), ("error_description", "PKCE with S256 is needed")], state);
        }
        let user = match self.signed_in(asked) {
            Ok(user) => user,
            Err(form) => return form,
        };
        let code = mint::opaque();
        let scope = parameters.get("scope").unwrap_or_default().to_owned();
        let exp = self.now().saturating_add(CODE_LIFETIME);
        self.codes.insert(code.clone(), Code { client, user, scope, redirect: redirect.to_string(), challenge, exp });
        back(&redirect, &[("code", &code), ("iss", &self.issuer)], state)
    }

    pub(super) fn gather_claims(&mut self, asked: &Asked) -> Answer {
        let parameters = if asked.method == Method::POST { &asked.form } else { &asked.query };
        let (_, redirect) = match self.redirect_of(parameters, "claims_redirect_uri") {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        let user = match self.signed_in(asked) {
            Ok(user) => user,
            Err(form) => return form,
        };
        // The ticket dies here as it does at the token endpoint (UMA 2.0 Grant, 5.5); the one that goes back is new.
        let ticket = parameters.get("ticket").and_then(|text| self.take_ticket(text));
        let Some(mut ticket) = ticket else { return back(&redirect, &[("error", "invalid_ticket")], parameters.get("state")) };
        ticket.user = Some(user);
        let text = self.renew(ticket);
        back(&redirect, &[("ticket", &text)], parameters.get("state"))
    }

    /// The client and the address to go back to; without a good one the browser goes nowhere.
    fn redirect_of(&self, parameters: &Parameters, name: &str) -> Result<(String, Url), Answer> {
        let id = parameters.get("client_id").unwrap_or_default();
        let client = self.clients.get(id).ok_or_else(|| Answer::bad_request("invalid_request", "no such client"))?;
        let refused = || Answer::bad_request("invalid_request", "the redirect address is not registered");
        let text = parameters.get(name).ok_or_else(refused)?;
        let url = Url::parse(text).ok().filter(|url| url.fragment().is_none()).ok_or_else(refused)?;
        if allowed(client, &url) { Ok((id.to_owned(), url)) } else { Err(refused()) }
    }

    /// The user that the posted form signs in, or the form.
    fn signed_in(&self, asked: &Asked) -> Result<String, Answer> {
        if asked.method != Method::POST {
            return Err(form(&asked.query, asked, None));
        }
        let (name, password) = (asked.form.get("username").unwrap_or_default(), asked.form.get("password").unwrap_or_default());
        if self.user_is(name, password) { Ok(name.to_owned()) } else { Err(form(&asked.form, asked, Some("That is not the right name and password."))) }
    }
}

/// Scheme and host as registered; on loopback the port is free (RFC 8252, 7.3).
fn allowed(client: &Client, url: &Url) -> bool {
    client.redirects.iter().filter_map(|text| Url::parse(text).ok()).any(|registered| {
        let host = registered.scheme() == url.scheme() && registered.host() == url.host();
        let loopback = url.host().is_some_and(|host| match host {
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
            url::Host::Domain(_) => false,
        });
        host && url.path().starts_with(registered.path()) && (loopback || registered.port() == url.port())
    })
}

fn back(redirect: &Url, parameters: &[(&str, &str)], state: Option<&str>) -> Answer {
    let mut url = redirect.clone();
    url.query_pairs_mut().extend_pairs(parameters).extend_pairs(state.map(|state| ("state", state)));
    Answer::redirect(url.as_str())
}

const CARRIED: [&str; 9] =
    ["client_id", "redirect_uri", "claims_redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method", "ticket"];

fn form(parameters: &Parameters, asked: &Asked, problem: Option<&str>) -> Answer {
    let hidden: String = CARRIED
        .iter()
        .filter_map(|name| parameters.get(name).map(|value| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escape(value))))
        .collect();
    let action = escape(asked.target.split('?').next().unwrap_or("/"));
    let problem = problem.map(|text| format!("<p role=\"alert\">{text}</p>\n")).unwrap_or_default();
    let status = if problem.is_empty() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Sign in</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:24em;margin:12vh auto;padding:0 1em}}</style>\n\
         <h1>Sign in</h1>\n<p>Embedded authorization server, for trying only: a password is its user's name.</p>\n{problem}\
         <form method=\"post\" action=\"{action}\">\n{hidden}\
         <p><label>Name <input name=\"username\" autocomplete=\"username\" autofocus></label></p>\n\
         <p><label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\"></label></p>\n\
         <p><button>Sign in</button></p>\n</form>\n"
    );
    Answer::html(status, page)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
