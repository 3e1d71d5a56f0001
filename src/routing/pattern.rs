//! From the `path` of a route to a [`Pattern`], or to what is wrong with it and what to write instead.
//!
//! Literals are in canonical form: a literal that no canonical path can hold would be a rule that never matches.

use std::sync::Arc;

use super::config::{Pattern, Segment};
use super::elsewhere;
use crate::path::{CanonicalPath, PathProblem, decoded_bytes};

/// Parameters of one pattern, at most: their values are kept in an array of this size.
pub const MAX_PARAMETERS: usize = 8;

/// Segments of one pattern, at most.
pub const MAX_SEGMENTS: usize = 64;

/// What is wrong with a `path`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct PatternProblem {
    /// What it is.
    pub kind: PatternProblemKind,
    /// Where it begins in the text, in bytes from 0.
    pub offset: usize,
    /// How many bytes it spans.
    pub length: usize,
    /// The whole path as it could be written instead, where that is plain.
    pub instead: Option<String>,
}

/// The kinds of a [`PatternProblem`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblemKind {
    /// No slash in front.
    #[error("a path begins with `/`")]
    NotRooted,
    /// A slash at the end.
    #[error("a path ends without `/`: it serves both spellings")]
    TrailingSlash,
    /// `**` before the end.
    #[error("`**` stands only at the end, as a segment of its own")]
    RestNotLast,
    /// Another use of `*`.
    #[error("`*` is not a pattern here: `{{name}}` is one segment, `/**` at the end is the rest; an asterisk itself is `%2A`")]
    Asterisk,
    /// A brace that belongs to no parameter.
    #[error("a parameter is a whole segment, as in `/albums/{{album}}`")]
    Brace,
    /// A name that is none.
    #[error("a parameter's name is made of letters, digits, `_` and `-` and begins with a letter")]
    ParameterName,
    /// A name that stands twice.
    #[error("the parameter `{0}` stands twice")]
    ParameterTwice(Arc<str>),
    /// More than [`MAX_PARAMETERS`].
    #[error("a path has at most {MAX_PARAMETERS} parameters")]
    TooManyParameters,
    /// More than [`MAX_SEGMENTS`].
    #[error("a path has at most {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// A query, or the mark of a place in a page.
    #[error("what stands behind `?` or `#` is no part of a path: routes are chosen by the path alone")]
    NotPath,
    /// A regular expression, or nginx's way to match.
    #[error("this is read as a path and not as an expression: `{{name}}` is one segment, `/**` at the end is the rest")]
    Expression,
    /// A whole address.
    #[error("this is an address: the path alone stands here, and the host at `host`")]
    Address,
    /// A literal that is not in the form in which requests are compared.
    #[error("this is not the form in which paths are compared")]
    NotCanonical,
    /// A literal that no request can have, since its path is refused.
    #[error("no request can match: {}", .0.reason())]
    NeverMatches(PathProblem),
}

impl Pattern {
    /// Reads a pattern: literals, `{name}` for one non-empty segment, `/**` at the end for the rest and the prefix itself.
    ///
    /// # Errors
    /// The first problem from the left.
    pub fn parse(text: &str) -> Result<Self, PatternProblem> {
        Self::read(text).map_err(|problem| elsewhere::problem(text).unwrap_or(problem))
    }

    /// The same, where nothing is known of other programs.
    pub(super) fn read(text: &str) -> Result<Self, PatternProblem> {
        let problem = |kind, offset, length, instead: Option<String>| PatternProblem { kind, offset, length, instead };
        let readable = |instead: &String| Self::read(instead).is_ok();
        if let Some(end) = text.find(['?', '#']) {
            let instead = text.get(..end).map(str::to_owned).filter(readable);
            return Err(problem(PatternProblemKind::NotPath, end, text.len() - end, instead));
        }
        let Some(behind) = text.strip_prefix('/') else {
            return Err(problem(PatternProblemKind::NotRooted, 0, text.len(), Some(format!("/{text}")).filter(readable)));
        };
        if behind.ends_with('/') {
            let instead = text.trim_end_matches('/');
            let instead = if instead.is_empty() { "/" } else { instead };
            return Err(problem(PatternProblemKind::TrailingSlash, instead.len().min(text.len() - 1), text.len() - instead.len(), Some(instead.to_owned())));
        }
        let mut pattern = Self { text: text.into(), segments: Vec::new(), rest: false };
        if behind.is_empty() {
            return Ok(pattern);
        }
        let mut offset = 1;
        let mut pieces = behind.split('/').peekable();
        while let Some(piece) = pieces.next() {
            if piece == "**" {
                if pieces.peek().is_some() {
                    // A prefix alone would be more than was meant; one segment is the nearest that can be said.
                    let instead = text.get(..offset).zip(text.get(offset + 2..)).map(|(before, after)| format!("{before}{{segment}}{after}"));
                    return Err(problem(PatternProblemKind::RestNotLast, offset, 2, instead.filter(readable)));
                }
                pattern.rest = true;
                return Ok(pattern);
            }
            if pattern.segments.len() == MAX_SEGMENTS {
                return Err(problem(PatternProblemKind::TooManySegments, offset, piece.len(), None));
            }
            match segment(piece, &pattern.segments) {
                Ok(segment) => pattern.segments.push(segment),
                Err((kind, instead)) => {
                    // At the end it may be meant for the rest.
                    let one = (piece == "*" && pieces.peek().is_some()).then(|| "{segment}".to_owned());
                    let instead = instead.or(one);
                    let whole = instead.and_then(|instead| Some(format!("{}{instead}{}", text.get(..offset)?, text.get(offset + piece.len()..)?)));
                    let whole = whole.filter(|whole| piece != "*" || readable(whole));
                    return Err(problem(kind, offset, piece.len(), whole));
                }
            }
            offset += piece.len() + 1;
        }
        Ok(pattern)
    }

    /// The first literal that is a parameter or an expression in other programs' notation, `:name` or `[0-9]+`: where it begins in the text, and the whole as it
    /// is meant.
    #[must_use]
    pub fn as_elsewhere(&self) -> Option<(usize, String)> {
        elsewhere::strange(&self.text)
    }

    /// Whether it takes a path in its one spelling, whatever other routes there are.
    #[must_use]
    pub fn takes(&self, spelling: &str) -> bool {
        let given = spelling.split('/').filter(|segment| !segment.is_empty());
        self.behind(given).is_some_and(|mut behind| self.rest || behind.next().is_none())
    }

    /// What stands behind the segments that it names; `None`: they are others.
    pub(super) fn behind<'a, I: Iterator<Item = &'a str>>(&self, mut given: I) -> Option<I> {
        let all = self.segments.iter().all(|segment| match (segment, given.next()) {
            (_, None) => false,
            (Segment::Parameter(_), Some(_)) => true,
            (Segment::Literal(literal), Some(segment)) => decoded_bytes(literal).eq(decoded_bytes(segment)),
        });
        all.then_some(given)
    }

    /// The names of its parameters, from the left.
    pub fn parameters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name),
            Segment::Literal(_) => None,
        })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// One segment, or what is wrong and what to write in its place.
fn segment(piece: &str, earlier: &[Segment]) -> Result<Segment, (PatternProblemKind, Option<String>)> {
    if let Some(name) = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')) {
        return parameter(name, earlier);
    }
    if piece.contains(['{', '}']) {
        return Err((PatternProblemKind::Brace, None));
    }
    if piece.contains('*') {
        return Err((PatternProblemKind::Asterisk, None));
    }
    literal(piece).map(|literal| Segment::Literal(literal.into()))
}

fn parameter(name: &str, earlier: &[Segment]) -> Result<Segment, (PatternProblemKind, Option<String>)> {
    if !is_name(name) {
        // Elsewhere a parameter may say what it matches: `{id:[0-9]+}`, `{id?}`, `{*rest}`.
        let rest = name.strip_prefix('*').filter(|name| is_name(name)).map(|_| "**".to_owned());
        let plain = name.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '-').next().filter(|name| is_name(name));
        return Err((PatternProblemKind::ParameterName, rest.or_else(|| plain.map(|name| format!("{{{name}}}")))));
    }
    let mut count = 0;
    for segment in earlier {
        if let Segment::Parameter(other) = segment {
            if &**other == name {
                return Err((PatternProblemKind::ParameterTwice(Arc::clone(other)), None));
            }
            count += 1;
        }
    }
    if count == MAX_PARAMETERS {
        return Err((PatternProblemKind::TooManyParameters, None));
    }
    Ok(Segment::Parameter(name.into()))
}

/// Whether a parameter may be called so.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A literal segment as it must be written.
fn literal(piece: &str) -> Result<&str, (PatternProblemKind, Option<String>)> {
    if piece.is_empty() {
        return Err((PatternProblemKind::NeverMatches(PathProblem::EmptySegment), None));
    }
    match CanonicalPath::parse(format!("/{piece}")) {
        Ok(path) if path.as_str().get(1..) == Some(piece) => Ok(piece),
        Ok(path) => Err((PatternProblemKind::NotCanonical, path.as_str().get(1..).map(str::to_owned))),
        // Written as a person reads it: spaces, umlauts, quotes. The escaped form is what requests carry.
        Err(PathProblem::Byte) => {
            // A parameter in the notation of other programs.
            if let Some(name) = piece.strip_prefix('<').and_then(|piece| piece.strip_suffix('>')).filter(|name| is_name(name)) {
                return Err((PatternProblemKind::NotCanonical, Some(format!("{{{name}}}"))));
            }
            let escaped = escape(piece);
            match CanonicalPath::parse(format!("/{escaped}")) {
                Ok(_) => Err((PatternProblemKind::NotCanonical, Some(escaped))),
                Err(problem) => Err((PatternProblemKind::NeverMatches(problem), None)),
            }
        }
        Err(problem) => Err((PatternProblemKind::NeverMatches(problem), None)),
    }
}

fn escape(piece: &str) -> String {
    piece.bytes().fold(String::with_capacity(piece.len() * 3), |mut out, byte| {
        match byte {
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'}' | b'|' | b'#' | b'?' | 0..=0x20 | 0x7f..=0xff => {
                out.extend(['%', hexadecimal(byte >> 4), hexadecimal(byte & 15)]);
            }
            plain => out.push(char::from(plain)),
        }
        out
    })
}

fn hexadecimal(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> PatternProblem {
        Pattern::parse(text).map(|pattern| panic!("{pattern:?}")).unwrap_or_else(|problem| problem)
    }

    #[test]
    fn literals_parameters_and_a_rest_are_read() {
        let pattern = Pattern::parse("/albums/{album}/**").unwrap();
        assert_eq!(pattern.segments, [Segment::Literal("albums".into()), Segment::Parameter("album".into())]);
        assert!(pattern.rest);
        assert_eq!(Pattern::parse("/").unwrap().segments, []);
        assert!(Pattern::parse("/**").unwrap().rest);
        assert_eq!(Pattern::parse("/a%20b/x.y").unwrap().segments.len(), 2);
    }

    #[test]
    fn every_mistake_has_its_place_and_mostly_a_better_spelling() {
        use PatternProblemKind as Kind;
        let table: &[(&str, Kind, usize, Option<&str>)] = &[
            ("albums/**", Kind::NotRooted, 0, Some("/albums/**")),
            ("/albums/", Kind::TrailingSlash, 7, Some("/albums")),
            ("//", Kind::TrailingSlash, 1, Some("/")),
            ("/a/**/b", Kind::RestNotLast, 3, Some("/a/{segment}/b")),
            ("/**/b", Kind::RestNotLast, 1, Some("/{segment}/b")),
            ("/a/**/**", Kind::RestNotLast, 3, Some("/a/{segment}/**")),
            ("/a/**/b/**/c", Kind::RestNotLast, 3, None),
            ("/a/*/b", Kind::Asterisk, 3, Some("/a/{segment}/b")),
            ("/a/*/*/b", Kind::Asterisk, 3, None),
            ("/k/*", Kind::Asterisk, 3, None),
            ("/file/*.suffix", Kind::Asterisk, 6, None),
            ("/a**", Kind::Asterisk, 1, None),
            ("/{a", Kind::Brace, 1, None),
            ("/{a/b}", Kind::Brace, 1, None),
            ("/{", Kind::Brace, 1, None),
            ("/x{a}", Kind::Brace, 1, None),
            ("/{}", Kind::ParameterName, 1, None),
            ("/{1a}", Kind::ParameterName, 1, None),
            ("/{**}", Kind::ParameterName, 1, None),
            ("/{a}/x/{a}", Kind::ParameterTwice("a".into()), 7, None),
            ("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", Kind::TooManyParameters, 33, None),
            ("/a b/**", Kind::NotCanonical, 1, Some("/a%20b/**")),
            ("/x/café", Kind::NotCanonical, 3, Some("/x/caf%C3%A9")),
            ("/x/caf%c3%a9", Kind::NotCanonical, 3, Some("/x/caf%C3%A9")),
            ("/%61dmin/**", Kind::NotCanonical, 1, Some("/admin/**")),
            ("/a?b", Kind::NotPath, 2, Some("/a")),
            ("/a/**#b", Kind::NotPath, 5, Some("/a/**")),
            ("a b", Kind::NotRooted, 0, None),
            ("/a//b", Kind::NeverMatches(PathProblem::EmptySegment), 3, None),
            ("/a/../b", Kind::NeverMatches(PathProblem::DotSegment), 3, None),
            ("/a;v=1", Kind::NeverMatches(PathProblem::Semicolon), 1, None),
            ("/a%2Fb", Kind::NeverMatches(PathProblem::EncodedSlash), 1, None),
            ("/a…", Kind::NeverMatches(PathProblem::Unicode), 1, None),
        ];
        for (text, kind, offset, instead) in table {
            let found = problem(text);
            assert_eq!((&found.kind, found.offset, found.instead.as_deref()), (kind, *offset, *instead), "{text}");
            assert!(found.offset + found.length <= text.len(), "{text}");
            if let Some(instead) = instead {
                assert!(Pattern::parse(instead).is_ok(), "{instead}");
            }
        }
    }
}
