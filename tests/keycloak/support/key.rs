//! A key by which a client signs, as Keycloak is told of it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

/// A key of a client's.
pub struct ClientKey(KeyPair);

impl ClientKey {
    /// For ES256.
    pub fn p256() -> Self {
        Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key"))
    }

    /// For EdDSA.
    pub fn ed25519() -> Self {
        Self(KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key"))
    }

    /// The private key.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public key (RFC 7517, 5; RFC 8037, 2).
    pub fn jwks(&self) -> Value {
        let text = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
        let key = match self.0.der_bytes() {
            // Not compressed, and no more than its two coordinates.
            [4, point @ ..] if point.len() == 64 => {
                let (x, y) = point.split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "alg": "ES256", "use": "sig", "kid": "of-the-test" })
            }
            point => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(point), "alg": "EdDSA", "use": "sig", "kid": "of-the-test" }),
        };
        json!({ "keys": [key] })
    }
}
