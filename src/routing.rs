//! From a request to its route: admission, the route table, the effective client.

mod admission;
mod authority;
mod certificate;
mod client;
mod config;
mod cors;
mod created;
mod elsewhere;
mod guard;
mod hops;
mod layer;
mod links;
mod opened;
mod pattern;
mod problems;
mod request;
mod route;
mod routed;
mod table;
mod template;
mod upgrade;

pub use admission::{Admitted, MAX_TARGET, admit};
pub use authority::{Authority, AuthorityProblem, ServedHosts};
pub use certificate::ClientCertificate;
pub use client::{Client, LimitKey, Scheme};
pub use config::{
    Access, Claim, Cors, HostPattern, MethodScopes, Pattern, Place, Protect, ResourceChoice, Rewrite, RouteConfig, ScopesMatch, Segment, Template, TemplatePart,
};
pub use created::{Made, Maker, NotMade, OnCreate};
pub use guard::{Assertions, Certificates, Guard, Password};
pub use layer::{Admission, AdmissionLayer, Routing, RoutingLayer};
pub use links::{Link, Links};
pub use pattern::{MAX_PARAMETERS, MAX_SEGMENTS, PatternProblem, PatternProblemKind};
pub use problems::{RouteProblem, public_at_another_host, reached_by_another_name};
pub use request::{Counted, Peer, Request};
pub use route::{Route, unused_parameters};
pub use routed::{Routed, RoutedParts, Snapshot, Step, find, route};
pub use table::{Match, Params, RouteTable};
pub use template::{TemplateProblem, TemplateProblemKind};
pub use upgrade::{Extended, Upgrade};

#[cfg(test)]
pub(crate) mod testing;
