//! The query: kept apart from the path, handed on as it came, never logged.

use http::uri::PathAndQuery;

/// A query without its `?`, as it came. Only bytes of %x21-7E are in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Query(PathAndQuery);

impl Query {
    /// The query of a target that has one; the target's bytes have been checked.
    pub(super) fn of(target: &PathAndQuery) -> Option<Self> {
        target.query().map(|_| Self(target.clone()))
    }

    /// As it came, without the `?`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.query().unwrap_or_default()
    }

    /// Whether a parameter of this name is in it, however it is spelt.
    #[must_use]
    pub fn has_parameter(&self, name: &str) -> bool {
        query_has_parameter(self.as_str(), name)
    }
}

impl std::fmt::Debug for Query {
    /// A query may hold a token, so it is not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query(..)")
    }
}

/// Whether a query names a parameter, with a value or without, as any server may read it: its characters escaped, escaped again or not, in capitals or small
/// letters, as a list (`name[]`), with blanks around it or a NUL behind it.
///
/// `;` counts as a separator too, because some servers split there, and `.`, `[` and a blank as `_`, because PHP has names so.
#[must_use]
pub fn query_has_parameter(query: &str, name: &str) -> bool {
    query.split(SEPARATORS).any(|pair| is_parameter(pair, name))
}

/// The query without that parameter, in whatever spelling; what stays is as it came.
#[must_use]
pub fn query_without_parameter(query: &str, name: &str) -> String {
    let mut kept = String::with_capacity(query.len());
    for pair in query.split_inclusive(SEPARATORS) {
        if !is_parameter(pair.trim_end_matches(SEPARATORS), name) {
            kept.push_str(pair);
        }
    }
    kept.truncate(kept.trim_end_matches(SEPARATORS).len());
    kept
}

const SEPARATORS: [char; 2] = ['&', ';'];

fn is_parameter(pair: &str, name: &str) -> bool {
    let key = pair.split_once('=').map_or(pair, |(key, _)| key);
    // No reading is longer than what was sent.
    if key.len() < name.len() {
        return false;
    }
    if !key.contains('%') {
        return may_be(key.as_bytes(), name);
    }
    // Whoever decodes first and takes pairs apart then finds more of them.
    decoded(key).split(|byte| matches!(byte, b'&' | b';')).any(|key| may_be(key, name))
}

/// With all escapes decoded, and those that come out of it, until there are none: wherever a server stops, a name is the same from there on.
fn decoded(key: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(key.len());
    for byte in key.bytes() {
        text.push(byte);
        while let Some((length, byte)) = escape_at_end(&text) {
            text.truncate(text.len().saturating_sub(length));
            text.push(byte);
        }
    }
    text
}

/// The escape that a text ends with, as `%5F` or `%u005F`: its length and its octet.
fn escape_at_end(text: &[u8]) -> Option<(usize, u8)> {
    let (length, high, low) = match *text {
        [.., b'%', b'u' | b'U', b'0', b'0', high, low] => (6, high, low),
        [.., b'%', high, low] => (3, high, low),
        _ => return None,
    };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    Some((length, u8::try_from(digit(high)? << 4 | digit(low)?).ok()?))
}

/// Whether some server takes a decoded key for this name.
fn may_be(key: &[u8], name: &str) -> bool {
    let is_blank = |byte: &u8| *byte <= b' ' || *byte == b'+';
    let start = key.iter().take_while(|byte| is_blank(byte) || **byte == b'?').count();
    let Some((key, behind)) = key.get(start..).and_then(|key| key.split_at_checked(name.len())) else { return false };
    let is_same = |(byte, wanted): (&u8, u8)| byte.eq_ignore_ascii_case(&wanted) || (wanted == b'_' && matches!(byte, b'.' | b'[' | b' ' | b'+'));
    let end = behind.iter().find(|byte| **byte == 0 || !is_blank(byte));
    key.iter().zip(name.bytes()).all(is_same) && matches!(end, None | Some(0 | b'[' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_tells_whether_a_parameter_is_in_it() {
        let query = Query::of(&PathAndQuery::from_static("/a?b=c&access%5Ftoken=x")).unwrap();
        assert!(query.has_parameter("access_token") && query.has_parameter("b") && !query.has_parameter("c"));
    }

    #[test]
    fn without_a_parameter_all_others_stay_as_they_came() {
        for (query, expected) in [
            ("", ""),
            ("a=1&b=%zz;c", "a=1&b=%zz;c"),
            ("t=x", ""),
            ("t=x&a=1", "a=1"),
            ("a=1&t=x", "a=1"),
            ("a=1&t;b=2", "a=1&b=2"),
            ("a=1&%74=x&&b=2&t=y&", "a=1&&b=2"),
        ] {
            assert_eq!(query_without_parameter(query, "t"), expected, "{query}");
        }
    }

    #[test]
    fn a_parameter_is_found_in_every_spelling() {
        for query in ["access_token=x", "a=1&access_token", "access%5Ftoken=x", "%61ccess_token=", "a;access_token=x", "&&access_token=x&"] {
            assert!(query_has_parameter(query, "access_token"), "{query}");
        }
        // As ASP.NET, PHP, Rails and `qs` fold names, and whoever decodes twice or before it takes pairs apart.
        for query in [
            "ACCESS_TOKEN=x",
            "Access%5fToken=x",
            "access_token[]=x",
            "access_token[0]",
            "access_token%5B%5D=x",
            "access_token%00=x",
            "access_token%00b=x",
            "+access_token=x",
            "%20access_token=x",
            "%09access_token=x",
            "access_token+=x",
            "access%255ftoken=x",
            "%252561ccess_token=x",
            "access%%35%66token=x",
            "access%u005Ftoken=x",
            "access.token=x",
            "access+token=x",
            "access%5Btoken=x",
            "access_token%3Dx",
            "a%26access_token=x",
            "?access_token=x",
        ] {
            assert!(query_has_parameter(query, "access_token"), "{query}");
            assert_eq!(query_without_parameter(&format!("a=1&{query}&b=2"), "access_token"), "a=1&b=2", "{query}");
        }
        for query in [
            "",
            "a=access_token",
            "xaccess_token=1",
            "access_token_hint=x",
            "access=token",
            "%=access_token",
            "access_tokens=1",
            "my_access_token=1",
            "access-token=1",
            "accesstoken=1",
            "access[token]=1",
            "of[access_token]=1",
            "access_token]=1",
            "_access_token=1",
            "%61ccess_token_type=1",
            "%zz%u00=1",
            "q=a%26access_token%3Dx",
        ] {
            assert!(!query_has_parameter(query, "access_token"), "{query}");
        }
    }
}
