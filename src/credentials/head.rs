//! The outbound head, built as a whole.
//!
//! First what may go on is taken over, then ours is set: no field of the client's, in whatever spelling or order, survives under a name of ours,
//! and none can take one of ours away, since `Connection` is read before ours are there (RFC 9110, 7.6.1).

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, VIA};
use http::uri::PathAndQuery;
use http::{Method, Version, request};

use super::names::Fate;
use super::proxy::Occasion;
use super::{HostPolicy, Proxy, Way, forwarding, identity, target};
use crate::holes::{Hole, open};
use crate::response::{Rejection, X_REQUEST_ID};
use crate::routing::{Claim, Extended, Upgrade};
use crate::secret::conceal;
use crate::telemetry::Trace;

/// All that the outbound head is made from.
pub struct HeadInput<'a> {
    /// What the client sent. Its target is not looked at.
    pub head: request::Parts,
    /// The canonical path, rewritten where the route says so, and the query.
    pub target: PathAndQuery,
    /// The authority that the client asked for.
    pub authority: &'a str,
    /// The way that the request came.
    pub way: Way<'a>,
    /// How the body is framed.
    pub framing: Framing,
    /// The upgrade that is asked for, if the route allows it.
    pub upgrade: Option<Upgrade>,
    /// The request's id.
    pub id: Option<HeaderValue>,
    /// The upstream's credential, Host policy and the reserved names.
    pub proxy: &'a Proxy,
    /// The `Authorization` of an `oauth2` credential.
    pub token: Option<&'a HeaderValue>,
    /// The route's identity headers.
    pub identity: &'a [(HeaderName, Claim)],
    /// What is known of who asks.
    pub claim: &'a dyn Fn(&Claim) -> Option<&'a str>,
    /// The gateway's entry in `Via`.
    pub via: &'a Via,
    /// The request's place in a trace, where the gateway takes part in it; else the client's `traceparent` goes on as it came.
    pub trace: Option<&'a Trace>,
}

/// Our entry in `Via` (RFC 9110, 7.6.3): the version in which the request came, and a name that tells nothing of the host. Written once, then shared.
#[derive(Clone, Debug)]
pub struct Via {
    http_10: Option<HeaderValue>,
    http_11: Option<HeaderValue>,
    http_2: Option<HeaderValue>,
}

impl Via {
    /// The entry under this name.
    #[must_use]
    pub fn new(pseudonym: &str) -> Self {
        let entry = |version: &str| HeaderValue::try_from([version, pseudonym].concat()).ok();
        Self { http_10: entry("1.0 "), http_11: entry("1.1 "), http_2: entry("2 ") }
    }

    fn of(&self, version: Version) -> Result<HeaderValue, Rejection> {
        let entry = match version {
            Version::HTTP_10 => &self.http_10,
            Version::HTTP_2 => &self.http_2,
            _ => &self.http_11,
        };
        entry.clone().ok_or(Rejection::Internal)
    }
}

/// How the body of the outbound request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// The end is not known yet.
    Chunked,
}

/// Builds the head that the upstream gets.
///
/// # Errors
/// When a part of it cannot be written, which no admitted request causes.
pub fn outbound_head(input: HeadInput<'_>) -> Result<request::Parts, Rejection> {
    let request::Parts { method, version, headers: client, extensions, .. } = input.head;
    let trailers = wants_trailers(&client);
    let late = if open(Hole::CredentialDroppedByConnection) { connection_options(&client) } else { Vec::new() };
    let mut headers = taken_over(client, input.proxy, input.way);

    set_host(&mut headers, &input.proxy.host, input.authority)?;
    forwarding::set(&mut headers, input.way);
    // Behind those that are there.
    headers.append(VIA, input.via.of(version)?);
    headers.insert(X_REQUEST_ID, input.id.ok_or(Rejection::Internal)?);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(upgrade) = input.upgrade {
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade.name()));
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    set_framing(&mut headers, &method, input.framing);
    for (name, claim) in input.identity {
        if let Some(value) = (input.claim)(claim).and_then(identity::value) {
            headers.insert(name.clone(), value);
        }
    }
    if let Some(trace) = input.trace {
        trace.tell_upstream(&mut headers);
    }
    let target = target::origin_form(input.target)?;
    let sent = target.path_and_query().map_or("/", PathAndQuery::as_str);
    let subject = (input.claim)(&Claim::Subject);
    input.proxy.inject(&mut headers, &Occasion { method: &method, target: sent, subject, token: input.token })?;
    for name in late {
        headers.remove(name);
    }

    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = method;
    head.uri = target;
    head.version = Version::HTTP_11;
    head.headers = headers;
    // Whoever talks to the server has a key to make up and to check.
    if let Some(extended) = extensions.get::<Extended>().filter(|_| input.upgrade.is_some()) {
        head.extensions.insert(*extended);
    }
    Ok(head)
}

/// The client's fields that go on.
fn taken_over(client: HeaderMap, proxy: &Proxy, way: Way<'_>) -> HeaderMap {
    let named = connection_options(&client);
    let mut headers = HeaderMap::with_capacity(client.len() + 8);
    let mut current: Option<(HeaderName, Fate)> = None;
    for (name, value) in client {
        // A further value of the same field comes without its name.
        if let Some(name) = name {
            let fate = proxy.reserved.fate(&name);
            current = Some((name, fate));
        }
        match &current {
            Some((name, Fate::Pass)) if !named.contains(name) => drop(headers.append(name.clone(), value)),
            // `Connection` cannot take away what a trusted proxy says of the client: a careless one passes on the client's `Connection`.
            Some((name, Fate::Forwarding)) if way.trusted => drop(headers.append(name.clone(), value)),
            Some((name, Fate::Address)) if way.trusted => drop(forwarding::client(way).map(|address| headers.insert(name.clone(), address))),
            _ => {}
        }
    }
    for name in [AUTHORIZATION, COOKIE] {
        conceal(&mut headers, name);
    }
    headers
}

/// The fields that the client's `Connection` names.
fn connection_options(client: &HeaderMap) -> Vec<HeaderName> {
    let names = client.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    let mut present: Vec<HeaderName> = Vec::new();
    for name in names {
        // Only fields that are there matter; this also bounds the list.
        if client.contains_key(&name) && !present.contains(&name) {
            present.push(name);
        }
    }
    present
}

fn wants_trailers(client: &HeaderMap) -> bool {
    client
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// With `host: upstream` the field is left to the room that picks the server.
fn set_host(headers: &mut HeaderMap, policy: &HostPolicy, authority: &str) -> Result<(), Rejection> {
    match policy {
        HostPolicy::Preserve => {
            headers.insert(HOST, HeaderValue::from_str(authority).map_err(|_| Rejection::Internal)?);
        }
        HostPolicy::Named(host) => {
            headers.insert(HOST, host.clone());
        }
        HostPolicy::Upstream => {}
    }
    Ok(())
}

fn set_framing(headers: &mut HeaderMap, method: &Method, framing: Framing) {
    match framing {
        // Some servers answer 411 to these without a length (RFC 9110, 8.6).
        Framing::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0u64));
        }
        Framing::None => {}
        Framing::Length(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Framing::Chunked => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

#[cfg(test)]
mod tests;
