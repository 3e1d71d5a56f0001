//! Everything the gateway says to an authorization server: discovery, PAT, permission requests, introspection, live decisions, registration.
//!
//! Lives on the control thread; workers read the [`Resources`] view and ask for the rest on a miss. Addresses come from the configuration and the
//! discovery document alone, never from a token, a header or a request.

mod answers;
mod client;
mod config;
mod consent;
mod discovery;
mod error;
mod introspection;
mod json;
mod keep;
mod kept;
mod link;
mod live;
mod pat;
mod profile;
mod renewal;
mod resources;
mod rest;
mod search;
mod server;
mod survey;
#[cfg(any(test, feature = "fuzzing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod uris;
mod who;

pub use config::{Audience, Config, Lenient, Owner, PatSource, ProfileChoice, ServerIdentity, Uma10};
pub use discovery::{Endpoint, Metadata};
pub use error::AskError;
pub use introspection::Answer;
pub use keep::Wanted;
pub use kept::PatStore;
pub use link::{Away, LINK_LIFE, LinkError, Linked};
pub use pat::Held;
pub use profile::{PatOwners, Profile};
pub use resources::{Created, Declared, Description, Reconciled, ResourceKey, Resources, Seen};
pub use server::{CONCURRENT_CALLS, Introspected, Server, TicketError};
pub use uris::{Located, PathResource, UriKey};
pub use who::{AssertionKey, ClientCredentials, Proof, Told, disbelieves_client};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use introspection::{granted as granted_by, read as read_introspection};
