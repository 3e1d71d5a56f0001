//! The layers of the request's way on one screen, and the snapshot that a request carries.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Response;
use ipnet::IpNet;
use tower::{Service, ServiceBuilder};

use crate::body::Body;
use crate::credentials::{self, CredentialsLayer, Proxy};
use crate::enforcement::{self, EnforcementLayer, Judge, Limits, Permitted};
use crate::response::{Rejection, RejectionLayer};
use crate::routing::{self, AdmissionLayer, Authority, Links, Request, RouteTable, RoutingLayer, ServedHosts};
use crate::telemetry::{RecordLayer, Telemetry};
use crate::upstream::{self, Upstream};

/// One whole configuration, as requests see it. Loaded once per request and carried to its end.
#[derive(Debug)]
pub struct Snapshot {
    /// Routes.
    pub routes: RouteTable,
    /// Upstreams, by their place in the configuration.
    pub upstreams: Vec<Arc<upstream::Config>>,
    /// Their proxy credentials, at the same place.
    pub proxies: Vec<Arc<Proxy>>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What clients may cause.
    pub limits: Limits,
    /// How many requests one client may have under way that go on without it.
    pub requests_per_client: usize,
    /// The client application.
    pub open_with: Option<Arc<str>>,
    /// Shareable links.
    pub links: Option<Links>,
    /// The authority that the world has this gateway by.
    pub public: Option<Authority>,
    /// The hosts that some listener serves; a connection knows those of its own.
    pub hosts: ServedHosts,
}

impl routing::Snapshot for Snapshot {
    fn routes(&self) -> &RouteTable {
        &self.routes
    }
    fn trusted_proxies(&self) -> &[IpNet] {
        &self.trusted_proxies
    }
    fn links(&self) -> Option<&Links> {
        self.links.as_ref()
    }
}

impl enforcement::Snapshot for Snapshot {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn open_with(&self) -> Option<&Arc<str>> {
        self.open_with.as_ref()
    }
    fn requests_per_client(&self) -> usize {
        self.requests_per_client
    }
    fn is_own(&self, upstream: usize, authority: &Authority, default_port: u16) -> bool {
        let servers = self.upstreams.get(upstream).map_or(&[][..], |upstream| &upstream.servers);
        let servers = servers.iter().filter_map(|server| Authority::parse(server.address.authority()?.as_str().as_bytes()).ok());
        self.public.iter().cloned().chain(servers).any(|own| own.same_as(authority, default_port))
    }
}

impl credentials::Snapshot for Snapshot {
    fn proxy(&self, upstream: usize) -> Option<&Arc<Proxy>> {
        self.proxies.get(upstream)
    }
}

impl upstream::Snapshot for Snapshot {
    fn upstream(&self, upstream: usize) -> Option<&Arc<upstream::Config>> {
        self.upstreams.get(upstream)
    }
}

/// The configuration in force.
pub type Current = Arc<ArcSwap<Snapshot>>;

/// The whole way of a request.
pub fn stack(
    current: Current,
    judge: Judge,
    telemetry: &Telemetry,
    upstream: Upstream,
    pseudonym: &Arc<str>,
) -> impl Service<Request, Response = Response<Body>, Error = Infallible> + Clone + 'static {
    ServiceBuilder::new()
        .layer(RecordLayer::new(telemetry)) // outermost: sees every answer, ours and the upstream's
        .layer(RejectionLayer) // the only place that turns a Rejection into a response
        .layer(AdmissionLayer::new(Arc::clone(pseudonym))) // refuses what two servers could read differently
        .layer(RoutingLayer::new(Arc::clone(&current))) // Request -> Routed; one snapshot for the whole request
        .layer(EnforcementLayer::new(judge, current)) // Routed -> Permitted, or the UMA challenge
        .layer(CredentialsLayer::new(pseudonym)) // Permitted -> Outbound; the RPT ends here
        .service(upstream)
}

/// The same way up to the decision, for `explain`: what passes is answered 204 and goes nowhere.
pub fn decision_only(
    current: Current,
    judge: Judge,
    pseudonym: Arc<str>,
) -> impl Service<Request, Response = Response<Body>, Error = Rejection> + Clone + 'static {
    ServiceBuilder::new()
        .layer(AdmissionLayer::new(pseudonym))
        .layer(RoutingLayer::new(Arc::clone(&current)))
        .layer(EnforcementLayer::new(judge, current))
        .service(tower::service_fn(|_: Permitted<Snapshot>| std::future::ready(Ok::<_, Rejection>(Response::new(Body::empty())))))
}
