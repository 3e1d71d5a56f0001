//! The gateway on show: an embedded authorization server and a content server, for trying and for tests.
//!
//! Both keep everything in memory, listen on loopback only and say that they are for trying. Nothing here is part of the way of a request through the gateway.

pub mod authorization_server;
pub mod content_server;
mod door;
mod gate;

pub use gate::Gate;

/// `demo` (being written).
#[derive(clap::Args)]
pub struct Arguments {
    /// End after the walk
    #[arg(long)]
    once: bool,
}

/// Runs it.
#[must_use]
pub fn run(_: &Arguments) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
