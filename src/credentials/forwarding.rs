//! `Forwarded` and `X-Forwarded-*`: where a request came from, as a content server may believe it.
//!
//! They are written anew: the client and the proxies that are vouched for, then the connection's other end. What anybody else says is not in it
//! (RFC 7239, 8.1).

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

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
    let mut addresses = String::new();
    let mut elements = String::new();
    for address in way.chain.iter().copied().chain([way.peer]) {
        let first = addresses.is_empty();
        let comma = if first { "" } else { ", " };
        let _ = write!(addresses, "{comma}{address}");
        let _ = match address {
            IpAddr::V4(address) => write!(elements, "{comma}for={address}"),
            // RFC 7239, 6: IPv6 stands in brackets and quotes.
            IpAddr::V6(address) => write!(elements, "{comma}for=\"[{address}]\""),
        };
        if first {
            host_and_proto(&mut elements, way);
        }
    }
    for (name, text) in [(FOR, addresses.as_str()), (FORWARDED, &elements), (HOST, way.host), (PROTO, way.scheme)] {
        // All of it is plain ASCII: addresses, constants, and a host that was admitted.
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}

fn host_and_proto(element: &mut String, way: Way<'_>) {
    let Way { host, scheme, .. } = way;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if host.bytes().all(token) {
        let _ = write!(element, ";host={host}");
    } else if !host.contains(['"', '\\']) {
        let _ = write!(element, ";host=\"{host}\"");
    }
    let _ = write!(element, ";proto={scheme}");
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
