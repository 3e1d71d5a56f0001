//! The whole gateway from outside: real sockets, a real file of configuration, an authorization server and a content server that remember.
//!
//! `rows/` has a test for each row of the decision table, which asserts five things; the other files hold the figures and the flows. `support/` builds the
//! [`support::World`] that they all live in.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod answers;
mod bodies;
mod clients;
mod connect;
#[cfg(feature = "store")]
mod created;
mod early;
mod explain;
mod faults;
mod figures;
mod flows;
mod framing;
mod guard;
mod h2_upstream;
mod http2;
mod matrix;
mod named;
mod names;
mod outage;
mod profiles;
mod records;
mod rows;
mod sequence;
mod servers;
#[cfg(feature = "store")]
mod shares;
mod support;
mod tls;
mod traffic;
mod uris;
mod websocket;
