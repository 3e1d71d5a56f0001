//! The Tower layer: `Permitted` → `Outbound`. The RPT ends here.
//!
//! A credential that is at hand costs no allocation of its own. One that must be waited for, or renewed because the upstream refused it, takes the slow way;
//! a request is sent a second time only if it has no body and may be repeated (row U2).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, LocalBoxFuture, Ready, ready};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::limit::limited;
use super::names::Trailers;
use super::outbound::Call;
use super::{Framing, HeadInput, Outbound, OutboundParts, Proxy, Via, Way, outbound_head};
use crate::body::Body;
use crate::enforcement::{Permit, Permitted};
use crate::holes::{Hole, open};
use crate::response::{Rejection, Row, grpc_status, is_grpc};
use crate::routing::{Claim, RoutedParts};
use crate::telemetry::Recorder;

/// A public route's budget for calls that a request causes; a protected one has that of its authorization server.
const BUDGET: Duration = Duration::from_secs(2);

/// What this room reads of the snapshot that a request carries.
pub trait Snapshot {
    /// The credential of the upstream at this place of the configuration's list.
    fn proxy(&self, upstream: usize) -> Option<&Arc<Proxy>>;
}

/// Puts [`Credentials`] in front of a service.
#[derive(Clone, Debug)]
pub struct CredentialsLayer {
    via: Arc<Via>,
}

impl CredentialsLayer {
    /// With this gateway's name in `Via`, the same that admission knows it by.
    #[must_use]
    pub fn new(pseudonym: &str) -> Self {
        Self { via: Arc::new(Via::new(pseudonym)) }
    }
}

impl<Inner> Layer<Inner> for CredentialsLayer {
    type Service = Credentials<Inner>;

    fn layer(&self, inner: Inner) -> Credentials<Inner> {
        Credentials { via: Arc::clone(&self.via), inner }
    }
}

/// Builds the outbound head of a request that may pass.
#[derive(Clone, Debug)]
pub struct Credentials<Inner> {
    via: Arc<Via>,
    inner: Inner,
}

type Answer = Result<Response<Body>, Rejection>;

impl<S, Inner> Service<Permitted<S>> for Credentials<Inner>
where
    S: Snapshot + 'static,
    Inner: Service<Outbound<S>, Response = Response<Body>, Error = Rejection> + Clone + 'static,
{
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Either<Inner::Future, Either<Ready<Answer>, LocalBoxFuture<'static, Answer>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, permitted: Permitted<S>) -> Self::Future {
        let (routed, permit) = permitted.into_parts();
        let routed = routed.into_parts();
        let Some(proxy) = routed.snapshot.proxy(routed.route.config().upstream).cloned() else {
            return Either::Right(Either::Left(ready(Err(Rejection::Internal))));
        };
        let leaving = Leaving { routed, permit, proxy, via: Arc::clone(&self.via) };
        if leaving.proxy.token().is_some() {
            // The service that is ready goes with the request, the clone waits for the next one.
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            return Either::Right(Either::Right(Box::pin(with_token(leaving, inner))));
        }
        if let Some(before) = leaving.proxy.rotation.before() {
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            return Either::Right(Either::Right(Box::pin(with_either(leaving, before, inner))));
        }
        match leaving.outbound(None) {
            Ok(outbound) => Either::Left(self.inner.call(outbound)),
            Err(rejection) => Either::Right(Either::Left(ready(Err(rejection)))),
        }
    }
}

/// Sends with a token that is kept elsewhere; once more with a new one if the upstream refuses it.
async fn with_token<S, Inner>(leaving: Leaving<S>, mut inner: Inner) -> Answer
where
    S: Snapshot,
    Inner: Service<Outbound<S>, Response = Response<Body>, Error = Rejection>,
{
    let token = leaving.proxy.token().flatten().cloned().ok_or(Rejection::CredentialUnavailable)?;
    let deadline = leaving.deadline();
    let shown = token.obtain(deadline).await.ok_or(Rejection::CredentialUnavailable)?;
    let (again, recorder) = (leaving.again(), leaving.routed.recorder.clone());
    match (inner.call(leaving.outbound(Some(&shown))?).await, again) {
        (Err(Rejection::UpstreamCredentialRefused), again) => {
            token.refuse(&shown);
            let Some(again) = again else { return Err(Rejection::UpstreamCredentialRefused) };
            let Some(other) = token.other_than(&shown, deadline).await else { return Err(Rejection::UpstreamCredentialRefused) };
            recorder.pass(Row::U2);
            std::future::poll_fn(|context| inner.poll_ready(context)).await?;
            inner.call(again.outbound(Some(&other))?).await
        }
        (answer, _) => answer,
    }
}

/// Sends while the credential is being replaced: with one of the two, and again with the other if the upstream refuses it and the request may be repeated.
async fn with_either<S, Inner>(mut leaving: Leaving<S>, before: Arc<Proxy>, mut inner: Inner) -> Answer
where
    S: Snapshot + 'static,
    Inner: Service<Outbound<S>, Response = Response<Body>, Error = Rejection> + Clone + 'static,
{
    let new = Arc::clone(&leaving.proxy);
    let (rotation, again, recorder) = (&new.rotation, leaving.again(), leaving.routed.recorder.clone());
    let new_first = rotation.prefers_new() || (again.is_some() && rotation.try_now());
    let bare = if new_first { leaving.bare() } else { None };
    let second = if new_first { before } else { std::mem::replace(&mut leaving.proxy, before) };
    let answer = inner.call(leaving.outbound(None)?).await;
    if !refuses(&answer) {
        if let Some(bare) = bare.filter(|_| succeeds(&answer) && rotation.go_without_now()) {
            // Nobody waits for it.
            tokio::task::spawn_local(without(bare, Arc::clone(&new), inner));
        }
        return answer;
    }
    if new_first {
        rotation.new_was_refused();
    } else {
        rotation.old_was_refused();
    }
    let Some(mut again) = again else { return answer };
    again.proxy = second;
    recorder.pass(Row::U2);
    std::future::poll_fn(|context| inner.poll_ready(context)).await?;
    let answer = inner.call(again.outbound(None)?).await;
    match &answer {
        answer if refuses(answer) && !new_first => rotation.new_was_refused(),
        answer if succeeds(answer) && !new_first => rotation.new_worked(),
        _ => {}
    }
    answer
}

/// Sends a request that has succeeded with the `new` credential once more without one: if that is refused, the server has looked at it.
async fn without<S, Inner>(bare: Leaving<S>, new: Arc<Proxy>, mut inner: Inner)
where
    S: Snapshot,
    Inner: Service<Outbound<S>, Response = Response<Body>, Error = Rejection>,
{
    let Ok(outbound) = bare.outbound(None) else { return };
    let Ok(()) = std::future::poll_fn(|context| inner.poll_ready(context)).await else { return };
    let answer = inner.call(outbound).await;
    if refuses(&answer) || answer.is_ok_and(|answer| matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) {
        new.rotation.new_worked();
    }
}

/// Whether the server refuses the credential. gRPC has no 401 (UNAUTHENTICATED is 16).
fn refuses(answer: &Answer) -> bool {
    match answer {
        Ok(answer) => grpc_status(answer.headers()) == Some(16),
        Err(rejection) => matches!(rejection, Rejection::UpstreamCredentialRefused),
    }
}

/// Whether an answer may come of the credential: a front, or a server in trouble, answers all else without looking at it.
fn succeeds(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status().is_success() && grpc_status(answer.headers()).is_none_or(|status| status == 0))
}

/// A request on its last steps in this room.
struct Leaving<S> {
    routed: RoutedParts<S>,
    permit: Permit,
    proxy: Arc<Proxy>,
    via: Arc<Via>,
}

impl<S> Leaving<S> {
    /// Until when the request may wait for anybody but the upstream.
    fn deadline(&self) -> Instant {
        let budget = self.routed.route.protect().map_or(BUDGET, |protect| protect.server.timeout);
        Instant::from_std(self.routed.recorder.with(|record| record.started)) + budget
    }

    /// The same request without any credential, of which nobody hears; if it changes nothing (RFC 9110, 9.2.1).
    fn bare(&self) -> Option<Self> {
        let mut bare = self.again().filter(|_| matches!(self.routed.head.method, Method::GET | Method::HEAD))?;
        bare.proxy = Arc::new(self.proxy.bare());
        let recorder = &self.routed.recorder;
        let scheme = recorder.with(|record| record.scheme);
        bare.routed.recorder = Recorder::new(recorder.id(), self.routed.head.method.clone(), None, scheme);
        Some(bare)
    }

    /// The same request once more, if it has no body and may be repeated.
    fn again(&self) -> Option<Self> {
        let RoutedParts { head, body, path, query, params, link, route, authority, client, peer, recorder, snapshot } = &self.routed;
        // RFC 9110, 9.2.2.
        let repeatable = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        (repeatable && body.is_empty()).then(|| Self {
            routed: RoutedParts {
                head: head.clone(),
                body: Body::empty(),
                path: path.clone(),
                query: query.clone(),
                params: *params,
                link: link.clone(),
                route: Arc::clone(route),
                authority: authority.clone(),
                client: client.clone(),
                peer: peer.clone(),
                recorder: recorder.clone(),
                snapshot: Arc::clone(snapshot),
            },
            permit: self.permit.clone(),
            proxy: Arc::clone(&self.proxy),
            via: Arc::clone(&self.via),
        })
    }

    fn outbound(self, token: Option<&HeaderValue>) -> Result<Outbound<S>, Rejection> {
        let Self { routed, permit, proxy, via } = self;
        let upgrade = routed.upgrade();
        let RoutedParts { head, body, path, query, params, link, route, authority, client, peer, recorder, snapshot } = routed;
        let config = route.config();
        let rewritten = config.rewrite.as_ref().map(|rewrite| rewrite.apply(&params, &path)).transpose();
        let rewritten = rewritten.map_err(|problem| Rejection::UnsafePath(problem.reason()))?;
        // Nothing of a link goes further, its query neither.
        let query = query.filter(|_| link.is_none());
        let body = limited(body, config.body_limit)?;
        // Whoever finds that the server speaks HTTP/2 makes a call of it; until then the body is one like others, without trailers.
        let call = is_grpc(&head).then_some(Call(()));
        let body = if call.is_some() && !body.is_empty() { body.watched(Box::new(Trailers(Arc::clone(&proxy)))) } else { body };
        let raw = if open(Hole::RawPathForwarded) { head.uri.path_and_query().cloned() } else { None };
        let mut head = outbound_head(HeadInput {
            head,
            target: raw.unwrap_or_else(|| rewritten.as_ref().unwrap_or(&path).with_query(query.as_ref())),
            authority: authority.as_str(),
            way: Way {
                chain: client.chain(),
                peer: peer.address.ip(),
                trusted: client.is_through_trusted(),
                scheme: client.scheme().as_str(),
                host: client.reported_host().unwrap_or(&authority).as_str(),
            },
            framing: framing(&body),
            upgrade,
            id: recorder.id_value(),
            proxy: &proxy,
            token,
            identity: &config.identity_headers,
            claim: &|claim| told(&permit, claim),
            via: &via,
            trace: recorder.with(|record| record.trace.clone()).as_deref(),
        })?;
        if let Some(call) = call {
            head.extensions.insert(call);
        }
        let private = !route.is_public();
        let rpt_header = route.protect().and_then(|protect| protect.server.rpt_header.clone());
        // Whom a guard has let in would take a 401 for a word on the credential that he has shown to the guard.
        let own_login = proxy.is_bare() && (route.is_public() || route.protect().is_some());
        Ok(Outbound::new(OutboundParts { head, body, upstream: config.upstream, private, rpt_header, own_login, recorder, snapshot }))
    }
}

fn framing(body: &Body) -> Framing {
    if body.is_empty() { Framing::None } else { body.size_hint().exact().map_or(Framing::Chunked, Framing::Length) }
}

fn told<'p>(permit: &'p Permit, claim: &Claim) -> Option<&'p str> {
    match claim {
        Claim::Subject => permit.subject(),
        Claim::Username => permit.username(),
        Claim::Client => permit.client(),
        Claim::Other(name) => permit.claim(name),
    }
}
