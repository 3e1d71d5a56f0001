//! TLS of listeners and upstreams: which files there are, and whether they can be used together.
//!
//! A certificate that has expired is a warning: the gateway starts, says so, and takes the new one when it is there.

use std::path::PathBuf;
use std::time::Duration;

use super::checker::{Checker, Keys};
use super::description::Section;
use super::problem::{Problem, Span};
use super::tree::Node;
use super::values::{Wrong, duration, file, list, parse_host, parsed, readable, word};
use crate::http_client::TlsFiles;
use crate::listener::{CertificateFiles, ClientAuth, Tls, TlsConfig, TlsError, TlsVersion};
use crate::upstream::{ServerName, UpstreamTls};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// `listeners[].tls`.
pub(super) fn listener(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<TlsConfig> {
    let before = checker.errors.len();
    let about = keys.section_of("certificates");
    let certificates = keys.read("certificates", checker, |node, checker| certificates(node, about?, checker));
    let client_auth = keys.read("client_auth", checker, |node, checker| {
        word(node, checker, &[("none", ClientAuth::None), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)])
    });
    let client_auth = client_auth.unwrap_or_default();
    let reader = if checker.environment.is_some() { there } else { file };
    let client_ca = keys.read("client_ca", checker, reader);
    match (keys.key_span("client_ca"), keys.key_span("client_auth"), client_auth) {
        (None, Some(span), ClientAuth::Optional | ClientAuth::Required) if !keys.names("client_ca") => {
            checker.error(Problem::at(span, "`client_auth` needs `client_ca` beside it: whom to believe").write("client_ca: FILE"));
        }
        (Some(span), None, _) => checker.error(Problem::at(span, "`client_ca` has no effect: clients are not asked").write("client_auth: required")),
        _ => {}
    }
    let min_version = keys.read("min_version", checker, |node, checker| word(node, checker, &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)]));
    let hsts = keys.read("hsts", checker, |node, checker| duration(node, checker, Duration::from_secs(1), DAY * 3650));
    let config =
        TlsConfig { certificates: certificates?, client_ca, client_auth, min_version: min_version.unwrap_or_default(), hsts: hsts.map(|hsts| hsts.as_secs()) };
    // What each file is was looked at; this is the whole, with the client CA.
    if checker.errors.len() == before
        && checker.environment.is_some()
        && let Err(error) = Tls::load(&config)
    {
        let span = keys.key_span("client_ca").unwrap_or(keys.span);
        checker.error(unusable(span, &error));
        return None;
    }
    Some(config)
}

fn certificates(node: &Node, about: &'static Section, checker: &mut Checker<'_>) -> Option<Vec<CertificateFiles>> {
    let all = list(node, checker, |node, checker| certificate(node, about, checker))?;
    if all.is_empty() {
        checker.error(Problem::at(node.span, "TLS needs a certificate").write("[ { certificate: tls.crt, key: tls.key } ]"));
        return None;
    }
    Some(all)
}

fn certificate(node: &Node, about: &'static Section, checker: &mut Checker<'_>) -> Option<CertificateFiles> {
    let keys = checker.section(node, node.span, about)?;
    // The user who runs `explain` may not read the key, and needs not.
    let reader = if checker.environment.is_some() { there } else { file };
    let (chain, key) = (keys.read("certificate", checker, reader), keys.read("key", checker, reader));
    let files = CertificateFiles { certificate: chain?, key: key? };
    if checker.environment.is_none() {
        return Some(files);
    }
    let at = |name| keys.entry(name).map_or(node.span, |entry| entry.value.span);
    match files.check() {
        Ok(certificate) => {
            if let Some(trouble) = certificate.trouble() {
                let problem = Problem::at(at("certificate"), format!("the certificate {} {trouble}", files.certificate.display()));
                checker.warn(problem.label("clients refuse it; a new one is used as soon as it is there"));
            }
            Some(files)
        }
        Err(error) => {
            let of_key = matches!(&error, TlsError::Mismatch { .. } | TlsError::Key { .. } | TlsError::NoPem { what: "private key", .. });
            checker.error(unusable(at(if of_key { "key" } else { "certificate" }), &error));
            checker.files.extend([files.certificate, files.key]);
            None
        }
    }
}

/// A file that can be read. It is watched by itself, since a new certificate is no new configuration; but what makes a configuration wrong counts with it.
fn there(node: &Node, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let others = checker.files.len();
    let path = readable(node, checker)?;
    checker.files.truncate(others);
    Some(path)
}

fn unusable(span: Span, error: &TlsError) -> Problem {
    use std::error::Error as _;
    let problem = Problem::at(span, error.to_string());
    match error.source() {
        Some(cause) => problem.label(cause.to_string()),
        None => problem,
    }
}

/// `upstreams.*.tls`.
pub(super) fn upstream(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<UpstreamTls> {
    let before = checker.errors.len();
    let reader = if checker.environment.is_some() { there } else { file };
    let files = client_files(keys, checker, reader);
    let name = keys.read("name", checker, |node, checker| {
        parsed(node, checker, "the name of a server", |text| {
            let name = parse_host(text)?;
            ServerName::try_from(name.trim_start_matches('[').trim_end_matches(']').to_owned()).map_err(|_| Wrong::because("one host, not many"))
        })
    });
    if checker.errors.len() > before {
        return None;
    }
    let tls = UpstreamTls::new(files, name);
    if checker.environment.is_some()
        && let Err(error) = tls.load()
    {
        use std::error::Error as _;
        let problem = Problem::at(keys.span, error.to_string());
        checker.error(match error.source() {
            Some(cause) => problem.label(cause.to_string()),
            None => problem,
        });
        return None;
    }
    Some(tls)
}

/// Trust and client certificate of a TLS client.
pub(super) fn client_files(keys: &Keys<'_>, checker: &mut Checker<'_>, reader: impl Fn(&Node, &mut Checker<'_>) -> Option<PathBuf> + Copy) -> TlsFiles {
    for (one, other) in [("client_certificate", "client_key"), ("client_key", "client_certificate")] {
        if let Some(span) = keys.key_span(one).filter(|_| !keys.names(other)) {
            checker.error(Problem::at(span, format!("`{one}` needs `{other}` beside it")).write(format!("{other}: FILE")));
        }
    }
    TlsFiles {
        ca: keys.read("ca", checker, reader),
        client_certificate: keys.read("client_certificate", checker, reader),
        client_key: keys.read("client_key", checker, reader),
    }
}
