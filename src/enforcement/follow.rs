//! Records follow what content servers make and delete, where a route says so: a resource that a `POST` has made is registered, one that a `DELETE` has taken
//! away is withdrawn, before the answer goes on.
//!
//! A worker reads the answer and says what it means; the control thread does it. The word is given in the moment in which the answer is there, so a client
//! that goes away takes nothing back, and it is waited for no longer than for an authorization server. What fails leaves a path closed, never open.
//!
//! A request that goes on without its client is counted as one of that client's until its answer is there: else one client could have any number under way.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::judge::Judge;
use super::limits::bucket;
use super::permit::Permit;
use super::places::{Place, Places};
use super::service::Snapshot;
use crate::body::Body;
use crate::path::{CanonicalPath, spelling};
use crate::response::Rejection;
use crate::routing::{Authority, Counted, LimitKey, Made, Maker, OnCreate, Params, Route, Routed, Scheme};
use crate::store::ResourceKey;
use crate::telemetry::{Followed, Metrics, Recorder};
use crate::uma::Scope;

/// What may wait for the control thread.
const WAITING: usize = 4096;

/// What a content server has done.
#[derive(Debug)]
pub enum Follow {
    /// It has made a resource.
    Created(Box<Creation>),
    /// It has deleted what this record is of.
    Deleted(ResourceKey),
    /// It has done nothing: the authorization server knows the resource of this record no more.
    Lost(ResourceKey),
}

/// A resource that was made, and by whom.
#[derive(Debug)]
pub struct Creation {
    /// The issuer that says who has made it.
    pub issuer: Arc<str>,
    /// Its path.
    pub path: CanonicalPath,
    /// What it is called, where the configuration says so.
    pub name: Option<Arc<str>>,
    /// Its type.
    pub kind: Option<Arc<str>>,
    /// Its scopes; absent: those that the methods of its route need.
    pub scopes: Option<Arc<[Scope]>>,
    /// `sub` of whoever has made it.
    pub subject: Option<Arc<str>>,
    /// The user name, where the server tells it.
    pub username: Option<Arc<str>>,
    /// Where the route stands in the file.
    pub route_line: u32,
}

/// A worker's end of the channel. Clones are the same.
#[derive(Clone)]
pub struct Follower {
    sender: mpsc::Sender<(Follow, oneshot::Sender<()>)>,
    metrics: Arc<Metrics>,
    /// Of clients of a trusted proxy: their connections are the proxy's, and a request that is followed goes on when they are gone.
    places: Places<LimitKey>,
}

/// The control thread's end of the channel.
pub struct Follows(mpsc::Receiver<(Follow, oneshot::Sender<()>)>);

/// The channel between workers and the records.
#[must_use]
pub fn follows(metrics: &Arc<Metrics>) -> (Follower, Follows) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Follower { sender, metrics: Arc::clone(metrics), places: Places::default() }, Follows(receiver))
}

impl Follows {
    /// The next one, and whom to tell by dropping it that it is done; nothing when every worker is gone.
    pub async fn next(&mut self) -> Option<(Follow, oneshot::Sender<()>)> {
        self.0.recv().await
    }
}

impl Follower {
    /// The authorization server knows the resource of a record no more. Nobody waits; where it cannot be handed on, the next request says it again.
    pub(super) fn lost(&self, key: ResourceKey) {
        let _ = self.sender.try_send((Follow::Lost(key), oneshot::channel().0));
    }

    /// Gives the word, and waits until it is done, or `patience` is over: then it is done later.
    async fn follow(&self, follow: Follow, patience: Duration) {
        let (done, wait) = oneshot::channel();
        let lost = if matches!(follow, Follow::Created(_)) { Followed::Failed } else { Followed::NotWithdrawn };
        if self.sender.try_send((follow, done)).is_err() {
            self.metrics.share_followed(lost);
            tracing::error!("what a content server has done cannot be handed on to the records: nobody is there, or too much waits");
            return;
        }
        // It says nothing, only that it has ended.
        if timeout(patience, wait).await.is_err() {
            tracing::warn!("an answer goes on before the records have followed it");
        }
    }
}

/// A request whose answer the records follow.
pub(super) struct Following<S> {
    follower: Follower,
    task: Task<S>,
    patience: Duration,
    /// Held until the answer is there.
    _counted: Counted,
    _place: Option<Place<LimitKey>>,
}

enum Task<S> {
    Create(Box<Creating<S>>),
    Delete(ResourceKey),
}

/// What is kept of a request that may make something.
struct Creating<S> {
    on_create: Arc<OnCreate>,
    issuer: Arc<str>,
    route: Arc<Route>,
    path: CanonicalPath,
    params: Params,
    authority: Authority,
    reported: Option<Authority>,
    scheme: Scheme,
    permit: Permit,
    recorder: Recorder,
    snapshot: Arc<S>,
}

impl<S: Snapshot> Following<S> {
    /// What of a permitted request is to be followed; of most nothing. `left`: of the time that the request has for the authorization server.
    ///
    /// # Errors
    /// The client has as many under way as one may have (row U5). The content server has not heard of this one.
    pub(super) fn of(judge: &Judge, routed: &Routed<S>, permit: &Permit, left: Duration) -> Result<Option<Self>, Rejection> {
        // Whoever only explains sends nothing, and its answers say nothing.
        let Some(task) = Task::of(judge, routed, permit).filter(|_| !judge.dry) else { return Ok(None) };
        let (client, snapshot) = (routed.client(), routed.snapshot());
        let uncounted = bucket(snapshot.limits(), client).filter(|_| client.is_through_trusted());
        let take = |client| judge.follower.places.take(client, snapshot.requests_per_client()).ok_or(Rejection::Overloaded);
        let place = uncounted.map(take).transpose()?;
        Ok(Some(Self { follower: judge.follower.clone(), task, patience: left, _counted: routed.peer().counted.clone(), _place: place }))
    }

    /// The answer, once the records have followed it. The content server is heard to its end whether or not the client waits for it: it may have done already
    /// what it was asked.
    pub(super) async fn answer(self, answer: impl Future<Output = Result<Response<Body>, Rejection>> + 'static) -> Result<Response<Body>, Rejection>
    where
        S: 'static,
    {
        let (told, answered) = oneshot::channel();
        spawn_local(async move {
            let _ = told.send(self.followed(answer).await);
        });
        answered.await.unwrap_or(Err(Rejection::Internal))
    }

    async fn followed(self, answer: impl Future<Output = Result<Response<Body>, Rejection>>) -> Result<Response<Body>, Rejection> {
        let answer = answer.await?;
        let follow = match &self.task {
            Task::Create(creating) if answer.status() == StatusCode::CREATED => creating.made(answer.headers(), &self.follower.metrics),
            // What is not there was deleted before.
            Task::Delete(key) if answer.status().is_success() || matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::GONE) => {
                Some(Follow::Deleted(*key))
            }
            Task::Create(_) | Task::Delete(_) => None,
        };
        if let Some(follow) = follow {
            self.follower.follow(follow, self.patience).await;
        }
        Ok(answer)
    }
}

impl<S: Snapshot> Task<S> {
    fn of(judge: &Judge, routed: &Routed<S>, permit: &Permit) -> Option<Self> {
        let protect = routed.route().protect()?;
        Some(match *routed.method() {
            Method::POST => Self::Create(Box::new(Creating::new(Arc::clone(protect.on_create.as_ref()?), &protect.server.issuer, routed, permit))),
            // With a query it may be something else of the resource that is deleted. Of a link none goes on.
            Method::DELETE if protect.unregister_on_delete && (routed.link().is_some() || routed.query().is_none_or(|query| query.as_str().is_empty())) => {
                let share = judge.records.at(&protect.server.issuer, routed.path())?;
                // What stands below a shared folder is not the folder.
                Self::Delete(share.is_exactly(&spelling(routed.path())).then_some(share.key)?)
            }
            _ => return None,
        })
    }
}

impl<S: Snapshot> Creating<S> {
    fn new(on_create: Arc<OnCreate>, issuer: &Arc<str>, routed: &Routed<S>, permit: &Permit) -> Self {
        Self {
            on_create,
            issuer: Arc::clone(issuer),
            route: Arc::clone(routed.route()),
            path: routed.path().clone(),
            params: *routed.params(),
            authority: routed.authority().clone(),
            reported: routed.client().reported_host().cloned(),
            scheme: routed.client().scheme(),
            permit: permit.clone(),
            recorder: routed.recorder().clone(),
            snapshot: Arc::clone(routed.snapshot()),
        }
    }

    fn made(&self, headers: &HeaderMap, metrics: &Metrics) -> Option<Follow> {
        let (upstream, line) = (self.route.config().upstream, self.route.place().line);
        let knows = |authority: &Authority, default_port: u16| {
            let ours = [Some(&self.authority), self.reported.as_ref()];
            ours.into_iter().flatten().any(|ours| ours.same_as(authority, default_port)) || self.snapshot.is_own(upstream, authority, default_port)
        };
        let maker = Maker {
            path: &self.path,
            pattern: &self.route.config().pattern,
            params: &self.params,
            default_port: if self.scheme == Scheme::Https { 443 } else { 80 },
            knows: &knows,
        };
        match self.on_create.made(headers, &maker) {
            Ok(made) => made.map(|made| Follow::Created(Box::new(self.creation(made, line)))),
            Err(why) => {
                metrics.share_followed(Followed::NotAccepted);
                let id = self.recorder.id();
                tracing::warn!(
                    id = &*id.0,
                    route_line = line,
                    reason = why.reason(),
                    "what a content server has made is not registered: its Location is not taken"
                );
                None
            }
        }
    }

    fn creation(&self, made: Made, route_line: u32) -> Creation {
        let OnCreate { kind, scopes, .. } = &*self.on_create;
        let (subject, username) = (self.permit.subject().map(Arc::from), self.permit.username().map(Arc::from));
        Creation {
            issuer: Arc::clone(&self.issuer),
            path: made.path,
            name: made.name,
            kind: kind.clone(),
            scopes: scopes.clone(),
            subject,
            username,
            route_line,
        }
    }
}
