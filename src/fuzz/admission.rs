//! Target `admission`: any head as the HTTP library hands it on; what is let in has one reading, and goes to the route of that reading.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Uri, Version, request};
use hyper::ext::Protocol;
use ipnet::IpNet;

use super::accepted::Tables;
use super::rules;
use crate::body::Body;
use crate::response::Rejection;
use crate::routing::{self, HostPattern, Peer, Request, RouteTable, Routed, RoutedParts, ServedHosts, Step, admit, route};
use crate::telemetry::{Recorder, RequestId};

const NAME: &str = "gw-1";

struct Snapshot {
    tables: Tables,
    trusted: Vec<IpNet>,
}

impl routing::Snapshot for Snapshot {
    fn routes(&self) -> &RouteTable {
        &self.tables.table
    }
    fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted
    }
}

/// A head as it was sent.
struct Sent {
    fields: Vec<(String, Vec<u8>)>,
    target: String,
    /// Whether it was a CONNECT for WebSockets (RFC 8441).
    extended: bool,
}

impl Sent {
    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
    }
}

/// The first line is `METHOD TARGET VERSION WORDS…`, each other one a field. Words may name hosts, as a configuration does: `host=*.example.org`.
pub fn admission(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let Some(first) = lines.next().and_then(|line| std::str::from_utf8(line).ok()) else { return };
    let words: Vec<&str> = first.split(' ').collect();
    let Some((head, sent)) = head(&words, lines) else { return };
    let (version, method) = (head.version, head.method.clone());
    let has = |word: &str| words.contains(&word);
    let hosts = if has("only") { ServedHosts::new(&["photos.example.org", "*.example.net"]) } else { ServedHosts::new::<&str>(&[]) };
    let peer_hosts = hosts.expect("hosts");
    let address = SocketAddr::from(([192, 0, 2, if has("proxy") { 1 } else { 7 }], 4711));
    let peer = Peer {
        address,
        local: SocketAddr::from(([192, 0, 2, 2], 80)),
        scheme: if has("tls") { "https" } else { "http" },
        hosts: peer_hosts.clone(),
        certificate: None,
        counted: Default::default(),
    };
    let recorder = Recorder::new(RequestId("1".into()), head.method.clone(), Some(address.ip()), peer.scheme);
    let refusal = has("suspect").then_some(Rejection::Malformed("seen in the bytes"));
    let Ok(admitted) = admit(Request { head, body: Body::empty(), peer, refusal, recorder }, NAME) else { return };
    assert!(!has("suspect"), "suspect, and let in");
    one_reading(&sent, version, &method);
    let snapshot = snapshot();
    match route(admitted, Arc::clone(&snapshot)) {
        Ok(Step::Onward(mut routed)) => {
            asked(&mut routed, &sent, &snapshot);
            served(&peer_hosts, &routed);
            words.iter().filter_map(|word| word.strip_prefix("host=")).for_each(|host| named(host, routed.authority().host()));
            onward(&sent, &routed.into_parts(), &snapshot, has("only"));
        }
        Ok(Step::Answer(answer)) => assert!(method == Method::OPTIONS && answer.status().is_success(), "an answer to {method} at once"),
        Err(_) => {}
    }
}

fn head<'l>(words: &[&str], lines: impl Iterator<Item = &'l [u8]>) -> Option<(request::Parts, Sent)> {
    let [method, target, version, others @ ..] = words else { return None };
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = Method::from_bytes(method.as_bytes()).ok()?;
    head.uri = Uri::try_from(*target).ok()?;
    head.version = match *version {
        "0.9" => Version::HTTP_09,
        "1.0" => Version::HTTP_10,
        "1.1" => Version::HTTP_11,
        "2" => Version::HTTP_2,
        _ => return None,
    };
    if others.contains(&"websocket") {
        head.extensions.insert(Protocol::from_static("websocket"));
    } else if others.contains(&"protocol") {
        head.extensions.insert(Protocol::from_static("connect-udp"));
    }
    let extended = head.method == Method::CONNECT && others.contains(&"websocket");
    let mut sent = Sent { fields: Vec::new(), target: (*target).to_owned(), extended };
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) else { continue };
        sent.fields.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
        head.headers.append(name, value);
    }
    Some((head, sent))
}

/// What is let in says its host once, its end once, and its method in capitals.
fn one_reading(sent: &Sent, version: Version, method: &Method) {
    let (hosts, lengths, codings) = (sent.all("host"), sent.all("content-length"), sent.all("transfer-encoding"));
    assert!(hosts.len() == 1 || (hosts.is_empty() && version == Version::HTTP_2), "{} hosts", hosts.len());
    assert!(lengths.len() + codings.len() < 2, "framed twice");
    assert!(lengths.iter().all(|length| !length.is_empty() && length.iter().all(u8::is_ascii_digit)), "a length that is none");
    let bits = |length: &[u8]| length.iter().fold(0_u128, |all, digit| all.saturating_mul(10).saturating_add(u128::from(digit.wrapping_sub(b'0'))));
    assert!(lengths.iter().all(|length| bits(length) < 1 << 63), "a length that not every reader holds");
    assert!(codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11), "a coding that is not chunked");
    assert!(version != Version::HTTP_09 && !method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()));
    assert!(!sent.target.contains('#') || Uri::try_from(sent.target.as_str()).is_ok());
    // The last member of each line, where it is a protocol and a name and no more.
    let words = |via: &[u8]| -> Vec<Vec<u8>> {
        let member = via.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        member.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
    };
    assert!(!sent.all("via").iter().any(|via| matches!(&words(via)[..], [_, name] if name == b"gw-1")), "a loop");
    assert!(version == Version::HTTP_10 || sent.all("expect").iter().all(|value| value.eq_ignore_ascii_case(b"100-continue")));
}

/// What later rooms ask of a request is what was admitted and routed.
fn asked(routed: &mut Routed<Snapshot>, sent: &Sent, snapshot: &Arc<Snapshot>) {
    assert!(Arc::ptr_eq(routed.snapshot(), snapshot) && routed.link().is_none());
    let found = snapshot.tables.table.find(routed.authority().host(), routed.path()).expect("the route that it has");
    assert!(Arc::ptr_eq(found.route, routed.route()) && found.params == *routed.params(), "another route than the table's");
    assert_eq!(routed.needs().is_some(), routed.route().protect().is_some());
    assert_ne!(*routed.method(), Method::TRACE);
    assert_eq!(routed.query().is_some(), sent.target.split('#').next().is_some_and(|target| target.contains('?')));
    let authority = routed.authority();
    let text = authority.port().map_or_else(|| authority.host().to_owned(), |port| format!("{}:{port}", authority.host()));
    assert_eq!((authority.as_str(), authority.to_string(), format!("{authority:?}")), (&*text, text.clone(), format!("Authority({text})")));
    routed.recorder().with(|record| assert_eq!((record.host.as_deref(), record.path.as_deref()), (Some(&*text), Some(routed.path().as_str()))));
    let through = routed.peer().address.ip() == snapshot.trusted[0].addr();
    assert_eq!(routed.client().is_through_trusted(), through);
    assert!(through || routed.client().address() == routed.peer().address.ip(), "a client that nobody vouches for");
    let offered = sent.all("upgrade").iter().any(|value| value.eq_ignore_ascii_case(b"websocket")) || sent.extended;
    assert!(routed.upgrade().is_none() || (offered && *routed.method() == Method::GET && !routed.route().config().upgrades.is_empty()));
    // The token ends in the next room.
    routed.headers_mut().remove(AUTHORIZATION);
    assert!(!routed.headers().contains_key(AUTHORIZATION));
}

/// A listener serves the hosts of the route that was found there.
fn served(hosts: &ServedHosts, routed: &Routed<Snapshot>) {
    let (host, of_route) = (routed.authority().host(), &routed.route().config().host);
    assert!(hosts.serves(host) && of_route.matches(host) && hosts.overlaps(of_route), "{host} is not served, or not by {of_route}");
    named(&of_route.to_string(), host);
}

/// A host as a configuration names it reads back as it is shown, and says in the same way what it means.
fn named(text: &str, host: &str) {
    let pattern = match HostPattern::parse(text) {
        Ok(pattern) => pattern,
        Err(problem) => {
            assert_eq!(problem.to_string(), problem.reason());
            return;
        }
    };
    assert_eq!(HostPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "{pattern} is not its own spelling");
    let Ok(exact) = HostPattern::parse(host) else { return };
    let meant =
        text.strip_prefix('*').map_or_else(|| pattern == exact, |_| host.strip_suffix(&pattern.to_string()[1..]).is_some_and(|label| !label.is_empty()));
    assert_eq!((pattern.matches(host), pattern.includes(&exact), pattern.overlaps(&exact)), (meant, meant, meant), "{pattern} and {host}");
    for wider in ["*.org", "*.example.org", "*.example.net"].map(|wider| HostPattern::parse(wider).expect("a pattern")) {
        assert!(!wider.includes(&pattern) || !meant || wider.matches(host), "{wider} includes {pattern}, and not {host}");
        assert_eq!(wider.overlaps(&pattern), pattern.overlaps(&wider));
        assert!(!pattern.includes(&wider) || !wider.matches(host) || meant, "{pattern} includes {wider}, and not {host}");
    }
    assert!(
        HostPattern::Any.includes(&pattern) && !pattern.includes(&HostPattern::Any) && HostPattern::Any.overlaps(&pattern) && HostPattern::Any.matches(host)
    );
}

fn onward(sent: &Sent, parts: &RoutedParts<Snapshot>, snapshot: &Arc<Snapshot>, only: bool) {
    let host = parts.authority.host();
    assert!(!only || host == "photos.example.org" || host.ends_with(".example.net"), "{host} is not served here");
    snapshot.tables.look_up(host, &parts.path);
    assert!(!parts.head.headers.contains_key(HOST) && parts.head.uri == Uri::default(), "a second word on where it goes");
    assert!(parts.head.headers.get_all(COOKIE).iter().count() < 2 || parts.head.version != Version::HTTP_2);
    assert!(parts.head.headers.get_all(CONTENT_LENGTH).iter().chain(parts.head.headers.get_all(TRANSFER_ENCODING).iter()).count() < 2);
    assert!(parts.head.method != Method::CONNECT, "CONNECT goes on");
    for said in sent.all("host") {
        let said = String::from_utf8_lossy(said).to_ascii_lowercase();
        let name = said.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(said.as_str(), |(name, _)| name);
        assert!(name.trim_end_matches('.') == host || host.starts_with('['), "{said} is read as {host}");
    }
    let target = sent.target.split('#').next().unwrap_or_default();
    let raw = target.split_once("://").filter(|_| !target.starts_with('/')).map_or(target, |(_, rest)| rest.find(['/', '?']).map_or("", |at| &rest[at..]));
    let raw = raw.split('?').next().unwrap_or_default();
    let meant = super::lenient::decoded(parts.path.as_str().as_bytes());
    assert!(super::lenient::decoded(raw.as_bytes()) == meant || (raw.is_empty() && meant == b"/"), "{raw} is read as {}", parts.path);
    if let Some(protect) = parts.route.protect() {
        let mapped =
            protect.scopes.methods.iter().any(|(method, ..)| *method == parts.head.method || (parts.head.method == Method::HEAD && *method == Method::GET));
        assert!(mapped, "{} is not mapped", parts.head.method);
    }
}

fn snapshot() -> Arc<Snapshot> {
    static SNAPSHOT: OnceLock<Arc<Snapshot>> = OnceLock::new();
    let text = "protect - /secret/** all\npublic - /** covers cors websocket\nprotect - /open/admin all\nprotect photos.example.org /a/{b} name={b} slash percent semicolon cors\npublic *.example.net /secret/** covers limit";
    let new = || Arc::new(Snapshot { tables: rules::table(text).expect("routes"), trusted: vec!["192.0.2.1/32".parse().expect("a network")] });
    Arc::clone(SNAPSHOT.get_or_init(new))
}
