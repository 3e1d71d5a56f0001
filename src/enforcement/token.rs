//! How a request presents its token: once, in `Authorization`, as `Bearer` (RFC 6750, 2; rows D12 to D15); where the configuration names a header for old
//! clients, alone in that one, too.
//!
//! Query, body and cookies are never searched for a token to use; one in the query is refused, since it has already been told to logs on its way here.

use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::holes::{Hole, open};
use crate::path::query_has_parameter;
use crate::response::Rejection;

/// Longest token that is accepted, in bytes (a Keycloak RPT with many permissions may have 20 KiB).
const LONGEST: usize = 24 * 1024;

/// Finds the token and leaves it where it stands; `None`: there is none, or the scheme is another one than Bearer. `also` is a header that may hold it as well.
///
/// # Errors
/// [`Rejection::SeveralTokens`], also for two headers that differ, [`Rejection::MalformedToken`] or [`Rejection::TokenInQuery`].
pub fn present<'h>(headers: &'h HeaderMap, query: Option<&str>, also: Option<&HeaderName>) -> Result<Option<&'h str>, Rejection> {
    let Some(first) = also.and_then(|name| headers.get(name).map(|value| (name, value))) else { return authorization(headers, query) };
    let token = alone(headers, first)?;
    match authorization(headers, query) {
        Ok(None) => Ok(Some(token)),
        Ok(Some(other)) if other == token => Ok(Some(token)),
        Ok(Some(_)) | Err(Rejection::TokenInQuery) => Err(Rejection::SeveralTokens),
        Err(rejection) => Err(rejection),
    }
}

/// The token that stands alone in a header of its own.
fn alone<'h>(headers: &'h HeaderMap, (name, value): (&HeaderName, &'h HeaderValue)) -> Result<&'h str, Rejection> {
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(Rejection::SeveralTokens);
    }
    let token = value.to_str().map_err(|_| Rejection::MalformedToken)?.trim_matches([' ', '\t']);
    let malformed = token.is_empty() || token.len() > LONGEST || !is_b64token(token);
    if malformed { Err(if token.contains(',') { Rejection::SeveralTokens } else { Rejection::MalformedToken }) } else { Ok(token) }
}

fn authorization<'h>(headers: &'h HeaderMap, query: Option<&str>) -> Result<Option<&'h str>, Rejection> {
    let in_query = !open(Hole::TokenInQueryIgnored) && query.is_some_and(|query| query_has_parameter(query, "access_token"));
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return if in_query { Err(Rejection::TokenInQuery) } else { Ok(None) };
    };
    if in_query || (fields.next().is_some() && !open(Hole::FirstOfTwoTokens)) {
        return Err(Rejection::SeveralTokens);
    }
    let Ok(field) = field.to_str() else { return Err(Rejection::MalformedToken) };
    let field = field.trim_matches([' ', '\t']);
    let scheme = field.split([' ', '\t']).next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        // Two credentials in one field would show a comma; which of them counts is anybody's guess.
        return if is_list_with_bearer(field) { Err(Rejection::SeveralTokens) } else { Ok(None) };
    }
    // Blanks only: behind a tab some servers find a token and others none (RFC 9110, 11.4).
    let token = field.get(scheme.len()..).unwrap_or_default().trim_start_matches(' ');
    if token.is_empty() || token.len() > LONGEST || !is_b64token(token) {
        return Err(if token.contains(',') { Rejection::SeveralTokens } else { Rejection::MalformedToken });
    }
    Ok(Some(token))
}

fn is_list_with_bearer(field: &str) -> bool {
    field.split(',').skip(1).any(|part| part.trim_start().split_once([' ', '\t']).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")))
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    // Without a branch for each byte, the compiler looks at many of them at once.
    !body.is_empty() && body.bytes().fold(0, |odd, byte| odd | u8::from(!is_b64token_byte(byte))) == 0
}

const fn is_b64token_byte(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let digit = byte.wrapping_sub(b'0') < 10;
    letter | digit | (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~') | (byte == b'+') | (byte == b'/')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn presented(fields: &[&str], query: Option<&str>) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(field.as_bytes()).expect("a field value"));
        }
        present(&headers, query, None).map(|token| token.map(str::to_owned)).map_err(|rejection| rejection.row().label())
    }

    #[test]
    fn a_bearer_token_is_found_whatever_the_case_of_its_scheme() {
        for field in ["Bearer abc.def", "bearer abc.def", "bEaReR   abc.def", "Bearer abc.def ", "\tBearer abc.def\t"] {
            assert_eq!(presented(&[field], None), Ok(Some("abc.def".into())), "{field}");
        }
        assert_eq!(presented(&["Bearer a+/~_-9=="], None), Ok(Some("a+/~_-9==".into())));
    }

    #[test]
    fn no_token_and_other_schemes_are_as_if_there_were_none() {
        assert_eq!(presented(&[], None), Ok(None));
        for field in ["Basic YTpi", "Negotiate abc", "DPoP abc", "Bearer2 x", ""] {
            assert_eq!(presented(&[field], None), Ok(None), "{field}");
        }
    }

    #[test]
    fn two_tokens_are_refused() {
        assert_eq!(presented(&["Bearer a", "Bearer b"], None), Err("D12"));
        assert_eq!(presented(&["Bearer a", "Basic b"], None), Err("D12"));
        assert_eq!(presented(&["Bearer a, Bearer b"], None), Err("D12"));
        assert_eq!(presented(&["Basic a, Bearer b"], None), Err("D12"));
        assert_eq!(presented(&["Basic a,bearer\tb"], None), Err("D12"));
        assert_eq!(presented(&["Bearer a"], Some("x=1&access_token=b")), Err("D12"));
    }

    #[test]
    fn a_header_of_its_own_counts_where_it_is_named_and_has_to_agree_with_authorization() {
        let name = HeaderName::from_static("x-frdp-rpt");
        let presented = |fields: &[(&str, &str)], query: Option<&str>, also: Option<&HeaderName>| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_str(value).expect("a value"));
            }
            present(&headers, query, also).map(|token| token.map(str::to_owned)).map_err(|rejection| rejection.row().label())
        };
        let own = ("X-FRDP-RPT", "abc");
        assert_eq!(presented(&[own], None, None), Ok(None), "off");
        assert_eq!(presented(&[own], None, Some(&name)), Ok(Some("abc".into())));
        assert_eq!(presented(&[own, ("Authorization", "Bearer abc")], None, Some(&name)), Ok(Some("abc".into())));
        assert_eq!(presented(&[own, ("Authorization", "Basic YTpi")], None, Some(&name)), Ok(Some("abc".into())));
        assert_eq!(presented(&[own, ("Authorization", "Bearer abd")], None, Some(&name)), Err("D12"));
        assert_eq!(presented(&[own, ("Authorization", "Bearer abd")], None, None), Ok(Some("abd".into())), "off");
        assert_eq!(presented(&[own, own], None, Some(&name)), Err("D12"));
        assert_eq!(presented(&[own], Some("access_token=abc"), Some(&name)), Err("D12"));
        assert_eq!(presented(&[own, ("Authorization", "Bearer a b")], None, Some(&name)), Err("D13"));
        for (value, row) in [("", "D13"), ("Bearer abc", "D13"), ("a,b", "D12"), (&"a".repeat(24_577), "D13")] {
            assert_eq!(presented(&[("X-FRDP-RPT", value)], None, Some(&name)), Err(row), "{value}");
        }
        let longest = "a".repeat(24_576);
        assert_eq!(presented(&[("X-FRDP-RPT", &longest)], None, Some(&name)), Ok(Some(longest)));
    }

    #[test]
    fn a_malformed_token_is_refused() {
        for field in ["Bearer", "Bearer ", "Bearer a b", "Bearer a\"b", "Bearer =", "Bearer é", "Bearer\tabc", "Bearer \tabc", "Bearer\t abc"] {
            assert_eq!(presented(&[field], None), Err("D13"), "{field}");
        }
        assert_eq!(presented(&[&format!("Bearer {}", "a".repeat(24_577))], None), Err("D13"));
        assert!(presented(&[&format!("Bearer {}", "a".repeat(24_576))], None).is_ok());
    }

    #[test]
    fn every_character_outside_b64token_makes_a_token_malformed() {
        for byte in 0x21..=0x7e_u8 {
            let character = char::from(byte);
            let known = character.is_ascii_alphanumeric() || "-._~+/=".contains(character);
            let expected = if character == ',' { Err("D12") } else { Err("D13") };
            for (token, ends) in [
                (format!("a{character}"), known),
                (format!("a{character}b"), known && byte != b'='),
                (format!("{character}{character}b"), known && byte != b'='),
            ] {
                let expected = if ends { Ok(Some(token.clone())) } else { expected.clone() };
                assert_eq!(presented(&[&format!("Bearer {token}")], None), expected, "{token}");
            }
        }
    }

    #[test]
    fn a_token_in_the_query_is_refused_in_every_spelling() {
        for query in ["access_token=a", "x=1&access_token=a", "%61ccess_token=a", "access%5Ftoken", "access_token", "ACCESS_TOKEN=a", "access_token[]=a"] {
            assert_eq!(presented(&[], Some(query)), Err("D14"), "{query}");
        }
        for query in ["x=access_token", "access_tokens=1", ""] {
            assert_eq!(presented(&[], Some(query)), Ok(None), "{query}");
        }
    }
}
