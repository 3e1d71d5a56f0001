//! Mistakes that people make: each with the place where it is shown and the text to write instead.

use std::path::Path;

use super::{folder, read_in, round_trip, schema_accepts};

/// A configuration without a mistake, which each row below spoils in one place.
const RIGHT: &str = r#"version: 1
listeners:
  - address: 127.0.0.1:8080
health: { address: 127.0.0.1:9090 }
authorization_servers:
  keycloak:
    issuer: https://id.example.org/realms/photoz
    client: { id: content-gateway, secret: { file: client } }
upstreams:
  albums:
    servers: [ http://127.0.0.1:9101 ]
    credentials:
      basic: { username: gateway, password: { file: proxy } }
routes:
  - path: /albums/{album}/**
    protect:
      resource: { name: "album {album}", owner: alice }
      scopes: { GET: [view], "PUT, DELETE": [edit] }
  - path: /public/**
    public: true
"#;

/// What is replaced, by what, the place of the problem, words of its message, words of what to do.
pub(super) type Row = (&'static str, &'static str, (u32, u32), &'static str, &'static str);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The file itself.
    ("version: 1\n", "", (1, 1), "`version` is missing", "write   version: 1"),
    ("version: 1", "version: 2", (1, 10), "`2` is not a known version", "write   1"),
    ("health:", "helth:", (4, 1), "unknown key `helth`", "did you mean `health`?"),
    ("health:", "cluster:", (4, 1), "unknown key `cluster`", "known"),
    ("health: { address: 127.0.0.1:9090 }", "version: 1", (4, 1), "`version` stands twice", "it stands at 1:1 already"),
    ("health: { address: 127.0.0.1:9090 }", "health:", (4, 1), "`health` has no value", "such as `{ address: 127.0.0.1:9090 }`"),
    ("health: { address: 127.0.0.1:9090 }", "health: 9090", (4, 9), "`health` is a section, and here stands a number", "write   { address: 127.0.0.1:9090 }"),
    ("health: { address: 127.0.0.1:9090 }", "health: { address: 127.0.0.1:8080 }", (4, 20), "127.0.0.1:8080 stands twice", "it stands at 3:14 already"),
    ("health: { address: 127.0.0.1:9090 }", "health: { address: 127.0.0.1 }", (4, 20), "`127.0.0.1` is not an address and a port", "write   127.0.0.1:8080"),
    ("health: { address: 127.0.0.1:9090 }", "health: { address: localhost:9090 }", (4, 20), "is not an address and a port", "write   127.0.0.1:9090"),
    ("health: { address: 127.0.0.1:9090 }", "health: { address: \":9090\" }", (4, 20), "is not an address and a port", "write   0.0.0.0:9090"),
    ("  - address: 127.0.0.1:8080", "  address: 127.0.0.1:8080", (3, 3), "a list of listeners is wanted", "write   [ { address: 127.0.0.1:8080 } ]"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    hosts: photos.example.org", (4, 12), "a list is wanted", "write   [photos.example.org]"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    hosts: [photos.example.org:80]", (4, 13), "is not a host", "write   photos.example.org"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificate: tls.crt }", (4, 12), "unknown key `certificate`", "did you mean `certificates`?"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [] }", (4, 26), "TLS needs a certificate", "{ certificate: tls.crt, key: tls.key }"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt } ] }", (4, 28), "`key` is missing", "write   key: tls.key"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: nowhere.crt, key: tls.key } ] }", (4, 43), "nowhere.crt cannot be read", "there is no such file"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: other.key } ] }", (4, 57), "does not fit the certificate", ""),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: client, key: tls.key } ] }", (4, 43), "holds no certificate in PEM form", "no items found"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: client } ] }", (4, 57), "holds no private key in PEM form", "no items found"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ], client_auth: required }", (4, 70), "`client_auth` needs `client_ca`", "write   client_ca: FILE"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ], client_ca: clients.pem }", (4, 70), "`client_ca` has no effect", "write   client_auth: required"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ], client_auth: optional, client_ca: client }", (4, 93), "holds no certificate in PEM form", "no items found"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ], min_version: 1.1 }", (4, 83), "`1.1` is not one of `1.2`, `1.3`", "did you mean"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ], hsts: 180 }", (4, 76), "`180` is not a duration", "write   180s"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    h2c: true\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ] }", (4, 5), "`h2c` is HTTP/2 without TLS", "leave it out"),
    // Values of the top.
    ("health: { address: 127.0.0.1:9090 }", "workers: 0", (4, 10), "`0` is not a whole number from 1 to 1024", "the least is 1"),
    ("health: { address: 127.0.0.1:9090 }", "workers: \"4\"", (4, 10), "`4` is not a whole number", "without quotes"),
    ("health: { address: 127.0.0.1:9090 }", "trusted_proxies: [ 10.0.0.1/8 ]", (4, 20), "`10.0.0.1/8` is not a network", "write   10.0.0.0/8"),
    ("health: { address: 127.0.0.1:9090 }", "trusted_proxies: [ ::ffff:10.0.0.0/104 ]", (4, 20), "is not a network", "write   10.0.0.0/8"),
    ("health: { address: 127.0.0.1:9090 }", "trusted_proxies: [ proxy ]", (4, 20), "`proxy` is not a network", "write   10.0.0.0/8"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { body: 10MB }", (4, 17), "`10MB` is not a size", "write   10MiB"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { body: 1000 }", (4, 17), "`1000` is not a size", "write   1000B"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { tickets: { rate: 20 } }", (4, 28), "`20` is not a rate", "write   20/s"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { tickets: { rate: 120/min } }", (4, 28), "`120/min` is not a rate", "write   2/s"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { tickets: { rate: 1000/h } }", (4, 28), "`1000/h` is not a rate", "write   1/s"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { tickets: { rate: 0.5/s } }", (4, 28), "`0.5/s` is not a rate", "write   1/s"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { body: 1.5GiB }", (4, 17), "`1.5GiB` is not a size", "write   1536MiB"),
    ("health: { address: 127.0.0.1:9090 }", "log: { access: \"no\" }", (4, 16), "`no` is not one of", "did you mean `off`?"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { connections: 0 }", (4, 24), "`0` is not a whole number from 1 to 1000000", "the least is 1"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { connections: 100, connections_per_client: 200 }", (4, 29), "one client may have 200 connections, and all together 100", "more than all"),
    ("health: { address: 127.0.0.1:9090 }", "limits: { timeouts: { idle: 60 } }", (4, 29), "`60` is not a duration", "write   60s"),
    ("health: { address: 127.0.0.1:9090 }", "log: { level: verbose }", (4, 15), "`verbose` is not one of `error`", "these are all"),
    ("health: { address: 127.0.0.1:9090 }", "log: { level: wran }", (4, 15), "`wran` is not one of", "did you mean `warn`?"),
    ("health: { address: 127.0.0.1:9090 }", "open_with: app.example.org", (4, 12), "is not the URL of an application", "https://"),
    ("health: { address: 127.0.0.1:9090 }", "open_with: \"https://a.example/?x={link}\"", (4, 12), "is not the URL of an application", "`{url}`"),
    ("health: { address: 127.0.0.1:9090 }", "open_with: \"javascript:alert(1)\"", (4, 12), "is not the URL of an application", "https://"),
    ("health: { address: 127.0.0.1:9090 }", "admin: { address: 127.0.0.1:9091 }", (4, 1), "`token` is missing", ""),
    ("health: { address: 127.0.0.1:9090 }", "admin: { socket: a, address: 127.0.0.1:9091, token: { file: client } }", (4, 21), "exactly one of `socket`, or `address` and `token`", "leave one out"),
    ("health: { address: 127.0.0.1:9090 }", "store: { file: records.db }", (4, 1), "`key` is missing: `store` needs it", "write   key: { file: PATH }"),
    ("health: { address: 127.0.0.1:9090 }", "store: { file: nowhere/records.db, key: { file: store-key } }", (4, 16), "nowhere/records.db cannot be used", "there is no such folder"),
    ("health: { address: 127.0.0.1:9090 }", "store: { file: ., key: { file: store-key } }", (4, 16), "cannot be used", "it is a directory"),
    ("health: { address: 127.0.0.1:9090 }", "store: { file: records.db, key: { file: client } }", (4, 33), "a key is 32 random octets", "openssl rand -base64 32"),
    ("health: { address: 127.0.0.1:9090 }", "store: { file: records.db, key: { file: store-key }, old_keys: { file: old-store-key } }", (4, 64), "a list of keys is wanted", "write   [ { file: PATH } ]"),
    // Authorization servers.
    ("issuer: https://id.example.org/realms/photoz", "issuer: http://id.example.org/realms/photoz", (7, 13), "http:// to another machine", "https://"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: id.example.org/realms/photoz", (7, 13), "is not an issuer", "write   https://id.example.org/realms/photoz"),
    ("issuer: https://id.example.org/realms/photoz", "issuers: https://id.example.org/realms/photoz", (7, 5), "unknown key `issuers`", "did you mean `issuer`?"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    backchannel: http://127.0.0.1:8080/realms/photoz", (8, 18), "`backchannel` replaces scheme and authority only", "write   http://127.0.0.1:8080"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    backchannel: http://keycloak:8080", (8, 18), "http:// to another machine", "allow_insecure: true"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    timeout: 2", (8, 14), "`2` is not a duration", "write   2s"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    timeout: 2 sec", (8, 14), "`2 sec` is not a duration", "write   2s"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    allow_insecure: yes", (8, 21), "`yes` is not true or false", "write   true"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    allow_insecure: \"false\"", (8, 21), "`false` is not true or false", "without quotes"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    profile: keyclok", (8, 14), "`keyclok` is not one of", "did you mean `keycloak`?"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    pat: { owners: alice }", (8, 20), "owners are wanted, each with where the token comes from, and here stands", "write   { alice: { password: { file: PATH } } }"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    pat: { owners: { alice: { password: open-sesame } } }", (8, 41), "a secret is not written out", "write   { file: PATH }"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    pat: { owners: { alice: { username: a } } }", (8, 22), "an owner has exactly one of `password`, or `authorization_code`", "and here is none"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    pat: { owners: { alice: { password: { file: client }, subject: a } } }", (8, 59), "`subject` says who may link the gateway", "leave it out"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    rpt_header: Authorization", (8, 17), "`authorization` means something else", "write   X-FRDP-RPT"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    rpt_header: X-Forwarded-For", (8, 17), "a header that the gateway writes itself", ""),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    uma_1_0: { insufficient_status: 400 }", (8, 37), "`400` is not one of `401`, `403`", ""),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    on_unreachable: 500", (8, 21), "`500` is not one of `403`, `503`", "did you mean `503`?"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    introspection: { refresh_window: 20 }", (8, 38), "`20` is not a percentage", "write   20%"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    introspection: { max_age: 0s }", (8, 31), "`0s` is not a duration", "at least"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    tls: { client_key: proxy }", (8, 12), "`client_key` needs `client_certificate`", "write   client_certificate: FILE"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    tls: { ca: nowhere.pem }", (8, 16), "nowhere.pem cannot be read", "there is no such file"),
    ("issuer: https://id.example.org/realms/photoz", "issuer: https://id.example.org/realms/photoz\n    protection_token: per_owner", (8, 5), "unknown key `protection_token`", "known"),
    // Secrets.
    ("secret: { file: client }", "secret: hunter2", (8, 44), "a secret is not written out", "write   { file: PATH }"),
    ("secret: { file: client }", "secret: { file: nowhere }", (8, 52), "nowhere cannot be read", "there is no such file"),
    ("secret: { file: client }", "secret: { file: empty }", (8, 52), "is empty", ""),
    ("secret: { file: client }", "secret: { env: UNSET }", (8, 51), "the environment variable UNSET is not set", "set it"),
    ("secret: { file: client }", "secret: { env: UNSET, file: client }", (8, 44), "exactly one of `env` and `file`", "write   { file: PATH }"),
    ("secret: { file: client }", "secret: { value: hunter2 }", (8, 44), "exactly one of `env` and `file`", "write   { file: PATH }"),
    (", secret: { file: client }", "", (8, 5), "the client has exactly one of `secret`, or `private_key`, or `certificate`", "and here is none"),
    ("secret: { file: client }", "secret: { file: client }, private_key: { file: tls.key }", (8, 62), "exactly one of `secret`, or `private_key`, or `certificate`", "leave one out"),
    ("secret: { file: client }", "secret: { file: client }, in_body: yes", (8, 71), "`yes` is not true or false", "write   true"),
    ("secret: { file: client }", "secret: { file: client }, in_body: false", (8, 71), "this is `true` or left out", "leave the key out"),
    ("secret: { file: client }", "secret: { file: client }, key_id: a", (8, 62), "`key_id` has no effect without `private_key`", "leave it out"),
    ("secret: { file: client }", "secret: { file: client }, audience: a", (8, 62), "`audience` has no effect without `private_key`", "leave it out"),
    ("secret: { file: client }", "private_key: { file: tls.key }, in_body: true", (8, 68), "`in_body` has no effect without `secret`", "leave it out"),
    ("secret: { file: client }", "private_key: { file: client }", (8, 49), "this key cannot sign", "openssl genpkey -algorithm ed25519"),
    ("secret: { file: client }", "private_key: client.pem", (8, 49), "a secret is not written out", "write   { file: PATH }"),
    ("secret: { file: client }", "certificate: true", (8, 36), "`certificate` needs a certificate to show", "write   tls: { client_certificate: FILE, client_key: FILE }"),
    ("issuer: https://id.example.org/realms/photoz\n    client: { id: content-gateway, secret: { file: client } }", "issuer: http://127.0.0.1:8180/realms/photoz\n    tls: { client_certificate: gateway.pem, client_key: gateway-key.pem }\n    client: { id: content-gateway, certificate: true }", (9, 36), "`certificate` has no effect over http://", "write https://"),
    ("basic: { username: gateway, password: { file: proxy } }", "oauth2: { token_endpoint: \"https://id.example.org/token\", client: { id: a, certificate: true } }", (13, 82), "unknown key `certificate`", "the client has no such key"),
    // Upstreams.
    ("servers: [ http://127.0.0.1:9101 ]", "servers: http://127.0.0.1:9101", (11, 14), "a list is wanted", "write   [http://127.0.0.1:9101]"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ 127.0.0.1:9101 ]", (11, 16), "`127.0.0.1:9101` is not a server", "write   http://127.0.0.1:9101"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101/x ]", (11, 16), "is not a server", "write   http://127.0.0.1:9101"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ https://127.0.0.1:9101 ]\n    tls: { ca: nowhere.pem }", (12, 16), "nowhere.pem cannot be read", "there is no such file"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ https://127.0.0.1:9101 ]\n    tls: { ca: client }", (12, 5), "the CA cannot be read", ""),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ https://127.0.0.1:9101 ]\n    tls: { client_key: gateway-key.pem }", (12, 12), "`client_key` needs `client_certificate`", "write   client_certificate: FILE"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ https://127.0.0.1:9101 ]\n    tls: { client_certificate: gateway.pem, client_key: other.key }", (12, 5), "cannot be used", ""),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ https://127.0.0.1:9101 ]\n    tls: { name: \"https://photos\" }", (12, 18), "is not the name of a server", "write   photos"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ https://127.0.0.1:9101 ]\n    protocol: h3", (12, 15), "`h3` is not one of `h1`, `h2`, `auto`", "did you mean"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    tls: { ca: ca.pem }", (12, 5), "`tls` has no effect", "https://"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101, \"http://127.0.0.1:9101/\" ]", (11, 39), "the server 127.0.0.1:9101 stands twice", "`weight` gives it a larger share"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ { url: http://127.0.0.1:9101, weight: 0 } ]", (11, 54), "`0` is not a whole number from 1 to 1000", "the least is 1"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ { url: http://127.0.0.1:9101, wieght: 2 } ]", (11, 46), "unknown key `wieght`", "did you mean `weight`?"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ { weight: 2 } ]", (11, 16), "`url` is missing", "write   url: http://127.0.0.1:9101"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ unix:content.sock ]", (11, 16), "is not a server", "write   unix:/content.sock"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    sticky: { cookie: \"a b\" }", (12, 23), "`a b` is not the name of a cookie", "letters, digits"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    sticky: { cookie: a, header: b }", (12, 26), "exactly one of `cookie`, or `header`", "leave one out"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    sticky: { header: a, key: { env: PROXY_PASSWORD } }", (12, 26), "`key` has no effect", "leave it out"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    sticky: { cookie: a, key: { file: proxy-password } }", (12, 31), "this key can be guessed", "16 random characters"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    health_check: { path: health }", (12, 27), "`health` is not a path to ask for", "write   /health"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    health_check: { interval: 1s }", (12, 5), "`path` is missing", "write   path: /health"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    ejection: { server_errors: yes }", (12, 32), "`yes` is not true or false", "write   true"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    max_connections: 0", (12, 22), "`0` is not a whole number from 1 to 65535", "the least is 1"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    retry_budget: 20", (12, 19), "`20` is not a percentage", "write   20%"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    timeouts: { idle: 5 }", (12, 23), "`5` is not a duration", "write   5s"),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    upgrade: [h2c]", (16, 15), "`h2c` is not `websocket`", "these are all"),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    upgrade: websocket", (16, 14), "a list is wanted", "write   [websocket]"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: []", (11, 14), "at least one server", "write   [http://127.0.0.1:9101]"),
    ("basic: { username: gateway, password: { file: proxy } }", "basic: { username: \"a:b\", password: { file: proxy } }", (13, 26), "has no colon", ""),
    ("basic: { username: gateway, password: { file: proxy } }", "basic: { username: gateway, password: { file: proxy } }\n      bearer: { token: { file: proxy } }", (14, 7), "exactly one of `basic`, or `bearer`", "leave one out"),
    ("basic: { username: gateway, password: { file: proxy } }", "headers: { X_Api_Key: { file: proxy } }", (13, 18), "`X_Api_Key` is not the name of a header", "write   X-Api-Key"),
    ("basic: { username: gateway, password: { file: proxy } }", "headers: { Host: { file: proxy } }", (13, 18), "`Host` is a header that the gateway writes itself", ""),
    ("basic: { username: gateway, password: { file: proxy } }", "headers: { X-A: { file: proxy }, x-a: { file: proxy } }", (13, 40), "`x-a` stands twice", "13:18"),
    // Routes.
    ("path: /albums/{album}/**", "path: albums/{album}/**", (15, 11), "a path begins with `/`", "write   /albums/{album}/**"),
    ("path: /albums/{album}/**", "path: /albums/{album}/", (15, 26), "ends without `/`", "write   /albums/{album}"),
    ("path: /albums/{album}/**", "path: /albums/*", (15, 19), "`*` is not a pattern", ""),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    upstream: albms", (16, 15), "upstream `albms` is not defined", "did you mean `albums`?"),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    rewrite: /v1/{album}/**", (16, 26), "`{**}` stands only at the end of `rewrite`", "write   \"/v1/{album}/{**}\""),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    rewrite: /{**}/x", (16, 15), "{**}", ""),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    rewrite: /{albun}/{**}", (16, 15), "no parameter `albun`", ""),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    host: https://photos.example.org/", (16, 11), "is not a host", "write   photos.example.org"),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    public: true", (17, 5), "exactly one of `public`, or `protect`", "leave one out"),
    ("    public: true", "    upstream: albums", (19, 5), "exactly one of `public`, or `protect`", "none"),
    ("    public: true", "    public: false", (20, 13), "this is `true` or left out", "leave the key out"),
    ("    public: true", "    public: true\n    covers: all", (21, 5), "a public route needs no permission", "leave it out"),
    ("path: /public/**\n", "path: /albums/**\n", (19, 11), "public route also matches", "covers_protected: true"),
    ("    public: true", "    public: true\n  - path: /public/**\n    public: true", (21, 11), "equal weight", ""),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { name: Alice vacation, owner: alice }", (17, 17), "opens every album with one permission", "write   { name: \"album {album}\", owner: alice }      or fix the path: /albums/vacation/**"),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { id: a1b0 }", (17, 17), "opens every album with one permission", "covers: all"),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { name: \"album {albun}\", owner: alice }", (17, 32), "no parameter `albun`", "write   \"album {album}\""),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { name: \"album {album}\", owner: {album} }", (17, 49), "a section of its own", "write   \"{album}\""),
    ("    public: true", "    public: true\n    rewrite: \"/{**}\"", (19, 11), "rewritten, this route asks the upstream for paths that `/albums/{album}/**`", "covers_protected: true"),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { register: { name: \"album {album}\" } }", (17, 37), "named by the configuration, not by the address", "one route for each registered resource"),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { at_server: path }", (17, 19), "unknown key `at_server`", "known"),
    ("      scopes: { GET: [view], \"PUT, DELETE\": [edit] }\n", "", (16, 5), "`scopes` is missing", "write   scopes: { GET: [view]"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { get: [view] }", (18, 17), "`get` is not a method: their names are upper case", "write   GET"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { \"PUT, DELTE\": [view] }", (18, 23), "`DELTE` is not a method", "did you mean `DELETE`?"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { \"PUT DELETE\": [view] }", (18, 18), "`PUT DELETE` is not a method", "write   \"PUT, DELETE\""),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { GET: [view], \"PUT, GET\": [edit] }", (18, 36), "the method `GET` stands twice", "it stands at 18:17 already"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { GET: view }", (18, 22), "a list is wanted", "write   [view]"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { GET: [view, edit all] }", (18, 29), "`edit all` is not a scope", "write   edit, all"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { \"*\": [view] }", (18, 18), "`*` is not a method", "write   \"GET, POST"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: [view]", (18, 15), "which method needs what", "write   { GET: [view]"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scope: { GET: [view] }", (18, 7), "unknown key `scope`", "did you mean `scopes`?"),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    cors: { origins: [ \"https://app.example.org/\" ] }", (16, 24), "is not an origin", "write   https://app.example.org"),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    cors: { origins: [ \"*\" ], credentials: true }", (16, 31), "`credentials` needs named origins", ""),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    identity_headers: { X-Forwarded-For: sub }", (16, 25), "the gateway writes itself", ""),
    ("path: /albums/{album}/**", "path: /albums/{album}/**\n    identity_headers: { X-User: \"{sub}\" }", (16, 33), "`{sub}` is not a claim", "write   sub"),
    ("    public: true", "    public: true\n  - path: /public\n    public: true\n  - path: /public/{x}/**\n    public: true", (19, 11), "can never match", "remove it"),
    ("basic: { username: gateway, password: { file: proxy } }\nroutes:\n", "headers: { X-User: { file: proxy } }\nroutes:\n  - path: /x\n    public: true\n    identity_headers: { x-user: sub }\n", (17, 5), "`x-user` carries the credential", "another header"),
    // What a person writes who knows other programs, or forgets a bracket.
    ("path: /public/**", "path: /public/**/b", (19, 19), "`**` stands only at the end", "write   /public/{segment}/b"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ UNIX:/run/x.sock ]", (11, 16), "`UNIX:/run/x.sock` is not a server", "write   unix:/run/x.sock"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ /run/x.sock ]", (11, 16), "is not a server", "write   unix:/run/x.sock"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    sticky: { cookie: \"uma;server\" }", (12, 23), "`uma;server` is not the name of a cookie", "letters, digits, - and _ write   uma-server"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    sticky: { header: \"X Session\" }", (12, 23), "`X Session` is not the name of a header", "write   X-Session"),
    ("address: 127.0.0.1:8080", "address: \"[::1\"", (3, 14), "`[::1` is not an address and a port", "the [ is not closed write   \"[::1]:8080\""),
    ("address: 127.0.0.1:8080", "address: \"[::1:8443\"", (3, 14), "is not an address and a port", "the [ is not closed write   \"[::1]:8443\""),
    ("address: 127.0.0.1:8080", "address: \"::1:8443\"", (3, 14), "is not an address and a port", "an IPv6 address stands in brackets write   \"[::1]:8443\""),
    ("address: 127.0.0.1:8080", "address: [::1]:8443", (3, 14), "an IPv6 address in brackets needs quotes", "write   \"[::1]:8443\""),
    ("address: 127.0.0.1:8080", "address: [::1:8443", (3, 14), "an IPv6 address in brackets needs quotes", "write   \"[::1]:8443\""),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:80808", (3, 14), "is not an address and a port", "the port is a number up to 65535"),
    ("address: 127.0.0.1:8080", "address: 8080", (3, 14), "is not an address and a port", "the address is missing; 0.0.0.0 is every address of this machine write   0.0.0.0:8080"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    hosts: [\"[::1\"]", (4, 13), "`[::1` is not a host", "the [ is not closed write   \"[::1]\""),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ \"http://[::1:9101\" ]", (11, 16), "is not a server", "the [ is not closed write   \"http://[::1]:9101\""),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://[::1]:9101 ]", (11, 16), "an IPv6 address in brackets needs quotes", "write   \"http://[::1]:9101\""),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ \"http://[::1]9101\" ]", (11, 16), "is not a server", "a colon stands before the port write   \"http://[::1]:9101\""),
    ("issuer: https://id.example.org/realms/photoz", "issuer: \"https://[::1/realms/photoz\"", (7, 13), "is not an issuer", "the [ is not closed write   \"https://[::1]/realms/photoz\""),
    ("health: { address: 127.0.0.1:9090 }", "trusted_proxies: [ \"[::1]/128\" ]", (4, 20), "is not a network", "without brackets write   ::1/128"),
    ("health: { address: 127.0.0.1:9090 }", "trusted_proxies: [ 10.0.0.0/33 ]", (4, 20), "is not a network", "an IPv4 address has 32 bits"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ { url: http://127.0.0.1:9101, weight: 1001 } ]", (11, 54), "`1001` is not a whole number from 1 to 1000", "the most is 1000"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ { url: http://127.0.0.1:9101, weight: 1.5 } ]", (11, 54), "`1.5` is not a whole number from 1 to 1000", "digits alone"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ { url: http://127.0.0.1:9101, weight: 03 } ]", (11, 54), "`03` is not a whole number from 1 to 1000", "write   3"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    timeouts: { connect: 1m30s }", (12, 26), "`1m30s` is not a duration", "write   90s"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    timeouts: { connect: 500 msec }", (12, 26), "`500 msec` is not a duration", "write   500ms"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    timeouts: { connect: 2h }", (12, 26), "`2h` is not a duration", "at most 1h"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    timeouts: { connect: 0 }", (12, 26), "`0` is not a duration", "at least 1ms"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    timeouts: { idle: never }", (12, 23), "`never` is not a duration", "write   0"),
    ("servers: [ http://127.0.0.1:9101 ]", "servers: [ http://127.0.0.1:9101 ]\n    protocol: http2", (12, 15), "`http2` is not one of `h1`, `h2`, `auto`", "did you mean `h2`?"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ], min_version: TLS1.2 }", (4, 83), "`TLS1.2` is not one of", "did you mean `1.2`?"),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: \"-----BEGIN PRIVATE KEY-----\" } ] }", (4, 57), "this is not the name of a file", "write   PATH"),
    ("health: { address: 127.0.0.1:9090 }", "log: { level: warning }", (4, 15), "`warning` is not one of", "did you mean `warn`?"),
    ("health: { address: 127.0.0.1:9090 }", "log: { to: stderr }", (4, 12), "`stderr` is not `stdout` or a file", "`./stderr`"),
    ("health: { address: 127.0.0.1:9090 }", "log: { audit: off }", (4, 15), "`off` is not `stdout` or a file", "leave the key out"),
    ("health: { address: 127.0.0.1:9090 }", "admin: { socket: nowhere/admin.sock }", (4, 18), "nowhere/admin.sock cannot be made", "there is no such folder"),
    ("health: { address: 127.0.0.1:9090 }", "admin: { socket: client }", (4, 18), "client cannot be made", "it is not a socket"),
    ("scopes: { GET: [view], \"PUT, DELETE\": [edit] }", "scopes: { ANY: [view] }", (18, 17), "`ANY` is not a method: name each one", "write   \"GET, POST"),
    // Keys that stand elsewhere.
    ("health: { address: 127.0.0.1:9090 }", "upstream: albums", (4, 1), "unknown key `upstream`", "`hosts.*` or `routes[]` has a key of that name"),
    ("health: { address: 127.0.0.1:9090 }", "off_for: [ 10.0.0.0/8 ]", (4, 1), "unknown key `off_for`", "`limits` has a key of that name"),
    ("path: /public/**", "path: /public/**\n    trusted_proxies: [ 10.0.0.0/8 ]", (20, 5), "unknown key `trusted_proxies`", "the top of the file has a key of that name"),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { name: \"album {album}\", owner: alice, scopes: [view] }", (17, 56), "unknown key `scopes`", "has no such key"),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: Alice vacation", (17, 17), "is a section, and here stands a text", "write   { name: \"Alice vacation\", owner: OWNER }"),
    ("  - path: /public/**", "  - location: /public/", (19, 5), "unknown key `location`", "did you mean `path`?"),
    ("    public: true", "    public: true\n    proxy_pass: http://127.0.0.1:9101", (21, 5), "unknown key `proxy_pass`", "did you mean `upstream`?"),
    // Paths as other programs write them.
    ("path: /public/**", "path: ^/public/.*$", (19, 11), "as a path and not as an expression", "write   /public/**"),
    ("path: /public/**", "path: ~ ^/public", (19, 11), "as a path and not as an expression", "write   /public/**"),
    ("path: /public/**", "path: /public/(a|b)", (19, 11), "as a path and not as an expression", "write   /public/{segment}"),
    ("path: /public/**", "path: https://photos.example.org/public/**", (19, 11), "the path alone stands here, and the host at `host`", "write   /public/**"),
    ("path: /public/**", "path: /public?page=1", (19, 18), "no part of a path", "write   /public"),
    ("path: /public/**", "path: /public/*/x", (19, 19), "`*` is not a pattern", "write   /public/{segment}/x"),
    ("path: /public/**", "path: /public/*", (19, 19), "`*` is not a pattern", "write   /public/**      or /public/{name} for one segment"),
    // Parameters as other programs write them.
    ("path: /public/**", "path: /public/<file>", (19, 19), "not the form", "write   /public/{file}"),
    ("path: /public/**", "path: \"/public/{file:[a-z]+}\"", (19, 20), "a parameter's name", "write   /public/{file}"),
    ("path: /public/**", "path: \"/public/{*rest}\"", (19, 20), "a parameter's name", "write   /public/**"),
    // YAML itself.
    ("path: /public/**", "path: /public/**\n    rewrite: {**}", (20, 14), "`{**}` needs quotes", "write   \"{**}\""),
    ("health: { address: 127.0.0.1:9090 }", "hosts:\n  *.example.org: { upstream: albums }", (5, 3), "a text that begins with * needs quotes", "write   \"*.example.org\""),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { name: @album, owner: alice }", (17, 25), "a text that begins with @ needs quotes", "write   \"@album\""),
    ("resource: { name: \"album {album}\", owner: alice }", "resource: { name: album {album}, owner: alice }", (17, 25), "this text ends at its first {", "write   \"album {album}\""),
    ("issuer: https://id.example.org/realms/photoz", "issuer: \"https://id.example.org/realms/photoz", (7, 13), "a quote is opened here and never closed", ""),
    ("    servers: [ http://127.0.0.1:9101 ]", "   servers: [ http://127.0.0.1:9101 ]", (12, 5), "indented otherwise", "same column"),
    ("    public: true", "    public true", (20, 5), "a `:` is missing", ""),
    ("  - path: /public/**\n    public: true", "  - { path: /public/{x}/**, public: true }", (19, 13), "this path ends at its first {", "write   \"/public/{x}/**\""),
    ("health: { address: 127.0.0.1:9090 }", "health: { address: 127.0.0.1:9090", (5, 22), "a comma or a } is missing", "a { in this line or above"),
    ("path: /public/**", "path: /public/**\n    host: *.example.org", (20, 11), "a text that begins with * needs quotes", "write   \"*.example.org\""),
    ("    public: true", "\tpublic: true", (20, 1), "spaces, not with tabs", ""),
    ("path: /public/**", "path: !x /public/**", (19, 14), "a YAML tag", "leave the tag out"),
];

/// Each row is one problem of the text `right` with its replacement, shown as the row says, and none shows `secret`.
#[track_caller]
pub(super) fn each_is_shown(folder: &Path, right: &str, rows: &[Row], secret: &str) {
    let mut failures = Vec::new();
    for (what, wrong, place, message, instead) in rows {
        assert_eq!(right.matches(what).count(), 1, "`{what}` stands once");
        let text = right.replace(what, wrong);
        // With the fuzzers' oracle, which wants what is shown in one row of all others as well.
        round_trip(&text);
        match read_in(folder, &text) {
            Ok(_) => failures.push(format!("accepted: {wrong}")),
            Err(problems) => {
                let found = problems.errors.iter().any(|problem| {
                    let help = format!("{} {}", problem.label, problem.hints.join(" "));
                    (problem.place.line, problem.place.column) == *place && problem.message.contains(message) && help.contains(instead)
                });
                if !found || problems.errors.len() != 1 || problems.to_string().contains(secret) {
                    failures.push(format!("{place:?} {message} / {instead}:\n{problems}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn every_mistake_is_shown_at_its_place_with_what_to_write_instead() {
    let folder = folder();
    assert!(read_in(folder.path(), RIGHT).is_ok());
    each_is_shown(folder.path(), RIGHT, ROWS, "hunter2");
}

#[test]
fn a_rewrite_that_leaves_out_what_chooses_the_resource_is_a_mistake() {
    let folder = folder();
    let path = "  - path: /albums/{album}/**\n";
    let dropped = RIGHT.replace(path, &format!("{path}    rewrite: \"/{{**}}\"\n"));
    let problems = read_in(folder.path(), &dropped).expect_err("one permission would open every album");
    assert!(problems.to_string().contains("the rewrite leaves out {album}"), "{problems}");
    assert!(read_in(folder.path(), &RIGHT.replace(path, &format!("{path}    rewrite: \"/v1/{{album}}/{{**}}\"\n"))).is_ok());
}

#[test]
fn what_would_open_more_than_is_meant_is_a_mistake() {
    let folder = folder();
    let with = |routes: &str| RIGHT.replace("  - path: /public/**\n    public: true\n", routes);
    let check = |profile: &str, routes: &str| {
        let text = with(routes).replace("    client:", &format!("{profile}    client:"));
        read_in(folder.path(), &text).err().map(|problems| problems.to_string())
    };
    let refused = |routes: &str, why: &str| {
        let problems = check("", routes).unwrap_or_else(|| panic!("accepted: {routes}"));
        assert!(problems.contains(why) && problems.contains("1 error"), "{problems}");
    };
    let accepted = |routes: &str| assert_eq!(check("", routes), None, "{routes}");
    let scopes = "scopes: { GET: [view] }";

    let asks = "rewritten, this route asks the upstream for paths that `/albums/{album}/**` at line 15 protects";
    let public = "  - { path: \"/open/{x}\", rewrite: \"/{x}\", public: true";
    refused(&format!("{public}, encoded_slash: true }}\n"), asks);
    refused(&format!("{public}, encoded_percent: true }}\n"), asks);
    accepted(&format!("{public} }}\n"));
    accepted(&format!("{public}, encoded_slash: true, covers_protected: true }}\n"));
    let other = |resource: &str, more: &str| {
        format!("  - {{ path: \"/v2/{{album}}/**\", rewrite: \"/albums/{{album}}/{{**}}\", protect: {{ resource: {resource}, {scopes} }}{more} }}\n")
    };
    refused(&other("{ name: \"{album}\" }", ""), asks);
    accepted(&other("{ name: \"{album}\" }", ", covers_protected: true"));
    accepted(&other("{ name: \"album {album}\", owner: alice }", ""));

    let named = |name: &str, owner: &str, more: &str| {
        format!("  - {{ path: \"/n/{{a}}/{{b}}\", protect: {{ resource: {{ name: \"{name}\"{owner} }}, {scopes} }}{more} }}\n")
    };
    refused(&named("{a}-{b}", "", ""), "`{a}-{b}` is the same for several paths");
    refused(&named("{a}/{b}", "", ", encoded_slash: true"), "`{a}/{b}` is the same for several paths");
    refused(&named("{a}/{b}", "", ", rewrite: \"/m/{a}{b}\""), "`/m/{a}{b}` is the same for several paths");
    accepted(&named("{a}/{b}", "", ""));
    accepted(&named("{a}-{b}", ", owner: \"{a}\"", ""));
    accepted(&named("{a}-{b}", "", ", covers: all"));

    refused(&format!("  - {{ path: /f/**, rewrite: /all, protect: {{ resource: {{ uris: true }}, {scopes} }} }}\n"), "the rewrite leaves out {**}");
    accepted(&format!("  - {{ path: /f/**, rewrite: \"/all/{{**}}\", protect: {{ resource: {{ uris: true }}, {scopes} }} }}\n"));

    let of = |path: &str, owner: &str| format!("  - {{ path: {path}, protect: {{ resource: {{ name: vacation, owner: {owner} }}, {scopes} }} }}\n");
    let two = of("/one", "alice") + &of("/two", "bob");
    refused(&two, "the resource `vacation` stands at line 19 for another owner");
    assert!(check("    profile: uma2\n", &two).is_some() && check("    profile: keycloak-uma1\n", &two).is_some());
    assert_eq!(check("    profile: keycloak\n", &two), None);
    accepted(&(of("/one", "alice") + &of("/two", "alice")));
}

#[test]
fn a_rewrite_to_what_another_permission_opens_is_a_mistake_whatever_it_is_called() {
    let folder = folder();
    let check = |routes: &str| {
        let more = [
            "  again: { servers: [ http://127.0.0.1:9102, http://127.0.0.1:9101 ] }",
            "  other: { servers: [ http://127.0.0.1:9103 ] }",
            "  site: { servers: [ http://127.0.0.1:9101 ], host: site.example.org }",
            "  albums:\n",
        ];
        let routes = RIGHT
            .replace("  - path: /public/**\n    public: true\n", routes)
            .replace("  - path: /albums/{album}/**\n", "  - path: /albums/{album}/**\n    upstream: albums\n");
        read_in(folder.path(), &routes.replace("  albums:\n", &more.join("\n"))).map_err(|problems| problems.to_string())
    };
    let refused = |routes: &str| {
        let problems = check(routes).expect_err("a mistake");
        assert!(problems.contains("rewritten, this route asks the upstream for paths that") && problems.contains("1 error"), "{problems}");
    };
    let accepted = |routes: &str| assert_eq!(check(routes).err(), None, "{routes}");

    let public = |upstream: &str| format!("  - {{ path: /open/**, rewrite: \"/albums/{{**}}\", public: true, upstream: {upstream} }}\n");
    refused(&public("albums"));
    for (upstream, is_told) in [("again", true), ("other", false), ("site", false)] {
        let warnings = check(&public(upstream)).expect("its credential may show something else").warnings;
        assert_eq!(warnings.iter().any(|warning| warning.contains("by another upstream with the same server")), is_told, "{upstream}: {warnings:?}");
    }
    refused(
        "  - { path: \"/open/{a}/{b}\", rewrite: \"/x/{a}/{b}\", public: true, semicolon: true, upstream: albums }\n  - { path: /x, protect: { resource: { id: i }, scopes: { GET: [view] } }, upstream: albums }\n",
    );

    let pair = |first: (&str, &str), second: (&str, &str, &str)| {
        let route = |path: &str, rewrite: &str, protect: &str| format!("  - {{ path: \"{path}\", upstream: other{rewrite}, protect: {{ {protect} }} }}\n");
        route(first.0, "", first.1) + &route(second.0, &format!(", rewrite: \"{}\"", second.1), second.2)
    };
    let view = "scopes: { GET: [view] }";
    let of = |resource: &str| format!("resource: {resource}, {view}");
    // By where the parameters stand at the content server, not by what they are called.
    let named = of("{ name: \"{b}\", owner: \"{a}\" }");
    refused(&pair(("/u/{a}/{b}/**", &named), ("/s/{b}/{a}/**", "/u/{b}/{a}/{**}", &named)));
    accepted(&pair(("/u/{a}/{b}/**", &named), ("/s/{b}/{a}/**", "/u/{a}/{b}/{**}", &named)));
    accepted(&pair(("/u/{a}/{b}/**", &named), ("/s/{x}/{y}/**", "/u/{x}/{y}/{**}", &of("{ name: \"{y}\", owner: \"{x}\" }"))));
    let uris = of("{ uris: true }");
    refused(&pair(("/u/**", &uris), ("/v/**", "/u/{**}", &uris)));
    let id = of("{ id: i }");
    accepted(&pair(("/u/**", &id), ("/v/**", "/u/{**}", &id)));
    refused(&pair(("/u/**", &id), ("/v/**", "/u/{**}", "resource: { id: i }, scopes: { GET: [list] }")));
    accepted(&pair(("/u/**", &id), ("/v/**", "/u/{**}", "resource: { id: i }, scopes: { GET: [view, list] }")));
    refused(&pair(("/u/**", &id), ("/v/**", "/u/{**}", "resource: { id: i }, scopes: { HEAD: [list] }")));
    // Opt-ins, and text around a parameter, are the same on both sides.
    let name = of("{ name: \"{a}\", owner: alice }");
    let opted = |path: &str, rewrite: &str, opt_in: &str| format!("  - {{ path: \"{path}\", upstream: other{rewrite}{opt_in}, protect: {{ {name} }} }}\n");
    let alias = ", rewrite: \"/u/{a}/{**}\"";
    accepted(&(opted("/u/{a}/**", "", ", semicolon: true") + &opted("/v/{a}/**", alias, ", semicolon: true")));
    refused(&(opted("/u/{a}/**", "", "") + &opted("/v/{a}/**", alias, ", semicolon: true")));
    accepted(&(opted("/u/{a}", ", rewrite: \"/u-{a}.html\"", "") + &opted("/v/{a}", ", rewrite: \"/u-{a}.html\"", "")));
    // One prefix that both leave out: the more particular route has its paths as it has them here.
    let api = |path: &str, rewrite: &str, rest: &str| format!("  - {{ path: \"{path}\", upstream: other, rewrite: \"{rewrite}\", {rest} }}\n");
    let protect = format!("protect: {{ {id} }}");
    accepted(&(api("/api/**", "/{**}", &protect) + &api("/api/public/**", "/public/{**}", "public: true")));
    accepted(&(api("/api/{a}/x", "/{a}/x", &format!("protect: {{ {name} }}")) + &api("/api/{a}/**", "/{a}/{**}", &format!("protect: {{ {name} }}"))));
    refused(&(api("/api/**", "/{**}", &protect) + &api("/open/**", "/public/{**}", "public: true")));
    accepted(&pair(("/u/**", &id), ("/v/**", "/u/{**}", "resource: { id: i }, scopes: { PUT: [edit] }")));
    let guard = |name: &str| format!("mode: guard, accept: {{ basic: {{ username: {name}, password: {{ file: proxy }} }} }}");
    accepted(&pair(("/u/**", &guard("gateway")), ("/v/**", "/u/{**}", &guard("gateway"))));
    refused(&pair(("/u/**", &guard("gateway")), ("/v/**", "/u/{**}", &guard("another"))));
}

#[test]
fn what_is_public_at_one_host_and_protected_at_another_is_a_warning_where_the_content_server_does_not_hear_the_host() {
    let folder = folder();
    let warnings = |host: &str, more: &str| {
        let text = RIGHT.replace("path: /albums", "host: a.example.org\n    path: /albums");
        let text = text.replace("path: /public/**", &format!("host: b.example.org\n    path: /**{more}"));
        let text = text.replace("    servers: [ http://127.0.0.1:9101 ]\n", &format!("    servers: [ http://127.0.0.1:9101 ]\n{host}"));
        read_in(folder.path(), &text).expect("it is right").warnings
    };
    let told = warnings("", "");
    assert!(told.len() == 1 && told[0].contains("asks the content server for what `/albums/{album}/**` at line 16 protects"), "{told:?}");
    assert_eq!(warnings("    host: preserve\n", ""), [""; 0]);
    assert_eq!(warnings("", "\n    covers_protected: true"), [""; 0]);
}

#[test]
fn a_route_for_a_host_that_no_listener_serves_can_never_match() {
    let folder = folder();
    let served =
        RIGHT.replace("127.0.0.1:8080", "127.0.0.1:8080\n    hosts: [a.example.org]").replace("path: /public/**", "path: /public/**\n    host: b.example.org");
    let problems = read_in(folder.path(), &served).expect_err("nobody serves it");
    assert_eq!(problems.errors.len(), 1, "{problems}");
    assert!(problems.to_string().contains("no listener serves b.example.org"), "{problems}");
    assert!(read_in(folder.path(), &served.replace("b.example.org", "a.example.org")).is_ok());
}

#[test]
fn the_schema_refuses_unknown_keys_and_exclusive_ones_as_the_checker_does() {
    let shapes = ["unknown key", "exactly one of", "is missing:", "a list is wanted", "is not a duration", "is not a size", "is not a rate", "upper case"];
    for (right, wrong, _, message, instead) in ROWS {
        // Whether `hosts` gives the scopes, and how short or long a duration may be, is beyond it.
        let known_to_routes_alone = message.contains("`scopes` is missing") || instead.contains("at least") || instead.contains("at most");
        if shapes.iter().any(|shape| message.contains(shape)) && !known_to_routes_alone {
            assert!(!schema_accepts(&RIGHT.replace(right, wrong)), "{wrong}");
        }
    }
    assert!(schema_accepts(RIGHT));
}

#[test]
fn a_certificate_that_has_expired_is_a_warning() {
    let folder = folder();
    let tls = "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: expired.crt, key: tls.key } ], min_version: 1.3, hsts: 180d }";
    let text = RIGHT.replace("address: 127.0.0.1:8080", tls);
    let gateway = read_in(folder.path(), &text).expect("it is right");
    assert!(schema_accepts(&text));
    let [warning] = gateway.warnings.as_slice() else { panic!("one warning: {:?}", gateway.warnings) };
    assert!(warning.contains("gateway.yaml:4:43: the certificate ") && warning.contains("has expired"), "{warning}");
    assert_eq!(gateway.listeners[0].tls.as_ref().and_then(|tls| tls.hsts), Some(180 * 86_400));
}

#[test]
fn a_command_that_asks_where_things_are_opens_no_file_of_tls() {
    let folder = folder();
    let (listener, server) = ("address: 127.0.0.1:8080", "servers: [ http://127.0.0.1:9101 ]");
    let files = "tls: { certificates: [ { certificate: no.crt, key: no.key } ], client_auth: required, client_ca: no.pem }";
    let client = "    tls: { ca: no.pem, client_certificate: no.pem, client_key: no.key }";
    let text = RIGHT.replace(listener, &format!("{listener}\n    {files}")).replace(server, &format!("servers: [ https://127.0.0.1:9101 ]\n{client}"));
    let text = text.replace("upstreams:\n", &format!("{client}\nupstreams:\n"));
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, &text).expect("written");
    let read = crate::config::load_without_secrets(&file);
    assert!(read.is_ok(), "{}", read.expect_err("a mistake"));
    assert_eq!(read_in(folder.path(), &text).expect_err("there is none of them").errors.len(), 9);
}

#[test]
fn what_has_no_effect_is_a_warning_with_its_line() {
    let folder = folder();
    let warnings = |text: &str| read_in(folder.path(), text).expect("it is right").warnings;
    let public = RIGHT.replace("    public: true", "    public: true\n    identity_headers: { X-User: sub }");
    let [warning] = &*warnings(&public) else { panic!("one warning") };
    assert!(warning.contains("`identity_headers` has no effect here") && warning.contains("gateway.yaml:21:5"), "{warning}");
    let covers = RIGHT.replace("path: /albums/{album}/**", "path: /albums/{album}/**\n    covers: all");
    let [warning] = &*warnings(&covers) else { panic!("one warning") };
    assert!(warning.contains("`covers: all` has no effect here: the resource uses every parameter") && warning.contains("gateway.yaml:16:5"), "{warning}");
    let meant = covers.replace("name: \"album {album}\"", "name: albums");
    assert!(warnings(&meant).is_empty());
}

#[test]
fn a_parameter_in_other_programs_notation_is_a_warning_with_what_to_write() {
    let folder = folder();
    let warnings = |path: &str| read_in(folder.path(), &RIGHT.replace("path: /public/**", &format!("path: {path}"))).expect("it is right").warnings;
    let [warning] = &*warnings("/public/:album/photos/:photo") else { panic!("one warning") };
    assert!(warning.contains("gateway.yaml:19:19: `:album` is a name like any other here, and no parameter"), "{warning}");
    assert!(warning.contains("write   /public/{album}/photos/{photo}"), "{warning}");
    let [warning] = &*warnings("/public/[0-9]+/photos") else { panic!("one warning") };
    assert!(warning.contains("gateway.yaml:19:19: `[0-9]+` is a name like any other here, and no pattern"), "{warning}");
    assert!(warning.contains("write   /public/{segment}/photos"), "{warning}");
    for path in ["/public/urn:isbn:1/**", "\"/public/:\"", "/public/a:b", "/public/:1", "/public/c++"] {
        assert_eq!(warnings(path), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn an_upstream_that_nobody_uses_is_a_warning() {
    let folder = folder();
    let second = RIGHT.replace(
        "routes:\n  - path: /albums/{album}/**",
        "  docs: { servers: [ http://127.0.0.1:9102 ] }\nroutes:\n  - path: /albums/{album}/**\n    upstream: albums",
    );
    let text = second.replace("path: /public/**", "path: /public/**\n    upstream: albums");
    let [warning] = &*read_in(folder.path(), &text).expect("it is right").warnings else { panic!("one warning") };
    assert!(warning.contains("gateway.yaml:14:3: no route leads to the upstream `docs`"), "{warning}");
    let used = second.replace("path: /public/**", "path: /public/**\n    upstream: docs");
    assert!(read_in(folder.path(), &used).expect("it is right").warnings.is_empty());
}

#[test]
fn what_only_sounds_like_a_secret_is_shown_and_what_stands_in_the_place_of_one_is_not() {
    let folder = folder();
    let shown = |right: &str, wrong: &str| read_in(folder.path(), &RIGHT.replace(right, wrong)).expect_err("a mistake").to_string();
    let servers = "servers: [ http://127.0.0.1:9101 ]";
    assert!(shown(servers, &format!("{servers}\n    sticky: {{ cookie: \"a b\" }}")).contains("12 |     sticky: { cookie: \"a b\" }\n"));
    let tls = |key: &str| shown("127.0.0.1:8080", &format!("127.0.0.1:8080\n    tls: {{ certificates: [ {{ certificate: tls.crt, key: {key} }} ] }}"));
    assert!(tls("nowhere.key").contains("key: nowhere.key }"), "{}", tls("nowhere.key"));
    let text = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v";
    for key in [
        format!("\"-----BEGIN PRIVATE KEY-----{text}\""),
        format!("|\n      -----BEGIN PRIVATE KEY-----\n      {text}\n    "),
        format!("\"-----BEGIN PRIVATE KEY-----\\n{text}\""),
    ] {
        assert!(!tls(&key).contains(text), "{}", tls(&key));
    }
    let cors = shown("    public: true", "    public: true\n    cors: { origins: [ \"https://app.example.org\" ], credentials: maybe }");
    assert!(cors.contains("credentials: maybe }"), "{cors}");
    let resource = "resource: { name: \"album {album}\", owner: alice }";
    assert!(shown(resource, "resource: vacation").contains("17 |       resource: vacation\n"), "{}", shown(resource, "resource: vacation"));
    for place in ["resource: -----BEGIN-PRIVATE-KEY-----MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v", "resource: |\n        hunter2\n        hunter2"] {
        assert!(!shown(resource, place).contains("hunter2") && !shown(resource, place).contains("MC4C"), "{}", shown(resource, place));
    }
}

#[test]
fn a_door_is_found_whatever_is_wrong_elsewhere() {
    let folder = folder();
    let file = folder.path().join("gateway.yaml");
    let admin = RIGHT.replace("health:", "admin: { address: 127.0.0.1:9091, token: { file: client } }\nhealth:");
    for (right, wrong) in [
        ("routes:", "rutes:"),
        ("version: 1", "version: 1\nlog: { to: nowhere/x.log }"),
        ("secret: { file: client }", "secret: { env: UNSET }"),
        ("    public: true", "    public true"),
        ("listeners:", "listeners: {"),
        ("  - path: /public/**", "\t- path: /public/**"),
    ] {
        let text = admin.replace(right, wrong);
        std::fs::write(&file, &text).expect("written");
        assert!(crate::config::load(&file).is_err(), "{wrong}");
        let health = crate::config::health(&file).unwrap_or_else(|problems| panic!("{problems}")).expect("a section");
        assert_eq!(health.address.port(), 9090, "{wrong}");
        assert!(matches!(crate::config::admin(&file), Ok(Some(crate::admin::AdminDoor::Address { token, .. })) if token.expose() == "open-sesame"), "{wrong}");
    }
    // A mistake in the section itself, and none to be found.
    std::fs::write(&file, admin.replace("127.0.0.1:9090", "localhost:9090")).expect("written");
    let problems = crate::config::health(&file).expect_err("a name").to_string();
    assert!(problems.contains("gateway.yaml:5:20") && problems.contains("write   127.0.0.1:9090"), "{problems}");
    std::fs::write(&file, "version: 1\n").expect("written");
    assert!(matches!(crate::config::health(&file), Ok(None)) && matches!(crate::config::admin(&file), Ok(None)));
}

#[test]
fn a_log_that_cannot_be_written_and_a_file_that_is_not_there_are_mistakes() {
    let folder = folder();
    let with = |log: &str| RIGHT.replace("health: { address: 127.0.0.1:9090 }", log);
    for log in ["log: { audit: nowhere/audit.log }", "log: { to: nowhere/access.log }"] {
        let problems = read_in(folder.path(), &with(log)).expect_err("it cannot be written").to_string();
        assert!(problems.contains("cannot be written") && problems.contains("there is no such folder") && problems.contains("gateway.yaml:4:"), "{problems}");
    }
    let before = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert!(read_in(folder.path(), &with("log: { audit: audit.log }")).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), before, "nothing is left behind");
    let tls = RIGHT.replace("address: 127.0.0.1:8080", "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: none.crt, key: tls.key } ] }");
    let problems = read_in(folder.path(), &tls).expect_err("there is none").to_string();
    assert!(problems.contains("none.crt cannot be read") && problems.contains("there is no such file"), "{problems}");
}
