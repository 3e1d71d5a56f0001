//! The shares API: owners register what is theirs, within what the configuration allows them, and withdraw it.
//!
//! A door of the control plane, on a listener of its own. Whoever asks shows a token of the authorization server, or the operator's key; nobody gives an
//! upstream address. A record is written before the server is asked and finished afterwards, so that whatever ends in between is finished by the next start.

#[cfg(feature = "store")]
mod answers;
#[cfg(feature = "store")]
mod api;
#[cfg(feature = "store")]
mod body;
#[cfg(feature = "store")]
mod caller;
mod config;
#[cfg(feature = "store")]
mod door;
#[cfg(feature = "store")]
mod finish;
#[cfg(feature = "store")]
mod follow;
#[cfg(feature = "store")]
mod lost;
#[cfg(feature = "store")]
mod place;
#[cfg(feature = "store")]
mod registrar;
#[cfg(feature = "store")]
mod standing;
#[cfg(feature = "store")]
mod turns;

/// Random octets of a share's id, which is written in base64url.
#[cfg(feature = "store")]
const ID: usize = 16;

pub use config::{Config, OwnerClaim, Where};
#[cfg(feature = "store")]
pub use {
    door::{OpenShares, SharesDoor, serve_shares},
    follow::Following,
    registrar::Registrar,
    standing::{Example, Survey, Unserved, survey},
};
