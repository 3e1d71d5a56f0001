//! A keeper with a scripted token endpoint and a paused clock.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::*;
use crate::authorization_server::Proof;
use crate::http_client::basic_auth;

fn grant() -> Grant {
    Grant {
        upstream: Arc::from("albums"),
        token_endpoint: "http://127.0.0.1:1/token".parse().unwrap(),
        client: ClientCredentials::with_secret("gateway", "s3cret"),
        scopes: vec!["a".into(), "b".into()],
    }
}

fn answer(status: u16, body: &str) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn issued(token: &str, expires_in: u64) -> Response<Bytes> {
    answer(200, &format!("{{\"access_token\":\"{token}\",\"token_type\":\"Bearer\",\"expires_in\":{expires_in}}}"))
}

/// Runs the keeper beside a test; answers come in order, then 503 for ever. Times of the calls, in seconds, are noted.
async fn beside(answers: Vec<Response<Bytes>>, token: &Token, test: impl AsyncFnOnce(&RefCell<Vec<u64>>)) {
    let calls = RefCell::new(Vec::new());
    let answers = RefCell::new(VecDeque::from(answers));
    let start = Instant::now();
    let grant = grant();
    let dependency = Health::new(Arc::new(crate::telemetry::Metrics::new().unwrap())).dependency("proxy_credential", "albums");
    let send = async |_: Request<Bytes>| {
        calls.borrow_mut().push(start.elapsed().as_secs());
        Ok(answers.borrow_mut().pop_front().unwrap_or_else(|| answer(503, "")))
    };
    let secret = Rotating::new(grant.client.clone());
    let keeper = keep_with(token, &grant, &dependency, async |grant: &Grant| either(grant, &secret, &send, &|| ()).await);
    tokio::select! {
        () = keeper => unreachable!("a keeper never ends"),
        () = test(&calls) => {}
    }
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn text(value: Option<Arc<HeaderValue>>) -> Option<String> {
    value.map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_when_a_fifth_or_a_minute_is_left() {
    let token = Token::default();
    beside(vec![issued("one", 100), issued("two", 3600), issued("three", 60)], &token, async |calls| {
        assert_eq!(text(token.obtain(within(2)).await).as_deref(), Some("Bearer one"));
        assert!(token.current().unwrap().is_sensitive());
        sleep_until(within(81)).await;
        assert_eq!(text(token.current()).as_deref(), Some("Bearer two"));
        sleep_until(within(3540)).await;
        assert_eq!(text(token.current()).as_deref(), Some("Bearer three"));
        assert_eq!(*calls.borrow(), [0, 80, 3620]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_the_token_until_its_end_and_not_longer() {
    let token = Token::default();
    beside(vec![issued("one", 100)], &token, async |_| {
        assert!(token.obtain(within(2)).await.is_some());
        sleep_until(within(99)).await;
        assert_eq!(text(token.current()).as_deref(), Some("Bearer one"));
        sleep_until(within(2)).await;
        assert_eq!(token.current(), None);
        let asked = Instant::now();
        assert_eq!(token.obtain(within(2)).await, None);
        assert_eq!(asked, Instant::now(), "the last attempt failed, so nobody waits");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_token_within_its_budget_only() {
    let token = Token::default();
    let asked = Instant::now();
    assert_eq!(token.obtain(within(2)).await, None);
    assert_eq!(asked.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_asked_for_again_once_however_many_say_so() {
    let token = Token::default();
    beside(vec![issued("one", 1000), issued("two", 1000)], &token, async |calls| {
        let one = token.obtain(within(2)).await.unwrap();
        token.refuse(&one);
        token.refuse(&one);
        let (a, b) = tokio::join!(token.other_than(&one, within(2)), token.other_than(&one, within(2)));
        token.refuse(&one);
        assert_eq!(text(a).as_deref(), Some("Bearer two"));
        assert_eq!(text(b).as_deref(), Some("Bearer two"));
        sleep_until(within(5)).await;
        assert_eq!(*calls.borrow(), [0, 1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failures_make_pauses_longer() {
    let token = Token::default();
    beside(Vec::new(), &token, async |calls| {
        sleep_until(within(100)).await;
        assert_eq!(*calls.borrow(), [0, 1, 3, 7, 15, 31, 61, 91]);
    })
    .await;
}

#[test]
fn only_a_bearer_token_is_taken() {
    for body in [
        "{}",
        "not json",
        "{\"access_token\":\"\",\"token_type\":\"Bearer\"}",
        "{\"access_token\":\"a b\",\"token_type\":\"Bearer\"}",
        "{\"access_token\":\"a\\r\\nX: y\",\"token_type\":\"Bearer\"}",
        "{\"access_token\":\"a\",\"token_type\":\"DPoP\"}",
        "{\"access_token\":\"a\"}",
    ] {
        assert!(matches!(read(&grant(), &answer(200, body)), Err(TokenError::Malformed)), "{body}");
    }
    assert!(
        matches!(read(&grant(), &answer(401, "{}")), Err(TokenError::Refused { status: StatusCode::UNAUTHORIZED, look_at: Some(key) }) if key == "upstreams.albums.credentials.oauth2.client.secret")
    );
    let (value, life) = read(&grant(), &answer(200, "{\"access_token\":\"a\",\"token_type\":\"bearer\"}")).unwrap();
    assert_eq!((value.to_str().unwrap(), life), ("Bearer a", UNTOLD));
}

#[test]
fn the_request_is_a_form_with_basic_authentication() {
    let request = request(&grant()).unwrap();
    assert_eq!(request.body(), "grant_type=client_credentials&scope=a+b");
    assert!(request.headers()[AUTHORIZATION].is_sensitive());
}

#[test]
fn a_client_without_a_secret_in_the_header_shows_itself_in_the_form() {
    let client = ClientCredentials { id: "gateway".into(), proof: Proof::SecretInBody("s3cret".into()) };
    let request = request(&Grant { client, ..grant() }).unwrap();
    assert_eq!(request.body(), "grant_type=client_credentials&scope=a+b&client_id=gateway&client_secret=s3cret");
    assert!(!request.headers().contains_key(AUTHORIZATION));
}

#[tokio::test(start_paused = true)]
async fn a_new_client_secret_is_asked_with_first_and_the_old_one_stays_until_it_has_worked() {
    let secret = Rotating::new(ClientCredentials::with_secret("gateway", "old"));
    assert!(secret.offer(&ClientCredentials::with_secret("gateway", "new")));
    let shown = RefCell::new(Vec::new());
    let accepted = RefCell::new("old");
    let send = async |request: Request<Bytes>| {
        let old = request.headers()[AUTHORIZATION] == basic_auth("gateway", "old");
        shown.borrow_mut().push(if old { "old" } else { "new" });
        Ok(if old == (*accepted.borrow() == "old") { issued("t", 100) } else { answer(401, "") })
    };
    let worked = std::cell::Cell::new(0);
    let ask = async || either(&grant(), &secret, &send, &|| worked.set(worked.get() + 1)).await.map(|(_, _, settled)| settled);
    assert!(matches!(ask().await, Ok(false)));
    *accepted.borrow_mut() = "new";
    assert!(matches!(ask().await, Ok(true)));
    assert!(matches!(ask().await, Ok(true)));
    assert_eq!((shown.take(), worked.get()), (vec!["new", "old", "new", "new"], 1));
}
