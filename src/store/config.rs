//! Where the records are kept, and the keys that their tokens are encrypted with.
//!
//! A [`Key`] is read once and never printed; its memory is wiped. Nothing here opens the file.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The section `store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The database; it is made when it is not there, its folder is not.
    pub file: PathBuf,
    /// What is written is encrypted with this key.
    pub key: Key,
    /// Keys from before: what was encrypted with them is read, and encrypted anew at the next start.
    pub old_keys: Vec<Key>,
}

/// Octets of a key for AES-256.
const LENGTH: usize = 32;
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A key for AES-256-GCM.
#[derive(Clone)]
pub struct Key {
    octets: Arc<Zeroizing<[u8; LENGTH]>>,
    origin: Option<Arc<str>>,
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// It is not 32 octets in base64 (either alphabet, with or without padding) or hexadecimal digits.
    #[error("a key is 32 random octets, in base64 or hexadecimal")]
    Form,
    /// All its octets are the same.
    #[error("this key can be guessed: all its octets are the same")]
    Guessed,
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// The text is no key, or one that anybody could guess.
    pub fn parse(secret: &Secret) -> Result<Self, KeyProblem> {
        let text = secret.expose().trim();
        let decoded = if text.len() == 2 * LENGTH { hexadecimal(text) } else { STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok() };
        let decoded = Zeroizing::new(decoded.ok_or(KeyProblem::Form)?);
        let octets: [u8; LENGTH] = decoded.as_slice().try_into().map_err(|_| KeyProblem::Form)?;
        let octets = Zeroizing::new(octets);
        if octets.iter().all(|octet| Some(octet) == octets.first()) {
            return Err(KeyProblem::Guessed);
        }
        Ok(Self { octets: Arc::new(octets), origin: secret.origin().map(Arc::from) })
    }

    /// The key itself, for the cipher alone.
    #[cfg(feature = "store")]
    pub(super) fn octets(&self) -> &[u8; LENGTH] {
        &self.octets
    }

    /// The file or variable that it was read from.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.origin.as_deref().unwrap_or("a key of unknown origin")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.octets.as_slice().ct_eq(other.octets.as_slice()).into()
    }
}

impl Eq for Key {}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<[u8; 32], KeyProblem> {
        Key::parse(&Secret::from(text)).map(|key| **key.octets)
    }

    #[test]
    fn a_key_is_read_in_base64_and_in_hexadecimal() {
        let octets: [u8; 32] = std::array::from_fn(|place| 0xe0 + u8::try_from(place).unwrap());
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let base64 = STANDARD.encode(octets);
        for text in [hex.clone(), hex.to_uppercase(), base64.clone(), base64.trim_end_matches('=').to_owned(), URL_SAFE.encode(octets), format!("{base64}\n")] {
            assert_eq!(key(&text), Ok(octets), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(key("open sesame"), Err(KeyProblem::Form));
        assert_eq!(key(&STANDARD.encode([7; 16])), Err(KeyProblem::Form));
        assert_eq!(key(&format!("g{}", "0".repeat(63))), Err(KeyProblem::Form));
        assert_eq!(key(&"0".repeat(64)), Err(KeyProblem::Guessed));
        assert_eq!(key(&STANDARD.encode([7; 32])), Err(KeyProblem::Guessed));
    }

    #[test]
    fn a_key_never_prints_itself() {
        let secret = Secret::from("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").from_origin("the secret file key");
        let key = Key::parse(&secret).expect("a key");
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert_eq!(key.origin(), "the secret file key");
    }
}
