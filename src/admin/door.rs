//! The operator's door: the record of a request by its id, the last records, and what a request would be answered.
//!
//! Changes nothing but by `POST /reload`, which says nothing that the file does not say, and where owners link the gateway (`link`). A token that comes in to be explained is handed on as a secret and never comes back out.

use std::borrow::Cow;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};

use super::link::{self, Links};
use super::serve::{Answer, Door, bearer, found, only, problem, read, serve};
use super::socket::{Listening, OpenDoor};
use crate::secret::{Rotating, Secret};
use crate::telemetry::{SecretKind, Telemetry, to_json};

/// An explanation may have to ask an authorization server.
const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of a question.
const QUESTION: usize = 64 << 10;

/// Records that `last` gives when it is not said how many, and at most.
const LAST: (usize, usize) = (20, 1000);

/// `explain METHOD URL [--token FILE]`.
#[derive(Debug)]
pub struct ExplainRequest {
    /// The method.
    pub method: Method,
    /// The whole URL, as a client would ask for it.
    pub url: http::Uri,
    /// The token that the client would present.
    pub token: Option<Secret>,
}

/// What would be answered to a request, and why; an error says what is wrong with the question. The app gives it.
pub type Explain = Rc<dyn Fn(ExplainRequest) -> LocalBoxFuture<'static, Result<Value, Cow<'static, str>>>>;

/// Reads the configuration anew and takes it into force but for the keys that it returns, or says why not, a line for each mistake. The app gives it.
pub type Reload = Rc<dyn Fn() -> LocalBoxFuture<'static, Result<Vec<&'static str>, Vec<String>>>>;

/// Serves the operator until dropped; has to run in a `LocalSet`.
///
/// # Errors
/// When the socket cannot be watched.
pub async fn serve_admin(door: OpenDoor, telemetry: Telemetry, explain: Explain, reload: Reload, links: Links) -> io::Result<()> {
    match door.0 {
        Listening::Socket(listener, file) => {
            let listener = UnixListener::from_std(listener)?;
            let operator = Operator { token: None, telemetry, explain, reload, links };
            // The file is removed when this future is dropped.
            let _file = file;
            match serve(listener, Rc::new(operator), DEADLINE).await {}
        }
        Listening::Address(listener, token) => {
            let listener = TcpListener::from_std(listener)?;
            let operator = Operator { token: Some(token), telemetry, explain, reload, links };
            match serve(listener, Rc::new(operator), DEADLINE).await {}
        }
    }
}

struct Operator {
    /// `None`: whoever can open the socket may ask.
    token: Option<Arc<Rotating>>,
    telemetry: Telemetry,
    explain: Explain,
    reload: Reload,
    links: Links,
}

/// The body of `POST /explain`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    method: String,
    url: String,
    #[serde(default)]
    token: Option<String>,
}

impl Door for Operator {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        // An owner has no token of the operator's, and shows who he is by signing in at the server.
        if let Some(path) = request.uri().path().strip_prefix("/owners/") {
            return link::answer(&self.links, path, &request).await;
        }
        if !self.admits(&request) {
            let mut answer = problem(StatusCode::UNAUTHORIZED, "the token of `admin` is needed");
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        let reads = request.method() == Method::GET || request.method() == Method::HEAD;
        match request.uri().path() {
            "/" if reads => found(
                &json!({ "paths": ["GET /records/{id}", "GET /records?last=N", "POST /explain", "POST /reload", "GET /owners/{authorization server}/link"] }),
            ),
            "/records" if reads => self.last(request.uri().query().unwrap_or_default()).await,
            "/explain" if request.method() == Method::POST => self.explain(request).await,
            "/reload" if request.method() == Method::POST => self.reload().await,
            "/explain" | "/reload" => only("POST"),
            path => match path.strip_prefix("/records/") {
                Some(id) if reads => self.record(id).await,
                Some(_) => only("GET, HEAD"),
                None if matches!(path, "/" | "/records") => only("GET, HEAD"),
                None => problem(StatusCode::NOT_FOUND, "nothing is here"),
            },
        }
    }
}

impl Operator {
    fn admits(&self, request: &Request<Incoming>) -> bool {
        let Some(token) = &self.token else { return true };
        let Some(presented) = bearer(request.headers()) else { return false };
        if let Some(next) = token.next().filter(|next| next.matches(presented)) {
            if token.worked(&next) {
                self.telemetry.metrics().secret_loaded(SecretKind::AdminToken, "admin");
                tracing::info!("the new admin token was shown and is in use; the one before is refused from now on");
            }
            return true;
        }
        token.held().matches(presented)
    }

    async fn reload(&self) -> Answer {
        match (self.reload)().await {
            Ok(waiting) => found(&json!({ "reloaded": true, "needs_restart": waiting })),
            Err(mistakes) => problem(StatusCode::UNPROCESSABLE_ENTITY, &mistakes.join("\n")),
        }
    }

    /// The record may be on its way to the ring still: the answer that names it has only just been sent.
    async fn record(&self, id: &str) -> Answer {
        self.telemetry.settled().await;
        match self.telemetry.ring().find(id) {
            Some(record) => found(&to_json(&record)),
            None => problem(StatusCode::NOT_FOUND, "no such record: the last 10,000 requests are kept"),
        }
    }

    async fn last(&self, query: &str) -> Answer {
        let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "last").map(|(_, value)| value.parse::<usize>());
        let Ok(count) = asked.unwrap_or(Ok(LAST.0)) else { return problem(StatusCode::BAD_REQUEST, "`last` is a number") };
        self.telemetry.settled().await;
        let records: Vec<_> = self.telemetry.ring().last(count.min(LAST.1)).iter().map(to_json).collect();
        found(&Value::from(records))
    }

    async fn explain(&self, request: Request<Incoming>) -> Answer {
        let Some(body) = read(request.into_body(), QUESTION).await else {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "the question is too long, or broke off");
        };
        // The library's message may quote the body, and the body holds a token.
        let Ok(question) = serde_json::from_slice::<Question>(&body) else {
            return problem(StatusCode::BAD_REQUEST, "the question is not {\"method\", \"url\", \"token\"}");
        };
        let (Ok(method), Ok(url)) = (question.method.parse(), question.url.parse()) else {
            return problem(StatusCode::BAD_REQUEST, "`method` is not a method, or `url` not a URL");
        };
        let asked = ExplainRequest { method, url, token: question.token.map(Secret::from) };
        match (self.explain)(asked).await {
            Ok(explanation) => found(&explanation),
            Err(why) => problem(StatusCode::BAD_REQUEST, &why),
        }
    }
}
