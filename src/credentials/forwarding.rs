//! `Forwarded` and `X-Forwarded-*`: where a request came from, as a content server may believe it.
//!
//! They are written anew: the client and the proxies that are vouched for, then the connection's other end. What anybody else says is not in it
//! (RFC 7239, 8.1).

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::uma::is_token_byte;

/// What the texts of a request without proxies in front need; longer ones grow.
const ROOM: usize = 192;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The way that a request came.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Addresses that trusted proxies vouch for, from the client on; empty without such proxies.
    pub chain: &'a [IpAddr],
    /// The connection's other end.
    pub peer: IpAddr,
    /// Whether that is a trusted proxy.
    pub trusted: bool,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// Host and port, as the client sees them.
    pub host: &'a str,
}

/// Sets the four fields.
pub(super) fn set(headers: &mut HeaderMap, way: Way<'_>) {
    // All three texts share one allocation: addresses, then elements, then the host.
    let mut text = String::with_capacity(ROOM);
    let mut elements = String::with_capacity(ROOM);
    for address in way.chain.iter().copied().chain([way.peer]) {
        let first = text.is_empty();
        if !first {
            text.push_str(", ");
            elements.push_str(", ");
        }
        let start = text.len();
        let _ = write!(text, "{address}");
        let shown = text.get(start..).unwrap_or_default();
        // RFC 7239, 6: IPv6 stands in brackets and quotes.
        let parts = if address.is_ipv4() { ["for=", shown, ""] } else { ["for=\"[", shown, "]\""] };
        parts.into_iter().for_each(|part| elements.push_str(part));
        if first {
            host_and_proto(&mut elements, way);
        }
    }
    let addresses = 0..text.len();
    text.push_str(&elements);
    let elements = addresses.end..text.len();
    text.push_str(way.host);
    let host = elements.end..text.len();
    let text = Bytes::from(text);
    for (name, part) in [(FOR, addresses), (FORWARDED, elements), (HOST, host)] {
        // All of it is plain ASCII: addresses, constants, and a host that was admitted.
        if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(part)) {
            headers.insert(name, value);
        }
    }
    headers.insert(PROTO, HeaderValue::from_static(way.scheme));
}

/// The client's address alone, for the many names under which content servers look for it.
pub(super) fn client(way: Way<'_>) -> Option<HeaderValue> {
    HeaderValue::try_from(way.chain.first().unwrap_or(&way.peer).to_string()).ok()
}

fn host_and_proto(element: &mut String, way: Way<'_>) {
    let Way { host, scheme, .. } = way;
    if host.bytes().all(is_token_byte) {
        [";host=", host].into_iter().for_each(|part| element.push_str(part));
    } else if !host.contains(['"', '\\']) {
        [";host=\"", host, "\""].into_iter().for_each(|part| element.push_str(part));
    }
    [";proto=", scheme].into_iter().for_each(|part| element.push_str(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_told_in_every_form() {
        let table = [
            (&[][..], "192.0.2.1", "photos.example.org", "192.0.2.1", "for=192.0.2.1;host=photos.example.org;proto=http"),
            (&[], "192.0.2.1", "photos.example.org:81", "192.0.2.1", "for=192.0.2.1;host=\"photos.example.org:81\";proto=http"),
            (&[], "2001:db8::1", "[::1]:80", "2001:db8::1", "for=\"[2001:db8::1]\";host=\"[::1]:80\";proto=http"),
            (
                &["203.0.113.9", "2001:db8::7"],
                "10.0.0.2",
                "a",
                "203.0.113.9, 2001:db8::7, 10.0.0.2",
                "for=203.0.113.9;host=a;proto=http, for=\"[2001:db8::7]\", for=10.0.0.2",
            ),
        ];
        for (chain, peer, host, x_forwarded_for, forwarded) in table {
            let chain: Vec<IpAddr> = chain.iter().map(|address| address.parse().unwrap()).collect();
            let mut headers = HeaderMap::new();
            set(&mut headers, Way { chain: &chain, peer: peer.parse().unwrap(), trusted: false, scheme: "http", host });
            let expected = [("x-forwarded-for", x_forwarded_for), ("forwarded", forwarded), ("x-forwarded-host", host), ("x-forwarded-proto", "http")];
            for (name, text) in expected {
                assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [text]);
            }
        }
    }
}
