//! From the bytes of a target to the one path that is matched, logged and forwarded.
//!
//! Normalised: the case of hexadecimal digits in escapes, and escapes of unreserved characters. All else keeps its bytes or is refused.

use http::uri::PathAndQuery;

use super::opt_ins::{Reading, readings};
use super::{OptIns, PathProblem, Query, unicode};
use crate::holes::{Hole, open};

/// A path with one reading. Its escapes are upper case, none of them stands for an unreserved character, and decoding it once yields segments in UTF-8
/// without delimiters, dots or controls that a second reader could find.
#[derive(Clone)]
pub struct CanonicalPath {
    /// Path and, where the target had one, query: the whole can go on without another copy.
    target: PathAndQuery,
    plain: bool,
    needs: OptIns,
}

impl CanonicalPath {
    /// Reads a path (without query) that no opt-in admits.
    ///
    /// # Errors
    /// When the path has no single safe reading.
    pub fn parse(raw: impl AsRef<[u8]>) -> Result<Self, PathProblem> {
        Self::parse_within(raw, OptIns::default())
    }

    /// Reads a path (without query) that may need these opt-ins.
    ///
    /// # Errors
    /// When the path has no single safe reading, or needs others.
    pub fn parse_within(raw: impl AsRef<[u8]>, admitted: OptIns) -> Result<Self, PathProblem> {
        let raw = raw.as_ref();
        let (changed, needs) = canonical(raw)?;
        if let Some(problem) = needs.beyond(admitted).problem() {
            return Err(problem);
        }
        let target = PathAndQuery::try_from(changed.as_deref().unwrap_or(raw)).map_err(|_| PathProblem::TooLong)?;
        Self::new(target, needs)
    }

    /// Reads the path of a target and keeps its query apart. Nothing is copied when the path is canonical already. Whether its route admits what the path
    /// [needs](Self::needs) is not known here: routing must ask.
    ///
    /// # Errors
    /// When no opt-in could admit the path. The query is not looked at: that is admission's part.
    pub fn of_target(target: &PathAndQuery) -> Result<(Self, Option<Query>), PathProblem> {
        let (changed, needs) = canonical(target.path().as_bytes())?;
        let target = match changed {
            // `http://host?query` has an empty path, which means `/`.
            None if target.as_str().starts_with('/') => target.clone(),
            changed => {
                let mut text = changed.unwrap_or_else(|| target.path().as_bytes().to_vec());
                if let Some(query) = target.query() {
                    text.push(b'?');
                    text.extend_from_slice(query.as_bytes());
                }
                PathAndQuery::from_maybe_shared(text).map_err(|_| PathProblem::TooLong)?
            }
        };
        let query = Query::of(&target);
        Ok((Self::new(target, needs)?, query))
    }

    fn new(target: PathAndQuery, needs: OptIns) -> Result<Self, PathProblem> {
        let plain = !target.path().bytes().any(|byte| byte == b'%');
        let path = Self { target, plain, needs };
        path.readings()?;
        Ok(path)
    }

    /// The opt-ins without which no route may take it; an ordinary path needs none.
    #[must_use]
    pub const fn needs(&self) -> OptIns {
        self.needs
    }

    /// What a careless server could read instead; nothing for a path that needs no opt-in, since it has one reading.
    ///
    /// # Errors
    /// Never for a path that has been made.
    pub fn readings(&self) -> Result<Vec<Reading>, PathProblem> {
        if self.needs.is_empty() { Ok(Vec::new()) } else { readings(self.as_str()) }
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.target.path()
    }

    /// Its segments from the left; a trailing slash makes none, and `/` has none.
    #[must_use]
    pub fn segments(&self) -> Segments<'_> {
        Segments::of(self.as_str())
    }

    /// Whether it ends in a slash that is not the first one.
    #[must_use]
    pub fn has_trailing_slash(&self) -> bool {
        self.as_str().len() > 1 && self.as_str().ends_with('/')
    }

    /// Whether no segment holds an escape, so that what is written is what is meant.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.plain
    }

    /// Path and query for the request line of the outbound request; without a copy when the query is the one that came with the path.
    #[must_use]
    pub fn with_query(&self, query: Option<&Query>) -> PathAndQuery {
        if self.target.query() == query.map(Query::as_str) {
            return self.target.clone();
        }
        let mut text = String::from(self.as_str());
        if let Some(query) = query {
            text.push('?');
            text.push_str(query.as_str());
        }
        // Both parts come from a target that was accepted; a sum that is too long loses its query rather than its path.
        PathAndQuery::from_maybe_shared(text.into_bytes()).or_else(|_| PathAndQuery::try_from(self.as_str())).unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }
}

impl PartialEq for CanonicalPath {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for CanonicalPath {}

impl std::fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for CanonicalPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CanonicalPath({})", self.as_str())
    }
}

/// The segments of a canonical path that are left, without allocation.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: &'a str,
}

impl<'a> Segments<'a> {
    pub(super) const fn of(path: &'a str) -> Self {
        Self { rest: path }
    }

    /// What is left of the path: empty, `/`, or a slash and more.
    #[must_use]
    pub const fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let behind = self.rest.strip_prefix('/').filter(|behind| !behind.is_empty())?;
        let (segment, rest) = behind.find('/').map_or((behind, ""), |at| behind.split_at(at));
        self.rest = rest;
        Some(segment)
    }
}

/// The canonical form, or `None` when `raw` is it already, and what it needs.
fn canonical(raw: &[u8]) -> Result<(Option<Vec<u8>>, OptIns), PathProblem> {
    let behind = raw.strip_prefix(b"/").ok_or(PathProblem::NotRooted)?;
    let mut needs = OptIns::default();
    let mut escaped = false;
    let mut segments = behind.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        for byte in segment {
            match class(*byte) {
                Class::Plain => {}
                Class::Escape => escaped = true,
                Class::Semicolon => needs.semicolon = true,
                Class::Refused(problem) => return Err(problem),
            }
        }
        let last = segments.peek().is_none();
        match segment {
            b"" if !last => return Err(PathProblem::EmptySegment),
            b"." | b".." if !open(Hole::DotsForwarded) => return Err(PathProblem::DotSegment),
            _ => {}
        }
    }
    if !escaped {
        return Ok((None, needs));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut decoded = Vec::new();
    for segment in behind.split(|byte| *byte == b'/') {
        out.push(b'/');
        let start = out.len();
        normalise(segment, &mut out, &mut decoded, &mut needs)?;
        if matches!(out.get(start..), Some(b"." | b"..")) && !open(Hole::DotsForwarded) {
            return Err(PathProblem::DotSegment);
        }
        needs.encoded_percent |= unicode::check(&decoded)?;
    }
    Ok((if out == raw { None } else { Some(out) }, needs))
}

/// Writes one segment in its canonical form to `out`, and what it means to `decoded`.
fn normalise(segment: &[u8], out: &mut Vec<u8>, decoded: &mut Vec<u8>, needs: &mut OptIns) -> Result<(), PathProblem> {
    decoded.clear();
    let mut bytes = segment.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            decoded.push(byte);
            continue;
        }
        let (high, low) = (bytes.next().and_then(digit), bytes.next().and_then(digit));
        let (Some(high), Some(low)) = (high, low) else { return Err(PathProblem::Escape) };
        let octet = high << 4 | low;
        match octet {
            0x00..=0x1f | 0x7f => return Err(PathProblem::EncodedControl),
            b'\\' => return Err(PathProblem::EncodedSlash),
            b'?' | b'#' => return Err(PathProblem::EncodedDelimiter),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(octet),
            _ => {
                needs.encoded_slash |= octet == b'/';
                needs.semicolon |= octet == b';';
                out.extend_from_slice(&[b'%', upper(high), upper(low)]);
            }
        }
        decoded.push(octet);
    }
    Ok(())
}

enum Class {
    Plain,
    Escape,
    Semicolon,
    Refused(PathProblem),
}

// The backtick has one reading, but the HTTP library refuses it before this code sees it, and a configured path must not name what cannot come.
const fn class(byte: u8) -> Class {
    match byte {
        b'%' => Class::Escape,
        b'\\' => Class::Refused(PathProblem::Backslash),
        b';' => Class::Semicolon,
        b'"' | b'<' | b'>' | b'^' | b'{' | b'}' | b'|' | b'#' | b'?' | b'`' => Class::Refused(PathProblem::Byte),
        0x21..=0x7e => Class::Plain,
        _ => Class::Refused(PathProblem::Byte),
    }
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The digit of a value below 16, in upper case.
fn upper(nibble: u8) -> u8 {
    b"0123456789ABCDEF".get(usize::from(nibble)).copied().unwrap_or(b'0')
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
