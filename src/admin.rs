//! Doors of the control plane: health and metrics for everyone who may reach them, and the operator's own door.
//!
//! Both are served on the control thread, with small limits and deadlines of their own, and never on a listener of the data path.
//! The doors read the state, the metrics and the ring of records; the one thing that can be asked to happen is a reload.

mod client;
mod config;
mod door;
mod health;
mod link;
pub(crate) mod serve;
pub(crate) mod socket;
mod status;

pub use client::{AdminClient, AdminClientError};
pub use config::{AdminDoor, HealthConfig};
pub use door::{Explain, ExplainRequest, Reload, serve_admin};
pub use health::serve_health;
pub use link::{Linking, Links};
pub use socket::{DoorError, OpenDoor};
pub use status::Status;

#[cfg(test)]
mod tests;
