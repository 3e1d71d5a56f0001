//! Arguments in, exit code out: 0 well, 1 something failed, 2 wrong arguments, 78 a wrong configuration.

mod check;
mod explain;
mod healthcheck;
mod place;
mod reload;
mod run;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry::complain;

/// What every command's help ends with; `fetch` and `demo` have their own.
const EXIT_CODES: &str = "Exit codes: 0 well, 1 something failed, 2 wrong arguments, 78 a wrong configuration";

/// A wrong configuration (`EX_CONFIG` of sysexits).
const BAD_CONFIGURATION: u8 = 78;

/// A reverse proxy that puts User-Managed Access (UMA 2.0) in front of any content server.
#[derive(Parser)]
#[command(name = "uma-gateway", version, about, propagate_version = true)]
#[command(after_help = "Exit codes: 0 well, 1 something failed, 2 wrong arguments, 3 (fetch) the owner has still to decide, 78 a wrong configuration")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    #[command(after_help = EXIT_CODES)]
    Run(Configuration),
    /// Say every mistake of a configuration, and what to write instead
    Check(check::Arguments),
    /// Say why a request was answered as it was, or what another one would get
    Explain(explain::Arguments),
    /// Have a running gateway read its configuration anew
    Reload(reload::Arguments),
    /// Print the configuration's JSON Schema
    Schema,
    /// Ask a running gateway whether it is ready (for containers without a shell)
    Healthcheck(healthcheck::Arguments),
    /// Show the whole sequence with embedded servers; for trying only
    Demo(crate::demo::Arguments),
    /// Fetch a protected address as the requesting party: ticket, claims token, RPT, content
    Fetch(Box<crate::client::command::Arguments>),
    /// Print the version
    Version,
}

/// Where the configuration is.
#[derive(clap::Args, Clone)]
pub struct Configuration {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = "gateway.yaml", env = "UMA_GATEWAY_CONFIG")]
    pub config: PathBuf,
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    crate::telemetry::hush_panics();
    // Before anything is read. A system that forbids even this has its own reasons, and its own limit.
    if let Err(error) = crate::secret::leave_no_core() {
        complain(format_args!("warning: core dumps cannot be turned off: {error}"));
    }
    match Arguments::parse().command {
        Command::Run(configuration) => run::run(&configuration),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Schema => print(format_args!("{:#}\n", crate::config::schema())),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Demo(arguments) => crate::demo::run(&arguments),
        Command::Fetch(arguments) => crate::client::command::run(&arguments),
        Command::Version => print(concat!("uma-gateway ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

/// Writes to standard output; a reader that has seen enough and gone is no error.
fn print(text: impl Display) -> ExitCode {
    match crate::telemetry::say(text) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: standard output cannot be written: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Loads the configuration, or says what is wrong with it.
fn load(configuration: &Configuration) -> Result<crate::config::Gateway, ExitCode> {
    crate::config::load(&configuration.config).map_err(|problems| wrong(&problems))
}

/// The operator's door of the gateway that runs with this configuration, or with the one before its last mistake.
fn admin_door(configuration: &Configuration) -> Result<Option<crate::admin::AdminDoor>, ExitCode> {
    crate::config::admin(&configuration.config).map_err(|problems| wrong(&problems))
}

fn wrong(problems: &crate::config::Problems) -> ExitCode {
    complain(problems);
    ExitCode::from(BAD_CONFIGURATION)
}

/// A runtime for a command that talks to somebody.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, ExitCode> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ok(tokio::task::LocalSet::new().block_on(&runtime, future)),
        Err(error) => {
            complain(format_args!("error: {error}"));
            Err(ExitCode::FAILURE)
        }
    }
}
