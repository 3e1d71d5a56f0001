//! Rows D: what is decided by the request alone, before any token is judged.

use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::response::Row;

use crate::support::{DECLARED, Exchange, Expect, LINK, Next, Says, Setup, World, row_tests};

row_tests! {
    D1: two_hosts_are_refused_and_the_connection_ends, a_coding_that_is_not_chunked_is_refused;
    D2: a_host_that_the_listener_does_not_serve_is_misdirected;
    D3: a_path_that_could_lead_elsewhere_is_refused;
    D5: trace_is_refused_everywhere;
    D6: a_public_route_lets_everyone_pass_and_no_token_through;
    D7: what_no_route_leads_to_is_not_found;
    D8: a_preflight_is_answered_and_never_challenged;
    D9: a_method_that_is_not_mapped_is_not_allowed;
    D10: a_resource_that_the_server_does_not_know_is_not_found;
    D11: a_declared_resource_that_cannot_be_registered_is_unreachable;
    D12: two_tokens_are_refused_before_anybody_is_asked;
    D13: a_malformed_token_is_refused_before_anybody_is_asked;
    D14: a_token_in_the_query_is_refused_and_goes_nowhere;
    D15: no_token_gets_a_ticket, another_scheme_counts_as_no_token;
}

/// Refused by the gateway alone: nobody is asked.
fn refused(exchange: &Exchange<'_>, row: Row, (status, kind, headers): (u16, &str, &[(&str, &str)]), next: Next) {
    let rows = format!("{row}: {row}");
    exchange.proves(row, &Expect { answer: Says::Problem(status, kind, headers), calls: &[], hits: 0, next, rows: &rows });
}

async fn two_hosts_are_refused_and_the_connection_ends(row: Row) {
    let world = World::start().await;
    let mut exchange = world.raw(format!("GET {LINK} HTTP/1.1\r\nHost: a.example.org\r\nHost: b.example.org\r\n\r\n")).await;
    refused(&exchange, row, (400, "malformed-request", &[("connection", "close")]), Next::NoToken);
    assert!(exchange.connection.ends().await);
}

async fn a_coding_that_is_not_chunked_is_refused(row: Row) {
    let world = World::start().await;
    let head = format!("PUT {LINK} HTTP/1.1\r\nHost: a.example.org\r\nTransfer-Encoding: gzip\r\n\r\n");
    let mut exchange = world.raw(head).await;
    assert_eq!(exchange.status(), 400, "{row}");
    assert!(exchange.connection.ends().await);
    assert!(world.upstream().saw_nothing());
}

async fn a_host_that_the_listener_does_not_serve_is_misdirected(row: Row) {
    let world = Setup::default().listener("hosts: [gateway.example.org]").start().await;
    let exchange = world.get(LINK).header("Host", "other.example.org").await;
    refused(&exchange, row, (421, "misdirected-request", &[]), Next::NoToken);
    assert_eq!(world.get(LINK).await.status(), 401, "its own host is served");
}

async fn a_path_that_could_lead_elsewhere_is_refused(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    for path in ["/public/%2e%2e/albums/vacation/notes.txt", "/public/..%2falbums/vacation/notes.txt", "/public/%00", "/public\\..\\albums"] {
        refused(&world.get(path).bearer(&rpt).await, row, (400, "unsafe-path", &[]), Next::Nothing);
    }
}

async fn trace_is_refused_everywhere(row: Row) {
    let world = World::start().await;
    // What the route lets pass; where there is none, nothing.
    for (path, allow) in [(LINK, "GET, HEAD, PUT, DELETE"), ("/public/welcome.txt", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"), ("/nowhere", "")] {
        refused(&world.ask("TRACE", path).await, row, (405, "method-refused", &[("allow", allow)]), Next::NoToken);
    }
}

async fn a_public_route_lets_everyone_pass_and_no_token_through(row: Row) {
    let world = World::start().await;
    let exchange = world.get("/public/welcome.txt").bearer("whatever-it-is").await;
    exchange.proves(row, &Expect { answer: Says::Passed(200, &[]), calls: &[], hits: 1, next: Next::Nothing, rows: "D6 U1: D6" });
    assert_eq!(exchange.answer.text(), "Everyone may read this.\n");
    let seen = world.upstream().last().expect("one request");
    assert_eq!(seen.all("authorization").len(), 1);
    assert!(seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")), "only the gateway's own credential");
}

async fn what_no_route_leads_to_is_not_found(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    refused(&world.get("/nowhere").await, row, (404, "no-route", &[]), Next::NoToken);
    refused(&world.get("/albums/work/plan.txt").bearer(&rpt).await, row, (404, "no-route", &[]), Next::Nothing);
}

async fn a_preflight_is_answered_and_never_challenged(row: Row) {
    let world = World::start().await;
    let exchange = world.ask("OPTIONS", LINK).header("Origin", "https://app.example.org").header("Access-Control-Request-Method", "PUT").await;
    let answer = Says::Passed(204, &[("cache-control", "no-store"), ("access-control-allow-origin", "")]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "D8: D8" });
}

async fn a_method_that_is_not_mapped_is_not_allowed(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view", "edit"]);
    for method in ["POST", "PATCH", "OPTIONS"] {
        let exchange = world.ask(method, LINK).bearer(&rpt).await;
        refused(&exchange, row, (405, "method-not-mapped", &[("allow", "GET, HEAD, PUT, DELETE")]), Next::Nothing);
    }
}

async fn a_resource_that_the_server_does_not_know_is_not_found(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let exchange = world.get("/named/nothing").bearer(&rpt).await;
    // The list; the description of the only resource in it is known from the start.
    let calls = [(Endpoint::ResourceSet, 1)];
    let answer = Says::Problem(404, "no-resource", &[]);
    exchange.proves(row, &Expect { answer, calls: &calls, hits: 0, next: Next::Nothing, rows: "D10: D10" });
    refused(&world.get("/named/nothing").await, row, (404, "no-resource", &[]), Next::NoToken);
}

async fn a_declared_resource_that_cannot_be_registered_is_unreachable(row: Row) {
    let world = Setup::default().route(DECLARED).start().await;
    // It is registered at the start. Somebody deletes it, and the next ticket tells.
    assert_eq!(world.get("/declared/tent").await.status(), 401);
    let id = world.control().resource_id("declared tent").expect("it is registered");
    assert!(world.control().remove_resource(&id));
    let lost = world.get("/declared/tent").await;
    assert_eq!((lost.status(), lost.rows().as_str()), (403, "D15 C4: C4"));
    world.control().fail(Endpoint::ResourceSet, Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));
    let exchange = world.get("/declared/tent").await;
    let answer = Says::Problem(403, "as-unreachable", &[]);
    exchange.proves(row, &Expect { answer, calls: &[(Endpoint::ResourceSet, 1)], hits: 0, next: Next::NoToken, rows: "D11: D11" });

    world.control().heal_all();
    assert_eq!(world.get("/declared/tent").await.status(), 401);
    assert!(world.control().resource_id("declared tent").is_some(), "it has been registered now");
}

async fn two_tokens_are_refused_before_anybody_is_asked(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let says = (400, "several-tokens", &[("www-authenticate", "Bearer error=\"invalid_request\"")][..]);
    refused(&world.get(LINK).bearer(&rpt).header("Authorization", "Bearer other").await, row, says, Next::Nothing);
    refused(&world.get(LINK).bearer(&rpt).header("Authorization", "Basic b3RoZXI6").await, row, says, Next::Nothing);
    refused(&world.get(&format!("{LINK}?access_token={rpt}")).bearer(&rpt).await, row, says, Next::Nothing);
}

async fn a_malformed_token_is_refused_before_anybody_is_asked(row: Row) {
    let world = World::start().await;
    let says = (400, "malformed-token", &[("www-authenticate", "Bearer error=\"invalid_request\"")][..]);
    for token in ["", "two words", "quo\"ted", "="] {
        refused(&world.get(LINK).bearer(token).await, row, says, Next::Nothing);
    }
}

async fn a_token_in_the_query_is_refused_and_goes_nowhere(row: Row) {
    let world = World::start().await;
    let rpt = world.rpt(&["view"]);
    let says = (400, "token-in-query", &[("www-authenticate", "Bearer error=\"invalid_request\"")][..]);
    let exchange = world.get(&format!("{LINK}?%61ccess_token={rpt}")).await;
    refused(&exchange, row, says, Next::NoToken);
    assert!(!exchange.line.to_string().contains(&rpt) && !exchange.answer.text().contains(&rpt));
    assert_eq!(world.holds(&rpt), Next::Nothing);
}

async fn no_token_gets_a_ticket(row: Row) {
    let world = World::start().await;
    let exchange = world.get(LINK).await;
    let answer = Says::Problem(401, "permission-required", &[]);
    exchange.proves(row, &Expect { answer, calls: &[(Endpoint::Permission, 1)], hits: 0, next: Next::NoToken, rows: "D15 C3: D15" });
}

async fn another_scheme_counts_as_no_token(row: Row) {
    let world = World::start().await;
    for scheme in ["Basic Ym9iOmJvYg==", "Negotiate YWJj", "DPoP abc"] {
        let exchange = world.get(LINK).header("Authorization", scheme).await;
        let answer = Says::Problem(401, "permission-required", &[]);
        exchange.proves(row, &Expect { answer, calls: &[(Endpoint::Permission, 1)], hits: 0, next: Next::NoToken, rows: "D15 C3: D15" });
    }
}
