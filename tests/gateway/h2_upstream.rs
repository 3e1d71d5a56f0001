//! Content servers of HTTP/2 that turn requests away or answer slowly, and clients that do not read: what one of them does is nobody else's loss.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::h2_server::{Deed, H2Server};
use crate::support::tls::H2;
use crate::support::{PATIENCE, Setup, World, until};

const REFUSED_STREAM: u32 = 7;

/// A gateway in front of this server; `more` keys of its upstream.
async fn world(address: SocketAddr, more: &str) -> World {
    let upstream = format!("h2: {{ servers: [ \"http://{address}\" ], protocol: h2{more} }}");
    Setup::default().listener("h2c: true").another_upstream(&upstream).route("{ path: /open/**, upstream: h2, public: true }").start().await
}

/// One connection to the gateway, which a worker serves.
async fn client(world: &World) -> H2 {
    H2::over(TcpStream::connect(world.address()).await.unwrap()).await
}

/// The status and the body of what a method gets; `body`: what is sent.
async fn ask(client: &H2, method: &str, body: impl Into<Bytes>) -> (u16, Bytes) {
    let request = Request::builder().method(method).uri("http://gateway.example.org/open/x").body(Full::new(body.into())).unwrap();
    let answer = client.0.clone().send_request(request).await.unwrap();
    (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_server_that_ends_its_connections_after_some_requests_loses_none_and_gets_none_twice() {
    // nginx with `keepalive_requests 7`.
    let server = H2Server::start(|_, request| if request < 7 { Deed::Serve } else { Deed::ServeLast }).await;
    let world = world(server.address, "").await;
    let client = client(&world).await;
    for round in 0..5 {
        let bodies: Vec<String> = (0..60).map(|number| format!("request {round}.{number:02}")).collect();
        let answers = join_all(bodies.iter().map(|body| ask(&client, "POST", body.clone()))).await;
        for (body, (status, came)) in bodies.iter().zip(answers) {
            assert_eq!((status, came), (200, Bytes::from(body.clone())));
        }
        let answers = join_all((0..60).map(|_| ask(&client, "GET", ""))).await;
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    }
    let bodies: Vec<Vec<u8>> = server.served().into_iter().filter(|body| !body.is_empty()).collect();
    let expected: Vec<Vec<u8>> = (0..5).flat_map(|round| (0..60).map(move |number| format!("request {round}.{number:02}").into_bytes())).collect();
    assert_eq!(bodies, expected, "each came once");
    let metrics = world.metrics().await;
    assert!(metrics.contains("uma_gateway_upstream_retries_total{reason=\"unprocessed\",upstream=\"h2\"}"), "{metrics}");
}

#[tokio::test]
async fn connections_that_a_server_ends_after_some_requests_are_left_in_time() {
    let server = H2Server::start(|_, request| if request < 7 { Deed::Serve } else { Deed::ServeLast }).await;
    let world = world(server.address, "").await;
    let client = client(&world).await;
    for round in 0..4 {
        let heads = server.heads();
        let answers = join_all((0..60).map(|number| ask(&client, "POST", format!("{round}.{number}")))).await;
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        assert!(round == 0 || server.heads() == heads + 60, "once it is known, nothing is sent in vain: {} heads for 60", server.heads() - heads);
    }
}

#[tokio::test]
async fn a_connection_that_goes_away_gets_nothing_new_while_it_still_answers() {
    let deeds = |connection, request| match (connection, request) {
        (1, 1) => Deed::Ignore,
        (1, _) => Deed::ServeLast,
        _ => Deed::Serve,
    };
    let server = H2Server::start(deeds).await;
    // Nothing may be sent twice; what was never sent is not.
    let world = world(server.address, ", retry_budget: 0%").await;
    let client = client(&world).await;
    let held = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, "GET", "").await }
    });
    until("the content server has the first", async || (server.heads() == 1).then_some(())).await;
    for number in 2..10 {
        assert_eq!(ask(&client, "POST", format!("{number}")).await, (200, format!("{number}").into()));
        assert_eq!((server.connections(), server.heads()), (1 + usize::from(number > 2), number), "nothing was sent in vain");
    }
    assert!(!held.is_finished(), "the first is still waited for");
    held.abort();
}

#[tokio::test]
async fn a_refused_stream_is_asked_for_on_another_connection_whatever_the_method() {
    for (method, body) in [("GET", ""), ("POST", ""), ("POST", "hello"), ("PATCH", "hello")] {
        let server = H2Server::start(|connection, _| if connection == 1 { Deed::Reset(REFUSED_STREAM, 0) } else { Deed::Serve }).await;
        let world = world(server.address, "").await;
        let client = client(&world).await;
        assert_eq!(ask(&client, method, body).await, (200, body.into()), "{method}");
        assert_eq!((server.connections(), server.heads(), server.served().len()), (2, 2, 1), "{method}");
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_otherwise_has_been_answered() {
    // NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM.
    for code in [0, 1, 2, 8, 11] {
        for (method, body) in [("GET", ""), ("DELETE", ""), ("POST", ""), ("PUT", "hello")] {
            let server = H2Server::start(move |_, request| if request == 1 { Deed::Serve } else { Deed::Reset(code, body.len()) }).await;
            let world = world(server.address, "").await;
            let client = client(&world).await;
            // The connection that the next one finds.
            assert_eq!(ask(&client, "GET", "").await.0, 200);
            assert_eq!(ask(&client, method, body).await.0, 502, "{method}, {code}");
            assert_eq!((server.connections(), server.heads()), (1, 2), "{method}, {code}");
        }
    }
}

#[tokio::test]
async fn streams_that_are_reset_count_as_failures_of_the_server_where_those_count() {
    let server = H2Server::start(|_, _| Deed::Reset(2, 0)).await;
    let world = world(server.address, ", ejection: { failures: 1, server_errors: true, rest: 1m }").await;
    assert_eq!(ask(&client(&world).await, "GET", "").await.0, 502);
    let gauge = format!("uma_gateway_upstream_server_up{{server=\"{}\",upstream=\"h2\"}} 0", server.address);
    assert!(world.metrics().await.contains(&gauge));
}

#[tokio::test]
async fn a_server_gets_no_more_requests_at_a_time_than_it_takes_from_the_first_ones_on() {
    // SETTINGS_MAX_CONCURRENT_STREAMS.
    let server = H2Server::with_settings(&[(3, 4)], |_, _| Deed::Serve).await;
    let world = world(server.address, "").await;
    let client = client(&world).await;
    let answers = join_all((0..60).map(|_| ask(&client, "POST", vec![b'x'; 30 * 1024]))).await;
    assert!(answers.iter().all(|(status, body)| *status == 200 && body.len() == 30 * 1024));
    assert!(server.most() <= 4, "{}", server.most());
}

#[tokio::test]
async fn a_server_that_says_nothing_of_http2_is_not_taken_for_one() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world(silent.local_addr().unwrap(), ", timeouts: { connect: 100ms }").await;
    assert_eq!(ask(&client(&world).await, "GET", "").await.0, 504);
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let world = self::world(address, "").await;
    assert_eq!(ask(&client(&world).await, "GET", "").await.0, 502);
}

#[tokio::test]
async fn a_body_that_is_no_longer_at_hand_is_not_sent_again() {
    let server = H2Server::start(|connection, _| if connection == 1 { Deed::Reset(REFUSED_STREAM, 256 * 1024) } else { Deed::Serve }).await;
    let world = world(server.address, "").await;
    let client = client(&world).await;
    assert_eq!(ask(&client, "POST", vec![b'x'; 1024 * 1024]).await.0, 502);
    assert_eq!((server.connections(), server.heads()), (1, 1));
    // The same that is refused at its head.
    let server = H2Server::start(|connection, _| if connection == 1 { Deed::Reset(REFUSED_STREAM, 16 * 1024) } else { Deed::Serve }).await;
    let world = self::world(server.address, "").await;
    let (status, body) = ask(&self::client(&world).await, "POST", vec![b'x'; 48 * 1024]).await;
    assert_eq!((status, body.len()), (200, 48 * 1024));
}

#[tokio::test]
async fn a_server_that_turns_everything_away_is_not_asked_for_ever() {
    for deed in [Deed::LeaveOut, Deed::Reset(REFUSED_STREAM, 0)] {
        let server = H2Server::start(move |_, _| deed).await;
        let world = world(server.address, "").await;
        let client = client(&world).await;
        assert_eq!(ask(&client, "POST", "hello").await.0, 502, "{deed:?}");
        assert_eq!(server.connections(), 2, "{deed:?}: once more, and no further");
    }
}

#[tokio::test]
async fn without_a_budget_nothing_is_sent_twice_to_a_server_of_http2() {
    for deed in [Deed::LeaveOut, Deed::Reset(REFUSED_STREAM, 0)] {
        let server = H2Server::start(move |_, request| if request == 1 { Deed::Serve } else { deed }).await;
        let world = world(server.address, ", retry_budget: 0%").await;
        let client = client(&world).await;
        assert_eq!(ask(&client, "GET", "").await.0, 200);
        assert_eq!(ask(&client, "POST", "hello").await.0, 502, "{deed:?}");
        assert_eq!(server.heads(), 2, "{deed:?}");
    }
}

#[tokio::test]
async fn another_server_takes_what_one_refuses() {
    let refusing = H2Server::start(|_, _| Deed::Reset(REFUSED_STREAM, 0)).await;
    let serving = H2Server::start(|_, _| Deed::Serve).await;
    let upstream = format!("h2: {{ servers: [ \"http://{}\", \"http://{}\" ], protocol: h2 }}", refusing.address, serving.address);
    let world = Setup::default().listener("h2c: true").another_upstream(&upstream).route("{ path: /open/**, upstream: h2, public: true }").start().await;
    let client = client(&world).await;
    for number in 0..30 {
        assert_eq!(ask(&client, "POST", format!("{number}")).await, (200, format!("{number}").into()));
    }
    assert!(refusing.heads() > 0 && serving.served().len() == 30);
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_told_as_towards_servers_of_http1() {
    let server = H2Server::start(|_, _| Deed::Serve).await;
    let upstream = format!("h2: {{ servers: [ \"http://{}\" ], protocol: h2 }}", server.address);
    let setup = Setup::default().listener("h2c: true").limits("{ body: 32KiB, off_for: [127.0.0.1/32] }").another_upstream(&upstream);
    let world = setup.route("{ path: /open/**, upstream: h2, public: true }").start().await;
    // Without a length, so that the limit strikes when the request has gone on.
    let chunk = format!("{:x}\r\n{}\r\n", 20 * 1024, "x".repeat(20 * 1024));
    let head = "POST /open/x HTTP/1.1\r\nHost: gateway.example.org\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(world.raw(format!("{head}{chunk}{chunk}0\r\n\r\n")).connect().await.status, 413);
    assert_eq!(world.raw(format!("{head}{chunk}no number\r\n")).connect().await.status, 400);
}

/// A body without end; counts what was taken of it.
struct Endless(Arc<AtomicUsize>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 8 * 1024] = [b'x'; 8 * 1024];
        self.0.fetch_add(PIECE.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE)))))
    }
}

/// A content server of HTTP/2 that answers `/open/endless` without end and anything else with 40 KiB; beside it how much of the former was taken.
async fn endless() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, taken) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let endless = request.uri().path() == "/open/endless";
                let body = if endless { Endless(Arc::clone(&count)).boxed() } else { Full::new(Bytes::from(vec![b'y'; 40 * 1024])).boxed() };
                async move { Ok::<_, Infallible>(Response::new(body)) }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).max_send_buf_size(16 * 1024).serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, taken)
}

#[tokio::test]
async fn clients_that_do_not_read_hold_up_nobody_else_on_the_same_connection() {
    const SLOW: usize = 90;
    let (address, taken) = endless().await;
    // One connection for all of them.
    let world = world(address, ", max_connections: 1").await;
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(1024).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..SLOW {
        let request = Request::get("http://gateway.example.org/open/endless").body(Full::<Bytes>::default()).unwrap();
        unread.push(sender.send_request(request).await.unwrap());
    }
    // All that one connection may hold by its window alone was 1 MiB once.
    until("the content server has sent what it may", async || (taken.load(Ordering::Relaxed) >= SLOW * 40 * 1024).then_some(())).await;
    let request = Request::get("http://gateway.example.org/open/small").body(Full::<Bytes>::default()).unwrap();
    let small = async { sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes().len() };
    // The client takes 1 KiB at a time of this one, and nothing of the others.
    assert_eq!(timeout(PATIENCE, small).await.expect("an answer while others are not read"), 40 * 1024);
    drop(unread);
}

/// A server that takes no body, the gateway in front of it, and one client; `more`: bodies beyond those that each connection has of its own.
async fn stuck(more: usize) -> (H2Server, World, H2) {
    let stuck = H2Server::start(|_, _| Deed::Ignore).await;
    let upstream = format!("h2: {{ servers: [ \"http://{}\" ], protocol: h2 }}", stuck.address);
    let setup = Setup::default().listener("h2c: true").settings(|settings| settings.uploads = more).another_upstream(&upstream);
    let world = setup.route("{ path: /open/**, upstream: h2, public: true }").start().await;
    let client = client(&world).await;
    (stuck, world, client)
}

/// So many uploads that end with what is returned.
fn uploads(client: &H2, count: usize) -> JoinSet<(u16, Bytes)> {
    (0..count).map(|_| client.clone()).map(|client| async move { ask(&client, "POST", vec![b'x'; 200 * 1024]).await }).collect()
}

/// The status of a body of 100 KiB that the content server takes.
async fn free(client: &H2) -> u16 {
    let request = Request::put("http://gateway.example.org/public/new.txt").body(Full::new(Bytes::from(vec![b'y'; 100 * 1024]))).unwrap();
    let mut client = client.0.clone();
    let answer = async { client.send_request(request).await.unwrap().status().as_u16() };
    timeout(PATIENCE, answer).await.expect("an answer while other uploads are stuck")
}

#[tokio::test]
async fn uploads_that_nobody_takes_hold_up_no_other_upload_of_the_same_client() {
    const STUCK: usize = 90;
    let (server, world, client) = stuck(1024).await;
    let _uploads = uploads(&client, STUCK);
    until("the content server has all of them", async || (server.heads() == STUCK).then_some(())).await;
    assert_ne!(free(&client).await, 503);
    assert!(world.upstream().requests().iter().any(|request| request.body_len == 100 * 1024), "it came whole");
}

#[tokio::test]
async fn uploads_beyond_what_memory_is_there_for_are_refused_and_each_client_has_its_own() {
    // 16 of its own, and all 4 that there are beside.
    let (server, world, greedy) = stuck(4).await;
    let greedy_uploads = uploads(&greedy, 20);
    until("the content server has all of them", async || (server.heads() == 20).then_some(())).await;
    assert_eq!(free(&greedy).await, 503);
    let without_a_body = greedy.clone().get("http://gateway.example.org/public/welcome.txt").await.unwrap();
    assert_eq!(without_a_body.status, 200);
    let modest = client(&world).await;
    assert_ne!(free(&modest).await, 503);
    drop(greedy_uploads);
    until("there is room again", async || (free(&greedy).await != 503).then_some(())).await;
}
