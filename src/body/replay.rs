//! A request body that can be sent again: what has passed is kept until an answer has come, as far as it is short and there is room for it.
//!
//! A request that the server turned away unprocessed (RFC 9113, 8.7) may go to another connection, but its body comes from the client only once. What is
//! kept is bounded for each body and, by the [`Room`], for all of a worker; a body that outgrows either goes through as ever and cannot be sent again.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyError, Kind};

/// Octets of one body that are kept.
const MOST: usize = 64 * 1024;

/// What all bodies of a worker may keep together.
#[derive(Clone, Debug)]
pub struct Room(Rc<Cell<usize>>);

/// A body that was begun and may be begun again.
#[derive(Clone)]
pub struct Replay(Rc<RefCell<Source>>);

/// The body as one attempt reads it.
pub(super) struct Lent {
    source: Rc<RefCell<Source>>,
    turn: u32,
}

struct Source {
    body: Body,
    /// All that has passed; none when it is not at hand any more.
    kept: Option<Kept>,
    /// What the attempt that reads now has to get again.
    front: Bytes,
    trailers: Option<HeaderMap>,
    /// The attempt that reads now. Whoever read before gets nothing more.
    turn: u32,
    failed: Option<BodyError>,
}

struct Kept {
    bytes: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// What was taken from the room.
    taken: usize,
    room: Room,
}

impl Room {
    /// For so many octets.
    #[must_use]
    pub fn of(octets: usize) -> Self {
        Self(Rc::new(Cell::new(octets)))
    }
}

impl Replay {
    /// Of this body. One that was lent by another [`Replay`] is that one's again, so nothing is kept twice.
    #[must_use]
    pub fn of(mut body: Body, room: &Room) -> Self {
        if let Kind::Lent(lent) = &body.kind {
            let source = Rc::clone(&lent.source);
            body.kind = Kind::Empty;
            return Self(source);
        }
        let kept = Kept { bytes: Vec::new(), trailers: None, taken: 0, room: room.clone() };
        Self(Rc::new(RefCell::new(Source { body, kept: Some(kept), front: Bytes::new(), trailers: None, turn: 0, failed: None })))
    }

    /// The body from its beginning; none when what has passed is not at hand any more. One that was lent before gets nothing more.
    #[must_use]
    pub fn lend(&self) -> Option<Body> {
        let mut source = self.0.borrow_mut();
        let Source { kept: Some(kept), .. } = &*source else { return None };
        let (front, trailers) = (Bytes::copy_from_slice(&kept.bytes), kept.trailers.clone());
        source.turn = source.turn.wrapping_add(1);
        (source.front, source.trailers) = (front, trailers);
        let lent = Lent { source: Rc::clone(&self.0), turn: source.turn };
        drop(source);
        Some(Body::new(Kind::Lent(lent)))
    }

    /// Nothing is kept from now on: an answer has come.
    pub fn forget(&self) {
        self.0.borrow_mut().kept = None;
    }

    /// Why the body broke off, if it did.
    #[must_use]
    pub fn failed(&self) -> Option<BodyError> {
        self.0.borrow_mut().failed.take()
    }
}

impl Source {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.front.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.front)))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.keep(frame),
            Some(Err(_)) => self.kept = None,
            None => {}
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                // Whoever sends the body only has to know that it does not go on.
                self.failed = Some(error);
                BodyError::Stalled
            })
        }))
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        if let Some(trailers) = frame.trailers_ref() {
            kept.trailers = Some(trailers.clone());
        }
        // Copied: a piece holds the whole buffer that it was read into.
        if let Some(data) = frame.data_ref()
            && !kept.add(data)
        {
            self.kept = None;
        }
    }

    fn is_end(&self) -> bool {
        self.front.is_empty() && self.trailers.is_none() && self.body.is_end_stream()
    }
}

impl Kept {
    /// Whether there was room for it.
    fn add(&mut self, data: &[u8]) -> bool {
        let size = self.bytes.len().saturating_add(data.len());
        if size > MOST {
            return false;
        }
        // Doubled, so that many small pieces are not copied again and again.
        let wanted = if size <= self.taken { self.taken } else { size.max(self.taken.saturating_mul(2)).min(MOST) };
        let Some(left) = self.room.0.get().checked_sub(wanted.saturating_sub(self.taken)) else { return false };
        self.room.0.set(left);
        self.taken = wanted;
        self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(data);
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.0.set(self.room.0.get().saturating_add(self.taken));
    }
}

impl Lent {
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut source = self.source.borrow_mut();
        if source.turn == self.turn { source.poll(context) } else { Poll::Ready(Some(Err(BodyError::Stalled))) }
    }

    pub(super) fn is_end(&self) -> bool {
        let source = self.source.borrow();
        source.turn == self.turn && source.is_end()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let source = self.source.borrow();
        let (mut hint, front) = (source.body.size_hint(), source.front.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(front));
        }
        hint.set_lower(hint.lower().saturating_add(front));
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// The next piece of data.
    async fn piece(body: &mut Body) -> Option<Bytes> {
        body.frame().await?.ok()?.into_data().ok()
    }

    async fn all(body: Body) -> Option<Bytes> {
        body.collect().await.ok().map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn a_body_begins_again_as_often_as_it_must() {
        let room = Room::of(100);
        let replay = Replay::of(Body::full(Bytes::from_static(b"hello")), &room);
        for _ in 0..3 {
            let body = replay.lend().unwrap();
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
            assert_eq!(all(body).await.unwrap(), "hello");
        }
        assert_eq!(room.0.get(), 95);
        let body = replay.lend().unwrap();
        replay.forget();
        assert_eq!(room.0.get(), 100, "the room is free");
        assert_eq!(all(body).await.unwrap(), "hello", "who reads it gets it to its end");
        assert!(replay.lend().is_none());
    }

    #[tokio::test]
    async fn who_read_before_gets_nothing_more() {
        let replay = Replay::of(Body::full(Bytes::from_static(b"hello")), &Room::of(100));
        let mut before = replay.lend().unwrap();
        let now = replay.lend().unwrap();
        assert!(piece(&mut before).await.is_none());
        assert_eq!(all(now).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn what_was_lent_is_not_kept_twice() {
        let room = Room::of(100);
        let first = Replay::of(Body::full(Bytes::from_static(b"hello")), &room);
        let mut body = first.lend().unwrap();
        assert_eq!(piece(&mut body).await.unwrap(), "hello");
        let second = Replay::of(body, &room);
        assert_eq!(all(second.lend().unwrap()).await.unwrap(), "hello");
        assert_eq!(room.0.get(), 95);
    }

    #[tokio::test]
    async fn a_body_that_is_long_or_finds_no_room_passes_and_does_not_begin_again() {
        for (size, octets) in [(MOST + 1, MOST * 4), (10, 9)] {
            let room = Room::of(octets);
            let replay = Replay::of(Body::full(vec![b'x'; size].into()), &room);
            assert_eq!(all(replay.lend().unwrap()).await.unwrap().len(), size);
            assert!(replay.lend().is_none());
            assert_eq!(room.0.get(), octets);
        }
    }

    #[tokio::test]
    async fn trailers_come_again_as_well() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let replay = Replay::of(Body::full(Bytes::from_static(b"hello")), &Room::of(100));
        assert_eq!(all(replay.lend().unwrap()).await.unwrap(), "hello");
        replay.0.borrow_mut().keep(&Frame::trailers(trailers.clone()));
        let again = replay.lend().unwrap().collect().await.unwrap();
        assert_eq!(again.trailers(), Some(&trailers));
        assert_eq!(again.to_bytes(), "hello");
    }
}
