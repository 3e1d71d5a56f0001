//! Target `outbound_headers`: any fields of a client's; what goes on poses as nothing that a content server believes.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::posing;
use crate::body::Watch as _;
use crate::credentials::{Config, Credential, Framing, HeadInput, HostPolicy, Proxy, Reserved, Trailers, Via, Way, outbound_head};
use crate::routing::{Claim, Upgrade};

/// What the client's values begin with, to be known again.
const MARK: &str = "of-the-client ";

/// The first line holds letters that choose the surroundings (`t` trusted proxy, `c` chunked, `l` length, `p` POST, `u` upgrade, `h` named host), each
/// other one is a field.
pub fn outbound_headers(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let has = |letter: u8| first.contains(&letter);
    let client = fields(lines);
    let (trusted, proxy) = (has(b't'), proxy(has(b'k'), has(b'h')));
    let chain: Vec<IpAddr> = if trusted { vec![[192, 0, 2, 9].into()] } else { Vec::new() };
    let framing = match (has(b'c'), has(b'l')) {
        (true, _) => Framing::Chunked,
        (_, true) => Framing::Length(7),
        _ => Framing::None,
    };
    let mut request = Request::builder().method(if has(b'p') { "POST" } else { "GET" }).uri("/never/this").body(()).expect("a request");
    *request.headers_mut() = client.clone();
    let head = outbound_head(HeadInput {
        head: request.into_parts().0,
        target: "/albums/1?a=b".parse().expect("a target"),
        authority: "photos.example.org",
        way: Way { chain: &chain, peer: [192, 0, 2, 7].into(), trusted, scheme: "http", host: "photos.example.org" },
        framing,
        upgrade: has(b'u').then_some(Upgrade::WebSocket),
        id: Some(HeaderValue::from_static("abc123")),
        proxy: &proxy,
        token: None,
        identity: &[(USER, Claim::Subject), (MAIL, Claim::Other("email".into()))],
        claim: &|claim| (*claim == Claim::Subject).then_some("alice"),
        via: &Via::new("gw-1"),
        trace: None,
    });
    let head = head.expect("no admitted request is without a head");
    assert_eq!((head.uri.to_string().as_str(), head.version), ("/albums/1?a=b", http::Version::HTTP_11));
    of_the_client(&head.headers, trusted);
    of_the_gateway(&head.headers, has(b'k'), framing);
    passes(&client, &head.headers);
    let mut trailers = client;
    Trailers(Arc::new(proxy)).trailers(&mut trailers);
    of_the_client(&trailers, false);
}

const USER: HeaderName = HeaderName::from_static("x-photo-user");
const MAIL: HeaderName = HeaderName::from_static("x-photo-mail");
const KEY: HeaderName = HeaderName::from_static("x-api-key");

fn fields<'l>(lines: impl Iterator<Item = &'l [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        // `Connection` and `TE` are read, so their values stay as they are; they go no further themselves.
        let mark: &[u8] = if name == CONNECTION || name == "te" { b"" } else { MARK.as_bytes() };
        if let Ok(value) = HeaderValue::from_bytes(&[mark, value[1..].trim_ascii()].concat()) {
            headers.append(name, value);
        }
    }
    headers
}

fn proxy(by_key: bool, named: bool) -> Proxy {
    let credential = match by_key {
        true => Credential::Headers(vec![(KEY, HeaderValue::from_static("key"))]),
        false => Credential::Authorization(HeaderValue::from_static("Basic Z2F0ZXdheTp4")),
    };
    let host = if named { HostPolicy::Named(HeaderValue::from_static("inside")) } else { HostPolicy::Preserve };
    Proxy::new(&Config { credential }, host, Arc::new(Reserved::new(&[USER, MAIL, KEY])), None)
}

/// Nothing of the client's is left under a name that means something.
fn of_the_client(headers: &HeaderMap, trusted: bool) {
    for (name, value) in headers.iter().filter(|(_, value)| value.as_bytes().starts_with(MARK.as_bytes())) {
        let name = name.as_str();
        let own = [USER, MAIL, KEY].iter().any(|own| posing::reads_as(name, own.as_str()));
        assert!(!own && !posing::is_posing(name) && !posing::frames(name), "{name}: {value:?} goes on");
        assert!(!name.contains('_'), "{name} goes on, and a server may take it for another");
        let odd = !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        assert!(!posing::is_forwarding(name) || (trusted && !odd), "{name}: {value:?} goes on from nobody in particular");
    }
}

/// Every field of ours is there, once, and says what it should.
fn of_the_gateway(headers: &HeaderMap, by_key: bool, framing: Framing) {
    let only = |name: HeaderName| {
        let all: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        if let [one] = all[..] { Some(one.to_vec()) } else { None }
    };
    let credential = if by_key { only(KEY) } else { only(AUTHORIZATION) };
    assert_eq!(credential.as_deref(), Some(if by_key { &b"key"[..] } else { b"Basic Z2F0ZXdheTp4" }), "the credential is not there once");
    assert_eq!(headers.contains_key(AUTHORIZATION), !by_key);
    assert_eq!(only(USER).as_deref(), Some(&b"alice"[..]));
    assert!(!headers.contains_key(MAIL), "an identity header without a claim");
    assert!(only(HOST).is_some_and(|host| host == b"photos.example.org" || host == b"inside"));
    assert_eq!(only(HeaderName::from_static("x-request-id")).as_deref(), Some(&b"abc123"[..]));
    let chain = only(HeaderName::from_static("x-forwarded-for"));
    assert!(chain.as_deref().is_some_and(|chain| chain.ends_with(b"192.0.2.7")), "{chain:?}");
    assert!(
        only(HeaderName::from_static("forwarded"))
            .is_some_and(|value| value.windows(14).any(|part| part == b"for=192.0.2.7;") || value.ends_with(b"for=192.0.2.7"))
    );
    let framed = (headers.get_all(CONTENT_LENGTH).iter().count(), headers.get_all(TRANSFER_ENCODING).iter().count());
    assert!(match framing {
        Framing::Chunked => framed == (0, 1),
        Framing::Length(_) => framed == (1, 0),
        Framing::None => framed.1 == 0 && framed.0 <= 1,
    });
}

/// What means nothing goes on, unless `Connection` names it.
fn passes(client: &HeaderMap, sent: &HeaderMap) {
    for name in ["accept", "cookie", "range", "if-none-match", "content-type", "x-own-thing"] {
        let named =
            client.get_all(CONNECTION).iter().any(|value| value.as_bytes().to_ascii_lowercase().windows(name.len()).any(|part| part == name.as_bytes()));
        let same = client.get_all(name).iter().eq(sent.get_all(name));
        assert!(named || same, "{name} does not go on");
    }
}
