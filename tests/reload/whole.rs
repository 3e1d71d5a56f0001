//! A whole new configuration, or the old one stays.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use uma_gateway::app::Why;
use uma_gateway::demo::authorization_server::{Endpoint, Kind};

use super::support::{LINK, Load, Plan, World, free, get, until};

fn route(path: &str) -> String {
    format!("{{ path: {path}, public: true }}")
}

#[tokio::test]
async fn ten_reloads_a_second_under_load_fail_no_request_and_keep_what_is_known() {
    let (plain, more) = (Plan::default(), Plan { routes: vec![route("/more/**")], ..Plan::default() });
    let world = World::start(Kind::Uma2, &plain).await;
    let rpt = world.around.rpt();
    assert_eq!(get(world.address(), LINK, Some(&rpt)).await.status, 200);
    let load = Load::start(world.address(), &[(Some(&rpt), 200), (Some(&rpt), 200), (Some(&rpt), 200), (None, 401)]);
    sleep(Duration::from_millis(200)).await;
    let asked = |endpoint| world.around.control().calls(endpoint);
    let before = [Endpoint::Introspection, Endpoint::Pat, Endpoint::Discovery].map(asked);
    let connections = world.around.content().connections();

    let start = Instant::now();
    for turn in 0..30_u32 {
        world.reload(if turn % 2 == 0 { &more } else { &plain }).await.expect("no mistakes");
        sleep_until(start + Duration::from_millis(100) * (turn + 1)).await;
    }

    let outcome = load.end().await;
    assert!(outcome.bad.is_empty(), "{} of {} failed, the first with {:?}", outcome.bad.len(), outcome.good, outcome.bad.first());
    assert!(outcome.good > 100, "{}", outcome.good);
    assert_eq!([Endpoint::Introspection, Endpoint::Pat, Endpoint::Discovery].map(asked), before, "nothing is asked anew");
    assert!(world.around.content().connections() <= connections + 4, "connections to the content server are kept");
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_named_with_its_line() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let refused = world.reload(&Plan { routes: vec!["{ path: /x, publik: true }".into()], ..Plan::default() }).await.expect_err("a mistake");
    let line = world.around.yaml(&Plan::default()).lines().count() + 1;
    assert!(refused.mistakes.iter().any(|mistake| mistake.contains(&format!("gateway.yaml:{line}:"))), "{refused}");

    let verbose = world.health("/readyz?verbose").await;
    assert_eq!(verbose.status, 200, "still ready");
    assert!(verbose.text().contains(&format!("gateway.yaml:{line}:")), "{}", verbose.text());
    assert_eq!(world.metric("uma_gateway_config_last_reload_successful ").await, Some(0.0));
    assert_eq!(get(world.address(), LINK, Some(&world.around.rpt())).await.status, 200);

    world.reload(&Plan::default()).await.expect("mended");
    assert_eq!(world.metric("uma_gateway_config_last_reload_successful ").await, Some(1.0));
    assert!(!world.health("/readyz?verbose").await.text().contains("gateway.yaml:"));
}

#[tokio::test]
async fn routes_come_and_go() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    assert_eq!(world.get("/more/a.txt").await.status, 404);
    world.reload(&Plan { routes: vec![route("/more/**")], ..Plan::default() }).await.expect("no mistakes");
    assert_ne!(world.get("/more/a.txt").await.header("content-type"), "application/problem+json");
    world.reload(&Plan::default()).await.expect("no mistakes");
    assert_eq!(world.get("/more/a.txt").await.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn listeners_come_and_go_while_the_others_serve() {
    let plan = Plan::default();
    let world = World::start(Kind::Uma2, &plan).await;
    let rpt = world.around.rpt();
    let load = Load::start(world.address(), &[(Some(&rpt), 200)]);
    let address = free();
    let further = Plan { listeners: vec![plan.listeners[0].clone(), format!("{{ address: {address} }}")], ..plan.clone() };
    world.reload(&further).await.expect("no mistakes");
    assert_eq!(get(address, LINK, Some(&rpt)).await.status, 200);

    world.reload(&plan).await.expect("no mistakes");
    until("nobody listens", async || tokio::net::TcpStream::connect(address).await.is_err().then_some(())).await;
    let outcome = load.end().await;
    assert!(outcome.bad.is_empty(), "{:?}", outcome.bad.first());
}

#[tokio::test]
async fn a_listener_whose_settings_change_keeps_its_address() {
    let address = free();
    let listener = |hosts: &str| Plan { listeners: vec![format!("{{ address: {address}{hosts} }}")], ..Plan::default() };
    let world = World::start(Kind::Uma2, &listener("")).await;
    let rpt = world.around.rpt();
    assert_eq!(get(world.address(), LINK, Some(&rpt)).await.status, 200);
    world.reload(&listener(", hosts: [other.example.org]")).await.expect("no mistakes");
    until("the new settings hold", async || (get(world.address(), LINK, Some(&rpt)).await.status == 421).then_some(())).await;
}

#[tokio::test]
async fn an_address_that_is_taken_refuses_the_whole_configuration() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let listeners = vec![Plan::default().listeners[0].clone(), format!("{{ address: {address} }}")];
    let refused = world.reload(&Plan { listeners, routes: vec![route("/more/**")], ..Plan::default() }).await.expect_err("taken");
    assert!(refused.to_string().contains(&address.to_string()), "{refused}");
    assert_eq!(world.get("/more/a.txt").await.status, 404, "nothing of it is in force");
}

#[tokio::test]
async fn another_authorization_server_section_starts_with_nothing_known() {
    let world = World::start(Kind::Uma2, &Plan::default()).await;
    let rpt = world.around.rpt();
    let load = Load::start(world.address(), &[(Some(&rpt), 200)]);
    let before = world.around.control().calls(Endpoint::Introspection);
    let server = "introspection: { max_age: 500s }".to_owned();
    world.reload(&Plan { server, ..Plan::default() }).await.expect("no mistakes");
    until("it is asked anew", async || (world.around.control().calls(Endpoint::Introspection) > before).then_some(())).await;
    let outcome = load.end().await;
    assert!(outcome.bad.is_empty(), "{:?}", outcome.bad.first());
    world.gateway.reloads().reload(Why::Signal).await.expect("nothing has changed");
}
