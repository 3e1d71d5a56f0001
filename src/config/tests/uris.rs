//! Resources found by their path, and methods that are scopes: what goes together, and how mistakes look.

use super::mistakes::{Row, each_is_shown};
use super::{folder, right, schema_accepts};
use crate::routing::{Access, ResourceChoice};

/// A configuration without a mistake, which each row below spoils in one place.
const RIGHT: &str = r#"version: 1
listeners: [ { address: 127.0.0.1:8080 } ]
authorization_servers:
  keycloak: { profile: keycloak, issuer: "https://id.example.org/realms/photoz", client: { id: content-gateway, secret: { file: client } } }
  plain: { profile: uma2, issuer: "https://plain.example.org", client: { id: content-gateway, secret: { file: client } } }
upstreams: { content: { servers: [ http://127.0.0.1:9101 ] } }
routes:
  - path: /files/{user}/**
    protect: { authorization_server: keycloak, resource: { uris: true }, scopes: http_method_as_scope }
  - path: /tent
    protect: { authorization_server: keycloak, resource: { register: { name: tent, scopes: [GET] } }, scopes: http_method_as_scope }
"#;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("authorization_server: keycloak, resource: { uris", "authorization_server: plain, resource: { uris", (9, 55), "`plain` finds no resource by its `uris`: its profile is `uma2`, and only `keycloak` does", "write   { name: NAME, owner: OWNER }      or { id: ID }"),
    ("{ uris: true }", "{ uris: false }", (9, 66), "this is `true` or left out", "leave the key out"),
    ("{ uris: true }", "{ uris: true, owner: alice }", (9, 72), "whoever owns the resource that has the path", "leave it out"),
    ("{ uris: true }", "{ uris: true, name: x }", (9, 60), "exactly one of", "leave one out"),
    ("  - path: /files/{user}/**\n", "  - path: /files/{user}/**\n    encoded_slash: true\n", (8, 11), "`encoded_slash` and `uris` do not go together", "leave one of them out"),
    ("{ uris: true }, scopes: http_method_as_scope", "{ uris: true }, scopes: http-methods-as-scope", (9, 82), "`scopes` says which method needs what", "did you mean `http_method_as_scope`?"),
    ("{ uris: true }, scopes: http_method_as_scope", "{ uris: true }, scopes: view", (9, 82), "`scopes` says which method needs what", "write   { GET: [view], \"PUT, DELETE\": [edit] }"),
    ("name: tent, scopes: [GET]", "name: tent", (11, 60), "`scopes` is missing: where methods are scopes, the resource says which it has", "write   scopes: [GET, PUT]"),
];

#[test]
fn every_mistake_of_looking_up_by_path_is_shown_at_its_place() {
    let folder = folder();
    assert!(schema_accepts(RIGHT));
    assert!(!schema_accepts(&RIGHT.replace("scopes: http_method_as_scope", "scopes: http_methods")));
    each_is_shown(folder.path(), RIGHT, ROWS, "open-sesame");
}

#[test]
fn every_known_method_needs_the_scope_of_its_name_and_no_resource_needs_them_all() {
    let folder = folder();
    let gateway = right(folder.path(), RIGHT);
    let protected = gateway.routes.iter().filter_map(|route| match &route.access {
        Access::Protect(protect) => Some(protect),
        Access::Public | Access::Guard(_) => None,
    });
    let routes: Vec<_> = protected.collect();
    let by_path = routes.first().expect("a route");
    assert!(matches!(by_path.resource, ResourceChoice::Uris));
    assert_eq!(by_path.scopes.methods.len(), 20);
    assert!(by_path.scopes.methods.iter().all(|(method, scopes, _)| scopes.len() == 1 && scopes.iter().all(|scope| *scope.0 == *method.as_str())));
    assert!(by_path.scopes.methods.iter().all(|(method, ..)| !["HEAD", "CONNECT", "TRACE"].contains(&method.as_str())));
    assert_eq!(by_path.scopes.wanted().count(), 0);
    let ResourceChoice::Register { scopes, .. } = &routes.last().expect("a route").resource else { panic!("registered") };
    assert_eq!(scopes.iter().map(|scope| &*scope.0).collect::<Vec<_>>(), ["GET"]);
}
