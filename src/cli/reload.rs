//! `reload`: has a running gateway read its configuration anew, through its admin door.

use std::process::ExitCode;

use super::{Configuration, block_on, explain, load, load_without_secrets};
use crate::admin::{AdminClient, AdminDoor};

#[derive(clap::Args)]
#[command(after_help = super::EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// The admin door of the running gateway: a socket's path, or http://ADDRESS with the token in UMA_GATEWAY_ADMIN_TOKEN
    #[arg(long, value_name = "SOCKET|URL")]
    admin: Option<String>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let door = match door(arguments) {
        Ok(door) => door,
        Err(code) => return code,
    };
    match block_on(AdminClient::new(&door).reload()) {
        Ok(Ok(_)) => {
            println!("the configuration was read anew and is in force");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
        Err(code) => code,
    }
}

fn door(arguments: &Arguments) -> Result<AdminDoor, ExitCode> {
    if let Some(admin) = &arguments.admin {
        return explain::door(admin);
    }
    let door = match load_without_secrets(&arguments.configuration)?.admin {
        // The door's own token is a secret that must be read.
        Some(AdminDoor::Address { .. }) => load(&arguments.configuration)?.admin,
        door => door,
    };
    door.ok_or_else(|| {
        eprintln!("error: the running gateway has no admin door: send it SIGHUP, or give --admin");
        ExitCode::from(super::BAD_CONFIGURATION)
    })
}
