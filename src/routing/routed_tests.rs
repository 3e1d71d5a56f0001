//! From an admitted request to its route, or to the answer that the gateway gives itself; and the two layers together.

use std::cell::RefCell;
use std::future::ready;
use std::rc::Rc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{HeaderName, HeaderValue, VARY};
use tower::{Layer, Service, ServiceExt};

use super::super::config::{Cors, RouteConfig};
use super::super::testing::{protected, public};
use super::super::{AdmissionLayer, Request, RoutingLayer, admit};
use super::*;
use crate::response::Row;
use crate::telemetry::RequestId;

struct World {
    routes: RouteTable,
    trusted: Vec<IpNet>,
}

impl Snapshot for World {
    fn routes(&self) -> &RouteTable {
        &self.routes
    }
    fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted
    }
}

fn world(routes: Vec<RouteConfig>) -> Arc<World> {
    Arc::new(World { routes: RouteTable::new(routes).unwrap(), trusted: vec!["192.0.2.0/24".parse().unwrap()] })
}

fn cors(credentials: bool, origins: &[&'static str]) -> Option<Cors> {
    Some(Cors { origins: origins.iter().map(|origin| HeaderValue::from_static(origin)).collect(), credentials, max_age: Duration::from_secs(600) })
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request {
    let mut builder = http::Request::builder().method(method).uri(uri).header("host", "photos.example");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (head, ()) = builder.body(()).unwrap().into_parts();
    let peer = Peer {
        address: "192.0.2.1:4000".parse().unwrap(),
        local: "127.0.0.1:80".parse().unwrap(),
        scheme: "http",
        hosts: Default::default(),
        certificate: None,
        counted: Default::default(),
    };
    let recorder = Recorder::new(RequestId("r1".into()), head.method.clone(), None, "http");
    Request { head, body: Body::empty(), peer, refusal: None, recorder }
}

fn ask(world: &Arc<World>, method: &str, uri: &str, headers: &[(&str, &str)]) -> (Result<Step<World>, Rejection>, Recorder) {
    let request = request(method, uri, headers);
    let recorder = request.recorder.clone();
    (admit(request, "gw-1").and_then(|admitted| route(admitted, Arc::clone(world))), recorder)
}

fn onward(step: Result<Step<World>, Rejection>) -> Routed<World> {
    match step {
        Ok(Step::Onward(routed)) => routed,
        Ok(Step::Answer(_)) => panic!("answered"),
        Err(rejection) => panic!("{rejection:?}"),
    }
}

fn answered(step: Result<Step<World>, Rejection>) -> Response<Body> {
    match step {
        Ok(Step::Answer(response)) => response,
        Ok(Step::Onward(_)) => panic!("went on"),
        Err(rejection) => panic!("{rejection:?}"),
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

const APP: &str = "https://app.example.org";

#[test]
fn a_request_carries_its_route_client_and_record() {
    let world = world(vec![protected(4, "", "/albums/{album}/**"), public(9, "", "/public/**")]);
    let (step, recorder) = ask(&world, "GET", "/albums/vacation/beach.jpg?size=1", &[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")]);
    let routed = onward(step);
    assert_eq!((&**routed.route().pattern(), routed.params().value(routed.path(), 0)), ("/albums/{album}/**", "vacation"));
    assert_eq!((routed.query().map(Query::as_str), routed.authority().as_str()), (Some("size=1"), "photos.example"));
    assert_eq!(routed.needs().map(|scopes| scopes.len()), Some(1));
    let record = recorder.snapshot();
    assert_eq!((record.route.as_deref(), record.scheme), (Some("/albums/{album}/**"), "https"));
    assert_eq!(record.client, Some("203.0.113.7".parse().unwrap()));
    assert_eq!(record.rows.iter().count(), 0);
    assert!(onward(ask(&world, "PROPFIND", "/public", &[]).0).needs().is_none());
}

#[test]
fn without_a_route_or_a_mapping_there_is_no_way_through() {
    let world = world(vec![protected(1, "", "/albums/**"), public(9, "", "/public/**")]);
    let rejected = |method: &str, uri: &str| ask(&world, method, uri, &[]).0.map(|_| ()).unwrap_err();
    assert_eq!(rejected("GET", "/").row(), Row::D7);
    assert_eq!(rejected("GET", "/Albums/x").row(), Row::D7);
    assert_eq!(rejected("GET", "/%EF%BD%81lbums/x").row(), Row::D3);
    for method in ["POST", "OPTIONS", "PATCH", "PROPFIND"] {
        match rejected(method, "/albums/x") {
            Rejection::MethodNotMapped(allow) => assert_eq!(allow, "GET, HEAD, PUT, DELETE"),
            other => panic!("{other:?}"),
        }
    }
    assert!(onward(ask(&world, "HEAD", "/albums/x", &[]).0).needs().is_some());
}

#[test]
fn every_spelling_of_a_protected_path_is_its_route_or_refused() {
    let meant = RouteConfig { covers_protected: true, ..public(5, "", "/api/**") };
    let world = world(vec![protected(1, "", "/api/admin"), meant]);
    for uri in ["/api/admin", "/api/admin/", "/api/%61dmin", "/api/admin?x=/public", "/%61pi/adm%69n/"] {
        assert!(onward(ask(&world, "GET", uri, &[]).0).route().protect().is_some(), "{uri}");
    }
    for uri in [
        "/api/admin;x=1",
        "//api///admin",
        "/api/foo/../admin",
        "/api/admin%3Bx",
        "/api/admin%2Fx",
        "/api/%2e%2e/admin",
        "/api/admin%00",
        "/api/admin%5c",
        "/api/%252e",
    ] {
        assert_eq!(ask(&world, "GET", uri, &[]).0.map(|_| ()).map_err(|rejection| rejection.row()), Err(Row::D3), "{uri}");
    }
    // Case makes another path, as everywhere in HTTP, but a content server that folds case must not be led past the protected one.
    assert_eq!(ask(&world, "GET", "/api/Admin", &[]).0.map(|_| ()).map_err(|rejection| rejection.row()), Err(Row::D3));
    assert!(onward(ask(&world, "GET", "/api/Administration", &[]).0).route().protect().is_none());
}

#[test]
fn a_body_announced_too_large_is_refused_at_once() {
    let world = world(vec![RouteConfig { body_limit: Some(10), ..public(1, "", "/**") }]);
    assert!(matches!(ask(&world, "PUT", "/", &[("content-length", "11")]).0, Err(Rejection::BodyTooLarge)));
    assert!(matches!(ask(&world, "PUT", "/", &[("content-length", "9000000000000000000")]).0, Err(Rejection::BodyTooLarge)));
    onward(ask(&world, "PUT", "/", &[("content-length", "10")]).0);
}

#[test]
fn an_options_goes_no_further_than_it_may() {
    let world = world(vec![public(1, "", "/public/**"), protected(5, "", "/albums/**")]);
    for (left, sent) in [("1", "0"), ("10", "9"), ("007", "6")] {
        let routed = onward(ask(&world, "OPTIONS", "/public/x", &[("max-forwards", left)]).0);
        assert_eq!(routed.headers().get_all("max-forwards").iter().collect::<Vec<_>>(), [sent]);
    }
    let (step, recorder) = ask(&world, "OPTIONS", "/public/x", &[("max-forwards", "0")]);
    let answer = answered(step);
    assert_eq!((answer.status().as_u16(), header(&answer, "cache-control")), (204, Some("no-store")));
    assert_eq!(recorder.snapshot().rows.deciding(), Some(Row::D8));
    for left in ["", "-1", "+1", "1, 2", "x", "99999999999999999999"] {
        assert!(matches!(ask(&world, "OPTIONS", "/public/x", &[("max-forwards", left)]).0, Err(Rejection::Malformed(_))), "{left}");
    }
    assert!(matches!(ask(&world, "OPTIONS", "/public/x", &[("max-forwards", "1"), ("max-forwards", "2")]).0, Err(Rejection::Malformed(_))));
    assert!(matches!(ask(&world, "OPTIONS", "/albums/x", &[("max-forwards", "0")]).0, Err(Rejection::MethodNotMapped(_))));
    // It counts for no other method that gets here.
    assert_eq!(onward(ask(&world, "GET", "/public/x", &[("max-forwards", "0")]).0).headers().get("max-forwards").unwrap(), "0");
}

#[test]
fn a_preflight_is_never_challenged() {
    let with = |cors| RouteConfig { cors, ..protected(1, "", "/albums/**") };
    let preflight = [("origin", APP), ("access-control-request-method", "PUT"), ("access-control-request-headers", "authorization, X-Odd,b@d,if-match")];

    let world = world(vec![with(cors(true, &[APP])), protected(5, "", "/silent/**"), public(9, "", "/public/**")]);
    let (step, recorder) = ask(&world, "OPTIONS", "/albums/x", &preflight);
    let answer = answered(step);
    assert_eq!(answer.status(), 204);
    assert_eq!(header(&answer, "access-control-allow-origin"), Some(APP));
    assert_eq!(header(&answer, "access-control-allow-methods"), Some("GET, HEAD, PUT, DELETE"));
    assert_eq!(header(&answer, "access-control-allow-headers"), Some("Authorization, x-odd, if-match"));
    assert_eq!(header(&answer, "access-control-allow-credentials"), Some("true"));
    assert_eq!(header(&answer, "access-control-max-age"), Some("600"));
    assert!(header(&answer, "vary").is_some_and(|vary| vary.starts_with("Origin")));
    assert_eq!(recorder.snapshot().rows.deciding(), Some(Row::D8));
    assert!(recorder.take_answer_headers().is_empty());

    // Not allowed: the same answer without the headers that would open it.
    for (uri, origin) in [("/silent/x", APP), ("/albums/x", "https://evil.example"), ("/albums/x", "null")] {
        let answer = answered(ask(&world, "OPTIONS", uri, &[("origin", origin), ("access-control-request-method", "PUT")]).0);
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "access-control-allow-origin"), header(&answer, "access-control-allow-methods")),
            (204, None, None)
        );
    }
    // A public route without `cors` leaves it to the upstream; an OPTIONS that is no preflight is a method like others.
    onward(ask(&world, "OPTIONS", "/public/x", &preflight).0);
    assert!(matches!(ask(&world, "OPTIONS", "/albums/x", &[("origin", APP)]).0, Err(Rejection::MethodNotMapped(_))));
}

#[test]
fn a_public_route_with_cors_answers_preflights_too() {
    let world = world(vec![RouteConfig { cors: cors(true, &["*"]), ..public(1, "", "/**") }]);
    let answer = answered(ask(&world, "OPTIONS", "/x", &[("origin", APP), ("access-control-request-method", "PATCH")]).0);
    assert_eq!((header(&answer, "access-control-allow-origin"), header(&answer, "access-control-allow-methods")), (Some("*"), Some("PATCH")));
    assert_eq!(header(&answer, "access-control-allow-credentials"), None);
}

fn noted(world: &Arc<World>, uri: &str, headers: &[(&str, &str)]) -> Vec<(HeaderName, HeaderValue)> {
    let (_, recorder) = ask(world, "GET", uri, headers);
    recorder.take_answer_headers()
}

#[test]
fn answers_on_a_route_with_cors_can_be_read_by_its_origins_only() {
    let world = world(vec![RouteConfig { cors: cors(false, &[APP]), ..protected(1, "", "/albums/**") }, protected(5, "", "/silent/**")]);
    let value = |noted: &[(HeaderName, HeaderValue)], name: &str| noted.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());

    let allowed = noted(&world, "/albums/x", &[("origin", APP)]);
    assert_eq!(value(&allowed, "access-control-allow-origin").unwrap(), APP);
    assert_eq!(value(&allowed, "access-control-expose-headers").unwrap(), "WWW-Authenticate, Warning, Retry-After, X-Request-Id");
    assert_eq!(value(&allowed, "access-control-allow-credentials"), None);
    assert!(allowed.contains(&(VARY, HeaderValue::from_static("Origin"))));

    // The upstream's own `*` must not open the answer: it is replaced by an origin that does not fit.
    let foreign = noted(&world, "/albums/x", &[("origin", "https://evil.example")]);
    assert_eq!(value(&foreign, "access-control-allow-origin").unwrap(), APP);
    assert_eq!(value(&foreign, "access-control-expose-headers"), None);

    assert_eq!(noted(&world, "/albums/x", &[]), [(VARY, HeaderValue::from_static("Origin"))]);
    assert_eq!(noted(&world, "/silent/x", &[("origin", APP)]), []);
    // Why a path is refused as well, where its route is known.
    assert!(matches!(ask(&world, "GET", "/albums/a%2Fb", &[("origin", APP)]).0, Err(Rejection::UnsafePath(_))));
    assert_eq!(noted(&world, "/albums/a%2Fb", &[("origin", APP)]), allowed);
    assert_eq!(noted(&world, "/nowhere", &[("origin", APP)]), []);
}

#[test]
fn the_layers_load_one_snapshot_for_each_request() {
    let current = Arc::new(ArcSwap::new(world(vec![public(1, "", "/one")])));
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let inner = {
        let seen = Rc::clone(&seen);
        tower::service_fn(move |routed: Routed<World>| {
            seen.borrow_mut().push(routed.path().to_string());
            ready(Ok::<_, Rejection>(Response::new(Body::empty())))
        })
    };
    let mut service = AdmissionLayer::new("gw-1".into()).layer(RoutingLayer::new(Arc::clone(&current)).layer(inner));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut call = |uri: &str| {
        let request = request("GET", uri, &[]);
        runtime.block_on(async { service.ready().await.map(|service| service.call(request)).unwrap().await.map(|response| response.status()) })
    };
    assert!(call("/one").is_ok());
    assert!(matches!(call("/two"), Err(Rejection::NoRoute)));
    current.store(world(vec![public(1, "", "/two")]));
    assert!(matches!(call("/one"), Err(Rejection::NoRoute)));
    assert!(call("/two").is_ok());
    assert!(matches!(call("//"), Err(Rejection::UnsafePath(_))));
    assert_eq!(*seen.borrow(), ["/one", "/two"]);
}
