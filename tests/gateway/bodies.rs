//! Request bodies and their clients: refused before they are read, large ones too, and clients that go away.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::demo::content_server::Reply;

use crate::support::{Connection, LINK, PATIENCE, World, until};

fn head(token: Option<&str>, length: u64, more: &str) -> String {
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    format!("PUT {LINK} HTTP/1.1\r\nHost: gateway.example.org\r\n{authorization}Content-Length: {length}\r\n{more}\r\n")
}

#[tokio::test]
async fn an_expectation_is_refused_before_a_byte_of_the_body_is_asked_for() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    for token in [None, Some(rpt.as_str()), Some("unknown-to-the-server")] {
        let mut exchange = world.raw(head(token, 1 << 30, "Expect: 100-continue\r\n")).await;
        assert_eq!((exchange.status(), exchange.answer.informational.len()), (401, 0));
        assert!(exchange.connection.ends().await, "the body that was announced never comes");
    }
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn an_expectation_that_may_pass_is_told_to_continue() {
    let world = World::start().await;
    let rpt = world.rpt(&["edit"]);
    let mut connection = Connection::open(world.address(), None).await;
    connection.send(head(Some(&rpt), 5, "Expect: 100-continue\r\n").as_bytes()).await;
    let (status, _) = timeout(PATIENCE, connection.head()).await.expect("in time").expect("a head");
    assert_eq!(status, 100);
    connection.send(b"hello").await;
    assert_eq!(connection.answer(false).await.status, 204);
    assert_eq!(world.upstream().last().expect("one request").body, b"hello");
}

/// Sends as much of a large body as is taken, and reads the answer meanwhile.
async fn large_put(to: SocketAddr, head: String) -> (String, u64) {
    const SIZE: u64 = 64 << 20;
    let (mut reader, mut writer) = TcpStream::connect(to).await.expect("the gateway listens").into_split();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        let block = vec![b'x'; 64 << 10];
        if writer.write_all(head.as_bytes()).await.is_err() {
            return sent;
        }
        while sent < SIZE && writer.write_all(&block).await.is_ok() {
            sent += block.len() as u64;
        }
        sent
    });
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 4096];
        match timeout(PATIENCE, reader.read(&mut part)).await.expect("in time") {
            Ok(count) if count > 0 => answer.extend(&part[..count]),
            _ => break,
        }
    }
    let sent = timeout(PATIENCE, sending).await.expect("the gateway does not take it for ever").expect("no panic");
    (String::from_utf8_lossy(&answer).into_owned(), sent)
}

#[tokio::test]
async fn a_large_body_that_is_refused_is_not_read_and_its_client_hears_why() {
    let world = World::start().await;
    let (answer, sent) = large_put(world.address(), head(None, 64 << 20, "")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer:?}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"));
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    assert!(world.upstream().saw_nothing());
    assert_eq!(world.get("/public/welcome.txt").await.status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_upstream_works_takes_its_request_along() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.upstream().reply_next(1, Reply::hang());
    let mut connection = Connection::open(world.address(), None).await;
    connection.send(&world.get(LINK).bearer(&rpt).bytes()).await;
    timeout(PATIENCE, world.upstream().hit(1)).await.expect("it comes");
    drop(connection);
    timeout(PATIENCE, world.upstream().until_open(0)).await.expect("the upstream's connection ends");
    let line = until("the record", async || world.audit().await.into_iter().next()).await;
    assert_eq!((&line["uma.rows"], line.get("http.response.status_code")), (&serde_json::json!(["I4", "E10"]), None));
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_server_thinks_cancels_nothing() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let gate = Gate::closed();
    world.control().fail_next(Endpoint::Introspection, 1, Fault::held(&gate));
    let mut connection = Connection::open(world.address(), None).await;
    connection.send(&world.get(LINK).bearer(&rpt).bytes()).await;
    world.control().called(Endpoint::Introspection, 1).await;
    connection.reset();
    gate.open();
    until("the answer is kept all the same", async || (world.holds(&rpt) == crate::support::Next::Active).then_some(())).await;
    assert_eq!(world.get(LINK).bearer(&rpt).await.rows(), "I1 E10 U1: E10");
    assert_eq!(world.upstream().hits(), 1, "the request that was given up went nowhere");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_ends_the_upstreams_request() {
    let world = World::start().await;
    let rpt = world.rpt(&["edit"]);
    let mut connection = Connection::open(world.address(), None).await;
    connection.send(head(Some(&rpt), 1_000, "").as_bytes()).await;
    connection.send(&[b'x'; 500]).await;
    let half = world.upstream().until(|requests| requests.last().is_some_and(|request| request.body_len == 500));
    timeout(PATIENCE, half).await.expect("half of it comes");
    drop(connection);
    timeout(PATIENCE, world.upstream().until_open(0)).await.expect("the upstream's connection ends");
    assert!(!world.upstream().last().expect("one request").complete);
}
