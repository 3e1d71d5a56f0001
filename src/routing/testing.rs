//! Routes for this room's tests.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::*;
use crate::authorization_server::{Audience, ClientCredentials, Config, ProfileChoice, ServerIdentity};
use crate::http_client::TlsFiles;
use crate::uma::Scope;

/// A public route, at this line of the file.
pub fn public(line: u32, host: &str, path: &str) -> RouteConfig {
    RouteConfig {
        place: Place { line, column: 5 },
        host: if host.is_empty() { HostPattern::Any } else { HostPattern::parse(host).unwrap() },
        pattern: Pattern::parse(path).unwrap_or_else(|problem| panic!("{path}: {problem}")),
        upstream: 0,
        upstream_name: "albums".into(),
        access: Access::Public,
        rewrite: None,
        cors: None,
        identity_headers: Vec::new(),
        body_limit: None,
        upgrades: Vec::new(),
        upgrade_grace: std::time::Duration::ZERO,
        covers_all: false,
        covers_protected: false,
    }
}

/// A protected route: GET needs `view`, PUT and DELETE need `edit`.
pub fn protected(line: u32, host: &str, path: &str) -> RouteConfig {
    let scope = |name: &str| Arc::from([Scope(name.into())]);
    let place = Place { line: line + 1, column: 7 };
    let methods = vec![(Method::GET, scope("view"), place), (Method::PUT, scope("edit"), place), (Method::DELETE, scope("edit"), place)];
    let protect =
        Protect { server: Arc::new(server()), resource: ResourceChoice::Id("r1".into()), scopes: MethodScopes { methods }, scopes_match: ScopesMatch::All };
    RouteConfig { access: Access::Protect(protect), ..public(line, host, path) }
}

fn server() -> Config {
    Config {
        name: "keycloak".into(),
        identity: ServerIdentity([0; 16]),
        profile: ProfileChoice::Keycloak,
        issuer: "http://127.0.0.1:8180/realms/photoz".into(),
        discovery: None,
        backchannel: None,
        allow_insecure: false,
        client: ClientCredentials { id: "gateway".into(), secret: "secret".into() },
        tls: TlsFiles::default(),
        audience: Audience::Any,
        realm: "photoz".into(),
        max_age: Duration::from_secs(30),
        negative_max_age: Duration::from_secs(5),
        refresh_window: 20,
        timeout: Duration::from_secs(2),
        live_decision: None,
        on_unreachable: None,
    }
}
