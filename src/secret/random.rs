//! What nobody can guess.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// So many random octets, as text that fits anywhere (base64url). `None`: the system gives no random numbers.
#[must_use]
pub fn random_text<const OCTETS: usize>() -> Option<String> {
    let mut octets = Zeroizing::new([0; OCTETS]);
    aws_lc_rs::rand::fill(octets.as_mut_slice()).ok()?;
    Some(URL_SAFE_NO_PAD.encode(octets.as_slice()))
}

/// Some part of `whole`, another one each time; all that differs by chance so does not happen at one moment. Nothing of it, if the system gives no random numbers.
#[must_use]
pub fn random_part(whole: Duration) -> Duration {
    let mut octet = [0];
    let _ = aws_lc_rs::rand::fill(&mut octet);
    whole * u32::from(octet[0]) / 255
}

/// `code_challenge` of a `code_verifier`, by the method `S256` (RFC 7636, 4.2).
#[must_use]
pub fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same_and_each_fits_into_an_address() {
        let (one, other) = (random_text::<32>().unwrap(), random_text::<32>().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 43 && one.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)), "{one}");
    }

    #[test]
    fn the_challenge_is_that_of_the_specification() {
        // RFC 7636, appendix B.
        assert_eq!(s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
