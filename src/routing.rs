//! From a request to its route: admission, the route table, the effective client.

mod config;
mod request;

pub use config::{
    Access, Claim, Cors, HostPattern, MethodScopes, Pattern, Place, Protect, ResourceChoice, Rewrite, RouteConfig, ScopesMatch, Segment, Template, TemplatePart,
};
pub use request::{Peer, Request};
