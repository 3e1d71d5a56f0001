//! What of an upstream's head goes on to the client.
//!
//! A message that two readers could frame differently is refused, never repaired; what belongs to the connection or to the gateway's own
//! credential stays here; an answer on a protected route may be kept by the client's own cache only, and challenges nobody in the gateway's place.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
    TRANSFER_ENCODING, UPGRADE, VARY, WWW_AUTHENTICATE,
};
use http::{StatusCode, Version, response};

use super::UpstreamError;
use crate::body::is_length;
use crate::holes::{Hole, open};
use crate::secret::conceal;
use crate::uma::is_token_byte;

/// Fields that concern this connection or the gateway's credential only (RFC 9110, 7.6.1 and 11), and what is not for clients.
static OURS: [HeaderName; 23] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    WWW_AUTHENTICATE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("proxy-authentication-info"),
    // It would lead the client, with its token, around the gateway (RFC 7838).
    HeaderName::from_static("alt-svc"),
    // A server in front of the gateway would serve another file.
    HeaderName::from_static("x-accel-redirect"),
    HeaderName::from_static("x-lighttpd-send-file"),
    HeaderName::from_static("x-lighttpd-send-tempfile"),
    HeaderName::from_static("x-litespeed-location"),
    HeaderName::from_static("x-reproxy-file"),
    HeaderName::from_static("x-reproxy-service"),
    HeaderName::from_static("x-reproxy-url"),
    HeaderName::from_static("x-sendfile"),
    HeaderName::from_static("x-sendfile2"),
    HeaderName::from_static("x-sendfile-temporary"),
    HeaderName::from_static("gitlab-workhorse-send-data"),
];

/// Schemes by which the gateway itself challenges on protected routes, and DPoP, whose tokens are a Bearer's kin.
const SCHEMES: [&[u8]; 3] = [b"uma", b"bearer", b"dpop"];

/// Whom an answer is for, as far as its head depends on it.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// Not everyone may ask.
    pub(super) private: bool,
    /// Where he may have shown his token besides `Authorization`.
    pub(super) rpt_header: Option<HeaderName>,
    /// A 401 is the application's word to him, not on a credential of the gateway's.
    pub(super) own_login: bool,
}

/// The head for the client.
///
/// # Errors
/// When the answer must not be relayed; its connection must then not be used again.
pub(super) fn relay(head: response::Parts, reader: Reader) -> Result<response::Parts, UpstreamError> {
    let response::Parts { status, mut headers, .. } = head;
    match status {
        StatusCode::SWITCHING_PROTOCOLS => return Err(UpstreamError::Answer("an upgrade that was not asked for")),
        StatusCode::UNAUTHORIZED if reader.own_login => {}
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(UpstreamError::CredentialRefused),
        _ if !(200..600).contains(&status.as_u16()) => return Err(UpstreamError::Answer("a status that means nothing")),
        _ => {}
    }
    framing(&headers)?;
    for name in named_by_connection(&headers) {
        headers.remove(name);
    }
    let challenges = if status == StatusCode::UNAUTHORIZED { challenges(&headers, reader.private) } else { Vec::new() };
    clean(&mut headers);
    for challenge in challenges {
        headers.append(WWW_AUTHENTICATE, challenge);
    }
    // Neither has a body; a length would say otherwise to a careless reader.
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        headers.remove(CONTENT_LENGTH);
    }
    if reader.private {
        keep_private(&mut headers, reader.rpt_header);
    }
    // A new head: the version is ours, and the reason phrase is the standard one.
    let (mut relayed, ()) = http::Response::new(()).into_parts();
    relayed.status = status;
    relayed.version = Version::HTTP_11;
    relayed.headers = headers;
    Ok(relayed)
}

/// Whether an answer that has no body announces one all the same (RFC 9110, 8.6; RFC 9112, 6.1): it may come late, and would be taken for the next answer.
pub(super) fn announces_too_much(head: &response::Parts) -> bool {
    let length = head.headers.get(CONTENT_LENGTH);
    head.status == StatusCode::NO_CONTENT && (head.headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0"))
}

/// The head of a 101 that was asked for.
///
/// # Errors
/// When the server changes to another protocol, or does not say to which.
pub(super) fn switched(head: response::Parts) -> Result<response::Parts, UpstreamError> {
    let response::Parts { mut headers, .. } = head;
    let mut names = headers.get_all(UPGRADE).iter();
    // The only one that is ever asked for.
    let right = names.next().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket")) && names.next().is_none();
    if !right || headers.contains_key(TRANSFER_ENCODING) {
        return Err(UpstreamError::Answer("an upgrade to something that was not asked for"));
    }
    for name in named_by_connection(&headers) {
        headers.remove(name);
    }
    clean(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let (mut switched, ()) = http::Response::new(()).into_parts();
    switched.status = StatusCode::SWITCHING_PROTOCOLS;
    switched.version = Version::HTTP_11;
    switched.headers = headers;
    Ok(switched)
}

/// The challenges of a login of the application's own. Where the gateway challenges, none that a client could take for the gateway's: a field that has the
/// name of such a scheme anywhere is left out as a whole, however it would be taken apart.
fn challenges(headers: &HeaderMap, private: bool) -> Vec<HeaderValue> {
    let poses =
        |value: &HeaderValue| value.as_bytes().split(|byte| !is_token_byte(*byte)).any(|word| SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)));
    headers.get_all(WWW_AUTHENTICATE).iter().filter(|value| !(private && poses(value))).cloned().collect()
}

/// Takes out what is not the client's, and marks what is secret.
fn clean(headers: &mut HeaderMap) {
    conceal(headers, SET_COOKIE);
    // Most hold none or one of them.
    while let Some(name) = headers.keys().find_map(|name| OURS.iter().find(|ours| *ours == name)) {
        headers.remove(name);
    }
}

/// One length or one `chunked`, never both (RFC 9112, 6.3).
fn framing(headers: &HeaderMap) -> Result<(), UpstreamError> {
    if open(Hole::AnswersUnchecked) {
        return Ok(());
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() || length.is_some_and(|length| !is_length(length)) {
        return Err(UpstreamError::Answer("several lengths, or one that is no number"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if length.is_some() {
            return Err(UpstreamError::Answer("a length and a transfer coding"));
        }
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(UpstreamError::Answer("a transfer coding other than chunked"));
        }
    }
    Ok(())
}

/// The fields that `Connection` names.
pub(super) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // `keep-alive` is ours in any case.
    names.filter(|name| !name.eq_ignore_ascii_case(b"keep-alive")).filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// The upstream did not see the client's credential, so it cannot know that its answer is for this client alone (RFC 9111, 3.5).
fn keep_private(headers: &mut HeaderMap, rpt_header: Option<HeaderName>) {
    let value = private_directives(headers);
    // Other fields that shared caches read before Cache-Control, such as CDN-Cache-Control and nginx's X-Accel-Expires.
    let is_targeted = |name: &str| matches!(name, "surrogate-control" | "x-accel-expires" | "edge-control") || name.ends_with("-cache-control");
    let targeted: Vec<HeaderName> = headers.keys().filter(|name| is_targeted(name.as_str())).cloned().collect();
    for name in targeted {
        headers.remove(name);
    }
    headers.insert(CACHE_CONTROL, value);
    vary(headers, &AUTHORIZATION, HeaderValue::from_static("Authorization"));
    if let Some(name) = rpt_header {
        vary(headers, &name, HeaderValue::from(name.clone()));
    }
}

/// Names a field of the request in `Vary`, unless it stands there.
fn vary(headers: &mut HeaderMap, name: &HeaderName, shown: HeaderValue) {
    let mut known = headers.get_all(VARY).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if !known.any(|known| known == b"*" || known.eq_ignore_ascii_case(name.as_str().as_bytes())) {
        headers.append(VARY, shown);
    }
}

/// What `Cache-Control` says, without what speaks to shared caches.
fn private_directives(headers: &HeaderMap) -> HeaderValue {
    if !headers.contains_key(CACHE_CONTROL) {
        return HeaderValue::from_static("private");
    }
    let mut kept = Vec::new();
    let mut no_store = false;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in directives(value.as_bytes()) {
            let end = directive.iter().position(|byte| *byte == b'=').unwrap_or(directive.len());
            let name = directive.get(..end).unwrap_or(directive).trim_ascii();
            no_store |= name.eq_ignore_ascii_case(b"no-store");
            // `private="name"` speaks of one field only; ours speaks of the whole answer.
            if ![&b"public"[..], b"s-maxage", b"private", b"proxy-revalidate"].iter().any(|dropped| name.eq_ignore_ascii_case(dropped)) {
                kept.push(directive);
            }
        }
    }
    if !no_store {
        kept.insert(0, b"private");
    }
    HeaderValue::from_bytes(&kept.join(&b", "[..])).unwrap_or(HeaderValue::from_static("no-store"))
}

/// The directives of one field value; a comma inside quotes does not part them.
fn directives(value: &[u8]) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |byte| {
            let parts = *byte == b',' && !quoted;
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            parts
        })
        .map(<[u8]>::trim_ascii)
        .filter(|directive| !directive.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a 401 is on the gateway's credential.
    const REFUSED: Reader = Reader { private: false, rpt_header: None, own_login: false };

    fn head(status: u16, fields: &[(&str, &str)]) -> response::Parts {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn relayed(fields: &[(&str, &str)], private: bool) -> HeaderMap {
        relay(head(200, fields), Reader { private, ..REFUSED }).unwrap().headers
    }

    #[test]
    fn fields_of_the_connection_and_of_our_credential_stay_here() {
        let headers = relayed(
            &[
                ("Connection", "X-Hop, keep-alive"),
                ("connection", "x-other"),
                ("X-Hop", "1"),
                ("X-Other", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Proxy-Connection", "keep-alive"),
                ("Transfer-Encoding", "chunked"),
                ("Upgrade", "h2c"),
                ("TE", "trailers"),
                ("WWW-Authenticate", "Basic realm=\"inner\""),
                ("Proxy-Authenticate", "Basic"),
                ("Authentication-Info", "nextnonce=\"x\""),
                ("ETag", "\"1\""),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
            ],
            false,
        );
        let left: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(left, ["etag: \"1\"", "set-cookie: a=1", "set-cookie: b=2"]);
    }

    #[test]
    fn no_answer_names_another_file_for_a_server_in_front_to_serve() {
        for name in [
            "X-Accel-Redirect",
            "X-LIGHTTPD-send-file",
            "X-LIGHTTPD-send-tempfile",
            "X-LiteSpeed-Location",
            "X-Reproxy-URL",
            "X-Reproxy-File",
            "X-Reproxy-Service",
            "X-Sendfile",
            "X-Sendfile2",
            "X-SENDFILE-TEMPORARY",
            "Gitlab-Workhorse-Send-Data",
        ] {
            assert_eq!(relayed(&[(name, "/etc/passwd")], false).len(), 0, "{name}");
        }
    }

    #[test]
    fn what_connection_names_is_read_by_octets() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_bytes(b"\xff, X-Hop ,\xfe").unwrap());
        assert_eq!(named_by_connection(&headers), ["x-hop"]);
    }

    #[test]
    fn an_answer_with_two_readings_is_refused() {
        let table: &[&[(&str, &str)]] = &[
            &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
            &[("Content-Length", "5"), ("Content-Length", "6")],
            &[("Content-Length", "5"), ("Content-Length", "5")],
            &[("Content-Length", "5, 5")],
            &[("Content-Length", "+5")],
            &[("Content-Length", "")],
            &[("Transfer-Encoding", "gzip, chunked")],
            &[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
            &[("Transfer-Encoding", "xchunked")],
            &[("Transfer-Encoding", "identity")],
        ];
        for fields in table {
            assert!(matches!(relay(head(200, fields), REFUSED), Err(UpstreamError::Answer(_))), "{fields:?}");
        }
    }

    #[test]
    fn only_final_statuses_are_relayed() {
        for status in [101, 100, 103, 199, 600, 999] {
            assert!(matches!(relay(head(status, &[]), REFUSED), Err(UpstreamError::Answer(_))), "{status}");
        }
        for status in [401, 407] {
            assert!(matches!(relay(head(status, &[]), REFUSED), Err(UpstreamError::CredentialRefused)), "{status}");
        }
        for status in [200, 204, 206, 304, 403, 404, 500, 599] {
            assert!(relay(head(status, &[]), REFUSED).is_ok(), "{status}");
        }
    }

    #[test]
    fn a_login_of_the_applications_own_poses_as_none_of_ours() {
        let kept = |challenge: &str, private| {
            let relayed = relay(head(401, &[("WWW-Authenticate", challenge)]), Reader { private, own_login: true, ..REFUSED }).unwrap();
            relayed.headers.contains_key(WWW_AUTHENTICATE)
        };
        for challenge in ["Basic realm=\"a\"", "Digest realm=\"bearers\"", "Negotiate", "X-UMA a=1", "Basic realm=\"umag\""] {
            assert!(kept(challenge, true) && kept(challenge, false), "{challenge}");
        }
        for challenge in
            ["Bearer", "UMA a=1", "dPoP algs=\"x\"", "Basic realm=\"a\",uma", "Basic realm=\"a\" , BEARER b=1", "Basic realm=\"\\\", Bearer\"", "a=\"uma\""]
        {
            assert!(!kept(challenge, true) && kept(challenge, false), "{challenge}");
        }
        let own_login = Reader { own_login: true, ..REFUSED };
        assert!(matches!(relay(head(407, &[]), own_login.clone()), Err(UpstreamError::CredentialRefused)));
        assert!(!relay(head(200, &[("WWW-Authenticate", "Basic")]), own_login).unwrap().headers.contains_key(WWW_AUTHENTICATE));
    }

    #[test]
    fn answers_without_a_body_have_no_length() {
        for status in [204, 304] {
            assert!(!relay(head(status, &[("Content-Length", "5")]), REFUSED).unwrap().headers.contains_key(CONTENT_LENGTH), "{status}");
        }
    }

    /// What shared caches read before Cache-Control.
    const SHARED: [&str; 5] = ["CDN-Cache-Control", "Surrogate-Control", "X-Accel-Expires", "Edge-Control", "X-LiteSpeed-Cache-Control"];

    #[test]
    fn a_protected_answer_is_private_whatever_the_upstream_says() {
        let table = [
            (&[][..], "private"),
            (&["public, max-age=60"], "private, max-age=60"),
            (&["PUBLIC", "s-maxage=5,max-age=60"], "private, max-age=60"),
            (&["private=\"x-a, x-b\", max-age=1"], "private, max-age=1"),
            (&["no-cache=\"a, public\", s-maxage = 4"], "private, no-cache=\"a, public\""),
            (&["no-store"], "no-store"),
            (&["private"], "private"),
            (&["proxy-revalidate, must-revalidate"], "private, must-revalidate"),
        ];
        for (given, expected) in table {
            let fields: Vec<_> = given.iter().map(|value| ("Cache-Control", *value)).chain(SHARED.map(|name| (name, "60"))).collect();
            let headers = relayed(&fields, true);
            let values: Vec<_> = headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(values, [expected], "{given:?}");
            assert_eq!(headers.get(VARY).unwrap(), "Authorization");
            assert_eq!(headers.len(), 2);
        }
    }

    #[test]
    fn vary_gains_authorization_once() {
        for (given, expected) in [("Accept", &["Accept", "Authorization"][..]), ("accept, AUTHORIZATION", &["accept, AUTHORIZATION"]), ("*", &["*"])] {
            let headers = relayed(&[("Vary", given)], true);
            assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn vary_names_the_header_of_old_clients_tokens_too() {
        for (given, expected) in [
            ("Accept", &["Accept", "Authorization", "x-frdp-rpt"][..]),
            ("authorization", &["authorization", "x-frdp-rpt"]),
            ("X-FRDP-RPT", &["X-FRDP-RPT", "Authorization"]),
            ("*", &["*"]),
        ] {
            let reader = Reader { private: true, rpt_header: Some(HeaderName::from_static("x-frdp-rpt")), ..REFUSED };
            let headers = relay(head(200, &[("Vary", given)]), reader).unwrap().headers;
            assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_public_answer_keeps_its_caching() {
        let headers = relayed(&[("Cache-Control", "public, s-maxage=5"), ("X-Accel-Expires", "60")], false);
        assert_eq!(headers.get(CACHE_CONTROL).unwrap(), "public, s-maxage=5");
        assert_eq!(headers.get("x-accel-expires").unwrap(), "60");
        assert!(!headers.contains_key(VARY));
    }
}
