//! Limits of connections: as the configuration has them, for whom they hold, and changed while connections stand.

use uma_gateway::demo::authorization_server::Kind;

use super::support::{Connection, Plan, World, request, until};

fn limits(text: &str) -> Plan {
    Plan { limits: format!("{{ {text} }}"), ..Plan::default() }
}

/// One more connection, if it is served.
async fn another(world: &World) -> Option<Connection> {
    let mut connection = Connection::try_open(world.address()).await.ok()?;
    connection.try_send(&request("GET", "/public/welcome.txt", None)).await.ok()?;
    let answer = connection.read(false).await.ok()?;
    (answer.status == 200).then_some(connection)
}

#[tokio::test]
async fn a_client_has_as_many_connections_as_the_configuration_says_and_a_reload_changes_it() {
    let world = World::start(Kind::Uma2, &limits("connections_per_client: 2")).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(until("a seat", async || another(&world).await).await);
    }
    assert!(another(&world).await.is_none(), "a third");
    assert_eq!(world.metric("uma_gateway_connections_limit ").await, Some(10_000.0));

    world.reload(&limits("connections: 4, connections_per_client: 3")).await.expect("no mistakes");
    held.push(until("a third", async || another(&world).await).await);
    assert!(another(&world).await.is_none(), "a fourth");
    assert_eq!(world.metric("uma_gateway_connections_limit ").await, Some(4.0));

    // Whoever many clients come by is bound by the count of all only.
    world.reload(&limits("connections: 4, connections_per_client: 3, off_for: [127.0.0.0/8]")).await.expect("no mistakes");
    held.push(until("a fourth", async || another(&world).await).await);
    assert!(another(&world).await.is_none(), "a fifth of four");
    world.reload(&Plan { top: "trusted_proxies: [127.0.0.0/8]".into(), ..limits("connections: 5, connections_per_client: 3") }).await.expect("no mistakes");
    held.push(until("a fifth", async || another(&world).await).await);
    assert!(another(&world).await.is_none(), "a sixth of five");
    for connection in &mut held {
        connection.send(&request("GET", "/public/welcome.txt", None)).await;
        assert_eq!(connection.answer(false).await.status, 200, "those that stood before still stand");
    }
}

#[tokio::test]
async fn deadlines_of_clients_are_those_of_the_configuration() {
    let world = World::start(Kind::Uma2, &limits("timeouts: { head: 50ms }")).await;
    let mut silent = Connection::open(world.address(), None).await;
    assert!(silent.ends().await, "at the head's deadline");
    world.reload(&limits("timeouts: { head: 1h, body: 50ms, idle: 50ms }")).await.expect("no mistakes");
    let mut idle = another(&world).await.expect("it is served");
    assert!(idle.ends().await, "at the idle deadline");
    let mut slow = Connection::open(world.address(), None).await;
    slow.send(b"PUT /public/x HTTP/1.1\r\nHost: photos.example.org\r\nContent-Length: 5\r\n\r\nab").await;
    assert_eq!(slow.answer(false).await.status, 408);
}
