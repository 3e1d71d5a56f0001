//! Doors of the control plane: health and metrics for everyone who may reach them, and the operator's own door.

mod config;

pub use config::{AdminDoor, HealthConfig};
