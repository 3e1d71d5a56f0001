//! How many connections there are, in all and of each client; one count for all workers.
//!
//! Asked once for each connection, never for a request.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Settings;

/// The connections of a gateway.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    client: IpAddr,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// `limits.connections`.
    OfAll,
    /// `limits.connections_per_client`.
    OfClient,
}

impl Seats {
    /// A place for one more connection of this client.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, settings: &Settings) -> Result<Seat, Full> {
        let client = client(address);
        {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let count = clients.entry(client).or_default();
            *count += 1;
        }
        // From here on the seat's drop gives back what was counted.
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { seats: Arc::clone(self), client };
        if before >= settings.connections {
            return Err(Full::OfAll);
        }
        let address = address.to_canonical();
        if settings.off_for.iter().any(|network| network.contains(&address)) {
            return Ok(seat);
        }
        let of_client = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&client).copied().unwrap_or(0);
        if of_client > settings.connections_per_client { Err(Full::OfClient) } else { Ok(seat) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.seats.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// Whom a connection counts for: the address, of IPv6 its /64, since a single host has all of that.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(connections: usize, connections_per_client: usize) -> Settings {
        Settings { connections, connections_per_client, ..Settings::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_seat_that_is_given_back_can_be_taken_again() {
        let seats = Arc::new(Seats::default());
        let settings = settings(10, 2);
        let first = seats.take(ip("192.0.2.1"), &settings);
        let second = seats.take(ip("192.0.2.1"), &settings);
        assert!(first.is_ok() && second.is_ok());
        assert!(seats.take(ip("192.0.2.1"), &settings).is_err());
        assert!(seats.take(ip("192.0.2.2"), &settings).is_ok());
        drop(first);
        assert!(seats.take(ip("192.0.2.1"), &settings).is_ok());
    }

    #[test]
    fn refusals_leave_no_count_behind() {
        let seats = Arc::new(Seats::default());
        for _ in 0..5 {
            assert!(seats.take(ip("192.0.2.1"), &settings(0, 9)).is_err());
        }
        assert_eq!(seats.taken.load(Ordering::Relaxed), 0);
        assert!(seats.clients.lock().unwrap().is_empty());
    }

    #[test]
    fn a_peer_that_many_clients_come_by_is_bound_by_the_count_of_all_only() {
        let seats = Arc::new(Seats::default());
        let settings = Settings { off_for: vec!["192.0.2.0/25".parse().unwrap()], ..settings(4, 1) };
        let held: Vec<_> = (0..3).map(|_| seats.take(ip("::ffff:192.0.2.1"), &settings)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(seats.take(ip("192.0.2.200"), &settings).is_ok(), "another client");
        let other = seats.take(ip("192.0.2.200"), &settings);
        assert!(seats.take(ip("192.0.2.200"), &settings).is_err());
        assert!(other.is_ok() && seats.take(ip("192.0.2.1"), &settings).is_err(), "there are four");
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        assert_eq!(client(ip("2001:db8:1:2:3::4")), client(ip("2001:db8:1:2:ffff::1")));
        assert_ne!(client(ip("2001:db8:1:2::4")), client(ip("2001:db8:1:3::4")));
        assert_eq!(client(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
