//! Active health checks: each server is asked for a path from time to time, once for all workers, on the control thread.
//!
//! The question carries no credential. Healthy is a status below 400, or 401: a server that asks who we are is up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::fleet::Member;
use super::{Config, Fleet, HealthCheck, HostPolicy, Server};

/// No server has longer to answer a check.
const LONGEST: Duration = Duration::from_secs(5);

/// The checks that run. Dropping it ends them.
#[derive(Default)]
pub struct Checks(HashMap<Key, AbortHandle>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    upstream: Arc<str>,
    server: Server,
    check: HealthCheck,
    connect: Duration,
    places: usize,
    host: HeaderValue,
}

impl Checks {
    /// Begins the checks that these upstreams want and ends those that none of them wants any more; what stays the same goes on. To be called where
    /// tasks may be spawned locally.
    pub fn set<'c>(&mut self, fleet: &Fleet, upstreams: impl IntoIterator<Item = &'c Config>) {
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
                };
                let member = fleet.member(config, server);
                wanted.insert(key, member);
            }
        }
        self.0.retain(|key, task| {
            let stays = wanted.contains_key(key);
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, member) in wanted {
            if !self.0.contains_key(&key) {
                let task = spawn_local(watch(member, key.check.clone(), key.connect, key.host.clone()));
                self.0.insert(key, task.abort_handle());
            }
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.values().for_each(AbortHandle::abort);
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

/// Whoever is not checked any more counts as healthy.
struct Watched(Arc<Member>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.checked(true);
    }
}

async fn watch(member: Arc<Member>, check: HealthCheck, connect: Duration, host: HeaderValue) {
    let watched = Watched(member);
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u32;
    loop {
        ticks.tick().await;
        let healthy = timeout(check.interval.min(LONGEST), ask(&watched.0, &check, connect, &host)).await.is_ok_and(|answered| answered);
        watched.0.counters.checked(healthy);
        failures = if healthy { 0 } else { failures.saturating_add(1) };
        if healthy {
            watched.0.checked(true);
        } else if failures >= check.unhealthy_after {
            watched.0.checked(false);
        }
    }
}

/// One question over a connection of its own, which takes no place from requests.
async fn ask(member: &Member, check: &HealthCheck, connect: Duration, host: &HeaderValue) -> bool {
    let Ok(opened) = member.connector.open(connect).await else { return false };
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(opened.stream)).await else { return false };
    let driver = spawn_local(async move {
        let _ = connection.await;
    });
    let _ends = Ends(driver.abort_handle());
    let request = Request::get(check.path.clone())
        .header(HOST, host)
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("uma-gateway/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .body(Empty::<bytes::Bytes>::new());
    let Ok(request) = request else { return false };
    let answer = sender.send_request(request).await;
    answer.is_ok_and(|answer| answer.status().as_u16() < 400 || answer.status() == StatusCode::UNAUTHORIZED)
}

/// Ends a task with whoever needs it.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}
