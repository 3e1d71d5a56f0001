//! `run`: the gateway until a signal ends it.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Configuration, block_on, load};
use crate::app::{Gateway, Options};

/// What requests under way get to finish.
const DRAIN: Duration = Duration::from_secs(30);

pub fn run(configuration: &Configuration) -> ExitCode {
    let config = match load(configuration) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let listeners = config.listeners.len();
    let gateway = match Gateway::start(config, &Options::default()) {
        Ok(gateway) => gateway,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    for address in (0..listeners).filter_map(|listener| gateway.address(listener)) {
        tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    }
    match block_on(stopped()) {
        Ok(Ok(name)) => tracing::info!(signal = name, "stopping: no new connections, requests under way are finished"),
        Ok(Err(error)) => {
            eprintln!("error: signals cannot be heard: {error}");
            return ExitCode::FAILURE;
        }
        Err(code) => return code,
    }
    // A second signal ends it now.
    std::thread::spawn(|| {
        if block_on(stopped()).is_ok() {
            std::process::abort();
        }
    });
    gateway.stop(DRAIN);
    ExitCode::SUCCESS
}

async fn stopped() -> std::io::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
