//! `health` and `admin`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::secret::Secret;

/// `health`: `/livez /readyz /startupz /metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// Its address.
    pub address: SocketAddr,
}

/// `admin`: where `explain` and reload are asked.
#[derive(Clone, Debug)]
pub enum AdminDoor {
    /// A Unix socket, mode 0600.
    Socket(PathBuf),
    /// An address, with a token that every request must bear.
    Address {
        /// Its address.
        address: SocketAddr,
        /// `Authorization: Bearer …`.
        token: Secret,
    },
}
