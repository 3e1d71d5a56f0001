//! Route mode `uma`: from a routed request to a permit, or to the answer that the decision table has for it.
//!
//! [`Judge::at_once`] decides what the caches already know, without waiting and almost without allocating; [`Judge::judge`] asks the control thread for the
//! rest. Both walk the same stages in the order of the table.

mod walk;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::ask::{Control, Question};
use super::config::Limits;
use super::decision::{Decision, Need, decide, granted, suffices};
use super::limits::bucket;
use super::permit::Permit;
use super::token::present;
use crate::authorization_server::{Config, Declared, ResourceKey, Resources, Seen};
use crate::cache::{CacheKey, Entry, Introspections, LiveEntry, Lookup};
use crate::response::{Rejection, Row};
use crate::routing::{Client, LimitKey, Protect, ResourceChoice, Route, ScopesMatch};
use crate::telemetry::{CacheState, Recorder};
use crate::uma::{ResourceId, Rpt, Scope, Timestamp, TokenError};

/// An insufficient answer younger than this is not asked again: an upgraded token keeps its string, but not every refusal is news.
const MIN_REFRESH: Duration = Duration::from_secs(1);

/// What a worker decides with. Cheap to clone.
#[derive(Clone)]
pub struct Judge {
    /// The introspection cache.
    pub cache: Arc<Introspections>,
    /// The resources that are known.
    pub resources: Resources,
    /// The way to the control thread.
    pub control: Control,
    /// What clients may cause.
    pub limits: Arc<Limits>,
    /// `open_with`.
    pub open_with: Option<Arc<str>>,
    /// Only to explain: no ticket is asked for.
    pub dry: bool,
}

/// One request, as far as the decision needs it.
pub struct Case {
    server: Arc<Config>,
    resource: Wanted,
    scopes: Arc<[Scope]>,
    scopes_match: ScopesMatch,
    token: Option<(Rpt, CacheKey)>,
    bucket: Option<LimitKey>,
    address: Option<String>,
    recorder: Recorder,
    deadline: Instant,
}

enum Wanted {
    Id(ResourceId),
    Named { key: ResourceKey, declared: Option<Arc<Declared>> },
}

/// What can be said without waiting.
pub enum AtOnce {
    /// Pass.
    Permit(Permit),
    /// The answer.
    Refuse(Rejection),
    /// Somebody must be asked.
    Ask(Box<Case>),
}

/// How far a request got on what is known.
enum Known {
    Permit(Permit),
    /// An entry that suffices by introspection, for whose token the live decision is missing.
    NeedsLive(Arc<Entry>),
    Insufficient(Arc<Entry>),
    /// A challenge, and the row that asks for it.
    Challenge(TokenError, Row),
    Refuse(Rejection),
}

/// What of a route and a request the judge reads.
pub struct Asked<'a> {
    /// The route.
    pub route: &'a Route,
    /// Its protection.
    pub protect: &'a Protect,
    /// Fills the path parameters into a template.
    pub fill: &'a dyn Fn(&crate::routing::Template) -> Arc<str>,
    /// The method.
    pub method: &'a Method,
    /// Headers.
    pub headers: &'a http::HeaderMap,
    /// Query, without the question mark.
    pub query: Option<&'a str>,
    /// The effective client.
    pub client: &'a Client,
    /// The address asked for, for `open_with`.
    pub address: &'a dyn Fn() -> String,
    /// The record.
    pub recorder: &'a Recorder,
}

impl Judge {
    /// Rows D9 to D15 and whatever the caches answer.
    #[must_use]
    pub fn at_once(&self, asked: &Asked<'_>) -> AtOnce {
        let case = match self.case(asked) {
            Ok(case) => case,
            Err(rejection) => return AtOnce::Refuse(rejection),
        };
        let Some(resource) = self.known_resource(&case) else { return AtOnce::Ask(Box::new(case)) };
        let resource = match resource {
            Ok(resource) => resource,
            Err(rejection) => return AtOnce::Refuse(rejection),
        };
        let Some((token, key)) = &case.token else { return AtOnce::Ask(Box::new(case)) };
        let now = Instant::now();
        if let Lookup::Active(entry) = self.cache.look_up(key, now) {
            match self.weigh(&case, &resource, &entry, token, *key, now) {
                Known::Permit(permit) => {
                    case.recorder.with(|record| record.cache = CacheState::Hit(entry.age(now)));
                    case.recorder.pass(self.renew_ahead(&case, &entry, token, *key, now));
                    case.recorder.pass(Row::E10);
                    self.count_live(&entry, true);
                    return AtOnce::Permit(permit);
                }
                Known::Refuse(rejection) => {
                    case.recorder.with(|record| record.cache = CacheState::Hit(entry.age(now)));
                    case.recorder.pass(Row::I1);
                    return AtOnce::Refuse(rejection);
                }
                _ => {}
            }
        }
        AtOnce::Ask(Box::new(case))
    }

    /// Reads the request (rows D9, D12 to D14) and fills its record.
    fn case(&self, asked: &Asked<'_>) -> Result<Case, Rejection> {
        let Some(scopes) = asked.route.needs(asked.method) else { return Err(Rejection::MethodNotMapped(asked.route.allow())) };
        let server = &asked.protect.server;
        let resource = wanted(asked, server);
        asked.recorder.with(|record| {
            record.server = Some(Arc::clone(&server.name));
            record.needed = Arc::clone(scopes);
            match &resource {
                Wanted::Id(id) => record.resource = Some(id.clone()),
                Wanted::Named { key, .. } => {
                    record.resource_name = Some(Arc::clone(&key.name));
                    record.owner.clone_from(&key.owner);
                }
            }
        });
        // D10 comes before the token's own rows, but only what is known already counts here.
        if let Wanted::Named { key, declared: None } = &resource
            && self.resources.see(key) == Seen::Unknown
        {
            return Err(Rejection::NoResource);
        }
        let token = present(asked.headers, asked.query)?.map(|token| {
            let key = self.cache.key(server.identity, &token);
            asked.recorder.with(|record| record.token = Some(key.short()));
            (token, key)
        });
        Ok(Case {
            server: Arc::clone(server),
            resource,
            scopes: Arc::clone(scopes),
            scopes_match: asked.protect.scopes_match,
            token,
            bucket: bucket(&self.limits, asked.client),
            address: self.open_with.is_some().then(|| (asked.address)()),
            recorder: asked.recorder.clone(),
            deadline: Instant::now() + server.timeout,
        })
    }

    fn known_resource(&self, case: &Case) -> Option<Result<ResourceId, Rejection>> {
        match &case.resource {
            Wanted::Id(id) => Some(Ok(id.clone())),
            Wanted::Named { key, declared } => match self.resources.see(key) {
                Seen::Known(id) => {
                    case.recorder.with(|record| record.resource = Some(id.clone()));
                    Some(Ok(id))
                }
                Seen::Unknown if declared.is_none() => Some(Err(Rejection::NoResource)),
                Seen::Unknown | Seen::Unasked => None,
            },
        }
    }

    /// The stages E and the live decision, as far as the caches know.
    #[expect(clippy::too_many_arguments, reason = "one private function, called where each of these is at hand")]
    fn weigh(&self, case: &Case, resource: &ResourceId, entry: &Arc<Entry>, token: &Rpt, key: CacheKey, now: Instant) -> Known {
        let need = Need { server: &case.server, resource, scopes: &case.scopes, scopes_match: case.scopes_match };
        let decision = decide(&need, entry.introspection(), Timestamp::now());
        note(case, resource, entry, &decision);
        match decision {
            Decision::Permit { .. } if !entry.asks_live() => Known::Permit(Permit::of(Arc::clone(entry))),
            Decision::Permit { .. } => match self.cache.live(key, resource).map(|live| (grants(case, &live), live)) {
                Some((true, live)) if live.age(now) < case.server.max_age => {
                    if live.wants_renewal(&case.server, now) {
                        self.control.tell(Question::RenewLive { server: case.server.identity, token: token.clone(), key, resource: resource.clone() });
                    }
                    Known::Permit(Permit::of(Arc::clone(entry)))
                }
                // A "no" is believed for `negative_max_age` only, so that a new grant is soon seen. A "yes" that is too old is no "no".
                Some((false, live)) if live.age(now) < case.server.negative_max_age => {
                    case.recorder.with(|record| record.granted = live.granted().unwrap_or_default().to_vec());
                    Known::Challenge(TokenError::InsufficientScope, Row::E8a)
                }
                _ => Known::NeedsLive(Arc::clone(entry)),
            },
            Decision::Insufficient => Known::Insufficient(Arc::clone(entry)),
            Decision::Bound => Known::Refuse(Rejection::SenderConstraint),
            Decision::Expired | Decision::NotYetValid | Decision::WrongIssuer | Decision::WrongAudience => {
                Known::Challenge(TokenError::InvalidToken, decision.row())
            }
        }
    }

    /// Counts whether the live decision was there when the entry's server wants one.
    fn count_live(&self, entry: &Entry, was_there: bool) {
        if entry.asks_live() && !self.dry {
            self.cache.count_live(was_there);
        }
    }

    /// Row I1, or I2 with a renewal on its way.
    fn renew_ahead(&self, case: &Case, entry: &Entry, token: &Rpt, key: CacheKey, now: Instant) -> Row {
        if !entry.wants_renewal(now) {
            return Row::I1;
        }
        self.control.tell(Question::RenewIntrospection { server: case.server.identity, token: token.clone(), key });
        Row::I2
    }
}

fn wanted(asked: &Asked<'_>, server: &Arc<Config>) -> Wanted {
    let key = |name, owner: &Option<_>| ResourceKey { server: server.identity, owner: owner.as_ref().map(asked.fill), name: (asked.fill)(name) };
    match &asked.protect.resource {
        ResourceChoice::Id(id) => Wanted::Id(ResourceId(Arc::clone(id))),
        ResourceChoice::Name { name, owner } => Wanted::Named { key: key(name, owner), declared: None },
        ResourceChoice::Register { name, kind, scopes, owner } => {
            let key = key(name, owner);
            let declared = Declared { key: key.clone(), kind: kind.clone(), scopes: Arc::clone(scopes) };
            Wanted::Named { key, declared: Some(Arc::new(declared)) }
        }
    }
}

/// Whether a live decision suffices for the request.
fn grants(case: &Case, live: &LiveEntry) -> bool {
    live.granted().is_some_and(|granted| suffices(&case.scopes, case.scopes_match, granted))
}

/// Writes down who asks and what the token has.
fn note(case: &Case, resource: &ResourceId, entry: &Entry, decision: &Decision) {
    let introspection = entry.introspection();
    case.recorder.with(|record| {
        record.subject.clone_from(&introspection.subject);
        record.username.clone_from(&introspection.username);
        record.client_id.clone_from(&introspection.client);
        record.token_left = introspection.exp.map(|exp| exp.after(Timestamp::now()));
        if *decision == Decision::Insufficient {
            record.granted = granted(resource, introspection, Timestamp::now());
        }
        record.reason = Some(decision.reason());
    });
}
