//! The whole sequence, by plain HTTP and by `fetch`, and what goes over the wires meanwhile.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{Method, Request, StatusCode};
use uma_gateway::client::{ClientOptions, RequestingParty, Show};
use uma_gateway::http_client::form;

use super::support::{BEACH, CLIENT_APP, Plan, Realm, as_user, http, send};

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_ticket_becomes_an_rpt_and_the_rpt_becomes_the_content() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let refused = world.get_without_token(BEACH).await;
    let challenge = refused.challenge();
    let ticket = challenge.ticket.0.expose();
    assert_eq!(refused.challenge_line(), format!(r#"UMA realm="photoz", as_uri="{}", ticket="{ticket}""#, realm.issuer()));
    assert_eq!(refused.rows, "D15 C3");
    assert!(world.content().saw_nothing());

    let rpt = realm.sign_in("bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT");
    let passed = world.get(BEACH, &rpt.token).await;
    passed.assert_passed();
    assert_eq!(passed.rows, "I4 E8b E10 U1");

    let seen = world.content().requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].all("authorization"), ["Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ="]);
    assert!(!seen[0].headers.iter().any(|(_, value)| value.contains(&rpt.token) || value.contains(ticket)), "the RPT or the ticket went on");
    assert_eq!(*passed.body(), world.content_of(BEACH).await);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_known_rpt_costs_no_call_to_keycloak() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;
    let challenge = world.get_without_token(BEACH).await.challenge();
    let rpt = realm.sign_in("bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT");

    world.keycloak.clear();
    world.get(BEACH, &rpt.token).await.assert_passed();
    assert_eq!(world.keycloak.calls_to("/introspect"), 1, "{:?}", world.keycloak.calls());
    assert_eq!(world.keycloak.calls_to("/token"), 1, "the live decision: {:?}", world.keycloak.calls());

    world.keycloak.clear();
    for _ in 0..20 {
        let passed = world.get(BEACH, &rpt.token).await;
        passed.assert_passed();
        assert_eq!(passed.rows, "I1 E10 U1");
    }
    assert_eq!(world.keycloak.calls(), [""; 0]);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_hundred_first_uses_of_one_rpt_are_one_introspection() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;
    let challenge = world.get_without_token(BEACH).await.challenge();
    let rpt = realm.sign_in("bob", CLIENT_APP).await.trade(&challenge).await.expect("an RPT");

    world.keycloak.clear();
    let answers = futures_util::future::join_all((0..100).map(|_| world.get(BEACH, &rpt.token))).await;
    for answer in answers {
        answer.assert_passed();
    }
    assert_eq!(world.keycloak.calls_to("/introspect"), 1, "{:?}", world.keycloak.calls());
    assert_eq!(world.keycloak.calls_to("/token"), 1, "{:?}", world.keycloak.calls());
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn each_request_without_a_token_gets_a_ticket_of_its_own() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    world.keycloak.clear();
    let mut tickets = Vec::new();
    for _ in 0..5 {
        tickets.push(world.get_without_token(BEACH).await.challenge().ticket.0.expose().to_owned());
    }
    tickets.sort();
    tickets.dedup();
    assert_eq!(tickets.len(), 5);
    assert_eq!(world.keycloak.calls_to("/permission"), 5);
    assert!(world.content().saw_nothing());
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn fetch_goes_the_whole_way() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let (status, body) = world.fetch(Method::GET, BEACH, "bob").await.expect("the content");
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body.len(), uma_gateway::demo::content_server::BEACH);
    assert_eq!(world.content().hits(), 1);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn the_fetch_command_writes_the_content_and_tells_its_steps() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let fetch = |path: &str, user: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
        command.args(["fetch", "--explain", "--user", user, &world.address(path).to_string()]);
        command.env("UMA_PASSWORD", user).env("UMA_CLIENT_ID", CLIENT_APP.id).env("UMA_CLIENT_SECRET", CLIENT_APP.secret);
        command.stdin(std::process::Stdio::null());
        async move { tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs") }
    };
    let bob = fetch(BEACH, "bob").await;
    let told = String::from_utf8_lossy(&bob.stderr);
    assert!(bob.status.success(), "{told}");
    assert_eq!(bob.stdout, world.content_of(BEACH).await);
    assert!(told.contains("401") && told.contains("trade ticket") && told.contains("200"), "{told}");
    assert!(!told.contains("eyJhbGciOi"), "a token or ticket is told: {told}");

    let carol = fetch(BEACH, "carol").await;
    assert_eq!(carol.status.code(), Some(3), "{}", String::from_utf8_lossy(&carol.stderr));
    assert!(carol.stdout.is_empty());
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_public_path_asks_nobody() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    world.keycloak.clear();
    world.get_without_token("/public/welcome.txt").await.assert_passed();
    world.get("/public/welcome.txt", "nonsense").await.assert_passed();
    assert_eq!(world.keycloak.calls(), [""; 0]);
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn bob_signs_in_at_keycloaks_own_form() {
    let realm = Realm::photoz();
    let album = realm.album().await;
    realm.share(&album, "bob", &["view"]).await;
    let world = Plan::behind(&realm).vacation(&album.by_name()).start().await;

    let browser: Show = Arc::new(|shown| drop(tokio::spawn(log_in(shown.to_owned()))));
    let options = ClientOptions { requesting_party: RequestingParty::Browser, browser: Some(browser), ..as_user("bob") };
    let (status, body) = world.fetch_with(Method::GET, BEACH, options).await.expect("the content");
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body.len(), uma_gateway::demo::content_server::BEACH);
}

/// Bob before the form: opens the address, types his password, and goes where he is sent.
async fn log_in(shown: String) {
    let http = http();
    let page = send(&http, Request::get(shown).body(Bytes::new()).expect("a request")).await;
    // The cookies are marked `Secure` although the connection is plain; a browser on loopback sends them back all the same.
    let cookies = page.headers().get_all(SET_COOKIE).iter().fold(String::new(), |mut all, cookie| {
        let _ = write!(all, "{}; ", cookie.to_str().expect("text").split(';').next().expect("a cookie"));
        all
    });
    let html = String::from_utf8(page.body().to_vec()).expect("text");
    let action = html.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form").replace("&amp;", "&");
    let typed = Request::post(action).header(COOKIE, cookies).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let sent_on = send(&http, typed.body(form(&[("username", "bob"), ("password", "bob")])).expect("a request")).await;
    let back = sent_on.headers()[LOCATION].to_str().expect("text").to_owned();
    send(&http, Request::get(back).body(Bytes::new()).expect("a request")).await;
}
