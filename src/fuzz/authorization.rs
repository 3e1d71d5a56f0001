//! Target `authorization`: how a token is presented, rows D12 to D15, beside a reader that takes whatever looks like a token.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::enforcement::present;

/// Where a configuration may say that tokens come as well.
const OWN: HeaderName = HeaderName::from_static("x-rpt");

/// The first line is a query (nothing behind `-`), each other one an `Authorization` field or, behind `+`, a header in which a token stands alone.
pub fn authorization(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let query = lines.next().map(String::from_utf8_lossy).filter(|query| !query.starts_with('-'));
    let mut headers = HeaderMap::new();
    let (mut fields, mut own) = (Vec::new(), Vec::new());
    for line in lines {
        let (name, line, all) = line.strip_prefix(b"+").map_or((AUTHORIZATION, line, &mut fields), |line| (OWN, line, &mut own));
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        all.push(line.to_vec());
        headers.append(name, value);
    }
    let in_query = query.as_deref().is_some_and(names_a_token);
    let found = present(&headers, query.as_deref(), Some(&OWN)).map_err(|rejection| rejection.row().label());
    assert_eq!(found, with_own(&own, expected(&fields, in_query)), "{fields:?}, {own:?} and {query:?}");
    let Ok(found) = found else { return };
    // Whoever takes the first thing that looks like a token, in whatever field, takes this one or none.
    for word in fields.iter().flat_map(|field| careless(field)).chain(own.iter().map(|field| field.trim_ascii().to_vec())) {
        assert_eq!(found.map(str::as_bytes), Some(word.as_slice()), "{fields:?} and {own:?}");
    }
    assert!(!in_query && found.is_none_or(|token| token.len() <= 24 * 1024));
}

/// A token in a header of its own counts alone, or beside the same one (D12); it is nothing but the token (D13).
fn with_own<'t>(own: &'t [Vec<u8>], beside: Result<Option<&'t str>, &'static str>) -> Result<Option<&'t str>, &'static str> {
    let token = match own {
        [] => return beside,
        [one] => std::str::from_utf8(one).map_err(|_| "D13")?.trim_matches([' ', '\t']),
        _ => return Err("D12"),
    };
    if !is_token(token) {
        return Err(if token.is_ascii() && token.contains(',') { "D12" } else { "D13" });
    }
    match beside {
        Ok(Some(other)) if other != token => Err("D12"),
        Err("D14") => Err("D12"),
        Err(row) => Err(row),
        Ok(_) => Ok(Some(token)),
    }
}

/// Whether a pair's name may be `access_token`, in either way to separate pairs.
fn names_a_token(query: &str) -> bool {
    query.as_bytes().split(|byte| matches!(byte, b'&' | b';')).any(super::lenient::is_token)
}

/// The rows by the letter of the table: several (D12), malformed (D13), in the query alone (D14), none or one.
fn expected(fields: &[Vec<u8>], in_query: bool) -> Result<Option<&str>, &'static str> {
    let field = match (fields, in_query) {
        ([], true) => return Err("D14"),
        ([], false) => return Ok(None),
        ([field], false) => field,
        _ => return Err("D12"),
    };
    let Some(text) = std::str::from_utf8(field).ok().filter(|text| text.bytes().all(|byte| byte == b'\t' || matches!(byte, b' '..=b'~'))) else {
        return Err("D13");
    };
    let text = text.trim_matches([' ', '\t']);
    let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    if !words.first().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer")) {
        let lower = text.to_ascii_lowercase();
        let second = lower.split(',').skip(1).any(|part| part.trim_start().strip_prefix("bearer").is_some_and(|rest| rest.starts_with([' ', '\t'])));
        return if second { Err("D12") } else { Ok(None) };
    }
    let behind = words.get(1..).unwrap_or_default();
    // `1*SP` stands between the scheme and the token (RFC 6750, 2.1).
    let has_tab = text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).trim_start_matches(' ').starts_with('\t');
    match behind {
        [token] if is_token(token) && !has_tab => Ok(Some(token)),
        _ if behind.iter().any(|word| word.contains(',')) => Err("D12"),
        _ => Err("D13"),
    }
}

/// RFC 6750, 2.1: `b64token`.
fn is_token(word: &str) -> bool {
    let end = word.trim_end_matches('=');
    !end.is_empty() && word.len() <= 24 * 1024 && end.chars().all(|character| character.is_ascii_alphanumeric() || "-._~+/".contains(character))
}

/// What stands behind `bearer` and a blank at the beginning of a field or behind a comma.
fn careless(field: &[u8]) -> Vec<Vec<u8>> {
    let words = |part: &[u8]| part.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let parts = field.split(|byte| *byte == b',').map(words);
    parts.filter(|words| words.len() > 1 && words[0].eq_ignore_ascii_case(b"bearer")).map(|words| words[1].clone()).collect()
}
