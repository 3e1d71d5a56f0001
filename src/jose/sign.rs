//! A private key that signs assertions.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Algorithm, KeyError};
use crate::secret::Secret;

/// RSA keys that verifiers take.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key with the header of everything that it signs.
pub struct SigningKey {
    key: Key,
    /// base64url of the header.
    header: String,
    public: Vec<u8>,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Reads a private key (PKCS#8, PEM, not encrypted). `id` is the `kid` that verifiers find its public part by.
    ///
    /// # Errors
    /// There is none, or it is of a kind that is not used.
    pub fn from_pem(pem: &Secret, id: Option<&str>) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| KeyError::NoPem("private key (PKCS#8)"))?;
        let der = der.secret_pkcs8_der();
        let key = Ed25519KeyPair::from_pkcs8(der)
            .map(Key::Ed25519)
            .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Key::P256))
            .or_else(|_| RsaKeyPair::from_pkcs8(der).map(|key| Key::Rsa(Box::new(key))))
            .map_err(|_| KeyError::Kind(1))?;
        if let Key::Rsa(key) = &key
            && !RSA_BITS.contains(&(key.public_modulus_len() * 8))
        {
            return Err(KeyError::Kind(1));
        }
        let public = key.public().ok_or(KeyError::Kind(1))?;
        let header = match id {
            Some(id) => serde_json::json!({ "alg": key.algorithm().name(), "kid": id, "typ": "JWT" }),
            None => serde_json::json!({ "alg": key.algorithm().name(), "typ": "JWT" }),
        };
        Ok(Self { header: URL_SAFE_NO_PAD.encode(header.to_string()), key, public })
    }

    /// The algorithm that it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    /// Whether two keys sign alike.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.public == other.public && self.header == other.header
    }

    /// Its public part (`SubjectPublicKeyInfo`, DER).
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The payload, signed, in compact form. `None`: the library failed.
    #[must_use]
    pub fn sign(&self, payload: &[u8]) -> Option<String> {
        let mut token = String::with_capacity(self.header.len() + payload.len() * 4 / 3 + 128);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

impl Key {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::P256(_) => Algorithm::Es256,
            Self::Rsa(_) => Algorithm::Rs256,
        }
    }

    fn public(&self) -> Option<Vec<u8>> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Ed25519(key) => key.public_key().as_der(),
            Self::P256(key) => key.public_key().as_der(),
            Self::Rsa(key) => key.public_key().as_der(),
        };
        der.ok().map(|der| der.as_ref().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(key) => Some(key.sign(message).as_ref().to_vec()),
            Self::P256(key) => key.sign(&SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok().map(|()| signature)
            }
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.algorithm().name())
    }
}
