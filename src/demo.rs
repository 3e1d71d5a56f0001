//! The gateway on show: an embedded authorization server, a content server behind a guard, and the ten steps that show what the gateway does with them.
//!
//! Both servers keep everything in memory, listen on loopback only and say that they are for trying; tests use them too. Nothing here is part of the way of
//! a request through the gateway, and the gateway that is shown is the real one, started from a configuration file as `run` starts it.

pub mod authorization_server;
mod command;
pub mod content_server;
mod curl;
mod door;
mod folder;
mod gate;
mod walk;
mod world;

pub use command::{Arguments, run};
pub use folder::running_configuration;
pub use gate::Gate;
