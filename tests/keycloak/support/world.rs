//! The gateway between a door to Keycloak and a content server that records, and the answers that it gives.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WARNING, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode, Uri};
use serde_json::Value;
use tokio::time::Instant;
use uma_gateway::app::{Gateway, Options};
use uma_gateway::client::{Client, ClientOptions, FetchError, FetchRequest, RequestingParty};
use uma_gateway::config;
use uma_gateway::demo::content_server::{ContentServer, Options as ContentOptions, Records, RunningContentServer};
use uma_gateway::http_client::HttpClient;
use uma_gateway::uma::UmaChallenge;

use super::forwarder::Forwarder;
use super::{CLIENT_APP, Realm, http, keycloak_authority, send, until};

/// What a gateway is configured with.
pub struct Plan {
    introspection: String,
    secret: Option<&'static str>,
    /// How the client shows who it is, and the value of `CLIENT_KEY`.
    proof: Option<(&'static str, Option<String>)>,
    servers: Vec<(String, String, String)>,
    routes: String,
    shares: String,
}

impl Plan {
    /// Behind this realm; routes that follow are protected by it.
    pub fn behind(realm: &Realm) -> Self {
        let plan = Self { introspection: "max_age: 30s".into(), secret: None, proof: None, servers: Vec::new(), routes: String::new(), shares: String::new() };
        plan.and_behind(realm)
    }

    /// Behind this realm too; routes that follow are protected by it.
    pub fn and_behind(mut self, realm: &Realm) -> Self {
        let (client, secret) = realm.client();
        self.servers.push((realm.issuer(), client.to_owned(), secret.to_owned()));
        self
    }

    /// `introspection.max_age`; refusals are then kept for half a second.
    pub fn max_age(self, max_age: &str) -> Self {
        self.introspection(&format!("max_age: {max_age}, negative_max_age: 500ms"))
    }

    /// The keys of `introspection`.
    pub fn introspection(mut self, keys: &str) -> Self {
        self.introspection = keys.to_owned();
        self
    }

    /// Another client secret than the realm's.
    pub const fn secret(mut self, secret: &'static str) -> Self {
        self.secret = Some(secret);
        self
    }

    /// These keys of the first server's `client` in the place of a secret, with a key for it, if any, in `CLIENT_KEY`.
    pub fn client(mut self, keys: &'static str, key: Option<String>) -> Self {
        self.proof = Some((keys, key));
        self
    }

    /// A protected route.
    pub fn protect(self, path: &str, resource: &str, scopes: &str) -> Self {
        self.protect_by(path, &format!("resource: {resource}, scopes: {scopes}"))
    }

    /// A route with these keys of `protect`.
    pub fn protect_by(mut self, path: &str, keys: &str) -> Self {
        let server = self.servers.len() - 1;
        let protect = format!("{{ authorization_server: server-{server}, {keys} }}");
        let _ = writeln!(self.routes, "  - {{ path: {path}, upstream: albums, protect: {protect} }}");
        self
    }

    /// Alice's album at `/albums/vacation/**`, to be viewed and edited.
    pub fn vacation(self, resource: &str) -> Self {
        self.protect("/albums/vacation/**", resource, "{ GET: [view], PUT: [edit] }")
    }

    /// Owners share by their tokens that have this scope; the records are in this folder.
    pub fn shares(mut self, folder: &Path, scope: &str) -> Self {
        let store = format!("store: {{ file: \"{}\", key: {{ env: STORE_KEY }} }}", folder.join("records.db").display());
        let shares = format!("shares: {{ address: 127.0.0.1:0, scope: {scope}, owner: username, public_url: \"https://photos.example.org\" }}");
        self.shares = format!("{store}\n{shares}\n");
        self
    }

    /// The configuration file. Secrets have names here and values in [`Plan::environment`].
    fn yaml(&self, content: &RunningContentServer, keycloak: &Forwarder) -> String {
        let mut text = "version: 1\nworkers: 1\nlisteners: [ { address: 127.0.0.1:0 } ]\nauthorization_servers:\n".to_owned();
        for (number, (issuer, client, _)) in self.servers.iter().enumerate() {
            let age = format!("introspection: {{ {} }}", self.introspection);
            let secret = format!("secret: {{ env: SECRET_{number} }}");
            let proof = self.proof.as_ref().filter(|_| number == 0).map_or(&*secret, |(keys, _)| keys);
            let client = format!("client: {{ id: {client}, {proof} }}");
            let door = format!("backchannel: \"http://{}\"", keycloak.address());
            let _ = writeln!(text, "  server-{number}: {{ profile: keycloak, issuer: \"{issuer}\", {door}, {client}, {age}, timeout: 10s }}");
        }
        let credential = "basic: { username: gateway, password: { env: PROXY_PASSWORD } }";
        let _ = writeln!(text, "upstreams:\n  albums: {{ servers: [ \"http://{}\" ], credentials: {{ {credential} }} }}", content.address());
        text.push_str(&self.shares);
        let _ = writeln!(text, "routes:\n{}  - {{ path: /public/**, upstream: albums, public: true }}", self.routes);
        text
    }

    fn environment(&self, name: &str) -> Option<String> {
        if name == "PROXY_PASSWORD" {
            return Some("proxy-secret".into());
        }
        if name == "CLIENT_KEY" {
            return self.proof.as_ref()?.1.clone();
        }
        if name == "STORE_KEY" {
            return Some("0123456789abcdef".repeat(4));
        }
        let number: usize = name.strip_prefix("SECRET_")?.parse().ok()?;
        Some(self.secret.map_or_else(|| self.servers[number].2.clone(), str::to_owned))
    }

    fn gateway(&self, content: &RunningContentServer, keycloak: &Forwarder) -> Gateway {
        let text = self.yaml(content, keycloak);
        let config = config::parse(&text, Path::new("gateway.yaml"), &|name| self.environment(name)).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let options = Options { log: Some(|| Box::new(std::io::sink())), ..Options::default() };
        Gateway::start(config, &options).expect("the gateway starts")
    }

    /// Starts everything and waits until the gateway is ready.
    pub async fn start(self) -> World {
        let world = self.start_unready().await;
        world.ready().await;
        world
    }

    /// The same without waiting.
    pub async fn start_unready(self) -> World {
        self.start_with(true).await
    }

    /// The same while Keycloak cannot be reached.
    pub async fn start_behind_a_shut_door(self) -> World {
        self.start_with(false).await
    }

    async fn start_with(self, open: bool) -> World {
        let content = ContentServer::start(ContentOptions::default()).await.expect("a content server");
        let keycloak = Forwarder::to(keycloak_authority()).await;
        if !open {
            keycloak.shut().await;
        }
        let gateway = self.gateway(&content, &keycloak);
        World { gateway, content, keycloak, http: http() }
    }
}

/// A gateway that runs, with what is before and behind it.
pub struct World {
    gateway: Gateway,
    content: RunningContentServer,
    /// The door to Keycloak that the gateway uses.
    pub keycloak: Forwarder,
    http: HttpClient,
}

impl World {
    /// What the content server saw.
    pub fn content(&self) -> &Records {
        self.content.records()
    }

    /// Stops the gateway and starts another one; the content server and the door stay.
    pub async fn restart_with(self, plan: &Plan) -> Self {
        let Self { gateway, content, keycloak, http } = self;
        drop(gateway);
        let world = Self { gateway: plan.gateway(&content, &keycloak), content, keycloak, http };
        world.ready().await;
        world
    }

    async fn ready(&self) {
        until("readiness", async || self.gateway.is_ready().then_some(())).await;
    }

    /// The address of a path at the gateway.
    pub fn address(&self, path: &str) -> Uri {
        let address = self.gateway.address(0).expect("a listener");
        format!("http://{address}{path}").parse().expect("an address")
    }

    /// One request, with or without a token.
    pub async fn ask(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        let asked = Instant::now();
        let mut request = Request::builder().method(method).uri(self.address(path));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = send(&self.http, request.body(Bytes::new()).expect("a request")).await;
        let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        let record = until("the record of a request", async || self.gateway.telemetry().ring().find(&id)).await;
        let rows = record.rows.iter().map(|row| row.label()).collect::<Vec<_>>().join(" ");
        Answer { asked, response, rows }
    }

    /// `GET` with a token.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::GET, path, Some(token)).await
    }

    /// `GET` without one.
    pub async fn get_without_token(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// A request to the shares API: status and JSON.
    pub async fn api(&self, method: Method, target: &str, token: &str, body: &Value) -> (StatusCode, Value) {
        let address = self.gateway.shares_address().expect("an API");
        let request = Request::builder().method(method).uri(format!("http://{address}{target}")).header(AUTHORIZATION, format!("Bearer {token}"));
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = send(&self.http, request.body(body).expect("a request")).await;
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    /// What the content server answers to the gateway itself.
    pub async fn content_of(&self, path: &str) -> Bytes {
        let address = format!("http://{}{path}", self.content.address());
        let request = Request::get(address).header(AUTHORIZATION, uma_gateway::http_client::basic_auth("gateway", "proxy-secret"));
        let answer = send(&self.http, request.body(Bytes::new()).expect("a request")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body()
    }

    /// `fetch` as this user with Bob's application and a password.
    pub async fn fetch(&self, method: Method, path: &str, user: &str) -> Result<(StatusCode, Bytes), FetchError> {
        self.fetch_with(method, path, as_user(user)).await
    }

    /// `fetch` with these options.
    pub async fn fetch_with(&self, method: Method, path: &str, options: ClientOptions) -> Result<(StatusCode, Bytes), FetchError> {
        let fetched = Client::new(options, self.http.clone()).fetch(&FetchRequest::new(method, self.address(path))).await?;
        let status = fetched.response.status();
        let body = fetched.response.into_body().bytes(1 << 20, Instant::now() + super::PATIENCE).await.expect("the whole body");
        Ok((status, body))
    }

    /// Asks with a token until it is refused, and gives the refusal. No request that began `max_age` or more after `since` may pass, so the machine's pace
    /// does not matter: what counts is when a request began, not when it was answered.
    pub async fn refused(&self, path: &str, token: &str, since: Instant, max_age: Duration) -> Answer {
        until("the refusal", async || {
            let answer = self.get(path, token).await;
            if answer.status() != StatusCode::OK {
                return Some(answer);
            }
            let late = answer.asked.saturating_duration_since(since);
            assert!(late < max_age, "passed {late:?} afterwards, by {}; max_age is {max_age:?}", answer.rows);
            None
        })
        .await
    }
}

/// Bob's application with a user's password.
pub fn as_user(user: &str) -> ClientOptions {
    ClientOptions {
        application: Some(uma_gateway::client::Application { id: CLIENT_APP.id.into(), secret: Some(CLIENT_APP.secret.into()) }),
        requesting_party: RequestingParty::Password { username: user.into(), password: user.into() },
        ..ClientOptions::default()
    }
}

/// An answer of the gateway.
pub struct Answer {
    /// When the request began.
    pub asked: Instant,
    response: Response<Bytes>,
    /// The rows of the decision table that the request passed.
    pub rows: String,
}

impl Answer {
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub fn body(&self) -> &Bytes {
        self.response.body()
    }

    /// `WWW-Authenticate` as it came.
    pub fn challenge_line(&self) -> &str {
        let lines: Vec<_> = self.response.headers().get_all(WWW_AUTHENTICATE).iter().collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0].to_str().expect("text")
    }

    /// The challenge of a 401.
    pub fn challenge(&self) -> UmaChallenge {
        assert_eq!(self.status(), StatusCode::UNAUTHORIZED, "{self:?}");
        UmaChallenge::of(self.response.headers()).unwrap_or_else(|| panic!("no complete UMA challenge: {self:?}"))
    }

    /// The challenge of a 401 that refuses a token for this reason.
    pub fn refusal(&self, error: &str) -> UmaChallenge {
        let challenge = self.challenge();
        assert_eq!(challenge.error.as_deref(), Some(error), "{self:?}");
        challenge
    }

    /// That the server is out of reach, in the specification's words.
    pub fn assert_unreachable(&self, status: u16) {
        assert_eq!(self.status().as_u16(), status, "{self:?}");
        assert_eq!(self.response.headers()[WARNING], "199 - \"UMA Authorization Server Unreachable\"");
        assert!(!self.response.headers().contains_key(WWW_AUTHENTICATE), "{self:?}");
    }

    /// That it passed.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert_eq!(self.status(), StatusCode::OK, "{self:?}");
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} by {}, {}", self.status(), self.rows, String::from_utf8_lossy(self.body()))
    }
}
