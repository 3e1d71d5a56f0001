//! The two doors of this room in the stack: [`AdmissionLayer`] (`Request` to `Admitted`) and [`RoutingLayer`] (`Admitted` to `Routed`).
//!
//! What they decide stands in [`admit`] and [`route`]; here is only the way in and out. Futures are not boxed and need not be `Send`.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use futures_util::future::Either;
use http::Response;
use tower::{Layer, Service};

use super::admission::{Admitted, admit};
use super::request::Request;
use super::routed::{Routed, Snapshot, Step, route};
use crate::body::Body;
use crate::response::Rejection;

type Answer = Result<Response<Body>, Rejection>;

/// Puts [`Admission`] in front of a service.
#[derive(Clone, Debug)]
pub struct AdmissionLayer {
    pseudonym: Arc<str>,
}

impl AdmissionLayer {
    /// With this gateway's name in `Via`, by which it knows a loop. Two gateways that stand in one request's way need different names.
    #[must_use]
    pub const fn new(pseudonym: Arc<str>) -> Self {
        Self { pseudonym }
    }
}

impl<I> Layer<I> for AdmissionLayer {
    type Service = Admission<I>;

    fn layer(&self, inner: I) -> Admission<I> {
        Admission { pseudonym: Arc::clone(&self.pseudonym), inner }
    }
}

/// Refuses what two servers could read differently.
#[derive(Clone, Debug)]
pub struct Admission<I> {
    pseudonym: Arc<str>,
    inner: I,
}

impl<I> Service<Request> for Admission<I>
where
    I: Service<Admitted, Response = Response<Body>, Error = Rejection>,
{
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Either<Ready<Answer>, I::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match admit(request, &self.pseudonym) {
            Ok(admitted) => Either::Right(self.inner.call(admitted)),
            Err(rejection) => Either::Left(ready(Err(rejection))),
        }
    }
}

/// Puts [`Routing`] in front of a service.
#[derive(Debug)]
pub struct RoutingLayer<S> {
    current: Arc<ArcSwap<S>>,
}

impl<S> RoutingLayer<S> {
    /// With the place where a reload puts the new snapshot.
    #[must_use]
    pub const fn new(current: Arc<ArcSwap<S>>) -> Self {
        Self { current }
    }
}

impl<S> Clone for RoutingLayer<S> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current) }
    }
}

impl<S, I> Layer<I> for RoutingLayer<S> {
    type Service = Routing<S, I>;

    fn layer(&self, inner: I) -> Routing<S, I> {
        Routing { current: Arc::clone(&self.current), inner }
    }
}

/// Finds the route of a request in the snapshot of the moment.
#[derive(Debug)]
pub struct Routing<S, I> {
    current: Arc<ArcSwap<S>>,
    inner: I,
}

impl<S, I: Clone> Clone for Routing<S, I> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current), inner: self.inner.clone() }
    }
}

impl<S, I> Service<Admitted> for Routing<S, I>
where
    S: Snapshot,
    I: Service<Routed<S>, Response = Response<Body>, Error = Rejection>,
{
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Either<Ready<Answer>, I::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, admitted: Admitted) -> Self::Future {
        // The request's one load. A cached handle would be cheaper by a few nanoseconds, but idle connections would keep old snapshots alive.
        match route(admitted, self.current.load_full()) {
            Ok(Step::Onward(routed)) => Either::Right(self.inner.call(routed)),
            Ok(Step::Answer(response)) => Either::Left(ready(Ok(response))),
            Err(rejection) => Either::Left(ready(Err(rejection))),
        }
    }
}
