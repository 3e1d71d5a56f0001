//! A listener with raw sockets on the other side. Deadlines are short, and the clock runs: what is asserted is that a deadline strikes, and not before its time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::timeout;
use tower::Service;

use super::*;
use crate::body::{Body, BodyError};
use crate::response::{Asked, Rejection};
use crate::routing::Request;

const SHORT: Duration = Duration::from_millis(150);
/// Longer than anything here takes, shorter than a person waits.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn config() -> Config {
    Config::at(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Runs a listener beside a test, both on this thread; the listener has ended when this returns.
async fn beside<S>(settings: Settings, service: S, test: impl AsyncFnOnce(SocketAddr))
where
    S: Service<Request, Response = Response<Body>, Error = Infallible> + Clone + 'static,
{
    beside_that(&config(), settings, service, test).await;
}

pub(super) async fn beside_that<S>(config: &Config, settings: Settings, service: S, test: impl AsyncFnOnce(SocketAddr))
where
    S: Service<Request, Response = Response<Body>, Error = Infallible> + Clone + 'static,
{
    let bound = bind(config).unwrap();
    let address = bound.local_addr();
    let socket = bound.sockets(1).unwrap().remove(0);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { stopped.await.map_or(SHORT, |()| SHORT) };
    let both = async {
        let listener = tokio::task::spawn_local(serve(socket, Settings { drain: SHORT, ..settings }, move || service, shutdown));
        test(address).await;
        drop(stop);
        listener.await.unwrap().unwrap();
    };
    timeout(LONG, LocalSet::new().run_until(both)).await.expect("a test that ends");
}

pub(super) fn hello() -> impl Service<Request, Response = Response<Body>, Error = Infallible, Future: 'static> + Clone + 'static {
    tower::service_fn(async |_: Request| Ok(Response::new(Body::full(Bytes::from_static(b"hello")))))
}

/// Reads the whole request body and tells its size; what goes wrong becomes its rejection.
pub(super) fn reader() -> impl Service<Request, Response = Response<Body>, Error = Infallible, Future: 'static> + Clone + 'static {
    tower::service_fn(async |request: Request| {
        Ok(match request.body.collect().await {
            Ok(body) => Response::new(Body::full(Bytes::from(body.to_bytes().len().to_string()))),
            Err(BodyError::Stalled) => Rejection::RequestTimeout.into_response(Asked::default()),
            Err(_) => Rejection::Malformed("broken").into_response(Asked::default()),
        })
    })
}

pub(super) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// What comes until the other side closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    // A reset ends it as well as an orderly end.
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8_lossy(&all).into_owned()
}

async fn send(address: SocketAddr, text: &str) -> String {
    let mut stream = connect(address).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    rest(stream).await
}

/// One answer with a body of this many bytes.
pub(super) async fn answer(stream: &mut TcpStream, body: usize) -> String {
    let mut all = Vec::new();
    while all.windows(4).position(|end| end == b"\r\n\r\n").is_none_or(|at| all.len() < at + 4 + body) {
        assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_bare_line_feed_in_the_trailers_is_refused_at_once_and_takes_no_request_with_it() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    beside(Settings::default(), reader(), async |address| {
        for trailers in ["\n", "X: y\n\n", "X: y\n\r\n", "\n\r\n", "X: y\r\n\n"] {
            for behind in ["", get] {
                let said = send(address, &format!("{get}{post}{trailers}{behind}")).await;
                let statuses: Vec<_> = said.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect();
                assert_eq!(statuses, ["200", "400"], "{trailers:?} {behind:?} {said}");
            }
        }
    })
    .await;
}

pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_silent_a_one_byte_and_a_dripping_connection_end_at_the_heads_deadline() {
    beside(Settings { head: SHORT, ..Settings::default() }, hello(), async |address| {
        let started = Instant::now();
        let silent = rest(connect(address).await);
        let one = send(address, "G");
        let half = send(address, "GET / HTTP/1.1\r\nHost: a\r\n");
        let dripping = async {
            let mut stream = connect(address).await;
            let drip = async {
                for byte in b"GET / HTTP/1.1\r\nX: ".iter().copied().chain(std::iter::repeat(b'x')) {
                    if stream.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            drip.await;
            String::new()
        };
        let all = tokio::join!(silent, one, half, dripping);
        assert_eq!(all, Default::default(), "nothing is answered to half a head");
        assert!(started.elapsed() >= SHORT);
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_has_its_own_deadline_and_a_later_head_the_heads() {
    // Each time only one of the two deadlines can end it.
    let settings = Settings { head: LONG * 2, idle: Duration::from_millis(400), ..Settings::default() };
    beside(settings, hello(), async |address| {
        let mut idle = connect(address).await;
        let started = Instant::now();
        idle.write_all(GET).await.unwrap();
        answer(&mut idle, 5).await;
        assert_eq!(rest(idle).await, "");
        assert!(started.elapsed() >= Duration::from_millis(350), "idle ended after {:?}", started.elapsed());
    })
    .await;
    let settings = Settings { head: Duration::from_secs(3), idle: LONG * 2, ..Settings::default() };
    beside(settings, hello(), async |address| {
        let mut slow = connect(address).await;
        slow.write_all(GET).await.unwrap();
        answer(&mut slow, 5).await;
        slow.write_all(b"G").await.unwrap();
        assert_eq!(rest(slow).await, "");
    })
    .await;
}

#[tokio::test]
async fn a_slow_answer_is_no_idle_connection() {
    let service = tower::service_fn(async |_: Request| {
        tokio::time::sleep(Duration::from_millis(400)).await;
        Ok(Response::new(Body::full(Bytes::from_static(b"late"))))
    });
    beside(Settings { head: SHORT, idle: SHORT, ..Settings::default() }, service, async |address| {
        let mut stream = connect(address).await;
        stream.write_all(GET).await.unwrap();
        assert!(answer(&mut stream, 4).await.ends_with("late"));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_gets_its_answer() {
    let service = tower::service_fn(async |request: Request| {
        let size = request.body.collect().await.map_or(0, |body| body.to_bytes().len());
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Response::new(Body::full(Bytes::from(format!("late {size}")))))
    });
    beside(Settings::default(), service, async |address| {
        for (request, end) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "late 0"),
            ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "late 0"),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "late 0"),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "late 3"),
        ] {
            let mut stream = connect(address).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let all = rest(stream).await;
            assert!(all.starts_with("HTTP/1.") && all.ends_with(end), "{request}: {all}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_in_the_middle_of_a_body_is_not_waited_for_as_one_that_wants_its_answer() {
    let service = tower::service_fn(async |request: Request| {
        if request.body.collect().await.is_ok() {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(Body::empty()))
    });
    let ended = async |address, request: &[u8]| {
        let mut stream = connect(address).await;
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        rest(stream).await
    };
    beside(Settings { body: LONG * 2, ..Settings::default() }, service, async |address| {
        let whole = ended(address, GET);
        let half = async {
            // So that the other one has begun to wait, and would be the first to end.
            tokio::time::sleep(SHORT).await;
            ended(address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nabc").await
        };
        tokio::select! {
            _ = half => {}
            _ = whole => panic!("the half one waits for as long"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_gone_is_not_answered_for_ever() {
    let service = tower::service_fn(async |_: Request| {
        std::future::pending::<()>().await;
        Ok(Response::new(Body::empty()))
    });
    beside(Settings::default(), service, async |address| {
        let mut stream = connect(address).await;
        stream.write_all(GET).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(stream).await, "", "it ends, without an answer");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stands_still_is_answered_408_and_the_connection_closed() {
    beside(Settings { body: SHORT, ..Settings::default() }, reader(), async |address| {
        let all = send(address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
        assert!(all.starts_with("HTTP/1.1 408 "), "{all}");
        assert!(all.contains("connection: close\r\n"), "{all}");
        let whole =
            send(address, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n").await;
        assert!(whole.ends_with("\r\n\r\n3"), "{whole}");
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up() {
    let (events, heard) = mpsc::channel();
    let events = Mutex::new(events);
    let settings = Settings { write: SHORT, on_event: Arc::new(move |event| events.lock().unwrap().send(event).unwrap_or_default()), ..Settings::default() };
    let big = Bytes::from(vec![b'x'; 64 << 20]);
    let service = tower::service_fn(move |_: Request| std::future::ready(Ok(Response::new(Body::full(big.clone())))));
    beside(settings, service, async |address| {
        let mut stream = connect(address).await;
        stream.write_all(GET).await.unwrap();
        while !heard.try_iter().any(|event| event == Event::Expired) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_hyper_refuses_carries_a_status_only_and_closes() {
    beside(Settings::default(), hello(), async |address| {
        let many: String = (0..101).map(|count| format!("X-{count}: 1\r\n")).collect();
        let large = format!("X: {}\r\n", "x".repeat(33 * 1024));
        let endless = format!("X: {}", "x".repeat(300 * 1024));
        for (text, status) in [
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{large}\r\n"), "431"),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{endless}"), "431"),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70 * 1024)), "4"),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".into(), "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".into(), "400"),
            ("nonsense\r\n\r\n".into(), "400"),
        ] {
            let all = send(address, &text).await;
            let start: String = text.chars().take(60).collect();
            assert!(all.starts_with(&format!("HTTP/1.1 {status}")), "{start}: {all}");
            assert!(all.ends_with("\r\n\r\n"), "{start}: {all}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_continue_is_sent_only_when_the_body_is_wanted() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n";
    beside(Settings::default(), hello(), async |address| {
        let refused = send(address, head).await;
        assert!(refused.starts_with("HTTP/1.1 200 OK\r\n") && refused.contains("connection: close\r\n"), "{refused}");
    })
    .await;
    beside(Settings::default(), reader(), async |address| {
        let mut stream = connect(address).await;
        stream.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await.unwrap();
        assert_eq!(answer(&mut stream, 0).await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"abc").await.unwrap();
        assert!(answer(&mut stream, 1).await.ends_with('3'));
    })
    .await;
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_sending_a_body_that_nobody_reads() {
    beside(Settings::default(), hello(), async |address| {
        let mut stream = connect(address).await;
        let body = vec![b'x'; 512 * 1024];
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await.unwrap();
        let _ = stream.write_all(&body).await;
        let all = rest(stream).await;
        assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("hello"), "{all}");
    })
    .await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_only() {
    let service = tower::service_fn(async |request: Request| {
        assert_ne!(request.head.uri.path(), "/panic", "as the test wants it");
        Ok(Response::new(Body::full(Bytes::from_static(b"hello"))))
    });
    let (events, heard) = mpsc::channel();
    let events = Mutex::new(events);
    let settings = Settings { on_event: Arc::new(move |event| events.lock().unwrap().send(event).unwrap_or_default()), ..Settings::default() };
    beside(settings, service, async |address| {
        let mut other = connect(address).await;
        other.write_all(GET).await.unwrap();
        answer(&mut other, 5).await;
        assert_eq!(send(address, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
        other.write_all(GET).await.unwrap();
        answer(&mut other, 5).await;
    })
    .await;
    assert_eq!(heard.iter().filter(|event| *event == Event::Panicked).count(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request() {
    let dropped = Rc::new(RefCell::new(None));
    let (began, begun) = oneshot::channel();
    let began = Rc::new(RefCell::new(Some(began)));
    let (ended, end) = oneshot::channel::<()>();
    *dropped.borrow_mut() = Some(ended);
    let service = tower::service_fn(move |_: Request| {
        let (began, ended) = (began.borrow_mut().take(), dropped.borrow_mut().take());
        async move {
            let _ended = ended;
            began.unwrap().send(()).unwrap();
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    beside(Settings::default(), service, async |address| {
        let mut stream = connect(address).await;
        stream.write_all(GET).await.unwrap();
        begun.await.unwrap();
        drop(stream);
        assert!(end.await.is_err(), "the request's future is dropped");
    })
    .await;
}

#[tokio::test]
async fn a_stopping_listener_finishes_what_is_under_way() {
    let (release, released) = oneshot::channel::<()>();
    let (began, begun) = oneshot::channel::<()>();
    let once = Rc::new(RefCell::new(Some((began, released))));
    let service = tower::service_fn(move |_: Request| {
        let once = once.borrow_mut().take();
        async move {
            let (began, released) = once.unwrap();
            began.send(()).unwrap();
            released.await.unwrap();
            Ok(Response::new(Body::full(Bytes::from_static(b"done"))))
        }
    });
    let bound = bind(&config()).unwrap();
    let address = bound.local_addr();
    let socket = bound.sockets(1).unwrap().remove(0);
    let (stop, stopped) = oneshot::channel::<()>();
    let both =
        async {
            let listener = tokio::task::spawn_local(serve(socket, Settings::default(), move || service, async move {
                stopped.await.map_or(Duration::MAX, |()| Duration::MAX)
            }));
            let mut stream = connect(address).await;
            stream.write_all(GET).await.unwrap();
            begun.await.unwrap();
            drop(stop);
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            release.send(()).unwrap();
            let all = rest(stream).await;
            assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("done") && all.contains("connection: close\r\n"), "{all}");
            listener.await.unwrap().unwrap();
        };
    timeout(LONG, LocalSet::new().run_until(both)).await.unwrap();
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_hundred_are_not() {
    beside(Settings { connections_per_client: 100, ..Settings::default() }, hello(), async |address| {
        let mut held = Vec::new();
        for _ in 0..100 {
            let mut stream = connect(address).await;
            stream.write_all(GET).await.unwrap();
            answer(&mut stream, 5).await;
            held.push(stream);
        }
        assert_eq!(rest(connect(address).await).await, "");
        held.pop();
        // The seat is free once the listener has seen the end.
        loop {
            let mut stream = connect(address).await;
            if stream.write_all(GET).await.is_ok() && rest_has_answer(stream).await {
                break;
            }
        }
    })
    .await;
}

async fn rest_has_answer(mut stream: TcpStream) -> bool {
    let mut some = [0; 8];
    stream.read(&mut some).await.is_ok_and(|bytes| bytes > 0)
}

#[tokio::test]
async fn a_control_character_in_a_chunks_extension_is_refused_and_the_connection_closed() {
    beside(Settings::default(), reader(), async |address| {
        for size in ["5;x=\0", "5;x=\u{1b}[2J", "5;x=\ry", "5 ;x=\u{7f}"] {
            let answers = send(
                address,
                &format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            )
            .await;
            assert!(answers.starts_with("HTTP/1.1 400 ") && answers.matches("HTTP/1.1 ").count() == 1, "{size:?}: {answers}");
        }
        for size in ["5;x", "5;x=\"a\tb\"", "5 ; x=\u{e9}"] {
            let answers =
                send(address, &format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n"))
                    .await;
            assert!(answers.starts_with("HTTP/1.1 200 ") && answers.ends_with("\r\n\r\n5"), "{size:?}: {answers}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_preface_of_http_2_is_told_that_it_is_not_spoken_here() {
    beside(Settings::default(), hello(), async |address| {
        let answer = send(address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 505 ") && head.contains("Connection: close"), "{answer}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        assert!(body.contains("\"status\":505"), "{answer}");
    })
    .await;
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it_and_workers_share_ours() {
    let bound = bind(&config()).unwrap();
    let address = bound.local_addr();
    let taken = bind(&Config::at(address)).unwrap_err();
    assert!(matches!(taken, BindError::Taken(taken) if taken == address));
    assert!(taken.to_string().contains(&address.to_string()));
    let sockets = bound.sockets(3).unwrap();
    assert_eq!(sockets.iter().map(|socket| socket.listener.local_addr().unwrap()).collect::<Vec<_>>(), [address; 3]);
    assert!(matches!(bind(&Config::at(address)), Err(BindError::Taken(_))));
}

#[tokio::test]
async fn an_answer_over_http2_is_read_to_its_end_though_the_client_still_says_something() {
    const SIZE: usize = 512 * 1024;
    let service = tower::service_fn(async |_: Request| Ok(Response::new(Body::full(Bytes::from(vec![b'x'; SIZE])))));
    beside_that(&Config { h2c: true, ..config() }, Settings::default(), service, async |address| {
        // Most of the answer stays in the gateway's socket.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // Wide windows, one request, and GOAWAY: the connection ends when it is answered.
        let frames: [&[u8]; 5] = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x10\0\0",
            b"\0\0\x04\x08\0\0\0\0\0\0\x10\0\0",
            b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a",
            b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ];
        stream.write_all(&frames.concat()).await.unwrap();
        // Pings, as window updates would be; the last of them come when the gateway has said all.
        for _ in 0..50 {
            stream.write_all(b"\0\0\x08\x06\0\0\0\0\0PINGPING").await.expect("nobody has reset it");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.expect("an orderly end");
        assert!(said.iter().filter(|byte| **byte == b'x').count() >= SIZE, "{} bytes came", said.len());
    })
    .await;
}
