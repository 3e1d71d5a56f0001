//! Active health checks: each server is asked for a path from time to time, once for all workers, on the control thread.
//!
//! The question carries no credential. Healthy is a status below 400, or 401: a server that asks who we are is up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connect::Made;
use super::fleet::Member;
use super::h2::as_h2;
use super::{Config, Fleet, HealthCheck, HostPolicy, Server, UpstreamError};
use crate::body::Body;

/// No server has longer to answer a check.
const LONGEST: Duration = Duration::from_secs(5);

/// The checks that run. Dropping it ends them.
#[derive(Default)]
pub struct Checks(HashMap<Key, Running>);

struct Running {
    task: AbortHandle,
    member: Arc<Member>,
}

/// A check goes on over a reload while this stays the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    upstream: Arc<str>,
    server: Server,
    check: HealthCheck,
    connect: Duration,
    places: usize,
    host: HeaderValue,
    /// The address of what TLS is spoken with, which is held by the check.
    tls: usize,
}

impl Checks {
    /// Begins the checks that these upstreams want and ends those that none of them wants any more; what stays the same goes on. To be called where
    /// tasks may be spawned locally.
    pub fn set<'c>(&mut self, fleet: &Fleet, upstreams: impl IntoIterator<Item = &'c Arc<Config>>) {
        let mut wanted = HashMap::new();
        for config in upstreams {
            let Some(check) = &config.health_check else { continue };
            for server in &config.servers {
                let key = Key {
                    upstream: Arc::clone(&config.name),
                    server: server.clone(),
                    check: check.clone(),
                    connect: config.timeouts.connect,
                    places: config.max_connections,
                    host: host(config, server),
                    tls: Arc::as_ptr(&config.tls).addr(),
                };
                wanted.insert(key, (fleet.member(config, server), Arc::clone(config)));
            }
        }
        self.0.retain(|key, running| {
            let stays = wanted.contains_key(key);
            if !stays {
                running.task.abort();
                // Whoever is not checked any more counts as healthy.
                if !wanted.values().any(|(member, _)| Arc::ptr_eq(member, &running.member)) {
                    running.member.checked(true);
                }
            }
            stays
        });
        for (key, (member, config)) in wanted {
            if let Entry::Vacant(place) = self.0.entry(key) {
                let (check, host) = (place.key().check.clone(), place.key().host.clone());
                let task = spawn_local(watch(Arc::clone(&member), check, config, host));
                place.insert(Running { task: task.abort_handle(), member });
            }
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.values().for_each(|running| running.task.abort());
    }
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checks({})", self.0.len())
    }
}

/// What is asked for has no `Host` of its own under `preserve`; the server's is the best there is.
fn host(config: &Config, server: &Server) -> HeaderValue {
    match &config.host {
        HostPolicy::Named(host) => host.clone(),
        HostPolicy::Upstream | HostPolicy::Preserve => HeaderValue::from_str(server.address.host()).unwrap_or(HeaderValue::from_static("localhost")),
    }
}

async fn watch(member: Arc<Member>, check: HealthCheck, config: Arc<Config>, host: HeaderValue) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u32;
    loop {
        ticks.tick().await;
        let answered = timeout(check.interval.min(LONGEST), ask(&member, &check, &config, &host)).await;
        let healthy = answered.is_ok_and(|status| status.is_ok_and(|status| status.as_u16() < 400 || status == StatusCode::UNAUTHORIZED));
        member.counters.checked(healthy);
        failures = if healthy { 0 } else { failures.saturating_add(1) };
        if healthy {
            member.checked(true);
        } else if failures >= check.unhealthy_after {
            member.checked(false);
        }
    }
}

/// One question over a connection of its own, which takes no place from requests.
async fn ask(member: &Member, check: &HealthCheck, config: &Config, host: &HeaderValue) -> Result<StatusCode, UpstreamError> {
    let request = Request::get(check.path.clone())
        .header(HOST, host)
        .header(USER_AGENT, concat!("uma-gateway/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .body(Body::empty());
    let request = request.map_err(|_| UpstreamError::Answer("the check's own request cannot be written"))?;
    // The connection ends with its sender.
    let answer = match member.connector.connect(config, config.protocol, Box::new(())).await? {
        Made::H1(mut single) => single.sender.send_request(request).await,
        Made::H2(mut sender, ..) => {
            let (mut head, body) = request.into_parts();
            as_h2(&mut head, member.connector.is_secure());
            sender.send_request(Request::from_parts(head, body)).await
        }
    };
    answer.map(|answer| answer.status()).map_err(UpstreamError::Exchange)
}
