//! Several content servers, and slow ones, through the whole gateway.

use uma_gateway::demo::Gate;
use uma_gateway::demo::content_server::{ContentServer, Options, Reply};

use crate::support::{Connection, Setup};

#[tokio::test]
async fn an_upstream_that_does_not_answer_holds_nobody_else_up() {
    let slow = ContentServer::start(Options::default()).await.expect("a port is free");
    let gate = Gate::closed();
    slow.records().reply(Reply::ok("late").behind(&gate));
    let upstream = format!("slow: {{ servers: [ \"http://{}\" ], max_connections: 4 }}", slow.address());
    let world = Setup::default().another_upstream(&upstream).route("{ path: /slow/**, upstream: slow, public: true }").start().await;
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(&world.get("/slow/x").bytes()).await;
        waiting.push(connection);
    }
    slow.records().hit(4).await;
    // All of these are answered while none of those is.
    for _ in 0..100 {
        assert_eq!(world.get("/public/welcome.txt").connect().await.status, 200);
    }
    assert_eq!(slow.records().hits(), 4, "the others wait, or were told that there is no room");
    gate.open();
    let mut answers = Vec::new();
    for connection in &mut waiting {
        answers.push(connection.answer(false).await.status);
    }
    assert!(answers.iter().all(|status| matches!(status, 200 | 503)) && answers.iter().filter(|status| **status == 200).count() >= 4, "{answers:?}");
}

#[tokio::test]
async fn a_server_that_dies_is_left_alone_and_found_again() {
    let other = ContentServer::start(Options::default()).await.expect("a port is free");
    let upstream = format!(
        "both: {{ servers: [ \"http://CONTENT\", {{ url: \"http://{}\", weight: 3 }} ], ejection: {{ failures: 1, rest: 200ms }}, credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }} }}",
        other.address()
    );
    let world = Setup::default().another_upstream(&upstream).route("{ path: /both/**, upstream: both, public: true, rewrite: \"/public/{**}\" }").start().await;
    let ask = async || world.get("/both/welcome.txt").connect().await.status;
    for _ in 0..40 {
        assert_eq!(ask().await, 200);
    }
    assert!(other.records().hits() > world.upstream().hits() && world.upstream().hits() > 0, "by weight");
    other.records().stop().await;
    for _ in 0..40 {
        assert_eq!(ask().await, 200);
    }
    let gauge = format!("uma_gateway_upstream_server_up{{server=\"{}\",upstream=\"both\"}}", other.address());
    assert!(world.metrics().await.contains(&format!("{gauge} 0")));
    other.records().resume().await;
    let before = other.records().hits();
    crate::support::until("it is asked again", async || {
        ask().await;
        (other.records().hits() > before).then_some(())
    })
    .await;
    assert!(world.metrics().await.contains(&format!("{gauge} 1")));
}
