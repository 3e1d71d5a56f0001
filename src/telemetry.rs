//! What operators see: one record per request, which feeds the access log, the audit log, the ring for `explain`, and the metrics.
//!
//! Nothing here blocks a request: finished records go through a bounded channel to a thread of their own; when it is full they are dropped and counted.
//! No token, ticket, secret or cookie ever gets into a record.

pub mod config;
mod record;

pub use record::{CacheState, Record, Recorder, RequestId};
