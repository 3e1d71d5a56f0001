//! `limits`.

use ipnet::IpNet;

/// What one client may cause at the authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Permission tickets.
    pub tickets: Rate,
    /// Introspections that requests wait for; live decisions and look-ups have buckets of the same size.
    pub introspections: Rate,
    /// Addresses without these limits.
    pub off_for: Vec<IpNet>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Per second.
    pub rate: u32,
    /// At once.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { tickets: Rate { rate: 20, burst: 200 }, introspections: Rate { rate: 200, burst: 2000 }, off_for: Vec::new() }
    }
}
