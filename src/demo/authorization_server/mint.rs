//! New tickets, tokens and identifiers: random, so that nobody can guess one.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Characters of a JWT-shaped token, about as many as those of a real one.
const JWT_LENGTH: usize = 1_200;

/// 256 random bits, base64url.
pub(super) fn opaque() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// A random UUID (RFC 9562, 5.4).
pub(super) fn uuid() -> String {
    let number = (u128::from_be_bytes(random()) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let mut text = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// A token in the form of a JWT whose signature is random bytes. It is the server that knows which of them it issued.
pub(super) fn jwt_shaped(mut payload: Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"for-trying-only"}"#);
    let signature = URL_SAFE_NO_PAD.encode(random::<256>());
    let length = header.len() + signature.len() + 2 + payload.to_string().len() * 4 / 3;
    if let Some(members) = payload.as_object_mut() {
        let missing = JWT_LENGTH.saturating_sub(length) * 3 / 4;
        members.insert("padding".into(), "x".repeat(missing.saturating_sub(13)).into());
    }
    format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(payload.to_string()))
}

/// `S256` of PKCE (RFC 7636, 4.2).
pub(super) fn code_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = aws_lc_rs::rand::fill(&mut bytes);
    assert!(filled.is_ok(), "the system gives no random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_challenge_is_that_of_the_specification() {
        assert_eq!(code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_uuid_has_version_and_variant() {
        let text = uuid();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes().get(14), Some(&b'4'));
        assert!(matches!(text.as_bytes().get(19), Some(b'8' | b'9' | b'a' | b'b')));
    }

    #[test]
    fn a_token_in_jwt_form_is_about_as_long_as_a_real_one() {
        let length = jwt_shaped(serde_json::json!({ "sub": "id-of-bob" })).len();
        assert!((1_150..=1_250).contains(&length), "{length}");
    }
}
