//! Frames of HTTP/2 that ask for work and carry nothing: pings, settings, priorities, resets, windows, empty data, and kinds that nobody knows.
//!
//! h2 bounds resets and what one head may cost, and bears all of these without end. Here they are counted as the bytes pass. An ordinary client sends them in
//! turn with what it is given, so every write pays for some, and time for a few; what is beyond that ends the connection (CVE-2019-9512, -9513, -9515, -9518).
//! Payloads are never looked at.

use tokio::time::Instant;

/// Frames that may be unpaid.
const UNPAID: i64 = 1_000;
/// Frames that a connection may have paid for beforehand.
const SAVED: i64 = -16_384;
/// Milliseconds that pay for one.
const MILLISECONDS: u128 = 10;
/// Bytes of what is written that pay for one, besides the one that each write pays for.
const BYTES: usize = 512;
/// RFC 9113, 3.4.
const PREFACE: usize = 24;
/// RFC 9113, 4.1.
const HEAD: usize = 9;
/// What an acknowledged ping costs us in bytes, which pay for nothing.
const PONG: usize = 17;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
/// END_STREAM of DATA, ACK of SETTINGS and PING.
const FIRST_FLAG: u8 = 1;

/// The frames of one connection, from its preface on.
pub(super) struct Frames {
    /// Bytes that come before the next head of a frame.
    skip: usize,
    begun: [u8; HEAD],
    filled: usize,
    unpaid: i64,
    paid_until: Instant,
    /// Bytes of acknowledgements that are still to be written.
    owed: usize,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { skip: PREFACE, begun: [0; HEAD], filled: 0, unpaid: 0, paid_until: Instant::now(), owed: 0 }
    }

    /// These bytes were read; none may be left out.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        let now = Instant::now();
        let paid = now.saturating_duration_since(self.paid_until).as_millis() / MILLISECONDS;
        if paid > 0 {
            self.paid_until = now;
            // Time saves nothing up.
            self.unpaid = self.unpaid.saturating_sub(i64::try_from(paid).unwrap_or(i64::MAX)).max(self.unpaid.min(0));
        }
        while !bytes.is_empty() {
            let step = self.skip.min(bytes.len());
            self.skip = self.skip.saturating_sub(step);
            bytes = bytes.get(step..).unwrap_or_default();
            let Some(room) = self.begun.get_mut(self.filled..) else { return };
            let step = room.len().min(bytes.len());
            let (taken, rest) = bytes.split_at_checked(step).unwrap_or_default();
            if let Some(room) = room.get_mut(..step) {
                room.copy_from_slice(taken);
            }
            bytes = rest;
            self.filled = self.filled.saturating_add(step);
            if self.filled == HEAD {
                self.filled = 0;
                self.frame();
            }
        }
    }

    fn frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.begun;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        match kind {
            HEADERS => return,
            DATA if length > 0 || flags & FIRST_FLAG != 0 => return,
            PING if flags & FIRST_FLAG == 0 => self.owed = self.owed.saturating_add(PONG),
            SETTINGS if flags & FIRST_FLAG == 0 => self.owed = self.owed.saturating_add(HEAD),
            _ => {}
        }
        self.unpaid = self.unpaid.saturating_add(1);
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        let answers = bytes.min(self.owed);
        self.owed = self.owed.saturating_sub(answers);
        let bytes = bytes.saturating_sub(answers);
        if bytes > 0 {
            let paid = (bytes / BYTES).saturating_add(1);
            self.unpaid = self.unpaid.saturating_sub(i64::try_from(paid).unwrap_or(i64::MAX)).max(SAVED);
        }
    }

    /// Whether more have come than were paid for.
    pub(super) const fn are_too_many(&self) -> bool {
        self.unpaid > UNPAID
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, u8::try_from(payload.len()).expect("short"), kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_anything_that_carries_nothing_is_seen_in_pieces_of_any_size() {
        for one in [
            frame(PING, 0, &[7; 8]),
            frame(PING, 1, &[7; 8]),
            frame(SETTINGS, 0, &[]),
            frame(2, 0, &[0; 5]),
            frame(3, 0, &[0; 4]),
            frame(8, 0, &[0; 4]),
            frame(DATA, 0, &[]),
            frame(250, 0, &[1; 77]),
        ] {
            for size in [1, 7, 9, 10, 4_096] {
                let mut frames = begun();
                for piece in one.repeat(1_000).chunks(size) {
                    frames.read(piece);
                }
                assert!(!frames.are_too_many(), "{one:?}");
                frames.read(&one);
                assert!(frames.are_too_many(), "{one:?} by {size}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_carries_something_is_not_counted() {
        let mut frames = begun();
        for one in [frame(HEADERS, 5, &[0x82]), frame(DATA, 0, b"x"), frame(DATA, 1, b"")] {
            frames.read(&one.repeat(5_000));
        }
        assert!(!frames.are_too_many());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_and_time_pay_and_pongs_do_not() {
        let ping = frame(PING, 0, &[7; 8]);
        let mut frames = begun();
        for _ in 0..20_000 {
            // A call whose every message is followed by a ping, as some clients measure the way.
            frames.wrote(20);
            frames.read(&ping);
            frames.wrote(PONG);
        }
        assert!(!frames.are_too_many());
        for _ in 0..60 {
            frames.read(&ping.repeat(90));
            frames.wrote(90 * PONG);
            advance(Duration::from_secs(1)).await;
        }
        assert!(!frames.are_too_many(), "a few for ever");
        let mut frames = begun();
        for _ in 0..1_001 {
            frames.read(&ping);
            frames.wrote(PONG);
        }
        assert!(frames.are_too_many());
        let mut frames = begun();
        frames.wrote(4 * 1024 * 1024);
        frames.read(&frame(8, 0, &[0; 4]).repeat(8_000));
        assert!(!frames.are_too_many(), "windows after a long answer");
        let mut frames = begun();
        advance(Duration::from_secs(3_600)).await;
        frames.read(&ping.repeat(1_001));
        assert!(frames.are_too_many(), "silence saves nothing");
    }
}
