//! `demo`: starts everything, walks the ten steps, stays up until it is told to end.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::folder::{Folder, FolderError, running};
use super::walk::Walk;
use super::world::{Ports, StartError, World};
use super::{curl, walk};

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
    /// Ports of gateway, authorization server and content server; 0 takes any
    #[arg(long, value_name = "PORT,PORT,PORT", default_value = "8080,8180,9101", value_parser = ports)]
    ports: Ports,
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
    #[error("no HTTP client")]
    Client(#[from] crate::http_client::HttpClientError),
}

/// Runs `demo`: 0 when every step went as it should, 1 when one did not or nothing could be started.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let done = match arguments.curl {
        Some(step) => print_commands(step).map(|()| true),
        None => {
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Runtime).and_then(|runtime| runtime.block_on(show(arguments)))
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {}", walk::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn print_commands(step: u8) -> Result<(), DemoError> {
    print!("{}", curl::commands(step, &running()?));
    Ok(())
}

/// Whether every step went as it should.
async fn show(arguments: &Arguments) -> Result<bool, DemoError> {
    let world = World::start(arguments.ports, Folder::create()?).await?;
    print!("{}", world.banner());
    let mut walk = Walk::new(&world)?;
    let good = walk.all().await;
    let why = walk.request_of_step_seven().map(str::to_owned);
    drop(walk);
    let well = if good == 10 { "as they should be" } else { "as it should be; the others say what went wrong" };
    if arguments.once {
        println!("{good} of 10 {well}.");
    } else {
        // So that every step can be repeated.
        world.share_again();
        let program = program();
        let why = why.map_or_else(String::new, |id| format!("    Why 7? {program} explain {id}"));
        println!("{good} of 10 {well}.  Repeat one: {program} demo --curl 5{why}    Ctrl-C ends.");
        told_to_end().await.map_err(DemoError::Signals)?;
    }
    world.stop(Duration::from_secs(1));
    Ok(good == 10)
}

/// The program as it was started, so that what is printed can be typed.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "uma-gateway".to_owned())
}

async fn told_to_end() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
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
