//! What the HTTP library settles without a word, found in the bytes as they pass.
//!
//! hyper drops a Content-Length beside a Transfer-Encoding, merges lengths that are equal, cuts a target at `#` and lets anything stand in a chunk's extension;
//! the request that it hands over shows none of it. [`RawHeads`] follows the messages of an HTTP/1 connection from head to head and says of each request whether its head was such a one.
//! Bodies are stepped over: by their length or, chunked, from size line to size line; where hyper is strict, so is this, and where hyper reads on,
//! this reads the same.
//!
//! It delays no byte, and keeps none but a line whose end has not come. One byte it changes: a chunk's size line or a trailer that must be refused loses its end, so that
//! hyper refuses it as it does others. What it cannot follow is not guessed at: the next request is refused.

use std::mem;

use memchr::memchr;

use crate::holes::{Hole, open};

/// Beyond it a line that comes in pieces is not kept. hyper allows 16 KiB behind a chunk's size.
const LONGEST_LINE: usize = 32 * 1024;

const CONTRADICTION: &str = "Content-Length and Transfer-Encoding contradict each other";
const TWICE: &str = "Content-Length stands twice";
const FRAGMENT: &str = "the target holds a fragment";
const LOST: &str = "there is no telling where the message begins";

/// The messages of one connection, from its first byte on. No `Debug`: a line that has begun may hold a token.
pub(crate) struct RawHeads {
    awaited: Line,
    /// Bytes of a body that come before that line.
    skip: u64,
    /// The beginning of that line.
    begun: Vec<u8>,
    longest: usize,
    head: Head,
    complete: u64,
    asked: u64,
    /// From which head on nothing is served, and why.
    suspect: Option<(u64, &'static str)>,
    broken: bool,
}

/// What the next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Request,
    Field,
    ChunkSize,
    ChunkEnd,
    Trailer,
    /// Nothing is looked at any more.
    Ignored,
}

/// What matters of a head.
#[derive(Debug, Default)]
struct Head {
    fragment: bool,
    lengths: usize,
    /// The last length, if it is one.
    length: Option<u64>,
    coding: bool,
}

impl RawHeads {
    /// A connection on which nothing has been read; `head_bytes` is the most that a head may have.
    pub(crate) fn new(head_bytes: usize) -> Self {
        Self {
            awaited: Line::Request,
            skip: 0,
            begun: Vec::new(),
            longest: head_bytes.max(LONGEST_LINE),
            head: Head::default(),
            complete: 0,
            asked: 0,
            suspect: None,
            broken: false,
        }
    }

    /// These bytes were read; none may be left out.
    pub(crate) fn read(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() && self.awaited != Line::Ignored {
            if self.skip > 0 {
                let step = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip = self.skip.saturating_sub(step as u64);
                bytes = mem::take(&mut bytes).get_mut(step..).unwrap_or_default();
                continue;
            }
            let Some(end) = memchr(b'\n', bytes) else { return self.keep(bytes) };
            let Some((line, rest)) = mem::take(&mut bytes).split_at_mut_checked(end.saturating_add(1)) else { return };
            bytes = rest;
            let passes = if self.begun.is_empty() {
                self.line(line)
            } else {
                let mut whole = mem::take(&mut self.begun);
                whole.extend_from_slice(line);
                self.line(&whole)
            };
            if let (false, Some(end)) = (passes, line.last_mut()) {
                *end = 0;
            }
        }
    }

    /// The library has handed over the next request: why it must be refused, if it must. Once per request, in their order.
    pub(crate) fn asked(&mut self) -> Option<&'static str> {
        self.asked = self.asked.saturating_add(1);
        match self.suspect {
            Some((from, reason)) if self.asked >= from => Some(reason),
            _ if self.asked > self.complete => Some(LOST),
            _ => None,
        }
    }

    /// Whether nothing has come behind the last message, and all were handed over.
    pub(crate) fn is_between(&self) -> bool {
        self.awaited == Line::Request && self.skip == 0 && self.begun.is_empty() && self.asked == self.complete
    }

    /// Whether the message that is under way ends here: nothing more may be read for it.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.begun.len().saturating_add(bytes.len()) > self.longest {
            self.awaited = self.lost();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }

    /// A whole line, with its end. Whether hyper may see it as it is.
    fn line(&mut self, line: &[u8]) -> bool {
        let empty = matches!(line, b"\n" | b"\r\n");
        self.awaited = match self.awaited {
            // Empty lines before a head are passed over (RFC 9112, 2.2).
            Line::Request if empty => Line::Request,
            Line::Request => {
                self.head = Head { fragment: holds_fragment(line), ..Head::default() };
                Line::Field
            }
            Line::Field if empty => self.head_ended(),
            Line::Field => {
                self.head.field(line);
                Line::Field
            }
            Line::ChunkSize if !is_text(line) && !open(Hole::ContradictionsPassed) => {
                self.awaited = self.lost();
                return false;
            }
            Line::ChunkSize => match chunk_size(line) {
                Some(0) => Line::Trailer,
                Some(size) => {
                    self.skip = size;
                    Line::ChunkEnd
                }
                None => self.lost(),
            },
            Line::ChunkEnd if line == b"\r\n" => Line::ChunkSize,
            Line::Trailer if line == b"\r\n" => Line::Request,
            Line::Trailer if line.ends_with(b"\r\n") => Line::Trailer,
            // hyper takes a bare line feed for the end of the trailers, and the request behind it for the rest of them (RFC 9112, 7.1.2).
            Line::Trailer if !open(Hole::ContradictionsPassed) => {
                self.broken = true;
                self.awaited = self.lost();
                return false;
            }
            Line::ChunkEnd | Line::Trailer => self.lost(),
            Line::Ignored => Line::Ignored,
        };
        true
    }

    fn head_ended(&mut self) -> Line {
        self.complete = self.complete.saturating_add(1);
        if let Some(reason) = self.head.problem() {
            self.suspect = Some((self.complete, reason));
            return Line::Ignored;
        }
        match (self.head.coding, self.head.lengths, self.head.length) {
            (true, ..) => Line::ChunkSize,
            (false, 0, _) => Line::Request,
            (false, _, Some(length)) => {
                self.skip = length;
                Line::Request
            }
            (false, _, None) => self.lost(),
        }
    }

    fn lost(&mut self) -> Line {
        self.begun = Vec::new();
        self.suspect = Some((self.complete.saturating_add(1), LOST));
        Line::Ignored
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        if let Some(value) = value_of(line, b"content-length") {
            self.lengths = self.lengths.saturating_add(1);
            self.length = number(value.trim_ascii(), 10);
        } else if value_of(line, b"transfer-encoding").is_some() {
            self.coding = true;
        }
    }

    fn problem(&self) -> Option<&'static str> {
        match self {
            _ if open(Hole::ContradictionsPassed) => None,
            Self { coding: true, lengths: 1.., .. } => Some(CONTRADICTION),
            Self { lengths: 2.., .. } => Some(TWICE),
            Self { fragment: true, .. } => Some(FRAGMENT),
            _ => None,
        }
    }
}

/// Whether there is a `#` behind the method, which may hold some.
fn holds_fragment(line: &[u8]) -> bool {
    memchr(b' ', line).and_then(|at| line.get(at..)).is_some_and(|behind| memchr(b'#', behind).is_some())
}

/// The value if the field has this name, in whatever case; hyper lets no space stand before the colon.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

/// The size at the beginning of a size line; what stands behind it is for nobody (RFC 9112, 7.1.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r\n")?;
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (size, behind) = line.split_at_checked(digits)?;
    matches!(behind.first(), None | Some(b' ' | b'\t' | b';')).then(|| number(size, 16)).flatten()
}

/// Whether a size line is of the octets that an extension may hold: tabs, and all that is no control character (RFC 9112, 7.1.1). hyper looks for line feeds only.
fn is_text(line: &[u8]) -> bool {
    line.strip_suffix(b"\r\n").is_none_or(|line| line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)))
}

/// Digits and nothing else, as hyper reads them.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
#[path = "raw_head_tests.rs"]
mod tests;
