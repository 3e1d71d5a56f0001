//! The end of a record: when the answer's body has ended, or when it never came.
//!
//! Here the metrics of a request are counted and its record is handed to the log. Nothing here waits.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::{Response, StatusCode, Version};

use super::metrics::{Active, Handles};
use super::{Recorder, Telemetry};
use crate::body::{Body, BodyError, Watch};

/// One worker's end of the telemetry: the shared channel, and label handles that are looked up once.
pub struct Worker {
    telemetry: Telemetry,
    handles: RefCell<Handles>,
}

impl Worker {
    /// A worker's end.
    #[must_use]
    pub fn new(telemetry: Telemetry) -> Self {
        let handles = RefCell::new(Handles::new(telemetry.metrics()));
        Self { telemetry, handles }
    }

    /// What the worker sends to.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

/// Closes the record when the answer ends, by any way: sent, broken off, or never given.
pub struct Finish {
    recorder: Recorder,
    worker: Rc<Worker>,
    active: Option<Active>,
    bytes: u64,
}

impl Finish {
    /// A request has come.
    #[must_use]
    pub fn open(recorder: Recorder, worker: Rc<Worker>) -> Self {
        let active = recorder.with(|record| worker.handles.borrow_mut().begin(&record.method, record.scheme));
        Self { recorder, worker, active: Some(active), bytes: 0 }
    }

    /// The answer's head is there: the record waits for the end of the body, if there is one.
    #[must_use]
    pub fn answer(mut self, response: Response<Body>) -> Response<Body> {
        let status = response.status();
        self.recorder.with(|record| {
            // Over HTTP/2 a tunnel is answered 200 (RFC 8441, 5), and there is no 101 (RFC 9113, 8.6): only between rooms it has that form.
            let tunnel = status == StatusCode::SWITCHING_PROTOCOLS && record.version == Version::HTTP_2;
            record.status = if tunnel { StatusCode::OK } else { status }.as_u16();
            let waits = record.authorization_server.saturating_add(record.upstream_duration.unwrap_or(Duration::ZERO));
            record.overhead = record.started.elapsed().saturating_sub(waits);
        });
        if response.body().is_empty() {
            self.close(true);
            return response;
        }
        response.map(|body| body.watched(Box::new(self)))
    }

    fn close(&mut self, complete: bool) {
        // The gauge goes down once; whoever comes second finds nothing to do.
        let Some(active) = self.active.take() else { return };
        drop(active);
        let mut record = self.recorder.take();
        record.bytes_out = self.bytes;
        record.complete = complete;
        record.duration = record.started.elapsed();
        self.worker.handles.borrow_mut().end(&record);
        self.worker.telemetry.send(record);
    }
}

impl Watch for Finish {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        Ok(())
    }

    fn end(&mut self, complete: bool) {
        self.close(complete);
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.close(false);
    }
}

/// Counts the bytes of the request's body into its record.
pub struct BytesIn(pub Recorder);

impl Watch for BytesIn {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.0.with(|record| record.bytes_in = record.bytes_in.saturating_add(bytes as u64));
        Ok(())
    }

    fn end(&mut self, _complete: bool) {}
}

/// For an answer that no [`super::RecordLayer`] sees: its record is opened and closed at this place.
#[must_use]
pub fn finish(response: Response<Body>, recorder: &Recorder, worker: &Rc<Worker>) -> Response<Body> {
    Finish::open(recorder.clone(), Rc::clone(worker)).answer(response)
}
