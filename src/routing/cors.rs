//! Cross-origin requests (Fetch): which pages of other origins may read answers, and the preflight, which is never challenged.
//!
//! On a route with `cors` the gateway speaks for the upstream: every answer, a challenge too, carries the headers noted here, and none of the
//! upstream's own but what it exposes besides.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::config::Cors;
use super::route::Route;
use crate::body::Body;
use crate::response::{Row, X_REQUEST_ID};
use crate::telemetry::Recorder;

/// What a page may read of an answer besides the safelisted headers: all that a UMA client needs.
const EXPOSED: HeaderValue = HeaderValue::from_static("WWW-Authenticate, Warning, Retry-After, X-Request-Id");
const TRUE: HeaderValue = HeaderValue::from_static("true");
/// Requested header names that are echoed, at most.
const MAX_NAMES: usize = 64;

/// Notes the headers that the answer will carry, whoever gives it.
pub(super) fn mark(route: &Route, headers: &HeaderMap, recorder: &Recorder) {
    let Some(cors) = &route.config().cors else { return };
    recorder.speak_of_origins();
    for (name, value) in answer_headers(cors, origin(headers)) {
        recorder.on_answer(name, value);
    }
    if !is_open(cors) {
        recorder.on_answer(VARY, HeaderValue::from_static("Origin"));
    }
    if allowed(cors, origin(headers)) {
        recorder.on_answer(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// The answer to a preflight, if this request is one and the gateway is to answer it: on protected routes always, on public ones where they have `cors`.
pub(super) fn preflight(route: &Route, method: &Method, headers: &HeaderMap, recorder: &Recorder) -> Option<Response<Body>> {
    let asked_method = requested_method(method, headers)?;
    let cors = route.config().cors.as_ref();
    if cors.is_none() && route.protect().is_none() {
        return None;
    }
    let mut response = no_content(recorder);
    let answer = response.headers_mut();
    answer.insert(VARY, HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"));
    // Without the headers below the browser keeps the page from asking, which is the refusal.
    let Some(cors) = cors.filter(|cors| allowed(cors, origin(headers))) else { return Some(response) };
    answer.extend(answer_headers(cors, origin(headers)));
    let methods = if route.protect().is_some() { route.allow() } else { asked_method.clone() };
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allow_headers(headers));
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    Some(response)
}

/// The answer of row D8 to an OPTIONS, as far as it is the same for all.
pub(super) fn no_content(recorder: &Recorder) -> Response<Body> {
    recorder.pass(Row::D8);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&recorder.id().0) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}

fn answer_headers(cors: &Cors, origin: Option<&HeaderValue>) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let open = is_open(cors);
    let value = match origin {
        _ if open => Some(HeaderValue::from_static("*")),
        Some(origin) if allowed(cors, Some(origin)) => Some(origin.clone()),
        // Another origin's page: a value that does not fit it tells a reader which one would.
        Some(_) => cors.origins.first().cloned(),
        None => None,
    };
    let credentials = (cors.credentials && !open && allowed(cors, origin)).then_some((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
    value.map(|value| (ACCESS_CONTROL_ALLOW_ORIGIN, value)).into_iter().chain(credentials)
}

fn is_open(cors: &Cors) -> bool {
    cors.origins.iter().any(|origin| origin == "*")
}

fn allowed(cors: &Cors, origin: Option<&HeaderValue>) -> bool {
    origin.is_some_and(|origin| is_open(cors) || cors.origins.contains(origin))
}

/// The one Origin of a request; two are none.
fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(ORIGIN).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The method that a preflight asks about; `None` when this is no preflight.
fn requested_method<'h>(method: &Method, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
    if method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|value| Method::from_bytes(value.as_bytes()).is_ok())
}

/// `Authorization`, which `*` would not cover, and every valid name that was asked for.
fn allow_headers(headers: &HeaderMap) -> HeaderValue {
    let mut text = String::from("Authorization");
    let asked = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for name in asked.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).take(MAX_NAMES) {
        if name != http::header::AUTHORIZATION {
            text.push_str(", ");
            text.push_str(name.as_str());
        }
    }
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Authorization"))
}
