//! From a file to a checked whole: parse into spanned nodes, read with a checker that collects every problem.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{admin, authorization_server, credentials, enforcement, listener, routing, telemetry, upstream};

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
    /// `authorization_servers`, in the order of the file.
    pub authorization_servers: Vec<Arc<authorization_server::Config>>,
    /// `upstreams`, in the order of the file; routes name them by their place.
    pub upstreams: Vec<upstream::Config>,
    /// The proxy credential of each upstream, at the same place.
    pub credentials: Vec<credentials::Config>,
    /// `routes`, with the defaults of `hosts` filled in.
    pub routes: Vec<routing::RouteConfig>,
    /// `trusted_proxies`.
    pub trusted_proxies: Vec<IpNet>,
    /// `limits`.
    pub limits: enforcement::Limits,
    /// `open_with`.
    pub open_with: Option<Arc<str>>,
    /// `log`.
    pub log: telemetry::config::LogConfig,
    /// `workers`.
    pub workers: Option<usize>,
    /// Warnings: a world-readable secret, for instance.
    pub warnings: Vec<String>,
}
