//! What the API answers: shares as JSON, and everything else as a problem (RFC 9457). No answer holds a token.

use std::time::Duration;

use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::config::Config;
use super::registrar::Trouble;
use super::standing::{Shared, Unserved};
use crate::admin::serve::{Answer, json_of, problem, text};
use crate::stack::Snapshot;
use crate::store::{MOST_TEMPLATES, MOST_TEMPLATES_OF_ALL, ResourceRecord, State, StoreError, one_path};
use crate::uma::Scope;

/// Seconds after which an authorization server that did not answer may be asked again.
const LATER: HeaderValue = HeaderValue::from_static("2");

/// Why a share is closed whose resource the authorization server does not know any more.
const LOST: &str = "the authorization server has deleted its resource: delete the share too, and share its path anew";

/// A share, as its owner sees it, with the reason where it is closed: by the configuration, or because it is `lost`.
pub fn share(config: &Config, snapshot: &Snapshot, record: &ResourceRecord, lost: bool) -> Value {
    let resource = &record.resource;
    let id = resource.link.as_deref().unwrap_or_default();
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            members.insert(name.into(), value);
        }
    };
    put("id", id.into());
    // What stands for many paths leads to none.
    if resource.path.as_deref().is_some_and(|path| one_path(path).is_some()) {
        put("link", link(config, id).into());
    }
    put("path", json!(resource.path));
    put("owner", json!(resource.owner));
    put("name", json!(resource.name));
    put("type", json!(resource.kind));
    put("icon_uri", json!(resource.icon_uri));
    put("scopes", json!(resource.scopes));
    match &record.state {
        State::Registered { resource_id, policy_uri } => {
            put("state", "registered".into());
            put("resource_id", json!(resource_id));
            put("user_access_policy_uri", json!(policy_uri));
        }
        State::Wanted => put("state", "wanted".into()),
        State::Unwanted { .. } => put("state", "unwanted".into()),
    }
    put("closed", json!(Shared::of(resource).unserved(snapshot, Some(config)).map(Unserved::words).or(lost.then_some(LOST))));
    members.into()
}

/// The address to hand on.
pub fn link(config: &Config, id: &str) -> String {
    format!("{}{}/{id}", config.public_url, config.prefix)
}

/// 201 when the server has registered it, 202 when that is still to be done.
pub fn created(config: &Config, snapshot: &Snapshot, record: &ResourceRecord) -> Answer {
    let status = if matches!(record.state, State::Registered { .. }) { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let mut answer = json_of(status, &share(config, snapshot, record, false));
    let place = record.resource.link.as_deref().and_then(|id| HeaderValue::try_from(format!("/shares/{id}")).ok());
    if let Some(place) = place {
        answer.headers_mut().insert(LOCATION, place);
    }
    answer
}

/// 204 when the server has forgotten it, 202 when that is still to be done; the path is closed either way.
pub fn withdrawn(done: bool) -> Answer {
    let mut answer = text(if done { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED }, "application/json", Bytes::new());
    answer.headers_mut().remove(http::header::CONTENT_TYPE);
    answer
}

pub fn not_found() -> Answer {
    problem(StatusCode::NOT_FOUND, "there is no such share of yours")
}

/// 401 (RFC 6750, 3): without a token, or with one that is not good, for a reason that its bearer may know.
pub fn unauthorized(why: Option<&'static str>) -> Answer {
    let (challenge, detail) = match why {
        Some(why) => ("Bearer realm=\"shares\", error=\"invalid_token\"", why),
        None => ("Bearer realm=\"shares\"", "a token of the authorization server is needed, or the operator's key"),
    };
    let mut answer = problem(StatusCode::UNAUTHORIZED, detail);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

/// 403: a good token without the scope that is needed.
pub fn insufficient(scope: &Scope) -> Answer {
    let mut answer = problem(StatusCode::FORBIDDEN, "the token lacks the scope that owners need");
    let quoted = format!("Bearer realm=\"shares\", error=\"insufficient_scope\", scope=\"{}\"", scope.0);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::try_from(quoted).unwrap_or(HeaderValue::from_static("Bearer error=\"insufficient_scope\"")));
    answer
}

pub fn unreachable() -> Answer {
    let mut answer = problem(StatusCode::SERVICE_UNAVAILABLE, "the authorization server cannot be asked now");
    answer.headers_mut().insert(RETRY_AFTER, LATER);
    answer
}

/// 429: more tokens that have to be asked about than one address may show.
pub fn limited(after: Duration) -> Answer {
    let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, "too many tokens have been asked about for this address: ask again later");
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1)));
    answer
}

pub fn troubled(trouble: &Trouble) -> Answer {
    let conflict = |detail| problem(StatusCode::CONFLICT, detail);
    match trouble {
        Trouble::PathTaken => conflict("this path is shared already"),
        Trouble::NameTaken | Trouble::Ambiguous => conflict("there is a resource of this name already"),
        Trouble::UnfitName(unfit) => {
            let what = if *unfit == ' ' { "a blank in front".to_owned() } else { format!("`{unfit}`") };
            let detail = format!("`name` has {what}: at this authorization server its owner could share it with nobody, or nobody could delete it any more");
            problem(StatusCode::UNPROCESSABLE_ENTITY, &detail)
        }
        Trouble::TooMany => problem(StatusCode::FORBIDDEN, "the owner has as many shares as one may have"),
        Trouble::TooManyTemplates { of_owner } => {
            let paths = if *of_owner { format!("{MOST_TEMPLATES} paths of this owner") } else { format!("{MOST_TEMPLATES_OF_ALL} paths") };
            problem(StatusCode::FORBIDDEN, &format!("{paths} begin with this folder and have a * next, and there may be no more"))
        }
        Trouble::NotSettled => conflict("the authorization server does not know this share yet"),
        Trouble::Lost => conflict("the authorization server has deleted the resource of this share: delete the share, and share its path anew"),
        Trouble::Gone => not_found(),
        Trouble::NoPat => problem(StatusCode::FORBIDDEN, "the gateway has no protection API access token of this owner"),
        Trouble::Refused(_) => problem(StatusCode::UNPROCESSABLE_ENTITY, "the authorization server refuses this resource"),
        Trouble::Unreachable(_) => unreachable(),
        Trouble::Store(StoreError::Full) => problem(StatusCode::INSUFFICIENT_STORAGE, "the records are full"),
        Trouble::Store(StoreError::Unfit(_)) => problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "a text is empty, too long (a name, a type, an icon_uri: 255 characters) or holds a control character, or there are too many scopes",
        ),
        Trouble::Store(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the records cannot be read or written"),
    }
}
