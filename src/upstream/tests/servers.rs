//! Several servers of one upstream: some die, some are slow, some come back.

use std::cell::Cell;

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::*;

/// A server that answers every request with its own name, and can be killed.
struct Peer {
    address: String,
    hits: Rc<Cell<usize>>,
    /// Requests that have been read and not answered.
    open: Rc<Cell<usize>>,
    answer: Rc<RefCell<String>>,
    task: AbortHandle,
}

impl Peer {
    async fn start(name: &str) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), name, None)
    }

    /// The same, answering only while the gate is open.
    async fn behind(gate: &Rc<Gate>) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), "gated", Some(Rc::clone(gate)))
    }

    fn on(listener: TcpListener, name: &str, gate: Option<Rc<Gate>>) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (hits, open) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let answer = Rc::new(RefCell::new(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())));
        let (hit, under_way, text) = (Rc::clone(&hits), Rc::clone(&open), Rc::clone(&answer));
        let task = spawn_local(async move {
            // With this set the connections die.
            let mut connections = JoinSet::new();
            for number in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (hit, under_way, text, gate) = (Rc::clone(&hit), Rc::clone(&under_way), Rc::clone(&text), gate.clone());
                connections.spawn_local(async move {
                    let mut connection = Connection { number, stream, seen: Rc::default() };
                    while connection.head().await.is_some() {
                        hit.set(hit.get() + 1);
                        under_way.set(under_way.get() + 1);
                        match &gate {
                            Some(gate) => gate.passed().await,
                            None => tokio::task::yield_now().await,
                        }
                        let text = text.borrow().clone();
                        connection.say(&text).await;
                        under_way.set(under_way.get() - 1);
                    }
                });
            }
        });
        Self { address, hits, open, answer, task: task.abort_handle() }
    }

    fn server(&self) -> Server {
        Server::at(self.address.parse().unwrap())
    }

    /// Ends it with all its connections.
    async fn kill(&self) {
        self.task.abort();
        while TcpStream::connect(&self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

#[derive(Default)]
struct Gate {
    open: Cell<bool>,
    changed: Notify,
}

impl Gate {
    async fn passed(&self) {
        while !self.open.get() {
            self.changed.notified().await;
        }
    }

    fn open(&self) {
        self.open.set(true);
        self.changed.notify_waiters();
    }
}

fn world(peers: &[&Peer], change: impl FnOnce(&mut Config)) -> World {
    let mut config = Config::new("albums", peers.iter().map(|peer| peer.server()).collect());
    change(&mut config);
    World::of(config, Rc::default())
}

#[tokio::test]
async fn when_one_of_three_dies_only_what_was_under_way_there_fails() {
    on_worker(async {
        let (one, two, three) = (Peer::start("one").await, Peer::start("two").await, Peer::start("three").await);
        let world = Rc::new(RefCell::new(world(&[&one, &two, &three], |_| ())));
        let (failed, done, stop) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let mut clients = JoinSet::new();
        for number in 0..20 {
            let (world, failed, done, stop) = (Rc::clone(&world), Rc::clone(&failed), Rc::clone(&done), Rc::clone(&stop));
            clients.spawn_local(async move {
                while !stop.get() {
                    // What is never sent twice, too.
                    let (method, body) = if number % 2 == 0 { (Method::GET, Body::empty()) } else { (Method::POST, Body::full(Bytes::from_static(b"x"))) };
                    let answer = world.borrow_mut().send(method, body);
                    match answer.await {
                        Ok(answer) => drop(read(answer).await),
                        Err(_) => failed.set(failed.get() + 1),
                    }
                    done.set(done.get() + 1);
                }
            });
        }
        let reached = |count: usize| {
            let done = Rc::clone(&done);
            async move {
                while done.get() < count {
                    tokio::task::yield_now().await;
                }
            }
        };
        reached(500).await;
        assert_eq!(failed.get(), 0);
        let before = two.hits.get();
        assert!(before > 50, "each has its share: {before}");
        two.kill().await;
        reached(done.get() + 200).await;
        let lost = failed.get();
        assert!(lost <= 20, "{lost} failed, and each client has one under way");
        reached(done.get() + 2000).await;
        assert_eq!(failed.get(), lost, "then none");
        assert!(
            world.borrow().metrics.encode().unwrap().contains(&format!("uma_gateway_upstream_server_up{{server=\"{}\",upstream=\"albums\"}} 0", two.address))
        );
        stop.set(true);
        while clients.join_next().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_server_takes_no_connection_goes_to_another_whatever_it_is() {
    on_worker(async {
        let (dead, alive) = (Peer::start("dead").await, Peer::start("alive").await);
        dead.kill().await;
        let mut world = world(&[&dead, &alive], |_| ());
        for _ in 0..30 {
            let answer = world.send(Method::POST, Body::full(Bytes::from_static(b"x"))).await.unwrap();
            assert_eq!(read(answer).await.unwrap(), "alive");
        }
        assert_eq!(world.health.dependency("upstream", "albums").standing(), crate::telemetry::Standing::Up);
    })
    .await;
}

#[tokio::test]
async fn without_a_budget_nothing_goes_to_another() {
    on_worker(async {
        let (dead, alive) = (Peer::start("dead").await, Peer::start("alive").await);
        dead.kill().await;
        let mut world = world(&[&dead, &alive], |config| config.retry_budget = 0);
        let mut failed = 0;
        for _ in 0..30 {
            failed += usize::from(world.get().await.is_err());
        }
        assert_eq!(failed, 5, "then it is left alone");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_answers_with_errors_is_left_alone_by_choice() {
    on_worker(async {
        let (bad, good) = (Peer::start("bad").await, Peer::start("good").await);
        *bad.answer.borrow_mut() = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned();
        for (server_errors, expected) in [(false, 100), (true, 3)] {
            let ejection = Ejection { failures: 3, server_errors, ..Ejection::default() };
            let mut world = world(&[&bad, &good], |config| config.ejection = ejection);
            let mut errors = 0;
            for _ in 0..200 {
                let answer = world.get().await.unwrap();
                errors += i32::from(answer.status() == 503);
                read(answer).await.unwrap();
            }
            assert!(errors == 3 || (!server_errors && errors > expected / 2), "{errors}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_server_takes_no_more_than_its_share_of_waiting_requests() {
    on_worker(async {
        let gate = Rc::new(Gate::default());
        let (slow, quick) = (Peer::behind(&gate).await, Peer::start("quick").await);
        let mut world = world(&[&slow, &quick], |_| ());
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let (held, answer) = (slow.open.get(), spawn_local(world.get_later()));
            while !answer.is_finished() && slow.open.get() == held {
                tokio::task::yield_now().await;
            }
            if answer.is_finished() {
                read(answer.await.unwrap().unwrap()).await.unwrap();
            } else {
                waiting.push(answer);
            }
        }
        assert_eq!((waiting.len(), quick.hits.get()), (1, 99), "a server that has one waiting is the busier of the two");
        gate.open();
        for held in waiting {
            assert!(held.await.unwrap().is_ok());
        }
    })
    .await;
}

#[tokio::test]
async fn health_checks_take_a_server_out_and_back() {
    on_worker(async {
        let (one, two) = (Peer::start("one").await, Peer::start("two").await);
        // An answer has as long as the interval: long enough for a busy machine, or both servers would be out.
        let check = HealthCheck { path: "/health".parse().unwrap(), interval: Duration::from_millis(300), unhealthy_after: 2 };
        let mut world = world(&[&one, &two], |config| config.health_check = Some(check));
        let mut checks = Checks::default();
        checks.set(&world.fleet, [&world.snapshot.0]);
        let well = one.answer.borrow().clone();
        *one.answer.borrow_mut() = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned();
        let gauge = |up: u8| format!("uma_gateway_upstream_server_up{{server=\"{}\",upstream=\"albums\"}} {up}", one.address);
        while !world.metrics.encode().unwrap().contains(&gauge(0)) {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            assert_eq!(world.text().await.unwrap(), "two");
        }
        *one.answer.borrow_mut() = well;
        while world.text().await.unwrap() != "one" {
            tokio::task::yield_now().await;
        }
        assert!(world.metrics.encode().unwrap().contains(&gauge(1)));
        // What is not checked any more is not held against a server.
        *one.answer.borrow_mut() = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\none".to_owned();
        while !world.metrics.encode().unwrap().contains(&gauge(0)) {
            tokio::task::yield_now().await;
        }
        checks.set(&world.fleet, []);
        while world.text().await.unwrap() != "one" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sticky_client_gets_a_cookie_and_its_server() {
    on_worker(async {
        let (one, two) = (Peer::start("one").await, Peer::start("two").await);
        let mut world = world(&[&one, &two], |config| config.sticky = Some(Sticky::Cookie("server".into())));
        let answer = world.get().await.unwrap();
        let cookie = answer.headers().get("set-cookie").unwrap().to_str().unwrap().to_owned();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(!cookie.contains("127.0.0.1"));
        let pair = cookie.split(';').next().unwrap().to_owned();
        let mine = read(answer).await.unwrap();
        for _ in 0..30 {
            let answer = world.send_with(&[("cookie", &format!("a=b; {pair}"))]).await.unwrap();
            assert!(!answer.headers().contains_key("set-cookie"));
            assert_eq!(read(answer).await.unwrap(), mine);
        }
        // Its server goes: another, and another cookie.
        (if mine == "one" { &one } else { &two }).kill().await;
        let answer = world.send_with(&[("cookie", &pair)]).await.unwrap();
        assert!(answer.headers().contains_key("set-cookie"));
        assert_ne!(read(answer).await.unwrap(), mine);
    })
    .await;
}

/// The sticky cookie of an answer.
async fn sticky_cookie(world: &mut World) -> String {
    let answer = world.get().await.unwrap();
    let cookie = answer.headers().get("set-cookie").unwrap().to_str().unwrap().to_owned();
    read(answer).await.unwrap();
    cookie
}

#[tokio::test]
async fn whoever_guesses_a_servers_address_cannot_tell_from_the_sticky_cookie_that_it_is_right() {
    on_worker(async {
        let peer = Peer::start("one").await;
        let process = || world(&[&peer], |config| config.sticky = Some(Sticky::Cookie("server".into())));
        let (mut one, mut another) = (process(), process());
        let cookie = sticky_cookie(&mut one).await;
        assert_eq!(sticky_cookie(&mut one).await, cookie);
        assert_ne!(sticky_cookie(&mut another).await, cookie, "it follows from the address");
    })
    .await;
}

#[tokio::test]
async fn gateways_that_share_a_key_understand_each_others_sticky_cookies() {
    on_worker(async {
        let peer = Peer::start("one").await;
        let process = |key: &str| {
            world(&[&peer], |config| {
                config.sticky = Some(Sticky::Cookie("server".into()));
                config.sticky_key = Some(StickyKey(key.into()));
            })
        };
        let (mut one, mut another, mut third) = (process("of these two"), process("of these two"), process("another"));
        let cookie = sticky_cookie(&mut one).await;
        assert_eq!(sticky_cookie(&mut another).await, cookie);
        assert_ne!(sticky_cookie(&mut third).await, cookie);
    })
    .await;
}

#[tokio::test]
async fn a_server_may_be_a_socket_of_the_file_system() {
    on_worker(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("content.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let heads = Rc::new(RefCell::new(String::new()));
        let seen = Rc::clone(&heads);
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                while !seen.borrow().ends_with("\r\n\r\n") {
                    let byte = stream.read_u8().await.unwrap();
                    seen.borrow_mut().push(char::from(byte));
                }
                stream.write_all(OK.as_bytes()).await.unwrap();
                seen.borrow_mut().push('|');
            }
        });
        let config = Config::new("albums", vec![Server { address: Address::Unix(path), weight: 1 }]);
        let mut world = World::of(config, Rc::default());
        assert_eq!((world.text().await.unwrap(), world.text().await.unwrap()), ("ok".to_owned(), "ok".to_owned()));
        assert!(heads.borrow().to_ascii_lowercase().contains("host: localhost\r\n"), "{}", heads.borrow());
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_gets_the_next_connection_and_one_too_many_is_told_at_once() {
    on_worker(async {
        let gate = Rc::new(Gate::default());
        let peer = Peer::behind(&gate).await;
        let mut world = world(&[&peer], |config| {
            config.max_connections = 2;
            config.queue = Queue { length: 3, wait: LONG };
        });
        let whole = |answer| async { read(answer).await.unwrap() };
        let under_way: Vec<_> = (0..5).map(|_| spawn_local(world.get_later()).then(move |answer| whole(answer.unwrap().unwrap()))).map(spawn_local).collect();
        while peer.hits.get() < 2
            || !world.metrics.encode().unwrap().contains(&format!("uma_gateway_upstream_queue{{server=\"{}\",upstream=\"albums\"}} 3", peer.address))
        {
            tokio::task::yield_now().await;
        }
        assert!(matches!(world.get().await, Err(Rejection::Overloaded)));
        gate.open();
        for answer in under_way {
            assert_eq!(answer.await.unwrap(), "gated");
        }
        assert!(world.metrics.encode().unwrap().contains(&format!("uma_gateway_upstream_connections{{server=\"{}\",upstream=\"albums\"}} 2", peer.address)));
    })
    .await;
}

#[tokio::test]
async fn a_worker_gives_up_a_connection_that_another_one_waits_for() {
    on_worker(async {
        let peer = Peer::start("one").await;
        let mut first = world(&[&peer], |config| {
            config.max_connections = 1;
            config.queue = Queue { length: 3, wait: LONG };
        });
        let mut second = World::of((*first.snapshot.0).clone(), Rc::default());
        second.upstream = Upstream::new(Pool::new(second.health.clone(), Arc::clone(&first.fleet)));
        for _ in 0..3 {
            assert_eq!(first.text().await.unwrap(), "one");
            assert_eq!(second.text().await.unwrap(), "one");
        }
    })
    .await;
}

#[tokio::test]
async fn waiting_in_the_queue_ends() {
    on_worker(async {
        let gate = Rc::new(Gate::default());
        let peer = Peer::behind(&gate).await;
        let mut world = world(&[&peer], |config| {
            config.max_connections = 1;
            config.queue = Queue { length: 3, wait: SHORT };
        });
        let held = spawn_local(world.get_later());
        while peer.hits.get() < 1 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(world.get().await, Err(Rejection::Overloaded)));
        gate.open();
        assert!(held.await.unwrap().is_ok());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_idle_is_zero_silence_ends_no_stream() {
    on_worker_for_days(async {
        for (idle, ends) in [(Duration::from_secs(300), true), (Duration::ZERO, false)] {
            let script = |mut connection: Connection| async move {
                connection.head().await;
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
                tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
                connection.say("k").await;
            };
            let mut world = World::new(Timeouts { idle, ..Timeouts::default() }, script).await;
            assert_eq!(world.text().await.is_err(), ends);
        }
    })
    .await;
}

async fn on_worker_for_days(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

impl World {
    fn get_later(&mut self) -> impl Future<Output = Answer> + use<> {
        self.send(Method::GET, Body::empty())
    }

    fn send_with(&mut self, headers: &[(&str, &str)]) -> impl Future<Output = Answer> + use<> {
        let mut request = Request::builder().method(Method::GET).uri("/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let recorder = Recorder::new(RequestId("1".into()), Method::GET, None, "http");
        self.upstream.call(Outbound::for_tests(head, Body::empty(), recorder, Arc::clone(&self.snapshot)))
    }
}
