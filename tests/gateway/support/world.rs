//! An authorization server, a content server, and the gateway between them, started from the text of a configuration file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::{Future, IntoFuture};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use rcgen::KeyPair;
use serde_json::Value;
use uma_gateway::app::{Gateway, Options, Why};
use uma_gateway::authorization_server::ServerIdentity;
use uma_gateway::cache::CacheKey;
use uma_gateway::config;
use uma_gateway::demo::authorization_server::{self, AuthorizationServer, Control, Endpoint, Fault, Kind, RunningServer};
use uma_gateway::demo::content_server::{self, ContentServer, Records, RunningContentServer};
use uma_gateway::jose::VerifyingKeys;
use uma_gateway::listener::Settings;

use super::{Answer, Connection, Exchange, until};

/// What the operator bears at the shares API.
const SHARES_KEY: &str = "the-operators-key-that-nobody-guesses";

/// Where the tests' own link leads.
pub const LINK: &str = "/albums/vacation/notes.txt";

/// A route whose resource the gateway registers.
pub const DECLARED: &str = "{ path: /declared/tent, upstream: content, protect: { resource: { register: { name: declared tent, scopes: [view], owner: alice } }, scopes: { GET: [view] } } }";

/// The routes that every world has: an album of Alice's, resources found by the path, and what everyone may read.
const ROUTES: [&str; 3] = [
    "{ path: /albums/vacation/**, upstream: content, protect: { resource: { name: vacation, owner: alice }, scopes: { GET: [view], \"PUT, DELETE\": [edit] } } }",
    "{ path: \"/named/{name}\", upstream: content, protect: { resource: { name: \"{name}\", owner: alice }, scopes: { GET: [view] } } }",
    "{ path: /public/**, upstream: content, public: true }",
];

/// The same for a server without UMA: what a token's own scopes let through.
const OAUTH_ROUTES: [&str; 2] = [
    "{ path: /albums/vacation/**, upstream: content, protect: { scopes: { GET: [view], \"PUT, DELETE\": [edit] } } }",
    "{ path: /public/**, upstream: content, public: true }",
];

const ENDPOINTS: [Endpoint; 10] = [
    Endpoint::Discovery,
    Endpoint::Pat,
    Endpoint::Token,
    Endpoint::Permission,
    Endpoint::Introspection,
    Endpoint::Live,
    Endpoint::ResourceSet,
    Endpoint::Revocation,
    Endpoint::Authorize,
    Endpoint::Other,
];

/// How a world differs from the usual one.
pub struct Setup {
    kind: Kind,
    oauth: bool,
    client: String,
    key: Option<(KeyPair, bool)>,
    server: Vec<String>,
    upstream: Vec<String>,
    upstreams: Vec<String>,
    routes: Vec<String>,
    top: Vec<String>,
    limits: String,
    listener: String,
    settings: Settings,
    watch: bool,
    broken: Vec<(Endpoint, Fault)>,
    client_may_introspect: bool,
}

/// Two servers and the gateway between them.
pub struct World {
    // First, so that the gateway is gone before its neighbours.
    pub gateway: Gateway,
    pub server: RunningServer,
    content: RunningContentServer,
    identity: ServerIdentity,
    /// Where the configuration stands, and what is written beside it.
    pub folder: tempfile::TempDir,
}

impl Default for Setup {
    fn default() -> Self {
        let settings = Settings { drain: Duration::from_millis(100), connections_per_client: 2_000, ..Settings::default() };
        let limits = "{ off_for: [127.0.0.1/32] }".to_owned();
        let nothing = Vec::new;
        let (server, upstream, upstreams, routes, top) = (nothing(), nothing(), nothing(), nothing(), nothing());
        let (listener, broken, client_may_introspect) = (String::new(), Vec::new(), false);
        Self {
            kind: Kind::Uma2,
            oauth: false,
            client: "{ id: content-gateway, secret: { env: CLIENT_SECRET } }".into(),
            key: None,
            server,
            upstream,
            upstreams,
            routes,
            top,
            limits,
            listener,
            settings,
            watch: false,
            broken,
            client_may_introspect,
        }
    }
}

impl Setup {
    /// The authorization server speaks like Keycloak.
    pub fn keycloak(mut self) -> Self {
        self.kind = Kind::Keycloak { realm: "photoz".into() };
        self
    }

    /// The authorization server is used as an OAuth server: no tickets, no resources.
    pub fn oauth(mut self) -> Self {
        self.oauth = true;
        self.client_may_introspect = true;
        self.server("profile: oauth")
    }

    /// The authorization server speaks like ForgeRock AM 7; Alice and Bob have a PAT each.
    pub fn am(self) -> Self {
        self.kind(Kind::Am)
    }

    /// The authorization server speaks like OpenAM; Alice and Bob have a PAT each.
    pub fn openam(self) -> Self {
        self.kind(Kind::OpenAm)
    }

    /// Owners share below their own folder by an API, and the operator elsewhere. Tokens are for the application.
    pub fn shares(mut self) -> Self {
        self.client_may_introspect = true;
        self.server("audience: any")
            .top("store: { file: records.db, key: { env: STORE_KEY } }")
            .top("shares: { address: 127.0.0.1:0, scope: share, owner: username, admin_key: { env: SHARES_KEY }, public_url: \"https://gateway.example.org/\" }")
            .route("{ path: \"/users/{user}/**\", upstream: content, protect: { resource: { shared: true, owner: \"{user}\" }, scopes: { GET: [view], \"PUT, DELETE\": [edit] } } }")
            .route("{ path: /site/**, upstream: content, protect: { resource: { shared: true }, scopes: { GET: [view] } } }")
    }

    /// The same where an owner has so many shares at most.
    pub fn shares_of(self, most: u64) -> Self {
        let mut setup = self.shares();
        setup.top.iter_mut().for_each(|line| *line = line.replace("scope: share,", &format!("scope: share, per_owner: {most},")));
        setup
    }

    /// The audience that tokens must name, in the place of any.
    pub fn audience(mut self, audience: &str) -> Self {
        self.server.retain(|line| !line.starts_with("audience:"));
        self.server(&format!("audience: {audience}"))
    }

    fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self.server("pat: { owners: { alice: { password: { env: ALICE_PASSWORD } }, bob: { password: { env: BOB_PASSWORD } } } }")
    }

    /// The gateway's client, in the place of one with a secret.
    pub fn client(mut self, client: &str) -> Self {
        client.clone_into(&mut self.client);
        self
    }

    /// The gateway's client has this key in the place of a secret; the server knows it, or another one.
    pub fn private_key(mut self, key: KeyPair, known: bool) -> Self {
        self.key = Some((key, known));
        self.client("{ id: content-gateway, private_key: { env: CLIENT_KEY } }")
    }

    /// A line of the authorization server's section. Without one that says `timeout`, a request may wait longer than any test.
    pub fn server(mut self, line: &str) -> Self {
        self.server.push(line.to_owned());
        self
    }

    /// A line of the content server's section, besides its address and credential.
    pub fn upstream(mut self, line: &str) -> Self {
        self.upstream.push(line.to_owned());
        self
    }

    /// Another upstream.
    pub fn another_upstream(mut self, line: &str) -> Self {
        self.upstreams.push(line.to_owned());
        self
    }

    /// Another route.
    pub fn route(mut self, route: &str) -> Self {
        self.routes.push(route.to_owned());
        self
    }

    /// A line at the top level.
    pub fn top(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }

    /// `limits`, instead of none for 127.0.0.1.
    pub fn limits(mut self, limits: &str) -> Self {
        limits.clone_into(&mut self.limits);
        self
    }

    /// Keys of the listener besides its address.
    pub fn listener(mut self, keys: &str) -> Self {
        self.listener = format!(", {keys}");
        self
    }

    /// Files that change are noticed.
    pub fn watch(mut self) -> Self {
        self.watch = true;
        self
    }

    /// The authorization server fails in this way before the gateway has seen it.
    pub fn broken(mut self, endpoint: Endpoint, fault: Fault) -> Self {
        self.broken.push((endpoint, fault));
        self
    }

    /// Bounds and deadlines of connections.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// The configuration as text.
    pub fn yaml(&self, issuer: &str, content: SocketAddr) -> String {
        let mut text = format!("version: 1\nworkers: 2\nlisteners: [ {{ address: 127.0.0.1:0{} }} ]\n", self.listener);
        text.push_str("health: { address: 127.0.0.1:0 }\nadmin: { socket: admin.sock }\nlog: { access: off, audit: audit.log }\n");
        let _ = writeln!(text, "limits: {}", self.limits);
        for line in &self.top {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "authorization_servers:\n  server:\n    issuer: {issuer}\n    realm: photoz");
        let _ = writeln!(text, "    client: {}", self.client);
        for line in &self.server {
            let _ = writeln!(text, "    {line}");
        }
        if !self.server.iter().any(|line| line.contains("timeout:")) {
            // On a machine that stands still for a while, two seconds are over before an answer is read. Who waits for the end says so.
            text.push_str("    timeout: 60s\n");
        }
        let _ = writeln!(text, "upstreams:\n  content:\n    servers: [ \"http://{content}\" ]");
        let _ = writeln!(text, "    credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }}");
        for line in &self.upstream {
            let _ = writeln!(text, "    {line}");
        }
        for line in &self.upstreams {
            let _ = writeln!(text, "  {}", line.replace("CONTENT", &content.to_string()));
        }
        text.push_str("routes:\n");
        let usual: &[&str] = if self.oauth { &OAUTH_ROUTES } else { &ROUTES };
        for route in usual.iter().copied().chain(self.routes.iter().map(String::as_str)) {
            let _ = writeln!(text, "  - {route}");
        }
        text
    }

    /// Starts the servers and the gateway, and waits until it is ready. Alice's album is registered, with the scopes `view` and `edit`.
    pub async fn start(self) -> World {
        let world = self.start_unready().await;
        until("the gateway is ready", async || world.gateway.is_ready().then_some(())).await;
        world.control().reset_calls();
        world
    }

    /// The same without waiting for the authorization server.
    pub async fn start_unready(self) -> World {
        let options = authorization_server::Options {
            kind: self.kind.clone(),
            client_may_introspect: self.client_may_introspect,
            ..authorization_server::Options::default()
        };
        let server = AuthorizationServer::start(options).await.expect("a port is free");
        server.control().register("alice", "vacation", &["view", "edit"]);
        if let Some((key, known)) = &self.key {
            let other = KeyPair::generate().expect("a key").public_key_pem();
            let public = if *known { key.public_key_pem() } else { other };
            server.control().believe_key("content-gateway", VerifyingKeys::from_pem(public.as_bytes()).expect("a public key"));
        }
        for (endpoint, fault) in &self.broken {
            server.control().fail(*endpoint, fault.clone());
        }
        let content = ContentServer::start(content_server::Options::default()).await.expect("a port is free");
        let folder = tempfile::tempdir().expect("a folder");
        let text = self.yaml(server.issuer(), content.address());
        let environment = |name: &str| match name {
            "CLIENT_SECRET" => Some("gateway-secret".to_owned()),
            "CLIENT_KEY" => self.key.as_ref().map(|(key, _)| key.serialize_pem()),
            "PROXY_PASSWORD" => Some("proxy-secret".to_owned()),
            "ALICE_PASSWORD" => Some("alice".to_owned()),
            "BOB_PASSWORD" => Some("bob".to_owned()),
            "STORE_KEY" => Some("0123456789abcdef".repeat(4)),
            "SHARES_KEY" => Some(SHARES_KEY.to_owned()),
            _ => None,
        };
        let config = config::parse(&text, &folder.path().join("gateway.yaml"), &environment).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let identity = config.authorization_servers.first().expect("one server").identity;
        let options = Options { log: Some(|| Box::new(std::io::sink())), listener: self.settings, watch: self.watch, ..Options::default() };
        let gateway = Gateway::start(config, &options).expect("it starts");
        World { gateway, server, content, identity, folder }
    }
}

impl World {
    /// The usual world.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// The owners' side, and that of whoever makes the authorization server fail.
    pub fn control(&self) -> &Control {
        self.server.control()
    }

    /// What the content server saw.
    pub fn upstream(&self) -> &Records {
        self.content.records()
    }

    /// The content server's address.
    pub fn content_address(&self) -> SocketAddr {
        self.content.address()
    }

    /// The gateway's address.
    pub fn address(&self) -> SocketAddr {
        self.gateway.address(0).expect("one listener")
    }

    /// An RPT of Bob's with these scopes on the album.
    pub fn rpt(&self, scopes: &[&str]) -> String {
        self.control().grant_rpt("bob", &[("vacation", scopes)], 300)
    }

    /// The cache's key of a token.
    pub fn key(&self, token: &str) -> CacheKey {
        self.gateway.cache().key(self.identity, token)
    }

    /// A file in the folder of the configuration.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes another configuration into force, whose secrets stand in files beside it.
    pub async fn reload(&self, text: &str) {
        let key = "0123456789abcdef".repeat(4);
        let secrets = [("CLIENT_SECRET", "gateway-secret"), ("PROXY_PASSWORD", "proxy-secret"), ("SHARES_KEY", SHARES_KEY), ("STORE_KEY", &key)];
        let mut text = text.to_owned();
        for (name, secret) in secrets {
            std::fs::write(self.file(name), secret).expect("a secret");
            text = text.replace(&format!("{{ env: {name} }}"), &format!("{{ file: {name} }}"));
        }
        std::fs::write(self.file("gateway.yaml"), text).expect("a configuration");
        self.gateway.reloads().reload(Why::Operator).await.expect("taken");
    }

    /// How many calls each endpoint of the authorization server has had.
    pub fn calls(&self) -> BTreeMap<Endpoint, u64> {
        ENDPOINTS.into_iter().map(|endpoint| (endpoint, self.control().calls(endpoint))).collect()
    }

    /// The metrics, as Prometheus reads them.
    pub async fn metrics(&self) -> String {
        self.health("/metrics").await
    }

    /// Every check of the readiness probe.
    pub async fn verbose(&self) -> String {
        self.health("/readyz?verbose").await
    }

    async fn health(&self, target: &str) -> String {
        let mut connection = Connection::open(self.gateway.health_address().expect("a health address"), None).await;
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
        connection.answer(false).await.text()
    }

    /// Every line of the audit log, as it stands in the file.
    pub async fn audit(&self) -> Vec<Value> {
        self.gateway.telemetry().settled().await;
        let text = std::fs::read_to_string(self.file("audit.log")).expect("the audit log");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    pub fn ask(&self, method: &str, target: &str) -> Ask<'_> {
        Ask {
            world: self,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            token: None,
            from: None,
            raw: None,
            later: None,
        }
    }

    pub fn get(&self, target: &str) -> Ask<'_> {
        self.ask("GET", target)
    }

    pub fn put(&self, target: &str) -> Ask<'_> {
        self.ask("PUT", target)
    }

    /// Exactly these bytes.
    pub fn raw(&self, bytes: impl Into<Vec<u8>>) -> Ask<'_> {
        let mut ask = self.ask("", "");
        ask.raw = Some(bytes.into());
        ask
    }
}

/// A request that is yet to be sent; awaiting it sends it over a connection of its own and reads the answer.
pub struct Ask<'w> {
    pub(super) world: &'w World,
    pub(super) method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    pub(super) token: Option<String>,
    from: Option<IpAddr>,
    raw: Option<Vec<u8>>,
    later: Option<Vec<u8>>,
}

impl<'w> Ask<'w> {
    /// With this token as Bearer.
    pub fn bearer(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body, its length announced.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// And these, once the content server has the beginning.
    pub fn then(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.later = Some(bytes.into());
        self
    }

    /// From this address of ours.
    pub fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().expect("an address"));
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: gateway.example.org\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Sends it and reads the answer, without looking at anything else.
    pub async fn connect(&self) -> Answer {
        let mut connection = Connection::open(self.world.address(), self.from).await;
        connection.send(&self.bytes()).await;
        connection.answer(self.method == "HEAD").await
    }

    async fn send(self) -> Exchange<'w> {
        let (calls, hits) = (self.world.calls(), self.world.upstream().hits());
        let mut connection = Connection::open(self.world.address(), self.from).await;
        connection.send(&self.bytes()).await;
        if let Some(later) = &self.later {
            self.world.upstream().hit(hits + 1).await;
            connection.send(later).await;
        }
        let answer = connection.answer(self.method == "HEAD").await;
        Exchange::new(self, connection, answer, calls, hits).await
    }
}

impl<'w> IntoFuture for Ask<'w> {
    type Output = Exchange<'w>;
    type IntoFuture = Pin<Box<dyn Future<Output = Exchange<'w>> + 'w>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
