//! The control thread's side: one flight for each question, limits, and the keeping of answers.
//!
//! Runs on the control thread's own runtime. Every call is a task of its own, so that a caller that goes away cancels nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::ask::{Control, Failed, Forget, Introspected, NoTicket, Question, Refused, Ticketed, WAITING};
use super::config::Limits;
use super::flight::{Flights, Start};
use super::limits::{Kind, Limiters, bucket};
use super::places::{Place, Places};
use crate::authorization_server::{self, Answer, AskError, Declared, PathResource, ResourceKey, Resources, Server, ServerIdentity, TicketError, UriKey};
use crate::cache::{Asking, CacheKey, Entry, Introspections, LiveEntry, Lookup};
use crate::routing::{Client, LimitKey};
use crate::uma::{ResourceId, Rpt};

/// Calls that one client may have under way at one server: a quarter of all, so that nobody takes the others' place while the server is slow.
const SHARE: usize = authorization_server::CONCURRENT_CALLS / 4;
/// When a client that has its share may ask again.
const LATER: Duration = Duration::from_secs(1);

/// Everything that talks to authorization servers on behalf of requests.
pub struct Desk {
    servers: RefCell<HashMap<ServerIdentity, Rc<Server>>>,
    cache: Arc<Introspections>,
    resources: Resources,
    limiters: RefCell<(Limits, Limiters)>,
    introspections: Flights<CacheKey, Asking, Result<Introspected, Failed>>,
    live: Flights<(CacheKey, ResourceId), Asking, Result<Arc<LiveEntry>, Failed>>,
    lookups: Flights<ResourceKey, (), Result<Option<ResourceId>, Failed>>,
    paths: Flights<UriKey, (), Result<PathResource, Failed>>,
    shares: Shares,
}

/// The channel between workers and the desk.
#[must_use]
pub fn channel() -> (Control, Questions) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Control(sender), Questions(receiver))
}

/// The desk's end of the channel.
pub struct Questions(mpsc::Receiver<Question>);

impl Desk {
    /// A desk that knows these servers.
    #[must_use]
    pub fn new(servers: Vec<Rc<Server>>, cache: Arc<Introspections>, resources: Resources, limits: &Limits) -> Rc<Self> {
        let servers = servers.into_iter().map(|server| (server.config().identity, server)).collect();
        Rc::new(Self {
            servers: RefCell::new(servers),
            cache,
            resources,
            limiters: RefCell::new((limits.clone(), Limiters::new(limits))),
            introspections: Flights::default(),
            live: Flights::default(),
            lookups: Flights::default(),
            paths: Flights::default(),
            shares: Shares::default(),
        })
    }

    /// Answers questions until every worker is gone.
    pub async fn answer(self: Rc<Self>, mut questions: Questions) {
        while let Some(question) = questions.0.recv().await {
            Rc::clone(&self).take(question);
        }
    }

    /// Knows one more server, or another one for the same section.
    pub fn add(&self, server: Rc<Server>) {
        self.servers.borrow_mut().insert(server.config().identity, server);
    }

    /// Forgets a server that no request can ask for any more.
    pub fn remove(&self, identity: ServerIdentity) {
        let removed = self.servers.borrow_mut().remove(&identity);
        if let Some(server) = removed {
            let owners: Vec<_> = server.config().owners.values().map(|owner| (owner.identity, false)).collect();
            self.resources.close(&owners);
        }
    }

    /// Other limits. Buckets stay as full as they are where the limits are what they were.
    pub fn limit_to(&self, limits: &Limits) {
        let mut limiters = self.limiters.borrow_mut();
        if limiters.0 != *limits {
            *limiters = (limits.clone(), Limiters::new(limits));
        }
    }

    /// The server of an issuer; where several sections have it, the first one by its identity.
    #[must_use]
    pub fn server_of(&self, issuer: &str) -> Option<Rc<Server>> {
        self.servers.borrow().values().filter(|server| *server.config().issuer == *issuer).min_by_key(|server| server.config().identity).cloned()
    }

    /// A server that it knows.
    #[must_use]
    pub fn server(&self, identity: ServerIdentity) -> Option<Rc<Server>> {
        self.servers.borrow().get(&identity).cloned()
    }

    /// Asks about a token that somebody shows for themselves. What the cache has of it counts only where it was refused a moment ago; each call to the server is
    /// one of the client's introspections.
    ///
    /// # Errors
    /// The client's bucket is empty, or the server gave no usable answer within its timeout.
    pub async fn introspect_bearer(&self, server: &Server, token: &Rpt, client: &Client) -> Result<authorization_server::Introspected, Failed> {
        let (config, asking) = (server.config(), self.cache.asking());
        let key = self.cache.key(config.identity, token.0.expose());
        if matches!(self.cache.look_up(&key, asking.at()), Lookup::Inactive) {
            return Ok(authorization_server::Introspected::Answer(Answer::Inactive));
        }
        let bucket = bucket(&self.limiters.borrow().0, client);
        self.limit(Kind::Introspections, bucket.as_ref()).map_err(Failed::Limited)?;
        let told = server.introspect_bearer(token, asking.at() + config.timeout).await.map_err(Failed::Server)?;
        if matches!(told, authorization_server::Introspected::Answer(Answer::Inactive)) && self.cache.is_current(asking) {
            self.cache.keep_inactive(key, asking.at() + config.negative_max_age);
        }
        Ok(told)
    }

    fn limit(&self, kind: Kind, bucket: Option<&crate::routing::LimitKey>) -> Result<(), Duration> {
        self.limiters.borrow().1.take(kind, bucket)
    }

    fn take(self: Rc<Self>, question: Question) {
        match question {
            Question::Introspect { server, owner, token, key, known, bucket, reply } => {
                let (now, may_join) = (self.cache.asking(), self.joinable(server));
                let joins = self.introspections.has(&key, &may_join);
                // The call that this question would have joined may have ended just before.
                if let Some(outcome) = self.answered(&key, known.as_ref()) {
                    let _ = reply.send(Ok(Introspected { outcome, renewed: false }));
                } else if let Err(after) = self.limit(Kind::Introspections, bucket.as_ref()) {
                    let _ = reply.send(Err(Failed::Limited(after)));
                } else if let Some(share) = self.shares.take(server, bucket, joins) {
                    if let Some(start) = self.introspections.join(&key, Some(reply), now, &may_join) {
                        spawn_local(share.with(self.introspect(server, owner, token, key, start)));
                    }
                } else {
                    let _ = reply.send(Err(Failed::Limited(LATER)));
                }
            }
            Question::RenewIntrospection { server, owner, token, key } => {
                // Whatever is under way is younger than what it is to renew.
                if let Some(start) = self.introspections.join(&key, None, self.cache.asking(), |_| true) {
                    spawn_local(self.introspect(server, owner, token, key, start));
                }
            }
            question @ Question::Live { .. } => self.take_live(question),
            Question::RenewLive { server, token, key, resource } => {
                let flight = (key, resource);
                if let Some(start) = self.live.join(&flight, None, self.cache.asking(), |_| true) {
                    spawn_local(self.decide_live(server, token, flight, start));
                }
            }
            Question::Resource { server, key, declared, bucket, reply } => {
                let joins = self.lookups.has(&key, |()| true);
                if let Err(after) = self.limit(Kind::LookUps, bucket.as_ref()) {
                    let _ = reply.send(Err(Failed::Limited(after)));
                } else if let Some(share) = self.shares.take(server, bucket, joins) {
                    if let Some(start) = self.lookups.join(&key, Some(reply), (), |()| true) {
                        spawn_local(share.with(self.look_up(server, key, declared, start)));
                    }
                } else {
                    let _ = reply.send(Err(Failed::Limited(LATER)));
                }
            }
            Question::Path { key, bucket, reply } => self.take_path(key, bucket, reply),
            Question::Pat { server, owner, deadline, reply } => drop(spawn_local(async move {
                let _ = reply.send(self.pat(server, owner.as_deref(), deadline).await);
            })),
            question @ Question::Ticket { .. } => self.take_ticket(question),
        }
    }

    async fn pat(&self, server: ServerIdentity, owner: Option<&str>, deadline: Instant) -> Result<(), AskError> {
        let server = self.server(server).ok_or(AskError::ShuttingDown)?;
        server.pat(owner, deadline).await.map(drop)
    }

    fn take_live(self: Rc<Self>, question: Question) {
        let Question::Live { server, token, key, resource, known, bucket, reply } = question else { return };
        let max_age = self.server(server).map(|server| server.config().max_age).unwrap_or_default();
        let is_news = |live: &Arc<LiveEntry>| live.age(Instant::now()) < max_age && known.is_none_or(|known| !Arc::ptr_eq(live, &known));
        // The call that this question would have joined may have ended just before.
        if let Some(live) = self.cache.live(key, &resource).filter(is_news) {
            let _ = reply.send(Ok(live));
            return;
        }
        let (now, may_join, flight) = (self.cache.asking(), self.joinable(server), (key, resource));
        let joins = self.live.has(&flight, &may_join);
        if let Err(after) = self.limit(Kind::Live, bucket.as_ref()) {
            let _ = reply.send(Err(Failed::Limited(after)));
        } else if let Some(share) = self.shares.take(server, bucket, joins) {
            if let Some(start) = self.live.join(&flight, Some(reply), now, &may_join) {
                spawn_local(share.with(self.decide_live(server, token, flight, start)));
            }
        } else {
            let _ = reply.send(Err(Failed::Limited(LATER)));
        }
    }

    fn take_path(self: Rc<Self>, key: UriKey, bucket: Option<LimitKey>, reply: oneshot::Sender<Result<PathResource, Failed>>) {
        // The call that this question would have joined may have ended just before.
        if let Some(found) = self.resources.see_path(&key, Instant::now()) {
            let _ = reply.send(Ok(found));
            return;
        }
        let joins = self.paths.has(&key, |()| true);
        // A path takes several calls, and what counts is the calls.
        let count = if joins { NonZeroU32::MIN } else { NonZeroU32::new(key.questions()).unwrap_or(NonZeroU32::MIN) };
        let taken = self.limiters.borrow().1.take_many(Kind::LookUps, bucket.as_ref(), count);
        if let Err(after) = taken {
            let _ = reply.send(Err(Failed::Limited(after)));
        } else if let Some(share) = self.shares.take(key.server, bucket, joins) {
            if let Some(start) = self.paths.join(&key, Some(reply), (), |()| true) {
                spawn_local(share.with(self.locate(key, start)));
            }
        } else {
            let _ = reply.send(Err(Failed::Limited(LATER)));
        }
    }

    fn take_ticket(self: Rc<Self>, question: Question) {
        let Question::Ticket { server, owner, resource, scopes, forget, bucket, deadline, reply } = question else { return };
        if let Err(after) = self.limit(Kind::Tickets, bucket.as_ref()) {
            let _ = reply.send(Ticketed { outcome: Err(NoTicket::Limited(after)), renewed: false });
            return;
        }
        let Some(share) = self.shares.take(server, bucket, false) else {
            let _ = reply.send(Ticketed { outcome: Err(NoTicket::Limited(LATER)), renewed: false });
            return;
        };
        spawn_local(share.with(async move {
            let mut renewed = false;
            let outcome = match self.server(server) {
                Some(server) => server.ticket(owner.as_deref(), &resource, &scopes, deadline, &mut renewed).await,
                None => Err(TicketError::Failed(AskError::ShuttingDown)),
            };
            // The registration has drifted: the next request looks it up anew.
            match forget.filter(|_| matches!(outcome, Err(TicketError::InvalidResource))) {
                Some(Forget::Named(key)) => self.resources.forget(&key),
                Some(Forget::Path(key)) => self.resources.forget_path(&key),
                None => {}
            }
            let _ = reply.send(Ticketed { outcome: outcome.map_err(NoTicket::Server), renewed });
        }));
    }

    /// What the cache has learnt since the worker looked.
    fn answered(&self, key: &CacheKey, known: Option<&Arc<Entry>>) -> Option<Result<Arc<Entry>, Refused>> {
        match self.cache.look_up(key, Instant::now()) {
            Lookup::Active(entry) if known.is_none_or(|known| !Arc::ptr_eq(&entry, known)) => Some(Ok(entry)),
            Lookup::Inactive => Some(Err(Refused::Inactive)),
            _ => None,
        }
    }

    /// Which calls a question may join: those whose answer will be no older, and no more overtaken by a purge, than one from the cache.
    fn joinable(&self, server: ServerIdentity) -> impl Fn(&Asking) -> bool + use<> {
        let (cache, max_age, now) = (Arc::clone(&self.cache), self.server(server).map(|server| server.config().max_age), Instant::now());
        move |began| cache.is_current(*began) && max_age.is_some_and(|max_age| now.saturating_duration_since(began.at()) <= max_age)
    }

    async fn introspect(self: Rc<Self>, server: ServerIdentity, owner: Option<Arc<str>>, token: Rpt, key: CacheKey, start: Start<Asking>) {
        let landing = self.introspections.begin(key, start, || Err(Failed::Server(AskError::ShuttingDown)));
        let result = match self.server(server) {
            None => Err(Failed::Server(AskError::ShuttingDown)),
            Some(server) => {
                let (asking, mut renewed) = (landing.began(), false);
                let answer = server.introspect(owner.as_deref(), &token, asking.at() + server.config().timeout, &mut renewed).await;
                // Overtaken by a later call: what this one was told is handed on and not kept.
                let asking = if landing.is_latest() { asking } else { asking.overtaken() };
                answer.map(|answer| Introspected { outcome: self.keep(&server, key, answer, asking), renewed }).map_err(Failed::Server)
            }
        };
        landing.lands(&result);
    }

    /// Keeps what a server said of a token.
    fn keep(&self, server: &Server, key: CacheKey, answer: authorization_server::Introspected, asking: Asking) -> Result<Arc<Entry>, Refused> {
        let config = server.config();
        match answer {
            authorization_server::Introspected::Answer(Answer::Active(introspection)) => {
                Ok(self.cache.keep_active(key, *introspection, config, server.live_decision(), asking))
            }
            authorization_server::Introspected::Answer(Answer::Inactive) => {
                if self.cache.is_current(asking) {
                    self.cache.keep_inactive(key, asking.at() + config.negative_max_age);
                }
                Err(Refused::Inactive)
            }
            // An error is no word on the token that could be used again (row I9).
            authorization_server::Introspected::TokenRefused => Err(Refused::Malformed),
        }
    }

    async fn decide_live(self: Rc<Self>, server: ServerIdentity, token: Rpt, flight: (CacheKey, ResourceId), start: Start<Asking>) {
        let landing = self.live.begin(flight.clone(), start, || Err(Failed::Server(AskError::ShuttingDown)));
        let result = match self.server(server) {
            None => Err(Failed::Server(AskError::ShuttingDown)),
            Some(server) => {
                let (asking, (key, resource)) = (landing.began(), flight);
                let granted = server.granted_now(&token, &resource, asking.at() + server.config().timeout).await;
                let asking = if landing.is_latest() { asking } else { asking.overtaken() };
                granted.map(|granted| self.cache.keep_live(key, &resource, granted, asking)).map_err(Failed::Server)
            }
        };
        landing.lands(&result);
    }

    async fn look_up(self: Rc<Self>, server: ServerIdentity, key: ResourceKey, declared: Option<Arc<Declared>>, start: Start<()>) {
        let landing = self.lookups.begin(key.clone(), start, || Err(Failed::Server(AskError::ShuttingDown)));
        let result = match self.server(server) {
            None => Err(Failed::Server(AskError::ShuttingDown)),
            Some(server) => {
                let deadline = Instant::now() + server.config().timeout;
                server.resolve(&self.resources, &key, declared.as_deref(), deadline).await.map_err(Failed::Server)
            }
        };
        landing.lands(&result);
    }

    async fn locate(self: Rc<Self>, key: UriKey, start: Start<()>) {
        let landing = self.paths.begin(key.clone(), start, || Err(Failed::Server(AskError::ShuttingDown)));
        let result = match self.server(key.server) {
            None => Err(Failed::Server(AskError::ShuttingDown)),
            Some(server) => {
                let (config, asked) = (server.config(), Instant::now());
                let found = server.locate(&key.path, asked + config.timeout).await.map_err(Failed::Server);
                if let Ok(found) = &found {
                    self.resources.keep_path(&key, found, config, asked);
                }
                if let Ok(PathResource::Unclear(why)) = found {
                    tracing::warn!(authorization_server = &*config.name, path = &*key.path, "no resource is used for this path: {why}");
                }
                found
            }
        };
        landing.lands(&result);
    }
}

/// Calls to a server that one client has under way.
#[derive(Default)]
struct Shares(Places<(ServerIdentity, LimitKey)>);

/// One of them, until it is dropped; nothing for whoever is not limited, or joins a call of another one's.
struct Share(Option<Place<(ServerIdentity, LimitKey)>>);

impl Shares {
    /// `None`: this client has its share already.
    fn take(&self, server: ServerIdentity, client: Option<LimitKey>, joins: bool) -> Option<Share> {
        let Some(client) = client.filter(|_| !joins) else { return Some(Share(None)) };
        self.0.take((server, client), SHARE).map(|place| Share(Some(place)))
    }
}

impl Share {
    async fn with<T>(self, call: impl Future<Output = T>) -> T {
        let _held = self.0;
        call.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_a_quarter_of_the_calls_and_leaves_the_rest_to_others() {
        let (shares, server) = (Shares::default(), ServerIdentity([0; 16]));
        let client = |text: &str| Some(LimitKey::of(text.parse().unwrap()));
        let mut held: Vec<Share> = (0..SHARE).map(|_| shares.take(server, client("192.0.2.1"), false).unwrap()).collect();
        assert!(shares.take(server, client("192.0.2.1"), false).is_none());
        assert!(shares.take(server, client("192.0.2.1"), true).is_some(), "it may wait for a call of another one's");
        assert!(shares.take(server, client("192.0.2.2"), false).is_some());
        assert!(shares.take(server, None, false).is_some(), "whoever is not limited");
        held.pop();
        assert!(shares.take(server, client("192.0.2.1"), false).is_some());
        held.clear();
        assert!(shares.0.is_empty(), "nothing is remembered of whoever has gone");
    }
}
