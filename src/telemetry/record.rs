//! The record of one request, filled by the layers as the request walks.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, HeaderValue};

use crate::path::OptIns;
use crate::response::{Row, Trail};
use crate::telemetry::{Outcome, Trace, TraceId};
use crate::uma::{ResourceId, Scope};

/// What the introspection cache knew when the request came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheState {
    /// The cache was not asked.
    #[default]
    None,
    /// A fresh answer of this age.
    Hit(Duration),
    /// A fresh refusal.
    NegativeHit,
    /// Nothing, or too old.
    Miss,
}

/// The id of a request: unguessable enough to tell requests apart, safe in any log and header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub Box<str>);

/// The longest method that is admitted and recorded, in octets; the longest registered one has 18 letters.
pub const LONGEST_METHOD: usize = 32;

/// The longest id that is taken from a gateway in front, in octets: those of others are UUIDs, or as long.
const LONGEST_ID: usize = 64;

/// What stands for another method (OpenTelemetry, HTTP conventions).
const OTHER: &[u8] = b"_OTHER";

/// Everything that is kept of a request.
#[derive(Clone, Debug)]
pub struct Record {
    /// The id that the answer carries.
    pub id: RequestId,
    /// When the head had arrived.
    pub time: SystemTime,
    /// The same, for durations.
    pub started: Instant,
    /// The method, as sent; `_OTHER` where it is longer than [`LONGEST_METHOD`].
    pub method: http::Method,
    /// `http` or `https`, as the client sees it.
    pub scheme: &'static str,
    /// The protocol version of the request.
    pub version: http::Version,
    /// The authority asked for, once admitted.
    pub host: Option<Arc<str>>,
    /// The canonical path, once admitted. Never the query.
    pub path: Option<Box<str>>,
    /// The address of the connection's other end.
    pub peer: Option<IpAddr>,
    /// The effective client's address.
    pub client: Option<IpAddr>,
    /// `User-Agent`, shortened.
    pub user_agent: Option<Box<str>>,
    /// The route's pattern.
    pub route: Option<Arc<str>>,
    /// The line of the configuration where the route stands.
    pub route_line: Option<u32>,
    /// The authorization server's name.
    pub server: Option<Arc<str>>,
    /// The resource that the route leads to.
    pub resource: Option<ResourceId>,
    /// Its name in the configuration, parameters filled in.
    pub resource_name: Option<Arc<str>>,
    /// Its owner.
    pub owner: Option<Arc<str>>,
    /// The scopes that the method needs.
    pub needed: Arc<[Scope]>,
    /// The scopes that the token has on the resource.
    pub granted: Vec<Scope>,
    /// The requesting party (`sub`).
    pub subject: Option<Arc<str>>,
    /// The requesting party's user name, where the server tells it.
    pub username: Option<Arc<str>>,
    /// The client application (`client_id` or `azp`).
    pub client_id: Option<Arc<str>>,
    /// Seconds that the token has left.
    pub token_left: Option<Duration>,
    /// Eight hexadecimal digits of the token's keyed hash.
    pub token: Option<[u8; 8]>,
    /// What the cache knew.
    pub cache: CacheState,
    /// Whether a ticket was issued.
    pub ticket_issued: bool,
    /// The rows of the decision table that were passed.
    pub rows: Trail,
    /// Why, where the row does not say it: a constant text, or what was wrong at the authorization server.
    pub reason: Option<Cow<'static, str>>,
    /// What the route would have to admit for the path to pass.
    pub opt_ins: OptIns,
    /// Time spent waiting for the authorization server.
    pub authorization_server: Duration,
    /// The upstream's name.
    pub upstream: Option<Arc<str>>,
    /// The server that was asked.
    pub upstream_address: Option<Arc<str>>,
    /// From the outbound head to the upstream's head.
    pub upstream_duration: Option<Duration>,
    /// The status of the answer; 0 while there is none.
    pub status: u16,
    /// Bytes of the request body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were handed on.
    pub bytes_out: u64,
    /// From head to the end of the answer; set when it ends.
    pub duration: Duration,
    /// From head to the answer's head, without the waits for the authorization server and the upstream: what the gateway itself adds.
    pub overhead: Duration,
    /// Whether the answer was sent to its end.
    pub complete: bool,
    /// The trace that it belongs to, the caller's or ours.
    pub trace_id: Option<TraceId>,
    /// Its place there, where traces are exported.
    pub trace: Option<Box<Trace>>,
}

/// A request's record while the request walks; clones share it.
#[derive(Clone, Debug)]
pub struct Recorder(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    // Taken out when the request has ended; whoever writes later writes on a blank one.
    record: RefCell<Option<Box<Record>>>,
    id: Option<HeaderValue>,
    /// The id that the request had already, where whoever gave it is believed.
    adopted: OnceCell<HeaderValue>,
    answer: RefCell<Vec<(HeaderName, HeaderValue)>>,
    speaks_of_origins: Cell<bool>,
}

impl Record {
    /// A record of a request of which no more is known yet.
    #[must_use]
    pub fn new(id: RequestId, method: http::Method, peer: Option<IpAddr>, scheme: &'static str) -> Self {
        Self {
            id,
            time: SystemTime::now(),
            started: Instant::now(),
            method: recorded(method),
            scheme,
            version: http::Version::HTTP_11,
            host: None,
            path: None,
            peer,
            client: peer,
            user_agent: None,
            route: None,
            route_line: None,
            server: None,
            resource: None,
            resource_name: None,
            owner: None,
            needed: no_scopes(),
            granted: Vec::new(),
            subject: None,
            username: None,
            client_id: None,
            token_left: None,
            token: None,
            cache: CacheState::None,
            ticket_issued: false,
            rows: Trail::default(),
            reason: None,
            opt_ins: OptIns::default(),
            authorization_server: Duration::ZERO,
            upstream: None,
            upstream_address: None,
            upstream_duration: None,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            overhead: Duration::ZERO,
            complete: false,
            trace_id: None,
            trace: None,
        }
    }

    /// The row that says why the request was answered so: the last one, but for a relayed answer (`U1`) and for a challenge (`C3`, `O1`) the decision
    /// that led there. That the gateway's own credential was renewed on the way (`I8`, `C6`) decides nothing when it went well.
    #[must_use]
    pub fn row(&self) -> Option<Row> {
        let last = self.rows.iter().last()?;
        let led_here = |row: &Row| !matches!(row, Row::U1 | Row::C3 | Row::O1 | Row::C6 | Row::I8);
        match last {
            Row::U1 | Row::C3 | Row::O1 => self.rows.iter().filter(led_here).last().or(Some(last)),
            other => Some(other),
        }
    }

    /// The bytes that it takes, without what it shares with the configuration.
    pub(super) fn weight(&self) -> usize {
        let texts = [&self.path, &self.user_agent].into_iter().flatten().map(|text| text.len());
        let shared = [&self.host, &self.resource_name, &self.owner, &self.subject, &self.username, &self.client_id];
        let shared = shared.into_iter().flatten().map(|text| text.len());
        let granted = self.granted.iter().map(|scope| scope.0.len().saturating_add(size_of::<Scope>()));
        let resource = self.resource.iter().map(|resource| resource.0.len()).chain(self.reason.iter().map(|reason| reason.len()));
        let always = [size_of::<Self>(), self.id.0.len(), self.method.as_str().len()];
        texts.chain(shared).chain(granted).chain(resource).chain(always).fold(0, usize::saturating_add)
    }

    /// What was decided, in one word; `None` when the request ended before a decision.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::of(&self.rows)
    }
}

impl Recorder {
    /// A new record.
    #[must_use]
    pub fn new(id: RequestId, method: http::Method, peer: Option<IpAddr>, scheme: &'static str) -> Self {
        let value = HeaderValue::from_str(&id.0).ok();
        let record = RefCell::new(Some(Box::new(Record::new(id, method, peer, scheme))));
        Self(Rc::new(Shared { record, id: value, adopted: OnceCell::new(), answer: RefCell::new(Vec::new()), speaks_of_origins: Cell::new(false) }))
    }

    /// Reads or writes the record. Not to be nested.
    pub fn with<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(self.0.record.borrow_mut().get_or_insert_with(blank))
    }

    /// Notes that the request passed a row.
    pub fn pass(&self, row: Row) {
        self.with(|record| record.rows.push(row));
    }

    /// Adds a header to the answer, whoever gives it (ours or the upstream's): CORS needs this.
    pub fn on_answer(&self, name: HeaderName, value: HeaderValue) {
        self.0.answer.borrow_mut().push((name, value));
    }

    /// Notes that the gateway says which origins may read the answer (`Access-Control-…` by [`Recorder::on_answer`]), and the upstream does not.
    pub fn speak_of_origins(&self) {
        self.0.speaks_of_origins.set(true);
    }

    /// Whether the gateway says which origins may read the answer.
    #[must_use]
    pub fn speaks_of_origins(&self) -> bool {
        self.0.speaks_of_origins.get()
    }

    /// Takes the headers that [`Recorder::on_answer`] has collected; the outermost layer writes them.
    #[must_use]
    pub fn take_answer_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.0.answer.take()
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.with(|record| record.id.clone())
    }

    /// The request's id for a header; one text for all of them.
    #[must_use]
    pub fn id_value(&self) -> Option<HeaderValue> {
        self.0.adopted.get().or(self.0.id.as_ref()).cloned()
    }

    /// Takes the id that a gateway in front has given the request, so that its log and this one name it alike. Only for whoever is believed; what has not the
    /// form of an id is left.
    pub fn adopt(&self, id: &HeaderValue) {
        let is_id =
            |text: &&str| (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if let Some(text) = id.to_str().ok().filter(is_id)
            && self.0.adopted.set(id.clone()).is_ok()
        {
            self.with(|record| record.id = RequestId(text.into()));
        }
    }

    /// Takes the record out without a copy and leaves a blank one: the request has ended.
    #[must_use]
    pub fn take(&self) -> Box<Record> {
        self.0.record.take().unwrap_or_else(blank)
    }

    /// A copy of the record as it stands.
    #[must_use]
    pub fn snapshot(&self) -> Record {
        self.with(|record| record.clone())
    }
}

/// A method that nobody has registered may be as long as a head; records are kept by the thousand.
fn recorded(method: http::Method) -> http::Method {
    if method.as_str().len() <= LONGEST_METHOD { method } else { http::Method::from_bytes(OTHER).unwrap_or_default() }
}

fn blank() -> Box<Record> {
    Box::new(Record::new(RequestId(Box::default()), http::Method::GET, None, "http"))
}

/// The empty list, shared so that a request allocates nothing for it.
fn no_scopes() -> Arc<[Scope]> {
    thread_local!(static NONE: Arc<[Scope]> = Arc::from([]));
    NONE.with(Arc::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_longer_than_any_is_recorded_as_another_one() {
        let written = |length: usize| {
            let method = http::Method::from_bytes("M".repeat(length).as_bytes()).expect("a token");
            let record = Record::new(RequestId("1".into()), method, None, "http");
            crate::telemetry::to_json(&record)["http.request.method"].as_str().map(str::to_owned)
        };
        assert_eq!(written(LONGEST_METHOD), Some("M".repeat(LONGEST_METHOD)));
        assert_eq!(written(LONGEST_METHOD + 1).as_deref(), Some("_OTHER"));
        assert_eq!(written(30_000).as_deref(), Some("_OTHER"));
    }
}
