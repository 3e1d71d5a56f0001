//! How many connections there are, in all and of each client, and how many requests a client has under way over HTTP/2; one count for all workers.
//!
//! The table is asked once for each connection; a request touches a number only.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Settings;

/// The connections of a gateway.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: AtomicUsize,
    clients: Mutex<HashMap<IpAddr, Client>>,
}

#[derive(Debug, Default)]
struct Client {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    client: IpAddr,
    requests: Arc<AtomicUsize>,
    /// How many requests all its connections may have under way.
    most: usize,
}

/// A request under way, until it is dropped. Its connection's place stays taken as long: who closes the connection and comes back counts on from there.
#[derive(Debug)]
pub(super) struct Asks(Arc<Seat>);

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
        let (requests, of_client) = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let client = clients.entry(client).or_default();
            client.connections += 1;
            (Arc::clone(&client.requests), client.connections)
        };
        // From here on the seat's drop gives back what was counted.
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let mut seat = Seat { seats: Arc::clone(self), client, requests, most: usize::MAX };
        if before >= settings.connections {
            return Err(Full::OfAll);
        }
        let address = address.to_canonical();
        if settings.off_for.iter().any(|network| network.contains(&address)) {
            return Ok(seat);
        }
        seat.most = settings.connections_per_client;
        if of_client > settings.connections_per_client { Err(Full::OfClient) } else { Ok(seat) }
    }
}

impl Seat {
    /// One more request of this client over HTTP/2; `None`: it has as many under way as it may have connections, or it could take all that content servers have.
    pub(super) fn ask(self: &Arc<Self>) -> Option<Arc<Asks>> {
        let more = |count: usize| (count < self.most).then_some(count.saturating_add(1));
        self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Arc::new(Asks(Arc::clone(self))))
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.seats.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get_mut(&self.client) {
            client.connections = client.connections.saturating_sub(1);
            if client.connections == 0 {
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
    fn requests_of_all_connections_of_a_client_count_together() {
        let seats = Arc::new(Seats::default());
        let settings = settings(10, 2);
        let take = |address| Arc::new(seats.take(ip(address), &settings).unwrap());
        let (one, two, other) = (take("192.0.2.1"), take("192.0.2.1"), take("192.0.2.2"));
        let (first, second) = (one.ask(), two.ask());
        assert!(first.is_some() && second.is_some() && one.ask().is_none() && two.ask().is_none(), "there are two");
        assert!(other.ask().is_some(), "another client has its own");
        drop(first);
        assert!(two.ask().is_some());
    }

    #[test]
    fn a_request_that_outlives_its_connection_counts_on_and_the_connection_with_it() {
        let seats = Arc::new(Seats::default());
        let settings = settings(10, 2);
        let take = || seats.take(ip("192.0.2.1"), &settings).map(Arc::new);
        let first = take().unwrap();
        let asked = first.ask();
        drop(first);
        let second = take().unwrap();
        assert!(take().is_err(), "there are two");
        let another = second.ask();
        assert!(another.is_some() && second.ask().is_none(), "with that of the connection that is gone");
        drop(asked);
        assert!(second.ask().is_some() && take().is_ok());
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
