//! Shares: what goes together, and how mistakes look.

use super::mistakes::{Row, each_is_shown};
use super::{folder, read_in, right, schema_accepts};
use crate::routing::{Access, Protect, ResourceChoice};
use crate::shares::{OwnerClaim, Where};

/// Shares without a mistake, which each row below spoils in one place.
const RIGHT: &str = r#"version: 1
listeners:
  - address: 127.0.0.1:8080
authorization_servers:
  keycloak: { issuer: "https://id.example.org/realms/photoz", client: { id: content-gateway, secret: { file: client } } }
  other: { issuer: "https://other.example.org/realms/photoz", client: { id: content-gateway, secret: { file: client } } }
  plain: { profile: oauth, issuer: "https://plain.example.org", client: { id: content-gateway, secret: { file: client } } }
upstreams: { content: { servers: [ http://127.0.0.1:9101 ] } }
store: { file: records.db, key: { file: store-key } }
shares: { address: 127.0.0.1:9092, authorization_server: keycloak, scope: share, public_url: "https://Photos.example.org/", prefix: /links }
routes:
  - path: /users/{user}/**
    protect: { authorization_server: keycloak, resource: { shared: true, owner: "{user}" }, scopes: { GET: [view] } }
  - path: /site/**
    protect: { authorization_server: keycloak, resource: { shared: true }, scopes: { GET: [view] } }
  - path: /public/**
    public: true
"#;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The section.
    ("store: { file: records.db, key: { file: store-key } }\n", "", (9, 1), "`store` is missing: what owners share is kept there", "write   store: { file: records.db, key: { file: store-key } }"),
    ("address: 127.0.0.1:9092, ", "", (10, 1), "exactly one of `socket`, or `address`", "none"),
    ("address: 127.0.0.1:9092, ", "address: 127.0.0.1:9092, socket: shares.sock, ", (10, 11), "exactly one of `socket`, or `address`", "leave one out"),
    ("address: 127.0.0.1:9092", "address: 127.0.0.1:8080", (10, 20), "127.0.0.1:8080 stands twice", "it stands at 3:14 already"),
    ("scope: share, ", "", (10, 1), "`scope` is missing: `shares` needs it", "write   scope: share"),
    ("scope: share", "scope: \"a b\"", (10, 75), "`a b` is not one scope", "without blanks"),
    ("authorization_server: keycloak, scope", "scope", (10, 1), "`authorization_server` is missing", "write   authorization_server: keycloak"),
    ("authorization_server: keycloak, scope", "authorization_server: keycloack, scope", (10, 58), "authorization server `keycloack` is not defined", "did you mean `keycloak`?"),
    ("public_url: \"https://Photos.example.org/\"", "public_url: \"https://photos.example.org/s\"", (10, 94), "is not the address of the gateway", "write   https://photos.example.org"),
    ("public_url: \"https://Photos.example.org/\"", "public_url: photos.example.org", (10, 94), "is not the address of the gateway", "write   https://photos.example.org"),
    ("prefix: /links", "prefix: /", (10, 133), "links are below a literal path", "write   /s"),
    ("prefix: /links", "prefix: \"/{x}\"", (10, 133), "links are below a literal path", "write   /s"),
    ("prefix: /links", "prefix: links", (10, 133), "a path begins with `/`", "write   /links"),
    ("prefix: /links", "prefix: /public", (16, 11), "shareable links are below /public: this route would be theirs", "another `prefix`"),
    ("prefix: /links", "prefix: /PUBLIC", (16, 11), "shareable links are below /PUBLIC: this route would be theirs", "another `prefix`"),
    ("prefix: /links", "owner: sup", (10, 132), "`sup` is not one of `sub`, `username`", "did you mean `sub`?"),
    ("prefix: /links", "admin_key: guessme", (10, 136), "a secret is not written out", "write   { file: PATH }"),
    ("prefix: /links", "per_owner: 0", (10, 136), "`0` is not a whole number from 1 to 1000000", "the least is 1"),
    // Routes.
    ("resource: { shared: true, owner: \"{user}\" }", "resource: { shared: false, owner: \"{user}\" }", (13, 68), "this is `true` or left out", "leave the key out"),
    ("resource: { shared: true, owner: \"{user}\" }", "resource: { shared: true, owner: \"{usr}\" }", (13, 82), "the path has no parameter `usr`", "write   \"{user}\""),
    ("resource: { shared: true, owner: \"{user}\" }", "resource: { shared: true, name: x }", (13, 60), "exactly one of", "leave one out"),
    ("protect: { authorization_server: keycloak, resource: { shared: true }, scopes", "protect: { authorization_server: other, resource: { shared: true }, scopes", (14, 11), "the owners of `keycloak` share, and `other` decides here", "the same authorization server"),
    ("  - path: /site/**\n", "  - path: /site/**\n    semicolon: true\n", (14, 11), "`semicolon` and `shared` do not go together", "leave one of them out"),
    ("  - path: /site/**\n", "  - path: /site/**\n    host: other.example.org\n", (14, 11), "shares are at photos.example.org, the host of `public_url`, and this route is for other.example.org", "the same host, or none"),
    ("  - path: /site/**\n", "  - path: /site/**\n    host: photos.example.org\n", (14, 11), "have the same `host`, or none", "the `host` of the first"),
    ("  - address: 127.0.0.1:8080\n", "  - { address: 127.0.0.1:8080, hosts: [ other.example.org ] }\n", (10, 1), "no listener serves photos.example.org, the host of `public_url`", "add the host"),
];

/// The same with a route where owners create.
const CREATING: &str = r#"version: 1
listeners:
  - address: 127.0.0.1:8080
authorization_servers:
  keycloak: { issuer: "https://id.example.org/realms/photoz", client: { id: content-gateway, secret: { file: client } } }
  other: { issuer: "https://other.example.org/realms/photoz", client: { id: content-gateway, secret: { file: client } } }
  plain: { profile: oauth, issuer: "https://plain.example.org", client: { id: content-gateway, secret: { file: client } } }
upstreams: { content: { servers: [ http://127.0.0.1:9101 ] } }
store: { file: records.db, key: { file: store-key } }
shares: { address: 127.0.0.1:9092, authorization_server: keycloak, scope: share, public_url: "https://photos.example.org" }
routes:
  - path: /albums/{user}
    protect:
      authorization_server: keycloak
      resource: { name: "albums of {user}", owner: "{user}" }
      scopes: { POST: [create] }
      register_on_create: { location: "/albums/{user}/{album}", name: "album {album}", type: "urn:album", scopes: [view] }
  - path: /albums/{user}/{album}
    protect:
      authorization_server: keycloak
      resource: { shared: true, owner: "{user}" }
      scopes: { GET: [view], DELETE: [edit] }
      unregister_on_delete: true
"#;

#[rustfmt::skip]
const CREATED: &[Row] = &[
    ("location: \"/albums/{user}/{album}\", ", "", (17, 7), "`location` is missing", "write   location: \"/albums/{user}/{album}\""),
    ("location: \"/albums/{user}/{album}\"", "location: \"albums/{album}\"", (17, 40), "a path begins with `/`", "write   /albums/{album}"),
    ("name: \"album {album}\"", "name: \"album {alben}\"", (17, 78), "the path has no parameter `alben`", ""),
    ("scopes: [view] }", "scopes: [] }", (17, 115), "a resource without scopes lets nobody pass", "name one"),
    ("scopes: [view] }", "scopes: [own] }", (12, 11), "`own` of `register_on_create` could be granted to no effect", ""),
    (", scopes: [view] }\n  - path: /albums/{user}/{album}\n    protect:\n      authorization_server: keycloak\n      resource: { shared: true, owner: \"{user}\" }\n      scopes: { GET: [view], DELETE: [edit] }", " }\n  - path: /albums/{user}/{album}\n    protect:\n      authorization_server: keycloak\n      resource: { shared: true, owner: \"{user}\" }\n      scopes: http_method_as_scope", (12, 11), "each method is a scope", "scopes: [ GET ]"),
    ("scopes: { POST: [create] }", "scopes: { PUT: [create] }", (17, 7), "`register_on_create` has no effect here: the route lets no `POST` pass", "name a scope for POST"),
    ("location: \"/albums/{user}/{album}\"", "location: \"/books/{user}/{album}\"", (12, 11), "nobody could own what is created here", "{ shared: true, owner: … }"),
    ("location: \"/albums/{user}/{album}\"", "location: \"/albums/{user}/{album}/**\"", (12, 11), "nobody could own what is created here", "{ shared: true, owner: … }"),
    ("{ shared: true, owner: \"{user}\" }", "{ shared: true }", (12, 11), "nobody could own what is created here", "{ shared: true, owner: … }"),
    ("      authorization_server: keycloak\n      resource: { name", "      authorization_server: other\n      resource: { name", (12, 11), "the owners of `keycloak` share, and `other` says here who creates", "the same authorization server"),
    ("authorization_server: keycloak\n      resource: { name: \"albums of {user}\", owner: \"{user}\" }\n", "authorization_server: plain\n", (16, 7), "`register_on_create` has no effect here: this authorization server knows no resources", "leave it out"),
    ("      scopes: { POST: [create] }\n", "      scopes: { POST: [create] }\n      unregister_on_delete: true\n", (17, 7), "only what owners have shared is withdrawn", "beside `resource: { shared: true }`"),
    ("DELETE: [edit]", "PUT: [edit]", (23, 7), "the route lets no `DELETE` pass", "name a scope for DELETE"),
    ("unregister_on_delete: true", "unregister_on_delete: false", (23, 29), "this is `true` or left out", "leave the key out"),
];

#[test]
fn every_mistake_of_routes_where_owners_create_is_shown_at_its_place() {
    let folder = folder();
    assert!(schema_accepts(CREATING));
    each_is_shown(folder.path(), CREATING, CREATED, "guessme");
}

#[test]
fn what_is_registered_on_create_is_read_as_it_is_written() {
    let folder = folder();
    let gateway = right(folder.path(), CREATING);
    let protects: Vec<&Protect> =
        gateway.routes.iter().filter_map(|route| if let Access::Protect(protect) = &route.access { Some(protect) } else { None }).collect();
    let on_create = protects[0].on_create.as_deref().expect("the section");
    let scopes = on_create.scopes.as_deref().map(|scopes| scopes.iter().map(|scope| &*scope.0).collect::<Vec<_>>());
    assert_eq!((&*on_create.location.text, on_create.kind.as_deref(), scopes), ("/albums/{user}/{album}", Some("urn:album"), Some(vec!["view"])));
    assert_eq!(on_create.name.as_ref().map(|name| &*name.text), Some("album {album}"));
    assert_eq!(protects.iter().map(|protect| protect.unregister_on_delete).collect::<Vec<_>>(), [false, true]);
    assert_eq!(gateway.warnings, Vec::<String>::new());
    let begin = CREATING.find("shares:").expect("the section");
    let without = [
        CREATING.get(..begin).expect("text"),
        CREATING.get(CREATING.find("routes:").expect("routes")..CREATING.find("  - path: /albums/{user}/{album}").expect("a route")).expect("text"),
    ]
    .concat();
    let problems = read_in(folder.path(), &without).expect_err("no shares").to_string();
    assert!(problems.contains("`shares` is missing: what is created here is registered for its owner"), "{problems}");
}

#[test]
fn every_mistake_of_shares_is_shown_at_its_place() {
    let folder = folder();
    assert!(schema_accepts(RIGHT));
    each_is_shown(folder.path(), RIGHT, ROWS, "guessme");
}

#[test]
fn shares_are_read_as_they_are_written() {
    let folder = folder();
    let gateway = right(folder.path(), RIGHT);
    let shares = gateway.shares.expect("shares");
    assert_eq!((shares.at, &*shares.server.name, &*shares.scope.0), (Where::Address("127.0.0.1:9092".parse().expect("an address")), "keycloak", "share"));
    assert_eq!((&*shares.public_url, &*shares.host, &*shares.prefix), ("https://Photos.example.org", "photos.example.org", "/links"));
    assert_eq!((shares.owner, shares.per_owner, shares.admin_key.is_none()), (OwnerClaim::Subject, 1000, true));
    let owners: Vec<Option<String>> = gateway
        .routes
        .iter()
        .filter_map(|route| match &route.access {
            Access::Protect(protect) => Some(&protect.resource),
            Access::Public | Access::Guard(_) => None,
        })
        .map(|resource| match resource {
            ResourceChoice::Shared { owner } => owner.as_ref().map(|owner| owner.text.to_string()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(owners, [Some("{user}".to_owned()), None]);
    let [warning] = gateway.warnings.as_slice() else { panic!("{:?}", gateway.warnings) };
    assert!(warning.contains("gateway.yaml:14:11: nobody could share anything here: the route names no `owner`, and `shares` no `admin_key`"), "{warning}");
}

#[test]
fn a_key_of_the_operators_that_can_be_guessed_is_a_mistake() {
    let folder = folder();
    let with = |key: &str| {
        let file = folder.path().join("operators-key");
        std::fs::write(&file, key).expect("a file");
        super::close(&file);
        read_in(folder.path(), &RIGHT.replace("prefix: /links", "prefix: /links, admin_key: { file: operators-key }"))
    };
    let problems = with(&"x".repeat(31)).expect_err("a guess").to_string();
    assert!(problems.contains("the key has 31 octets: whoever guesses it shares for every owner") && problems.contains("gateway.yaml:10:152"), "{problems}");
    assert!(problems.contains("openssl rand -base64 32"), "{problems}");
    assert_eq!(with(&"x".repeat(32)).expect("right").warnings, Vec::<String>::new(), "and with a key somebody can share at every route");
}

#[test]
fn a_route_without_shares_and_shares_without_a_route_are_told() {
    let folder = folder();
    let begin = RIGHT.find("shares:").expect("the section");
    let end = RIGHT.find("routes:").expect("the routes");
    let without = format!("{}{}", RIGHT.get(..begin).expect("text"), RIGHT.get(end..).expect("text"));
    let problems = read_in(folder.path(), &without).expect_err("no shares").to_string();
    assert!(problems.contains("`shares` is missing: this route's resources are what owners have shared"), "{problems}");
    let nothing = RIGHT
        .replace("resource: { shared: true, owner: \"{user}\" }", "resource: { name: \"{user}\" }")
        .replace("resource: { shared: true }", "resource: { id: x }");
    let warnings = right(folder.path(), &nothing).warnings.join("\n");
    assert!(warnings.contains("no route lets owners share anything"), "{warnings}");
    let plain = RIGHT.replace("authorization_server: keycloak, scope", "authorization_server: plain, scope");
    let problems = read_in(folder.path(), &plain).expect_err("oauth").to_string();
    assert!(problems.contains("this authorization server knows no resources"), "{problems}");
}
