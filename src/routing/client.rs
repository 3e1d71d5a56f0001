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

    fn parse(text: &str) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case("http") => Some(Self::Http),
            _ if text.eq_ignore_ascii_case("https") => Some(Self::Https),
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
        let scheme = Scheme::parse(peer.scheme).unwrap_or(Scheme::Http);
        let mut client = Self { address, scheme, host: None, chain: Vec::new(), through_trusted: is_trusted(address, trusted) };
        if !client.through_trusted {
            return client;
        }
        let listed = headers.contains_key(X_FORWARDED_FOR);
        let forwarded = if listed { Vec::new() } else { Forwarded::from_the_right(headers) };
        let hops: Vec<Option<IpAddr>> =
            if listed { from_the_right(headers, X_FORWARDED_FOR).map(address_of).collect() } else { forwarded.iter().map(|hop| hop.client).collect() };
        for hop in hops.into_iter().take(MAX_HOPS) {
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
        client.host = told(X_FORWARDED_HOST).and_then(|host| Authority::parse(host.as_bytes()).ok()).or_else(|| nearest?.host.clone());
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

/// The members of a list in a header, from the right; empty ones left out. A line that is not ASCII counts as one unknown member.
fn from_the_right(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter().rev().map(|value| value.to_str().unwrap_or("unknown"));
    lines.flat_map(|line| line.rsplit(',')).map(str::trim).filter(|member| !member.is_empty())
}

/// An address, with or without port and brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    let address = address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6));
    address.map(|address| address.to_canonical())
}

/// One element of `Forwarded`.
#[derive(Default)]
struct Forwarded {
    client: Option<IpAddr>,
    scheme: Option<Scheme>,
    host: Option<Authority>,
}

impl Forwarded {
    fn from_the_right(headers: &HeaderMap) -> Vec<Self> {
        let lines = headers.get_all(http::header::FORWARDED).iter().map(|value| value.to_str().unwrap_or("for=unknown"));
        let mut elements: Vec<Self> = lines.flat_map(|line| split_unquoted(line, ',')).filter(|element| !element.trim().is_empty()).map(Self::parse).collect();
        elements.reverse();
        elements
    }

    fn parse(element: &str) -> Self {
        let mut found = Self::default();
        for (name, value) in split_unquoted(element, ';').into_iter().filter_map(|pair| pair.split_once('=')) {
            let value = value.trim();
            // Addresses, schemes and hosts hold nothing that a quoted string would escape.
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            match name.trim() {
                name if name.eq_ignore_ascii_case("for") => found.client = address_of(value),
                name if name.eq_ignore_ascii_case("proto") => found.scheme = Scheme::parse(value),
                name if name.eq_ignore_ascii_case("host") => found.host = Authority::parse(value.as_bytes()).ok(),
                _ => {}
            }
        }
        found
    }
}

fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)], trusted: &[&str]) -> Client {
        let peer = Peer {
            address: SocketAddr::new(peer.parse().unwrap(), 4000),
            local: "127.0.0.1:80".parse().unwrap(),
            scheme: "http",
            hosts: Default::default(),
            certificate: None,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
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
