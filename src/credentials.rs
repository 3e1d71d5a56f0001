//! The outbound head: strip everything that could pose as ours, then inject the proxy credential and the forwarding headers.
//!
//! [`outbound_head`] is a plain function that builds a whole new head in one pass, so no header of the client's can remove or double one of ours.
//! Here the RPT ends. `Outbound`, which upstreams take, is made in this room only.

mod assertion;
mod config;
mod forwarding;
mod head;
mod identity;
mod layer;
#[cfg(test)]
mod layer_tests;
mod limit;
mod names;
pub mod oauth2;
mod outbound;
mod proxy;
mod rotation;
mod target;

pub use assertion::Signer;
pub use config::{Config, Credential, HostPolicy};
pub use forwarding::Way;
pub use head::{Framing, HeadInput, Via, outbound_head};
pub use layer::{Credentials, CredentialsLayer, Snapshot};
pub use names::{Reserved, may_be_set};
pub use outbound::{Call, Outbound, OutboundParts};
pub use proxy::Proxy;
pub use rotation::Trial;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use names::Trailers;
