//! The flow against a scripted resource and authorization server: the good way, and every way that a server can answer otherwise.

mod kept;
mod keycloak;
mod script;
mod uma_1_0;

use std::sync::Mutex;

use http::Uri;
use serde_json::json;
use url::Url;

use super::*;
use crate::http_client::TlsFiles;
use script::{CONTENT, RPT, Script};

fn http() -> HttpClient {
    HttpClient::new(&TlsFiles::default()).unwrap()
}

fn bob() -> ClientOptions {
    ClientOptions {
        application: Some(Application { id: "photo app".into(), secret: Some("a:b".into()) }),
        requesting_party: RequestingParty::Password { username: "bob".into(), password: "bob's".into() },
        ..ClientOptions::default()
    }
}

async fn fetch_with(options: ClientOptions, address: &str) -> Result<(StatusCode, String, Vec<StepKind>), FetchError> {
    let fetched = Client::new(options, http()).fetch(&FetchRequest::get(address.parse().unwrap())).await?;
    let status = fetched.response.status();
    let body = fetched.response.into_body().bytes(1000, Instant::now() + Duration::from_secs(10)).await.unwrap();
    Ok((status, String::from_utf8(body.to_vec()).unwrap(), fetched.steps.iter().map(|step| step.kind).collect()))
}

async fn fetch(script: &Script, options: ClientOptions) -> Result<(StatusCode, String, Vec<StepKind>), FetchError> {
    fetch_with(options, &script.at("/beach.jpg?secret=1")).await
}

#[tokio::test]
async fn from_an_address_without_a_token_to_the_content() {
    let script = Script::start().await.then_rpt();
    let (status, body, steps) = fetch(&script, bob()).await.unwrap();

    assert_eq!((status.as_u16(), body.as_str()), (200, CONTENT));
    assert_eq!(steps, [StepKind::Ask, StepKind::Discover, StepKind::SignIn, StepKind::Trade, StepKind::Ask]);
    let calls = script.calls("/token");
    assert_eq!(
        [calls[0].field("grant_type"), calls[0].field("username"), calls[0].field("password"), calls[0].field("scope")],
        ["password", "bob", "bob's", "openid"]
    );
    // Basic authentication, form-encoded before base64: `photo+app:a%3Ab`.
    assert!(calls.iter().all(|call| call.authorization == "Basic cGhvdG8rYXBwOmElM0Fi"));
    let trade = &script.trades()[0];
    assert_eq!([trade.field("ticket"), trade.field("claim_token")], ["ticket-number-1", "identity-of-bob-0123"]);
    assert_eq!(trade.field("claim_token_format"), "http://openid.net/specs/openid-connect-core-1_0.html#IDToken");
    assert_eq!(script.calls("/beach.jpg")[1].authorization, format!("Bearer {RPT}"));
}

#[tokio::test]
async fn what_needs_no_token_is_fetched_with_one_call() {
    let script = Script::start().await;
    let (status, body, steps) = fetch_with(bob(), &script.at("/open")).await.unwrap();
    assert_eq!((status.as_u16(), body.as_str(), steps.as_slice()), (200, CONTENT, [StepKind::Ask].as_slice()));
}

#[tokio::test]
async fn a_redirect_of_the_resource_is_handed_back_and_not_followed() {
    let script = Script::start().await;
    let (status, ..) = fetch_with(bob(), &script.at("/moved")).await.unwrap();
    assert_eq!(status, 302);
    assert!(script.calls("/other").is_empty());
}

#[tokio::test]
async fn steps_are_told_as_they_happen_and_show_no_secret() {
    let script = Script::start().await.then_rpt();
    let told = Arc::new(Mutex::new(String::new()));
    let listener = told.clone();
    let observer: Observer = Arc::new(move |step: &Step| listener.lock().unwrap().push_str(&format!("{step}\n{step:?}\n")));
    fetch(&script, ClientOptions { observer: Some(observer), ..bob() }).await.unwrap();

    let told = told.lock().unwrap().clone();
    for secret in ["ticket-number-1", "identity-of-bob-0123", "access-of-bob-0123", RPT, "bob's", "a:b", "secret=1"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
    assert!(told.contains("401  ticket=tick…  as_uri=http://127.0.0.1:"), "{told}");
}

#[tokio::test]
async fn the_bare_discovery_address_in_a_challenge_is_understood() {
    let script = Script::start().await.then_rpt();
    let challenge = format!("Basic realm=\"x\", UMA ticket={{ticket}}, as_uri={}", script.at("/.well-known/uma2-configuration"));
    let script = script.challenge(&challenge);
    assert_eq!(fetch(&script, bob()).await.unwrap().1, CONTENT);
}

#[tokio::test]
async fn claims_are_pushed_again_with_each_new_ticket_of_need_info_but_not_for_ever() {
    let need_info = |ticket: &str| json!({ "error": "need_info", "ticket": ticket, "required_claims": [{ "friendly_name": "e-mail", "claim_type": "x" }] });
    let script = Script::start().await.then(403, need_info("need-1")).then_rpt();
    fetch(&script, bob()).await.unwrap();
    let tickets: Vec<String> = script.trades().iter().map(|call| call.field("ticket").to_owned()).collect();
    assert_eq!(tickets, ["ticket-number-1", "need-1"]);

    let script = Script::start().await.then(403, need_info("1")).then(403, need_info("2")).then(403, need_info("3"));
    let error = fetch(&script, bob()).await.unwrap_err();
    assert!(matches!(&error, FetchError::NeedInfo { wanted } if wanted == &["e-mail"]), "{error}");
    assert_eq!(script.trades().len(), 3);
}

#[tokio::test]
async fn need_info_without_any_claims_to_give_ends_at_once() {
    let script = Script::start().await.then(403, json!({ "error": "need_info", "ticket": "t" }));
    let error = fetch(&script, ClientOptions { requesting_party: RequestingParty::Nobody, ..bob() }).await.unwrap_err();
    assert!(matches!(error, FetchError::NeedInfo { .. }));
    assert_eq!(script.trades()[0].field("claim_token"), "");
}

#[tokio::test]
async fn a_submitted_request_is_polled_no_faster_than_told_and_with_the_newest_ticket() {
    let submitted = |ticket: &str| json!({ "error": "request_submitted", "ticket": ticket, "interval": 0.05 });
    let script = Script::start().await.then(403, submitted("poll-1")).then(403, submitted("poll-2")).then(403, submitted("poll-3")).then_rpt();
    let (status, _, steps) = fetch(&script, ClientOptions { wait: Duration::from_secs(60), ..bob() }).await.unwrap();

    assert_eq!(status, 200);
    let trades = script.trades();
    assert_eq!(trades.iter().map(|call| call.field("ticket")).collect::<Vec<_>>(), ["ticket-number-1", "poll-1", "poll-2", "poll-3"]);
    assert!(trades.windows(2).all(|pair| pair[1].time - pair[0].time >= Duration::from_millis(50)));
    assert_eq!(steps.iter().filter(|kind| **kind == StepKind::Wait).count(), 3);
}

#[tokio::test]
async fn without_waiting_a_submitted_request_says_so_and_has_its_own_exit_code() {
    let script = Script::start().await.then(403, json!({ "error": "request_submitted", "ticket": "t", "interval": 5 }));
    let error = fetch(&script, bob()).await.unwrap_err();
    assert!(matches!(error, FetchError::Submitted { waited: None }));
    assert_eq!(error.exit_code(), 3);
    assert_eq!(script.trades().len(), 1);
}

#[tokio::test]
async fn a_wait_that_is_shorter_than_the_interval_ends_before_it() {
    let script = Script::start().await.then(403, json!({ "error": "request_submitted", "ticket": "t", "interval": 3600 }));
    let error = fetch(&script, ClientOptions { wait: Duration::from_secs(60), ..bob() }).await.unwrap_err();
    assert!(matches!(error, FetchError::Submitted { waited: Some(_) }));
}

#[tokio::test]
async fn keycloak_gives_no_ticket_so_the_poll_goes_back_to_the_resource() {
    let submitted = json!({ "error": "access_denied", "error_description": "request_submitted" });
    let script = Script::start().await.then(403, submitted.clone()).then(403, submitted).then_rpt();
    let options = ClientOptions { wait: Duration::from_secs(60), poll: Duration::from_millis(20), ..bob() };
    assert_eq!(fetch(&script, options).await.unwrap().1, CONTENT);
    let tickets: Vec<String> = script.trades().iter().map(|call| call.field("ticket").to_owned()).collect();
    assert_eq!(tickets, ["ticket-number-1", "ticket-number-2", "ticket-number-3"]);
    // Three times without a token, then with the RPT.
    assert_eq!(script.calls("/beach.jpg").len(), 4);
}

#[tokio::test]
async fn a_denied_request_stops_there_in_the_words_of_both_kinds_of_server() {
    for answer in [json!({ "error": "request_denied" }), json!({ "error": "access_denied", "error_description": "not_authorized" })] {
        let script = Script::start().await.then(403, answer).then_rpt();
        assert!(matches!(fetch(&script, ClientOptions { wait: Duration::from_secs(60), ..bob() }).await, Err(FetchError::Denied)));
        assert_eq!((script.trades().len(), script.calls("/beach.jpg").len()), (1, 1));
    }
}

#[tokio::test]
async fn a_ticket_that_has_expired_is_replaced_once() {
    for (status, answer) in [(400, json!({ "error": "invalid_grant" })), (403, json!({ "error": "invalid_ticket" }))] {
        let script = Script::start().await.then(status, answer.clone()).then_rpt();
        assert_eq!(fetch(&script, bob()).await.unwrap().1, CONTENT);
        assert_eq!(script.trades()[1].field("ticket"), "ticket-number-2");

        let script = Script::start().await.then(status, answer.clone()).then(status, answer).then_rpt();
        assert!(matches!(fetch(&script, bob()).await, Err(FetchError::TicketRefused)));
        assert_eq!(script.trades().len(), 2);
    }
}

#[tokio::test]
async fn an_rpt_from_an_earlier_time_is_upgraded_or_left_out_where_it_cannot_be() {
    let mut request = FetchRequest::get("http://127.0.0.1/".parse().unwrap());
    request.rpt = Some(Rpt("earlier-0123456789".into()));

    let script = Script::start().await.then(200, json!({ "access_token": RPT, "upgraded": true }));
    request.address = script.at("/beach.jpg").parse().unwrap();
    let fetched = Client::new(bob(), http()).fetch(&request).await.unwrap();
    assert_eq!(fetched.rpt.unwrap().0.expose(), RPT);
    assert_eq!(script.calls("/beach.jpg")[0].authorization, "Bearer earlier-0123456789");
    assert_eq!(script.trades()[0].field("rpt"), "earlier-0123456789");
    assert!(fetched.steps.iter().any(|step| step.detail.starts_with("RPT, upgraded")));

    let script = Script::start().await.then(403, json!({ "error": "invalid_rpt" })).then_rpt();
    request.address = script.at("/beach.jpg").parse().unwrap();
    Client::new(bob(), http()).fetch(&request).await.unwrap();
    assert_eq!([script.trades()[1].field("rpt"), script.trades()[1].field("ticket")], ["", "ticket-number-2"]);
}

#[tokio::test]
async fn an_rpt_that_does_not_do_ends_the_fetch() {
    let script = Script::start().await.then(200, json!({ "access_token": "partial-0123456789" }));
    let as_uri = script.at("");
    let script = script.challenge(&format!(r#"UMA as_uri="{as_uri}", error="insufficient_scope", ticket="{{ticket}}""#));
    let error = fetch(&script, bob()).await.unwrap_err();
    assert!(matches!(&error, FetchError::StillRefused { error: Some(word) } if word == "insufficient_scope"), "{error}");
    assert_eq!(script.trades().len(), 1);
}

#[tokio::test]
async fn without_an_application_the_token_itself_is_the_credential() {
    let script = Script::start().await.then_rpt();
    let options = ClientOptions { application: None, requesting_party: RequestingParty::Token("access-of-bob-0123".into()), ..ClientOptions::default() };
    fetch(&script, options).await.unwrap();
    let trade = &script.trades()[0];
    assert_eq!((trade.authorization.as_str(), trade.field("claim_token")), ("Bearer access-of-bob-0123", ""));
}

#[tokio::test]
async fn a_public_application_names_itself_in_the_form() {
    let script = Script::start().await.then_rpt();
    fetch(&script, ClientOptions { application: Some(Application { id: "phone".into(), secret: None }), ..bob() }).await.unwrap();
    assert!(script.calls("/token").iter().all(|call| call.authorization.is_empty() && call.field("client_id") == "phone"));
}

#[tokio::test]
async fn a_wrong_password_or_secret_is_told_with_the_words_of_the_server() {
    let script = Script::start().await.sign_in(401, json!({ "error": "invalid_grant", "error_description": "Invalid user\ncredentials" }));
    let error = fetch(&script, bob()).await.unwrap_err().to_string();
    assert_eq!(error, "the authorization server refuses (signing in): 401 invalid_grant, Invalid usercredentials");
    assert!(script.trades().is_empty());
}

#[tokio::test]
async fn a_claims_token_that_is_over_is_fetched_anew_while_polling() {
    let script = Script::start().await.sign_in(200, json!({ "access_token": "short", "expires_in": 0 }));
    let script = script.then(403, json!({ "error": "request_submitted", "ticket": "poll-1", "interval": 0.01 })).then_rpt();
    fetch(&script, ClientOptions { wait: Duration::from_secs(60), ..bob() }).await.unwrap();
    assert!(script.calls("/token").iter().filter(|call| call.field("grant_type") == "password").count() >= 2);
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_is_not_who_the_resource_says() {
    let mismatch = Script::start().await.discovery(200, |document| document["issuer"] = json!("https://id.example.org"));
    assert!(matches!(fetch(&mismatch, bob()).await, Err(FetchError::IssuerMismatch { .. })));
    let gone = Script::start().await.discovery(404, |_| ());
    assert!(matches!(fetch(&gone, bob()).await, Err(FetchError::Refused { status: 404, .. })));
    let redirected = Script::start().await.discovery(302, |_| ());
    assert!(matches!(fetch(&redirected, bob()).await, Err(FetchError::Refused { status: 302, .. })));
    let no_token_endpoint = Script::start().await.discovery(200, |document| document["token_endpoint"] = json!(null));
    assert!(matches!(fetch(&no_token_endpoint, bob()).await, Err(FetchError::Lacks { member: "token_endpoint", .. })));
    let insecure = Script::start().await.discovery(200, |document| document["token_endpoint"] = json!("http://id.example.org/token"));
    assert!(matches!(fetch(&insecure, bob()).await, Err(FetchError::Address(AddressError::Insecure(_)))));
    let untrusted = Script::start().await;
    let options = ClientOptions { issuer: Some("https://id.example.org".into()), ..bob() };
    assert!(matches!(fetch(&untrusted, options).await, Err(FetchError::Untrusted { .. })));
    for script in [mismatch, gone, redirected, no_token_endpoint, insecure, untrusted] {
        assert!(script.calls("/token").is_empty());
    }
}

#[tokio::test]
async fn an_https_resource_cannot_name_an_http_server() {
    let client = Client::new(bob(), http());
    let error = client.discover(&Uri::from_static("https://photos.example.org/a"), "http://127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, FetchError::Address(AddressError::Downgrade)));
}

#[tokio::test]
async fn the_discovery_document_may_be_named_by_hand() {
    let script = Script::start().await.then_rpt();
    fetch(&script, ClientOptions { discovery: Some(script.at("/elsewhere").parse().unwrap()), ..bob() }).await.unwrap();
    assert_eq!(script.calls("/elsewhere").len(), 1);
    assert!(script.calls("/.well-known/uma2-configuration").is_empty());
}

#[tokio::test]
async fn a_plain_http_address_of_another_machine_is_not_asked() {
    let error = fetch_with(bob(), "http://photos.example.org/a").await.unwrap_err();
    assert!(matches!(error, FetchError::Address(AddressError::Insecure(_))));
    assert_eq!(error.exit_code(), 2);
}

/// A user whose browser goes to the address shown and is sent back with what `answer` makes of the query.
fn browser(answer: fn(&Url) -> Vec<(&'static str, String)>) -> Show {
    Arc::new(move |shown| {
        let shown = Url::parse(shown).unwrap();
        let query = |name: &str| shown.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let mut back = Url::parse(&query("redirect_uri").or_else(|| query("claims_redirect_uri")).unwrap()).unwrap();
        back.query_pairs_mut().extend_pairs(answer(&shown));
        let back: Uri = back.as_str().parse().unwrap();
        tokio::spawn(async move {
            let icon = format!("http://{}/favicon.ico", back.authority().unwrap()).parse::<Uri>().unwrap();
            for address in [icon, back] {
                let request = Request::get(address).body(Bytes::new()).unwrap();
                let _ = http().send(request, 10_000, Instant::now() + Duration::from_secs(10)).await;
            }
        });
    })
}

fn query(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).map_or_else(String::new, |(_, value)| value.into_owned())
}

fn with_browser(answer: fn(&Url) -> Vec<(&'static str, String)>) -> ClientOptions {
    ClientOptions { requesting_party: RequestingParty::Browser, browser: Some(browser(answer)), ..bob() }
}

#[tokio::test]
async fn a_user_signs_in_with_the_browser_and_the_code_is_bound_to_this_client() {
    let script = Script::start().await.then_rpt();
    // The code carries the challenge here, so that the test can hold the verifier against it.
    let options = with_browser(|shown| {
        assert_eq!([query(shown, "theme"), query(shown, "scope"), query(shown, "code_challenge_method")], ["dark", "openid", "S256"]);
        vec![("state", query(shown, "state")), ("code", query(shown, "code_challenge"))]
    });
    assert_eq!(fetch(&script, options).await.unwrap().1, CONTENT);

    let call = &script.calls("/token")[0];
    assert_eq!(call.field("grant_type"), "authorization_code");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, call.field("code_verifier").as_bytes());
    assert_eq!(base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest), call.field("code"));
    assert!(call.field("redirect_uri").starts_with("http://127.0.0.1:"));
}

#[tokio::test]
async fn a_return_with_another_state_another_issuer_or_a_refusal_gives_no_token() {
    let script = Script::start().await;
    let wrong_state = fetch(&script, with_browser(|_| vec![("state", "guessed".into()), ("code", "c".into())])).await;
    assert!(matches!(wrong_state, Err(FetchError::Browser(BrowserError::WrongState))));
    let wrong_issuer = fetch(&script, with_browser(|shown| vec![("state", query(shown, "state")), ("code", "c".into()), ("iss", "https://evil".into())])).await;
    assert!(matches!(wrong_issuer, Err(FetchError::Browser(BrowserError::WrongIssuer))));
    let refused = fetch(&script, with_browser(|shown| vec![("state", query(shown, "state")), ("error", "access_denied".into())])).await;
    assert!(matches!(refused, Err(FetchError::Browser(BrowserError::Refused(word))) if word == "access_denied"));
    assert!(script.calls("/token").is_empty());
}

#[tokio::test]
async fn claims_that_the_server_gathers_by_itself_come_back_as_a_new_ticket() {
    let script = Script::start().await;
    let redirect = script.at("/gather?x=y");
    let script = script.then(403, json!({ "error": "need_info", "ticket": "need-1", "redirect_user": redirect })).then_rpt();
    let options = ClientOptions {
        browser: Some(browser(|shown| {
            assert_eq!([query(shown, "x"), query(shown, "client_id"), query(shown, "ticket")], ["y", "photo app", "need-1"]);
            vec![("state", query(shown, "state")), ("ticket", "gathered-1".into())]
        })),
        ..bob()
    };
    assert!(fetch(&script, options).await.unwrap().2.contains(&StepKind::Gather));
    assert_eq!(script.trades()[1].field("ticket"), "gathered-1");
}
