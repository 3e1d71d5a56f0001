//! The target that the upstream sees. A token in the query never goes on.

use http::Uri;
use http::uri::PathAndQuery;

use crate::path::{query_has_parameter, query_without_parameter};
use crate::response::Rejection;

const TOKEN: &str = "access_token";

/// The origin form of a request target.
///
/// `access_token` is cut from the query: on protected routes such a request was refused before, on public ones the content server must not get the token either.
///
/// # Errors
/// Never for a target that was parsed once.
pub(super) fn origin_form(target: PathAndQuery) -> Result<Uri, Rejection> {
    let target = match target.query().filter(|query| query_has_parameter(query, TOKEN)) {
        None => target,
        Some(query) => {
            let (path, kept) = (target.path(), query_without_parameter(query, TOKEN));
            let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
            PathAndQuery::try_from(text).map_err(|_| Rejection::Internal)?
        }
    };
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| Rejection::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_is_cut_from_the_query() {
        for (given, expected) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("/a?access_token=x", "/a"),
            ("/a?b=c&access_token=x&d=e", "/a?b=c&d=e"),
            ("/a?access%5ftoken=x&access_tok%65n&b", "/a?b"),
            ("/a?q=access_token", "/a?q=access_token"),
            ("/a?c=2;access_token=x", "/a?c=2"),
            ("/a?access_token=x;c=2&d", "/a?c=2&d"),
            ("/a?xaccess_token=1", "/a?xaccess_token=1"),
        ] {
            assert_eq!(origin_form(given.parse().unwrap()).unwrap().to_string(), expected);
        }
    }
}
