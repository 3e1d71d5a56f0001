//! Rows G: a guard, which asks nobody.

use uma_gateway::response::Row;

use crate::support::tls::Authority;
use crate::support::{Expect, Next, Says, Setup, World, row_tests};

row_tests! {
    G1: whoever_shows_nothing_is_asked_for_the_credential, another_scheme_is_as_if_nothing_were_shown;
    G2: another_credential_is_refused;
    G3: a_connection_without_a_certificate_is_refused;
    G4: whoever_has_the_credential_passes_and_it_goes_no_further;
}

const GUARD: &str =
    "{ path: /guarded/**, upstream: content, protect: { mode: guard, accept: { basic: { username: gateway, password: { env: PROXY_PASSWORD } } } } }";
/// `gateway:proxy-secret`
const RIGHT: &str = "Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ=";
const ASKED: (&str, &str) = ("www-authenticate", "Basic realm=\"content\", charset=\"UTF-8\"");

async fn world() -> World {
    Setup::default().route(GUARD).start().await
}

async fn whoever_shows_nothing_is_asked_for_the_credential(row: Row) {
    let world = world().await;
    for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
        let exchange = world.ask(method, "/guarded/a").await;
        let answer = Says::Problem(401, "credential-required", &[ASKED]);
        exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "G1: G1" });
    }
}

async fn another_scheme_is_as_if_nothing_were_shown(row: Row) {
    let world = world().await;
    let rpt = world.rpt(&["view", "edit"]);
    for shown in [format!("Bearer {rpt}"), "Negotiate Z2F0ZXdheTpwcm94eS1zZWNyZXQ=".into(), String::new()] {
        let exchange = world.get("/guarded/a").header("Authorization", &shown).await;
        let answer = Says::Problem(401, "credential-required", &[ASKED]);
        exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "G1: G1" });
    }
}

async fn another_credential_is_refused(row: Row) {
    let world = world().await;
    // Another password, another name, both without the colon between them, no base64, and a second one beside the right one.
    let wrong = [
        "Z2F0ZXdheTpwcm94eS1zZWNyZXR6",
        "R2F0ZXdheTpwcm94eS1zZWNyZXQ=",
        "Z2F0ZXdheXByb3h5LXNlY3JldA==",
        "Z2F0ZXdheTpwcm94eS1zZWNyZXQ",
        "gateway:proxy-secret",
        "",
    ];
    for pair in wrong {
        let exchange = world.get("/guarded/a").header("Authorization", &format!("Basic {pair}")).await;
        let answer = Says::Problem(401, "credential-refused", &[ASKED]);
        exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "G2: G2" });
    }
    let exchange = world.get("/guarded/a").header("Authorization", RIGHT).header("Authorization", RIGHT).await;
    let answer = Says::Problem(401, "credential-refused", &[ASKED]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "G2: G2" });
}

async fn a_connection_without_a_certificate_is_refused(row: Row) {
    let authority = Authority::new();
    authority.sign("photos", &["photos.example.org"]);
    let (certificate, key, ca) = (authority.path("photos.crt"), authority.path("photos.key"), authority.path("ca.pem"));
    let tls = format!("tls: {{ certificates: [ {{ certificate: {certificate}, key: {key} }} ], client_auth: optional, client_ca: {ca} }}");
    let route = "{ path: /certified/**, upstream: content, protect: { mode: guard, accept: { client_certificate: { subjects: [ CN=gateway ] } } } }";
    // The listener that asks for certificates is another one.
    let world = Setup::default().listener(&format!("h2c: false }}, {{ address: \"127.0.0.1:0\", {tls}")).route(route).start().await;
    let exchange = world.get("/certified/a").header("Authorization", RIGHT).await;
    let answer = Says::Problem(403, "certificate-refused", &[]);
    exchange.proves(row, &Expect { answer, calls: &[], hits: 0, next: Next::NoToken, rows: "G3: G3" });
}

async fn whoever_has_the_credential_passes_and_it_goes_no_further(row: Row) {
    let world = world().await;
    world.upstream().set_credential(None);
    for shown in [RIGHT, "basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ=", "BASIC \t Z2F0ZXdheTpwcm94eS1zZWNyZXQ= "] {
        let exchange = world.get("/guarded/a").header("Authorization", shown).header("X-Forwarded-User", "mallory").await;
        // What the content server answers is for the gateway that asked, and for no cache on the way to it.
        let answer = Says::Passed(404, &[("cache-control", "private")]);
        exchange.proves(row, &Expect { answer, calls: &[], hits: 1, next: Next::NoToken, rows: "G4 U1: G4" });
        let seen = world.upstream().last().expect("it came");
        // This upstream has a credential of its own, which happens to be the same.
        assert_eq!((seen.all("authorization").len(), seen.header("x-forwarded-user")), (1, None));
    }
    // A request with a method that no `scopes` would map is the content server's to answer.
    assert_eq!(world.ask("PROPFIND", "/guarded/a").header("Authorization", RIGHT).await.status(), 405);
    assert!(world.metrics().await.contains("outcome=\"permitted\""));
}
