//! How a client shows who it is: what may stand there, and what of it makes another server of the section.

use std::path::Path;

use super::{folder, right, round_trip, schema_accepts};
use crate::authorization_server::{Config, Proof};
use crate::credentials::Credential;

const TEXT: &str = r#"version: 1
listeners: [ { address: 127.0.0.1:8080 } ]
authorization_servers:
  id: { issuer: https://id.example.org/realms/photoz, tls: { client_certificate: gateway.pem, client_key: gateway-key.pem }, client: { id: gateway, PROOF } }
upstreams:
  albums: { servers: [ http://127.0.0.1:9101 ], credentials: { oauth2: { token_endpoint: "https://id.example.org/token", client: { id: gateway, OAUTH2 } } } }
routes:
  - { path: /public/**, public: true }
"#;

fn written(proof: &str, oauth2: &str) -> String {
    TEXT.replace("PROOF", proof).replace("OAUTH2", oauth2)
}

fn server(folder: &Path, proof: &str) -> Config {
    let text = written(proof, "secret: { file: client }");
    round_trip(&text);
    assert!(schema_accepts(&text), "{text}");
    (*right(folder, &text).authorization_servers[0]).clone()
}

#[test]
fn each_way_to_show_who_the_client_is_is_read() {
    let folder = folder();
    let of = |proof: &str| server(folder.path(), proof).client.proof;
    assert!(matches!(of("secret: { file: client }"), Proof::Secret(secret) if secret.expose() == "open-sesame"));
    assert!(matches!(of("in_body: true, secret: { file: client }"), Proof::SecretInBody(secret) if secret.expose() == "open-sesame"));
    assert!(matches!(of("certificate: true"), Proof::Certificate));
    let key = |keys: &str| match of(&format!("private_key: {{ file: tls.key }}{keys}")) {
        Proof::PrivateKey(key) => key,
        other => panic!("{other:?}"),
    };
    assert_eq!(&*key("").audience, "https://id.example.org/realms/photoz", "the issuer");
    assert_eq!(&*key(", audience: elsewhere").audience, "elsewhere");
    assert!(!key("").key.is_same(&key(", key_id: a").key), "the id is in what it signs");
    assert!(key("").origin.as_deref().is_some_and(|origin| origin.ends_with("tls.key")));
}

#[test]
fn the_client_of_a_proxy_credential_signs_for_the_token_endpoint() {
    let folder = folder();
    let audience = |keys: &str| {
        let text = written("certificate: true", keys);
        round_trip(&text);
        assert!(schema_accepts(&text), "{text}");
        match &right(folder.path(), &text).credentials[0].credential {
            Credential::Oauth2 { client, .. } => match &client.proof {
                Proof::PrivateKey(key) => key.audience.to_string(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(audience("private_key: { file: tls.key }"), "https://id.example.org/token");
    assert_eq!(audience("private_key: { file: tls.key }, audience: \"https://id.example.org\""), "https://id.example.org");
}

#[test]
fn a_new_secret_or_key_leaves_the_server_what_it_is() {
    let folder = folder();
    let identity = |proof: &str| server(folder.path(), proof).identity;
    let before = identity("secret: { file: client }");
    for same in
        ["secret: { file: proxy }", "secret: { file: client }, in_body: true", "private_key: { file: tls.key }", "private_key: { file: other.key }, key_id: a"]
    {
        assert_eq!(identity(same), before, "{same}");
    }
    for other in ["private_key: { file: tls.key }, audience: a", "certificate: true"] {
        assert_ne!(identity(other), before, "{other}");
    }
}
