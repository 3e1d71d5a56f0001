//! Protocols that a connection may change to, where its route allows it (RFC 9110, 7.8).

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Version, request};
use hyper::ext::Protocol;

use super::config::RouteConfig;
use crate::body::Body;
use crate::holes::{Hole, open};
use crate::response::Rejection;

/// `Allow` where no resource is named: no method is allowed (RFC 9110, 10.2.1).
pub(super) const NOTHING: HeaderValue = HeaderValue::from_static("");
const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upgrade {
    /// RFC 6455.
    WebSocket,
}

impl Upgrade {
    /// Its name in `Upgrade`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
        }
    }
}

/// Marks, among a head's extensions, a handshake that came as extended CONNECT over HTTP/2 (RFC 8441): it is answered on its stream, and what only one
/// connection's two ends tell each other (`Upgrade`, the key) is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended(());

/// Reads an extended CONNECT as the handshake that it stands for: from here on it is a GET, as over HTTP/1.1, and needs what a GET needs.
///
/// # Errors
/// Row D5 for any other CONNECT, 501 for a protocol that is not known (RFC 8441, 4; RFC 9220, 3).
pub(super) fn extended(head: &mut request::Parts) -> Result<(), Rejection> {
    let protocol = head.extensions.remove::<Protocol>().filter(|_| head.version == Version::HTTP_2).ok_or_else(|| Rejection::MethodRefused(NOTHING))?;
    if !protocol.as_str().eq_ignore_ascii_case(Upgrade::WebSocket.name()) {
        return Err(Rejection::NotImplemented("CONNECT for a protocol other than websocket"));
    }
    head.method = Method::GET;
    head.extensions.insert(Extended(()));
    Ok(())
}

/// The upgrade that a request asks for and its route allows. A request that asks for anything else is an ordinary one: `Upgrade` is an offer that a
/// server may pass over, and the field goes no further.
pub(super) fn asked(head: &request::Parts, body: &Body, route: &RouteConfig) -> Option<Upgrade> {
    if head.extensions.get::<Extended>().is_some() {
        return route.upgrades.contains(&Upgrade::WebSocket).then_some(Upgrade::WebSocket);
    }
    if (route.upgrades.is_empty() && !open(Hole::TunnelOnUpgrade)) || head.version != Version::HTTP_11 || head.method != Method::GET || !body.is_empty() {
        return None;
    }
    let mut offers = head.headers.get_all(UPGRADE).iter();
    let (offer, others) = (offers.next()?, offers.next());
    let named = members(&head.headers).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let once = head.headers.get_all(KEY).iter().count() == 1;
    let wanted = Upgrade::WebSocket;
    let fits = others.is_none() && offer.as_bytes().eq_ignore_ascii_case(wanted.name().as_bytes()) && named && once;
    (fits && (route.upgrades.contains(&wanted) || open(Hole::TunnelOnUpgrade))).then_some(wanted)
}

/// The options of `Connection`.
fn members(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::routing::testing::public;

    #[test]
    fn only_a_whole_handshake_on_a_route_that_allows_it_is_one() {
        let route = RouteConfig { upgrades: vec![Upgrade::WebSocket], ..public(1, "", "/**") };
        let head = |change: &dyn Fn(&mut request::Parts)| {
            let request = Request::get("/").header("Connection", "keep-alive, Upgrade").header("Upgrade", "WebSocket").header("Sec-WebSocket-Key", "x");
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            change(&mut head);
            asked(&head, &Body::empty(), &route)
        };
        assert_eq!(head(&|_| ()), Some(Upgrade::WebSocket));
        assert_eq!(head(&|head| head.method = Method::POST), None);
        assert_eq!(head(&|head| head.version = Version::HTTP_10), None);
        assert_eq!(head(&|head| head.version = Version::HTTP_2), None);
        for (name, value) in [("upgrade", "h2c"), ("upgrade", "websocket, h2c"), ("upgrade", "web socket"), ("connection", "close"), ("connection", "")] {
            let name = HeaderName::from_static(name);
            assert_eq!(head(&|head| drop(head.headers.insert(name.clone(), value.parse().unwrap()))), None, "{name}: {value}");
        }
        assert_eq!(head(&|head| drop(head.headers.remove(KEY))), None);
        assert_eq!(head(&|head| assert!(head.headers.append(UPGRADE, "h2c".parse().unwrap()))), None);
        let (head, ()) = Request::get("/").header("Connection", "Upgrade").header("Upgrade", "websocket").header(KEY, "x").body(()).unwrap().into_parts();
        assert_eq!(asked(&head, &Body::empty(), &public(1, "", "/**")), None, "the route says nothing of it");
        assert_eq!(asked(&head, &Body::full(bytes::Bytes::from_static(b"x")), &route), None);
    }

    #[test]
    fn an_extended_connect_is_a_handshake_and_any_other_connect_is_refused() {
        let route = RouteConfig { upgrades: vec![Upgrade::WebSocket], ..public(1, "", "/**") };
        let connect = |protocol: Option<&'static str>, version| {
            let (mut head, ()) = Request::connect("/").version(version).body(()).unwrap().into_parts();
            if let Some(protocol) = protocol {
                head.extensions.insert(Protocol::from_static(protocol));
            }
            extended(&mut head).map(|()| head)
        };
        let head = connect(Some("WebSocket"), Version::HTTP_2).unwrap();
        assert_eq!((&head.method, asked(&head, &Body::empty(), &route)), (&Method::GET, Some(Upgrade::WebSocket)));
        assert_eq!(asked(&head, &Body::empty(), &public(1, "", "/**")), None);
        assert!(matches!(connect(Some("connect-udp"), Version::HTTP_2), Err(Rejection::NotImplemented(_))));
        assert!(matches!(connect(None, Version::HTTP_2), Err(Rejection::MethodRefused(_))));
        assert!(matches!(connect(Some("websocket"), Version::HTTP_11), Err(Rejection::MethodRefused(_))));
    }
}
