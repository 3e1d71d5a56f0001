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
    Permission {
        resource: Some(ResourceId(resource.into())),
        scopes: Some(scopes.iter().map(|scope| Scope(Arc::from(*scope))).collect()),
        exp: None,
        nbf: None,
    }
}

fn unsaid(resource: &str) -> Permission {
    Permission { scopes: None, ..grants(resource, &[]) }
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
    for exp in ["\"1700000000\"", "1700000000.5", "1700000000000", "-1", "true", "1e30", "null"] {
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
    assert_eq!(permissions(json!([{"rsid":"a","scopes":["view"],"resource_id":"a","resource_scopes":["view"]}])), [grants("a", &["view"])]);
    assert_eq!(permissions(json!([{"rsid":"a","resource_id":"b","scopes":["view"]}])), []);
    assert_eq!(permissions(json!([{"rsid":"a","scopes":["view"],"resource_scopes":["edit"]}])), []);
    assert_eq!(permissions(json!([{"scopes":["view"]}])), [Permission { resource: None, ..grants("", &["view"]) }], "for nothing that has a name");
    assert_eq!(permissions(json!([{"resource_id":"a"}])), [unsaid("a")]);
    for none in [json!([]), json!(null)] {
        assert_eq!(permissions(json!([{"resource_id":"a","scopes":none}])), [grants("a", &[])], "the scopes are said: none");
    }
}

#[test]
fn permissions_that_stand_in_two_places_have_to_agree() {
    let answer = |own: Value, nested: Value| json!({"active":true,"permissions":own,"authorization":{"permissions":nested}});
    let (view, none) = (json!([{"resource_id":"a","resource_scopes":["view"]}]), json!([]));
    let same = answer(view.clone(), json!([{"rsid":"a","rsname":"Album","scopes":["view"]}]));
    for profile in [Profile::UMA2, Profile::KEYCLOAK, Profile::FORGEROCK, Profile::KEYCLOAK_UMA1, Profile::OPENAM_UMA1] {
        assert_eq!(active(profile, &same, &opaque()).permissions, [grants("a", &["view"])], "in the words of each place");
        unusable(profile, &answer(view.clone(), none.clone()).to_string());
        unusable(profile, &answer(none.clone(), view.clone()).to_string());
        unusable(profile, &answer(view.clone(), json!([{"rsid":"a","scopes":["view","edit"]}])).to_string());
        unusable(profile, &answer(view.clone(), json!("all")).to_string());
        assert_eq!(active(profile, &answer(view.clone(), json!(null)), &opaque()).permissions, [grants("a", &["view"])], "nothing stands there");
    }
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
    let answer = json!({"active":true,"permissions":[{"rsid":"c","scopes":["view"]}]});
    assert_eq!(active(Profile::KEYCLOAK, &answer, &rpt).permissions, [], "of this one the token says nothing");
}

#[test]
fn scopes_on_which_answer_and_token_differ_are_granted_by_nobody_however_leniently_it_is_read() {
    let entry = |scopes: Option<&[&str]>| scopes.map_or_else(|| json!([{"rsid":"a"}]), |scopes| json!([{"rsid":"a","scopes":scopes}]));
    for (answered, in_token, expected) in [
        (Some(&["view"][..]), Some(&["print"][..]), grants("a", &[])),
        (None, Some(&["view"]), grants("a", &[])),
        (Some(&["view"]), None, grants("a", &[])),
        (Some(&[]), None, grants("a", &[])),
        (None, Some(&[]), grants("a", &[])),
        (None, None, unsaid("a")),
    ] {
        let rpt = token_with(&json!({"authorization":{"permissions":entry(in_token)}}));
        let answer = json!({"active":true,"permissions":entry(answered)});
        assert_eq!(active(Profile::KEYCLOAK, &answer, &rpt).permissions, [expected], "{answered:?} and {in_token:?}");
    }
}

#[test]
fn a_token_that_comes_instead_of_an_answer_grants_what_its_payload_says() {
    let rpt = token_with(&json!({"authorization":{"permissions":[{"resource_set_id":"a","scopes":["view"]}]}}));
    assert_eq!(introspection::granted(Profile::KEYCLOAK_UMA1, &rpt).expect("readable"), [grants("a", &["view"])]);
    assert_eq!(introspection::granted(Profile::KEYCLOAK_UMA1, &token_with(&json!({}))).expect("readable"), []);
    assert!(introspection::granted(Profile::KEYCLOAK_UMA1, &opaque()).is_err());
}

#[test]
fn claims_that_a_header_may_name_are_texts_numbers_and_truths_of_a_bounded_size() {
    let (longest, longer) = ("x".repeat(1024), "x".repeat(1025));
    let answer = json!({"active":true,"exp":1,"email":"a@b","level":3,"verified":true,"groups":["g"],"nothing":null,"longest":longest,"longer":longer});
    let mut claims = active(Profile::UMA2, &answer, &opaque()).claims;
    claims.sort();
    let expected = [("email", "a@b"), ("level", "3"), ("longest", longest.as_str()), ("verified", "true")];
    assert_eq!(claims, expected.map(|(name, value)| (Arc::from(name), Arc::from(value))));
}

#[test]
fn the_scope_of_a_token_is_known_however_long_it_is_and_whatever_else_there_is() {
    let scope = format!("{} share", "x".repeat(8 * 1024 - 6));
    let mut answer = json!({"active":true,"scope":scope});
    for number in 0..200 {
        answer[format!("claim{number}")] = json!("value");
    }
    let claims = active(Profile::UMA2, &answer, &opaque()).claims;
    assert_eq!((claims.len(), claims.iter().find(|(name, _)| &**name == "scope").map(|(_, scope)| &**scope)), (64, Some(&*scope)));
}

#[test]
fn where_answer_and_token_contradict_each_other_nothing_counts() {
    let rpt = token_with(&json!({"sub":"alice"}));
    assert!(read(Profile::KEYCLOAK, json!({"active":true,"sub":"bob"}).to_string().as_bytes(), &rpt).is_err());
}

#[test]
fn an_audience_of_nobody_is_not_one_that_is_left_out() {
    assert_eq!(active(Profile::UMA2, &json!({"active":true}), &opaque()).audience.len(), 0);
    assert_eq!(active(Profile::UMA2, &json!({"active":true,"aud":[]}), &opaque()).audience, ["".into()]);
}

#[test]
fn a_key_binding_is_seen_in_the_answer_and_in_the_token() {
    assert!(active(Profile::UMA2, &json!({"active":true,"cnf":{"jkt":"x"}}), &opaque()).bound);
    assert!(active(Profile::UMA2, &json!({"active":true,"token_type":"DPoP"}), &opaque()).bound, "bound, though it is not said to what");
    assert!(!active(Profile::UMA2, &json!({"active":true,"token_type":"Bearer"}), &opaque()).bound);
    assert!(active(Profile::KEYCLOAK, &json!({"active":true}), &token_with(&json!({"cnf":{"jkt":"x"}}))).bound);
    assert!(active(Profile::KEYCLOAK, &json!({"active":true,"cnf":{"jkt":"x"}}), &token_with(&json!({"cnf":{"jkt":"x"}}))).bound, "said twice");
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
fn a_client_with_a_certificate_asks_where_certificates_are_asked_for() {
    let mut document = document("https://id.example.org");
    document["mtls_endpoint_aliases"] = json!({ "token_endpoint": "https://id.example.org/mtls/token" });
    let read = |config: &Config, document: &Value| discovery::read(config, document.to_string().as_bytes());
    let mut by_certificate = config();
    by_certificate.client.proof = Proof::Certificate;
    let (with, without) = (read(&by_certificate, &document).expect("usable"), read(&config(), &document).expect("usable"));
    assert_eq!((with.token.uri.path(), with.introspection.uri.path()), ("/mtls/token", without.introspection.uri.path()));
    assert_ne!(without.token.uri.path(), "/mtls/token");
    document["mtls_endpoint_aliases"]["token_endpoint"] = "https://elsewhere.example.org/token".into();
    assert!(read(&by_certificate, &document).is_err() && read(&config(), &document).is_ok(), "on another host");
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

fn uma1_document(permission: &str, registration: &str) -> Value {
    json!({
        "issuer": "https://id.example.org/realms/photoz", "token_endpoint": "https://id.example.org/realms/photoz/protocol/openid-connect/token",
        "permission_registration_endpoint": format!("https://id.example.org{permission}"),
        "resource_set_registration_endpoint": format!("https://id.example.org{registration}"),
        "rpt_endpoint": "https://id.example.org/rpt",
    })
}

#[test]
fn auto_tells_every_kind_of_server_by_its_document() {
    let chosen = |document: &Value| discovery::read(&config(), document.to_string().as_bytes()).map(|metadata| metadata.profile.name);
    let mut am = document("https://id.example.org");
    am["permission_endpoint"] = json!("https://id.example.org/am/uma/realms/root/permission_request");
    assert_eq!(chosen(&am).expect("usable"), "forgerock");
    let keycloak = uma1_document("/realms/photoz/authz/protection/permission", "/realms/photoz/authz/protection/resource_set");
    assert_eq!(chosen(&keycloak).expect("usable"), "keycloak-uma1");
    let mut openam = uma1_document("/openam/uma/permission_request", "/openam/oauth2/resource_set");
    openam["introspection_endpoint"] = json!("https://id.example.org/openam/oauth2/introspect");
    assert_eq!(chosen(&openam).expect("usable"), "openam-uma1");
    let error = chosen(&uma1_document("/perm", "/rsrc")).expect_err("nobody's document").to_string();
    assert!(error.contains("`profile`"), "{error}");
}

#[test]
fn the_introspection_endpoint_of_the_old_keycloak_stands_below_its_token_endpoint() {
    let document = uma1_document("/realms/photoz/authz/protection/permission", "/realms/photoz/authz/protection/resource_set");
    let metadata = discovery::read(&config(), document.to_string().as_bytes()).expect("usable");
    assert_eq!(metadata.introspection.uri, "https://id.example.org/realms/photoz/protocol/openid-connect/token/introspect");
    assert_eq!(metadata.permission().expect("named").uri.path(), "/realms/photoz/authz/protection/permission");
    assert_eq!(metadata.registration().expect("named").uri.path(), "/realms/photoz/authz/protection/resource_set");
    let missing = uma1_document("/openam/uma/permission_request", "/openam/oauth2/resource_set");
    assert!(discovery::read(&config(), missing.to_string().as_bytes()).is_err(), "another server has to name it");
}

#[test]
fn each_profile_knows_where_its_document_is() {
    let addresses = |profile, issuer: &str| -> Vec<String> {
        let config = Config { profile, issuer: issuer.into(), ..config() };
        discovery::addresses(&config).expect("addresses").iter().map(|address| address.uri.path().to_owned()).collect()
    };
    let (auto, named) = (ProfileChoice::Auto, ProfileChoice::Named);
    assert_eq!(addresses(auto, "https://id.example.org/r"), ["/r/.well-known/uma2-configuration", "/r/.well-known/uma-configuration"]);
    assert_eq!(addresses(named(Profile::KEYCLOAK_UMA1), "https://id.example.org/r/"), ["/r/.well-known/uma-configuration"]);
    let am = addresses(named(Profile::FORGEROCK), "https://id.example.org/am/oauth2/realms/root");
    assert_eq!(am, ["/am/uma/realms/root/.well-known/uma2-configuration", "/am/oauth2/realms/root/.well-known/uma2-configuration"]);
    assert_eq!(addresses(named(Profile::UMA2), "https://id.example.org/oauth20"), ["/oauth20/.well-known/uma2-configuration"]);
}

#[test]
fn a_permission_request_has_the_words_and_the_shape_of_its_profile() {
    let asked = |profile: &Profile| profile.permission_request(&ResourceId("r".into()), &[Scope("view".into())]);
    for profile in [Profile::UMA2, Profile::FORGEROCK] {
        assert_eq!(asked(profile), json!({ "resource_id": "r", "resource_scopes": ["view"] }));
    }
    assert_eq!(asked(Profile::KEYCLOAK), json!([{ "resource_id": "r", "resource_scopes": ["view"] }]));
    for profile in [Profile::KEYCLOAK_UMA1, Profile::OPENAM_UMA1] {
        assert_eq!(asked(profile), json!({ "resource_set_id": "r", "scopes": ["view"] }));
    }
}

#[test]
fn a_resource_set_id_counts_with_servers_of_uma_1_only() {
    let answer = json!({"active":true,"permissions":[{"resource_set_id":"a","scopes":["view"]}]});
    for profile in [Profile::KEYCLOAK_UMA1, Profile::OPENAM_UMA1] {
        assert_eq!(active(profile, &answer, &opaque()).permissions, [grants("a", &["view"])], "{}", profile.name);
    }
    for profile in [Profile::UMA2, Profile::KEYCLOAK, Profile::FORGEROCK] {
        assert_eq!(active(profile, &answer, &opaque()).permissions, [], "{}", profile.name);
    }
    let contradicting = json!({"active":true,"permissions":[{"resource_set_id":"a","resource_id":"b","scopes":["view"]}]});
    for profile in Profile::ALL {
        assert_eq!(active(profile, &contradicting, &opaque()).permissions, [], "{}", profile.name);
    }
}

#[test]
fn the_old_keycloak_writes_the_requesting_client_where_the_audience_stands() {
    let rpt = token_with(&json!({"aud":"app","azp":"app","nbf":0,"authorization":{"permissions":[{"resource_set_id":"a","scopes":["view"]}]}}));
    let audience = |profile, answer: Value| active(profile, &answer, &rpt).audience;
    assert!(audience(Profile::KEYCLOAK_UMA1, json!({"active":true})).is_empty(), "not held against us");
    assert_eq!(audience(Profile::KEYCLOAK_UMA1, json!({"active":true,"aud":"somebody-else"})), ["somebody-else".into()], "this is");
    assert_eq!(audience(Profile::KEYCLOAK, json!({"active":true})), ["app".into()], "nor is it so with the new one");
    let nameless = active(Profile::KEYCLOAK_UMA1, &json!({"active":true,"aud":[],"client_id":""}), &opaque()).audience;
    assert_eq!(nameless, ["".into()], "a client without a name is not the list of nobody");
    let introspection = active(Profile::KEYCLOAK_UMA1, &json!({"active":true}), &rpt);
    assert_eq!((introspection.nbf, introspection.permissions), (None, vec![grants("a", &["view"])]));
}

#[test]
fn times_in_milliseconds_are_read_where_they_happen() {
    let answer = json!({"active":true,"exp":1_700_000_000_123_i64,"permissions":[{"resource_set_id":"a","scopes":["view"],"exp":1_700_000_000_999_i64}]});
    let introspection = active(Profile::OPENAM_UMA1, &answer, &opaque());
    assert_eq!((introspection.exp, introspection.permissions[0].exp), (Some(Timestamp(1_700_000_000)), Some(Timestamp(1_700_000_000))));
    assert_eq!(active(Profile::OPENAM_UMA1, &json!({"active":true,"exp":1_700_000_000}), &opaque()).exp, Some(Timestamp(1_700_000_000)));
    unusable(Profile::OPENAM_UMA1, r#"{"active":true,"exp":1700000000000000}"#);
    for profile in Profile::ALL.iter().filter(|profile| ***profile != *Profile::OPENAM_UMA1) {
        unusable(profile, r#"{"active":true,"exp":1700000000000}"#);
    }
}

#[test]
fn a_plain_oauth_servers_scopes_are_those_of_the_token_and_nothing_else_is_one() {
    let of_token = |scopes: &[&str]| Permission { resource: Some(ResourceId::of_token()), ..grants("", scopes) };
    let permissions = |answer: Value| active(Profile::OAUTH, &answer, &opaque()).permissions;
    assert_eq!(permissions(json!({"active":true,"scope":"view edit"})), [of_token(&["view", "edit"])]);
    assert_eq!(permissions(json!({"active":true,"scope":""})), [of_token(&[])]);
    assert_eq!(permissions(json!({"active":true})), []);
    assert_eq!(permissions(json!({"active":true,"permissions":[{"resource_id":"","resource_scopes":["view"]}]})), []);
    unusable(Profile::OAUTH, r#"{"active":true,"scope":["view"]}"#);
}

#[test]
fn a_plain_oauth_server_is_found_by_its_openid_document_and_needs_no_endpoints_of_uma() {
    let config = Config { profile: ProfileChoice::Named(Profile::OAUTH), ..config() };
    let paths: Vec<String> = discovery::addresses(&config).expect("addresses").iter().map(|address| address.uri.path().to_owned()).collect();
    assert_eq!(paths, ["/realms/photoz/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/realms/photoz"]);
    let document = json!({"issuer":"https://id.example.org/realms/photoz","token_endpoint":"https://id.example.org/t","introspection_endpoint":"https://id.example.org/i"});
    let metadata = discovery::read(&config, document.to_string().as_bytes()).expect("usable");
    assert!(metadata.permission().is_err() && metadata.registration().is_err());
    assert!(discovery::read(&testing::config(), document.to_string().as_bytes()).is_err(), "never found by itself");
}
