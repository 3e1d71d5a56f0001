//! What takes the place of a body once a connection has been upgraded: bytes both ways, until one side ends, falls silent, or may not go on.
//!
//! It travels through the layers as the body of a 101, so that records and watches hear of its end. Whoever permitted it puts it on a leash.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

use super::{WATCHES, Watch};

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
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides had said all, or one broke off.
    Closed,
    /// Neither said anything for too long.
    Silent,
    /// It may not go on.
    Cut,
}

impl Tunnel {
    pub(super) fn new(far: Box<dyn Duplex>, idle: Duration) -> Self {
        Self { far, idle, leash: None, watches: [const { None }; WATCHES] }
    }

    /// Carries bytes between `near` and the far end until it ends.
    pub async fn run(mut self, near: impl Duplex) -> TunnelEnd {
        let passed = Rc::new(Passed { last: Cell::new(Instant::now()), bytes: Cell::new(0) });
        let mut leash = self.leash.take().unwrap_or_else(|| Box::pin(pending()));
        let (end, whole) = {
            let mut near = Metered { stream: near, passed: Rc::clone(&passed), counts: false };
            let mut far = Metered { stream: &mut self.far, passed: Rc::clone(&passed), counts: true };
            tokio::select! {
                biased;
                () = &mut leash => (TunnelEnd::Cut, false),
                copied = copy_bidirectional(&mut near, &mut far) => (TunnelEnd::Closed, copied.is_ok()),
                () = silence(&passed, self.idle) => (TunnelEnd::Silent, false),
            }
        };
        for watch in self.watches.iter_mut().flatten() {
            // There is no more to end.
            let _ = watch.data(passed.bytes.get());
        }
        self.finish(whole);
        end
    }

    fn finish(&mut self, complete: bool) {
        for place in &mut self.watches {
            if let Some(mut watch) = place.take() {
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

struct Passed {
    last: Cell<Instant>,
    /// From the far end.
    bytes: Cell<usize>,
}

/// Notes what is read from a stream.
struct Metered<T> {
    stream: T,
    passed: Rc<Passed>,
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
        }
        outcome
    }
}

impl<T: Duplex> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

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
            let (end, ()) = tokio::join!(async { (tunnel.run(near).await, started.elapsed()) }, talk);
            // Both sides shut down after the last word, before the silence is too long.
            assert_eq!(end.0, TunnelEnd::Closed);
        }
        let (near, _client) = duplex(64);
        let (far, _server) = duplex(64);
        assert_eq!(Tunnel::new(Box::new(far), second).run(near).await, TunnelEnd::Silent);
    }

    #[tokio::test]
    async fn a_leash_cuts_it() {
        let (near, mut client) = duplex(64);
        let (far, _server) = duplex(64);
        let mut tunnel = Tunnel::new(Box::new(far), Duration::ZERO);
        tunnel.leash = Some(Box::pin(std::future::ready(())));
        assert_eq!(tunnel.run(near).await, TunnelEnd::Cut);
        assert!(client.read_u8().await.is_err());
    }
}
