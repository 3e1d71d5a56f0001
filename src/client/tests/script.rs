//! A resource and an authorization server in one, that answer as the test has scripted and keep what they were asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// The RPT that opens the resource.
pub const RPT: &str = "rpt-0123456789abcdef";
/// What the resource holds.
pub const CONTENT: &str = "a beach";

/// One call that came in.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub authorization: String,
    pub fields: Vec<(String, String)>,
    /// The body, if it is JSON.
    pub json: Value,
    pub time: Instant,
}

impl Call {
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

struct State {
    calls: Vec<Call>,
    tickets: usize,
    challenge: String,
    /// The status and body of the challenge; `{ticket}` is where the ticket goes.
    refusal: (u16, String),
    discovery: (u16, Value),
    sign_in: (u16, Value),
    trades: VecDeque<(u16, Value)>,
}

/// The running server. It ends with the test's runtime.
#[derive(Clone)]
pub struct Script {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Script {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = format!("http://{address}");
        let discovery = json!({ "issuer": base, "token_endpoint": format!("{base}/token"), "authorization_endpoint": format!("{base}/authorize?theme=dark") });
        let state = State {
            calls: Vec::new(),
            tickets: 0,
            challenge: format!(r#"UMA realm="photoz", as_uri="{base}", ticket="{{ticket}}""#),
            refusal: (401, "permission required".to_owned()),
            discovery: (200, discovery),
            sign_in: (200, json!({ "access_token": "access-of-bob-0123", "id_token": "identity-of-bob-0123", "expires_in": 300 })),
            trades: VecDeque::new(),
        };
        let script = Self { address, state: Arc::new(Mutex::new(state)) };
        tokio::spawn(script.clone().serve(listener));
        script
    }

    /// The address of something at this server.
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Scripts the next answer to a traded ticket.
    pub fn then(self, status: u16, answer: Value) -> Self {
        self.state.lock().unwrap().trades.push_back((status, answer));
        self
    }

    /// Scripts an RPT.
    pub fn then_rpt(self) -> Self {
        self.then(200, json!({ "access_token": RPT, "token_type": "Bearer", "expires_in": 300 }))
    }

    /// Replaces the challenge; `{ticket}` is where the ticket goes.
    pub fn challenge(self, challenge: &str) -> Self {
        self.state.lock().unwrap().challenge = challenge.to_owned();
        self
    }

    /// Replaces status and body of the challenge; `{ticket}` is where the ticket goes.
    pub fn refusal(self, status: u16, body: &str) -> Self {
        self.state.lock().unwrap().refusal = (status, body.to_owned());
        self
    }

    /// Becomes a server of UMA 1.0: tickets are traded at `/rpt`, and the document has the old name.
    pub fn of_uma_1_0(self) -> Self {
        let endpoint = self.at("/rpt");
        self.discovery(200, |document| document["rpt_endpoint"] = json!(endpoint))
    }

    pub fn discovery(self, status: u16, change: impl FnOnce(&mut Value)) -> Self {
        let mut state = self.state.lock().unwrap();
        state.discovery.0 = status;
        change(&mut state.discovery.1);
        drop(state);
        self
    }

    pub fn sign_in(self, status: u16, answer: Value) -> Self {
        self.state.lock().unwrap().sign_in = (status, answer);
        self
    }

    pub fn calls(&self, path: &str) -> Vec<Call> {
        self.state.lock().unwrap().calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// The trades among the calls of the token endpoint.
    pub fn trades(&self) -> Vec<Call> {
        self.calls("/token").into_iter().filter(|call| call.field("grant_type").ends_with("uma-ticket")).collect()
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let script = self.clone();
            let service = service_fn(move |request| {
                let script = script.clone();
                async move { Ok::<_, Infallible>(script.answer(request).await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = head.uri.path().to_owned();
        let authorization = head.headers.get(AUTHORIZATION).map_or("", |value| value.to_str().unwrap()).to_owned();
        let fields: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        let call = Call { path: path.clone(), authorization: authorization.clone(), fields, json, time: Instant::now() };
        let mut state = self.state.lock().unwrap();
        state.calls.push(call.clone());
        let (status, answer) = match path.as_str() {
            "/.well-known/uma2-configuration" if !state.discovery.1["rpt_endpoint"].is_null() => (500, json!("no such thing")),
            "/.well-known/uma-configuration" if state.discovery.1["rpt_endpoint"].is_null() => (404, json!(null)),
            "/.well-known/uma2-configuration" | "/.well-known/uma-configuration" | "/elsewhere" => state.discovery.clone(),
            "/token" if call.field("grant_type").ends_with("uma-ticket") => state.trades.pop_front().unwrap_or((500, json!({ "error": "nothing_scripted" }))),
            "/rpt" => state.trades.pop_front().unwrap_or((500, json!({ "error": "nothing_scripted" }))),
            "/token" => state.sign_in.clone(),
            "/moved" => return Response::builder().status(302).header("location", self.at("/other")).body(Full::default()).unwrap(),
            "/open" => return Response::new(Full::from(CONTENT)),
            _ if authorization == format!("Bearer {RPT}") => return Response::new(Full::from(CONTENT)),
            _ => {
                state.tickets += 1;
                let ticket = format!("ticket-number-{}", state.tickets);
                let field = state.challenge.replace("{ticket}", &ticket);
                let (status, body) = (state.refusal.0, state.refusal.1.replace("{ticket}", &ticket));
                return Response::builder().status(status).header("www-authenticate", field).body(Full::from(body)).unwrap();
            }
        };
        Response::builder().status(status).header("location", "http://127.0.0.1:1/").body(Full::from(answer.to_string())).unwrap()
    }
}
