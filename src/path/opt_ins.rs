//! What a route may admit although two servers could read it differently, and the readings that it must then bear.
//!
//! An opt-in says that the content server reads a spelling as the gateway does. It is never a way to another route: every reading that a careless server
//! could make of such a path is made here too, and routing looks where each of them leads.

use unicode_normalization::UnicodeNormalization;

use super::{PathProblem, Segments, unicode};

/// Longest chain of escapes of escapes that is followed; a path that needs more is refused.
const DEEPEST: usize = 6;
/// Most texts that are followed on the way, and how long they may be together; the same.
const MOST: usize = 64;
const MOST_OCTETS: usize = 64 * 1024;

/// Spellings that a route admits, or that a path needs to be admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OptIns {
    /// `%2F` inside a segment.
    pub encoded_slash: bool,
    /// `%25` in front of what would be an escape when decoded once more.
    pub encoded_percent: bool,
    /// `;` and `%3B`.
    pub semicolon: bool,
}

impl OptIns {
    /// What is needed here and not admitted there.
    #[must_use]
    pub const fn beyond(self, admitted: Self) -> Self {
        Self {
            encoded_slash: self.encoded_slash && !admitted.encoded_slash,
            encoded_percent: self.encoded_percent && !admitted.encoded_percent,
            semicolon: self.semicolon && !admitted.semicolon,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !(self.encoded_slash || self.encoded_percent || self.semicolon)
    }

    /// Their names in the configuration.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        let all = [(self.encoded_slash, "encoded_slash"), (self.encoded_percent, "encoded_percent"), (self.semicolon, "semicolon")];
        all.into_iter().filter_map(|(is, name)| is.then_some(name))
    }

    /// Why a path that needs the first of them is refused without it.
    #[must_use]
    pub const fn problem(self) -> Option<PathProblem> {
        match self {
            Self { semicolon: true, .. } => Some(PathProblem::Semicolon),
            Self { encoded_slash: true, .. } => Some(PathProblem::EncodedSlash),
            Self { encoded_percent: true, .. } => Some(PathProblem::EncodedPercent),
            _ => None,
        }
    }
}

/// A path as a careless server might read it: decoded again and again, folded, cut at delimiters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading(String);

impl Reading {
    /// Its segments, escaped where that is needed to tell them apart.
    #[must_use]
    pub fn segments(&self) -> Segments<'_> {
        Segments::of(&self.0)
    }
}

/// All readings of a canonical path.
///
/// # Errors
/// When one of them holds a dot segment, a control or a delimiter in disguise, is not UTF-8, or is escaped too often: no opt-in admits that.
pub(super) fn readings(path: &str) -> Result<Vec<Reading>, PathProblem> {
    let mut found: Vec<Reading> = Vec::new();
    // Each with how often it was decoded. Servers cut and normalise before, between and behind any steps of decoding, so each text is taken on in every way.
    let mut texts = vec![(path.to_owned(), 0_usize)];
    let (mut next, mut octets) = (0_usize, path.len());
    while let Some((text, depth)) = texts.get(next).cloned() {
        next = next.saturating_add(1);
        let reading = reading(&text)?;
        if !found.contains(&reading) {
            found.push(reading);
        }
        let decoded = decoded_once_more(&text)?;
        let compatible = decoded.nfkc().collect();
        let deeper = depth.saturating_add(1);
        let steps = [
            (plain(&text), depth),
            (undelimited(&text), depth),
            (text.replace('\\', "/"), depth),
            (wide(&text)?, depth),
            (decoded, deeper),
            (compatible, deeper),
        ];
        for (text, depth) in steps {
            if texts.iter().any(|(known, _)| *known == text) {
                continue;
            }
            octets = octets.saturating_add(text.len());
            if depth > DEEPEST || texts.len() == MOST || octets > MOST_OCTETS {
                return Err(PathProblem::EncodedPercent);
            }
            texts.push((text, depth));
        }
    }
    Ok(found)
}

/// The next step of a server that decodes what it has decoded.
fn decoded_once_more(text: &str) -> Result<String, PathProblem> {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    text_of(String::from_utf8(bytes).map_err(|_| PathProblem::NotUtf8)?)
}

/// The next step of a server that reads `%u002F` as the character with that number.
fn wide(text: &str) -> Result<String, PathProblem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let digits = behind.strip_prefix(['u', 'U']).and_then(|behind| behind.get(..4)).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let character = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
        out.push(character.unwrap_or('%'));
        rest = behind.get(if character.is_some() { 5 } else { 0 }..).unwrap_or_default();
    }
    text_of(out + rest)
}

/// What has been decoded, where it is text without controls and disguises.
fn text_of(decoded: String) -> Result<String, PathProblem> {
    if decoded.chars().any(char::is_control) {
        return Err(PathProblem::EncodedControl);
    }
    if decoded.chars().any(|character| !character.is_ascii() && unicode::hides_a_delimiter(character)) {
        return Err(PathProblem::Unicode);
    }
    Ok(decoded)
}

/// Without the parameters of segments.
fn plain(text: &str) -> String {
    let segments = text.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

/// Without what stands behind a delimiter. Whoever has split the target already does not look for one again, so this is a step of its own.
fn undelimited(text: &str) -> String {
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

fn reading(text: &str) -> Result<Reading, PathProblem> {
    let mut out = String::with_capacity(text.len());
    for segment in text.split('/') {
        match segment {
            "" => continue,
            "." | ".." => return Err(PathProblem::DotSegment),
            _ => {}
        }
        out.push('/');
        out.extend(percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC));
    }
    Ok(Reading(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<Vec<String>, PathProblem> {
        let text = |reading: &Reading| reading.segments().map(|segment| unicode::decoded(segment).into_owned()).collect::<Vec<_>>().join("/");
        readings(path).map(|all| all.iter().map(text).collect())
    }

    #[test]
    fn every_reading_is_made() {
        assert_eq!(read("/a%2Fb"), Ok(vec!["a%2Fb".into(), "a/b".into()]));
        assert_eq!(read("/a;v=1/b"), Ok(vec!["a;v=1/b".into(), "a/b".into()]));
        assert_eq!(read("/a%2541"), Ok(vec!["a%2541".into(), "a%41".into(), "aA".into()]));
        assert!(read("/x;y%2Fsecret").unwrap().contains(&"x".into()));
        assert!(read("/x;y%2Fsecret").unwrap().contains(&"x/secret".into()));
        assert!(read("/a%25u002Fb").unwrap().contains(&"a/b".into()));
        assert!(read("/a%25u002Fb").unwrap().contains(&"a%u002Fb".into()));
        assert!(read("/%252541%25u002Fb").unwrap().contains(&"A%u002Fb".into()), "a server that does not know `%u` decodes the rest all the same");
        assert!(read("/%252541%25u002Fb").unwrap().contains(&"%2541/b".into()), "one that reads `%u` does not decode all else");
        assert!(read("/a%255Cb").unwrap().contains(&"a/b".into()));
        assert!(read("/a%255Cb").unwrap().contains(&"a\\b".into()), "a backslash is a name's octet to some");
        assert!(read("/a%253Bx%255Cb").unwrap().contains(&"a/b".into()));
        assert!(read("/a%253Fb").unwrap().contains(&"a".into()));
        assert!(read("/a%253Fb;c/d").unwrap().contains(&"a?b/d".into()), "parameters are cut where nobody cuts at `?`");
        assert_eq!(read("/a%253Fb/..%253Bx/secret"), Err(PathProblem::DotSegment));
        assert!(read("/p%252Fq%3By%252Fz").unwrap().contains(&"p/q".into()), "cut between two steps");
        assert!(read("/x%2Fa%EF%AC%81").unwrap().contains(&"x/a\u{fb01}".into()), "not normalised");
        assert!(read("/x%2Fa%EF%AC%81").unwrap().contains(&"x/afi".into()), "normalised");
    }

    #[test]
    fn opt_ins_have_the_names_of_the_configuration() {
        let all = OptIns { encoded_slash: true, encoded_percent: true, semicolon: true };
        assert_eq!(all.names().collect::<Vec<_>>(), ["encoded_slash", "encoded_percent", "semicolon"]);
        assert_eq!(OptIns { encoded_percent: true, ..OptIns::default() }.names().collect::<Vec<_>>(), ["encoded_percent"]);
        assert_eq!(OptIns::default().names().count(), 0);
    }

    #[test]
    fn escapes_of_escapes_are_followed_so_far_and_no_further() {
        let nested = |times: usize| format!("/a%{}41", "25".repeat(times));
        let admitted = read(&nested(DEEPEST - 1)).unwrap();
        assert_eq!((admitted.len(), admitted.last().map(String::as_str)), (DEEPEST + 1, Some("aA")));
        assert_eq!(read(&nested(DEEPEST)), Err(PathProblem::EncodedPercent));
    }

    #[test]
    fn what_has_many_readings_is_refused_before_they_take_long() {
        let long = |unit: &str, times: usize| format!("/{}%2Fx%25u0041%255C;y%2541", unit.repeat(times));
        assert!(read(&long("%25ua", 100)).unwrap().len() > 8);
        assert_eq!(read(&long("%25ua", 1500)), Err(PathProblem::EncodedPercent));
        assert!(read(&format!("/{};y", "a".repeat(8000))).is_ok(), "a long path with few of them is not");
        // The path and what is left of it without its parameter: as long together as may be, and a little longer.
        let half = "a".repeat(MOST_OCTETS / 2 - 2);
        assert_eq!(read(&format!("/{half};y")).map(|all| all.len()), Ok(2));
        assert_eq!(read(&format!("/{half}a;y")), Err(PathProblem::EncodedPercent));
    }

    #[test]
    fn no_opt_in_admits_dots_controls_or_disguises() {
        for (path, problem) in [
            ("/a%2F..%2Fb", PathProblem::DotSegment),
            ("/..%2Fb", PathProblem::DotSegment),
            ("/..;/b", PathProblem::DotSegment),
            ("/..;x/b", PathProblem::DotSegment),
            ("/%252e%252E/b", PathProblem::DotSegment),
            ("/%25252e%25252e/b", PathProblem::DotSegment),
            ("/a%25u002e%25u002e", PathProblem::DotSegment),
            ("/a%25u002f%25u002e%25u002e", PathProblem::DotSegment),
            ("/a%25U002f%25u002e%25u002e", PathProblem::DotSegment),
            ("/a%255C%252e%252e", PathProblem::DotSegment),
            ("/a%25u0000", PathProblem::EncodedControl),
            ("/a%25uFF0F", PathProblem::Unicode),
            ("/a%2500", PathProblem::EncodedControl),
            ("/a%25C0%25AF", PathProblem::NotUtf8),
            ("/a%25EF%25BC%258F", PathProblem::Unicode),
            ("/a%25252525252525252541", PathProblem::EncodedPercent),
        ] {
            let result = read(path);
            // `a..` is a name like any other.
            if path == "/a%25u002e%25u002e" {
                assert!(result.is_ok());
            } else {
                assert_eq!(result, Err(problem), "{path}");
            }
        }
    }
}
