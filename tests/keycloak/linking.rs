//! An owner links the gateway at the real Keycloak: signs in there as a browser would, and takes the consent back.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use http::{Method, Request, Response, StatusCode};
use uma_gateway::app::{Gateway, Options};
use uma_gateway::config;
use uma_gateway::http_client::{HttpClient, form};

use super::support::{Album, Realm, free, http, send, until};

/// A browser that keeps cookies, whoever's they are.
struct Browser {
    http: HttpClient,
    cookies: Vec<String>,
}

impl Browser {
    fn new() -> Self {
        Self { http: http(), cookies: Vec::new() }
    }

    async fn go(&mut self, method: Method, address: &str, body: Bytes) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(address).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = send(&self.http, request.header(COOKIE, self.cookies.join("; ")).body(body).expect("a request")).await;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().expect("text").split(';').next().expect("a pair").to_owned();
            let name = format!("{}=", pair.split('=').next().expect("a name"));
            self.cookies.retain(|other| !other.starts_with(&name));
            self.cookies.push(pair);
        }
        answer
    }

    /// From the gateway's door to Keycloak's form and back.
    async fn link(&mut self, door: SocketAddr, user: &str) -> Response<Bytes> {
        let away = self.go(Method::GET, &format!("http://{door}/owners/keycloak/link"), Bytes::new()).await;
        assert_eq!(away.status(), StatusCode::SEE_OTHER);
        let page = self.go(Method::GET, &location(&away), Bytes::new()).await;
        assert_eq!(page.status(), StatusCode::OK, "Keycloak's form");
        let page = String::from_utf8_lossy(page.body()).into_owned();
        let action = page.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form").replace("&amp;", "&");
        let back = self.go(Method::POST, &action, form(&[("username", user), ("password", user)])).await;
        assert!(back.status().is_redirection(), "{}", back.status());
        self.go(Method::GET, &location(&back), Bytes::new()).await
    }
}

fn location(answer: &Response<Bytes>) -> String {
    answer.headers()[LOCATION].to_str().expect("text").to_owned()
}

fn start(realm: &Realm, folder: &Path, door: SocketAddr, album: &Album) -> Gateway {
    let (client, secret) = realm.client();
    let text = format!(
        "version: 1
workers: 1
listeners: [ {{ address: 127.0.0.1:0 }} ]
health: {{ address: 127.0.0.1:0 }}
admin: {{ address: {door}, token: {{ env: ADMIN }}, public_url: \"http://{door}\" }}
store: {{ file: records.db, key: {{ file: store-key }} }}
authorization_servers:
  keycloak:
    issuer: {issuer}
    client: {{ id: {client}, secret: {{ env: SECRET }} }}
    pat: {{ owners: {{ alice: {{ authorization_code: true }} }} }}
    timeout: 10s
upstreams: {{ content: {{ servers: [ http://127.0.0.1:1 ] }} }}
routes:
  - {{ path: /albums/**, protect: {{ resource: {resource}, scopes: {{ GET: [view] }} }} }}
",
        issuer = realm.issuer(),
        resource = album.by_name(),
    );
    let environment = |name: &str| Some(if name == "SECRET" { secret } else { "admin-token" }.to_owned());
    let config = config::parse(&text, &folder.join("gateway.yaml"), &environment).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let options = Options { log: Some(|| Box::new(std::io::sink())), ..Options::default() };
    Gateway::start(config, &options).expect("the gateway starts")
}

async fn get(address: SocketAddr, path: &str) -> Response<Bytes> {
    let request = Request::get(format!("http://{address}{path}")).body(Bytes::new()).expect("a request");
    send(&http(), request).await
}

async fn answers(gateway: &Gateway, status: u16) {
    let address = gateway.address(0).expect("a listener");
    until(&format!("{status} for what is Alice's"), async || (get(address, "/albums/beach.jpg").await.status().as_u16() == status).then_some(())).await;
}

#[tokio::test]
#[ignore = "needs Keycloak: just keycloak"]
async fn an_owner_links_the_gateway_by_signing_in_at_keycloak_until_she_takes_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut key = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.path().join("store-key")).expect("a file");
    key.write_all(format!("1{}", "a".repeat(63)).as_bytes()).expect("a key");
    let door = free();
    let realm = Realm::photoz().with_new_resource_server_for_owners(&format!("http://{door}/owners/keycloak/callback")).await;
    realm.let_protect("alice").await;
    for user in ["alice", "bob"] {
        realm.let_consent_offline(user).await;
    }
    let album = realm.album().await;
    let gateway = start(&realm, folder.path(), door, &album);
    until("Keycloak was asked", async || gateway.is_ready().then_some(())).await;
    answers(&gateway, 403).await;

    let bob = Browser::new().link(door, "bob").await;
    assert_eq!(bob.status(), StatusCode::FORBIDDEN, "{:?}", bob.body());
    answers(&gateway, 403).await;
    let alice = Browser::new().link(door, "alice").await;
    assert_eq!(alice.status(), StatusCode::OK, "{:?}", alice.body());
    answers(&gateway, 401).await;

    // A restart wants nothing of her.
    drop(gateway);
    let gateway = start(&realm, folder.path(), door, &album);
    answers(&gateway, 401).await;

    realm.take_consent_back("alice").await;
    answers(&gateway, 403).await;
    let verbose = get(gateway.health_address().expect("a health address"), "/readyz?verbose").await;
    assert!(String::from_utf8_lossy(verbose.body()).contains("[!] owner alice at keycloak: has to consent"));
    assert_eq!(Browser::new().link(door, "alice").await.status(), StatusCode::OK);
    answers(&gateway, 401).await;
}
