//! Guards and assertions: what is accepted, and how mistakes look.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::mistakes::{Row, each_is_shown};
use super::{close, folder, read_in, right, schema_accepts};
use crate::credentials::Credential;
use crate::routing::{Access, Certificates, Guard};

/// A guard without a mistake, which each row below spoils in one place.
const RIGHT: &str = r#"version: 1
listeners:
  - address: 127.0.0.1:8080
upstreams:
  albums:
    servers: [ http://127.0.0.1:9101 ]
    credentials:
      basic: { username: gateway, password: { file: proxy } }
routes:
  - path: /**
    protect:
      mode: guard
      accept: { basic: { username: gateway, password: { file: sticky-key } } }
"#;

const ACCEPT: &str = "accept: { basic: { username: gateway, password: { file: sticky-key } } }";
const BASIC: &str = "basic: { username: gateway, password: { file: proxy } }";

/// The usual folder with a key that signs, and its public part in both forms.
fn with_keys() -> tempfile::TempDir {
    let folder = folder();
    let pair = Ed25519KeyPair::generate().expect("randomness");
    let pem = |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    let key = pem("PRIVATE KEY", pair.to_pkcs8v1().expect("DER").as_ref());
    let signer = crate::jose::SigningKey::from_pem(&key.clone().into(), None).expect("a key");
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{}"}}]}}"#, URL_SAFE_NO_PAD.encode(pair.public_key()));
    for (name, text) in [("gateway.key", key), ("gateway.pub", pem("PUBLIC KEY", signer.public())), ("jwks.json", jwks)] {
        std::fs::write(folder.path().join(name), text).expect("a file");
        close(&folder.path().join(name));
    }
    folder
}

#[test]
fn a_guards_password_that_can_be_guessed_is_a_warning_with_what_to_do() {
    let folder = with_keys();
    let text = RIGHT.replace(ACCEPT, "accept: { basic: { username: gateway, password: { file: proxy-password } } }");
    let warnings = right(folder.path(), &text).warnings;
    let [warning] = warnings.as_slice() else { panic!("one warning: {warnings:?}") };
    assert!(warning.contains("gateway.yaml:"), "{warning}");
    assert!(warning.ends_with(": this password can be guessed; 16 random characters or more; make one   openssl rand -base64 24"), "{warning}");
}

#[test]
fn each_kind_of_guard_is_read_as_it_is_written() {
    let folder = with_keys();
    let tls = "address: 127.0.0.1:8080\n    tls: { certificates: [ { certificate: tls.crt, key: tls.key } ], client_auth: required, client_ca: clients.pem }";
    let read = |accept: &str| {
        let text = RIGHT.replace("address: 127.0.0.1:8080", tls).replace(ACCEPT, &format!("accept: {{ {accept} }}"));
        assert!(schema_accepts(&text), "{text}");
        let gateway = right(folder.path(), &text);
        assert!(gateway.warnings.is_empty(), "{:?}", gateway.warnings);
        match &gateway.routes.first().expect("a route").access {
            Access::Guard(guard) => (guard.clone(), gateway.files),
            Access::Public | Access::Protect(_) => panic!("a guard"),
        }
    };
    let (guard, files) = read("basic: { username: gateway, password: { file: sticky-key } }");
    let Guard::Basic(password) = guard else { panic!("basic") };
    assert!(password.accepts(b"gateway:nobody-guesses-this", tokio::time::Instant::now()));
    assert!(files.contains(&folder.path().join("sticky-key")));

    for keys in ["public_key: gateway.pub", "keys: { file: jwks.json }"] {
        let (guard, files) = read(&format!("bearer_jwt: {{ {keys}, issuer: gateway, audience: albums }}"));
        let Guard::BearerJwt(rules) = guard else { panic!("assertions") };
        assert_eq!((&*rules.issuer, &*rules.audience, rules.max_lifetime.as_secs(), rules.unbound), ("gateway", "albums", 60, false));
        // A key that changes is news like the file itself.
        assert!(files.iter().any(|file| file.ends_with("gateway.pub") || file.ends_with("jwks.json")));
    }
    let fingerprint = "9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08";
    let (guard, _) = read(&format!("client_certificate: {{ sha256: [ \"{fingerprint}\" ] }}"));
    let Guard::ClientCertificate(rules) = guard else { panic!("certificates") };
    let Certificates::Sha256(digests) = &*rules else { panic!("digests") };
    assert_eq!((digests.len(), digests[0][0], digests[0][31]), (1, 0x9f, 0x08));
    read("client_certificate: { subjects: [ \"CN=gateway,O=Example\" ] }");
    read("client_certificate: { san_uris: [ spiffe://example.org/gateway ] }");
}

#[test]
fn a_signer_is_read_as_it_is_written_and_its_key_is_in_no_message() {
    let folder = with_keys();
    let text = RIGHT.replace(
        BASIC,
        "jwt: { key: { file: gateway.key }, algorithm: EdDSA, key_id: \"1\", issuer: gateway, audience: albums, lifetime: 10s, subject: true }",
    );
    assert!(schema_accepts(&text));
    let gateway = right(folder.path(), &text);
    let Credential::Jwt(signer) = &gateway.credentials[0].credential else { panic!("assertions") };
    assert_eq!((&*signer.issuer, &*signer.audience, signer.lifetime.as_secs(), signer.subject), ("gateway", "albums", 10, true));
    assert!(gateway.files.contains(&folder.path().join("gateway.key")));
    assert!(format!("{signer:?}").contains("SigningKey(EdDSA)"));
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The mode.
    (ACCEPT, "", (11, 5), "`accept` is missing: a guard says what it accepts", "accept: { basic"),
    ("mode: guard", "mode: gaurd", (12, 13), "`gaurd` is not one of `uma`, `guard`", "did you mean `guard`?"),
    (ACCEPT, "accept: {}", (13, 7), "exactly one of `basic`, or `bearer_jwt`, or `client_certificate`", "none"),
    (ACCEPT, "accept: { basic: { username: gateway, password: { file: sticky-key } }, bearer_jwt: { public_key: gateway.pub, issuer: a, audience: b } }", (13, 79), "exactly one of `basic`", "leave one out"),
    (ACCEPT, "scopes: { GET: [view] }\n      accept: { basic: { username: gateway, password: { file: sticky-key } } }", (13, 7), "`scopes` has no effect with `mode: guard`", "leave it out"),
    ("  - path: /**\n", "  - path: /**\n    scopes_match: any\n", (11, 5), "`scopes_match` has no effect", "leave it out"),
    ("  - path: /**\n", "  - path: /**\n    covers_protected: true\n", (11, 5), "`covers_protected` has no effect", "leave it out"),
    ("  - path: /**\n", "  - path: /**\n    cors: { origins: [ https://app.example.org ] }\n", (11, 5), "`cors` has no effect", "the gateway's own route"),
    ("routes:\n", "routes:\n  - path: /x/{y}\n    public: true\n  - path: /{x}/y\n    protect: { mode: guard, accept: { basic: { username: g, password: { file: sticky-key } } } }\n", (10, 11), "public route also matches", "covers_protected: true"),
    // What is accepted.
    (ACCEPT, "accept: { basic: { username: \"a:b\", password: { file: sticky-key } } }", (13, 36), "has no colon in it", ""),
    (ACCEPT, "accept: { basic: { username: a, password: guessme } }", (13, 49), "a secret is not written out", "write   { file: PATH }"),
    (ACCEPT, "accept: { basic: { username: a, password: { file: sticky-key }, grace: 5 } }", (13, 78), "`5` is not a duration", "write   5s"),
    (ACCEPT, "accept: { bearer_jwt: { issuer: a, audience: b } }", (13, 17), "exactly one of `keys`, or `public_key`", "none"),
    (ACCEPT, "accept: { bearer_jwt: { public_key: nowhere, issuer: a, audience: b } }", (13, 43), "nowhere cannot be read", "there is no such file"),
    (ACCEPT, "accept: { bearer_jwt: { public_key: gateway.key, issuer: a, audience: b } }", (13, 43), "this file of public keys cannot be used", "no public key in PEM form"),
    (ACCEPT, "accept: { bearer_jwt: { keys: { file: gateway.pub }, issuer: a, audience: b } }", (13, 45), "this file of public keys cannot be used", "not a JWK Set"),
    (ACCEPT, "accept: { bearer_jwt: { public_key: gateway.pub, audience: b } }", (13, 17), "`issuer` is missing", "write   issuer: gateway"),
    (ACCEPT, "accept: { bearer_jwt: { public_key: gateway.pub, issuer: a, audience: b, max_lifetime: 1h } }", (13, 94), "`1h` is not a duration", "at most 10m"),
    (ACCEPT, "accept: { bearer_jwt: { public_key: gateway.pub, issuer: a, audience: b, unbound: false } }", (13, 89), "this is `true` or left out", ""),
    (ACCEPT, "accept: { client_certificate: { sha256: [ 9f86 ] } }", (13, 49), "is not a SHA-256 digest", "64 hexadecimal digits"),
    (ACCEPT, "accept: { client_certificate: { subjects: [ /O=Example/CN=gateway ] } }", (13, 51), "is not a subject", "write   \"CN=gateway,O=Example\""),
    (ACCEPT, "accept: { client_certificate: { subjects: [ gateway ] } }", (13, 51), "`gateway` is not a subject", "write   CN=gateway"),
    (ACCEPT, "accept: { client_certificate: { san_uris: [] } }", (13, 49), "nobody stands here", ""),
    (ACCEPT, "accept: { client_certificate: { subjects: [ CN=gateway ] } }", (10, 11), "no listener asks clients for a certificate", "`client_auth`"),
    // What is shown.
    (BASIC, "jwt: { key: { file: gateway.pub }, issuer: a, audience: b }", (8, 19), "this key cannot sign", "no private key (PKCS#8) in PEM form"),
    (BASIC, "jwt: { key: { file: gateway-key.pem }, algorithm: EdDSA, issuer: a, audience: b }", (8, 46), "the key is one for ES256", "leave it out"),
    (BASIC, "jwt: { key: { file: gateway.key }, algorithm: HS256, issuer: a, audience: b }", (8, 53), "`HS256` is not one of `EdDSA`, `ES256`, `RS256`", ""),
    (BASIC, "jwt: { key: { file: gateway.key }, issuer: a, audience: b, lifetime: 1h }", (8, 76), "`1h` is not a duration", "at most 10m"),
    (BASIC, "jwt: { key: { file: gateway.key }, issuer: a }", (8, 7), "`audience` is missing", "write   audience: albums"),
    (BASIC, "jwt: { key: gateway.key, issuer: a, audience: b }", (8, 19), "a secret is not written out", "write   { file: PATH }"),
];

#[test]
fn every_mistake_of_a_guard_is_shown_at_its_place() {
    let folder = with_keys();
    assert!(read_in(folder.path(), RIGHT).is_ok());
    each_is_shown(folder.path(), RIGHT, ROWS, "guessme");
}

#[test]
fn what_is_weak_or_without_effect_is_warned_of() {
    let folder = with_keys();
    let warned = |from: &str, to: &str| right(folder.path(), &RIGHT.replacen(from, to, 1)).warnings.join("\n");
    assert!(warned("file: sticky-key", "file: proxy").contains("this password can be guessed"));
    assert!(warned("  - path: /**\n", "  - path: /**\n    identity_headers: { X-User: sub }\n").contains("`identity_headers` has no effect here"));
    // An `accept` without its mode opens nothing.
    let problems = read_in(folder.path(), &RIGHT.replace("      mode: guard\n", "")).expect_err("no mode");
    assert!(problems.to_string().contains("`accept` says what a guard accepts, and this route is none"), "{problems}");
}
