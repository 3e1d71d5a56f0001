//! What may stand in a trailer section.
//!
//! A careless reader puts trailers among the fields of the head. So nothing may come in them that means something there: what frames a message or concerns a
//! connection, who asks and what is allowed, how the content is to be read or kept (RFC 9110, 6.5.1), and what gateways set. All else is the two ends' own.

use http::{HeaderMap, HeaderName};

/// Names of a head, in the order of the alphabet.
const HEAD_ONLY: [&str; 71] = [
    "age",
    "allow",
    "alt-svc",
    "alt-used",
    "authentication-info",
    "authorization",
    "baggage",
    "cache-control",
    "clear-site-data",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-security-policy-report-only",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "destination",
    "dpop",
    "early-data",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "http2-settings",
    "keep-alive",
    "link",
    "location",
    "max-forwards",
    "nel",
    "origin",
    "permissions-policy",
    "pragma",
    "prefer",
    "priority",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "referrer-policy",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "retry-after",
    "server",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "sourcemap",
    "strict-transport-security",
    "surrogate-control",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-request-id",
];

/// Beginnings of such names.
const FAMILIES: [&str; 11] =
    ["accept", "access-control-", "cross-origin-", "if-", "proxy-", "sec-", "x-accel-", "x-content-type-", "x-forwarded-", "x-frame-", "x-sendfile"];

/// Takes out of a trailer section what may not stand in one, and what does not `pass`.
pub fn clean_trailers(trailers: &mut HeaderMap, passes: impl Fn(&HeaderName) -> bool) {
    let others: Vec<HeaderName> = trailers.keys().filter(|name| !may_trail(name) || !passes(name)).cloned().collect();
    for name in others {
        trailers.remove(name);
    }
}

/// Whether a field with this name may go on in a trailer section.
fn may_trail(name: &HeaderName) -> bool {
    let name = name.as_str();
    HEAD_ONLY.binary_search(&name).is_err() && !FAMILIES.iter().any(|family| name.starts_with(family)) && !name.ends_with("-cache-control")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_stand_in_order_and_what_sums_up_a_body_may_follow_it() {
        assert!(HEAD_ONLY.is_sorted());
        for name in ["content-digest", "repr-digest", "digest", "etag", "server-timing", "signature", "grpc-status", "grpc-message", "x-checksum"] {
            assert!(may_trail(&HeaderName::from_static(name)), "{name}");
        }
        for name in HEAD_ONLY.into_iter().chain(["cdn-cache-control", "if-none-match", "access-control-allow-origin", "sec-websocket-accept"]) {
            assert!(!may_trail(&HeaderName::from_static(name)), "{name}");
        }
    }
}
