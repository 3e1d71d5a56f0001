//! Arguments in, exit code out: 0 well, 1 something failed, 2 wrong arguments, 78 a wrong configuration.

mod check;
mod explain;
mod healthcheck;
mod place;
mod reload;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A wrong configuration (`EX_CONFIG` of sysexits).
const BAD_CONFIGURATION: u8 = 78;

/// A reverse proxy that puts User-Managed Access (UMA 2.0) in front of any content server.
#[derive(Parser)]
#[command(name = "uma-gateway", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
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
    Fetch(crate::client::command::Arguments),
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
    match Arguments::parse().command {
        Command::Run(configuration) => run::run(&configuration),
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Schema => {
            println!("{:#}", crate::config::schema());
            ExitCode::SUCCESS
        }
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Demo(arguments) => crate::demo::run(&arguments),
        Command::Fetch(arguments) => crate::client::command::run(&arguments),
        Command::Version => {
            println!("uma-gateway {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

/// Loads the configuration, or says what is wrong with it.
fn load(configuration: &Configuration) -> Result<crate::config::Gateway, ExitCode> {
    crate::config::load(&configuration.config).map_err(|problems| wrong(&problems))
}

/// The same for a command that only asks where things are.
fn load_without_secrets(configuration: &Configuration) -> Result<crate::config::Gateway, ExitCode> {
    crate::config::load_without_secrets(&configuration.config).map_err(|problems| wrong(&problems))
}

fn wrong(problems: &crate::config::Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(BAD_CONFIGURATION)
}

/// A runtime for a command that talks to somebody.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, ExitCode> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ok(tokio::task::LocalSet::new().block_on(&runtime, future)),
        Err(error) => {
            eprintln!("error: {error}");
            Err(ExitCode::FAILURE)
        }
    }
}
