//! How much one client may cause at the authorization servers: token buckets for each effective client, one count for all workers.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::config::{Limits, Rate};
use crate::routing::{Client, LimitKey};

/// Clients that are remembered before those with a full bucket are forgotten.
const REMEMBERED: usize = 50_000;

/// The buckets. Lives on the control thread.
pub struct Limiters {
    tickets: DefaultKeyedRateLimiter<LimitKey>,
    introspections: DefaultKeyedRateLimiter<LimitKey>,
    live: DefaultKeyedRateLimiter<LimitKey>,
    look_ups: DefaultKeyedRateLimiter<LimitKey>,
    clock: DefaultClock,
}

/// Which bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Permission tickets.
    Tickets,
    /// Introspections that a request waits for.
    Introspections,
    /// Live decisions that a request waits for: a bucket of their own, as large as that of introspections.
    Live,
    /// Look-ups of resources that nobody has asked for before: a bucket of their own, as large as that of introspections.
    LookUps,
}

impl Limiters {
    /// Full buckets.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            tickets: RateLimiter::keyed(quota(limits.tickets)),
            introspections: RateLimiter::keyed(quota(limits.introspections)),
            live: RateLimiter::keyed(quota(limits.introspections)),
            look_ups: RateLimiter::keyed(quota(limits.introspections)),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one from the client's bucket; `None` is a client without limits.
    ///
    /// # Errors
    /// The bucket is empty; the time after which there is one again.
    pub fn take(&self, kind: Kind, client: Option<&LimitKey>) -> Result<(), Duration> {
        self.take_many(kind, client, NonZeroU32::MIN)
    }

    /// Takes as many as that, or a whole bucket where it holds fewer.
    ///
    /// # Errors
    /// There are not so many in it; the time after which there are.
    pub fn take_many(&self, kind: Kind, client: Option<&LimitKey>, count: NonZeroU32) -> Result<(), Duration> {
        let Some(client) = client else { return Ok(()) };
        let limiter = match kind {
            Kind::Tickets => &self.tickets,
            Kind::Introspections => &self.introspections,
            Kind::Live => &self.live,
            Kind::LookUps => &self.look_ups,
        };
        if limiter.len() > REMEMBERED {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        match limiter.check_key_n(client, count).or_else(|holds| limiter.check_key_n(client, NonZeroU32::new(holds.0).unwrap_or(NonZeroU32::MIN))) {
            Ok(taken) => taken.map_err(|not_yet| not_yet.wait_time_from(self.clock.now())),
            Err(_) => Err(Duration::from_secs(1)),
        }
    }
}

/// The client's bucket; `None` where the configuration lifts the limits for its address.
#[must_use]
pub fn bucket(limits: &Limits, client: &Client) -> Option<LimitKey> {
    bucket_of(limits, client.address())
}

/// The bucket of an address; `None` where the configuration lifts the limits for it.
#[must_use]
pub fn bucket_of(limits: &Limits, address: IpAddr) -> Option<LimitKey> {
    let lifted = limits.off_for.iter().any(|network| network.contains(&address));
    (!lifted).then(|| LimitKey::of(address))
}

fn quota(rate: Rate) -> Quota {
    Quota::per_second(NonZeroU32::new(rate.rate).unwrap_or(NonZeroU32::MIN)).allow_burst(NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN))
}
