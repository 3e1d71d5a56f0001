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

/// Whether a query names a parameter, with any of its characters escaped or not, with a value or without.
///
/// `;` counts as a separator too, because some servers split there.
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
    if key.contains('%') { percent_encoding::percent_decode_str(key).eq(name.bytes()) } else { key == name }
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
        for query in ["", "a=access_token", "xaccess_token=1", "access_token_hint=x", "access=token", "%=access_token"] {
            assert!(!query_has_parameter(query, "access_token"), "{query}");
        }
    }
}
