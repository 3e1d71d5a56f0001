//! The effective client: who asks, behind the proxies that the configuration trusts.
//!
//! Without trusted proxies it is the other end of the connection, whatever headers say. Behind a trusted one, `X-Forwarded-For` is read from the right, past
//! trusted proxies, to the first address that none of them vouches for; what stands left of it anyone could have written, and it is dropped.
//! `Forwarded` (RFC 7239) counts only where there is no `X-Forwarded-For`: most proxies write the latter and pass the former on as it came, so the other
//! order would let a client choose its address. The host that a proxy reports is kept for the upstream to hear of; it never chooses a route.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::authority::Authority;
use super::request::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Proxies that are walked past, at most.
const MAX_HOPS: usize = 32;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    address: IpAddr,
    scheme: Scheme,
    host: Option<Authority>,
    chain: Vec<IpAddr>,
    through_trusted: bool,
}

/// The scheme that the client used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Scheme {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case(b"http") => Some(Self::Http),
            _ if text.eq_ignore_ascii_case(b"https") => Some(Self::Https),
            _ => None,
        }
    }
}

/// What limits count by: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitKey(IpAddr);

impl Client {
    /// Finds the effective client.
    #[must_use]
    pub fn effective(peer: &Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let address = peer.address.ip().to_canonical();
        let scheme = Scheme::parse(peer.scheme.as_bytes()).unwrap_or(Scheme::Http);
        let mut client = Self { address, scheme, host: None, chain: Vec::new(), through_trusted: is_trusted(address, trusted) };
        if !client.through_trusted {
            return client;
        }
        let listed = headers.contains_key(X_FORWARDED_FOR);
        let forwarded: Vec<Forwarded> = if listed { Vec::new() } else { Forwarded::from_the_right(headers).take(MAX_HOPS).collect() };
        let hops: Vec<Option<IpAddr>> = if listed {
            from_the_right(headers, X_FORWARDED_FOR).take(MAX_HOPS).map(address_of).collect()
        } else {
            forwarded.iter().map(|hop| hop.client).collect()
        };
        for hop in hops {
            // `unknown` and made-up names end the walk: the last address that is known counts.
            let Some(hop) = hop else { break };
            client.chain.insert(0, hop);
            client.address = hop;
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        let nearest = forwarded.first();
        let told = |name: HeaderName| from_the_right(headers, name).next();
        let scheme = told(X_FORWARDED_PROTO).and_then(Scheme::parse).or_else(|| nearest?.scheme);
        client.scheme = scheme.unwrap_or(client.scheme);
        client.host = told(X_FORWARDED_HOST).and_then(|host| Authority::parse(host).ok()).or_else(|| nearest?.host.clone());
        client
    }

    /// Its address; IPv4 in its own form, never mapped into IPv6.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The scheme that it used, as the nearest trusted proxy reports it.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host that a trusted proxy reports, for `X-Forwarded-Host`. Never used for routing.
    #[must_use]
    pub const fn reported_host(&self) -> Option<&Authority> {
        self.host.as_ref()
    }

    /// The addresses that trusted proxies vouch for, from the client to the one before the peer: what an outbound `X-Forwarded-For` holds in front of
    /// the peer's own address. Empty when the peer is not trusted or reports nobody.
    #[must_use]
    pub fn chain(&self) -> &[IpAddr] {
        &self.chain
    }

    /// Whether the peer is a trusted proxy.
    #[must_use]
    pub const fn is_through_trusted(&self) -> bool {
        self.through_trusted
    }
}

impl LimitKey {
    /// The key of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl std::fmt::Display for LimitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// The members of a list in a header, from the right; empty ones left out. They are octets: what one of them holds says nothing of those beside it.
fn from_the_right(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).iter().rev();
    lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// An address, with or without port and brackets.
fn address_of(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    let address = address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6));
    address.map(|address| address.to_canonical())
}

/// One element of `Forwarded`.
struct Forwarded {
    client: Option<IpAddr>,
    scheme: Option<Scheme>,
    host: Option<Authority>,
}

impl Forwarded {
    fn from_the_right(headers: &HeaderMap) -> impl Iterator<Item = Self> {
        let lines = headers.get_all(http::header::FORWARDED).iter().rev();
        let elements = lines.flat_map(|line| unquoted_from_the_right(line.as_bytes(), b','));
        elements.filter(|element| !element.trim_ascii().is_empty()).map(Self::parse)
    }

    /// What stands twice says nothing: which of the two counts is anybody's guess (RFC 7239, 4).
    fn parse(element: &[u8]) -> Self {
        let only = |name: &[u8]| {
            let mut values = parameters(element).filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            values.next().filter(|_| values.next().is_none())
        };
        let host = only(b"host").and_then(|host| Authority::parse(host).ok());
        Self { client: only(b"for").and_then(address_of), scheme: only(b"proto").and_then(Scheme::parse), host }
    }
}

fn parameters(element: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    unquoted_from_the_right(element, b';').filter_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        let (name, value) = (parts.next()?, parts.next()?);
        // Addresses, schemes and hosts hold nothing that a quoted string would escape.
        Some((name, value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)))
    })
}

/// The parts of a text, the last one first; a separator in a quoted string parts nothing. Read from that end, what a proxy has written behind the client's
/// words stays whole, whatever quote the client leaves open.
fn unquoted_from_the_right(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(text);
    std::iter::from_fn(move || {
        let text = left?;
        let mut quoted = false;
        let cut = text.iter().enumerate().rev().find_map(|(at, byte)| {
            let before = text.get(..at)?;
            if *byte == b'"' {
                // Behind an odd number of backslashes it is a character like others.
                quoted ^= before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0;
            }
            (*byte == separator && !quoted).then_some(before)
        });
        left = cut;
        Some(cut.map_or(text, |before| text.get(before.len() + 1..).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client<V: AsRef<[u8]>>(peer: &str, headers: &[(&str, V)], trusted: &[&str]) -> Client {
        let peer = Peer {
            address: SocketAddr::new(peer.parse().unwrap(), 4000),
            local: "127.0.0.1:80".parse().unwrap(),
            scheme: "http",
            hosts: Default::default(),
            certificate: None,
            counted: Default::default(),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), http::HeaderValue::from_bytes(value.as_ref()).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        Client::effective(&peer, &map, &trusted)
    }

    #[test]
    fn without_trusted_proxies_no_header_counts() {
        let headers = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        for trusted in [&[][..], &["10.0.0.0/8"]] {
            let client = client("192.0.2.1", &headers, trusted);
            assert_eq!((client.address().to_string().as_str(), client.scheme(), client.chain().len()), ("192.0.2.1", Scheme::Http, 0));
            assert!(client.reported_host().is_none() && !client.is_through_trusted());
        }
    }

    #[test]
    fn the_walk_ends_at_the_first_address_that_nobody_vouches_for() {
        let trusted = ["10.0.0.0/8", "::1/128"];
        for (peer, list, address, chain) in [
            ("10.0.0.1", &["203.0.113.7"][..], "203.0.113.7", "[203.0.113.7]"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.7, 10.0.0.2"], "203.0.113.7", "[203.0.113.7, 10.0.0.2]"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.7,, 10.0.0.2"], "203.0.113.7", "[203.0.113.7, 10.0.0.2]"),
            ("10.0.0.1", &["10.0.0.9, 10.0.0.2"], "10.0.0.9", "[10.0.0.9, 10.0.0.2]"),
            ("10.0.0.1", &["203.0.113.7, unknown"], "10.0.0.1", "[]"),
            ("10.0.0.1", &["203.0.113.7, _hidden, 10.0.0.2"], "10.0.0.2", "[10.0.0.2]"),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7", "[203.0.113.7]"),
            ("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1", "[2001:db8::1]"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1", "[2001:db8::1]"),
            ("10.0.0.1", &["::ffff:203.0.113.7"], "203.0.113.7", "[203.0.113.7]"),
            ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7", "[203.0.113.7]"),
            ("::1", &["203.0.113.7, ::ffff:10.0.0.3"], "203.0.113.7", "[203.0.113.7, 10.0.0.3]"),
            ("10.0.0.1", &[""], "10.0.0.1", "[]"),
            ("10.0.0.1", &[], "10.0.0.1", "[]"),
        ] {
            let headers: Vec<_> = list.iter().map(|value| ("x-forwarded-for", *value)).collect();
            let client = client(peer, &headers, &trusted);
            assert_eq!((client.address().to_string().as_str(), format!("{:?}", client.chain()).as_str()), (address, chain), "{peer} {list:?}");
        }
    }

    #[test]
    fn forwarded_counts_only_without_x_forwarded_for() {
        let trusted = ["10.0.0.0/8"];
        let forwarded = ("forwarded", "for=1.1.1.1, For=\"[2001:db8::1]:80\";proto=https;host=\"a.example:8443\", for=10.0.0.2;by=10.0.0.1;proto=https");
        let alone = client("10.0.0.1", &[forwarded], &trusted);
        assert_eq!((alone.address().to_string().as_str(), alone.scheme()), ("2001:db8::1", Scheme::Https));
        let both = client("10.0.0.1", &[forwarded, ("x-forwarded-for", "203.0.113.7")], &trusted);
        assert_eq!((both.address().to_string().as_str(), both.scheme()), ("203.0.113.7", Scheme::Http));
    }

    #[test]
    fn what_stands_left_of_the_proxys_own_word_cannot_hide_it() {
        let trusted = ["10.0.0.0/8"];
        for (name, line) in [
            ("x-forwarded-for", &b"\xff, 203.0.113.9"[..]),
            ("x-forwarded-for", b"1.1.1.1, \xff\xfe,203.0.113.9, 10.0.0.2"),
            ("forwarded", b"x=\xff, for=203.0.113.9"),
            ("forwarded", b"for=\"x, for=203.0.113.9"),
            ("forwarded", b"for=\"x, for=\"203.0.113.9:80\";host=\"a,b;\""),
            ("forwarded", b"for=\"1.1.1.1\\\", for=203.0.113.9"),
            ("forwarded", b"for=1.1.1.1, for=203.0.113.9;secret=\"a\\\"b,\\\\\""),
            ("forwarded", b"for=\"\", for=\"203.0.113.9\", for=10.0.0.2;proto=https"),
        ] {
            let client = client("10.0.0.1", &[(name, line)], &trusted);
            assert_eq!(client.address().to_string(), "203.0.113.9", "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_an_element_says_twice_it_does_not_say() {
        for (line, expected) in [
            ("for=203.0.113.9;for=198.51.100.1", ("10.0.0.1", Scheme::Http)),
            ("for=_x;proto=https;For=203.0.113.9", ("10.0.0.1", Scheme::Https)),
            ("for=203.0.113.9;proto=http;PROTO=https", ("203.0.113.9", Scheme::Http)),
            ("host=a;for=203.0.113.9;host=b", ("203.0.113.9", Scheme::Http)),
        ] {
            let client = client("10.0.0.1", &[("forwarded", line)], &["10.0.0.0/8"]);
            assert_eq!((client.address().to_string().as_str(), client.scheme()), expected, "{line}");
            assert!(client.reported_host().is_none(), "{line}");
        }
    }

    #[test]
    fn scheme_and_host_are_what_the_nearest_trusted_proxy_reports() {
        let headers = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "http, HTTPS"), ("x-forwarded-host", "Photos.example.org:8443")];
        let client = client("10.0.0.1", &headers, &["10.0.0.0/8"]);
        assert_eq!((client.scheme().as_str(), client.reported_host().map(Authority::as_str)), ("https", Some("photos.example.org:8443")));
    }

    #[test]
    fn limits_count_an_ipv6_network_as_one() {
        let key = |address: &str| LimitKey::of(address.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_eq!((key("2001:db8:1:2::1").to_string().as_str(), key("192.0.2.1").to_string().as_str()), ("2001:db8:1:2::/64", "192.0.2.1"));
    }
}
