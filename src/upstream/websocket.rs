//! A WebSocket handshake towards a server, in either protocol: what is asked for, and whether the answer fits.
//!
//! Between rooms a handshake and its 101 have the form of HTTP/1.1 (RFC 6455, 4). A client that came by extended CONNECT (RFC 8441) has sent no key, so one
//! is made up here and the server's proof checked; a server of HTTP/2 gives no proof, so a client of HTTP/1.1 gets ours.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, request, response};

use super::UpstreamError;
use crate::routing::Extended;

/// RFC 6455, 1.3.
const WEB_SOCKET: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that is under way.
pub(super) struct Handshake {
    key: HeaderValue,
    /// The key is ours.
    ours: bool,
}

impl Handshake {
    /// Of a head that asks for one; the key is put in if there is none of the client's to be relayed.
    ///
    /// # Errors
    /// When the system gives no random octets.
    pub(super) fn of(head: &mut request::Parts) -> Result<Option<Self>, UpstreamError> {
        if !head.headers.contains_key(UPGRADE) {
            return Ok(None);
        }
        let ours = head.extensions.get::<Extended>().is_some();
        if ours {
            head.headers.insert(SEC_WEBSOCKET_KEY, made_up()?);
        }
        Ok(head.headers.get(SEC_WEBSOCKET_KEY).cloned().map(|key| Self { key, ours }))
    }

    /// Whether the client has no use for an ordinary answer that says all is well.
    pub(super) const fn is_extended(&self) -> bool {
        self.ours
    }

    /// Whether the server has read our key; a client's own key the client checks (RFC 6455, 4.1).
    ///
    /// # Errors
    /// When the proof is missing, wrong, or there twice.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), UpstreamError> {
        let mut proofs = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        let right = proofs.next().is_some_and(|proof| proof.as_bytes() == self.proof().as_bytes()) && proofs.next().is_none();
        if right || !self.ours { Ok(()) } else { Err(UpstreamError::Answer("a handshake that the server has not understood")) }
    }

    /// Gives the answer of a server of HTTP/2 the fields that one of HTTP/1.1 would have.
    ///
    /// # Errors
    /// None that a key of digits and letters could cause.
    pub(super) fn complete(&self, head: &mut response::Parts) -> Result<(), UpstreamError> {
        let proof = HeaderValue::try_from(self.proof()).map_err(|_| UpstreamError::Answer("a key that has no proof"))?;
        head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        head.headers.insert(SEC_WEBSOCKET_ACCEPT, proof);
        Ok(())
    }

    fn proof(&self) -> String {
        STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[self.key.as_bytes(), WEB_SOCKET].concat()))
    }
}

/// Sixteen random octets (RFC 6455, 4.1).
fn made_up() -> Result<HeaderValue, UpstreamError> {
    let mut octets = [0; 16];
    let made = aws_lc_rs::rand::fill(&mut octets).ok().and_then(|()| HeaderValue::try_from(STANDARD.encode(octets)).ok());
    made.ok_or(UpstreamError::Answer("no handshake can be made up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standards_example_and_only_our_own_key_is_checked() {
        let ours = Handshake { key: HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="), ours: true };
        assert_eq!(ours.proof(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut headers = HeaderMap::new();
        assert!(ours.check(&headers).is_err());
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(ours.check(&headers).is_ok());
        headers.append(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(ours.check(&headers).is_err(), "twice");
        headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOO="));
        assert!(ours.check(&headers).is_err(), "wrong");
        assert!(Handshake { ours: false, ..ours }.check(&headers).is_ok());
    }
}
