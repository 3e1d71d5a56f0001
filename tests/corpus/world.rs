//! The gateway between two authorization servers and the careless content server, and what the names in cases stand for.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use uma_gateway::app::{Gateway, Options, Why};
use uma_gateway::config;
use uma_gateway::demo::authorization_server::{self, AuthorizationServer, Endpoint, Fault, RunningServer};
use uma_gateway::listener::Settings;

use crate::tls::Authority;
use crate::upstream::Upstream;
use crate::wire::Door;

/// The protected file that hostile paths aim at.
pub const AIM: &str = "/albums/vacation/notes.txt";

/// Everything, with the tokens that cases show.
pub struct World {
    // First, so that the gateway is gone before its neighbours.
    pub gateway: Gateway,
    pub upstream: Upstream,
    pub server: RunningServer,
    tenant: RunningServer,
    /// Names in cases, and the tokens that they stand for.
    tokens: Vec<(&'static str, String)>,
    files: Authority,
    text: String,
    reloads: AtomicUsize,
    /// The token that was made for a case.
    newest: Mutex<String>,
}

fn yaml(issuer: &str, tenant: &str, content: SocketAddr, files: &Authority) -> String {
    let client = format!("client: {{ id: content-gateway, secret: {{ file: {} }} }}", files.path("client"));
    let protect = |server: &str, path: &str, more: &str| {
        format!(
            "  - {{ path: {path}, upstream: content, protect: {{ authorization_server: {server}, resource: {{ name: vacation, owner: alice }}, scopes: {{ GET: [view], \"PUT, DELETE\": [edit] }} }}, identity_headers: {{ X-Photo-User: sub }}{more} }}\n"
        )
    };
    let hosts = "hosts: [ gateway.example.org, \"*.example.net\" ]";
    let (certificate, key) = (files.path("gateway.crt"), files.path("gateway.key"));
    let mut text = format!(
        "version: 1\nworkers: 1\nlisteners:\n  - {{ address: 127.0.0.1:0, h2c: true, {hosts} }}\n  - {{ address: 127.0.0.1:0, {hosts}, tls: {{ certificates: [ {{ certificate: {certificate}, key: {key} }} ] }} }}\nhealth: {{ address: 127.0.0.1:0 }}\nlog: {{ access: off }}\nlimits: {{ body: 1MiB, off_for: [ 127.0.0.1/32 ] }}\nauthorization_servers:\n"
    );
    for (name, issuer, age) in [("main", issuer, "30s"), ("instant", issuer, "1ms"), ("tenant", tenant, "30s")] {
        text += &format!("  {name}: {{ issuer: \"{issuer}\", realm: photoz, {client}, introspection: {{ max_age: {age} }}, timeout: 60s }}\n");
    }
    text += &format!(
        "upstreams:\n  content:\n    servers: [ \"http://{content}\" ]\n    credentials: {{ basic: {{ username: gateway, password: {{ file: {} }} }} }}\n",
        files.path("proxy")
    );
    text += &format!("  bare:\n    servers: [ \"http://{content}\" ]\nroutes:\n");
    text += &protect("main", "/albums/vacation/**", "");
    text += &protect("main", "/live/**", ", upgrade: [ websocket ]");
    text += &protect("instant", "/instant/**", "");
    text += &protect("tenant", "/tenant/**", "");
    text += &protect("main", "/loose/secret/**", "");
    text += &protect("main", "/open/admin/**", "");
    text += &protect("main", "/open/m%C3%BCnze/**", "");
    text += "  - { path: \"/named/{name}\", upstream: content, protect: { authorization_server: main, resource: { name: \"{name}\", owner: alice }, scopes: { GET: [view] } } }\n";
    text += "  - { path: \"/docs/{name}\", upstream: content, protect: { authorization_server: main, resource: { name: \"{name}\", owner: alice }, scopes: { GET: [view] } }, encoded_slash: true, encoded_percent: true, semicolon: true }\n";
    text += "  - { path: \"/docs/of/{name}/**\", upstream: content, protect: { authorization_server: main, resource: { name: \"{name}\", owner: alice }, scopes: { GET: [view] } }, encoded_slash: true }\n";
    text += &format!(
        "  - {{ path: /guarded/**, upstream: content, protect: {{ mode: guard, accept: {{ basic: {{ username: gateway, password: {{ file: {} }} }} }} }} }}\n",
        files.path("guard")
    );
    text += "  - { path: /public/**, upstream: content, public: true }\n  - { path: /bare/**, upstream: bare, public: true }\n";
    text += "  - { path: /ws/**, upstream: content, public: true, upgrade: [ websocket ] }\n";
    text += "  - { path: /loose/**, upstream: content, public: true, covers_protected: true, encoded_slash: true, encoded_percent: true, semicolon: true }\n";
    text += "  - { path: /open/**, upstream: content, public: true, covers_protected: true }\n";
    text += "  - { host: benign.example.net, path: /**, upstream: content, public: true, covers_protected: true }\n";
    text += "  - { host: loose.example.net, path: /**, upstream: content, public: true, covers_protected: true, encoded_slash: true, encoded_percent: true, semicolon: true }\n";
    text += &protect("main", "/shared/**", ", host: site.example.net");
    text += "  - { path: /shared/**, upstream: content, public: true, covers_protected: true }\n";
    text += "  - { path: \"/only/{id}/info.json\", upstream: content, public: true, encoded_slash: true }\n";
    text
}

impl World {
    pub async fn start() -> Self {
        let server = AuthorizationServer::start(authorization_server::Options::default()).await.expect("a port");
        let tenant = AuthorizationServer::start(authorization_server::Options::default()).await.expect("a port");
        for server in [&server, &tenant] {
            server.control().register("alice", "vacation", &["view", "edit"]);
            for name in ["work", "vacation;x", "a/b", "vacation/b", "a;b", "%41"] {
                server.control().register("alice", name, &["view", "edit"]);
            }
        }
        let upstream = Upstream::start().await;
        upstream.hold("/public/hold");
        let files = Authority::new();
        files.sign("gateway", &["gateway.example.org"]);
        for (name, secret) in [("client", "gateway-secret"), ("proxy", "proxy-secret"), ("guard", "closed-to-everyone")] {
            files.put(name, secret);
            std::fs::set_permissions(files.file(name), std::fs::Permissions::from_mode(0o600)).expect("our own file");
        }
        let text = yaml(server.issuer(), tenant.issuer(), upstream.address, &files);
        files.put("gateway.yaml", &text);
        let config = config::parse(&text, &files.file("gateway.yaml"), &|_| None).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let listener = Settings {
            head: Duration::from_secs(6),
            body: Duration::from_secs(6),
            idle: Duration::from_secs(5),
            drain: Duration::from_millis(50),
            connections_per_client: 5_000,
            ..Settings::default()
        };
        let options = Options { log: Some(|| Box::new(std::io::sink())), listener, ..Options::default() };
        let gateway = Gateway::start(config, &options).expect("it starts");
        until("the gateway is ready", async || gateway.is_ready()).await;
        let tokens = tokens(&server, &tenant);
        Self { gateway, upstream, server, tenant, tokens, files, text, reloads: AtomicUsize::new(0), newest: Mutex::default() }
    }

    /// The plain listener, and that with TLS.
    pub fn doors(&self) -> [Door; 2] {
        let address = |listener| self.gateway.address(listener).expect("two listeners");
        [Door::plain(address(0)), Door { address: address(1), tls: Some(self.files.client()) }]
    }

    /// Changes the configuration in what no case looks at, again and again.
    pub async fn reload_for_ever(&self) -> ! {
        loop {
            let count = self.reloads();
            self.files.put("gateway.yaml", &format!("{}  - {{ path: /other/{}/**, upstream: bare, public: true }}\n", self.text, count % 2));
            self.gateway.reloads().reload(Why::Operator).await.unwrap_or_else(|refused| panic!("{refused}"));
            self.reloads.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn newest(&self) -> MutexGuard<'_, String> {
        self.newest.lock().expect("no panic")
    }

    pub fn reloads(&self) -> usize {
        self.reloads.load(Ordering::Relaxed)
    }

    /// What stands for a name in a case.
    pub fn fill(&self, name: &str) -> String {
        let fresh = |scopes: &[&str]| self.server.control().grant_rpt("bob", &[("vacation", scopes)], 300);
        match name {
            "aim" => AIM.to_owned(),
            "host" => "Host: gateway.example.org\r\n".to_owned(),
            "fresh" => fresh(&["view"]),
            "newly" => {
                let token = fresh(&["view"]);
                self.newest().clone_from(&token);
                token
            }
            "instant" => self.newest().clone(),
            "ticket" => self.server.control().last_ticket().unwrap_or_else(|| "no-ticket".to_owned()),
            // As long as others, with the same beginning as one that is good.
            "prefix" => format!("{}{}", &self.token("view")[..20], "x".repeat(23)),
            "shorter" => self.token("view")[..40].to_owned(),
            "longer" => format!("{}x", self.token("view")),
            "upper" => self.token("view").to_ascii_uppercase(),
            "reversed" => self.token("view").chars().rev().collect(),
            "alg-none" => self.jwt(&json!({ "alg": "none" })),
            "alg-hs256" => self.jwt(&json!({ "alg": "HS256", "typ": "JWT" })),
            "jwk" => self.jwt(&json!({ "alg": "RS256", "jwk": { "kty": "RSA", "n": "AQAB", "e": "AQAB" } })),
            "jku" => self.jwt(&json!({ "alg": "RS256", "jku": format!("http://{}/bare/keys", self.upstream.address) })),
            "x5u" => self.jwt(&json!({ "alg": "RS256", "x5u": format!("http://{}/bare/keys", self.upstream.address) })),
            "kid" => self.jwt(&json!({ "alg": "HS256", "kid": "../../dev/null" })),
            name => self.token(name),
        }
    }

    pub fn token(&self, name: &str) -> String {
        self.tokens.iter().find(|(known, _)| *known == name).map_or_else(|| panic!("${{{name}}}"), |(_, token)| token.clone())
    }

    /// A token that grants itself everything.
    fn jwt(&self, header: &serde_json::Value) -> String {
        let resource = self.server.control().resource_id("vacation").expect("it is registered");
        let payload = json!({
            "iss": self.server.issuer(), "aud": "content-gateway", "sub": "mallory", "exp": 4_102_444_800_u64, "active": true,
            "permissions": [ { "resource_id": resource, "resource_scopes": ["view", "edit"] } ],
            "authorization": { "permissions": [ { "rsid": resource, "scopes": ["view", "edit"] } ] },
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(header), part(&payload), if header["alg"] == "none" { String::new() } else { URL_SAFE_NO_PAD.encode("signature") })
    }

    /// No text that may reach a content server holds one of these.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().map(|(_, token)| token.as_str())
    }

    /// Makes the authorization server err as a case wants it; what it says of tokens from then on.
    pub fn err(&self, fault: &str) {
        let other = self.tenant.issuer().to_owned();
        let told = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let (kind, rest) = fault.split_once(' ').unwrap_or((fault, ""));
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let (endpoint, fault) = match kind {
            "member" => (Endpoint::Introspection, Fault::member(name, told(value))),
            "permission" => (Endpoint::Introspection, Fault::in_permissions(name, told(value))),
            "says" => (Endpoint::Introspection, Fault::text(http::StatusCode::OK, rest)),
            "permission-down" => (Endpoint::Permission, Fault::close()),
            "permission-garbage" => (Endpoint::Permission, Fault::not_json()),
            "down" => (Endpoint::Introspection, Fault::close()),
            "500" => (Endpoint::Introspection, Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR)),
            "not-json" => (Endpoint::Introspection, Fault::not_json()),
            "truncated" => (Endpoint::Introspection, Fault::truncate()),
            "created" => (Endpoint::Introspection, Fault::json(http::StatusCode::CREATED, &json!({ "active": true }))),
            "redirect" => (Endpoint::Introspection, Fault::redirect(&format!("http://{}/bare/introspect", self.upstream.address))),
            "huge" => (Endpoint::Introspection, Fault::huge(400_000)),
            "deep" => (Endpoint::Introspection, Fault::deep(10_000)),
            "active-text" => (Endpoint::Introspection, Fault::member("active", json!("true"))),
            "active-false-text" => (Endpoint::Introspection, Fault::member("active", json!("false"))),
            "active-number" => (Endpoint::Introspection, Fault::member("active", json!(1))),
            "active-null" => (Endpoint::Introspection, Fault::member("active", json!(null))),
            "active-list" => (Endpoint::Introspection, Fault::member("active", json!([true]))),
            "active-missing" => (Endpoint::Introspection, Fault::without("active")),
            "active-twice" => (Endpoint::Introspection, Fault::duplicate("active", "false")),
            "expired" => (Endpoint::Introspection, Fault::member("exp", json!(1_000_000_000))),
            "expires-text" => (Endpoint::Introspection, Fault::member("exp", json!("4102444800"))),
            "not-yet" => (Endpoint::Introspection, Fault::member("nbf", json!(4_102_444_800_u64))),
            "issuer" => (Endpoint::Introspection, Fault::member("iss", json!(other))),
            "audience" => (Endpoint::Introspection, Fault::member("aud", json!(["another-gateway"]))),
            "bound" => (Endpoint::Introspection, Fault::member("cnf", json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }))),
            "scope-case" => (Endpoint::Introspection, Fault::in_permissions("resource_scopes", json!(["VIEW"]))),
            "scope-text" => (Endpoint::Introspection, Fault::in_permissions("resource_scopes", json!("view"))),
            "permission-expired" => (Endpoint::Introspection, Fault::in_permissions("exp", json!(1_000_000_000))),
            "permission-none" => (Endpoint::Introspection, Fault::without("permissions")),
            "permission-other" => (Endpoint::Introspection, Fault::in_permissions("resource_id", json!("another"))),
            other => panic!("no fault {other}"),
        };
        self.server.control().fail(endpoint, fault);
    }

    /// It errs no more.
    pub fn heal(&self) {
        self.server.control().heal_all();
    }

    /// What happens between two messages of a case.
    pub async fn happen(&self, what: &str) {
        match what {
            "revoke" => {
                self.server.control().revoke(&self.newest());
                // Until what the gateway knows is older than it may be.
                let since = std::time::Instant::now();
                until("a millisecond is over", async || since.elapsed() > Duration::from_millis(2)).await;
            }
            other => panic!("nothing is called {other}"),
        }
    }
}

fn tokens(server: &RunningServer, tenant: &RunningServer) -> Vec<(&'static str, String)> {
    let (control, other) = (server.control(), tenant.control());
    let grant = |user: &str, resource: &str, scopes: &[&str], lifetime| control.grant_rpt(user, &[(resource, scopes)], lifetime);
    let revoked = grant("bob", "vacation", &["view"], 300);
    control.revoke(&revoked);
    vec![
        ("view", grant("bob", "vacation", &["view"], 300)),
        ("edit", grant("bob", "vacation", &["edit"], 300)),
        ("both", grant("bob", "vacation", &["view", "edit"], 300)),
        ("work", grant("bob", "work", &["view", "edit"], 300)),
        ("parameter", grant("bob", "vacation;x", &["view"], 300)),
        ("escape", grant("bob", "%41", &["view"], 300)),
        ("slash", grant("bob", "a/b", &["view"], 300)),
        ("below", grant("bob", "vacation/b", &["view"], 300)),
        ("both-odd", grant("bob", "a;b", &["view"], 300)),
        ("expired", grant("bob", "vacation", &["view"], -10)),
        ("revoked", revoked),
        ("access", control.access_token("bob", "openid", 300)),
        ("tenant", other.grant_rpt("bob", &[("vacation", &["view", "edit"])], 300)),
    ]
}

/// Waits until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
