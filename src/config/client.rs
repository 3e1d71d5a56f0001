//! `client`, of an authorization server and of `oauth2`: who the gateway is there, and exactly one thing that shows it.

use std::sync::Arc;

use super::checker::{Checker, Keys};
use super::problem::{Problem, Span};
use super::secrets::{secret, secret_lines};
use super::tree::Entry;
use super::values::{only_true, text};
use crate::authorization_server::{AssertionKey, ClientCredentials, Proof};
use crate::jose::SigningKey;
use crate::secret::Secret;

/// Whether connections to a server show a certificate, for `certificate: true`.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    /// The section's `tls` names one.
    pub named: bool,
    /// What the gateway asks is asked over TLS.
    pub over_tls: bool,
}

/// The client of a section whose connections show a certificate, if they do. `audience` is for whom an assertion is, unless `audience` says otherwise; absent: it
/// is wrong, and has been reported.
pub(super) fn of_server(keys: &Keys<'_>, audience: Option<Arc<str>>, shown: Shown, checker: &mut Checker<'_>) -> Option<ClientCredentials> {
    let certificate = keys.read("certificate", checker, only_true).map(|()| Proof::Certificate);
    if let Some(span) = keys.key_span("certificate") {
        unshown(span, shown, checker);
    }
    credentials(keys, certificate, audience, checker)
}

/// The client at a token endpoint, where connections show no certificate.
pub(super) fn at_endpoint(keys: &Keys<'_>, audience: Option<Arc<str>>, checker: &mut Checker<'_>) -> Option<ClientCredentials> {
    credentials(keys, None, audience, checker)
}

fn unshown(span: Span, shown: Shown, checker: &mut Checker<'_>) {
    if !shown.named {
        let problem = Problem::at(span, "`certificate` needs a certificate to show, and the server's `tls` names none");
        checker.error(problem.write("tls: { client_certificate: FILE, client_key: FILE }"));
    } else if !shown.over_tls {
        let problem = Problem::at(span, "`certificate` has no effect over http://: a certificate is shown by TLS");
        checker.error(problem.label("write https://, or a `secret`"));
    }
}

fn credentials(keys: &Keys<'_>, certificate: Option<Proof>, audience: Option<Arc<str>>, checker: &mut Checker<'_>) -> Option<ClientCredentials> {
    let id = keys.read("id", checker, text);
    let secret = keys.read("secret", checker, secret);
    let in_body = keys.read("in_body", checker, only_true).is_some();
    let key_id = keys.read("key_id", checker, text);
    let audience = keys.read("audience", checker, text).or(audience);
    let key = keys.entry("private_key").and_then(|entry| private_key(entry, key_id.as_deref(), audience, checker));
    for (name, needed, what) in [
        ("in_body", "secret", "it says where a secret stands"),
        ("key_id", "private_key", "it names a private key"),
        ("audience", "private_key", "it says for whom a private key signs"),
    ] {
        if let Some(span) = keys.key_span(name).filter(|_| !keys.names(needed)) {
            checker.error(Problem::at(span, format!("`{name}` has no effect without `{needed}`: {what}")).label("leave it out"));
        }
    }
    let secret = secret.map(|secret| if in_body { Proof::SecretInBody(secret) } else { Proof::Secret(secret) });
    Some(ClientCredentials { id: id?, proof: secret.or(key).or(certificate)? })
}

fn private_key(entry: &Entry, id: Option<&str>, audience: Option<Arc<str>>, checker: &mut Checker<'_>) -> Option<Proof> {
    let pem = secret_lines(&entry.value, checker)?;
    // Whoever reads no secrets has no key to sign with, and asks nobody.
    if checker.environment.is_none() {
        return Some(Proof::Secret(Secret::from("unread")));
    }
    match SigningKey::from_pem(&pem, id) {
        Ok(key) => Some(Proof::PrivateKey(Arc::new(AssertionKey { key, audience: audience?, origin: pem.origin().map(Arc::from) }))),
        Err(why) => {
            let problem = Problem::at(entry.value.span, "this key cannot sign").label(why.to_string());
            checker.error(problem.hint("make one by `openssl genpkey -algorithm ed25519`, or `… -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"));
            None
        }
    }
}
