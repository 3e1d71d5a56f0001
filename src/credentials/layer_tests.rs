//! The layer between routing and an upstream that is a list.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Response, StatusCode};
use ipnet::IpNet;
use tokio::task::LocalSet;
use tower::{Layer, Service, ServiceExt};

use super::oauth2::{Progress, Token};
use super::*;
use crate::authorization_server::ClientCredentials;
use crate::body::Body;
use crate::enforcement::Permitted;
use crate::response::{Rejection, Row};
use crate::routing::testing::public;
use crate::routing::{self, AdmissionLayer, Counted, Pattern, Peer, Request, Rewrite, RouteConfig, RouteTable, Routed, RoutingLayer};
use crate::telemetry::{Recorder, RequestId};

struct World {
    routes: RouteTable,
    proxy: Arc<Proxy>,
}

impl routing::Snapshot for World {
    fn routes(&self) -> &RouteTable {
        &self.routes
    }

    fn trusted_proxies(&self) -> &[IpNet] {
        &[]
    }
}

impl Snapshot for World {
    fn proxy(&self, upstream: usize) -> Option<&Arc<Proxy>> {
        (upstream == 0).then_some(&self.proxy)
    }
}

fn world(credential: Credential, token: Option<Arc<Token>>) -> World {
    let pattern = Pattern::parse("/albums/{album}/**").unwrap();
    let route = RouteConfig {
        rewrite: Some(Rewrite::parse("/inner/{album}/{**}", &pattern).unwrap()),
        body_limit: Some(4),
        upgrades: Vec::new(),
        upgrade_grace: std::time::Duration::ZERO,
        ..public(1, "photos.example.org", "/albums/{album}/**")
    };
    let proxy = Proxy::new(&Config { credential }, HostPolicy::Preserve, Arc::default(), token);
    World { routes: RouteTable::new(vec![route]).unwrap(), proxy: Arc::new(proxy) }
}

type Answer = Result<Response<Body>, Rejection>;

/// Sends a request through the layer; `upstream` takes or refuses what comes out, each time it comes.
async fn send(
    world: World,
    method: Method,
    body: &'static str,
    upstream: impl Fn(&OutboundParts<World>) -> Result<(), Rejection> + 'static,
) -> (Answer, Vec<http::request::Parts>, Recorder) {
    send_to(world, method, "/albums/7/a%2Db?x=1&access_token=rpt", body, move |parts| upstream(parts).map(|()| Response::new(Body::empty()))).await
}

/// The same with any target and answers of any kind; what the layer does besides has ended as well.
async fn send_to(
    world: World,
    method: Method,
    target: &str,
    body: &'static str,
    upstream: impl Fn(&OutboundParts<World>) -> Answer + 'static,
) -> (Answer, Vec<http::request::Parts>, Recorder) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&seen);
    let upstream = Rc::new(upstream);
    let inner = tower::service_fn(move |outbound: Outbound<World>| {
        let parts = outbound.into_parts();
        let answer = upstream(&parts);
        list.borrow_mut().push(parts.head);
        std::future::ready(answer)
    });
    let credentials = CredentialsLayer::new("gw-1").layer(inner);
    let permit = tower::service_fn(move |routed: Routed<World>| credentials.clone().call(Permitted::public_for_tests(routed)));
    let service = AdmissionLayer::new("gw-1".into()).layer(RoutingLayer::new(Arc::new(ArcSwap::from_pointee(world))).layer(permit));
    let request = http::Request::builder()
        .method(method.clone())
        .uri(target)
        .header("Host", "photos.example.org")
        .header("Authorization", "Bearer rpt")
        .header("Cookie", "a=1");
    let (head, ()) = request.body(()).unwrap().into_parts();
    let peer = Peer {
        address: "192.0.2.7:1".parse().unwrap(),
        local: "127.0.0.1:80".parse().unwrap(),
        scheme: "http",
        hosts: Default::default(),
        certificate: None,
        counted: Counted::default(),
    };
    let recorder = Recorder::new(RequestId("abc123".into()), method, None, "http");
    let body = Body::full(Bytes::from_static(body.as_bytes()));
    let local = LocalSet::new();
    let answer = local.run_until(service.oneshot(Request { head, body, peer, refusal: None, recorder: recorder.clone() })).await;
    local.await;
    (answer, seen.take(), recorder)
}

fn oauth2() -> Credential {
    let client = ClientCredentials::with_secret("gateway", "x");
    Credential::Oauth2 { token_endpoint: "http://127.0.0.1/token".parse().unwrap(), client, scopes: Vec::new() }
}

fn token(text: &'static str) -> Option<HeaderValue> {
    Some(HeaderValue::from_static(text))
}

#[tokio::test]
async fn a_request_leaves_with_its_rewritten_path_and_without_the_clients_token() {
    let credential = Credential::Authorization(HeaderValue::from_static("Basic Z3c6eA=="));
    let (answer, seen, _) = send(world(credential, None), Method::GET, "", |parts| {
        assert!(!parts.private);
        Ok(())
    })
    .await;
    assert!(answer.is_ok());
    let [head] = seen.as_slice() else { panic!("one request") };
    assert_eq!(head.uri, "/inner/7/a-b?x=1");
    assert_eq!(head.headers[AUTHORIZATION], "Basic Z3c6eA==");
    assert_eq!(head.headers["host"], "photos.example.org");
    assert_eq!(head.headers["cookie"], "a=1");
    assert_eq!(head.headers["via"], "1.1 gw-1");
}

#[tokio::test]
async fn a_body_over_the_limit_does_not_leave() {
    for (body, passes) in [("1234", true), ("12345", false)] {
        let (answer, seen, _) = send(world(Credential::None, None), Method::PUT, body, |_| Ok(())).await;
        assert_eq!(answer.is_ok(), passes);
        assert_eq!(seen.len(), usize::from(passes));
        assert!(passes || matches!(answer, Err(Rejection::BodyTooLarge)));
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_sent_once_more() {
    let kept = Arc::new(Token::default());
    kept.publish(token("Bearer one"), Progress::Held);
    let keeper = Arc::clone(&kept);
    let (answer, seen, recorder) = send(world(oauth2(), Some(kept)), Method::GET, "", move |parts| {
        if parts.head.headers[AUTHORIZATION] == "Bearer one" {
            keeper.publish(token("Bearer two"), Progress::Held);
            return Err(Rejection::UpstreamCredentialRefused);
        }
        Ok(())
    })
    .await;
    assert!(answer.is_ok());
    let shown: Vec<_> = seen.iter().map(|head| head.headers[AUTHORIZATION].to_str().unwrap()).collect();
    assert_eq!(shown, ["Bearer one", "Bearer two"]);
    assert_eq!(recorder.snapshot().rows.iter().collect::<Vec<_>>(), [Row::U2]);
}

#[tokio::test]
async fn a_second_refusal_and_what_may_not_be_repeated_end_there() {
    for (method, body, times) in [(Method::GET, "", 2), (Method::POST, "", 1), (Method::PUT, "1234", 1)] {
        let kept = Arc::new(Token::default());
        kept.publish(token("Bearer one"), Progress::Held);
        let keeper = Arc::clone(&kept);
        let (answer, seen, _) = send(world(oauth2(), Some(kept)), method, body, move |_| {
            keeper.publish(token("Bearer next"), Progress::Held);
            Err(Rejection::UpstreamCredentialRefused)
        })
        .await;
        assert!(matches!(answer, Err(Rejection::UpstreamCredentialRefused)));
        assert_eq!(seen.len(), times);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_leaves() {
    let failed = Arc::new(Token::default());
    failed.publish(None, Progress::Failed);
    for kept in [None, Some(Arc::new(Token::default())), Some(failed)] {
        let (answer, seen, _) = send(world(oauth2(), kept), Method::GET, "", |_| Ok(())).await;
        assert!(matches!(answer, Err(Rejection::CredentialUnavailable)));
        assert!(seen.is_empty());
    }
}

/// A world whose credential `new` takes the place of `old`.
fn replaced() -> World {
    let proxy = |text: &'static str| {
        Proxy::new(&Config { credential: Credential::Authorization(HeaderValue::from_static(text)) }, HostPolicy::Preserve, Arc::default(), None)
    };
    let proxy = proxy("new").replacing(&Arc::new(proxy("old")), Arc::new(|_| ()));
    again(&Arc::new(proxy))
}

fn again(proxy: &Arc<Proxy>) -> World {
    World { proxy: Arc::clone(proxy), ..world(Credential::None, None) }
}

fn shown(seen: &[http::request::Parts]) -> Vec<&str> {
    seen.iter().map(credential_of).collect()
}

fn credential_of(head: &http::request::Parts) -> &str {
    head.headers.get(AUTHORIZATION).map_or("none", |value| value.to_str().unwrap())
}

fn says(status: u16) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(answer)
}

const HERE: &str = "/albums/7/here";
const THERE: &str = "/albums/7/there";

fn takes(text: &'static str) -> impl Fn(&OutboundParts<World>) -> Result<(), Rejection> {
    move |parts| if parts.head.headers[AUTHORIZATION] == text { Ok(()) } else { Err(Rejection::UpstreamCredentialRefused) }
}

#[tokio::test(start_paused = true)]
async fn a_new_credential_is_tried_once_a_second_and_the_old_one_stays_meanwhile() {
    let world = replaced();
    let proxy = Arc::clone(&world.proxy);
    let (answer, seen, recorder) = send(world, Method::GET, "", takes("old")).await;
    assert!(answer.is_ok());
    assert_eq!(shown(&seen), ["new", "old"]);
    assert_eq!(recorder.snapshot().rows.iter().collect::<Vec<_>>(), [Row::U2]);
    let (_, seen, _) = send(again(&proxy), Method::GET, "", takes("old")).await;
    assert_eq!(shown(&seen), ["old"], "not within the second");
    let (answer, seen, _) = send(again(&proxy), Method::PUT, "1234", takes("old")).await;
    assert!(answer.is_ok());
    assert_eq!(shown(&seen), ["old"], "what cannot be repeated goes with what works");
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let (_, seen, _) = send(again(&proxy), Method::GET, "", takes("old")).await;
    assert_eq!(shown(&seen), ["new", "old"]);
}

#[tokio::test(start_paused = true)]
async fn when_the_new_credential_has_worked_there_is_no_other() {
    let world = replaced();
    let proxy = Arc::clone(&world.proxy);
    drop(send(world, Method::GET, "", takes("old")).await);
    let (answer, seen, _) = send(again(&proxy), Method::GET, "", takes("new")).await;
    assert!(answer.is_ok());
    assert_eq!(shown(&seen), ["old", "new"], "the old one was refused, so the other was tried");
    assert!(!proxy.is_on_trial());
    let (answer, seen, _) = send(again(&proxy), Method::GET, "", takes("old")).await;
    assert!(matches!(answer, Err(Rejection::UpstreamCredentialRefused)));
    assert_eq!(shown(&seen), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_of_the_old_credential_what_cannot_be_repeated_goes_with_the_new_one() {
    let world = replaced();
    let proxy = Arc::clone(&world.proxy);
    let (answer, seen, _) = send(world, Method::POST, "1234", takes("new")).await;
    assert!(matches!(answer, Err(Rejection::UpstreamCredentialRefused)));
    assert_eq!(shown(&seen), ["old"]);
    let (answer, seen, _) = send(again(&proxy), Method::POST, "1234", takes("new")).await;
    assert!(answer.is_ok());
    assert_eq!(shown(&seen), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_to_anybody_proves_nothing() {
    for status in [200, 204, 206, 301, 302, 304, 400, 403, 404, 405, 410, 412, 429, 500, 502, 503] {
        let world = replaced();
        let proxy = Arc::clone(&world.proxy);
        let (answer, seen, _) = send_to(world, Method::GET, HERE, "", move |_| says(status)).await;
        assert_eq!((answer.unwrap().status().as_u16(), credential_of(&seen[0])), (status, "new"));
        assert!(proxy.is_on_trial(), "{status}");
        let (_, seen, _) = send_to(again(&proxy), Method::PUT, HERE, "1234", move |_| says(status)).await;
        assert_eq!(shown(&seen), ["old"], "after {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_it_is_refused_without_a_credential_a_success_proves_and_nothing_else_does() {
    for bare in [401, 403, 407] {
        for (status, proves) in [(200, true), (204, true), (206, true), (302, false), (304, false), (400, false), (403, false), (404, false), (502, false)] {
            let world = replaced();
            let proxy = Arc::clone(&world.proxy);
            let (answer, seen, recorder) = send_to(world, Method::GET, HERE, "", move |parts| match credential_of(&parts.head) {
                "none" if bare == 407 => Err(Rejection::UpstreamCredentialRefused),
                "none" => says(bare),
                _ => says(status),
            })
            .await;
            assert_eq!(answer.unwrap().status(), status);
            assert_eq!(proxy.is_on_trial(), !proves, "{status}, and {bare} without");
            assert_eq!(shown(&seen), if seen.len() == 1 { vec!["new"] } else { vec!["new", "none"] });
            assert_eq!(recorder.snapshot().rows.iter().count(), 0, "that is no part of the client's request");
            let [asked, .., bare] = seen.as_slice() else { continue };
            assert_eq!((&asked.method, &asked.uri, asked.headers.len()), (&bare.method, &bare.uri, bare.headers.len() + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_that_changes_something_is_sent_without_a_credential_and_others_once_a_second() {
    let world = replaced();
    let proxy = Arc::clone(&world.proxy);
    let (_, seen, _) = send_to(world, Method::DELETE, HERE, "", |_| says(204)).await;
    assert_eq!(shown(&seen), ["new"]);
    for (wait, expected) in [(1000, &["new", "none"][..]), (10, &["old"]), (1000, &["new", "none"])] {
        tokio::time::advance(std::time::Duration::from_millis(wait)).await;
        let (_, seen, _) = send_to(again(&proxy), Method::HEAD, HERE, "", |_| says(200)).await;
        assert_eq!(shown(&seen), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_other_requests_were_told_proves_nothing() {
    let world = replaced();
    let proxy = Arc::clone(&world.proxy);
    // Elsewhere the server looks at no credential.
    let upstream = |parts: &OutboundParts<World>| match (credential_of(&parts.head), parts.head.uri.path().ends_with("/here")) {
        ("old" | "none", true) => Err(Rejection::UpstreamCredentialRefused),
        _ => says(200),
    };
    let (answer, ..) = send_to(world, Method::POST, HERE, "1234", upstream).await;
    assert!(matches!(answer, Err(Rejection::UpstreamCredentialRefused)));
    for (method, target, body, expected) in
        [(Method::POST, HERE, "1234", &["new"][..]), (Method::POST, THERE, "1234", &["new"]), (Method::GET, THERE, "", &["new", "none"])]
    {
        let (answer, seen, _) = send_to(again(&proxy), method, target, body, upstream).await;
        assert!(answer.is_ok());
        assert_eq!((shown(&seen).as_slice(), proxy.is_on_trial()), (expected, true), "{target}");
    }
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(send_to(again(&proxy), Method::GET, HERE, "", upstream).await.0.is_ok());
    assert!(!proxy.is_on_trial());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_by_its_grpc_status_is_refused() {
    let proxy = Arc::clone(&replaced().proxy);
    let upstream = |parts: &OutboundParts<World>| {
        let mut answer = says(200)?;
        if credential_of(&parts.head) == "old" {
            answer.headers_mut().insert("grpc-status", HeaderValue::from_static("16"));
        }
        Ok(answer)
    };
    for expected in ["old", "new", "new"] {
        let (answer, seen, _) = send_to(again(&proxy), Method::POST, HERE, "1234", upstream).await;
        assert!(answer.is_ok());
        assert_eq!(shown(&seen), [expected]);
    }
    assert!(proxy.is_on_trial());
}

#[test]
fn a_credential_under_another_name_is_no_change_of_the_secret() {
    let proxy = |name: &'static str, text: &'static str| {
        let headers = vec![(http::HeaderName::from_static(name), HeaderValue::from_static(text))];
        Proxy::new(&Config { credential: Credential::Headers(headers) }, HostPolicy::Preserve, Arc::default(), None)
    };
    let old = Arc::new(proxy("x-key", "old"));
    let on_trial = |new: Proxy| new.replacing(&old, Arc::new(|_| ())).is_on_trial();
    assert!(on_trial(proxy("x-key", "new")));
    assert!(!on_trial(proxy("x-key", "old")));
    assert!(!on_trial(proxy("x-other", "new")));
}
