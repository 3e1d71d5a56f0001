//! Owners' tokens over restarts: what was renewed is written before it is used, so a restart, however sudden (`kills`), goes on with it.
//!
//! The refresh tokens of the authorization server here are good once.

use std::time::Duration;

use uma_gateway::demo::authorization_server::Endpoint;

use crate::owner::{BY_PASSWORD, Neighbourhood, until};

#[tokio::test]
async fn a_restart_goes_on_with_the_token_that_was_kept() {
    let around = Neighbourhood::new(BY_PASSWORD).await;
    let running = around.start_ready().await;
    around.open().await;
    assert_eq!(around.grants(), ["password"]);
    running.end().await;
    let running = around.start_ready().await;
    around.open().await;
    assert_eq!(around.grants(), ["password"], "nobody had to ask for another one");
    running.kill();
    let _running = around.start_ready().await;
    around.open().await;
    assert_eq!(around.grants(), ["password"]);
}

#[tokio::test]
async fn a_token_that_has_ended_meanwhile_is_renewed_by_what_was_kept_with_it() {
    let around = Neighbourhood::new(BY_PASSWORD).await;
    // What ends within two seconds is as good as ended.
    around.control().pat_lifetime(2);
    let running = around.start_ready().await;
    around.open().await;
    running.end().await;
    around.control().reset_calls();
    around.control().pat_lifetime(300);
    let _running = around.start_ready().await;
    around.open().await;
    assert_eq!(around.grants(), ["refresh_token"]);
}

#[tokio::test]
async fn the_token_of_another_user_name_is_not_used() {
    let around = Neighbourhood::new(BY_PASSWORD).await;
    let running = around.start_ready().await;
    around.open().await;
    running.end().await;
    around.control().reset_calls();
    around.control().add_user("alison", "alice");
    around.configure("{ username: alison, password: { file: alice-password } }");
    let _running = around.start_ready().await;
    until("a token is asked for", async || (!around.grants().is_empty()).then_some(())).await;
    assert_eq!(around.grants(), ["password"]);
    assert_eq!(around.control().last_request(Endpoint::Pat).expect("asked").parameter("username").as_deref(), Some("alison"));
}

#[tokio::test]
async fn what_cannot_be_written_is_not_used_and_is_not_lost() {
    let around = Neighbourhood::new(BY_PASSWORD).await;
    let running = around.start_ready().await;
    around.open().await;
    around.control().reset_calls();
    running.let_files_grow(Some(0));
    // The one in use is refused from now on, so another one is needed.
    around.control().revoke_pats();
    assert_eq!(around.ask().await, Some(403));
    assert_eq!(around.ask().await, Some(403));
    assert_eq!(around.grants(), ["refresh_token"], "it was given, and it is not asked for again");
    let metrics = around.health("/metrics").await;
    assert!(metrics.contains("uma_gateway_dependency_up{kind=\"records\",name=\"store\"} 0"), "{metrics}");
    assert!(around.health("/readyz?verbose").await.contains("[!] records store: down"));

    running.let_files_grow(None);
    around.open().await;
    assert_eq!(around.grants(), ["refresh_token"]);
    assert!(around.health("/readyz?verbose").await.contains("[+] records store: up"));
    running.kill();
    let _running = around.start_ready().await;
    around.open().await;
    assert_eq!(around.grants(), ["refresh_token"], "and now it is kept");
}

#[tokio::test]
async fn a_renewal_that_nobody_waits_for_any_more_comes_to_its_end() {
    let around = Neighbourhood::new(BY_PASSWORD).await;
    let running = around.start_ready().await;
    around.open().await;
    around.control().reset_calls();
    around.control().revoke_pats();
    // Longer than a request has. The server has taken the refresh token when the answer is late.
    around.control().fail_next(Endpoint::Pat, 1, uma_gateway::demo::authorization_server::Fault::late(Duration::from_secs(4)));
    assert_eq!(around.ask().await, Some(403));
    around.open().await;
    assert_eq!(around.grants(), ["refresh_token"], "and not the password");
    // The end of the gateway waits for it as well.
    around.control().revoke_pats();
    around.control().fail_next(Endpoint::Pat, 1, uma_gateway::demo::authorization_server::Fault::late(Duration::from_secs(4)));
    assert_eq!(around.ask().await, Some(403));
    running.end().await;
    let _running = around.start_ready().await;
    around.open().await;
    assert_eq!(around.grants(), ["refresh_token", "refresh_token"]);
}
