//! Whose consent has ended, or whose password the server refuses: what is theirs stays closed until there is a token again, over reloads and restarts.
//!
//! A section that has changed makes another server here, and so does a restart: each begins as the one before it stood, or as the records say. Nothing here
//! asks a server.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::config::PatSource;
use super::kept::grantee;
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
                let same = grantee(&other.config, name) == grantee(&self.config, name);
                other.pats.of_owners().find(|(known, _)| same && *known == name).map(|(_, slot)| slot)
            });
            let stood = before.map(|before| slot.refusal_after(before)).reduce(|one, other| one.or(other));
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
