//! Target `h1`: bytes on a connection, a whole gateway, and a content server that takes every message apart in three ways.
//!
//! The gateway, its authorization server and the content server run once for all executions, on threads of their own.

#[path = "../../tests/corpus/upstream.rs"]
#[expect(clippy::expect_used, clippy::indexing_slicing, dead_code, reason = "the content server of the corpus, which tests more than this")]
mod recorder;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use self::recorder::Message;
use super::{lenient, posing};
use crate::app::{Gateway, Options};
use crate::config;
use crate::demo::authorization_server::{self, AuthorizationServer};
use crate::listener::Settings;

/// Behind it nothing comes, unless what was sent leaves something open.
const LAST: &[u8] = b"GET /public/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// After it nothing more is expected.
const PAUSE: Duration = Duration::from_millis(20);

/// Longer than any answer takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    // It serves for as long as this is held.
    _gateway: Gateway,
    door: SocketAddr,
    token: String,
    take: Box<dyn Fn() -> Vec<Message> + Send + Sync>,
}

/// The first byte says how large the pieces are; `${view}` stands for a good token.
pub fn h1(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else { return };
    let world = world();
    let text = with_token(bytes, &world.token);
    exchange(world.door, &text, usize::from(*size));
    (world.take)().iter().for_each(judge);
}

fn with_token(bytes: &[u8], token: &str) -> Vec<u8> {
    match bytes.windows(7).position(|part| part == b"${view}") {
        Some(at) => [&bytes[..at], token.as_bytes(), &with_token(&bytes[at + 7..], token)].concat(),
        None => bytes.to_vec(),
    }
}

/// Sends all of it, and a last request behind it, and reads until the gateway has closed.
fn exchange(door: SocketAddr, bytes: &[u8], piece: usize) {
    let mut stream = TcpStream::connect(door).expect("a gateway that listens");
    stream.set_nodelay(true).expect("our own socket");
    stream.set_read_timeout(Some(PAUSE)).expect("our own socket");
    // Small pieces are few, or an execution would take too long.
    let piece = if piece == 0 || bytes.len() / piece > 8 { bytes.len().max(1) } else { piece };
    for part in bytes.chunks(piece).chain([LAST]) {
        // The gateway may have closed already.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    let mut all = Vec::new();
    // A client that closes takes its requests back, so that waits until nothing more comes.
    let mut ended = stream.read_to_end(&mut all);
    if ended.as_ref().is_err_and(is_late) {
        let _ = stream.shutdown(Shutdown::Write);
        stream.set_read_timeout(Some(PATIENCE)).expect("our own socket");
        ended = stream.read_to_end(&mut all);
    }
    assert!(!ended.as_ref().is_err_and(is_late), "the gateway neither answers nor closes");
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// What has reached the content server has one reading, is nobody's way into what is protected, and says nothing in the gateway's name but the gateway's own.
fn judge(message: &Message) {
    let raw = String::from_utf8_lossy(&message.raw);
    assert!(!message.tunnel, "a tunnel that no route allows: {raw}");
    assert!(message.problems.is_empty(), "{:?}: {raw}", message.problems);
    assert!(!message.method.bytes().any(|byte| byte.is_ascii_lowercase()), "{raw}");
    let path = message.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let readings = lenient::readings(path).expect("an accepted path has few readings");
    let secret = readings.iter().any(|reading| {
        let first = lenient::resolved(reading).first().map(|segment| lenient::folded(segment));
        first.is_some_and(|first| first == b"secret" || first == b"albums")
    });
    let all = |name: &str| message.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice()).collect::<Vec<_>>();
    // Whoever was let in is named, and nobody but the gateway can name him.
    let of_route = path == b"/albums" || path.starts_with(b"/albums/");
    let permitted = of_route && matches!(message.method.as_str(), "GET" | "HEAD") && all("x-photo-user") == [b"id-of-bob"];
    assert!(!secret || permitted, "what is protected was reached: {raw}");
    assert_eq!(all("authorization"), [b"Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ="], "{raw}");
    assert_eq!(all("host").len(), 1, "{raw}");
    let chain = all("x-forwarded-for");
    assert_eq!(chain, [b"127.0.0.1"], "{raw}");
    let ours = [
        "authorization",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
        "host",
        "content-length",
        "transfer-encoding",
        "te",
        "connection",
    ];
    for (name, _) in message.fields.iter().filter(|(name, _)| !ours.iter().any(|own| name.eq_ignore_ascii_case(own))) {
        let means_something = posing::is_posing(name) || posing::is_forwarding(name) || posing::frames(name) || posing::reads_as(name, "x-photo-user");
        let identity = name.eq_ignore_ascii_case("x-photo-user") && secret;
        assert!(identity || (!means_something && !name.contains('_')), "{name} goes on: {raw}");
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(start)
}

fn start() -> World {
    let (tell, told) = mpsc::channel();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let server = AuthorizationServer::start(authorization_server::Options::default()).await.expect("a port");
            server.control().register("alice", "vacation", &["view"]);
            let token = server.control().grant_rpt("bob", &[("vacation", &["view"])], 1_000_000_000);
            let upstream = recorder::Upstream::start().await;
            let _ = tell.send((server.issuer().to_owned(), upstream.address, token, upstream.taker()));
            std::future::pending::<()>().await;
            drop((server, upstream));
        });
    };
    std::thread::Builder::new().name("neighbours".into()).spawn(body).expect("a thread");
    let (issuer, content, token, take) = told.recv().expect("neighbours");
    let environment = |name: &str| Some(if name == "PROXY_PASSWORD" { "proxy-secret".to_owned() } else { "gateway-secret".to_owned() });
    let text = yaml(&issuer, content);
    let config = config::parse(&text, std::path::Path::new("gateway.yaml"), &environment).unwrap_or_else(|problems| panic!("{problems}"));
    let listener = Settings {
        head: Duration::from_secs(10),
        body: Duration::from_secs(10),
        drain: Duration::from_millis(50),
        // The library has a connection only while something is asked.
        quiet: Duration::ZERO,
        connections_per_client: 5_000,
        ..Settings::default()
    };
    let options = Options { log: Some(|| Box::new(std::io::sink())), listener, ..Options::default() };
    let gateway = Gateway::start(config, &options).expect("it starts");
    while !gateway.is_ready() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let door = gateway.address(0).expect("a listener");
    World { _gateway: gateway, door, token, take }
}

fn yaml(issuer: &str, content: SocketAddr) -> String {
    format!(
        r#"version: 1
workers: 1
listeners: [ {{ address: "127.0.0.1:0" }} ]
log: {{ access: off }}
limits: {{ body: 64KiB, off_for: [ 127.0.0.1/32 ] }}
authorization_servers:
  main: {{ issuer: "{issuer}", client: {{ id: content-gateway, secret: {{ env: CLIENT_SECRET }} }} }}
upstreams:
  content:
    servers: [ "http://{content}" ]
    credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }}
routes:
  - path: /albums/**
    upstream: content
    protect: {{ authorization_server: main, resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view] }} }}
    identity_headers: {{ X-Photo-User: sub }}
  - path: /secret/**
    upstream: content
    protect: {{ authorization_server: main, resource: {{ name: nothing, owner: alice }}, scopes: {{ GET: [view] }} }}
  - {{ path: /public/**, upstream: content, public: true }}
  - {{ path: /loose/**, upstream: content, public: true, encoded_slash: true, encoded_percent: true, semicolon: true }}
  - {{ path: /**, upstream: content, public: true, covers_protected: true }}
"#
    )
}
