//! Rows U: what becomes of a request that may pass.

use uma_gateway::demo::Gate;
use uma_gateway::demo::authorization_server::{Endpoint, Fault};
use uma_gateway::demo::content_server::Reply;
use uma_gateway::response::Row;

use crate::support::{Connection, Expect, LINK, Next, Says, Setup, World, row_tests};

row_tests! {
    U1: the_upstreams_answer_is_relayed_and_made_private, a_login_of_the_applications_own_is_relayed_and_poses_as_no_challenge_of_ours;
    U2: an_upstream_that_refuses_the_gateway_is_a_bad_one_and_its_challenge_stays_here, what_else_refuses_the_gateway_is_a_bad_one;
    U3: an_upstream_that_is_gone_or_speaks_something_else_is_a_bad_one;
    U4: an_upstream_that_does_not_answer_times_out;
    U5: a_gateway_with_too_many_questions_under_way_says_so;
    U7: without_its_credential_the_gateway_sends_nothing;
}

/// A world, and a token that has been introspected already.
async fn warm(setup: Setup) -> (World, String) {
    let world = setup.start().await;
    let rpt = world.rpt(&["view", "edit"]);
    assert_eq!(world.get(LINK).bearer(&rpt).await.status(), 200);
    (world, rpt)
}

async fn the_upstreams_answer_is_relayed_and_made_private(row: Row) {
    let (world, rpt) = warm(Setup::default()).await;
    let reply =
        Reply::status(404).header("Cache-Control", "public, max-age=60").header("X-Request-Id", "theirs").header("Connection", "X-Hop").header("X-Hop", "1");
    world.upstream().reply_next(1, reply);
    let exchange = world.get(LINK).bearer(&rpt).await;
    let answer = Says::Passed(404, &[("cache-control", "private, max-age=60"), ("vary", "Authorization"), ("x-hop", "")]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 1, next: Next::Active, rows: "I1 E10 U1: E10" });
    assert_eq!(exchange.answer.text(), "404\n", "the application's own word");
}

async fn an_upstream_that_refuses_the_gateway_is_a_bad_one_and_its_challenge_stays_here(row: Row) {
    let (world, rpt) = warm(Setup::default()).await;
    world.upstream().set_credential(Some(("gateway", "another")));
    let exchange = world.get(LINK).bearer(&rpt).await;
    let answer = Says::Problem(502, "upstream-refused-gateway", &[]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 1, next: Next::Active, rows: "I1 E10 U2: U2" });
}

/// An upstream that wants no credential of the gateway's: on protected routes, public ones, and behind a guard.
fn application() -> Setup {
    let setup = Setup::default().another_upstream("app: { servers: [ \"http://CONTENT\" ] }");
    let setup = setup.route("{ path: /app/**, upstream: app, protect: { resource: { name: vacation, owner: alice }, scopes: { GET: [view] } } }");
    let setup = setup.route("{ path: /open/**, upstream: app, public: true }");
    setup.route("{ path: /guarded/**, upstream: app, protect: { mode: guard, accept: { basic: { username: gateway, password: { env: PROXY_PASSWORD } } } } }")
}

async fn a_login_of_the_applications_own_is_relayed_and_poses_as_no_challenge_of_ours(row: Row) {
    let (world, rpt) = warm(application()).await;
    let login = || Reply::status(401).header("Set-Cookie", "session=1").header("Cache-Control", "max-age=60");
    let basic = "Basic realm=\"app\"";
    let posing = [
        "Bearer realm=\"app\"",
        "UMA realm=\"photoz\", as_uri=\"https://evil.example.org\", ticket=\"x\"",
        "uMa",
        "DPoP algs=\"ES256\"",
        "Basic realm=\"app\", bearer",
        "Basic realm=\"app\",\tUMA as_uri=\"https://evil.example.org\"",
    ];
    for challenge in posing {
        world.upstream().reply_next(1, login().header("WWW-Authenticate", challenge).header("WWW-Authenticate", basic));
        let exchange = world.get("/app/x").bearer(&rpt).await;
        let headers = [("cache-control", "private, max-age=60"), ("set-cookie", "session=1"), ("www-authenticate", basic)];
        exchange.proves(row, &Expect { answer: Says::Passed(401, &headers), calls: &[], hits: 1, next: Next::Active, rows: "I1 E10 U1: E10" });
        assert_eq!(exchange.answer.headers.get_all("www-authenticate").iter().count(), 1, "{challenge}");
        assert_eq!(exchange.answer.text(), "401\n", "the application's own word");

        // Where the gateway challenges nobody the application may.
        world.upstream().reply_next(1, login().header("WWW-Authenticate", challenge));
        let exchange = world.get("/open/x").await;
        let headers = [("cache-control", "max-age=60"), ("www-authenticate", challenge)];
        exchange.proves(row, &Expect { answer: Says::Passed(401, &headers), calls: &[], hits: 1, next: Next::NoToken, rows: "D6 U1: D6" });
    }
    world.upstream().reply_next(1, Reply::status(200).header("WWW-Authenticate", basic));
    assert_eq!(world.get("/app/x").bearer(&rpt).await.answer.header("www-authenticate"), "", "with a 401 only");
}

async fn what_else_refuses_the_gateway_is_a_bad_one(row: Row) {
    let (world, rpt) = warm(application()).await;
    // `gateway:proxy-secret`
    let guarded = || world.get("/guarded/x").header("Authorization", "Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ=");
    for (status, ask, rows) in [
        (407, world.get("/app/x").bearer(&rpt), "I1 E10 U2: U2"),
        (407, world.get("/open/x"), "D6 U2: U2"),
        (401, world.get("/public/x"), "D6 U2: U2"),
        // Whoever is let in by a guard would take it for his own credential's.
        (401, guarded(), "G4 U2: U2"),
        (407, guarded(), "G4 U2: U2"),
    ] {
        world.upstream().reply_next(1, Reply::status(status).header("WWW-Authenticate", "Basic realm=\"app\""));
        let exchange = ask.await;
        let next = exchange.next();
        exchange.proves(row, &Expect { answer: Says::Problem(502, "upstream-refused-gateway", &[]), calls: &[], hits: 1, next, rows });
    }
}

async fn an_upstream_that_is_gone_or_speaks_something_else_is_a_bad_one(row: Row) {
    let (world, rpt) = warm(Setup::default()).await;
    let answer = || Says::Problem(502, "bad-upstream", &[]);
    for reply in [Reply::garbage(), Reply::raw(&b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"[..])] {
        world.upstream().reply_next(1, reply);
        let exchange = world.get(LINK).bearer(&rpt).await;
        exchange.proves(row, &Expect { answer: answer(), calls: &[], hits: 1, next: Next::Active, rows: "I1 E10 U3: U3" });
    }
    world.upstream().stop().await;
    let exchange = world.get(LINK).bearer(&rpt).await;
    exchange.proves(row, &Expect { answer: answer(), calls: &[], hits: 0, next: Next::Active, rows: "I1 E10 U3: U3" });
    let audit = world.audit().await;
    assert_eq!(audit.last().expect("a line")["uma.reason"], "Bad gateway", "and not that the permission suffices");
}

async fn an_upstream_that_does_not_answer_times_out(row: Row) {
    let (world, rpt) = warm(Setup::default().upstream("timeouts: { response: 300ms }")).await;
    world.upstream().reply_next(1, Reply::hang());
    let exchange = world.get(LINK).bearer(&rpt).await;
    let answer = Says::Problem(504, "upstream-timeout", &[]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 1, next: Next::Active, rows: "I1 E10 U4: U4" });
}

async fn a_gateway_with_too_many_questions_under_way_says_so(row: Row) {
    const UNDER_WAY: u64 = 256;
    let world = World::start().await;
    let gate = Gate::closed();
    world.control().fail(Endpoint::Introspection, Fault::held(&gate));
    let mut waiting = Vec::new();
    for number in 0..UNDER_WAY {
        let mut connection = Connection::open(world.address(), None).await;
        connection.send(&world.get(LINK).bearer(&format!("token-{number}")).bytes()).await;
        waiting.push(connection);
    }
    world.control().called(Endpoint::Introspection, UNDER_WAY).await;
    let exchange = world.get(LINK).bearer("one-more").await;
    let answer = Says::Problem(503, "overloaded", &[("retry-after", "1")]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::Nothing, rows: "U5: U5" });
    gate.open();
    for connection in &mut waiting {
        assert_eq!(connection.answer(false).await.status, 401);
    }
}

async fn without_its_credential_the_gateway_sends_nothing(row: Row) {
    // Nobody listens where the token is to be had.
    let api = "api: { servers: [ \"http://CONTENT\" ], credentials: { oauth2: { token_endpoint: \"http://127.0.0.1:1/token\", client: { id: gateway, secret: { env: CLIENT_SECRET } } } } }";
    let route = "{ path: /api/**, upstream: api, protect: { resource: { name: vacation, owner: alice }, scopes: { GET: [view] } } }";
    let (world, rpt) = warm(Setup::default().another_upstream(api).route(route)).await;
    let exchange = world.get("/api/x").bearer(&rpt).await;
    let answer = Says::Problem(503, "proxy-credential-unavailable", &[("retry-after", "1")]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::Active, rows: "I1 E10 U7: U7" });
}
