//! Which resource a name means at a server, and what it costs to find that out.

use uma_gateway::demo::authorization_server::Endpoint;

use crate::support::{Setup, World, until};

const ALBUMS: &str =
    "{ path: \"/users/{user}/{album}/**\", upstream: content, protect: { resource: { name: \"{album}\", owner: \"{user}\" }, scopes: { GET: [view] } } }";

/// The status of the gateway's own refusal; nothing where the request went on to the content server.
async fn refusal(world: &World, path: &str, rpt: &str) -> Option<u16> {
    let exchange = world.get(path).bearer(rpt).await;
    (!exchange.passed("U1")).then(|| exchange.status())
}

#[tokio::test]
async fn what_keycloak_finds_without_regard_to_case_is_another_resource() {
    let world = Setup::default().keycloak().route(ALBUMS).start().await;
    world.control().register("alice", "diary", &["view"]);
    let rpt = world.control().grant_rpt("bob", &[("diary", &["view"])], 300);
    assert_eq!(refusal(&world, "/users/alice/diary/x", &rpt).await, None);
    for path in ["/users/alice/Diary/x", "/users/alice/DIARY/x", "/users/ALICE/diary/x", "/users/Alice/Diary/x"] {
        assert_eq!(refusal(&world, path, &rpt).await, Some(404), "{path}");
    }
    // One that differs in case only takes nothing from it.
    world.control().register("alice", "Album", &["view"]);
    world.control().register("alice", "album", &["view"]);
    for (name, other) in [("Album", "album"), ("album", "Album")] {
        let rpt = world.control().grant_rpt("bob", &[(name, &["view"])], 300);
        assert_eq!(refusal(&world, &format!("/users/alice/{name}/x"), &rpt).await, None);
        assert_eq!(refusal(&world, &format!("/users/alice/{other}/x"), &rpt).await, Some(401));
    }
}

#[tokio::test]
async fn an_owner_whom_the_server_writes_in_another_way_has_nothing_registered_for_him_again_and_again() {
    let route =
        "{ path: /tent, upstream: content, protect: { resource: { register: { name: tent, scopes: [view], owner: Alice } }, scopes: { GET: [view] } } }";
    let setup = Setup::default().keycloak().route(route);
    let world = setup.start_unready().await;
    world.control().register("alice", "tent", &["view"]);
    until("the mistake is told", async || (world.get("/tent").connect().await.status == 403).then_some(())).await;
    assert_eq!(world.control().resources().iter().filter(|(_, about)| about["name"] == "tent").count(), 1);
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn where_the_server_does_not_say_whose_a_resource_is_no_path_says_it_either() {
    let of_each = "{ path: \"/users/{user}/files/**\", upstream: content, protect: { resource: { name: files, owner: \"{user}\" }, scopes: { GET: [view] } } }";
    let named = "{ path: \"/users/{user}/notes/**\", upstream: content, protect: { resource: { name: \"notes of {user}\", owner: \"{user}\" }, scopes: { GET: [view] } } }";
    for hides in [false, true] {
        let world = Setup::default().route(of_each).route(named).start().await;
        world.control().one_of_a_name(hides);
        world.control().register("alice", "files", &["view"]);
        world.control().register("alice", "notes of alice", &["view"]);
        let rpt = world.control().grant_rpt("bob", &[("files", &["view"]), ("notes of alice", &["view"])], 300);
        let (own, others) = if hides { (Some(503), Some(503)) } else { (None, Some(404)) };
        assert_eq!(refusal(&world, "/users/carol/files/x", &rpt).await, others, "hides: {hides}");
        assert_eq!(refusal(&world, "/users/alice/files/x", &rpt).await, own, "hides: {hides}");
        assert_eq!(refusal(&world, "/users/alice/notes/x", &rpt).await, None, "the name says it all");
        assert_eq!(refusal(&world, "/users/carol/notes/x", &rpt).await, Some(404));
    }
}

#[tokio::test]
async fn where_no_owner_is_named_the_resource_is_the_gateways_own_and_nobody_elses_of_that_name() {
    let handbook = "{ path: /handbook, upstream: content, protect: { resource: { name: handbook }, scopes: { GET: [view] } } }";
    for keycloak in [false, true] {
        let setup = if keycloak { Setup::default().keycloak() } else { Setup::default() };
        let world = setup.route(handbook).start().await;
        let bobs = world.control().register("bob", "handbook", &["view"]);
        let rpt = world.control().grant_rpt("carol", &[(&bobs, &["view"])], 300);
        assert_eq!(refusal(&world, "/handbook", &rpt).await, Some(404), "keycloak: {keycloak}");
        let own = world.control().register("content-gateway", "handbook", &["view"]);
        let granted = world.control().grant_rpt("carol", &[(&own, &["view"])], 300);
        until("it is there", async || refusal(&world, "/handbook", &granted).await.is_none().then_some(())).await;
        assert_eq!(refusal(&world, "/handbook", &rpt).await, Some(401), "what Bob grants opens nothing of it: {keycloak}");
    }
}

#[tokio::test]
async fn where_the_server_cannot_search_its_descriptions_are_read_once_and_not_for_each_name_that_is_asked_for() {
    let world = Setup::default().route(ALBUMS).start().await;
    for number in 0..40 {
        world.control().register("alice", &format!("album {number}"), &["view"]);
    }
    world.control().reset_calls();
    // At once, and none of them there.
    let paths: Vec<String> = (0..30).map(|number| format!("/users/alice/none{number}/x")).collect();
    let none = futures_util::future::join_all(paths.iter().map(|path| async { world.get(path).connect().await.status })).await;
    assert!(none.iter().all(|status| *status == 404), "{none:?}");
    let first = world.control().calls(Endpoint::ResourceSet);
    assert!((41..=110).contains(&first), "each description once, and the list not more often than names: {first}");
    assert_eq!(world.get("/users/alice/album%207/x").await.status(), 401);
    let found = world.control().calls(Endpoint::ResourceSet) - first;
    assert!(found <= 2, "the list, and the one that has the name: {found}");
}

#[tokio::test]
async fn a_resource_that_has_got_another_name_is_not_found_by_the_old_one() {
    let world = Setup::default().route(ALBUMS).start().await;
    world.control().register_with_id("one", "alice", "old", &["view"]);
    assert_eq!(world.get("/users/alice/other/x").await.status(), 404, "now all are read");
    world.control().register_with_id("one", "alice", "new", &["view"]);
    let rpt = world.control().grant_rpt("bob", &[("new", &["view"])], 300);
    assert_eq!(refusal(&world, "/users/alice/old/x", &rpt).await, Some(404));
    assert_eq!(refusal(&world, "/users/alice/new/x", &rpt).await, None);
}
