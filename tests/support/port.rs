//! Addresses for servers that are named in a file before they listen: what is tried and let go is anybody's until then, so it has to be one that nobody takes by chance.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that any system takes ports from for connections, and for who does not mind which one.
const FIRST: u16 = 11_000;
const ALL: u16 = 5_000;

/// An address of 127.0.0.1 on which nobody listens. No process gets one of them twice.
pub fn free() -> SocketAddr {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Processes that are started one after the other begin far from each other.
    let start = u16::try_from(u64::from(std::process::id()) * 97 % u64::from(ALL)).expect("a remainder");
    loop {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        assert!(tried < ALL, "every port is taken");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + (start + tried) % ALL));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
