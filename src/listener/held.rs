//! How long a client of HTTP/2 may leave an answer that it asked for untaken.
//!
//! Its windows (RFC 9113, 5.2) hold an answer back while the connection itself is in order: pings are answered, the socket takes what is written. The
//! library waits for ever then, and with it the content server. So the task that sends an answer looks at the time since it was handed a piece and has not
//! asked for the next one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use crate::body::{Pace, Watch as _};

tokio::task_local! {
    /// Of the answer that this task sends.
    static HELD: Rc<Held>;
}

/// The piece that is being sent.
#[derive(Default)]
pub(super) struct Held {
    bytes: Cell<Option<usize>>,
    pace: RefCell<Option<Pace>>,
}

impl Held {
    /// That of the answer which this task sends, bounded by `pace` from now on; none outside of [`bounded`].
    pub(super) fn here(pace: impl FnOnce() -> Pace) -> Option<Rc<Self>> {
        let held = HELD.try_with(Rc::clone).ok()?;
        held.pace.replace(Some(pace()));
        Some(held)
    }

    /// There is room for the next piece.
    pub(super) fn taken(&self) {
        if let (Some(bytes), Some(pace)) = (self.bytes.take(), self.pace.borrow_mut().as_mut()) {
            // A pace never objects to bytes.
            let _ = pace.data(bytes);
        }
    }

    /// A piece was handed over.
    pub(super) fn handed(&self, bytes: usize) {
        self.bytes.set(Some(bytes));
    }
}

/// Runs what sends one answer; nothing when the client does not take it.
pub(super) async fn bounded<T>(sending: impl Future<Output = T>) -> Option<T> {
    let held = Rc::<Held>::default();
    let mut sending = pin!(HELD.scope(Rc::clone(&held), sending));
    poll_fn(|context| {
        if let Poll::Ready(ended) = sending.as_mut().poll(context) {
            return Poll::Ready(Some(ended));
        }
        let mut pace = held.pace.borrow_mut();
        let Some(pace) = pace.as_mut().filter(|_| held.bytes.get().is_some()) else { return Poll::Pending };
        if pace.waiting(context).is_err() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
