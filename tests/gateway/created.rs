//! Routes with `register_on_create` and `unregister_on_delete` from outside: what a content server makes is its creator's, and what it deletes is closed.

use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use uma_gateway::admin::{AdminClient, AdminDoor};
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::demo::content_server::Reply;
use uma_gateway::secret::Secret;

use crate::figures::under_way;
use crate::shares::KEY;
use crate::support::tls::H2;
use crate::support::{Connection, Setup, World, until};

const FOLDERS: &str = "{ path: \"/folders/{user}\", upstream: content, protect: { resource: { name: \"folders of {user}\", owner: \"{user}\" }, scopes: { POST: [create] }, \
     register_on_create: { location: \"/folders/{user}/{folder}\", name: \"folder {folder}\", type: \"urn:folder\" } } }";
const FOLDER: &str = "{ path: \"/folders/{user}/{folder}\", upstream: content, protect: { resource: { shared: true, owner: \"{user}\" }, \
     scopes: { GET: [view], DELETE: [edit] }, unregister_on_delete: true } }";

/// What a person may have made, and where it is.
const PLACE: &str = "/folders/alice/42";

/// A world where Alice and Bob make folders of their own.
async fn start(setup: Setup) -> World {
    start_with(setup.shares()).await
}

async fn start_with(setup: Setup) -> World {
    let world = setup.route(FOLDERS).route(FOLDER).start().await;
    for owner in ["alice", "bob"] {
        world.control().register(owner, &format!("folders of {owner}"), &["create"]);
    }
    world
}

impl World {
    /// An RPT by which somebody makes something in an owner's folder.
    fn creator(&self, who: &str, whose: &str) -> String {
        self.control().grant_rpt(who, &[(&format!("folders of {whose}"), &["create"])], 300)
    }

    /// Alice makes something in her folder, and the content server answers so.
    async fn creates(&self, rpt: &str, reply: Reply) -> u16 {
        self.creates_at("/folders/alice", rpt, reply).await
    }

    async fn creates_at(&self, path: &str, rpt: &str, reply: Reply) -> u16 {
        self.upstream().reply_next(1, reply);
        self.ask("POST", path).bearer(rpt).body("new").await.status()
    }

    /// The content server answers a `DELETE` with this status.
    async fn deletes(&self, path: &str, rpt: &str, status: u16) -> u16 {
        self.upstream().reply_next(1, Reply::status(status));
        self.ask("DELETE", path).bearer(rpt).await.status()
    }

    /// An owner's shares, as the operator sees them.
    async fn shares_of(&self, owner: &str) -> Vec<Value> {
        let answer = self.api("GET", &format!("/shares?owner={owner}"), KEY, &Value::Null).await;
        answer.json()["shares"].as_array().expect("a list").clone()
    }

    /// What the authorization server knows besides the folders themselves.
    fn made(&self) -> Vec<String> {
        let all = self.control().resources();
        let names = all.iter().filter_map(|(_, description)| description["name"].as_str());
        names.filter(|name| name.starts_with("folder ") || name.starts_with("share ")).map(str::to_owned).collect()
    }

    async fn followed(&self, outcome: &str) -> u64 {
        let series = format!("uma_shares_followed_total{{outcome=\"{outcome}\"}}");
        self.metrics().await.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok()).expect("a series")
    }

    fn granted(&self, who: &str, share: &Value, scopes: &[&str]) -> String {
        self.control().grant_rpt(who, &[(share["resource_id"].as_str().expect("an id"), scopes)], 300)
    }
}

fn created(location: &str) -> Reply {
    Reply::status(201).header("Location", location)
}

#[tokio::test]
async fn what_an_owner_has_made_is_theirs_and_open_to_whom_they_grant_it() {
    let world = start(Setup::default()).await;

    world.upstream().reply_next(1, created(PLACE));
    let rpt = world.creator("alice", "alice");
    let exchange = world.ask("POST", "/folders/alice").bearer(&rpt).body("new").await;

    assert_eq!((exchange.status(), exchange.answer.header("location"), exchange.answer.text().as_str()), (201, PLACE, "201\n"));
    let shares = world.shares_of("alice").await;
    let [share] = &shares[..] else { panic!("{shares:?}") };
    let id = share["id"].as_str().expect("an id");
    for (member, expected) in [("path", PLACE), ("owner", "alice"), ("type", "urn:folder"), ("state", "registered"), ("name", &format!("folder 42 ({id})"))] {
        assert_eq!(share[member], expected, "{member}");
    }
    assert_eq!(share["scopes"], json!(["view", "edit"]), "those that the methods of its own route need");
    assert_eq!(world.made(), [format!("folder 42 ({id})")]);
    world.upstream().reply(Reply::ok("content"));
    assert_eq!(world.get(PLACE).await.status(), 401);
    assert_eq!(world.get(PLACE).bearer(&rpt).await.status(), 401, "what was needed to make it opens nothing");
    assert_eq!(world.get(PLACE).bearer(&world.granted("bob", share, &["view"])).await.status(), 200);
    assert_eq!(world.get("/folders/alice/43").bearer(&rpt).await.status(), 404);
    assert_eq!(world.followed("registered").await, 1);
}

#[tokio::test]
async fn what_two_owners_make_is_of_each_alone() {
    let world = start(Setup::default().am()).await;
    let (alice, bob) = (world.creator("alice", "alice"), world.creator("bob", "bob"));
    assert_eq!(world.creates(&alice, created("https://gateway.example.org/folders/alice/1")).await, 201);
    let content = world.content_address();
    assert_eq!(world.creates_at("/folders/bob", &bob, created(&format!("http://{content}/folders/bob/1"))).await, 201);
    let (alices, bobs) = (world.shares_of("alice").await, world.shares_of("bob").await);
    assert_eq!((alices.len(), bobs.len()), (1, 1));
    let mut owners: Vec<String> =
        world.control().resources().into_iter().filter(|(_, one)| one.get("type").is_some_and(|kind| kind == "urn:folder")).map(|(owner, _)| owner).collect();
    owners.sort();
    assert_eq!(owners, ["alice", "bob"], "with a PAT of each");
    world.upstream().reply(Reply::ok("content"));
    let alices_rpt = world.granted("bob", &alices[0], &["view"]);
    assert_eq!(world.get("/folders/alice/1").bearer(&alices_rpt).await.status(), 200);
    assert_eq!(world.get("/folders/bob/1").bearer(&alices_rpt).await.status(), 401);
}

#[tokio::test]
async fn an_answer_that_makes_nothing_here_registers_nothing() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    let refused = [
        "https://evil.example.org/folders/alice/42",
        "https://gateway.example.org@evil.example.org/folders/alice/42",
        "/folders/alice/../bob/42",
        "/folders/bob/42",
        "/folders/alice/42?version=1",
        "/users/alice/42",
        "/public/42",
        "42",
        // These would be the paths of shares that are more than what was made.
        "/folders/alice/*",
        "/folders/alice/%2A",
        "/folders/alice/**",
    ];
    for (number, location) in refused.into_iter().enumerate() {
        assert_eq!(world.creates(&alice, created(location)).await, 201, "{location}");
        assert_eq!(world.followed("not_accepted").await, u64::try_from(number).expect("small") + 1, "{location}");
    }
    for reply in [
        Reply::status(201),
        Reply::status(200).header("Location", PLACE),
        Reply::status(202).header("Location", PLACE),
        Reply::status(303).header("Location", PLACE),
        Reply::status(409).header("Location", PLACE),
    ] {
        world.creates(&alice, reply).await;
    }
    assert_eq!((world.made(), world.shares_of("alice").await), (vec![], vec![]));
    assert_eq!(world.followed("not_accepted").await, 11, "what names nothing is no mistake");
    for path in [PLACE, "/folders/bob/42", "/users/alice/42"] {
        assert_eq!(world.get(path).bearer(&alice).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn whoever_may_not_share_there_has_nothing_registered() {
    let world = start(Setup::default()).await;
    let bob = world.creator("bob", "alice");
    // Alice lets Bob make something in her folder: what is there is not his to grant.
    assert_eq!(world.creates(&bob, created(PLACE)).await, 201, "the content server's answer goes on");
    assert_eq!((world.made(), world.shares_of("alice").await, world.shares_of("bob").await), (vec![], vec![], vec![]));
    assert_eq!(world.followed("not_an_owner").await, 1);
    assert_eq!(world.get(PLACE).bearer(&bob).await.status(), 404);
}

#[tokio::test]
async fn what_is_made_again_keeps_its_share() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    world.creates(&alice, created(PLACE)).await;
    let first = world.shares_of("alice").await;
    assert_eq!(world.creates(&alice, created("/folders/alice/4%32/")).await, 201);
    assert_eq!((world.shares_of("alice").await, world.made().len(), world.followed("known").await), (first, 1, 1));
}

#[tokio::test]
async fn an_owner_has_no_more_than_one_may_have() {
    let world = start_with(Setup::default().shares_of(1)).await;
    let (alice, bob) = (world.creator("alice", "alice"), world.creator("bob", "bob"));
    assert_eq!(world.creates(&alice, created(PLACE)).await, 201);
    assert_eq!(world.creates(&alice, created("/folders/alice/43")).await, 201);
    assert_eq!(world.creates(&alice, created(PLACE)).await, 201);
    assert_eq!(world.creates_at("/folders/bob", &bob, created("/folders/bob/42")).await, 201);
    let paths = async |owner: &str| world.shares_of(owner).await.iter().map(|share| share["path"].as_str().expect("a path").to_owned()).collect::<Vec<_>>();
    assert_eq!((paths("alice").await, paths("bob").await), (vec![PLACE.to_owned()], vec!["/folders/bob/42".to_owned()]), "each by themselves");
    assert_eq!((world.followed("registered").await, world.followed("failed").await, world.followed("known").await), (2, 1, 1));
}

#[tokio::test]
async fn a_server_that_gives_no_answer_is_asked_again_and_the_path_is_closed_until_then() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    // So that the folder itself is known.
    world.creates(&alice, Reply::ok("nothing")).await;
    world.control().fail(Endpoint::ResourceSet, Fault::status(StatusCode::SERVICE_UNAVAILABLE));

    assert_eq!(world.creates(&alice, created(PLACE)).await, 201, "the content server's answer is not lost");

    assert_eq!(world.followed("pending").await, 1);
    let shares = world.shares_of("alice").await;
    assert_eq!((shares.len(), &shares[0]["state"], world.made().len()), (1, &json!("wanted"), 0));
    assert_eq!(world.get(PLACE).await.status(), 404);
    assert_eq!(world.creates(&alice, created(PLACE)).await, 201);
    assert_eq!((world.shares_of("alice").await.len(), world.followed("known").await), (1, 1), "no second one");
    world.control().heal(Endpoint::ResourceSet);
    let registered = until("it is registered", async || Some(world.shares_of("alice").await).filter(|shares| shares[0]["state"] == "registered")).await;
    assert_eq!((registered.len(), world.made().len()), (1, 1), "once");
    world.upstream().reply(Reply::ok("content"));
    assert_eq!(world.get(PLACE).bearer(&world.granted("bob", &registered[0], &["view"])).await.status(), 200);
}

#[tokio::test]
async fn an_answer_does_not_wait_for_ever_for_a_server_that_hangs() {
    let world = start(Setup::default().server("timeout: 2s")).await;
    let alice = world.creator("alice", "alice");
    world.creates(&alice, Reply::ok("nothing")).await;
    let gate = Gate::closed();
    world.control().fail(Endpoint::ResourceSet, Fault::held(&gate));

    assert_eq!(world.creates(&alice, created(PLACE)).await, 201, "while the server is held");

    assert_eq!(world.shares_of("alice").await[0]["state"], "wanted", "the record is written");
    assert_eq!(world.get(PLACE).await.status(), 404);
    gate.open();
    world.control().heal(Endpoint::ResourceSet);
    until("it is registered", async || Some(world.shares_of("alice").await).filter(|shares| shares[0]["state"] == "registered")).await;
    assert_eq!(world.made().len(), 1, "once");
}

#[tokio::test]
async fn what_the_server_refuses_is_not_registered_and_stays_closed() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    world.creates(&alice, Reply::ok("nothing")).await;
    world.control().fail(Endpoint::ResourceSet, Fault::error(StatusCode::BAD_REQUEST, "invalid_request"));
    assert_eq!(world.creates(&alice, created(PLACE)).await, 201);
    assert_eq!((world.shares_of("alice").await, world.followed("failed").await), (vec![], 1));
    world.control().heal(Endpoint::ResourceSet);
    assert_eq!(world.get(PLACE).await.status(), 404);
    // The owner can still do it.
    let owner = world.control().access_token("alice", "openid share", 300);
    assert_eq!(world.api("POST", "/shares", &owner, &json!({ "path": PLACE })).await.status, 201);
}

#[tokio::test]
async fn what_is_deleted_is_closed_before_the_answer_whatever_the_server_does() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    world.creates(&alice, created(PLACE)).await;
    let shares = world.shares_of("alice").await;
    let rpt = world.granted("bob", &shares[0], &["view", "edit"]);
    world.upstream().reply_next(1, Reply::ok("content"));
    assert_eq!(world.get(PLACE).bearer(&rpt).await.status(), 200);
    for status in [409, 500, 302] {
        assert_eq!(world.deletes(PLACE, &rpt, status).await, status);
    }
    assert_eq!(world.shares_of("alice").await, shares, "what was not deleted stays");
    world.control().fail(Endpoint::ResourceSet, Fault::status(StatusCode::SERVICE_UNAVAILABLE));

    assert_eq!(world.deletes(PLACE, &rpt, 204).await, 204);

    assert_eq!(world.get(PLACE).bearer(&rpt).await.status(), 404, "with an answer in the cache that permits");
    assert_eq!((world.shares_of("alice").await, world.made().len(), world.followed("withdrawn").await), (vec![], 1, 1));
    world.control().heal(Endpoint::ResourceSet);
    until("it is deleted there", async || world.made().is_empty().then_some(())).await;
    until("it can be made again", async || {
        world.creates(&alice, created(PLACE)).await;
        (!world.shares_of("alice").await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(world.get(PLACE).bearer(&rpt).await.status(), 401, "what was granted on the one before is not granted on this one");
}

#[tokio::test]
async fn what_is_deleted_is_closed_though_the_client_has_gone_before_the_answer() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    world.creates(&alice, created(PLACE)).await;
    let rpt = world.granted("bob", &world.shares_of("alice").await[0], &["view", "edit"]);
    let gate = Gate::closed();
    world.upstream().reply_next(1, Reply::status(204).behind(&gate));
    let hits = world.upstream().hits();
    let mut client = Connection::open(world.address(), None).await;
    client.send(&world.ask("DELETE", PLACE).bearer(&rpt).bytes()).await;
    until("the content server has heard it", async || (world.upstream().hits() > hits).then_some(())).await;

    client.reset();
    until("the gateway knows that the client is gone", async || (under_way(&world).await == 0).then_some(())).await;
    gate.open();

    until("it is withdrawn", async || world.shares_of("alice").await.is_empty().then_some(())).await;
    assert_eq!(world.get(PLACE).bearer(&rpt).await.status(), 404);
}

/// Whoever comes from elsewhere has two connections, and as many requests under way.
const TWO: &str = "{ off_for: [127.0.0.1/32], connections_per_client: 2 }";

/// A request that makes something, of a client that has gone when the content server has heard it.
async fn makes_and_goes(world: &World, from: &str, request: &[u8]) {
    let hits = world.upstream().hits();
    let mut client = Connection::open(world.address(), Some(from.parse().expect("an address"))).await;
    client.send(request).await;
    until("the content server has heard it", async || (world.upstream().hits() > hits).then_some(())).await;
    client.reset();
    until("the gateway knows that the client is gone", async || (under_way(world).await == 0).then_some(())).await;
}

#[tokio::test]
async fn what_goes_on_without_its_client_is_one_of_that_clients_connections() {
    let world = start(Setup::default().limits(TWO)).await;
    let request = world.ask("POST", "/folders/alice").bearer(&world.creator("alice", "alice")).body("new").bytes();
    let gate = Gate::closed();
    world.upstream().reply_next(2, Reply::status(204).behind(&gate));
    for _ in 0..2 {
        makes_and_goes(&world, "127.0.0.2", &request).await;
    }
    let public = async |from: &str| {
        let mut client = Connection::open(world.address(), Some(from.parse().expect("an address"))).await;
        // It may be closed already.
        let _ = client.try_send(&world.get("/public/welcome.txt").bytes()).await;
        client.read(false).await.ok().map(|answer| answer.status)
    };
    assert_eq!(public("127.0.0.2").await, None, "a third one is closed without an answer");
    assert_eq!(public("127.0.0.3").await, Some(200), "another client");
    gate.open();
    until("its connections are free", async || public("127.0.0.2").await.filter(|status| *status == 200)).await;
}

#[tokio::test]
async fn what_goes_on_without_its_client_is_one_of_that_clients_requests_over_http2() {
    let world = start(Setup::default().listener("h2c: true").limits(TWO)).await;
    let connect = async || {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.2:0".parse().expect("an address")).expect("every address of 127.0.0.0/8 is ours");
        H2::over(socket.connect(world.address()).await.expect("the gateway listens")).await
    };
    let public = async |client: &H2| client.clone().get("http://gateway.example.org/public/welcome.txt").await.expect("an answer").status;
    let bearer = format!("Bearer {}", world.creator("alice", "alice"));
    let gate = Gate::closed();
    world.upstream().reply_next(2, Reply::status(204).behind(&gate));
    let client = connect().await;
    for number in 1..=2 {
        let request = Request::post("http://gateway.example.org/folders/alice").header("authorization", &bearer);
        let answer = tokio::spawn(client.0.clone().send_request(request.body(Full::default()).expect("a request")));
        until("the content server has heard it", async || (world.upstream().hits() == number).then_some(())).await;
        answer.abort();
        until("the gateway knows that it is taken back", async || (under_way(&world).await == 0).then_some(())).await;
    }
    assert_eq!(public(&client).await, 503, "a third one");
    drop(client);
    let client = connect().await;
    assert_eq!(public(&client).await, 503, "by another connection");
    gate.open();
    until("there is room again", async || (public(&client).await == 200).then_some(())).await;
}

#[tokio::test]
async fn a_client_of_a_trusted_proxy_has_as_many_under_way_that_go_on_without_it() {
    let world = start(Setup::default().limits(TWO).top("trusted_proxies: [127.0.0.0/8]")).await;
    let rpt = world.creator("alice", "alice");
    let makes = |client: &str| world.ask("POST", "/folders/alice").bearer(&rpt).header("X-Forwarded-For", client).body("new");
    let gate = Gate::closed();
    world.upstream().reply_next(2, Reply::status(204).behind(&gate));
    for _ in 0..2 {
        makes_and_goes(&world, "127.0.0.2", &makes("203.0.113.7").bytes()).await;
    }
    world.upstream().reply(Reply::status(204));

    let refused = makes("203.0.113.7").await;

    assert_eq!((refused.status(), refused.answer.header("retry-after")), (503, "1"));
    assert!(refused.passed("U5"), "{}", refused.rows());
    assert_eq!(world.upstream().hits(), 2, "the content server has not heard of it, so nothing is made that nobody registers");
    assert_eq!(makes("203.0.113.8").await.status(), 204, "another client");
    gate.open();
    until("there is room again", async || (makes("203.0.113.7").await.status() == 204).then_some(())).await;
}

#[tokio::test]
async fn what_the_content_server_does_not_have_any_more_is_shared_no_more() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    for status in [404, 410] {
        world.creates(&alice, created(PLACE)).await;
        let rpt = world.granted("bob", &world.shares_of("alice").await[0], &["view", "edit"]);
        assert_eq!(world.deletes(PLACE, &rpt, status).await, status);
        assert!(world.shares_of("alice").await.is_empty(), "{status}");
    }
}

#[tokio::test]
async fn only_the_share_of_exactly_the_path_is_withdrawn() {
    let world = start(Setup::default().route(
        "{ path: \"/trees/{user}/**\", upstream: content, protect: { resource: { shared: true, owner: \"{user}\" }, scopes: { \"GET, DELETE\": [edit] }, unregister_on_delete: true } }",
    ))
    .await;
    let alice = world.control().access_token("alice", "openid share", 300);
    let share = async |path: &str| {
        let answer = world.api("POST", "/shares", &alice, &json!({ "path": path })).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    };
    let (folder, exact, other) = (share("/trees/alice/**").await, share("/trees/alice/a").await, share("/users/alice/x").await);
    let rpt = world.granted("bob", &folder, &["edit"]);
    assert_eq!(world.deletes("/trees/alice/b", &rpt, 204).await, 204);
    assert_eq!(world.deletes("/trees/alice", &rpt, 204).await, 204);
    assert_eq!(world.shares_of("alice").await.len(), 3, "what stands below a shared folder is not the folder");
    assert_eq!(world.deletes("/users/alice/x", &world.granted("bob", &other, &["edit"]), 204).await, 204);
    assert_eq!(world.shares_of("alice").await.len(), 3, "that route says nothing of it");
    let template = world.granted("bob", &share("/trees/alice/*").await, &["edit"]);
    for path in ["/trees/alice/b", "/trees/alice/*"] {
        assert_eq!(world.deletes(path, &template, 204).await, 204, "{path}");
    }
    let of_folder = world.api("DELETE", &format!("/shares/{}", world.shares_of("alice").await[3]["id"].as_str().expect("an id")), KEY, &Value::Null).await;
    assert_eq!(of_folder.status, 204, "what stands for many is none of them");
    assert_eq!(world.deletes("/trees/alice/**", &rpt, 204).await, 204);
    assert_eq!(world.deletes("/trees/alice/a?comment=7", &world.granted("bob", &exact, &["edit"]), 204).await, 204);
    assert_eq!(world.shares_of("alice").await.len(), 3, "something of it was deleted");
    assert_eq!(world.deletes("/trees/alice/a/", &world.granted("bob", &exact, &["edit"]), 200).await, 200);
    assert_eq!(world.shares_of("alice").await.len(), 2);
    let link = world.granted("bob", &folder, &["edit"]);
    assert_eq!(world.deletes("/trees/alice/a", &link, 204).await, 204, "it is the folder's now");
}

#[tokio::test]
async fn what_is_deleted_through_its_link_is_withdrawn_whatever_the_link_was_given_besides() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    for made in ["/folders/alice/1", "/folders/alice/2"] {
        world.creates(&alice, created(made)).await;
    }
    let shares = world.shares_of("alice").await;
    for (share, query) in shares.iter().zip(["?x=1", ""]) {
        let link: Uri = share["link"].as_str().expect("a link").parse().expect("an address");
        let rpt = world.granted("bob", share, &["edit"]);
        assert_eq!(world.deletes(&format!("{}{query}", link.path()), &rpt, 204).await, 204);
        let heard = world.upstream().last().expect("a request");
        assert_eq!(heard.target, share["path"].as_str().expect("a path"), "nothing of the link goes on");
    }
    assert_eq!(world.shares_of("alice").await, [Value::Null; 0]);

    world.creates(&alice, created(PLACE)).await;
    let rpt = world.granted("bob", &world.shares_of("alice").await[0], &["edit"]);
    assert_eq!(world.deletes(&format!("{PLACE}?"), &rpt, 204).await, 204);
    assert_eq!(world.shares_of("alice").await, [Value::Null; 0], "an empty query names nothing of it");
}

#[tokio::test]
async fn explaining_a_delete_withdraws_nothing() {
    let world = start(Setup::default()).await;
    let alice = world.creator("alice", "alice");
    world.creates(&alice, created(PLACE)).await;
    let shares = world.shares_of("alice").await;
    let rpt = world.granted("bob", &shares[0], &["edit"]);
    let door = AdminDoor::Socket(world.file("admin.sock"));
    let uri: Uri = PLACE.parse().expect("a path");
    let record = AdminClient::new(&door).explain(&Method::DELETE, &uri, Some(&Secret::from(rpt.as_str()))).await.expect("an answer");
    assert_eq!(record["uma.decision"], "permitted", "{record}");
    assert_eq!((world.shares_of("alice").await, world.followed("withdrawn").await), (shares, 0));
}
