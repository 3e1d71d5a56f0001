//! `reload`: has a running gateway read its configuration anew, through its admin door.

use std::fmt::Write as _;
use std::process::ExitCode;

use http::StatusCode;
use serde_json::Value;

use super::{Configuration, admin_door, block_on, explain, print};
use crate::admin::{AdminClient, AdminClientError, AdminDoor};
use crate::telemetry::complain;

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
        Ok(Ok(answer)) => {
            let mut said = "the configuration was read anew and is in force\n".to_owned();
            for key in answer.get("needs_restart").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                let _ = writeln!(said, "`{key}` has changed and needs a restart: the gateway goes on with the old one");
            }
            print(said)
        }
        // The running gateway has read the file: what it says is wrong is what `check` would say.
        Ok(Err(AdminClientError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, detail })) => {
            complain(format_args!("error: the configuration is refused, the one before stays in force\n{detail}"));
            ExitCode::from(super::BAD_CONFIGURATION)
        }
        Ok(Err(error)) => {
            complain(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
        Err(code) => code,
    }
}

fn door(arguments: &Arguments) -> Result<AdminDoor, ExitCode> {
    if let Some(admin) = &arguments.admin {
        return explain::door(admin);
    }
    admin_door(&arguments.configuration)?.ok_or_else(|| {
        complain(format_args!("error: {} gives the running gateway no admin door: send it SIGHUP, or give --admin", arguments.configuration.config.display()));
        ExitCode::from(super::BAD_CONFIGURATION)
    })
}
