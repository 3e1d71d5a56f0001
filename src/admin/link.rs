//! `/owners/{authorization server}/link`: an owner's browser is sent to the authorization server and comes back, and the gateway is linked.
//!
//! Whoever reaches the door may begin; who has signed in, the server says. Addresses come from the configuration, never from `Host`. The pages hold no script
//! and no address but the one to begin again at, and say nothing that was brought along but an error code.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, COOKIE, LOCATION, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};

use super::serve::{Answer, only, text};
use crate::authorization_server::{AskError, LINK_LIFE, LinkError, Linked, Server};
use crate::response::escape_html;

/// An authorization server whose owners link the gateway.
pub struct Linking {
    /// The server.
    pub server: Rc<Server>,
    /// Where it sends the owner's browser back to.
    pub redirect: Arc<str>,
}

/// The authorization server of this name, if owners link the gateway there. The app gives it.
pub type Links = Rc<dyn Fn(&str) -> Option<Linking>>;

/// What stands in front of the cookie's name: browsers take it then over TLS only, for this host only (RFC 6265bis, 4.1.3.2).
const HOST: &str = "__Host-";
const NAME: &str = "uma-gateway-link";

/// Answers what is asked below `/owners/`.
pub(super) async fn answer<B>(links: &Links, path: &str, request: &Request<B>) -> Answer {
    let missing = || page(StatusCode::NOT_FOUND, "Nothing is here", "No owner links the gateway at this address.", false);
    let Some((name, step)) = path.split_once('/').filter(|(_, step)| matches!(*step, "link" | "callback")) else { return missing() };
    if request.method() != Method::GET {
        return only("GET");
    }
    let Some(Linking { server, redirect }) = links(name) else { return missing() };
    let safe = redirect.starts_with("https://");
    if step == "link" {
        return match server.begin_link(redirect).await {
            Ok(away) => sent(&away.location, &cookie(safe, away.cookie.expose(), LINK_LIFE.as_secs())),
            Err(LinkError::Nobody) => missing(),
            Err(error) => refused(name, &error),
        };
    }
    let held: Vec<&str> = cookies(request.headers(), safe).collect();
    match server.end_link(request.uri().query().unwrap_or_default(), &held).await {
        // The browser keeps its cookie while the way is remembered: whoever loads the page anew is told the same.
        Ok(Linked { owner, may_protect: true }) => {
            let told = format!("The gateway may now protect what belongs to {owner} at {name}. This page can be closed.");
            page(StatusCode::OK, "The gateway is linked", &told, false)
        }
        Ok(Linked { owner, may_protect: false }) => {
            let told = format!(
                "At {name}: the authorization server does not let {owner} protect resources, so what belongs to {owner} stays closed. Have it give {owner} the role \
                 or scope uma_protection (at Keycloak: the client role of the gateway's client), then link the gateway again."
            );
            page(StatusCode::FORBIDDEN, "The gateway is linked, and may protect nothing yet", &told, true)
        }
        Err(error) => refused(name, &error),
    }
}

fn sent(location: &str, cookie: &str) -> Answer {
    let mut answer = page(StatusCode::SEE_OTHER, "To the authorization server", "The browser is sent on.", false);
    put(answer.headers_mut(), LOCATION, location);
    put(answer.headers_mut(), SET_COOKIE, cookie);
    answer
}

fn refused(name: &str, error: &LinkError) -> Answer {
    let status = match error {
        LinkError::Nobody => StatusCode::NOT_FOUND,
        LinkError::NotBegun | LinkError::Malformed | LinkError::WrongIssuer => StatusCode::BAD_REQUEST,
        LinkError::Refused(_) | LinkError::Scope(_) | LinkError::Stranger(_) => StatusCode::FORBIDDEN,
        LinkError::NoEndpoint | LinkError::Ask(_) => StatusCode::BAD_GATEWAY,
        LinkError::NoRandomness => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let status = if matches!(error, LinkError::Ask(AskError::Records)) { StatusCode::SERVICE_UNAVAILABLE } else { status };
    tracing::warn!(authorization_server = name, %error, "an owner has not linked the gateway");
    // What a server answered is for the log.
    let told = match error {
        LinkError::Ask(AskError::Records) => "the gateway cannot keep the token".to_owned(),
        LinkError::Ask(_) => "the authorization server gave no usable answer".to_owned(),
        other => other.to_string(),
    };
    page(status, "The gateway was not linked", &format!("At {name}: {told}."), true)
}

/// `SameSite=Lax`: the way back is a navigation from the authorization server's pages.
fn cookie(safe: bool, value: &str, seconds: u64) -> String {
    let (prefix, secure) = if safe { (HOST, "; Secure") } else { ("", "") };
    format!("{prefix}{NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}

/// Every value that the browser has under the name.
fn cookies(headers: &HeaderMap, safe: bool) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok()).flat_map(|field| field.split(';'));
    pairs.filter_map(move |pair| {
        let name = pair.trim().strip_prefix(if safe { HOST } else { "" })?;
        name.strip_prefix(NAME)?.strip_prefix('=')
    })
}

/// `again`: with a way to begin again. It is beside every address that a page stands at.
fn page(status: StatusCode, title: &str, told: &str, again: bool) -> Answer {
    let told = escape_html(told);
    let again = if again { "\n<p><a href=\"link\">Begin again</a></p>" } else { "" };
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1>\n<p>{told}</p>{again}</body>\n</html>\n"
    );
    let mut answer = text(status, "text/html; charset=utf-8", html);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The address of the way back holds the code.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_this_host_over_tls_only_where_there_is_tls() {
        assert_eq!(cookie(true, "x", 600), "__Host-uma-gateway-link=x; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(cookie(false, "x", 600), "uma-gateway-link=x; Path=/; Max-Age=600; HttpOnly; SameSite=Lax");
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; uma-gateway-link=plain; __Host-uma-gateway-link=safe"));
        headers.append(COOKIE, HeaderValue::from_static("uma-gateway-link-2=other"));
        assert_eq!(cookies(&headers, true).collect::<Vec<_>>(), ["safe"], "one without the prefix may be another site's");
        assert_eq!(cookies(&headers, false).collect::<Vec<_>>(), ["plain"]);
    }

    #[test]
    fn a_name_cannot_break_out_of_the_page() {
        let answer = refused("keycloak", &LinkError::Stranger("<script>".into()));
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert!(format!("{:?}", answer.body()).contains("&lt;script&gt;"));
    }
}
