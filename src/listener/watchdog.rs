//! The deadlines of one connection, and the stream that feeds them.
//!
//! hyper bounds the time of a head only from its own first poll and knows one bound for "idle" and "slow head"; so the stream itself notes what happens and
//! the connection's task asks [`Watchdog::deadline`] after each poll. In ordinary traffic no timer is touched: a deadline that
//! moves further away is looked at when the old one strikes.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Settings;

/// What a connection is doing and until when it may.
pub(super) struct Watchdog {
    settings: Rc<Settings>,
    phase: Cell<Phase>,
    write_until: Cell<Option<Instant>>,
    fresh: Cell<bool>,
    abandoned: Cell<bool>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// A head must be complete by then.
    Head(Instant),
    /// The next head must begin by then.
    Idle(Instant),
    /// A request is being answered; its own deadlines hold.
    Busy,
}

impl Watchdog {
    /// A connection that was accepted now.
    pub(super) fn new(settings: Rc<Settings>) -> Self {
        let until = Instant::now() + settings.head;
        Self { settings, phase: Cell::new(Phase::Head(until)), write_until: Cell::new(None), fresh: Cell::new(true), abandoned: Cell::new(false) }
    }

    /// When the connection must be ended, as things stand.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase.get() {
            Phase::Head(until) | Phase::Idle(until) => Some(until),
            Phase::Busy => None,
        };
        match (phase, self.write_until.get()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// A head is complete.
    pub(super) fn asked(&self) {
        self.phase.set(Phase::Busy);
        self.abandoned.set(false);
    }

    /// The answer has been handed over to its end, or given up.
    pub(super) fn answered(&self) {
        self.phase.set(Phase::Idle(Instant::now() + self.settings.idle));
    }

    /// A request's body will not be read to its end.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
    }

    /// Whether the current request's body was given up, so that the connection ends after the answer.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// Whether no byte has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.get()
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.phase.get(), Phase::Busy)
    }

    /// Shortens the time for the first byte of a head: the listener is going. A head that has begun keeps its time.
    pub(super) fn hurry(&self, until: Instant) {
        match self.phase.get() {
            Phase::Head(now) if self.is_fresh() => self.phase.set(Phase::Head(now.min(until))),
            Phase::Idle(now) => self.phase.set(Phase::Idle(now.min(until))),
            Phase::Head(_) | Phase::Busy => {}
        }
    }

    fn read(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.fresh.set(false);
        if let Phase::Idle(_) = self.phase.get() {
            self.phase.set(Phase::Head(Instant::now() + self.settings.head));
        }
    }

    fn wrote<T>(&self, outcome: Poll<T>) -> Poll<T> {
        match outcome {
            Poll::Ready(_) => self.write_until.set(None),
            Poll::Pending if self.write_until.get().is_none() => self.write_until.set(Some(Instant::now() + self.settings.write)),
            Poll::Pending => {}
        }
        outcome
    }
}

/// A TCP stream that tells its watchdog what passes.
pub(super) struct Watched {
    pub(super) stream: TcpStream,
    pub(super) watchdog: Rc<Watchdog>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watchdog.read(buffer.filled().len() - before);
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watchdog.wrote(outcome)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watchdog.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
