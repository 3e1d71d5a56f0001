//! From a request to its route: admission, the route table, the effective client.

mod authority;
mod config;
mod pattern;
mod problems;
mod request;
mod route;
mod table;
mod template;

pub use authority::{Authority, AuthorityProblem, ServedHosts};
pub use config::{
    Access, Claim, Cors, HostPattern, MethodScopes, Pattern, Place, Protect, ResourceChoice, Rewrite, RouteConfig, ScopesMatch, Segment, Template, TemplatePart,
};
pub use pattern::{MAX_PARAMETERS, MAX_SEGMENTS, PatternProblem, PatternProblemKind};
pub use problems::RouteProblem;
pub use request::{Peer, Request};
pub use route::{Route, unused_parameters};
pub use table::{Match, Params, RouteTable};
pub use template::{TemplateProblem, TemplateProblemKind};

#[cfg(test)]
mod testing;
