//! Every way in which an authorization server can fail, one test for each: nothing passes that was not permitted, nothing of it is kept, who asks is refused
//! within the budget, open routes and answers that the cache holds go on, and when the server is well again everybody is served soon, without a herd.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::{join, join_all};
use http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::uma::ResourceId;

use crate::support::{Connection, LINK, Next, Setup, World, until};

/// What a request may wait for authorization servers, and what is allowed on top: less than a second budget.
const BUDGET: &str = "timeout: 2s";
const REFUSED_WITHIN: Duration = Duration::from_millis(3_500);
const OPEN: &str = "/public/welcome.txt";

/// How the server fails.
enum How {
    /// Nobody listens.
    Gone,
    /// Its connections never come about.
    BlackHole,
    /// Something else listens in its place.
    Other(Manner),
    /// These endpoints fail.
    At(Vec<(Endpoint, Fault)>),
}

/// What listens in the place of the server.
#[derive(Clone, Copy)]
enum Manner {
    /// These bytes, whatever is asked, then the end.
    Says(&'static [u8]),
    /// One byte of these each second.
    Drips(&'static [u8]),
}

/// One row of the table.
struct Row {
    setup: Setup,
    how: How,
    /// Whether clients show a token; without one a ticket is what cannot be had.
    with_token: bool,
    /// Whether nobody answers before the budget is used up.
    hangs: bool,
    /// Calls of the endpoint that fails, for each request that is refused, at most.
    calls: u64,
    /// Whether it is the live decision that cannot be had: the introspection before it is kept as it should be.
    live: bool,
    /// Clients that ask again and again.
    clients: usize,
}

impl Row {
    fn of(how: How) -> Self {
        Self { setup: Setup::default().server(BUDGET), how, with_token: true, hangs: false, calls: 1, live: false, clients: 20 }
    }

    fn at(endpoint: Endpoint, fault: Fault) -> Self {
        Self::of(How::At(vec![(endpoint, fault)]))
    }

    fn introspection(fault: Fault) -> Self {
        Self::at(Endpoint::Introspection, fault)
    }

    fn ticket(fault: Fault) -> Self {
        Self { with_token: false, ..Self::at(Endpoint::Permission, fault) }
    }

    fn live(fault: Fault) -> Self {
        Self { setup: Setup::default().server(BUDGET).keycloak(), live: true, ..Self::at(Endpoint::Live, fault) }
    }

    /// The protection API access token cannot be had any more, and the one that there was is refused.
    fn pat(fault: Fault) -> Self {
        Self { calls: 2, ..Self::of(How::At(vec![(Endpoint::Introspection, Fault::unauthorized()), (Endpoint::Pat, fault)])) }
    }

    fn hanging(mut self) -> Self {
        self.hangs = true;
        self
    }

    /// The fault makes the gateway renew its credential and ask once more.
    fn asked_twice(mut self) -> Self {
        self.calls = 2;
        self
    }

    /// So many that a herd would be seen.
    fn hundred(mut self) -> Self {
        self.clients = 100;
        self
    }

    async fn holds(self) {
        let Self { setup, how, with_token, hangs, calls, live, clients } = self;
        let world = setup.start().await;
        let known = world.rpt(&["view"]);
        assert_eq!(world.get(LINK).bearer(&known).await.status(), 200);
        let fallen = Fallen::of(&world, how).await;
        world.control().reset_calls();

        let alone = one_is_refused(&world, with_token, hangs).await;
        assert_eq!(world.get(LINK).bearer(&known).await.status(), 200, "what the cache holds goes on");
        let crowd =
            Crowd { token: with_token.then(|| world.rpt(&["view"])), refused: Cell::new(0), served: Cell::new(0), waiting: clients, over: Cell::new(false) };
        let hits = world.upstream().hits();
        let story = async {
            until("everybody was refused twice", async || (crowd.refused.get() >= 2 * clients as u64).then_some(())).await;
            assert_eq!(crowd.served.get(), 0, "somebody was let through");
            assert_eq!(world.upstream().hits(), hits);
            if let Some(token) = &crowd.token {
                assert!(keeps_nothing(&world, token, live), "{:?} is kept", world.holds(token));
            }
            let most = world.calls().values().copied().max().unwrap_or_default();
            // Those who wait just now have asked as well.
            assert!(
                most <= calls * (crowd.refused.get() + clients as u64) + 10,
                "{most} calls for {} refused requests: {:?}",
                crowd.refused.get(),
                world.calls()
            );
            world.control().reset_calls();
            fallen.returns(&world).await;
            until("everybody is served", async || (crowd.served.get() >= clients as u64).then_some(())).await;
            crowd.over.set(true);
        };
        join(story, crowd.asks(&world)).await;
        let after = world.calls();
        // Calls that were under way when the server came back may have failed, and one more flight then brings the answer.
        for (endpoint, most) in [(Endpoint::Introspection, 4), (Endpoint::Live, 4), (Endpoint::Pat, 3), (Endpoint::Discovery, 2), (Endpoint::ResourceSet, 4)] {
            assert!(after[&endpoint] <= most, "a herd of {clients} at the server's return: {after:?}");
        }
        nobody_waited_longer_than_the_budget(&world, alone).await;
    }
}

/// The server while it fails.
enum Fallen {
    Gone,
    Taken(JoinHandle<()>),
    Full(BlackHole),
    Failing,
}

impl Fallen {
    async fn of(world: &World, how: How) -> Self {
        let address = world.server.address();
        match how {
            How::At(faults) => {
                for (endpoint, fault) in faults {
                    world.control().fail(endpoint, fault);
                }
                Self::Failing
            }
            How::Gone => {
                world.control().stop().await;
                Self::Gone
            }
            How::BlackHole => {
                world.control().stop().await;
                Self::Full(BlackHole::at(address).await.expect("the address has just come free"))
            }
            How::Other(manner) => {
                world.control().stop().await;
                let listener = listen(address, 128).expect("the address has just come free");
                Self::Taken(tokio::spawn(serve(listener, manner)))
            }
        }
    }

    async fn returns(self, world: &World) {
        match self {
            Self::Failing => world.control().heal_all(),
            Self::Gone => {}
            Self::Taken(task) => {
                task.abort();
                let _ = task.await;
            }
            Self::Full(hole) => drop(hole),
        }
        world.control().resume().await;
    }
}

/// A socket whose queue is full: the kernel answers nobody who wants to connect.
struct BlackHole {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    async fn at(address: SocketAddr) -> io::Result<Self> {
        let listener = listen(address, 1)?;
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queue.push(stream);
        }
        Ok(Self { _listener: listener, _queue: queue })
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

async fn serve(listener: TcpListener, manner: Manner) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let _ = stream.read(&mut [0; 4096]).await;
            match manner {
                Manner::Says(bytes) => drop(stream.write_all(bytes).await),
                Manner::Drips(bytes) => {
                    for byte in bytes {
                        if stream.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                        sleep(Duration::from_secs(1)).await;
                    }
                }
            }
            let _ = stream.shutdown().await;
        });
    }
}

/// Clients that ask again and again, all with the same token that nobody has seen, or all without one.
struct Crowd {
    token: Option<String>,
    refused: Cell<u64>,
    served: Cell<u64>,
    waiting: usize,
    over: Cell<bool>,
}

impl Crowd {
    async fn asks(&self, world: &World) {
        let request = self.token.as_ref().map_or_else(|| world.get(LINK).bytes(), |token| world.get(LINK).bearer(token).bytes());
        let well = if self.token.is_some() { 200 } else { 401 };
        join_all((0..self.waiting).map(async |_| {
            let mut connection = Connection::open(world.address(), None).await;
            let mut served = false;
            while !self.over.get() {
                connection.send(&request).await;
                let status = connection.answer(false).await.status;
                if status == well {
                    self.served.set(self.served.get() + u64::from(!served));
                    served = true;
                } else {
                    assert!(matches!(status, 403 | 503) && !served, "{status}, served before: {served}");
                    self.refused.set(self.refused.get() + 1);
                }
                sleep(Duration::from_millis(20)).await;
            }
        }))
        .await;
    }
}

/// One client alone, with a token that would be good if the server could be asked; an open route is served meanwhile. How many
/// milliseconds it waited.
async fn one_is_refused(world: &World, with_token: bool, hangs: bool) -> f64 {
    let token = world.rpt(&["view"]);
    let over = Cell::new(false);
    let refused = async {
        let ask = world.get(LINK);
        let exchange = if with_token { ask.bearer(&token).await } else { ask.await };
        over.set(true);
        exchange
    };
    let open = async {
        let mut over_at_first = None;
        for _ in 0..5 {
            assert_eq!(world.get(OPEN).connect().await.status, 200);
            over_at_first.get_or_insert(over.get());
        }
        over_at_first
    };
    let (refused, over_at_first) = join(refused, open).await;
    assert!(!hangs || over_at_first == Some(false), "open routes wait for nobody");
    assert_eq!(refused.status(), if with_token { 503 } else { 403 }, "{}", refused.rows());
    assert_eq!(refused.answer.header("warning"), "199 - \"UMA Authorization Server Unreachable\"");
    assert!(!refused.answer.headers.contains_key("www-authenticate"));
    refused.line["uma.authorization_server_ms"].as_f64().unwrap_or_default()
}

/// Whether the cache holds nothing by which this token could pass.
fn keeps_nothing(world: &World, token: &str, live: bool) -> bool {
    let resource = ResourceId(world.control().resource_id("vacation").expect("it is registered").into());
    let granted = world.gateway.cache().live(world.key(token), &resource);
    granted.is_none() && matches!((world.holds(token), live), (Next::Nothing, false) | (Next::Active | Next::Stale, true))
}

/// As the gateway measures it, so that a busy machine is not taken for a slow answer. Whoever waits while the machine stands still waits longer than a budget that
/// holds; so if it was the one client alone who did, the crowd behind it is looked at. A budget that does not hold holds for nobody.
async fn nobody_waited_longer_than_the_budget(world: &World, alone: f64) {
    let lines = world.audit().await;
    let refused = lines.iter().filter(|line| matches!(line["http.response.status_code"].as_u64(), Some(403 | 503)));
    let mut waited: Vec<f64> = refused.filter_map(|line| line["uma.authorization_server_ms"].as_f64()).collect();
    assert!(!waited.is_empty());
    // Without those who were refused since the server rests, or joined a question that was under way.
    waited.retain(|ms| *ms >= alone / 2.0);
    waited.sort_unstable_by(f64::total_cmp);
    let (quarter, most) = (waited[waited.len() / 4], REFUSED_WITHIN.as_secs_f64() * 1e3);
    assert!(alone < most || quarter < most, "{alone} ms, and of the others three of four longer than {quarter} ms");
}

/// Each fault is a test.
macro_rules! faults {
    ($($name:ident: $row:expr,)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                let row: Row = $row;
                row.holds().await;
            }
        )+
    };
}

const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{\"active\": true, \"permissions\": [";
const ENDLESS_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

faults! {
    nobody_listens: Row::of(How::Gone).hundred(),
    connections_never_come_about: Row::of(How::BlackHole).hundred().hanging(),
    it_answers_nothing: Row::introspection(Fault::hang()).hundred().hanging(),
    it_answers_500: Row::introspection(Fault::status(StatusCode::INTERNAL_SERVER_ERROR)).hundred(),
    it_answers_502_with_a_page: Row::introspection(Fault::text(StatusCode::BAD_GATEWAY, "<html>Bad Gateway</html>")),
    it_answers_503: Row::introspection(Fault::status(StatusCode::SERVICE_UNAVAILABLE)),
    it_answers_429: Row::introspection(Fault::too_many_requests()),
    it_does_not_speak_http: Row::of(How::Other(Manner::Says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"))).hundred(),
    its_head_drips: Row::of(How::Other(Manner::Drips(ENDLESS_HEAD))).hundred().hanging(),
    its_body_drips: Row::introspection(Fault::drip(Duration::from_secs(1))).hundred().hanging(),
    it_closes_without_an_answer: Row::introspection(Fault::close()),
    it_closes_in_the_middle_of_an_answer: Row::introspection(Fault::truncate()),
    it_closes_behind_active: Row::of(How::Other(Manner::Says(HALF))),
    it_answers_200_with_a_page: Row::introspection(Fault::not_json()).hundred(),
    it_answers_200_with_nothing: Row::introspection(Fault::text(StatusCode::OK, "")),
    it_answers_200_with_a_list: Row::introspection(Fault::text(StatusCode::OK, "[{\"active\":true}]")),
    it_answers_200_with_true: Row::introspection(Fault::text(StatusCode::OK, "true")),
    it_answers_204: Row::introspection(Fault::text(StatusCode::NO_CONTENT, "")),
    it_answers_201: Row::introspection(Fault::json(StatusCode::CREATED, &json!({ "active": true }))),
    it_answers_302_to_itself: Row::introspection(Fault::redirect("/introspect")),
    it_answers_401_whatever_we_show: Row::introspection(Fault::unauthorized()).asked_twice().hundred(),
    it_answers_403_whatever_we_show: Row::introspection(Fault::error(StatusCode::FORBIDDEN, "invalid_token")).asked_twice(),
    it_answers_404: Row::introspection(Fault::error(StatusCode::NOT_FOUND, "not_found")),
    it_answers_10_mib: Row::introspection(Fault::text(StatusCode::OK, format!("{{\"active\":true,\"padding\":\"{}\"}}", "x".repeat(10 << 20)))),
    it_nests_a_thousand_levels: Row::introspection(Fault::deep(1_000)),
    it_nests_a_hundred_thousand_levels: Row::introspection(Fault::deep(100_000)),
    it_says_active_twice: Row::introspection(Fault::duplicate("active", "true")),
    it_says_a_time_twice: Row::introspection(Fault::duplicate("exp", "1")),
    active_is_a_text: Row::introspection(Fault::member("active", "true".into())),
    active_is_a_number: Row::introspection(Fault::member("active", 1.into())),
    active_is_null: Row::introspection(Fault::member("active", serde_json::Value::Null)),
    active_is_missing: Row::introspection(Fault::without("active")),
    permissions_are_a_text: Row::introspection(Fault::member("permissions", "view".into())),
    an_end_is_a_text: Row::introspection(Fault::member("exp", "tomorrow".into())),
    an_end_is_in_milliseconds: Row::introspection(Fault::member("exp", 4_102_444_800_000_i64.into())),
    no_protection_token_is_to_be_had: Row::pat(Fault::error(StatusCode::UNAUTHORIZED, "invalid_client")).hundred(),
    the_token_endpoint_answers_nothing: Row::pat(Fault::hang()).hanging(),
    the_token_endpoint_answers_a_page: Row::pat(Fault::not_json()),
    the_token_endpoint_answers_403: Row::pat(Fault::error(StatusCode::FORBIDDEN, "access_denied")),
    the_protection_token_is_of_another_type: Row::pat(Fault::member("token_type", "mac".into())),
    no_ticket_since_the_endpoint_answers_nothing: Row::ticket(Fault::hang()).hanging(),
    no_ticket_since_the_endpoint_answers_500: Row::ticket(Fault::status(StatusCode::INTERNAL_SERVER_ERROR)).hundred(),
    no_ticket_since_the_endpoint_answers_a_page: Row::ticket(Fault::not_json()),
    no_ticket_since_the_endpoint_answers_200: Row::ticket(Fault::json(StatusCode::OK, &json!({ "ticket": "a-ticket" }))),
    no_ticket_since_the_endpoint_redirects: Row::ticket(Fault::redirect("/permission")),
    no_ticket_since_the_endpoint_refuses_us: Row::ticket(Fault::unauthorized()).asked_twice(),
    no_ticket_in_the_answer: Row::ticket(Fault::without("ticket")),
    the_ticket_stands_twice: Row::ticket(Fault::duplicate("ticket", "\"another\"")),
    the_ticket_cannot_stand_in_a_header: Row::ticket(Fault::member("ticket", "a\r\nSet-Cookie: b".into())),
    nobody_says_what_is_granted_now: Row::live(Fault::hang()).hanging(),
    what_is_granted_now_is_answered_by_500: Row::live(Fault::status(StatusCode::INTERNAL_SERVER_ERROR)),
    what_is_granted_now_is_a_page: Row::live(Fault::not_json()),
}

#[tokio::test]
async fn a_server_whose_discovery_document_names_another_issuer_is_never_asked_and_is_served_by_once_it_is_right() {
    for (endpoint, fault) in [
        (Endpoint::Discovery, Fault::member("issuer", "https://other.example.org".into())),
        (Endpoint::Discovery, Fault::member("introspection_endpoint", "https://other.example.org/introspect".into())),
        (Endpoint::Discovery, Fault::redirect("/.well-known/openid-configuration")),
        (Endpoint::Discovery, Fault::not_json()),
        (Endpoint::Discovery, Fault::status(StatusCode::INTERNAL_SERVER_ERROR)),
    ] {
        let world = Setup::default().broken(endpoint, fault.clone()).start_unready().await;
        for _ in 0..3 {
            one_is_refused(&world, true, false).await;
            one_is_refused(&world, false, false).await;
        }
        assert!(!world.gateway.is_ready() && world.upstream().requests().iter().all(|seen| seen.target == OPEN), "{fault:?}");
        let calls = world.calls();
        assert!(calls.iter().all(|(endpoint, count)| *endpoint == Endpoint::Discovery || *count == 0), "{calls:?}");
        world.control().heal_all();
        let rpt = world.rpt(&["view"]);
        until("it is served", async || (world.get(LINK).bearer(&rpt).await.status() == 200).then_some(())).await;
    }
}
