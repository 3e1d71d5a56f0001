//! A stream that counts what comes in, so that "nothing was answered" can be told from "a part of an answer was"; and that breaks off when the server
//! neither takes nor says anything for too long: an early answer does not release it from the rest of the request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::body::Untaken;
use crate::upstream::connect::Stream;
use crate::upstream::h2::Came;

/// Bytes that are read at once where many answers wait to be taken: one less than a size of hyper's buffer, which grows when it was filled.
const SMALL: usize = 8 * 1024 - 1;

pub(in crate::upstream) struct Counted {
    stream: Stream,
    came: Rc<Came>,
    /// How long the server may take nothing.
    patience: Duration,
    stuck: Option<Stuck>,
}

/// The server takes nothing.
struct Stuck {
    timer: Pin<Box<Sleep>>,
    /// What had come when it began.
    received: u64,
}

impl Counted {
    pub(in crate::upstream) const fn new(stream: Stream, came: Rc<Came>, patience: Duration) -> Self {
        Self { stream, came, patience, stuck: None }
    }

    fn wrote<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stuck = None;
            return outcome;
        }
        let (patience, received) = (self.patience, self.came.octets.get());
        let stuck = self.stuck.get_or_insert_with(|| Stuck { timer: Box::pin(sleep(patience)), received });
        while stuck.timer.as_mut().poll(context).is_ready() {
            if stuck.received == received {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // It has something to say first.
            stuck.received = received;
            stuck.timer.as_mut().reset(Instant::now() + patience);
        }
        Poll::Pending
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = if buffer.remaining() > SMALL && Untaken::are_many() {
            // By way of the stack: there is no part of a buffer that was not written to yet.
            let mut piece = [0; SMALL];
            let mut piece = ReadBuf::new(&mut piece);
            let outcome = Pin::new(&mut self.stream).poll_read(context, &mut piece);
            buffer.put_slice(piece.filled());
            outcome
        } else {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        };
        let bytes = buffer.filled().len() - before;
        self.came.add(bytes);
        if self.came.is_too_much() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "interim answers without an end")));
        }
        outcome
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(outcome, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(outcome, context)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn where_many_answers_wait_to_be_taken_pieces_are_small() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let mut counted = Counted::new(Stream::Unix(here), Rc::default(), Duration::from_secs(60));
        let (all, mut piece) = (vec![b'x'; 64 * 1024], vec![0; 64 * 1024]);
        let few = [Untaken::begin()];
        there.write_all(&all).await.unwrap();
        assert!(counted.read(&mut piece).await.unwrap() > SMALL, "large where few do");
        let many = [(); 1000].map(|()| Untaken::begin());
        there.write_all(&all).await.unwrap();
        assert_eq!(counted.read(&mut piece).await.unwrap(), SMALL);
        assert!(piece[..SMALL].iter().all(|byte| *byte == b'x'));
        drop((few, many));
        assert!(counted.read(&mut piece).await.unwrap() > SMALL, "and large again");
    }
}
