//! What would be decided: the same layers, on the same snapshot, with no ticket asked for and nothing sent upstream.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::{Method, StatusCode};
use serde_json::Value;
use tower::{Service, ServiceExt};

use crate::body::Body;
use crate::enforcement::{Guesses, Judge};
use crate::routing::{Counted, Peer, Request, ServedHosts};
use crate::secret::Secret;
use crate::stack::{Current, decision_only};
use crate::telemetry::{Health, Recorder, RequestId, Standing, to_json};

/// Explains requests that nobody made.
#[derive(Clone)]
pub struct Explainer {
    judge: Judge,
    current: Current,
    health: Health,
}

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its method.
    pub method: Method,
    /// Its address; the authority may be left out.
    pub url: http::Uri,
    /// Its token.
    pub token: Option<Secret>,
}

impl Explainer {
    /// Explains by this judge on the configuration in force.
    #[must_use]
    pub fn new(mut judge: Judge, current: Current, health: Health) -> Self {
        judge.dry = true;
        judge.guesses = Guesses::default();
        Self { judge, current, health }
    }

    /// The record that the request would leave, as the admin door shows records. Runs where tasks may be spawned locally.
    pub async fn explain(&self, question: Question) -> Value {
        let recorder = Recorder::new(RequestId("explained".into()), question.method.clone(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), "http");
        let request = match request(question, self.current.load().hosts.clone(), recorder.clone()) {
            Ok(request) => request,
            Err(error) => return serde_json::json!({ "error": error.to_string() }),
        };
        let mut service = decision_only(self.current.clone(), self.judge.clone(), "explain".into());
        let answer = match service.ready().await {
            Ok(service) => service.call(request).await,
            Err(rejection) => Err(rejection),
        };
        let status = match &answer {
            Ok(_) => 0,
            Err(rejection) => {
                recorder.pass(rejection.row());
                recorder.with(|record| record.reason = record.reason.take().or(Some(rejection.reason().into())));
                rejection.status().as_u16()
            }
        };
        recorder.with(|record| record.status = status);
        let mut told = to_json(&recorder.snapshot());
        if status == StatusCode::UNAUTHORIZED.as_u16()
            && let Some(reason) = self.down(&told)
            && let Some(told) = told.as_object_mut()
        {
            told.insert("uma.authorization_server_down".into(), reason.into());
        }
        told
    }

    /// Why the authorization server of a request gave no usable answer when it was asked last. No ticket is asked for here, so nothing else would show it.
    fn down(&self, told: &Value) -> Option<String> {
        let server = self.health.known("authorization_server", told.get("uma.authorization_server")?.as_str()?)?;
        (server.standing() == Standing::Down).then(|| server.reason().unwrap_or_default())
    }
}

/// The request as it would come to a listener that serves its host, if one does.
fn request(question: Question, hosts: ServedHosts, recorder: Recorder) -> Result<Request, http::Error> {
    let hosts = if question.url.authority().is_some() { hosts } else { ServedHosts::default() };
    let host = question.url.authority().map_or("localhost", http::uri::Authority::as_str).to_owned();
    let target = question.url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut builder = http::Request::builder().method(question.method).uri(target).header(HOST, host);
    if let Some(token) = question.token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose().trim()))?;
        value.set_sensitive(true);
        builder = builder.header(AUTHORIZATION, value);
    }
    let (head, ()) = builder.body(())?.into_parts();
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let peer = Peer { address: nowhere, local: nowhere, scheme: "http", hosts, certificate: None, counted: Counted::default() };
    Ok(Request { head, body: Body::empty(), peer, refusal: None, recorder })
}

/// Explains by the configuration alone, for when no gateway runs: the same rooms, without listeners. Runs where tasks may be spawned locally.
///
/// # Errors
/// As [`super::Gateway::start`].
pub async fn explain_offline(config: crate::config::Gateway, question: Question) -> Result<Value, super::StartError> {
    let rooms = super::Rooms::build(config, &super::Options { log: Some(|| Box::new(std::io::sink())), ..super::Options::default() })?;
    let explainer = Explainer::new(rooms.judge, rooms.current, rooms.control.health.clone());
    super::control::answer_only(rooms.control)?;
    Ok(explainer.explain(question).await)
}
