//! WebSocket through the whole gateway, with a real client and a real server: decided at the handshake, cut when the permission ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::response::Row;

use crate::support::tls::{Authority, server};
use crate::support::{Connection, LINK, PATIENCE, Setup, World, row_tests, until};

row_tests! {
    U6: a_connection_whose_permission_ends_is_cut;
}

/// A server that says everything back, and keeps the heads that it saw.
pub struct Echo {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, Arc::clone(&seen)));
            }
        });
        Self { address, heads }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Mutex<Vec<String>>>) {
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let fields: Vec<String> = request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default())).collect();
        seen.lock().expect("no panic").push(fields.join("\n"));
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, note).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}

pub type Socket = WebSocketStream<TcpStream>;

pub async fn world(echo: &Echo, route: &str, change: impl FnOnce(Setup) -> Setup) -> World {
    change(setup(echo, route)).start().await
}

fn setup(echo: &Echo, route: &str) -> Setup {
    let upstream =
        format!("live: {{ servers: [ \"http://{}\" ], credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }} }}", echo.address);
    let protected = format!(
        "{{ path: /live/**, upstream: live, upgrade: [websocket]{route}, protect: {{ resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view] }} }} }}"
    );
    let open = "{ path: /open/**, upstream: live, upgrade: [websocket], public: true }";
    let plain = "{ path: /plain/**, upstream: live, public: true }";
    Setup::default().another_upstream(&upstream).route(&protected).route(open).route(plain)
}

pub async fn open(world: &World, path: &str, token: Option<&str>) -> Result<Socket, Error> {
    let stream = TcpStream::connect(world.address()).await.expect("the gateway listens");
    let mut request = format!("ws://gateway.example.org{path}").into_client_request().expect("a request");
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("a value"));
    }
    timeout(PATIENCE, client_async(request, stream)).await.expect("in time").map(|(socket, _)| socket)
}

pub async fn says_back(socket: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>, text: &str) {
    socket.send(Message::text(text)).await.expect("it is open");
    let answer = timeout(PATIENCE, socket.next()).await.expect("in time").expect("a message").expect("it is open");
    assert_eq!(answer, Message::text(text));
}

/// Waits until the connection ends, saying nothing.
async fn ends(socket: &mut Socket) {
    let end = timeout(PATIENCE, socket.next()).await.expect("it ends");
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

fn status(error: Result<Socket, Error>) -> u16 {
    match error {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{:?}", other.map(|_| "a connection")),
    }
}

#[tokio::test]
async fn messages_go_both_ways_and_the_server_sees_the_gateways_credential_only() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup).await;
    let rpt = world.rpt(&["view"]);
    let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
    for text in ["one", "two", &"x".repeat(1 << 20)] {
        says_back(&mut socket, text).await;
    }
    assert!(world.metrics().await.contains("\numa_gateway_tunnels 1\n"));
    socket.close(None).await.expect("it closes");
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    until("the tunnel's end", async || world.metrics().await.contains("\numa_gateway_tunnels 0\n").then_some(())).await;
    let heads = echo.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].contains("authorization: Basic ") && heads[0].contains("upgrade: websocket") && heads[0].contains("connection: upgrade"), "{heads:?}");
    assert!(!heads[0].contains(&rpt));
    let line = until("the record", async || world.audit().await.into_iter().find(|line| line["url.path"] == "/live/chat")).await;
    assert_eq!(line["http.response.status_code"], 101);
    assert_eq!(line["uma.rows"], serde_json::json!(["I4", "E10", "U1"]));
}

#[tokio::test]
async fn a_public_route_needs_no_token_and_is_never_cut() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup.server("introspection: { max_age: 1s }")).await;
    let mut socket = open(&world, "/open/chat", None).await.expect("it is opened");
    says_back(&mut socket, "one").await;
    assert!(timeout(Duration::from_millis(1500), socket.next()).await.is_err(), "it stays");
    says_back(&mut socket, "two").await;
}

#[tokio::test]
async fn without_a_permission_nothing_is_tunnelled_and_what_was_sent_along_is_not_read() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup).await;
    assert_eq!(status(open(&world, "/live/chat", None).await), 401);
    let edit = world.rpt(&["edit"]);
    assert_eq!(status(open(&world, "/live/chat", Some(&edit)).await), 401);
    let handshake = "GET /live/chat HTTP/1.1\r\nHost: gateway.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut connection = Connection::open(world.address(), None).await;
    connection.send(format!("{handshake}GET /public/welcome.txt HTTP/1.1\r\nHost: gateway.example.org\r\n\r\n").as_bytes()).await;
    let answer = connection.answer(false).await;
    assert_eq!((answer.status, answer.header("connection")), (401, "close"));
    assert!(connection.ends().await);
    assert!(echo.heads().is_empty() && world.upstream().saw_nothing());
}

#[tokio::test]
async fn a_route_that_says_nothing_of_upgrades_passes_the_offer_over() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup).await;
    world.upstream().reply_next(1, uma_gateway::demo::content_server::Reply::ok("plain"));
    let exchange = world.get("/public/x").header("Connection", "Upgrade").header("Upgrade", "websocket").header("Sec-WebSocket-Key", "x").await;
    assert_eq!((exchange.status(), exchange.answer.header("connection")), (200, "close"));
    let seen = world.upstream().last().expect("one request");
    assert!(seen.header("upgrade").is_none() && seen.header("connection").is_none());
}

#[tokio::test]
async fn a_server_that_does_not_change_its_protocol_is_heard_and_a_wrong_change_is_not() {
    let world = Setup::default().route("{ path: /maybe/**, upstream: content, upgrade: [websocket], public: true }").start().await;
    world.upstream().reply_next(1, uma_gateway::demo::content_server::Reply::status(403));
    assert_eq!(status(open(&world, "/maybe/x", None).await), 403);
    world.upstream().reply_next(1, uma_gateway::demo::content_server::Reply::switching("h2c"));
    assert_eq!(status(open(&world, "/maybe/x", None).await), 502);
    world.upstream().reply_next(1, uma_gateway::demo::content_server::Reply::switching("websocket"));
    assert_eq!(world.get("/public/x").await.status(), 502, "101 that nobody asked for");
}

async fn a_connection_whose_permission_ends_is_cut(row: Row) {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup.server("introspection: { max_age: 1h }")).await;
    let rpt = world.control().grant_rpt("bob", &[("vacation", &["view"])], 6);
    let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
    says_back(&mut socket, "one").await;
    ends(&mut socket).await;
    let line = until("the record", async || world.audit().await.into_iter().find(|line| line["url.path"] == "/live/chat")).await;
    assert_eq!(line["uma.rows"], serde_json::json!(["I4", "E10", "U1", row.label()]));
    assert_eq!(status(open(&world, "/live/chat", Some(&rpt)).await), 401);
}

#[tokio::test]
async fn a_withdrawal_cuts_within_max_age() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup.server("introspection: { max_age: 1s }")).await;
    let rpt = world.rpt(&["view"]);
    let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
    let calls = world.control().calls(Endpoint::Introspection);
    // Asked again and again, it stays.
    world.control().called(Endpoint::Introspection, calls + 2).await;
    says_back(&mut socket, "one").await;
    world.control().revoke(&rpt);
    ends(&mut socket).await;
}

#[tokio::test]
async fn a_reload_cuts_what_its_routes_would_not_open_and_nothing_else() {
    let echo = Echo::start().await;
    let setup = || setup(&echo, "").server("introspection: { max_age: 1s }");
    let world = setup().start().await;
    let text = setup().yaml(world.server.issuer(), world.content_address());
    let rpt = world.rpt(&["view"]);
    let needs = "protect: { resource: { name: vacation, owner: alice }, scopes: { GET: [view] } } }";
    let route = format!("{{ path: /live/**, upstream: live, upgrade: [websocket], {needs}");
    assert!(text.contains(&route), "{text}");
    for (from, to, stays) in [
        ("path: /live/**", "path: /dead/**", false),
        ("upgrade: [websocket], protect", "protect", false),
        ("GET: [view]", "GET: [edit]", false),
        ("GET: [view]", "PUT: [edit]", false),
        ("name: vacation", "name: holidays", false),
        (needs, "protect: { mode: guard, accept: { basic: { username: gateway, password: { env: PROXY_PASSWORD } } } } }", false),
        ("GET: [view]", "GET: [view], PUT: [edit]", true),
        (needs, "public: true }", true),
    ] {
        world.reload(&text).await;
        let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
        says_back(&mut socket, "one").await;

        world.reload(&text.replace(&route, &route.replace(from, to))).await;

        if stays {
            let calls = world.control().calls(Endpoint::Introspection);
            world.control().called(Endpoint::Introspection, calls + 2).await;
            says_back(&mut socket, "two").await;
        } else {
            ends(&mut socket).await;
        }
    }
}

#[cfg(feature = "store")]
#[tokio::test]
async fn a_share_that_its_owner_withdraws_cuts_though_the_server_grants_it_still() {
    use serde_json::{Value, json};

    use crate::shares::KEY;

    let echo = Echo::start().await;
    let route = "{ path: /chat/**, upstream: live, upgrade: [websocket], protect: { resource: { shared: true }, scopes: { GET: [view] } } }";
    let world = world(&echo, "", |setup| setup.shares().server("introspection: { max_age: 1s }").route(route)).await;
    let share = world.api("POST", "/shares", KEY, &json!({ "path": "/chat/room", "owner": "alice", "name": "Room" })).await.json();
    let rpt = world.control().grant_rpt("bob", &[("Room", &["view"])], 300);
    let mut socket = open(&world, "/chat/room", Some(&rpt)).await.expect("open");
    says_back(&mut socket, "hello").await;
    world.control().fail(Endpoint::ResourceSet, Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));

    let answer = world.api("DELETE", &format!("/shares/{}", share["id"].as_str().expect("an id")), KEY, &Value::Null).await;

    assert_eq!(answer.status, 202);
    ends(&mut socket).await;
    assert!(world.control().resource_id("Room").is_some());
}

#[tokio::test]
async fn an_owner_who_has_to_consent_cuts_and_opens_no_other() {
    let echo = Echo::start().await;
    // The client introspects: the server goes on to call the token active.
    let world = world(&echo, "", |setup| setup.openam().server("introspection: { max_age: 1s }")).await;
    let rpt = world.rpt(&["view"]);
    let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
    says_back(&mut socket, "one").await;
    world.control().add_user("alice", "another password");
    world.control().revoke_pats();
    assert_eq!(world.get("/albums/vacation/notes.txt").await.status(), 403);
    ends(&mut socket).await;
    assert_eq!(status(open(&world, "/live/chat", Some(&rpt)).await), 503);
}

#[tokio::test]
async fn a_live_decision_that_refuses_cuts() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup.keycloak().server("introspection: { max_age: 1s }")).await;
    world.control().share("alice", "vacation", "bob", &["view"]);
    let rpt = world.rpt(&["view"]);
    let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
    says_back(&mut socket, "one").await;
    world.control().withdraw("alice", "vacation", "bob");
    ends(&mut socket).await;
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_cuts_when_its_last_word_is_too_old() {
    let echo = Echo::start().await;
    let world = world(&echo, "", |setup| setup.server("introspection: { max_age: 2s }")).await;
    let rpt = world.rpt(&["view"]);
    let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
    says_back(&mut socket, "one").await;
    world.control().fail(Endpoint::Introspection, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    ends(&mut socket).await;
}

#[tokio::test]
async fn a_grace_lets_it_go_on_for_a_while() {
    let echo = Echo::start().await;
    let world = world(&echo, ", upgrade_grace: 2s", |setup| setup.server("introspection: { max_age: 1s }")).await;
    let rpt = world.rpt(&["view"]);
    let mut socket = open(&world, "/live/chat", Some(&rpt)).await.expect("it is opened");
    let calls = world.control().calls(Endpoint::Introspection);
    world.control().revoke(&rpt);
    world.control().called(Endpoint::Introspection, calls + 1).await;
    says_back(&mut socket, "during the grace").await;
    ends(&mut socket).await;
}

#[tokio::test]
async fn a_plain_answer_that_is_under_way_finishes_when_its_permission_ends() {
    let world = Setup::default().server("introspection: { max_age: 1s }").start().await;
    let gate = uma_gateway::demo::Gate::closed();
    let rpt = world.rpt(&["view"]);
    world.upstream().reply_next(1, uma_gateway::demo::content_server::Reply::ok("whole").behind(&gate));
    let mut connection = Connection::open(world.address(), None).await;
    connection.send(&world.get(LINK).bearer(&rpt).bytes()).await;
    world.upstream().hit(1).await;
    world.control().revoke(&rpt);
    assert_eq!(world.get(LINK).bearer(&world.rpt(&["view"])).await.status(), 200);
    until("the token counts no more", async || (world.get(LINK).bearer(&rpt).connect().await.status == 401).then_some(())).await;
    gate.open();
    let answer = connection.answer(false).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "whole"));
}

#[tokio::test]
async fn with_tls_on_both_sides_it_is_http1_that_is_upgraded() {
    let authority = Authority::new();
    authority.sign("photos", &["photos.example.org"]);
    authority.sign("live", &["127.0.0.1"]);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("an address");
    // It would speak HTTP/2 as well, and rather.
    let acceptor = TlsAcceptor::from(server(&authority.file("live.crt"), &authority.file("live.key"), &["h2", "http/1.1"], None));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(echo(stream, Arc::default()));
            }
        }
    });
    let upstream = format!("live: {{ servers: [ \"https://{address}\" ], protocol: auto, tls: {{ ca: {} }} }}", authority.path("ca.pem"));
    let tls = format!("tls: {{ certificates: [ {{ certificate: {}, key: {} }} ] }}", authority.path("photos.crt"), authority.path("photos.key"));
    let route = "{ path: /live/**, upstream: live, upgrade: [websocket], protect: { resource: { name: vacation, owner: alice }, scopes: { GET: [view] } } }";
    let world = Setup::default().listener(&tls).another_upstream(&upstream).route(route).start().await;
    let stream = authority.client().protocols(&["http/1.1"]).connect(world.address(), "photos.example.org").await.expect("a handshake");
    let mut request = "wss://photos.example.org/live/chat".into_client_request().expect("a request");
    request.headers_mut().insert("authorization", format!("Bearer {}", world.rpt(&["view"])).parse().expect("a value"));
    let (mut socket, _) = timeout(PATIENCE, client_async(request, stream)).await.expect("in time").expect("it is opened");
    for text in ["one", &"x".repeat(1 << 20)] {
        says_back(&mut socket, text).await;
    }
}
