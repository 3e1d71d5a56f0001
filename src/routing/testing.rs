//! Routes for this room's tests.

use std::sync::Arc;

use http::Method;

use super::*;
use crate::authorization_server::testing;
use crate::uma::Scope;

/// A public route, at this line of the file.
pub fn public(line: u32, host: &str, path: &str) -> RouteConfig {
    RouteConfig {
        place: Place { line, column: 5 },
        host: if host.is_empty() { HostPattern::Any } else { HostPattern::parse(host).unwrap() },
        pattern: Pattern::parse(path).unwrap_or_else(|problem| panic!("{path}: {problem}")),
        upstream: 0,
        content: 0,
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
        opt_ins: crate::path::OptIns::default(),
    }
}

/// A protected route: GET needs `view`, PUT and DELETE need `edit`.
pub fn protected(line: u32, host: &str, path: &str) -> RouteConfig {
    let scope = |name: &str| Arc::from([Scope(name.into())]);
    let place = Place { line: line + 1, column: 7 };
    let methods = vec![(Method::GET, scope("view"), place), (Method::PUT, scope("edit"), place), (Method::DELETE, scope("edit"), place)];
    let protect = Protect {
        server: Arc::new(testing::config()),
        resource: ResourceChoice::Id { id: "r1".into(), owner: None },
        place,
        scopes: MethodScopes { methods, as_scope: false },
        scopes_match: ScopesMatch::All,
        on_create: None,
        unregister_on_delete: false,
    };
    RouteConfig { access: Access::Protect(protect), ..public(line, host, path) }
}
