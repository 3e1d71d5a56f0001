//! The configuration, its secrets and its listeners change while requests are served; and the gateway ends without cutting one off.

#![expect(clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod drain;
mod files;
mod limits;
mod rotation;
#[cfg(feature = "store")]
mod shares;
mod support;
mod whole;
