//! One upstream: whether it is up, takes the gateway's credential, and refuses whoever comes without.
//!
//! Asked by GET, whose body is not read, at `/` and at the beginnings of the protected routes: a content server may guard one and not the other.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::Report;
use super::trouble::Asked;
use crate::app::snapshot;
use crate::config;
use crate::credentials::oauth2::{self, Grant, TokenError};
use crate::credentials::{self, Credential, HostPolicy, Signer};
use crate::http_client::{HttpClient, HttpError};
use crate::listener;
use crate::routing::{Access, HostPattern, RouteConfig, Segment};
use crate::uma::Timestamp;
use crate::upstream::{Address, Config, Protocol};

/// Addresses of one upstream that are asked at most.
const PATHS: usize = 4;
/// An operator does not wait as long as a request may.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Asks the upstream with this place in the configuration.
pub async fn survey(config: &config::Gateway, place: usize, http: &HttpClient, report: &mut Report) {
    let (Some(section), Some(credential)) = (config.upstreams.get(place), config.credentials.get(place)) else { return };
    for path in section.servers.iter().filter_map(|server| match &server.address {
        Address::Unix(path) => Some(path.display()),
        _ => None,
    }) {
        report.warn(format!("{path} is not asked: it is a socket of this machine"), format!("curl -i --unix-socket {path} http://localhost/"));
    }
    if let Some(own) = section.servers.iter().map(|server| &server.address).find(|address| is_itself(address, &config.listeners)) {
        let mend = format!("write the content server's address in `upstreams.{}.servers`", section.name);
        report.fail(format!("{own} is the gateway's own listener: its requests would come back to it"), mend);
        return;
    }
    let mut servers = section.servers.iter().map(|server| &server.address).filter(|address| address.authority().is_some());
    let Some(first) = servers.next() else { return };
    let others: Vec<_> = servers.collect();
    let routes: Vec<&RouteConfig> = config.routes.iter().filter(|route| route.upstream == place).collect();
    let secure = section.servers.iter().any(|server| server.address.is_secure());
    if section.protocol == Protocol::H2 || (secure && section.tls.is_named()) {
        report.warn("not asked: this check speaks HTTP/1.1 and knows servers by their own names only", "look at `/readyz?verbose` of the gateway");
        return;
    }
    let own = secure.then(|| HttpClient::new(section.tls.files()).ok()).flatten();
    let asked = |address: &Address| Asked {
        http: own.as_ref().filter(|_| address.is_secure()).unwrap_or(http),
        address: format!("{}://{}/", if address.is_secure() { "https" } else { "http" }, address.host()).parse().unwrap_or_default(),
        key: format!("upstreams.{}.servers", section.name),
        ca: address.is_secure().then(|| format!("upstreams.{}.tls.ca", section.name)),
        ca_named: section.tls.files().ca.is_some(),
    };
    let visitor = Visitor { section, host: host(section, &routes), asked: asked(first), paths: paths(&routes) };
    // A credential that cannot be had leaves the question whether the server is up, and whether it is open.
    let headers = headers(section, credential, http, report).await;
    let up = match (&headers, &credential.credential) {
        (Some(_), Credential::None) | (None, _) => visitor.is_up(report).await,
        (Some(headers), _) => visitor.with(headers, report).await,
    };
    if up && routes.iter().any(|route| matches!(route.access, Access::Protect(_))) {
        visitor.without(&credential.credential, report).await;
    }
    // The others are as the first, or down.
    for other in others {
        let other = Visitor { section, host: visitor.host.clone(), asked: asked(other), paths: Vec::new() };
        other.is_up(report).await;
    }
}

/// Whether a server is a listener of this gateway, as far as its address says so by itself.
fn is_itself(server: &Address, listeners: &[listener::Config]) -> bool {
    let Some(authority) = server.authority() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let ip = if host.eq_ignore_ascii_case("localhost") { Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { host.parse().ok() };
    let port = authority.port_u16().unwrap_or(if server.is_secure() { 443 } else { 80 });
    let here = |listens: IpAddr| ip.is_some_and(|ip| ip == listens || (listens.is_unspecified() && (ip.is_loopback() || ip.is_unspecified())));
    listeners.iter().any(|listener| listener.address.port() == port && here(listener.address.ip()))
}

struct Visitor<'a> {
    section: &'a Config,
    host: Option<HeaderValue>,
    asked: Asked<'a>,
    paths: Vec<String>,
}

impl Visitor<'_> {
    async fn get(&self, path: &str, headers: &HeaderMap) -> Result<StatusCode, HttpError> {
        let mut request = Request::new(Bytes::new());
        *request.headers_mut() = headers.clone();
        if let Some(host) = &self.host {
            request.headers_mut().insert(HOST, host.clone());
        }
        *request.uri_mut() = format!("{}{}", self.asked.address, path.trim_start_matches('/')).parse::<Uri>().unwrap_or_default();
        let wait = self.section.timeouts.connect + self.section.timeouts.response;
        self.asked.http.open(request, Instant::now() + wait.min(LONGEST_WAIT)).await.map(|answer| answer.status())
    }

    async fn down(&self, error: &HttpError, report: &mut Report) {
        let trouble = self.asked.http_trouble(error).await;
        report.fail(trouble.what, trouble.mend);
    }

    async fn is_up(&self, report: &mut Report) -> bool {
        match self.get("/", &HeaderMap::new()).await {
            Ok(status) => report.ok(format!("{} answers (GET / → {})", self.section.name, status.as_u16())),
            Err(error) => {
                self.down(&error, report).await;
                return false;
            }
        }
        true
    }

    /// With the credential; false: the server is down.
    async fn with(&self, shows: &Shows, report: &mut Report) -> bool {
        let mut refused = None;
        for path in &self.paths {
            match self.get(path, &shows.at(path)).await {
                Ok(status) if status.is_server_error() => {
                    report.warn(format!("it is up, but fails with the credential (GET {path} → {})", status.as_u16()), "look at its log");
                    return true;
                }
                Ok(status) if !refuses(status) => {
                    report.ok(format!("it takes the credential (GET {path} → {})", status.as_u16()));
                    return true;
                }
                Ok(status) => refused = refused.or(Some((path, status))),
                Err(error) => {
                    self.down(&error, report).await;
                    return false;
                }
            }
        }
        let Some((path, status)) = refused else { return true };
        let (code, key) = (status.as_u16(), format!("upstreams.{}.credentials", self.section.name));
        // A server that knows who asks may still list no directories.
        if status == StatusCode::FORBIDDEN && self.get(path, &HeaderMap::new()).await.is_ok_and(|without| without == StatusCode::UNAUTHORIZED) {
            report.warn(format!("it knows the credential, but forbids GET {path} with it (403)"), format!("let the account of `{key}` read, if it may not"));
        } else {
            report.fail(format!("it refuses the gateway's credential (GET {path} → {code})"), format!("correct `{key}`, or the account at the content server"));
        }
        true
    }

    /// Without the credential.
    async fn without(&self, credential: &Credential, report: &mut Report) {
        let mut closed = None;
        let mut last = None;
        for path in &self.paths {
            let Ok(status) = self.get(path, &HeaderMap::new()).await else { continue };
            if status.is_success() {
                report.warn(
                    format!("content server open: anyone who reaches it needs no gateway (GET {path} without a credential → {})", status.as_u16()),
                    "let it ask for a credential that only the gateway has, and let nobody else reach its port",
                );
                return;
            }
            if refuses(status) {
                closed = closed.or(Some((path, status.as_u16())));
            }
            last = Some((path, status.as_u16()));
        }
        match (closed, last, credential) {
            // That may be a login of the application's own, and clients get it.
            (Some((path, code @ 401)), _, Credential::None) => report.warn(
                format!("it wants a login (GET {path} → {code}), and the configuration gives no credential"),
                format!("if it is the gateway that it wants to know, write `upstreams.{}.credentials`", self.section.name),
            ),
            (Some((path, code)), _, Credential::None) => {
                report.fail(
                    format!("it wants a credential (GET {path} → {code}), and the configuration gives none"),
                    format!("write `upstreams.{}.credentials`", self.section.name),
                );
            }
            (Some((path, code)), ..) => report.ok(format!("it refuses whoever comes without the credential (GET {path} → {code})")),
            (None, Some((path, code)), _) => report.warn(
                format!("whether it refuses strangers cannot be told (GET {path} without a credential → {code})"),
                "ask it by hand for something that is there: `curl -i`",
            ),
            (None, None, _) => report.warn("it gave no answer to a request without the credential", "look at its log"),
        }
    }
}

fn refuses(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED)
}

/// What the gateway would send; `None`: it cannot be had, and that is told.
async fn headers(section: &Config, credential: &credentials::Config, http: &HttpClient, report: &mut Report) -> Option<Shows> {
    let mut headers = HeaderMap::new();
    match &credential.credential {
        Credential::None => {}
        Credential::Authorization(value) => {
            headers.insert(AUTHORIZATION, value.clone());
        }
        Credential::Jwt(signer) => return Some(Shows::Signed(Arc::clone(signer))),
        Credential::Headers(fields) => headers.extend(fields.iter().cloned()),
        Credential::Oauth2 { token_endpoint, client, .. } => {
            let grant = snapshot::grant(section, credential)?;
            let asked = Asked {
                http,
                address: token_endpoint.clone(),
                key: format!("upstreams.{}.credentials.oauth2.token_endpoint", section.name),
                ca: None,
                ca_named: false,
            };
            match oauth2::ask(&grant, http).await {
                Ok(value) => {
                    report.ok(format!("client \"{}\" gets its token at {token_endpoint}", client.id));
                    headers.insert(AUTHORIZATION, value);
                }
                Err(error) => {
                    no_token(&asked, &grant, &error, report).await;
                    return None;
                }
            }
        }
    }
    Some(Shows::Fixed(headers))
}

/// What a request to a content server shows.
enum Shows {
    /// The same to every path.
    Fixed(HeaderMap),
    /// An assertion for each path.
    Signed(Arc<Signer>),
}

impl Shows {
    fn at(&self, path: &str) -> HeaderMap {
        match self {
            Self::Fixed(headers) => headers.clone(),
            Self::Signed(signer) => signer.authorization(&Method::GET, path, None, Timestamp::now()).map(|value| (AUTHORIZATION, value)).into_iter().collect(),
        }
    }
}

async fn no_token(asked: &Asked<'_>, grant: &Grant, error: &TokenError, report: &mut Report) {
    let client = format!("upstreams.{}.credentials.oauth2.client", grant.upstream);
    match error {
        TokenError::Http(error) => {
            let trouble = asked.http_trouble(error).await;
            report.fail(format!("no token for it: {}", trouble.what), trouble.mend);
        }
        TokenError::Refused { status, .. } if refuses(*status) => {
            let proof = &grant.client.proof;
            let origin = proof.origin().map_or_else(|| format!("`{client}.{}`", proof.key()), str::to_owned);
            report.fail(
                format!("the token endpoint refuses client \"{}\" ({})", grant.client.id, status.as_u16()),
                format!("correct `{client}.id`, or the {} in {origin}", proof.what()),
            );
        }
        TokenError::Refused { status, .. } if *status == StatusCode::NOT_FOUND => {
            report.fail(format!("there is no token endpoint at {} (404)", grant.token_endpoint), format!("correct `{}`", asked.key));
        }
        other => report.fail(format!("no token for it: {other}"), format!("look at `{client}` and its scopes")),
    }
}

/// `Host` as requests of its routes carry it.
fn host(section: &Config, routes: &[&RouteConfig]) -> Option<HeaderValue> {
    match &section.host {
        HostPolicy::Upstream => None,
        HostPolicy::Named(name) => Some(name.clone()),
        HostPolicy::Preserve => routes.iter().find_map(|route| match &route.host {
            HostPattern::Exact(host) => HeaderValue::from_str(host).ok(),
            _ => None,
        }),
    }
}

/// `/`, and where protected routes begin.
fn paths(routes: &[&RouteConfig]) -> Vec<String> {
    let mut paths = vec!["/".to_owned()];
    for route in routes {
        // What a rewrite makes of the path needs a request.
        if !matches!(route.access, Access::Protect(_)) || route.rewrite.is_some() {
            continue;
        }
        let literals = route.pattern.segments.iter().map_while(|segment| match segment {
            Segment::Literal(text) => Some(&**text),
            Segment::Parameter(_) => None,
        });
        let mut path: String = literals.flat_map(|text| ["/", text]).collect();
        if path.split('/').count() <= route.pattern.segments.len() || route.pattern.rest {
            path.push('/');
        }
        if !paths.contains(&path) && paths.len() < PATHS {
            paths.push(path);
        }
    }
    paths
}
