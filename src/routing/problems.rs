//! What can be wrong with routes that are each right by themselves.

use std::sync::Arc;

use super::config::{Access, HostPattern, Pattern, Place, Protect, ResourceChoice, RouteConfig, Segment, Template};
use super::opened;
use super::route::unused_parameters;
use crate::path::{decoded, small};

/// A contradiction between routes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteProblem {
    /// Two routes that match the same paths of the same hosts, with nothing to prefer one.
    #[error("two routes of equal weight: `{path}` on {host} stands at line {} already", first.line)]
    EqualWeight {
        /// The earlier one in the file.
        first: Place,
        /// The later one, where the problem is shown.
        second: Place,
        /// The later one's path.
        path: Arc<str>,
        /// The hosts of both.
        host: HostPattern,
    },
    /// A route whose every path belongs to a more specific one.
    #[error("this route can never match: {}", lines(by))]
    NeverMatches {
        /// The route.
        route: Place,
        /// Its path.
        path: Arc<str>,
        /// Those that take all of it.
        by: Vec<Place>,
    },
    /// A public route that reaches over a protected one.
    #[error("this public route also matches paths of `{protected_path}` at line {}{}, which is protected", protected.line, read(*in_another_case))]
    PublicCoversProtected {
        /// The public one, where the problem is shown.
        public: Place,
        /// The protected one.
        protected: Place,
        /// The public one's path.
        public_path: Arc<str>,
        /// The protected one's path.
        protected_path: Arc<str>,
        /// Whether that takes a content server that does not tell capitals from small letters.
        in_another_case: bool,
    },
    /// A route that asks the same upstream for paths that another one protects, and not by the same resource, by a rewrite of either.
    #[error("rewritten, this route asks the upstream for paths that `{protected_path}` at line {} protects", protected.line)]
    RewriteReachesProtected {
        /// The one that asks, where the problem is shown.
        route: Place,
        /// The protected one.
        protected: Place,
        /// The protected one's path.
        protected_path: Arc<str>,
    },
    /// A rewrite that leaves out what chooses the resource: every permission would open the same content.
    #[error("the rewrite leaves out {{{parameter}}}, which chooses the resource: the permission for one would open the content of all")]
    RewriteDropsParameter {
        /// The route.
        route: Place,
        /// The parameter, or `**`.
        parameter: Arc<str>,
    },
    /// A name or rewrite in which the values of two parameters cannot be told apart.
    #[error("`{text}` is the same for several paths: what stands between two parameters may stand in a value as well")]
    Joins {
        /// The route.
        route: Place,
        /// The name or the rewrite.
        text: Arc<str>,
    },
    /// Two resources of one name, at a server that may not tell owners apart.
    #[error("the resource `{name}` stands at line {} for another owner, and a server that does not say whose a resource is takes the two for one", first.line)]
    OneNameOfTwoOwners {
        /// The earlier route in the file.
        first: Place,
        /// The later one, where the problem is shown.
        second: Place,
        /// The name.
        name: Arc<str>,
    },
}

impl RouteProblem {
    /// Where it is shown: the route that should change.
    #[must_use]
    pub const fn place(&self) -> Place {
        match self {
            Self::EqualWeight { second: place, .. } | Self::NeverMatches { route: place, .. } | Self::PublicCoversProtected { public: place, .. } => *place,
            Self::RewriteReachesProtected { route: place, .. } | Self::RewriteDropsParameter { route: place, .. } => *place,
            Self::Joins { route: place, .. } | Self::OneNameOfTwoOwners { second: place, .. } => *place,
        }
    }

    /// The other routes that take part.
    #[must_use]
    pub fn others(&self) -> &[Place] {
        match self {
            Self::EqualWeight { first: other, .. }
            | Self::OneNameOfTwoOwners { first: other, .. }
            | Self::PublicCoversProtected { protected: other, .. }
            | Self::RewriteReachesProtected { protected: other, .. } => std::slice::from_ref(other),
            Self::RewriteDropsParameter { .. } | Self::Joins { .. } => &[],
            Self::NeverMatches { by, .. } => by,
        }
    }

    /// What to do.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::EqualWeight { .. } => "keep one of them; methods of one path stand in one route",
            Self::NeverMatches { .. } => "remove it, or those that take its paths",
            Self::PublicCoversProtected { .. } => "name the public paths more exactly, or say `covers_protected: true` if it is meant so",
            Self::RewriteReachesProtected { .. } => "rewrite to paths that no protected route guards, or say `covers_protected: true` if it is meant so",
            Self::RewriteDropsParameter { .. } => "put it into `rewrite`, or say `covers: all` if one permission is meant for all of them",
            Self::Joins { .. } => "put a `/` between the parameters (with `encoded_slash` one alone is clear), or say `covers: all` if it is meant so",
            Self::OneNameOfTwoOwners { .. } => "give them two names, or each owner a token (`pat.owners`); where it is Keycloak, say `profile: keycloak`",
        }
    }
}

const fn read(in_another_case: bool) -> &'static str {
    if in_another_case { " where capitals are not told from small letters" } else { "" }
}

fn lines(places: &[Place]) -> String {
    let lines: Vec<String> = places.iter().map(|place| place.line.to_string()).collect();
    format!("all its paths belong to the more specific routes at line {}", lines.join(" and "))
}

/// Public routes that reach over protected ones.
///
/// A public route inside a protected one (`/docs/public/**` under `/docs/**`) is the plain way to open a part, and wins wherever it matches.
/// One that is above a protected route, or crosses it, is not: there a request that two servers read differently would find the open rule. Two literals that
/// differ in case only may be the same one for a content server.
pub(super) fn public_over_protected(routes: &[RouteConfig]) -> Vec<RouteProblem> {
    let mut problems = Vec::new();
    for public in routes.iter().filter(|route| matches!(route.access, Access::Public) && !route.covers_protected) {
        for protected in routes.iter().filter(|route| !matches!(route.access, Access::Public)) {
            let overlap = public.host.overlaps(&protected.host) && overlaps(&public.pattern, &protected.pattern, in_any_case);
            let inside = includes(&protected.pattern, &public.pattern) && protected.host.includes(&public.host);
            if overlap && !inside {
                problems.push(RouteProblem::PublicCoversProtected {
                    public: public.place,
                    protected: protected.place,
                    public_path: Arc::clone(&public.pattern.text),
                    protected_path: Arc::clone(&protected.pattern.text),
                    in_another_case: !overlaps(&public.pattern, &protected.pattern, same),
                });
            }
        }
    }
    problems
}

/// Rewrites that undo what the paths of the routes promise.
///
/// What counts is what the upstream is asked for: there a route must not meet another one that is protected by something else, whatever it is called outside.
pub(super) fn rewrites(routes: &[RouteConfig]) -> Vec<RouteProblem> {
    let mut problems: Vec<RouteProblem> = routes.iter().filter_map(dropped_parameter).collect();
    for route in routes {
        for protected in routes.iter().filter(|other| other.upstream == route.upstream && reaches(route, other)) {
            let protected_path = Arc::clone(&protected.pattern.text);
            problems.push(RouteProblem::RewriteReachesProtected { route: route.place, protected: protected.place, protected_path });
        }
    }
    problems
}

/// Names that several paths have, and names that several owners have where that may be one resource.
pub(super) fn names(routes: &[RouteConfig]) -> Vec<RouteProblem> {
    let mut problems: Vec<RouteProblem> = routes.iter().filter(|route| !route.covers_all).filter_map(joined).collect();
    let fixed: Vec<(&RouteConfig, &Protect, &Template, Option<&Template>)> = routes
        .iter()
        .filter_map(|route| {
            let Access::Protect(protect) = &route.access else { return None };
            let (name, owner) = protect.resource.named()?;
            let is_fixed = name.is_constant() && owner.is_none_or(Template::is_constant);
            (is_fixed && protect.server.may_hide_owners()).then_some((route, protect, name, owner))
        })
        .collect();
    for (place, (second, protect, name, owner)) in fixed.iter().enumerate() {
        let other = fixed.iter().take(place).find(|(_, first, known, its)| {
            first.server.identity == protect.server.identity && known.text == name.text && its.map(|its| &its.text) != owner.map(|owner| &owner.text)
        });
        if let Some((first, ..)) = other {
            problems.push(RouteProblem::OneNameOfTwoOwners { first: first.place, second: second.place, name: Arc::clone(&name.text) });
        }
    }
    problems
}

/// A name or a rewrite in which two values of what chooses the resource run together.
fn joined(route: &RouteConfig) -> Option<RouteProblem> {
    let Access::Protect(protect) = &route.access else { return None };
    let (name, owner) = protect.resource.named()?;
    // What the owner says is known.
    let told: Vec<usize> = owner.into_iter().flat_map(Template::parameters).collect();
    let told = if told.len() == 1 { told } else { Vec::new() };
    let name = Some(name).filter(|name| !name.is_clear(&told, route.opt_ins.encoded_slash));
    // A path is as it is written, where a slash in a value is an escape.
    let rewrite = route.rewrite.as_ref().map(|rewrite| &rewrite.template).filter(|rewrite| !rewrite.is_clear(&[], false));
    name.or(rewrite).map(|unclear| RouteProblem::Joins { route: route.place, text: Arc::clone(&unclear.text) })
}

fn dropped_parameter(route: &RouteConfig) -> Option<RouteProblem> {
    let (Access::Protect(protect), Some(rewrite), false) = (&route.access, &route.rewrite, route.covers_all) else { return None };
    let drops = |parameter| Some(RouteProblem::RewriteDropsParameter { route: route.place, parameter });
    if matches!(protect.resource, ResourceChoice::Shared { .. } | ResourceChoice::Uris) && route.pattern.rest && !rewrite.rest {
        return drops("**".into());
    }
    let unused = unused_parameters(&route.pattern, &protect.resource);
    let kept: Vec<usize> = rewrite.template.parameters().collect();
    let dropped = route.pattern.parameters().enumerate().find(|(place, name)| !unused.contains(name) && !kept.contains(place));
    dropped.and_then(|(_, name)| drops(Arc::clone(name)))
}

/// Whether a route asks a content server for what a protected one asks it for, by a rewrite, and is opened by something else.
fn reaches(route: &RouteConfig, protected: &RouteConfig) -> bool {
    let rewritten = route.rewrite.is_some() || matches!(route.access, Access::Public) && protected.rewrite.is_some();
    rewritten
        && !route.covers_protected
        && !matches!(protected.access, Access::Public)
        && protected.place != route.place
        && !cut_alike(route, protected)
        && !opened::by_the_same(route, protected)
        && overlaps(&asked_upstream(route), &asked_upstream(protected), in_any_case)
}

/// Whether both rewrites leave out the same first segments and nothing else: what they ask for then differs as their paths do, and the more particular one has it.
fn cut_alike(one: &RouteConfig, other: &RouteConfig) -> bool {
    let cut = |route: &RouteConfig| {
        let (pattern, asked) = (&route.pattern, written(route));
        let most = pattern.segments.len().checked_sub(asked.segments.len())?;
        let (first, left) = pattern.segments.split_at_checked(most)?;
        let is_literal = first.iter().all(|segment| matches!(segment, Segment::Literal(_)));
        let same = |pair: (&Segment, &Segment)| match pair {
            (Segment::Literal(own), Segment::Literal(sent)) => own == sent,
            (Segment::Parameter(name), Segment::Parameter(sent)) => **sent == *format!("{{{name}}}"),
            _ => false,
        };
        (is_literal && left.iter().zip(&asked.segments).all(same) && pattern.rest == asked.rest).then(|| first.to_vec())
    };
    matches!((cut(one), cut(other)), (Some(one), Some(other)) if !one.is_empty() && one == other)
}

/// Routes that do so by another upstream with one of its servers. What that server lets the other one's credential see is not known here.
#[must_use]
pub fn reached_by_another_name(routes: &[RouteConfig]) -> Vec<(&RouteConfig, &RouteConfig)> {
    let by_another_name =
        |route: &RouteConfig, other: &RouteConfig| other.upstream != route.upstream && other.content == route.content && reaches(route, other);
    routes.iter().filter_map(|route| Some((route, routes.iter().find(|other| by_another_name(route, other))?))).collect()
}

/// Public routes that ask a content server for paths that a protected one asks it for at another host. A content server that is told its own name cannot tell
/// them apart; whether it is told the client's is not known here.
#[must_use]
pub fn public_at_another_host(routes: &[RouteConfig]) -> Vec<(&RouteConfig, &RouteConfig)> {
    let public = routes.iter().filter(|route| matches!(route.access, Access::Public) && !route.covers_protected);
    let elsewhere = |public: &RouteConfig, other: &RouteConfig| {
        !matches!(other.access, Access::Public)
            && other.content == public.content
            && !public.host.overlaps(&other.host)
            && overlaps(&asked_upstream(public), &asked_upstream(other), in_any_case)
    };
    public.filter_map(|public| Some((public, routes.iter().find(|other| elsewhere(public, other))?))).collect()
}

/// The paths that the upstream is asked for. A segment that is made of text and parameters may be anything; with an escaped slash in it, also several, and
/// with a semicolon at its front, none.
fn asked_upstream(route: &RouteConfig) -> Pattern {
    let mut asked = written(route);
    let any = asked.segments.iter().position(|segment| matches!(segment, Segment::Parameter(_)));
    if let Some(any) = any.filter(|_| !route.opt_ins.is_empty()) {
        asked.segments.truncate(any);
        asked.rest = true;
    }
    asked
}

/// The path that is sent, as it is written.
fn written(route: &RouteConfig) -> Pattern {
    match &route.rewrite {
        None => route.pattern.clone(),
        Some(rewrite) => {
            let text = rewrite.template.text.strip_suffix("/{**}").unwrap_or(&rewrite.template.text);
            let segments = text.split('/').skip(1).filter(|segment| !segment.is_empty());
            let segments = segments.map(|segment| if segment.contains('{') { Segment::Parameter(segment.into()) } else { Segment::Literal(segment.into()) });
            Pattern { text: Arc::clone(&rewrite.template.text), segments: segments.collect(), rest: rewrite.rest }
        }
    }
}

/// Whether some path is matched by both, where `equal` tells whether two literals may mean the same segment.
fn overlaps(one: &Pattern, other: &Pattern, equal: fn(&str, &str) -> bool) -> bool {
    let disjoint = one.segments.iter().zip(&other.segments).any(|pair| match pair {
        (Segment::Literal(one), Segment::Literal(other)) => !equal(one, other),
        _ => false,
    });
    !disjoint
        && match one.segments.len().cmp(&other.segments.len()) {
            std::cmp::Ordering::Less => one.rest,
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => other.rest,
        }
}

/// Whether every path that `inner` matches is matched by `outer`.
fn includes(outer: &Pattern, inner: &Pattern) -> bool {
    let segments = outer.segments.iter().zip(&inner.segments).all(|pair| match pair {
        (Segment::Parameter(_), _) => true,
        (Segment::Literal(outer), Segment::Literal(inner)) => same(outer, inner),
        (Segment::Literal(_), Segment::Parameter(_)) => false,
    });
    segments
        && match outer.segments.len().cmp(&inner.segments.len()) {
            std::cmp::Ordering::Less => outer.rest,
            std::cmp::Ordering::Equal => outer.rest || !inner.rest,
            std::cmp::Ordering::Greater => false,
        }
}

/// Whether two literals mean the same segment.
fn same(one: &str, other: &str) -> bool {
    one == other || (one.contains('%') || other.contains('%')) && decoded(one) == decoded(other)
}

/// Whether two literals mean the same segment for a server that folds case.
fn in_any_case(one: &str, other: &str) -> bool {
    same(one, other) || small(&decoded(one)).eq(small(&decoded(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn overlap_and_inclusion_are_told_apart() {
        for (outer, inner, overlap, include) in [
            ("/**", "/a", true, true),
            ("/**", "/", true, true),
            ("/a/**", "/a", true, true),
            ("/a", "/a/**", true, false),
            ("/a/**", "/b/**", false, false),
            ("/a/**", "/{x}/c", true, false),
            ("/{x}/**", "/a/b/**", true, true),
            ("/{x}", "/a/b", false, false),
            ("/a/{x}/c", "/a/b/**", true, false),
            ("/a/b/**", "/a/{x}/c", true, false),
            ("/a@b/**", "/a%40b/c", true, true),
        ] {
            let (outer_pattern, inner_pattern) = (pattern(outer), pattern(inner));
            assert_eq!(overlaps(&outer_pattern, &inner_pattern, same), overlap, "{outer} {inner}");
            assert_eq!(overlaps(&inner_pattern, &outer_pattern, same), overlap, "{inner} {outer}");
            assert_eq!(includes(&outer_pattern, &inner_pattern), include, "{outer} {inner}");
        }
    }
}
