//! The dialect of Keycloak, as it was seen live.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{UMA_TICKET, World, application, gateway};
use crate::demo::authorization_server::Endpoint;

fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

async fn live(world: &World, permission: &str, rpt: &str, mode: &str) -> super::client::Reply {
    let form = [
        ("grant_type", UMA_TICKET),
        ("audience", "content-gateway"),
        ("permission", permission),
        ("response_mode", mode),
        ("submit_request", "false"),
        ("subject_token", rpt),
    ];
    world.token(&gateway(), &form).await
}

#[tokio::test]
async fn the_paths_are_those_of_a_realm_and_another_realm_does_not_exist() {
    let world = World::keycloak().await;
    assert!(world.server.issuer().ends_with("/realms/photoz"));
    assert!(world.endpoint("permission_endpoint").ends_with("/realms/photoz/authz/protection/permission"));
    let other = world.server.discovery().replace("photoz", "photos");
    let reply = super::client::send(Method::GET, &other, None, "text/plain", String::new()).await.expect("an answer");
    assert_eq!(reply.error(), (404, "Realm does not exist".into()));
}

#[tokio::test]
async fn an_rpt_carries_its_permissions_and_introspection_tells_either_them_or_the_person() {
    let world = World::keycloak().await;
    let album = world.control().register("alice", "vacation", &["view", "edit"]);
    world.control().share("alice", "vacation", "bob", &["view"]);
    let user = world.token(&application(), &[("grant_type", "password"), ("username", "bob"), ("password", "bob")]).await.text("access_token");
    let ticket = world.ticket(&album, &["view", "edit"]).await;

    let reply = world.token(&format!("Bearer {user}"), &[("grant_type", UMA_TICKET), ("ticket", &ticket)]).await;

    assert_eq!(reply.json()["upgraded"], false);
    let rpt = reply.text("access_token");
    let claims = payload(&rpt);
    assert_eq!((&claims["aud"], &claims["azp"], &claims["typ"]), (&json!("content-gateway"), &json!("client-app"), &json!("Bearer")));
    assert_eq!(claims["authorization"]["permissions"], json!([{ "scopes": ["view"], "rsid": album, "rsname": "vacation" }]));

    let person = world.post("introspection_endpoint", Some(&gateway()), &[("token", &rpt)]).await.json();
    assert_eq!((&person["active"], &person["username"], person.get("permissions")), (&json!(true), &json!("bob"), None));
    let hint = [("token", rpt.as_str()), ("token_type_hint", "requesting_party_token")];
    let permissions = world.post("introspection_endpoint", Some(&gateway()), &hint).await.json();
    assert_eq!((permissions.get("sub"), permissions.get("iss")), (None, None));
    assert_eq!(permissions["permissions"][0]["resource_id"], album);
    assert!(permissions["permissions"][0].get("exp").is_none());
    let pat = format!("Bearer {}", world.pat().await);
    assert_eq!(world.post("introspection_endpoint", Some(&pat), &[("token", &rpt)]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_withdrawal_reaches_the_live_decision_and_not_introspection() {
    let world = World::keycloak().await;
    let album = world.control().register("alice", "vacation", &["view", "edit"]);
    let rpt = world.control().grant_rpt("bob", &[("vacation", &["view"])], 60);
    assert_eq!(live(&world, &album, &rpt, "permissions").await.json(), json!([{ "scopes": ["view"], "rsid": album, "rsname": "vacation" }]));
    let both = format!("{album}#view,edit");
    assert_eq!(live(&world, &both, &rpt, "decision").await.json(), json!({ "result": true }), "as seen: one of two is enough for it");

    world.control().withdraw("alice", "vacation", "bob");

    let introspection = world.post("introspection_endpoint", Some(&gateway()), &[("token", &rpt), ("token_type_hint", "requesting_party_token")]).await.json();
    assert_eq!(introspection["permissions"][0]["resource_scopes"], json!(["view"]));
    let refused = live(&world, &album, &rpt, "permissions").await;
    assert_eq!((refused.error(), refused.text("error_description")), ((403, "access_denied".into()), "not_authorized".into()));
    let tampered = live(&world, &album, &format!("{rpt}x"), "permissions").await;
    assert_eq!(tampered.text("error"), "unauthorized_client");
    assert_eq!(world.control().calls(Endpoint::Live), 4);
}

#[tokio::test]
async fn a_bad_pat_is_a_403_and_an_object_is_no_permission_request() {
    let world = World::keycloak().await;
    let album = world.control().register("alice", "vacation", &["view"]);
    let request = json!([{ "resource_id": album, "resource_scopes": ["view"] }]);
    let pat = world.pat().await;
    assert_eq!(world.protection(Method::POST, "permission_endpoint", "", &pat, &request[0]).await.error(), (400, "unknown_error".into()));
    world.control().revoke_pats();
    assert_eq!(world.protection(Method::POST, "permission_endpoint", "", &pat, &request).await.error(), (403, "invalid_bearer_token".into()));
}

#[tokio::test]
async fn a_ticket_ends_with_the_pat_that_asked_for_it() {
    let world = World::keycloak().await;
    let album = world.control().register("alice", "vacation", &["view"]);
    let ticket = world.ticket(&album, &["view"]).await;
    world.control().set_clock(301);
    let user = world.token(&application(), &[("grant_type", "password"), ("username", "bob"), ("password", "bob")]).await.text("access_token");
    let reply = world.token(&format!("Bearer {user}"), &[("grant_type", UMA_TICKET), ("ticket", &ticket)]).await;
    assert_eq!(reply.error(), (403, "invalid_ticket".into()));
}

#[tokio::test]
async fn a_request_is_submitted_to_its_owner_unless_the_client_says_not_to() {
    let world = World::keycloak().await;
    let album = world.control().register("alice", "vacation", &["view"]);
    let user = world.token(&application(), &[("grant_type", "password"), ("username", "bob"), ("password", "bob")]).await.text("access_token");
    let bearer = format!("Bearer {user}");
    let ticket = world.ticket(&album, &["view"]).await;
    let refused = world.token(&bearer, &[("grant_type", UMA_TICKET), ("ticket", &ticket), ("submit_request", "false")]).await;
    assert_eq!((refused.error().0, refused.text("error_description")), (403, "not_authorized".into()));
    assert!(world.control().pending().is_empty());
    let ticket = world.ticket(&album, &["view"]).await;
    let submitted = world.token(&bearer, &[("grant_type", UMA_TICKET), ("ticket", &ticket)]).await;
    assert_eq!((submitted.text("error_description"), submitted.json().get("ticket").cloned()), ("request_submitted".into(), None));
    assert_eq!(world.control().approve_all(), 1);
    let ticket = world.ticket(&album, &["view"]).await;
    assert_eq!(world.token(&bearer, &[("grant_type", UMA_TICKET), ("ticket", &ticket)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn resources_are_found_by_name_and_owner_and_described_with_objects() {
    let world = World::keycloak().await;
    let pat = world.pat().await;
    let description = json!({ "name": "vacation", "owner": "alice", "ownerManagedAccess": true, "resource_scopes": ["view"], "uris": ["/albums/1"] });
    let created = world.protection(Method::POST, "resource_registration_endpoint", "", &pat, &description).await;
    assert_eq!((created.status, created.headers.get("location")), (StatusCode::CREATED, None));
    assert_eq!(created.json()["resource_scopes"][0]["name"], "view");
    let id = created.text("_id");
    world.control().register("bob", "vacation", &["view"]);
    let found = world.protection(Method::GET, "resource_registration_endpoint", "?name=vacation&exactName=true&owner=alice", &pat, &Value::Null).await;
    assert_eq!(found.json(), json!([id]));
    assert_eq!(world.protection(Method::POST, "resource_registration_endpoint", "", &pat, &description).await.status, StatusCode::CONFLICT);
    world.control().allow_protection("content-gateway", false);
    assert_eq!(world.protection(Method::GET, "resource_registration_endpoint", "", &pat, &Value::Null).await.error(), (403, "invalid_scope".into()));
}
