//! UMA 2.0 Grant, and the OAuth underneath it.

use http::{Method, StatusCode};
use serde_json::json;

use super::client::{ID_TOKEN, UMA_TICKET, World, application, basic, send};
use crate::demo::authorization_server::Endpoint;

async fn shared() -> (World, String) {
    let world = World::new().await;
    let album = world.control().register("alice", "vacation", &["view", "edit"]);
    world.control().share("alice", "vacation", "bob", &["view"]);
    (world, album)
}

#[tokio::test]
async fn a_ticket_and_claims_are_traded_for_an_rpt_with_the_shared_scope() {
    let (world, album) = shared().await;
    let ticket = world.ticket(&album, &["view"]).await;

    let reply = world.trade(&ticket, "bob").await;

    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(reply.json().get("scope").is_none(), "an RPT's scopes belong to its resources");
    let introspection = world.introspect(&reply.text("access_token")).await;
    assert_eq!(introspection["active"], true);
    assert!(introspection.get("scope").is_none());
    assert_eq!(introspection["username"], "bob");
    assert_eq!(introspection["aud"], "content-gateway");
    let permission = &introspection["permissions"][0];
    assert_eq!((&permission["resource_id"], &permission["resource_scopes"]), (&json!(album), &json!(["view"])));
    assert!(permission["exp"].is_i64());
}

#[tokio::test]
async fn a_ticket_dies_with_its_first_presentation() {
    let (world, album) = shared().await;
    let ticket = world.ticket(&album, &["view"]).await;
    assert_eq!(world.trade(&ticket, "bob").await.status, StatusCode::OK);

    let replay = world.trade(&ticket, "bob").await;

    assert_eq!(replay.error(), (400, "invalid_grant".into()));
    assert_eq!(replay.headers["cache-control"], "no-store");
    assert!(replay.json().get("ticket").is_none());
}

#[tokio::test]
async fn a_ticket_is_random_and_as_long_as_128_bits_need() {
    let (world, album) = shared().await;
    let (one, other) = (world.ticket(&album, &["view"]).await, world.ticket(&album, &["view"]).await);
    assert_ne!(one, other);
    assert!(one.len() >= 22, "128 bits are 22 characters of base64url");
}

#[tokio::test]
async fn an_expired_ticket_is_invalid_grant() {
    let (world, album) = shared().await;
    world.control().ticket_lifetime(0);
    let ticket = world.ticket(&album, &["view"]).await;
    assert_eq!(world.trade(&ticket, "bob").await.error(), (400, "invalid_grant".into()));
}

#[tokio::test]
async fn without_claims_the_client_is_told_what_is_needed_and_goes_on_with_the_new_ticket() {
    let (world, album) = shared().await;
    let ticket = world.ticket(&album, &["view"]).await;

    let reply = world.trade_with(&ticket, &[]).await;

    assert_eq!(reply.error(), (403, "need_info".into()));
    assert_ne!(reply.text("ticket"), ticket);
    assert_eq!(reply.json()["required_claims"][0]["claim_token_format"][0], ID_TOKEN);
    assert!(reply.text("redirect_user").ends_with("/claims"));
    assert_eq!(world.trade(&reply.text("ticket"), "bob").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_false_claim_token_needs_info_too() {
    let (world, album) = shared().await;
    let ticket = world.ticket(&album, &["view"]).await;
    let reply = world.trade_with(&ticket, &[("claim_token", "made-up"), ("claim_token_format", ID_TOKEN)]).await;
    assert_eq!(reply.error(), (403, "need_info".into()));
}

#[tokio::test]
async fn half_of_a_claim_is_an_invalid_request_and_costs_no_ticket() {
    let (world, album) = shared().await;
    let ticket = world.ticket(&album, &["view"]).await;
    for half in [("claim_token", "x"), ("claim_token_format", ID_TOKEN)] {
        assert_eq!(world.trade_with(&ticket, &[half]).await.error(), (400, "invalid_request".into()));
    }
    assert_eq!(world.trade(&ticket, "bob").await.status, StatusCode::OK);
}

#[tokio::test]
async fn whoever_has_no_share_is_denied_without_a_ticket() {
    let (world, album) = shared().await;
    let ticket = world.ticket(&album, &["view"]).await;
    let reply = world.trade(&ticket, "carol").await;
    assert_eq!(reply.error(), (403, "request_denied".into()));
    assert!(reply.json().get("ticket").is_none());
}

#[tokio::test]
async fn a_request_waits_for_its_owner_and_is_granted_once_she_approves() {
    let (world, album) = shared().await;
    world.control().ask_owners(Some(5));
    let ticket = world.ticket(&album, &["view"]).await;

    let submitted = world.trade(&ticket, "carol").await;
    assert_eq!(submitted.error(), (403, "request_submitted".into()));
    assert_eq!(submitted.json()["interval"], 5);
    let polled = world.trade_with(&submitted.text("ticket"), &[]).await;
    assert_eq!(polled.error(), (403, "request_submitted".into()), "the ticket remembers who asks");
    assert_eq!(world.control().pending(), [(album, "carol".to_owned(), vec!["view".to_owned()])]);
    assert_eq!(world.control().approve_all(), 1);

    assert_eq!(world.trade_with(&polled.text("ticket"), &[]).await.status, StatusCode::OK);
    assert_eq!(world.trade_with(&submitted.text("ticket"), &[]).await.error(), (400, "invalid_grant".into()), "only the newest ticket lives");
}

#[tokio::test]
async fn the_album_and_photo_example_of_the_specification_grants_only_the_view_of_photo1() {
    let world = World::new().await;
    let control = world.control();
    control.add_client("client-app", Some("client-secret"), &["download"]);
    let album = control.register("alice", "album", &["view", "edit", "download"]);
    let photo1 = control.register("alice", "photo1", &["view", "resize", "print", "download"]);
    let photo2 = control.register("alice", "photo2", &["view", "resize", "print", "download"]);
    control.share("alice", "photo1", "bob", &["view"]);
    let body = json!([
        { "resource_id": album, "resource_scopes": ["edit"] },
        { "resource_id": photo1, "resource_scopes": ["view"] },
        { "resource_id": photo2, "resource_scopes": ["view"] },
    ]);
    let pat = world.pat().await;
    let ticket = world.protection(Method::POST, "permission_endpoint", "", &pat, &body).await.text("ticket");
    let claims = world.claims_token("bob").await;

    let reply = world.trade_with(&ticket, &[("claim_token", &claims), ("claim_token_format", ID_TOKEN), ("scope", "download")]).await;

    let introspection = world.introspect(&reply.text("access_token")).await;
    assert_eq!(introspection["permissions"].as_array().map(Vec::len), Some(1));
    assert_eq!(introspection["permissions"][0]["resource_id"], photo1);
    assert_eq!(introspection["permissions"][0]["resource_scopes"], json!(["view"]));
}

#[tokio::test]
async fn a_registered_scope_that_is_asked_for_is_added_and_an_unregistered_one_is_not() {
    let (world, album) = shared().await;
    world.control().share("alice", "vacation", "bob", &["edit"]);
    let claims = world.claims_token("bob").await;
    let more = [("claim_token", claims.as_str()), ("claim_token_format", ID_TOKEN), ("scope", "edit")];

    let unregistered = world.trade_with(&world.ticket(&album, &["view"]).await, &more).await;
    let unregistered = world.introspect(&unregistered.text("access_token")).await;
    assert_eq!(unregistered["permissions"][0]["resource_scopes"], json!(["view"]));

    world.control().add_client("client-app", Some("client-secret"), &["edit"]);
    let registered = world.trade_with(&world.ticket(&album, &["view"]).await, &more).await;
    let registered = world.introspect(&registered.text("access_token")).await;
    assert_eq!(registered["permissions"][0]["resource_scopes"], json!(["edit", "view"]));

    let nobodys = [("claim_token", claims.as_str()), ("claim_token_format", ID_TOKEN), ("scope", "fly")];
    assert_eq!(world.trade_with(&world.ticket(&album, &["view"]).await, &nobodys).await.error(), (400, "invalid_scope".into()));
}

#[tokio::test]
async fn a_pct_stands_for_the_claims_of_its_client_only() {
    let (world, album) = shared().await;
    let pct = world.trade(&world.ticket(&album, &["view"]).await, "bob").await.text("pct");
    assert!(pct.len() >= 22 && !pct.contains("bob"));

    let again = world.trade_with(&world.ticket(&album, &["view"]).await, &[("pct", &pct)]).await;
    assert_eq!(again.status, StatusCode::OK);

    world.control().add_client("other", Some("other"), &[]);
    let form = [("grant_type", UMA_TICKET), ("ticket", &world.ticket(&album, &["view"]).await), ("pct", pct.as_str())];
    assert_eq!(world.token(&basic("other", "other"), &form).await.error(), (403, "need_info".into()));
}

#[tokio::test]
async fn an_upgraded_rpt_keeps_its_permissions_and_replaces_the_old_string() {
    let (world, album) = shared().await;
    let other = world.control().register("alice", "work", &["view"]);
    world.control().share("alice", "work", "bob", &["view"]);
    let old = world.trade(&world.ticket(&album, &["view"]).await, "bob").await.text("access_token");
    let claims = world.claims_token("bob").await;

    let more = [("claim_token", claims.as_str()), ("claim_token_format", ID_TOKEN), ("rpt", old.as_str())];
    let reply = world.trade_with(&world.ticket(&other, &["view"]).await, &more).await;

    assert_eq!(reply.json()["upgraded"], true);
    let new = world.introspect(&reply.text("access_token")).await;
    assert_eq!(new["permissions"].as_array().map(Vec::len), Some(2));
    assert_eq!(world.introspect(&old).await, json!({ "active": false }));
}

#[tokio::test]
async fn an_rpt_upgraded_in_place_keeps_its_string() {
    let (world, album) = shared().await;
    world.control().upgrades_in_place(true);
    world.control().share("alice", "vacation", "bob", &["edit"]);
    let old = world.trade(&world.ticket(&album, &["view"]).await, "bob").await.text("access_token");
    let claims = world.claims_token("bob").await;

    let more = [("claim_token", claims.as_str()), ("claim_token_format", ID_TOKEN), ("rpt", old.as_str())];
    let reply = world.trade_with(&world.ticket(&album, &["edit"]).await, &more).await;

    assert_eq!((reply.text("access_token"), &reply.json()["upgraded"]), (old.clone(), &json!(true)));
    assert_eq!(world.introspect(&old).await["permissions"][0]["resource_scopes"], json!(["edit", "view"]));
}

#[tokio::test]
async fn a_refresh_assesses_nothing_anew_may_narrow_and_never_widens() {
    let (world, album) = shared().await;
    world.control().share("alice", "vacation", "bob", &["edit"]);
    let first = world.trade(&world.ticket(&album, &["edit", "view"]).await, "bob").await;
    let refresh = |token: String, scope: &'static str| {
        let form = [("grant_type", "refresh_token".to_owned()), ("refresh_token", token), ("scope", scope.to_owned())];
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let url = world.endpoint("token_endpoint");
        async move { send(Method::POST, &url, Some(&application()), "application/x-www-form-urlencoded", body).await.expect("an answer") }
    };

    assert_eq!(refresh(first.text("refresh_token"), "fly").await.error(), (400, "invalid_scope".into()));
    let narrowed = refresh(first.text("refresh_token"), "view").await;
    let introspection = world.introspect(&narrowed.text("access_token")).await;
    assert_eq!(introspection["permissions"][0]["resource_scopes"], json!(["view"]));
    assert_eq!(refresh(narrowed.text("refresh_token"), "edit").await.error(), (400, "invalid_scope".into()));
    assert_eq!(refresh(first.text("refresh_token"), "").await.error(), (400, "invalid_grant".into()), "the old refresh token was used");
}

#[tokio::test]
async fn a_code_with_pkce_is_traded_once_by_the_one_who_has_the_verifier() {
    let world = World::new().await;
    world.control().add_client("phone", None, &[]);
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let query = [
        ("response_type", "code"),
        ("client_id", "phone"),
        ("redirect_uri", "http://127.0.0.1:7777/back"),
        ("scope", "openid"),
        ("state", "s&s"),
        ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
        ("code_challenge_method", "S256"),
    ];
    let encoded = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let form = send(Method::GET, &format!("{}?{encoded}", world.endpoint("authorization_endpoint")), None, "text/plain", String::new()).await.expect("a form");
    assert!(String::from_utf8_lossy(&form.body).contains("name=\"state\" value=\"s&amp;s\""));

    let wrong = [&query[..], &[("username", "bob"), ("password", "guess")]].concat();
    assert_eq!(world.post("authorization_endpoint", None, &wrong).await.status, StatusCode::UNAUTHORIZED);
    let right = [&query[..], &[("username", "bob"), ("password", "bob")]].concat();
    let back = world.post("authorization_endpoint", None, &right).await.location();
    let returned = |name: &str| back.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).expect("a parameter");
    assert_eq!((returned("state"), returned("iss")), ("s&s".to_owned(), world.server.issuer().to_owned()));

    let code = returned("code");
    let trade = [
        ("grant_type", "authorization_code"),
        ("client_id", "phone"),
        ("code", &code),
        ("redirect_uri", "http://127.0.0.1:7777/back"),
        ("code_verifier", verifier),
    ];
    let tokens = world.post("token_endpoint", None, &trade).await;
    assert!(!tokens.text("id_token").is_empty());
    assert_eq!(world.post("token_endpoint", None, &trade).await.error(), (400, "invalid_grant".into()), "a code works once");
}

#[tokio::test]
async fn a_redirect_that_is_not_registered_goes_nowhere() {
    let world = World::new().await;
    let form = [("response_type", "code"), ("client_id", "client-app"), ("redirect_uri", "https://evil.example/"), ("username", "bob"), ("password", "bob")];
    let reply = world.post("authorization_endpoint", None, &form).await;
    assert_eq!(reply.error(), (400, "invalid_request".into()));
    assert!(reply.headers.get("location").is_none());
}

#[tokio::test]
async fn claims_gathered_in_the_browser_come_back_as_another_ticket() {
    let (world, album) = shared().await;
    let ticket = world.ticket(&album, &["view"]).await;
    let form = [
        ("client_id", "client-app"),
        ("claims_redirect_uri", "http://127.0.0.1:7777/claims"),
        ("ticket", &ticket),
        ("state", "abc"),
        ("username", "bob"),
        ("password", "bob"),
    ];
    let back = world.post("claims_interaction_endpoint", None, &form).await.location();
    let returned = |name: &str| back.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).expect("a parameter");
    assert_eq!(returned("state"), "abc");
    assert_ne!(returned("ticket"), ticket);
    assert_eq!(world.trade_with(&ticket, &[]).await.error(), (400, "invalid_grant".into()), "the first ticket died at the claims endpoint");
    assert_eq!(world.trade_with(&returned("ticket"), &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_client_secret_is_invalid_client_with_a_challenge() {
    let world = World::new().await;
    let reply = world.token(&basic("content-gateway", "guess"), &[("grant_type", "client_credentials")]).await;
    assert_eq!(reply.error(), (401, "invalid_client".into()));
    assert!(reply.headers.contains_key("www-authenticate"));
    assert_eq!(world.control().calls(Endpoint::Pat), 1);
}

#[tokio::test]
async fn a_secret_with_odd_characters_is_form_urlencoded_inside_basic() {
    let world = World::new().await;
    world.control().add_resource_server("odd:server", "s:%+é secret");
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let authorization = basic(&encode("odd:server"), &encode("s:%+é secret"));
    let reply = world.token(&authorization, &[("grant_type", "client_credentials"), ("scope", "uma_protection")]).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn revocation_answers_200_whether_or_not_the_token_is_known() {
    let (world, album) = shared().await;
    let rpt = world.trade(&world.ticket(&album, &["view"]).await, "bob").await.text("access_token");
    for token in ["unknown", &rpt] {
        assert_eq!(world.post("revocation_endpoint", Some(&application()), &[("token", token)]).await.status, StatusCode::OK);
    }
    assert_eq!(world.introspect(&rpt).await, json!({ "active": false }));
}
