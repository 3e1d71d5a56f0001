//! Route mode `guard`: whether whoever asks has the credential of the content server behind. Nobody is asked, and nothing is kept.
//!
//! The credential ends here like a requesting party token: the outbound head is built without it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::config::Rate;
use super::guesses::Guesses;
use super::permit::Permit;
use super::token::present;
use crate::holes::{Hole, open};
use crate::jose::Claims;
use crate::response::{AuthScheme, Rejection, Row, X_REQUEST_ID};
use crate::routing::{Assertions, ClientCertificate, Guard, LimitKey, Password};
use crate::telemetry::Recorder;
use crate::uma::Timestamp;

/// How far the clocks of gateway and guard may differ.
const LEEWAY: Duration = Duration::from_secs(5);

/// What a request shows.
pub(super) struct Shown<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) certificate: Option<&'a ClientCertificate>,
    /// Whose wrong credentials are counted together, and how many of them are heard.
    pub(super) bucket: Option<LimitKey>,
    pub(super) rate: Rate,
    pub(super) recorder: &'a Recorder,
}

/// Rows G1 to G4, I3b, and D12 to D14 for a Bearer token.
pub(super) fn judge(guard: &Guard, shown: &Shown<'_>, guesses: &Guesses) -> Result<Permit, Rejection> {
    let guessed = |credential: &dyn Fn() -> Result<Option<Arc<str>>, Rejection>| {
        guesses.hear(shown.rate, shown.bucket.as_ref()).map_err(Rejection::TooManyIntrospections)?;
        credential().inspect_err(|rejection| {
            if let Rejection::CredentialRefused(_, why) = rejection {
                shown.recorder.with(|record| record.reason = Some((*why).into()));
                guesses.wrong(shown.rate, shown.bucket.as_ref());
            }
        })
    };
    let subject = match guard {
        Guard::Basic(password) => guessed(&|| basic(password, shown.headers).map(|()| None))?,
        Guard::BearerJwt(assertions) => guessed(&|| bearer_jwt(assertions, shown))?,
        // Nobody guesses one.
        Guard::ClientCertificate(certificates) => match shown.certificate {
            Some(certificate) if certificates.accept(certificate) => None,
            _ => return Err(Rejection::CertificateRefused),
        },
    };
    // It is the gateway itself that asks, by whatever id it has given the request.
    let mut ids = shown.headers.get_all(X_REQUEST_ID).iter();
    if let (Some(id), None) = (ids.next(), ids.next()) {
        shown.recorder.adopt(id);
    }
    shown.recorder.pass(Row::G4);
    shown.recorder.with(|record| record.subject.clone_from(&subject));
    Ok(Permit::guarded(subject))
}

fn basic(password: &Password, headers: &HeaderMap) -> Result<(), Rejection> {
    let refused = |why| Rejection::CredentialRefused(AuthScheme::Basic, why);
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Err(Rejection::CredentialRequired(AuthScheme::Basic)) };
    if fields.next().is_some() {
        return Err(refused("more than one credential is shown"));
    }
    let field = field.to_str().map_err(|_| refused("the credential is malformed"))?.trim_matches([' ', '\t']);
    let (scheme, pair) = field.split_once([' ', '\t']).unwrap_or((field, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Rejection::CredentialRequired(AuthScheme::Basic));
    }
    let pair = STANDARD.decode(pair.trim_matches([' ', '\t'])).map_err(|_| refused("the credential is malformed"))?;
    if password.accepts(&pair, Instant::now()) { Ok(()) } else { Err(refused("user name or password is wrong")) }
}

/// The subject on whose behalf the gateway asks, where the assertion names one.
fn bearer_jwt(assertions: &Assertions, shown: &Shown<'_>) -> Result<Option<Arc<str>>, Rejection> {
    let refused = |why| Rejection::CredentialRefused(AuthScheme::Bearer, why);
    let token = present(shown.headers, shown.query, None)?.ok_or(Rejection::CredentialRequired(AuthScheme::Bearer))?;
    let claims = assertions.keys.verify(token).and_then(|payload| Claims::read(&payload)).map_err(|invalid| refused(invalid.reason()))?;
    check(assertions, &claims, shown.method, (shown.path, shown.query), Timestamp::now()).map_err(refused)?;
    Ok(claims.subject.map(Arc::from))
}

/// Holds the claims of a signed assertion against what is accepted, and against the request that it came with.
///
/// # Errors
/// Why it is not accepted, as a constant text.
fn check(assertions: &Assertions, claims: &Claims, method: &Method, target: (&str, Option<&str>), now: Timestamp) -> Result<(), &'static str> {
    let leeway = seconds(LEEWAY);
    if *claims.issuer != *assertions.issuer && !open(Hole::IssuerUnchecked) {
        return Err("the assertion is from another issuer");
    }
    if !claims.audience.iter().any(|audience| **audience == *assertions.audience) && !open(Hole::AudienceUnchecked) {
        return Err("the assertion is for another audience");
    }
    if claims.expires.0.saturating_add(leeway) <= now.0 && !open(Hole::ExpiryUnchecked) {
        return Err("the assertion has expired");
    }
    if [Some(claims.issued), claims.not_before].into_iter().flatten().any(|begin| begin.0 > now.0.saturating_add(leeway)) {
        return Err("the assertion is not valid yet");
    }
    if claims.expires.0.saturating_sub(claims.issued.0) > seconds(assertions.max_lifetime) {
        return Err("the assertion is valid for too long");
    }
    match (&claims.method, &claims.target) {
        (None, None) if assertions.unbound => Ok(()),
        (None, None) => Err("the assertion does not name the request that it is for"),
        (Some(named), Some(sent)) if named == method.as_str() && is_target(sent, target) => Ok(()),
        _ => Err("the assertion is for another request"),
    }
}

/// Whether `text` is this path with this query.
fn is_target(text: &str, (path, query): (&str, Option<&str>)) -> bool {
    match query {
        None => text == path,
        Some(query) => text.split_once('?').is_some_and(|parts| parts == (path, query)),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::{SigningKey, VerifyingKeys};
    use crate::routing::Certificates;
    use crate::telemetry::RequestId;

    fn assertions(unbound: bool) -> Assertions {
        let max_lifetime = Duration::from_secs(60);
        Assertions { keys: Default::default(), issuer: "gateway".into(), audience: "content".into(), max_lifetime, unbound }
    }

    fn claims() -> Claims {
        Claims {
            issuer: "gateway".into(),
            audience: vec!["other".into(), "content".into()],
            issued: Timestamp(1000),
            expires: Timestamp(1060),
            not_before: None,
            subject: None,
            method: Some("GET".into()),
            target: Some("/a?b=c".into()),
        }
    }

    fn said(change: impl FnOnce(&mut Claims), now: i64) -> &'static str {
        let mut claims = claims();
        change(&mut claims);
        check(&assertions(false), &claims, &Method::GET, ("/a", Some("b=c")), Timestamp(now)).err().unwrap_or("yes")
    }

    /// Whose request passes, or the row of the refusal.
    fn judged(guard: &Guard, shown: &[&str], certificate: Option<&ClientCertificate>) -> Result<Option<String>, Row> {
        heard(guard, shown, certificate).0
    }

    /// Beside it what the operator reads.
    fn heard(guard: &Guard, shown: &[&str], certificate: Option<&ClientCertificate>) -> (Result<Option<String>, Row>, Option<String>) {
        let mut headers = HeaderMap::new();
        for value in shown {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let recorder = Recorder::new(RequestId("1".into()), Method::GET, None, "http");
        let rate = Rate { rate: 1, burst: 1 };
        let shown = Shown { method: &Method::GET, headers: &headers, path: "/a", query: None, certificate, bucket: None, rate, recorder: &recorder };
        let judged = judge(guard, &shown, &Guesses::default()).map(|permit| permit.subject().map(String::from)).map_err(|rejection| rejection.row());
        (judged, recorder.with(|record| record.reason.as_deref().map(str::to_owned)))
    }

    #[test]
    fn why_a_credential_is_not_accepted_is_told_to_the_operator() {
        let guard = Guard::Basic(Password::new("gateway", "sesame", Duration::ZERO));
        let wrong = format!("Basic {}", STANDARD.encode("gateway:other"));
        assert_eq!(heard(&guard, &[&wrong], None), (Err(Row::G2), Some("user name or password is wrong".to_owned())));
        assert_eq!(heard(&guard, &[&wrong.replace("other", ""), &wrong], None).1.as_deref(), Some("more than one credential is shown"));
        assert_eq!(heard(&guard, &[], None), (Err(Row::G1), None));
    }

    #[test]
    fn a_password_is_shown_once_and_whole() {
        let guard = Guard::Basic(Password::new("gateway", "sesame", Duration::ZERO));
        let right = format!("Basic {}", STANDARD.encode("gateway:sesame"));
        assert_eq!(judged(&guard, &[&right], None), Ok(None));
        assert_eq!(judged(&guard, &[&right.replace("Basic", "bASIC\t")], None), Ok(None));
        assert_eq!(judged(&guard, &[], None), Err(Row::G1));
        assert_eq!(judged(&guard, &["Bearer abc"], None), Err(Row::G1));
        for shown in [&[&*right, &*right][..], &["Basic"], &["Basic !"], &[&format!("Basic {}", STANDARD.encode("gateway:other"))]] {
            assert_eq!(judged(&guard, shown, None), Err(Row::G2), "{shown:?}");
        }
    }

    #[test]
    fn a_certificate_is_the_one_of_the_connection() {
        let certificate = |name: &str| {
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
            (<[u8; 32]>::try_from(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der).as_ref()).unwrap(), ClientCertificate::read(&der).unwrap())
        };
        let ((digest, gateway), (_, other)) = (certificate("gateway"), certificate("other"));
        let guard = Guard::ClientCertificate(Arc::new(Certificates::Sha256(vec![digest])));
        assert_eq!(judged(&guard, &[], Some(&gateway)), Ok(None));
        assert_eq!(judged(&guard, &[], Some(&other)), Err(Row::G3));
        assert_eq!(judged(&guard, &["Basic abc"], None), Err(Row::G3));
    }

    #[test]
    fn an_assertion_says_on_whose_behalf_it_was_signed() {
        let pair = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
        let text = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pair.to_pkcs8v1().unwrap()));
        let key = SigningKey::from_pem(&text.as_str().into(), None).unwrap();
        let keys = VerifyingKeys::from_der(key.public()).unwrap();
        let guard = Guard::BearerJwt(Arc::new(Assertions { keys, ..assertions(true) }));
        let now = Timestamp::now().0;
        let signed = |audience: &str| {
            let claims = serde_json::json!({ "iss": "gateway", "aud": audience, "iat": now, "exp": now + 30, "sub": "bob" });
            format!("Bearer {}", key.sign(claims.to_string().as_bytes()).unwrap())
        };
        assert_eq!(judged(&guard, &[&signed("content")], None), Ok(Some("bob".into())));
        assert_eq!(judged(&guard, &[&signed("other")], None), Err(Row::G2));
        assert_eq!(judged(&guard, &[], None), Err(Row::G1));
    }

    #[test]
    fn an_assertion_is_accepted_from_its_issuer_for_its_audience_in_its_time() {
        assert_eq!(said(|_| {}, 1000), "yes");
        assert_eq!(said(|claims| claims.issuer = "Gateway".into(), 1000), "the assertion is from another issuer");
        assert_eq!(said(|claims| claims.audience = vec!["contents".into()], 1000), "the assertion is for another audience");
        assert_eq!(said(|claims| claims.audience.clear(), 1000), "the assertion is for another audience");
        // Five seconds for clocks that differ, at both ends.
        assert_eq!((said(|_| {}, 995), said(|_| {}, 1064)), ("yes", "yes"));
        assert_eq!((said(|_| {}, 994), said(|_| {}, 1065)), ("the assertion is not valid yet", "the assertion has expired"));
        assert_eq!(said(|claims| claims.not_before = Some(Timestamp(1006)), 1000), "the assertion is not valid yet");
        assert_eq!(said(|claims| claims.expires = Timestamp(1061), 1000), "the assertion is valid for too long");
        assert_eq!(said(|claims| (claims.issued, claims.expires) = (Timestamp(i64::MIN), Timestamp(i64::MAX)), 1000), "the assertion is valid for too long");
    }

    #[test]
    fn an_assertion_is_good_for_the_request_that_it_names_alone() {
        let other = "the assertion is for another request";
        assert_eq!(said(|claims| claims.method = Some("PUT".into()), 1000), other);
        assert_eq!(said(|claims| claims.method = None, 1000), other);
        assert_eq!(said(|claims| claims.target = None, 1000), other);
        for target in ["/a", "/a?", "/a?b=d", "/a?b=c&d", "/b?b=c", "?b=c", "/a?b=c#d", ""] {
            assert_eq!(said(|claims| claims.target = Some(target.into()), 1000), other, "{target}");
        }
        let plain = Claims { target: Some("/a".into()), ..claims() };
        assert!(check(&assertions(false), &plain, &Method::GET, ("/a", None), Timestamp(1000)).is_ok());
        // `/a?` and `/a` are not the same address.
        assert!(check(&assertions(false), &plain, &Method::GET, ("/a", Some("")), Timestamp(1000)).is_err());
        let unbound = Claims { method: None, target: None, ..claims() };
        let ask = |unbound_too| check(&assertions(unbound_too), &unbound, &Method::GET, ("/a", None), Timestamp(1000));
        assert_eq!((ask(false), ask(true)), (Err("the assertion does not name the request that it is for"), Ok(())));
        // One that names a request is bound to it, whatever is accepted besides.
        assert!(check(&assertions(true), &plain, &Method::PUT, ("/a", None), Timestamp(1000)).is_err());
    }
}
