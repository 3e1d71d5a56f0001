//! What the probes ask: has the gateway started, is it ready, which servers can it reach.
//!
//! Ready means: configuration and listeners stand, and every authorization server has been reached once. A later outage does not take
//! readiness back, or all replicas would leave at once; it shows in `/readyz?verbose` and in the metrics.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::telemetry::{AsEndpoint, Health, Standing};

/// The state that the probes show. Written by the app and the control thread, read by the health listener.
#[derive(Debug)]
pub struct Status {
    started: AtomicBool,
    draining: AtomicBool,
    contacts: Mutex<Vec<Contact>>,
    refused: Mutex<Option<Refused>>,
    health: Health,
}

/// A configuration that was not taken.
#[derive(Debug)]
struct Refused {
    at: SystemTime,
    reason: String,
}

/// An authorization server, and whether it has been reached once.
#[derive(Debug)]
struct Contact {
    name: Arc<str>,
    made: bool,
    /// Whether readiness waits for it.
    needed: bool,
}

impl Status {
    /// Not started; each of these authorization servers has to be reached once.
    pub fn new(authorization_servers: impl IntoIterator<Item = Arc<str>>, health: Health) -> Self {
        let contacts = authorization_servers.into_iter().map(|name| Contact { name, made: false, needed: true }).collect();
        Self { started: AtomicBool::new(false), draining: AtomicBool::new(false), contacts: Mutex::new(contacts), refused: Mutex::default(), health }
    }

    /// The listeners stand.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The gateway is about to stop: no longer ready, still alive.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether it is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// An authorization server was reached. Later ones change nothing.
    pub fn contacted(&self, authorization_server: &str) {
        if let Some(contact) = self.contacts().iter_mut().find(|contact| &*contact.name == authorization_server) {
            contact.made = true;
        }
    }

    /// Another configuration is in force, with these authorization servers. A gateway that is ready stays so: the new ones are told only, or all replicas
    /// would leave at once.
    pub fn reloaded(&self, authorization_servers: impl IntoIterator<Item = Arc<str>>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut contacts = self.contacts();
        let needed = contacts.iter().any(|contact| contact.needed && !contact.made);
        let known = std::mem::take(&mut *contacts);
        *contacts = authorization_servers
            .into_iter()
            .map(|name| {
                let known = known.iter().find(|contact| contact.name == name);
                known.map_or(Contact { name: Arc::clone(&name), made: false, needed }, |known| Contact { name, ..*known })
            })
            .collect();
    }

    /// A configuration was refused; the one before stays in force.
    pub fn reload_refused(&self, reason: String) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Refused { at: SystemTime::now(), reason });
    }

    /// The servers that the gateway needs.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Whether the listeners stand.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Whether requests should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_started() && !self.draining.load(Ordering::Acquire) && self.contacts().iter().all(|contact| contact.made || !contact.needed)
    }

    /// Every check on a line of its own: `[+]` holds, `[-]` does not and keeps the gateway from being ready, `[!]` does not and is told only.
    #[must_use]
    pub fn verbose(&self) -> String {
        let mut text = String::new();
        let mut check = |holds: bool, what: &str| _ = writeln!(text, "[{}] {what}", if holds { '+' } else { '-' });
        check(self.is_started(), "started");
        let draining = self.draining.load(Ordering::Acquire);
        check(!draining, if draining { "draining" } else { "not draining" });
        let dependencies = self.health.dependencies();
        for contact in self.contacts().iter() {
            // Whoever has answered is not just out of reach.
            let wrong = dependencies.iter().filter(|one| AsEndpoint::is_of_server(one.kind()) && one.name() == &*contact.name).find_map(|one| one.reason());
            let made = match (contact.made, wrong) {
                (true, _) => "reached once".to_owned(),
                (false, Some(reason)) => format!("not usable yet ({reason})"),
                (false, None) => "not reached yet".to_owned(),
            };
            let mark = if contact.made {
                '+'
            } else if contact.needed {
                '-'
            } else {
                '!'
            };
            let _ = writeln!(text, "[{mark}] authorization_server {}: {made}", contact.name);
        }
        match &*self.refused.lock().unwrap_or_else(PoisonError::into_inner) {
            None => text.push_str("[+] configuration: as the file says\n"),
            Some(Refused { at, reason }) => {
                let at = httpdate::fmt_http_date(*at);
                let _ = writeln!(text, "[!] configuration: refused at {at}, so the one before is in force ({reason})");
            }
        }
        for dependency in dependencies {
            let (mark, standing) = match dependency.standing() {
                Standing::Unknown => ('+', "not asked yet"),
                Standing::Up => ('+', "up"),
                Standing::Down => ('!', "down"),
            };
            let reason = dependency.reason().or_else(|| dependency.detail()).map_or_else(String::new, |reason| format!(" ({reason})"));
            let _ = writeln!(text, "[{mark}] {} {}: {standing}{reason}", dependency.kind(), dependency.name());
        }
        for (server, owner, lacks) in self.health.without_consent() {
            let _ = writeln!(text, "[!] owner {owner} at {server}: {}", lacks.words());
        }
        text.push_str(if self.is_ready() { "ready\n" } else { "not ready\n" });
        text
    }

    fn contacts(&self) -> MutexGuard<'_, Vec<Contact>> {
        self.contacts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn status() -> Status {
        let metrics = Arc::new(Metrics::new().expect("definitions are valid"));
        Status::new(["family".into(), "research".into()], Health::new(metrics))
    }

    #[test]
    fn ready_is_started_and_every_server_reached_once() {
        let status = status();
        status.contacted("family");
        status.contacted("research");
        assert!(!status.is_ready());
        status.started();
        assert!(status.is_ready());
        status.draining();
        assert!(!status.is_ready() && status.is_started());
    }

    #[test]
    fn a_server_that_was_never_reached_keeps_the_gateway_from_being_ready() {
        let status = status();
        status.started();
        status.contacted("family");
        assert!(!status.is_ready());
        assert!(status.verbose().contains("[-] authorization_server research: not reached yet"));
    }

    #[test]
    fn a_server_that_a_reload_brings_does_not_take_readiness_back() {
        let status = status();
        status.started();
        status.contacted("family");
        status.reloaded(["family".into(), "research".into(), "new".into()]);
        assert!(!status.is_ready(), "research is still waited for");
        status.contacted("research");
        status.contacted("new");
        status.reloaded(["family".into(), "newer".into()]);
        assert!(status.is_ready());
        assert!(status.verbose().contains("[!] authorization_server newer: not reached yet"), "{}", status.verbose());
    }

    #[test]
    fn a_refused_configuration_is_told_until_one_is_taken() {
        let status = status();
        status.reload_refused("gateway.yaml:3:1: unknown key `rutes`".into());
        assert!(status.verbose().contains("(gateway.yaml:3:1: unknown key `rutes`)"), "{}", status.verbose());
        status.reloaded([]);
        assert!(status.verbose().contains("[+] configuration"), "{}", status.verbose());
    }

    #[test]
    fn a_server_that_has_answered_what_cannot_be_used_is_told_with_what_that_was() {
        let status = status();
        status.health().dependency("discovery", "research").failed("discovery: the document has no `permission_endpoint`");
        status.health().dependency("upstream", "family").failed("connection refused");
        let told = status.verbose();
        assert!(told.contains("[-] authorization_server research: not usable yet (discovery: the document has no `permission_endpoint`)"), "{told}");
        assert!(told.contains("[-] authorization_server family: not reached yet"), "a content server has the same name: {told}");
    }

    #[test]
    fn a_later_outage_is_told_and_changes_nothing() {
        let status = status();
        status.started();
        ["family", "research"].into_iter().for_each(|name| status.contacted(name));
        status.health().dependency("authorization_server", "family").failed("connection refused");
        assert!(status.is_ready());
        assert!(status.verbose().contains("[!] authorization_server family: down (connection refused)"), "{}", status.verbose());
    }
}
