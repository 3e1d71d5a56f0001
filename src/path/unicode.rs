//! What a path segment says once its escapes are decoded, and whether normalisation would make it say something else.
//!
//! Only compatibility normalisation (NFKC) is looked at; segments are never rewritten by it.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::decompose_compatible;

use super::PathProblem;
use crate::holes::{Hole, open};

/// The text of a canonical segment with its escapes decoded, once.
#[must_use]
pub fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy()
}

/// The same octet by octet, without allocation.
pub(crate) fn decoded_bytes(segment: &str) -> impl Iterator<Item = u8> + '_ {
    percent_encoding::percent_decode_str(segment)
}

/// The compatibility form (NFKC) of a decoded segment.
#[must_use]
pub fn compatible(decoded: &str) -> Cow<'_, str> {
    if decoded.is_ascii() || unicode_normalization::is_nfkc(decoded) {
        return Cow::Borrowed(decoded);
    }
    Cow::Owned(decoded.nfkc().collect())
}

/// Checks one decoded segment; whether a second decoding would find an escape in it.
pub(super) fn check(decoded: &[u8]) -> Result<bool, PathProblem> {
    let text = std::str::from_utf8(decoded).map_err(|_| PathProblem::NotUtf8)?;
    if text.is_ascii() {
        return Ok(reads_as_escape(text) && !open(Hole::DecodedOnce));
    }
    // Decomposition is by character and composition never makes one of these, so looking at each character is looking at the NFKC form.
    if text.chars().any(|character| !character.is_ascii() && hides_a_delimiter(character)) && !open(Hole::FormsIgnored) {
        return Err(PathProblem::Unicode);
    }
    // Full-width digits behind a % are digits to a server that normalises. One that does not sees a digit where a mark behind it would become one letter with it.
    Ok(text.contains('%') && (reads_as_escape(text) || reads_as_escape(&compatible(text))))
}

/// Whether a second decoding would find an escape: `%` and two hexadecimal digits, or `%u` and four.
fn reads_as_escape(text: &str) -> bool {
    text.split('%').skip(1).any(|after| {
        let mut digits = after.bytes();
        let hexadecimal = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        match digits.next() {
            Some(b'u' | b'U') => (0..4).all(|_| hexadecimal(digits.next())),
            first => hexadecimal(first) && hexadecimal(digits.next()),
        }
    })
}

pub(super) fn hides_a_delimiter(character: char) -> bool {
    let mut hides = false;
    decompose_compatible(character, |part| hides |= matches!(part, '/' | '\\' | '.' | '%' | ';' | '?' | '#') || part.is_control());
    hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_seen_only_where_one_would_be_decoded() {
        for text in ["%2e", "a%2Eb", "%u002f", "%U002F", "%%41", "100%25"] {
            assert!(reads_as_escape(text), "{text}");
        }
        for text in ["%", "100%", "100%.pdf", "%u002", "%g1", "%2", "50% off", "%%", "%usa"] {
            assert!(!reads_as_escape(text), "{text}");
        }
    }

    #[test]
    fn only_what_normalisation_changes_is_copied() {
        for text in ["", "plain", "100%", "caf\u{e9}", "東京"] {
            assert!(matches!(compatible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        for (text, form) in [("\u{fb01}", "fi"), ("cafe\u{301}", "caf\u{e9}"), ("\u{ff41}", "a")] {
            assert!(matches!(compatible(text), Cow::Owned(other) if other == form), "{text}");
        }
    }

    #[test]
    fn delimiters_hide_in_compatibility_characters() {
        for character in ['／', '．', '…', '‥', '℀', '；', '\u{37e}', '？', '＃', '％', '＼', '⒈', '\u{85}', '\u{9f}'] {
            assert!(hides_a_delimiter(character), "{character:?}");
        }
        for character in ['ä', 'ｐ', '½', '東', '\u{301}', '😀', '™', '\u{200d}', '×'] {
            assert!(!hides_a_delimiter(character), "{character:?}");
        }
    }

    #[test]
    fn a_segment_is_decoded_once() {
        assert_eq!(decoded("100%25.pdf"), "100%.pdf");
        assert_eq!(decoded("caf%C3%A9"), "café");
        assert!(matches!(decoded("plain"), Cow::Borrowed("plain")));
        assert!(decoded_bytes("a%40b").eq(*b"a@b"));
    }
}
