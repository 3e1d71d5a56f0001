//! The Tower layer: `Permitted` → `Outbound`. The RPT ends here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use http::{HeaderValue, Method, Response};
use http_body::Body as _;
use tokio::time::Instant;
use tower::{Layer, Service};

use super::limit::limited;
use super::proxy::Source;
use super::{Framing, HeadInput, Outbound, OutboundParts, Proxy, Way, outbound_head};
use crate::body::Body;
use crate::enforcement::{Permit, Permitted};
use crate::response::{Rejection, Row};
use crate::routing::{Claim, RoutedParts};

/// What a request waits for a token at most; together with the decision it stays within a request's budget as long as tokens are kept ready.
const BUDGET: Duration = Duration::from_secs(2);

/// What this room reads of the snapshot that a request carries.
pub trait Snapshot {
    /// The proxy credential of the upstream at this place of the configuration's list.
    fn proxy(&self, upstream: usize) -> Option<&Arc<Proxy>>;
}

/// Makes [`Credentials`].
#[derive(Clone, Debug)]
pub struct CredentialsLayer {
    pseudonym: Arc<str>,
}

impl CredentialsLayer {
    /// With the gateway's name in `Via`.
    #[must_use]
    pub const fn new(pseudonym: Arc<str>) -> Self {
        Self { pseudonym }
    }
}

impl<Inner> Layer<Inner> for CredentialsLayer {
    type Service = Credentials<Inner>;

    fn layer(&self, inner: Inner) -> Credentials<Inner> {
        Credentials { pseudonym: Arc::clone(&self.pseudonym), inner }
    }
}

/// Builds the outbound head and puts the proxy credential on it.
#[derive(Clone, Debug)]
pub struct Credentials<Inner> {
    pseudonym: Arc<str>,
    inner: Inner,
}

type Answer = Result<Response<Body>, Rejection>;
type Waiting = Pin<Box<dyn Future<Output = Answer>>>;

impl<S, Inner> Service<Permitted<S>> for Credentials<Inner>
where
    S: Snapshot + 'static,
    Inner: Service<Outbound<S>, Response = Response<Body>, Error = Rejection> + Clone + 'static,
{
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Either<Inner::Future, Either<Ready<Answer>, Waiting>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, permitted: Permitted<S>) -> Self::Future {
        let (routed, permit) = permitted.into_parts();
        let parts = routed.into_parts();
        let Some(proxy) = parts.snapshot.proxy(parts.route.config().upstream).cloned() else {
            return Either::Right(Either::Left(ready(Err(Rejection::Internal))));
        };
        match &proxy.source {
            Source::None | Source::Fixed(_) => match outbound(parts, &permit, &proxy, None, &self.pseudonym) {
                Ok(outbound) => Either::Left(self.inner.call(outbound)),
                Err(rejection) => Either::Right(Either::Left(ready(Err(rejection)))),
            },
            Source::Token(_) => {
                let waiting = with_token(self.inner.clone(), parts, permit, proxy, Arc::clone(&self.pseudonym));
                Either::Right(Either::Right(Box::pin(waiting)))
            }
        }
    }
}

/// Sends a request with a kept token, and once more with a new one when the upstream refuses it and the request may be repeated (row U2).
async fn with_token<S, Inner>(mut inner: Inner, mut parts: RoutedParts<S>, permit: Permit, proxy: Arc<Proxy>, pseudonym: Arc<str>) -> Answer
where
    S: Snapshot,
    Inner: Service<Outbound<S>, Response = Response<Body>, Error = Rejection>,
{
    let Source::Token(Some(kept)) = &proxy.source else { return Err(Rejection::CredentialUnavailable) };
    let deadline = Instant::now() + BUDGET;
    let token = kept.obtain(deadline).await.ok_or(Rejection::CredentialUnavailable)?;
    let again = repeatable(&mut parts);
    let recorder = parts.recorder.clone();
    let answer = inner.call(outbound(parts, &permit, &proxy, Some(&token), &pseudonym)?).await;
    if !matches!(answer, Err(Rejection::UpstreamCredentialRefused)) {
        return answer;
    }
    // Whether or not this request may be repeated, the next one needs another token.
    let renewed = kept.renewed(&token, deadline).await;
    let (Some(token), Some(parts)) = (renewed, again) else { return answer };
    recorder.pass(Row::U2);
    inner.call(outbound(parts, &permit, &proxy, Some(&token), &pseudonym)?).await
}

/// A copy of a request that may be sent twice: idempotent (RFC 9110, 9.2.2) and without a body.
fn repeatable<S>(parts: &mut RoutedParts<S>) -> Option<RoutedParts<S>> {
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(&parts.head.method);
    (idempotent && parts.body.is_empty()).then(|| RoutedParts {
        head: parts.head.clone(),
        body: Body::empty(),
        path: parts.path.clone(),
        query: parts.query.clone(),
        params: parts.params,
        route: Arc::clone(&parts.route),
        authority: parts.authority.clone(),
        client: parts.client.clone(),
        peer: parts.peer.clone(),
        recorder: parts.recorder.clone(),
        snapshot: Arc::clone(&parts.snapshot),
    })
}

fn outbound<S>(parts: RoutedParts<S>, permit: &Permit, proxy: &Proxy, token: Option<&HeaderValue>, pseudonym: &str) -> Result<Outbound<S>, Rejection> {
    let RoutedParts { head, body, path, query, params, route, authority, client, peer, recorder, snapshot } = parts;
    let config = route.config();
    let rewritten = match &config.rewrite {
        Some(rewrite) => Some(rewrite.apply(&params, &path).map_err(|problem| Rejection::UnsafePath(problem.reason()))?),
        None => None,
    };
    let body = limited(body.without_trailers(), config.body_limit)?;
    let framing = match body.size_hint().exact() {
        _ if body.is_empty() && !announces_a_body(&head) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let host = client.reported_host().unwrap_or(&authority);
    let input = HeadInput {
        target: rewritten.as_ref().unwrap_or(&path).with_query(query.as_ref()),
        authority: authority.as_str(),
        way: Way { chain: client.chain(), peer: peer.address.ip(), trusted: client.is_through_trusted(), scheme: client.scheme().as_str(), host: host.as_str() },
        framing,
        id: &recorder.id(),
        proxy,
        token,
        identity: &config.identity_headers,
        claim: &|claim| claimed(permit, claim),
        pseudonym,
        head,
    };
    let head = outbound_head(input)?;
    Ok(Outbound::new(OutboundParts { head, body, upstream: config.upstream, private: permit.is_personal(), recorder, snapshot }))
}

fn announces_a_body(head: &http::request::Parts) -> bool {
    head.headers.contains_key(http::header::CONTENT_LENGTH) || head.headers.contains_key(http::header::TRANSFER_ENCODING)
}

fn claimed(permit: &Permit, claim: &Claim) -> Option<String> {
    let value = match claim {
        Claim::Subject => permit.subject(),
        Claim::Username => permit.username(),
        Claim::Client => permit.client(),
        Claim::Other(name) => permit.claim(name),
    };
    value.map(str::to_owned)
}
