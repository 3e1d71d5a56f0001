//! `credentials: { jwt }`: a short assertion, signed for each request and good for that request alone.
//!
//! It names the method and the target as they leave, so one that is overheard opens nothing else. Nothing here waits or is kept.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use serde::Serialize;

use crate::jose::SigningKey;
use crate::secret::random_text;
use crate::uma::Timestamp;

/// Signs the assertions of one upstream.
#[derive(Debug)]
pub struct Signer {
    /// With this key.
    pub key: SigningKey,
    /// `iss`.
    pub issuer: Arc<str>,
    /// `aud`.
    pub audience: Arc<str>,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
    /// Whether `sub` tells who asks, where that is known.
    pub subject: bool,
}

#[derive(Serialize)]
struct Members<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
}

impl Signer {
    /// The whole value of `Authorization` for one request. `target` is path and query as they are sent. `None`: there is no randomness, or the library failed.
    #[must_use]
    pub fn authorization(&self, method: &Method, target: &str, subject: Option<&str>, now: Timestamp) -> Option<HeaderValue> {
        let claims = Members {
            iss: &self.issuer,
            aud: &self.audience,
            iat: now.0,
            exp: now.0.saturating_add(i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX)),
            jti: &random_text::<16>()?,
            htm: method.as_str(),
            htu: target,
            sub: subject.filter(|_| self.subject),
        };
        let token = self.key.sign(&serde_json::to_vec(&claims).ok()?)?;
        let mut value = HeaderValue::try_from(["Bearer ", &token].concat()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether two signers make the same of a request.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.key.is_same(&other.key)
            && (&self.issuer, &self.audience, self.lifetime, self.subject) == (&other.issuer, &other.audience, other.lifetime, other.subject)
    }
}
