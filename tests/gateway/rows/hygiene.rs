//! Rows H: bounds of messages, and what the gateway does not do.

use std::convert::Infallible;
use std::time::Duration;

use http::{Method, Response};
use tower::{Layer, ServiceExt, service_fn};
use uma_gateway::body::Body;
use uma_gateway::demo::authorization_server::Endpoint;
use uma_gateway::response::{Rejection, RejectionLayer, Row};
use uma_gateway::routing::{Counted, Peer, Request, ServedHosts};
use uma_gateway::telemetry::{Recorder, RequestId};

use crate::support::{Expect, LINK, Next, Says, Setup, World, row_tests};

row_tests! {
    H408: a_body_that_stands_still_is_given_up;
    H413: a_body_over_the_limit_is_refused_before_its_token_is_judged, a_chunked_body_ends_where_it_passes_the_limit;
    H414: a_target_that_is_too_long_is_refused;
    H431: too_many_fields_get_a_bare_status_and_the_end_of_the_connection;
    H501: what_is_not_built_is_said_so;
    H508: a_request_that_came_through_here_before_is_stopped;
    H500: a_failure_of_the_gateways_own_is_a_closed_answer;
}

async fn a_body_that_stands_still_is_given_up(row: Row) {
    let world = Setup::default().settings(|settings| settings.body = Duration::from_millis(200)).start().await;
    let rpt = world.rpt(&["edit"]);
    let head = format!("PUT {LINK} HTTP/1.1\r\nHost: gateway.example.org\r\nAuthorization: Bearer {rpt}\r\nContent-Length: 10\r\n\r\n12345");
    let mut exchange = world.raw(head).await;
    // It is on its way there, and may be read later than the answer here.
    world.upstream().hit(1).await;
    let answer = Says::Problem(408, "request-timeout", &[("connection", "close")]);
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer, calls: &calls, hits: 1, next: Next::NoToken, rows: "I4 E10 H408: H408" });
    assert!(exchange.connection.ends().await);
    assert!(!world.upstream().last().expect("it was begun").complete);
}

async fn a_body_over_the_limit_is_refused_before_its_token_is_judged(row: Row) {
    let world = Setup::default().limits("{ body: 1KiB, off_for: [127.0.0.1/32] }").start().await;
    let rpt = world.rpt(&["edit"]);
    let exchange = world.put(LINK).bearer(&rpt).body(vec![b'x'; 1025]).await;
    let answer = Says::Problem(413, "body-too-large", &[]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::Nothing, rows: "H413: H413" });
    assert_eq!(world.put(LINK).bearer(&rpt).body(vec![b'x'; 1024]).await.status(), 204);
}

async fn a_chunked_body_ends_where_it_passes_the_limit(row: Row) {
    let world = Setup::default().limits("{ body: 1KiB, off_for: [127.0.0.1/32] }").start().await;
    let rpt = world.rpt(&["edit"]);
    let head = format!("PUT {LINK} HTTP/1.1\r\nHost: gateway.example.org\r\nAuthorization: Bearer {rpt}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    // Read at once, both might be refused before the content server has heard of the first.
    let exchange = world.raw(head + &chunk).then(chunk + "0\r\n\r\n").await;
    let answer = Says::Problem(413, "body-too-large", &[]);
    let calls = [(Endpoint::Introspection, 1)];
    exchange.proves(row, &Expect { answer, calls: &calls, hits: 1, next: Next::NoToken, rows: "I4 E10 H413: H413" });
    assert!(world.upstream().last().is_some_and(|seen| !seen.complete && seen.body_len <= 1024));
}

async fn a_target_that_is_too_long_is_refused(row: Row) {
    let world = World::start().await;
    let exchange = world.get(&format!("{LINK}?{}", "a".repeat(9_000))).await;
    let answer = Says::Problem(414, "target-too-long", &[]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "H414: H414" });
}

/// The HTTP library answers this one before there is a request: a status and no more, so no audit line either.
async fn too_many_fields_get_a_bare_status_and_the_end_of_the_connection(row: Row) {
    let world = World::start().await;
    let mut many = world.get(LINK);
    for number in 0..150 {
        many = many.header(&format!("X-Field-{number}"), "1");
    }
    let long = world.get(LINK).header("X-Long", &"a".repeat(40 * 1024));
    for ask in [many, long] {
        let mut exchange = ask.await;
        assert_eq!((exchange.status(), exchange.answer.body.len()), (431, 0), "{row}");
        assert!(exchange.connection.ends().await);
    }
    assert!(world.audit().await.is_empty() && world.upstream().saw_nothing());
    assert_eq!(world.control().all_calls(), 0);
}

async fn what_is_not_built_is_said_so(row: Row) {
    let world = World::start().await;
    let coding = format!("PUT {LINK} HTTP/1.1\r\nHost: a.example.org\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n");
    let expectation = format!("PUT {LINK} HTTP/1.1\r\nHost: a.example.org\r\nExpect: a-miracle\r\nContent-Length: 0\r\n\r\n");
    for bytes in [coding, expectation] {
        let exchange = world.raw(bytes).await;
        let answer = Says::Problem(501, "not-implemented", &[]);
        exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "H501: H501" });
    }
}

async fn a_request_that_came_through_here_before_is_stopped(row: Row) {
    let world = World::start().await;
    world.get("/public/welcome.txt").await;
    let seen = world.upstream().last().expect("one request");
    let via = seen.header("via").expect("the gateway's own entry");
    let exchange = world.get("/public/welcome.txt").header("Via", &format!("1.0 elsewhere, {via}")).await;
    let answer = Says::Problem(508, "loop-detected", &[]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "H508: H508" });
    assert_eq!(world.get("/public/welcome.txt").header("Via", "1.1 elsewhere").await.status(), 200);
}

/// Nothing that a client, an authorization server or an upstream does leads here, so the layer that writes answers is asked by itself.
async fn a_failure_of_the_gateways_own_is_a_closed_answer(row: Row) {
    let recorder = Recorder::new(RequestId("4q7zk2".into()), Method::GET, None, "http");
    let (head, ()) = http::Request::new(()).into_parts();
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let peer = Peer { address: nowhere, local: nowhere, scheme: "http", hosts: ServedHosts::default(), certificate: None, counted: Counted::default() };
    let request = Request { head, body: Body::empty(), peer, refusal: None, recorder: recorder.clone() };
    let service = RejectionLayer.layer(service_fn(|_: Request| async { Err::<Response<Body>, _>(Rejection::Internal) }));
    let answered: Result<Response<Body>, Infallible> = service.oneshot(request).await;
    let answer = answered.expect("always an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["cache-control"], &answer.headers()["x-request-id"]),
        (500, &"no-store".parse().unwrap(), &"4q7zk2".parse().unwrap())
    );
    assert_eq!(recorder.snapshot().rows.iter().collect::<Vec<_>>(), [row]);
}
