//! Resources found by the path: the one at the server whose `uris` have it, asked for at the first request, and methods that are scopes.

use std::time::Instant;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::demo::content_server::Reply;

use crate::figures::under_way;
use crate::support::{Connection, Exchange, Setup, World, until};

const ROUTE: &str = "{ path: /albums/work/**, upstream: content, protect: { resource: { uris: true }, scopes: { GET: [view], \"PUT, DELETE\": [edit] } } }";
const BY_METHOD: &str = "{ path: /albums/work/**, upstream: content, protect: { resource: { uris: true }, scopes: http_method_as_scope } }";
const PLAN: &str = "/albums/work/plan.txt";
/// The gateway's own client, which owns what nobody else does.
const CLIENT: &str = "content-gateway";

async fn world() -> World {
    Setup::default().keycloak().route(ROUTE).start().await
}

fn looked_up(exchange: &Exchange<'_>) -> u64 {
    exchange.calls(Endpoint::ResourceSet)
}

#[tokio::test]
async fn a_resource_is_found_by_its_path_and_asked_for_once() {
    let world = world().await;
    let id = world.control().register_with_uris("alice", "plan", &["view"], &[PLAN]);
    let exchange = world.get(&format!("{PLAN}?key=hush")).await;
    exchange.challenge();
    assert_eq!((exchange.status(), looked_up(&exchange)), (401, 2), "the path, and the path with a slash");
    assert_eq!(world.control().last_permission_request(), Some(json!([{ "resource_id": id, "resource_scopes": ["view"] }])));
    let asked = world.control().requests(Endpoint::ResourceSet);
    assert!(asked.iter().all(|seen| seen.target.contains("uri=%2Falbums%2Fwork%2Fplan.txt") && !seen.target.contains("hush")), "the path and no more");

    let rpt = world.control().grant_rpt("bob", &[("plan", &["view"])], 300);
    for target in [PLAN, "/albums/work/%70lan.txt"] {
        let exchange = world.get(target).bearer(&rpt).await;
        assert_eq!((exchange.status(), looked_up(&exchange)), (200, 0), "{target} is known");
    }
    assert_eq!(world.control().last_request(Endpoint::Live).and_then(|seen| seen.parameter("permission")), Some(id));
    let refused = world.put(PLAN).bearer(&rpt).body("x").await;
    assert_eq!((refused.status(), refused.answer.header("allow")), (405, "GET, HEAD"), "the resource has no scope to edit");
    assert_eq!(world.upstream().hits(), 2);
}

#[tokio::test]
async fn a_path_without_a_resource_is_not_found_and_not_asked_for_again() {
    let world = world().await;
    let exchange = world.get("/albums/work/none").await;
    exchange.is_problem("no-resource");
    assert_eq!((exchange.rows().as_str(), looked_up(&exchange)), ("D10: D10", 6), "itself, with a slash, and four folders");
    for again in [world.get("/albums/work/none").await, world.get("/albums/work/none/").bearer("a-token").await] {
        assert_eq!((again.status(), world.control().calls(Endpoint::ResourceSet), again.calls(Endpoint::Introspection)), (404, 6, 0));
    }
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn what_is_registered_later_is_found_soon() {
    let world = Setup::default().keycloak().route(ROUTE).server("introspection: { negative_max_age: 100ms }").start().await;
    assert_eq!(world.get(PLAN).await.status(), 404);
    world.control().register_with_uris("alice", "plan", &["view"], &["/albums/work/*"]);
    until("it is found", async || (world.get(PLAN).await.status() == 401).then_some(())).await;
}

#[tokio::test]
async fn a_resource_that_is_deleted_is_out_of_reach_once_and_then_not_found() {
    let world = world().await;
    let id = world.control().register_with_uris("alice", "plan", &["view"], &[PLAN]);
    assert_eq!(world.get(PLAN).await.status(), 401);
    assert!(world.control().remove_resource(&id));
    assert_eq!(world.get(PLAN).await.rows(), "D15 C4: C4");
    assert_eq!(world.get(PLAN).await.rows(), "D10: D10");
}

#[tokio::test]
async fn an_owners_folder_is_nearer_than_a_pattern_of_the_gateways_client() {
    let world = world().await;
    world.control().register_with_uris(CLIENT, "all albums", &["view"], &["/albums/*"]);
    world.control().register_with_uris("alice", "work", &["view"], &["/albums/work/*"]);
    let of_all = world.control().grant_rpt("bob", &[("all albums", &["view"])], 300);
    let refused = world.get(PLAN).bearer(&of_all).await;
    assert_eq!((refused.status(), refused.challenge().error.as_deref()), (401, Some("insufficient_scope")));
    assert!(world.upstream().saw_nothing());
    let of_work = world.control().grant_rpt("bob", &[("work", &["view"])], 300);
    assert_eq!(world.get(PLAN).bearer(&of_work).await.status(), 200);
}

#[tokio::test]
async fn a_path_that_is_registered_in_another_spelling_is_not_missed_for_a_wider_pattern() {
    let world = world().await;
    world.control().register_with_uris(CLIENT, "all work", &["view"], &["/albums/work/*"]);
    world.control().register_with_uris("alice", "draft", &["view"], &["/albums/work/draft/"]);
    world.control().register_with_uris("alice", "café", &["view"], &["/albums/work/café"]);
    world.control().register_with_uris("alice", "from a Mac", &["view"], &["/albums/work/re\u{301}sume\u{301}"]);
    let rpt = world.control().grant_rpt("bob", &[("all work", &["view"])], 300);
    for target in ["/albums/work/draft", "/albums/work/draft/", "/albums/work/caf%c3%a9", "/albums/work/r%C3%A9sum%C3%A9"] {
        assert_eq!(world.get(target).bearer(&rpt).await.status(), 401, "{target}");
    }
    assert!(world.upstream().saw_nothing());
    assert_eq!(world.get(PLAN).bearer(&rpt).await.status(), 200);
}

#[tokio::test]
async fn a_folder_that_is_registered_in_another_spelling_is_not_missed_for_a_wider_pattern() {
    let world = world().await;
    world.upstream().reply(Reply::ok("content"));
    world.control().register_with_uris(CLIENT, "all work", &["view"], &["/albums/work/*"]);
    for uri in [
        "/albums/work/bob%40example.org/*",
        "/albums/work/x%5B1%5D/*",
        "/albums/work/a%2Bb(c)/*",
        "/albums/work/my docs/*",
        "/albums/work/café/*",
        "/albums/work/bob/*",
    ] {
        world.control().register_with_uris("alice", uri, &["view"], &[uri]);
    }
    let rpt = world.control().grant_rpt("bob", &[("all work", &["view"])], 300);
    for target in [
        "/albums/work/bob%40example.org/x",
        "/albums/work/bob@example.org/x",
        "/albums/work/x%5B1%5D/x",
        "/albums/work/a%2Bb%28c%29/x",
        "/albums/work/my%20docs/x",
        "/albums/work/caf%C3%A9/x",
        "/albums/work/cafe%CC%81/x",
        "/albums/work/%EF%BD%82ob/x",
    ] {
        assert_eq!(world.get(target).bearer(&rpt).await.status(), 401, "{target}");
    }
    assert!(world.upstream().saw_nothing());
    assert_eq!(world.get(PLAN).bearer(&rpt).await.status(), 200);
    let own = world.control().grant_rpt("bob", &[("/albums/work/bob%40example.org/*", &["view"])], 300);
    assert_eq!(world.get("/albums/work/bob%40example.org/x").bearer(&own).await.status(), 200);
}

#[tokio::test]
async fn of_two_patterns_in_two_spellings_the_nearer_one_counts() {
    let world = world().await;
    world.upstream().reply(Reply::ok("content"));
    world.control().register_with_uris(CLIENT, "all work", &["view"], &["/albums/work/*"]);
    world.control().register_with_uris(CLIENT, "docs", &["view"], &["/albums/work/my docs/*"]);
    let rpt = world.control().grant_rpt("bob", &[("docs", &["view"])], 300);
    assert_eq!(world.get("/albums/work/my%20docs/x").bearer(&rpt).await.status(), 200);
}

#[tokio::test]
async fn two_resources_with_one_path_are_refused_and_the_reason_is_named() {
    let world = world().await;
    for owner in ["alice", "bob"] {
        world.control().register_with_uris(owner, &format!("plan of {owner}"), &["view"], &[PLAN]);
    }
    let exchange = world.get(PLAN).await;
    exchange.is_problem("as-unreachable");
    assert_eq!((exchange.status(), exchange.rows().as_str()), (403, "C7: C7"));
    assert!(exchange.line.to_string().contains("several resources have this path"), "{}", exchange.line);
    let rpt = world.control().grant_rpt("bob", &[("plan of alice", &["view"])], 300);
    let exchange = world.get(PLAN).bearer(&rpt).await;
    assert_eq!((exchange.status(), exchange.rows().as_str(), looked_up(&exchange)), (503, "I6: I6", 0));
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn an_answer_that_names_a_resource_of_another_path_is_not_believed() {
    let world = world().await;
    let id = world.control().register_with_uris("alice", "other", &["view"], &["/other"]);
    let rpt = world.control().grant_rpt("bob", &[("other", &["view"])], 300);
    for (file, uris) in
        [("a.txt", json!(["/other"])), ("b.txt", json!([])), ("c.txt", json!(["/elsewhere/*.txt", "/albums/work"])), ("d.txt", json!(["/albums/work/d*"]))]
    {
        let answer = json!([{ "_id": id, "name": "other", "uris": uris, "resource_scopes": ["view"] }]);
        world.control().fail_next(Endpoint::ResourceSet, 1, Fault::json(StatusCode::OK, &answer));
        let exchange = world.get(&format!("/albums/work/{file}")).bearer(&rpt).await;
        assert_eq!((exchange.status(), exchange.rows().as_str()), (503, "I6: I6"), "{uris}");
        assert!(exchange.line.to_string().contains("does not have this path"), "{}", exchange.line);
    }
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn a_server_that_gives_no_usable_answer_is_not_taken_for_one_without_the_resource() {
    let world = world().await;
    let big = format!("[{}]", " ".repeat(10 << 20));
    let two = r#"[{"_id":"a","uris":["/x"]},{"_id":"b","_id":"c","uris":["/x"]}]"#;
    let faults = [
        Fault::status(StatusCode::INTERNAL_SERVER_ERROR),
        Fault::status(StatusCode::NOT_FOUND),
        Fault::close(),
        Fault::truncate(),
        Fault::not_json(),
        Fault::text(StatusCode::OK, "{}"),
        Fault::text(StatusCode::OK, "null"),
        Fault::text(StatusCode::OK, r#"["an-id"]"#),
        Fault::text(StatusCode::OK, r#"[{"_id":1,"uris":["/x"]}]"#),
        Fault::text(StatusCode::OK, r#"[{"_id":"a"}]"#),
        Fault::text(StatusCode::OK, two),
        Fault::text(StatusCode::OK, big),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let path = format!("/albums/work/{number}");
        world.control().register_with_uris("alice", &path, &["view"], &[&path]);
        world.control().fail(Endpoint::ResourceSet, fault);
        let exchange = world.get(&path).await;
        assert_eq!((exchange.status(), exchange.answer.header("warning").is_empty()), (403, false), "fault {number}: {}", exchange.rows());
        let exchange = world.get(&path).bearer("a-token").await;
        assert_eq!((exchange.status(), exchange.rows().as_str()), (503, "I6: I6"), "fault {number}");
        world.control().heal(Endpoint::ResourceSet);
        assert_eq!(world.get(&path).await.status(), 401, "fault {number}: as soon as it is back");
    }
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn fifty_first_requests_for_a_path_are_one_look_up() {
    let world = world().await;
    world.control().register_with_uris("alice", "plan", &["view"], &[PLAN]);
    let gate = Gate::closed();
    world.control().fail_next(Endpoint::ResourceSet, 1, Fault::held(&gate));
    let request = world.get(PLAN).bytes();
    let mut connections = Vec::new();
    for _ in 0..50 {
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(&request).await;
        connections.push(connection);
    }
    until("all wait", async || (under_way(&world).await == 50).then_some(())).await;
    world.control().called(Endpoint::ResourceSet, 1).await;
    gate.open();
    for connection in &mut connections {
        assert_eq!(connection.answer(false).await.status, 401);
    }
    assert_eq!(world.control().calls(Endpoint::ResourceSet), 2, "the path, and the path with a slash");
}

#[tokio::test]
async fn a_stranger_who_tries_paths_is_stopped_and_nobody_else() {
    let world = Setup::default().keycloak().route(ROUTE).limits("{ introspections: { rate: 1/s, burst: 20 }, off_for: [127.0.0.1/32] }").start().await;
    let started = Instant::now();
    let paths: Vec<String> = (0..40).map(|number| format!("/albums/work/guess-{number}")).collect();
    let statuses = join_all(paths.iter().map(async |path| world.get(path).from("127.0.0.2").await.status())).await;
    let most = 20 + started.elapsed().as_secs() + 1;
    assert!(statuses.iter().all(|status| matches!(status, 404 | 429)) && statuses.contains(&429), "{statuses:?}");
    let calls = world.control().calls(Endpoint::ResourceSet);
    assert!(calls > 0 && calls <= most, "{calls} calls, and {most} were his");
    assert_eq!(world.get("/albums/work/mine").await.status(), 404, "another address is not his");
}

#[tokio::test]
async fn a_method_needs_the_scope_of_its_name_and_reaches_only_what_has_it() {
    let world = Setup::default().keycloak().route(BY_METHOD).start().await;
    let id = world.control().register_with_uris("alice", "plan", &["GET", "PUT"], &[PLAN]);
    assert_eq!(world.get(PLAN).await.status(), 401);
    assert_eq!(world.control().last_permission_request(), Some(json!([{ "resource_id": id, "resource_scopes": ["GET"] }])));
    let rpt = world.control().grant_rpt("bob", &[("plan", &["GET"])], 300);
    assert_eq!(world.get(PLAN).bearer(&rpt).await.status(), 200);
    assert_eq!(world.ask("HEAD", PLAN).bearer(&rpt).await.status(), 200, "HEAD follows GET");
    let refused = world.put(PLAN).bearer(&rpt).body("x").await;
    assert_eq!((refused.status(), refused.challenge().error.as_deref()), (401, Some("insufficient_scope")));
    assert_eq!(world.control().last_permission_request(), Some(json!([{ "resource_id": id, "resource_scopes": ["PUT"] }])));
    let refused = world.ask("DELETE", PLAN).bearer(&rpt).await;
    assert_eq!((refused.status(), refused.answer.header("allow")), (405, "GET, HEAD, PUT"));
    for method in ["BREW", "SUBSCRIBE"] {
        let refused = world.ask(method, PLAN).bearer(&rpt).await;
        assert_eq!((refused.status(), refused.rows().as_str(), looked_up(&refused)), (405, "D9: D9", 0), "{method}");
    }
    assert_eq!(world.upstream().hits(), 2);
}

#[tokio::test]
async fn a_server_of_another_kind_opens_no_path() {
    // `profile: auto` finds out when it runs.
    let world = Setup::default().route(ROUTE).start().await;
    world.control().register_with_uris("alice", "plan", &["view"], &[PLAN]);
    let exchange = world.get(PLAN).await;
    assert_eq!((exchange.status(), exchange.rows().as_str(), looked_up(&exchange)), (403, "C7: C7", 0));
    let rpt = world.control().grant_rpt("bob", &[("plan", &["view"])], 300);
    assert_eq!(world.get(PLAN).bearer(&rpt).await.status(), 503);
    assert!(world.upstream().saw_nothing());
}
