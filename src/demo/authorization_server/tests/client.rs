//! A few words of HTTP for the tests of this server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::demo::authorization_server::{AuthorizationServer, Control, Kind, Options, RunningServer};

pub const UMA_TICKET: &str = "urn:ietf:params:oauth:grant-type:uma-ticket";
pub const ID_TOKEN: &str = "http://openid.net/specs/openid-connect-core-1_0.html#IDToken";

pub struct World {
    pub server: RunningServer,
    metadata: Value,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.json())).to_owned()
    }

    pub fn error(&self) -> (u16, String) {
        (self.status.as_u16(), self.text("error"))
    }

    pub fn location(&self) -> url::Url {
        url::Url::parse(self.headers[LOCATION].to_str().expect("text")).expect("an address")
    }
}

pub fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

pub fn gateway() -> String {
    basic("content-gateway", "gateway-secret")
}

pub fn application() -> String {
    basic("client-app", "client-secret")
}

pub async fn send(method: Method, url: &str, authorization: Option<&str>, content_type: &str, body: String) -> Result<Reply, Box<dyn std::error::Error>> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(url).header(CONTENT_TYPE, content_type);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let response = client.request(request.body(Full::from(body))?).await?;
    let (head, body) = response.into_parts();
    Ok(Reply { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
}

impl World {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn keycloak() -> Self {
        Self::with(Options { kind: Kind::Keycloak { realm: "photoz".into() }, ..Options::default() }).await
    }

    pub async fn with(options: Options) -> Self {
        let server = AuthorizationServer::start(options).await.expect("a free port");
        let metadata = send(Method::GET, &server.discovery(), None, "text/plain", String::new()).await.expect("discovery").json();
        Self { server, metadata }
    }

    pub fn control(&self) -> &Control {
        self.server.control()
    }

    pub fn endpoint(&self, name: &str) -> String {
        self.metadata[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned()
    }

    pub async fn post(&self, endpoint: &str, authorization: Option<&str>, form: &[(&str, &str)]) -> Reply {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        send(Method::POST, &self.endpoint(endpoint), authorization, "application/x-www-form-urlencoded", body).await.expect("an answer")
    }

    pub async fn token(&self, authorization: &str, form: &[(&str, &str)]) -> Reply {
        self.post("token_endpoint", Some(authorization), form).await
    }

    pub async fn protection(&self, method: Method, endpoint: &str, rest: &str, pat: &str, body: &Value) -> Reply {
        let url = format!("{}{rest}", self.endpoint(endpoint));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(method, &url, Some(&format!("Bearer {pat}")), "application/json", body).await.expect("an answer")
    }

    pub async fn pat(&self) -> String {
        self.token(&gateway(), &[("grant_type", "client_credentials"), ("scope", "uma_protection")]).await.text("access_token")
    }

    pub async fn ticket(&self, resource: &str, scopes: &[&str]) -> String {
        let pat = self.pat().await;
        let body = json!([{ "resource_id": resource, "resource_scopes": scopes }]);
        self.protection(Method::POST, "permission_endpoint", "", &pat, &body).await.text("ticket")
    }

    /// Signs a user in and gives the claims token.
    pub async fn claims_token(&self, user: &str) -> String {
        let form = [("grant_type", "password"), ("username", user), ("password", user), ("scope", "openid")];
        self.token(&application(), &form).await.text("id_token")
    }

    pub async fn trade(&self, ticket: &str, user: &str) -> Reply {
        let claims = self.claims_token(user).await;
        self.trade_with(ticket, &[("claim_token", &claims), ("claim_token_format", ID_TOKEN)]).await
    }

    pub async fn trade_with(&self, ticket: &str, more: &[(&str, &str)]) -> Reply {
        let form = [&[("grant_type", UMA_TICKET), ("ticket", ticket)], more].concat();
        self.token(&application(), &form).await
    }

    pub async fn introspect(&self, token: &str) -> Value {
        let pat = format!("Bearer {}", self.pat().await);
        self.post("introspection_endpoint", Some(&pat), &[("token", token)]).await.json()
    }
}
