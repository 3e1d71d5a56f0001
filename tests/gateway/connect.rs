//! WebSocket over HTTP/2 by extended CONNECT (RFC 8441): decided as the handshake of HTTP/1.1 is, carried on one stream, towards servers of either protocol.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use uma_gateway::demo::content_server::Reply;

use crate::support::{PATIENCE, Setup, World, until};
use crate::websocket::{Echo, says_back, world};

type Client = http2::SendRequest<Empty<Bytes>>;
type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A client that has read the server's settings, and with them that extended CONNECT is taken.
async fn client(world: &World) -> Client {
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let (sender, mut connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    // Settings wake whoever drives the frames, which is not this task: it looks until they are there.
    let announced = async {
        while !connection.is_extended_connect_protocol_enabled() {
            let _ = poll_fn(|context| std::task::Poll::Ready(Pin::new(&mut connection).poll(context))).await;
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, announced).await.expect("SETTINGS_ENABLE_CONNECT_PROTOCOL is announced");
    tokio::spawn(connection);
    sender
}

fn asks(path: &str, protocol: &'static str, token: Option<&str>) -> Request<Empty<Bytes>> {
    let mut request =
        Request::connect(format!("http://gateway.example.org{path}")).header("sec-websocket-version", "13").header("sec-websocket-protocol", "chat");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut request = request.body(Empty::new()).unwrap();
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

async fn answer(client: &mut Client, request: Request<Empty<Bytes>>) -> Response<hyper::body::Incoming> {
    timeout(PATIENCE, client.send_request(request)).await.expect("in time").expect("an answer")
}

/// Opens one, and gives the head of its answer beside.
async fn open(client: &mut Client, path: &str, token: Option<&str>) -> (HeaderMap, Socket) {
    let mut opened = answer(client, asks(path, "websocket", token)).await;
    assert_eq!(opened.status(), 200);
    let stream = hyper::upgrade::on(&mut opened).await.expect("a stream");
    (opened.headers().clone(), WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await)
}

async fn ends(socket: &mut Socket) {
    let end = timeout(PATIENCE, socket.next()).await.expect("it ends");
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

fn h2c(setup: Setup) -> Setup {
    setup.listener("h2c: true")
}

#[tokio::test]
async fn messages_go_both_ways_beside_other_requests_and_the_server_sees_a_handshake_of_http1() {
    let echo = Echo::start().await;
    let world = world(&echo, "", h2c).await;
    let rpt = world.rpt(&["view"]);
    let mut client = client(&world).await;
    let (head, mut socket) = open(&mut client, "/live/chat", Some(&rpt)).await;
    for name in ["sec-websocket-accept", "connection", "upgrade", "content-length"] {
        assert!(!head.contains_key(name), "{name}");
    }
    for text in ["one", "two", &"x".repeat(1 << 20)] {
        says_back(&mut socket, text).await;
    }
    let plain = Request::get("http://gateway.example.org/public/welcome.txt").body(Empty::new()).unwrap();
    assert_eq!(answer(&mut client, plain).await.status(), 200);
    assert!(world.metrics().await.contains("\numa_gateway_tunnels 1\n"));
    socket.close(None).await.expect("it closes");
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    until("the tunnel's end", async || world.metrics().await.contains("\numa_gateway_tunnels 0\n").then_some(())).await;
    let heads = echo.heads();
    assert_eq!(heads.len(), 1);
    for field in ["authorization: Basic ", "upgrade: websocket", "connection: upgrade", "sec-websocket-key: ", "sec-websocket-protocol: chat", "via: 2 uma-"] {
        assert!(heads[0].contains(field), "{field}: {heads:?}");
    }
    assert!(!heads[0].contains(&rpt));
    let line = until("the record", async || world.audit().await.into_iter().find(|line| line["url.path"] == "/live/chat")).await;
    assert_eq!(line["uma.rows"], serde_json::json!(["I4", "E10", "U1"]));
    assert_eq!(line["http.response.status_code"], 200);
}

#[tokio::test]
async fn without_a_permission_a_ticket_is_given_and_nothing_reaches_the_server() {
    let echo = Echo::start().await;
    let world = world(&echo, "", h2c).await;
    let mut client = client(&world).await;
    let edit = world.rpt(&["edit"]);
    for token in [None, Some(edit.as_str())] {
        let refused = answer(&mut client, asks("/live/chat", "websocket", token)).await;
        assert_eq!(refused.status(), 401);
        assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains("ticket="));
        refused.collect().await.expect("it ends");
    }
    assert!(echo.heads().is_empty());
}

#[tokio::test]
async fn other_protocols_routes_without_an_upgrade_and_a_bare_connect_are_refused() {
    let echo = Echo::start().await;
    let world = world(&echo, "", h2c).await;
    let mut client = client(&world).await;
    let rpt = world.rpt(&["view"]);
    for (path, protocol, status) in [
        ("/live/chat", "connect-udp", 501),
        ("/live/chat", "websocket2", 501),
        ("/plain/x", "websocket", 405),
        ("/public/x", "websocket", 405),
        ("/nowhere", "websocket", 404),
    ] {
        assert_eq!(answer(&mut client, asks(path, protocol, Some(&rpt))).await.status(), status, "{path} {protocol}");
    }
    let bare = Request::builder().method(Method::CONNECT).uri("gateway.example.org:80").body(Empty::new()).unwrap();
    assert_eq!(answer(&mut client, bare).await.status(), 405);
    assert!(echo.heads().is_empty() && world.upstream().saw_nothing());
}

#[tokio::test]
async fn a_server_that_does_not_change_its_protocol_is_heard_unless_it_says_that_all_is_well() {
    let route = "{ path: /maybe/**, upstream: content, upgrade: [websocket], public: true }";
    let world = Setup::default().listener("h2c: true").route(route).start().await;
    let mut client = client(&world).await;
    for (reply, status) in [
        (Reply::status(403), 403),
        (Reply::ok("not a tunnel"), 502),
        (Reply::status(204), 502),
        (Reply::switching("h2c"), 502),
        // It says nothing of having read the key.
        (Reply::switching("websocket"), 502),
    ] {
        world.upstream().reply_next(1, reply);
        let answer = answer(&mut client, asks("/maybe/x", "websocket", None)).await;
        assert_eq!(answer.status(), status);
        let _ = answer.collect().await;
    }
}

#[tokio::test]
async fn it_is_cut_when_the_permission_expires_and_when_it_is_withdrawn() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| h2c(setup).server("introspection: { max_age: 1s }")).await;
    let mut client = client(&world).await;
    let short = world.control().grant_rpt("bob", &[("vacation", &["view"])], 6);
    let (_, mut expiring) = open(&mut client, "/live/expires", Some(&short)).await;
    says_back(&mut expiring, "one").await;
    let rpt = world.rpt(&["view"]);
    let (_, mut withdrawn) = open(&mut client, "/live/withdrawn", Some(&rpt)).await;
    says_back(&mut withdrawn, "one").await;
    world.control().revoke(&rpt);
    ends(&mut withdrawn).await;
    ends(&mut expiring).await;
    for path in ["/live/expires", "/live/withdrawn"] {
        let line = until("the record", async || world.audit().await.into_iter().find(|line| line["url.path"] == path)).await;
        assert_eq!(line["uma.rows"], serde_json::json!(["I4", "E10", "U1", "U6"]));
    }
    let plain = Request::get("http://gateway.example.org/public/welcome.txt").body(Empty::new()).unwrap();
    assert_eq!(answer(&mut client, plain).await.status(), 200, "only its own stream ends");
}

/// A server that takes one handshake, says so, and leaves the rest to the test.
async fn one_handshake(listener: TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    socket.get_mut().flush().await.unwrap();
    socket.into_inner()
}

/// A stream of a client that can reset it.
async fn stream(world: &World) -> (h2::SendStream<Bytes>, h2::RecvStream) {
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    let ready = poll_fn(|context| {
        let _ = Pin::new(&mut connection).poll(context);
        if sender.is_extended_connect_protocol_enabled() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    ready.await;
    tokio::spawn(connection);
    let mut request = Request::connect("http://gateway.example.org/open/x").header("sec-websocket-version", "13").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, sending) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    (sending, answer.into_body())
}

async fn raw_world(change: impl FnOnce(Setup) -> Setup) -> (World, TcpListener) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let upstream = format!("raw: {{ servers: [ \"http://{}\" ] }}", listener.local_addr().unwrap());
    let route = "{ path: /open/**, upstream: raw, upgrade: [websocket], public: true }";
    (change(Setup::default().listener("h2c: true").another_upstream(&upstream).route(route)).start().await, listener)
}

#[tokio::test]
async fn a_stream_that_the_client_resets_ends_the_servers_connection() {
    let (world, listener) = raw_world(|setup| setup).await;
    let ((mut sending, _receiving), mut server) = tokio::join!(stream(&world), one_handshake(listener));
    sending.send_data(Bytes::from_static(b"hi"), false).unwrap();
    let mut two = [0; 2];
    server.read_exact(&mut two).await.unwrap();
    sending.send_reset(h2::Reason::CANCEL);
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, server.read_to_end(&mut rest)).await.expect("it ends");
    assert!(end.is_err() || rest.is_empty());
}

#[tokio::test]
async fn a_connection_that_the_server_ends_or_breaks_off_ends_the_stream() {
    for breaks in [false, true] {
        let (world, listener) = raw_world(|setup| setup).await;
        let ((_sending, mut receiving), mut server) = tokio::join!(stream(&world), one_handshake(listener));
        server.write_all(b"bye").await.unwrap();
        let first = timeout(PATIENCE, receiving.data()).await.expect("in time").unwrap().unwrap();
        assert_eq!(&first[..], b"bye");
        if breaks {
            server.set_zero_linger().unwrap();
        }
        drop(server);
        let end = timeout(PATIENCE, receiving.data()).await.expect("it ends");
        assert!(end.is_none_or(|piece| piece.is_err() || piece.is_ok_and(|bytes| bytes.is_empty())));
    }
}

/// A server of HTTP/2 that says everything back on the streams of extended CONNECT.
async fn h2_server(takes_connect: bool) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service = hyper::service::service_fn(async |mut request: Request<hyper::body::Incoming>| {
                    let websocket = request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
                    assert!(websocket && request.method() == Method::CONNECT && !request.headers().contains_key("sec-websocket-key"));
                    let stream = hyper::upgrade::on(&mut request);
                    tokio::spawn(async move {
                        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(stream.await.unwrap()));
                        let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    });
                    Ok::<_, std::convert::Infallible>(Response::builder().header("sec-websocket-protocol", "chat").body(Empty::<Bytes>::new()).unwrap())
                });
                let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                if takes_connect {
                    http.enable_connect_protocol();
                }
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_of_http2_gets_an_extended_connect_whatever_the_client_speaks_if_it_takes_one() {
    for takes_connect in [true, false] {
        let address = h2_server(takes_connect).await;
        let upstream = format!("live: {{ servers: [ \"http://{address}\" ], protocol: h2 }}");
        let route = "{ path: /live/**, upstream: live, upgrade: [websocket], public: true }";
        let world = Setup::default().listener("h2c: true").another_upstream(&upstream).route(route).start().await;
        let handshake = "GET /live/x HTTP/1.1\r\nHost: gateway.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let mut old = crate::support::Connection::open(world.address(), None).await;
        old.send(handshake.as_bytes()).await;
        let (status, head) = timeout(PATIENCE, old.head()).await.expect("in time").expect("a head");
        let mut client = client(&world).await;
        if takes_connect {
            assert_eq!(status, 101);
            assert_eq!(head["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            for _ in 0..3 {
                let (head, socket) = open(&mut client, "/live/x", None).await;
                assert_eq!(head["sec-websocket-protocol"], "chat");
                let mut stream = socket.into_inner();
                stream.write_all(b"ping").await.unwrap();
                let mut back = [0; 4];
                timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").unwrap();
                assert_eq!(&back, b"ping");
            }
        } else {
            assert_eq!(status, 502);
            assert_eq!(answer(&mut client, asks("/live/x", "websocket", None)).await.status(), 502);
        }
    }
}

#[tokio::test]
async fn a_gateway_that_stops_cuts_it_at_the_end_of_its_patience() {
    let echo = Echo::start().await;
    let world = world(&echo, "", h2c).await;
    let mut client = client(&world).await;
    let (_, mut socket) = open(&mut client, "/open/x", None).await;
    says_back(&mut socket, "one").await;
    let World { gateway, .. } = world;
    let stopping = tokio::task::spawn_blocking(move || gateway.stop(Duration::from_millis(200)));
    ends(&mut socket).await;
    stopping.await.unwrap();
}

#[tokio::test]
async fn one_that_a_stopping_gateway_cuts_is_recorded_as_it_was_answered_in_either_protocol() {
    let echo = Echo::start().await;
    let world = world(&echo, "", h2c).await;
    let rpt = world.rpt(&["view"]);
    let mut client = client(&world).await;
    let (_, mut socket) = open(&mut client, "/live/h2", Some(&rpt)).await;
    let mut old = crate::websocket::open(&world, "/live/h1", Some(&rpt)).await.expect("it is opened");
    says_back(&mut socket, "one").await;
    says_back(&mut old, "one").await;
    let log = world.file("audit.log");
    let World { gateway, folder, .. } = world;
    tokio::task::spawn_blocking(move || gateway.stop(Duration::from_millis(200))).await.unwrap();
    let lines: Vec<serde_json::Value> = std::fs::read_to_string(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (path, status) in [("/live/h2", 200), ("/live/h1", 101)] {
        let line = lines.iter().find(|line| line["url.path"] == path).unwrap_or_else(|| panic!("{path}: {lines:?}"));
        assert_eq!(line["http.response.status_code"], status);
    }
    drop(folder);
}

/// The handshake of a client of HTTP/1.1.
async fn handshake(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    let text = "GET /open/x HTTP/1.1\r\nHost: gateway.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream
}

#[tokio::test]
async fn a_client_that_has_ended_or_takes_nothing_does_not_hold_the_server_for_ever_in_either_protocol() {
    for (over_h2, client_ends) in [(false, true), (true, true), (false, false), (true, false)] {
        let (world, listener) = raw_world(|setup| setup.settings(|settings| settings.write = Duration::from_millis(500))).await;
        let (mut old, mut new, mut server) = if over_h2 {
            let (new, server) = tokio::join!(stream(&world), one_handshake(listener));
            (None, Some(new), server)
        } else {
            let (old, server) = tokio::join!(handshake(&world), one_handshake(listener));
            (Some(old), None, server)
        };
        match (&mut old, &mut new) {
            (Some(old), _) if client_ends => old.shutdown().await.unwrap(),
            (_, Some((sending, _))) if client_ends => sending.send_data(Bytes::new(), true).unwrap(),
            _ => {}
        }
        // It never stops: little, which is taken, or more than all buffers hold.
        let piece = if client_ends { &b"more"[..] } else { &[b'x'; 64 * 1024] };
        let talk = async {
            while server.write_all(piece).await.is_ok() {
                if client_ends {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        timeout(3 * PATIENCE, talk).await.unwrap_or_else(|_| panic!("over HTTP/2: {over_h2}, the client ends: {client_ends}"));
        if let (Some(old), false) = (old, client_ends) {
            let reset = timeout(PATIENCE, old.ready(tokio::io::Interest::ERROR)).await;
            assert!(reset.is_ok_and(|ready| ready.unwrap().is_error()), "the kernel keeps nothing for it either");
        }
    }
}

#[tokio::test]
async fn a_server_that_takes_nothing_does_not_hold_the_client_for_ever() {
    let (world, listener) = raw_world(|setup| setup.settings(|settings| settings.write = Duration::from_millis(500))).await;
    let (mut client, _server) = tokio::join!(handshake(&world), one_handshake(listener));
    let piece = [b'x'; 64 * 1024];
    let talk = async { while client.write_all(&piece).await.is_ok() {} };
    timeout(3 * PATIENCE, talk).await.expect("it ends");
}
