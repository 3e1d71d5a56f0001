//! How the gateway shows an authorization server who it is, besides by a secret in the header: the same everywhere it is asked as a client.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use rcgen::KeyPair;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use uma_gateway::admin::{AdminClient, AdminDoor};
use uma_gateway::app::{self, Gateway};
use uma_gateway::config;
use uma_gateway::demo::authorization_server::{AuthorizationServer, Endpoint, Kind, Options, Seen};

use crate::support::tls::{Authority, server as tls_server};
use crate::support::{LINK, Setup, World, until};

/// Everything that the server was asked by the gateway as a client.
fn asked_as_client(world: &World, endpoints: &[Endpoint]) -> Vec<Seen> {
    let all: Vec<Vec<Seen>> = endpoints.iter().map(|endpoint| world.control().requests(*endpoint)).collect();
    assert!(all.iter().all(|asked| !asked.is_empty()), "every endpoint was asked");
    all.into_iter().flatten().collect()
}

fn claims(assertion: &str) -> Value {
    let payload = assertion.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

#[tokio::test]
async fn a_secret_that_belongs_into_the_form_is_there_wherever_the_client_asks() {
    let client = "{ id: content-gateway, secret: { env: CLIENT_SECRET }, in_body: true }";
    let world = Setup::default().keycloak().client(client).start_unready().await;
    let rpt = world.rpt(&["view"]);
    until("the album is open", async || (world.get(LINK).bearer(&rpt).await.status() == 200).then_some(())).await;

    for asked in asked_as_client(&world, &[Endpoint::Pat, Endpoint::Introspection, Endpoint::Live]) {
        assert!(!asked.headers.contains_key(AUTHORIZATION), "{asked:?}");
        assert_eq!(asked.parameter("client_id").as_deref(), Some("content-gateway"), "{asked:?}");
        assert_eq!(asked.parameter("client_secret").as_deref(), Some("gateway-secret"), "{asked:?}");
    }
}

#[tokio::test]
async fn each_request_of_a_client_with_a_key_has_an_assertion_of_its_own() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let world = Setup::default().keycloak().private_key(key, true).start_unready().await;
    let (one, other) = (world.rpt(&["view"]), world.rpt(&["view", "edit"]));
    // The server believes each assertion once.
    until("the album is open", async || (world.get(LINK).bearer(&one).await.status() == 200).then_some(())).await;
    assert_eq!(world.get(LINK).bearer(&other).await.status(), 200);

    let all = asked_as_client(&world, &[Endpoint::Pat, Endpoint::Introspection, Endpoint::Live]);
    let assertions: Vec<Value> = all.iter().map(|asked| claims(&asked.parameter("client_assertion").expect("an assertion"))).collect();
    let ids: BTreeSet<&str> = assertions.iter().map(|claims| claims["jti"].as_str().expect("an id")).collect();
    assert!(all.len() >= 5 && ids.len() == all.len(), "{} of {}", ids.len(), all.len());
    for (asked, claims) in all.iter().zip(&assertions) {
        assert!(!asked.headers.contains_key(AUTHORIZATION) && asked.parameter("client_secret").is_none(), "{asked:?}");
        assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&"content-gateway".into(), &"content-gateway".into(), &world.server.issuer().into()));
        assert_eq!(claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat), Some(60));
    }
}

#[tokio::test]
async fn a_client_with_a_certificate_shows_it_by_tls_and_says_in_the_form_who_it_is() {
    let authority = Authority::new();
    authority.sign("server", &["127.0.0.1"]);
    authority.sign("gateway", &["gateway"]);
    let kind = Kind::Keycloak { realm: "photoz".into() };
    let server = AuthorizationServer::start(Options { kind, ..Options::default() }).await.expect("a port");
    // Who shows no certificate of this authority's gets no further.
    let tls = TlsAcceptor::from(tls_server(&authority.file("server.crt"), &authority.file("server.key"), &["http/1.1"], Some(&authority)));
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let issuer = format!("https://{}/realms/photoz", door.local_addr().expect("an address"));
    server.control().set_issuer(&issuer);
    server.control().believe_certificate("content-gateway");
    let (shown, behind) = (Arc::new(Mutex::new(Vec::new())), server.address());
    let seen = Arc::clone(&shown);
    tokio::spawn(async move {
        while let Ok((stream, _)) = door.accept().await {
            let (tls, seen) = (tls.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let Ok(mut outer) = tls.accept(stream).await else { return };
                seen.lock().unwrap().extend(outer.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|shown| shown.to_vec()));
                let mut inner = TcpStream::connect(behind).await.expect("the server");
                let _ = copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });

    let files =
        format!("{{ ca: {}, client_certificate: {}, client_key: {} }}", authority.path("ca.pem"), authority.path("gateway.crt"), authority.path("gateway.key"));
    let text = format!(
        "version: 1\nlisteners: [ {{ address: 127.0.0.1:0 }} ]\nauthorization_servers:\n  server: {{ issuer: \"{issuer}\", tls: {files}, client: {{ id: content-gateway, \
         certificate: true }} }}\nupstreams: {{ content: {{ servers: [ \"http://127.0.0.1:9\" ] }} }}\nroutes:\n  - {{ path: /a, protect: {{ resource: {{ name: a, owner: \
         alice }}, scopes: {{ GET: [view] }} }} }}\n"
    );
    let config = config::parse(&text, &authority.file("gateway.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let _gateway = Gateway::start(config, &app::Options { log: Some(|| Box::new(std::io::sink())), ..app::Options::default() }).expect("it starts");
    let listed = async || (server.control().calls(Endpoint::ResourceSet) > 0).then_some(());
    until("its token is good for the protection API", listed).await;

    let asked = server.control().requests(Endpoint::Pat);
    assert!(!asked.is_empty());
    for asked in asked {
        assert!(!asked.headers.contains_key(AUTHORIZATION) && asked.parameter("client_secret").is_none(), "{asked:?}");
        assert_eq!(asked.parameter("client_id").as_deref(), Some("content-gateway"), "{asked:?}");
    }
    let shown = shown.lock().unwrap();
    assert!(!shown.is_empty() && shown.iter().all(|shown| **shown == *authority.certificate("gateway")));
}

#[tokio::test]
async fn a_server_that_does_not_believe_the_client_is_told_with_the_key_of_the_configuration() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let by_key = Setup::default().private_key(key, false);
    let by_secret = Setup::default().client("{ id: content-gateway, secret: { env: PROXY_PASSWORD } }");
    for (setup, name) in [(by_key, "private_key"), (by_secret, "secret")] {
        let world = setup.start_unready().await;
        let look = format!("(invalid_client); look at `authorization_servers.server.client.{name}`");
        until("it is said in readiness", async || world.verbose().await.contains(&look).then_some(())).await;
        let door = AdminDoor::Socket(world.file("admin.sock"));
        let client = AdminClient::new(&door);
        let address = format!("http://localhost{LINK}").parse().expect("an address");
        let explained = client.explain(&http::Method::GET, &address, None).await.expect("an explanation");
        assert!(explained.to_string().contains(&look), "{explained}");
    }
}
