//! How often one client may be wrong at guards: one count for all workers, by the rate that bounds tokens which nobody knows.
//!
//! A client that has been wrong too often is not heard until the rate allows another guess: then a right one would be refused as well, or the bound were none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::config::Rate;
use crate::routing::LimitKey;

/// Clients that are remembered before those whom nothing is held against are forgotten.
const REMEMBERED: usize = 50_000;

/// The wrong credentials of each client. Clones count together.
#[derive(Clone, Default)]
pub struct Guesses(Arc<Counted>);

#[derive(Default)]
struct Counted {
    /// Whether there is any: where nobody is ever wrong, nobody takes the lock.
    any: AtomicBool,
    /// When the last of them will have been worked off at the rate.
    clients: Mutex<HashMap<LimitKey, Instant>>,
}

impl Guesses {
    /// Whether a credential of this client is looked at; `None` is a client without limits.
    ///
    /// # Errors
    /// It was wrong too often; the time after which it is heard again.
    pub fn hear(&self, rate: Rate, client: Option<&LimitKey>) -> Result<(), Duration> {
        let Some(client) = client.filter(|_| self.0.any.load(Ordering::Relaxed)) else { return Ok(()) };
        let clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(owed) = clients.get(client).map(|until| until.saturating_duration_since(Instant::now())) else { return Ok(()) };
        match owed.saturating_sub(each(rate).saturating_mul(rate.burst.saturating_sub(1))) {
            Duration::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// It was wrong.
    pub fn wrong(&self, rate: Rate, client: Option<&LimitKey>) {
        let Some(client) = client else { return };
        let now = Instant::now();
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= REMEMBERED {
            clients.retain(|_, until| *until > now);
        }
        let until = clients.entry(*client).or_insert(now);
        *until = (*until).max(now) + each(rate);
        self.0.any.store(true, Ordering::Relaxed);
    }
}

/// The time in which one is worked off.
fn each(rate: Rate) -> Duration {
    Duration::from_secs(1).checked_div(rate.rate).unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { rate: 2, burst: 3 };

    fn key(address: &str) -> LimitKey {
        LimitKey::of(address.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_wrong_too_often_is_heard_again_at_the_rate() {
        let (guesses, mallory, alice) = (Guesses::default(), key("192.0.2.1"), key("192.0.2.2"));
        let another = guesses.clone();
        for _ in 0..3 {
            assert_eq!(another.hear(RATE, Some(&mallory)), Ok(()));
            guesses.wrong(RATE, Some(&mallory));
        }
        assert_eq!(another.hear(RATE, Some(&mallory)), Err(Duration::from_millis(500)));
        assert_eq!(guesses.hear(RATE, Some(&alice)), Ok(()), "each for itself");
        assert_eq!(guesses.hear(RATE, None), Ok(()), "whoever has no limits");
        tokio::time::advance(Duration::from_millis(499)).await;
        assert_eq!(guesses.hear(RATE, Some(&mallory)), Err(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(guesses.hear(RATE, Some(&mallory)), Ok(()));
        guesses.wrong(RATE, Some(&mallory));
        assert!(guesses.hear(RATE, Some(&mallory)).is_err(), "one more each time");
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..3 {
            assert_eq!(guesses.hear(RATE, Some(&mallory)), Ok(()), "all of them after a while");
            guesses.wrong(RATE, Some(&mallory));
        }
        assert!(guesses.hear(RATE, Some(&mallory)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn clients_whom_nothing_is_held_against_are_forgotten() {
        let guesses = Guesses::default();
        for number in 0..REMEMBERED {
            guesses.wrong(RATE, Some(&LimitKey::of(std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into())));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        guesses.wrong(RATE, Some(&key("192.0.2.1")));
        assert_eq!(guesses.0.clients.lock().unwrap().len(), 1);
    }
}
