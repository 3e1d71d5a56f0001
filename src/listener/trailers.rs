//! Pseudo-fields in the trailers of requests over HTTP/2, found in the bytes as they pass.
//!
//! They make a request malformed (RFC 9113, 8.1 and 8.3), and the library drops them without a word. [`Trailers`] follows the blocks of fields (RFC 7541) for
//! their names alone: values are stepped over, and of the dynamic table it knows which entries have such a name, in the order in which they came. When one has
//! to go need not be known: whoever names an entry that is gone is cut off by the library.
//!
//! The stream error is the library's: trailers without END_STREAM are malformed to it too, so that flag is taken out. Where it has passed already, the
//! connection ends.

use super::frames::{END_STREAM, HEADERS, Heads, NUMBER};
use crate::holes::{Hole, open};

/// RFC 9113, 6.
const CONTINUATION: u8 = 9;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// What PRIORITY puts in front of a block.
const WEIGHT: usize = 5;
/// Where the flags stand, seen from the end of a frame's head.
const FLAGS: usize = 5;
/// RFC 7541, appendix A: those of the static table are its first, and the first of the dynamic one follows it.
const PSEUDO: std::ops::RangeInclusive<u32> = 1..=14;
const DYNAMIC: u32 = 62;
/// `:` in Huffman's code, and the bits of an octet that are behind it (RFC 7541, appendix B).
const COLON: (u8, u8) = (0b101_1100, 1);

/// The blocks of fields of one connection, from its first byte on.
pub(crate) struct Trailers {
    heads: Heads,
    last: u32,
    /// The block that is under way belongs to a request that has begun before.
    trails: bool,
    /// Whether the next byte says how much padding there is.
    padded: bool,
    /// Bytes that come before the block.
    lead: usize,
    /// Bytes of the block that this frame has, with what stands around them.
    left: usize,
    block: Block,
}

impl Trailers {
    /// A connection on which nothing has been read.
    pub(crate) fn new() -> Self {
        Self { heads: Heads::of_requests(), last: 0, trails: false, padded: false, lead: 0, left: 0, block: Block::default() }
    }

    /// These bytes were read; none may be left out. Whether the connection has to end.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> bool {
        let (mut at, mut flags) = (0, None);
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let found = self.payload(rest) && self.trails && !open(Hole::PseudoFieldsTrail);
            let next = self.heads.next(rest).map(|(head, behind)| (head, behind.len()));
            if found {
                match flags.and_then(|flags: usize| bytes.get_mut(flags)) {
                    Some(flags) => *flags &= !END_STREAM,
                    None => return true,
                }
            }
            let Some((head, behind)) = next else { return false };
            at = bytes.len().saturating_sub(behind);
            if self.begins(head) {
                flags = at.checked_sub(FLAGS);
            }
        }
    }

    /// A frame begins. Whether a block does.
    fn begins(&mut self, head: [u8; 9]) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        (self.padded, self.lead, self.left) = match kind {
            HEADERS => (flags & PADDED != 0, if flags & PRIORITY == 0 { 0 } else { WEIGHT }, length),
            CONTINUATION => (false, 0, length),
            _ => (false, 0, 0),
        };
        if kind != HEADERS {
            return false;
        }
        let stream = u32::from_be_bytes(stream) & NUMBER;
        self.trails = stream <= self.last;
        self.last = self.last.max(stream);
        self.block.begins();
        true
    }

    /// What comes of a frame. Whether a pseudo-field is in it.
    fn payload(&mut self, mut bytes: &[u8]) -> bool {
        if let (true, Some((padding, rest))) = (self.padded && self.left > 0, bytes.split_first()) {
            self.padded = false;
            self.left = self.left.saturating_sub(1).saturating_sub(usize::from(*padding));
            bytes = rest;
        }
        let all = bytes.len().min(self.left);
        let lead = all.min(self.lead);
        (self.left, self.lead) = (self.left.saturating_sub(all), self.lead.saturating_sub(lead));
        self.block.read(bytes.get(lead..all).unwrap_or_default())
    }
}

/// One block after the other, since they share the dynamic table.
#[derive(Default)]
struct Block {
    awaited: Awaited,
    /// Bytes of a name or value that come before that.
    skip: usize,
    /// The field goes into the dynamic table.
    kept: bool,
    /// Whether its entries are pseudo-fields, from the newest on. A table of 4 KiB has no more than these.
    table: u128,
}

/// What the next octet is.
#[derive(Clone, Copy, Default)]
enum Awaited {
    #[default]
    Field,
    /// Of a number that has begun: so much of it, and the place of what follows.
    Number(Of, u32, u32),
    NameLength,
    /// And so many of the name, perhaps in Huffman's code.
    Name(u32, bool),
    ValueLength,
}

/// What a number is of.
#[derive(Clone, Copy)]
enum Of {
    Index,
    NameIndex,
    Name(bool),
    Value,
    TableSize,
}

impl Block {
    fn begins(&mut self) {
        (self.awaited, self.skip) = (Awaited::Field, 0);
    }

    /// Whether a pseudo-field is among these.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        loop {
            let step = self.skip.min(bytes.len());
            self.skip = self.skip.saturating_sub(step);
            let Some((octet, rest)) = bytes.get(step..).unwrap_or_default().split_first() else { return found };
            bytes = rest;
            found |= self.octet(*octet);
        }
    }

    fn octet(&mut self, octet: u8) -> bool {
        match self.awaited {
            Awaited::Field => {
                self.kept = (0x40..0x80).contains(&octet);
                match octet {
                    0x80.. => self.number(octet, 0x7f, Of::Index),
                    0x40.. => self.number(octet, 0x3f, Of::NameIndex),
                    0x20.. => self.number(octet, 0x1f, Of::TableSize),
                    _ => self.number(octet, 0x0f, Of::NameIndex),
                }
            }
            Awaited::NameLength => self.number(octet, 0x7f, Of::Name(octet & 0x80 != 0)),
            Awaited::ValueLength => self.number(octet, 0x7f, Of::Value),
            Awaited::Number(of, number, place) => {
                // What is larger than the library takes does not matter any more.
                let number = number.saturating_add(u32::from(octet & 0x7f).checked_shl(place).unwrap_or(u32::MAX));
                if octet & 0x80 == 0 {
                    return self.ended(of, number);
                }
                self.awaited = Awaited::Number(of, number, place.saturating_add(7));
                false
            }
            Awaited::Name(length, huffman) => {
                self.skip = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(1);
                self.named(if huffman { octet >> COLON.1 == COLON.0 } else { octet == b':' })
            }
        }
    }

    /// RFC 7541, 5.1.
    fn number(&mut self, octet: u8, mask: u8, of: Of) -> bool {
        let number = octet & mask;
        if number < mask {
            return self.ended(of, number.into());
        }
        self.awaited = Awaited::Number(of, number.into(), 0);
        false
    }

    fn ended(&mut self, of: Of, number: u32) -> bool {
        match of {
            Of::Index => {
                self.awaited = Awaited::Field;
                return self.is_pseudo(number);
            }
            Of::NameIndex if number > 0 => return self.named(self.is_pseudo(number)),
            Of::NameIndex => self.awaited = Awaited::NameLength,
            Of::Name(_) if number == 0 => return self.named(false),
            Of::Name(huffman) => self.awaited = Awaited::Name(number, huffman),
            Of::TableSize => self.awaited = Awaited::Field,
            Of::Value => {
                self.skip = usize::try_from(number).unwrap_or(usize::MAX);
                self.awaited = Awaited::Field;
            }
        }
        false
    }

    /// The name of a field that is written out is known.
    fn named(&mut self, pseudo: bool) -> bool {
        self.awaited = Awaited::ValueLength;
        if self.kept {
            self.table = (self.table << 1) | u128::from(pseudo);
        }
        pseudo
    }

    fn is_pseudo(&self, index: u32) -> bool {
        let dynamic = index.checked_sub(DYNAMIC).and_then(|place| self.table.checked_shr(place));
        dynamic.map_or(PSEUDO.contains(&index), |entries| entries & 1 == 1)
    }
}

#[cfg(test)]
#[path = "trailers_tests.rs"]
mod tests;
