//! Target `www_authenticate`: what the gateway writes reads back as it was meant, and what anybody writes is read without surprise.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};

use crate::uma::{
    Challenge, PermissionTicket, Scope, TokenError, UmaChallenge, bearer_challenge, challenge_body, challenges_of, parse_challenges, uma_challenge,
};

/// Three lines are written (realm, `as_uri`, ticket), the first and the third for Bearer too (realm, scopes); all of it is read as a field as well, and the
/// first line with the others as the body of an answer.
pub fn www_authenticate(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.splitn(3, '\n');
    if let (Some(realm), Some(as_uri), Some(ticket)) = (lines.next(), lines.next(), lines.next()) {
        written(realm, as_uri, ticket);
        written_in_a_body(as_uri, ticket);
        written_for_bearer(realm, ticket);
    }
    read(text);
    if let Some((field, body)) = text.split_once('\n') {
        read_with_body(field, body);
    }
}

fn error_of(ticket: &str) -> Option<TokenError> {
    match ticket.len() % 3 {
        0 => None,
        1 => Some(TokenError::InvalidToken),
        _ => Some(TokenError::InsufficientScope),
    }
}

fn written(realm: &str, as_uri: &str, ticket: &str) {
    let error = error_of(ticket);
    let configured = |text: &str| text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    let value = uma_challenge(realm, as_uri, error, &PermissionTicket(ticket.into()));
    let Ok(value) = value else {
        assert!(!(configured(realm) && configured(as_uri) && configured(ticket)) || ticket.is_empty(), "{ticket:?} could have been written");
        return;
    };
    assert!(configured(ticket) && !ticket.is_empty(), "{ticket:?} was written");
    assert!(value.is_sensitive(), "a ticket may be kept by HPACK and shown");
    assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{value:?} ends its field");
    if !(configured(realm) && configured(as_uri)) {
        return;
    }
    let line = value.to_str().expect("visible characters");
    let mut expected = vec![("realm", realm), ("as_uri", as_uri)];
    expected.extend(error.map(|error| ("error", error.as_str())));
    expected.push(("ticket", ticket));
    assert_eq!(strict(line), Some(("UMA", expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())), "{line}");
    let all = parse_challenges(line).expect("a field that was written here");
    let [challenge] = all.as_slice() else { panic!("{} challenges in {line}", all.len()) };
    assert!(challenge.is("uma") && challenge.token68.is_none());
    for (name, value) in expected {
        assert_eq!(challenge.parameter(name), Some(value), "{line}");
    }
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value.clone())]);
    let complete = UmaChallenge::of(&headers);
    assert_eq!(complete.as_ref().map(|challenge| challenge.ticket.0.expose()), (!as_uri.is_empty()).then_some(ticket));
    if let Some(challenge) = complete {
        assert_eq!((challenge.realm.as_deref(), &*challenge.as_uri), (Some(realm).filter(|realm| !realm.is_empty()), as_uri));
        assert_eq!(challenge.error.as_deref(), error.map(TokenError::as_str));
        assert!(
            ticket.len() < 4
                || !ticket.bytes().all(|byte| byte.is_ascii_digit())
                || [realm, as_uri].iter().any(|text| text.contains(ticket))
                || !format!("{challenge:?} {all:?}").contains(ticket)
        );
    }
}

/// What clients of UMA 1.0 find in the body is what was meant, whatever characters it has.
fn written_in_a_body(as_uri: &str, ticket: &str) {
    let body = challenge_body(as_uri, &PermissionTicket(ticket.into()));
    let json: serde_json::Value = serde_json::from_str(body.expose()).expect("JSON");
    assert_eq!(json, serde_json::json!({ "as_uri": as_uri, "ticket": ticket }));
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static("UMA realm=\"\""))]);
    let found = UmaChallenge::with_body(&headers, body.expose().as_bytes());
    let expected = Some((as_uri, ticket)).filter(|_| !as_uri.is_empty() && !ticket.is_empty());
    assert_eq!(found.as_ref().map(|found| (&*found.as_uri, found.ticket.0.expose())), expected);
}

/// A challenge of RFC 6750, 3, with the words of a line as scopes.
fn written_for_bearer(realm: &str, words: &str) {
    let error = error_of(words);
    let scopes: Vec<Scope> = words.split(' ').map(|word| Scope(word.into())).collect();
    let value = bearer_challenge(realm, error, &scopes);
    let carried = |text: &str| text.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f));
    let Ok(value) = value else {
        assert!(!carried(realm) || !carried(words), "{realm:?} and {words:?} could have been written");
        return;
    };
    let line = std::str::from_utf8(value.as_bytes()).expect("texts");
    let mut expected = vec![("realm".to_owned(), realm.to_owned())];
    expected.extend(error.map(|error| ("error".to_owned(), error.as_str().to_owned())));
    expected.push(("scope".to_owned(), words.to_owned()));
    let all = parse_challenges(line).expect("a field that was written here");
    assert!(matches!(&all[..], [one] if one.is("bearer") && one.token68.is_none() && one.parameters == expected), "{line}");
    assert_eq!(strict(line), Some(("Bearer", expected)), "{line}");
}

/// A field of an answer with its body (UMA 1.0.1 Core, 3.3.2): the body counts only where the field names UMA and leaves something out.
fn read_with_body(field: &str, body: &str) {
    let Ok(value) = HeaderValue::from_str(field) else { return };
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
    let Some(found) = UmaChallenge::with_body(&headers, body.as_bytes()) else { return };
    let all = challenges_of(&headers);
    let first = all.iter().find(|challenge| challenge.is("UMA")).expect("a challenge of UMA");
    let json: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let said = |name: &str, place: usize| {
        let of_field = first.parameter(name).filter(|value| !value.is_empty());
        // Both in a list are taken for an object's members, in their order.
        of_field.or_else(|| json.get(name).or_else(|| json.get(place)).and_then(serde_json::Value::as_str)).map(str::to_owned)
    };
    assert_eq!((Some(found.ticket.0.expose().to_owned()), Some(found.as_uri)), (said("ticket", 0), said("as_uri", 1)), "{field}\n{body}");
    let only = |name: &str| first.parameter(name).filter(|value| !value.is_empty()).map(str::to_owned);
    assert_eq!((found.realm, found.error), (only("realm"), only("error")), "{field}\n{body}");
}

/// One challenge by the letter of RFC 9110, 11.6.1, every value quoted.
fn strict(line: &str) -> Option<(&str, Vec<(String, String)>)> {
    let (scheme, mut rest) = line.split_once(' ')?;
    let mut parameters = Vec::new();
    loop {
        let (name, behind) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = behind.chars();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => value.push(characters.next()?),
                character => value.push(character),
            }
        }
        parameters.push((name.to_owned(), value));
        rest = match characters.as_str() {
            "" => return Some((scheme, parameters)),
            behind => behind.strip_prefix(", ")?,
        };
    }
}

fn read(field: &str) {
    if let Ok(value) = HeaderValue::from_str(field) {
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
        let all = challenges_of(&headers);
        if let Some(challenge) = UmaChallenge::of(&headers) {
            let is_it = |one: &&Challenge| one.is("UMA") && one.parameter("ticket") == Some(challenge.ticket.0.expose());
            assert!(all.iter().any(|one| is_it(&one) && one.parameter("as_uri") == Some(&challenge.as_uri)));
        }
    }
    let Ok(all) = parse_challenges(field) else { return };
    for challenge in &all {
        assert!(challenge.scheme.bytes().all(|byte| byte.is_ascii_graphic()) && !challenge.scheme.is_empty());
        for (name, _) in &challenge.parameters {
            let several = challenge.parameters.iter().filter(|(other, _)| other == name).count() > 1;
            assert_eq!(challenge.parameter(name).is_none(), several, "{name} in {field}");
        }
    }
    // Printed strictly it says the same.
    assert_eq!(parse_challenges(&printed(&all)).ok().as_ref(), Some(&all), "{field}");
}

fn printed(all: &[Challenge]) -> String {
    let one = |challenge: &Challenge| {
        let quoted = |(name, value): &(String, String)| format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
        let parameters: Vec<String> = challenge.token68.iter().cloned().chain(challenge.parameters.iter().map(quoted)).collect();
        format!("{} {}", challenge.scheme, parameters.join(", ")).trim_end().to_owned()
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}
