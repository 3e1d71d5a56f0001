//! What a client of HTTP/2 still sends of a request that was answered without it.
//!
//! An answer may come before its request is whole (RFC 9113, 8.1), as a refusal mostly does. The library resets such a stream in the moment in which nobody
//! can read the rest, and a client that is still sending may then throw the answer away, as curl 7.88 does. So the rest is read and forgotten beside the
//! connection, within bounds; most clients stop by themselves when they have read the answer. No piece is kept, so no window is held that others need.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

/// For how long after the whole answer the rest is read.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of one request that are read.
const EACH: usize = 4 * 1024 * 1024;
/// The same for all requests of a connection, until there is none whose rest is being read.
const ALL: usize = 16 * 1024 * 1024;

/// When the whole answer to a request had been handed over; nothing until then.
pub(super) type Said = Rc<Cell<Option<Instant>>>;

/// The rests that are being read on one connection. Dropped with it, like all that it holds.
#[derive(Default)]
pub(super) struct Unread {
    rests: RefCell<Vec<Rest>>,
    /// Bytes read since there was no rest.
    bytes: Cell<usize>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Of the task that drives the connection.
    waker: RefCell<Option<Waker>>,
    over: Cell<bool>,
}

struct Rest {
    body: Incoming,
    left: usize,
    begun: Instant,
    said: Said,
}

impl Unread {
    /// Reads this rest on until the answer has been `said`, and for a moment more.
    pub(super) fn keep(&self, body: Incoming, said: Said) {
        if !self.over.get() && !body.is_end_stream() {
            self.rests.borrow_mut().push(Rest { body, left: EACH, begun: Instant::now(), said });
            self.look();
        }
    }

    /// Has the connection's task look again: there is a new rest, or an answer was said.
    pub(super) fn look(&self) {
        if !self.rests.borrow().is_empty()
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Reads what has come. `patience`: how long after its answer a rest may take. Called by the task that drives the connection, which has one waker.
    pub(super) fn poll(&self, context: &mut Context<'_>, patience: Duration) {
        self.waker.borrow_mut().get_or_insert_with(|| context.waker().clone());
        let mut rests = self.rests.borrow_mut();
        if rests.is_empty() {
            return;
        }
        rests.retain_mut(|rest| rest.goes_on(context, &self.bytes));
        while let Some(next) = rests.iter().filter_map(|rest| rest.until(patience)).min() {
            let mut timer = self.timer.borrow_mut();
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(context).is_pending() {
                break;
            }
            rests.retain(|rest| rest.until(patience).is_none_or(|until| until > next));
        }
        if rests.is_empty() {
            self.bytes.set(0);
        }
    }

    /// The connection has ended.
    pub(super) fn close(&self) {
        self.over.set(true);
        self.rests.take();
    }
}

impl Rest {
    /// Reads what has come; whether there may be more.
    fn goes_on(&mut self, context: &mut Context<'_>, all: &Cell<usize>) -> bool {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let Some(Ok(frame)) = frame else { return false };
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            all.set(all.get().saturating_add(bytes));
            self.left = self.left.saturating_sub(bytes);
            if self.left == 0 || all.get() >= ALL {
                return false;
            }
        }
        true
    }

    fn until(&self, patience: Duration) -> Option<Instant> {
        self.said.get().map(|said| said.max(self.begun) + patience)
    }
}
