//! Heads that two servers could read differently and that the HTTP library would mend in silence: row D1 all the same, and the end of the connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uma_gateway::response::Row;

use crate::support::tls::Authority;
use crate::support::{Connection, Exchange, Expect, LINK, Next, Says, Setup, World, until};

const HOST: &str = "Host: gateway.example.org\r\n";
const PUBLIC: &str = "/public/welcome.txt";

fn refused(exchange: &Exchange<'_>) {
    let answer = Says::Problem(400, "malformed-request", &[("connection", "close")]);
    exchange.proves(Row::D1, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "D1: D1" });
}

fn contradictions() -> [String; 4] {
    let head = |fields: &str| format!("PUT {LINK} HTTP/1.1\r\n{HOST}{fields}\r\n\r\n0\r\n\r\n");
    [
        head("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        head("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        head("tRANSFER-eNCODING:\t chunked \r\nX: y\r\ncontent-LENGTH:5 \t"),
        head("CONTENT-LENGTH:   005\r\ntransfer-encoding:chunked"),
    ]
}

#[tokio::test]
async fn a_length_beside_a_coding_is_refused_in_every_order_and_spelling() {
    let world = World::start().await;
    for raw in contradictions() {
        let mut exchange = world.raw(raw).await;
        refused(&exchange);
        assert!(exchange.connection.ends().await);
    }
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn a_length_that_is_said_twice_is_refused_though_it_is_the_same() {
    let world = World::start().await;
    let mut exchange = world.raw(format!("PUT {LINK} HTTP/1.1\r\n{HOST}Content-Length: 5\r\nContent-length: 5\r\n\r\nhello")).await;
    refused(&exchange);
    assert!(exchange.connection.ends().await);
}

#[tokio::test]
async fn a_fragment_in_the_target_is_refused_on_a_public_route_too() {
    let world = World::start().await;
    for target in [format!("{LINK}#x"), format!("{PUBLIC}#"), format!("{PUBLIC}?a=b#/../c"), format!("http://gateway.example.org{PUBLIC}#x")] {
        let mut exchange = world.raw(format!("GET {target} HTTP/1.1\r\n{HOST}\r\n")).await;
        refused(&exchange);
        assert!(exchange.connection.ends().await, "{target}");
    }
}

/// Asserts that this answer is row D1's, in the audit log too, and that the connection ends with it.
async fn is_refused(world: &World, mut connection: Connection) {
    let answer = connection.answer(false).await;
    assert_eq!((answer.status, answer.header("connection")), (400, "close"));
    let line = until("its line", async || world.audit().await.into_iter().find(|line| line["request_id"] == answer.header("x-request-id"))).await;
    assert_eq!((&line["uma.row"], &line["http.response.status_code"]), (&"D1".into(), &400.into()));
    assert!(connection.ends().await);
}

#[tokio::test]
async fn a_head_that_comes_in_two_pieces_is_read_as_one() {
    let world = World::start().await;
    let [raw, ..] = contradictions();
    for cut in ["tent-Length", "-Length", ": 5", "\r\nTransfer", "fer-Encoding", "Encoding", " chunked", "\n\r\n0", "0\r\n\r\n"] {
        let (first, second) = raw.split_at(raw.rfind(cut).expect("it is there"));
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(first.as_bytes()).await;
        // Meanwhile the first piece is read.
        assert_eq!(world.get(PUBLIC).await.status(), 200);
        connection.send(second.as_bytes()).await;
        is_refused(&world, connection).await;
    }
}

#[tokio::test]
async fn the_good_request_before_it_is_answered() {
    let world = World::start().await;
    let head = format!("PUT {LINK} HTTP/1.1\r\n{HOST}Authorization: Bearer {}\r\n", world.rpt(&["edit"]));
    let good = [
        format!("GET {PUBLIC} HTTP/1.1\r\n{HOST}\r\n"),
        format!("{head}Content-Length: 3\r\n\r\na#b"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n3;x\r\n\r\n\r\r\n0\r\nX: y\r\n\r\n"),
    ];
    for (good, bad) in good.iter().flat_map(|good| contradictions().map(|bad| (good, bad))) {
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(format!("{good}{bad}").as_bytes()).await;
        assert_eq!(connection.answer(false).await.status / 100, 2, "{good}");
        is_refused(&world, connection).await;
    }
}

#[tokio::test]
async fn ordinary_bodies_and_values_pass_one_after_the_other() {
    let world = World::start().await;
    let text = "Transfer-Encoding: chunked\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nGET /# HTTP/1.1\r\n\r\n";
    let size = text.len();
    let put = format!("PUT {LINK} HTTP/1.1\r\n{HOST}Authorization: Bearer {}\r\n", world.rpt(&["edit"]));
    let mut connection = Connection::open(world.address(), None).await;
    for (message, body) in [
        (format!("{put}Content-Length: {size}\r\n\r\n{text}"), text),
        (format!("{put}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{text}\r\n0\r\n\r\n"), text),
        (format!("GET {PUBLIC} HTTP/1.1\r\n{HOST}Referer: /a#b\r\nX-A: Transfer-Encoding: chunked\r\nX-B: Content-Length: 1, Content-Length: 1\r\n\r\n"), ""),
    ] {
        connection.send(message.as_bytes()).await;
        assert_eq!(connection.answer(false).await.status / 100, 2, "{message}");
        assert_eq!(world.upstream().last().expect("it went on").body, body.as_bytes());
    }
}

#[tokio::test]
async fn beside_http2_http1_is_read_as_closely() {
    let world = Setup::default().listener("h2c: true").start().await;
    for raw in contradictions() {
        refused(&world.raw(raw).await);
    }
    // It begins as the preface of HTTP/2 does.
    let mut connection = Connection::open(world.address(), None).await;
    connection.send(format!("PROPFIND {PUBLIC}#x HTTP/1.1\r\n{HOST}\r\n").as_bytes()).await;
    is_refused(&world, connection).await;
}

#[tokio::test]
async fn over_tls_too() {
    let authority = Authority::new();
    authority.sign("gateway", &["gateway.example.org"]);
    let (certificate, key) = (authority.path("gateway.crt"), authority.path("gateway.key"));
    let world = Setup::default().listener(&format!("tls: {{ certificates: [ {{ certificate: {certificate}, key: {key} }} ] }}")).start().await;
    for raw in contradictions() {
        let mut stream = authority.client().protocols(&["http/1.1"]).connect(world.address(), "gateway.example.org").await.expect("a handshake");
        stream.write_all(raw.as_bytes()).await.expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the end of the connection");
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("malformed-request"), "{answer}");
    }
    assert!(world.upstream().saw_nothing());
}
