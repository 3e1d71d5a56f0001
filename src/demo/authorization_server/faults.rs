//! Ways to fail, armed for the next calls of an endpoint or for all of them.
//!
//! A fault replaces an answer, edits the one that would have been given, or breaks the connection. Faults of one endpoint are used up one after the other,
//! so a sequence such as "401, then 503, then as usual" is two faults.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::answer::Answer;
use super::asked::Endpoint;
use crate::demo::gate::Gate;

/// One way to fail.
#[derive(Clone)]
pub struct Fault {
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) drip: Option<Duration>,
    pub(super) kind: What,
}

type Edit = Arc<dyn Fn(&mut Answer) + Send + Sync>;

#[derive(Clone)]
pub(super) enum What {
    /// The answer as usual (late, perhaps).
    Usual,
    /// No answer, ever.
    Hang,
    /// The connection ends without an answer.
    Close,
    /// Half of the body, then the connection ends.
    Truncate,
    /// This answer instead; the request has no effect.
    Instead(Answer),
    /// The usual answer, edited.
    Edited(Edit),
}

/// Names that servers use for the members of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// `rsid`, `rsname`, `scopes` (Keycloak's tokens).
    Rsid,
    /// `resource_set_id`, `scopes` (UMA 1.0).
    ResourceSetId,
    /// Both the usual names and Keycloak's, with the same values.
    Both,
    /// Both, and they disagree about the resource.
    DisagreeingResource,
    /// Both, and they disagree about the scopes.
    DisagreeingScopes,
}

impl Fault {
    const fn of(kind: What) -> Self {
        Self { delay: Duration::ZERO, gate: None, drip: None, kind }
    }

    /// The usual answer, late. What the request does is done when it comes.
    #[must_use]
    pub fn late(by: Duration) -> Self {
        Self::of(What::Usual).after(by)
    }

    /// The usual answer, once the gate is open.
    #[must_use]
    pub fn held(gate: &Gate) -> Self {
        let mut fault = Self::of(What::Usual);
        fault.gate = Some(gate.clone());
        fault
    }

    /// The usual answer, a byte at a time.
    #[must_use]
    pub const fn drip(between: Duration) -> Self {
        let mut fault = Self::of(What::Usual);
        fault.drip = Some(between);
        fault
    }

    /// No answer, ever; the connection stays.
    #[must_use]
    pub const fn hang() -> Self {
        Self::of(What::Hang)
    }

    /// The connection ends without an answer.
    #[must_use]
    pub const fn close() -> Self {
        Self::of(What::Close)
    }

    /// The connection ends in the middle of the body.
    #[must_use]
    pub const fn truncate() -> Self {
        Self::of(What::Truncate)
    }

    /// This status, with an OAuth error in JSON.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self::error(status, if status.is_server_error() { "server_error" } else { "invalid_request" })
    }

    /// This status, with this OAuth error.
    #[must_use]
    pub fn error(status: StatusCode, code: &str) -> Self {
        Self::of(What::Instead(Answer::error(status, code, "made to fail")))
    }

    /// The PAT or client is refused: 401 with a Bearer challenge (UMA 2.0 Federated Authorization, 1.3).
    #[must_use]
    pub fn unauthorized() -> Self {
        let answer = Answer::error(StatusCode::UNAUTHORIZED, "invalid_token", "made to fail");
        Self::of(What::Instead(answer.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""))))
    }

    /// The PAT is refused as Keycloak does it: 403 `invalid_bearer_token`.
    #[must_use]
    pub fn invalid_bearer_token() -> Self {
        Self::error(StatusCode::FORBIDDEN, "invalid_bearer_token")
    }

    /// The permission endpoint does not know the resource any more (UMA 2.0 Federated Authorization, 4.3).
    #[must_use]
    pub fn invalid_resource_id() -> Self {
        Self::error(StatusCode::BAD_REQUEST, "invalid_resource_id")
    }

    /// The permission endpoint does not know the scope (UMA 2.0 Federated Authorization, 4.3).
    #[must_use]
    pub fn invalid_scope() -> Self {
        Self::error(StatusCode::BAD_REQUEST, "invalid_scope")
    }

    /// 429 with `Retry-After`.
    #[must_use]
    pub fn too_many_requests() -> Self {
        let answer = Answer::error(StatusCode::TOO_MANY_REQUESTS, "slow_down", "");
        Self::of(What::Instead(answer.with(RETRY_AFTER, HeaderValue::from_static("1"))))
    }

    /// 302 to another address.
    #[must_use]
    pub fn redirect(to: &str) -> Self {
        let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
        Self::of(What::Instead(Answer::empty(StatusCode::FOUND).with(LOCATION, location)))
    }

    /// This status and this text, whatever it is, called JSON.
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<Vec<u8>>) -> Self {
        Self::of(What::Instead(Answer::new(status, "application/json", body)))
    }

    /// This status and this JSON.
    #[must_use]
    pub fn json(status: StatusCode, body: &Value) -> Self {
        Self::of(What::Instead(Answer::json(status, body)))
    }

    /// The usual status with an HTML page for a body.
    #[must_use]
    pub fn not_json() -> Self {
        Self::edited(|answer| answer.body = b"<html><body>Welcome</body></html>".to_vec())
    }

    /// The usual answer with so many bytes more: a member `padding` of that length.
    #[must_use]
    pub fn huge(bytes: usize) -> Self {
        Self::member("padding", "x".repeat(bytes).into())
    }

    /// The usual answer with a member `deep` that nests arrays so many levels.
    #[must_use]
    pub fn deep(levels: usize) -> Self {
        // Written as text: a value of that depth would overflow the stack of whoever drops it.
        Self::inserted(format!("\"deep\":{}{}", "[".repeat(levels), "]".repeat(levels)))
    }

    /// The usual answer with a member before all others that occurs again later; `value` is JSON text.
    #[must_use]
    pub fn duplicate(name: &str, value: &str) -> Self {
        Self::inserted(format!("{}:{value}", Value::from(name)))
    }

    /// The usual answer with a member set to a value.
    #[must_use]
    pub fn member(name: &str, value: Value) -> Self {
        let name = name.to_owned();
        Self::rewritten(move |answer| {
            if let Some(members) = answer.as_object_mut() {
                members.insert(name.clone(), value.clone());
            }
        })
    }

    /// The usual answer without a member.
    #[must_use]
    pub fn without(name: &str) -> Self {
        let name = name.to_owned();
        Self::rewritten(move |answer| {
            if let Some(members) = answer.as_object_mut() {
                members.remove(&name);
            }
        })
    }

    /// The usual answer with a member of each permission set to a value; null removes it.
    #[must_use]
    pub fn in_permissions(name: &str, value: Value) -> Self {
        let name = name.to_owned();
        Self::rewritten(move |answer| {
            each_permission(answer, |permission| {
                if value.is_null() {
                    permission.remove(&name)
                } else {
                    permission.insert(name.clone(), value.clone())
                };
            });
        })
    }

    /// The usual answer whose permissions name their members otherwise.
    #[must_use]
    pub fn aliases(alias: Alias) -> Self {
        Self::rewritten(move |answer| each_permission(answer, |permission| rename(permission, alias)))
    }

    /// The usual answer, changed as JSON.
    #[must_use]
    pub fn rewritten(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        Self::edited(move |answer| {
            if let Ok(mut value) = serde_json::from_slice::<Value>(&answer.body) {
                change(&mut value);
                answer.body = value.to_string().into_bytes();
            }
        })
    }

    /// The usual answer, and a header field besides.
    #[must_use]
    pub fn header(name: HeaderName, value: HeaderValue) -> Self {
        Self::edited(move |answer| answer.headers.push((name.clone(), value.clone())))
    }

    /// The same fault, so much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same fault, once the gate is open.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    fn edited(edit: impl Fn(&mut Answer) + Send + Sync + 'static) -> Self {
        Self::of(What::Edited(Arc::new(edit)))
    }

    /// Text set at the front of the usual JSON object.
    fn inserted(text: String) -> Self {
        Self::edited(move |answer| {
            if let Some(rest) = answer.body.strip_prefix(b"{") {
                let comma: &[u8] = if rest.starts_with(b"}") { b"" } else { b"," };
                answer.body = [b"{", text.as_bytes(), comma, rest].concat();
            }
        })
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            What::Usual => "Fault(late)",
            What::Hang => "Fault(hang)",
            What::Close => "Fault(close)",
            What::Truncate => "Fault(truncate)",
            What::Instead(_) => "Fault(instead)",
            What::Edited(_) => "Fault(edited)",
        })
    }
}

/// The faults that are armed.
#[derive(Default)]
pub(super) struct Faults(BTreeMap<Endpoint, VecDeque<(Fault, Option<u32>)>>);

impl Faults {
    /// Arms a fault for the next so many calls, or until it is cleared.
    pub fn arm(&mut self, endpoint: Endpoint, fault: Fault, times: Option<u32>) {
        if times != Some(0) {
            self.0.entry(endpoint).or_default().push_back((fault, times));
        }
    }

    pub fn clear(&mut self, endpoint: Endpoint) {
        self.0.remove(&endpoint);
    }

    pub fn clear_all(&mut self) {
        self.0.clear();
    }

    /// The fault of the next call.
    pub fn take(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let armed = self.0.get_mut(&endpoint)?;
        let (fault, times) = armed.front_mut()?;
        let fault = fault.clone();
        if let Some(left) = times {
            *left -= 1;
            if *left == 0 {
                armed.pop_front();
            }
        }
        Some(fault)
    }
}

/// Cuts a body in half and promises the whole, for [`What::Truncate`].
pub(super) fn truncated(answer: &mut Answer) {
    answer.headers.push((CONTENT_LENGTH, HeaderValue::from(answer.body.len().max(2))));
    answer.body.truncate(answer.body.len() / 2);
}

fn each_permission(answer: &mut Value, change: impl Fn(&mut serde_json::Map<String, Value>)) {
    let permissions = match answer {
        Value::Array(list) => Some(list),
        Value::Object(members) => members.get_mut("permissions").and_then(Value::as_array_mut),
        _ => None,
    };
    permissions.into_iter().flatten().filter_map(Value::as_object_mut).for_each(change);
}

fn rename(permission: &mut serde_json::Map<String, Value>, alias: Alias) {
    let id = permission.get("resource_id").or_else(|| permission.get("rsid")).cloned().unwrap_or_default();
    let scopes = permission.get("resource_scopes").or_else(|| permission.get("scopes")).cloned().unwrap_or_default();
    for name in ["resource_id", "resource_scopes", "rsid", "rsname", "scopes"] {
        permission.remove(name);
    }
    let members: &[(&str, Value)] = &match alias {
        Alias::Rsid => vec![("rsid", id), ("rsname", "named".into()), ("scopes", scopes)],
        Alias::ResourceSetId => vec![("resource_set_id", id), ("scopes", scopes)],
        Alias::Both => vec![("resource_id", id.clone()), ("rsid", id), ("resource_scopes", scopes.clone()), ("scopes", scopes)],
        Alias::DisagreeingResource => vec![("resource_id", id), ("rsid", "another".into()), ("resource_scopes", scopes.clone()), ("scopes", scopes)],
        Alias::DisagreeingScopes => vec![("resource_id", id.clone()), ("rsid", id), ("resource_scopes", scopes), ("scopes", json!(["another"]))],
    };
    permission.extend(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
}
