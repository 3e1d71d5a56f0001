//! What both servers' tests need: the gateway between a door to the server and a content server that records, plain calls, the shares API and the command `fetch`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WARNING, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use uma_gateway::app::{Gateway, Options};
use uma_gateway::config;
use uma_gateway::demo::content_server::{ContentServer, Options as ContentOptions, Records, RunningContentServer};
use uma_gateway::http_client::{HttpClient, basic_auth, form};
use uma_gateway::uma::UmaChallenge;

#[path = "../keycloak/support/calls.rs"]
mod calls;
#[path = "../support/port.rs"]
mod port;

use calls::{http, send};
pub use calls::{payload, run, unique, until};

use super::forwarder::Forwarder;

/// The photograph of the content server.
pub const BEACH: &str = "/albums/vacation/beach.jpg";
/// Longest wait for anything that has to happen: far above what is measured, so that a busy machine does not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long an introspection counts in these tests, and how soon a withdrawal does.
pub const MAX_AGE: Duration = Duration::from_secs(3);

/// What a call carries.
pub enum Body<'a> {
    Nothing,
    Form(&'a [(&'a str, &'a str)]),
    Json(Value),
}

/// One call to a server itself, past the gateway; what is no JSON is `null`.
pub async fn call(method: Method, address: &str, headers: HeaderMap, body: Body<'_>) -> (StatusCode, Value) {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method;
    *request.uri_mut() = address.parse().expect("an address");
    *request.headers_mut() = headers;
    let (kind, bytes) = match body {
        Body::Nothing => (None, Bytes::new()),
        Body::Form(fields) => (Some("application/x-www-form-urlencoded"), form(fields)),
        Body::Json(value) => (Some("application/json"), Bytes::from(value.to_string())),
    };
    if let Some(kind) = kind {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    *request.body_mut() = bytes;
    let answer = send(&http(), request).await;
    (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
}

/// No header.
pub fn plain() -> HeaderMap {
    HeaderMap::new()
}

/// `Authorization: Bearer …`.
pub fn bearer(token: &str) -> HeaderMap {
    with(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
}

/// `Authorization: Basic …`.
pub fn basic((id, secret): (&str, &str)) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, basic_auth(id, secret))])
}

/// One header.
pub fn with(name: &str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().expect("a name"), HeaderValue::from_str(value).expect("a value"))])
}

/// A member that is text.
pub fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {answer}")).to_owned()
}

/// The section of a server: `issuer`, client and whatever else it needs, and where it really listens.
pub struct Section {
    pub issuer: String,
    pub authority: String,
    pub client: (&'static str, &'static str),
    pub further: String,
}

/// A configuration, and the secret of its client.
struct File {
    text: String,
    secret: &'static str,
}

impl File {
    async fn gateway(&self) -> Gateway {
        let environment = |name: &str| match name {
            "CLIENT_SECRET" => Some(self.secret.to_owned()),
            "PROXY_PASSWORD" => Some("proxy-secret".to_owned()),
            "STORE_KEY" => Some("0123456789abcdef".repeat(4)),
            "ADMIN_KEY" => Some(OPERATOR.to_owned()),
            name => name.strip_prefix("PASSWORD_OF_").map(|owner| format!("{owner}-password")),
        };
        let config = config::parse(&self.text, Path::new("gateway.yaml"), &environment).unwrap_or_else(|problems| panic!("{problems}\n{}", self.text));
        let options = Options { log: Some(|| Box::new(std::io::sink())), ..Options::default() };
        let gateway = Gateway::start(config, &options).expect("the gateway starts");
        until("readiness", async || gateway.is_ready().then_some(())).await;
        gateway
    }
}

/// A gateway that runs, with what is before and behind it.
pub struct World {
    gateway: Gateway,
    file: File,
    content: RunningContentServer,
    /// The door to the server that the gateway uses.
    pub server: Forwarder,
    http: HttpClient,
}

impl World {
    /// Protects `/albums/vacation/**` by this resource of `owner`, with `profile: auto`, and waits until the gateway is ready.
    pub async fn start(section: &Section, resource: &str, owner: &str) -> Self {
        let resource = format!("{{ name: \"{resource}\", owner: {owner} }}");
        Self::with(section, SocketAddr::from(([127, 0, 0, 1], 0)), "", &resource).await
    }

    /// Below `/albums/vacation` is what the operator has shared for its owner; the records are in this folder. Links lead to this gateway, also to the next one
    /// that is started by the same file.
    pub async fn sharing(section: &Section, records: &Path) -> Self {
        let address = port::free();
        let further = format!(
            "store: {{ file: \"{}\", key: {{ env: STORE_KEY }} }}\n\
             shares: {{ address: 127.0.0.1:0, scope: share, admin_key: {{ env: ADMIN_KEY }}, public_url: \"http://{address}\" }}\n",
            records.join("records.db").display()
        );
        Self::with(section, address, &further, "{ shared: true }").await
    }

    async fn with(section: &Section, address: SocketAddr, further: &str, resource: &str) -> Self {
        let content = ContentServer::start(ContentOptions::default()).await.expect("a content server");
        let server = Forwarder::to(section.authority.clone()).await;
        let text = yaml(section, address, &format!("http://{}", server.address()), &format!("http://{}", content.address()), resource);
        let file = File { text: text + further, secret: section.client.1 };
        Self { gateway: file.gateway().await, file, content, server, http: http() }
    }

    /// Ends the gateway and starts another one by the same file; all else stays.
    pub async fn restarted(self) -> Self {
        let Self { gateway, file, content, server, http } = self;
        drop(gateway);
        Self { gateway: file.gateway().await, file, content, server, http }
    }

    /// A request of the operator's to the shares API.
    pub async fn operator(&self, method: Method, target: &str, body: Value) -> (StatusCode, Value) {
        self.api(OPERATOR, method, target, body).await
    }

    /// A request to the shares API by whoever has this token.
    pub async fn api(&self, token: &str, method: Method, target: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Body::Nothing } else { Body::Json(body) };
        let address = self.gateway.shares_address().expect("an API");
        call(method, &format!("http://{address}{target}"), bearer(token), body).await
    }

    /// What the operator shares, which is registered when this returns, or why it is not.
    pub async fn share(&self, wish: Value) -> Result<Value, StatusCode> {
        let (status, share) = self.operator(Method::POST, "/shares", wish).await;
        if status == StatusCode::CREATED && share["state"] == "registered" { Ok(share) } else { Err(status) }
    }

    /// The same, and it has to be.
    pub async fn shared(&self, wish: Value) -> Value {
        self.share(wish).await.expect("a share")
    }

    /// What the content server saw.
    pub fn content(&self) -> &Records {
        self.content.records()
    }

    /// The address of a path at the gateway.
    pub fn address(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.address(0).expect("a listener"))
    }

    /// One request, with or without a token.
    pub async fn ask(&self, method: Method, path: &str, token: Option<&str>) -> Answer {
        let asked = Instant::now();
        let mut request = Request::builder().method(method).uri(self.address(path));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = send(&self.http, request.body(Bytes::new()).expect("a request")).await;
        Answer { asked, response }
    }

    /// `GET` of the photograph.
    pub async fn get(&self, token: Option<&str>) -> Answer {
        self.ask(Method::GET, BEACH, token).await
    }

    /// Asks with a token until it is refused, and gives the refusal. No request that began `bound` or more after `since` may pass: what counts is when it
    /// began, so the machine's pace does not matter.
    pub async fn refused(&self, token: &str, since: Instant, bound: Duration) -> Answer {
        until("the refusal", async || {
            let answer = self.get(Some(token)).await;
            if answer.status() != StatusCode::OK {
                return Some(answer);
            }
            let late = answer.asked.saturating_duration_since(since);
            assert!(late < bound, "passed {late:?} afterwards; the bound is {bound:?}");
            None
        })
        .await
    }

    /// While the server is away: no ticket, and what is public is.
    pub async fn assert_closed_but_for_what_is_public(&self) {
        self.get(None).await.assert_unreachable();
        assert_eq!(self.ask(Method::GET, "/public/welcome.txt", None).await.status(), StatusCode::OK);
    }

    /// The command `fetch` as this user, with a file of kept tokens of the test's own or none.
    pub async fn fetch(&self, user: &str, password: &str, kept: Option<&Path>) -> Fetched {
        self.fetch_by("GET", user, password, kept).await
    }

    /// The same by another method.
    pub async fn fetch_by(&self, method: &str, user: &str, password: &str, kept: Option<&Path>) -> Fetched {
        fetch(&["-X", method, &self.address(BEACH)], user, password, kept).await
    }
}

/// The command `fetch` of a link, which is all that a requesting party has.
pub async fn fetch_link(link: &str, user: &str, password: &str) -> Fetched {
    fetch(&[link], user, password, None).await
}

async fn fetch(what: &[&str], user: &str, password: &str, kept: Option<&Path>) -> Fetched {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_uma-gateway"));
    command.args(["fetch", "--explain", "--user", user]).args(what);
    match kept {
        Some(file) => command.arg("--cache").arg(file),
        None => command.arg("--no-cache"),
    };
    command.env("UMA_PASSWORD", password).env("UMA_CLIENT_ID", CLIENT_APP.0).env("UMA_CLIENT_SECRET", CLIENT_APP.1);
    command.stdin(std::process::Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    Fetched { code: output.status.code().expect("an exit code"), bytes: output.stdout.len(), told }
}

/// What the operator bears at the shares API.
const OPERATOR: &str = "the-key-of-the-operator-of-this-gateway";

/// Bob's application at both servers.
pub const CLIENT_APP: (&str, &str) = ("client-app", "client-secret");

/// What the command said.
#[derive(Debug)]
pub struct Fetched {
    pub code: i32,
    pub bytes: usize,
    pub told: String,
}

impl Fetched {
    /// The whole photograph came.
    #[track_caller]
    pub fn assert_came(&self) {
        assert_eq!((self.code, self.bytes), (0, uma_gateway::demo::content_server::BEACH), "{}", self.told);
    }

    /// Nothing came, with this exit code.
    #[track_caller]
    pub fn assert_refused(&self, code: i32) {
        assert_eq!((self.code, self.bytes), (code, 0), "{}", self.told);
    }
}

fn yaml(section: &Section, address: SocketAddr, door: &str, content: &str, resource: &str) -> String {
    let Section { issuer, client: (id, _), further, .. } = section;
    format!(
        r#"version: 1
workers: 1
listeners: [ {{ address: {address} }} ]
authorization_servers:
  old: {{ profile: auto, issuer: "{issuer}", backchannel: "{door}", client: {{ id: {id}, secret: {{ env: CLIENT_SECRET }} }},
         introspection: {{ max_age: {}s, negative_max_age: 500ms }}, timeout: 20s{further} }}
upstreams:
  albums: {{ servers: [ "{content}" ], credentials: {{ basic: {{ username: gateway, password: {{ env: PROXY_PASSWORD }} }} }} }}
routes:
  - {{ path: /albums/vacation/**, upstream: albums, protect: {{ authorization_server: old, resource: {resource},
      scopes: {{ GET: [view], PUT: [edit] }} }} }}
  - {{ path: /public/**, upstream: albums, public: true }}
"#,
        MAX_AGE.as_secs()
    )
}

/// An answer of the gateway.
#[derive(Debug)]
pub struct Answer {
    /// When the request began.
    pub asked: Instant,
    response: Response<Bytes>,
}

impl Answer {
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The challenge that a 401 carries.
    #[track_caller]
    pub fn challenge(&self) -> UmaChallenge {
        assert_eq!(self.status(), StatusCode::UNAUTHORIZED, "{self:?}");
        assert_eq!(self.response.headers().get_all(WWW_AUTHENTICATE).iter().count(), 1);
        UmaChallenge::of(self.response.headers()).expect("a challenge")
    }

    #[track_caller]
    pub fn assert_passed(&self) {
        assert_eq!(self.status(), StatusCode::OK, "{:?}", self.response.headers());
        assert_eq!(self.response.body().len(), uma_gateway::demo::content_server::BEACH);
    }

    /// 403 or 503 because the server cannot be asked, and no challenge.
    #[track_caller]
    pub fn assert_unreachable(&self) {
        assert!(matches!(self.status(), StatusCode::FORBIDDEN | StatusCode::SERVICE_UNAVAILABLE), "{self:?}");
        assert!(!self.response.headers().contains_key(WWW_AUTHENTICATE));
        assert!(self.response.headers().contains_key(WARNING) || self.status() == StatusCode::SERVICE_UNAVAILABLE);
    }
}

/// What the operator asks for: the photograph, with these scopes.
pub fn wish_for(scopes: &[&str]) -> Value {
    json!({ "path": BEACH, "owner": "alice", "name": unique("Album"), "type": "urn:photoz:album", "scopes": scopes })
}

/// Where a share is at the API.
pub fn share_at(share: &Value) -> String {
    format!("/shares/{}", text(share, "id"))
}

/// The same as this for another file.
pub fn wish_elsewhere(mut wish: Value) -> Value {
    wish["path"] = "/albums/vacation/notes.txt".into();
    wish
}
