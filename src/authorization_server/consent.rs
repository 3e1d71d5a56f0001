//! Whose consent has ended, or whose password the server refuses: what is theirs stays closed until there is a token again, over reloads and restarts.
//!
//! A section that has changed makes another server here, and so does a restart: each begins as the one before it stood, or as the records say. Nothing here
//! asks a server.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::config::{Config, PatSource};
use super::pat::Slot;
use super::server::Server;

/// Why what is an owner's is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The server has refused what there is, then.
    Said(Instant),
    /// It has refused something else, or before this process or this server: what there is has to be tried.
    Untried,
}

impl Server {
    /// Begins as those stood that are in force, where they have the same owner with the same consent; else as the records say, by which these have `ended`.
    pub fn begin_as(&self, in_force: &[Rc<Self>], ended: &BTreeSet<Arc<str>>) {
        for (name, slot) in self.pats.of_owners() {
            let before = in_force.iter().filter(|other| other.config.issuer == self.config.issuer).filter_map(|other| {
                let same = person(&other.config, name) == person(&self.config, name);
                let (_, before) = other.pats.of_owners().find(|(known, _)| same && *known == name)?;
                // What the server has refused to another client has to be tried.
                let refusal = slot.refusal_after(before);
                if other.config.client.id == self.config.client.id { Some(refusal) } else { refusal.map(|_| Some(Refusal::Untried)) }
            });
            let stood = before.reduce(Option::or);
            match stood {
                Some(refusal) => {
                    slot.refused.set(refusal);
                    // The one before may have renewed it.
                    slot.recalled.set(false);
                }
                None if ended.contains(name) => slot.refused.set(Some(Refusal::Untried)),
                None => {}
            }
            if slot.refused.get().is_some() {
                slot.current.take();
            }
        }
        self.count_consents();
    }
}

/// Whose consent it is, whichever client asks for it: the user name, and the subject where it is named.
pub(super) fn person<'a>(config: &'a Config, owner: &str) -> Option<(&'a str, Option<&'a str>)> {
    match &config.owners.get(owner)?.source {
        PatSource::Password { username, .. } => Some((username, None)),
        PatSource::Code { username, subject } => Some((username, subject.as_deref())),
    }
}

impl Slot {
    /// What `before` leaves to this one. A password that was refused is the same over a reload; whether a code has come meanwhile the records know.
    fn refusal_after(&self, before: &Self) -> Option<Refusal> {
        let refusal = before.refused.get()?;
        let same = match (&*self.source.borrow(), &*before.source.borrow()) {
            (Some(now), Some(before)) => now.is_same_password(before),
            _ => false,
        };
        Some(if same { refusal } else { Refusal::Untried })
    }
}

impl PatSource {
    /// Whether both are the same password.
    pub(super) fn is_same_password(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password { password, .. }, Self::Password { password: other, .. }) => password.matches(other.expose()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Owner, ServerIdentity};
    use super::super::{PatStore, Resources, testing};
    use super::*;
    use crate::http_client::{HttpClient, TlsFiles};
    use crate::telemetry::{Health, Metrics};

    const OWNER: ServerIdentity = ServerIdentity([7; 16]);

    /// A server where Alice has a password.
    fn server(issuer: &str, username: &str, password: &str) -> Rc<Server> {
        server_of("content-gateway", issuer, username, password)
    }

    fn server_of(client: &str, issuer: &str, username: &str, password: &str) -> Rc<Server> {
        let source = PatSource::Password { username: username.into(), password: password.into() };
        let owners = [("alice".into(), Owner { source, identity: OWNER })].into();
        let mut config = super::super::Config { issuer: issuer.into(), owners, ..testing::config() };
        config.client.id = client.into();
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let http = HttpClient::new(&TlsFiles::default()).expect("a client");
        Server::new(Arc::new(config), http, &Health::new(Arc::clone(&metrics)), metrics, PatStore::default(), Resources::default())
    }

    fn refusal(server: &Server) -> Option<Refusal> {
        server.pats.slot(Some("alice")).and_then(|slot| slot.refused.get())
    }

    fn refuse(server: &Server, refusal: Option<Refusal>) {
        server.pats.slot(Some("alice")).expect("a place").refused.set(refusal);
    }

    #[tokio::test]
    async fn a_server_begins_as_those_in_force_with_the_same_owner_stand_else_as_the_records_say() {
        const ISSUER: &str = "https://id.example.org";
        let said = Some(Refusal::Said(Instant::now()));
        let ended: BTreeSet<Arc<str>> = ["alice".into()].into();
        for (before, stood, by_records, expected) in [
            (Some((ISSUER, "alice", "first")), said, false, said),
            (Some((ISSUER, "alice", "first")), None, true, None),
            (Some((ISSUER, "alice", "another")), said, false, Some(Refusal::Untried)),
            (Some((ISSUER, "alison", "first")), said, false, None),
            (Some(("https://other.example.org", "alice", "first")), said, false, None),
            (Some(("https://other.example.org", "alice", "first")), None, true, Some(Refusal::Untried)),
            (None, None, true, Some(Refusal::Untried)),
            (None, None, false, None),
        ] {
            let new = server(ISSUER, "alice", "first");
            let in_force: Vec<_> = before.into_iter().map(|(issuer, username, password)| server(issuer, username, password)).collect();
            in_force.iter().for_each(|server| refuse(server, stood));

            new.begin_as(&in_force, if by_records { &ended } else { const { &BTreeSet::new() } });

            assert_eq!(refusal(&new), expected, "{before:?} {stood:?} {by_records}");
            assert_eq!(new.resources.is_closed(OWNER), expected.is_some(), "{before:?} {stood:?} {by_records}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_to_one_client_is_closed_until_another_has_tried_it() {
        let issuer = "https://id.example.org";
        let (before, new) = (server(issuer, "alice", "first"), server_of("another-gateway", issuer, "alice", "first"));
        refuse(&before, Some(Refusal::Said(Instant::now())));
        new.begin_as(&[before], &BTreeSet::new());
        assert_eq!(refusal(&new), Some(Refusal::Untried));
        assert!(new.resources.is_closed(OWNER));
    }

    #[tokio::test]
    async fn a_server_that_comes_back_stands_as_the_one_in_force() {
        let (first, second) = (server("https://id.example.org", "alice", "first"), server("https://id.example.org", "alice", "first"));
        refuse(&second, Some(Refusal::Untried));
        first.begin_as(&[Rc::clone(&second)], &BTreeSet::new());
        assert!(first.resources.is_closed(OWNER));
        refuse(&second, None);
        first.begin_as(&[second], &BTreeSet::new());
        assert!(!first.resources.is_closed(OWNER), "and open where there is a token");
    }
}
