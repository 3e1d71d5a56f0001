//! `register_on_create` and `unregister_on_delete`: what they want of their route, and of the routes that new resources are on.

use std::sync::Arc;

use http::Method;

use super::checker::{Checker, Keys};
use super::methods::scope;
use super::problem::{Problem, Span, shown};
use super::resource::template_problem;
use super::routes::pattern;
use super::tree::Node;
use super::values::{list, only_true, scalar, text};
use crate::routing::{MethodScopes, OnCreate, Pattern, Protect, ResourceChoice, RouteConfig, Segment, Template};
use crate::shares::Config;

/// Both keys of a protected route.
#[derive(Default)]
pub(super) struct Created {
    pub(super) on_create: Option<Arc<OnCreate>>,
    pub(super) unregister_on_delete: bool,
}

/// What stands in `protect`. `needed` are its methods, `resource` what it protects; absent where they have mistakes.
pub(super) fn created(keys: &Keys<'_>, needed: Option<&MethodScopes>, resource: Option<&ResourceChoice>, checker: &mut Checker<'_>) -> Created {
    let maps = |method: &Method| needed.is_none_or(|needed| needed.methods.iter().any(|(mapped, ..)| mapped == method));
    let on_create = keys.open("register_on_create", checker).and_then(|section| on_create(&section, checker));
    if let Some(span) = keys.key_span("register_on_create").filter(|_| !maps(&Method::POST)) {
        let problem = Problem::at(span, "`register_on_create` has no effect here: the route lets no `POST` pass");
        checker.error(problem.label("name a scope for POST in `scopes`, or leave it out"));
    }
    let on_delete = keys.read("unregister_on_delete", checker, only_true).is_some();
    if let Some(span) = keys.key_span("unregister_on_delete") {
        if resource.is_some_and(|resource| !matches!(resource, ResourceChoice::Shared { .. })) {
            let problem = Problem::at(span, "`unregister_on_delete` has no effect here: only what owners have shared is withdrawn");
            checker.error(problem.label("it stands beside `resource: { shared: true }`"));
        } else if !maps(&Method::DELETE) {
            let problem = Problem::at(span, "`unregister_on_delete` has no effect here: the route lets no `DELETE` pass");
            checker.error(problem.label("name a scope for DELETE in `scopes`, or leave it out"));
        }
    }
    Created { on_create: on_create.map(Arc::new), unregister_on_delete: on_delete }
}

/// Both keys where no owner shares anything.
pub(super) fn misplaced(keys: &Keys<'_>, why: &str, checker: &mut Checker<'_>) {
    for name in ["register_on_create", "unregister_on_delete"] {
        if let Some(entry) = keys.entry(name) {
            checker.error(Problem::at(entry.key_span, format!("`{name}` has no effect {why}")).label("leave it out"));
        }
    }
}

fn on_create(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<OnCreate> {
    let location = keys.read("location", checker, pattern);
    let name = keys.entry("name").map(|entry| location.as_ref().and_then(|location| name(&entry.value, location, checker)));
    let kind = keys.read("type", checker, text);
    let scopes = keys.entry("scopes").map(|entry| {
        let scopes = list(&entry.value, checker, scope)?;
        if scopes.is_empty() {
            checker.error(Problem::at(entry.value.span, "a resource without scopes lets nobody pass").label("name one, or leave the key out"));
        }
        Some(scopes)
    });
    let (name, scopes) = (name.map_or(Some(None), |name| name.map(Some))?, scopes.map_or(Some(None), |scopes| scopes.map(Some))?);
    Some(OnCreate { location: location?, name, kind, scopes: scopes.map(Arc::from) })
}

/// A text with the parameters of `location`.
fn name(node: &Node, location: &Pattern, checker: &mut Checker<'_>) -> Option<Template> {
    let text = scalar(node, checker, "a text")?;
    let names: Vec<Arc<str>> = location.parameters().cloned().collect();
    Template::parse(text, &names).map_err(|problem| checker.error(template_problem(node, &problem))).ok()
}

/// What only the whole file shows: that there are owners who share, and that what is made is where they may.
pub(super) fn together(shares: Option<&Config>, routes: &[RouteConfig], shared: &[(&RouteConfig, &Protect)], checker: &mut Checker<'_>) {
    for (route, protect, on_create) in routes.iter().filter_map(registering) {
        let at = |message: String| Problem::at(Span::at(route.place), message);
        let Some(shares) = shares else {
            // A section with mistakes has been reported.
            continue;
        };
        if shares.server.issuer != protect.server.issuer {
            let message = format!("the owners of `{}` share, and `{}` says here who creates", shown(&shares.server.name), shown(&protect.server.name));
            checker.error(at(message).hint("use     the same authorization server in `shares` and in the route"));
        }
        let there: Vec<&&Protect> = shared.iter().filter(|(other, _)| leads(&on_create.location, &other.pattern)).map(|(_, protect)| protect).collect();
        let owned: Vec<&&&Protect> = there.iter().filter(|protect| protect.resource.owner().is_some()).collect();
        if owned.is_empty() {
            let problem =
                at(format!("nobody could own what is created here: no route with `shared: true` and `owner` is at {}", shown(&on_create.location.text)));
            checker.error(problem.hint("add     a route there with `protect: { resource: { shared: true, owner: … } }`"));
        }
        if on_create.scopes.is_none() && owned.iter().any(|protect| protect.scopes.as_scope) {
            let problem = at(format!("`register_on_create` needs `scopes` here: at {} each method is a scope", shown(&on_create.location.text)));
            checker.error(problem.hint("add     `scopes: [ GET ]`, or those that the new resource shall have, to `register_on_create`"));
        }
        let has = |protect: &Protect, wanted: &_| protect.scopes.methods.iter().any(|(_, scopes, _)| scopes.contains(wanted));
        let lost = on_create.scopes.iter().flat_map(|scopes| scopes.iter()).find(|scope| !owned.is_empty() && !owned.iter().any(|protect| has(protect, scope)));
        if let Some(scope) = lost {
            checker.error(at(format!(
                "`{scope}` of `register_on_create` could be granted to no effect: no method at {} needs it",
                shown(&on_create.location.text)
            )));
        }
    }
}

/// A route that registers what is made there.
pub(super) fn registering(route: &RouteConfig) -> Option<(&RouteConfig, &Protect, &OnCreate)> {
    match &route.access {
        crate::routing::Access::Protect(protect) => Some((route, protect, protect.on_create.as_deref()?)),
        crate::routing::Access::Public | crate::routing::Access::Guard(_) => None,
    }
}

/// Whether paths of one pattern are paths of another.
fn leads(location: &Pattern, route: &Pattern) -> bool {
    let alike = |(one, other): (&Segment, &Segment)| match (one, other) {
        (_, Segment::Parameter(_)) => true,
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        (Segment::Parameter(_), Segment::Literal(_)) => false,
    };
    let (most, here) = (location.segments.len(), route.segments.len());
    let long_enough = if route.rest { most >= here } else { most == here && !location.rest };
    long_enough && location.segments.iter().zip(&route.segments).all(alike)
}
