//! Identity headers: what a content server is told of who asks.
//!
//! Two people never get the same value: whatever a header cannot carry unchanged is percent-encoded, and so is `%` itself.

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What is encoded; spaces at the ends, which readers trim, come on top.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The value as a header; `None` when it is empty, since an empty header is somebody in the eyes of some servers.
pub(super) fn value(text: &str) -> Option<HeaderValue> {
    if text.is_empty() {
        return None;
    }
    let inner = text.trim_matches(' ');
    if inner.len() == text.len() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%') {
        return HeaderValue::from_str(text).ok();
    }
    let front = text.find(inner).unwrap_or_default();
    let back = text.len() - front - inner.len();
    let encoded: String = std::iter::repeat_n("%20", front).chain(utf8_percent_encode(inner, ENCODED)).chain(std::iter::repeat_n("%20", back)).collect();
    HeaderValue::from_str(&encoded).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_a_header_cannot_carry_are_encoded() {
        let table = [
            ("bob", Some("bob")),
            ("Bob Smith", Some("Bob Smith")),
            ("", None),
            ("b\u{f6}b", Some("b%C3%B6b")),
            ("b%C3%B6b", Some("b%25C3%25B6b")),
            ("%", Some("%25")),
            (" bob", Some("%20bob")),
            ("bob  ", Some("bob%20%20")),
            ("  ", Some("%20%20")),
            ("a\r\nX: y", Some("a%0D%0AX: y")),
            ("a\tb", Some("a%09b")),
        ];
        for (text, expected) in table {
            assert_eq!(value(text).as_ref().map(|value| value.to_str().unwrap()), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn two_people_never_share_a_value(people in proptest::collection::hash_set("[ a%ö\\t2ö0]{1,5}", 1..40)) {
            let values: HashSet<_> = people.iter().map(|text| value(text).unwrap().to_str().unwrap().trim().to_owned()).collect();
            proptest::prop_assert_eq!(values.len(), people.len());
        }
    }
}
