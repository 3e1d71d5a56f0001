//! The deadlines of one connection, and the stream that feeds them.
//!
//! hyper bounds the time of a head only from its own first poll and knows one bound for "idle" and "slow head"; so the stream itself notes what happens and
//! the connection's task asks [`Watchdog::deadline`] after each poll. In ordinary traffic no timer is touched: a deadline that
//! moves further away is looked at when the old one strikes.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Settings;
use super::drain::UnderWay;
use super::frames::{Frames, Heads, calm};
use super::raw_head::RawHeads;
use super::seats::Asks;
use super::transport::Transport;
use super::unread::{Said, Unread};
use crate::body::Untaken;
use crate::holes::{Hole, open};

/// Requests that the other side of an HTTP/2 connection may call and take back unanswered; beyond it there must be more that were answered.
const TAKEN_BACK: usize = 200;
/// How long nothing of an answer may be taken by a client that has ended its own side: it may wait for the answer, or be gone (RFC 9112, 9.6).
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// How long and how much is thrown away after the last answer.
pub(super) const LINGER: (Duration, usize) = (Duration::from_secs(1), 1024 * 1024);

/// What a connection is doing and until when it may.
pub(super) struct Watchdog {
    settings: Arc<Settings>,
    under_way: Rc<UnderWay>,
    phase: Cell<Phase>,
    /// Since when the other side takes nothing, and whether a flush found that out.
    stuck: Cell<Option<(Instant, bool)>>,
    /// It has taken nothing for too long: its end is a reset.
    given_up: Cell<bool>,
    /// What is left for all such waits.
    patience: Cell<Duration>,
    /// Who wants to hear that something of the answer is taken again.
    held_back: Cell<Option<(Waker, Untaken)>>,
    /// All has been said; the other side has until then to close.
    leave: Cell<Option<Instant>>,
    /// The other side has ended its own; until then it may take of the answer.
    half_closed: Cell<Option<Instant>>,
    /// A request's body is being received.
    receiving: Cell<bool>,
    fresh: Cell<bool>,
    abandoned: Cell<bool>,
    /// All that the library wanted to write was flushed.
    flushed: Cell<bool>,
    /// Requests at a time share the connection (HTTP/2).
    shared: Cell<bool>,
    exchanges: Cell<usize>,
    answered: Cell<usize>,
    taken_back: Cell<usize>,
    /// What the heads hold that hyper does not show; nothing where no heads of HTTP/1 come.
    heads: RefCell<Option<RawHeads>>,
    suspect: Cell<Option<&'static str>>,
    /// What comes over HTTP/2 and carries nothing.
    frames: RefCell<Option<Frames>>,
    /// What goes out over HTTP/2.
    said: RefCell<Option<Heads>>,
    flooded: Cell<bool>,
    /// What is still sent over HTTP/2 of requests that were answered.
    pub(super) unread: Unread,
    /// The socket of a connection that was broken off, while its other side may still take the last words.
    pub(super) left: Cell<Option<std::net::TcpStream>>,
}

/// A request that is being answered, to the end of the answer.
pub(super) struct Exchange {
    watchdog: Rc<Watchdog>,
    answered: bool,
    said: Option<Said>,
    _counted: Option<Arc<Asks>>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// A head must be complete by then.
    Head(Instant),
    /// The next head must begin by then; since when it is awaited.
    Idle(Instant, Instant),
    /// Requests are being answered; their own deadlines hold.
    Busy,
}

impl Watchdog {
    /// A connection that was accepted now.
    pub(super) fn new(settings: Arc<Settings>, under_way: Rc<UnderWay>) -> Self {
        let (until, patience) = (Instant::now() + settings.head, settings.whole_write);
        Self {
            heads: RefCell::new(Some(RawHeads::new(settings.head_bytes))),
            settings,
            under_way,
            phase: Cell::new(Phase::Head(until)),
            stuck: Cell::new(None),
            given_up: Cell::new(false),
            patience: Cell::new(patience),
            held_back: Cell::new(None),
            leave: Cell::new(None),
            half_closed: Cell::new(None),
            receiving: Cell::new(false),
            fresh: Cell::new(true),
            abandoned: Cell::new(false),
            flushed: Cell::new(false),
            shared: Cell::new(false),
            exchanges: Cell::new(0),
            answered: Cell::new(0),
            taken_back: Cell::new(0),
            suspect: Cell::new(None),
            frames: RefCell::new(None),
            said: RefCell::new(None),
            flooded: Cell::new(false),
            unread: Unread::default(),
            left: Cell::new(None),
        }
    }

    /// What holds for the connection.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When the connection must be ended, as things stand.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase.get() {
            _ if open(Hole::NoTimeouts) => None,
            Phase::Head(until) | Phase::Idle(until, _) => Some(until),
            Phase::Busy => None,
        };
        let write = self.stuck.get().map(|(since, _)| since + self.settings.write.min(self.patience.get()));
        let half_closed = self.half_closed.get().filter(|_| self.is_busy());
        [phase, write, half_closed, self.leave.get()].into_iter().flatten().min()
    }

    /// When the connection must have become one that carries HTTP.
    pub(super) fn until_open(&self) -> Instant {
        self.deadline().unwrap_or_else(|| Instant::now() + self.settings.head)
    }

    /// The frame that tells one that asks too much why the connection ends; none in the middle of another frame.
    fn last_words(&self) -> Bytes {
        let between = self.said.borrow().as_ref().is_some_and(Heads::is_between);
        let last = self.frames.borrow().as_ref().map_or(0, Frames::last);
        if between { Bytes::copy_from_slice(&calm(last)) } else { Bytes::new() }
    }

    /// Whether all has been said, and only the other side's end is waited for.
    pub(super) fn is_leaving(&self) -> bool {
        self.leave.get().is_some()
    }

    /// HTTP/2 is spoken: bytes may be pings, so they do not begin a head, and one request says nothing of the next.
    pub(super) fn share(&self) {
        self.shared.set(true);
        self.no_more_heads();
        self.frames.replace(Some(Frames::new()));
        self.said.replace(Some(Heads::of_answers()));
    }

    /// Whether HTTP/2 is spoken.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.get()
    }

    /// A head is complete; `counted` is given up with the answer.
    pub(super) fn asked(self: &Rc<Self>, counted: Option<Arc<Asks>>) -> Exchange {
        self.phase.set(Phase::Busy);
        self.abandoned.set(false);
        self.suspect.set(self.heads.borrow_mut().as_mut().and_then(RawHeads::asked));
        if let Some(frames) = self.frames.borrow_mut().as_mut() {
            frames.asked();
        }
        self.exchanges.set(self.exchanges.get().saturating_add(1));
        self.under_way.asked();
        Exchange { watchdog: Rc::clone(self), answered: false, said: None, _counted: counted }
    }

    /// What the head of the request that was asked last holds and hyper does not show, if that must be refused.
    pub(super) fn suspect(&self) -> Option<&'static str> {
        self.suspect.get()
    }

    /// What comes from now on is no HTTP/1.
    pub(super) fn no_more_heads(&self) {
        self.heads.replace(None);
    }

    /// The answer has been handed over to its end, or given up.
    fn ended(&self, answered: bool) {
        if let (true, Some(frames)) = (answered, self.frames.borrow_mut().as_mut()) {
            frames.answered();
        }
        let count = if answered { &self.answered } else { &self.taken_back };
        count.set(count.get().saturating_add(1));
        self.exchanges.set(self.exchanges.get().saturating_sub(1));
        self.under_way.answered();
        if self.exchanges.get() == 0 {
            let now = Instant::now();
            self.phase.set(Phase::Idle(now + self.settings.idle, now));
        }
    }

    /// When a connection that asks nothing may be parked; none while the library holds something of it, read or unsent. Over HTTP/2 there is always something.
    pub(super) fn parks(&self) -> Option<Instant> {
        let Phase::Idle(_, since) = self.phase.get() else { return None };
        let holds_nothing = self.flushed.get() && self.heads.borrow().as_ref().is_some_and(RawHeads::is_between);
        (holds_nothing && !self.abandoned.get() && self.half_closed.get().is_none()).then(|| since + self.settings.quiet)
    }

    /// Whether the other side asks and takes back without end (the "rapid reset"), or sends frames without end that carry nothing.
    pub(super) fn is_abused(&self) -> bool {
        self.flooded.get() || self.taken_back.get() > TAKEN_BACK.max(self.answered.get())
    }

    /// A request's body will not be read to its end.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
    }

    /// A request's body is being received, or is not any more.
    pub(super) fn receiving(&self, on: bool) {
        self.receiving.set(on);
    }

    /// The other side's end has come. Whether that is to be kept from hyper, which would give up the answer: all of the request is there, so it may be
    /// waited for.
    fn bears_end(&self) -> bool {
        let bears = self.is_busy() && !self.receiving.get() && self.heads.borrow().is_some();
        if bears && self.half_closed.get().is_none() {
            self.half_closed.set(Some(Instant::now() + HALF_CLOSED));
        }
        bears
    }

    /// Whether the current request's body was given up, so that the connection ends after the answer.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// A head begins.
    pub(super) fn comes(&self) {
        self.fresh.set(false);
        if let (Phase::Idle(..), false) = (self.phase.get(), self.shared.get()) {
            self.phase.set(Phase::Head(Instant::now() + self.settings.head));
        }
    }

    /// Whether the other side takes nothing of what is said.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.get().is_some()
    }

    /// The other side has taken nothing for too long. When the stream is asked again it ends by a reset: after a close the kernel would go on to offer what it
    /// holds, some MiB, to one that takes nothing, for minutes and with no limit of ours.
    pub(super) fn give_up(&self) {
        self.given_up.set(true);
    }

    /// Whether no byte has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.get()
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.phase.get(), Phase::Busy)
    }

    /// HTTP/2 was told that the connection ends: who has nothing under way has until then to hear it.
    pub(super) fn wind_down(&self, until: Instant) {
        if !self.is_busy() {
            self.phase.set(Phase::Idle(until, Instant::now()));
        }
    }

    /// Shortens the time for the first byte of a head: the listener is going. A head that has begun keeps its time.
    pub(super) fn hurry(&self, until: Instant) {
        match self.phase.get() {
            Phase::Head(now) if self.is_fresh() => self.phase.set(Phase::Head(now.min(until))),
            Phase::Idle(now, since) => self.phase.set(Phase::Idle(now.min(until), since)),
            Phase::Head(_) | Phase::Busy => {}
        }
    }

    /// Whether nothing more may be read for the message that is under way.
    fn is_broken(&self) -> bool {
        self.heads.borrow().as_ref().is_some_and(RawHeads::is_broken)
    }

    /// These bytes were read. What must be refused and the library would pass over is spoiled, so that it refuses it.
    fn read(&self, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(heads) = self.heads.borrow_mut().as_mut() {
            heads.read(bytes);
        }
        if let Some(frames) = self.frames.borrow_mut().as_mut()
            && frames.read(bytes)
            && !open(Hole::FloodsBorne)
        {
            self.flooded.set(true);
        }
        self.comes();
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.flushed.set(false);
        match &outcome {
            Poll::Ready(bytes) => self.taken(*bytes.as_ref().unwrap_or(&0)),
            Poll::Pending => self.sticks(false),
        }
        outcome
    }

    /// With TLS a write ends in a buffer, and it is the flush that waits for the peer; without, a flush that is done says nothing of a write that is not.
    fn flushed(&self, outcome: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        self.flushed.set(matches!(outcome, Poll::Ready(Ok(()))));
        match outcome {
            Poll::Ready(_) if matches!(self.stuck.get(), Some((_, true))) => self.taken(0),
            Poll::Ready(_) => {}
            Poll::Pending => self.sticks(true),
        }
        outcome
    }

    /// Whether the next piece of an answer has to wait since the other side takes nothing: the library would put it beside what waits already. Whoever asks is
    /// woken when that changes. Over HTTP/2 windows hold an answer back, and the library asks for no piece that they have no room for.
    pub(super) fn holds_back(&self, context: &Context<'_>) -> bool {
        let holds = !self.shared.get() && self.stuck.get().is_some();
        if holds {
            self.held_back.set(Some((context.waker().clone(), Untaken::begin())));
        }
        holds
    }

    fn sticks(&self, flush: bool) {
        if self.stuck.get().is_none() {
            self.stuck.set(Some((Instant::now(), flush)));
        }
    }

    fn taken(&self, bytes: usize) {
        if bytes > 0 && self.half_closed.get().is_some() {
            self.half_closed.set(Some(Instant::now() + HALF_CLOSED));
        }
        let Some((since, _)) = self.stuck.take() else { return };
        if let Some((waker, _)) = self.held_back.take() {
            waker.wake();
        }
        // As a request's body: a second for each KiB.
        self.patience.set(self.patience.get().saturating_sub(since.elapsed()).saturating_add(Duration::from_millis(bytes as u64)));
    }
}

impl Exchange {
    /// There is an answer.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// Where it will stand when the answer was said; nothing over HTTP/1.1, which ends the connection with a request that was not read.
    pub(super) fn said(&mut self) -> Option<Said> {
        self.watchdog.is_shared().then(|| Rc::clone(self.said.get_or_insert_default()))
    }

    /// Whether its next piece has to wait ([`Watchdog::holds_back`]).
    pub(super) fn holds_back(&self, context: &Context<'_>) -> bool {
        self.watchdog.holds_back(context)
    }

    /// A piece of it goes out.
    pub(super) fn sent(&self, bytes: usize) {
        if let Some(frames) = self.watchdog.frames.borrow_mut().as_mut() {
            frames.sent(bytes);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.watchdog.ended(self.answered);
        if let Some(said) = &self.said {
            said.set(Some(Instant::now()));
            self.watchdog.unread.look();
        }
    }
}

/// A stream that tells its watchdog what passes.
pub(super) struct Watched {
    pub(super) stream: Transport,
    /// What was read before anybody knew the protocol.
    pub(super) begun: Bytes,
    pub(super) watchdog: Rc<Watchdog>,
    /// Bytes that were read and thrown away since all has been said.
    pub(super) wasted: usize,
}

/// Reads and forgets until the peer has closed, or has sent too much. A close with bytes that nobody read would be a reset, and take from the
/// peer what it has not read yet (RFC 9112, 9.6).
pub(super) fn poll_forget(socket: &TcpStream, wasted: &mut usize, context: &mut Context<'_>) -> Poll<()> {
    let mut waste = [0; 8 * 1024];
    while *wasted < LINGER.1 {
        if ready!(socket.poll_read_ready(context)).is_err() {
            break;
        }
        match socket.try_read(&mut waste) {
            Ok(0) => break,
            Ok(bytes) => *wasted = wasted.saturating_add(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    Poll::Ready(())
}

impl Watched {
    /// Reads and forgets, as [`poll_forget`].
    pub(super) fn poll_forget(&mut self, context: &mut Context<'_>) -> Poll<()> {
        poll_forget(self.stream.socket(), &mut self.wasted, context)
    }

    /// Ends a connection of HTTP/2 whose other side asks too much, and says why if that can be said at once. What it has under way ends now; the socket is left
    /// to the watchdog.
    fn break_off(&mut self, context: &mut Context<'_>) -> io::Error {
        let mut words = self.watchdog.last_words();
        while words.has_remaining()
            && let Poll::Ready(Ok(bytes @ 1..)) = Pin::new(&mut self.stream).poll_write(context, &words)
        {
            words.advance(bytes);
        }
        let _ = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watchdog.left.set(self.stream.socket().as_fd().try_clone_to_owned().ok().map(Into::into));
        io::ErrorKind::ConnectionAborted.into()
    }

    /// Ends a connection whose other side takes nothing, and forgets what it was to get.
    pub(super) fn reset(&self) -> io::Error {
        let _ = self.stream.socket().set_zero_linger();
        io::ErrorKind::TimedOut.into()
    }

    /// These bytes are on their way.
    fn wrote(&self, slices: &[IoSlice<'_>], outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(bytes)), Some(heads)) = (&outcome, self.watchdog.said.borrow_mut().as_mut()) {
            let mut left = *bytes;
            for slice in slices {
                let mut bytes = slice.get(..left.min(slice.len())).unwrap_or_default();
                left = left.saturating_sub(bytes.len());
                while let Some((_, rest)) = heads.next(bytes) {
                    bytes = rest;
                }
            }
        }
        self.watchdog.wrote(outcome)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.watchdog.is_shared() && self.watchdog.is_abused() {
            return Poll::Ready(Err(self.break_off(context)));
        }
        if self.watchdog.is_broken() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if self.begun.has_remaining() {
            let bytes = self.begun.len().min(buffer.remaining());
            let bytes = self.begun.split_to(bytes);
            let before = buffer.filled().len();
            buffer.put_slice(&bytes);
            self.watchdog.read(buffer.filled_mut().get_mut(before..).unwrap_or_default());
            return Poll::Ready(Ok(()));
        }
        if self.watchdog.half_closed.get().is_some() {
            return if self.watchdog.bears_end() { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if matches!(outcome, Poll::Ready(Ok(()))) && buffer.filled().len() == before && buffer.remaining() > 0 && self.watchdog.bears_end() {
            return Poll::Pending;
        }
        self.watchdog.read(buffer.filled_mut().get_mut(before..).unwrap_or_default());
        if self.watchdog.flooded.get() {
            // What has come is not looked at: the library would go on while there is more.
            return Poll::Ready(Err(self.break_off(context)));
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.watchdog.given_up.get() {
            return Poll::Ready(Err(self.reset()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(&[IoSlice::new(bytes)], outcome)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.watchdog.given_up.get() {
            return Poll::Ready(Err(self.reset()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(slices, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watchdog.given_up.get() {
            return Poll::Ready(Err(self.reset()));
        }
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.watchdog.flushed(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        // Of HTTP/2 the library gives no stream back, so it is here that the end is waited for: window updates of the last answer are on their way.
        if self.watchdog.is_shared() {
            if !self.watchdog.is_leaving() {
                self.watchdog.leave.set(Some(Instant::now() + LINGER.0));
            }
            ready!(self.poll_forget(context));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn busy() -> Rc<Watchdog> {
        Rc::new(Watchdog::new(Arc::new(Settings::default()), Rc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_little_at_a_time_is_borne_as_long_as_it_takes_a_kibibyte_a_second() {
        for (bytes, survives) in [(1, 3), (16 * 1024, 100), (30 * 1024, 100)] {
            let watchdog = busy();
            let _request = watchdog.asked(None);
            let mut passed = 0;
            while passed < 100 {
                assert!(watchdog.wrote(Poll::Pending).is_pending());
                tokio::time::advance(16 * SECOND).await;
                if watchdog.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                    break;
                }
                assert!(watchdog.wrote(Poll::Ready(Ok(bytes))).is_ready());
                passed += 1;
            }
            assert_eq!(passed, survives, "{bytes} bytes each 16 s");
        }
    }

    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_piece_of_an_answer_waits_while_the_other_side_takes_nothing_and_is_asked_for_when_it_does() {
        for (flush, shared) in [(false, false), (true, false), (false, true)] {
            let watchdog = busy();
            if shared {
                watchdog.share();
            }
            let exchange = watchdog.asked(None);
            let woken = Arc::new(Woken(AtomicBool::new(false)));
            let waker = Arc::clone(&woken).into();
            let context = Context::from_waker(&waker);
            assert!(!exchange.holds_back(&context));
            if flush {
                assert!(watchdog.flushed(Poll::Pending).is_pending());
            } else {
                assert!(watchdog.wrote(Poll::Pending).is_pending());
            }
            assert_eq!(exchange.holds_back(&context), !shared, "of HTTP/2 windows hold it back");
            assert!(!woken.0.load(Ordering::Relaxed));
            if flush {
                assert!(watchdog.flushed(Poll::Ready(Ok(()))).is_ready());
            } else {
                assert!(watchdog.wrote(Poll::Ready(Ok(1))).is_ready());
            }
            assert_eq!(woken.0.load(Ordering::Relaxed), !shared);
            assert!(!exchange.holds_back(&context));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_that_was_held_up_and_went_through_leaves_no_deadline() {
        let watchdog = busy();
        let _request = watchdog.asked(None);
        assert!(watchdog.flushed(Poll::Pending).is_pending());
        assert!(watchdog.deadline().is_some());
        assert!(watchdog.flushed(Poll::Ready(Ok(()))).is_ready());
        assert_eq!(watchdog.deadline(), None, "a slow answer is not cut for it");
        assert!(watchdog.wrote(Poll::Pending).is_pending());
        assert!(watchdog.flushed(Poll::Ready(Ok(()))).is_ready());
        assert!(watchdog.deadline().is_some(), "a write that hangs still hangs");
    }
}
