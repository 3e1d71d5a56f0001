//! `check`: every mistake at once, and with `--online` whether the servers answer as the configuration expects.

use std::process::ExitCode;

use super::{BAD_CONFIGURATION, Configuration, block_on};

#[derive(clap::Args)]
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
                Format::Text => eprintln!("{problems}"),
                Format::Json => println!("{:#}", problems.to_json()),
            }
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    if !arguments.online {
        println!("{}: no mistakes", arguments.configuration.config.display());
        return ExitCode::SUCCESS;
    }
    let probes = match block_on(crate::app::probe(&config)) {
        Ok(probes) => probes,
        Err(code) => return code,
    };
    match arguments.format {
        Format::Text => probes.iter().for_each(|probe| println!("{probe}")),
        Format::Json => println!("{:#}", serde_json::Value::from_iter(probes.iter().map(crate::app::Probe::to_json))),
    }
    if probes.iter().any(crate::app::Probe::failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
