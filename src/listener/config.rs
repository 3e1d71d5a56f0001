//! What the configuration says of a listener.

use std::net::SocketAddr;

/// One entry of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The address; port 0 takes any.
    pub address: SocketAddr,
    /// The hosts that are served here (lower case, `*.` allowed in front); empty: any. Another one is 421.
    pub hosts: Vec<Box<str>>,
}
