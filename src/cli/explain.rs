//! `explain`: why a request was answered as it was (by its id), or what another one would get (by method and address).
//!
//! A running gateway is asked through its admin door; without one, the configuration alone explains a method and an address.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

use super::place::{Places, print};
use super::{Configuration, admin_door, block_on, load};
use crate::admin::{AdminClient, AdminDoor};
use crate::app::Question;
use crate::response::Row;
use crate::secret::Secret;
use crate::telemetry::complain;

#[derive(clap::Args)]
#[command(after_help = super::EXIT_CODES, override_usage = "uma-gateway explain ID\n       uma-gateway explain METHOD URL [--token FILE]\n       uma-gateway explain ROW\n       uma-gateway explain --rows")]
pub struct Arguments {
    /// The id of a request (X-Request-Id), a method, or a row of the decision table such as E8
    #[arg(value_name = "ID|METHOD|ROW", required_unless_present = "rows")]
    what: Option<String>,
    /// The address of a request that nobody made yet
    #[arg(value_name = "URL")]
    url: Option<http::Uri>,
    /// A file that holds the request's token
    #[arg(long, value_name = "FILE", requires = "url")]
    token: Option<PathBuf>,
    /// The admin door of the running gateway: a socket's path, or http://ADDRESS with the token in UMA_GATEWAY_ADMIN_TOKEN
    #[arg(long, value_name = "SOCKET|URL")]
    admin: Option<String>,
    /// Print every row of the decision table with what it says
    #[arg(long, exclusive = true)]
    rows: bool,
    /// Print the record as JSON
    #[arg(long)]
    json: bool,
    /// The configuration of the running gateway [default: that of a demo that runs, else gateway.yaml]
    #[arg(long, short, value_name = "FILE", env = "UMA_GATEWAY_CONFIG")]
    config: Option<PathBuf>,
}

impl Arguments {
    fn what(&self) -> &str {
        self.what.as_deref().unwrap_or_default()
    }

    /// What was meant by a word alone that is neither a row nor an id, which has ten characters.
    fn misread(&self) -> Option<String> {
        const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let what = self.what();
        if self.url.is_some() || what.contains('-') || what.len() >= 8 {
            return None;
        }
        if METHODS.contains(&&*what.to_ascii_uppercase()) {
            return Some(format!("the address is missing: uma-gateway explain {} http://HOST/PATH", what.to_ascii_uppercase()));
        }
        let rows = Row::ALL.iter().map(|row| row.label()).collect::<Vec<_>>().join(" ");
        Some(format!(
            "`{}` is neither the id of a request nor a row. The rows are\n{rows}\n`uma-gateway explain --rows` says what they mean.",
            what.escape_debug()
        ))
    }

    /// Where the configuration is. Somebody who runs the demo stands in a folder with an example of a configuration more often than not.
    fn configuration(&self) -> Configuration {
        let file = || PathBuf::from("gateway.yaml");
        if let Some(config) = &self.config {
            return Configuration { config: config.clone() };
        }
        let Some(demo) = crate::demo::running_configuration().filter(|_| self.admin.is_none()) else { return Configuration { config: file() } };
        if file().exists() {
            complain("the demo that runs is asked; `--config gateway.yaml` asks the gateway of that file");
        }
        Configuration { config: demo }
    }
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let line = |row: &Row| format!("{:<5} {}\n", row.label(), row.meaning().trim());
    if arguments.rows {
        return super::print(Row::ALL.iter().map(line).collect::<String>());
    }
    if let Some(row) = Row::ALL.iter().find(|row| row.label().eq_ignore_ascii_case(arguments.what())).filter(|_| arguments.url.is_none()) {
        return super::print(line(row));
    }
    if let Some(why) = arguments.misread() {
        complain(format_args!("error: {why}"));
        return ExitCode::from(2);
    }
    match answer(arguments) {
        Ok((record, _)) if arguments.json => super::print(format_args!("{record:#}\n")),
        Ok((record, places)) => match record.get("error").and_then(Value::as_str) {
            Some(error) => {
                complain(format_args!("error: {error}"));
                ExitCode::FAILURE
            }
            None => super::print(print(&record, &places)),
        },
        Err(code) => code,
    }
}

fn answer(arguments: &Arguments) -> Result<(Value, Places), ExitCode> {
    let configuration = arguments.configuration();
    let door = match &arguments.admin {
        Some(admin) => Some(door(admin)?),
        None => admin_door(&configuration)?,
    };
    // The running gateway knows what it did. Only the places are the file's, and one with mistakes has none to show.
    let places = match crate::config::load_without_secrets(&configuration.config) {
        Ok(config) => Places::of(&config),
        Err(_) if arguments.admin.is_some() && !configuration.config.exists() => Places::default(),
        Err(_) => Places::without_routes(&configuration.config),
    };
    let record = match (&arguments.url, door) {
        (None, None) => {
            complain(format_args!(
                "error: a request is explained by the running gateway, which {} gives no door.\nWrite `admin: {{ socket: /run/uma-gateway/admin.sock }}` into it, or give --admin.",
                configuration.config.display()
            ));
            return Err(ExitCode::from(super::BAD_CONFIGURATION));
        }
        (None, Some(door)) => ask(block_on(AdminClient::new(&door).record(arguments.what()))?)?,
        (Some(url), door) => {
            let question = question(arguments, url)?;
            match door {
                Some(door) => ask(block_on(AdminClient::new(&door).explain(&question.method, &question.url, question.token.as_ref()))?)?,
                None => ask(block_on(crate::app::explain_offline(load(&configuration)?, question))?)?,
            }
        }
    };
    Ok((record, places))
}

fn ask<E: std::fmt::Display>(answer: Result<Value, E>) -> Result<Value, ExitCode> {
    answer.map_err(|error| {
        complain(format_args!("error: {error}"));
        ExitCode::FAILURE
    })
}

pub(super) fn door(admin: &str) -> Result<AdminDoor, ExitCode> {
    let Some(address) = admin.strip_prefix("http://") else { return Ok(AdminDoor::Socket(admin.into())) };
    let address = address.trim_end_matches('/').parse().map_err(|_| {
        complain("error: --admin takes a socket's path or http://ADDRESS:PORT");
        ExitCode::from(2)
    })?;
    let token = std::env::var("UMA_GATEWAY_ADMIN_TOKEN").map_err(|_| {
        complain("error: put the admin token into the environment variable UMA_GATEWAY_ADMIN_TOKEN");
        ExitCode::from(2)
    })?;
    Ok(AdminDoor::Address { address, token: Secret::from(token) })
}

fn question(arguments: &Arguments, url: &http::Uri) -> Result<Question, ExitCode> {
    let usage = |why: String| {
        complain(format_args!("error: {why}"));
        ExitCode::from(2)
    };
    let method = arguments.what().parse().map_err(|_| usage(format!("`{}` is not a method", arguments.what())))?;
    let token = match &arguments.token {
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| usage(format!("{}: {error}", file.display())))?),
        None => None,
    };
    Ok(Question { method, url: url.clone(), token: token.map(|token| Secret::from(token.trim())) })
}
