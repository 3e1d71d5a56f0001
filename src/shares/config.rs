//! `shares`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::authorization_server;
use crate::secret::Secret;
use crate::uma::Scope;

/// The section `shares`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the API is.
    pub at: Where,
    /// The authorization server whose owners share.
    pub server: Arc<authorization_server::Config>,
    /// What an owner's token must have.
    pub scope: Scope,
    /// Which member of the introspection answer names the owner.
    pub owner: OwnerClaim,
    /// The operator's key, who registers for anybody.
    pub admin_key: Option<Secret>,
    /// What links begin with, without a slash at the end.
    pub public_url: Arc<str>,
    /// Its host, as routes name it.
    pub host: Box<str>,
    /// The path below which links are, with a slash in front and none at the end.
    pub prefix: Arc<str>,
    /// How many shares one owner may have.
    pub per_owner: u64,
}

/// Where the API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// A Unix socket, mode 0600.
    Socket(PathBuf),
    /// An address.
    Address(SocketAddr),
}

/// Who an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OwnerClaim {
    /// `sub`.
    #[default]
    Subject,
    /// `username` (`preferred_username`).
    Username,
}
