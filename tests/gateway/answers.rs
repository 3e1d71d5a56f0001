//! The form of answers: HEAD, browsers, long tickets, pages of other origins, and what the upstream sees of a request that passed.

use http::StatusCode;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};

use crate::support::{Exchange, LINK, Setup, World};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const ORIGIN: &str = "https://app.example.org";

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let world = World::start().await;
    let (get, head) = (world.get(LINK).await, world.ask("HEAD", LINK).await);
    assert_eq!((head.status(), head.rows()), (get.status(), get.rows()));
    head.is_problem("permission-required");
    assert_ne!(get.challenge().ticket.0.expose(), head.challenge().ticket.0.expose());

    let rpt = world.rpt(&["view"]);
    let (get, head) = (world.get(LINK).bearer(&rpt).await, world.ask("HEAD", LINK).bearer(&rpt).await);
    assert_eq!((head.status(), head.answer.body.len()), (200, 0));
    assert_eq!(head.answer.header("content-length"), get.answer.header("content-length"));
}

#[tokio::test]
async fn a_ticket_of_six_kibibytes_survives() {
    let world = World::start().await;
    world.control().ticket_length(6 * 1024);
    let exchange = world.get(LINK).await;
    exchange.is_problem("permission-required");
    let ticket = exchange.challenge().ticket.0.expose().to_owned();
    assert_eq!((ticket.len(), Some(ticket)), (6 * 1024, world.control().last_ticket()));
}

#[tokio::test]
async fn a_browser_sees_a_page_with_the_same_challenge() {
    let world = World::start().await;
    let exchange = world.get(LINK).header("Accept", BROWSER).header("Sec-Fetch-Mode", "navigate").await;
    assert_eq!(exchange.status(), 401);
    assert_eq!(exchange.answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(exchange.answer.header("cache-control"), "no-store");
    let (page, ticket) = (exchange.answer.text(), exchange.challenge().ticket.0.expose().to_owned());
    assert!(page.contains(exchange.answer.header("x-request-id")) && !page.contains(&ticket) && !page.contains("href"));
    assert!(!page.contains("vacation") && !page.contains("alice"), "what is protected is not told");

    let script = world.get(LINK).header("Accept", BROWSER).header("Sec-Fetch-Mode", "cors").await;
    script.is_problem("permission-required");
}

#[tokio::test]
async fn the_page_leads_to_the_client_application_where_there_is_one() {
    let world = Setup::default().top("open_with: \"https://app.example.org/open?link={url}\"").start().await;
    let exchange = world.get(&format!("{LINK}?a=1&b=%22")).header("Accept", BROWSER).await;
    let page = exchange.answer.text();
    let link = "https%3A%2F%2F";
    assert!(!page.contains(link), "the gateway speaks plain http here");
    let expected = "href=\"https://app.example.org/open?link=http%3A%2F%2Fgateway%2Eexample%2Eorg%2Falbums%2Fvacation%2Fnotes%2Etxt%3Fa%3D1%26b%3D%2522\"";
    assert!(page.contains(expected), "{page}");
}

/// Items 24 and 25: a page of an allowed origin can read every answer and all that a UMA client needs of it.
fn readable(exchange: &Exchange<'_>, status: u16) {
    let answer = &exchange.answer;
    assert_eq!(answer.status, status);
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN, "{status}");
    let varies: Vec<&str> = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(varies.contains(&"Origin"), "{status}: {varies:?}");
    for name in ["WWW-Authenticate", "Warning", "Retry-After"] {
        assert!(answer.header("access-control-expose-headers").contains(name), "{status}: {name}");
    }
}

fn with_cors() -> Setup {
    let cors = format!("cors: {{ origins: [\"{ORIGIN}\"], max_age: 10m }}");
    Setup::default().route(&format!(
        "{{ path: /shared/**, upstream: content, protect: {{ resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view], PUT: [edit] }} }}, rewrite: \"/albums/vacation/{{**}}\", {cors} }}"
    ))
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_reads_every_answer() {
    let world = with_cors().limits("{ tickets: { rate: 1/s, burst: 3 } }").start().await;
    let rpt = world.rpt(&["view"]);
    let ask = || world.get("/shared/notes.txt").header("Origin", ORIGIN);
    readable(&ask().await, 401);
    readable(&ask().bearer(&rpt).await, 200);
    world.control().fail_next(Endpoint::Permission, 1, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    readable(&ask().await, 403);
    world.control().fail_next(Endpoint::Introspection, 1, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    readable(&ask().bearer("never-seen").await, 503);
    readable(&ask().await, 401);
    // One second brings one more back, and a slow machine needs a second.
    let mut exchange = ask().await;
    for _ in 0..100 {
        if exchange.status() == 429 {
            break;
        }
        exchange = ask().await;
    }
    readable(&exchange, 429);
    readable(&world.ask("PATCH", "/shared/notes.txt").header("Origin", ORIGIN).await, 405);
    readable(&world.get("/shared/notes.txt?access_token=x").header("Origin", ORIGIN).await, 400);
    readable(&world.get("/shared/a%2Fb").header("Origin", ORIGIN).await, 400);
}

#[tokio::test]
async fn a_page_of_another_origin_reads_nothing() {
    let world = with_cors().start().await;
    world.upstream().reply(uma_gateway::demo::content_server::Reply::ok("x").header("Access-Control-Allow-Origin", "*"));
    let rpt = world.rpt(&["view"]);
    for exchange in [world.get("/shared/notes.txt").await, world.get("/shared/notes.txt").bearer(&rpt).header("Origin", "https://evil.example.org").await] {
        assert!(!["*", "https://evil.example.org"].contains(&exchange.answer.header("access-control-allow-origin")));
        assert_eq!(exchange.answer.header("access-control-expose-headers"), "");
    }
}

#[tokio::test]
async fn what_the_upstream_says_of_other_origins_stays_here_but_what_it_exposes_is_added() {
    let plain = "{ path: /plain/**, upstream: content, public: true }";
    let world = with_cors().route(plain).start().await;
    let reply = uma_gateway::demo::content_server::Reply::ok("x")
        .header("Access-Control-Allow-Origin", "*")
        .header("Access-Control-Allow-Credentials", "true")
        .header("access-control-allow-headers", "*")
        .header("Access-Control-Allow-Methods", "DELETE")
        .header("Access-Control-Max-Age", "86400")
        .header("Access-Control-Allow-Private-Network", "true")
        .header("Access-Control-Expose-Headers", "ETag, Link,no name, , retry-after")
        .header("Access-Control-Expose-Headers", "\"x\",Location,etag");
    world.upstream().reply(reply);
    let rpt = world.rpt(&["view"]);
    let said = |exchange: &Exchange<'_>| -> Vec<String> {
        let fields = exchange.answer.headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
        let mut fields: Vec<String> = fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        fields.sort_unstable();
        fields
    };
    let ask = || world.get("/shared/notes.txt").bearer(&rpt);
    let exchange = ask().header("Origin", ORIGIN).await;
    let exposed = "access-control-expose-headers: WWW-Authenticate, Warning, Retry-After, X-Request-Id, etag, link, location";
    assert_eq!(said(&exchange), [format!("access-control-allow-origin: {ORIGIN}"), exposed.to_owned()]);
    assert_eq!(said(&ask().await), [""; 0], "nobody has asked from elsewhere");
    let exchange = ask().header("Origin", "https://evil.example.org").await;
    assert_eq!(said(&exchange), [format!("access-control-allow-origin: {ORIGIN}")], "a value that does not fit it");
    assert_eq!(said(&world.get("/plain/x").header("Origin", ORIGIN).await).len(), 8, "where the gateway does not speak for it the upstream does");
}

#[tokio::test]
async fn a_preflight_names_authorization_and_costs_nobody_a_call() {
    let world = with_cors().start().await;
    let preflight = || world.ask("OPTIONS", "/shared/notes.txt").header("Access-Control-Request-Method", "PUT");
    let exchange = preflight().header("Origin", ORIGIN).header("Access-Control-Request-Headers", "authorization, x-album").await;
    assert_eq!((exchange.status(), exchange.answer.header("access-control-allow-origin")), (204, ORIGIN));
    assert_eq!(exchange.answer.header("access-control-allow-headers"), "Authorization, x-album");
    assert_eq!(exchange.answer.header("access-control-allow-methods"), "GET, HEAD, PUT");
    assert_eq!(exchange.answer.header("access-control-max-age"), "600");
    let other = preflight().header("Origin", "https://evil.example.org").await;
    assert_eq!((other.status(), other.answer.headers.contains_key("access-control-allow-origin")), (204, false));
    assert_eq!(world.control().all_calls(), 0);
    assert!(world.upstream().saw_nothing());
}

#[tokio::test]
async fn the_upstream_sees_the_gateways_credential_and_never_the_clients() {
    let route = "{ path: /who/**, upstream: content, protect: { resource: { name: vacation, owner: alice }, scopes: { GET: [view] } }, identity_headers: { X-Forwarded-User: sub } }";
    let world = Setup::default().route(route).start().await;
    let rpt = world.rpt(&["view"]);
    let ask =
        world.get("/who/asks?q=1").bearer(&rpt).header("X-Forwarded-User", "root").header("X_Forwarded_User", "root").header("X-Forwarded-For", "10.9.8.7");
    ask.header("Connection", "X-Forwarded-User, Authorization").header("Cookie", "session=1").await;
    let seen = world.upstream().last().expect("one request");
    assert_eq!(seen.target, "/who/asks?q=1");
    let credential = seen.all("authorization");
    assert!(credential.len() == 1 && credential[0].starts_with("Basic "));
    assert_eq!(seen.all("x-forwarded-user"), ["id-of-bob"]);
    assert!(seen.header("x_forwarded_user").is_none());
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"), "nobody is believed about the client");
    assert!(seen.headers.iter().all(|(_, value)| !value.contains(&rpt)));
}
