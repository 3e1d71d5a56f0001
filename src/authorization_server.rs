//! Everything the gateway says to an authorization server: discovery, PAT, permission requests, introspection, live decisions, registration.
//!
//! Lives on the control thread. Workers hold handles; they ask only on a miss.

mod config;

pub use config::{Audience, ClientCredentials, Config, ProfileChoice, ServerIdentity};
