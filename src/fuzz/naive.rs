//! The route table as a person would look it up: every route is tried, and of those that match the most particular one is taken.
//!
//! It shares no code with `routing/table.rs`: neither its tree nor its way to decode and to fold.

use super::lenient::{decoded, folded};
use crate::routing::{Access, HostPattern, RouteConfig, Segment};

/// The routes of a table, by their place in it.
pub(super) struct Naive {
    rules: Vec<Rule>,
}

struct Rule {
    host: HostPattern,
    segments: Vec<Option<Vec<u8>>>,
    rest: bool,
    protected: bool,
}

/// How a segment of a pattern takes one of a path. The first is the most particular.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Takes {
    Exactly,
    InAnotherCase(Vec<u8>),
    AsParameter,
    AsRest,
}

impl Naive {
    /// Of these routes.
    pub(super) fn new<'r>(routes: impl Iterator<Item = &'r RouteConfig>) -> Self {
        let rule = |route: &RouteConfig| {
            let segments = route.pattern.segments.iter().map(|segment| match segment {
                Segment::Literal(literal) => Some(decoded(literal.as_bytes())),
                Segment::Parameter(_) => None,
            });
            let protected = matches!(route.access, Access::Protect(_));
            Rule { host: route.host.clone(), segments: segments.collect(), rest: route.pattern.rest, protected }
        };
        Self { rules: routes.map(rule).collect() }
    }

    /// Whether the route with this place is protected.
    pub(super) fn is_protected(&self, place: usize) -> bool {
        self.rules.get(place).is_some_and(|rule| rule.protected)
    }

    /// The places of all routes that take these segments of this host, whichever is more particular.
    pub(super) fn matching(&self, host: &str, segments: &[Vec<u8>]) -> Vec<usize> {
        let takes = |rule: &Rule| weight(&rule.host, host).is_some() && rule.takes(segments, false).is_some();
        self.rules.iter().enumerate().filter(|(_, rule)| takes(rule)).map(|(place, _)| place).collect()
    }

    /// The routes to which these segments lead: one at most where the case of letters counts; where it does not, perhaps several.
    pub(super) fn find(&self, host: &str, segments: &[Vec<u8>], any_case: bool) -> Vec<usize> {
        let taken = |(place, rule): (usize, &Rule)| Some((weight(&rule.host, host)?, place, rule.takes(segments, any_case)?));
        let all: Vec<_> = self.rules.iter().enumerate().filter_map(taken).collect();
        let heaviest = all.iter().map(|(weight, ..)| *weight).max();
        let of_host: Vec<_> = all.into_iter().filter(|(weight, ..)| Some(*weight) == heaviest).collect();
        let is_behind = |takes: &[Takes]| of_host.iter().any(|(_, _, other)| is_more_particular(other, takes));
        of_host.iter().filter(|(_, _, takes)| !is_behind(takes)).map(|(_, place, _)| *place).collect()
    }
}

/// How exactly a route's host is this one: itself, then the longest suffix, then any.
fn weight(pattern: &HostPattern, host: &str) -> Option<usize> {
    match pattern {
        HostPattern::Exact(exact) => (**exact == *host).then_some(usize::MAX),
        HostPattern::Suffix(suffix) => (host.len() > suffix.len() && host.ends_with(&**suffix)).then_some(suffix.len()),
        HostPattern::Any => Some(0),
    }
}

/// At the first place where the two differ; two literals that are each another case of the same name stand beside one another.
fn is_more_particular(one: &[Takes], other: &[Takes]) -> bool {
    match one.iter().zip(other).find(|(one, other)| one != other) {
        Some((Takes::InAnotherCase(_), Takes::InAnotherCase(_))) => false,
        Some((one, other)) => one < other,
        // `/a` is more particular than `/a/**`.
        None => one.len() < other.len(),
    }
}

impl Rule {
    fn takes(&self, segments: &[Vec<u8>], any_case: bool) -> Option<Vec<Takes>> {
        if segments.len() < self.segments.len() || (segments.len() > self.segments.len() && !self.rest) {
            return None;
        }
        let one = |(own, segment): (&Option<Vec<u8>>, &Vec<u8>)| match own {
            None => Some(Takes::AsParameter),
            Some(literal) if literal == segment => Some(Takes::Exactly),
            Some(literal) if any_case && folded(literal) == folded(segment) => Some(Takes::InAnotherCase(literal.clone())),
            Some(_) => None,
        };
        let own: Option<Vec<Takes>> = self.segments.iter().zip(segments).map(one).collect();
        own.map(|mut takes| {
            if self.rest {
                takes.push(Takes::AsRest);
            }
            takes
        })
    }
}
