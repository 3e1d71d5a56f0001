//! `authorization_servers`: from its sections to [`authorization_server::Config`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue, Uri};

use super::checker::{Checker, Keys};
use super::client::{self, Shown};
use super::description::Section;
use super::problem::{Problem, shown};
use super::secrets::secret;
use super::tls::client_files;
use super::tree::{Entry, Node, Value};
use super::upstreams::header_name;
use super::values::{Wrong, boolean, duration, file, only_true, parse_url, parsed, percent, readable, scalar, text, url, word};
use crate::authorization_server::{Audience, ClientCredentials, Config, Lenient, Owner, PatSource, Profile, ProfileChoice, ServerIdentity, Uma10};
use crate::credentials::may_be_set;
use crate::http_client::{TlsFiles, is_loopback};
use crate::response::UnreachableStatus;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MILLISECOND: Duration = Duration::from_millis(1);

/// One section.
pub(super) fn server(entry: &Entry, about: &'static Section, checker: &mut Checker<'_>) -> Option<Config> {
    let keys = checker.section(&entry.value, entry.key_span, about)?;
    let profile = keys.read("profile", checker, |node, checker| {
        let named = Profile::ALL.iter().map(|profile| (profile.name, ProfileChoice::Named(profile)));
        word(node, checker, &[("auto", ProfileChoice::Auto)].into_iter().chain(named).collect::<Vec<_>>())
    });
    let allow_insecure = keys.read("allow_insecure", checker, boolean).unwrap_or(false);
    let issuer = keys.read("issuer", checker, |node, checker| issuer(node, allow_insecure, checker));
    let discovery = keys.read("discovery", checker, |node, checker| secure(node, Some(allow_insecure), checker));
    let backchannel = keys.read("backchannel", checker, |node, checker| backchannel(node, allow_insecure, checker));
    let owners = keys.open("pat", checker).and_then(|pat| owners(&pat, entry, checker)).unwrap_or_default();
    // The user who runs `explain` may not read the key, and needs not.
    let reader = if checker.environment.is_some() { readable } else { file };
    let tls = keys.open("tls", checker);
    let shown = Shown { named: tls.as_ref().is_some_and(|keys| keys.names("client_certificate")), over_tls: over_tls(issuer.as_deref(), backchannel.as_ref()) };
    let tls = tls.map(|keys| client_files(&keys, checker, reader)).unwrap_or_default();
    let client = keys.open("client", checker).and_then(|keys| client::of_server(&keys, issuer.clone(), shown, checker));
    let audience = keys.read("audience", checker, text);
    let realm = keys.read("realm", checker, |node, checker| header_text(node, "a realm", checker));
    let as_uri = keys.read("as_uri", checker, |node, checker| header_text(node, "an address", checker));
    let uma_1_0 = keys.open("uma_1_0", checker).map(|keys| uma_1_0(&keys, checker)).unwrap_or_default();
    let rpt_header = keys.read("rpt_header", checker, rpt_header);
    let lenient = keys.open("lenient", checker).map(|keys| lenient(&keys, checker)).unwrap_or_default();
    let introspection = introspection(&keys, checker);
    let timeout = keys.read("timeout", checker, |node, checker| duration(node, checker, MILLISECOND, Duration::from_secs(60)));
    let live_decision = keys.read("live_decision", checker, boolean);
    let on_unreachable = keys.read("on_unreachable", checker, |node, checker| {
        word(node, checker, &[("403", UnreachableStatus::Forbidden), ("503", UnreachableStatus::Unavailable)])
    });
    without_uma(profile.unwrap_or_default(), &keys, checker);
    let (issuer, client) = (issuer?, client?);
    let audience = match audience {
        Some(any) if &*any == "any" => Audience::Any,
        Some(named) => Audience::Named(named),
        None => Audience::Named(Arc::clone(&client.id)),
    };
    Some(Config {
        name: Arc::from(entry.key.as_str()),
        identity: identity(entry),
        profile: profile.unwrap_or_default(),
        realm: realm.unwrap_or_else(|| default_realm(&issuer)),
        as_uri: as_uri.unwrap_or_else(|| Arc::clone(&issuer)),
        uma_1_0,
        lenient,
        rpt_header,
        issuer,
        discovery,
        backchannel,
        allow_insecure,
        client,
        owners,
        tls,
        audience,
        max_age: introspection.0,
        negative_max_age: introspection.1,
        refresh_window: introspection.2,
        timeout: timeout.unwrap_or(Duration::from_secs(2)),
        live_decision,
        on_unreachable,
    })
}

/// What stands for a section that has mistakes, so that routes that name it are checked all the same. It is never used: there is a problem.
pub(super) fn stand_in(name: &str) -> Config {
    Config {
        name: Arc::from(name),
        identity: ServerIdentity([0; 16]),
        profile: ProfileChoice::Auto,
        issuer: Arc::from(""),
        discovery: None,
        backchannel: None,
        allow_insecure: false,
        client: ClientCredentials::with_secret("", ""),
        owners: BTreeMap::new(),
        tls: TlsFiles::default(),
        audience: Audience::Named(Arc::from("")),
        realm: Arc::from(""),
        as_uri: Arc::from(""),
        uma_1_0: Uma10::default(),
        lenient: Lenient::default(),
        rpt_header: None,
        max_age: Duration::ZERO,
        negative_max_age: Duration::ZERO,
        refresh_window: 0,
        timeout: Duration::ZERO,
        live_decision: None,
        on_unreachable: None,
    }
}

/// Whether the server is asked by https, as far as that is known.
fn over_tls(issuer: Option<&str>, backchannel: Option<&Uri>) -> bool {
    match backchannel {
        Some(backchannel) => backchannel.scheme_str() == Some("https"),
        None => issuer.is_none_or(|issuer| issuer.starts_with("https:")),
    }
}

/// What means something with UMA only.
fn without_uma(profile: ProfileChoice, keys: &Keys<'_>, checker: &mut Checker<'_>) {
    let ProfileChoice::Named(Profile { uma: false, name: profile, .. }) = profile else { return };
    for name in ["pat", "as_uri", "uma_1_0", "lenient", "live_decision"] {
        if let Some(span) = keys.key_span(name) {
            checker.error(Problem::at(span, format!("`{name}` means nothing with profile `{profile}`: there are no tickets")).label("leave it out"));
        }
    }
}

/// `pat.owners`: each by the name that routes have for it.
fn owners(pat: &Keys<'_>, server: &Entry, checker: &mut Checker<'_>) -> Option<BTreeMap<Arc<str>, Owner>> {
    let (entry, about) = (pat.entry("owners")?, pat.section_of("owners")?);
    let Value::Map(entries) = &entry.value.value else {
        checker.hidden.hide(&entry.value);
        let problem = Problem::at(entry.value.span, format!("owners are wanted, each with where the token comes from, and here stands {}", entry.value.kind()));
        checker.error(problem.write("{ alice: { password: { file: PATH } } }"));
        return None;
    };
    if entries.is_empty() {
        checker.error(Problem::at(entry.value.span, "this section is empty").write("{ alice: { password: { file: PATH } } }"));
    }
    let mut owners = BTreeMap::new();
    for owner in entries {
        if owner.key.is_empty() || owner.key.chars().any(char::is_control) {
            checker.error(Problem::at(owner.key_span, "this is not the name of an owner"));
        }
        let Some(keys) = checker.section(&owner.value, owner.key_span, about) else { continue };
        let name: Arc<str> = Arc::from(owner.key.as_str());
        let username = keys.read("username", checker, text).unwrap_or_else(|| Arc::clone(&name));
        let Some(source) = source(&keys, username, checker) else { continue };
        meant_twice(&owners, &source, owner, checker);
        let mut bytes = section(server);
        put(&mut bytes, &owner.key);
        owners.entry(name).or_insert(Owner { source, identity: digested(&bytes) });
    }
    Some(owners)
}

/// Where an owner's token comes from.
fn source(keys: &Keys<'_>, username: Arc<str>, checker: &mut Checker<'_>) -> Option<PatSource> {
    let password = keys.read("password", checker, secret);
    let by_code = keys.read("authorization_code", checker, only_true);
    let subject = keys.read("subject", checker, text);
    if let (Some(span), false) = (keys.key_span("subject"), keys.names("authorization_code")) {
        checker.error(Problem::at(span, "`subject` says who may link the gateway, and this owner does not link it").label("leave it out"));
    }
    match (password, by_code) {
        (Some(password), _) => Some(PatSource::Password { username, password }),
        (None, Some(())) => Some(PatSource::Code { username, subject }),
        (None, None) => None,
    }
}

/// Whoever signs in is one owner.
fn meant_twice(owners: &BTreeMap<Arc<str>, Owner>, source: &PatSource, entry: &Entry, checker: &mut Checker<'_>) {
    let PatSource::Code { username, subject } = source else { return };
    let same = |other: &PatSource| match (other, subject) {
        (PatSource::Code { subject: other, .. }, Some(_)) => other == subject,
        (PatSource::Code { username: other, subject: None }, None) => other == username,
        _ => false,
    };
    if let Some((other, _)) = owners.iter().find(|(_, owner)| same(&owner.source)) {
        checker.error(Problem::at(entry.key_span, format!("whoever signs in as this owner is `{}` as well", shown(other))).label("one user, one owner"));
    }
}

/// What stands in a section, whatever it is.
fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Scalar { .. } | Value::List(_) => &[],
    }
}

/// Owners who link the gateway need a place where they do it, and one where it is remembered.
pub(super) fn linkable(file: &Keys<'_>, is_public: bool, checker: &mut Checker<'_>) {
    let Some(servers) = file.entry("authorization_servers") else { return };
    let below = |node, name: &str| entries(node).iter().find(|entry| entry.key == name).map(|entry| &entry.value);
    let owners = entries(&servers.value).iter().filter_map(|server| below(below(&server.value, "pat")?, "owners")).flat_map(entries);
    let codes = owners.flat_map(|owner| entries(&owner.value)).filter(|entry| entry.key == "authorization_code");
    for span in codes.map(|entry| entry.key_span) {
        if !file.names("store") {
            let problem = Problem::at(span, "owners who link the gateway need `store`: every restart would close what they have");
            checker.error(problem.write("store: { file: records.db, key: { file: PATH } }"));
        }
        if !is_public {
            let problem = Problem::at(span, "owners who link the gateway need `admin.public_url`: their browsers come back there");
            checker.error(problem.write("admin: { …, public_url: \"https://gateway-admin.example.org\" }"));
        }
    }
}

fn introspection(keys: &Keys<'_>, checker: &mut Checker<'_>) -> (Duration, Duration, u8) {
    let keys = keys.open("introspection", checker);
    let keys = keys.as_ref();
    let max_age = keys.and_then(|keys| keys.read("max_age", checker, |node, checker| duration(node, checker, MILLISECOND, DAY)));
    let negative = keys.and_then(|keys| keys.read("negative_max_age", checker, |node, checker| duration(node, checker, Duration::ZERO, DAY)));
    let window = keys.and_then(|keys| keys.read("refresh_window", checker, percent));
    (max_age.unwrap_or(Duration::from_secs(30)), negative.unwrap_or(Duration::from_secs(5)), window.unwrap_or(20))
}

/// The issuer byte for byte: RFC 8414, 2: https, without query and fragment.
fn issuer(node: &Node, allow_insecure: bool, checker: &mut Checker<'_>) -> Option<Arc<str>> {
    let text = parsed(node, checker, "an issuer", |text| {
        let uri = parse_url(text)?;
        if uri.query().is_some() { Err(Wrong::because("an issuer has no query (`?…`)")) } else { Ok(text.to_owned()) }
    })?;
    secure(node, Some(allow_insecure), checker)?;
    Some(Arc::from(text))
}

fn backchannel(node: &Node, allow_insecure: bool, checker: &mut Checker<'_>) -> Option<Uri> {
    let uri = secure(node, Some(allow_insecure), checker)?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let problem = Problem::at(node.span, "`backchannel` replaces scheme and authority only").label("without a path");
        checker.error(problem.write(format!("{}://{}", uri.scheme_str().unwrap_or("https"), shown(authority))));
        return None;
    }
    Some(uri)
}

/// A URL that secrets and tokens may be sent to: https, or http on loopback, or anywhere where the section's `allow_insecure` (if it has one) says so.
pub(super) fn secure(node: &Node, allow_insecure: Option<bool>, checker: &mut Checker<'_>) -> Option<Uri> {
    let uri = url(node, checker)?;
    if uri.scheme_str() == Some("http") && allow_insecure != Some(true) && !is_loopback(uri.host().unwrap_or_default()) {
        let problem = Problem::at(node.span, "http:// to another machine: client secrets and tokens would travel in the clear");
        let problem = problem.label("write https://");
        checker.error(match allow_insecure {
            Some(_) => problem.hint("or      say `allow_insecure: true`, if the network between is yours alone"),
            None => problem,
        });
        return None;
    }
    Some(uri)
}

/// A text that can stand in the challenge.
fn header_text(node: &Node, what: &str, checker: &mut Checker<'_>) -> Option<Arc<str>> {
    parsed(node, checker, what, |text| match HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => Ok(Arc::from(text)),
        _ => Err(Wrong::because("printable ASCII only: it stands in a header")),
    })
}

fn uma_1_0(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Uma10 {
    let ticket_in_body = keys.read("ticket_in_body", checker, boolean).unwrap_or(false);
    let insufficient_is_forbidden = keys.read("insufficient_status", checker, |node, checker| word(node, checker, &[("401", false), ("403", true)]));
    Uma10 { ticket_in_body, insufficient_is_forbidden: insufficient_is_forbidden.unwrap_or(false) }
}

fn lenient(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Lenient {
    let mut read = |name| keys.read(name, checker, boolean).unwrap_or(false);
    Lenient { without_scopes: read("permission_without_scopes"), without_resource: read("permission_without_resource") }
}

/// A header that means nothing else.
fn rpt_header(node: &Node, checker: &mut Checker<'_>) -> Option<HeaderName> {
    let name = header_name(scalar(node, checker, "a header")?, node.span, checker)?;
    if [AUTHORIZATION, COOKIE].contains(&name) || !may_be_set(&name) {
        let problem = Problem::at(node.span, format!("`{name}` means something else")).label("a header of its own");
        checker.error(problem.write("X-FRDP-RPT"));
        return None;
    }
    Some(name)
}

/// The issuer's last path segment, else its host.
fn default_realm(issuer: &str) -> Arc<str> {
    let uri: Option<Uri> = issuer.parse().ok();
    let uri = uri.as_ref();
    let segment = uri.and_then(|uri| uri.path().rsplit('/').find(|segment| !segment.is_empty()));
    Arc::from(segment.or_else(|| uri.and_then(Uri::host)).unwrap_or(issuer))
}

/// A digest of name and section without secrets, and without what says how one is shown. Keys are sorted and every text carries its length, so that no two sections write the same bytes.
fn identity(entry: &Entry) -> ServerIdentity {
    digested(&section(entry))
}

fn section(entry: &Entry) -> Vec<u8> {
    let mut bytes = b"authorization server 1\n".to_vec();
    put(&mut bytes, &entry.key);
    write_canonical(&mut bytes, &entry.value);
    bytes
}

fn digested(bytes: &[u8]) -> ServerIdentity {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut identity = [0; 16];
    for (to, from) in identity.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    ServerIdentity(identity)
}

/// What is offered to a server that runs, and makes no other server of it.
const NEWS: [&str; 5] = ["secret", "password", "private_key", "key_id", "in_body"];

fn write_canonical(bytes: &mut Vec<u8>, node: &Node) {
    match &node.value {
        Value::Scalar { text, .. } => {
            bytes.push(b's');
            put(bytes, text);
        }
        Value::List(items) => {
            bytes.push(b'l');
            bytes.extend((items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| write_canonical(bytes, item));
        }
        Value::Map(entries) => {
            let mut entries: Vec<&Entry> = entries.iter().filter(|entry| !NEWS.contains(&entry.key.as_str())).collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            bytes.push(b'm');
            bytes.extend((entries.len() as u64).to_be_bytes());
            for entry in entries {
                put(bytes, &entry.key);
                write_canonical(bytes, &entry.value);
            }
        }
    }
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_be_bytes());
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_realm_is_the_last_segment_of_the_issuer_or_its_host() {
        assert_eq!(&*default_realm("https://id.example.org/realms/photoz"), "photoz");
        assert_eq!(&*default_realm("https://id.example.org/realms/photoz/"), "photoz");
        assert_eq!(&*default_realm("https://id.example.org:8443"), "id.example.org");
    }

    #[test]
    fn loopback_is_127_and_its_kin() {
        for host in ["127.0.0.1", "127.8.8.8", "[::1]", "localhost", "[::ffff:127.0.0.1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["10.0.0.1", "id.example.org", "localhost.example.org", "0.0.0.0", "127.0.0.1.example.org"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
