//! How long an upload may stand still at a server of HTTP/2 that has answered already.
//!
//! A server may answer before it has the whole request and then neither read the rest nor reset the stream. The library waits for room on the stream as long
//! as the connection lives, and with it the client's stream and what was on the way. Before the answer the time for the answer ends that; from its end on
//! the server has as much time for each piece. Over HTTP/1.1 the whole connection stands still then, and ends.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::{Body, BodyError, Watch};

tokio::task_local! {
    /// The upload that this task sends, once it has asked for a piece.
    static HERE: RefCell<Option<Rc<Upload>>>;
}

/// The request body of one exchange.
pub(super) struct Upload {
    limit: Duration,
    /// When the piece that is being sent was handed over; nothing while the client is waited for.
    handed: Cell<Option<Instant>>,
    /// When the answer had ended.
    answered: Cell<Option<Instant>>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Of the task that sends it, which has one.
    waker: RefCell<Option<Waker>>,
}

impl Upload {
    /// The same body, watched; `limit`: for each piece, from the end of the answer on. Nothing is watched where there is no body.
    pub(super) fn of(body: Body, limit: Duration) -> (Body, Option<Rc<Self>>) {
        if body.is_empty() {
            return (body, None);
        }
        let (handed, answered) = (Cell::new(None), Cell::new(None));
        let upload = Rc::new(Self { limit, handed, answered, timer: RefCell::default(), waker: RefCell::default() });
        // The library asks once before it gives the body a task of its own: it is to be asked there.
        (body.watched(Box::new(Sending(Rc::clone(&upload)))).asked_again(), Some(upload))
    }

    /// Hears of the end of the answer.
    pub(super) fn answered(self: Rc<Self>) -> Box<dyn Watch> {
        Box::new(Answered(self))
    }

    /// Ready when it has stood still for too long.
    fn poll_stuck(&self, context: &mut Context<'_>) -> Poll<()> {
        self.waker.borrow_mut().get_or_insert_with(|| context.waker().clone());
        let (Some(handed), Some(answered)) = (self.handed.get(), self.answered.get()) else { return Poll::Pending };
        let until = handed.max(answered) + self.limit;
        let mut timer = self.timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context)
    }
}

/// Runs what may send an upload; gives it up where that stands still.
pub(super) async fn bounded(sending: impl Future) {
    let mut sending = pin!(sending);
    let watched = poll_fn(|context| match sending.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => HERE.with(|here| here.borrow().as_ref().map_or(Poll::Pending, |upload| upload.poll_stuck(context))),
    });
    HERE.scope(RefCell::default(), watched).await;
}

struct Sending(Rc<Upload>);

impl Sending {
    fn is_asked(&self) {
        // Elsewhere nothing is bounded: over HTTP/1.1 it is the connection.
        let _ = HERE.try_with(|here| {
            here.borrow_mut().get_or_insert_with(|| Rc::clone(&self.0));
        });
    }
}

impl Watch for Sending {
    fn data(&mut self, _bytes: usize) -> Result<(), BodyError> {
        self.is_asked();
        self.0.handed.set(Some(Instant::now()));
        Ok(())
    }

    fn waiting(&mut self, _context: &mut Context<'_>) -> Result<(), BodyError> {
        self.is_asked();
        self.0.handed.set(None);
        Ok(())
    }

    // The last piece may stand still as well.
    fn end(&mut self, _complete: bool) {}
}

struct Answered(Rc<Upload>);

impl Watch for Answered {
    fn data(&mut self, _bytes: usize) -> Result<(), BodyError> {
        Ok(())
    }

    fn end(&mut self, _complete: bool) {
        self.0.answered.set(Some(Instant::now()));
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}
