use std::sync::Arc;

use serde_json::{Value, json};

use super::introspection::read;
use super::testing::config;
use super::*;
use crate::uma::{Introspection, Permission, ResourceId, Rpt, Scope, Timestamp};

fn opaque() -> Rpt {
    Rpt("opaque-token".into())
}

fn token_with(payload: &Value) -> Rpt {
    use base64::Engine as _;
    let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    Rpt(format!("{}.{}.c2ln", encode("{\"alg\":\"RS256\"}".into()), encode(payload.to_string())).as_str().into())
}

fn active(profile: &Profile, answer: &Value, rpt: &Rpt) -> Introspection {
    match read(profile, answer.to_string().as_bytes(), rpt).expect("usable") {
        Answer::Active(introspection) => *introspection,
        Answer::Inactive => panic!("inactive"),
    }
}

fn unusable(profile: &Profile, answer: &str) {
    assert!(matches!(read(profile, answer.as_bytes(), &opaque()), Err(AskError::Unusable { .. })), "{answer}");
}

fn grants(resource: &str, scopes: &[&str]) -> Permission {
    Permission { resource: ResourceId(resource.into()), scopes: scopes.iter().map(|scope| Scope(Arc::from(*scope))).collect(), exp: None, nbf: None }
}

#[test]
fn only_the_json_boolean_true_is_active() {
    for active in ["\"true\"", "1", "null", "[true]", "{}", "\"false\""] {
        unusable(Profile::UMA2, &format!("{{\"active\":{active}}}"));
    }
    for text in ["", "{}", "[]", "true", "null", "<html>", "{\"active\":true", "{\"active\":true}}"] {
        unusable(Profile::UMA2, text);
    }
    assert_eq!(read(Profile::UMA2, b"{\"active\":false}", &opaque()).expect("usable"), Answer::Inactive);
    assert_eq!(active(Profile::UMA2, &json!({"active": true}), &opaque()).permissions, []);
}

#[test]
fn duplicate_members_make_an_answer_unusable() {
    unusable(Profile::UMA2, r#"{"active":false,"active":true}"#);
    unusable(Profile::UMA2, r#"{"active":true,"permissions":[{"resource_id":"a","resource_id":"b"}]}"#);
}

#[test]
fn times_are_whole_seconds_or_the_answer_is_unusable() {
    for exp in ["\"1700000000\"", "1700000000.5", "1700000000000", "-1", "true", "1e30"] {
        unusable(Profile::UMA2, &format!("{{\"active\":true,\"exp\":{exp}}}"));
        unusable(Profile::UMA2, &format!("{{\"active\":true,\"permissions\":[{{\"resource_id\":\"a\",\"resource_scopes\":[],\"exp\":{exp}}}]}}"));
    }
    assert_eq!(active(Profile::UMA2, &json!({"active":true,"exp":1_700_000_000}), &opaque()).exp, Some(Timestamp(1_700_000_000)));
    assert_eq!(active(Profile::UMA2, &json!({"active":true,"nbf":0}), &opaque()).nbf, None);
}

#[test]
fn every_alias_of_a_permission_is_read_and_disagreeing_ones_grant_nothing() {
    let permissions = |entries: Value| active(Profile::UMA2, &json!({"active":true,"permissions":entries}), &opaque()).permissions;
    assert_eq!(permissions(json!([{"resource_id":"a","resource_scopes":["view"]}])), [grants("a", &["view"])]);
    assert_eq!(permissions(json!([{"rsid":"a","scopes":["view"]}])), [grants("a", &["view"])]);
    assert_eq!(permissions(json!([{"resource_set_id":"a","scopes":["view"]}])), [grants("a", &["view"])]);
    assert_eq!(permissions(json!([{"rsid":"a","scopes":["view"],"resource_id":"a","resource_scopes":["view"]}])), [grants("a", &["view"])]);
    assert_eq!(permissions(json!([{"rsid":"a","resource_id":"b","scopes":["view"]}])), []);
    assert_eq!(permissions(json!([{"rsid":"a","scopes":["view"],"resource_scopes":["edit"]}])), []);
    assert_eq!(permissions(json!([{"scopes":["view"]}])), []);
    assert_eq!(permissions(json!([{"resource_set_id":"a"}])), [grants("a", &[])]);
}

#[test]
fn a_top_level_scope_is_not_a_permission() {
    assert_eq!(active(Profile::UMA2, &json!({"active":true,"scope":"view"}), &opaque()).permissions, []);
}

#[test]
fn keycloak_takes_permissions_from_the_token_that_the_server_called_active() {
    let rpt = token_with(&json!({"sub":"bob","sid":"s1","azp":"app","authorization":{"permissions":[{"rsid":"a","rsname":"Album","scopes":["view"]}]}}));
    let introspection = active(Profile::KEYCLOAK, &json!({"active":true,"sub":"bob"}), &rpt);
    assert_eq!(introspection.permissions, [grants("a", &["view"])]);
    assert_eq!(introspection.session.as_deref(), Some("s1"));
    assert_eq!(introspection.client.as_deref(), Some("app"));
    // The same token at a server whose answer holds the permissions grants nothing by itself.
    assert_eq!(active(Profile::UMA2, &json!({"active":true,"sub":"bob"}), &rpt).permissions, []);
}

#[test]
fn where_answer_and_token_both_speak_the_stricter_counts() {
    let rpt = token_with(&json!({"exp":200,"authorization":{"permissions":[{"rsid":"a","scopes":["view","edit"]},{"rsid":"b","scopes":["view"]}]}}));
    let introspection = active(Profile::KEYCLOAK, &json!({"active":true,"exp":100,"permissions":[{"rsid":"a","scopes":["view"]}]}), &rpt);
    assert_eq!(introspection.permissions, [grants("a", &["view"])]);
    assert_eq!(introspection.exp, Some(Timestamp(100)));
}

#[test]
fn where_answer_and_token_contradict_each_other_nothing_counts() {
    let rpt = token_with(&json!({"sub":"alice"}));
    assert!(read(Profile::KEYCLOAK, json!({"active":true,"sub":"bob"}).to_string().as_bytes(), &rpt).is_err());
}

#[test]
fn a_key_binding_is_seen_in_the_answer_and_in_the_token() {
    assert!(active(Profile::UMA2, &json!({"active":true,"cnf":{"jkt":"x"}}), &opaque()).bound);
    assert!(active(Profile::KEYCLOAK, &json!({"active":true}), &token_with(&json!({"cnf":{"jkt":"x"}}))).bound);
    assert!(!active(Profile::UMA2, &json!({"active":true}), &opaque()).bound);
}

fn document(host: &str) -> Value {
    json!({
        "issuer": "https://id.example.org/realms/photoz",
        "token_endpoint": format!("{host}/token"), "introspection_endpoint": format!("{host}/introspect"),
        "permission_endpoint": format!("{host}/permission"), "resource_registration_endpoint": format!("{host}/resource_set"),
    })
}

#[test]
fn discovery_refuses_another_issuer_and_says_both() {
    let mut document = document("https://id.example.org");
    document["issuer"] = json!("https://id.example.org/realms/photoz/");
    let error = discovery::read(&config(), document.to_string().as_bytes()).expect_err("another issuer").to_string();
    assert!(error.contains("`https://id.example.org/realms/photoz/`") && error.contains("`https://id.example.org/realms/photoz`"), "{error}");
}

#[test]
fn discovery_refuses_endpoints_on_hosts_that_the_configuration_does_not_name() {
    for host in ["http://169.254.169.254", "https://evil.example.org", "https://id.example.org:8443", "https://id.example.org@evil.example.org"] {
        assert!(discovery::read(&config(), document(host).to_string().as_bytes()).is_err(), "{host}");
    }
    assert!(discovery::read(&config(), document("https://id.example.org").to_string().as_bytes()).is_ok());
}

#[test]
fn discovery_refuses_plain_http_away_from_loopback() {
    assert!(discovery::read(&config(), document("http://id.example.org").to_string().as_bytes()).is_err());
}

#[test]
fn a_backchannel_replaces_scheme_and_authority_and_keeps_the_host() {
    let mut config = config();
    config.backchannel = Some("http://keycloak.iam.svc:8080".parse().expect("an address"));
    let metadata = discovery::read(&config, document("https://id.example.org").to_string().as_bytes()).expect("usable");
    assert_eq!(metadata.token.uri, "http://keycloak.iam.svc:8080/token");
    assert_eq!(metadata.token.host, "id.example.org");
    let addresses = discovery::addresses(&config).expect("addresses");
    assert_eq!(addresses[0].uri, "http://keycloak.iam.svc:8080/realms/photoz/.well-known/uma2-configuration");
}

#[test]
fn a_missing_endpoint_is_named() {
    let mut document = document("https://id.example.org");
    document.as_object_mut().expect("an object").remove("permission_endpoint");
    let error = discovery::read(&config(), document.to_string().as_bytes()).expect_err("incomplete").to_string();
    assert!(error.contains("`permission_endpoint`"), "{error}");
}

#[test]
fn auto_knows_keycloak_by_its_policy_endpoint() {
    let mut document = document("https://id.example.org");
    assert_eq!(discovery::read(&config(), document.to_string().as_bytes()).expect("usable").profile, Profile::UMA2);
    document["policy_endpoint"] = json!("https://id.example.org/uma-policy");
    assert_eq!(discovery::read(&config(), document.to_string().as_bytes()).expect("usable").profile, Profile::KEYCLOAK);
}
