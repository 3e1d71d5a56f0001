//! What clients, servers and operators do, with a secret in every place that can hold one.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use uma_gateway::demo::authorization_server::{Control, Endpoint, Fault};
use uma_gateway::demo::content_server::Reply;

use crate::planted::Planted;
use crate::world::{World, plain};

const LINK: &str = "/albums/vacation/notes.txt";
const KEYCLOAK: &str = "/keycloak/notes.txt";

/// What clients present.
pub struct Presented {
    pub rpt: String,
    pub jwt: String,
    unknown: String,
    fields: String,
    schemes: Vec<String>,
    query: Vec<(&'static str, String)>,
    user: String,
    form: String,
    guard: String,
}

impl Presented {
    pub fn new(world: &mut World) -> Self {
        let claim = world.planted.plant("claim of a token");
        for control in [world.server.control(), world.keycloak.control()] {
            control.rpt_claims(Map::from_iter([("note".to_owned(), Value::from(claim.clone()))]));
        }
        let rpt = world.control().grant_rpt("bob", &[("vacation", &["view"])], 300);
        let jwt = world.keycloak.control().grant_rpt("bob", &[("vacation", &["view"])], 300);
        let guard = world.own.guard.clone();
        let planted = &mut world.planted;
        planted.know("RPT", &rpt);
        for (part, kind) in jwt.split('.').skip(1).zip(["payload of a JWT", "signature of a JWT"]) {
            planted.know(kind, part);
        }
        let fields = [
            ("Cookie", format!("session={}", planted.plant("cookie"))),
            ("Cookie", format!("id_token={}", planted.plant("ID token in a cookie"))),
            ("Proxy-Authorization", format!("Basic {}", planted.plant("Proxy-Authorization"))),
            ("X-Api-Key", planted.plant("client's own key")),
            ("X-Upstream-Key", planted.plant("key under the gateway's name")),
            ("DPoP", planted.plant("proof of possession")),
            ("Referer", format!("https://app.example.org/?access_token={}", planted.plant("token in a Referer"))),
        ];
        let fields = fields.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
        let schemes = ["Basic", "Digest", "Negotiate", "GNAP", "DPoP", "Token", "bearer  "];
        let schemes = schemes.into_iter().map(|scheme| format!("{scheme} {}", planted.plant(&format!("Authorization: {scheme}")))).collect();
        let query = ["access_token", "code", "id_token_hint", "ticket", "claim_token", "client_secret", "refresh_token"];
        let query = query.into_iter().map(|name| (name, planted.plant(&format!("{name} in the query")))).collect();
        let form = format!("claim_token={}&id_token={}", planted.plant("claim token in a form"), planted.plant("ID token in a form"));
        let (unknown, user) = (planted.plant("unknown token"), planted.plant("password in an address"));
        Self { rpt, jwt, unknown, fields, schemes, query, user, form, guard }
    }

    fn get(&self, target: &str, more: &str) -> String {
        self.ask("GET", target, more, "")
    }

    fn ask(&self, method: &str, target: &str, more: &str, body: &str) -> String {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let more = if more.is_empty() { String::new() } else { format!("{more}\r\n") };
        format!("{method} {target} HTTP/1.1\r\nHost: gateway.example.org\r\nConnection: close\r\n{}{more}{length}\r\n{body}", self.fields)
    }

    /// Requests that are answered in as many ways as a client alone can cause.
    pub fn requests(&self, planted: &mut Planted) -> Vec<String> {
        let bearer = |token: &str| format!("Authorization: Bearer {token}");
        let (rpt, jwt, unknown) = (bearer(&self.rpt), bearer(&self.jwt), bearer(&self.unknown));
        let long = format!("{}{}", planted.plant("token that is too long"), "x".repeat(26 * 1024));
        let twice = format!("{rpt}\r\nAuthorization: Bearer {}", planted.plant("second token"));
        let early = planted.plant("token in a head that is too large");
        let protocol = planted.plant("token as a WebSocket protocol");
        let mut all = vec![
            self.get(LINK, ""),
            self.get(LINK, &rpt),
            self.get(LINK, &rpt),
            self.get(KEYCLOAK, &jwt),
            self.get(KEYCLOAK, &jwt),
            self.get(KEYCLOAK, &rpt),
            self.get(LINK, &jwt),
            self.get(LINK, &unknown),
            self.get(LINK, &unknown),
            self.get(LINK, &bearer(&format!("two words {}", planted.plant("malformed token")))),
            self.get(LINK, &bearer(&format!("\"{}\"", planted.plant("quoted token")))),
            self.get(LINK, &twice),
            self.get(LINK, &bearer(&long)),
            self.ask("PUT", LINK, &rpt, "notes"),
            self.ask("PURGE", LINK, &rpt, ""),
            self.get("/nowhere", &rpt),
            self.get("/public/welcome.txt", &rpt),
            self.get("/token/welcome.txt", &rpt),
            self.get("/signed/welcome.txt", &rpt),
            self.get("/guarded/welcome.txt", &rpt),
            self.get("/guarded/welcome.txt", &format!("Authorization: Basic {}", STANDARD.encode(format!("gateway:{}", planted.plant("wrong password for a guard"))))),
            self.get("/guarded/welcome.txt", &format!("Authorization: Basic {}", STANDARD.encode(format!("gateway:{}", self.guard)))),
            self.get("/dead/welcome.txt", &rpt),
            self.ask("POST", "/public/form", "Content-Type: application/x-www-form-urlencoded", &self.form),
            self.get(&format!("{LINK}/%00"), &rpt),
            self.get(&format!("http://bob:{}@gateway.example.org{LINK}", self.user), &rpt),
            self.get(LINK, &format!("{rpt}\r\nHost: twice")),
            self.get(LINK, &format!("{rpt}\r\nX_Token: {}", planted.plant("field whose name has an underscore"))),
            self.get(LINK, &format!("{rpt}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3")),
            self.get(LINK, &format!("X-Large: {early}{}", "x".repeat(200 * 1024))),
            format!("GET {LINK} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nbroken line {}\r\n\r\n", self.unknown, planted.plant("broken line")),
            self.get("/socket/a", &format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: bearer, {protocol}")),
        ];
        for (name, secret) in &self.query {
            for path in [LINK, "/public/welcome.txt", "/nowhere"] {
                all.push(self.get(&format!("{path}?a=b&{name}={secret}"), if path == LINK { &rpt } else { "" }));
            }
        }
        for scheme in &self.schemes {
            for path in [LINK, "/public/welcome.txt", KEYCLOAK] {
                all.push(self.get(path, &format!("Authorization: {scheme}")));
            }
        }
        all
    }
}

/// The same by HTTP/2, where libraries take heads apart that have not come to the gateway yet. Gives the answers.
pub async fn over_http2(world: &World, presented: &Presented) -> Vec<String> {
    let stream = TcpStream::connect(world.address).await.expect("it listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let long = "x".repeat(26 * 1024);
    let mut answers = Vec::new();
    for token in [&presented.rpt, &presented.unknown, &format!("{}{long}", presented.unknown), &format!("{}{long}{long}", presented.unknown)] {
        for path in [LINK, "/public/welcome.txt", "/nowhere"] {
            let request = http::Request::get(format!("http://gateway.example.org{path}?code={}", presented.query[1].1));
            let request = request.header("authorization", format!("Bearer {token}")).header("cookie", presented.fields.replace(['\r', '\n'], " "));
            let Ok(ready) = client.ready().await else { return answers };
            client = ready;
            let Ok((answer, _)) = client.send_request(request.body(()).expect("a request"), true) else { return answers };
            let Ok(answer) = answer.await else { continue };
            answers.push(format!("{:?} {:?}", answer.status(), plain(answer.headers())));
            let mut body = answer.into_body();
            while let Some(Ok(data)) = body.data().await {
                answers.push(String::from_utf8_lossy(&data).into_owned());
            }
        }
    }
    answers
}

/// Ways in which an authorization server fails, with a secret in whatever it says.
fn faults(planted: &mut Planted) -> Vec<Fault> {
    let mut said = |what: &str| planted.plant(&format!("{what} of an authorization server"));
    let (error, description, page, header, deep) = (said("error"), said("error description"), said("page"), said("header"), said("member"));
    let opaque = format!("mF_9B5f-4{}JqM", &error.bytes().rev().fold(String::new(), |text, octet| text + &format!("{octet:x}"))[..30]);
    planted.know("token as an error of an authorization server", &opaque);
    let bad = StatusCode::BAD_REQUEST;
    vec![
        Fault::hang(),
        Fault::close(),
        Fault::truncate(),
        Fault::not_json(),
        Fault::unauthorized(),
        Fault::json(bad, &json!({ "error": error })),
        Fault::json(bad, &json!({ "error": opaque })),
        Fault::json(StatusCode::FORBIDDEN, &json!({ "error": opaque, "error_description": description })),
        Fault::json(
            bad,
            &json!({ "error": "invalid_request", "error_description": description, "error_uri": format!("https://as.example.org/?{description}") }),
        ),
        Fault::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "message": description })),
        Fault::text(StatusCode::OK, format!("<html>{page}</html>")),
        Fault::text(StatusCode::OK, format!("{{\"active\": {page}")),
        Fault::text(StatusCode::OK, format!("{{\"{page}\": 1, \"{page}\": 2}}")),
        Fault::json(StatusCode::OK, &json!({ "active": page, "ticket": 1, "access_token": { "a": page }, "token_type": page, "issuer": 1 })),
        Fault::json(StatusCode::OK, &json!({ "active": true, "exp": deep, "iss": [deep], "permissions": deep })),
        Fault::json(StatusCode::CREATED, &json!({ "ticket": format!("{deep}\u{e9}\n") })),
        Fault::redirect(&format!("https://as.example.org/login?state={header}")),
        Fault::text(StatusCode::SERVICE_UNAVAILABLE, page),
    ]
}

/// Fails at every endpoint in every way, while clients ask. Gives what they are answered.
pub async fn failing_authorization_servers(world: &mut World, presented: &Presented) -> Vec<String> {
    let faults = faults(&mut world.planted);
    let mut answers = Vec::new();
    let mut number = 0;
    for fault in &faults {
        for (endpoint, keycloak) in [
            (Endpoint::Introspection, false),
            (Endpoint::Permission, false),
            (Endpoint::Pat, false),
            (Endpoint::ResourceSet, false),
            (Endpoint::Introspection, true),
            (Endpoint::Live, true),
        ] {
            number += 1;
            let (control, link, granted) = if keycloak {
                let control = world.keycloak.control();
                (control, KEYCLOAK, control.grant_rpt("bob", &[("vacation", &["view"])], 300))
            } else {
                (world.control(), LINK, format!("{}{number}", presented.unknown))
            };
            if endpoint == Endpoint::Pat {
                control.revoke_pats();
            }
            control.fail(endpoint, fault.clone());
            let authorization = if endpoint == Endpoint::Permission { String::new() } else { format!("Authorization: Bearer {granted}") };
            answers.push(world.say(presented.get(link, &authorization).as_bytes()).await);
            control.heal_all();
            recovered(world, presented, keycloak, &format!("{fault:?} at {endpoint:?}")).await;
        }
    }
    answers
}

/// A failing server is given a rest; what comes next must meet one that is asked again.
async fn recovered(world: &World, presented: &Presented, keycloak: bool, after: &str) {
    let (link, token) = if keycloak { (KEYCLOAK, &presented.jwt) } else { (LINK, &presented.rpt) };
    let request = presented.get(link, &format!("Authorization: Bearer {token}"));
    crate::world::until(&format!("{link} is served after {after}"), async || world.say(request.as_bytes()).await.starts_with("HTTP/1.1 200").then_some(()))
        .await;
}

/// The discovery document names other issuers and addresses, with secrets in them. The gateway reads it at a start; `check --online` at any time.
pub fn odd_discovery(world: &mut World) -> Vec<Fault> {
    let (user, page) = (world.planted.plant("password in a discovery document"), world.planted.plant("page in the place of a discovery document"));
    let endpoint = format!("http://gateway:{user}@127.0.0.1/token");
    vec![
        Fault::member("token_endpoint", endpoint.into()),
        Fault::member("issuer", format!("http://gateway:{user}@127.0.0.1").into()),
        Fault::member("introspection_endpoint", format!("not an address {user}").into()),
        Fault::text(StatusCode::OK, format!("<html>{page}")),
        Fault::json(StatusCode::UNAUTHORIZED, &json!({ "error": page })),
    ]
}

/// The content server fails, with secrets in whatever it says.
pub async fn failing_upstream(world: &mut World, presented: &Presented) -> Vec<String> {
    let planted = &mut world.planted;
    let (cookie, location, garbage) = (planted.plant("cookie of an upstream"), planted.plant("code in a Location"), planted.plant("garbage of an upstream"));
    let mut answers = Vec::new();
    let replies = [
        Reply::ok("fine").header("Set-Cookie", &format!("session={cookie}")).header("Location", &format!("/?code={location}")),
        Reply::unauthorized().header("Set-Cookie", &format!("session={cookie}")),
        Reply::raw(format!("SSH-2.0-{garbage}\r\n\r\n")),
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {garbage}\r\n\r\n")),
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nX: {garbage}\r\n\r\n")),
        Reply::raw(format!("HTTP/1.1 200 OK\r\nBad name: {garbage}\r\n\r\n")),
        Reply::close(),
        Reply::reset(),
        Reply::truncated(100, 10, uma_gateway::demo::content_server::Framing::Length),
        Reply::status(500),
    ];
    for reply in replies {
        world.upstream().reply(reply);
        for target in [LINK, "/public/welcome.txt", "/token/welcome.txt"] {
            answers.push(world.say(presented.get(target, &format!("Authorization: Bearer {}", presented.rpt)).as_bytes()).await);
        }
    }
    world.upstream().reply_as_usual();
    answers
}

/// Configurations with a secret that stands where it should not, each as a whole file. None is one that is taken.
pub fn bad_configurations(world: &mut World) -> Vec<String> {
    let text = std::fs::read_to_string(world.folder.path().join("gateway.yaml")).expect("a text");
    let secret = world.planted.plant("secret that is written out");
    let mut places = vec![
        ("{ file: client }", format!("\"{secret}\"")),
        ("{ file: client }", format!("{{ value: \"{secret}\" }}")),
        ("{ file: client }", format!("[\"{secret}\"]")),
        ("{ file: client }", format!("{{ env: \"{secret}\" }}")),
        ("{ env: PROXY_PASSWORD }", format!("\"{secret}\"")),
        ("{ file: bearer }", format!("\"{secret}\"")),
        ("{ file: key }", format!("\"{secret}\"")),
        ("{ file: oauth2 }", format!("\"{secret}\"")),
        ("{ file: admin }", format!("\"{secret}\"")),
        ("token: { file: admin }", format!("tokn: \"{secret}\"")),
    ];
    if cfg!(feature = "store") {
        places.push(("{ file: shares }", format!("\"{secret}\"")));
        places.push(("admin_key: { file: shares }", format!("admin_kee: \"{secret}\"")));
        places.push(("{ file: store-key }", format!("\"{secret}\"")));
    }
    let more = [
        ("password: { env: PROXY_PASSWORD }", format!("pasword: \"{secret}\"")),
        ("secret: { file: client }", format!("secret: \"{secret}")),
        ("client_key: client-tls.key", format!("client_key: client-tls.key, client_key_password: \"{secret}\"")),
        ("X-Upstream-Key: { file: key }", format!("X-Upstream-Key: \"{secret}\", X-Other: {{ file: key }}")),
        ("basic: { username: gateway,", format!("basic: {{ username: gateway, apikey: \"{secret}\",")),
    ];
    places.extend(more);
    let servers = text.split("servers: [ \"http://").nth(1).and_then(|rest| rest.split('"').next()).expect("a server").to_owned();
    let with_user = format!("http://gateway:{}@", secret.replace('/', "%2F"));
    let password = secret.replace('/', "%2F");
    world.planted.know("password in an address of the configuration", &password);
    let server = format!("\"http://{servers}\"");
    places.push((&server, server.replace("http://", &with_user)));
    let issuer = format!("issuer: \"{}\"", world.server.issuer());
    places.push((&issuer, issuer.replace("http://", &with_user)));
    places.push((&issuer, format!("{issuer}\n    backchannel: \"{with_user}127.0.0.1\"")));
    places.push((&issuer, format!("{issuer}\n    discovery: \"{with_user}127.0.0.1/\"")));
    let endpoint = format!("token_endpoint: \"{}", world.server.issuer());
    places.push((&endpoint, endpoint.replace("http://", &with_user)));
    let bad = places.iter().map(|(place, other)| {
        assert!(text.contains(place), "{place}");
        text.replacen(place, other, 1)
    });
    bad.collect()
}

/// Secret files that hold what no secret may hold.
pub fn bad_files(world: &mut World) -> Vec<(PathBuf, Vec<u8>)> {
    let secret = world.planted.plant("secret file that cannot be used");
    let file = world.folder.path().join("bearer");
    let contents = [
        format!("{secret}\t{secret}").into_bytes(),
        format!("{secret}\n{secret}\n").into_bytes(),
        [secret.as_bytes(), b"\xff\xfe"].concat(),
        format!("{secret}\u{e9}").into_bytes(),
    ];
    contents.map(|content| (file.clone(), content)).to_vec()
}

/// Asks the operator's door, rightly and wrongly.
pub async fn operator(world: &mut World, presented: &Presented) -> Vec<String> {
    let (wrong, token) = (world.planted.plant("wrong admin token"), world.own.admin.clone());
    let strange = world.planted.plant("token in a question that cannot be read");
    let url = format!("http://gateway.example.org{LINK}?access_token={}", presented.query.first().expect("one").1);
    let question = |url: &str, token: &str| json!({ "method": "GET", "url": url, "token": token }).to_string();
    let mut pages = Vec::new();
    for (method, path, body) in [
        ("GET", "/", String::new()),
        ("GET", "/records?last=1000", String::new()),
        ("GET", "/records/unknown", String::new()),
        ("POST", "/explain", question(&url, &presented.rpt)),
        ("POST", "/explain", question(&format!("http://gateway.example.org{LINK}"), &presented.jwt)),
        ("POST", "/explain", question(&format!("http://gateway.example.org{KEYCLOAK}"), &presented.jwt)),
        ("POST", "/explain", question(&strange, &strange)),
        ("POST", "/explain", question(&format!("http://gateway.example.org{LINK}"), &format!("{strange}\u{e9}\n"))),
        ("POST", "/explain", format!("{{\"method\": \"GET\", \"token\": \"{strange}\", \"tokn\": \"{strange}\"}}")),
        ("POST", "/explain", format!("{{\"token\": \"{strange}\"{}", " ".repeat(70_000))),
        ("DELETE", "/records", strange.clone()),
    ] {
        pages.push(world.admin(method, path, &token, &body).await);
        pages.push(world.admin(method, path, &wrong, &body).await);
    }
    pages
}

/// Asks the shares API, rightly and wrongly, by owners' tokens and by the operator's key. Gives the answers.
pub async fn shares(world: &mut World, presented: &Presented) -> Vec<String> {
    if !cfg!(feature = "store") {
        return Vec::new();
    }
    let alice = world.keycloak.control().access_token("alice", "openid share", 300);
    let unscoped = world.keycloak.control().access_token("alice", "openid", 300);
    for (kind, token) in [("token of an owner", &alice), ("token of an owner without the scope", &unscoped)] {
        world.planted.know(kind, token.rsplit('.').next().expect("a part"));
    }
    let (guess, strange) = (world.planted.plant("guessed admin key"), world.planted.plant("secret in a body of the shares API"));
    let key = world.own.shares.clone();
    let wish = |path: &str| json!({ "path": path, "name": "Notes" }).to_string();
    let mut answers = Vec::new();
    for (method, path, body) in [
        ("POST", "/shares", wish("/users/alice/notes.txt")),
        ("POST", "/shares", wish("/users/bob/notes.txt")),
        ("POST", "/shares", json!({ "path": "/users/alice/x", "owner": "alice" }).to_string()),
        ("POST", "/shares", json!({ "path": "/users/alice/y", "token": strange }).to_string()),
        ("POST", "/shares", json!({ "path": [strange], "owner": "alice" }).to_string()),
        ("POST", "/shares", json!({ "path": "/users/alice/y", "owner": "alice", "scopes": strange }).to_string()),
        ("POST", "/shares", format!("{{\"path\": {strange}")),
        ("GET", "/shares?owner=alice", String::new()),
        ("GET", &format!("/shares/{}", presented.unknown), String::new()),
        ("DELETE", &format!("/shares?access_token={strange}"), String::new()),
    ] {
        for token in [&alice, &unscoped, &guess, &key, &presented.unknown, &presented.jwt] {
            answers.push(world.shares(method, path, token, &body).await);
        }
    }
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 201")) && answers.iter().any(|answer| answer.contains("\"shares\":[{")), "{answers:?}");
    let link = answers.iter().find_map(|answer| answer.split("location: /shares/").nth(1)?.split("\r\n").next()).expect("a share").to_owned();
    world.keycloak.control().fail(Endpoint::ResourceSet, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    answers.push(world.shares("PATCH", &format!("/shares/{link}"), &key, "{\"name\": \"Other\"}").await);
    answers.push(world.shares("DELETE", &format!("/shares/{link}"), &key, "").await);
    world.keycloak.control().heal_all();
    answers.push(world.say(presented.get(&format!("/s/{link}"), &format!("Authorization: Bearer {}", presented.jwt)).as_bytes()).await);
    answers
}

/// Reads configurations that are not taken: in the running gateway by its door and by its signal, and by every command that reads one. Gives what is said.
pub async fn reload(world: &mut World) -> Vec<String> {
    let file = world.folder.path().join("gateway.yaml");
    let good = std::fs::read(&file).expect("a text");
    let (configurations, files) = (bad_configurations(world), bad_files(world));
    let (mut said, token) = (Vec::new(), world.own.admin.clone());
    for bad in &configurations {
        std::fs::write(&file, bad).expect("it can be written");
        said.push(world.command(&["check", "--config", "gateway.yaml"]));
        said.push(world.admin("POST", "/reload", &token, "").await);
        assert!(said.last().is_some_and(|answer| answer.starts_with("HTTP/1.1 422")), "{bad}\n{said:?}");
    }
    let commands: [&[&str]; 3] = [&["run"], &["explain", "GET", "http://h/"], &["check", "--online"]];
    for command in commands {
        said.push(world.command(command));
    }
    std::fs::write(&file, &good).expect("it can be written");
    for (secret, content) in &files {
        let before = std::fs::read(secret).expect("a secret");
        std::fs::write(secret, content).expect("it can be written");
        said.push(world.command(&["check", "--config", "gateway.yaml"]));
        said.push(world.admin("POST", "/reload", &token, "").await);
        std::fs::write(secret, before).expect("it can be written");
    }
    // The watching of files may be slower than the door: whatever it reads last is the good one.
    said.push(world.admin("POST", "/reload", &token, "").await);
    said
}

/// Every command that can be asked of a gateway that runs.
pub fn commands(world: &mut World, presented: &Presented) -> Vec<String> {
    let file = world.folder.path().join("rpt");
    std::fs::write(&file, &presented.rpt).expect("it can be written");
    let (admin, link) =
        (format!("http://{}", world.admin), format!("http://gateway.example.org{LINK}?access_token={}", presented.query.first().expect("one").1));
    let mut said = Vec::new();
    let commands: [&[&str]; 8] = [
        &["explain", "GET", &link, "--token", "rpt", "--admin", &admin],
        &["explain", "GET", &link, "--token", "rpt", "--admin", &admin, "--json"],
        &["explain", "GET", &link, "--token", "rpt"],
        &["check", "--online"],
        &["schema"],
        &["healthcheck"],
        &["reload"],
        &["version"],
    ];
    for arguments in commands {
        said.push(world.command(arguments));
    }
    for fault in odd_discovery(world) {
        world.control().fail(Endpoint::Discovery, fault.clone());
        world.keycloak.control().fail(Endpoint::Discovery, fault);
        said.push(world.command(&["check", "--online"]));
        world.control().heal_all();
        world.keycloak.control().heal_all();
    }
    let faults = faults(&mut world.planted);
    for fault in faults {
        for control in [world.server.control(), world.keycloak.control()] {
            everywhere(control, &fault);
        }
        said.push(world.command(&["check", "--online"]));
        for control in [world.server.control(), world.keycloak.control()] {
            control.heal_all();
        }
    }
    said
}

fn everywhere(control: &Control, fault: &Fault) {
    for endpoint in [Endpoint::Pat, Endpoint::Introspection, Endpoint::ResourceSet] {
        control.fail(endpoint, fault.clone());
    }
}
