//! Content servers: connections, pools, bytes.
//!
//! Takes an `Outbound` and nothing else, sends it to a server of its upstream and hands on the answer, cleaned of what is not the client's.
//! Bodies stream both ways at the pace of the slower side. Nothing here decides who may ask, and no header of a request is made here but `Host`.

mod answer;
mod attempt;
mod check;
mod choose;
mod config;
mod connect;
mod error;
mod exchange;
mod far;
mod fleet;
mod h2;
mod pool;
mod resolve;
mod service;
#[cfg(test)]
mod tests;
mod tls;
mod upload;
mod websocket;

pub use check::Checks;
pub use config::{Address, Config, Ejection, HealthCheck, Protocol, Queue, Server, Sticky, StickyKey, Timeouts};
pub use error::UpstreamError;
pub use fleet::Fleet;
pub use pool::Pool;
pub use service::{Snapshot, Upstream};
pub use tls::{ServerName, UpstreamTls};

pub use crate::credentials::HostPolicy;
