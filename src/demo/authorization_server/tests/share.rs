//! Owners share and withdraw by HTTP, each what is theirs.

use http::{Method, StatusCode};

use super::client::{World, basic, send};

#[tokio::test]
async fn only_the_owner_shares_and_withdraws() {
    let world = World::new().await;
    world.control().register("alice", "vacation", &["view"]);
    let url = format!("{}/share", world.server.issuer());
    let ask = async |method: Method, who: &str, password: &str, query: &str| {
        let (url, body) = if method == Method::POST { (url.clone(), query.to_owned()) } else { (format!("{url}?{query}"), String::new()) };
        let reply = send(method, &url, Some(&basic(who, password)), "application/x-www-form-urlencoded", body).await;
        reply.expect("an answer").status
    };
    let share = "resource=vacation&user=bob&scope=view";
    assert_eq!(ask(Method::POST, "alice", "guess", share).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Method::POST, "bob", "bob", share).await, StatusCode::NOT_FOUND, "not his");
    assert_eq!(ask(Method::POST, "alice", "alice", share).await, StatusCode::NO_CONTENT);
    assert_eq!(ask(Method::DELETE, "bob", "bob", share).await, StatusCode::NOT_FOUND);
    assert_eq!(ask(Method::DELETE, "alice", "alice", share).await, StatusCode::NO_CONTENT);
    assert_eq!(ask(Method::DELETE, "alice", "alice", share).await, StatusCode::NOT_FOUND, "nothing is shared any more");
}
