//! The Tower layer: `Routed` → `Permitted`, or the answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{Either, LocalBoxFuture, Ready, ready};
use http::{Response, StatusCode};
use tower::{Layer, Service};

use super::config::Limits;
use super::follow::Following;
use super::guard::{self, Shown};
use super::judge::{Asked, AtOnce, Case, Judge, Standing};
use super::limits::bucket_of;
use super::permit::{Permit, Permitted};
use crate::body::Body;
use crate::cache::Memo;
use crate::holes::{Hole, open, remember, remembers};
use crate::response::{Rejection, Row};
use crate::routing::{Access, Authority, Protect, Route, Routed};
use crate::telemetry::Step;

/// What this room reads of the snapshot that a request carries.
pub trait Snapshot: crate::routing::Snapshot {
    /// What clients may cause.
    fn limits(&self) -> &Limits;
    /// The client application, offered on the page that a browser gets.
    fn open_with(&self) -> Option<&Arc<str>>;
    /// How many requests one client may have under way that go on without it.
    fn requests_per_client(&self) -> usize;
    /// Whether an authority is the one that the world has this gateway by, or one of the servers of the upstream at this place of the configuration's list.
    /// An absent port is `default_port`.
    fn is_own(&self, upstream: usize, authority: &Authority, default_port: u16) -> bool;
}

/// Makes [`Enforcement`].
pub struct EnforcementLayer<S> {
    judge: Judge,
    current: Arc<ArcSwap<S>>,
}

impl<S> EnforcementLayer<S> {
    /// A layer that decides with `judge`; `current` is where a reload puts the new snapshot, for connections that outlive it.
    #[must_use]
    pub const fn new(judge: Judge, current: Arc<ArcSwap<S>>) -> Self {
        Self { judge, current }
    }
}

impl<S, Inner> Layer<Inner> for EnforcementLayer<S> {
    type Service = Enforcement<S, Inner>;

    fn layer(&self, inner: Inner) -> Enforcement<S, Inner> {
        Enforcement { judge: self.judge.clone(), current: Arc::clone(&self.current), memo: Rc::default(), inner }
    }
}

/// Lets a request pass only with a permit.
pub struct Enforcement<S, Inner> {
    judge: Judge,
    current: Arc<ArcSwap<S>>,
    // All clones are of one worker, and nobody borrows it over a wait.
    memo: Rc<RefCell<Memo>>,
    inner: Inner,
}

impl<S, Inner: Clone> Clone for Enforcement<S, Inner> {
    fn clone(&self) -> Self {
        Self { judge: self.judge.clone(), current: Arc::clone(&self.current), memo: Rc::clone(&self.memo), inner: self.inner.clone() }
    }
}

type Answer = Result<Response<Body>, Rejection>;
/// The way of most requests, and of those that are answered here or have to wait.
type Decided<Onward> = Either<Onward, Either<Ready<Answer>, LocalBoxFuture<'static, Answer>>>;

impl<S, Inner> Service<Routed<S>> for Enforcement<S, Inner>
where
    S: Snapshot + 'static,
    Inner: Service<Permitted<S>, Response = Response<Body>, Error = Rejection> + Clone + 'static,
{
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Decided<Inner::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, routed: Routed<S>) -> Self::Future {
        let route = Arc::clone(routed.route());
        match &route.config().access {
            Access::Protect(protect) => self.protected(routed, &route, protect),
            Access::Guard(guard) => match guard::judge(guard, &shown(&routed), &self.judge.guesses) {
                Ok(permit) => Either::Left(self.inner.call(Permitted::new(routed, permit))),
                Err(rejection) => Either::Right(Either::Left(ready(Err(rejection)))),
            },
            Access::Public => {
                routed.recorder().pass(Row::D6);
                Either::Left(self.inner.call(Permitted::new(routed, Permit::public())))
            }
        }
    }
}

impl<S, Inner> Enforcement<S, Inner> {
    /// Route mode `uma`.
    fn protected(&mut self, routed: Routed<S>, route: &Arc<Route>, protect: &Protect) -> Decided<Inner::Future>
    where
        S: Snapshot + 'static,
        Inner: Service<Permitted<S>, Response = Response<Body>, Error = Rejection> + Clone + 'static,
    {
        let asked = Asked {
            route,
            protect,
            path: routed.path(),
            link: routed.link(),
            fill: &|template| template.fill(routed.params(), routed.path()),
            method: routed.method(),
            headers: routed.headers(),
            query: routed.query().map(crate::path::Query::as_str),
            client: routed.client(),
            limits: routed.snapshot().limits(),
            open_with: routed.snapshot().open_with(),
            address: &|| address(&routed),
            recorder: routed.recorder(),
        };
        let peer = routed.peer().address;
        if open(Hole::StickyConnection) && remembers(peer) {
            return Either::Left(self.inner.call(Permitted::new(routed, Permit::public())));
        }
        if let Some(upgrade) = routed.upgrade() {
            let (judge, inner, grace) = (self.judge.clone(), self.inner.clone(), route.config().upgrade_grace);
            let standing = Standing::of(&self.current, &routed, upgrade);
            return match judge.handshake(&asked) {
                Ok(case) => Either::Right(Either::Right(Box::pin(upgraded(judge, inner, routed, (case, standing), grace)))),
                Err(rejection) => Either::Right(Either::Left(ready(Err(rejection)))),
            };
        }
        let step = routed.recorder().step(Step::Authorize);
        let decided = self.judge.at_once(&asked, &mut self.memo.borrow_mut());
        match decided {
            AtOnce::Permit(permit) => {
                step.answered();
                remember(peer);
                match Following::of(&self.judge, &routed, &permit, protect.server.timeout) {
                    Err(rejection) => Either::Right(Either::Left(ready(Err(rejection)))),
                    Ok(None) => Either::Left(self.inner.call(Permitted::new(routed, permit))),
                    Ok(Some(following)) => Either::Right(Either::Right(Box::pin(following.answer(self.inner.call(Permitted::new(routed, permit)))))),
                }
            }
            AtOnce::Refuse(rejection) => {
                step.answered();
                Either::Right(Either::Left(ready(Err(rejection))))
            }
            // Only a miss allocates.
            AtOnce::Ask(case) => {
                let (judge, mut inner) = (self.judge.clone(), self.inner.clone());
                Either::Right(Either::Right(Box::pin(async move {
                    let judged = judge.judge(&case).await;
                    step.answered();
                    let permit = judged?;
                    remember(peer);
                    match Following::of(&judge, &routed, &permit, case.left())? {
                        None => inner.call(Permitted::new(routed, permit)).await,
                        Some(following) => following.answer(inner.call(Permitted::new(routed, permit))).await,
                    }
                })))
            }
        }
    }
}

/// Decides at the handshake, and again while the upgraded connection lives. Any other answer than 101 is one like all others.
async fn upgraded<S, Inner>(judge: Judge, mut inner: Inner, routed: Routed<S>, (case, standing): (Box<Case>, Standing<S>), grace: Duration) -> Answer
where
    S: Snapshot + 'static,
    Inner: Service<Permitted<S>, Response = Response<Body>, Error = Rejection>,
{
    let step = routed.recorder().step(Step::Authorize);
    let judged = judge.judge(&case).await;
    step.answered();
    let permit = judged?;
    let answer = inner.call(Permitted::new(routed, permit.clone())).await?;
    Ok(if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        answer.map(|body| body.leashed(Box::pin(judge.leash(*case, permit, standing, grace))))
    } else {
        answer
    })
}

/// What a guard looks at.
fn shown<S: Snapshot>(routed: &Routed<S>) -> Shown<'_> {
    Shown {
        method: routed.method(),
        headers: routed.headers(),
        path: routed.path().as_str(),
        query: routed.query().map(crate::path::Query::as_str),
        certificate: routed.peer().certificate.as_deref(),
        // Not the client whom it names: whoever shows the credential is the other end itself.
        bucket: bucket_of(routed.snapshot().limits(), routed.peer().address.ip().to_canonical()),
        rate: routed.snapshot().limits().introspections,
        recorder: routed.recorder(),
    }
}

/// The address that the client asked for, for the client application's button.
fn address<S>(routed: &Routed<S>) -> String {
    let query = routed.query().map_or_else(String::new, |query| format!("?{}", query.as_str()));
    let path = routed.link().map_or(routed.path(), |link| &link.asked);
    format!("{}://{}{}{query}", routed.client().scheme().as_str(), routed.authority().as_str(), path.as_str())
}
