//! Route mode `uma`: from a routed request to a permit, or to the answer that the decision table has for it.
//!
//! [`Judge::at_once`] decides what the caches already know, without waiting and almost without allocating; [`Judge::judge`] asks the control thread for the
//! rest. Both walk the same stages in the order of the table.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::time::Instant;

use super::ask::{Control, Failed, Introspected, NoTicket, Question, Refused};
use super::config::Limits;
use super::decision::{Decision, Need, decide, granted, suffices};
use super::limits::bucket;
use super::permit::Permit;
use super::token::present;
use crate::authorization_server::{AskError, Config, Declared, ResourceKey, Resources, Seen, TicketError};
use crate::cache::{CacheKey, Entry, Introspections, Lookup};
use crate::response::{Rejection, Row, UnreachableStatus};
use crate::routing::{Client, LimitKey, Protect, ResourceChoice, Route, ScopesMatch};
use crate::telemetry::{CacheState, Recorder};
use crate::uma::{ResourceId, Rpt, Scope, Timestamp, TokenError, uma_challenge};

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
    fn weigh(&self, case: &Case, resource: &ResourceId, entry: &Arc<Entry>, token: &Rpt, key: CacheKey, now: Instant) -> Known {
        let need = Need { server: &case.server, resource, scopes: &case.scopes, scopes_match: case.scopes_match };
        let decision = decide(&need, entry.introspection(), Timestamp::now());
        note(case, resource, entry, &decision);
        match decision {
            Decision::Permit { .. } if !entry.asks_live() => Known::Permit(Permit::of(Arc::clone(entry))),
            Decision::Permit { .. } => match self.cache.live(key, resource) {
                Some(live)
                    if live.age(now) < case.server.max_age && live.granted().is_some_and(|granted| suffices(&case.scopes, case.scopes_match, granted)) =>
                {
                    if live.wants_renewal(&case.server, now) {
                        self.control.tell(Question::RenewLive { server: case.server.identity, token: token.clone(), key, resource: resource.clone() });
                    }
                    Known::Permit(Permit::of(Arc::clone(entry)))
                }
                // A "no" is believed for `negative_max_age` only, so that a new grant is soon seen.
                Some(live) if live.age(now) < case.server.negative_max_age => {
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

    /// Row I1, or I2 with a renewal on its way.
    fn renew_ahead(&self, case: &Case, entry: &Entry, token: &Rpt, key: CacheKey, now: Instant) -> Row {
        if !entry.wants_renewal(now) {
            return Row::I1;
        }
        self.control.tell(Question::RenewIntrospection { server: case.server.identity, token: token.clone(), key });
        Row::I2
    }

    /// All stages, waiting where somebody must be asked.
    ///
    /// # Errors
    /// The answer that the table has for this request.
    pub async fn judge(&self, case: Box<Case>) -> Result<Permit, Rejection> {
        let started = Instant::now();
        let result = self.walk(&case).await;
        case.recorder.with(|record| record.authorization_server = started.elapsed());
        result
    }

    async fn walk(&self, case: &Case) -> Result<Permit, Rejection> {
        let resource = self.resource(case).await?;
        let Some((token, key)) = &case.token else {
            case.recorder.pass(Row::D15);
            return Err(self.challenge(case, &resource, None).await);
        };
        let now = Instant::now();
        let (mut entry, mut fresh) = match self.cache.look_up(key, now) {
            Lookup::Active(entry) => {
                case.recorder.with(|record| record.cache = CacheState::Hit(entry.age(now)));
                case.recorder.pass(self.renew_ahead(case, &entry, token, *key, now));
                (entry, false)
            }
            Lookup::Inactive => {
                case.recorder.with(|record| record.cache = CacheState::NegativeHit);
                case.recorder.pass(Row::I3);
                return Err(self.challenge(case, &resource, Some(TokenError::InvalidToken)).await);
            }
            known @ (Lookup::Stale | Lookup::Unknown) => {
                case.recorder.with(|record| record.cache = CacheState::Miss);
                let row = if matches!(known, Lookup::Stale) { Row::I7a } else { Row::I6 };
                match self.introspect(case, token, *key, case.bucket.clone()).await {
                    Ok(entry) => (entry, true),
                    Err(Unjudged::Limited(after)) => return Err(Rejection::TooManyIntrospections(after)),
                    Err(Unjudged::Refused) => return Err(self.challenge(case, &resource, Some(TokenError::InvalidToken)).await),
                    Err(Unjudged::Failed(error)) => return Err(unjudged(case, row, &error)),
                }
            }
        };
        loop {
            match self.weigh(case, &resource, &entry, token, *key, Instant::now()) {
                Known::Permit(permit) => {
                    case.recorder.pass(Row::E10);
                    return Ok(permit);
                }
                Known::NeedsLive(entry) => return self.live(case, &resource, &entry, token, *key).await,
                Known::Challenge(reason, row) => {
                    case.recorder.pass(row);
                    if row == Row::E1 {
                        self.cache.drop_entry(key);
                    }
                    return Err(self.challenge(case, &resource, Some(reason)).await);
                }
                Known::Refuse(rejection) => return Err(rejection),
                Known::Insufficient(known) if !fresh && known.age(Instant::now()) > MIN_REFRESH => {
                    case.recorder.pass(Row::E7);
                    fresh = true;
                    // The cache holds this token, so it does not count against the client's introspections.
                    entry = match self.introspect(case, token, *key, None).await {
                        Ok(entry) => entry,
                        Err(Unjudged::Refused) => return Err(self.challenge(case, &resource, Some(TokenError::InvalidToken)).await),
                        Err(_) => return Err(self.challenge(case, &resource, Some(TokenError::InsufficientScope)).await),
                    };
                }
                Known::Insufficient(_) => {
                    case.recorder.pass(Row::E8);
                    return Err(self.challenge(case, &resource, Some(TokenError::InsufficientScope)).await);
                }
            }
        }
    }

    /// Rows D10 and D11: the resource that the route leads to.
    async fn resource(&self, case: &Case) -> Result<ResourceId, Rejection> {
        if let Some(known) = self.known_resource(case) {
            return known;
        }
        let Wanted::Named { key, declared } = &case.resource else { return Err(Rejection::Internal) };
        let question =
            |reply| Question::Resource { server: case.server.identity, key: key.clone(), declared: declared.clone(), bucket: case.bucket.clone(), reply };
        match self.control.ask(question, case.deadline).await {
            Ok(Ok(Some(id))) => {
                case.recorder.with(|record| record.resource = Some(id.clone()));
                Ok(id)
            }
            Ok(Ok(None)) => Err(Rejection::NoResource),
            Ok(Err(Failed::Limited(after))) => Err(Rejection::TooManyTickets(after)),
            Ok(Err(Failed::Server(error))) | Err(error) => Err(match (declared, &case.token) {
                (Some(_), _) => no_ticket(case, Row::D11),
                (None, Some(_)) => unjudged(case, Row::I6, &error),
                (None, None) => no_ticket(case, if matches!(error, AskError::Resting | AskError::NoPat(_)) { Row::C2 } else { Row::C7 }),
            }),
        }
    }

    /// Rows I4 to I10.
    async fn introspect(&self, case: &Case, token: &Rpt, key: CacheKey, bucket: Option<LimitKey>) -> Result<Arc<Entry>, Unjudged> {
        let question = |reply| Question::Introspect { server: case.server.identity, token: token.clone(), key, bucket, reply };
        match self.control.ask(question, case.deadline).await {
            Ok(Ok(Introspected { outcome, renewed })) => {
                if renewed {
                    case.recorder.pass(Row::I8);
                }
                case.recorder.pass(match &outcome {
                    Ok(_) => Row::I4,
                    Err(Refused::Inactive) => Row::I5,
                    Err(Refused::Malformed) => Row::I9,
                });
                outcome.map_err(|_| Unjudged::Refused)
            }
            Ok(Err(Failed::Limited(after))) => Err(Unjudged::Limited(after)),
            Ok(Err(Failed::Server(error))) | Err(error) => {
                match &error {
                    AskError::CredentialRefused(_) => case.recorder.pass(Row::I8),
                    AskError::NoPat(_) => case.recorder.pass(Row::I10),
                    _ => {}
                }
                Err(Unjudged::Failed(error))
            }
        }
    }

    /// Rows E8a to E8c.
    async fn live(&self, case: &Case, resource: &ResourceId, entry: &Arc<Entry>, token: &Rpt, key: CacheKey) -> Result<Permit, Rejection> {
        let question = |reply| Question::Live { server: case.server.identity, token: token.clone(), key, resource: resource.clone(), reply };
        match self.control.ask(question, case.deadline).await {
            Ok(Ok(live)) if live.granted().is_some_and(|granted| suffices(&case.scopes, case.scopes_match, granted)) => {
                case.recorder.pass(Row::E8b);
                case.recorder.pass(Row::E10);
                Ok(Permit::of(Arc::clone(entry)))
            }
            Ok(Ok(live)) => {
                case.recorder.pass(Row::E8a);
                case.recorder.with(|record| record.granted = live.granted().unwrap_or_default().to_vec());
                Err(self.challenge(case, resource, Some(TokenError::InsufficientScope)).await)
            }
            Ok(Err(error)) | Err(error) => Err(unjudged(case, Row::E8c, &error)),
        }
    }

    /// Rows C1 to C7: a ticket for exactly this resource and these scopes.
    async fn challenge(&self, case: &Case, resource: &ResourceId, reason: Option<TokenError>) -> Rejection {
        if self.dry {
            return Rejection::PermissionRequired { challenge: HeaderValue::from_static("UMA"), open_with: None };
        }
        let forget = match &case.resource {
            Wanted::Named { key, .. } => Some(key.clone()),
            Wanted::Id(_) => None,
        };
        let question = |reply| Question::Ticket {
            server: case.server.identity,
            resource: resource.clone(),
            scopes: Arc::clone(&case.scopes),
            forget,
            bucket: case.bucket.clone(),
            deadline: case.deadline,
            reply,
        };
        let answer = match self.control.ask(question, case.deadline).await {
            Ok(answer) => answer,
            Err(_) => return no_ticket(case, Row::C7),
        };
        if answer.renewed {
            case.recorder.pass(Row::C6);
        }
        let ticket = match answer.outcome {
            Ok(ticket) => ticket,
            Err(NoTicket::Limited(after)) => return Rejection::TooManyTickets(after),
            Err(NoTicket::Server(error)) => return no_ticket(case, ticketless(&error)),
        };
        match uma_challenge(&case.server.realm, &case.server.issuer, reason, &ticket) {
            Ok(challenge) => {
                case.recorder.with(|record| record.ticket_issued = true);
                Rejection::PermissionRequired { challenge, open_with: self.open_with(case) }
            }
            Err(_) => no_ticket(case, Row::C7),
        }
    }

    fn open_with(&self, case: &Case) -> Option<String> {
        let address = percent_encoding::utf8_percent_encode(case.address.as_deref()?, percent_encoding::NON_ALPHANUMERIC).to_string();
        Some(self.open_with.as_deref()?.replace("{url}", &address))
    }
}

enum Unjudged {
    Limited(Duration),
    Refused,
    Failed(AskError),
}

/// The row of a permission request that gave no ticket.
const fn ticketless(error: &TicketError) -> Row {
    match error {
        TicketError::InvalidResource => Row::C4,
        TicketError::Refused(_) => Row::C5,
        TicketError::NoPat(_) | TicketError::Failed(AskError::Resting) => Row::C2,
        TicketError::Failed(AskError::CredentialRefused(_)) => Row::C6,
        TicketError::Failed(_) => Row::C7,
    }
}

/// UNR where no ticket could be had: 403, as the specification's example.
fn no_ticket(case: &Case, row: Row) -> Rejection {
    Rejection::Unreachable { row, status: case.server.on_unreachable.unwrap_or(UnreachableStatus::Forbidden) }
}

/// UNR where a token could not be judged: 503, an outage looks like one. A gateway that is itself too busy says so.
fn unjudged(case: &Case, row: Row, error: &AskError) -> Rejection {
    match error {
        AskError::Busy => Rejection::Overloaded,
        _ => Rejection::Unreachable { row, status: case.server.on_unreachable.unwrap_or(UnreachableStatus::Unavailable) },
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
