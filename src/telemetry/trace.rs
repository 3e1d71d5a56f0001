//! A request's place in a trace (W3C Trace Context), and the times of its steps.
//!
//! A record carries a [`Trace`] only where traces are exported; then its ids are there from the start, since the upstream is to see them. The spans are
//! made from the finished record, on the log's thread. Nothing here holds a token, a ticket or a query.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Recorder;

/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`, which means nothing without the other.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The least bit of the flags: somebody before us records this trace.
const SAMPLED: u8 = 1;

/// The id of a trace, never all zero. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

/// The id of a span, never all zero. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub [u8; 8]);

/// What a valid `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// Whether the caller records it.
    pub sampled: bool,
}

/// The place of one request in a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The trace, the caller's or a new one.
    pub id: TraceId,
    /// The caller's span, where there was a valid one.
    pub parent: Option<SpanId>,
    /// The span of the request.
    pub span: SpanId,
    /// The span of the request to the upstream, which is the one that the upstream is told.
    pub upstream: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
    /// What took how long, in the order of the ends.
    pub steps: Vec<Timed>,
}

/// Something that a request waits for, with a span of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The whole decision.
    Authorize,
    /// A permission ticket.
    Permission,
    /// An introspection.
    Introspect,
    /// A live decision.
    Decision,
    /// The look-up or registration of a resource.
    Resource,
    /// The request to the content server, to its answer's head.
    Upstream,
}

/// A step that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// Which.
    pub step: Step,
    /// Its beginning.
    pub began: Instant,
    /// Its end.
    pub ended: Instant,
    /// Whether it came to an answer.
    pub answered: bool,
}

/// Measures a step while it lives. Costs one look at the record where nothing is to be measured.
#[derive(Debug)]
pub struct Stopwatch(Option<(Recorder, Step, Instant)>);

impl SpanId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }
}

impl TraceParent {
    /// What these headers say; `None` where it is nothing, or not valid (W3C Trace Context, 3.2).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        // Two of them are as good as none.
        if values.next().is_some() { None } else { Self::parse(value.as_bytes()) }
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_at_checked(2)?;
        let (trace, rest) = rest.strip_prefix(b"-")?.split_at_checked(32)?;
        let (span, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let (flags, rest) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
        let [version] = bytes::<1>(version)?;
        let [flags] = bytes::<1>(flags)?;
        // A later version may say more, behind another dash; this one may not, and the last never will be one.
        if version == 0xff || !(rest.is_empty() || (version > 0 && rest.starts_with(b"-"))) {
            return None;
        }
        let (trace, span) = (TraceId(bytes(trace)?), SpanId(bytes(span)?));
        (trace.0 != [0; 16] && span.0 != [0; 8]).then_some(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }
}

impl Trace {
    /// A new place in the caller's trace, or in a new one.
    #[must_use]
    pub fn new(parent: Option<&TraceParent>, sampled: impl FnOnce(TraceId) -> bool) -> Self {
        let id = parent.map_or_else(|| TraceId(random()), |parent| parent.trace);
        let steps = Vec::new();
        Self { id, parent: parent.map(|parent| parent.span), span: SpanId::random(), upstream: SpanId::random(), sampled: sampled(id), steps }
    }

    /// Writes what the upstream is told in place of what the client sent. A `tracestate` goes on only with the trace that it belongs to.
    pub fn tell_upstream(&self, headers: &mut HeaderMap) {
        let flags = if self.sampled { "01" } else { "00" };
        if let Ok(value) = HeaderValue::try_from(format!("00-{}-{}-{flags}", self.id, self.upstream)) {
            headers.insert(TRACEPARENT, value);
        }
        if self.parent.is_none() {
            headers.remove(TRACESTATE);
        }
    }
}

impl Step {
    /// The span's name; that of the request to the content server is its method.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Authorize => "uma.authorize",
            Self::Permission => "uma.permission",
            Self::Introspect => "uma.introspect",
            Self::Decision => "uma.decision",
            Self::Resource => "uma.resource",
            Self::Upstream => "upstream",
        }
    }
}

impl Recorder {
    /// Begins a step. It ends with [`Stopwatch::answered`], or unanswered when the value is dropped: an error, or a client that has gone.
    #[must_use]
    pub fn step(&self, step: Step) -> Stopwatch {
        let measures = self.with(|record| record.trace.as_ref().is_some_and(|trace| trace.sampled));
        Stopwatch(measures.then(|| (self.clone(), step, Instant::now())))
    }
}

impl Stopwatch {
    /// The step has come to an answer.
    pub fn answered(mut self) {
        self.end(true);
    }

    fn end(&mut self, answered: bool) {
        let Some((recorder, step, began)) = self.0.take() else { return };
        let timed = Timed { step, began, ended: Instant::now(), answered };
        recorder.with(|record| record.trace.iter_mut().for_each(|trace| trace.steps.push(timed)));
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Lower-case hexadecimal digits, and nothing else.
fn bytes<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let mut read = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in read.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(read)
}

/// Random octets, not all zero: a counter of the thread's own through a hash whose key is random, without a lock or a system call.
fn random<const N: usize>() -> [u8; N] {
    use std::cell::Cell;
    thread_local! {
        static COUNTER: Cell<u64> = const { Cell::new(0) };
        static KEY: RandomState = RandomState::new();
    }
    let mut octets = [0; N];
    while octets == [0; N] {
        for piece in octets.chunks_mut(8) {
            let count = COUNTER.get();
            COUNTER.set(count.wrapping_add(1));
            let random = KEY.with(|key| key.hash_one(count)).to_be_bytes();
            piece.iter_mut().zip(random).for_each(|(octet, random)| *octet = random);
        }
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RequestId;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::try_from(*value).expect("a value"));
        }
        headers
    }

    #[test]
    fn a_valid_parent_is_read() {
        let parent = TraceParent::of(&headers(&[VALID])).expect("valid");
        assert_eq!((parent.trace.to_string().as_str(), parent.span.to_string().as_str()), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
        assert!(parent.sampled);
        for (value, sampled) in [(VALID.replace("-01", "-00"), false), (VALID.replace("-01", "-03"), true), (VALID.replace("-01", "-02"), false)] {
            assert_eq!(TraceParent::of(&headers(&[&value])).map(|parent| parent.sampled), Some(sampled), "{value}");
        }
        // A version to come may be longer; what is known of it counts.
        for later in [VALID.replacen("00", "01", 1), format!("{}-more", VALID.replacen("00", "fe", 1))] {
            assert!(TraceParent::of(&headers(&[&later])).is_some(), "{later}");
        }
    }

    #[test]
    fn whatever_else_is_none() {
        let table = [
            String::new(),
            "00".into(),
            VALID.to_uppercase(),
            format!("{VALID}-more"),
            format!("{VALID} "),
            format!(" {VALID}"),
            VALID.replacen("00", "ff", 1),
            VALID.replacen("00", "0", 1),
            VALID.replace('-', "_"),
            VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            VALID.replace("00f067aa0ba902b7", "0000000000000000"),
            VALID.replace("4bf9", "4bg9"),
            VALID.replace("-01", "-1"),
            format!("{}more", VALID.replacen("00", "01", 1)),
        ];
        for value in &table {
            assert_eq!(TraceParent::of(&headers(&[value])), None, "{value}");
        }
        assert_eq!(TraceParent::of(&headers(&[VALID, VALID])), None, "two are as good as none");
        assert_eq!(TraceParent::of(&headers(&[])), None);
    }

    #[test]
    fn a_trace_is_continued_or_begun_and_the_upstream_is_told() {
        let parent = TraceParent::of(&headers(&[VALID]));
        let continued = Trace::new(parent.as_ref(), |_| true);
        assert_eq!((Some(continued.id), continued.parent), (parent.map(|parent| parent.trace), parent.map(|parent| parent.span)));
        let mut told = headers(&[VALID, "nonsense"]);
        told.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let mut begun = told.clone();
        continued.tell_upstream(&mut told);
        assert_eq!(told.get_all(TRACEPARENT).iter().collect::<Vec<_>>(), [&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", continued.upstream)]);
        assert!(told.contains_key(TRACESTATE));

        let new = Trace::new(None, |_| false);
        new.tell_upstream(&mut begun);
        assert_eq!(begun.get(TRACEPARENT).expect("told"), &format!("00-{}-{}-00", new.id, new.upstream));
        assert!(!begun.contains_key(TRACESTATE), "it belongs to a trace that cannot be read");
        assert!(new.span != new.upstream && new.id != continued.id);
    }

    #[test]
    fn steps_are_measured_only_where_the_trace_is_recorded() {
        for (trace, steps) in [(None, 0), (Some(false), 0), (Some(true), 2)] {
            let recorder = Recorder::new(RequestId("4q7zk2".into()), http::Method::GET, None, "http");
            recorder.with(|record| record.trace = trace.map(|sampled| Box::new(Trace::new(None, |_| sampled))));
            recorder.step(Step::Introspect).answered();
            drop(recorder.step(Step::Upstream));
            let measured = recorder.take().trace.map(|trace| trace.steps).unwrap_or_default();
            assert_eq!(measured.len(), steps);
            assert!(measured.iter().all(|timed| timed.began <= timed.ended && timed.answered == (timed.step == Step::Introspect)));
        }
    }
}
