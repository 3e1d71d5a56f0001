//! Upstreams that are scripted on real sockets: what they send is what a broken, slow or lying content server sends.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tower::Service;

use super::*;
use crate::body::{Body, BodyError};
use crate::credentials::Outbound;
use crate::response::{Rejection, Row};
use crate::telemetry::{Health, Metrics, Recorder, RequestId};

mod answers;
mod servers;

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Only(Arc<Config>);

impl Snapshot for Only {
    fn upstream(&self, index: usize) -> Option<&Arc<Config>> {
        (index == 0).then_some(&self.0)
    }
}

/// One worker's upstreams with one scripted server.
struct World {
    snapshot: Arc<Only>,
    upstream: Upstream,
    health: Health,
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
    /// Heads that the server read, with the number of the connection, from 1.
    seen: Rc<RefCell<Vec<(usize, String)>>>,
}

type Answer = Result<http::Response<Body>, Rejection>;

impl World {
    /// A server that runs `script` for each connection.
    async fn new<F: Future<Output = ()> + 'static>(timeouts: Timeouts, script: impl Fn(Connection) -> F + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let record = Rc::clone(&seen);
        spawn_local(async move {
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                spawn_local(script(Connection { number, stream, seen: Rc::clone(&record) }));
            }
        });
        Self::at(&address.to_string(), timeouts, seen)
    }

    fn at(address: &str, timeouts: Timeouts, seen: Rc<RefCell<Vec<(usize, String)>>>) -> Self {
        let config = Config { timeouts, ..Config::new("albums", vec![Server::at(address.parse().unwrap())]) };
        Self::of(config, seen)
    }

    fn of(config: Config, seen: Rc<RefCell<Vec<(usize, String)>>>) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (health, fleet) = (Health::new(Arc::clone(&metrics)), Fleet::new(Arc::clone(&metrics)));
        let upstream = Upstream::new(Pool::new(health.clone(), Arc::clone(&fleet)));
        Self { snapshot: Arc::new(Only(Arc::new(config))), upstream, health, fleet, metrics, seen }
    }

    /// The only server's address.
    fn address(&self) -> String {
        self.snapshot.0.servers[0].address.to_string()
    }

    fn send(&mut self, method: Method, body: Body) -> impl Future<Output = Answer> + use<> {
        self.send_recorded(method, body).0
    }

    fn send_recorded(&mut self, method: Method, body: Body) -> (impl Future<Output = Answer> + use<>, Recorder) {
        let (head, ()) = Request::builder().method(method.clone()).uri("/a").body(()).unwrap().into_parts();
        let recorder = Recorder::new(RequestId("1".into()), method, None, "http");
        (self.upstream.call(Outbound::for_tests(head, body, recorder.clone(), Arc::clone(&self.snapshot))), recorder)
    }

    async fn get(&mut self) -> Answer {
        self.send(Method::GET, Body::empty()).await
    }

    /// The whole body of a GET's answer.
    async fn text(&mut self) -> Result<String, BodyError> {
        read(self.get().await.unwrap()).await
    }

    fn connections(&self) -> Vec<usize> {
        self.seen.borrow().iter().map(|(number, _)| *number).collect()
    }
}

async fn read(answer: http::Response<Body>) -> Result<String, BodyError> {
    answer.into_body().collect().await.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

struct Connection {
    number: usize,
    stream: TcpStream,
    seen: Rc<RefCell<Vec<(usize, String)>>>,
}

impl Connection {
    /// The next head; `None` at the end of the connection.
    async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        self.seen.borrow_mut().push((self.number, head.clone()));
        Some(head)
    }

    async fn say(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Answers every request with this.
    async fn always(mut self, text: &str) {
        while self.head().await.is_some() {
            self.say(text).await;
        }
    }

    /// Waits for the other side to close.
    async fn end(&mut self) {
        let mut some = [0; 1024];
        while self.stream.read(&mut some).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

async fn on_worker(test: impl Future<Output = ()>) {
    timeout(LONG, LocalSet::new().run_until(test)).await.expect("a test that ends");
}

#[tokio::test]
async fn requests_in_turn_share_a_connection_and_requests_at_once_do_not() {
    on_worker(async {
        let mut world = World::new(Timeouts::default(), |connection| connection.always(OK)).await;
        for _ in 0..3 {
            assert_eq!(world.text().await.unwrap(), "ok");
        }
        assert_eq!(world.connections(), [1, 1, 1]);
        let (a, b) = tokio::join!(world.send(Method::GET, Body::empty()), world.send(Method::GET, Body::empty()));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(world.connections().last(), Some(&2));
        let head = world.seen.borrow().first().unwrap().1.clone();
        assert_eq!(head, format!("GET /a HTTP/1.1\r\nhost: {}\r\n\r\n", world.address()));
    })
    .await;
}

#[tokio::test]
async fn the_record_tells_which_upstream_answered() {
    on_worker(async {
        let mut world = World::new(Timeouts::default(), |connection| connection.always(OK)).await;
        let (answer, recorder) = world.send_recorded(Method::GET, Body::empty());
        assert!(answer.await.is_ok());
        let record = recorder.snapshot();
        assert_eq!(record.upstream.as_deref(), Some("albums"));
        assert_eq!(record.upstream_address.as_deref(), Some(&*world.address()));
        assert!(record.upstream_duration.is_some());
        assert_eq!(record.rows.iter().collect::<Vec<_>>(), [Row::U1]);
    })
    .await;
}

/// Answers the first request of the first connection, then does `then` to the second; other connections answer.
async fn dying(mut connection: Connection, then: &str) {
    if connection.number > 1 {
        return connection.always(OK).await;
    }
    connection.head().await;
    connection.say(OK).await;
    connection.head().await;
    connection.say(then).await;
}

#[tokio::test]
async fn a_request_without_a_body_survives_a_connection_that_died_while_idle() {
    on_worker(async {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            let mut world = World::new(Timeouts::default(), |connection| dying(connection, "")).await;
            world.text().await.unwrap();
            assert!(world.send(method, Body::empty()).await.is_ok());
            assert_eq!(world.connections(), [1, 1, 2]);
        }
    })
    .await;
}

#[tokio::test]
async fn what_may_have_been_acted_on_is_not_sent_again() {
    on_worker(async {
        for (method, body, then) in [
            (Method::POST, Body::empty(), ""),
            (Method::PATCH, Body::empty(), ""),
            (Method::PUT, Body::full(Bytes::from_static(b"x")), ""),
            (Method::GET, Body::empty(), "HTTP/1.1 2"),
            (Method::GET, Body::empty(), "HTTP/1.1 103 Early Hints\r\n\r\n"),
        ] {
            let then: &'static str = then;
            let mut world = World::new(Timeouts::default(), move |connection| dying(connection, then)).await;
            world.text().await.unwrap();
            let answer = world.send(method.clone(), body).await;
            assert!(matches!(answer, Err(Rejection::BadUpstream)), "{method} {then}");
            assert_eq!(world.connections(), [1, 1], "{method} {then}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    on_worker(async {
        let mut world = World::new(Timeouts::default(), |mut connection| async move { drop(connection.head().await) }).await;
        assert!(matches!(world.get().await, Err(Rejection::BadUpstream)));
        assert_eq!(world.connections(), [1]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_closed_an_idle_connection_is_not_asked_over_it() {
    on_worker(async {
        let script = |mut connection: Connection| async move {
            connection.head().await;
            connection.say(OK).await;
        };
        let mut world = World::new(Timeouts::default(), script).await;
        for number in 1..=3 {
            assert_eq!(world.text().await.unwrap(), "ok");
            assert_eq!(world.connections().last(), Some(&number));
            // Lets the connection's task see the end.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Also a POST, which is never sent twice.
        assert!(world.send(Method::POST, Body::full(Bytes::from_static(b"x"))).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_a_timeout_and_its_connection_is_closed() {
    on_worker(async {
        let closed = Rc::new(RefCell::new(0));
        let count = Rc::clone(&closed);
        let script = move |mut connection: Connection| {
            let count = Rc::clone(&count);
            async move {
                connection.head().await;
                connection.end().await;
                *count.borrow_mut() += 1;
            }
        };
        let mut world = World::new(Timeouts { response: SHORT, ..Timeouts::default() }, script).await;
        let started = std::time::Instant::now();
        assert!(matches!(world.get().await, Err(Rejection::UpstreamTimeout)));
        assert!(started.elapsed() >= SHORT);
        while *closed.borrow() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut() {
    on_worker(async {
        let script = |mut connection: Connection| async move {
            connection.head().await;
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
            connection.end().await;
        };
        let mut world = World::new(Timeouts { idle: SHORT, ..Timeouts::default() }, script).await;
        assert!(matches!(world.text().await, Err(BodyError::Stalled)));
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_is_a_bad_gateway_and_is_told_once() {
    on_worker(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut world = World::at(&address.to_string(), Timeouts::default(), Rc::default());
        for _ in 0..2 {
            assert!(matches!(world.get().await, Err(Rejection::BadUpstream)));
        }
        assert_eq!(world.health.dependency("upstream", "albums").standing(), crate::telemetry::Standing::Down);
        let listener = TcpListener::bind(address).await.unwrap();
        let (answer, ()) = tokio::join!(world.get(), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        // An answer before the question is nonsense, but the server can be reached again.
        drop(answer);
        assert_eq!(world.health.dependency("upstream", "albums").standing(), crate::telemetry::Standing::Up);
    })
    .await;
}

#[tokio::test]
async fn who_goes_away_ends_the_request_at_the_upstream() {
    on_worker(async {
        for text in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"] {
            let (ended, end) = tokio::sync::oneshot::channel::<()>();
            let ended = Rc::new(RefCell::new(Some(ended)));
            let script = move |mut connection: Connection| {
                let ended = ended.borrow_mut().take();
                async move {
                    connection.head().await;
                    connection.say(text).await;
                    connection.end().await;
                    drop(ended);
                }
            };
            let mut world = World::new(Timeouts::default(), script).await;
            let mut answer = Box::pin(world.get());
            let got = timeout(SHORT, &mut answer).await;
            assert_eq!(got.is_ok(), !text.is_empty());
            drop((got, answer));
            assert!(end.await.is_err(), "the server sees the end");
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_ends_in_its_time() {
    on_worker(async {
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let ended = Rc::new(RefCell::new(Some(ended)));
        let script = move |connection: Connection| {
            let ended = ended.borrow_mut().take();
            async move {
                connection.always(OK).await;
                drop(ended);
            }
        };
        let mut world = World::new(Timeouts { idle: SHORT, ..Timeouts::default() }, script).await;
        let started = std::time::Instant::now();
        world.text().await.unwrap();
        assert!(end.await.is_err(), "the server sees the end");
        assert!(started.elapsed() >= SHORT);
        // The pool's watch ended with the last connection and begins anew with the next.
        world.text().await.unwrap();
        assert_eq!(world.connections(), [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn what_a_burst_has_opened_is_closed_soon_but_for_sixteen() {
    on_worker(async {
        let ended = Rc::new(RefCell::new(Vec::new()));
        let ends = Rc::clone(&ended);
        let script = move |mut connection: Connection| {
            let ends = Rc::clone(&ends);
            async move {
                connection.head().await;
                // All are under way together.
                while connection.seen.borrow().len() < 20 {
                    tokio::task::yield_now().await;
                }
                connection.say(OK).await;
                let number = connection.number;
                connection.always(OK).await;
                ends.borrow_mut().push(number);
            }
        };
        let mut world = World::new(Timeouts::default(), script).await;
        let started = std::time::Instant::now();
        let burst: Vec<_> = (0..20).map(|_| spawn_local(world.send(Method::GET, Body::empty()))).collect();
        for answer in burst {
            read(answer.await.unwrap().unwrap()).await.unwrap();
        }
        while ended.borrow().len() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(started.elapsed() >= Duration::from_secs(5));
        // Sixteen stay for the next request: none is opened for it, and no further one ends.
        world.text().await.unwrap();
        assert!(world.connections().last().is_some_and(|number| *number <= 20));
        assert_eq!(ended.borrow().len(), 4);
    })
    .await;
}

#[tokio::test]
async fn one_connection_too_many_is_an_overload_and_an_end_makes_room() {
    on_worker(async {
        let script = |mut connection: Connection| async move {
            connection.head().await;
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
            connection.end().await;
        };
        let mut world = World::new(Timeouts::default(), script).await;
        let queue = Queue { length: 0, ..Queue::default() };
        world = World::of(Config { max_connections: 2, queue, ..(*world.snapshot.0).clone() }, Rc::default());
        let first = world.get().await.unwrap();
        let second = world.get().await.unwrap();
        assert!(matches!(world.get().await, Err(Rejection::Overloaded)));
        drop(first);
        while world.get().await.is_err() {
            tokio::task::yield_now().await;
        }
        drop(second);
    })
    .await;
}

#[test]
fn an_upstream_without_a_server_is_a_bad_gateway() {
    let config = Arc::new(Config::new("albums", Vec::new()));
    let metrics = Arc::new(Metrics::new().unwrap());
    let pool = Pool::new(Health::new(Arc::clone(&metrics)), Fleet::new(metrics));
    assert!(matches!(pool.group(&config), Err(UpstreamError::NoServer)));
}
