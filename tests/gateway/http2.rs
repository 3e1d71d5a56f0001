//! HTTP/2 on both sides of the gateway, and gRPC through it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use uma_gateway::demo::Gate;
use uma_gateway::demo::content_server::Reply;

use crate::support::h2_server::{PREFACE, frame};
use crate::support::tls::{Authority, H2, get, h1, server};
use crate::support::{LINK, Setup, World};

async fn h2c(world: &World) -> H2 {
    H2::over(TcpStream::connect(world.address()).await.unwrap()).await
}

fn with(url: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    fields.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value)).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_whole_decision_goes_over_http2_by_alpn() {
    let authority = Authority::new();
    authority.sign("photos", &["photos.example.org"]);
    let (crt, key) = (authority.path("photos.crt"), authority.path("photos.key"));
    let world = Setup::default().listener(&format!("tls: {{ certificates: [ {{ certificate: {crt}, key: {key} }} ] }}")).start().await;
    let mut client = authority.client().h2(world.address(), "photos.example.org").await;
    let url = format!("https://photos.example.org{LINK}");
    let refused = client.get(&url).await.unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").contains("ticket="));
    assert!(refused.header("connection").is_empty());
    let bearer = format!("Bearer {}", world.rpt(&["view"]));
    let passed = client.send(with(&url, &[("authorization", &bearer)])).await.unwrap();
    assert_eq!(passed.status, 200);
    let seen = world.upstream().requests();
    let last = seen.last().unwrap();
    assert!(last.header("via").is_some_and(|via| via.starts_with("2 uma-")), "{:?}", last.header("via"));
    assert_eq!(last.header("x-forwarded-host"), Some("photos.example.org"));
    // A client that does not choose gets HTTP/1.1.
    let plain = authority.client().connect(world.address(), "photos.example.org").await.unwrap();
    assert_eq!(h1(plain, get("/public/welcome.txt")).await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_that_end_without_the_word_of_tls_hold_no_worker_up() {
    let authority = Authority::new();
    authority.sign("photos", &["photos.example.org"]);
    let (crt, key) = (authority.path("photos.crt"), authority.path("photos.key"));
    let world = Setup::default().listener(&format!("tls: {{ certificates: [ {{ certificate: {crt}, key: {key} }} ] }}")).start().await;
    let mut ended = Vec::new();
    for _ in 0..8 {
        let mut stream = authority.client().protocols(&["h2"]).connect(world.address(), "photos.example.org").await.unwrap();
        stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
        stream.flush().await.unwrap();
        // What is not read would make a reset of the end.
        assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
        let (mut socket, _) = stream.into_inner();
        socket.shutdown().await.unwrap();
        ended.push(socket);
    }
    for _ in 0..20 {
        let answer = async {
            let plain = authority.client().connect(world.address(), "photos.example.org").await.unwrap();
            h1(plain, get("/public/welcome.txt")).await.unwrap().status
        };
        assert_eq!(tokio::time::timeout(crate::support::PATIENCE, answer).await.expect("in time"), 200);
    }
}

#[tokio::test]
async fn h2c_and_http1_share_a_port_where_it_is_asked_for_and_only_there() {
    let world = Setup::default().listener("h2c: true").start().await;
    assert_eq!(h2c(&world).await.get("http://gateway.example.org/public/welcome.txt").await.unwrap().status, 200);
    assert_eq!(world.get("/public/welcome.txt").connect().await.status, 200);
    // Half a preface, and then something else.
    let answer = world.raw(&b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n"[..]).connect().await;
    assert_eq!(answer.status, 400);

    let world = World::start().await;
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.windows(4).any(|window| window == b" 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn two_authorities_and_fields_of_a_connection_are_refused() {
    let world = Setup::default().listener("h2c: true, hosts: [ photos.example.org ]").start().await;
    let mut client = h2c(&world).await;
    let url = "http://photos.example.org/public/welcome.txt";
    assert_eq!(client.get(url).await.unwrap().status, 200);
    for (fields, status) in [
        (&[("host", "photos.example.org")][..], 200),
        (&[("host", "photos.example.org:80")], 200),
        (&[("host", "other.example.org")], 421),
        (&[("host", "photos.example.org:81")], 400),
        (&[("host", "photos.example.org"), ("host", "photos.example.org")], 400),
    ] {
        assert_eq!(client.send(with(url, fields)).await.unwrap().status, status, "{fields:?}");
    }
    assert_eq!(client.get("http://other.example.org/public/welcome.txt").await.unwrap().status, 421);
    let hits = world.upstream().hits();
    for field in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        // hyper's own client would take them out, so the frame is written by hand.
        assert!(raw_request(&world, &[(field, "chunked")]).await, "{field}");
    }
    assert!(raw_request(&world, &[("te", "gzip")]).await);
    assert_eq!(world.upstream().hits(), hits, "none of them went on");
}

/// Sends a request whose fields nobody looked at; whether it was reset, or the connection closed, without an answer.
async fn raw_request(world: &World, fields: &[(&str, &str)]) -> bool {
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 18];
    block.extend(b"photos.example.org");
    for (name, value) in fields {
        block.extend([0, u8::try_from(name.len()).unwrap()]);
        block.extend(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    }
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)].concat()).await.unwrap();
    loop {
        match next_frame(&mut stream).await {
            Some((1, _)) => return false,
            Some((3, _)) | None => return true,
            Some(_) => {}
        }
    }
}

/// The kind of the next frame, and its payload.
async fn next_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

#[tokio::test]
async fn the_crumbs_of_a_cookie_are_one_field_and_too_many_fields_are_refused() {
    let world = Setup::default().listener("h2c: true").start().await;
    let mut client = h2c(&world).await;
    let url = "http://gateway.example.org/public/welcome.txt";
    let crumbs: Vec<(&str, &str)> = std::iter::repeat_n(("cookie", "a=1"), 150).collect();
    assert_eq!(client.send(with(url, &crumbs)).await.unwrap().status, 200);
    let seen = world.upstream().requests();
    let cookie = seen.last().unwrap().header("cookie").unwrap_or_default().to_owned();
    assert_eq!(cookie.split("; ").count(), 150);
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(client.send(with(url, &many)).await.unwrap().status, 431);
    let large = "x".repeat(33 * 1024);
    assert_eq!(client.send(with(url, &[("x-large", &large)])).await.unwrap().status, 431);
}

#[tokio::test]
async fn a_silent_preface_an_idle_connection_and_requests_that_are_taken_back_end() {
    let setup = Setup::default().listener("h2c: true").settings(|settings| {
        // Whoever is to be served has so long, even where the machine stands still for a while.
        settings.head = Duration::from_secs(3);
        settings.idle = Duration::from_secs(3);
        settings.ping = Duration::from_secs(1);
    });
    let world = setup.start().await;
    let started = Instant::now();
    let mut silent = TcpStream::connect(world.address()).await.unwrap();
    silent.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    while next_frame(&mut silent).await.is_some() {}
    assert!(started.elapsed() >= Duration::from_millis(2_900));

    // Pings are answered, and do not keep it alive.
    let mut idle = h2c(&world).await;
    assert_eq!(idle.get("http://gateway.example.org/public/welcome.txt").await.unwrap().status, 200);
    crate::support::until("it is closed", async || idle.0.is_closed().then_some(())).await;

    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 18];
    block.extend(b"photos.example.org");
    let mut sent = 0;
    for number in 0..2_000_u32 {
        let id = number * 2 + 1;
        let both = [frame(1, 5, id, &block), frame(3, 0, id, &8_u32.to_be_bytes())].concat();
        if stream.write_all(&both).await.is_err() {
            break;
        }
        sent = number;
    }
    while next_frame(&mut stream).await.is_some() {}
    assert!(sent < 1_999 || world.upstream().hits() < 1_000, "the flood was borne: {sent}");
}

/// What may not come in trailers, in either direction.
const OF_A_HEAD: [&str; 9] =
    ["www-authenticate", "set-cookie", "x-request-id", "x-forwarded-for", "via", "traceparent", "content-type", "cache-control", "access-control-allow-origin"];

/// What a content server of HTTP/2 saw.
type Seen = Arc<Mutex<Vec<(Version, http::request::Parts, Option<HeaderMap>)>>>;

/// A content server that speaks HTTP/2 only, and answers as gRPC servers do: a message, and the status in the trailers.
async fn grpc_server(tls: Option<Arc<rustls::ServerConfig>>) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let saw = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (saw, tls) = (Arc::clone(&saw), tls.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| answer(request, Arc::clone(&saw)));
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                match tls {
                    None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                    Some(tls) => {
                        let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            });
        }
    });
    (address, seen)
}

async fn answer(request: Request<Incoming>, seen: Seen) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let all = body.collect().await;
    let (message, trailers) = all.map_or_else(
        |_| (Bytes::new(), None),
        |all| {
            let trailers = all.trailers().cloned();
            (all.to_bytes(), trailers)
        },
    );
    // h2 bears few empty frames.
    let message = if message.is_empty() { Bytes::from_static(b"nothing") } else { message };
    seen.lock().unwrap().push((head.version, head, trailers));
    let mut end = HeaderMap::new();
    end.insert("grpc-status", "0".parse().unwrap());
    for name in OF_A_HEAD {
        end.insert(name, "x".parse().unwrap());
    }
    let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(end))];
    Ok(Response::builder().header("content-type", "application/grpc").body(StreamBody::new(futures_util::stream::iter(frames)).boxed()).unwrap())
}

async fn grpc_world(scheme: &str, address: SocketAddr, more: &str) -> World {
    let upstream = format!("grpc: {{ servers: [ \"{scheme}://{address}\" ], {more} }}");
    let protected = "{ path: /photos.Albums/**, upstream: grpc, protect: { resource: { name: vacation, owner: alice }, scopes: { POST: [view] } } }";
    Setup::default().listener("h2c: true").another_upstream(&upstream).route(protected).route("{ path: /open/**, upstream: grpc, public: true }").start().await
}

/// A call with a message and trailers of the client's.
async fn call(world: &World, path: &str, token: Option<&str>) -> (Response<()>, Bytes, Option<HeaderMap>) {
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "7".parse().unwrap());
    for name in OF_A_HEAD.into_iter().chain(["x-forwarded-user", "x-forwarded-port", "authorization", "cookie", "x_user", "tracestate", "range"]) {
        trailers.insert(name, "mallory".parse().unwrap());
    }
    let frames: [Result<_, Infallible>; 2] = [Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"))), Ok(Frame::trailers(trailers))];
    let mut request = Request::post(format!("http://gateway.example.org{path}")).header("content-type", "application/grpc+proto").header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let (head, body) = sender.send_request(request.body(BodyExt::boxed(body)).unwrap()).await.unwrap().into_parts();
    let all = body.collect().await.unwrap();
    let trailers = all.trailers().cloned();
    (Response::from_parts(head, ()), all.to_bytes(), trailers)
}

#[tokio::test]
async fn a_call_goes_through_with_its_trailers_both_ways_and_a_refusal_speaks_grpc() {
    let (address, seen) = grpc_server(None).await;
    let world = grpc_world("http", address, "protocol: h2").await;
    let (refused, message, _) = call(&world, "/photos.Albums/List", None).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["grpc-status"].to_str().unwrap(), message.len()), (200, "16", 0));
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains("ticket="));
    assert_eq!(refused.headers()["content-type"], "application/grpc");
    let (unknown, ..) = call(&world, "/nothing/List", None).await;
    assert_eq!(unknown.headers()["grpc-status"], "12");
    assert!(seen.lock().unwrap().is_empty());

    let token = world.rpt(&["view"]);
    let (passed, message, trailers) = call(&world, "/photos.Albums/List", Some(&token)).await;
    assert_eq!((passed.status().as_u16(), &message[..]), (200, &b"\0\0\0\0\x02hi"[..]));
    let trailers = trailers.expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    let seen = seen.lock().unwrap();
    let (version, head, trailers) = &seen[0];
    assert_eq!((*version, head.uri.path(), head.headers["te"].to_str().unwrap()), (Version::HTTP_2, "/photos.Albums/List", "trailers"));
    assert_eq!(head.uri.authority().map(http::uri::Authority::as_str), Some(address.to_string().as_str()));
    assert!(!head.headers.contains_key("authorization"));
    let trailers = trailers.as_ref().expect("the client's trailers");
    assert_eq!(trailers["x-checksum"], "7");
    assert_eq!(trailers.len(), 1, "nobody poses in trailers: {trailers:?}");
}

/// A call whose message comes in so many pieces, 50 ms after one another: the status that the client reads, in the head or in the trailers.
async fn dripping(world: &World, path: &str, pieces: usize) -> String {
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let drops = futures_util::stream::unfold(pieces, async |left| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), left.checked_sub(1)?))
    });
    let request = Request::post(format!("http://gateway.example.org{path}")).header("content-type", "application/grpc");
    let (head, body) = sender.send_request(request.body(BodyExt::boxed_unsync(StreamBody::new(Box::pin(drops)))).unwrap()).await.unwrap().into_parts();
    let all = body.collect().await.unwrap();
    let status = head.headers.get("grpc-status").or_else(|| all.trailers().and_then(|trailers| trailers.get("grpc-status")));
    status.map_or_else(|| format!("none, {}", head.status), |status| status.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn only_where_a_server_of_http2_is_asked_a_call_may_take_longer_than_other_bodies() {
    let (address, _) = grpc_server(None).await;
    let upstream = format!("grpc: {{ servers: [ \"http://{address}\" ], protocol: h2 }}");
    let setup = Setup::default().listener("h2c: true").another_upstream(&upstream).route("{ path: /open/**, upstream: grpc, public: true }");
    let world = setup.settings(|settings| settings.whole_body = Duration::from_millis(400)).start().await;
    assert_eq!(dripping(&world, "/public/Albums/List", 60).await, "4", "it took too long");
    assert_eq!(dripping(&world, "/open/Albums/List", 20).await, "0");
}

#[tokio::test]
async fn an_upstream_chooses_the_protocol_in_the_handshake() {
    let authority = Authority::new();
    authority.sign("content", &["127.0.0.1"]);
    let (crt, key): (PathBuf, PathBuf) = (authority.file("content.crt"), authority.file("content.key"));
    let ca = authority.path("ca.pem");
    for protocol in ["h2", "auto"] {
        let (address, seen) = grpc_server(Some(server(&crt, &key, &["h2"], None))).await;
        let world = grpc_world("https", address, &format!("protocol: {protocol}, tls: {{ ca: {ca} }}")).await;
        for _ in 0..3 {
            assert_eq!(world.get("/open/a").connect().await.status, 200);
        }
        assert!(seen.lock().unwrap().iter().all(|(version, ..)| *version == Version::HTTP_2));
    }
    // Who must speak HTTP/2 and does not is a bad gateway.
    let (address, _) = grpc_server(Some(server(&crt, &key, &[], None))).await;
    let world = grpc_world("https", address, &format!("protocol: h2, tls: {{ ca: {ca} }}")).await;
    assert_eq!(world.get("/open/a").connect().await.status, 502);
}

#[tokio::test]
async fn many_requests_at_once_share_a_connection_to_an_upstream_of_http2() {
    let (address, seen) = grpc_server(None).await;
    let world = grpc_world("http", address, "protocol: h2").await;
    let mut client = h2c(&world).await;
    let ask = async |number: usize| {
        let mut client = H2(client.0.clone());
        client.get(&format!("http://gateway.example.org/open/{number}")).await.unwrap().status
    };
    let all = futures_util::future::join_all((0..300).map(ask)).await;
    assert!(all.iter().all(|status| *status == 200));
    assert_eq!(seen.lock().unwrap().len(), 300);
    assert_eq!(client.get("http://gateway.example.org/open/last").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_gateway_that_stops_says_goaway_and_finishes_what_is_under_way() {
    let world = Setup::default().listener("h2c: true").settings(|settings| settings.drain = Duration::from_secs(5)).start().await;
    let gate = Gate::closed();
    world.upstream().reply_next(1, Reply::ok("late").behind(&gate));
    let mut client = h2c(&world).await;
    let mut late = H2(client.0.clone());
    let url = "http://gateway.example.org/public/welcome.txt";
    let under_way = tokio::spawn(async move { late.get(url).await.map(|answer| answer.status) });
    crate::support::until("the content server has it", async || (world.upstream().hits() > 0).then_some(())).await;
    let World { gateway, .. } = world;
    let stopping = tokio::task::spawn_blocking(move || gateway.stop(Duration::from_secs(5)));
    crate::support::until("it says so", async || client.get(url).await.is_err().then_some(())).await;
    gate.open();
    assert_eq!(under_way.await.unwrap().unwrap(), 200);
    stopping.await.unwrap();
}
