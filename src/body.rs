//! The one body type of the gateway: nothing, bytes that are at hand, or a stream from the other side.
//!
//! A streamed body may carry a [`Watch`], which hears of every piece and of the end; records and limits hang on it. Rooms are not generic over bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

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
    /// Called while the body waits for more; an error ends it (a deadline has passed). The default waits for ever.
    ///
    /// # Errors
    /// When the body must not go on.
    fn waiting(&mut self, _context: &mut Context<'_>) -> Result<(), BodyError> {
        Ok(())
    }
    /// The body has ended in good order (`true`) or was broken off by this side or the other (`false`).
    fn end(&mut self, complete: bool);
}

/// Two watches on one body; the first to object ends it, both hear of the end.
struct Both(Box<dyn Watch>, Box<dyn Watch>);

impl Watch for Both {
    fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.0.data(bytes)?;
        self.1.data(bytes)
    }

    fn waiting(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        self.0.waiting(context)?;
        self.1.waiting(context)
    }

    fn end(&mut self, complete: bool) {
        self.0.end(complete);
        self.1.end(complete);
    }
}

/// A request or response body.
pub struct Body {
    kind: Kind,
    watch: Option<Box<dyn Watch>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream(Incoming),
}

impl Body {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self { kind: Kind::Empty, watch: None }
    }

    /// A body that is at hand.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self { kind: Kind::Full(bytes), watch: None } }
    }

    /// A body that streams from the other side of a connection.
    #[must_use]
    pub fn stream(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::empty() } else { Self { kind: Kind::Stream(incoming), watch: None } }
    }

    /// The same body with somebody more who hears what passes, after those that already do: a deadline and the record each hang on an answer.
    #[must_use]
    pub fn watched(mut self, watch: Box<dyn Watch>) -> Self {
        self.watch = Some(match self.watch.take() {
            Some(earlier) => Box::new(Both(earlier, watch)),
            None => watch,
        });
        self
    }

    /// Whether there is nothing (left) to read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_end_stream()
    }

    fn finish(&mut self, complete: bool) {
        if let Some(mut watch) = self.watch.take() {
            watch.end(complete);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Stream(incoming) => match Pin::new(incoming).poll_frame(context) {
                Poll::Ready(frame) => frame.map(|frame| frame.map_err(BodyError::Broken)),
                Poll::Pending => match this.watch.as_mut().map_or(Ok(()), |watch| watch.waiting(context)) {
                    Ok(()) => return Poll::Pending,
                    Err(error) => Some(Err(error)),
                },
            },
        };
        let frame = match (frame, &mut this.watch) {
            (Some(Ok(frame)), Some(watch)) => {
                let size = frame.data_ref().map_or(0, Bytes::len);
                Some(watch.data(size).map(|()| frame))
            }
            (frame, _) => frame,
        };
        match &frame {
            None => this.finish(true),
            Some(Err(_)) => {
                this.kind = Kind::Empty;
                this.finish(false);
            }
            Some(Ok(_)) if this.is_end_stream() => this.finish(true),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Stream(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(incoming) => incoming.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let complete = self.is_end_stream();
        self.finish(complete);
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Stream(_) => "Body(stream)",
        })
    }
}
