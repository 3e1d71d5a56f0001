//! Target `raw_head`: the bytes of a connection in any pieces; every request that has two readings is refused.
//!
//! Beside it stand three readers that have the whole before them: a strict one, one that believes `Transfer-Encoding` first, one that believes
//! `Content-Length` first.

use crate::listener::RawHeads;

/// Which of two framings is believed.
#[derive(Clone, Copy)]
enum First {
    Coding,
    Length,
}

/// One request as the three readers see it.
struct Read {
    /// Said once, in one way.
    is_plain: bool,
    fragment: bool,
    ends: [Option<usize>; 2],
}

/// The first byte says how large the pieces are.
pub fn raw_head(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else { return };
    let heads = heads(bytes);
    // One more than there are: nobody asks for it, and if somebody did it would be refused.
    let asked = heads.len() + 1;
    let whole = verdicts(bytes, bytes.len().max(1), asked);
    for piece in [1, usize::from(*size).max(1)] {
        assert_eq!(verdicts(bytes, piece, asked), whole, "pieces of {piece} are read in another way");
    }
    let (verdicts, broken) = whole;
    assert!(verdicts.last().is_some_and(Option::is_some), "a request that nobody has sent");
    assert!(!broken || bytes.contains(&b'\n'), "broken by no line");
    let mut lost = false;
    for (number, (head, verdict)) in heads.iter().zip(&verdicts).enumerate() {
        lost |= !head.is_plain || head.fragment;
        assert_eq!(verdict.is_some(), lost, "request {number}: {verdict:?}");
        let alike = head.ends[0] == head.ends[1];
        assert!(verdict.is_some() || alike, "request {number} ends in two places and is served");
    }
}

/// What becomes of each request that is asked for, and whether the last message is broken off.
fn verdicts(bytes: &[u8], piece: usize, asked: usize) -> (Vec<Option<&'static str>>, bool) {
    let mut raw = RawHeads::new(32 * 1024);
    bytes.to_vec().chunks_mut(piece).for_each(|piece| raw.read(piece));
    ((0..asked).map(|_| raw.asked()).collect(), raw.is_broken())
}

/// Every request whose head is whole, up to the first one behind which nothing can be told.
fn heads(bytes: &[u8]) -> Vec<Read> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some((read, end)) = head(bytes, at) {
        let goes_on = read.is_plain && !read.fragment;
        found.push(read);
        match end {
            Some(end) if goes_on => at = end,
            _ => break,
        }
    }
    found
}

/// The request that begins here, and where the next one does.
fn head(bytes: &[u8], mut at: usize) -> Option<(Read, Option<usize>)> {
    let mut lines: Vec<&[u8]> = Vec::new();
    loop {
        let (line, behind) = line(bytes, at)?;
        at = behind;
        let text = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line))?;
        match (text.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => break,
            (false, _) => lines.push(line),
        }
    }
    let target = lines[0].splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
    let of = |name: &str| -> Vec<&[u8]> { lines[1..].iter().filter_map(|line| value(line, name)).collect() };
    let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
    let length = lengths.last().and_then(|digits| number(digits, 10));
    let by = |first: First| match (first, lengths.is_empty(), codings.is_empty()) {
        (_, true, true) => Some(at),
        (First::Length, false, _) | (_, false, true) => at.checked_add(usize::try_from(length?).ok()?),
        (First::Coding, _, false) | (_, true, false) => chunks(bytes, at),
    };
    let ends = [by(First::Coding), by(First::Length)];
    let is_plain = lengths.len() + usize::from(!codings.is_empty()) < 2;
    let end = ends[0].filter(|end| *end <= bytes.len());
    Some((Read { is_plain, fragment: target.contains(&b'#'), ends }, end))
}

/// Where the message behind these chunks begins.
fn chunks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let (size, behind) = line(bytes, at)?;
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let follows = size.get(digits).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b';')) || size.len() == digits + 2;
        let shown = size.get(digits..)?.strip_suffix(b"\r\n").is_some_and(|behind| behind.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()));
        let size = number(size.get(..digits)?, 16).filter(|_| follows && shown)?;
        at = behind.checked_add(usize::try_from(size).ok()?)?;
        if size == 0 {
            break;
        }
        (bytes.get(at..at.checked_add(2)?)? == b"\r\n").then_some(())?;
        at += 2;
    }
    loop {
        let (trailer, behind) = line(bytes, at)?;
        trailer.ends_with(b"\r\n").then_some(())?;
        at = behind;
        if trailer == b"\r\n" {
            return Some(at);
        }
    }
}

fn line(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')? + 1;
    Some((&rest[..end], at + end))
}

fn value<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.chars().all(|digit| digit.is_digit(radix)))?;
    u64::from_str_radix(text, radix).ok()
}
