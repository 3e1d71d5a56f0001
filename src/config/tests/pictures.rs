//! The configurations that people write, the commented one at the top of the repository, and how mistakes in them look.

use std::path::Path;

use super::{environment, folder, parse, right, schema_accepts};
use crate::config::description::{Key, Kind, Section, keys};
use crate::routing::{Access, HostPattern, ResourceChoice, ScopesMatch};

const COMMENTED: &str = include_str!("../../../gateway.yaml");

/// Sidecar, one content server.
const SIDECAR: &str = r#"version: 1
listeners: [ { address: 0.0.0.0:8080 } ]
health: { address: 0.0.0.0:9090 }
authorization_servers:
  keycloak:
    issuer: https://id.example.org/realms/photoz
    backchannel: http://keycloak.iam.svc:8080
    allow_insecure: true                        # plain http to the server, inside the cluster only
    client: { id: content-gateway, secret: { file: client } }
upstreams:
  content: { servers: [ http://127.0.0.1:9101 ], credentials: { basic: { username: gateway, password: { file: proxy } } } }
routes:
  - { path: "/public/**", public: true }
  - path: /albums/{album}/**
    protect:
      resource: { name: "album {album}", owner: alice }
      scopes: { GET: [view], "PUT, DELETE": [edit] }
"#;

/// Ingress: hosts with defaults for the routes below them, two realms.
const INGRESS: &str = r#"version: 1
listeners: [ { address: 0.0.0.0:8080, hosts: [ "*.example.org" ] } ]
trusted_proxies: [ 10.0.0.0/8 ]
authorization_servers:
  family:   { issuer: https://id.example.org/realms/family,   client: { id: gw, secret: { file: family } } }
  research: { issuer: https://id.example.org/realms/research, client: { id: gw, secret: { file: research } } }
upstreams: { photos: { servers: [ http://photos:80 ] }, docs: { servers: [ http://docs:80 ] }, lab: { servers: [ http://lab ] } }
hosts:
  photos.example.org: { upstream: photos, authorization_server: family, scopes: { GET: [view], "POST, PUT, PATCH, DELETE": [edit] }, cors: { origins: [ https://app.example.org ] } }
  docs.example.org:   { upstream: docs,   authorization_server: family, scopes: { GET: [read] } }
  lab.example.org:    { upstream: lab,    authorization_server: research, scopes: { GET: [read] } }
routes:
  - { host: photos.example.org, path: "/albums/{album}/**", protect: { resource: { name: "album {album}", owner: alice } } }
  - { host: docs.example.org,   path: "/**",                protect: { resource: { name: handbook }, scopes: { "GET, PUT": [] } }, scopes_match: any }
  - { host: lab.example.org,    path: "/v1/**", rewrite: "/{**}", protect: { resource: { register: { name: measurements, type: "urn:lab" } } } }
"#;

/// The owner from the path.
const OWNERS: &str = r#"version: 1
listeners: [ { address: "[::]:8080" } ]
authorization_servers:
  am: { issuer: https://am.example.org/am/oauth2, profile: uma2, client: { id: gw, secret: { file: client } } }
upstreams: { content: { servers: [ http://127.0.0.1:9101 ] } }
routes:
  - path: /users/{owner}/**
    upstream: content
    protect: { authorization_server: am, resource: { name: "photos of {owner}", owner: "{owner}" }, scopes: { GET: [view], PUT: [edit] } }
"#;

#[test]
fn the_configurations_that_people_write_are_right_and_fit_the_schema() {
    let folder = folder();
    for text in [SIDECAR, INGRESS, OWNERS] {
        assert!(right(folder.path(), text).warnings.is_empty());
        assert!(schema_accepts(text), "{text}");
    }
}

#[test]
fn what_a_host_gives_is_replaced_by_the_route_and_never_merged() {
    let folder = folder();
    let gateway = right(folder.path(), INGRESS);
    let [photos, docs, lab] = gateway.routes.as_slice() else { panic!("three routes") };
    assert_eq!((photos.upstream, docs.upstream, lab.upstream), (0, 1, 2));
    assert_eq!((&photos.host, photos.cors.is_some(), docs.cors.is_some()), (&HostPattern::Exact("photos.example.org".into()), true, false));
    let protect = |route: &crate::routing::RouteConfig| match &route.access {
        Access::Protect(protect) => protect.clone(),
        Access::Public | Access::Guard(_) => panic!("protected"),
    };
    assert_eq!((&*protect(photos).server.name, &*protect(lab).server.name), ("family", "research"));
    assert_eq!(protect(photos).scopes.methods.len(), 5);
    let replaced: Vec<_> = protect(docs).scopes.methods.iter().map(|(method, scopes, _)| (method.to_string(), scopes.len())).collect();
    assert_eq!((replaced, protect(docs).scopes_match), (vec![("GET".to_owned(), 0), ("PUT".to_owned(), 0)], ScopesMatch::Any));
    let ResourceChoice::Register { scopes, .. } = protect(lab).resource else { panic!("registered") };
    assert_eq!(scopes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["read"], "what the host's methods need");
    assert_eq!(lab.rewrite.as_ref().map(|rewrite| rewrite.rest), Some(true));
    assert_eq!(gateway.upstreams[2].servers[0].address.to_string(), "lab:80");
}

#[test]
fn mistakes_look_as_they_should() {
    let text = r#"version: 1
listeners:
  - address: 127.0.0.1:8080
authorization_servers:
  keycloak:
    issuer: http://127.0.0.1:8180/realms/photoz
    client:
      id: content-gateway
      secret: { env: GATEWAY_CLIENT_SECRET }
upstreams:
  albums:
    servers:
      - http://127.0.0.1:9101
    credentials:
      basic:
        username: gateway
        password: { env: PROXY_PASSWORD }
routes:
  - path: /albums/{album}/**
    protect:
      resource: { name: Alice vacation, owner: alice }
      scopes:
        GET: [view]
  - path: /docs/**
    protect:
      resource: { name: handbook }
      scope: { GET: [view] }
"#;
    let expected = r#"error: this route opens every album with one permission
  --> gateway.yaml:21:17
21 |       resource: { name: Alice vacation, owner: alice }
   |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ does not use {album} of line 19
   = write   { name: "album {album}", owner: alice }      or fix the path: /albums/vacation/**
error: unknown key `scope`
  --> gateway.yaml:27:7
27 |       scope: { GET: [view] }
   |       ^^^^^ did you mean `scopes`?
2 errors. A gateway that is running keeps its configuration."#;
    let problems = parse(text, Path::new("gateway.yaml"), &environment).expect_err("two mistakes");
    assert_eq!(problems.to_string(), expected);
}

#[test]
fn the_commented_configuration_is_right_also_with_all_its_comments_on() {
    let folder = folder();
    let gateway = right(folder.path(), COMMENTED);
    assert_eq!((gateway.routes.len(), gateway.warnings.len()), (2, 0));
    assert!(schema_accepts(COMMENTED));

    let all = switched_on(COMMENTED);
    // A build without records refuses them.
    let without = || {
        let all = all.replace("\nstore: ", "\n#").replace("\nshares: ", "\n#").replace("\n      register_on_create: ", "\n#");
        let all = all.replace(", unregister_on_delete: true", "").replace("/made/{user}/{thing}", "/made/{user}/things");
        all.replace("{ shared: true, owner: \"{user}\" }", "{ name: \"{user}\" }")
    };
    let of_this_build = if cfg!(feature = "store") { all.clone() } else { without() };
    let gateway = right(folder.path(), &of_this_build);
    assert_eq!(gateway.routes.len(), 12, "{all}");
    assert_eq!(gateway.routes.iter().filter(|route| route.opt_ins.names().count() == 3).count(), 1);
    assert!(gateway.admin.is_some() && gateway.workers == Some(2) && gateway.open_with.is_some());
    assert!(schema_accepts(&all), "{all}");
}

/// The settings that stand behind a `#` without a space.
fn switched_on(text: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_alphabetic() || c == '-') => line.replacen('#', "", 1),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commented_configuration_names_every_key() {
    fn every(section: &'static Section, names: &mut Vec<&'static Key>) {
        for key in section.keys {
            names.push(key);
            if let Kind::Section(section) | Kind::List(Kind::Section(section)) | Kind::Map(_, Kind::Section(section)) = &key.kind {
                every(section, names);
            }
        }
    }
    let mut names = Vec::new();
    every(&keys::FILE, &mut names);
    for key in names {
        let name = format!("{}:", key.name);
        let stands = COMMENTED.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).any(|word| word == name);
        assert!(stands, "`{}` is not in gateway.yaml", key.name);
        assert!(key.doc.ends_with('.') || key.doc.ends_with('`'), "{}: {}", key.name, key.doc);
    }
}
