//! The first head of a connection of HTTP/1, until it is whole, and of one that was parked.
//!
//! hyper takes 16 KiB and more for a connection from the moment on that it is asked to serve it, and doubles that for a head that comes in pieces. So it is
//! asked when there is a request: who says nothing, or never comes to an end of the head, is waited for here, with the bytes that came and no more. A
//! connection on which nothing has been asked for a while comes back here.
//! Nothing is judged here. Whatever may not become a head goes on at once, as does what is large.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use memchr::memchr;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::connection::{LAST_CALL, Shared};
use super::transport::Transport;
use super::watchdog::Watchdog;

/// Bytes of a head that are waited for here.
const MOST: usize = 4 * 1024;

/// Reads until a head may be there, after `begun`; nothing when its time is over before. What is read was not told to the watchdog, but that it came.
pub(super) async fn first_head<S>(transport: &mut Transport, begun: Bytes, watchdog: &Watchdog, shared: &Shared<S>) -> Option<Bytes> {
    let mut head = Vec::from(begun);
    let mut drain = pin!(shared.drain.notified());
    drain.as_mut().enable();
    let mut timer = pin!(sleep_until(watchdog.until_open()));
    poll_fn(|context| {
        loop {
            if !head.is_empty() {
                watchdog.comes();
            }
            if !is_awaited(&head) {
                return Poll::Ready(true);
            }
            let mut piece = [0; MOST];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut *transport).poll_read(context, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => head.extend_from_slice(piece.filled()),
                // An end is hyper's as well: it comes again when it is read for.
                Poll::Ready(_) => return Poll::Ready(true),
                Poll::Pending => break,
            }
        }
        if shared.draining.get() || drain.as_mut().poll(context).is_ready() {
            watchdog.hurry(Instant::now() + LAST_CALL);
        }
        let Some(until) = watchdog.deadline() else { return Poll::Pending };
        if until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        while timer.as_mut().poll(context).is_ready() {
            // It may have moved away, as a head has begun.
            if Instant::now() >= until {
                return Poll::Ready(false);
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    })
    .await
    .then(|| head.into())
}

/// Whether these bytes may become a head and are none yet.
fn is_awaited(bytes: &[u8]) -> bool {
    if bytes.len() >= MOST || bytes.iter().any(|byte| byte.is_ascii_control() && !b"\t\r\n".contains(byte)) {
        return false;
    }
    let Some((line, mut fields)) = line(bytes) else { return bytes.first().is_none_or(u8::is_ascii_alphabetic) };
    if ![b" HTTP/1.1", b" HTTP/1.0"].iter().any(|version| line.ends_with(*version)) {
        return false;
    }
    while let Some((line, rest)) = self::line(fields) {
        // The empty line is the end.
        if memchr(b':', line).is_none() {
            return false;
        }
        fields = rest;
    }
    true
}

/// The first line, without its end, and what comes behind it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (line, rest) = bytes.split_at_checked(memchr(b'\n', bytes)?)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_become_a_head_is_awaited_and_nothing_else() {
        let awaited: &[&[u8]] = &[
            b"",
            b"G",
            b"GET / HT",
            b"GET / HTTP/1.1\r",
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\nHost: a\r\n",
            b"GET / HTTP/1.0\r\nHost: a\r\nX",
            b"GET / HTTP/1.1\r\nX: y\r\n\r",
        ];
        let not: &[&[u8]] = &[
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\n\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\n\r\nhello",
            // What hyper answers at once.
            b"HELO there\r\n",
            b"GET / HTTP/1.1 \r\n",
            b"GET / HTTP/2.0\r\n",
            b"GET / HTTP/1.1\r\nno field\r\n",
            b"GET /\0",
            b"\x16\x03\x01",
            b" ",
            b"\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
        ];
        for bytes in awaited {
            assert!(is_awaited(bytes), "{:?}", String::from_utf8_lossy(bytes));
        }
        for bytes in not {
            assert!(!is_awaited(bytes), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(!is_awaited(&[b'a'; MOST]));
    }
}
