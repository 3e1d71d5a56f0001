//! Answers before they are HTTP, so that faults can still change them.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

/// An answer of the server. Each says `Cache-Control: no-store` (RFC 6749, 5.1).
#[derive(Clone)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![(CACHE_CONTROL, HeaderValue::from_static("no-store")), (CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Self { status, headers, body: body.into() }
    }

    pub fn json(status: StatusCode, value: &Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    pub fn html(status: StatusCode, page: String) -> Self {
        Self::new(status, "text/html; charset=utf-8", page)
    }

    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: vec![(CACHE_CONTROL, HeaderValue::from_static("no-store"))], body: Vec::new() }
    }

    /// An error of OAuth (RFC 6749, 5.2): a code and, for people, a description.
    pub fn error(status: StatusCode, code: &str, description: &str) -> Self {
        if description.is_empty() {
            return Self::json(status, &json!({ "error": code }));
        }
        Self::json(status, &json!({ "error": code, "error_description": description }))
    }

    pub fn bad_request(code: &str, description: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, code, description)
    }

    /// A 401 with its challenge.
    pub fn unauthorized(challenge: &'static str, code: &str, description: &str) -> Self {
        Self::error(StatusCode::UNAUTHORIZED, code, description).with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub fn redirect(to: &str) -> Self {
        match HeaderValue::from_str(to) {
            Ok(to) => Self::empty(StatusCode::FOUND).with(LOCATION, to),
            Err(_) => Self::bad_request("invalid_request", "the redirect address is not one"),
        }
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}
