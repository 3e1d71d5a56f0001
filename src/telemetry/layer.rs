//! The outermost layer: it opens the metrics of a request, and closes its record whatever becomes of it.
//!
//! It is generic over the request, because telemetry names no other room: whoever has a record can be recorded. It never looks at a body or changes an answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Response;
use tower::{Layer, Service};

use super::{Finish, Recorder, Telemetry, TraceParent, Worker};
use crate::body::Body;

/// A request that carries its record.
pub trait Recorded {
    /// The record.
    fn recorder(&self) -> &Recorder;
    /// Method, version and headers.
    fn head(&self) -> &http::request::Parts;
}

/// Makes [`Recording`].
#[derive(Clone)]
pub struct RecordLayer {
    worker: Rc<Worker>,
}

impl RecordLayer {
    /// The layer of one worker; it stays on the worker's thread.
    #[must_use]
    pub fn new(telemetry: &Telemetry) -> Self {
        Self { worker: Rc::new(Worker::new(telemetry.clone())) }
    }
}

impl<Inner> Layer<Inner> for RecordLayer {
    type Service = Recording<Inner>;

    fn layer(&self, inner: Inner) -> Recording<Inner> {
        Recording { inner, worker: Rc::clone(&self.worker) }
    }
}

/// Records every request that passes.
#[derive(Clone)]
pub struct Recording<Inner> {
    inner: Inner,
    worker: Rc<Worker>,
}

impl<Request, Inner> Service<Request> for Recording<Inner>
where
    Request: Recorded,
    Inner: Service<Request, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RecordingFuture<Inner::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let recorder = request.recorder().clone();
        let head = request.head();
        let parent = TraceParent::of(&head.headers);
        let trace = self.worker.telemetry().trace(parent.as_ref());
        recorder.with(|record| {
            record.trace_id = trace.as_ref().map(|trace| trace.id).or(parent.map(|parent| parent.trace));
            record.trace = trace;
            record.version = head.version;
        });
        let finish = Finish::open(recorder, Rc::clone(&self.worker));
        RecordingFuture { inner: self.inner.call(request), finish: Some(finish) }
    }
}

pin_project_lite::pin_project! {
    /// The answer to come. When it is dropped before, the record says that there was none.
    pub struct RecordingFuture<F> {
        #[pin]
        inner: F,
        finish: Option<Finish>,
    }
}

impl<F> Future for RecordingFuture<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match ready!(this.inner.poll(context)) {
            Ok(response) => response,
            Err(never) => match never {},
        };
        Poll::Ready(Ok(match this.finish.take() {
            Some(finish) => finish.answer(response),
            None => response,
        }))
    }
}

#[cfg(test)]
mod tests;
