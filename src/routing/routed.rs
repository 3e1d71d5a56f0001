//! A request with its route: what the next room takes, and nobody but this room can make.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Response};
use ipnet::IpNet;

use super::admission::Admitted;
use super::authority::Authority;
use super::client::Client;
use super::cors;
use super::hops;
use super::links::{Link, Links};
use super::request::Peer;
use super::route::Route;
use super::table::{Params, RouteTable};
use super::upgrade::{self, Extended, Upgrade};
use crate::body::Body;
use crate::path::{CanonicalPath, PathProblem, Query};
use crate::response::Rejection;
use crate::store::Registered;
use crate::telemetry::Recorder;
use crate::uma::Scope;

/// What routing must see of the snapshot that a request carries.
pub trait Snapshot {
    /// The routes.
    fn routes(&self) -> &RouteTable;
    /// Proxies whose word on the client counts; none by default.
    fn trusted_proxies(&self) -> &[IpNet];
    /// Shareable links; none where the configuration has no `shares`.
    fn links(&self) -> Option<&Links> {
        None
    }
}

/// A request that has one reading and one route. Only [`route`] makes one:
///
/// ```compile_fail,E0423
/// fn forge<S>(parts: uma_gateway::routing::RoutedParts<S>) -> uma_gateway::routing::Routed<S> {
///     uma_gateway::routing::Routed(parts)
/// }
/// ```
#[derive(Debug)]
pub struct Routed<S>(RoutedParts<S>);

/// What a [`Routed`] is made of, for the rooms that build on it.
#[derive(Debug)]
pub struct RoutedParts<S> {
    /// Method, version and headers as they came, without `Host`. Its `uri` says nothing: path, query and authority stand beside.
    pub head: http::request::Parts,
    /// The body, unread.
    pub body: Body,
    /// The path that was matched and will be sent.
    pub path: CanonicalPath,
    /// The query as it came.
    pub query: Option<Query>,
    /// Where the route's parameters stand in the path.
    pub params: Params,
    /// The link that named the path; absent: the path was asked for itself.
    pub link: Option<Box<Link>>,
    /// The route.
    pub route: Arc<Route>,
    /// Host and port that the client asked for.
    pub authority: Authority,
    /// Who asks.
    pub client: Client,
    /// The connection.
    pub peer: Peer,
    /// The record.
    pub recorder: Recorder,
    /// The configuration that this request sees to its end.
    pub snapshot: Arc<S>,
}

/// Where routing leads.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and a box would cost every request an allocation")]
pub enum Step<S> {
    /// On to enforcement.
    Onward(Routed<S>),
    /// The answer of the gateway to a preflight, or to an OPTIONS that goes no further.
    Answer(Response<Body>),
}

/// Finds the route of a request.
///
/// # Errors
/// The answer of rows D3 (a look-alike of a route's name), D5 (TRACE; CONNECT where no upgrade is allowed), D7, D9, D10 (a link that names nothing), D1 (`Max-Forwards`), or 413.
pub fn route<S: Snapshot>(admitted: Admitted, snapshot: Arc<S>) -> Result<Step<S>, Rejection> {
    let Admitted { mut head, body, path, query, authority, peer, recorder } = admitted;
    let client = Client::effective(&peer, &head.headers, snapshot.trusted_proxies());
    recorder.with(|record| {
        record.client = Some(client.address());
        record.scheme = client.scheme().as_str();
    });
    if head.method == Method::TRACE {
        return Err(traced(&*snapshot, &path, &authority));
    }
    let (path, link) = match follow(&*snapshot, &path, &authority) {
        None => (path, None),
        Some(Ok((own, record))) => (own, Some(Box::new(Link { record, asked: path }))),
        Some(Err(nowhere)) => {
            recorder.with(|record| record.reason = Some(nowhere.into()));
            return Err(Rejection::NoResource);
        }
    };
    let table = snapshot.routes();
    let unsafe_path = |problem: PathProblem| Rejection::UnsafePath(problem.reason());
    table.check(&path).map_err(unsafe_path)?;
    let found = table.find(authority.host(), &path).ok_or_else(|| nowhere(&path, link.is_some(), &recorder))?;
    let (route, params) = (Arc::clone(found.route), found.params);
    recorder.with(|record| {
        record.route = Some(Arc::clone(route.pattern()));
        record.route_line = Some(route.place().line);
    });
    // A page of another origin may read why, whoever says so.
    let refused = |rejection| {
        cors::mark(&route, &head.headers, &recorder);
        Err(rejection)
    };
    // A link leads only where its owner has registered something, whatever the configuration has made of that path since.
    if link.is_some() && !route.is_shared() {
        return refused(unserved(&recorder));
    }
    if let Err(problem) = table.check_readings(authority.host(), &path, &route) {
        if problem.is_opt_in() {
            recorder.with(|record| record.opt_ins = path.needs().beyond(route.config().opt_ins));
        }
        return refused(unsafe_path(problem));
    }
    // There is no ordinary request behind it that could pass the offer over.
    if head.extensions.get::<Extended>().is_some() && upgrade::asked(&head, &body, route.config()).is_none() {
        return refused(Rejection::MethodRefused(route.allow()));
    }
    if let Some(answer) = cors::preflight(&route, &head.method, &head.headers, &recorder) {
        return Ok(Step::Answer(answer));
    }
    cors::mark(&route, &head.headers, &recorder);
    if route.protect().is_some() && route.needs(&head.method).is_none() {
        return Err(Rejection::MethodNotMapped(route.allow()));
    }
    if hops::is_last(&mut head)? {
        return Ok(Step::Answer(cors::no_content(&recorder)));
    }
    if route.config().body_limit.is_some_and(|limit| announced_length(&head.headers).is_some_and(|length| length > limit)) {
        return Err(Rejection::BodyTooLarge);
    }
    Ok(Step::Onward(Routed(RoutedParts { head, body, path, query, params, link, route, authority, client, peer, recorder, snapshot })))
}

/// Where a path leads as a shareable link; `None`: it is none.
fn follow<S: Snapshot>(snapshot: &S, path: &CanonicalPath, authority: &Authority) -> Option<Result<(CanonicalPath, Arc<Registered>), &'static str>> {
    snapshot.links()?.follow_at(authority.host(), path, snapshot.routes())
}

/// The route that a path has in this snapshot, and where its parameters stand; `None`: a request for it would be refused before anybody asks who sends it.
#[must_use]
pub fn find<S: Snapshot>(snapshot: &S, authority: &Authority, path: &CanonicalPath) -> Option<(Arc<Route>, Params)> {
    let table = snapshot.routes();
    table.check(path).ok()?;
    let found = table.find(authority.host(), path)?;
    let (route, params) = (Arc::clone(found.route), found.params);
    table.check_readings(authority.host(), path, &route).ok()?;
    Some((route, params))
}

/// Row D3 comes before D7, so a path that needs an opt-in is unsafe where no route could have it.
fn nowhere(path: &CanonicalPath, by_link: bool, recorder: &Recorder) -> Rejection {
    match path.needs().problem() {
        Some(problem) => Rejection::UnsafePath(problem.reason()),
        None if by_link => unserved(recorder),
        None => Rejection::NoRoute,
    }
}

/// To whoever has its link, a share that the configuration has closed looks like one that never was.
fn unserved(recorder: &Recorder) -> Rejection {
    recorder.with(|record| record.reason = Some("no route lets owners share the path of this link any more".into()));
    Rejection::NoResource
}

/// TRACE goes nowhere, whatever the path is. `Allow` has what its route lets pass, and nothing where there is none.
fn traced<S: Snapshot>(snapshot: &S, path: &CanonicalPath, authority: &Authority) -> Rejection {
    let own = follow(snapshot, path, authority).and_then(Result::ok).map(|(own, _)| own);
    let found = snapshot.routes().find(authority.host(), own.as_ref().unwrap_or(path));
    Rejection::MethodRefused(found.map_or(upgrade::NOTHING, |found| found.route.allow()))
}

impl<S> RoutedParts<S> {
    /// The upgrade that the request asks for and its route allows.
    #[must_use]
    pub fn upgrade(&self) -> Option<Upgrade> {
        upgrade::asked(&self.head, &self.body, self.route.config())
    }
}

impl<S> Routed<S> {
    /// The upgrade that the request asks for and its route allows.
    #[must_use]
    pub fn upgrade(&self) -> Option<Upgrade> {
        self.0.upgrade()
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.0.head.method
    }

    /// The headers as they came, without `Host`.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.0.head.headers
    }

    /// The headers, to be changed.
    pub const fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.0.head.headers
    }

    /// The path.
    #[must_use]
    pub const fn path(&self) -> &CanonicalPath {
        &self.0.path
    }

    /// The query.
    #[must_use]
    pub const fn query(&self) -> Option<&Query> {
        self.0.query.as_ref()
    }

    /// Where the route's parameters stand in the path.
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.0.params
    }

    /// The link that named the path; absent: the path was asked for itself.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.0.link.as_deref()
    }

    /// The route.
    #[must_use]
    pub const fn route(&self) -> &Arc<Route> {
        &self.0.route
    }

    /// The scopes that this request needs; `None` on a public route.
    #[must_use]
    pub fn needs(&self) -> Option<&Arc<[Scope]>> {
        self.0.route.needs(self.method())
    }

    /// Host and port that the client asked for.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// Who asks.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.0.client
    }

    /// The connection.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// The record.
    #[must_use]
    pub const fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// The configuration that this request sees to its end.
    #[must_use]
    pub const fn snapshot(&self) -> &Arc<S> {
        &self.0.snapshot
    }

    /// Its parts, for the outbound head.
    #[must_use]
    pub fn into_parts(self) -> RoutedParts<S> {
        self.0
    }
}

/// The length that the client announces; admission has checked that it is one.
fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
#[path = "routed_tests.rs"]
mod tests;
