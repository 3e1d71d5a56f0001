//! One authorization server: its document, its clock, our client, the protection API, its word on our own PAT.

use bytes::Bytes;
use http::header::{DATE, LOCATION};
use http::{Response, StatusCode, Uri};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

use super::Report;
use super::resources::{self, Target};
use super::trouble::Asked;
use crate::authorization_server::{Answer, AskError, Config, Introspected, PatSource, Profile, ProfileChoice, Proof, Server};
use crate::http_client::HttpClient;
use crate::uma::{Rpt, Scope, Timestamp};

/// Clocks that differ by more, in seconds, are told.
const CLOCKS_APART: i64 = 30;

/// How our client gets a token of its own, and how it trades those of owners.
const OWN_GRANT: &str = "client_credentials";
const CODE_GRANT: &str = "authorization_code";

/// What the configuration wants of a server besides its own section.
pub struct Wants<'a> {
    /// The resources that routes name.
    pub targets: &'a [Target],
    /// What owners' tokens need to share, if they share here.
    pub scope: Option<&'a Scope>,
    /// `admin.public_url`.
    pub public_url: Option<&'a str>,
}

/// Asks for everything, in the order in which one thing needs the other.
pub async fn survey(server: &Server, http: &HttpClient, wants: &Wants<'_>, report: &mut Report) {
    let asked = asked(server.config(), http);
    let Some(dated) = discovery(server, &asked, wants.scope, report).await else { return };
    if !server.config().speaks_uma() {
        return introspector(server, &asked, report).await;
    }
    let owners: Vec<Option<&str>> = server.config().owners.keys().map(|owner| Some(&**owner)).collect();
    let (mut open, mut tell_clock) = (true, !dated);
    linking(server, wants, &asked, report).await;
    for owner in if owners.is_empty() { vec![None] } else { owners } {
        if let Some(name) = owner.filter(|name| links(server.config(), name)) {
            open = false;
            linked(server, name, wants, report);
            continue;
        }
        if client(server, owner, &asked, report).await.is_none() {
            open = false;
            continue;
        }
        open &= protection(server, owner, &asked, report).await.is_some();
        introspection(server, owner, &asked, std::mem::take(&mut tell_clock), report).await;
    }
    if open {
        resources::survey(server, wants.targets, report).await;
    }
}

/// Where owners link the gateway: whether our client is believed, unless a PAT will tell of it, and the address that owners come back to.
async fn linking(server: &Server, wants: &Wants<'_>, asked: &Asked<'_>, report: &mut Report) {
    let (config, mut owners) = (server.config(), server.config().owners.keys());
    if !config.owners.keys().any(|owner| links(config, owner)) || server.known().is_some_and(|metadata| metadata.authorization.is_none()) {
        return;
    }
    let id = &*config.client.id;
    if owners.all(|owner| links(config, owner)) {
        match server.trades_codes(deadline(server)).await {
            Ok(()) => report.ok(format!("client \"{id}\" {} and may trade codes", believed(config))),
            Err(error) => not_believed(server, None, (&error, CODE_GRANT), asked, report).await,
        }
    }
    if let Some(public_url) = wants.public_url {
        report.warn(
            format!("owners come back to {public_url}/owners/{}/callback, and whether the server lets them is not checked", config.name),
            format!("register exactly this address as a redirect address of client \"{id}\" there"),
        );
    }
}

/// Whether this owner's token is had by linking the gateway: a check has none, and no business with the one of a gateway that runs.
fn links(config: &Config, owner: &str) -> bool {
    config.owners.get(owner).is_some_and(|owner| matches!(owner.source, PatSource::Code { .. }))
}

fn linked(server: &Server, owner: &str, wants: &Wants<'_>, report: &mut Report) {
    let config = server.config();
    if server.known().is_some_and(|metadata| metadata.authorization.is_none()) {
        report.fail(
            format!("the owner \"{owner}\" cannot link the gateway: the server names no authorization endpoint on its own host"),
            "have the password instead",
        );
        return;
    }
    report.warn(
        format!("what belongs to \"{owner}\" is not checked: the token is with the gateway that runs, if the owner has linked it"),
        format!("look at /readyz?verbose there; the owner links it at {}/owners/{}/link", wants.public_url.unwrap_or("{admin.public_url}"), config.name),
    );
}

/// A call's end: calls of an operator may take longer than those of a request.
pub fn deadline(server: &Server) -> Instant {
    Instant::now() + server.config().timeout.max(Duration::from_secs(5))
}

/// The key of a setting of this server.
fn key(config: &Config, name: &str) -> String {
    format!("authorization_servers.{}.{name}", config.name)
}

fn asked<'a>(config: &Config, http: &'a HttpClient) -> Asked<'a> {
    let (address, name) = match (&config.backchannel, &config.discovery) {
        (Some(backchannel), _) => (Some(backchannel.clone()), "backchannel"),
        (None, Some(discovery)) => (Some(discovery.clone()), "discovery"),
        (None, None) => (config.issuer.parse().ok(), "issuer"),
    };
    Asked { http, address: address.unwrap_or_default(), key: key(config, name), ca: Some(key(config, "tls.ca")), ca_named: config.tls.ca.is_some() }
}

/// Whether the answer told the time; `None`: there is no document to go on with.
async fn discovery(server: &Server, asked: &Asked<'_>, scope: Option<&Scope>, report: &mut Report) -> Option<bool> {
    let response = match server.discovery_answer(deadline(server)).await {
        Ok(response) => response,
        Err(error) => {
            let trouble = asked.trouble(&error).await;
            report.fail(trouble.what, trouble.mend);
            return None;
        }
    };
    match server.accept_discovery(&response) {
        Ok(metadata) => report.ok(format!("reached, its discovery document fits (profile {})", metadata.profile.name)),
        Err(error) => {
            refused_document(server.config(), asked, &response, &error, report).await;
            return None;
        }
    }
    let document = serde_json::from_slice::<Value>(response.body()).unwrap_or_default();
    is_named(server.config(), &document, report);
    if let Some(scope) = scope {
        names(&document, scope, report);
    }
    takes(server.config(), &document, report);
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(|date| httpdate::parse_http_date(date).ok());
    if let Some(date) = date {
        clock(seconds(date).saturating_sub(Timestamp::now().0), report);
    }
    Some(date.is_some())
}

/// Whether the document bears the marks of the profile that the configuration names.
fn is_named(config: &Config, document: &Value, report: &mut Report) {
    let ProfileChoice::Named(named) = config.profile else { return };
    if let Some(other) = Profile::recognised(document).filter(|other| named.uma && other.name != named.name) {
        report.warn(
            format!("by its discovery document it is `{}`, not `{}`", other.name, named.name),
            format!("write `{}` for `{}`, or leave it out", other.name, key(config, "profile")),
        );
    }
}

/// Whether the document names the scope, where it names any: a server need not name all (RFC 8414, 2).
fn names(document: &Value, scope: &Scope, report: &mut Report) {
    let named = document.get("scopes_supported").and_then(Value::as_array);
    if named.is_some_and(|all| !all.iter().any(|named| *named == *scope.0)) {
        report.warn(
            format!("it does not name the scope {scope} among those that it knows (scopes_supported), and owners share by tokens that have it"),
            "make the scope at the server, or correct `shares.scope`",
        );
    }
}

/// Whether the document names the way in which our client shows who it is, where it names any (RFC 8414, 2).
fn takes(config: &Config, document: &Value, report: &mut Report) {
    let named = document.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
    let ways = config.client.proof.methods();
    if named.is_some_and(|all| !all.iter().any(|named| ways.iter().any(|way| named == way))) {
        report.warn(
            format!("it does not name {} among the ways in which clients show who they are (token_endpoint_auth_methods_supported)", ways.join(" or ")),
            format!("let it take that, or write another of `in_body`, `private_key` and `certificate` in `{}`", key(config, "client")),
        );
    }
}

async fn refused_document(config: &Config, asked: &Asked<'_>, response: &Response<Bytes>, error: &AskError, report: &mut Report) {
    let code = match error {
        AskError::Status { error, .. } => error.as_deref(),
        _ => None,
    };
    let issuer = key(config, "issuer");
    match response.status() {
        StatusCode::OK => {
            let named = serde_json::from_slice::<Value>(response.body()).ok().and_then(|body| Some(body.get("issuer")?.as_str()?.to_owned()));
            match named {
                Some(named) if named != *config.issuer => other_issuer(config, &named, report),
                _ => report.fail(error.to_string(), format!("correct `{}`", asked.key)),
            }
        }
        StatusCode::NOT_FOUND if code == Some("Realm does not exist") => {
            let realm = config.issuer.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            report.fail(format!("it has no realm \"{realm}\""), format!("correct the realm at the end of `{issuer}`"));
        }
        StatusCode::NOT_FOUND => {
            report.fail(
                "it has no discovery document there (404)",
                format!("correct `{issuer}`, or name the document's address: `{}`", key(config, "discovery")),
            );
        }
        status if status.is_redirection() => {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            if asked.is_plain() && to.starts_with("https:") {
                let trouble = asked.https_needed();
                report.fail(trouble.what, trouble.mend);
            } else {
                report.fail(format!("it redirects to \"{to}\", and redirects are not followed"), format!("write the address where it ends in `{}`", asked.key));
            }
        }
        StatusCode::BAD_REQUEST if asked.is_plain() && asked.speaks_other_scheme().await => {
            let trouble = asked.https_needed();
            report.fail(trouble.what, trouble.mend);
        }
        _ => report.fail(error.to_string(), format!("look at the server's log, or correct `{}`", asked.key)),
    }
}

fn other_issuer(config: &Config, named: &str, report: &mut Report) {
    // It holds a password, perhaps.
    if named.contains('@') {
        report.fail("it calls itself by an address with user information, which is not shown here", "correct its issuer at the server");
        return;
    }
    let what = format!("it calls itself \"{named}\", the configuration calls it \"{}\"", config.issuer);
    // Whoever writes the other issuer may need the address of now to reach it.
    let host = |text: &str| text.parse::<Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
    let reach = match (config.backchannel.is_none(), config.issuer.parse::<Uri>()) {
        (true, Ok(uri)) if host(named) != host(&config.issuer) => {
            format!(
                " and, if that is not reachable from here, `backchannel: {}://{}`",
                uri.scheme_str().unwrap_or("http"),
                uri.authority().map_or("", |a| a.as_str())
            )
        }
        _ => String::new(),
    };
    report.fail(what, format!("write \"{named}\" in `{}`{reach}", key(config, "issuer")));
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `ahead`: how many seconds the server's clock is ahead of this machine's.
fn clock(ahead: i64, report: &mut Report) {
    let apart = ahead.saturating_abs();
    if apart <= CLOCKS_APART {
        return report.ok("its clock and ours agree");
    }
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    report.fail(format!("its clock is {apart} s {way} ours"), "let both machines keep time by NTP: tokens and tickets end at the wrong moment");
}

/// A plain OAuth server: whether our client may introspect. What it says of a token that nobody has does not matter.
async fn introspector(server: &Server, asked: &Asked<'_>, report: &mut Report) {
    let id = &*server.config().client.id;
    match server.introspect(None, &Rpt("no-token-of-anybody".into()), deadline(server), &mut false).await {
        Ok(_) => report.ok(format!("client \"{id}\" {} and may introspect", believed(server.config()))),
        Err(AskError::CredentialRefused { .. }) => report.fail(
            format!("it has no client \"{id}\", or not with this {}, or lets it not introspect", server.config().client.proof.what()),
            format!("correct `{}` or `client.{}` beside it, or let it, at the server", key(server.config(), "client.id"), server.config().client.proof.key()),
        ),
        Err(error) => {
            let trouble = asked.trouble(&error).await;
            report.fail(format!("introspection cannot be used: {}", trouble.what), trouble.mend);
        }
    }
}

/// Whose it is, as messages say it.
fn of(owner: Option<&str>) -> String {
    owner.map_or_else(String::new, |owner| format!(" of {owner}"))
}

/// Whether our client is believed, and with that a PAT.
async fn client(server: &Server, owner: Option<&str>, asked: &Asked<'_>, report: &mut Report) -> Option<()> {
    let error = match server.pat(owner, deadline(server)).await {
        Ok(held) => {
            let life = (held.until() - Instant::now()).as_secs_f64().round();
            report.ok(format!("client \"{}\" {} and gets a PAT{} (for {life} s)", server.config().client.id, believed(server.config()), of(owner)));
            return Some(());
        }
        Err(error) => error,
    };
    not_believed(server, owner, (&error, OWN_GRANT), asked, report).await;
    None
}

/// Why the token endpoint gave nothing by this grant.
async fn not_believed(server: &Server, owner: Option<&str>, (error, grant): (&AskError, &str), asked: &Asked<'_>, report: &mut Report) {
    let (config, id) = (server.config(), &*server.config().client.id);
    let keycloak = server.known().is_some_and(|metadata| metadata.profile == Profile::KEYCLOAK);
    match error {
        AskError::NeedsConsent => {
            let owner = owner.unwrap_or_default();
            report.fail(
                format!("it refuses the password of the owner \"{owner}\""),
                format!("correct `{}`, or let the client use the grant password", key(config, &format!("pat.owners.{owner}.password"))),
            );
        }
        AskError::Status { status, error: code, .. } if status.is_client_error() => match (status.as_u16(), code.as_deref()) {
            (_, Some("invalid_scope")) => report.fail(format!("client \"{id}\" may not ask for scope uma_protection"), "let it, at the server"),
            (400, Some("unauthorized_client" | "unsupported_grant_type")) => {
                report.fail(format!("client \"{id}\" may not use the grant {grant}"), "let it, at the server");
            }
            (401, Some("unauthorized_client")) if grant == OWN_GRANT && server.lacks_service_account(deadline(server)).await => {
                report.fail(format!("client \"{id}\" has no service account"), format!("Clients → {id} → Capability config → Service account roles → on"));
            }
            // Here Keycloak tells what others keep to themselves; RFC 6749, 5.2 has one code for both.
            (401, Some("invalid_client")) if keycloak && config.client.proof != Proof::Certificate => {
                report.fail(
                    format!("it has no client \"{id}\", or not with a {}", config.client.proof.what()),
                    format!("correct `{}`, or create the client", key(config, "client.id")),
                );
            }
            (401 | 400, Some("invalid_client" | "unauthorized_client") | None) => wrong_proof(config, keycloak, report),
            _ => report.fail(error.to_string(), format!("look at `{}` and at the client at the server", key(config, "client"))),
        },
        _ => {
            let trouble = asked.trouble(error).await;
            report.fail(trouble.what, trouble.mend);
        }
    }
}

/// The key of what shows who our client is.
fn proof_key(config: &Config) -> String {
    key(config, &format!("client.{}", config.client.proof.key()))
}

/// What the server thinks of our client when all is well.
const fn believed(config: &Config) -> &'static str {
    match config.client.proof {
        Proof::Secret(_) | Proof::SecretInBody(_) => "has the right secret",
        Proof::PrivateKey(_) => "has the right private key",
        Proof::Certificate => "is known by its certificate",
    }
}

fn wrong_proof(config: &Config, keycloak: bool, report: &mut Report) {
    let (id, proof) = (&*config.client.id, &config.client.proof);
    let origin = proof.origin().map_or_else(|| format!("`{}`", proof_key(config)), str::to_owned);
    match proof {
        Proof::Secret(_) | Proof::SecretInBody(_) => {
            if keycloak {
                return report.fail(format!("the secret of client \"{id}\" is wrong"), format!("put the one of Clients → {id} → Credentials into {origin}"));
            }
            // One code stands for both (RFC 6749, 5.2).
            report.fail(
                format!("it has no client \"{id}\", or not with this secret"),
                format!("correct `{}`, or put the secret that the server has into {origin}", key(config, "client.id")),
            );
        }
        Proof::PrivateKey(signing) => {
            let there = if keycloak { format!("Clients → {id} → Keys (with Credentials → Signed Jwt)") } else { "the client at the server".to_owned() };
            report.fail(
                format!("it does not believe what client \"{id}\" signs for \"{}\"", signing.audience),
                format!(
                    "give {there} the public key of {origin} (`openssl pkey -pubout`) and the same `key_id`, or correct `{}`",
                    key(config, "client.audience")
                ),
            );
        }
        Proof::Certificate => report.fail(
            format!("it does not know client \"{id}\" by its certificate"),
            format!("let the client at the server have the subject of `{}`, and the server trust whoever has signed it", key(config, "tls.client_certificate")),
        ),
    }
}

/// The protection API, as resources are looked up in it.
async fn protection(server: &Server, owner: Option<&str>, asked: &Asked<'_>, report: &mut Report) -> Option<()> {
    let id = &*server.config().client.id;
    let keycloak = server.known().is_some_and(|metadata| metadata.profile == Profile::KEYCLOAK);
    let error = match server.resource_ids(owner, deadline(server)).await {
        Ok(ids) => {
            let plural = if ids.len() == 1 { "" } else { "s" };
            report.ok(format!("the protection API is open to the client (uma_protection): {} resource{plural}{}", ids.len(), of(owner)));
            return Some(());
        }
        Err(error) => error,
    };
    match &error {
        AskError::Status { status: StatusCode::FORBIDDEN, error: Some(code), .. } if matches!(&**code, "invalid_scope" | "insufficient_scope") => {
            if let Some(owner) = owner {
                let mend = if keycloak {
                    format!("Users → {owner} → Role mapping → Assign role → Client roles → {id} uma_protection")
                } else {
                    "let the owner have the scope, at the server".to_owned()
                };
                report.fail(format!("owner {owner} lacks uma_protection"), mend);
            } else if keycloak {
                report.fail(format!("client \"{id}\" lacks role uma_protection"), "Service account roles → assign it");
            } else {
                report.fail(format!("client \"{id}\" lacks scope uma_protection"), "let it have the scope, at the server");
            }
        }
        AskError::Status { status: StatusCode::FORBIDDEN, error: Some(code), .. } if &**code == "invalid_clientId" => {
            report.fail(format!("client \"{id}\" has no authorization services"), format!("Clients → {id} → Capability config → Authorization → on"));
        }
        AskError::CredentialRefused { .. } => {
            report.fail(
                "the protection API refuses the PAT that the server has just issued",
                format!("compare `{}` with the address by which the server is asked", key(server.config(), "issuer")),
            );
        }
        _ => {
            let trouble = asked.trouble(&error).await;
            report.fail(format!("the protection API cannot be used: {}", trouble.what), trouble.mend);
        }
    }
    None
}

/// Introspection of our own PAT; its end tells the time of a server whose answers carry no `Date`.
async fn introspection(server: &Server, owner: Option<&str>, asked: &Asked<'_>, tell_clock: bool, report: &mut Report) {
    let config = server.config();
    let told = server.introspect_own(owner, deadline(server)).await;
    let left = server.pat(owner, deadline(server)).await.map(|held| held.until().saturating_duration_since(Instant::now()).as_secs());
    match told {
        Ok(Introspected::Answer(Answer::Active(introspection))) => {
            report.ok(format!("introspection calls our own PAT{} active", of(owner)));
            let ours = left.ok().and_then(|left| i64::try_from(left).ok()).map(|left| Timestamp::now().0.saturating_add(left));
            if let (true, Some(theirs), Some(ours)) = (tell_clock, introspection.exp, ours) {
                clock(theirs.0.saturating_sub(ours), report);
            }
        }
        Ok(Introspected::Answer(Answer::Inactive)) => {
            let address = asked.address.authority().map_or("", |authority| authority.as_str());
            report.fail(
                "introspection calls our own fresh PAT inactive",
                format!(
                    "either the issuer ({}, `{}`) is not the address by which the server is asked ({address}), or \"{}\" is not in the token's audience",
                    config.issuer,
                    key(config, "issuer"),
                    config.client.id
                ),
            );
        }
        Ok(Introspected::TokenRefused) => report.fail("introspection refuses our own PAT (400)", "look at the server's log"),
        Err(AskError::CredentialRefused { .. }) => report.fail(format!("client \"{}\" may not introspect", config.client.id), "let it, at the server"),
        Err(error) => {
            let trouble = asked.trouble(&error).await;
            report.fail(format!("introspection cannot be used: {}", trouble.what), trouble.mend);
        }
    }
}
