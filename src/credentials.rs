//! The outbound head: strip everything that could pose as ours, then inject the proxy credential and the forwarding headers.

mod config;
mod outbound;

pub use config::{Config, Credential, HostPolicy};
pub use outbound::{Outbound, OutboundParts};
