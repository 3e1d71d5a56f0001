//! Who the gateway is at an authorization server, and how it shows that.
//!
//! By a secret in the header or in the form (RFC 6749, 2.3.1: `client_secret_basic`, `client_secret_post`), by an assertion that is signed for each request
//! (RFC 7523: `private_key_jwt`), or by the certificate of the connection (RFC 8705: `tls_client_auth`, `self_signed_tls_client_auth`). Whatever the gateway
//! asks as a client goes through [`ClientCredentials::tell`]. Nothing here is sent, and nothing of it can be printed.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::server::error_member;
use crate::http_client::{basic_auth, form};
use crate::jose::SigningKey;
use crate::secret::{Secret, random_text};
use crate::uma::Timestamp;

/// From `iat` to `exp` of an assertion, in seconds: it is sent at once, and used once.
const LIFE: i64 = 60;
/// What an assertion is (RFC 7523, 2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The gateway's client at a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCredentials {
    /// Client id.
    pub id: Arc<str>,
    /// What shows that it is the client.
    pub proof: Proof,
}

/// What shows who the client is. Each section has exactly one.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A secret, in the header.
    Secret(Secret),
    /// A secret, in the form.
    SecretInBody(Secret),
    /// A key that signs assertions.
    PrivateKey(Arc<AssertionKey>),
    /// The certificate that every connection to the server shows.
    Certificate,
}

/// A private key, and for whom it signs.
#[derive(Debug)]
pub struct AssertionKey {
    /// The key.
    pub key: SigningKey,
    /// `aud`.
    pub audience: Arc<str>,
    /// Where it came from, for people who have to change it.
    pub origin: Option<Arc<str>>,
}

/// A request's parts that show who asks.
pub struct Told {
    /// `Authorization`, marked as sensitive.
    pub authorization: Option<HeaderValue>,
    /// The form, with what belongs into it.
    pub body: Bytes,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: &'a str,
    iat: i64,
    exp: i64,
}

impl ClientCredentials {
    /// A client with a secret in the header.
    #[must_use]
    pub fn with_secret(id: impl Into<Arc<str>>, secret: impl Into<Secret>) -> Self {
        Self { id: id.into(), proof: Proof::Secret(secret.into()) }
    }

    /// Puts into a request with this form who asks. Each request is told anew: an assertion is good for one use. `None`: there is no randomness, or the
    /// library failed.
    #[must_use]
    pub fn tell(&self, body: &Bytes, now: Timestamp) -> Option<Told> {
        let (authorization, body) = match &self.proof {
            Proof::Secret(secret) => (Some(basic_auth(&self.id, secret.expose())), body.clone()),
            Proof::SecretInBody(secret) => (None, joined(body, &[("client_id", &self.id), ("client_secret", secret.expose())])),
            Proof::PrivateKey(key) => {
                let assertion = key.sign(&self.id, now)?;
                let fields = [("client_id", &*self.id), ("client_assertion_type", ASSERTION), ("client_assertion", &assertion)];
                (None, joined(body, &fields))
            }
            Proof::Certificate => (None, joined(body, &[("client_id", &self.id)])),
        };
        Some(Told { authorization, body })
    }
}

impl Proof {
    /// Its key in the section of the client.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Secret(_) | Self::SecretInBody(_) => "secret",
            Self::PrivateKey(_) => "private_key",
            Self::Certificate => "certificate",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match self {
            Self::Secret(_) | Self::SecretInBody(_) => "secret",
            Self::PrivateKey(_) => "private key",
            Self::Certificate => "certificate",
        }
    }

    /// The names under which a discovery document has it (`token_endpoint_auth_methods_supported`).
    #[must_use]
    pub const fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Secret(_) => &["client_secret_basic"],
            Self::SecretInBody(_) => &["client_secret_post"],
            Self::PrivateKey(_) => &["private_key_jwt"],
            Self::Certificate => &["tls_client_auth", "self_signed_tls_client_auth"],
        }
    }

    /// Where it came from: a file or an environment variable.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        match self {
            Self::Secret(secret) | Self::SecretInBody(secret) => secret.origin(),
            Self::PrivateKey(key) => key.origin.as_deref(),
            Self::Certificate => None,
        }
    }
}

impl PartialEq for Proof {
    /// Whether a server is shown the same.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret(one), Self::Secret(other)) | (Self::SecretInBody(one), Self::SecretInBody(other)) => one == other,
            (Self::PrivateKey(one), Self::PrivateKey(other)) => one.key.is_same(&other.key) && one.audience == other.audience,
            (Self::Certificate, Self::Certificate) => true,
            _ => false,
        }
    }
}

impl Eq for Proof {}

impl AssertionKey {
    /// An assertion for one request (RFC 7523, 3).
    fn sign(&self, client: &str, now: Timestamp) -> Option<String> {
        let jti = random_text::<16>()?;
        let assertion = Assertion { iss: client, sub: client, aud: &self.audience, jti: &jti, iat: now.0, exp: now.0.saturating_add(LIFE) };
        self.key.sign(&serde_json::to_vec(&assertion).ok()?)
    }
}

/// A form with more fields behind it.
fn joined(body: &Bytes, fields: &[(&str, &str)]) -> Bytes {
    let more = form(fields);
    let mut all = BytesMut::with_capacity(body.len() + 1 + more.len());
    all.put_slice(body);
    if !body.is_empty() {
        all.put_u8(b'&');
    }
    all.put_slice(&more);
    all.freeze()
}

/// Whether an answer says that the client is not who it says (RFC 6749, 5.2).
#[must_use]
pub fn refuses_client(response: &Response<Bytes>) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::BAD_REQUEST => matches!(error_member(response.body()).as_deref(), Some("invalid_client" | "unauthorized_client")),
        _ => false,
    }
}

/// Whether it is what the client shows that is refused: by 400 `unauthorized_client` a server speaks of what a client may do.
#[must_use]
pub fn disbelieves_client(response: &Response<Bytes>) -> bool {
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::BAD_REQUEST => error_member(response.body()).as_deref() == Some("invalid_client"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use serde_json::Value;

    use super::*;
    use crate::jose::VerifyingKeys;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    /// What has a meaning in a form, in Basic, or in neither.
    const STRANGE: &str = "a:%+é &=";

    fn client(proof: Proof) -> ClientCredentials {
        ClientCredentials { id: "photo gateway".into(), proof }
    }

    fn tell(proof: Proof) -> (Option<HeaderValue>, BTreeMap<String, String>) {
        let told = client(proof).tell(&Bytes::from_static(b"grant_type=client_credentials&scope=a+b"), NOW).expect("told");
        let fields: Vec<(String, String)> = form_urlencoded::parse(&told.body).into_owned().collect();
        let by_name: BTreeMap<_, _> = fields.iter().cloned().collect();
        assert_eq!(by_name.len(), fields.len(), "no field stands twice");
        assert_eq!((&*by_name["grant_type"], &*by_name["scope"]), ("client_credentials", "a b"));
        (told.authorization, by_name)
    }

    fn key(kind: &'static rcgen::SignatureAlgorithm) -> (Proof, rcgen::KeyPair) {
        let pair = rcgen::KeyPair::generate_for(kind).expect("a key");
        let key = SigningKey::from_pem(&Secret::from(pair.serialize_pem()), Some("2026-11")).expect("a key");
        (Proof::PrivateKey(Arc::new(AssertionKey { key, audience: "https://id.example.org".into(), origin: None })), pair)
    }

    fn part(assertion: &str, number: usize) -> Value {
        let part = assertion.split('.').nth(number).expect("a part");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
    }

    #[test]
    fn a_secret_stands_in_the_header_or_in_the_form_and_never_in_both() {
        let (header, fields) = tell(Proof::Secret(STRANGE.into()));
        let header = header.expect("a header");
        assert!(header.is_sensitive());
        let pair = STANDARD.decode(header.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(pair, b"photo+gateway:a%3A%25%2B%C3%A9+%26%3D");
        assert_eq!(fields.len(), 2);

        let (header, fields) = tell(Proof::SecretInBody(STRANGE.into()));
        assert!(header.is_none());
        assert_eq!((&*fields["client_id"], &*fields["client_secret"]), ("photo gateway", STRANGE));
    }

    #[test]
    fn an_assertion_is_short_for_the_server_and_good_for_one_request() {
        for kind in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
            let (proof, pair) = key(kind);
            let (header, fields) = tell(proof.clone());
            assert!(header.is_none() && !fields.contains_key("client_secret"));
            assert_eq!(fields["client_assertion_type"], ASSERTION);
            let (one, other) = (&fields["client_assertion"], &tell(proof).1["client_assertion"]);
            let claims = part(one, 1);
            for (member, value) in [("iss", "photo gateway"), ("sub", "photo gateway"), ("aud", "https://id.example.org")] {
                assert_eq!(claims[member], value);
            }
            assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(NOW.0), Some(NOW.0 + 60)));
            assert!(claims["jti"].as_str().unwrap().len() >= 22);
            assert_ne!(claims["jti"], part(other, 1)["jti"]);
            assert_eq!(part(one, 0)["kid"], "2026-11");
            let keys = VerifyingKeys::from_pem(pair.public_key_pem().as_bytes()).expect("its public part");
            assert!(keys.verify(one).is_ok());
        }
    }

    #[test]
    fn with_a_certificate_the_form_says_only_which_client_it_is() {
        let (header, fields) = tell(Proof::Certificate);
        assert!(header.is_none());
        assert_eq!((fields.len(), &*fields["client_id"]), (3, "photo gateway"));
    }

    #[test]
    fn another_way_to_show_the_same_secret_is_another_proof() {
        let (one, other) = (key(&rcgen::PKCS_ED25519).0, key(&rcgen::PKCS_ED25519).0);
        let all = [Proof::Secret("a".into()), Proof::Secret("b".into()), Proof::SecretInBody("a".into()), one, other, Proof::Certificate];
        for (at, proof) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(proof == other, at == other_at, "{proof:?} {other:?}");
            }
        }
    }
}
