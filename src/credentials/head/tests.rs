//! Tables for the outbound head.

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;

use super::super::{Config, Credential, Reserved};
use super::*;

/// What a test says; the rest is ordinary.
struct Case<'a> {
    fields: &'a [(&'a str, &'a str)],
    credential: Credential,
    host: HostPolicy,
    chain: &'a [IpAddr],
    method: &'a str,
    framing: Framing,
    upgrade: Option<Upgrade>,
    identity: &'a [(&'a str, Claim, &'a str)],
    target: &'a str,
    version: Version,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            fields: &[],
            credential: Credential::Authorization(HeaderValue::from_static("Basic Z2F0ZXdheTp4")),
            host: HostPolicy::Upstream,
            chain: &[],
            method: "GET",
            framing: Framing::None,
            upgrade: None,
            identity: &[],
            target: "/albums/1?a=b",
            version: Version::HTTP_11,
        }
    }
}

impl Case<'_> {
    #[expect(clippy::unwrap_in_result, reason = "what a test says can be parsed")]
    fn try_head(self) -> Result<request::Parts, Rejection> {
        let mut request = Request::builder().method(self.method).uri("/never/this").version(self.version);
        for (name, value) in self.fields {
            request = request.header(*name, *value);
        }
        let names: Vec<(HeaderName, Claim)> = self.identity.iter().map(|(name, claim, _)| (name.parse().unwrap(), claim.clone())).collect();
        let own = [names.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), vec![HeaderName::from_static("x-api-key")]].concat();
        let proxy = Proxy::new(&Config { credential: self.credential }, self.host, Arc::new(Reserved::new(&own)), None);
        outbound_head(HeadInput {
            head: request.body(()).unwrap().into_parts().0,
            target: self.target.parse().unwrap(),
            authority: "photos.example.org",
            way: Way { chain: self.chain, peer: "192.0.2.7".parse().unwrap(), trusted: !self.chain.is_empty(), scheme: "http", host: "photos.example.org" },
            framing: self.framing,
            upgrade: self.upgrade,
            id: Some(HeaderValue::from_static("abc123")),
            proxy: &proxy,
            token: None,
            identity: &names,
            claim: &|claim| self.identity.iter().find(|(_, known, _)| known == claim).map(|(_, _, value)| *value),
            via: &Via::new("gw-1"),
            trace: None,
        })
    }

    fn head(self) -> request::Parts {
        self.try_head().unwrap()
    }

    /// Every field, `name: value`, sorted.
    fn fields(self) -> Vec<String> {
        let mut lines: Vec<_> = self.head().headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
        lines.sort();
        lines
    }
}

/// What the gateway adds to every request.
const ADDED: [&str; 7] = [
    "authorization: Basic Z2F0ZXdheTp4",
    "forwarded: for=192.0.2.7;host=photos.example.org;proto=http",
    "via: 1.1 gw-1",
    "x-forwarded-for: 192.0.2.7",
    "x-forwarded-host: photos.example.org",
    "x-forwarded-proto: http",
    "x-request-id: abc123",
];

#[test]
fn a_bare_request_gets_what_we_add_and_nothing_else() {
    assert_eq!(Case::default().fields(), ADDED);
}

/// Names that a content server might take for ours, in the spellings that it might read.
const POSING: [&str; 56] = [
    "Authorization",
    "AUTHORIZATION",
    "Proxy-Authorization",
    "DPoP",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Transfer-Encoding",
    "Upgrade",
    "HTTP2-Settings",
    "Trailer",
    "Content-Length",
    "Expect",
    "Host",
    "TE",
    "X-Forwarded-For",
    "x_forwarded_for",
    "X-Forwarded_For",
    "X.Forwarded.For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Anything",
    "Forwarded",
    "X-Real-IP",
    "True-Client-IP",
    "X-Request-Id",
    "X_Request_Id",
    "X-Forwarded-User",
    "X-Remote-User",
    "Remote-User",
    "REMOTE_USER",
    "X-Auth-Request-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Authenticated-User",
    "X-WebAuth-User",
    "X-User",
    "X-Userinfo",
    "X-Access-Token",
    "X-Id-Token",
    "Client-Cert",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-HTTP-Method",
    "X-Original-URL",
    "X-Rewrite-URL",
    "Proxy",
    "X-Api-Key",
    "x_api_key",
    "X.Api.Key",
    "X-Photo-User",
    "x-photo_user",
    "X~Photo~User",
];

#[test]
fn nothing_that_could_pose_as_ours_goes_on() {
    for name in POSING {
        let case = Case { fields: &[(name, "evil"), (name, "evil2")], identity: &[("X-Photo-User", Claim::Subject, "bob")], ..Case::default() };
        let head = case.head();
        assert!(!head.headers.values().any(|value| value.to_str().unwrap().contains("evil")), "{name}");
        assert_eq!(head.headers.get_all("x-photo-user").iter().collect::<Vec<_>>(), ["bob"], "{name}");
        assert_eq!(head.headers.get_all("authorization").iter().count(), 1, "{name}");
    }
}

#[test]
fn connection_takes_away_the_clients_fields_only() {
    let all = "close, x-hop, authorization, x-photo-user, via, x-request-id, forwarded, x-forwarded-for, host, cookie";
    let case = Case {
        fields: &[("Connection", all), ("X-Hop", "1"), ("Cookie", "a=1"), ("Accept", "*/*")],
        identity: &[("X-Photo-User", Claim::Subject, "bob")],
        ..Case::default()
    };
    let mut expected: Vec<_> = ADDED.into_iter().chain(["accept: */*", "x-photo-user: bob"]).collect();
    expected.sort_unstable();
    assert_eq!(case.fields(), expected);
}

#[test]
fn ordinary_fields_keep_their_values_and_order() {
    let fields =
        [("Cookie", "a=1"), ("Cookie", "b=2"), ("If-None-Match", "\"x\""), ("Range", "bytes=0-1"), ("Via", "1.0 outer"), ("Accept", "a"), ("Accept", "b")];
    let head = Case { fields: &fields, ..Case::default() }.head();
    for (name, expected) in [("cookie", &["a=1", "b=2"][..]), ("accept", &["a", "b"]), ("via", &["1.0 outer", "1.1 gw-1"]), ("range", &["bytes=0-1"])] {
        assert_eq!(head.headers.get_all(name).iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_trusted_peer_is_believed_about_the_way_but_not_about_who_asks() {
    let fields = [
        ("X-Forwarded-For", "6.6.6.6, 203.0.113.9"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Prefix", "/photos"),
        ("X-Real-IP", "203.0.113.9"),
        ("X-Forwarded-User", "root"),
        ("Connection", "x-real-ip"),
    ];
    let lines = Case { fields: &fields, chain: &["203.0.113.9".parse().unwrap()], ..Case::default() }.fields();
    for line in ["x-forwarded-for: 203.0.113.9, 192.0.2.7", "x-forwarded-port: 443", "x-forwarded-prefix: /photos", "x-real-ip: 203.0.113.9"] {
        assert!(lines.iter().any(|known| known == line), "{line}");
    }
    assert!(!lines.iter().any(|line| line.contains("root")));
}

#[test]
fn behind_a_trusted_peer_no_name_tells_another_address_than_the_clients() {
    for name in ["X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP", "Client-IP", "X-Vercel-Forwarded-For", "Do-Connecting-Ip"] {
        let fields = [(name, "6.6.6.6"), (name, "7.7.7.7")];
        for (chain, expected) in
            [(&["203.0.113.9".parse().unwrap(), "10.0.0.2".parse().unwrap()][..], "203.0.113.9"), (&["2001:db8::7".parse().unwrap()], "2001:db8::7")]
        {
            let head = Case { fields: &fields, chain, ..Case::default() }.head();
            assert_eq!(head.headers.get_all(name).iter().collect::<Vec<_>>(), [expected], "{name}");
        }
        assert!(!Case { fields: &fields, ..Case::default() }.head().headers.contains_key(name), "{name} from anybody");
    }
}

#[test]
fn a_trusted_peers_word_counts_for_the_way_only() {
    let chain = ["203.0.113.9".parse().unwrap()];
    for name in [
        "X-Forwarded-Role",
        "X-Forwarded-Sub",
        "X-Forwarded-Login",
        "X-Forwarded-Uid",
        "X-Forwarded-Authorization",
        "X-Forwarded-Tls-Client-Cert",
        "X-Forwarded-Uri",
        "X-Forwarded-Path",
        "X-Forwarded-Anything",
        "X-Custom-IP-Authorization",
        "X-Original-Forwarded-For",
    ] {
        assert!(!Case { fields: &[(name, "evil")], chain: &chain, ..Case::default() }.head().headers.contains_key(name), "{name}");
    }
    for name in ["X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl", "Front-End-Https", "X-Scheme"] {
        assert_eq!(Case { fields: &[(name, "1")], chain: &chain, ..Case::default() }.head().headers.get(name).unwrap(), "1", "{name}");
    }
}

#[test]
fn via_tells_the_version_in_which_the_request_came() {
    for (version, expected) in [(Version::HTTP_10, "1.0 gw-1"), (Version::HTTP_11, "1.1 gw-1"), (Version::HTTP_2, "2 gw-1")] {
        assert_eq!(Case { version, ..Case::default() }.head().headers.get(VIA).unwrap(), expected);
    }
}

#[test]
fn of_what_connection_names_each_field_that_is_there_counts_once() {
    let mut client = HeaderMap::new();
    client.insert(CONNECTION, HeaderValue::from_static("x-hop, close, X-Hop, x-none, x-none"));
    client.insert("x-hop", HeaderValue::from_static("1"));
    assert_eq!(connection_options(&client), ["x-hop"]);
    client.insert(CONNECTION, HeaderValue::from_bytes(b"\xff, X-Hop ,\xfe").unwrap());
    assert_eq!(connection_options(&client), ["x-hop"]);
}

#[test]
fn the_host_follows_the_policy() {
    for (host, expected) in [
        (HostPolicy::Upstream, None),
        (HostPolicy::Preserve, Some("photos.example.org")),
        (HostPolicy::Named(HeaderValue::from_static("inner")), Some("inner")),
    ] {
        let head = Case { fields: &[("Host", "evil.example.org")], host, ..Case::default() }.head();
        assert_eq!(head.headers.get(HOST).map(|value| value.to_str().unwrap()), expected);
    }
}

#[test]
fn an_upgrade_that_the_route_allows_is_asked_for_in_our_own_words() {
    let fields = &[("Connection", "Upgrade, X-Hop"), ("Upgrade", "WebSocket"), ("X-Hop", "1"), ("Sec-WebSocket-Key", "a2V5"), ("Sec-WebSocket-Version", "13")];
    let lines = Case { fields, upgrade: Some(Upgrade::WebSocket), ..Case::default() }.fields();
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: a2V5", "sec-websocket-version: 13"] {
        assert!(lines.iter().any(|given| given == line), "{line} in {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("x-hop")));
    let lines = Case { fields, ..Case::default() }.fields();
    assert!(!lines.iter().any(|line| line.starts_with("connection") || line.starts_with("upgrade")), "{lines:?}");
}

#[test]
fn framing_is_ours() {
    for (method, framing, length, coding) in [
        ("GET", Framing::None, None, None),
        ("POST", Framing::None, Some("0"), None),
        ("PUT", Framing::Length(7), Some("7"), None),
        ("GET", Framing::Chunked, None, Some("chunked")),
        ("POST", Framing::Chunked, None, Some("chunked")),
    ] {
        let head = Case { fields: &[("Content-Length", "99"), ("Transfer-Encoding", "gzip")], method, framing, ..Case::default() }.head();
        assert_eq!(head.headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap()), length, "{method} {framing:?}");
        assert_eq!(head.headers.get(TRANSFER_ENCODING).map(|value| value.to_str().unwrap()), coding, "{method} {framing:?}");
    }
}

#[test]
fn te_goes_on_as_trailers_only() {
    for (te, expected) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false), ("trailers;q=1", false)] {
        let head = Case { fields: &[("TE", te)], ..Case::default() }.head();
        assert_eq!(head.headers.get(TE).is_some_and(|value| value == "trailers"), expected, "{te}");
        assert_eq!(head.headers.contains_key(CONNECTION), expected, "{te}");
    }
}

#[test]
fn an_identity_that_is_not_known_gives_no_header() {
    let identity = [("X-Name", Claim::Username, ""), ("X-Sub", Claim::Subject, "b\u{f6}b")];
    let head = Case { fields: &[("X-Name", "root"), ("X-Mail", "root")], identity: &identity, ..Case::default() }.head();
    assert!(!head.headers.contains_key("x-name"));
    assert_eq!(head.headers.get("x-sub").unwrap(), "b%C3%B6b");
}

#[test]
fn credentials_are_injected_and_cannot_be_printed() {
    let headers = Credential::Headers(vec![(HeaderName::from_static("x-api-key"), HeaderValue::from_static("s3cret"))]);
    let head = Case { credential: headers, ..Case::default() }.head();
    assert_eq!(head.headers.get("x-api-key").unwrap(), "s3cret");
    assert!(!head.headers.contains_key("authorization"));
    assert!(!format!("{head:?}").contains("s3cret"));
    assert!(!format!("{:?}", Case::default().head()).contains("Z2F0ZXdheTp4"));
    let none = Case { credential: Credential::None, fields: &[("Authorization", "Bearer rpt")], ..Case::default() }.head();
    assert!(!none.headers.contains_key("authorization"));
}

#[test]
fn without_its_token_a_request_does_not_leave() {
    let client = crate::authorization_server::ClientCredentials::with_secret("gateway", "x");
    let credential = Credential::Oauth2 { token_endpoint: "http://127.0.0.1/token".parse().unwrap(), client, scopes: Vec::new() };
    assert!(matches!(Case { credential, ..Case::default() }.try_head(), Err(Rejection::CredentialUnavailable)));
}

#[test]
fn the_target_is_the_canonical_one() {
    let head = Case { target: "/x%20y?q=1&access_token=rpt", ..Case::default() }.head();
    assert_eq!(head.uri.to_string(), "/x%20y?q=1");
    assert_eq!(head.version, Version::HTTP_11);
}

proptest::proptest! {
    /// Whatever the client sends, no field that is ours has another value than ours.
    #[test]
    fn no_name_from_the_deny_sets_survives(fields in proptest::collection::vec(("[!#$%&'*+.^_`|~a-zA-Z-]{1,3}(authorization|forwarded|user|via|host|te)?|[xX][-_.](forwarded|remote|auth)[-_.](for|user|host)", "[ -~]{0,12}"), 0..12)) {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let head = Case { fields: &fields, ..Case::default() }.head();
        for (name, value) in &head.headers {
            let name = name.as_str();
            proptest::prop_assert!(!name.contains('_'), "{}", name);
            for own in ADDED.iter().filter(|own| !own.starts_with("via")) {
                let (own_name, own_value) = own.split_once(": ").unwrap();
                if name == own_name {
                    proptest::prop_assert_eq!(value.to_str().unwrap(), own_value);
                }
            }
        }
    }
}
