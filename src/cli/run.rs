//! `run`: the gateway until a signal ends it. SIGHUP reads the configuration anew, SIGTERM drains, SIGINT drains without the delay, a second one ends it now.

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{Configuration, block_on, load};
use crate::app::{Gateway, Options, Why};
use crate::telemetry::{Telemetry, complain};

pub fn run(configuration: &Configuration) -> ExitCode {
    // Before any thread runs, since it takes the variables out of the environment.
    let sockets = handed_on();
    match block_on(serve(configuration, sockets)) {
        Ok(code) | Err(code) => code,
    }
}

async fn serve(configuration: &Configuration, sockets: Vec<TcpListener>) -> ExitCode {
    // Heard from the start: an early SIGHUP must not end the process.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            complain(format_args!("error: signals cannot be heard: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let config = match load(configuration) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (listeners, places) = (config.listeners.len(), config.places.clone());
    let gateway = match Gateway::start(config, &Options { watch: true, sockets: Arc::new(sockets), ..Options::default() }) {
        Ok(gateway) => gateway,
        Err(error) => {
            complain(format_args!("error: {}", error.told(&places)));
            return ExitCode::FAILURE;
        }
    };
    for address in (0..listeners).filter_map(|listener| gateway.address(listener)) {
        tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    }
    tell(&[NotifyState::Ready]);
    let name = loop {
        match signals.next().await {
            Heard::Reload => reload(&gateway).await,
            Heard::End(name) => break name,
        }
    };
    end(gateway, name, &mut signals).await
}

async fn reload(gateway: &Gateway) {
    // Whoever has moved the log away says so with the same signal.
    gateway.telemetry().reopen();
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
    // What comes of it is in the log; for the service manager the gateway is as ready as before.
    let status = match gateway.reloads().reload(Why::Signal).await {
        Ok(waiting) if waiting.is_empty() => "the configuration was read anew".to_owned(),
        Ok(waiting) => format!("the configuration was read anew; waiting for a restart: {}", waiting.join(", ")),
        Err(refused) => format!("the configuration was refused: {refused}"),
    };
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Drains: not ready, then no new connections, then the end when nothing is under way any more.
async fn end(gateway: Gateway, name: &'static str, signals: &mut Signals) -> ExitCode {
    let (drain, telemetry) = (gateway.drain(), gateway.telemetry().clone());
    tell(&[NotifyState::Stopping]);
    gateway.draining();
    if name == SIGTERM && !drain.delay.is_zero() {
        tracing::info!(signal = name, delay = ?drain.delay, "not ready any more; connections are still accepted for a while");
        tokio::select! {
            () = tokio::time::sleep(drain.delay) => {}
            name = signals.end() => return now(name, &telemetry),
        }
    }
    tracing::info!(signal = name, timeout = ?drain.timeout, "stopping: no new connections, requests under way are finished");
    let (ended, all) = oneshot::channel();
    std::thread::spawn(move || {
        gateway.stop(drain.timeout);
        ended.send(())
    });
    tokio::select! {
        _ = all => ExitCode::SUCCESS,
        name = signals.end() => now(name, &telemetry),
    }
}

/// Whoever is still served is cut off with the process.
fn now(signal: &'static str, telemetry: &Telemetry) -> ExitCode {
    let (connections, requests, tunnels) = telemetry.metrics().under_way();
    tracing::warn!(signal, connections, requests, tunnels, "ending now: what is under way is cut off");
    telemetry.flush(Duration::from_secs(1));
    ExitCode::FAILURE
}

const SIGTERM: &str = "SIGTERM";

enum Heard {
    Reload,
    End(&'static str),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup: signal(SignalKind::hangup())? })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::End(SIGTERM),
            _ = self.interrupt.recv() => Heard::End("SIGINT"),
            _ = self.hangup.recv() => Heard::Reload,
        }
    }

    /// The next signal that ends us; while the gateway ends nothing is read anew.
    async fn end(&mut self) -> &'static str {
        loop {
            if let Heard::End(name) = self.next().await {
                return name;
            }
        }
    }
}

/// Tells systemd, where it wants to know.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// The sockets that a service manager has opened for us (`LISTEN_FDS`).
fn handed_on() -> Vec<TcpListener> {
    let mut handed = listenfd::ListenFd::from_env();
    // Others than TCP sockets are none of ours.
    (0..handed.len()).filter_map(|place| handed.take_tcp_listener(place).ok().flatten()).collect()
}
