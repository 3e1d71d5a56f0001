//! Target `outbound_headers`: any fields of a client's; what goes on poses as nothing that a content server believes.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};

use super::posing;
use crate::body::Watch as _;
use crate::credentials::{Config, Credential, Framing, HeadInput, HostPolicy, Proxy, Reserved, Trailers, Via, Way, may_be_set, outbound_head};
use crate::routing::{Claim, Upgrade};
use crate::telemetry::{TRACEPARENT, TRACESTATE, Trace, TraceParent};

/// What the client's values begin with, to be known again.
const MARK: &str = "of-the-client ";

/// The first line holds letters that choose the surroundings (`t` trusted proxy, `c` chunked, `l` length, `p` POST, `u` upgrade, `h` named host, `n` the
/// server's own, `0` and `2` HTTP/1.0 and HTTP/2, `6` IPv6 and a port, `x` a trace), each other one is a field.
pub fn outbound_headers(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let has = |letter: u8| first.contains(&letter);
    let client = fields(lines);
    let (trusted, proxy) = (has(b't'), proxy(has(b'k'), has(b'h'), has(b'n')));
    let chain: Vec<IpAddr> = if trusted { vec![[192, 0, 2, 9].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into()] } else { Vec::new() };
    let (peer, host) = if has(b'6') { ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into(), "[2001:db8::1]:81") } else { ([192, 0, 2, 7].into(), "photos.example.org") };
    let way = Way { chain: &chain, peer, trusted, scheme: "http", host };
    let (version, entry) = match (has(b'0'), has(b'2')) {
        (true, _) => (Version::HTTP_10, "1.0 gw-1"),
        (_, true) => (Version::HTTP_2, "2 gw-1"),
        _ => (Version::HTTP_11, "1.1 gw-1"),
    };
    let trace = has(b'x').then(|| Trace::new(TraceParent::of(&client).as_ref(), |_| has(b'p')));
    let framing = match (has(b'c'), has(b'l')) {
        (true, _) => Framing::Chunked,
        (_, true) => Framing::Length(7),
        _ => Framing::None,
    };
    let mut request = Request::builder().method(if has(b'p') { "POST" } else { "GET" }).uri("/never/this").version(version).body(()).expect("a request");
    *request.headers_mut() = client.clone();
    let head = outbound_head(HeadInput {
        head: request.into_parts().0,
        target: "/albums/1?a=b".parse().expect("a target"),
        authority: host,
        way,
        framing,
        upgrade: has(b'u').then_some(Upgrade::WebSocket),
        id: Some(HeaderValue::from_static("abc123")),
        proxy: &proxy,
        token: None,
        identity: &[(USER, Claim::Subject), (MAIL, Claim::Other("email".into()))],
        claim: &|claim| (*claim == Claim::Subject).then_some("alice"),
        via: &Via::new("gw-1"),
        trace: trace.as_ref(),
    });
    let head = head.expect("no admitted request is without a head");
    assert_eq!((head.uri.to_string().as_str(), head.version), ("/albums/1?a=b", http::Version::HTTP_11));
    of_the_client(&head.headers, trusted);
    of_the_gateway(&head.headers, has(b'k'), framing);
    told(&head.headers, way, has(b'h'), has(b'n'));
    assert_eq!(head.headers.get_all(VIA).iter().next_back().map(HeaderValue::as_bytes), Some(entry.as_bytes()));
    traced(&client, &head.headers, trace.as_ref());
    passes(&client, &head.headers);
    configured(&client);
    let mut trailers = client;
    let mut watch = Trailers(Arc::new(proxy));
    assert!(watch.data(7).is_ok());
    watch.trailers(&mut trailers);
    watch.end(true);
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
        // `Connection` and `TE` are read, so their values stay as they are; they go no further themselves. So are traces.
        let mark: &[u8] = if [CONNECTION, TE, TRACEPARENT, TRACESTATE].contains(&name) { b"" } else { MARK.as_bytes() };
        if let Ok(value) = HeaderValue::from_bytes(&[mark, value[1..].trim_ascii()].concat()) {
            headers.append(name, value);
        }
    }
    headers
}

fn proxy(by_key: bool, named: bool, of_upstream: bool) -> Proxy {
    let credential = match by_key {
        true => Credential::Headers(vec![(KEY, HeaderValue::from_static("key"))]),
        false => Credential::Authorization(HeaderValue::from_static("Basic Z2F0ZXdheTp4")),
    };
    let host = match (named, of_upstream) {
        (true, _) => HostPolicy::Named(HeaderValue::from_static("inside")),
        (_, true) => HostPolicy::Upstream,
        _ => HostPolicy::Preserve,
    };
    Proxy::new(&Config { credential }, host, Arc::new(Reserved::new(&[USER, MAIL, KEY])), None)
}

/// Nothing of the client's is left under a name that means something.
fn of_the_client(headers: &HeaderMap, trusted: bool) {
    for (name, value) in headers.iter().filter(|(_, value)| value.as_bytes().starts_with(MARK.as_bytes())) {
        let name = name.as_str();
        let own = [USER, MAIL, KEY].iter().any(|own| posing::reads_as(name, own.as_str()));
        assert!(!own && !posing::is_posing(name) && !posing::frames(name), "{name}: {value:?} goes on");
        assert!(!name.contains('_'), "{name} goes on, and a server may take it for another");
        assert!(!posing::is_forwarding(name) || (trusted && posing::is_of_the_way(name)), "{name}: {value:?} goes on from nobody in particular");
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
    assert_eq!(only(HeaderName::from_static("x-request-id")).as_deref(), Some(&b"abc123"[..]));
    let framed = (headers.get_all(CONTENT_LENGTH).iter().count(), headers.get_all(TRANSFER_ENCODING).iter().count());
    assert!(match framing {
        Framing::Chunked => framed == (0, 1),
        Framing::Length(_) => framed == (1, 0),
        Framing::None => framed.1 == 0 && framed.0 <= 1,
    });
}

/// Where the request came from is said in every form, once, and by nobody but the gateway.
fn told(headers: &HeaderMap, way: Way<'_>, named: bool, of_upstream: bool) {
    let all = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().expect("visible characters")).collect::<Vec<_>>();
    let addresses: Vec<String> = way.chain.iter().chain([&way.peer]).map(IpAddr::to_string).collect();
    assert_eq!(all("x-forwarded-for"), [addresses.join(", ")]);
    assert_eq!((all("x-forwarded-host"), all("x-forwarded-proto")), (vec![way.host], vec![way.scheme]));
    let host = if way.host.contains(':') { format!("\"{}\"", way.host) } else { way.host.to_owned() };
    let mut elements: Vec<String> =
        addresses.iter().map(|address| if address.contains(':') { format!("for=\"[{address}]\"") } else { format!("for={address}") }).collect();
    elements[0].push_str(&format!(";host={host};proto={}", way.scheme));
    assert_eq!(all("forwarded"), [elements.join(", ")]);
    let expected = match (named, of_upstream) {
        (true, _) => vec!["inside"],
        (_, true) => Vec::new(),
        _ => vec![way.host],
    };
    assert_eq!(all("host"), expected);
}

/// The upstream is told of the gateway's span in the client's trace, or in a new one, to which the client's state does not belong.
fn traced(client: &HeaderMap, sent: &HeaderMap, trace: Option<&Trace>) {
    let Some(trace) = trace else { return };
    let told: Vec<&HeaderValue> = sent.get_all(TRACEPARENT).iter().collect();
    let parent = TraceParent::of(sent).expect("the gateway's own");
    assert_eq!((told.len(), parent.trace, parent.span, parent.sampled), (1, trace.id, trace.upstream, trace.sampled));
    match TraceParent::of(client) {
        Some(parent) => assert_eq!((trace.id, trace.parent), (parent.trace, Some(parent.span))),
        None => assert!(!sent.contains_key(TRACESTATE), "a state of another trace"),
    }
}

/// No configuration may set what frames the message or tells where it came from, whatever it is called by.
fn configured(client: &HeaderMap) {
    for name in client.keys() {
        let text = name.as_str();
        let ours = posing::frames(text) || TOLD.iter().any(|told| posing::reads_as(text, told));
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        assert!(!(ours && plain && may_be_set(name)), "{name} may be set by a configuration");
    }
}

/// What the gateway tells of the request.
const TOLD: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];

/// What means nothing goes on, unless `Connection` names it.
fn passes(client: &HeaderMap, sent: &HeaderMap) {
    for name in ["accept", "cookie", "range", "if-none-match", "content-type", "x-own-thing"] {
        let named =
            client.get_all(CONNECTION).iter().any(|value| value.as_bytes().to_ascii_lowercase().windows(name.len()).any(|part| part == name.as_bytes()));
        let same = client.get_all(name).iter().eq(sent.get_all(name));
        assert!(named || same, "{name} does not go on");
    }
}
