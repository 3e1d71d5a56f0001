//! `/shares`: what each method does.

use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{created, not_found, share, troubled, withdrawn};
use super::body::{Kind, Members, all, body, shown};
use super::caller::{Caller, caller};
use super::config::Config;
use super::place::{NoPlace, Place, place, scopes_of, usual_scopes};
use super::registrar::{Registrar, Trouble};
use crate::admin::serve::{Answer, found, only, problem, text};
use crate::routing::{Client, ResourceChoice, Route, Template};
use crate::secret::random_text;
use crate::stack::{Current, Snapshot};
use crate::store::{Resource, ResourceRecord, State, StoreError};
use crate::telemetry::{AUDITED, Recorder};
use crate::uma::Scope;

/// Shares in one answer, when it is not said how many, and at most.
const PAGE: (u32, u32) = (100, 1000);
/// Octets of the shares of one answer, unless a single one has more.
const PAGE_OCTETS: usize = 1 << 20;
/// Patterns that somebody who may not share at a path is told.
const TOLD: usize = 8;
/// What is not encoded in a segment (RFC 3986, 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');
/// The API, for programs that write clients.
const DESCRIPTION: &str = include_str!("openapi.json");

/// What the API is served with.
pub struct Api {
    pub config: Arc<Config>,
    pub registrar: Rc<Registrar>,
    pub current: Current,
    /// The record of the request.
    pub recorder: Recorder,
    /// Who asks, by address.
    pub client: Client,
}

/// What a [`Wish`] may hold.
const WISH: Members =
    &[("path", Kind::Path), ("owner", Kind::Text), ("name", Kind::Text), ("type", Kind::Text), ("icon_uri", Kind::Text), ("scopes", Kind::Texts)];
/// What a [`Change`] may hold.
const CHANGE: Members = &[("name", Kind::Text), ("scopes", Kind::Texts)];

/// `POST /shares`. There is no address of a content server in it: that is the route's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    path: String,
    owner: Option<String>,
    name: Option<String>,
    r#type: Option<String>,
    icon_uri: Option<String>,
    scopes: Option<Vec<String>>,
}

/// `PATCH /shares/{id}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    scopes: Option<Vec<String>>,
}

impl Api {
    /// Answers a request. Nothing but the description is told to whoever shows no token.
    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let id = match path.strip_prefix("/shares").map(|rest| rest.strip_prefix('/')) {
            Some(None) if path == "/shares" => None,
            Some(Some("openapi.json")) if matches!(*request.method(), Method::GET | Method::HEAD) => {
                return text(StatusCode::OK, "application/json", DESCRIPTION);
            }
            Some(Some("openapi.json")) => return only("GET, HEAD"),
            Some(Some(id)) => Some(id),
            _ => return problem(StatusCode::NOT_FOUND, "the API is at /shares, and what it is at /shares/openapi.json"),
        };
        let caller = match caller(&self.config, &self.registrar, request.headers(), &self.client).await {
            Ok(caller) => caller,
            Err(answer) => return answer,
        };
        if let Caller::Owner(owner) = &caller {
            self.recorder.with(|record| record.subject = Some(Arc::clone(owner)));
        }
        let answered = match (request.method().clone(), id) {
            (Method::GET | Method::HEAD, None) => self.list(&caller, request.uri().query().unwrap_or_default()).await,
            (Method::POST, None) => self.create(&caller, request).await,
            (Method::GET | Method::HEAD, Some(id)) => self.of(&caller, id).await.map(|record| found(&self.share(&self.current.load(), &record))),
            (Method::PATCH, Some(id)) => self.change(&caller, id, request).await,
            (Method::DELETE, Some(id)) => self.withdraw(&caller, id).await,
            (_, None) => Err(only("GET, HEAD, POST")),
            (_, Some(_)) => Err(only("GET, HEAD, PATCH, DELETE")),
        };
        answered.unwrap_or_else(|answer| answer)
    }

    fn share(&self, snapshot: &Snapshot, record: &ResourceRecord) -> Value {
        share(&self.config, snapshot, record, self.registrar.standings().lost_at(record.key).is_some())
    }

    async fn create(&self, caller: &Caller, request: Request<Incoming>) -> Result<Answer, Answer> {
        let wish: Wish = body(request, WISH).await?;
        if wish.icon_uri.as_deref().is_some_and(|uri| !is_web_address(uri)) {
            let detail = "`icon_uri` is an absolute address by http or https, such as https://photos.example.org/icon.png";
            return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        let snapshot = self.current.load_full();
        let not_allowed = || self.not_allowed(caller, wish.owner.as_deref(), &snapshot);
        let place = place(&snapshot, &self.config, &wish.path).map_err(|why| match why {
            NoPlace::Unfit(reason) => problem(StatusCode::UNPROCESSABLE_ENTITY, reason),
            NoPlace::Closed => not_allowed(),
        })?;
        let owner = owner(caller, wish.owner.as_deref(), &place, not_allowed).map_err(|refused| *refused)?;
        let Some(server) = self.registrar.server(&self.config.server.issuer) else { return Err(super::answers::unreachable()) };
        // 128 bits: nobody guesses the link of a share.
        let link = random_text::<{ super::ID }>().ok_or_else(|| problem(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no randomness"))?;
        let resource = Resource {
            authorization_server: self.config.server.issuer.to_string(),
            // As little as possible is told of it: a path may say more than its owner would (UMA 2.0 Federated Authorization, 8).
            name: wish.name.unwrap_or_else(|| format!("share {link}")),
            kind: wish.r#type,
            icon_uri: wish.icon_uri,
            scopes: scopes(wish.scopes, &place.route).map_err(|refused| *refused)?,
            upstream: place.route.config().upstream_name.to_string(),
            credential: None,
            link: Some(link),
            path: Some(place.path),
            owner,
        };
        let registrar = Rc::clone(&self.registrar);
        let record = to_its_end(registrar.create(server, resource, self.config.per_owner)).await?;
        self.audit(caller, &record.resource, "a path is shared");
        Ok(created(&self.config, &snapshot, &record))
    }

    async fn list(&self, caller: &Caller, query: &str) -> Result<Answer, Answer> {
        let asked = |wanted: &str| form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned());
        let owner = match caller {
            Caller::Owner(owner) => owner.to_string(),
            Caller::Operator => asked("owner").ok_or_else(|| problem(StatusCode::BAD_REQUEST, "whose? ?owner=NAME"))?,
        };
        let limit = asked("limit").map_or(Ok(PAGE.0), |limit| limit.parse::<u32>());
        let Ok(limit @ 1..) = limit else { return Err(problem(StatusCode::BAD_REQUEST, "`limit` is a number from 1")) };
        let limit = limit.min(PAGE.1);
        let store = self.registrar.store();
        let after = match asked("after") {
            // It may have been withdrawn since.
            Some(id) => {
                let record = store.resource_of_link(&id).await.map_err(|error| failed(&error.into()))?;
                Some(record.filter(|record| record.resource.owner == owner).ok_or_else(not_found)?.key)
            }
            None => None,
        };
        let page = store.resources_of(&self.config.server.issuer, &owner, after, limit).await.map_err(|error| failed(&error.into()))?;
        let snapshot = self.current.load_full();
        let shares: Vec<Option<Value>> = page.iter().map(|record| is_there(record).then(|| self.share(&snapshot, record))).collect();
        let taken = fitting(shares.iter().map(|share| share.as_ref().map_or(0, |share| share.to_string().len())), PAGE_OCTETS);
        let full = taken < page.len() || page.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = page.iter().take(taken).next_back().filter(|_| full).and_then(|last| last.resource.link.clone());
        let shares: Vec<Value> = shares.into_iter().take(taken).flatten().collect();
        Ok(found(&match next {
            Some(after) => json!({ "shares": shares, "after": after }),
            None => json!({ "shares": shares }),
        }))
    }

    async fn change(&self, caller: &Caller, id: &str, request: Request<Incoming>) -> Result<Answer, Answer> {
        let change: Change = body(request, CHANGE).await?;
        let record = self.of(caller, id).await?;
        let name = change.name.unwrap_or_else(|| record.resource.name.clone());
        let scopes = match change.scopes {
            None => record.resource.scopes.clone(),
            asked => {
                let path = record.resource.path.as_deref().unwrap_or_default();
                let snapshot = self.current.load_full();
                let place = place(&snapshot, &self.config, path).map_err(|_| self.not_allowed(caller, Some(&record.resource.owner), &snapshot))?;
                scopes(asked, &place.route).map_err(|refused| *refused)?
            }
        };
        // Also where nothing is to be changed: the server may have what an earlier request asked for that got no answer.
        let record = to_its_end(Rc::clone(&self.registrar).change(record, name, scopes)).await?;
        self.audit(caller, &record.resource, "a share was changed");
        Ok(found(&self.share(&self.current.load(), &record)))
    }

    async fn withdraw(&self, caller: &Caller, id: &str) -> Result<Answer, Answer> {
        let record = self.of(caller, id).await?;
        let resource = record.resource.clone();
        let done = to_its_end(Rc::clone(&self.registrar).withdraw(record)).await?;
        self.audit(caller, &resource, "a share was withdrawn");
        Ok(withdrawn(done))
    }

    /// Says in the audit log what became of a share, and who did it. Never what they have shown.
    fn audit(&self, caller: &Caller, resource: &Resource, what: &'static str) {
        let Resource { owner, link: id, path, .. } = resource;
        tracing::info!(target: AUDITED, request_id = &*self.recorder.id().0, by = caller.label(), owner, id, path, "{what}");
    }

    /// The same for a path that no route shares and for one that is another owner's: who that is, as the token or the operator says, and where the
    /// configuration lets them share.
    fn not_allowed(&self, caller: &Caller, named: Option<&str>, snapshot: &Snapshot) -> Answer {
        let owner = match caller {
            Caller::Owner(owner) => Some(&**owner),
            Caller::Operator => named,
        };
        let shared = |route: &&Arc<Route>| {
            let protect = route.protect().filter(|protect| protect.server.issuer == self.config.server.issuer)?;
            let ResourceChoice::Shared { owner: of_route } = &protect.resource else { return None };
            route.config().host.matches(&self.config.host).then(|| (Arc::clone(route.pattern()), of_route.clone()))
        };
        let open = snapshot.routes.routes().iter().filter_map(|route| shared(&route)).filter_map(|(pattern, of_route)| match (of_route, owner) {
            (Some(of_route), Some(owner)) => place_of_owner(&pattern, &of_route, owner),
            (Some(_), None) => Some(pattern.to_string()),
            (None, _) => (*caller == Caller::Operator).then(|| pattern.to_string()),
        });
        let patterns: Vec<String> = open.collect();
        let mut told = patterns.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
        if patterns.len() > TOLD {
            told.push_str(", …");
        }
        let who = owner.map_or_else(|| "anybody".to_owned(), |owner| format!("`{}`", shown(owner)));
        let where_then = if patterns.is_empty() { format!("{who} may share nothing") } else { format!("{who} may share at {told}") };
        problem(StatusCode::FORBIDDEN, &format!("the configuration does not let {who} share this path: {where_then}"))
    }

    /// The caller's share of that id. Others' are as if they were not.
    async fn of(&self, caller: &Caller, id: &str) -> Result<ResourceRecord, Answer> {
        let record = self.registrar.store().resource_of_link(id).await.map_err(|error| failed(&error.into()))?;
        let theirs = |record: &ResourceRecord| match caller {
            Caller::Owner(owner) => **owner == *record.resource.owner,
            Caller::Operator => true,
        };
        let here = |record: &ResourceRecord| *record.resource.authorization_server == *self.config.server.issuer;
        record.filter(|record| is_there(record) && here(record) && theirs(record)).ok_or_else(not_found)
    }
}

/// Whose share it becomes: the caller's own, or whoever the operator names, if the route lets them.
fn owner(caller: &Caller, named: Option<&str>, place: &Place, not_allowed: impl Fn() -> Answer) -> Result<String, Box<Answer>> {
    let owner = match (caller, named) {
        (Caller::Owner(owner), None) => owner,
        (Caller::Owner(owner), Some(named)) if **owner == *named => owner,
        (Caller::Owner(_), Some(_)) => return Err(problem(StatusCode::FORBIDDEN, "only the operator shares for somebody else").into()),
        (Caller::Operator, Some(named)) => &Arc::from(named),
        (Caller::Operator, None) => return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "`owner` is missing: whose is it?").into()),
    };
    let may = match &place.owner {
        Some(of_route) => *of_route == *owner,
        None => *caller == Caller::Operator,
    };
    if may { Ok(owner.to_string()) } else { Err(not_allowed().into()) }
}

/// Where a route lets this owner share, as its pattern says it: what is only somebody else's is not told.
fn place_of_owner(pattern: &str, of_route: &Template, owner: &str) -> Option<String> {
    if of_route.is_constant() {
        return (*of_route.text == *owner).then(|| pattern.to_owned());
    }
    // A parameter that is the owner, whole, and that a path can spell.
    let parameter = (of_route.parameters().count() == 1 && of_route.text.starts_with('{') && of_route.text.ends_with('}')).then_some(&*of_route.text);
    let spelt = percent_encoding::utf8_percent_encode(owner, SEGMENT).to_string();
    let is_segment = !matches!(owner, "." | "..") && !owner.contains(['/', '\\', '*']);
    Some(parameter.filter(|_| is_segment).map_or_else(|| pattern.to_owned(), |parameter| pattern.replace(parameter, &spelt)))
}

/// The scopes of a share: those asked for, or all that the route's methods need. A scope that no method needs could be granted to no effect.
fn scopes(asked: Option<Vec<String>>, route: &Route) -> Result<Vec<String>, Box<Answer>> {
    let Some(mut asked) = asked else {
        let usual = usual_scopes(route).ok_or_else(|| {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "`scopes` is missing: at this path each method is a scope, and a share names those it has")
        })?;
        return Ok(usual.iter().map(|scope| scope.0.to_string()).collect());
    };
    let here = scopes_of(route);
    asked.sort();
    asked.dedup();
    let known = |scope: &&String| here.iter().any(|Scope(known)| **known == ***scope);
    let there = || all(here.iter().map(|scope| &*scope.0));
    let wrong = match asked.iter().find(|scope| !known(scope)) {
        Some(strange) => format!("`{}` is no scope here: there are {}", shown(strange), there()),
        None if asked.is_empty() => format!("`scopes` has one at least of {}", there()),
        None => return Ok(asked),
    };
    Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &wrong).into())
}

/// Whether a text is an address that a browser may load: absolute, by http or https, without a password in it.
fn is_web_address(text: &str) -> bool {
    let uri: Option<http::Uri> = text.parse().ok();
    uri.is_some_and(|uri| {
        let host = uri.authority().filter(|authority| !authority.as_str().contains('@')).map_or("", http::uri::Authority::host);
        matches!(uri.scheme_str(), Some("http" | "https")) && !host.is_empty()
    })
}

/// How many of these fit into so many octets; the first one in any case.
fn fitting(all: impl Iterator<Item = usize>, octets: usize) -> usize {
    let mut sum = 0_usize;
    let sums = all.map(|one| {
        sum = sum.saturating_add(one);
        sum
    });
    sums.enumerate().take_while(|(place, sum)| *place == 0 || *sum <= octets).count()
}

/// What is withdrawn is not there any more, whatever is left to be done for it.
const fn is_there(record: &ResourceRecord) -> bool {
    !matches!(record.state, State::Unwanted { .. })
}

/// Lets a change come to its end though its caller goes away.
async fn to_its_end<T: 'static>(change: impl Future<Output = Result<T, Trouble>> + 'static) -> Result<T, Answer> {
    match tokio::task::spawn_local(change).await {
        Ok(outcome) => outcome.map_err(|trouble| failed(&trouble)),
        Err(_) => Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed")),
    }
}

fn failed(trouble: &Trouble) -> Answer {
    match trouble {
        Trouble::Store(StoreError::Unfit(_)) => {}
        Trouble::Store(error) => tracing::error!(error = error as &dyn std::error::Error, "the records of shares failed"),
        Trouble::Refused(error) | Trouble::Unreachable(error) => tracing::warn!(%error, "a share could not be changed at the authorization server"),
        _ => {}
    }
    troubled(trouble)
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn a_page_has_as_many_as_fit_and_never_none() {
        for (sizes, expected) in [(&[][..], 0), (&[11], 1), (&[11, 1], 1), (&[4, 6, 0], 3), (&[4, 6, 1], 2), (&[0, 11], 1), (&[0, 0], 2)] {
            assert_eq!(fitting(sizes.iter().copied(), 10), expected, "{sizes:?}");
        }
    }
}
