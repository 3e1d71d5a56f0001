//! Hosts: the authority that a request asks for, and the patterns that routes and listeners name.
//!
//! One host has one spelling here: lower case, no trailing dot, IPv6 in its short form. What is compared is also what is handed on.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::config::HostPattern;

/// The authority of a request: a host in its one spelling, and the port if one was sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Host and port as they are written.
    text: Arc<str>,
    /// How much of it is the host.
    host: usize,
    port: Option<u16>,
}

/// Why an authority is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.reason())]
pub enum AuthorityProblem {
    /// Nothing in it.
    Empty,
    /// `user@`.
    UserInfo,
    /// A character that no host has.
    Character,
    /// `a..b`, or a dot in front.
    EmptyLabel,
    /// More than 253 characters.
    TooLong,
    /// Not a port.
    Port,
    /// Brackets around something that is no IPv6 address.
    Ipv6,
}

impl AuthorityProblem {
    /// A constant text for the audit line.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "the host is empty",
            Self::UserInfo => "the authority holds user information",
            Self::Character => "the host holds a character that no host has",
            Self::EmptyLabel => "the host holds an empty label",
            Self::TooLong => "the host is too long",
            Self::Port => "the port is no number up to 65535",
            Self::Ipv6 => "the brackets hold no IPv6 address",
        }
    }
}

impl Authority {
    /// Reads `host`, `host:port` or `[v6]:port`. Letters, digits and `-._~` make a host: what else RFC 3986 would allow (escapes, `!$&'()*+,;=`) no real
    /// name uses, and some of it reads as a list. One trailing dot and an empty port are dropped.
    ///
    /// # Errors
    /// When it is not an authority with one reading.
    pub fn parse(raw: &[u8]) -> Result<Self, AuthorityProblem> {
        let raw = std::str::from_utf8(raw).map_err(|_| AuthorityProblem::Character)?;
        if raw.contains('@') {
            return Err(AuthorityProblem::UserInfo);
        }
        let (host, port) = if let Some(behind) = raw.strip_prefix('[') {
            let (address, behind) = behind.split_once(']').ok_or(AuthorityProblem::Ipv6)?;
            let address: Ipv6Addr = address.parse().map_err(|_| AuthorityProblem::Ipv6)?;
            let port = if behind.is_empty() { None } else { Some(behind.strip_prefix(':').ok_or(AuthorityProblem::Port)?) };
            (format!("[{address}]"), port)
        } else {
            let (host, port) = raw.split_once(':').map_or((raw, None), |(host, port)| (host, Some(port)));
            (name(host)?, port)
        };
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().map_err(|_| AuthorityProblem::Port)?),
            Some(_) => return Err(AuthorityProblem::Port),
        };
        Ok(Self::new(host, port))
    }

    fn new(host: String, port: Option<u16>) -> Self {
        let length = host.len();
        let mut text = host;
        if let Some(port) = port {
            // Writing into memory cannot fail.
            let _ = write!(text, ":{port}");
        }
        Self { text: text.into(), host: length, port }
    }

    /// Host and port, as they are handed on.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, to be kept.
    #[must_use]
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The host alone.
    #[must_use]
    pub fn host(&self) -> &str {
        self.text.get(..self.host).unwrap_or_default()
    }

    /// The port, if one was sent.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether both mean the same, where an absent port is this one.
    #[must_use]
    pub fn same_as(&self, other: &Self, default_port: u16) -> bool {
        self.host() == other.host() && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.text)
    }
}

impl HostPattern {
    /// Reads `host` of a route: a name or address, or `*.` and a name. Without a port.
    ///
    /// # Errors
    /// When it is no host.
    pub fn parse(text: &str) -> Result<Self, AuthorityProblem> {
        if let Some(parent) = text.strip_prefix("*.") {
            return Ok(Self::Suffix(format!(".{}", name(parent)?).into()));
        }
        let authority = Authority::parse(text.as_bytes())?;
        if text.strip_prefix('[').map_or(text, |v6| v6.split_once(']').map_or("", |(_, behind)| behind)).contains(':') {
            return Err(AuthorityProblem::Port);
        }
        Ok(Self::Exact(authority.host().into()))
    }

    /// Whether a host (in its one spelling) is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => &**exact == host,
            // `*.example.org` means names below it, not an empty label.
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Any => true,
        }
    }

    /// Whether every host that `other` means is meant here too.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (pattern, Self::Exact(exact)) => pattern.matches(exact),
            (Self::Suffix(suffix), Self::Suffix(below)) => below.ends_with(&**suffix),
            (Self::Exact(_), Self::Suffix(_)) => false,
        }
    }

    /// Whether some host is meant by both. Two patterns of hosts overlap only where one includes the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.includes(other) || other.includes(self)
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("any host"),
        }
    }
}

/// The hosts that a listener serves; none named means all.
#[derive(Clone, Debug, Default)]
pub struct ServedHosts(Option<Arc<[HostPattern]>>);

impl ServedHosts {
    /// From a listener's `hosts`.
    ///
    /// # Errors
    /// The first entry that is no host, with its place in the list.
    pub fn new<T: AsRef<str>>(hosts: &[T]) -> Result<Self, (usize, AuthorityProblem)> {
        if hosts.is_empty() {
            return Ok(Self(None));
        }
        let patterns: Result<Arc<[HostPattern]>, _> =
            hosts.iter().enumerate().map(|(at, host)| HostPattern::parse(host.as_ref()).map_err(|problem| (at, problem))).collect();
        patterns.map(|patterns| Self(Some(patterns)))
    }

    /// What several listeners serve together, each with its list; an empty one is any host.
    ///
    /// # Errors
    /// As [`ServedHosts::new`].
    pub fn of_all<'a, T: AsRef<str> + 'a>(lists: impl IntoIterator<Item = &'a [T]>) -> Result<Self, (usize, AuthorityProblem)> {
        let lists: Vec<&[T]> = lists.into_iter().collect();
        if lists.iter().any(|list| list.is_empty()) {
            return Ok(Self(None));
        }
        let all: Vec<&str> = lists.into_iter().flatten().map(AsRef::as_ref).collect();
        Self::new(&all)
    }

    /// Whether a host (in its one spelling) is served.
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(host)))
    }

    /// Whether any host of a route can be served.
    #[must_use]
    pub fn overlaps(&self, route: &HostPattern) -> bool {
        self.0.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.overlaps(route)))
    }
}

/// A host name in its one spelling.
fn name(host: &str) -> Result<String, AuthorityProblem> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(AuthorityProblem::Empty);
    }
    if host.len() > 253 {
        return Err(AuthorityProblem::TooLong);
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')) {
        return Err(AuthorityProblem::Character);
    }
    if host.split('.').any(str::is_empty) {
        return Err(AuthorityProblem::EmptyLabel);
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (raw, text, host, port) in [
            ("Example.ORG", "example.org", "example.org", None),
            ("example.org.", "example.org", "example.org", None),
            ("example.org:", "example.org", "example.org", None),
            ("example.org.:8080", "example.org:8080", "example.org", Some(8080)),
            ("a_b-c.d~e", "a_b-c.d~e", "a_b-c.d~e", None),
            ("127.0.0.1:0080", "127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "[::1]", "[::1]", None),
            ("[0:0:0:0:0:0:0:1]:8080", "[::1]:8080", "[::1]", Some(8080)),
            ("[2001:DB8::A]", "[2001:db8::a]", "[2001:db8::a]", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ] {
            let authority = Authority::parse(raw.as_bytes()).unwrap_or_else(|problem| panic!("{raw}: {problem}"));
            assert_eq!((authority.as_str(), authority.host(), authority.port()), (text, host, port), "{raw}");
            assert_eq!(Authority::parse(text.as_bytes()), Ok(authority));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        use AuthorityProblem as Problem;
        for (raw, problem) in [
            ("", Problem::Empty),
            (".", Problem::Empty),
            (":80", Problem::Empty),
            ("user@example.org", Problem::UserInfo),
            ("a/b", Problem::Character),
            ("a b", Problem::Character),
            ("a,b", Problem::Character),
            ("a\\b", Problem::Character),
            ("a%2eb", Problem::Character),
            ("a?b", Problem::Character),
            ("münchen.de", Problem::Character),
            ("a..b", Problem::EmptyLabel),
            (".a", Problem::EmptyLabel),
            ("a..", Problem::EmptyLabel),
            ("a:65536", Problem::Port),
            ("a:000080", Problem::Port),
            ("a:8o", Problem::Port),
            ("a:+80", Problem::Port),
            ("a:80:80", Problem::Port),
            ("::1", Problem::Empty),
            ("[::1", Problem::Ipv6),
            ("[::1]80", Problem::Port),
            ("[fe80::1%25eth0]", Problem::Ipv6),
            ("[127.0.0.1]", Problem::Ipv6),
            ("[v1.x]", Problem::Ipv6),
        ] {
            assert_eq!(Authority::parse(raw.as_bytes()), Err(problem), "{raw}");
        }
        assert_eq!(Authority::parse("a".repeat(254).as_bytes()), Err(Problem::TooLong));
        assert!(Authority::parse("a".repeat(253).as_bytes()).is_ok());
    }

    #[test]
    fn each_problem_says_what_it_is() {
        use AuthorityProblem as Problem;
        for (problem, words) in [
            (Problem::Empty, "the host is empty"),
            (Problem::UserInfo, "the authority holds user information"),
            (Problem::Character, "the host holds a character that no host has"),
            (Problem::EmptyLabel, "the host holds an empty label"),
            (Problem::TooLong, "the host is too long"),
            (Problem::Port, "the port is no number up to 65535"),
            (Problem::Ipv6, "the brackets hold no IPv6 address"),
        ] {
            assert_eq!((problem.reason(), problem.to_string().as_str()), (words, words));
        }
    }

    #[test]
    fn patterns_of_hosts_match_whole_labels() {
        let suffix = HostPattern::parse("*.Example.org").unwrap();
        assert!(suffix.matches("a.example.org") && suffix.matches("a.b.example.org"));
        assert!(!suffix.matches("example.org") && !suffix.matches("badexample.org") && !suffix.matches(".example.org"));
        assert_eq!(HostPattern::parse("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
        for text in ["a:80", "[::1]:80", "a:", "*", "*.*.a", "*.a:80"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_authority_is_shown_as_it_is_handed_on() {
        let authority = Authority::parse(b"Example.org.:0080").unwrap();
        assert_eq!((authority.to_string().as_str(), format!("{authority:?}").as_str()), ("example.org:80", "Authority(example.org:80)"));
    }

    #[test]
    fn a_pattern_includes_another_where_it_means_all_its_hosts() {
        let pattern = |text: &str| if text == "any" { HostPattern::Any } else { HostPattern::parse(text).unwrap() };
        for (wider, narrower) in
            [("any", "any"), ("any", "a.org"), ("any", "*.a.org"), ("*.a.org", "x.a.org"), ("*.a.org", "*.x.a.org"), ("*.a.org", "*.a.org")]
        {
            assert!(pattern(wider).includes(&pattern(narrower)), "{wider} {narrower}");
            assert!(pattern(wider).overlaps(&pattern(narrower)) && pattern(narrower).overlaps(&pattern(wider)), "{wider} {narrower}");
            assert_eq!(pattern(narrower).includes(&pattern(wider)), wider == narrower, "{narrower} {wider}");
        }
        for (one, other) in [("a.org", "b.org"), ("*.a.org", "a.org"), ("*.a.org", "b.org"), ("*.a.org", "*.b.org"), ("*.a.org", "*.ba.org")] {
            assert!(!pattern(one).includes(&pattern(other)) && !pattern(other).includes(&pattern(one)), "{one} {other}");
            assert!(!pattern(one).overlaps(&pattern(other)) && !pattern(other).overlaps(&pattern(one)), "{one} {other}");
        }
        assert!(pattern("a.org").includes(&pattern("A.org.")));
    }

    #[test]
    fn a_route_whose_hosts_no_listener_serves_is_seen() {
        let served = ServedHosts::new(&["a.example", "*.b.example"]).unwrap();
        for (route, expected) in [
            ("a.example", true),
            ("x.b.example", true),
            ("*.b.example", true),
            ("*.x.b.example", true),
            ("*.example", true),
            ("c", false),
            ("b.example", false),
            ("*.a.example", false),
        ] {
            assert_eq!(served.overlaps(&HostPattern::parse(route).unwrap()), expected, "{route}");
        }
        assert!(served.overlaps(&HostPattern::Any));
        assert!(ServedHosts::default().overlaps(&HostPattern::Exact("anything".into())));
    }

    #[test]
    fn a_listener_without_hosts_serves_all() {
        assert!(ServedHosts::new::<&str>(&[]).unwrap().serves("anything"));
        let served = ServedHosts::new(&["a.example", "*.b.example"]).unwrap();
        assert!(served.serves("a.example") && served.serves("x.b.example") && !served.serves("b.example") && !served.serves("c"));
        assert_eq!(ServedHosts::new(&["a", "b c"]).map(|_| ()), Err((1, AuthorityProblem::Character)));
    }

    #[test]
    fn listeners_together_serve_what_each_serves_and_any_host_where_one_does() {
        let of = |lists: &[&[&'static str]]| ServedHosts::of_all(lists.iter().copied()).unwrap();
        let both = of(&[&["a.example.org"], &["b.example.org", "*.c.example.org"]]);
        let served = ["a.example.org", "b.example.org", "x.c.example.org", "d.example.org"].map(|host| both.serves(host));
        assert_eq!(served, [true, true, true, false]);
        assert!(of(&[&["a.example.org"], &[]]).serves("d.example.org"));
    }
}
