//! Admission: what two servers could read differently is refused before anything else looks at the request.
//!
//! hyper has already refused what is not HTTP at all: bytes outside tokens in names, control characters in values, folded lines, a space before a colon,
//! transfer codings that do not end in `chunked` or come with HTTP/1.0, lengths that differ, too many or too long fields. It lets through, so it is
//! checked here: two Hosts or none, Hosts that are no host, lower-case methods, codings in front of `chunked`, lengths with odd digits, every path.
//! It also settles three things silently, and `head` shows no trace of them: beside a Transfer-Encoding it drops Content-Length, of equal lengths it keeps
//! one, and it cuts a target at `#`. The listener sees them in the bytes, and they come here as the request's `refusal`.
//!
//! Over HTTP/2 h2 refuses, beside all that RFC 9113 calls malformed, every field that concerns a connection. The authority is `:authority`, and a `Host`
//! beside it names the same; the crumbs of a cookie are put together again.
//!
//! The result is [`Admitted`]; the raw target and the raw Host end here. Nothing here reads a body or knows a route.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, TRANSFER_ENCODING, USER_AGENT, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::authority::Authority;
use super::request::{Peer, Request};
use super::upgrade::extended;
use crate::body::{Body, is_length};
use crate::holes::{Hole, open};
use crate::path::{CanonicalPath, PathProblem, Query};
use crate::response::Rejection;
use crate::telemetry::{LONGEST_METHOD, Recorder};

/// Longest request target in bytes.
pub const MAX_TARGET: usize = 8 * 1024;
/// Digits that a length may have: more are zeros in front.
const MAX_LENGTH_DIGITS: usize = 19;
/// How much of a User-Agent is kept.
const MAX_USER_AGENT: usize = 256;

/// A request that has one reading.
#[derive(Debug)]
pub struct Admitted {
    /// Method, version and headers; the target and `Host` are taken out.
    pub(super) head: http::request::Parts,
    pub(super) body: Body,
    pub(super) path: CanonicalPath,
    pub(super) query: Option<Query>,
    pub(super) authority: Authority,
    pub(super) peer: Peer,
    pub(super) recorder: Recorder,
}

/// Admits a request or refuses it; `pseudonym` is this gateway's name in `Via`.
///
/// # Errors
/// The answer of rows D1, D2, D3, D5, or of 414, 501, 508.
pub fn admit(request: Request, pseudonym: &str) -> Result<Admitted, Rejection> {
    let Request { mut head, body, peer, refusal, recorder } = request;
    note_user_agent(&head.headers, &recorder);
    if let Some(rejection) = refusal {
        return Err(rejection);
    }
    method(&head.method)?;
    framing(&head.headers, head.version)?;
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers)?;
    }
    let authority = host(&head)?;
    recorder.with(|record| record.host = Some(Arc::clone(authority.text())));
    if !peer.hosts.serves(authority.host()) {
        return Err(Rejection::Misdirected);
    }
    if head.method == Method::CONNECT {
        extended(&mut head)?;
    }
    let (path, query) = target(&head.uri, &authority)?;
    recorder.with(|record| record.path = Some(path.as_str().into()));
    expectation(&head.headers, head.version)?;
    if came_through(&head.headers, pseudonym) {
        return Err(Rejection::Loop);
    }
    if !open(Hole::RawPathForwarded) {
        head.uri = Uri::default();
    }
    head.headers.remove(HOST);
    Ok(Admitted { head, body, path, query, authority, peer, recorder })
}

/// Methods are case-sensitive tokens (RFC 9110, 9.1), and every registered one is upper case: `get` is no method, but some servers take it for GET.
fn method(method: &Method) -> Result<(), Rejection> {
    let name = method.as_str();
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) && !open(Hole::MethodsInAnyCase) {
        return Err(Rejection::Malformed("the method is not in upper case"));
    }
    if name.len() > LONGEST_METHOD {
        return Err(Rejection::Malformed("the method is too long"));
    }
    Ok(())
}

/// Where the message ends must be said once and in one way (RFC 9112, 6).
fn framing(headers: &HeaderMap, version: Version) -> Result<(), Rejection> {
    if !matches!(version, Version::HTTP_2 | Version::HTTP_11 | Version::HTTP_10) {
        return Err(Rejection::Malformed("the HTTP version is not served"));
    }
    let length = single(headers, &CONTENT_LENGTH, "Content-Length stands twice")?;
    let coding = single(headers, &TRANSFER_ENCODING, "Transfer-Encoding stands twice")?;
    match (length, coding) {
        (Some(_), Some(_)) => Err(Rejection::Malformed("Content-Length and Transfer-Encoding contradict each other")),
        (Some(length), None) => {
            if length.len() <= MAX_LENGTH_DIGITS && is_length(length) {
                Ok(())
            } else {
                Err(Rejection::Malformed("Content-Length is not a length"))
            }
        }
        // h2 lets none through; were there one, it would mean nothing.
        (None, Some(_)) if version == Version::HTTP_2 => Err(Rejection::Malformed("HTTP/2 has no Transfer-Encoding")),
        (None, Some(_)) if version == Version::HTTP_10 => Err(Rejection::Malformed("HTTP/1.0 has no Transfer-Encoding")),
        (None, Some(coding)) => transfer_coding(coding),
        (None, None) => Ok(()),
    }
}

fn transfer_coding(coding: &HeaderValue) -> Result<(), Rejection> {
    let value = coding.as_bytes();
    if value.eq_ignore_ascii_case(b"chunked") || open(Hole::CodingsPassed) {
        return Ok(());
    }
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).rev();
    let chunked_last = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    let known = |coding: &[u8]| [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"].iter().any(|known| coding.eq_ignore_ascii_case(known));
    let mut before = codings.peekable();
    if chunked_last && before.peek().is_some() && before.all(known) {
        // Well formed and understood, only not built (RFC 9112, 6.1).
        return Err(Rejection::NotImplemented("a transfer coding other than chunked"));
    }
    Err(Rejection::Malformed("Transfer-Encoding is not chunked"))
}

/// Exactly one Host that is a host, with HTTP/1.0 too: without one there is no saying which route is meant. Over HTTP/2 `:authority` stands for it
/// (RFC 9113, 8.3.1); where both are there, [`target`] compares them.
fn host(head: &http::request::Parts) -> Result<Authority, Rejection> {
    let value = match (single(&head.headers, &HOST, "Host stands twice")?, head.uri.authority()) {
        (Some(host), _) => host.as_bytes(),
        (None, Some(authority)) if head.version == Version::HTTP_2 => authority.as_str().as_bytes(),
        (None, _) => return Err(Rejection::Malformed("Host is missing")),
    };
    Authority::parse(value).map_err(|problem| Rejection::Malformed(problem.reason()))
}

/// HTTP/2 may send a cookie in crumbs, which HTTP/1.1 would read as several fields (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Rejection> {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return Ok(());
    }
    let mut whole = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| Rejection::Malformed("Cookie cannot be read"))?;
    whole.set_sensitive(true);
    headers.insert(COOKIE, whole);
    Ok(())
}

/// Origin-form, or absolute-form that names the same authority as Host (RFC 9112, 3.2).
fn target(uri: &Uri, host: &Authority) -> Result<(CanonicalPath, Option<Query>), Rejection> {
    let target = uri.path_and_query().ok_or(Rejection::Malformed("the target is not a path"))?;
    if target.as_str().len().saturating_add(uri.authority().map_or(0, |authority| authority.as_str().len())) > MAX_TARGET {
        return Err(Rejection::TargetTooLong);
    }
    if let Some(authority) = uri.authority() {
        let default_port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(Rejection::Malformed("the target's scheme is not http")),
        };
        let authority = Authority::parse(authority.as_str().as_bytes()).map_err(|problem| Rejection::Malformed(problem.reason()))?;
        if !authority.same_as(host, default_port) {
            return Err(Rejection::Malformed("the target names another authority than Host"));
        }
    }
    if target.query().is_some_and(|query| !query.bytes().all(|byte| matches!(byte, 0x21..=0x7e))) {
        return Err(Rejection::Malformed("the query holds a byte that must be escaped"));
    }
    CanonicalPath::of_target(target).map_err(|problem| match problem {
        PathProblem::NotRooted => Rejection::Malformed("the target is not a path"),
        problem => Rejection::UnsafePath(problem.reason()),
    })
}

/// Only `100-continue` is known (RFC 9110, 10.1.1); HTTP/1.0 has no expectations and they are ignored there.
fn expectation(headers: &HeaderMap, version: Version) -> Result<(), Rejection> {
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if version == Version::HTTP_10 || headers.get_all(EXPECT).iter().all(known) {
        return Ok(());
    }
    Err(Rejection::NotImplemented("an expectation other than 100-continue"))
}

/// Whether `Via` names this gateway (RFC 9110, 7.6.3): protocol, then who received it, then perhaps a comment.
fn came_through(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers.get_all(VIA).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(|member| {
        let mut words = member.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|received_by| received_by.eq_ignore_ascii_case(pseudonym.as_bytes()))
    })
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName, twice: &'static str) -> Result<Option<&'h HeaderValue>, Rejection> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() && !open(Hole::FirstOfTwo) { Err(Rejection::Malformed(twice)) } else { Ok(first) }
}

fn note_user_agent(headers: &HeaderMap, recorder: &Recorder) {
    let Some(value) = headers.get(USER_AGENT) else { return };
    let kept = value.as_bytes().get(..MAX_USER_AGENT).unwrap_or(value.as_bytes());
    let shown = kept.iter().map(|byte| if matches!(byte, 0x20..=0x7e) { *byte } else { b'?' }).collect();
    let text = String::from_utf8(shown).unwrap_or_default();
    recorder.with(|record| record.user_agent = Some(text.into_boxed_str()));
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
