//! What operators see of all this: metrics that move, records that `explain ID` finds.

use uma_gateway::admin::{AdminClient, AdminDoor};
use uma_gateway::demo::authorization_server::{Endpoint, Fault};

use crate::support::{Connection, LINK, Setup, World, until};

/// The value of a series; nothing when there is none.
async fn value(world: &World, series: &str) -> Option<f64> {
    world.metrics().await.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn every_kind_of_traffic_moves_its_metric() {
    let world = Setup::default().keycloak().start().await;
    let rpt = world.rpt(&["view"]);
    world.get(LINK).await;
    for _ in 0..3 {
        world.get(LINK).bearer(&rpt).await;
    }
    for _ in 0..2 {
        world.get(LINK).bearer("unknown-to-the-server").await;
    }
    world.control().fail_next(Endpoint::Permission, 1, Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));
    world.get(LINK).await;
    let expected = [
        ("uma_tickets_total", 3.0),
        ("uma_cache_hits_total{cache=\"introspection\"}", 2.0),
        ("uma_cache_misses_total{cache=\"introspection\"}", 2.0),
        ("uma_cache_hits_total{cache=\"negative\"}", 1.0),
        ("uma_cache_hits_total{cache=\"live\"}", 2.0),
        ("uma_cache_misses_total{cache=\"live\"}", 1.0),
        ("uma_cache_evictions_total{cache=\"introspection\"}", 0.0),
        ("uma_as_requests_total{endpoint=\"introspection\",outcome=\"ok\"}", 2.0),
        ("uma_as_requests_total{endpoint=\"decision\",outcome=\"ok\"}", 1.0),
        ("uma_as_requests_total{endpoint=\"permission\",outcome=\"ok\"}", 3.0),
        ("uma_as_requests_total{endpoint=\"permission\",outcome=\"failed\"}", 1.0),
        ("uma_resources_registered{authorization_server=\"server\"}", 1.0),
        ("uma_gateway_connections_total{outcome=\"accepted\"}", 7.0),
        ("uma_gateway_panics_total", 0.0),
    ];
    for (series, count) in expected {
        assert_eq!(value(&world, series).await, Some(count), "{series}");
    }
    assert!(value(&world, "uma_pat_expiry_timestamp_seconds{authorization_server=\"server\"}").await.is_some_and(|time| time > 1.7e9));
}

#[tokio::test]
async fn decisions_are_counted_by_outcome_and_row() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    world.get(LINK).await;
    world.get(LINK).bearer(&rpt).await;
    world.put(LINK).bearer(&rpt).await;
    world.get("/nowhere").await;
    world.get("/public/welcome.txt").await;
    let metrics = world.metrics().await;
    let decisions: Vec<&str> = metrics.lines().filter(|line| line.starts_with("uma_decisions_total{")).collect();
    for (outcome, reason) in [("challenged", "D15"), ("permitted", "E10"), ("challenged", "E8"), ("refused", "D7"), ("public", "D6")] {
        let series = format!("uma_decisions_total{{outcome=\"{outcome}\",reason=\"{reason}\"}} 1");
        assert!(decisions.contains(&series.as_str()), "{series} in {decisions:#?}");
    }
}

#[tokio::test]
async fn open_connections_are_counted_while_they_are_open() {
    let world = World::start().await;
    let series = "uma_gateway_connections ";
    let mut connections = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(&world.get("/public/welcome.txt").bytes()).await;
        connection.answer(false).await;
        connections.push(connection);
    }
    assert_eq!(value(&world, series).await, Some(5.0));
    drop(connections);
    until("they are closed", async || (value(&world, series).await == Some(0.0)).then_some(())).await;
}

#[tokio::test]
async fn a_request_is_explained_by_the_id_in_its_answer() {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let door = AdminDoor::Socket(world.file("admin.sock"));
    for exchange in [world.get(LINK).await, world.put(LINK).bearer(&rpt).await, world.get(LINK).bearer(&rpt).await] {
        let record = AdminClient::new(&door).record(exchange.answer.header("x-request-id")).await.expect("it is kept");
        for name in ["uma.row", "uma.rows", "url.path", "http.route", "http.response.status_code", "uma.resource_id"] {
            assert_eq!(record[name], exchange.line[name], "{name}");
        }
    }
}
