//! The request as the upstream gets it. Only this room makes one, so nothing reaches an upstream with a head that was not built here.

use std::sync::Arc;

use http::HeaderName;

use crate::body::Body;
use crate::telemetry::Recorder;

/// Marks, among a head's extensions, a gRPC call: where the server is asked over HTTP/2, its body may take long and end in trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call(pub(super) ());

/// A request that may leave: its head was built by [`super::outbound_head`], the proxy credential is in it.
pub struct Outbound<S>(OutboundParts<S>);

/// What an [`Outbound`] is made of.
pub struct OutboundParts<S> {
    /// Method, target and every header but, with `host: upstream`, the `Host`. Nothing of the client's own credential is left.
    pub head: http::request::Parts,
    /// The client's body, unread.
    pub body: Body,
    /// The upstream's place in the snapshot's list.
    pub upstream: usize,
    /// Not everyone may pass: the answer must not be kept by a cache that others share (RFC 9111, 3.5).
    pub private: bool,
    /// The header besides `Authorization` in which the token may have come: the answer depends on it (RFC 9110, 12.5.5).
    pub rpt_header: Option<HeaderName>,
    /// Whether a 401 is the application's word to its own users: the gateway has put no credential on the request that could be meant.
    pub own_login: bool,
    /// The request's record.
    pub recorder: Recorder,
    /// The snapshot that the request carries.
    pub snapshot: Arc<S>,
}

impl<S> Outbound<S> {
    /// A request that may leave. Callers outside this room do not exist.
    pub(super) const fn new(parts: OutboundParts<S>) -> Self {
        Self(parts)
    }

    /// A request that everyone may send to the first upstream, for tests of the rooms to the left.
    #[cfg(test)]
    pub(crate) const fn for_tests(head: http::request::Parts, body: Body, recorder: Recorder, snapshot: Arc<S>) -> Self {
        Self(OutboundParts { head, body, upstream: 0, private: false, rpt_header: None, own_login: false, recorder, snapshot })
    }

    /// Takes it apart; there is no way back.
    #[must_use]
    pub fn into_parts(self) -> OutboundParts<S> {
        self.0
    }
}

impl<S> std::fmt::Debug for Outbound<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The head holds the proxy credential.
        f.debug_struct("Outbound").field("method", &self.0.head.method).field("upstream", &self.0.upstream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RequestId;

    #[test]
    fn an_outbound_request_shows_where_it_goes_and_no_credential() {
        let (head, ()) = http::Request::put("/a").header("authorization", "Basic Z2F0ZXdheTp4").body(()).unwrap().into_parts();
        let recorder = Recorder::new(RequestId("1".into()), http::Method::PUT, None, "http");
        let outbound = Outbound::new(OutboundParts {
            head,
            body: Body::empty(),
            upstream: 7,
            private: true,
            rpt_header: None,
            own_login: false,
            recorder,
            snapshot: Arc::new(()),
        });
        assert_eq!(format!("{outbound:?}"), "Outbound { method: PUT, upstream: 7, .. }");
    }
}
