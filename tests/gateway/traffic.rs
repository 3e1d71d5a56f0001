//! What HTTP says of bodies and headers, through the whole gateway: ranges, answers without a body, compression, early answers, large bodies.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uma_gateway::demo::content_server::{Framing, Reply};

use crate::support::{Connection, LINK, PATIENCE, World};

#[tokio::test]
async fn a_range_is_the_content_servers_business() {
    let world = World::start().await;
    world.upstream().reply_next(1, Reply::status(206).header("Content-Range", "bytes 0-3/10").header("ETag", "\"1\""));
    let exchange = world.get("/public/x").header("Range", "bytes=0-3").header("If-Range", "\"1\"").await;
    let headers = ["content-range", "etag", "content-length"].map(|name| exchange.answer.header(name));
    assert_eq!((exchange.status(), headers), (206, ["bytes 0-3/10", "\"1\"", "4"]));
    let seen = world.upstream().last().expect("one request");
    assert_eq!((seen.header("range"), seen.header("if-range")), (Some("bytes=0-3"), Some("\"1\"")));
    world.upstream().reply_next(1, Reply::status(416).header("Content-Range", "bytes */10"));
    assert_eq!(world.get("/public/x").header("Range", "bytes=90-").await.answer.header("content-range"), "bytes */10");
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_in_order() {
    let world = World::start().await;
    let mut connection = Connection::open(world.address(), None).await;
    for (method, reply, status) in [
        ("HEAD", Reply::ok("twelve bytes"), 200),
        ("GET", Reply::status(204), 204),
        ("GET", Reply::status(304).header("ETag", "\"1\""), 304),
        ("HEAD", Reply::status(404), 404),
        ("GET", Reply::chunked("last"), 200),
    ] {
        world.upstream().reply_next(1, reply);
        connection.send(&world.ask(method, "/public/x").bytes()).await;
        let answer = connection.answer(method == "HEAD").await;
        assert_eq!(answer.status, status);
        match status {
            204 | 304 => assert!(answer.header("content-length").is_empty()),
            200 if method == "HEAD" => assert_eq!(answer.header("content-length"), "12"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn compression_is_left_alone() {
    let world = World::start().await;
    let packed: &[u8] = b"\x1f\x8b\x08\x00not really gzip";
    world.upstream().reply_next(1, Reply::ok(packed).header("Content-Encoding", "gzip").header("Vary", "Accept-Encoding"));
    let exchange = world.get("/public/x").header("Accept-Encoding", "gzip, br").await;
    assert_eq!((exchange.answer.header("content-encoding"), exchange.answer.body.as_slice()), ("gzip", packed));
    assert_eq!(world.upstream().last().expect("one request").header("accept-encoding"), Some("gzip, br"));
    world.upstream().reply_next(1, Reply::ok("plain"));
    world.get("/public/x").await;
    assert_eq!(world.upstream().last().expect("two requests").header("accept-encoding"), None, "none is asked for that the client did not ask for");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let world = World::start().await;
    let rpt = world.rpt(&["edit"]);
    world.upstream().reply_next(1, Reply::status(413).without_reading());
    let (mut reader, mut writer) = TcpStream::connect(world.address()).await.expect("the gateway listens").into_split();
    let head = format!("PUT {LINK} HTTP/1.1\r\nHost: gateway.example.org\r\nAuthorization: Bearer {rpt}\r\nContent-Length: {}\r\n\r\n", 64 << 20);
    writer.write_all(head.as_bytes()).await.expect("it reads");
    let sending = tokio::spawn(async move {
        let block = vec![b'x'; 64 << 10];
        for _ in 0..1024 {
            if writer.write_all(&block).await.is_err() {
                break;
            }
        }
    });
    let mut answer = [0; 12];
    timeout(PATIENCE, reader.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    timeout(PATIENCE, sending).await.expect("it ends").expect("no panic");
}

/// `VmRSS`, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).expect("VmRSS")
}

#[tokio::test]
#[ignore = "1 GiB each way: just deep"]
async fn a_gibibyte_each_way_takes_no_memory() {
    const SIZE: u64 = 1 << 30;
    let world = World::start().await;
    let rpt = world.rpt(&["view", "edit"]);
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
    let before = resident();
    let mut most = before;
    let mut block = vec![b'x'; 256 << 10];

    world.upstream().reply_next(1, Reply::large(SIZE, Framing::Length));
    let mut stream = TcpStream::connect(world.address()).await.expect("the gateway listens");
    stream.write_all(&world.get(LINK).bearer(&rpt).header("Connection", "close").bytes()).await.expect("it reads");
    let mut received = 0_u64;
    loop {
        let count = timeout(Duration::from_secs(30), stream.read(&mut block)).await.expect("it goes on").expect("it is whole");
        if count == 0 {
            break;
        }
        received += count as u64;
        most = most.max(resident());
    }
    assert!(received > SIZE, "{received}");

    let mut connection = Connection::open(world.address(), None).await;
    let head = format!("PUT {LINK} HTTP/1.1\r\nHost: gateway.example.org\r\nAuthorization: Bearer {rpt}\r\nContent-Length: {SIZE}\r\n\r\n");
    connection.send(head.as_bytes()).await;
    for _ in 0..SIZE / block.len() as u64 {
        connection.send(&block).await;
        most = most.max(resident());
    }
    assert_eq!(connection.answer(false).await.status, 204);
    assert_eq!(world.upstream().last().expect("requests").body_len, SIZE);
    assert!(most - before < 48 << 10, "from {before} KiB to {most} KiB");
}
