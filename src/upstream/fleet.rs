//! The servers of all upstreams as every worker sees them: how each is doing, and how many connections it has.
//!
//! A server that fails is left alone for a while (passive ejection) and one that does not answer health checks until it does (`check`). Where no server
//! of an upstream is left, all of them are asked again: a guess is better than a refusal. What is known of a server outlives a reload that keeps it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connect::Connector;
use super::{Address, Config, Ejection, Protocol, Server, ServerName, Sticky};
use crate::http_client::TlsFiles;
use crate::telemetry::{Metrics, ServerCounters};

/// All servers, shared by all threads.
pub struct Fleet {
    metrics: Arc<Metrics>,
    /// Of the names of servers in sticky cookies, where the configuration has none; nothing when the system gives no random octets.
    key: Option<hmac::Key>,
    origin: Instant,
    members: Mutex<HashMap<Key, Arc<Member>>>,
}

/// A server keeps its state over a reload while these stay the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    upstream: Arc<str>,
    address: Address,
    places: usize,
    protocol: Protocol,
    trust: Option<(TlsFiles, Option<ServerName<'static>>)>,
}

/// One server of one upstream.
pub(super) struct Member {
    /// The server as the configuration names it.
    pub(super) label: Arc<str>,
    pub(super) connector: Connector,
    pub(super) counters: ServerCounters,
    upstream: Arc<str>,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Tells whoever keeps unused connections that another worker waits for one.
    pub(super) wanted: Notify,
    origin: Instant,
    sick: AtomicBool,
    failures: AtomicU32,
    rests: AtomicU32,
    /// One request finds out how it is.
    trial: AtomicBool,
    /// Milliseconds since `origin` until which the server rests; 0: it does not.
    rests_until: AtomicU64,
}

/// Whether a server may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    Fit,
    /// Its rest is over; one request shall find out how it is.
    OnTrial,
    Unfit,
}

impl Fleet {
    /// Nothing is known of any server.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok();
        Arc::new(Self { metrics, key, origin: Instant::now(), members: Mutex::default() })
    }

    /// The server's state; the same one for every worker.
    pub(super) fn member(&self, config: &Config, server: &Server) -> Arc<Member> {
        let key = Key {
            upstream: Arc::clone(&config.name),
            address: server.address.clone(),
            places: config.max_connections,
            protocol: config.protocol,
            trust: server.address.is_secure().then(|| config.tls.identity()),
        };
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(&key) {
            return Arc::clone(member);
        }
        // Those that only this map holds belong to a configuration that is gone.
        members.retain(|_, member| Arc::strong_count(member) > 1);
        let member = Arc::new(Member::new(config, server, self.origin, &self.metrics));
        members.insert(key, Arc::clone(&member));
        member
    }

    /// What a sticky cookie calls the server: whoever has not the key cannot tell whether an address that was guessed is right.
    pub(super) fn tag(&self, config: &Config, member: &Member) -> Option<Box<str>> {
        match (&config.sticky, &config.sticky_key) {
            (Some(Sticky::Cookie(_)), Some(key)) => Some(tag(&hmac::Key::new(hmac::HMAC_SHA256, key.0.expose().as_bytes()), &config.name, &member.label)),
            (Some(Sticky::Cookie(_)), None) => self.key.as_ref().map(|key| tag(key, &config.name, &member.label)),
            _ => None,
        }
    }

    /// Forgets the servers of a configuration that is gone: their series end, lest an alert goes on for what nobody asks any more. To be called when this
    /// one has come into force.
    pub fn keep_only<'c>(&self, upstreams: impl IntoIterator<Item = &'c Arc<Config>>) {
        let servers = upstreams.into_iter().flat_map(|config| config.servers.iter().map(|server| (&*config.name, &server.address)));
        let wanted: HashSet<(&str, &Address)> = servers.collect();
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|key, member| {
            let stays = wanted.contains(&(&*key.upstream, &key.address));
            if !stays {
                self.metrics.server_gone(&key.upstream, &member.label);
            }
            stays
        });
    }

    pub(super) const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fleet(..)")
    }
}

impl Member {
    fn new(config: &Config, server: &Server, origin: Instant, metrics: &Metrics) -> Self {
        let label: Arc<str> = server.address.to_string().into();
        let counters = metrics.server(&config.name, &label);
        counters.fit(true);
        Self {
            label,
            connector: Connector::new(&server.address),
            counters,
            upstream: Arc::clone(&config.name),
            places: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
            origin,
            sick: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            rests: AtomicU32::new(0),
            trial: AtomicBool::new(false),
            rests_until: AtomicU64::new(0),
        }
    }

    /// Room for a connection.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The same, waited for.
    pub(super) async fn next_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Somebody waits for a place. Connections that nobody uses take places, perhaps those of other workers.
    pub(super) fn wait_begins(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.wanted.notify_one();
    }

    pub(super) fn wait_ends(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether any worker waits for a place.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether requests may go there now.
    pub(super) fn fitness(&self) -> Fitness {
        if self.sick.load(Ordering::Relaxed) {
            return Fitness::Unfit;
        }
        match self.rests_until.load(Ordering::Relaxed) {
            0 => Fitness::Fit,
            until if until <= self.now() => Fitness::OnTrial,
            _ => Fitness::Unfit,
        }
    }

    /// Claims the one request that a server on trial gets; the next may try when this one has not said how it went.
    pub(super) fn try_out(&self, ejection: &Ejection) -> bool {
        let until = self.rests_until.load(Ordering::Relaxed);
        let next = self.now().saturating_add(millis(ejection.rest)).max(1);
        let mine = until <= self.now() && self.rests_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if mine {
            self.trial.store(true, Ordering::Relaxed);
        }
        mine
    }

    /// It took a connection, or answered.
    pub(super) fn succeeded(&self) {
        // The usual case costs two loads.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.rests_until.load(Ordering::Relaxed) != 0 && self.rests_until.swap(0, Ordering::Relaxed) != 0 {
            self.rests.store(0, Ordering::Relaxed);
            tracing::info!(upstream = &*self.upstream, server = &*self.label, "a content server is asked again");
            self.show();
        }
    }

    /// It took no connection, or failed in a way that counts.
    pub(super) fn failed(&self, ejection: &Ejection) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let on_trial = self.trial.swap(false, Ordering::Relaxed);
        let resting = self.rests_until.load(Ordering::Relaxed) != 0;
        // Requests that were under way when it was ejected do not make its rest longer; on trial one failure is enough.
        if (resting && !on_trial) || (!resting && failures < ejection.failures) {
            return;
        }
        let rests = self.rests.fetch_add(1, Ordering::Relaxed);
        let rest = ejection.rest.saturating_mul(1_u32.checked_shl(rests.min(16)).unwrap_or(u32::MAX)).min(ejection.longest_rest);
        let before = self.rests_until.swap(self.now().saturating_add(millis(rest)).max(1), Ordering::Relaxed);
        if before == 0 {
            self.counters.ejected();
            tracing::warn!(upstream = &*self.upstream, server = &*self.label, failures, "a content server fails and is left alone");
            self.show();
        }
    }

    /// What health checks say.
    pub(super) fn checked(&self, healthy: bool) {
        if self.sick.swap(!healthy, Ordering::Relaxed) == healthy {
            if healthy {
                tracing::info!(upstream = &*self.upstream, server = &*self.label, "a content server is healthy again");
            } else {
                tracing::warn!(upstream = &*self.upstream, server = &*self.label, "a content server fails its health checks and is left alone");
            }
            self.show();
        }
    }

    fn show(&self) {
        self.counters.fit(self.fitness() != Fitness::Unfit);
    }

    fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tag(key: &hmac::Key, upstream: &str, server: &str) -> Box<str> {
    use std::fmt::Write as _;
    let digest = hmac::sign(key, format!("{upstream}\n{server}").as_bytes());
    let mut tag = String::with_capacity(16);
    for byte in digest.as_ref().iter().take(8) {
        // Writing into a text cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Arc<Member> {
        let server = Server::at("127.0.0.1:1".parse().unwrap());
        Fleet::new(Arc::new(Metrics::new().unwrap())).member(&Config::new("albums", vec![server.clone()]), &server)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_rests_twice_as_long_each_time_and_is_tried_by_one() {
        let (member, ejection) = (member(), Ejection::default());
        let second = Duration::from_secs(1);
        for _ in 0..4 {
            member.failed(&ejection);
            assert_eq!(member.fitness(), Fitness::Fit);
        }
        member.failed(&ejection);
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(member.fitness(), Fitness::Unfit, "{rest}");
            tokio::time::advance(second * rest - Duration::from_millis(1)).await;
            assert_eq!(member.fitness(), Fitness::Unfit, "{rest}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(member.fitness(), Fitness::OnTrial, "{rest}");
            assert!(member.try_out(&ejection));
            assert!(!member.try_out(&ejection), "one is enough");
            member.failed(&ejection);
        }
        tokio::time::advance(second * 60).await;
        assert!(member.try_out(&ejection));
        member.succeeded();
        assert_eq!(member.fitness(), Fitness::Fit);
        (0..4).for_each(|_| member.failed(&ejection));
        assert_eq!(member.fitness(), Fitness::Fit, "it begins anew");
    }

    #[test]
    fn a_server_keeps_its_state_while_its_section_keeps_it() {
        let fleet = Fleet::new(Arc::new(Metrics::new().unwrap()));
        let server = Server::at("127.0.0.1:1".parse().unwrap());
        let config = Config::new("albums", vec![server.clone()]);
        let member = fleet.member(&config, &server);
        assert!(Arc::ptr_eq(&member, &fleet.member(&config, &server)));
        let other = Config { max_connections: 5, ..config };
        assert!(!Arc::ptr_eq(&member, &fleet.member(&other, &server)));
    }

    #[test]
    fn a_server_that_is_configured_no_more_is_shown_no_more() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let fleet = Fleet::new(Arc::clone(&metrics));
        let (one, two) = (Server::at("one:1".parse().unwrap()), Server::at("two:1".parse().unwrap()));
        let before = Arc::new(Config::new("albums", vec![one.clone(), two.clone()]));
        let (gone, stays) = (fleet.member(&before, &one), fleet.member(&before, &two));
        for member in [&gone, &stays] {
            member.failed(&Ejection { failures: 1, ..Ejection::default() });
            member.counters.connected(false);
        }
        let now = Arc::new(Config { servers: vec![two.clone()], ..(*before).clone() });
        fleet.keep_only([&now]);
        gone.checked(true);
        let text = metrics.encode().unwrap();
        assert!(!text.contains("one:1"), "{text}");
        assert!(text.contains("uma_gateway_upstream_server_up{server=\"two:1\",upstream=\"albums\"} 0"));
        assert!(Arc::ptr_eq(&stays, &fleet.member(&now, &two)), "what it knows of the others stays");
    }

    #[test]
    fn health_checks_take_a_server_out_and_back() {
        let member = member();
        member.checked(false);
        assert_eq!(member.fitness(), Fitness::Unfit);
        member.succeeded();
        assert_eq!(member.fitness(), Fitness::Unfit, "only a check takes it back");
        member.checked(true);
        assert_eq!(member.fitness(), Fitness::Fit);
    }
}
