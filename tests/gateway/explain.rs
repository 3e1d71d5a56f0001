//! `explain` against the truth: what it says of a request is what the gateway does with it.

use std::collections::{BTreeMap, HashMap};

use http::{Method, Uri};
use serde_json::{Map, json};
use uma_gateway::admin::{AdminClient, AdminDoor};
use uma_gateway::secret::Secret;

use crate::support::{LINK, Setup, World, until};

/// Numbers that look random and are the same every time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const METHODS: [&str; 9] = ["GET", "GET", "GET", "HEAD", "PUT", "DELETE", "POST", "TRACE", "get"];
const STARTS: [&str; 10] =
    ["/albums/vacation", "/albums/vacation", "/albums/work", "/public", "/named/vacation", "/named/nothing", "/declared/tent", "/", "/albums", "/PUBLIC"];
const MIDDLES: [&str; 9] = ["", "", "/notes.txt", "/beach.jpg", "/%2e%2e", "/a%2Fb", "/%6eotes.txt", "//x", "/%zz"];
const ENDS: [&str; 6] = ["", "", "", "?q=1", "?access_token=x", "?a=%00"];

/// Tokens of every kind; the empty place is none.
fn tokens(world: &World) -> Vec<Option<String>> {
    let control = world.control();
    let claimed = |members: serde_json::Value| {
        control.rpt_claims(members.as_object().cloned().unwrap_or_default());
        let rpt = world.rpt(&["view", "edit"]);
        control.rpt_claims(Map::new());
        rpt
    };
    let revoked = world.rpt(&["view"]);
    control.revoke(&revoked);
    let kinds = [
        world.rpt(&["view"]),
        world.rpt(&["view", "edit"]),
        world.rpt(&["edit"]),
        control.grant_rpt("carol", &[], 300),
        revoked,
        control.access_token("bob", "openid", 300),
        claimed(json!({ "cnf": { "jkt": "x" } })),
        claimed(json!({ "iss": "https://elsewhere.example.org" })),
        "unknown-to-the-server".to_owned(),
        "not a token".to_owned(),
        "=".to_owned(),
    ];
    kinds.into_iter().map(Some).chain([None, None]).collect()
}

async fn compare(setup: Setup, seed: u64, requests: usize) -> BTreeMap<String, usize> {
    let world = setup.server("introspection: { max_age: 120s, negative_max_age: 120s }").start().await;
    let door = AdminDoor::Socket(world.file("admin.sock"));
    let admin = AdminClient::new(&door);
    let tokens = tokens(&world);
    // What is found out about a token the first time is known the second time: the rows differ, rightly.
    for token in tokens.iter().flatten() {
        world.get("/albums/vacation").bearer(token).await;
        world.put("/albums/vacation").bearer(token).await;
    }
    let (mut dice, mut explained) = (Dice(seed), HashMap::new());
    while explained.len() < requests {
        let method = *dice.one_of(&METHODS);
        let target = [*dice.one_of(&STARTS), *dice.one_of(&MIDDLES), *dice.one_of(&ENDS)].concat();
        let token = dice.one_of(&tokens).as_deref();
        let ask = world.ask(method, &target);
        let real = if let Some(token) = token { ask.bearer(token).connect().await } else { ask.connect().await };
        let url: Uri = format!("http://gateway.example.org{target}").parse().expect("an address");
        let secret = token.map(Secret::from);
        let told = admin.explain(&method.parse::<Method>().expect("a method"), &url, secret.as_ref()).await.expect("an explanation");
        let id = real.header("x-request-id").to_owned();
        explained.insert(id, (format!("{method} {target} with {token:?}"), told));
    }
    let mut seen = BTreeMap::new();
    for line in world.audit().await {
        let Some((request, told)) = line["request_id"].as_str().and_then(|id| explained.remove(id)) else { continue };
        assert_eq!(told["uma.row"], line["uma.row"], "{request}\nexplained {told}\nreal      {line}");
        for name in ["http.route", "uma.resource_id", "uma.subject", "url.path"] {
            assert_eq!(told[name], line[name], "{name} of {request}");
        }
        *seen.entry(line["uma.row"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert!(explained.is_empty(), "without an audit line: {:?}", explained.values().map(|(request, _)| request).collect::<Vec<_>>());
    seen
}

#[tokio::test]
async fn a_thousand_random_requests_are_explained_as_they_are_answered() {
    let seen = compare(Setup::default(), 0x5eed_0001, 1_000).await;
    let rows: Vec<&str> = seen.keys().map(String::as_str).collect();
    for row in ["D1", "D3", "D5", "D6", "D7", "D9", "D10", "D12", "D13", "D14", "D15", "E1", "E10", "E2", "E5", "E8", "I3"] {
        assert!(rows.contains(&row), "the requests never came to {row}: {seen:?}");
    }
}

#[tokio::test]
async fn the_live_decision_is_explained_too() {
    let seen = compare(Setup::default().keycloak(), 0x5eed_0002, 300).await;
    assert!(seen.contains_key("E10") && seen.contains_key("D15"), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_is_down_is_told_where_a_ticket_would_be_needed() {
    let world = Setup::default().start().await;
    let door = AdminDoor::Socket(world.file("admin.sock"));
    let admin = AdminClient::new(&door);
    let ask = async |target: &str| {
        let url: Uri = format!("http://gateway.example.org{target}").parse().expect("an address");
        admin.explain(&Method::GET, &url, None).await.expect("an explanation")
    };
    assert_eq!(ask(LINK).await.get("uma.authorization_server_down"), None);
    world.control().stop().await;
    assert_eq!(world.get(LINK).await.status(), 403);
    let told = ask(LINK).await;
    assert_eq!(told["uma.row"], "D15", "{told}");
    assert!(told["uma.authorization_server_down"].as_str().is_some_and(|why| !why.is_empty()), "{told}");
    assert_eq!(ask("/public/a.txt").await.get("uma.authorization_server_down"), None);
    world.control().resume().await;
    until("a ticket again", async || (world.get(LINK).await.status() == 401).then_some(())).await;
    assert_eq!(ask(LINK).await.get("uma.authorization_server_down"), None);
}
