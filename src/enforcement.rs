//! The decision: token, claims, limits, challenge.

mod config;

pub use config::{Limits, Rate};
