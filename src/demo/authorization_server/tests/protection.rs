//! UMA 2.0 Federated Authorization: PAT, registration, permission, introspection; discovery.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{World, basic, gateway, send};
use crate::demo::authorization_server::{AuthorizationServer, Endpoint, Options, RptForm};

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let refused = AuthorizationServer::start(Options { address: "0.0.0.0:0".parse().expect("an address"), ..Options::default() }).await;
    assert_eq!(refused.expect_err("not loopback").kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn discovery_names_its_issuer_and_every_endpoint_and_says_that_it_is_for_trying() {
    let world = World::new().await;
    let reply = send(Method::GET, &world.server.discovery(), None, "text/plain", String::new()).await.expect("an answer");
    let document = reply.json();
    assert_eq!(document["issuer"], world.server.issuer());
    for endpoint in ["token_endpoint", "introspection_endpoint", "permission_endpoint", "resource_registration_endpoint", "authorization_endpoint"] {
        assert!(document[endpoint].as_str().is_some_and(|url| url.starts_with(world.server.issuer())), "{endpoint}");
    }
    assert!(document.to_string().contains("for trying only"));
}

#[tokio::test]
async fn every_protection_endpoint_wants_a_pat() {
    let world = World::new().await;
    let plain = world.control().access_token("bob", "openid", 60);
    for (method, endpoint) in [(Method::POST, "permission_endpoint"), (Method::GET, "resource_registration_endpoint"), (Method::POST, "introspection_endpoint")]
    {
        let reply = world.protection(method.clone(), endpoint, "", "made-up", &Value::Null).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{endpoint}");
        assert!(reply.headers["www-authenticate"].to_str().is_ok_and(|text| text.starts_with("Bearer ")));
        assert_eq!(world.protection(method, endpoint, "", &plain, &Value::Null).await.error(), (403, "insufficient_scope".into()), "{endpoint}");
    }
}

#[tokio::test]
async fn a_pat_needs_its_scope_and_a_client_that_may_have_it() {
    let world = World::new().await;
    let plain = world.token(&gateway(), &[("grant_type", "client_credentials")]).await.text("access_token");
    assert_eq!(world.protection(Method::GET, "resource_registration_endpoint", "", &plain, &Value::Null).await.error(), (403, "insufficient_scope".into()));
    world.control().allow_protection("content-gateway", false);
    let refused = world.token(&gateway(), &[("grant_type", "client_credentials"), ("scope", "uma_protection")]).await;
    assert_eq!(refused.error(), (400, "invalid_scope".into()));
}

#[tokio::test]
async fn a_resource_is_created_read_replaced_listed_and_deleted() {
    let world = World::new().await;
    let pat = world.pat().await;
    let description =
        json!({ "name": "vacation", "type": "album", "description": "Sea", "description#de": "Meer", "owner": "alice", "resource_scopes": ["view"] });
    let collection = "resource_registration_endpoint";

    let created = world.protection(Method::POST, collection, "", &pat, &description).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let id = created.text("_id");
    assert!(created.headers["location"].to_str().is_ok_and(|location| location.ends_with(&id)));
    let path = format!("/{id}");

    let read = world.protection(Method::GET, collection, &path, &pat, &Value::Null).await.json();
    assert_eq!((&read["name"], &read["description#de"], &read["owner"]), (&json!("vacation"), &json!("Meer"), &json!("alice")));

    let replaced = json!({ "name": "vacation", "resource_scopes": ["view", "edit"] });
    assert_eq!(world.protection(Method::PUT, collection, &path, &pat, &replaced).await.text("_id"), id);
    let read = world.protection(Method::GET, collection, &path, &pat, &Value::Null).await.json();
    assert_eq!((&read["resource_scopes"], read.get("type")), (&json!(["view", "edit"]), None), "PUT replaces the whole description");

    assert_eq!(world.protection(Method::GET, collection, "", &pat, &Value::Null).await.json(), json!([id]));
    assert_eq!(world.protection(Method::DELETE, collection, &path, &pat, &Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.protection(Method::GET, collection, &path, &pat, &Value::Null).await.error(), (404, "not_found".into()));
    assert_eq!(world.protection(Method::PATCH, collection, &path, &pat, &Value::Null).await.error(), (405, "unsupported_method_type".into()));
    assert_eq!(world.protection(Method::POST, collection, "", &pat, &json!({ "name": "x" })).await.error(), (400, "invalid_request".into()));
}

#[tokio::test]
async fn an_owners_own_pat_sees_that_owners_resources_only() {
    let world = World::new().await;
    let alices = world.control().register("alice", "vacation", &["view"]);
    let bobs = world.control().register("bob", "work", &["view"]);
    let form = [("grant_type", "password"), ("username", "alice"), ("password", "alice"), ("scope", "uma_protection")];
    let pat = world.token(&gateway(), &form).await.text("access_token");

    assert_eq!(world.protection(Method::GET, "resource_registration_endpoint", "", &pat, &Value::Null).await.json(), json!([alices]));
    let request = json!({ "resource_id": bobs, "resource_scopes": ["view"] });
    assert_eq!(world.protection(Method::POST, "permission_endpoint", "", &pat, &request).await.error(), (400, "invalid_resource_id".into()));
}

#[tokio::test]
async fn a_permission_request_is_one_object_or_an_array_and_gives_one_ticket() {
    let world = World::new().await;
    let album = world.control().register("alice", "vacation", &["view"]);
    let pat = world.pat().await;
    let one = json!({ "resource_id": album, "resource_scopes": ["view"] });
    for body in [one.clone(), json!([one]), json!([one, { "resource_id": album, "resource_scopes": [] }])] {
        let reply = world.protection(Method::POST, "permission_endpoint", "", &pat, &body).await;
        assert_eq!(reply.status, StatusCode::CREATED);
        assert_eq!(reply.json().as_object().map(serde_json::Map::len), Some(1));
        assert_eq!(Some(reply.text("ticket")), world.control().last_ticket());
        assert_eq!(world.control().last_permission_request(), Some(body));
    }
    assert_eq!(world.control().calls(Endpoint::Permission), 3);
}

#[tokio::test]
async fn a_permission_request_names_what_is_wrong_with_it() {
    let world = World::new().await;
    let album = world.control().register("alice", "vacation", &["view"]);
    let bobs = world.control().register("bob", "work", &["view"]);
    world.control().add_resource_server("other", "other");
    let others = world.control().register_at("other", "alice", "elsewhere", &["view"]);
    let pat = world.pat().await;
    let cases = [
        (json!({ "resource_id": "nobody", "resource_scopes": ["view"] }), "invalid_resource_id"),
        (json!({ "resource_id": others, "resource_scopes": ["view"] }), "invalid_resource_id"),
        (json!({ "resource_id": album, "resource_scopes": ["View"] }), "invalid_scope"),
        (json!({ "resource_id": album }), "invalid_request"),
        (json!([]), "invalid_request"),
        (json!([{ "resource_id": album, "resource_scopes": [] }, { "resource_id": bobs, "resource_scopes": [] }]), "invalid_resource_id"),
    ];
    for (body, code) in cases {
        assert_eq!(world.protection(Method::POST, "permission_endpoint", "", &pat, &body).await.error(), (400, code.into()), "{body}");
    }
}

#[tokio::test]
async fn an_unknown_expired_or_foreign_token_is_inactive_and_nothing_else() {
    let world = World::new().await;
    world.control().register("alice", "vacation", &["view"]);
    let (expired, good) = (world.control().grant_rpt("bob", &[("vacation", &["view"])], -1), world.control().grant_rpt("bob", &[("vacation", &["view"])], 60));
    let pat = format!("Bearer {}", world.pat().await);
    for token in ["unknown", &expired] {
        let reply = world.post("introspection_endpoint", Some(&pat), &[("token", token)]).await;
        assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &br#"{"active":false}"#[..]));
    }
    world.control().add_resource_server("other", "other");
    let form = [("grant_type", "client_credentials"), ("scope", "uma_protection")];
    let others = format!("Bearer {}", world.token(&basic("other", "other"), &form).await.text("access_token"));
    assert_eq!(&world.post("introspection_endpoint", Some(&others), &[("token", &good)]).await.body[..], br#"{"active":false}"#);
    assert_eq!(world.post("introspection_endpoint", Some(&gateway()), &[("token", &good)]).await.status, StatusCode::UNAUTHORIZED, "only a PAT may ask");
}

#[tokio::test]
async fn a_withdrawn_share_leaves_introspection_at_once_and_a_plain_token_has_no_permissions() {
    let world = World::new().await;
    let album = world.control().register("alice", "vacation", &["view", "edit"]);
    let rpt = world.control().grant_rpt("bob", &[("vacation", &["view", "edit"])], 60);
    world.control().withdraw_scopes("alice", &album, "bob", &["edit"]);
    assert_eq!(world.introspect(&rpt).await["permissions"][0]["resource_scopes"], json!(["view"]));
    assert!(world.control().withdraw("alice", "vacation", "bob"));
    assert_eq!(world.introspect(&rpt).await["permissions"], json!([]));

    let plain = world.introspect(&world.control().access_token("bob", "openid view", 60)).await;
    assert_eq!((&plain["active"], plain.get("permissions"), &plain["scope"]), (&json!(true), None, &json!("openid view")));
}

#[tokio::test]
async fn logout_disabling_and_revocation_make_tokens_inactive() {
    let world = World::new().await;
    world.control().register("alice", "vacation", &["view"]);
    let grant = || world.control().grant_rpt("bob", &[("vacation", &["view"])], 60);
    let active = async |rpt: String| world.introspect(&rpt).await["active"].as_bool();

    let rpt = grant();
    assert_eq!(active(rpt.clone()).await, Some(true));
    world.control().log_out("bob");
    assert_eq!(active(rpt).await, Some(false));
    let rpt = grant();
    world.control().enable_user("bob", false);
    assert_eq!(active(rpt.clone()).await, Some(false));
    world.control().enable_user("bob", true);
    assert_eq!(active(rpt.clone()).await, Some(true));
    world.control().revoke(&rpt);
    assert_eq!(active(rpt).await, Some(false));
}

#[tokio::test]
async fn an_rpt_in_jwt_form_is_long_and_an_opaque_one_short() {
    let long = World::with(Options { rpt: RptForm::Jwt, ..Options::default() }).await;
    long.control().register("alice", "vacation", &["view"]);
    let rpt = long.control().grant_rpt("bob", &[("vacation", &["view"])], 60);
    assert!((1_100..1_300).contains(&rpt.len()), "{}", rpt.len());
    assert_eq!(long.introspect(&rpt).await["active"], true);
    assert_eq!(long.introspect(&format!("{rpt}x")).await, json!({ "active": false }), "exactly that string");

    let short = World::new().await;
    assert_eq!(short.control().grant_rpt("bob", &[], 60).len(), 43);
}
