//! The shares API from outside: what owners register by it, what requests get then, and what is closed.

use std::time::Duration;

use serde_json::{Value, json};
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::demo::content_server::Reply;

use crate::support::{Answer, Connection, Setup, World, until};

/// What the operator bears.
pub const KEY: &str = "the-operators-key-that-nobody-guesses";
/// What the content server has.
const NOTES: &str = "/users/alice/notes.txt";

impl World {
    /// A token by which somebody shares.
    fn owner(&self, name: &str) -> String {
        self.control().access_token(name, "openid share", 300)
    }

    /// An RPT of Bob's on a resource, by its id.
    fn rpt_for(&self, resource_id: &str, scopes: &[&str]) -> String {
        self.control().grant_rpt("bob", &[(resource_id, scopes)], 300)
    }

    /// A request to the shares API.
    pub async fn api(&self, method: &str, target: &str, token: &str, body: &Value) -> Answer {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        if !token.is_empty() {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let mut connection = Connection::open(self.gateway.shares_address().expect("an address"), None).await;
        connection.send(head.as_bytes()).await;
        connection.answer(method == "HEAD").await
    }

    /// Shares a path, which has to go well.
    async fn shared(&self, token: &str, wish: Value) -> Value {
        let answer = self.api("POST", "/shares", token, &wish).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// What the authorization server lists, but for what every world has: owners and names.
    fn listed(&self) -> Vec<(String, String)> {
        let all = self.control().resources().into_iter();
        let all = all.map(|(owner, description)| (owner, description["name"].as_str().unwrap_or_default().to_owned()));
        all.filter(|(_, name)| name != "vacation").collect()
    }
}

/// A world where owners share, and everything that is let through is there.
async fn start(setup: Setup) -> World {
    let world = setup.start().await;
    world.upstream().reply(Reply::ok("content"));
    world
}

fn id(share: &Value) -> &str {
    share["id"].as_str().expect("an id")
}

fn resource_id(share: &Value) -> &str {
    share["resource_id"].as_str().expect("an id")
}

#[tokio::test]
async fn what_an_owner_shares_is_for_whoever_is_granted_it() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");

    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Notes", "type": "urn:text" })).await;

    assert_eq!(answer.status, 201, "{}", answer.text());
    let share = answer.json();
    assert_eq!(answer.header("location"), format!("/shares/{}", id(&share)));
    assert_eq!(share["link"], format!("https://gateway.example.org/s/{}", id(&share)));
    let resource = world.control().resource_id("Notes").expect("registered");
    let policy = format!("{}/", world.server.issuer());
    for (member, expected) in
        [("path", NOTES), ("owner", "alice"), ("name", "Notes"), ("type", "urn:text"), ("state", "registered"), ("resource_id", &*resource)]
    {
        assert_eq!(share[member], expected, "{member}");
    }
    assert_eq!((&share["scopes"], &share["user_access_policy_uri"]), (&json!(["view", "edit"]), &json!(policy)));
    assert_eq!(share.as_object().map(serde_json::Map::len), Some(10), "and nothing else: no token above all: {share}");
    assert_eq!(world.listed(), [("alice".to_owned(), "Notes".to_owned())]);
    assert_eq!(world.get(NOTES).await.status(), 401);
    assert_eq!(world.control().last_permission_request().expect("a ticket"), json!({ "resource_id": resource, "resource_scopes": ["view"] }));
    let rpt = world.rpt_for(&resource, &["view"]);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 200);
    assert_eq!(world.put(NOTES).bearer(&rpt).await.status(), 401, "the method decides");
    assert_eq!(world.api("GET", &format!("/shares/{}", id(&share)), &alice, &Value::Null).await.json(), share);
}

#[tokio::test]
async fn what_nobody_has_shared_is_closed() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    world.shared(&alice, json!({ "path": "/users/alice/folder/**" })).await;
    world.shared(&alice, json!({ "path": "/users/alice/One" })).await;
    let rpt = world.rpt(&["view", "edit"]);
    for path in [NOTES, "/users/alice", "/users/bob/folder/x", "/site/x", "/users/alice/one", "/users/alice/FOLDER/x", "/users/alice/One/below"] {
        let exchange = world.get(path).bearer(&rpt).await;
        assert_eq!((exchange.status(), exchange.rows().rsplit(' ').next()), (404, Some("D10")), "{path}");
        assert_eq!(world.get(path).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn whoever_may_not_share_gets_nothing() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let revoked = world.owner("alice");
    world.control().revoke(&revoked);
    let (unscoped, expired) = (world.control().access_token("alice", "openid", 300), world.control().access_token("alice", "share", -5));
    let (rpt, pat_like) = (world.rpt(&["view"]), world.control().access_token("alice", "uma_protection", 300));
    let wish = |path: &str| json!({ "path": path });
    let mine = wish(NOTES);
    for (token, body, status) in [
        ("", &mine, 401),
        ("unknown", &mine, 401),
        (&*revoked, &mine, 401),
        (&*expired, &mine, 401),
        (&*unscoped, &mine, 403),
        (&*rpt, &mine, 403),
        (&*pat_like, &mine, 403),
        ("the-operators-kez", &mine, 401),
        (KEY, &mine, 422),
        (KEY, &json!({ "path": NOTES, "owner": "bob" }), 403),
        (&*alice, &json!({ "path": "/users/bob/x", "owner": "bob" }), 403),
        (&*alice, &wish("/users/bob/x"), 403),
        (&*alice, &wish("/users/**"), 403),
        (&*alice, &wish("/**"), 403),
        (&*alice, &wish("/site/x"), 403),
        (&*alice, &wish("/albums/vacation/x"), 403),
        (&*alice, &wish("/public/x"), 403),
        (&*alice, &wish("/nowhere"), 403),
        (&*alice, &wish("/s/x"), 403),
        (&*alice, &wish("/users/alice/../bob/x"), 422),
        (&*alice, &wish("/users/alice/a;b"), 422),
        (&*alice, &wish("/users/alice/a%2Fb"), 422),
        (&*alice, &wish("/users/{user}/x"), 422),
        (&*alice, &wish("/users/*"), 403),
        (&*alice, &wish("/users/*/**"), 403),
        (&*alice, &wish("/*/alice/x"), 403),
        (&*alice, &wish("/s/*"), 403),
        (KEY, &json!({ "path": "/users/*/x", "owner": "*" }), 403),
        (&*alice, &wish("/users/alice/a*"), 422),
        (&*alice, &wish("/users/alice/**/x"), 422),
        (&*alice, &wish("/users/alice/%2A"), 422),
        (&*alice, &wish("/users/alice/%EF%BC%8A"), 422),
        (&*alice, &wish("/users/alice/%2A%2A"), 422),
        (&*alice, &wish("/users/alice/a%2a/**"), 422),
        (&*alice, &wish(&"/users/alice".repeat(33)), 422),
        (&*alice, &wish("users/alice/x"), 422),
        (&*alice, &json!({ "path": NOTES, "scopes": ["view", "own"] }), 422),
        (&*alice, &json!({ "path": NOTES, "scopes": [] }), 422),
        (&*alice, &json!({ "path": NOTES, "name": "" }), 422),
        (&*alice, &json!({ "path": NOTES, "name": "a\u{0}b" }), 422),
        (&*alice, &json!({ "path": NOTES, "upstream": "http://127.0.0.1:1/" }), 400),
        (&*alice, &json!({ "name": "no path" }), 400),
        (&*alice, &json!("text"), 400),
    ] {
        let answer = world.api("POST", "/shares", token, body).await;
        assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{body} {}", answer.text());
        assert_eq!(answer.json()["status"], status);
        assert_eq!(answer.header("www-authenticate").starts_with("Bearer "), status == 401 || (status == 403 && token != alice && token != KEY), "{body}");
    }
    assert!(world.listed().is_empty());
    assert_eq!(world.api("GET", "/shares", &alice, &Value::Null).await.json(), json!({ "shares": [] }));
    let wrong_method = world.api("PUT", "/shares", &alice, &Value::Null).await;
    assert_eq!((wrong_method.status, wrong_method.header("content-type"), wrong_method.header("allow")), (405, "application/problem+json", "GET, HEAD, POST"));
    assert_eq!(world.api("GET", "/elsewhere", &alice, &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_token_for_another_audience_shares_nothing() {
    let world = start(Setup::default().shares().audience("content-gateway")).await;
    let answer = world.api("POST", "/shares", &world.owner("alice"), &json!({ "path": NOTES })).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.json()["detail"].as_str().expect("a reason").contains("`aud`"), "{}", answer.text());
}

#[tokio::test]
async fn a_path_is_shared_once_and_a_name_is_one_of_a_kind() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    world.shared(&alice, json!({ "path": "/users/alice/a@b", "name": "mine" })).await;
    world.control().register("alice", "declared elsewhere", &["view"]);
    for wish in [
        json!({ "path": "/users/alice/a@b" }),
        json!({ "path": "/users/alice/a%40b/" }),
        json!({ "path": "/users/alice/c", "name": "mine" }),
        json!({ "path": "/users/alice/c", "name": "declared elsewhere" }),
    ] {
        let answer = world.api("POST", "/shares", &alice, &wish).await;
        assert_eq!(answer.status, 409, "{wish} {}", answer.text());
    }
    assert_eq!(world.listed().len(), 2);
    let all = [("/users/alice/d", "x"), ("/users/alice/d", "y"), ("/users/alice/e", "z"), ("/users/alice/f", "z")];
    let together = all.map(|(path, name)| json!({ "path": path, "name": name }));
    let posts = together.iter().map(|wish| world.api("POST", "/shares", &alice, wish));
    let mut statuses: Vec<u16> = futures_util::future::join_all(posts).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses, world.listed().len()), (vec![201, 201, 409, 409], 4), "also at the same moment");
}

#[tokio::test]
async fn others_shares_are_as_if_they_were_not() {
    let world = start(Setup::default().shares()).await;
    let (alice, bob) = (world.owner("alice"), world.owner("bob"));
    let share = world.shared(&alice, json!({ "path": NOTES })).await;
    let theirs = world.shared(&bob, json!({ "path": "/users/bob/x" })).await;
    let target = format!("/shares/{}", id(&share));
    for (method, body) in [("GET", Value::Null), ("PATCH", json!({ "name": "stolen" })), ("DELETE", Value::Null)] {
        let answer = world.api(method, &target, &bob, &body).await;
        let nowhere = world.api(method, "/shares/AAAAAAAAAAAAAAAAAAAAAA", &bob, &body).await;
        assert_eq!((answer.status, answer.text()), (404, nowhere.text()), "{method}");
    }
    assert_eq!(world.api("GET", "/shares", &bob, &Value::Null).await.json(), json!({ "shares": [theirs] }));
    assert_eq!(world.api("GET", "/shares?owner=alice", &bob, &Value::Null).await.json(), json!({ "shares": [theirs] }));
    assert_eq!(world.api("GET", "/shares?owner=alice", KEY, &Value::Null).await.json(), json!({ "shares": [share] }));
    assert_eq!(world.api("GET", "/shares", KEY, &Value::Null).await.status, 400);
    assert_eq!(world.api("DELETE", &target, KEY, &Value::Null).await.status, 204);
    assert_eq!(world.listed().len(), 1);
}

#[tokio::test]
async fn a_long_list_comes_in_parts() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    for number in 0..5 {
        world.shared(&alice, json!({ "path": format!("/users/alice/{number}") })).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let part = world.api("GET", &format!("/shares?limit=2{after}"), &alice, &Value::Null).await.json();
        seen.extend(part["shares"].as_array().expect("a list").iter().map(|share| share["path"].as_str().expect("a path").to_owned()));
        let Some(id) = part["after"].as_str() else { break };
        after = format!("&after={id}");
    }
    assert_eq!(seen, (0..5).map(|number| format!("/users/alice/{number}")).collect::<Vec<_>>());
    assert_eq!(world.api("GET", "/shares?limit=0", &alice, &Value::Null).await.status, 400);
}

#[tokio::test]
async fn a_withdrawn_share_is_closed_at_once_whatever_the_server_does() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES, "name": "Notes" })).await;
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 200);
    world.control().fail(Endpoint::ResourceSet, Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));

    let answer = world.api("DELETE", &format!("/shares/{}", id(&share)), &alice, &Value::Null).await;

    assert_eq!((answer.status, answer.text().as_str()), (202, ""));
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 404, "with an answer in the cache that permits");
    assert_eq!(world.get(&format!("/s/{}", id(&share))).bearer(&rpt).await.status(), 404);
    assert_eq!(world.api("GET", &format!("/shares/{}", id(&share)), &alice, &Value::Null).await.status, 404);
    assert_eq!(world.listed().len(), 1, "the server has it still");
    world.control().heal(Endpoint::ResourceSet);
    until("it is deleted there", async || world.listed().is_empty().then_some(())).await;
    let again =
        until("the path is free", async || Some(world.api("POST", "/shares", &alice, &json!({ "path": NOTES })).await).filter(|a| a.status == 201)).await;
    assert_ne!(again.json()["resource_id"], share["resource_id"]);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 401, "what was granted before is for what was before");
    let second = again.json();
    let answer = world.api("DELETE", &format!("/shares/{}", id(&second)), &alice, &Value::Null).await;
    assert_eq!((answer.status, world.listed().len()), (204, 0));
}

#[tokio::test]
async fn a_path_can_be_shared_again_though_the_server_does_not_delete_what_was_there() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES })).await;
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    // The list before the registration is asked for as usual.
    world.control().fail_next(Endpoint::ResourceSet, 1, Fault::status(http::StatusCode::FORBIDDEN));
    assert_eq!(world.api("DELETE", &format!("/shares/{}", id(&share)), &alice, &Value::Null).await.status, 202);

    let again = world.shared(&alice, json!({ "path": NOTES })).await;

    assert_ne!(again["resource_id"], share["resource_id"]);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 401, "what was granted before is for what was before");
    until("what was there is deleted", async || (world.listed().len() == 1).then_some(())).await;
    assert_eq!(world.get(NOTES).bearer(&world.rpt_for(resource_id(&again), &["view"])).await.status(), 200);
}

#[tokio::test]
async fn an_openam_registers_one_share_after_the_other() {
    let world = start(Setup::default().openam().shares()).await;
    let gate = Gate::closed();
    let calls = |method: &str| world.control().requests(Endpoint::ResourceSet).iter().filter(|seen| seen.method == method).count();
    let (lists, registered) = (calls("GET"), calls("POST"));
    // Each lists what the owner has before it registers anything.
    world.control().fail_next(Endpoint::ResourceSet, 2, Fault::late(Duration::ZERO));
    world.control().fail(Endpoint::ResourceSet, Fault::held(&gate));
    let (one, other) = (json!({ "path": "/site/1", "owner": "bob" }), json!({ "path": "/site/2", "owner": "bob" }));
    let both = async { tokio::join!(world.api("POST", "/shares", KEY, &one), world.api("POST", "/shares", KEY, &other)) };
    let at_once = async {
        until("both have listed", async || (calls("GET") == lists + 2 && calls("POST") > registered).then_some(())).await;
        assert_eq!(world.get("/site/3").await.status(), 404);
        let at_once = calls("POST") - registered;
        gate.open();
        at_once
    };
    let ((one, other), at_once) = tokio::join!(both, at_once);
    assert_eq!((one.status, other.status, at_once), (201, 201, 1), "what is registered at the same time can be shared with nobody there");
}

#[tokio::test]
async fn at_an_openam_no_share_has_a_name_by_which_it_could_not_be_shared_or_deleted() {
    let world = start(Setup::default().openam().shares()).await;
    let share = world.shared(KEY, json!({ "path": "/site/1", "owner": "bob", "name": "Bob's & Alice's (2026): 1.5" })).await;
    for (name, told) in [("2026/1", "`name` has `/`"), ("100 %", "`name` has `%`"), ("a = b", "`name` has `=`"), (" a", "`name` has a blank in front")] {
        let asked = world.api("POST", "/shares", KEY, &json!({ "path": "/site/2", "owner": "bob", "name": name })).await;
        let changed = world.api("PATCH", &format!("/shares/{}", id(&share)), KEY, &json!({ "name": name })).await;
        for answer in [asked, changed] {
            assert!(answer.status == 422 && answer.text().contains(told), "{name}: {} {}", answer.status, answer.text());
        }
    }
    assert_eq!(world.listed(), [("bob".to_owned(), "Bob's & Alice's (2026): 1.5".to_owned())]);
}

#[tokio::test]
async fn a_registration_without_an_answer_goes_on_and_is_made_once() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    world.control().fail(Endpoint::ResourceSet, Fault::without("_id"));

    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Notes" })).await;

    assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("wanted")));
    let share = answer.json();
    let target = format!("/shares/{}", id(&share));
    assert_eq!(world.get(NOTES).await.status(), 404, "closed as long as the server has not said what it calls it");
    assert_eq!(world.api("PATCH", &target, &alice, &json!({ "name": "x" })).await.status, 409);
    world.control().heal(Endpoint::ResourceSet);
    let registered =
        until("it is registered", async || Some(world.api("GET", &target, &alice, &Value::Null).await.json()).filter(|share| share["state"] == "registered"));
    let registered = registered.await;
    assert_eq!(world.listed(), [("alice".to_owned(), "Notes".to_owned())], "once");
    assert_eq!(registered["resource_id"].as_str(), world.control().resource_id("Notes").as_deref());
    assert_eq!(world.get(NOTES).await.status(), 401);
}

/// What the registration does that comes after the look whether the name is free: the server's list, and the one description on it.
fn fails_at_registration(world: &World, fault: Fault) {
    world.control().fail_next(Endpoint::ResourceSet, 2, Fault::late(Duration::ZERO));
    world.control().fail_next(Endpoint::ResourceSet, 1, fault);
}

#[tokio::test]
async fn what_a_server_refuses_in_the_background_is_not_registered_and_not_asked_for_again() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    fails_at_registration(&world, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    // It looks once more whether the server has it.
    fails_at_registration(&world, Fault::status(http::StatusCode::BAD_REQUEST));
    world.control().fail(Endpoint::ResourceSet, Fault::status(http::StatusCode::BAD_REQUEST));
    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Notes" })).await;
    assert_eq!(answer.status, 202, "{}", answer.text());

    let target = format!("/shares/{}", id(&answer.json()));
    until("it is given up", async || Some(world.api("GET", &target, &alice, &Value::Null).await).filter(|answer| answer.status == 404)).await;

    assert_eq!(world.get(NOTES).await.status(), 404);
    world.control().heal(Endpoint::ResourceSet);
    assert_eq!(world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Notes" })).await.status, 201, "path and name are free");
}

async fn is_registered(world: &World, target: &str, token: &str) -> Value {
    let share = async || Some(world.api("GET", target, token, &Value::Null).await.json()).filter(|share| share["state"] == "registered");
    until("it is registered", share).await
}

#[tokio::test]
async fn two_owners_never_have_one_resource_though_the_server_has_one_of_a_name() {
    let world = start(Setup::default().shares()).await;
    world.control().one_of_a_name(true);
    world.control().fail(Endpoint::ResourceSet, Fault::late(Duration::from_millis(200)));
    let (alice, bob) = (world.owner("alice"), world.owner("bob"));
    let wish = |owner: &str| json!({ "path": format!("/users/{owner}/x"), "name": "Vacation" });
    let (of_alice, of_bob) = (wish("alice"), wish("bob"));

    let (one, two) = tokio::join!(world.api("POST", "/shares", &alice, &of_alice), world.api("POST", "/shares", &bob, &of_bob));

    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", one.text(), two.text());
    world.control().heal(Endpoint::ResourceSet);
    for (token, wish) in [(&alice, &of_alice), (&bob, &of_bob)] {
        assert_eq!(world.api("POST", "/shares", token, wish).await.status, 409, "one has it, and its path");
    }
}

#[tokio::test]
async fn a_name_that_is_about_to_be_registered_is_nobody_elses_where_the_server_has_one_of_a_name() {
    let world = start(Setup::default().shares()).await;
    world.control().one_of_a_name(true);
    let (alice, bob) = (world.owner("alice"), world.owner("bob"));
    fails_at_registration(&world, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Vacation" })).await;
    assert_eq!(answer.status, 202, "{}", answer.text());

    let theirs = world.api("POST", "/shares", &bob, &json!({ "path": "/users/bob/x", "name": "Vacation" })).await;

    assert_eq!(theirs.status, 409, "{}", theirs.text());
    let share = is_registered(&world, &format!("/shares/{}", id(&answer.json())), &alice).await;
    assert_eq!(share["resource_id"].as_str(), world.control().resource_id("Vacation").as_deref());
    assert_eq!(world.listed(), [("alice".to_owned(), "Vacation".to_owned())]);
}

#[tokio::test]
async fn what_another_owner_has_is_neither_taken_nor_deleted_because_of_its_name() {
    let world = start(Setup::default().shares()).await;
    world.control().one_of_a_name(true);
    let (alice, bob) = (world.owner("alice"), world.owner("bob"));
    let theirs = world.shared(&bob, json!({ "path": "/users/bob/x", "name": "Photos" })).await;
    // A description more than there is without Bob's.
    world.control().fail_next(Endpoint::ResourceSet, 1, Fault::late(Duration::ZERO));
    fails_at_registration(&world, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Trip" })).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    // Somebody gives Bob's resource the name that Alice's is to have.
    world.control().register_with_id(resource_id(&theirs), "bob", "Trip", &["view", "edit"]);
    world.control().reset_calls();

    // The list, two descriptions, and that of the name once more.
    world.control().called(Endpoint::ResourceSet, 4).await;
    let target = format!("/shares/{}", id(&answer.json()));
    let withdrawn = world.api("DELETE", &target, &alice, &Value::Null).await;

    assert!(matches!(withdrawn.status, 202 | 204), "{}", withdrawn.text());
    until("Alice's path is free", async || {
        Some(world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Other" })).await).filter(|answer| answer.status == 201)
    })
    .await;
    let mut listed = world.listed();
    listed.sort();
    assert_eq!(listed, [("alice".to_owned(), "Other".to_owned()), ("bob".to_owned(), "Trip".to_owned())]);
}

#[tokio::test]
async fn a_share_is_never_what_a_route_means_by_a_name() {
    let minutes = "{ path: \"/minutes/{board}\", upstream: content, protect: { resource: { name: \"minutes of {board}\" }, scopes: { GET: [view] } } }";
    let homes =
        "{ path: \"/homes/{user}\", upstream: content, protect: { resource: { name: \"home of {user}\", owner: \"{user}\" }, scopes: { GET: [view] } } }";
    let world = start(Setup::default().shares().route(minutes).route(homes)).await;
    world.control().one_of_a_name(true);
    let bob = world.owner("bob");
    for (number, (name, path)) in [("minutes of directors", "/minutes/directors"), ("home of alice", "/homes/alice")].into_iter().enumerate() {
        let share = world.shared(&bob, json!({ "path": format!("/users/bob/{number}"), "name": name })).await;
        let rpt = world.rpt_for(resource_id(&share), &["view"]);
        assert_eq!(world.get(share["path"].as_str().expect("a path")).bearer(&rpt).await.status(), 200);

        assert_eq!(world.get(path).bearer(&rpt).await.status(), 404, "{path}");

        // What the name means comes later.
        let id = format!("rightful{number}");
        world.control().register_with_id(&id, "alice", name, &["view"]);
        until("it is found", async || (world.get(path).bearer(&rpt).await.status() == 401).then_some(())).await;
        assert_eq!(world.get(path).bearer(&world.rpt_for(&id, &["view"])).await.status(), 200, "{path}");
    }
}

/// Somebody whom this server does not know, so that it answers 500 to every registration of theirs.
async fn stuck(world: &World, path: &str, name: &str) -> String {
    let answer = world.api("POST", "/shares", KEY, &json!({ "path": path, "owner": "nobody", "name": name })).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    id(&answer.json()).to_owned()
}

#[tokio::test]
async fn another_owners_share_that_cannot_be_registered_closes_no_route() {
    let homes =
        "{ path: \"/homes/{user}\", upstream: content, protect: { resource: { name: \"home of {user}\", owner: \"{user}\" }, scopes: { GET: [view] } } }";
    let world = start(Setup::default().keycloak().shares().route(homes)).await;
    world.control().register_with_id("rightful", "alice", "home of alice", &["view"]);
    stuck(&world, "/site/x", "home of alice").await;

    assert_eq!(world.get("/homes/alice").await.status(), 401, "a ticket");
    assert_eq!(world.get("/homes/alice").bearer(&world.rpt_for("rightful", &["view"])).await.status(), 200);
}

#[tokio::test]
async fn an_owners_own_share_that_is_being_registered_is_not_what_a_route_means_by_its_name() {
    let homes =
        "{ path: \"/homes/{user}\", upstream: content, protect: { resource: { name: \"home of {user}\", owner: \"{user}\" }, scopes: { GET: [view] } } }";
    let world = start(Setup::default().keycloak().shares().route(homes)).await;
    // The server has it, and the gateway has not heard so.
    world.control().fail(Endpoint::ResourceSet, Fault::without("_id"));
    let answer = world.api("POST", "/shares", &world.owner("alice"), &json!({ "path": NOTES, "name": "home of alice" })).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let rpt = world.rpt_for(&world.control().resource_id("home of alice").expect("registered"), &["view"]);

    let status = world.get("/homes/alice").bearer(&rpt).await.status();

    assert!(matches!(status, 503 | 404), "{status}: whether it is the share is not known yet, or it is");
}

#[tokio::test]
async fn what_a_server_fails_at_keeps_nobody_elses_shares_waiting() {
    const STUCK: usize = 5;
    let world = start(Setup::default().keycloak().shares()).await;
    for number in 0..STUCK {
        stuck(&world, &format!("/site/{number}"), &format!("stuck {number}")).await;
    }
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES })).await;
    let tried = || world.control().requests(Endpoint::ResourceSet).iter().filter(|seen| seen.method == http::Method::POST).count();
    until("each is tried again", async || (tried() > 2 * STUCK).then_some(())).await;
    world.control().fail(Endpoint::ResourceSet, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(world.api("DELETE", &format!("/shares/{}", id(&share)), &alice, &Value::Null).await.status, 202);
    world.control().heal(Endpoint::ResourceSet);
    let before = tried();

    until("it is deleted", async || world.listed().is_empty().then_some(())).await;

    assert!(tried() < before + STUCK, "{} of those that are stuck were tried before", tried() - before);
}

#[tokio::test]
async fn what_a_server_fails_at_holds_up_nothing_else() {
    let world = start(Setup::default().keycloak().shares()).await;
    let stuck = world.api("POST", "/shares", KEY, &json!({ "path": "/site/x", "owner": "nobody" })).await;
    assert_eq!(stuck.status, 202, "this server answers 500 to an owner whom it does not know: {}", stuck.text());
    let alice = world.owner("alice");
    world.control().fail(Endpoint::ResourceSet, Fault::without("_id"));
    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES })).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    world.control().heal(Endpoint::ResourceSet);
    is_registered(&world, &format!("/shares/{}", id(&answer.json())), &alice).await;
    assert_eq!(world.api("DELETE", &format!("/shares/{}", id(&stuck.json())), KEY, &Value::Null).await.status, 204);
}

#[tokio::test]
async fn the_authorization_server_has_the_icon_of_a_share() {
    let icon = "https://photos.example.org/i.png";
    for setup in [Setup::default(), Setup::default().keycloak()] {
        let world = start(setup.shares()).await;
        let described = |name: &str| {
            let mut all = world.control().resources().into_iter().map(|(_, description)| description);
            all.find(|description| description["name"] == name).expect("registered")
        };
        let alice = world.owner("alice");
        let share = world.shared(&alice, json!({ "path": NOTES, "name": "Notes", "type": "urn:text", "icon_uri": icon })).await;
        assert_eq!(described("Notes").get("icon_uri"), Some(&json!(icon)));
        let change = world.api("PATCH", &format!("/shares/{}", id(&share)), &alice, &json!({ "name": "Letters" })).await;
        assert_eq!((change.status, described("Letters").get("icon_uri")), (200, Some(&json!(icon))));
        world.shared(&alice, json!({ "path": "/users/alice/x", "name": "plain" })).await;
        assert_eq!(described("plain").get("icon_uri"), None);
    }
}

#[tokio::test]
async fn what_the_records_refuse_the_server_does_not_hear_of() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES, "name": "Notes" })).await;
    let target = format!("/shares/{}", id(&share));
    let long = "ä".repeat(256);
    for name in ["", &long] {
        assert_eq!(world.api("PATCH", &target, &alice, &json!({ "name": name, "scopes": ["view"] })).await.status, 422, "{name}");
        assert_eq!(world.listed(), [("alice".to_owned(), "Notes".to_owned())]);
    }
    assert_eq!(world.api("GET", &target, &alice, &Value::Null).await.json(), share);
    for member in ["name", "type", "icon_uri"] {
        let answer = world.api("POST", "/shares", &alice, &json!({ "path": "/users/alice/x", member: long })).await;
        assert_eq!(answer.status, 422, "{member}: {}", answer.text());
    }
    world.shared(&alice, json!({ "path": "/users/alice/x", "name": "ä".repeat(255) })).await;
}

#[tokio::test]
async fn who_shares_at_once_has_no_more_than_one_may_have() {
    let world = start(Setup::default().shares_of(2)).await;
    let alice = world.owner("alice");
    world.control().fail(Endpoint::ResourceSet, Fault::late(Duration::from_millis(100)));
    let wishes: Vec<Value> = (0..5).map(|number| json!({ "path": format!("/users/alice/{number}") })).collect();
    let posts = wishes.iter().map(|wish| world.api("POST", "/shares", &alice, wish));
    let mut statuses: Vec<u16> = futures_util::future::join_all(posts).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses, world.listed().len()), (vec![201, 201, 403, 403, 403], 2));
}

#[tokio::test]
async fn a_share_whose_registration_could_not_be_written_is_settled_afterwards() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    // An id that is longer than any that is kept.
    let long = json!("x".repeat(600));
    fails_at_registration(&world, Fault::member("_id", long));
    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES, "name": "Notes" })).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let share = world.api("GET", "/shares", &alice, &Value::Null).await.json()["shares"][0].clone();
    is_registered(&world, &format!("/shares/{}", id(&share)), &alice).await;
    assert_eq!(world.listed(), [("alice".to_owned(), "Notes".to_owned())], "once");
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_leaves_nothing_behind() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    world.control().fail(Endpoint::ResourceSet, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    let answer = world.api("POST", "/shares", &alice, &json!({ "path": NOTES })).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
    world.control().heal(Endpoint::ResourceSet);
    world.control().fail(Endpoint::Introspection, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(world.api("POST", "/shares", &alice, &json!({ "path": NOTES })).await.status, 503);
    world.control().heal(Endpoint::Introspection);
    until("the server is asked again", async || Some(world.api("GET", "/shares", &alice, &Value::Null).await).filter(|answer| answer.status == 200)).await;
    assert_eq!((world.api("GET", "/shares", &alice, &Value::Null).await.json(), world.listed()), (json!({ "shares": [] }), vec![]));
    world.shared(&alice, json!({ "path": NOTES })).await;
}

#[tokio::test]
async fn an_exact_share_wins_over_that_of_the_folder() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let folder = world.shared(&alice, json!({ "path": "/users/alice/**" })).await;
    let exact = world.shared(&alice, json!({ "path": "/users/alice/a@b" })).await;
    let (of_folder, of_exact) = (world.rpt_for(resource_id(&folder), &["view"]), world.rpt_for(resource_id(&exact), &["view"]));
    for (path, folder, exact) in [("/users/alice/z", 200, 401), ("/users/alice", 200, 401), ("/users/alice/a@b", 401, 200), ("/users/alice/a%40b/", 401, 200)] {
        assert_eq!(world.get(path).bearer(&of_folder).await.status(), folder, "{path}");
        assert_eq!(world.get(path).bearer(&of_exact).await.status(), exact, "{path}");
    }
    assert_eq!(world.get("/users/alice/A@B").bearer(&of_folder).await.status(), 404, "a server that folds case would serve the other one");
}

#[tokio::test]
async fn a_segment_that_stands_for_any_takes_what_no_other_share_names() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let shares = ["/users/alice/*", "/users/alice/vacation.png", "/users/alice/*/cover.jpg", "/users/alice/*/raw/**", "/users/alice/**"];
    let mut tokens = Vec::new();
    for path in shares {
        let share = world.shared(&alice, json!({ "path": path })).await;
        assert_eq!(share["path"], path);
        tokens.push((path, world.rpt_for(resource_id(&share), &["view"])));
    }
    for (path, expected) in [
        ("/users/alice/vacation.png", "/users/alice/vacation.png"),
        ("/users/alice/vacation%2Epng/", "/users/alice/vacation.png"),
        ("/users/alice/sea.png", "/users/alice/*"),
        ("/users/alice/%2A", "/users/alice/*"),
        ("/users/alice/sea/cover.jpg", "/users/alice/*/cover.jpg"),
        ("/users/alice/sea/raw", "/users/alice/*/raw/**"),
        ("/users/alice/sea/raw/1/2", "/users/alice/*/raw/**"),
        ("/users/alice/sea/1", "/users/alice/**"),
        ("/users/alice", "/users/alice/**"),
    ] {
        for (share, token) in &tokens {
            assert_eq!(world.get(path).bearer(token).await.status(), if *share == expected { 200 } else { 401 }, "{path} by what is granted on {share}");
        }
    }
    for path in ["/users/alice/sea/COVER.jpg", "/users/alice/Vacation.png", "/users/bob/sea.png"] {
        assert_eq!(world.get(path).bearer(&tokens[0].1).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn an_owner_who_shares_all_that_one_may_below_a_folder_keeps_no_other_from_it() {
    let route =
        "{ path: \"/albums/{year}/{user}/**\", upstream: content, protect: { resource: { shared: true, owner: \"{user}\" }, scopes: { GET: [view] } } }";
    let world = start(Setup::default().shares().route(route)).await;
    world.control().add_user("mallory", "mallory");
    let (mallory, alice) = (world.owner("mallory"), world.owner("alice"));
    for number in 0..32 {
        world.shared(&mallory, json!({ "path": format!("/albums/*/mallory/{number}") })).await;
    }

    let share = world.shared(&alice, json!({ "path": "/albums/*/alice/cover.jpg" })).await;

    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    assert_eq!(world.get("/albums/2024/alice/cover.jpg").bearer(&rpt).await.status(), 200);
    let refused = world.api("POST", "/shares", &mallory, &json!({ "path": "/albums/*/mallory/more" })).await;
    assert_eq!((refused.status, detail(&refused).starts_with("32 paths of this owner begin with this folder")), (403, true), "{}", refused.text());
}

#[tokio::test]
async fn a_share_of_many_paths_is_one_share_and_has_no_link() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": "/users/alice/*/cover.jpg", "name": "Covers" })).await;
    assert!(share.get("link").is_none(), "{share}");
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    let target = format!("/shares/{}", id(&share));
    assert_eq!(world.get(&format!("/s/{}", id(&share))).bearer(&rpt).await.status(), 404, "it would lead to many");
    assert_eq!(world.api("POST", "/shares", &alice, &json!({ "path": "/users/alice/*/cover.jpg/" })).await.status, 409);
    assert_eq!(world.api("PATCH", &target, &alice, &json!({ "scopes": ["view"] })).await.json()["scopes"], json!(["view"]));
    assert_eq!(world.get("/users/alice/sea/cover.jpg").bearer(&rpt).await.status(), 200);

    assert_eq!(world.api("DELETE", &target, &alice, &Value::Null).await.status, 204);

    assert_eq!(world.get("/users/alice/sea/cover.jpg").bearer(&rpt).await.status(), 404);
    for number in 0..32 {
        world.shared(&alice, json!({ "path": format!("/users/alice/*/{number}") })).await;
    }
    let refused = world.api("POST", "/shares", &alice, &json!({ "path": "/users/alice/*" })).await;
    assert_eq!((refused.status, detail(&refused).contains("32")), (403, true), "{}", refused.text());
    world.shared(&alice, json!({ "path": "/users/alice/sea/*" })).await;
}

#[tokio::test]
async fn a_share_of_all_that_an_owner_has_opens_nothing_of_the_operators_below() {
    let reports = "{ path: \"/users/{user}/reports/**\", upstream: content, protect: { resource: { shared: true }, scopes: { GET: [view] } } }";
    let world = start(Setup::default().shares().route(reports)).await;
    let alice = world.owner("alice");
    assert_eq!(world.api("POST", "/shares", &alice, &json!({ "path": "/users/alice/reports/q1" })).await.status, 403);
    let all = world.shared(&alice, json!({ "path": "/users/alice/**" })).await;
    let rpt = world.rpt_for(resource_id(&all), &["view"]);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 200);
    for token in [&*rpt, ""] {
        let exchange = world.get("/users/alice/reports/q1").bearer(token).await;
        assert_eq!((exchange.status(), exchange.rows().rsplit(' ').next()), (404, Some("D10")), "{token}");
    }
    let theirs = world.shared(KEY, json!({ "path": "/users/alice/reports/**", "owner": "alice" })).await;
    assert_eq!(world.get("/users/alice/reports/q1").bearer(&world.rpt_for(resource_id(&theirs), &["view"])).await.status(), 200);
}

#[tokio::test]
async fn what_is_withdrawn_while_a_token_is_asked_about_is_closed_to_it() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES })).await;
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    let gate = Gate::closed();
    let asked = world.control().calls(Endpoint::Introspection);
    world.control().fail_next(Endpoint::Introspection, 1, Fault::held(&gate));
    let mut waiting = Connection::open(world.address(), None).await;
    waiting.send(&world.get(NOTES).bearer(&rpt).bytes()).await;
    world.control().called(Endpoint::Introspection, asked + 1).await;

    assert_eq!(world.api("DELETE", &format!("/shares/{}", id(&share)), &alice, &Value::Null).await.status, 204);
    gate.open();

    assert_eq!(waiting.answer(false).await.status, 404);
    assert_eq!(world.upstream().hits(), 0);
}

#[tokio::test]
async fn a_link_names_a_share_and_opens_nothing_by_itself() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES })).await;
    let link = format!("/s/{}", id(&share));

    assert_eq!(world.get(&link).await.status(), 401);
    let asked = world.control().last_permission_request().expect("a ticket");
    assert_eq!(asked, json!({ "resource_id": resource_id(&share), "resource_scopes": ["view", "edit"] }), "all that the share has");
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    let exchange = world.get(&format!("{link}/?a=b")).bearer(&rpt).await;
    assert_eq!((exchange.status(), exchange.answer.header("location")), (200, ""));
    assert_eq!(world.upstream().last().expect("a request").target, NOTES, "the record's path and nothing of the link");
    assert_eq!(world.put(&link).bearer(&rpt).await.status(), 401, "the method decides");
    assert_eq!(world.ask("PATCH", &link).bearer(&rpt).await.status(), 405);
    assert_eq!(world.get(&format!("{link}?access_token={rpt}")).await.status(), 400);
    for path in ["/s", "/s/", "/s/AAAAAAAAAAAAAAAAAAAAAA", &format!("{link}/more")] {
        assert_eq!(world.get(path).bearer(&rpt).await.status(), 404, "{path}");
    }
    let exact = world.shared(&alice, json!({ "path": "/users/alice/folder" })).await;
    let folder = world.shared(&alice, json!({ "path": "/users/alice/folder/**" })).await;
    let rpt = world.rpt_for(resource_id(&folder), &["view"]);
    assert_eq!(world.get(&format!("/s/{}", id(&folder))).bearer(&rpt).await.status(), 404, "the folder itself is another share");
    world.api("DELETE", &format!("/shares/{}", id(&exact)), &alice, &Value::Null).await;
    assert_eq!(world.get(&format!("/s/{}", id(&folder))).bearer(&rpt).await.status(), 200);
    assert_eq!(world.upstream().last().expect("a request").target, "/users/alice/folder");
}

#[tokio::test]
async fn a_site_at_another_host_has_the_paths_of_links_for_itself() {
    let route = |host: &str| format!("{{ host: {host}, path: /**, upstream: content, public: true, covers_protected: true }}");
    let setup = Setup::default().shares().route(&route("search.example.org")).route(&route("'*.example.net'"));
    let world = start(setup.route("{ host: search.example.org, path: /s/own, upstream: content, public: true }")).await;
    let share = world.shared(&world.owner("alice"), json!({ "path": NOTES })).await;
    let link = format!("/s/{}", id(&share));
    for (host, status) in
        [("gateway.example.org", 401), ("localhost", 401), ("search.example.org", 200), ("search.example.org:8080", 200), ("a.example.net", 200)]
    {
        assert_eq!(world.get(&link).header("Host", host).await.status(), status, "{host}");
    }
    assert_eq!(world.upstream().last().expect("a request").target, link, "its own path, and nothing of the record");
    assert_eq!(world.get("/s/app.js").header("Host", "search.example.org").await.status(), 200);
    assert_eq!(world.ask("TRACE", &link).header("Host", "search.example.org").await.status(), 405);
}

#[tokio::test]
async fn the_operator_shares_for_anybody_where_no_owner_may() {
    let route = |path: &str| format!("{{ path: \"{path}\", upstream: content, protect: {{ resource: {{ shared: true }}, scopes: {{ GET: [view] }} }} }}");
    let world = start(Setup::default().shares().route(&route("/t/{name}")).route(&route("/site/{name}"))).await;
    for (path, status) in [("/elsewhere/x", 403), ("/t/x", 201), ("/t/**", 403)] {
        let answer = world.api("POST", "/shares", KEY, &json!({ "path": path, "owner": "bob" })).await;
        assert_eq!(answer.status, status, "{path}: a folder needs a route that has all below {}", answer.text());
    }
    world
        .api("DELETE", &format!("/shares/{}", id(&world.api("GET", "/shares?owner=bob", KEY, &Value::Null).await.json()["shares"][0])), KEY, &Value::Null)
        .await;
    let share = world.shared(KEY, json!({ "path": "/site/x", "owner": "bob", "name": "Site" })).await;
    assert_eq!((&share["owner"], world.listed()), (&json!("bob"), vec![("bob".to_owned(), "Site".to_owned())]));
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    assert_eq!(world.get("/site/x").bearer(&rpt).await.status(), 200);
    assert_eq!(world.api("GET", &format!("/shares/{}", id(&share)), &world.owner("bob"), &Value::Null).await.json(), share);
    let answer = world.api("POST", "/shares", KEY, &json!({ "path": "/site/y", "owner": "nobody" })).await;
    assert_eq!(answer.status, 422, "the server knows nobody of that name: {}", answer.text());
    assert_eq!(world.api("GET", "/shares?owner=nobody", KEY, &Value::Null).await.json(), json!({ "shares": [] }));
}

#[tokio::test]
async fn a_share_can_have_another_name_and_fewer_scopes() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES, "name": "Notes" })).await;
    world.shared(&alice, json!({ "path": "/users/alice/x", "name": "taken" })).await;
    let target = format!("/shares/{}", id(&share));
    let rpt = world.rpt_for(resource_id(&share), &["view", "edit"]);
    assert_eq!(world.put(NOTES).bearer(&rpt).await.status(), 200);

    let answer = world.api("PATCH", &target, &alice, &json!({ "name": "Old notes", "scopes": ["view"] })).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    let changed = answer.json();
    assert_eq!((&changed["name"], &changed["scopes"], &changed["resource_id"]), (&json!("Old notes"), &json!(["view"]), &share["resource_id"]));
    assert_eq!(world.control().resource_id("Old notes").as_deref(), Some(resource_id(&share)));
    let refused = world.put(NOTES).bearer(&rpt).await;
    assert_eq!((refused.status(), refused.answer.header("allow")), (405, "GET, HEAD"), "at once, whatever was granted");
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 200);
    for (change, status) in
        [(json!({ "name": "taken" }), 409), (json!({ "scopes": ["own"] }), 422), (json!({ "path": "/users/alice/y" }), 400), (json!({}), 200)]
    {
        assert_eq!(world.api("PATCH", &target, &alice, &change).await.status, status, "{change}");
    }
    assert_eq!(world.api("GET", &target, &alice, &Value::Null).await.json(), changed);
}

#[tokio::test]
async fn each_owners_pat_registers_what_is_theirs() {
    let world = start(Setup::default().am().shares()).await;
    let share = world.shared(&world.owner("alice"), json!({ "path": NOTES, "name": "Notes" })).await;
    let request = world.control().last_request(Endpoint::ResourceSet).expect("a call");
    let pat = request.headers["authorization"].to_str().expect("text").strip_prefix("Bearer ").expect("a PAT").to_owned();
    assert_eq!((request.method.as_str(), world.control().user_of(&pat).as_deref()), ("POST", Some("alice")));
    world.shared(&world.owner("bob"), json!({ "path": "/users/bob/x", "name": "Bobs" })).await;
    let mut listed = world.listed();
    listed.sort();
    assert_eq!(listed, [("alice".to_owned(), "Notes".to_owned()), ("bob".to_owned(), "Bobs".to_owned())]);
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 200);
    let answer = world.api("POST", "/shares", &world.owner("carol"), &json!({ "path": "/users/carol/x" })).await;
    assert_eq!(answer.status, 403, "the gateway has no PAT of hers: {}", answer.text());
    assert_eq!(world.api("GET", "/shares", &world.owner("carol"), &Value::Null).await.json(), json!({ "shares": [] }));
}

#[tokio::test]
async fn owners_of_keycloaks_share_as_well() {
    let world = start(Setup::default().keycloak().shares()).await;
    let share = world.shared(&world.owner("alice"), json!({ "path": NOTES, "name": "Notes" })).await;
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    world.control().share("alice", "Notes", "bob", &["view"]);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 200);
    assert_eq!(world.api("DELETE", &format!("/shares/{}", id(&share)), &world.owner("alice"), &Value::Null).await.status, 204);
    assert!(world.listed().is_empty());
}

#[tokio::test]
async fn the_description_fits_what_is_answered() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let answer = world.api("GET", "/shares/openapi.json", "", &Value::Null).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "without a token");
    let description = answer.json();
    let fits = |name: &str, value: &Value| {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}"), "components": description["components"] });
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name} {value}");
    };
    let wish = json!({ "path": NOTES, "name": "Notes", "type": "urn:text", "icon_uri": "https://photos.example.org/i.png", "scopes": ["view"] });
    fits("NewShare", &wish);
    let share = world.shared(&alice, wish).await;
    fits("Share", &share);
    fits("Share", &world.shared(KEY, json!({ "path": "/site/x", "owner": "bob" })).await);
    fits("Share", &world.shared(&alice, json!({ "path": "/users/alice/*" })).await);
    fits("Shares", &world.api("GET", "/shares?limit=1", &alice, &Value::Null).await.json());
    let change = json!({ "name": "other", "scopes": ["edit", "view"] });
    fits("ChangedShare", &change);
    fits("Share", &world.api("PATCH", &format!("/shares/{}", id(&share)), &alice, &change).await.json());
    fits("Problem", &world.api("POST", "/shares", &alice, &json!({ "path": NOTES })).await.json());
    let methods = |path: &str| {
        let all = description["paths"][path].as_object().expect("methods").keys();
        all.filter(|key| *key != "parameters").map(|method| method.to_uppercase()).collect::<Vec<_>>()
    };
    for (path, target) in [("/shares", "/shares".to_owned()), ("/shares/{id}", format!("/shares/{}", id(&share)))] {
        let allow = world.api("TRACE", &target, &alice, &Value::Null).await;
        let allowed: Vec<String> = allow.header("allow").split(", ").filter(|method| *method != "HEAD").map(str::to_owned).collect();
        let mut described = methods(path);
        described.sort();
        let mut allowed = allowed;
        allowed.sort();
        assert_eq!(described, allowed, "{path}");
    }
}

#[tokio::test]
async fn another_configuration_decides_from_its_reload_on() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES })).await;
    let rpt = world.rpt_for(resource_id(&share), &["view"]);
    assert_eq!(world.get(&format!("/s/{}", id(&share))).bearer(&rpt).await.status(), 200);
    let address = world.gateway.shares_address();
    let take = async |from: &str, to: &str| {
        let text = Setup::default().shares().yaml(world.server.issuer(), world.content_address());
        assert!(text.contains(from), "{text}");
        world.reload(&text.replace(from, to)).await;
    };

    take("scope: share,", "scope: publish, prefix: /links,").await;

    assert_eq!(world.gateway.shares_address(), address, "the same door");
    assert_eq!(world.api("GET", "/shares", &alice, &Value::Null).await.status, 403, "another scope is needed");
    assert_eq!(world.get(&format!("/s/{}", id(&share))).bearer(&rpt).await.status(), 404);
    assert_eq!(world.get(&format!("/links/{}", id(&share))).bearer(&rpt).await.status(), 200);
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 200, "what was shared stays so");
    take("owner: \"{user}\"", "owner: bob").await;
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 404, "nothing of Alice's is there any more");
    assert_eq!(world.get(&format!("/s/{}", id(&share))).bearer(&rpt).await.rows().rsplit(' ').next(), Some("D10"));
    take("path: \"/users/{user}/**\"", "path: \"/people/{user}/**\"").await;
    let (closed, unknown) = (world.get(&format!("/s/{}", id(&share))).bearer(&rpt).await, world.get("/s/AAAAAAAAAAAAAAAAAAAAAA").bearer(&rpt).await);
    let body = |exchange: &crate::support::Exchange| (exchange.status(), exchange.answer.json()["type"].clone(), exchange.answer.json()["detail"].clone());
    assert_eq!(body(&closed), body(&unknown), "a closed link looks like none");
    take("content", "elsewhere").await;
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 404, "what is there now was not shared");
}

/// A sentence says what is wrong, and what to write.
fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap_or_default().to_owned()
}

impl World {
    /// A request to the shares API whose body is no JSON value.
    async fn api_text(&self, method: &str, target: &str, token: &str, body: &str) -> Answer {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut connection = Connection::open(self.gateway.shares_address().expect("an address"), None).await;
        connection.send(head.as_bytes()).await;
        connection.answer(false).await
    }
}

#[tokio::test]
async fn a_wrong_body_is_told_which_member_is_wrong_and_what_to_write() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let members = "`path`, `owner`, `name`, `type`, `icon_uri`, `scopes`";
    for (body, status, told) in [
        (json!({ "path": NOTES, "upstream": "http://127.0.0.1:1/" }), 400, format!("`upstream` is no member: there are {members}")),
        (json!({ "name": "no path" }), 400, "`path` is missing: the path to share, such as \"/folder/**\"".to_owned()),
        (json!({ "path": null }), 400, "`path` is missing: the path to share, such as \"/folder/**\"".to_owned()),
        (json!({ "path": [NOTES] }), 400, "`path` is a text".to_owned()),
        (json!({ "path": NOTES, "name": 7 }), 400, "`name` is a text".to_owned()),
        (json!({ "path": NOTES, "scopes": "view" }), 400, "`scopes` is a list of texts, such as [\"view\"]".to_owned()),
        (json!({ "path": NOTES, "scopes": ["view", 1] }), 400, "`scopes` is a list of texts, such as [\"view\"]".to_owned()),
        (json!([NOTES]), 400, format!("the body is an object with {members}; `path` is needed")),
        (json!({ "path": NOTES, "scopes": ["view", "own"] }), 422, "`own` is no scope here: there are `view`, `edit`".to_owned()),
        (json!({ "path": NOTES, "scopes": [] }), 422, "`scopes` has one at least of `view`, `edit`".to_owned()),
        (json!({ "path": NOTES, "icon_uri": "icon.png" }), 422, "`icon_uri` is an absolute address by http or https".to_owned()),
        (json!({ "path": NOTES, "icon_uri": "javascript:alert(1)" }), 422, "`icon_uri` is an absolute address by http or https".to_owned()),
        (json!({ "path": NOTES, "icon_uri": "https://" }), 422, "`icon_uri` is an absolute address by http or https".to_owned()),
        (
            json!({ "path": NOTES, "icon_uri": "https://alice:secret@photos.example.org/" }),
            422,
            "`icon_uri` is an absolute address by http or https".to_owned(),
        ),
    ] {
        let answer = world.api("POST", "/shares", &alice, &body).await;
        assert_eq!(answer.status, status, "{body} {}", answer.text());
        assert!(detail(&answer).contains(&told), "{body}: {} has no {told}", answer.text());
    }
    for (body, told) in [
        ("{\"path\": \"/x\"", "the body is not JSON: it breaks off"),
        ("", "the body is not JSON: it breaks off"),
        ("{\n\"path\": x}", "the body is not JSON, from line 2, column 9 on"),
    ] {
        let answer = world.api_text("POST", "/shares", &alice, body).await;
        assert!(answer.status == 400 && detail(&answer).contains(told), "{body}: {}", answer.text());
    }
    let answer = world.api_text("POST", "/shares", &alice, &format!("{{\"path\": \"{NOTES}\", \"path\": \"/users/alice/x\"}}")).await;
    assert!(answer.status == 400 && detail(&answer).contains("`path` stands twice"), "{}", answer.text());
    let share = world.shared(&alice, json!({ "path": NOTES, "icon_uri": "HTTPS://photos.example.org/i.png" })).await;
    let answer = world.api("PATCH", &format!("/shares/{}", id(&share)), &alice, &json!({ "path": "/users/alice/y" })).await;
    assert!(answer.status == 400 && detail(&answer).contains("`path` is no member: there are `name`, `scopes`"), "{}", answer.text());
}

#[tokio::test]
async fn who_may_not_share_a_path_is_told_where_one_may() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    for path in ["/users/bob/x", "/nowhere", "/site/x"] {
        let answer = world.api("POST", "/shares", &alice, &json!({ "path": path })).await;
        assert_eq!(detail(&answer), "the configuration does not let `alice` share this path: `alice` may share at /users/alice/**", "{path}");
    }
    let answer = world.api("POST", "/shares", KEY, &json!({ "path": "/nowhere", "owner": "bob" })).await;
    assert_eq!(detail(&answer), "the configuration does not let `bob` share this path: `bob` may share at /users/bob/**, /site/**");
}

#[tokio::test]
async fn every_answer_of_the_api_has_an_id() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let mut ids = Vec::new();
    for (method, target, token) in
        [("GET", "/shares", &*alice), ("GET", "/shares", "wrong"), ("PUT", "/shares", ""), ("GET", "/elsewhere", ""), ("GET", "/shares/openapi.json", "")]
    {
        let answer = world.api(method, target, token, &Value::Null).await;
        ids.push(answer.header("x-request-id").to_owned());
    }
    assert!(ids.iter().all(|id| id.len() == 10), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn tokens_that_nobody_knows_cost_the_server_no_more_than_elsewhere() {
    let world = start(
        Setup::default().shares().limits("{ introspections: { rate: 1/s, burst: 4 } }").server("introspection: { max_age: 120s, negative_max_age: 120s }"),
    )
    .await;
    let asked = world.control().calls(Endpoint::Introspection);
    for _ in 0..6 {
        assert_eq!(world.api("GET", "/shares", "guessed", &Value::Null).await.status, 401);
    }
    assert_eq!(world.control().calls(Endpoint::Introspection) - asked, 1, "what is wrong is wrong for a while");
    let mut statuses = Vec::new();
    for number in 0..30 {
        let answer = world.api("GET", "/shares", &format!("guessed-{number}"), &Value::Null).await;
        assert_eq!(answer.header("retry-after").is_empty(), answer.status == 401, "{}", answer.text());
        statuses.push(answer.status);
    }
    assert!(statuses.contains(&429) && statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    let seen = u64::try_from(statuses.iter().filter(|status| **status == 401).count()).expect("a number");
    assert_eq!(world.control().calls(Endpoint::Introspection) - asked, 1 + seen, "who is answered 429 costs nothing");
    assert_eq!(world.api("GET", "/shares?owner=alice", KEY, &Value::Null).await.status, 200, "the operator asks nobody");
}

#[tokio::test]
async fn explain_says_why_what_is_not_shared_is_closed() {
    let world = start(Setup::default().shares()).await;
    let door = uma_gateway::admin::AdminDoor::Socket(world.file("admin.sock"));
    let admin = uma_gateway::admin::AdminClient::new(&door);
    let explain = async |target: &str| {
        let url = format!("https://gateway.example.org{target}").parse().expect("an address");
        admin.explain(&http::Method::GET, &url, None).await.expect("an explanation")
    };
    for (target, reason) in [(NOTES, "nobody has shared this path"), ("/s/AAAAAAAAAAAAAAAAAAAAAA", "no share has this link"), ("/s", "no share has this link")]
    {
        let told = explain(target).await;
        assert_eq!((told["uma.row"].as_str(), told["uma.reason"].as_str()), (Some("D10"), Some(reason)), "{told}");
    }
    let share = world.shared(&world.owner("alice"), json!({ "path": NOTES })).await;
    let told = explain(&format!("/s/{}", id(&share))).await;
    assert_eq!((told["uma.row"].as_str(), told["http.response.status_code"].as_u64()), (Some("D15"), Some(401)), "{told}");
}

#[tokio::test]
async fn a_share_that_was_deleted_at_the_server_is_closed_until_it_is_deleted_and_made_anew() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES, "name": "Notes" })).await;
    assert!(world.control().remove_resource(resource_id(&share)));

    let refused = world.get(NOTES).await;

    assert_eq!((refused.status(), refused.answer.json()["title"].as_str()), (403, Some("Resource unknown")));
    until("it is counted", async || world.metrics().await.contains("uma_shares{state=\"lost\"} 1").then_some(())).await;
    let target = format!("/shares/{}", id(&share));
    let mut seen = world.api("GET", &target, &alice, &Value::Null).await.json();
    let why = seen.as_object_mut().and_then(|seen| seen.remove("closed")).expect("its owner sees that it is closed");
    assert!(why.as_str().is_some_and(|why| why.contains("has deleted its resource")), "{why}");
    assert_eq!(seen, share, "whoever deleted it there may have meant it");
    let listed = world.api("GET", "/shares", &alice, &Value::Null).await.json();
    assert_eq!(listed["shares"][0]["closed"], why);
    assert_eq!(world.api("DELETE", &target, &alice, &Value::Null).await.status, 204);
    let anew = world.shared(&alice, json!({ "path": NOTES, "name": "Notes" })).await;
    assert_eq!(world.listed(), [("alice".to_owned(), "Notes".to_owned())]);
    let statuses = [&share, &anew].map(|share| world.rpt_for(resource_id(share), &["view"]));
    assert_eq!((world.get(NOTES).bearer(&statuses[0]).await.status(), world.get(NOTES).bearer(&statuses[1]).await.status()), (401, 200));
}

#[tokio::test]
async fn another_resource_of_its_name_is_not_taken_for_the_share_that_was_deleted() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let share = world.shared(&alice, json!({ "path": NOTES, "name": "Notes" })).await;
    assert!(world.control().remove_resource(resource_id(&share)));
    let other = world.control().register("alice", "Notes", &["view", "edit"]);
    let rpt = world.rpt_for(&other, &["view"]);

    let answer = world.api("PATCH", &format!("/shares/{}", id(&share)), &alice, &json!({ "scopes": ["view"] })).await;

    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("delete the share")), "{}", answer.text());
    let statuses = (world.get(NOTES).await.status(), world.get(NOTES).bearer(&rpt).await.status());
    assert_eq!(statuses, (403, 403));
    until("it is counted", async || world.metrics().await.contains("uma_shares{state=\"lost\"} 1").then_some(())).await;
    assert_eq!(world.api("DELETE", &format!("/shares/{}", id(&share)), &alice, &Value::Null).await.status, 204);
    assert_eq!(world.listed(), [("alice".to_owned(), "Notes".to_owned())], "the other one stays");
    assert!(world.metrics().await.contains("uma_shares{state=\"lost\"} 0"));
}

#[tokio::test]
async fn a_folder_above_does_not_take_the_place_of_a_share_that_was_deleted_at_the_server() {
    let world = start(Setup::default().shares()).await;
    let alice = world.owner("alice");
    let folder = world.shared(&alice, json!({ "path": "/users/alice/**" })).await;
    let rpt = world.rpt_for(resource_id(&folder), &["view"]);
    let share = world.shared(&alice, json!({ "path": NOTES })).await;
    assert_eq!((world.get("/users/alice/x").bearer(&rpt).await.status(), world.get(NOTES).bearer(&rpt).await.status()), (200, 401));
    assert!(world.control().remove_resource(resource_id(&share)));
    world.control().fail(Endpoint::ResourceSet, Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 403);
    world.control().called(Endpoint::ResourceSet, 1).await;
    assert_eq!(world.get(NOTES).bearer(&rpt).await.status(), 403);
}

#[tokio::test]
async fn readyz_says_what_is_known_of_the_records() {
    let world = start(Setup::default().shares()).await;
    let line = |registered: u32| format!("[+] records store: up (schema 3; shares: {registered} registered, 0 to be registered, 0 to be deleted)\n");
    let verbose = world.verbose().await;
    assert!(verbose.contains(&line(0)), "{verbose}");
    world.shared(&world.owner("alice"), json!({ "path": NOTES })).await;
    let verbose = world.verbose().await;
    assert!(verbose.contains(&line(1)), "{verbose}");
    assert!(world.metrics().await.contains("uma_gateway_dependency_up{kind=\"records\",name=\"store\"} 1"));
}

#[tokio::test]
async fn whoever_may_not_share_a_path_hears_as_whom_they_came_and_where_they_may() {
    let route = "{ path: /team/**, upstream: content, protect: { resource: { shared: true, owner: bob }, scopes: { GET: [view] } } }";
    let world = start(Setup::default().shares().route(route)).await;
    for (token, wish, expected) in [
        (&*world.owner("alice"), json!({ "path": "/team/x" }), "does not let `alice` share this path: `alice` may share at /users/alice/**"),
        (&world.owner("bob"), json!({ "path": "/site/x" }), "does not let `bob` share this path: `bob` may share at /users/bob/**, /team/**"),
        (KEY, json!({ "path": "/users/bob/x", "owner": "alice" }), "does not let `alice` share this path: `alice` may share at /users/alice/**, /site/**"),
    ] {
        let answer = world.api("POST", "/shares", token, &wish).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 403 && detail.ends_with(expected), "{wish} {detail}");
    }
}
