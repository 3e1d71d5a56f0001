//! The one body type of the gateway: nothing, bytes that are at hand, or a stream from the other side.
//!
//! A body may carry several [`Watch`]es, which hear of every piece and of the end; records, limits and deadlines hang on them.
//! Rooms are not generic over bodies. Nothing here keeps more than the piece that is passing.

mod replay;
mod trailers;
mod tunnel;
mod untaken;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

pub use replay::{Replay, Room};
pub use trailers::clean_trailers;
pub use tunnel::{Duplex, Leash, Tunnel, TunnelEnd};
pub use untaken::Untaken;

/// Watches that a body carries without further allocation: a pace, a limit, a record.
const WATCHES: usize = 3;

/// Whether a Content-Length is a number that every reader holds: digits alone, and no more than 64 bits with a sign. Beyond that some servers read another one.
#[must_use]
pub fn is_length(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok())
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side broke off or sent nonsense.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    /// More bytes than the limit.
    #[error("the body is larger than its limit")]
    TooLarge,
    /// No bytes for too long.
    #[error("the body stood still for too long")]
    Stalled,
}

/// Hears what passes through a streamed body.
pub trait Watch {
    /// A piece of data of so many bytes is about to be handed on; an error ends the body.
    ///
    /// # Errors
    /// When the body must not go on.
    fn data(&mut self, bytes: usize) -> Result<(), BodyError>;
    /// The trailer section is about to be handed on; fields may be taken out. The default lets all pass.
    fn trailers(&mut self, _trailers: &mut HeaderMap) {}
    /// The body turns out to be that of a call (gRPC): a conversation, which may last. The default takes no notice.
    fn call(&mut self) {}
    /// Called while the body waits for more; an error ends it (a deadline has passed). The default waits for ever.
    ///
    /// # Errors
    /// When the body must not go on.
    fn waiting(&mut self, _context: &mut Context<'_>) -> Result<(), BodyError> {
        Ok(())
    }
    /// The body has ended in good order (`true`) or was broken off by this side or the other (`false`).
    fn end(&mut self, complete: bool);
    /// Heard after [`Watch::end`] where this side broke off: what it did not read, for one who wants it. The default passes it on; what nobody wants is dropped.
    fn unread(&mut self, rest: Incoming) -> Option<Incoming> {
        Some(rest)
    }
}

/// A watch that ends a body which stands still, or drips: no bytes for longer than `limit` while somebody waits for them, or more waiting in all
/// than the allowance, which every byte that comes makes longer.
///
/// Time in which nobody asks for bytes does not count: whoever holds the reader back is not this body's fault.
#[derive(Debug)]
pub struct Pace {
    limit: Duration,
    allowance: Option<Duration>,
    since: Option<Instant>,
    // Made at the first wait: most bodies arrive whole and never need it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// A watch with this limit for one wait and none for all of them.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit, allowance: None, since: None, timer: None }
    }

    /// A watch that also bounds all waits together: `allowance`, and a second more for each KiB that has come.
    #[must_use]
    pub const fn bounded(limit: Duration, allowance: Duration) -> Self {
        Self { limit, allowance: Some(allowance), since: None, timer: None }
    }
}

impl Watch for Pace {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        let Some(since) = self.since.take() else { return Ok(()) };
        if let Some(allowance) = &mut self.allowance {
            let earned = Duration::from_millis(bytes as u64);
            *allowance = allowance.saturating_sub(since.elapsed()).saturating_add(earned);
        }
        Ok(())
    }

    fn waiting(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        let limit = self.allowance.map_or(self.limit, |allowance| allowance.min(self.limit));
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            timer.as_mut().reset(now + limit);
        }
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Err(BodyError::Stalled),
            Poll::Pending => Ok(()),
        }
    }

    fn end(&mut self, _complete: bool) {}
}

/// A request or response body.
pub struct Body {
    kind: Kind,
    watches: [Option<Box<dyn Watch>>; WATCHES],
    trailers: bool,
    again: bool,
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream(Incoming),
    /// One whose first piece is here already.
    Begun(Box<(Frame<Bytes>, Incoming)>),
    /// One that may be begun again.
    Lent(replay::Lent),
    /// The body of a 101.
    Tunnel(Box<Tunnel>),
}

impl Body {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self::new(Kind::Empty)
    }

    /// A body that is at hand.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self::new(Kind::Full(bytes)) }
    }

    /// A body that streams from the other side of a connection.
    #[must_use]
    pub fn stream(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::empty() } else { Self::new(Kind::Stream(incoming)) }
    }

    /// Such a body of no announced length, of which `first` has been read.
    #[must_use]
    pub fn begun(first: Frame<Bytes>, rest: Incoming) -> Self {
        Self::new(Kind::Begun(Box::new((first, rest))))
    }

    /// An upgraded connection, in the place of the body of a 101; `idle`: how long it may be silent, zero: for ever.
    #[must_use]
    pub fn tunnel(far: Box<dyn Duplex>, idle: Duration) -> Self {
        Self::new(Kind::Tunnel(Box::new(Tunnel::new(far, idle))))
    }

    /// The same tunnel, which ends when `leash` is ready. Any other body is left as it is.
    #[must_use]
    pub fn leashed(mut self, leash: Leash) -> Self {
        if let Kind::Tunnel(tunnel) = &mut self.kind {
            tunnel.leash = Some(leash);
        }
        self
    }

    /// Takes the tunnel out, with those who watch it, and leaves nothing.
    pub fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Tunnel(mut tunnel) => {
                tunnel.watches = std::mem::replace(&mut self.watches, [const { None }; WATCHES]);
                Some(tunnel)
            }
            other => {
                self.kind = other;
                None
            }
        }
    }

    const fn new(kind: Kind) -> Self {
        Self { kind, watches: [const { None }; WATCHES], trailers: true, again: false }
    }

    /// The same body without the trailer section that may follow it: nothing may be decided by trailers, so requests lose theirs.
    #[must_use]
    pub fn without_trailers(mut self) -> Self {
        self.trailers = false;
        self
    }

    /// The same body, which gives nothing when it is asked first and wants to be asked again: for one that is asked before it is where it will be read.
    #[must_use]
    pub const fn asked_again(mut self) -> Self {
        self.again = true;
        self
    }

    /// The same body as that of a gRPC call, whose trailers go on and whose watches know that it may last. Not by a client's word alone: whoever says so
    /// knows that the server speaks HTTP/2.
    #[must_use]
    pub fn of_call(mut self) -> Self {
        self.trailers = true;
        self.watches.iter_mut().flatten().for_each(|watch| watch.call());
        self
    }

    /// The same body with one more who hears what passes; those who were there before hear it first.
    #[must_use]
    pub fn watched(mut self, watch: Box<dyn Watch>) -> Self {
        let added = match self.watches.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(watch);
                None
            }
            None => Some(watch),
        };
        if let (Some(second), Some(last)) = (added, self.watches.last_mut()) {
            *last = last.take().map(|first| Box::new(Pair(first, second)) as Box<dyn Watch>);
        }
        self
    }

    /// Whether there is nothing (left) to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_end_stream()
    }

    fn each(&mut self, mut tell: impl FnMut(&mut dyn Watch) -> Result<(), BodyError>) -> Result<(), BodyError> {
        self.watches.iter_mut().flatten().try_for_each(|watch| tell(watch.as_mut()))
    }

    /// Takes out what was not read yet, and leaves nothing.
    fn take_rest(&mut self) -> Option<Incoming> {
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Stream(rest) if !rest.is_end_stream() => Some(rest),
            Kind::Begun(begun) => Some(begun.1),
            _ => None,
        }
    }

    fn finish(&mut self, complete: bool, mut rest: Option<Incoming>) {
        for place in &mut self.watches {
            if let Some(mut watch) = place.take() {
                watch.end(complete);
                rest = rest.and_then(|rest| watch.unread(rest));
            }
        }
    }

    fn poll_kind(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            // Only whoever takes the tunnel out can use it.
            Kind::Empty | Kind::Tunnel(_) => Poll::Ready(None),
            Kind::Lent(lent) => lent.poll(context),
            Kind::Begun(_) => {
                let Kind::Begun(begun) = std::mem::replace(&mut self.kind, Kind::Empty) else { return Poll::Ready(None) };
                let (first, rest) = *begun;
                self.kind = Kind::Stream(rest);
                Poll::Ready(Some(Ok(first)))
            }
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Stream(incoming) => match Pin::new(incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() && !self.trailers => {
                    self.kind = Kind::Empty;
                    Poll::Ready(None)
                }
                Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken))),
                Poll::Pending => match self.each(|watch| watch.waiting(context)) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Some(Err(error))),
                },
            },
        }
    }
}

/// Two watches in one place.
struct Pair(Box<dyn Watch>, Box<dyn Watch>);

impl Watch for Pair {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.0.data(bytes)?;
        self.1.data(bytes)
    }

    fn waiting(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        self.0.waiting(context)?;
        self.1.waiting(context)
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.0.trailers(trailers);
        self.1.trailers(trailers);
    }

    fn call(&mut self) {
        self.0.call();
        self.1.call();
    }

    fn end(&mut self, complete: bool) {
        self.0.end(complete);
        self.1.end(complete);
    }

    fn unread(&mut self, rest: Incoming) -> Option<Incoming> {
        self.0.unread(rest).and_then(|rest| self.1.unread(rest))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if std::mem::take(&mut this.again) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = match std::task::ready!(this.poll_kind(context)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    this.watches.iter_mut().flatten().for_each(|watch| watch.trailers(trailers));
                }
                let size = frame.data_ref().map_or(0, Bytes::len);
                Some(this.each(|watch| watch.data(size)).map(|()| frame))
            }
            frame => frame,
        };
        match &frame {
            None => this.finish(true, None),
            Some(Err(error)) => {
                let rest = this.take_rest().filter(|_| !matches!(error, BodyError::Broken(_)));
                this.finish(false, rest);
            }
            Some(Ok(_)) if this.is_end_stream() => this.finish(true, None),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Stream(incoming) => incoming.is_end_stream(),
            Kind::Lent(lent) => lent.is_end(),
            Kind::Begun(_) | Kind::Tunnel(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(incoming) => incoming.size_hint(),
            Kind::Lent(lent) => lent.size_hint(),
            // Only where no length was announced.
            Kind::Begun(_) => SizeHint::default(),
            Kind::Tunnel(_) => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let complete = self.is_end_stream();
        let rest = self.take_rest();
        self.finish(complete, rest);
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Stream(_) | Kind::Begun(_) => "Body(stream)",
            Kind::Lent(_) => "Body(lent)",
            Kind::Tunnel(_) => "Body(tunnel)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use http_body_util::BodyExt;

    use super::*;

    struct Diary(Rc<RefCell<Vec<String>>>, &'static str, Option<usize>);

    impl Watch for Diary {
        fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
            self.0.borrow_mut().push(format!("{} {bytes}", self.1));
            if self.2.is_some_and(|limit| bytes > limit) { Err(BodyError::TooLarge) } else { Ok(()) }
        }

        fn end(&mut self, complete: bool) {
            self.0.borrow_mut().push(format!("{} end {complete}", self.1));
        }
    }

    #[tokio::test]
    async fn five_watches_hear_the_same_in_their_order() {
        let diary = Rc::new(RefCell::new(Vec::new()));
        let mut body = Body::full(Bytes::from_static(b"abc"));
        for name in ["1", "2", "3", "4", "5"] {
            body = body.watched(Box::new(Diary(Rc::clone(&diary), name, None)));
        }
        assert_eq!(body.collect().await.map(|all| all.to_bytes()).ok(), Some(Bytes::from_static(b"abc")));
        let expected: Vec<String> =
            ["1 3", "2 3", "3 3", "4 3", "5 3", "1 end true", "2 end true", "3 end true", "4 end true", "5 end true"].map(String::from).into();
        assert_eq!(*diary.borrow(), expected);
    }

    #[tokio::test]
    async fn a_watch_that_objects_ends_the_body_for_all() {
        let diary = Rc::new(RefCell::new(Vec::new()));
        let body = Body::full(Bytes::from_static(b"abc")).watched(Box::new(Diary(Rc::clone(&diary), "limit", Some(2)))).watched(Box::new(Diary(
            Rc::clone(&diary),
            "record",
            None,
        )));
        assert!(matches!(body.collect().await, Err(BodyError::TooLarge)));
        assert_eq!(*diary.borrow(), ["limit 3", "limit end false", "record end false"].map(String::from));
    }

    #[test]
    fn a_body_that_is_dropped_unread_ends_incomplete() {
        let diary = Rc::new(RefCell::new(Vec::new()));
        drop(Body::full(Bytes::from_static(b"abc")).watched(Box::new(Diary(Rc::clone(&diary), "w", None))));
        drop(Body::empty().watched(Box::new(Diary(Rc::clone(&diary), "e", None))));
        assert_eq!(*diary.borrow(), ["w end false", "e end true"].map(String::from));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_ends_when_its_allowance_is_used_up() {
        let second = Duration::from_secs(1);
        for (bytes, survives) in [(1, 5), (700, 14), (2048, 100)] {
            let mut pace = Pace::bounded(Duration::from_secs(10), Duration::from_secs(5));
            let mut passed = 0;
            while passed < 100 {
                let wait = std::future::poll_fn(|context| match pace.waiting(context) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(error),
                });
                if let Ok(error) = tokio::time::timeout(second, wait).await {
                    assert!(matches!(error, BodyError::Stalled));
                    break;
                }
                assert!(pace.data(bytes).is_ok());
                passed += 1;
            }
            assert_eq!(passed, survives, "{bytes} bytes a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = Pace::bounded(Duration::from_secs(10), Duration::from_secs(5));
        let now = futures_util::task::noop_waker();
        for _ in 0..10 {
            assert!(pace.waiting(&mut Context::from_waker(&now)).is_ok());
            assert!(pace.data(1).is_ok());
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}
