//! Content servers: connections, pools, bytes.
//!
//! Takes an `Outbound` and nothing else, sends it to a server of its upstream and hands on the answer, cleaned of what is not the client's.
//! Bodies stream both ways at the pace of the slower side. Nothing here decides who may ask, and no header of a request is made here but `Host`.

mod answer;
mod config;
mod error;
mod exchange;
mod pool;
mod service;
#[cfg(test)]
mod tests;

pub use config::{Config, Server, Timeouts};
pub use error::UpstreamError;
pub use pool::Pool;
pub use service::{Snapshot, Upstream};

pub use crate::credentials::HostPolicy;
