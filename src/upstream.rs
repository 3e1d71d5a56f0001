//! Content servers: connections, pools, bytes.

mod config;

pub use config::{Config, HostPolicy, Server, Timeouts};
