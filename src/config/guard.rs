//! Assertions and guards: `protect: { mode: guard, accept: … }` on one side, `credentials: { jwt: … }` on the other.

use std::sync::Arc;
use std::time::Duration;

use super::checker::{Checker, Keys};
use super::problem::{Problem, Span};
use super::secrets::{secret, secret_lines};
use super::tree::Node;
use super::upstreams::username;
use super::values::{Wrong, duration, duration_or_zero, list, only_true, parsed, readable, text, word};
use crate::credentials::Signer;
use crate::jose::{Algorithm, KeyError, SigningKey, VerifyingKeys};
use crate::routing::{Access, Assertions, Certificates, Claim, Guard, Password, RouteConfig};

/// What a password must have, so that nobody guesses it.
const LEAST: usize = 16;
/// How long an assertion may live.
const LONGEST: Duration = Duration::from_secs(600);
const GRACE: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Largest file of public keys.
const MOST_BYTES: u64 = 64 * 1024;

/// `protect` with `mode: guard`.
pub(super) fn guard(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Guard> {
    for name in ["authorization_server", "resource", "scopes"] {
        if let Some(entry) = keys.entry(name) {
            let problem = Problem::at(entry.key_span, format!("`{name}` has no effect with `mode: guard`: a guard asks no authorization server"));
            checker.error(problem.label("leave it out"));
        }
    }
    super::created::misplaced(keys, "with `mode: guard`: a guard knows no owners", checker);
    if !keys.names("accept") {
        checker.error(
            Problem::at(keys.span, "`accept` is missing: a guard says what it accepts")
                .write("accept: { basic: { username: gateway, password: { file: PATH } } }"),
        );
    }
    let accept = keys.open("accept", checker)?;
    let basic = accept.open("basic", checker).map(|keys| password(&keys, checker).map(Guard::Basic));
    let bearer = accept.open("bearer_jwt", checker).map(|keys| assertions(&keys, checker).map(|rules| Guard::BearerJwt(Arc::new(rules))));
    let certificate =
        accept.open("client_certificate", checker).map(|keys| certificates(&keys, checker).map(|rules| Guard::ClientCertificate(Arc::new(rules))));
    basic.or(bearer).or(certificate).flatten()
}

/// What stands for a guard that has mistakes. It is never used: there is a problem.
pub(super) fn stand_in() -> Guard {
    let nothing: Arc<str> = Arc::from("");
    let keys = VerifyingKeys::default();
    Guard::BearerJwt(Arc::new(Assertions { keys, issuer: Arc::clone(&nothing), audience: nothing, max_lifetime: Duration::ZERO, unbound: false }))
}

fn password(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Password> {
    let username = keys.read("username", checker, username);
    let password = keys.read("password", checker, |node, checker| {
        let password = secret(node, checker)?;
        if password.expose().chars().count() < LEAST && checker.environment.is_some() {
            let problem = Problem::at(node.span, "this password can be guessed").label(format!("{LEAST} random characters or more"));
            checker.warn(problem.hint("make one   openssl rand -base64 24"));
        }
        Some(password)
    });
    let grace = keys.read("grace", checker, |node, checker| duration_or_zero(node, checker, DAY));
    Some(Password::new(&username?, password?.expose(), grace.unwrap_or(GRACE)))
}

fn assertions(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Assertions> {
    let set = keys.open("keys", checker).map(|keys| keys.read("file", checker, |node, checker| public_keys(node, VerifyingKeys::from_jwks, checker)));
    let one = keys.entry("public_key").map(|entry| public_keys(&entry.value, VerifyingKeys::from_pem, checker));
    let (issuer, audience) = (keys.read("issuer", checker, text), keys.read("audience", checker, text));
    let max_lifetime = keys.read("max_lifetime", checker, |node, checker| duration(node, checker, Duration::from_secs(1), LONGEST));
    let unbound = keys.read("unbound", checker, only_true).is_some();
    let max_lifetime = max_lifetime.unwrap_or(Duration::from_secs(60));
    Some(Assertions { keys: set.or(one).flatten()?, issuer: issuer?, audience: audience?, max_lifetime, unbound })
}

/// A file of public keys, which counts like the configuration itself.
fn public_keys(node: &Node, read: impl FnOnce(&[u8]) -> Result<VerifyingKeys, KeyError>, checker: &mut Checker<'_>) -> Option<VerifyingKeys> {
    if checker.environment.is_none() {
        return Some(VerifyingKeys::default());
    }
    let path = readable(node, checker)?;
    let bytes = bytes(&path).map_err(|error| super::secrets::reason(&error));
    let keys = bytes.and_then(|bytes| read(&bytes).map_err(|error| error.to_string()));
    keys.map_err(|why| checker.error(Problem::at(node.span, "this file of public keys cannot be used").label(why))).ok()
}

fn bytes(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn certificates(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Certificates> {
    let subject = |node: &Node, checker: &mut Checker<'_>| {
        parsed(node, checker, "a subject", |text| match text {
            _ if text.starts_with('/') => Err(Wrong::because("in the form of RFC 4514, the last name first").write("\"CN=gateway,O=Example\"")),
            _ if !text.contains('=') => Err(Wrong::because("with the kind of each name").write(format!("CN={text}"))),
            _ if text.split(',').skip(1).any(|part| part.starts_with(' ')) => Err(Wrong::because("without blanks behind its commas")),
            _ => Ok(Arc::from(text)),
        })
    };
    let subjects = keys.read("subjects", checker, |node, checker| some_of(node, checker, subject));
    let uris = keys.read("san_uris", checker, |node, checker| {
        some_of(node, checker, |node, checker| {
            parsed(node, checker, "a URI", |text| {
                if text.contains(':') { Ok(Arc::from(text)) } else { Err(Wrong::because("with its scheme").write(format!("spiffe://example.org/{text}"))) }
            })
        })
    });
    let digests = keys.read("sha256", checker, |node, checker| some_of(node, checker, |node, checker| parsed(node, checker, "a SHA-256 digest", sha256)));
    subjects.map(Certificates::Subjects).or(uris.map(Certificates::SanUris)).or(digests.map(Certificates::Sha256))
}

/// A list that is not empty.
fn some_of<T>(node: &Node, checker: &mut Checker<'_>, reader: impl FnMut(&Node, &mut Checker<'_>) -> Option<T>) -> Option<Vec<T>> {
    let all = list(node, checker, reader)?;
    if all.is_empty() {
        checker.error(Problem::at(node.span, "nobody stands here, so nobody could pass"));
        return None;
    }
    Some(all)
}

/// 64 hexadecimal digits, with colons between pairs or without.
fn sha256(text: &str) -> Result<[u8; 32], Wrong> {
    let wrong = || Wrong::because("64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256` prints them");
    let digits: Vec<u8> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>().ok_or_else(wrong)?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    <[u8; 32]>::try_from(bytes).ok().filter(|_| digits.len() == 64).ok_or_else(wrong)
}

/// What of a route has no effect, or not the one that was meant, because it is a guard.
pub(super) fn of_route(keys: &Keys<'_>, guard: &Guard, identity: &[(http::HeaderName, Claim)], checker: &mut Checker<'_>) {
    for name in ["scopes_match", "covers", "covers_protected"] {
        if let Some(span) = keys.key_span(name) {
            checker.error(Problem::at(span, format!("`{name}` has no effect: a guard asks for no permission")).label("leave it out"));
        }
    }
    if let Some(span) = keys.key_span("cors") {
        let problem = Problem::at(span, "`cors` has no effect: only the gateway comes to a guard, and no web page");
        checker.error(problem.label("leave it out; give it to the gateway's own route"));
    }
    let told = matches!(guard, Guard::BearerJwt(_)) && identity.iter().all(|(_, claim)| *claim == Claim::Subject);
    if let Some(span) = keys.key_span("identity_headers").filter(|_| !told) {
        let problem = Problem::at(span, "`identity_headers` has no effect here: a guard knows nobody but the `sub` of an assertion");
        checker.warn(problem.label("leave it out, or accept `bearer_jwt`"));
    }
}

/// A guard that looks at certificates where no listener asks for one.
pub(super) fn unshown(routes: &[RouteConfig], asked: bool, checker: &mut Checker<'_>) {
    let by_certificate = |route: &&RouteConfig| matches!(route.access, Access::Guard(Guard::ClientCertificate(_)));
    for route in routes.iter().filter(|_| !asked).filter(by_certificate) {
        let problem = Problem::at(Span::at(route.place), "no listener asks clients for a certificate: nobody could pass here");
        checker.error(problem.hint("give the listener's `tls` a `client_auth` and a `client_ca`"));
    }
}

/// `credentials: { jwt }`.
pub(super) fn signer(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Signer> {
    let id = keys.read("key_id", checker, text);
    let key = keys.entry("key").and_then(|entry| {
        let pem = secret_lines(&entry.value, checker).filter(|_| checker.environment.is_some())?;
        let read = SigningKey::from_pem(&pem, id.as_deref());
        read.map_err(|why| checker.error(Problem::at(entry.value.span, "this key cannot sign").label(why.to_string()))).ok()
    });
    let algorithm = keys.read("algorithm", checker, |node, checker| {
        word(node, checker, &[("EdDSA", Algorithm::EdDsa), ("ES256", Algorithm::Es256), ("RS256", Algorithm::Rs256)])
    });
    if let (Some(key), Some(algorithm), Some(span)) = (&key, algorithm, keys.key_span("algorithm"))
        && key.algorithm() != algorithm
    {
        checker.error(Problem::at(span, format!("the key is one for {}", key.algorithm().name())).label("another key, or leave it out"));
    }
    let (issuer, audience) = (keys.read("issuer", checker, text), keys.read("audience", checker, text));
    let lifetime = keys.read("lifetime", checker, |node, checker| duration(node, checker, Duration::from_secs(5), LONGEST));
    let subject = keys.read("subject", checker, only_true).is_some();
    let lifetime = lifetime.unwrap_or(Duration::from_secs(30));
    Some(Signer { key: key?, issuer: issuer?, audience: audience?, lifetime, subject })
}
