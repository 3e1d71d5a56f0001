//! `demo`: starts everything, walks the ten steps, stays up until it is told to end.

use std::cell::Cell;
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::folder::{Folder, FolderError, running};
use super::walk::Walk;
use super::world::{Ports, StartError, World};
use super::{curl, walk};
use crate::telemetry::{complain, say, typed};

/// Show the whole sequence with embedded servers; for trying only
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Exit codes: 0 every step went as it should, 1 one did not or nothing could be started, 2 wrong arguments")]
pub struct Arguments {
    /// End after the ten steps, with exit code 0 only if each went as it should
    #[arg(long)]
    once: bool,
    /// Print the commands that repeat one step of a demo that is running
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u8).range(1..=10), conflicts_with = "once")]
    curl: Option<u8>,
    /// Ports of gateway, authorization server and content server [default: 8080,8180,9101]; 0 takes any. With --curl: those of the demo that is meant
    #[arg(long, value_name = "PORT,PORT,PORT", value_parser = ports)]
    ports: Option<Ports>,
}

/// Why a demo cannot be shown.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("no runtime")]
    Runtime(#[source] std::io::Error),
    #[error("signals cannot be heard")]
    Signals(#[source] std::io::Error),
    #[error("standard output cannot be written")]
    Output(#[source] std::io::Error),
    #[error("no HTTP client")]
    Client(#[from] crate::http_client::HttpClientError),
}

/// Runs `demo`: 0 when every step went as it should, 1 when one did not or nothing could be started.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let done = match arguments.curl {
        Some(step) => print_commands(step, arguments.ports).map(|()| true),
        None => {
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Runtime).and_then(|runtime| runtime.block_on(show(arguments)))
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(format_args!("demo: {}", walk::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn print_commands(step: u8, ports: Option<Ports>) -> Result<(), DemoError> {
    tell(curl::commands(step, &running(ports)?)).map(drop)
}

/// `false`: nobody reads it any more.
fn tell(text: impl Display) -> Result<bool, DemoError> {
    say(text).map_err(DemoError::Output)
}

/// Whether every step went as it should, as far as it was taken.
async fn show(arguments: &Arguments) -> Result<bool, DemoError> {
    // Heard from the start, so that whoever ends it early finds nothing left behind either.
    let mut ends = Ends::new().map_err(DemoError::Signals)?;
    let world = World::start(arguments.ports.unwrap_or_default(), Folder::create()?).await?;
    let well = Cell::new(!arguments.once);
    let shown = tokio::select! {
        biased;
        () = ends.next() => Ok(()),
        shown = walked(&world, arguments.once, &well) => shown,
    };
    world.stop(Duration::from_secs(1));
    shown.map(|()| well.get())
}

/// Takes the ten steps, and stays unless it is to end after them or nobody reads what it says. `well` is whether they went as they should.
async fn walked(world: &World, once: bool, well: &Cell<bool>) -> Result<(), DemoError> {
    let mut is_read = tell(world.banner())?;
    let mut walk = Walk::new(world)?;
    // Whoever wants the exit code alone gets it, whatever becomes of the lines.
    let good = walk.all(|line| {
        is_read = is_read && tell(format_args!("{line}\n"))?;
        Ok::<_, DemoError>(is_read || once)
    });
    let good = good.await?;
    let words = if good == 10 { "as they should be" } else { "as it should be; the others say what went wrong" };
    if once {
        well.set(good == 10);
        return tell(format_args!("{good} of 10 {words}.\n")).map(drop);
    }
    if !is_read {
        return Ok(());
    }
    well.set(good == 10);
    // So that every step can be repeated.
    world.share_again();
    if !tell(format_args!("{good} of 10 {words}.  {}    Ctrl-C ends.\n", hints(world, walk.request_of_step_seven())))? {
        return Ok(());
    }
    std::future::pending().await
}

/// What can be typed now. Where another demo was there first, the commands say that this one is meant.
fn hints(world: &World, seventh: Option<&str>) -> String {
    let program = program();
    let (ports, config) = match &world.before {
        Some(_) => (format!(" --ports {}", world.addresses.ports()), format!(" --config {}", typed(&world.configuration().display().to_string()))),
        None => Default::default(),
    };
    let why = seventh.map_or_else(String::new, |id| format!("    Why 7? {program} explain {id}{config}"));
    format!("Repeat one: {program} demo --curl 5{ports}{why}")
}

/// The program as it was started, so that what is printed can be typed.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "uma-gateway".to_owned())
}

/// The signals that end a demo; the last one tells that its terminal has gone.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup: signal(SignalKind::hangup())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

fn ports(text: &str) -> Result<Ports, String> {
    let numbers: Option<Vec<u16>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[gateway, authorization_server, content_server]) => Ok(Ports { gateway, authorization_server, content_server }),
        _ => Err("write three ports, such as 8080,8180,9101".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_three_numbers() {
        assert_eq!(ports("1, 2,0"), Ok(Ports { gateway: 1, authorization_server: 2, content_server: 0 }));
        for wrong in ["", "1,2", "1,2,3,4", "1,2,70000", "a,b,c"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
