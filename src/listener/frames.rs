//! What the other side of an HTTP/2 connection may send that carries nothing: pings, settings, window updates, priorities, resets, empty data, heads that
//! never become requests.
//!
//! The library answers pings and settings, and takes the others, without a bound of its own; each costs work and moves nothing. [`Frames`] follows the frames
//! from head to head (RFC 9113, 4.1) as the bytes pass, without changing or keeping one. Whoever asks and reads earns more of them: a client that takes a
//! large answer must tell of room for it many times, and some ask for an echo beside each piece to measure the way.

use std::time::Duration;

use tokio::time::Instant;

/// How a connection begins, and how much comes before its first frame (RFC 9113, 3.4).
const PREFACE: u64 = 24;
/// Frames that carry nothing, on a connection that has done nothing else.
const BURST: i64 = 500;
/// Earned by each head that has become a request: its own frames, and those of trailers.
const BY_HEAD: i64 = 4;
/// Earned by each request that was answered.
const BY_REQUEST: i64 = 10;
/// Earned by each piece of an answer, and by so many bytes of it: a client with a window of 1 KiB tells of room for it twice for each half of that.
const BY_PIECE: i64 = 5;
const BYTES: usize = 128;
/// In which one is earned by waiting, up to the burst: a call that is silent for hours is kept alive by pings.
const REFILL: Duration = Duration::from_secs(1);

/// RFC 9113, 4.1 and 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
/// RFC 9113, 7.
const ENHANCE_YOUR_CALM: u8 = 11;
/// Takes the reserved bit from a stream's number.
const NUMBER: u32 = u32::MAX >> 1;

/// Where heads of frames stand in the bytes of one direction.
pub(crate) struct Heads {
    /// Bytes of a payload that come before the next head.
    skip: u64,
    head: [u8; 9],
    begun: usize,
}

impl Heads {
    /// Of the server's direction, which begins with a frame.
    pub(crate) const fn of_answers() -> Self {
        Self { skip: 0, head: [0; 9], begun: 0 }
    }

    /// Of the client's, from its first byte on.
    const fn of_requests() -> Self {
        Self { skip: PREFACE, ..Self::of_answers() }
    }

    /// These bytes passed; none may be left out. The next head that is complete, and what came behind it.
    pub(crate) fn next<'b>(&mut self, mut bytes: &'b [u8]) -> Option<([u8; 9], &'b [u8])> {
        loop {
            let step = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip = self.skip.saturating_sub(step as u64);
            let (byte, rest) = bytes.get(step..).unwrap_or_default().split_first()?;
            bytes = rest;
            if let Some(place) = self.head.get_mut(self.begun) {
                *place = *byte;
            }
            self.begun = self.begun.saturating_add(1);
            if self.begun == self.head.len() {
                self.begun = 0;
                let [a, b, c, ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]).into();
                return Some((self.head, bytes));
            }
        }
    }

    /// Whether no frame has begun that is not whole.
    pub(crate) const fn is_between(&self) -> bool {
        self.skip == 0 && self.begun == 0
    }
}

/// The last words to one that asks too much (RFC 9113, 6.8 and 7): GOAWAY with `ENHANCE_YOUR_CALM`; `last`: the last stream that was begun.
pub(crate) fn calm(last: u32) -> [u8; 17] {
    let [a, b, c, d] = last.to_be_bytes();
    [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, ENHANCE_YOUR_CALM]
}

/// The frames of one connection, from its first byte on.
pub(crate) struct Frames {
    heads: Heads,
    left: i64,
    filled: Instant,
    last: u32,
}

impl Frames {
    /// A connection on which nothing has been read.
    pub(crate) fn new() -> Self {
        Self { heads: Heads::of_requests(), left: BURST, filled: Instant::now(), last: 0 }
    }

    /// These bytes were read; none may be left out. Whether there were too many frames for nothing.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((head, rest)) = self.heads.next(bytes) {
            bytes = rest;
            if self.frame(head) {
                return true;
            }
        }
        false
    }

    /// The last stream that was begun.
    pub(crate) const fn last(&self) -> u32 {
        self.last
    }

    fn frame(&mut self, head: [u8; 9]) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = head;
        let carries = match kind {
            DATA => [a, b, c] != [0; 3] || flags & END_STREAM != 0,
            HEADERS => {
                self.last = self.last.max(u32::from_be_bytes(stream) & NUMBER);
                // A head counts until it has become a request: the library answers those that are too large by itself.
                false
            }
            _ => false,
        };
        if carries {
            return false;
        }
        self.left = self.left.saturating_sub(1);
        self.left < 0 && !self.refill()
    }

    /// Whether waiting has earned one at least.
    fn refill(&mut self) -> bool {
        let seconds = self.filled.elapsed().as_secs().checked_div(REFILL.as_secs()).unwrap_or(0);
        if seconds == 0 {
            return false;
        }
        self.filled = Instant::now();
        self.left = i64::try_from(seconds).unwrap_or(BURST).min(BURST);
        true
    }

    /// A head has become a request; trailers may follow it.
    pub(crate) fn asked(&mut self) {
        self.left = self.left.saturating_add(BY_HEAD);
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self) {
        self.left = self.left.saturating_add(BY_REQUEST);
    }

    /// A piece of an answer goes out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(BY_PIECE).saturating_add(i64::try_from(bytes / BYTES).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![9; payload]].concat()
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        assert!(!frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn what_carries_nothing_is_counted_however_the_bytes_are_cut() {
        for piece in [1, 8, 9, 10, 17, 4096] {
            for (kind, flags, payload) in [(6, 0, 8), (4, 0, 0), (8, 0, 4), (2, 0, 5), (3, 0, 4), (0, 0, 0), (200, 0, 3), (1, 5, 9), (9, 4, 9)] {
                let mut frames = begun();
                let all = frame(kind, flags, payload).repeat(501);
                let (before, last) = all.split_at(all.len() - payload - 1);
                assert!(!before.chunks(piece).any(|bytes| frames.read(bytes)), "{kind} in pieces of {piece}");
                assert!(frames.read(last), "{kind} in pieces of {piece}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_data_are_not_and_what_is_answered_earns_more() {
        let mut frames = begun();
        let useful = [frame(0, 0, 1), frame(0, 1, 0), frame(0, 0, 16_384)].concat().repeat(10_000);
        assert!(!frames.read(&useful));
        for _ in 0..10_000 {
            assert!(!frames.read(&[frame(1, 0, 20), frame(9, 4, 20), frame(0, 0, 1), frame(1, 5, 20)].concat()));
            frames.asked();
        }
        // A client that tells of room twice for each 4 KiB, as Go's does, and pings beside each piece.
        let piece = [frame(8, 0, 4).repeat(8), frame(6, 0, 8)].concat();
        for _ in 0..10_000 {
            frames.sent(16 * 1024);
            assert!(!frames.read(&piece));
        }
        // One that has a window of 1 KiB tells twice for each half of it.
        let mut frames = begun();
        for _ in 0..1_000 {
            frames.sent(64 * 1024);
            assert!(!frames.read(&frame(8, 0, 4).repeat(2 * 128 + 2)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pings_that_keep_a_silent_call_alive_are_borne_for_ever() {
        let mut frames = begun();
        for _ in 0..5_000 {
            tokio::time::advance(2 * REFILL).await;
            assert!(!frames.read(&frame(6, 0, 8).repeat(2)));
        }
        assert!(frames.read(&frame(6, 0, 8).repeat(1_000)));
    }
}
