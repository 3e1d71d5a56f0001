//! What is wrong with an authorization server's answers is a named error: in the readiness probe, in the metrics, in the record that `explain` shows.

use http::StatusCode;
use serde_json::json;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};

use crate::support::{DECLARED, LINK, Setup, World, until};

fn html(status: StatusCode) -> Fault {
    Fault::text(status, "<html><body>Welcome</body></html>")
}

async fn counted(world: &World, endpoint: &str, outcome: &str) -> bool {
    !world.metrics().await.contains(&format!("uma_as_requests_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}} 0"))
}

/// A request that the fault refuses: the probe, the audit log and a metric that is not `ok` say why, and the probe that it has ended.
async fn is_named(endpoint: Endpoint, fault: Fault, with_token: bool, (label, outcome): (&str, &str), reason: &str) {
    let world = World::start().await;
    let dependency = format!("{label}_endpoint server: ");
    world.control().fail(endpoint, fault);
    let token = world.rpt(&["view"]);
    for _ in 0..2 {
        let refused = if with_token { world.get(LINK).bearer(&token).await } else { world.get(LINK).await };
        assert_eq!(refused.status(), if with_token { 503 } else { 403 });
    }
    let told = world.verbose().await;
    let line = told.lines().find(|line| line.contains(&dependency)).unwrap_or_else(|| panic!("{reason}: {told}"));
    assert!(line.starts_with("[!]") && line.contains(reason), "{line}");
    assert!(counted(&world, label, outcome).await && !counted(&world, label, "ok").await, "{reason}: {}", world.metrics().await);
    let audit = world.audit().await;
    let why = audit.last().unwrap()["uma.reason"].as_str().unwrap();
    assert!(why.contains(reason), "{why}");
    assert!(!told.contains(&token));

    world.control().heal_all();
    let served = if with_token { world.get(LINK).bearer(&token).await } else { world.get(LINK).await };
    assert_eq!(served.status(), if with_token { 200 } else { 401 });
    assert!(world.verbose().await.contains(&format!("{dependency}up")));
}

#[tokio::test]
async fn what_is_wrong_with_introspection_is_named_until_it_is_mended() {
    let failed = ("introspection", "failed");
    let at = async |fault, outcome, reason| is_named(Endpoint::Introspection, fault, true, outcome, reason).await;
    at(Fault::member("active", json!("true")), failed, "`active` is not true or false").await;
    at(Fault::duplicate("active", "false"), failed, "a member stands twice").await;
    at(Fault::deep(200), failed, "recursion limit exceeded").await;
    at(html(StatusCode::OK), failed, "it is not JSON: expected value").await;
    at(Fault::json(StatusCode::CREATED, &json!({"active": true})), failed, "the introspection endpoint answered 201 Created").await;
    at(Fault::text(StatusCode::NO_CONTENT, ""), failed, "the introspection endpoint answered 204 No Content").await;
    at(Fault::redirect("/elsewhere"), failed, "the introspection endpoint answered 302 Found").await;
    at(html(StatusCode::NOT_FOUND), ("introspection", "refused"), "the introspection endpoint answered 404 Not Found").await;
}

#[tokio::test]
async fn what_is_wrong_with_the_permission_endpoint_is_named_until_it_is_mended() {
    let failed = ("permission", "failed");
    let at = async |fault, outcome, reason| is_named(Endpoint::Permission, fault, false, outcome, reason).await;
    at(Fault::invalid_scope(), ("permission", "refused"), "400 Bad Request (invalid_scope)").await;
    at(Fault::redirect("/elsewhere"), failed, "302 Found").await;
    at(Fault::json(StatusCode::OK, &json!({"ticket": "t"})), failed, "200 OK").await;
    at(Fault::not_json(), failed, "it is not JSON").await;
    at(Fault::duplicate("ticket", "\"t\""), failed, "a member stands twice").await;
    at(Fault::without("ticket"), failed, "it has no ticket").await;
}

/// A gateway that starts with this fault says so in its probe.
async fn is_told_at_the_start(setup: Setup, endpoint: Endpoint, fault: Fault, reasons: &[&str]) -> World {
    let world = setup.broken(endpoint, fault).start_unready().await;
    until(reasons[0], async || {
        let told = world.verbose().await;
        reasons.iter().all(|reason| told.contains(reason)).then_some(())
    })
    .await;
    world
}

#[tokio::test]
async fn a_discovery_document_that_is_not_there_names_the_likely_cause() {
    for status in [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN, StatusCode::FOUND] {
        let reason = format!("(the discovery endpoint answered {status}; the likely cause is a wrong `profile` or `issuer`)");
        let needs = [&*format!("[-] authorization_server server: not usable yet {reason}"), &*format!("[!] discovery server: down {reason}")];
        let world = is_told_at_the_start(Setup::default(), Endpoint::Discovery, html(status), &needs).await;
        let refused = world.get(LINK).await;
        assert_eq!(refused.status(), 403);
        assert!(world.audit().await.last().unwrap()["uma.reason"].as_str().unwrap().contains("the likely cause is a wrong `profile`"));
        world.control().heal_all();
        until("it is ready", async || world.verbose().await.contains("[+] discovery server: up").then_some(())).await;
    }
}

#[tokio::test]
async fn a_token_answer_that_cannot_be_used_is_named() {
    for (fault, reason) in [
        (html(StatusCode::OK), "it is not JSON"),
        (Fault::duplicate("access_token", "\"a\""), "it is not JSON: a member stands twice"),
        (Fault::without("token_type"), "its token is not a Bearer token"),
    ] {
        let reason = format!("[!] protection_api server: down (no protection API access token: the token endpoint's answer cannot be used: {reason}");
        let world = is_told_at_the_start(Setup::default(), Endpoint::Pat, fault, &[&reason]).await;
        assert!(counted(&world, "token", "failed").await && !counted(&world, "token", "ok").await);
    }
}

#[tokio::test]
async fn a_declared_resource_that_cannot_be_had_is_named_until_it_can() {
    for (fault, reason) in [
        (Fault::redirect("/elsewhere"), "302 Found"),
        (html(StatusCode::OK), "the resource endpoint's answer cannot be used"),
        (html(StatusCode::FORBIDDEN), "403 Forbidden"),
    ] {
        let setup = Setup::default().route(DECLARED);
        let world = is_told_at_the_start(setup, Endpoint::ResourceSet, fault, &["[!] resource_registration_endpoint server: down", reason]).await;
        assert_eq!(world.get("/declared/tent").await.status(), 403);
        assert!(world.audit().await.last().unwrap()["uma.reason"].as_str().unwrap().contains(reason));
        world.control().heal_all();
        until("it is registered", async || world.verbose().await.contains("[+] resource_registration_endpoint server: up").then_some(())).await;
    }
}
