//! What operators see: one record per request, which feeds the access log, the audit log, the ring for `explain`, and the metrics.
//!
//! Nothing here blocks a request: finished records go through a bounded channel to a thread of their own; when it is full they are dropped and counted.
//! No token, ticket, secret or cookie ever gets into a record.

pub mod config;
mod events;
mod finish;
mod health;
mod json;
mod layer;
mod line;
mod log;
mod metrics;
mod panics;
mod record;
mod ring;
mod sink;
mod terminal;
mod time;
mod trace;
#[cfg_attr(not(feature = "otel"), path = "telemetry/no_traces.rs")]
mod traces;

pub use events::{AUDITED, init_events};
pub use finish::{BytesIn, Finish, Worker, finish};
pub use health::{Dependency, Health, OwnerLacks, Standing};
pub use layer::{RecordLayer, Recorded, Recording, RecordingFuture};
pub use line::{plain, to_json};
pub use log::{LogError, Telemetry};
pub use metrics::{
    AsEndpoint, AsOutcome, CacheCounters, CacheKind, ConnectionFault, Counting, Followed, METRICS_CONTENT_TYPE, Metrics, MetricsError, Outcome, RetryCounters,
    SecretKind, ServerCounters, ShareState,
};
pub use panics::hush_panics;
pub use record::{CacheState, LONGEST_METHOD, Record, Recorder, RequestId};
pub use ring::Ring;
pub use terminal::{complain, say, typed};
pub use trace::{SpanId, Step, Stopwatch, TRACEPARENT, TRACESTATE, Timed, Trace, TraceId, TraceParent};
pub use traces::TracesError;
