//! The layer between routing and an upstream that is a list.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Response};
use ipnet::IpNet;
use tower::{Layer, Service, ServiceExt};

use super::oauth2::{Progress, Token};
use super::*;
use crate::authorization_server::ClientCredentials;
use crate::body::Body;
use crate::enforcement::Permitted;
use crate::response::{Rejection, Row};
use crate::routing::testing::public;
use crate::routing::{self, AdmissionLayer, Pattern, Peer, Request, Rewrite, RouteConfig, RouteTable, Routed, RoutingLayer};
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

/// Sends a request through the layer; `upstream` answers what comes out, each time it comes.
async fn send(
    world: World,
    method: Method,
    body: &'static str,
    upstream: impl Fn(&OutboundParts<World>) -> Result<(), Rejection> + 'static,
) -> (Result<Response<Body>, Rejection>, Vec<http::request::Parts>, Recorder) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&seen);
    let upstream = Rc::new(upstream);
    let inner = tower::service_fn(move |outbound: Outbound<World>| {
        let parts = outbound.into_parts();
        let answer = upstream(&parts);
        list.borrow_mut().push(parts.head);
        std::future::ready(answer.map(|()| Response::new(Body::empty())))
    });
    let credentials = CredentialsLayer::new("gw-1").layer(inner);
    let permit = tower::service_fn(move |routed: Routed<World>| credentials.clone().call(Permitted::public_for_tests(routed)));
    let service = AdmissionLayer::new("gw-1".into()).layer(RoutingLayer::new(Arc::new(ArcSwap::from_pointee(world))).layer(permit));
    let request = http::Request::builder()
        .method(method.clone())
        .uri("/albums/7/a%2Db?x=1&access_token=rpt")
        .header("Host", "photos.example.org")
        .header("Authorization", "Bearer rpt")
        .header("Cookie", "a=1");
    let (head, ()) = request.body(()).unwrap().into_parts();
    let peer = Peer { address: "192.0.2.7:1".parse().unwrap(), local: "127.0.0.1:80".parse().unwrap(), scheme: "http", hosts: Default::default() };
    let recorder = Recorder::new(RequestId("abc123".into()), method, None, "http");
    let body = Body::full(Bytes::from_static(body.as_bytes()));
    let answer = service.oneshot(Request { head, body, peer, refusal: None, recorder: recorder.clone() }).await;
    (answer, seen.take(), recorder)
}

fn oauth2() -> Credential {
    let client = ClientCredentials { id: "gateway".into(), secret: "x".into() };
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
    seen.iter().map(|head| head.headers[AUTHORIZATION].to_str().unwrap()).collect()
}

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
