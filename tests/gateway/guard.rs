//! A content server without any authentication of its own behind a guard, and the gateway in front of both.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use rcgen::{CertificateParams, DnType, SanType};
use serde_json::{Value, json};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, Message};
use uma_gateway::app::{Gateway, Options, Why};
use uma_gateway::config;
use uma_gateway::demo::content_server::{self, ContentServer, Records, RunningContentServer};
use uma_gateway::listener::Settings;

use crate::support::tls::{Authority, get, h1};
use crate::support::{Answer, Connection, Setup};
use crate::websocket::Echo;

/// A gateway of its own, started from a file; it needs no authorization server.
struct Side {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

impl Side {
    /// `text` is the configuration without `version`, `workers` and `log`; the files stand beside it.
    fn start(text: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            put(folder.path(), name, content);
        }
        put(folder.path(), "gateway.yaml", &configuration(text));
        let config = config::load(&folder.path().join("gateway.yaml")).unwrap_or_else(|problems| panic!("{problems}"));
        let listener = Settings { drain: Duration::from_millis(100), ..Settings::default() };
        let gateway = Gateway::start(config, &Options { log: Some(|| Box::new(std::io::sink())), listener, ..Options::default() }).unwrap();
        Self { gateway, folder }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address(0).unwrap()
    }

    fn put(&self, name: &str, content: &str) {
        put(self.folder.path(), name, content);
    }

    async fn reload(&self) {
        self.gateway.reloads().reload(Why::Signal).await.expect("no mistakes");
    }

    async fn ask(&self, head: &str) -> Answer {
        let mut connection = Connection::open(self.address(), None).await;
        connection.send(format!("{head}\r\nHost: content.internal\r\n\r\n").as_bytes()).await;
        connection.answer(head.starts_with("HEAD")).await
    }

    /// A GET with this `Authorization`.
    async fn get(&self, target: &str, shown: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1\r\nAuthorization: {shown}")).await
    }
}

fn configuration(text: &str) -> String {
    format!("version: 1\nworkers: 1\nlog: {{ access: off }}\n{text}")
}

fn put(folder: &Path, name: &str, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let next = folder.join("next");
    std::fs::write(&next, content).unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(next, folder.join(name)).unwrap();
}

/// A content server that answers everyone.
async fn open_content() -> RunningContentServer {
    ContentServer::start(content_server::Options { credential: None, ..content_server::Options::default() }).await.expect("a port")
}

fn guard_of(content: SocketAddr, accept: &str) -> String {
    format!(
        "listeners: [ {{ address: 127.0.0.1:0 }} ]\ntrusted_proxies: [ 127.0.0.1/32 ]\nupstreams: {{ content: {{ servers: [ \"http://{content}\" ] }} }}\nroutes:\n  - {{ path: /**, protect: {{ mode: guard, accept: {{ {accept} }} }} }}\n"
    )
}

/// A gateway in front whose route lets everyone pass, so that only its credential counts.
fn front_of(guard: SocketAddr, credentials: &str) -> String {
    format!(
        "listeners: [ {{ address: 127.0.0.1:0 }} ]\nupstreams: {{ guarded: {{ servers: [ \"http://{guard}\" ], credentials: {{ {credentials} }} }} }}\nroutes: [ {{ path: /**, public: true }} ]\n"
    )
}

/// A key that signs, apart from the code under test.
struct Key(Ed25519KeyPair);

impl Key {
    fn new() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    fn private(&self) -> String {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(self.0.to_pkcs8v1().unwrap()))
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "x": URL_SAFE_NO_PAD.encode(self.0.public_key()) })
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = signed_part(header, claims);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(signed.as_bytes())))
    }
}

fn signed_part(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn jwks(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The claims of an assertion for a GET of this target, changed in one place.
fn claims(target: &str, name: &str, value: Value) -> Value {
    let mut claims = json!({ "iss": "gateway", "aud": "albums", "iat": now(), "exp": now() + 30, "jti": "1", "htm": "GET", "htu": target });
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    claims
}

const JWT: &str = "bearer_jwt: { keys: { file: jwks.json }, issuer: gateway, audience: albums }";
const NOTES: &str = "/albums/vacation/notes.txt";

fn authorizations(content: &Records) -> usize {
    content.requests().iter().filter(|seen| seen.header("authorization").is_some()).count()
}

#[tokio::test]
async fn a_content_server_behind_a_guard_is_open_to_its_gateway_and_closed_to_everyone_else() {
    let (content, key) = (open_content().await, Key::new());
    let text = guard_of(content.address(), JWT).replace("path: /**,", "path: /**, identity_headers: { X-Forwarded-User: sub },");
    let guard = Side::start(&text, &[("jwks.json", &jwks(&[&key]))]);
    let keys = tempfile::tempdir().unwrap();
    put(keys.path(), "gateway.key", &key.private());
    let file = keys.path().join("gateway.key");
    let credentials = format!("jwt: {{ key: {{ file: {} }}, issuer: gateway, audience: albums, subject: true }}", file.display());
    let world = Setup::default()
        .another_upstream(&format!("guarded: {{ servers: [ \"http://{}\" ], credentials: {{ {credentials} }} }}", guard.address()))
        .route("{ path: /guarded/**, rewrite: \"/albums/vacation/{**}\", upstream: guarded, protect: { resource: { name: vacation, owner: alice }, scopes: { GET: [view] } } }")
        .route("{ path: /public/guarded, rewrite: /public/welcome.txt, upstream: guarded, public: true }")
        .start()
        .await;
    let rpt = world.rpt(&["view"]);
    let exchange = world.get("/guarded/notes.txt?a=b&access=c").bearer(&rpt).await;
    assert_eq!((exchange.status(), exchange.answer.text()), (200, "The water was warm.\n".to_owned()));
    let seen = content.records().last().expect("it came");
    assert_eq!((seen.target.as_str(), seen.header("x-forwarded-for")), ("/albums/vacation/notes.txt?a=b&access=c", Some("127.0.0.1, 127.0.0.1")));
    assert_eq!(seen.header("x-forwarded-user"), exchange.line["uma.subject"].as_str(), "the guard tells whom the gateway has vouched for");
    // Nobody is known on a public route, and the gateway is let in all the same.
    assert_eq!(world.get("/public/guarded").await.status(), 200);
    assert_eq!(content.records().last().expect("it came").header("x-forwarded-user"), None);

    let before = content.records().hits();
    assert_eq!(world.get("/guarded/notes.txt").await.status(), 401);
    let bare = guard.ask(&format!("GET {NOTES} HTTP/1.1")).await;
    assert_eq!((bare.status, bare.header("www-authenticate")), (401, "Bearer realm=\"content\""));
    // Neither what clients have nor another scheme opens it.
    let with_rpt = guard.get(NOTES, &format!("Bearer {rpt}")).await;
    assert_eq!((with_rpt.status, with_rpt.header("www-authenticate")), (401, "Bearer error=\"invalid_token\""));
    assert_eq!(guard.get(NOTES, "Basic Z2F0ZXdheTpwcm94eS1zZWNyZXQ=").await.status, 401);
    assert_eq!(guard.ask(&format!("OPTIONS {NOTES} HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: GET")).await.status, 401);
    assert_eq!(content.records().hits(), before);
    assert_eq!(authorizations(content.records()), 0, "the credential ends at the guard");
}

#[tokio::test]
async fn an_assertion_has_to_be_right_in_everything() {
    let (content, key, other) = (open_content().await, Key::new(), Key::new());
    let guard = Side::start(&guard_of(content.address(), JWT), &[("jwks.json", &jwks(&[&key]))]);
    let header = json!({ "alg": "EdDSA", "typ": "JWT" });
    let right = claims(NOTES, "sub", "bob".into());
    assert_eq!(guard.get(NOTES, &format!("Bearer {}", key.token(&header, &right))).await.status, 200);
    assert_eq!(guard.get(NOTES, &format!("bearer {}", key.token(&json!({ "alg": "EdDSA" }), &right))).await.status, 200);
    let aud = claims(NOTES, "aud", json!(["other", "albums"]));
    assert_eq!(guard.get(NOTES, &format!("Bearer {}", key.token(&header, &aud))).await.status, 200);

    let with = |name: &str, value: Value| key.token(&header, &claims(NOTES, name, value));
    let of_header = |header: Value| key.token(&header, &right);
    let unsigned = signed_part(&json!({ "alg": "none" }), &right);
    let hmac = signed_part(&json!({ "alg": "HS256", "typ": "JWT" }), &right);
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.0.public_key().as_ref());
    let (valid, late) = (key.token(&header, &right), now() - 10);
    let wrong = [
        ("signed by another key", other.token(&header, &right)),
        ("alg none", format!("{unsigned}.")),
        ("alg none with a signature", of_header(json!({ "alg": "none" }))),
        ("HS256 with the public key as its secret", format!("{hmac}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, hmac.as_bytes())))),
        ("alg of another kind of key", of_header(json!({ "alg": "ES256" }))),
        ("a key that comes along", of_header(json!({ "alg": "EdDSA", "jwk": key.jwk() }))),
        ("a critical extension", of_header(json!({ "alg": "EdDSA", "crit": ["b64"], "b64": false }))),
        ("a logout token", of_header(json!({ "alg": "EdDSA", "typ": "logout+jwt" }))),
        ("another issuer", with("iss", "gatewax".into())),
        ("no issuer", with("iss", Value::Null)),
        ("another audience", with("aud", "docs".into())),
        ("no audience", with("aud", Value::Null)),
        ("expired", with("exp", late.into())),
        ("no end", with("exp", Value::Null)),
        ("no beginning", with("iat", Value::Null)),
        ("from the future", with("iat", (now() + 60).into())),
        ("not valid yet", with("nbf", (now() + 60).into())),
        ("valid for too long", with("exp", (now() + 3600).into())),
        ("for another method", with("htm", "DELETE".into())),
        ("for another path", with("htu", "/albums/vacation/beach.jpg".into())),
        ("for another query", with("htu", format!("{NOTES}?x").into())),
        ("for no request", key.token(&header, &json!({ "iss": "gateway", "aud": "albums", "iat": now(), "exp": now() + 30 }))),
        ("cut", valid.split_at(valid.len() - 2).0.to_owned()),
    ];
    let before = content.records().hits();
    for (what, token) in wrong {
        let answer = guard.get(NOTES, &format!("Bearer {token}")).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer error=\"invalid_token\""), "{what}");
        assert_eq!(answer.json()["type"], "urn:uma-gateway:credential-refused", "{what}");
    }
    // As on every other route: once, and in its field.
    assert_eq!(guard.ask(&format!("GET {NOTES}?access_token={valid} HTTP/1.1")).await.status, 400);
    assert_eq!(guard.ask(&format!("GET {NOTES} HTTP/1.1\r\nAuthorization: Bearer {valid}\r\nAuthorization: Bearer {valid}")).await.status, 400);
    // The one for a GET of a path opens no other method of it.
    assert_eq!(guard.ask(&format!("PUT {NOTES} HTTP/1.1\r\nContent-Length: 0\r\nAuthorization: Bearer {valid}")).await.status, 401);
    assert_eq!(content.records().hits(), before);
}

#[tokio::test]
async fn an_assertion_that_names_no_request_is_accepted_where_the_guard_says_so() {
    let (content, key) = (open_content().await, Key::new());
    let guard = Side::start(&guard_of(content.address(), &JWT.replace("albums }", "albums, unbound: true }")), &[("jwks.json", &jwks(&[&key]))]);
    let token = |claims: &Value| format!("Bearer {}", key.token(&json!({ "alg": "EdDSA" }), claims));
    let unbound = json!({ "iss": "gateway", "aud": "albums", "iat": now(), "exp": now() + 30 });
    assert_eq!(guard.get(NOTES, &token(&unbound)).await.status, 200);
    // One that names a request is good for that one alone.
    assert_eq!(guard.get(NOTES, &token(&claims("/other", "sub", "bob".into()))).await.status, 401);
}

#[tokio::test]
async fn a_password_that_is_replaced_stays_good_for_its_grace() {
    let content = open_content().await;
    let accept = "basic: { username: gateway, password: { file: password }, grace: 1h }";
    let guard = Side::start(&guard_of(content.address(), accept), &[("password", "the first password")]);
    let status = async |password: &str| guard.get(NOTES, &format!("Basic {}", STANDARD.encode(format!("gateway:{password}")))).await.status;
    assert_eq!((status("the first password").await, status("the second password").await), (200, 401));
    guard.put("password", "the second password");
    guard.reload().await;
    assert_eq!((status("the first password").await, status("the second password").await), (200, 200));
    // Read anew without a change, and with another change: only the last one stays good.
    guard.reload().await;
    assert_eq!(status("the first password").await, 200);
    guard.put("password", "the third password");
    guard.reload().await;
    assert_eq!((status("the first password").await, status("the second password").await, status("the third password").await), (401, 200, 200));
    // Without a grace it ends with the reload.
    guard.put("gateway.yaml", &configuration(&guard_of(content.address(), &accept.replace("1h", "0"))));
    guard.reload().await;
    assert_eq!((status("the second password").await, status("the third password").await), (401, 200));
}

#[tokio::test]
async fn whoever_is_wrong_too_often_is_not_heard_for_a_while_and_nobody_else_feels_it() {
    let (content, key) = (open_content().await, Key::new());
    let token = |key: &Key| format!("Bearer {}", key.token(&json!({ "alg": "EdDSA" }), &claims(NOTES, "exp", (now() + 60).into())));
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("gateway:{password}")));
    let kinds =
        [("basic: { username: gateway, password: { file: password } }", basic("the password"), basic("a guess")), (JWT, token(&key), token(&Key::new()))];
    for (accept, right, wrong) in kinds {
        // One for each second: none comes back while the test runs.
        let text = guard_of(content.address(), accept).replace("upstreams:", "limits: { introspections: { rate: 1/s, burst: 5 } }\nupstreams:");
        let guard = Side::start(&text, &[("password", "the password"), ("jwks.json", &jwks(&[&key]))]);
        // Who asks without a credential guesses nothing, and whoever is right is never counted.
        for _ in 0..20 {
            assert_eq!(guard.ask(&format!("GET {NOTES} HTTP/1.1")).await.status, 401);
            assert_eq!(guard.get(NOTES, &right).await.status, 200);
        }
        // Whom it asks for makes nobody another client.
        let mut answers: Vec<Answer> = Vec::new();
        while answers.last().is_none_or(|answer| answer.status != 429) && answers.len() < 100 {
            let claimed = format!("{wrong}\r\nX-Forwarded-For: 192.0.2.{}", answers.len());
            answers.push(guard.get(NOTES, &claimed).await);
        }
        let held_up = answers.pop().expect("an answer");
        assert!(answers.len() >= 5 && answers.iter().all(|answer| answer.status == 401), "{accept}: {} wrong ones", answers.len());
        assert_eq!((held_up.status, held_up.json()["type"].as_str()), (429, Some("urn:uma-gateway:too-many-requests")), "{accept}");
        assert!(!held_up.header("retry-after").is_empty(), "{accept}");
        let mut other = Connection::open(guard.address(), Some([127, 0, 0, 2].into())).await;
        other.send(format!("GET {NOTES} HTTP/1.1\r\nAuthorization: {right}\r\nHost: content.internal\r\n\r\n").as_bytes()).await;
        assert_eq!(other.answer(false).await.status, 200, "{accept}: another client");
    }
}

#[tokio::test]
async fn keys_are_exchanged_on_both_sides_in_either_order_without_a_lost_request() {
    let (content, first, second, third) = (open_content().await, Key::new(), Key::new(), Key::new());
    let guard = Side::start(&guard_of(content.address(), JWT), &[("jwks.json", &jwks(&[&first]))]);
    let credentials = "jwt: { key: { file: gateway.key }, issuer: gateway, audience: albums }";
    let front = Side::start(&front_of(guard.address(), credentials), &[("gateway.key", &first.private())]);
    let passes = async || {
        for _ in 0..3 {
            assert_eq!(front.ask(&format!("GET {NOTES} HTTP/1.1")).await.status, 200);
        }
    };
    passes().await;
    // The guard knows the new key before it is used, in whatever order they stand.
    guard.put("jwks.json", &jwks(&[&second, &first]));
    guard.reload().await;
    passes().await;
    front.put("gateway.key", &second.private());
    front.reload().await;
    passes().await;
    guard.put("jwks.json", &jwks(&[&second]));
    guard.reload().await;
    passes().await;
    // The gateway's key first: the one before is used until the new one has worked.
    front.put("gateway.key", &third.private());
    front.reload().await;
    passes().await;
    guard.put("jwks.json", &jwks(&[&third]));
    guard.reload().await;
    passes().await;
    assert_eq!(authorizations(content.records()), 0);
}

#[tokio::test]
async fn a_websocket_goes_through_gateway_and_guard_over_both_versions_of_http() {
    let (echo, key) = (Echo::start().await, Key::new());
    let listens = ("address: 127.0.0.1:0", "address: 127.0.0.1:0, h2c: true");
    let upgrade = ("path: /**", "path: /**, upgrade: [ websocket ]");
    let text = guard_of(echo.address, JWT).replace(listens.0, listens.1).replace(upgrade.0, upgrade.1);
    let guard = Side::start(&text, &[("jwks.json", &jwks(&[&key]))]);
    for protocol in ["h1", "h2"] {
        let text = front_of(guard.address(), "jwt: { key: { file: gateway.key }, issuer: gateway, audience: albums }").replace(upgrade.0, upgrade.1);
        let front = Side::start(&text.replace("credentials:", &format!("protocol: {protocol}, credentials:")), &[("gateway.key", &key.private())]);
        let open = async |address: SocketAddr| {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            client_async("ws://content.internal/live", stream).await
        };
        let (mut socket, _) = open(front.address()).await.unwrap_or_else(|error| panic!("{protocol}: {error}"));
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"), "{protocol}");
        assert!(matches!(open(guard.address()).await, Err(Error::Http(answer)) if answer.status() == 401), "{protocol}: past the gateway");
    }
    assert!(echo.heads().iter().all(|head| !head.contains("authorization:")));
}

#[tokio::test]
async fn a_certificate_opens_the_guard_that_names_it() {
    let content = open_content().await;
    let authority = Authority::new();
    authority.sign("content", &["content.internal"]);
    for name in ["gateway", "neighbour"] {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.subject_alt_names.push(SanType::URI(format!("spiffe://example.org/{name}").as_str().try_into().unwrap()));
        authority.sign_as(name, &params);
    }
    let fingerprint = digest(&SHA256, &authority.certificate("gateway")).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let tls = format!(
        "address: 127.0.0.1:0, tls: {{ certificates: [ {{ certificate: {}, key: {} }} ], client_auth: optional, client_ca: {} }}",
        authority.path("content.crt"),
        authority.path("content.key"),
        authority.path("ca.pem")
    );
    let kinds =
        ["subjects: [ \"O=Example,CN=gateway\" ]".to_owned(), "san_uris: [ \"spiffe://example.org/gateway\" ]".into(), format!("sha256: [ {fingerprint} ]")];
    for kind in kinds {
        let text = guard_of(content.address(), &format!("client_certificate: {{ {kind} }}")).replacen("address: 127.0.0.1:0", &tls, 1);
        let guard = Side::start(&text, &[]);
        let before = content.records().hits();
        for (name, expected) in [(Some("gateway"), 200), (Some("neighbour"), 403), (None, 403)] {
            let client = authority.client();
            let client = name.map_or_else(|| client.clone(), |name| client.clone().identity(&authority, name));
            let answer = h1(client.connect(guard.address(), "content.internal").await.unwrap(), get(NOTES)).await.unwrap();
            assert_eq!(answer.status, expected, "{kind}: {name:?}");
        }
        assert_eq!(content.records().hits() - before, 1, "{kind}");
    }
}

#[tokio::test]
async fn a_guard_names_a_request_as_its_gateway_does_and_as_nobody_else_wants() {
    let content = open_content().await;
    let accept = "basic: { username: gateway, password: { file: password } }";
    let guard = Side::start(&guard_of(content.address(), accept), &[("password", "sesame")]);
    let front = Side::start(&front_of(guard.address(), "basic: { username: gateway, password: { file: password } }"), &[("password", "sesame")]);
    let id = |answer: &Answer| answer.header("x-request-id").to_owned();
    let through = front.ask(&format!("GET {NOTES} HTTP/1.1\r\nX-Request-Id: of-a-client")).await;
    assert_eq!((through.status, id(&through) == "of-a-client"), (200, false), "the gateway believes nobody");
    assert_eq!(content.records().last().and_then(|seen| seen.header("x-request-id").map(str::to_owned)), Some(id(&through)), "one id on the whole way");

    let shown = format!("Authorization: Basic {}", STANDARD.encode("gateway:sesame"));
    let named = |credential: &str, ids: &[&str]| {
        let ids: String = ids.iter().map(|id| format!("\r\nX-Request-Id: {id}")).collect();
        format!("GET {NOTES} HTTP/1.1\r\n{credential}{ids}")
    };
    let known = guard.ask(&named(&shown, &["5d5b-UUID_7"])).await;
    assert_eq!((known.status, id(&known)), (200, "5d5b-UUID_7".to_owned()));
    let long = "a".repeat(65);
    for ids in [&["one", "two"][..], &["with a blank"], &["quote\""], &[&long], &[""]] {
        let answer = guard.ask(&named(&shown, ids)).await;
        assert_eq!((answer.status, ids.contains(&&*id(&answer)), id(&answer).len()), (200, false, 10), "{ids:?}");
    }
    for credential in ["X-No: credential", "Authorization: Basic Z2F0ZXdheTp3cm9uZw=="] {
        let answer = guard.ask(&named(credential, &["of-a-stranger"])).await;
        assert_eq!((answer.status, id(&answer) == "of-a-stranger"), (401, false), "{credential}");
    }
}
