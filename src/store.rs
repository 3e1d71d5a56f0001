//! Records that outlive a restart: resources that were registered for their owners, and the tokens that they were registered with.
//!
//! One SQLite file, written by one connection, and a [`View`] of what a request needs. What a method says is done is on the disk; what it has begun it
//! finishes, whether or not its caller waits. Tokens are encrypted before they come near the database (`crypto`). Everything here runs on the control
//! thread, but for the view: nothing on the way of a request waits for the database.

mod config;
#[cfg(feature = "store")]
mod counting;
#[cfg(feature = "store")]
mod credentials;
#[cfg(feature = "store")]
mod crypto;
#[cfg(feature = "store")]
mod database;
#[cfg(feature = "store")]
mod error;
mod lookup;
#[cfg(feature = "store")]
mod migrations;
#[cfg(feature = "store")]
mod records;
#[cfg(feature = "store")]
mod resources;
mod template;
#[cfg(all(test, feature = "store"))]
mod tests;
#[cfg(feature = "store")]
mod view;

pub use config::{Config, Key, KeyProblem};
pub use lookup::{DEEPEST, Lookup, Registered, ResourceKey, UNREAD};
pub use template::one_path;
#[cfg(feature = "store")]
pub use {
    counting::Counts,
    error::StoreError,
    open::Store,
    records::{Credential, CredentialKey, Resource, ResourceRecord, State},
    template::{MOST_TEMPLATES, MOST_TEMPLATES_OF_ALL},
    view::View,
};

#[cfg(feature = "store")]
mod open;
