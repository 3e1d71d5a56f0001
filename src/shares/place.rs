//! Where an owner may share: what a path leads to in the configuration that is in force.

use std::sync::Arc;

use super::config::Config;
use crate::path::{CanonicalPath, PathProblem, alike, spelling};
use crate::routing::{ResourceChoice, Route};
use crate::stack::Snapshot;
use crate::store::DEEPEST;
use crate::uma::Scope;

/// Where a share is.
#[derive(Debug)]
pub struct Place {
    /// The path in its one spelling; a segment `*` stands for any one, and `/**` at the end for all below.
    pub path: String,
    /// The route that leads there.
    pub route: Arc<Route>,
    /// Whose the route says it is; `None`: it does not say, and only the operator registers there.
    pub owner: Option<Arc<str>>,
}

/// Why nothing can be shared there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// The text is no path.
    Unfit(&'static str),
    /// No route lets anybody share it.
    Closed,
}

/// Finds the place of a path, of which segments may be `*`, or of one with `/**` at its end.
pub fn place(snapshot: &Snapshot, config: &Config, text: &str) -> Result<Place, NoPlace> {
    let folder = text.strip_suffix("/**");
    let literal = match folder {
        Some("") => "/",
        Some(folder) => folder,
        None => text,
    };
    let named = |segment: &&str| *segment != "*";
    if literal.contains(['{', '}']) || literal.split('/').filter(named).any(has_star) {
        return Err(NoPlace::Unfit("a path is literal, but that a segment * stands for any one, and /** at its end for all that is below"));
    }
    let path = CanonicalPath::parse(literal).map_err(|problem: PathProblem| NoPlace::Unfit(problem.reason()))?;
    place_of(snapshot, config, &path, folder.is_some())
}

/// Finds the place of exactly this path.
pub fn place_of_one(snapshot: &Snapshot, config: &Config, path: &CanonicalPath) -> Result<Place, NoPlace> {
    if has_star(path.as_str()) {
        return Err(NoPlace::Unfit("a * would stand for more than it"));
    }
    place_of(snapshot, config, path, false)
}

/// Also where it is written `%2A`, or is another one that a careless server takes for it: it would be the other thing there.
fn has_star(text: &str) -> bool {
    alike(text).contains('*')
}

fn place_of(snapshot: &Snapshot, config: &Config, path: &CanonicalPath, all_below: bool) -> Result<Place, NoPlace> {
    if path.segments().nth(DEEPEST).is_some() {
        return Err(NoPlace::Unfit("a path that is shared has at most 64 segments"));
    }
    let table = &snapshot.routes;
    table.check(path).map_err(|problem| NoPlace::Unfit(problem.reason()))?;
    let under = |prefix: &str| path.as_str().strip_prefix(prefix).is_some_and(|behind| behind.is_empty() || behind.starts_with('/'));
    if under(&config.prefix) {
        return Err(NoPlace::Closed);
    }
    let found = table.find(&config.host, path).ok_or(NoPlace::Closed)?;
    table.check_readings(&config.host, path, found.route).map_err(|problem| NoPlace::Unfit(problem.reason()))?;
    let protect = found.route.protect().filter(|protect| protect.server.issuer == config.server.issuer).ok_or(NoPlace::Closed)?;
    let ResourceChoice::Shared { owner } = &protect.resource else { return Err(NoPlace::Closed) };
    if all_below && !found.route.config().pattern.rest {
        return Err(NoPlace::Closed);
    }
    let mut spelt = spelling(path).into_owned();
    if all_below {
        spelt = if spelt == "/" { "/**".to_owned() } else { spelt + "/**" };
    }
    let owner = owner.as_ref().map(|owner| owner.fill(&found.params, path));
    // It would be each owner's.
    if owner.as_deref().is_some_and(has_star) {
        return Err(NoPlace::Closed);
    }
    Ok(Place { path: spelt, route: Arc::clone(found.route), owner })
}

/// The scopes of what is shared without naming any; `None`: every method is one there, and nobody means all of them.
pub fn usual_scopes(route: &Route) -> Option<Vec<Scope>> {
    let as_scope = route.protect().is_some_and(|protect| protect.scopes.as_scope);
    (!as_scope).then(|| scopes_of(route))
}

/// All scopes that the methods of a route need.
pub fn scopes_of(route: &Route) -> Vec<Scope> {
    let mut all: Vec<Scope> = Vec::new();
    let methods = route.protect().map_or(&[][..], |protect| &protect.scopes.methods);
    for scope in methods.iter().flat_map(|(_, scopes, _)| scopes.iter()) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}
