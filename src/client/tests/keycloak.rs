//! The single steps against a real Keycloak, with tickets that its resource server is given.

use std::fmt::Write as _;

use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use serde_json::Value;

use super::*;
use crate::http_client::{basic_auth, form};
use crate::uma::PermissionTicket;

const FORM: &str = "application/x-www-form-urlencoded";
const HANDBOOK: &str = "4a4db004-0000-4000-8000-000000000001";

fn realm() -> String {
    let port = std::env::var("KEYCLOAK_PORT").unwrap_or_else(|_| "8180".into());
    format!("http://127.0.0.1:{port}/realms/photoz")
}

async fn post(address: &str, kind: &str, authorization: HeaderValue, body: Bytes) -> Value {
    let request = Request::post(address).header(CONTENT_TYPE, kind).header(AUTHORIZATION, authorization).body(body).unwrap();
    let answer = http().send(request, ANSWER, Instant::now() + Duration::from_secs(20)).await.unwrap();
    assert!(answer.status().is_success(), "{address}: {}", answer.status());
    serde_json::from_slice(answer.body()).unwrap()
}

async fn ticket(resource: &str) -> PermissionTicket {
    let gateway = basic_auth("content-gateway", "gateway-secret");
    let token = post(&format!("{}/protocol/openid-connect/token", realm()), FORM, gateway, form(&[("grant_type", "client_credentials")])).await;
    let pat = bearer(&token["access_token"].as_str().unwrap().into()).unwrap();
    let asked = format!(r#"[{{"resource_id":"{resource}","resource_scopes":["view"]}}]"#);
    let answer = post(&format!("{}/authz/protection/permission", realm()), "application/json", pat, asked.into()).await;
    PermissionTicket(answer["ticket"].as_str().unwrap().into())
}

fn user(name: &str) -> ClientOptions {
    ClientOptions {
        application: Some(Application { id: "client-app".into(), secret: Some("client-secret".into()) }),
        requesting_party: RequestingParty::Password { username: name.into(), password: name.into() },
        ..ClientOptions::default()
    }
}

async fn trade(options: ClientOptions) -> Traded {
    let client = Client::new(options, http());
    let server = client.discover(&Uri::from_static("http://127.0.0.1/"), &realm()).await.unwrap();
    let claims = client.claims_token(&server).await.unwrap();
    client.trade(&server, &ticket(HANDBOOK).await, claims.as_ref(), None).await.unwrap().1
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn bob_gets_an_rpt_for_the_handbook_and_carol_hears_that_her_request_was_submitted() {
    assert!(matches!(trade(user("bob")).await, Traded::Rpt { upgraded: false, expires_in: Some(_), .. }));
    let carol = trade(user("carol")).await;
    assert!(matches!(carol, Traded::Submitted { ticket: None, interval: None }), "{carol:?}");
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn a_token_of_bob_does_without_an_application_and_an_rpt_can_be_upgraded() {
    let client = Client::new(user("bob"), http());
    let server = client.discover(&Uri::from_static("http://127.0.0.1/"), &realm()).await.unwrap();
    let claims = client.claims_token(&server).await.unwrap().unwrap();

    let bare = ClientOptions { requesting_party: RequestingParty::Token(claims.access().clone()), ..ClientOptions::default() };
    let Traded::Rpt { rpt, .. } = trade(bare).await else { panic!("no RPT") };
    let (_, again) = client.trade(&server, &ticket(HANDBOOK).await, Some(&claims), Some(&rpt)).await.unwrap();
    assert!(matches!(again, Traded::Rpt { upgraded: true, .. }));
    let (_, unusable) = client.trade(&server, &ticket(HANDBOOK).await, Some(&claims), Some(&Rpt("nonsense".into()))).await.unwrap();
    assert!(matches!(unusable, Traded::RptRefused));
    let (status, dead) = client.trade(&server, &PermissionTicket("nonsense".into()), Some(&claims), None).await.unwrap();
    assert!(matches!(dead, Traded::TicketRefused), "{status}");
}

/// Bob at Keycloak's own form: opens the address, types his password, and goes where he is sent.
async fn log_in(shown: String) {
    let deadline = || Instant::now() + Duration::from_secs(20);
    let page = http().send(Request::get(shown).body(Bytes::new()).unwrap(), ANSWER, deadline()).await.unwrap();
    // The cookies are marked `Secure` although the connection is plain; a browser on loopback sends them back all the same.
    let cookies = page.headers().get_all(SET_COOKIE).iter().fold(String::new(), |mut all, cookie| {
        let _ = write!(all, "{}; ", cookie.to_str().unwrap().split(';').next().unwrap());
        all
    });
    let html = String::from_utf8(page.body().to_vec()).unwrap();
    let action = html.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().replace("&amp;", "&");
    let typed = form(&[("username", "bob"), ("password", "bob")]);
    let request = Request::post(action).header(COOKIE, cookies).header(CONTENT_TYPE, FORM).body(typed).unwrap();
    let sent_on = http().send(request, ANSWER, deadline()).await.unwrap();
    let back = sent_on.headers().get(LOCATION).unwrap().to_str().unwrap().to_owned();
    http().send(Request::get(back).body(Bytes::new()).unwrap(), ANSWER, deadline()).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn bob_signs_in_at_the_real_form() {
    let browser: Show = Arc::new(|shown| drop(tokio::spawn(log_in(shown.to_owned()))));
    let options = ClientOptions { requesting_party: RequestingParty::Browser, browser: Some(browser), ..user("bob") };
    assert!(matches!(trade(options).await, Traded::Rpt { .. }));
}
