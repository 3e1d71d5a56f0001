//! `protect: { mode: guard }`: what a gateway has to show to a content server's own guard.
//!
//! Values only; `enforcement` holds requests against them. Of a password nothing is kept but a digest.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::certificate::ClientCertificate;
use crate::jose::VerifyingKeys;

/// What is accepted; a route has exactly one.
#[derive(Clone, Debug)]
pub enum Guard {
    /// User name and password (RFC 7617).
    Basic(Password),
    /// A short signed assertion as Bearer.
    BearerJwt(Arc<Assertions>),
    /// The certificate of the connection.
    ClientCertificate(Arc<Certificates>),
}

/// A user name with its password, and for a while the pair that it has replaced.
#[derive(Clone, Debug)]
pub struct Password {
    current: Fingerprint,
    before: Option<(Fingerprint, Instant)>,
    grace: Duration,
}

/// Which assertions are accepted.
#[derive(Clone, Debug)]
pub struct Assertions {
    /// Those who may sign them.
    pub keys: VerifyingKeys,
    /// `iss`, exactly.
    pub issuer: Arc<str>,
    /// `aud` must name this.
    pub audience: Arc<str>,
    /// From `iat` to `exp` at most.
    pub max_lifetime: Duration,
    /// Also such as do not name the request that they were made for.
    pub unbound: bool,
}

/// Which certificates are accepted. That they are valid, and from whom, the listener has seen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// By their subject, in the form of RFC 4514.
    Subjects(Vec<Arc<str>>),
    /// By a URI among their alternative names.
    SanUris(Vec<Arc<str>>),
    /// By themselves.
    Sha256(Vec<[u8; 32]>),
}

impl Guard {
    /// Whether whatever opens the one opens the other: the same password, assertions for the same audience by the same issuer, the same certificates.
    #[must_use]
    pub fn accepts_what(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Basic(one), Self::Basic(other)) => one.current.is(&other.current),
            (Self::BearerJwt(one), Self::BearerJwt(other)) => {
                let named = one.issuer == other.issuer && one.audience == other.audience;
                named && one.unbound == other.unbound && one.max_lifetime == other.max_lifetime
            }
            (Self::ClientCertificate(one), Self::ClientCertificate(other)) => one == other,
            _ => false,
        }
    }

    /// The guard of the same route before: the password that it asked for stays good for a while.
    #[must_use]
    pub fn replacing(self, old: &Self, now: Instant) -> Self {
        match (self, old) {
            (Self::Basic(new), Self::Basic(old)) => Self::Basic(new.replacing(old, now)),
            (new, _) => new,
        }
    }
}

impl Password {
    /// This pair; another one that takes its place leaves it good for `grace`.
    #[must_use]
    pub fn new(username: &str, password: &str, grace: Duration) -> Self {
        Self { current: Fingerprint::of(&[username.as_bytes(), b":", password.as_bytes()].concat()), before: None, grace }
    }

    /// Whether `pair`, as it stands decoded in the header, is the pair; in a time that tells nothing of where they differ, nor of their length.
    #[must_use]
    pub fn accepts(&self, pair: &[u8], now: Instant) -> bool {
        let shown = Fingerprint::of(pair);
        let before = self.before.as_ref().is_some_and(|(before, until)| shown.is(before) & (now < *until));
        shown.is(&self.current) | before
    }

    fn replacing(self, old: &Self, now: Instant) -> Self {
        let before = if self.current.is(&old.current) { old.before.clone() } else { now.checked_add(self.grace).map(|until| (old.current.clone(), until)) };
        // Whoever turns the grace off means the password that has just been replaced as well.
        Self { before: before.filter(|_| !self.grace.is_zero()), ..self }
    }
}

impl Certificates {
    /// Whether this is one of them.
    #[must_use]
    pub fn accept(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Subjects(subjects) => certificate.subject.as_deref().is_some_and(|shown| subjects.iter().any(|subject| **subject == *shown)),
            Self::SanUris(uris) => certificate.san_uris.iter().any(|shown| uris.iter().any(|uri| **uri == **shown)),
            Self::Sha256(all) => all.contains(&certificate.sha256),
        }
    }
}

/// A digest of a secret.
#[derive(Clone)]
struct Fingerprint([u8; 32]);

impl Fingerprint {
    fn of(secret: &[u8]) -> Self {
        Self(sha256(secret))
    }

    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut fixed = [0; 32];
    for (to, from) in fixed.iter_mut().zip(digest(&SHA256, bytes).as_ref()) {
        *to = *from;
    }
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(password: &str, grace: u64) -> Password {
        Password::new("gateway", password, Duration::from_secs(grace))
    }

    #[test]
    fn user_name_and_password_both_count() {
        let (guard, now) = (password("open sesame", 0), Instant::now());
        assert!(guard.accepts(b"gateway:open sesame", now));
        for wrong in
            ["", ":", "gateway", "gateway:", ":open sesame", "gateway:open sesam", "gateway:open sesame ", "Gateway:open sesame", "gatewa:yopen sesame"]
        {
            assert!(!guard.accepts(wrong.as_bytes(), now), "{wrong}");
        }
        assert!(format!("{guard:?}").contains("Fingerprint(..)") && !format!("{guard:?}").contains("sesame"));
    }

    #[test]
    fn a_password_that_is_replaced_is_good_for_the_grace_and_no_longer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let new = password("new", 300).replacing(&password("old", 300), start);
        assert!(new.accepts(b"gateway:new", start) && new.accepts(b"gateway:old", at(299)) && !new.accepts(b"gateway:old", at(300)));
        // Read anew without a change, it goes on as it was.
        let same = password("new", 300).replacing(&new, at(200));
        assert!(same.accepts(b"gateway:old", at(299)) && !same.accepts(b"gateway:old", at(300)));
        // Only the last one.
        let third = password("third", 300).replacing(&new, at(10));
        assert!(third.accepts(b"gateway:new", at(309)) && !third.accepts(b"gateway:old", at(10)));
        // Turned off, it ends at once.
        assert!(!password("new", 0).replacing(&new, at(1)).accepts(b"gateway:old", at(1)));
        assert!(!password("third", 0).replacing(&new, at(1)).accepts(b"gateway:new", at(1)));
    }

    #[test]
    fn a_certificate_is_accepted_by_the_one_thing_that_is_named() {
        let shown = ClientCertificate { subject: Some("CN=gateway".into()), san_uris: vec!["spiffe://a/one".into(), "spiffe://a/two".into()], sha256: [7; 32] };
        let subjects = |names: &[&str]| Certificates::Subjects(names.iter().map(|name| Arc::from(*name)).collect());
        let uris = |names: &[&str]| Certificates::SanUris(names.iter().map(|name| Arc::from(*name)).collect());
        assert!(subjects(&["CN=other", "CN=gateway"]).accept(&shown));
        assert!(!subjects(&["CN=other", "cn=gateway", "spiffe://a/one", ""]).accept(&shown) && !subjects(&[]).accept(&shown));
        assert!(uris(&["spiffe://a/none", "spiffe://a/two"]).accept(&shown));
        assert!(!uris(&["spiffe://a/none", "spiffe://a", "CN=gateway"]).accept(&shown) && !uris(&[]).accept(&shown));
        assert!(Certificates::Sha256(vec![[1; 32], [7; 32]]).accept(&shown) && !Certificates::Sha256(vec![[1; 32]]).accept(&shown));
        let nameless = ClientCertificate { subject: None, ..shown };
        assert!(!subjects(&["", "CN=gateway"]).accept(&nameless));
    }

    #[test]
    fn two_guards_are_alike_where_what_opens_the_one_opens_the_other() {
        let basic = |secret: &str, grace| Guard::Basic(password(secret, grace));
        let jwt = |issuer: &str, audience: &str, seconds, unbound| {
            let max_lifetime = Duration::from_secs(seconds);
            Guard::BearerJwt(Arc::new(Assertions { keys: VerifyingKeys::default(), issuer: issuer.into(), audience: audience.into(), max_lifetime, unbound }))
        };
        let certificate = |octet: u8| Guard::ClientCertificate(Arc::new(Certificates::Sha256(vec![[octet; 32]])));
        for (one, other) in [
            (basic("secret", 0), basic("secret", 300)),
            (jwt("gateway", "content", 60, false), jwt("gateway", "content", 60, false)),
            (certificate(1), certificate(1)),
        ] {
            assert!(one.accepts_what(&other), "{one:?} {other:?}");
        }
        for (one, other) in [
            (basic("secret", 0), basic("other", 0)),
            (jwt("gateway", "content", 60, false), jwt("other", "content", 60, false)),
            (jwt("gateway", "content", 60, false), jwt("gateway", "other", 60, false)),
            (jwt("gateway", "content", 60, false), jwt("gateway", "content", 300, false)),
            (jwt("gateway", "content", 60, false), jwt("gateway", "content", 60, true)),
            (certificate(1), certificate(2)),
            (basic("secret", 0), certificate(1)),
        ] {
            assert!(!one.accepts_what(&other) && !other.accepts_what(&one), "{one:?} {other:?}");
        }
    }
}
