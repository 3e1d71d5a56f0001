//! Bodies of the API: read as they are described, or told which member is wrong and what to write.
//!
//! What is told names members and never quotes a value: somebody may have put a token there.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admin::serve::{Answer, problem, read};

/// Octets of a body.
const BODY: usize = 64 << 10;
/// Characters of a member's name that are shown.
const SHOWN: usize = 64;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The path, without which nothing is shared.
    Path,
    /// A text.
    Text,
    /// A list of texts.
    Texts,
}

/// The members that a body may have.
pub type Members = &'static [(&'static str, Kind)];

/// Reads a body of these members.
///
/// # Errors
/// The answer that says what is wrong with it.
pub async fn body<T: DeserializeOwned>(request: Request<Incoming>, members: Members) -> Result<T, Answer> {
    let Some(body) = read(request.into_body(), BODY).await else {
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broke off"));
    };
    serde_json::from_slice(&body).map_err(|error| problem(StatusCode::BAD_REQUEST, &wrong(&body, members, &error)))
}

/// What is wrong with a body that could not be read, and what to write.
fn wrong(body: &[u8], members: Members, error: &serde_json::Error) -> String {
    let value = match serde_json::from_slice::<Value>(body) {
        Ok(value) => value,
        Err(error) if error.is_eof() => return "the body is not JSON: it breaks off".to_owned(),
        Err(error) => return format!("the body is not JSON, from line {}, column {} on", error.line(), error.column()),
    };
    let known = all(members.iter().map(|(name, _)| *name));
    let needed = members.iter().find(|(_, kind)| *kind == Kind::Path).map_or_else(String::new, |(name, _)| format!("; `{name}` is needed"));
    let Value::Object(object) = value else { return format!("the body is an object with {known}{needed}") };
    if let Some(strange) = object.keys().find(|name| !members.iter().any(|(known, _)| known == name)) {
        return format!("`{}` is no member: there are {known}", shown(strange));
    }
    let unfit = members.iter().find_map(|(name, kind)| match (kind, object.get(*name).unwrap_or(&Value::Null)) {
        (Kind::Path, Value::Null) => Some(format!("`{name}` is missing: the path to share, such as \"/folder/**\"")),
        (_, Value::Null) | (Kind::Path | Kind::Text, Value::String(_)) => None,
        (Kind::Path | Kind::Text, _) => Some(format!("`{name}` is a text")),
        (Kind::Texts, Value::Array(all)) if all.iter().all(Value::is_string) => None,
        (Kind::Texts, _) => Some(format!("`{name}` is a list of texts, such as [\"view\"]")),
    });
    // All that is left: the library says so of the members that it knows.
    let twice = |(name, _): &&(&str, Kind)| error.to_string().contains(&format!("duplicate field `{name}`"));
    unfit.or_else(|| members.iter().find(twice).map(|(name, _)| format!("`{name}` stands twice"))).unwrap_or_else(|| "the body cannot be read".to_owned())
}

/// Names, each in backquotes.
pub fn all<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(|name| format!("`{}`", shown(name))).collect::<Vec<_>>().join(", ")
}

/// A name of the caller's, not without end.
pub fn shown(name: &str) -> &str {
    name.char_indices().nth(SHOWN).map_or(name, |(end, _)| name.split_at(end).0)
}
