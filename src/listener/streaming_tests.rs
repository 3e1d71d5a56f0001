//! Bodies through listener and upstream, with raw sockets on both sides: back-pressure, framing, and who breaks off.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use super::*;
use crate::body::Body;
use crate::credentials::Outbound;
use crate::response::{Asked, Rejection};
use crate::routing::Request;
use crate::telemetry::{Health, Metrics};
use crate::upstream::{self, Fleet, Pool, Server, Timeouts, Upstream};

pub(super) const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(30);
const SIZE: usize = 64 << 20;
/// What two hops of kernel buffers and our own may hold of it.
const HELD: usize = 32 << 20;

struct Only(Arc<upstream::Config>);

impl upstream::Snapshot for Only {
    fn upstream(&self, _index: usize) -> Option<&Arc<upstream::Config>> {
        Some(&self.0)
    }
}

/// The way without routing, decision and credentials.
fn through(server: SocketAddr, timeouts: Timeouts) -> impl Service<Request, Response = Response<Body>, Error = Infallible, Future: 'static> + Clone + 'static {
    let server = Server::at(server.to_string().parse().unwrap());
    let config = upstream::Config { timeouts, ..upstream::Config::new("albums", vec![server]) };
    let snapshot = Arc::new(Only(Arc::new(config)));
    let metrics = Arc::new(Metrics::new().unwrap());
    let upstream = Upstream::new(Pool::new(Health::new(Arc::clone(&metrics)), Fleet::new(metrics)));
    tower::service_fn(move |request: Request| {
        let Request { mut head, body, recorder, .. } = request;
        head.headers.remove("host");
        head.headers.remove("expect");
        head.headers.remove("trailer");
        if !body.is_empty() && !head.headers.contains_key("content-length") {
            head.headers.insert("transfer-encoding", http::HeaderValue::from_static("chunked"));
        }
        let outbound = Outbound::for_tests(head, body, recorder, Arc::clone(&snapshot));
        let upstream = upstream.clone();
        async move { Ok(upstream.oneshot(outbound).await.unwrap_or_else(|rejection: Rejection| rejection.into_response(Asked::default()))) }
    })
}

/// Runs the gateway's two ends between `server`, which gets the first connection, and `client`.
pub(super) async fn between(settings: Settings, timeouts: Timeouts, server: impl AsyncFnOnce(TcpStream) + 'static, client: impl AsyncFnOnce(TcpStream)) {
    between_at(false, settings, timeouts, server, client).await;
}

/// The same; with `h2c` the client may speak HTTP/2.
pub(super) async fn between_at(
    h2c: bool,
    settings: Settings,
    timeouts: Timeouts,
    server: impl AsyncFnOnce(TcpStream) + 'static,
    client: impl AsyncFnOnce(TcpStream),
) {
    let both = async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            server(stream).await;
        });
        let bound = bind(&Config { h2c, ..Config::at(SocketAddr::from(([127, 0, 0, 1], 0))) }).unwrap();
        let gateway = bound.local_addr();
        let socket = bound.sockets(1).unwrap().remove(0);
        let (stop, stopped) = oneshot::channel::<()>();
        let service = through(address, timeouts);
        let listening = spawn_local(serve(socket, Settings { drain: SHORT, ..settings }, move || service, async move {
            stopped.await.map_or(Duration::MAX, |()| Duration::MAX)
        }));
        client(TcpStream::connect(gateway).await.unwrap()).await;
        serving.await.unwrap();
        drop(stop);
        listening.await.unwrap().unwrap();
    };
    timeout(LONG, LocalSet::new().run_until(both)).await.expect("a test that ends");
}

pub(super) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Writes so many bytes, counting what the kernel has taken.
async fn pour(stream: &mut TcpStream, bytes: usize, poured: &Cell<usize>) -> std::io::Result<()> {
    let piece = vec![b'x'; 64 * 1024];
    while poured.get() < bytes {
        poured.set(poured.get() + stream.write(&piece[..piece.len().min(bytes - poured.get())]).await?);
    }
    Ok(())
}

/// Waits until the count stands still.
async fn settled(poured: &Cell<usize>) -> usize {
    loop {
        let before = poured.get();
        tokio::time::sleep(Duration::from_millis(50)).await;
        if before > 0 && poured.get() == before {
            return before;
        }
    }
}

async fn drain(stream: &mut TcpStream, bytes: usize) {
    let mut piece = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let most = piece.len().min(left);
        let read = stream.read(&mut piece[..most]).await.unwrap();
        assert_ne!(read, 0, "{left} bytes are missing");
        left -= read;
    }
}

#[tokio::test]
async fn an_answer_flows_at_the_clients_pace() {
    let poured = Rc::new(Cell::new(0));
    let count = Rc::clone(&poured);
    let server = async move |mut stream: TcpStream| {
        head(&mut stream).await;
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
        pour(&mut stream, SIZE, &count).await.unwrap();
    };
    between(Settings::default(), Timeouts::default(), server, async move |mut client| {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.contains(&format!("content-length: {SIZE}\r\n")), "{answer}");
        let held = settled(&poured).await;
        assert!(held < HELD, "{held} bytes are on the way");
        drain(&mut client, SIZE).await;
    })
    .await;
}

#[tokio::test]
async fn an_upload_flows_at_the_upstreams_pace() {
    let (go, gone) = oneshot::channel::<()>();
    let server = async move |mut stream: TcpStream| {
        let head = head(&mut stream).await;
        assert!(head.contains(&format!("content-length: {SIZE}\r\n")), "{head}");
        gone.await.unwrap();
        drain(&mut stream, SIZE).await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    };
    between(Settings::default(), Timeouts::default(), server, async move |mut client| {
        client.write_all(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
        let poured = Cell::new(0);
        let upload = pour(&mut client, SIZE, &poured);
        let (uploaded, ()) = tokio::join!(upload, async {
            let held = settled(&poured).await;
            assert!(held < HELD, "{held} bytes are on the way");
            go.send(()).unwrap();
        });
        uploaded.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 204 "));
    })
    .await;
}

#[tokio::test]
async fn a_chunked_body_is_framed_anew_and_its_trailers_end_here() {
    let server = async |mut stream: TcpStream| {
        let head = head(&mut stream).await;
        assert!(head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"), "{head}");
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.unwrap());
        }
        assert_eq!(String::from_utf8(body).unwrap(), "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        stream.write_all(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n").await.unwrap();
    };
    // A GET may have a body too; hyper would leave out one whose length it does not know.
    between(Settings::default(), Timeouts::default(), server, async |mut client| {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\nTrailer: X-User\r\n\r\n3;ext=1\r\nabc\r\n";
        client.write_all(text.as_bytes()).await.unwrap();
        client.write_all(b"2\r\nde\r\n0\r\nX-User: root\r\nAuthorization: evil\r\n\r\n").await.unwrap();
        head(&mut client).await;
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            body.push(client.read_u8().await.unwrap());
        }
        assert_eq!(String::from_utf8(body).unwrap(), "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_breaks_off_an_upload_breaks_it_off_at_the_upstream() {
    for text in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let (arrived, arrival) = oneshot::channel::<()>();
        let server = async move |mut stream: TcpStream| {
            head(&mut stream).await;
            let mut body = Vec::new();
            while !String::from_utf8_lossy(&body).contains("abc") {
                assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0);
            }
            arrived.send(()).unwrap();
            let _ = stream.read_to_end(&mut body).await;
            assert!(!body.ends_with(b"0\r\n\r\n"), "half a body must not look whole");
        };
        between(Settings::default(), Timeouts::default(), server, async move |mut client| {
            client.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\n{text}").as_bytes()).await.unwrap();
            arrival.await.unwrap();
        })
        .await;
    }
}

#[tokio::test]
async fn a_bad_chunk_is_the_clients_fault_and_a_body_that_stands_still_too() {
    for (body, status) in [("3\r\nabcdef\r\n", "400"), ("nonsense\r\n", "400"), ("3\r\nabc\r\n", "408")] {
        let server = async |mut stream: TcpStream| {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
        };
        between(Settings { body: SHORT, ..Settings::default() }, Timeouts::default(), server, async move |mut client| {
            client.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes()).await.unwrap();
            let mut all = Vec::new();
            let _ = client.read_to_end(&mut all).await;
            let all = String::from_utf8(all).unwrap();
            assert!(all.starts_with(&format!("HTTP/1.1 {status} ")) && all.contains("connection: close\r\n"), "{body}: {all}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_upstream_may_take_to_answer() {
    // Eight pieces take longer, and one piece does not, even where the machine stands still for a while.
    const ANSWER: Duration = Duration::from_secs(3);
    const PIECE: Duration = Duration::from_millis(500);
    let server = async |mut stream: TcpStream| {
        head(&mut stream).await;
        drain(&mut stream, 8).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    };
    between(Settings::default(), Timeouts { response: ANSWER, ..Timeouts::default() }, server, async |mut client| {
        client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n").await.unwrap();
        for _ in 0..8 {
            tokio::time::sleep(PIECE).await;
            client.write_all(b"x").await.unwrap();
        }
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_cut_upstream_is_cut_downstream() {
    for text in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let server = async move |mut stream: TcpStream| {
            head(&mut stream).await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{text}").as_bytes()).await.unwrap();
        };
        between(Settings::default(), Timeouts::default(), server, async move |mut client| {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut all = Vec::new();
            let _ = client.read_to_end(&mut all).await;
            let all = String::from_utf8(all).unwrap();
            assert!(all.contains("abc") && !all.ends_with("0\r\n\r\n"), "{all}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_upstream_that_answers_before_the_upload_ends_is_heard() {
    let server = async |mut stream: TcpStream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").await.unwrap();
    };
    let seen = RefCell::new(String::new());
    between(Settings { idle: SHORT, ..Settings::default() }, Timeouts::default(), server, async |mut client| {
        client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc").await.unwrap();
        let mut all = Vec::new();
        let _ = client.read_to_end(&mut all).await;
        *seen.borrow_mut() = String::from_utf8(all).unwrap();
    })
    .await;
    let seen = seen.into_inner();
    assert!(seen.starts_with("HTTP/1.1 413 ") && seen.ends_with("big"), "{seen}");
}
