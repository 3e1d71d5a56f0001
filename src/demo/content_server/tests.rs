//! The content server by plain sockets: what it records and how it answers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BEACH, ContentServer, Framing, Options, Reply, RunningContentServer};
use crate::demo::Gate;

const CREDENTIAL: &str = "Authorization: Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ=";

async fn start() -> RunningContentServer {
    ContentServer::start(Options::default()).await.expect("a free port")
}

/// Sends these bytes on one connection and gives everything that comes until its end.
async fn send(server: &RunningContentServer, bytes: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // A reset ends the answer as well.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

async fn text(server: &RunningContentServer, bytes: &str) -> String {
    String::from_utf8_lossy(&send(server, bytes).await).into_owned()
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let options = Options { address: "0.0.0.0:0".parse().expect("an address"), ..Options::default() };
    assert!(ContentServer::start(options).await.is_err());
}

#[tokio::test]
async fn whoever_lacks_the_proxy_credential_is_refused() {
    let server = start().await;
    for lacking in ["", "Authorization: Bearer x\r\n", "Authorization: Basic eDp5\r\n"] {
        let answer = text(&server, &format!("GET /albums/vacation/beach.jpg HTTP/1.1\r\nHost: a\r\n{lacking}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("WWW-Authenticate: Basic"), "{answer}");
    }
}

#[tokio::test]
async fn whoever_has_it_gets_the_photograph() {
    let server = start().await;
    let answer = send(&server, &format!("GET /albums/vacation/beach.jpg HTTP/1.1\r\nHost: a\r\n{CREDENTIAL}\r\nConnection: close\r\n\r\n")).await;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    assert!(String::from_utf8_lossy(&answer[..head]).contains("Content-Type: image/jpeg"));
    assert_eq!(answer.len() - head, BEACH);
}

#[tokio::test]
async fn a_request_is_recorded_as_it_came() {
    let server = start().await;
    assert!(server.records().saw_nothing());
    let request = "PUT /albums/x?y=1 HTTP/1.1\r\nHOST: a\r\nX-Two: 1\r\nx-two: 2\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n";
    text(&server, request).await;
    let seen = server.records().last().expect("a request");
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("PUT", "/albums/x?y=1"));
    assert_eq!(seen.headers.first(), Some(&("HOST".to_owned(), "a".to_owned())));
    assert_eq!(seen.all("X-TWO"), ["1", "2"]);
    assert_eq!((seen.body_len, seen.body.as_slice(), seen.complete), (5, &b"abcde"[..], true));
    assert_eq!(seen.trailers, [("X-Trailer".to_owned(), "t".to_owned())]);
}

#[tokio::test]
async fn requests_share_a_connection() {
    let server = start().await;
    server.records().set_credential(None);
    let two = "GET /public/ HTTP/1.1\r\nHost: a\r\n\r\nPUT /albums/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let answer = text(&server, two).await;
    assert!(answer.contains("Everyone may read this.") && answer.contains("HTTP/1.1 204 No Content"), "{answer}");
    assert_eq!((server.records().hits(), server.records().connections()), (2, 1));
    server.records().until_open(0).await;
}

#[tokio::test]
async fn it_answers_as_it_is_told_in_order_and_then_as_usual() {
    let server = start().await;
    let records = server.records();
    let cases: [(Reply, &str); 10] = [
        (Reply::status(503).header("Retry-After", "1"), "Retry-After: 1\r\n\r\n503\n"),
        (Reply::chunked("abc"), "\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        (Reply::until_close("abc"), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"),
        (Reply::early_hints(), "HTTP/1.1 103 Early Hints\r\n"),
        (Reply::garbage(), "this is no HTTP"),
        (Reply::close(), ""),
        (Reply::reset(), ""),
        (Reply::truncated(100, 2, Framing::Length), "Content-Length: 100\r\n\r\nxx"),
        (Reply::large(70_000, Framing::Chunked).slowly(Duration::from_millis(1)), "10000\r\nxxx"),
        (Reply::ok("late").after(Duration::from_millis(1)), "late"),
    ];
    for (reply, _) in cases.clone() {
        records.reply_next(1, reply);
    }
    for (reply, expected) in cases {
        let answer = text(&server, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains(expected), "{reply:?}: {answer}");
        assert_eq!(answer.is_empty(), expected.is_empty(), "{reply:?}: {answer}");
    }
    assert!(text(&server, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn a_body_comes_back_and_a_switched_connection_echoes() {
    let server = start().await;
    server.records().reply_next(1, Reply::echo());
    server.records().reply_next(1, Reply::switching("chat"));
    let echoed = text(&server, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc").await;
    assert!(echoed.contains("3\r\nabc\r\n0\r\n\r\n"), "{echoed}");

    let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhello").await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn a_body_waits_for_its_gate_and_an_expectation_is_answered() {
    let server = start().await;
    let gate = Gate::closed();
    server.records().reply_next(1, Reply::ok("done").reading_behind(&gate));
    let request = "PUT /albums/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let (answer, ()) = tokio::join!(text(&server, request), async {
        server.records().hit(1).await;
        assert_eq!(server.records().last().map(|seen| seen.body_len), Some(0));
        gate.open();
        server.records().until(|seen| seen.iter().all(|request| request.complete)).await;
    });
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_stopped_server_refuses_and_comes_back_on_its_port() {
    let server = start().await;
    server.records().stop().await;
    assert!(TcpStream::connect(server.address()).await.is_err());
    server.records().resume().await;
    assert!(TcpStream::connect(server.address()).await.is_ok());
}
