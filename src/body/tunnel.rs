//! What takes the place of a body once a connection has been upgraded: bytes both ways, until one side ends, falls silent, or may not go on.
//!
//! It travels through the layers as the body of a 101, so that records and watches hear of its end. Whoever permitted it puts it on a leash.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

use super::{WATCHES, Watch};

/// For what the other side still says, and to take its end, when one side has ended.
const FAREWELL: Duration = Duration::from_secs(5);

/// A stream that is read and written.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Ends when the tunnel must.
pub type Leash = Pin<Box<dyn Future<Output = ()>>>;

/// The far end of an upgraded connection.
pub struct Tunnel {
    pub(super) far: Box<dyn Duplex>,
    /// Without a byte in either direction; zero: for ever.
    pub(super) idle: Duration,
    pub(super) leash: Option<Leash>,
    pub(super) watches: [Option<Box<dyn Watch>>; WATCHES],
    passed: Rc<Passed>,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides had said all, or one broke off.
    Closed,
    /// Neither said anything for too long.
    Silent,
    /// One took nothing of what the other said, for too long.
    Stuck,
    /// It may not go on.
    Cut,
}

impl Tunnel {
    pub(super) fn new(far: Box<dyn Duplex>, idle: Duration) -> Self {
        let passed = Rc::new(Passed { last: Cell::new(Instant::now()), ended: Cell::new(None), bytes: Cell::new(0) });
        Self { far, idle, leash: None, watches: [const { None }; WATCHES], passed }
    }

    /// Carries bytes between `near` and the far end until it ends: a while after one of them has ended, though the other goes on; or when one takes no
    /// byte of what the other says for as long as `write`.
    pub async fn run(mut self, near: impl Duplex, write: Duration) -> TunnelEnd {
        let passed = Rc::clone(&self.passed);
        passed.last.set(Instant::now());
        let mut leash = self.leash.take().unwrap_or_else(|| Box::pin(pending()));
        let (end, whole) = {
            let (to_near, to_far) = (Rc::default(), Rc::default());
            let mut near = Metered { stream: near, passed: Rc::clone(&passed), stuck: Rc::clone(&to_near), counts: false };
            let mut far = Metered { stream: &mut self.far, passed: Rc::clone(&passed), stuck: Rc::clone(&to_far), counts: true };
            let bounds = [(TunnelEnd::Closed, &passed.ended, FAREWELL), (TunnelEnd::Stuck, &*to_near, write), (TunnelEnd::Stuck, &*to_far, write)];
            tokio::select! {
                biased;
                () = &mut leash => (TunnelEnd::Cut, false),
                copied = copy_bidirectional(&mut near, &mut far) => (TunnelEnd::Closed, copied.is_ok()),
                () = silence(&passed, self.idle) => (TunnelEnd::Silent, false),
                end = struck(bounds) => (end, false),
            }
        };
        self.finish(whole);
        end
    }

    /// Tells what has passed, and that it is over; also of one that is dropped in the middle.
    fn finish(&mut self, complete: bool) {
        for place in &mut self.watches {
            if let Some(mut watch) = place.take() {
                // There is no more to end.
                let _ = watch.data(self.passed.bytes.get());
                watch.end(complete);
            }
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.finish(false);
    }
}

/// Ready when nothing has passed for so long.
async fn silence(passed: &Passed, idle: Duration) {
    if idle.is_zero() {
        return pending().await;
    }
    let mut timer = pin!(sleep_until(passed.last.get() + idle));
    loop {
        timer.as_mut().await;
        let until = passed.last.get() + idle;
        if until <= Instant::now() {
            return;
        }
        timer.as_mut().reset(until);
    }
}

/// Ready when as much time has passed since one of these. They are set while others are polled, in the same task and before this is.
async fn struck(bounds: [(TunnelEnd, &Cell<Option<Instant>>, Duration); 3]) -> TunnelEnd {
    let mut timer = None;
    poll_fn(|context| {
        loop {
            let next = bounds.iter().filter_map(|(end, since, time)| Some((*end, since.get()? + *time))).min_by_key(|(_, until)| *until);
            let Some((end, until)) = next else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            std::task::ready!(timer.as_mut().poll(context));
            if Instant::now() >= until {
                return Poll::Ready(end);
            }
        }
    })
    .await
}

struct Passed {
    last: Cell<Instant>,
    /// Since when one side has nothing more to say.
    ended: Cell<Option<Instant>>,
    /// From the far end.
    bytes: Cell<usize>,
}

/// Notes what is read from a stream, and that it takes nothing.
struct Metered<T> {
    stream: T,
    passed: Rc<Passed>,
    /// Since when it takes nothing.
    stuck: Rc<Cell<Option<Instant>>>,
    counts: bool,
}

impl<T: Duplex> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        if bytes > 0 {
            self.passed.last.set(Instant::now());
            if self.counts {
                self.passed.bytes.set(self.passed.bytes.get().saturating_add(bytes));
            }
        } else if outcome.is_ready() && buffer.remaining() > 0 && self.passed.ended.get().is_none() {
            self.passed.ended.set(Some(Instant::now()));
        }
        outcome
    }
}

impl<T> Metered<T> {
    fn wrote<O>(&self, outcome: Poll<O>) -> Poll<O> {
        match outcome {
            Poll::Ready(_) => self.stuck.set(None),
            Poll::Pending if self.stuck.get().is_none() => self.stuck.set(Some(Instant::now())),
            Poll::Pending => {}
        }
        outcome
    }
}

impl<T: Duplex> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::body::BodyError;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_tunnel_and_a_word_in_either_direction_puts_it_off() {
        let second = Duration::from_secs(1);
        for (idle, ends) in [(10 * second, true), (Duration::ZERO, false)] {
            let (near, mut client) = duplex(64);
            let (far, mut server) = duplex(64);
            let tunnel = Tunnel::new(Box::new(far), idle);
            let started = Instant::now();
            let talk = async {
                for _ in 0..5 {
                    tokio::time::sleep(9 * second).await;
                    client.write_all(b"x").await.unwrap();
                    server.read_u8().await.unwrap();
                    tokio::time::sleep(9 * second).await;
                    server.write_all(b"y").await.unwrap();
                    client.read_u8().await.unwrap();
                }
                if !ends {
                    tokio::time::sleep(1000 * second).await;
                }
                drop((client.shutdown().await, server.shutdown().await));
                tokio::time::sleep(100 * second).await;
            };
            let (end, ()) = tokio::join!(async { (tunnel.run(near, 60 * second).await, started.elapsed()) }, talk);
            // Both sides shut down after the last word, before the silence is too long.
            assert_eq!(end.0, TunnelEnd::Closed);
        }
        let (near, _client) = duplex(64);
        let (far, _server) = duplex(64);
        assert_eq!(Tunnel::new(Box::new(far), second).run(near, 60 * second).await, TunnelEnd::Silent);
    }

    #[tokio::test(start_paused = true)]
    async fn when_one_side_ends_the_other_hears_it_and_may_say_something_for_a_while_only() {
        for client_first in [true, false] {
            let (near, client) = duplex(64);
            let (far, server) = duplex(64);
            let (mut ends, mut stays) = if client_first { (client, server) } else { (server, client) };
            let started = Instant::now();
            let talk = async {
                ends.shutdown().await.unwrap();
                assert!(stays.read_u8().await.is_err(), "the end is handed on");
                assert!(started.elapsed() < Duration::from_millis(100), "and at once");
                // It never stops.
                while stays.write_all(b"more").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let mut heard = [0; 4];
                    if ends.read_exact(&mut heard).await.is_err() {
                        break;
                    }
                }
            };
            // Not for silence: it may be silent for ever.
            let (end, ()) = tokio::join!(Tunnel::new(Box::new(far), Duration::ZERO).run(near, 60 * FAREWELL), talk);
            assert_eq!(end, TunnelEnd::Closed);
            assert!(started.elapsed() <= FAREWELL + Duration::from_secs(1), "{:?}", started.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_takes_nothing_ends_it() {
        for client_first in [true, false] {
            let (near, client) = duplex(64);
            let (far, server) = duplex(64);
            let (mut talks, _deaf) = if client_first { (client, server) } else { (server, client) };
            let started = Instant::now();
            let talk = async { while talks.write_all(b"more").await.is_ok() {} };
            let (end, ()) = tokio::join!(Tunnel::new(Box::new(far), Duration::ZERO).run(near, FAREWELL), talk);
            assert_eq!((end, started.elapsed() <= 2 * FAREWELL), (TunnelEnd::Stuck, true));
        }
    }

    struct Diary(Rc<RefCell<Vec<String>>>);

    impl Watch for Diary {
        fn data(&mut self, bytes: usize) -> Result<(), BodyError> {
            self.0.borrow_mut().push(format!("{bytes} bytes"));
            Ok(())
        }

        fn end(&mut self, complete: bool) {
            self.0.borrow_mut().push(format!("end {complete}"));
        }
    }

    #[tokio::test]
    async fn whoever_watches_one_that_is_dropped_in_the_middle_hears_what_has_passed() {
        let diary = Rc::default();
        let (near, mut client) = duplex(64);
        let (far, mut server) = duplex(64);
        let mut tunnel = Tunnel::new(Box::new(far), Duration::ZERO);
        tunnel.watches[0] = Some(Box::new(Diary(Rc::clone(&diary))));
        server.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        tokio::select! {
            end = tunnel.run(near, FAREWELL) => panic!("{end:?}"),
            read = client.read_exact(&mut heard) => assert_eq!(read.unwrap(), 5),
        }
        assert_eq!(*diary.borrow(), ["5 bytes", "end false"].map(String::from));
    }

    #[tokio::test]
    async fn a_leash_cuts_it() {
        let (near, mut client) = duplex(64);
        let (far, _server) = duplex(64);
        let mut tunnel = Tunnel::new(Box::new(far), Duration::ZERO);
        tunnel.leash = Some(Box::pin(std::future::ready(())));
        assert_eq!(tunnel.run(near, FAREWELL).await, TunnelEnd::Cut);
        assert!(client.read_u8().await.is_err());
    }
}
