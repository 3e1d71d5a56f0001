//! Route mode `uma`: from a routed request to a permit, or to the answer that the decision table has for it.
//!
//! [`Judge::at_once`] decides what the caches already know, without waiting and almost without allocating; [`Judge::judge`] asks the control thread for the
//! rest. Both walk the same stages in the order of the table.

mod leash;
mod standing;
mod walk;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::ask::{Control, Forget, Question};
use super::config::Limits;
use super::decision::{Decision, Need, decide, granted, suffices};
use super::follow::Follower;
use super::guesses::Guesses;
use super::limits::bucket;
use super::permit::Permit;
use super::token::present;
use crate::authorization_server::{AskError, Config, Declared, PatSource, PathResource, ResourceKey, Resources, Seen, ServerIdentity, UriKey};
use crate::cache::{CacheKey, Entry, Introspections, LiveEntry, Lookup, Memo};
use crate::path::{CanonicalPath, spelling};
use crate::response::{Rejection, Row, UnreachableStatus};
use crate::routing::{Client, LimitKey, Link, Protect, ResourceChoice, Route, ScopesMatch, Template};
use crate::store::{Lookup as Records, Registered, UNREAD};
use crate::telemetry::{CacheState, Recorder};
use crate::uma::{ResourceId, Rpt, Scope, Timestamp, TokenError};

pub use standing::Standing;

/// An insufficient answer younger than this is not asked again: an upgraded token keeps its string, but not every refusal is news.
const MIN_REFRESH: Duration = Duration::from_secs(1);

/// Why nothing can be asked for an owner who links the gateway.
pub const NOT_LINKED: &str = "the owner has to link the gateway";
/// The same for an owner whose password the configuration has.
pub const OWNER_REFUSED: &str = "the authorization server refuses the owner's password or consent";

/// What a worker decides with. Cheap to clone.
#[derive(Clone)]
pub struct Judge {
    /// The introspection cache.
    pub cache: Arc<Introspections>,
    /// The resources that are known.
    pub resources: Resources,
    /// What owners have registered.
    pub records: Records,
    /// The way to the control thread.
    pub control: Control,
    /// The way to the records, for what content servers make and delete.
    pub follower: Follower,
    /// Wrong credentials at guards.
    pub guesses: Guesses,
    /// Only to explain: no ticket is asked for.
    pub dry: bool,
}

/// One request, as far as the decision needs it while somebody is asked.
pub struct Case {
    server: Arc<Config>,
    route: Arc<Route>,
    resource: Wanted,
    /// The resource that was meant when it was judged.
    found: OnceCell<ResourceId>,
    scopes: Arc<[Scope]>,
    /// What a ticket asks for, where that is not the same.
    offered: Option<Arc<[Scope]>>,
    scopes_match: ScopesMatch,
    token: Option<(Rpt, CacheKey)>,
    bucket: Option<LimitKey>,
    open_with: Option<OpenWith>,
    recorder: Recorder,
    deadline: Instant,
}

/// The client application's address, and the address that was asked for.
struct OpenWith {
    template: Arc<str>,
    address: String,
}

/// What a request wants, as it stands in the request: a hit needs no copy of it.
struct Wish<'a> {
    scopes: &'a Arc<[Scope]>,
    resource: Wanted,
    token: Option<&'a str>,
}

/// What an answer about a token is weighed against.
#[derive(Clone, Copy)]
struct View<'a> {
    server: &'a Arc<Config>,
    scopes: &'a Arc<[Scope]>,
    scopes_match: ScopesMatch,
    resource: &'a ResourceId,
    owner: Option<&'a Arc<str>>,
    token: &'a str,
    key: CacheKey,
    recorder: &'a Recorder,
    now: Instant,
}

enum Wanted {
    /// Nothing but a token with scopes.
    Token,
    Id {
        id: ResourceId,
        owner: Option<Arc<str>>,
    },
    Named {
        key: ResourceKey,
        declared: Option<Arc<Declared>>,
    },
    /// What an owner has registered.
    Shared(Arc<Registered>),
    /// What the server has at the path.
    AtPath(UriKey),
}

/// What a found resource is held against.
#[derive(Clone, Copy)]
struct On<'a> {
    server: &'a Config,
    route: &'a Route,
    scopes: &'a Arc<[Scope]>,
    scopes_match: ScopesMatch,
    has_token: bool,
    recorder: &'a Recorder,
}

impl Wanted {
    /// Whose it is, as far as the route says so.
    fn owner(&self) -> Option<&Arc<str>> {
        match self {
            Self::Token | Self::AtPath(_) => None,
            Self::Id { owner, .. } => owner.as_ref(),
            Self::Named { key, .. } => key.owner.as_ref(),
            Self::Shared(share) => Some(&share.owner),
        }
    }

    /// What is forgotten when the server does not know the resource any more.
    fn forgotten(&self) -> Option<Forget> {
        match self {
            Self::Named { key, .. } => Some(Forget::Named(key.clone())),
            Self::AtPath(key) => Some(Forget::Path(key.clone())),
            Self::Token | Self::Id { .. } | Self::Shared(_) => None,
        }
    }
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
    pub route: &'a Arc<Route>,
    /// Its protection.
    pub protect: &'a Protect,
    /// The path.
    pub path: &'a CanonicalPath,
    /// The link that named it.
    pub link: Option<&'a Link>,
    /// Fills the path parameters into a template.
    pub fill: &'a dyn Fn(&Template) -> Arc<str>,
    /// The method.
    pub method: &'a Method,
    /// Headers.
    pub headers: &'a http::HeaderMap,
    /// Query, without the question mark.
    pub query: Option<&'a str>,
    /// The effective client.
    pub client: &'a Client,
    /// What clients may cause, in the configuration that this request sees.
    pub limits: &'a Limits,
    /// `open_with`, likewise.
    pub open_with: Option<&'a Arc<str>>,
    /// The address asked for, for `open_with`.
    pub address: &'a dyn Fn() -> String,
    /// The record.
    pub recorder: &'a Recorder,
}

impl Judge {
    /// Rows D9 to D15 and whatever the caches answer. `memo` is the worker's own.
    #[must_use]
    pub fn at_once(&self, asked: &Asked<'_>, memo: &mut Memo) -> AtOnce {
        let wish = match self.wish(asked) {
            Ok(wish) => wish,
            Err(rejection) => return AtOnce::Refuse(rejection),
        };
        let (server, recorder, now) = (&asked.protect.server, asked.recorder, Instant::now());
        let (owner, identity) = (wish.resource.owner(), server.identity_for(wish.resource.owner().map(|owner| &**owner)));
        let token = wish.token.map(|token| {
            let (key, known) = memo.look_up(&self.cache, identity, token, now);
            recorder.with(|record| record.token = Some(key.short()));
            (token, key, known)
        });
        if token.is_some() && self.resources.is_closed(identity) {
            return AtOnce::Refuse(closed(server, owner, recorder));
        }
        let on = On { server, route: asked.route, scopes: wish.scopes, scopes_match: asked.protect.scopes_match, has_token: token.is_some(), recorder };
        let resource = match self.known_resource(&wish.resource, &on) {
            Some(Err(rejection)) => return AtOnce::Refuse(rejection),
            Some(Ok(resource)) => Some(resource),
            None => None,
        };
        if let (Some(resource), Some((token, key, Lookup::Active(entry)))) = (&resource, &token) {
            let scopes_match = asked.protect.scopes_match;
            let view = View { server, scopes: wish.scopes, scopes_match, resource, owner, token, key: *key, recorder, now };
            match self.weigh(&view, entry, || memo.live(&self.cache, identity, token, *key, resource)) {
                Known::Permit(permit) => {
                    recorder.with(|record| record.cache = CacheState::Hit(entry.age(now)));
                    recorder.pass(self.renew_ahead(&view, entry));
                    recorder.pass(Row::E10);
                    self.count_live(entry, true);
                    return AtOnce::Permit(permit);
                }
                Known::Refuse(rejection) => {
                    recorder.with(|record| record.cache = CacheState::Hit(entry.age(now)));
                    recorder.pass(Row::I1);
                    return AtOnce::Refuse(rejection);
                }
                _ => {}
            }
        }
        let token = token.map(|(token, key, _)| (Rpt(token.into()), key));
        AtOnce::Ask(Box::new(Case::new(asked, wish.resource, wish.scopes, token, now)))
    }

    /// Reads the request (rows D9, D10, D12 to D14) and fills its record.
    fn wish<'a>(&self, asked: &Asked<'a>) -> Result<Wish<'a>, Rejection> {
        let Some(scopes) = asked.route.needs(asked.method) else { return Err(Rejection::MethodNotMapped(asked.route.allow())) };
        let server = &asked.protect.server;
        let resource = self.wanted(asked)?;
        asked.recorder.with(|record| {
            record.server = Some(Arc::clone(&server.name));
            record.needed = Arc::clone(scopes);
            match &resource {
                Wanted::Token | Wanted::AtPath(_) => {}
                Wanted::Id { id, owner } => {
                    record.resource = Some(id.clone());
                    record.owner.clone_from(owner);
                }
                Wanted::Named { key, .. } => {
                    record.resource_name = Some(Arc::clone(&key.name));
                    record.owner.clone_from(&key.owner);
                }
                Wanted::Shared(share) => {
                    record.resource = Some(ResourceId(Arc::clone(&share.resource_id)));
                    record.owner = Some(Arc::clone(&share.owner));
                }
            }
        });
        if let Wanted::Shared(share) = &resource
            && !offers(share, scopes, asked.protect.scopes_match)
        {
            return Err(Rejection::MethodNotMapped(asked.route.allow_of(|scopes| offers(share, scopes, asked.protect.scopes_match))));
        }
        // D10 comes before the token's own rows, but only what is known already counts here.
        if let Wanted::Named { key, declared: None } = &resource
            && self.resources.see(key) == Seen::Unknown
        {
            return Err(Rejection::NoResource);
        }
        if let Wanted::AtPath(key) = &resource
            && self.resources.see_path(key, Instant::now()) == Some(PathResource::None)
        {
            return Err(Rejection::NoResource);
        }
        Ok(Wish { scopes, resource, token: present(asked.headers, asked.query, server.rpt_header.as_ref())? })
    }

    /// The resource that the route leads to. Row D10, where it is one that somebody would have had to register.
    fn wanted(&self, asked: &Asked<'_>) -> Result<Wanted, Rejection> {
        let server = &asked.protect.server;
        let key = |name: &Template, owner: &Option<Template>| {
            let says = |place| name.parameters().any(|other| other == place);
            let alone = owner.as_ref().is_none_or(|owner| owner.parameters().all(says) && name.is_clear(&[], asked.route.config().opt_ins.encoded_slash));
            ResourceKey { server: server.identity, owner: owner.as_ref().map(asked.fill), name: (asked.fill)(name), alone }
        };
        Ok(match &asked.protect.resource {
            ResourceChoice::Token => Wanted::Token,
            ResourceChoice::Id { id, owner } => Wanted::Id { id: ResourceId(Arc::clone(id)), owner: owner.as_ref().map(asked.fill) },
            ResourceChoice::Name { name, owner } => Wanted::Named { key: key(name, owner), declared: None },
            ResourceChoice::Register { name, kind, scopes, owner } => {
                let key = key(name, owner);
                let declared = Declared { key: key.clone(), kind: kind.clone(), icon_uri: None, scopes: Arc::clone(scopes) };
                Wanted::Named { key, declared: Some(Arc::new(declared)) }
            }
            ResourceChoice::Shared { owner } => Wanted::Shared(self.shared(asked, owner.as_ref())?),
            ResourceChoice::Uris => Wanted::AtPath(UriKey { server: server.identity, path: spelling(asked.path).into() }),
        })
    }

    /// The record that the path belongs to, if it is of an owner who may have something here, and the content is where it was when it was registered.
    fn shared(&self, asked: &Asked<'_>, owner: Option<&Template>) -> Result<Arc<Registered>, Rejection> {
        let closed = |reason: &'static str| {
            asked.recorder.with(|record| record.reason = Some(reason.into()));
            Rejection::NoResource
        };
        if !self.records.is_open() {
            return Err(closed(UNREAD));
        }
        let share = self.records.at(&asked.protect.server.issuer, asked.path).ok_or_else(|| closed("nobody has shared this path"))?;
        if owner.is_some_and(|owner| *(asked.fill)(owner) != *share.owner) || *share.upstream != *asked.route.config().upstream_name {
            return Err(closed("the configuration is another one than when this path was shared"));
        }
        // What stands below a share may lead to a route that is the operator's alone: no owner has shared anything of that.
        let of_route = |path: &str| asked.route.config().pattern.takes(path.strip_suffix("/**").unwrap_or(path));
        if owner.is_none() && !share.path.as_deref().is_some_and(of_route) {
            return Err(closed("what is shared above this route is not this route's"));
        }
        // A more exact record may have the path that a link leads to.
        if asked.link.is_some_and(|link| link.record.key != share.key) {
            return Err(closed("another share has the path of this link"));
        }
        Ok(share)
    }

    fn known_resource(&self, wanted: &Wanted, on: &On<'_>) -> Option<Result<ResourceId, Rejection>> {
        match wanted {
            Wanted::Token => Some(Ok(ResourceId::of_token())),
            Wanted::Id { id, .. } => Some(Ok(id.clone())),
            Wanted::Shared(share) => Some(Ok(ResourceId(Arc::clone(&share.resource_id)))),
            Wanted::Named { key, declared } => match self.resources.see(key) {
                Seen::Known(id) => {
                    on.recorder.with(|record| record.resource = Some(id.clone()));
                    Some(Ok(id))
                }
                Seen::Unknown if declared.is_none() => Some(Err(Rejection::NoResource)),
                Seen::Unknown | Seen::Unasked => None,
            },
            Wanted::AtPath(key) => self.resources.see_path(key, Instant::now()).map(|place| on.reaches(&place)),
        }
    }

    /// The stages E and the live decision, as far as the caches know; `live` finds what the server granted last.
    fn weigh(&self, view: &View<'_>, entry: &Arc<Entry>, live: impl FnOnce() -> Option<Arc<LiveEntry>>) -> Known {
        let View { server, scopes, scopes_match, resource, now, .. } = *view;
        let time = Timestamp::now();
        let decision = decide(&Need { server, resource, scopes, scopes_match }, entry.introspection(), time);
        note(view, entry, &decision, time);
        if matches!(decision, Decision::Permit { leniently: true, .. }) && !self.dry {
            let (server, id) = (&*server.name, view.recorder.id());
            tracing::warn!(authorization_server = server, id = &*id.0, resource = %resource, "a permission without scopes or resource was read leniently");
        }
        match decision {
            Decision::Permit { .. } if !entry.asks_live() => Known::Permit(Permit::of(Arc::clone(entry))),
            Decision::Permit { .. } => match live().map(|live| (grants(scopes, scopes_match, &live), live)) {
                Some((true, live)) if live.age(now) < server.max_age => {
                    if live.wants_renewal(server, now) {
                        self.control.tell(Question::RenewLive { server: server.identity, token: view.rpt(), key: view.key, resource: resource.clone() });
                    }
                    Known::Permit(Permit::of(Arc::clone(entry)))
                }
                // A "no" is believed for `negative_max_age` only, so that a new grant is soon seen. A "yes" that is too old is no "no".
                Some((false, live)) if live.age(now) < server.negative_max_age => {
                    view.recorder.with(|record| record.granted = live.granted().unwrap_or_default().to_vec());
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
    fn renew_ahead(&self, view: &View<'_>, entry: &Entry) -> Row {
        if !entry.wants_renewal(view.now) {
            return Row::I1;
        }
        self.control.tell(Question::RenewIntrospection { server: view.server.identity, owner: view.owner.cloned(), token: view.rpt(), key: view.key });
        Row::I2
    }
}

impl On<'_> {
    /// The resource at the path, if there is one and it has the scopes that the method needs.
    fn reaches(&self, place: &PathResource) -> Result<ResourceId, Rejection> {
        let found = match place {
            PathResource::One(found) => found,
            PathResource::None => return Err(Rejection::NoResource),
            PathResource::Unclear(why) => {
                self.recorder.with(|record| record.reason = Some((*why).into()));
                let (row, usual) = if self.has_token { (Row::I6, UnreachableStatus::Unavailable) } else { (Row::C7, UnreachableStatus::Forbidden) };
                return Err(Rejection::Unreachable { row, status: self.server.on_unreachable.unwrap_or(usual) });
            }
        };
        self.recorder.with(|record| {
            record.resource = Some(found.id.clone());
            record.resource_name = Some(Arc::clone(&found.name));
            record.owner.clone_from(&found.owner);
        });
        let has = |scope: &Scope| found.scopes.contains(scope);
        if has_enough(self.scopes, self.scopes_match, has) {
            Ok(found.id.clone())
        } else {
            Err(Rejection::MethodNotMapped(self.route.allow_of(|scopes| has_enough(scopes, self.scopes_match, has))))
        }
    }
}

impl Case {
    /// Where the token of the resource's owner comes from, where it has one.
    fn source(&self) -> Option<&PatSource> {
        self.server.owners.get(self.resource.owner()?).map(|owner| &owner.source)
    }

    /// What stands for the owner of the resource, or for the server.
    fn owner_identity(&self) -> ServerIdentity {
        self.server.identity_for(self.resource.owner().map(|owner| &**owner))
    }

    /// What is left of the request's time for the authorization server.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Writes down why nobody could be asked, or what was wrong with the answer.
    fn note(&self, error: &AskError) {
        let reason = if error.needs_consent() { lacks(self.source()).into() } else { error.to_string().into() };
        self.recorder.with(|record| record.reason = Some(reason));
    }

    fn on(&self) -> On<'_> {
        let Self { server, route, scopes, scopes_match, token, recorder, .. } = self;
        On { server, route, scopes, scopes_match: *scopes_match, has_token: token.is_some(), recorder }
    }

    fn new(asked: &Asked<'_>, resource: Wanted, scopes: &Arc<[Scope]>, token: Option<(Rpt, CacheKey)>, now: Instant) -> Self {
        let server = &asked.protect.server;
        let offered = match &resource {
            Wanted::Shared(share) => Some(offered(share, scopes, asked.link.is_some())),
            Wanted::Token | Wanted::Id { .. } | Wanted::Named { .. } | Wanted::AtPath(_) => None,
        };
        Self {
            server: Arc::clone(server),
            route: Arc::clone(asked.route),
            found: OnceCell::new(),
            resource,
            scopes: Arc::clone(scopes),
            offered,
            scopes_match: asked.protect.scopes_match,
            token,
            bucket: bucket(asked.limits, asked.client),
            open_with: asked.open_with.map(|template| OpenWith { template: Arc::clone(template), address: (asked.address)() }),
            recorder: asked.recorder.clone(),
            deadline: now + server.timeout,
        }
    }
}

impl View<'_> {
    /// A copy of the token, for whoever has to ask with it.
    fn rpt(&self) -> Rpt {
        Rpt(self.token.into())
    }
}

/// What an owner has to do for whom nothing can be asked.
const fn lacks(source: Option<&PatSource>) -> &'static str {
    if matches!(source, Some(PatSource::Code { .. })) { NOT_LINKED } else { OWNER_REFUSED }
}

/// Row I10 of an owner who has to consent: what is theirs is closed to whoever has a token, too.
fn closed(server: &Config, owner: Option<&Arc<str>>, recorder: &Recorder) -> Rejection {
    let source = owner.and_then(|owner| server.owners.get(owner)).map(|owner| &owner.source);
    recorder.with(|record| record.reason = Some(lacks(source).into()));
    Rejection::Unreachable { row: Row::I10, status: server.on_unreachable.unwrap_or(UnreachableStatus::Unavailable) }
}

/// The scopes of a share that a ticket asks for: all of them where the share itself was named, by its link; else those that are needed and that it has.
fn offered(share: &Registered, needed: &[Scope], by_link: bool) -> Arc<[Scope]> {
    let has = |scope: &Scope| share.scopes.iter().any(|own| **own == *scope.0);
    if by_link { share.scopes.iter().map(|scope| Scope((&**scope).into())).collect() } else { needed.iter().filter(|scope| has(scope)).cloned().collect() }
}

/// Whether a share has the scopes that a method needs, so that they could be granted at all.
fn offers(share: &Registered, needed: &[Scope], scopes_match: ScopesMatch) -> bool {
    has_enough(needed, scopes_match, |scope| share.scopes.iter().any(|own| **own == *scope.0))
}

/// Whether a resource with such scopes has those that a method needs.
fn has_enough(needed: &[Scope], scopes_match: ScopesMatch, has: impl Fn(&Scope) -> bool) -> bool {
    match scopes_match {
        _ if needed.is_empty() => true,
        ScopesMatch::All => needed.iter().all(has),
        ScopesMatch::Any => needed.iter().any(has),
    }
}

/// Whether a live decision suffices for the request.
fn grants(scopes: &[Scope], scopes_match: ScopesMatch, live: &LiveEntry) -> bool {
    live.granted().is_some_and(|granted| suffices(scopes, scopes_match, granted))
}

/// Writes down who asks and what the token has.
fn note(view: &View<'_>, entry: &Entry, decision: &Decision, time: Timestamp) {
    let introspection = entry.introspection();
    view.recorder.with(|record| {
        record.subject.clone_from(&introspection.subject);
        record.username.clone_from(&introspection.username);
        record.client_id.clone_from(&introspection.client);
        record.token_left = introspection.exp.map(|exp| exp.after(time));
        if *decision == Decision::Insufficient {
            record.granted = granted(view.resource, introspection, time);
        }
        record.reason = Some(decision.reason().into());
    });
}
