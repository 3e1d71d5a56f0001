//! The control thread's side: one flight for each question, limits, and the keeping of answers.
//!
//! Runs on the control thread's own runtime. Every call is a task of its own, so that a caller that goes away cancels nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::ask::{Control, Failed, Introspected, NoTicket, Question, Refused, Ticketed, WAITING};
use super::config::Limits;
use super::limits::{Kind, Limiters};
use crate::authorization_server::{self, Answer, AskError, Declared, ResourceKey, Resources, Server, ServerIdentity, TicketError};
use crate::cache::{CacheKey, Entry, Introspections, LiveEntry, Lookup};
use crate::routing::LimitKey;
use crate::uma::{ResourceId, Rpt};

/// Those who wait for one call.
type Waiting<K, T> = RefCell<HashMap<K, Vec<oneshot::Sender<T>>>>;

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
    introspections: Waiting<CacheKey, Result<Introspected, Failed>>,
    live: Waiting<(CacheKey, ResourceId), Result<Arc<LiveEntry>, AskError>>,
    lookups: Waiting<ResourceKey, Result<Option<ResourceId>, Failed>>,
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
            introspections: RefCell::default(),
            live: RefCell::default(),
            lookups: RefCell::default(),
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
        self.servers.borrow_mut().remove(&identity);
    }

    /// Other limits. Buckets stay as full as they are where the limits are what they were.
    pub fn limit_to(&self, limits: &Limits) {
        let mut limiters = self.limiters.borrow_mut();
        if limiters.0 != *limits {
            *limiters = (limits.clone(), Limiters::new(limits));
        }
    }

    fn server(&self, identity: ServerIdentity) -> Option<Rc<Server>> {
        self.servers.borrow().get(&identity).cloned()
    }

    fn limit(&self, kind: Kind, bucket: Option<&crate::routing::LimitKey>) -> Result<(), Duration> {
        self.limiters.borrow().1.take(kind, bucket)
    }

    fn take(self: Rc<Self>, question: Question) {
        match question {
            Question::Introspect { server, token, key, known, bucket, reply } => {
                let joins = self.introspections.borrow().contains_key(&key);
                // The call that this question would have joined may have ended just before.
                if let Some(outcome) = self.answered(&key, known.as_ref()) {
                    let _ = reply.send(Ok(Introspected { outcome, renewed: false }));
                } else if let Err(after) = self.limit(Kind::Introspections, bucket.as_ref()) {
                    let _ = reply.send(Err(Failed::Limited(after)));
                } else if let Some(share) = self.shares.take(server, bucket, joins) {
                    if join(&self.introspections, key, Some(reply)) {
                        spawn_local(share.with(self.introspect(server, token, key)));
                    }
                } else {
                    let _ = reply.send(Err(Failed::Limited(LATER)));
                }
            }
            Question::RenewIntrospection { server, token, key } => {
                if join(&self.introspections, key, None) {
                    spawn_local(self.introspect(server, token, key));
                }
            }
            Question::Live { server, token, key, resource, known, reply } => {
                let max_age = self.server(server).map(|server| server.config().max_age).unwrap_or_default();
                let is_news = |live: &Arc<LiveEntry>| live.age(Instant::now()) < max_age && known.is_none_or(|known| !Arc::ptr_eq(live, &known));
                let news = self.cache.live(key, &resource).filter(is_news);
                if let Some(live) = news {
                    let _ = reply.send(Ok(live));
                } else if join(&self.live, (key, resource.clone()), Some(reply)) {
                    spawn_local(self.decide_live(server, token, key, resource));
                }
            }
            Question::RenewLive { server, token, key, resource } => {
                if join(&self.live, (key, resource.clone()), None) {
                    spawn_local(self.decide_live(server, token, key, resource));
                }
            }
            Question::Resource { server, key, declared, bucket, reply } => {
                let joins = self.lookups.borrow().contains_key(&key);
                if let Err(after) = self.limit(Kind::LookUps, bucket.as_ref()) {
                    let _ = reply.send(Err(Failed::Limited(after)));
                } else if let Some(share) = self.shares.take(server, bucket, joins) {
                    if join(&self.lookups, key.clone(), Some(reply)) {
                        spawn_local(share.with(self.look_up(server, key, declared)));
                    }
                } else {
                    let _ = reply.send(Err(Failed::Limited(LATER)));
                }
            }
            question @ Question::Ticket { .. } => self.take_ticket(question),
        }
    }

    fn take_ticket(self: Rc<Self>, question: Question) {
        let Question::Ticket { server, resource, scopes, forget, bucket, deadline, reply } = question else { return };
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
                Some(server) => server.ticket(&resource, &scopes, deadline, &mut renewed).await,
                None => Err(TicketError::Failed(AskError::ShuttingDown)),
            };
            if let (Err(TicketError::InvalidResource), Some(key)) = (&outcome, forget) {
                // The registration has drifted: the next request looks it up anew.
                self.resources.forget(&key);
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

    async fn introspect(self: Rc<Self>, server: ServerIdentity, token: Rpt, key: CacheKey) {
        let landing = Landing::new(&self.introspections, key, || Err(Failed::Server(AskError::ShuttingDown)));
        let result = match self.server(server) {
            None => Err(Failed::Server(AskError::ShuttingDown)),
            Some(server) => {
                let (asking, mut renewed) = (self.cache.asking(), false);
                let config = server.config();
                match server.introspect(&token, asking.at() + config.timeout, &mut renewed).await {
                    Ok(authorization_server::Introspected::Answer(Answer::Active(introspection))) => {
                        Ok(Introspected { outcome: Ok(self.cache.keep_active(key, *introspection, config, server.live_decision(), asking)), renewed })
                    }
                    Ok(authorization_server::Introspected::Answer(Answer::Inactive)) => {
                        self.cache.keep_inactive(key, asking.at() + config.negative_max_age);
                        Ok(Introspected { outcome: Err(Refused::Inactive), renewed })
                    }
                    // An error is no word on the token that could be used again (row I9).
                    Ok(authorization_server::Introspected::TokenRefused) => Ok(Introspected { outcome: Err(Refused::Malformed), renewed }),
                    Err(error) => Err(Failed::Server(error)),
                }
            }
        };
        landing.lands(result);
    }

    async fn decide_live(self: Rc<Self>, server: ServerIdentity, token: Rpt, key: CacheKey, resource: ResourceId) {
        let landing = Landing::new(&self.live, (key, resource.clone()), || Err(AskError::ShuttingDown));
        let result = match self.server(server) {
            None => Err(AskError::ShuttingDown),
            Some(server) => {
                let asking = self.cache.asking();
                let granted = server.granted_now(&token, &resource, asking.at() + server.config().timeout).await;
                granted.map(|granted| self.cache.keep_live(key, &resource, granted, asking))
            }
        };
        landing.lands(result);
    }

    async fn look_up(self: Rc<Self>, server: ServerIdentity, key: ResourceKey, declared: Option<Arc<Declared>>) {
        let landing = Landing::new(&self.lookups, key.clone(), || Err(Failed::Server(AskError::ShuttingDown)));
        let result = match self.server(server) {
            None => Err(Failed::Server(AskError::ShuttingDown)),
            Some(server) => {
                let deadline = Instant::now() + server.config().timeout;
                server.resolve(&self.resources, &key, declared.as_deref(), deadline).await.map_err(Failed::Server)
            }
        };
        landing.lands(result);
    }
}

/// Calls to a server that one client has under way.
#[derive(Clone, Default)]
struct Shares(Rc<RefCell<HashMap<(ServerIdentity, LimitKey), usize>>>);

/// One of them, until it is dropped; nothing for whoever is not limited, or joins a call of another one's.
struct Share(Option<(Shares, (ServerIdentity, LimitKey))>);

impl Shares {
    /// `None`: this client has its share already.
    fn take(&self, server: ServerIdentity, client: Option<LimitKey>, joins: bool) -> Option<Share> {
        let Some(client) = client.filter(|_| !joins) else { return Some(Share(None)) };
        let key = (server, client);
        let mut all = self.0.borrow_mut();
        let count = all.entry(key).or_default();
        if *count >= SHARE {
            return None;
        }
        *count += 1;
        Some(Share(Some((self.clone(), key))))
    }
}

impl Share {
    async fn with<T>(self, call: impl Future<Output = T>) -> T {
        let _held = self;
        call.await
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, key)) = self.0.take() else { return };
        let mut all = shares.0.borrow_mut();
        if let Some(count) = all.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                all.remove(&key);
            }
        }
    }
}

/// Waits for a call that is under way; `true`: there is none, and the caller is to start it.
fn join<K: Hash + Eq, T>(waiting: &Waiting<K, T>, key: K, reply: Option<oneshot::Sender<T>>) -> bool {
    let mut waiting = waiting.borrow_mut();
    let first = !waiting.contains_key(&key);
    waiting.entry(key).or_default().extend(reply);
    first
}

/// Tells everyone who waits for a call when it ends; one that breaks off in a panic must not leave its key taken for ever.
struct Landing<'a, K: Hash + Eq, T: Clone> {
    waiting: &'a Waiting<K, T>,
    key: K,
    broken_off: fn() -> T,
}

impl<'a, K: Hash + Eq, T: Clone> Landing<'a, K, T> {
    const fn new(waiting: &'a Waiting<K, T>, key: K, broken_off: fn() -> T) -> Self {
        Self { waiting, key, broken_off }
    }

    fn lands(self, result: T) {
        self.tell(&result);
    }

    fn tell(&self, result: &T) {
        let waiting = self.waiting.borrow_mut().remove(&self.key);
        for reply in waiting.unwrap_or_default() {
            let _ = reply.send(result.clone());
        }
    }
}

impl<K: Hash + Eq, T: Clone> Drop for Landing<'_, K, T> {
    fn drop(&mut self) {
        if self.waiting.borrow().contains_key(&self.key) {
            self.tell(&(self.broken_off)());
        }
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
        assert!(shares.0.borrow().is_empty(), "nothing is remembered of whoever has gone");
    }
}
