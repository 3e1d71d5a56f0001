//! Signed assertions: JWS in compact form (RFC 7515), with three asymmetric algorithms and no choice left to whoever writes the header.
//!
//! A key says which algorithm it is used with; a header only has to agree. Of a header's members `alg`, `kid` and `typ` are known, and one that holds any
//! other is refused: nothing is fetched, no key comes along with what it signs, and what a library would pass over in silence (`crit`) ends the matter.
//! Nothing here reads a file, and no key can be printed.

mod algorithm;
mod claims;
mod sign;
mod verify;

pub use algorithm::Algorithm;
pub use claims::Claims;
pub use sign::SigningKey;
pub use verify::{Invalid, VerifyingKeys};

/// Why a key cannot be used. No part of it is in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM of this kind.
    #[error("it holds no {0} in PEM form")]
    NoPem(&'static str),
    /// No JWK Set (RFC 7517, 5).
    #[error("it is not a JWK Set")]
    NotJwks,
    /// An empty set, or one of other keys only.
    #[error("no key that signs is in it")]
    NoKey,
    /// More keys than anybody needs while they are exchanged.
    #[error("more than {0} keys are in it")]
    TooMany(usize),
    /// Another kind, another curve, too short, or meant for another algorithm.
    #[error("key {0} is not one for EdDSA (Ed25519), ES256 (P-256) or RS256 (2048 to 8192 bits)")]
    Kind(usize),
    /// A private or symmetric key where a public one belongs.
    #[error("key {0} is not a public key")]
    NotPublic(usize),
}
