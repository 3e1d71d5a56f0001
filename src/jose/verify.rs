//! Public keys, and whether one of them has signed a token.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Algorithm, KeyError};

/// Keys in one set.
const MOST: usize = 16;
/// Longest token that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// The keys whose signatures count. Clones share them.
#[derive(Clone, Default)]
pub struct VerifyingKeys(Arc<[VerifyingKey]>);

struct VerifyingKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Not three parts of base64url, or too long.
    Form,
    /// Not JSON, or more than `alg`, `kid` and `typ` in it, or the `typ` of something else.
    Header,
    /// No key with this `kid`.
    UnknownKey,
    /// Another algorithm than that of the key: `none`, an HMAC, or one that the key is not for.
    Algorithm,
    /// No key has signed this.
    Signature,
    /// Not JSON, or a claim is missing or of another kind.
    Claims,
}

impl Invalid {
    /// A constant text for the audit line.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Form => "the assertion is not a JWS in compact form",
            Self::Header => "the header of the assertion holds what is not known here",
            Self::UnknownKey => "no key has the `kid` of the assertion",
            Self::Algorithm => "the algorithm of the assertion is not that of the key",
            Self::Signature => "the signature of the assertion is wrong",
            Self::Claims => "a claim of the assertion is missing or malformed",
        }
    }
}

/// RFC 7515, 4.1: all that may stand in a header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<serde::de::IgnoredAny>,
    k: Option<serde::de::IgnoredAny>,
}

impl VerifyingKeys {
    /// One key from its public part (`SubjectPublicKeyInfo`, PEM).
    ///
    /// # Errors
    /// There is none, or it is of a kind that is not used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::NoPem("public key"))?;
        Self::from_der(&der)
    }

    /// One key from its public part (`SubjectPublicKeyInfo`, DER).
    ///
    /// # Errors
    /// It is of a kind that is not used.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let short = SubjectPublicKeyInfo::from_der(der)
            .is_ok_and(|(_, info)| info.parsed().is_ok_and(|key| matches!(key, PublicKey::RSA(key) if !(2048..=8192).contains(&key.key_size()))));
        let ed25519 = ParsedPublicKey::new(&ED25519, der).map(|key| (Algorithm::EdDsa, key));
        let key = ed25519
            .or_else(|_| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der).map(|key| (Algorithm::Es256, key)))
            .or_else(|_| ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).map(|key| (Algorithm::Rs256, key)));
        match key {
            Ok((algorithm, key)) if !short => Ok(Self(Arc::from([VerifyingKey { id: None, algorithm, key }]))),
            _ => Err(KeyError::Kind(1)),
        }
    }

    /// A JWK Set (RFC 7517, 5). Keys that are not for signatures are passed over; all others must be usable.
    ///
    /// # Errors
    /// It is none, or one of its keys is private, symmetric or of a kind that is not used.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeyError> {
        let set: Jwks = serde_json::from_slice(json).map_err(|_| KeyError::NotJwks)?;
        let for_signatures = |jwk: &Jwk| jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        let keys = set.keys.iter().zip(1..).filter(|(jwk, _)| for_signatures(jwk)).map(|(jwk, place)| jwk.read(place));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        match keys.len() {
            0 => Err(KeyError::NoKey),
            1..=MOST => Ok(Self(keys.into())),
            _ => Err(KeyError::TooMany(MOST)),
        }
    }

    /// The payload of a token that one of the keys has signed. A `kid` chooses among keys that have one; the algorithm is the key's.
    ///
    /// # Errors
    /// See [`Invalid`].
    pub fn verify(&self, token: &str) -> Result<Vec<u8>, Invalid> {
        if token.len() > LONGEST {
            return Err(Invalid::Form);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Invalid::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(Invalid::Form)?;
        let (header, payload, signature) = (decoded(header)?, decoded(payload)?, decoded(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| Invalid::Header)?;
        // RFC 8725, 3.11: a token that says that it is something else is something else.
        if !header.typ.as_deref().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("application/jwt")) {
            return Err(Invalid::Header);
        }
        let named: Vec<&VerifyingKey> = self.0.iter().filter(|key| key.is_named(header.kid.as_deref())).collect();
        if named.is_empty() {
            return Err(Invalid::UnknownKey);
        }
        let mut fitting = named.into_iter().filter(|key| key.algorithm.name() == header.alg).peekable();
        if fitting.peek().is_none() {
            return Err(Invalid::Algorithm);
        }
        if fitting.any(|key| key.key.verify_sig(signed.as_bytes(), &signature).is_ok()) { Ok(payload) } else { Err(Invalid::Signature) }
    }
}

impl VerifyingKey {
    fn is_named(&self, id: Option<&str>) -> bool {
        match (&self.id, id) {
            (Some(own), Some(id)) => own == id,
            _ => true,
        }
    }
}

impl Jwk {
    fn read(&self, place: usize) -> Result<VerifyingKey, KeyError> {
        if self.d.is_some() || self.k.is_some() || self.kty == "oct" {
            return Err(KeyError::NotPublic(place));
        }
        let (algorithm, key) = self.key().ok_or(KeyError::Kind(place))?;
        if self.alg.as_deref().is_some_and(|alg| alg != algorithm.name()) {
            return Err(KeyError::Kind(place));
        }
        Ok(VerifyingKey { id: self.kid.clone(), algorithm, key })
    }

    /// RFC 7518, 6.2 and 6.3; RFC 8037, 2.
    fn key(&self) -> Option<(Algorithm, ParsedPublicKey)> {
        let member = |value: &Option<String>| URL_SAFE_NO_PAD.decode(value.as_deref()?).ok();
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => {
                let x = member(&self.x).filter(|x| x.len() == 32)?;
                Some((Algorithm::EdDsa, ParsedPublicKey::new(&ED25519, x).ok()?))
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (member(&self.x).filter(|x| x.len() == 32)?, member(&self.y).filter(|y| y.len() == 32)?);
                let point = [&[4][..], &x, &y].concat();
                Some((Algorithm::Es256, ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?))
            }
            ("RSA", None) => {
                let (n, e) = (member(&self.n).filter(|n| (256..=1024).contains(&n.len()))?, member(&self.e)?);
                Some((Algorithm::Rs256, RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?))
            }
            _ => None,
        }
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, Invalid> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Form)
}

impl std::fmt::Debug for VerifyingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.algorithm.name())).finish()
    }
}

#[cfg(test)]
mod tests;
