//! The outbound head: strip everything that could pose as ours, then inject the proxy credential and the forwarding headers.

mod config;

pub use config::{Config, Credential};
