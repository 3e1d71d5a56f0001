//! From a file to a checked whole: parse into spanned nodes, read with a checker that collects every problem.
//!
//! [`load`] gives a [`Gateway`] or all [`Problems`] at once. After it no room parses a setting. Secrets are read here, from the files and variables that the
//! configuration names, and never printed. Nothing here opens a socket or asks a server.

mod alone;
mod checker;
mod client;
mod created;
mod description;
mod doors;
mod guard;
mod hosts;
mod mask;
mod methods;
mod names;
mod places;
mod problem;
mod render;
mod resource;
#[cfg(any(test, feature = "fuzzing"))]
mod round_trip;
mod routes;
mod secrets;
mod servers;
mod shares;
mod store;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
mod upstreams;
mod values;
mod whole;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

pub use alone::{admin, health};
pub use description::schema::schema;
pub use description::table::table;
pub use places::Places;
pub use problem::{Problem, Problems};
pub use suggest::nearest;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use round_trip::round_trip;

use crate::{admin, authorization_server, credentials, enforcement, listener, routing, shares as shares_api, telemetry, upstream};

/// A whole configuration that has no mistake.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The file that it came from.
    pub file: PathBuf,
    /// `listeners`.
    pub listeners: Vec<listener::Config>,
    /// `health`.
    pub health: Option<admin::HealthConfig>,
    /// `admin`.
    pub admin: Option<admin::AdminDoor>,
    /// `admin.public_url`, without a slash at its end: where owners' browsers reach the door.
    pub public_url: Option<Arc<str>>,
    /// `authorization_servers`, in the order of the file.
    pub authorization_servers: Vec<Arc<authorization_server::Config>>,
    /// `upstreams`, in the order of the file; routes name them by their place.
    pub upstreams: Vec<upstream::Config>,
    /// The proxy credential of each upstream, at the same place.
    pub credentials: Vec<credentials::Config>,
    /// `routes`, with the defaults of `hosts` filled in; `RouteTable::new` accepts them.
    pub routes: Vec<routing::RouteConfig>,
    /// `trusted_proxies`.
    pub trusted_proxies: Vec<IpNet>,
    /// `limits`.
    pub limits: enforcement::Limits,
    /// What `limits` says of connections.
    pub connections: listener::Limits,
    /// `open_with`.
    pub open_with: Option<Arc<str>>,
    /// `log`.
    pub log: telemetry::config::LogConfig,
    /// `drain`.
    pub drain: listener::Drain,
    /// `store`.
    pub store: Option<crate::store::Config>,
    /// `shares`.
    pub shares: Option<shares_api::Config>,
    /// `workers`.
    pub workers: Option<usize>,
    /// Where what the gateway opens is named.
    pub places: Places,
    /// The files besides that were read: secrets, certificates, keys.
    pub files: Vec<PathBuf>,
    /// Warnings, one line each, with file, line and column: a world-readable secret, for instance.
    pub warnings: Vec<String>,
}

/// Reads a configuration file, with the environment of this process.
///
/// # Errors
/// All problems of the file; or that it cannot be read.
pub fn load(path: &Path) -> Result<Gateway, Problems> {
    let text = read(path).map_err(|reason| Problems::of_file(path, &reason))?;
    parse(&text, path, &|name| std::env::var(name).ok())
}

/// Reads a configuration. Relative paths in it begin at the directory of `file`; `environment` gives the value of a variable.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Gateway, Problems> {
    let tree = tree::parse(text).map_err(|problem| Problems::of_syntax(file, text, problem))?;
    whole::read(tree, text, file, Some(environment))
}

/// Reads a configuration file without its secrets, for a command that only asks where things are: the user who runs it may not read them.
///
/// # Errors
/// As [`load`], but for secrets.
pub fn load_without_secrets(path: &Path) -> Result<Gateway, Problems> {
    let text = read(path).map_err(|reason| Problems::of_file(path, &reason))?;
    let tree = tree::parse(&text).map_err(|problem| Problems::of_syntax(path, &text, problem))?;
    whole::read(tree, &text, path, None)
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file: name one with --config".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read the file".to_owned(),
        std::io::ErrorKind::IsADirectory => "this is a directory, not a file".to_owned(),
        kind => format!("the file cannot be read: {kind}"),
    };
    let mut bytes = Vec::new();
    let most = tree::MOST_BYTES as u64 + 1;
    std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}
