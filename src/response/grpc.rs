//! Rejections as a gRPC client reads them: HTTP 200 and the status in `grpc-status`, all in one head ("Trailers-Only").
//!
//! A gRPC client looks at an HTTP status only where it finds no `grpc-status`, and makes one of its own of it. Fields that other clients read stay, so
//! `WWW-Authenticate` still brings the ticket. Nothing here decides anything.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, request};

use super::Rejection;
use crate::body::Body;

const GRPC: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a head begins a gRPC call: POST over HTTP/2 with `application/grpc`, `application/grpc+proto` and the like. gRPC-Web is another protocol.
#[must_use]
pub fn is_grpc(head: &request::Parts) -> bool {
    let of_grpc = |value: &HeaderValue| {
        let value = value.as_bytes();
        let named = value.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC.as_bytes()));
        named && matches!(value.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
    };
    head.version == Version::HTTP_2 && head.method == Method::POST && head.headers.get(CONTENT_TYPE).is_some_and(of_grpc)
}

/// The `grpc-status` of a head: a call that ended before its first message has it there ("Trailers-Only").
#[must_use]
pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// The code of a rejection (gRPC, "Status codes and their use", and the mapping of HTTP statuses).
const fn code(status: StatusCode) -> u8 {
    match status {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => 12,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 8,
        StatusCode::MISDIRECTED_REQUEST | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => 14,
        StatusCode::REQUEST_TIMEOUT => 4,
        // INTERNAL, for requests that are wrong as well: so says the mapping for 400.
        _ => 13,
    }
}

/// Turns the answer to a rejection into the one that a gRPC client reads.
pub(super) fn translate(rejection: &Rejection, mut response: Response<Body>) -> Response<Body> {
    *response.body_mut() = Body::empty();
    let code = code(response.status());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
    // A constant of ours in plain ASCII, so nothing is escaped.
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(rejection.words().2));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Asked;

    fn head(version: Version, method: Method, kind: &'static str) -> request::Parts {
        http::Request::builder().version(version).method(method).header(CONTENT_TYPE, kind).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_call_is_told_from_what_only_looks_like_one() {
        for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC;x=y"] {
            assert!(is_grpc(&head(Version::HTTP_2, Method::POST, kind)), "{kind}");
            assert!(!is_grpc(&head(Version::HTTP_11, Method::POST, kind)), "{kind}");
            assert!(!is_grpc(&head(Version::HTTP_2, Method::GET, kind)), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpcx", "application/json"] {
            assert!(!is_grpc(&head(Version::HTTP_2, Method::POST, kind)), "{kind}");
        }
    }

    #[test]
    fn a_challenge_keeps_its_ticket_and_says_unauthenticated() {
        let challenge = HeaderValue::from_static("UMA realm=\"photoz\", ticket=\"t\"");
        let rejection = Rejection::PermissionRequired { challenge: challenge.clone(), open_with: None, body: None, forbidden: false };
        let answer = translate(&rejection, rejection.clone().into_response(Asked::default()));
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "16");
        assert_eq!(answer.headers()["www-authenticate"], challenge);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert!(answer.body().is_empty());
    }
}
