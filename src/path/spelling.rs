//! One spelling for each path, for records that are found by it.
//!
//! Routes compare decoded segments, so `a@b` and `a%40b` are one name. A record that is looked up by its text needs that one name to be one text as well: else a
//! path written in the other way would miss the record that is meant, and find the one of the folder above. Nothing here is forwarded.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{CanonicalPath, compatible, decoded};

/// What a canonical path cannot hold as it is.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'|')
    .add(b'#')
    .add(b'?')
    .add(b'%')
    .add(b'\\')
    .add(b'/')
    .add(b';');

/// The one spelling of a path that needs no opt-in: without a trailing slash, and without an escape that could be left out.
#[must_use]
pub fn spelling(path: &CanonicalPath) -> Cow<'_, str> {
    let text = path.as_str();
    if path.is_plain() {
        return Cow::Borrowed(if path.has_trailing_slash() { text.trim_end_matches('/') } else { text });
    }
    let mut out = String::with_capacity(text.len());
    for segment in path.segments() {
        out.push('/');
        out.extend(utf8_percent_encode(&decoded(segment), ESCAPED));
    }
    Cow::Owned(out)
}

/// What a server that folds case or normalises (NFKC) could take a spelling for: two that are alike here may be one file there.
#[must_use]
pub fn alike(spelling: &str) -> Cow<'_, str> {
    if !spelling.bytes().any(|byte| byte == b'%' || byte.is_ascii_uppercase()) {
        return Cow::Borrowed(spelling);
    }
    Cow::Owned(small(&compatible(&decoded(spelling))).collect())
}

/// Small letters, of all scripts that have them. By way of capitals: some servers compare those, and then `ı` is `i`, and `ß` is `ss`. Small ones come first, for
/// `ẞ` is its own capital; and `İ` is `i` to a server that keeps one letter for each.
pub(crate) fn small(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut last = '\0';
    let folded = text.chars().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    folded.filter(move |character| {
        let dot_above_i = *character == '\u{307}' && last == 'i';
        last = *character;
        !dot_above_i
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(path: &str) -> String {
        spelling(&CanonicalPath::parse(path).unwrap()).into_owned()
    }

    #[test]
    fn what_decodes_to_the_same_is_spelt_the_same() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b/", "/a/b"),
            ("/a%40b", "/a@b"),
            ("/a@b/", "/a@b"),
            ("/%61", "/a"),
            ("/100%25", "/100%25"),
            ("/a%20b%22", "/a%20b%22"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/x%5B1%5D/", "/x[1]"),
        ] {
            assert_eq!(spelt(path), expected, "{path}");
            assert_eq!(spelt(expected), expected, "a spelling is its own");
        }
    }

    #[test]
    fn what_a_careless_server_takes_for_the_same_is_alike() {
        for (one, other) in
            [("/a/B", "/A/b"), ("/caf%C3%A9", "/CAFE%CC%81"), ("/%EF%AC%81le", "/FILE"), ("/%C4%B1", "/I"), ("/%C4%B0", "/i"), ("/%E1%BA%9E", "/SS")]
        {
            assert_eq!(alike(one), alike(other), "{one} {other}");
        }
        assert_ne!(alike("/a"), alike("/b"));
        assert!(matches!(alike("/plain/path"), Cow::Borrowed(_)));
    }
}
