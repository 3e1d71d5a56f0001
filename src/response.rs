//! The closed list of answers that the gateway itself gives, and the only place that knows their status codes.
//!
//! A [`Rejection`] is a value that any layer returns as its error; [`Rejection::into_response`] writes it as `problem+json` (RFC 9457),
//! or as a small HTML page for a browser that navigates. Bodies are fixed: no target, token, upstream address or library message is in them.

mod grpc;
mod layer;
mod origins;
mod page;
mod row;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::body::Body;
use crate::secret::Secret;

pub use grpc::{grpc_status, is_grpc};
pub use layer::{Rejecting, RejectingFuture, RejectionLayer};
pub(crate) use page::escape as escape_html;
pub use row::{Row, Trail};

/// The header that carries the request id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// UMA 2.0 Grant, 3.2.2: the text is fixed by the specification.
const UNREACHABLE_WARNING: HeaderValue = HeaderValue::from_static("199 - \"UMA Authorization Server Unreachable\"");

/// What a token presented in a wrong way is told (RFC 6750, 3.1).
const INVALID_REQUEST: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_request\"");
const INVALID_TOKEN: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");

/// What a guard asks for (RFC 7617, 2; RFC 6750, 3).
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"content\", charset=\"UTF-8\"");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"content\"");

/// Every answer of the gateway's own.
#[derive(Clone, Debug)]
pub enum Rejection {
    /// The message is malformed or can be read in two ways. The text is a constant, for the audit line only.
    Malformed(&'static str),
    /// The authority is not served here.
    Misdirected,
    /// The path is refused; the text says why, for the audit line and `explain` only.
    UnsafePath(&'static str),
    /// TRACE or CONNECT; the value lists what is let pass instead.
    MethodRefused(HeaderValue),
    /// No route leads on.
    NoRoute,
    /// The route does not map this method; the value lists those that it maps.
    MethodNotMapped(HeaderValue),
    /// The route leads to no resource that the authorization server knows.
    NoResource,
    /// Two tokens in one request.
    SeveralTokens,
    /// A token that is empty, malformed or too long.
    MalformedToken,
    /// A token in the query.
    TokenInQuery,
    /// 401 with a permission ticket: the whole field value, `UMA realm=…, ticket="…"`, marked sensitive.
    PermissionRequired {
        /// The value of `WWW-Authenticate`.
        challenge: HeaderValue,
        /// `https://…` of the client application, for the page of a navigating browser.
        open_with: Option<String>,
        /// What clients of UMA 1.0 read in the place of the problem: JSON with the ticket.
        body: Option<Box<Secret>>,
        /// 403, as UMA 1.0 has it for a token that lacks a permission, and not 401.
        forbidden: bool,
    },
    /// At a plain OAuth server: no token, one that is not valid, or one without a scope.
    TokenRequired {
        /// The value of `WWW-Authenticate`: `Bearer realm=…, error=…, scope=…`.
        challenge: HeaderValue,
        /// A scope is missing: 403.
        insufficient: bool,
    },
    /// The token is bound to a key or certificate that is not checked here.
    SenderConstraint,
    /// A guard: no credential of the scheme that it asks for.
    CredentialRequired(AuthScheme),
    /// A guard: the credential is not accepted. The text says why, for the audit line only.
    CredentialRefused(AuthScheme, &'static str),
    /// A guard: the connection has no client certificate that is accepted.
    CertificateRefused,
    /// No ticket can be had, or the token cannot be judged (row UNR of the table).
    Unreachable {
        /// The row that led here.
        row: Row,
        /// The status: 403 or 503.
        status: UnreachableStatus,
    },
    /// The client asks for more tickets than the limit.
    TooManyTickets(Duration),
    /// The client makes more introspections than the limit, or was wrong at guards as often.
    TooManyIntrospections(Duration),
    /// The upstream refused the gateway's own credential.
    UpstreamCredentialRefused,
    /// The upstream cannot be reached or does not speak HTTP.
    BadUpstream,
    /// The upstream does not answer in time.
    UpstreamTimeout,
    /// No room for another request.
    Overloaded,
    /// The proxy credential cannot be had.
    CredentialUnavailable,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The target is longer than the limit.
    TargetTooLong,
    /// Something that is not built.
    NotImplemented(&'static str),
    /// The request came through this gateway before.
    Loop,
    /// The gateway failed.
    Internal,
}

/// How a credential is shown to a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    /// RFC 7617.
    Basic,
    /// RFC 6750.
    Bearer,
}

/// The two statuses of an authorization server that cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreachableStatus {
    /// 403, as the specification's example.
    Forbidden,
    /// 503 with `Retry-After`: an outage looks like one.
    Unavailable,
}

/// What the writer of an answer must know of the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The request's id.
    pub id: &'a str,
    /// A HEAD request gets no body.
    pub head: bool,
    /// A browser that navigates (`Accept: text/html`) gets a page.
    pub navigates: bool,
}

impl Rejection {
    /// The row of the decision table that this answer belongs to.
    #[must_use]
    pub const fn row(&self) -> Row {
        match self {
            Self::Malformed(_) => Row::D1,
            Self::Misdirected => Row::D2,
            Self::UnsafePath(_) => Row::D3,
            Self::MethodRefused(_) => Row::D5,
            Self::NoRoute => Row::D7,
            Self::MethodNotMapped(_) => Row::D9,
            Self::NoResource => Row::D10,
            Self::SeveralTokens => Row::D12,
            Self::MalformedToken => Row::D13,
            Self::TokenInQuery => Row::D14,
            Self::PermissionRequired { .. } => Row::C3,
            Self::TokenRequired { .. } => Row::O1,
            Self::SenderConstraint => Row::E5,
            Self::CredentialRequired(_) => Row::G1,
            Self::CredentialRefused(..) => Row::G2,
            Self::CertificateRefused => Row::G3,
            Self::Unreachable { row, .. } => *row,
            Self::TooManyTickets(_) => Row::C1,
            Self::TooManyIntrospections(_) => Row::I3b,
            Self::UpstreamCredentialRefused => Row::U2,
            Self::BadUpstream => Row::U3,
            Self::UpstreamTimeout => Row::U4,
            Self::Overloaded => Row::U5,
            Self::CredentialUnavailable => Row::U7,
            Self::RequestTimeout => Row::H408,
            Self::BodyTooLarge => Row::H413,
            Self::TargetTooLong => Row::H414,
            Self::NotImplemented(_) => Row::H501,
            Self::Loop => Row::H508,
            Self::Internal => Row::H500,
        }
    }

    /// The status code.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::UnsafePath(_) | Self::SeveralTokens | Self::MalformedToken | Self::TokenInQuery => StatusCode::BAD_REQUEST,
            Self::PermissionRequired { forbidden: true, .. } | Self::TokenRequired { insufficient: true, .. } => StatusCode::FORBIDDEN,
            Self::PermissionRequired { .. } | Self::TokenRequired { .. } | Self::SenderConstraint => StatusCode::UNAUTHORIZED,
            Self::CredentialRequired(_) | Self::CredentialRefused(..) => StatusCode::UNAUTHORIZED,
            Self::Unreachable { status: UnreachableStatus::Forbidden, .. } | Self::CertificateRefused => StatusCode::FORBIDDEN,
            Self::NoRoute | Self::NoResource => StatusCode::NOT_FOUND,
            Self::MethodRefused(_) | Self::MethodNotMapped(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::TooManyTickets(_) | Self::TooManyIntrospections(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::UpstreamCredentialRefused | Self::BadUpstream => StatusCode::BAD_GATEWAY,
            Self::Unreachable { status: UnreachableStatus::Unavailable, .. } | Self::Overloaded | Self::CredentialUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
        }
    }

    /// The last part of the problem's `type` (`urn:uma-gateway:…`): constant for each kind of answer.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.words().0
    }

    /// Whether the connection must not be used again: the next message's start is not certain.
    #[must_use]
    pub const fn closes(&self) -> bool {
        matches!(self, Self::Malformed(_) | Self::RequestTimeout | Self::BodyTooLarge | Self::TargetTooLong | Self::Internal)
    }

    /// A constant text for the audit line and `explain`: why, where the answer itself does not say it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(why) | Self::UnsafePath(why) | Self::NotImplemented(why) | Self::CredentialRefused(_, why) => why,
            _ => self.words().1,
        }
    }

    /// Problem type, title and detail.
    const fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Malformed(_) => ("malformed-request", "Malformed request", "The request cannot be read in one way only."),
            Self::Misdirected => ("misdirected-request", "Misdirected request", "This address does not serve that host."),
            Self::UnsafePath(_) => ("unsafe-path", "Path refused", "The path can be read in more than one way. Ask for its plain form."),
            Self::MethodRefused(_) => ("method-refused", "Method not allowed", "This method is never forwarded."),
            Self::NoRoute => ("no-route", "Not found", "Nothing is served here."),
            Self::MethodNotMapped(_) => ("method-not-mapped", "Method not allowed", "This method is not offered here; Allow lists those that are."),
            Self::NoResource => ("no-resource", "Not found", "Nothing is shared here."),
            Self::SeveralTokens => ("several-tokens", "More than one token", "Present one token, once, in the Authorization header."),
            Self::MalformedToken => ("malformed-token", "Malformed token", "Present the token as: Authorization: Bearer, one space, the token."),
            Self::TokenInQuery => ("token-in-query", "Token in the address", "Present the token in the Authorization header, not in the address."),
            Self::PermissionRequired { .. } => {
                ("permission-required", "Permission required", "Trade the ticket for a requesting party token at the authorization server, then ask again.")
            }
            Self::TokenRequired { insufficient: false, .. } => {
                ("token-required", "Token required", "Present a valid access token in the Authorization header.")
            }
            Self::TokenRequired { .. } => ("insufficient-scope", "Insufficient scope", "The token lacks a scope; WWW-Authenticate names what is needed."),
            Self::SenderConstraint => {
                ("sender-constrained-token", "Token is bound to a key", "This token is bound to a key or certificate, which is not accepted here.")
            }
            Self::CredentialRequired(_) => ("credential-required", "Credential required", "This server answers its gateway only. Ask the gateway."),
            Self::CredentialRefused(..) => {
                ("credential-refused", "Credential refused", "This server answers its gateway only, and this is not its credential.")
            }
            Self::CertificateRefused => ("certificate-refused", "Certificate refused", "This server answers its gateway only, by its certificate."),
            Self::Unreachable { row: Row::C4, .. } => {
                ("unknown-resource", "Resource unknown", "The authorization server does not know this resource any more. Ask again later, or ask its owner.")
            }
            Self::Unreachable { .. } => {
                ("as-unreachable", "Authorization server unreachable", "The authorization server cannot be asked now. Try again later.")
            }
            Self::TooManyTickets(_) | Self::TooManyIntrospections(_) => {
                ("too-many-requests", "Too many requests", "Too many requests from this address. Try again later.")
            }
            Self::UpstreamCredentialRefused => ("upstream-refused-gateway", "Bad gateway", "The content server does not accept this gateway."),
            Self::BadUpstream => ("bad-upstream", "Bad gateway", "The content server cannot be reached or gave no valid answer."),
            Self::UpstreamTimeout => ("upstream-timeout", "Gateway timeout", "The content server did not answer in time."),
            Self::Overloaded => ("overloaded", "Service unavailable", "The gateway is busy. Try again later."),
            Self::CredentialUnavailable => {
                ("proxy-credential-unavailable", "Service unavailable", "The gateway has no credential for the content server now. Try again later.")
            }
            Self::RequestTimeout => ("request-timeout", "Request timeout", "The request did not arrive in time."),
            Self::BodyTooLarge => ("body-too-large", "Content too large", "The body is larger than is accepted here."),
            Self::TargetTooLong => ("target-too-long", "Address too long", "The address is longer than is accepted here."),
            Self::NotImplemented(_) => ("not-implemented", "Not implemented", "The gateway does not do this."),
            Self::Loop => ("loop-detected", "Loop detected", "This request has come through this gateway before."),
            Self::Internal => ("internal-error", "Internal error", "The gateway failed to answer."),
        }
    }

    /// The answer on the wire. Every answer of ours says `no-store` and carries the request's id.
    #[must_use]
    pub fn into_response(self, asked: Asked<'_>) -> Response<Body> {
        let (body, content_type) = match (&self, asked.navigates) {
            (Self::PermissionRequired { body: Some(body), .. }, false) => (body.expose().to_owned(), "application/json"),
            (Self::PermissionRequired { open_with, .. }, true) => (page::permission_required(asked.id, open_with.as_deref()), "text/html; charset=utf-8"),
            _ => (self.problem(asked.id), "application/problem+json"),
        };
        let mut response = Response::new(if asked.head { Body::empty() } else { Body::full(Bytes::from(body)) });
        *response.status_mut() = self.status();
        let closes = self.closes();
        let headers = response.headers_mut();
        if !asked.head {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(asked.id) {
            headers.insert(X_REQUEST_ID, id);
        }
        if closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match self {
            Self::PermissionRequired { challenge, .. } | Self::TokenRequired { challenge, .. } => {
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            Self::SeveralTokens | Self::MalformedToken | Self::TokenInQuery => {
                headers.insert(WWW_AUTHENTICATE, INVALID_REQUEST);
            }
            Self::SenderConstraint | Self::CredentialRefused(AuthScheme::Bearer, _) => {
                headers.insert(WWW_AUTHENTICATE, INVALID_TOKEN);
            }
            Self::CredentialRequired(AuthScheme::Basic) | Self::CredentialRefused(AuthScheme::Basic, _) => {
                headers.insert(WWW_AUTHENTICATE, BASIC);
            }
            Self::CredentialRequired(AuthScheme::Bearer) => {
                headers.insert(WWW_AUTHENTICATE, BEARER);
            }
            Self::MethodNotMapped(allow) | Self::MethodRefused(allow) => {
                headers.insert(ALLOW, allow);
            }
            Self::TooManyTickets(after) | Self::TooManyIntrospections(after) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
            }
            Self::Unreachable { status, .. } => {
                headers.insert(WARNING, UNREACHABLE_WARNING);
                if status == UnreachableStatus::Unavailable {
                    headers.insert(RETRY_AFTER, HeaderValue::from(5u64));
                }
            }
            Self::Overloaded | Self::CredentialUnavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1u64));
            }
            _ => {}
        }
        response
    }

    fn problem(&self, id: &str) -> String {
        let (kind, title, detail) = self.words();
        let status = self.status().as_u16();
        // Every part is a constant or the gateway's own id, so nothing needs escaping.
        format!(
            "{{\"type\":\"urn:uma-gateway:{kind}\",\"title\":\"{title}\",\"status\":{status},\n \"detail\":\"{detail}\",\n \"instance\":\"urn:uma-gateway:request:{id}\"}}\n"
        )
    }
}
