//! `check`: every mistake at once, and with `--online` whether the servers answer as the configuration expects.

use std::process::ExitCode;

use super::{BAD_CONFIGURATION, Configuration, block_on, print};
use crate::telemetry::complain;

#[derive(clap::Args)]
#[command(after_help = super::EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Ask every server, too
    #[arg(long)]
    online: bool,
    /// How the problems are printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum, PartialEq, Eq)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let config = match crate::config::load(&arguments.configuration.config) {
        Ok(config) => config,
        Err(problems) => {
            match arguments.format {
                Format::Text => complain(problems),
                Format::Json => {
                    print(format_args!("{:#}\n", problems.to_json()));
                }
            }
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    for warning in &config.warnings {
        complain(format_args!("warning: {warning}"));
    }
    if !arguments.online {
        return print(format_args!("{}: no mistakes\n", arguments.configuration.config.display()));
    }
    let probes = match block_on(crate::app::probe(&config)) {
        Ok(probes) => probes,
        Err(code) => return code,
    };
    let said = match arguments.format {
        Format::Text => probes.iter().map(|probe| format!("{probe}\n")).collect(),
        Format::Json => format!("{:#}\n", serde_json::Value::from_iter(probes.iter().map(crate::app::Probe::to_json))),
    };
    // Whoever reads the first lines only and closes the pipe does not change the exit code.
    let printed = print(said);
    if probes.iter().any(crate::app::Probe::failed) { ExitCode::FAILURE } else { printed }
}
