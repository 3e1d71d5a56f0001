//! The decision: token, claims, limits, challenge.
//!
//! A request comes in as `Routed` and goes on as [`Permitted`], which only this room makes. A denial is a value, "could not decide" is closed.
//! Workers decide what the caches know; the [`Desk`] on the control thread asks for the rest.

mod ask;
mod config;
mod control;
mod decision;
mod flight;
mod follow;
mod guard;
mod guesses;
mod judge;
mod limits;
mod permit;
mod places;
mod service;
mod token;

pub use ask::{Control, Failed};
pub use config::{Limits, Rate};
pub use control::{Desk, Questions, channel};
pub use decision::{Decision, Need, decide, granted, suffices};
pub use follow::{Creation, Follow, Follower, Follows, follows};
pub use guesses::Guesses;
pub use judge::{Judge, NOT_LINKED, OWNER_REFUSED};
pub use permit::{Permit, Permitted};
pub use service::{Enforcement, EnforcementLayer, Snapshot};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use token::present;
