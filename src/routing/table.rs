//! The route table: which route a host and a canonical path lead to.
//!
//! Of all routes that match, the more exact host wins; then the first segment from the left that differs decides: a literal before `{name}` before `**`,
//! the end of a pattern before `**`. The order of the file never matters. A lookup allocates nothing and walks the path's own segments.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::config::{HostPattern, Pattern, Place, RouteConfig, Segment};
use super::pattern::MAX_PARAMETERS;
use super::problems::{RouteProblem, names, public_over_protected, rewrites};
use super::route::Route;
use crate::holes::{Hole, open};
use crate::path::{CanonicalPath, PathProblem, Reading, Segments, compatible, decoded, decoded_bytes, small};

/// All routes, compiled.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    exact: HashMap<Box<str>, Node>,
    suffix: HashMap<Box<str>, Node>,
    any: Node,
    names: Names,
}

/// The route that a request takes.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    /// Where its parameters stand in the path.
    pub params: Params,
}

/// Where the parameters of a pattern, and the rest behind it, stand in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Params {
    ranges: [(u16, u16); MAX_PARAMETERS],
    count: u8,
    rest: u16,
}

impl RouteTable {
    /// Compiles routes.
    ///
    /// # Errors
    /// Every contradiction between them: two of equal weight, one that can never match, a public one that reaches over a protected one, a rewrite
    /// that undoes what the paths promise.
    pub fn new(routes: Vec<RouteConfig>) -> Result<Self, Vec<RouteProblem>> {
        let mut problems = public_over_protected(&routes);
        problems.extend(rewrites(&routes));
        problems.extend(names(&routes));
        let mut table = Self::default();
        for config in routes {
            table.insert(config, &mut problems);
        }
        for node in table.exact.values().chain(table.suffix.values()).chain([&table.any]) {
            node.unreachable(&table.routes, &mut problems);
        }
        if problems.is_empty() {
            return Ok(table);
        }
        problems.sort_by_key(RouteProblem::place);
        Err(problems)
    }

    /// The route for a host (in its one spelling, without port) and a path.
    #[must_use]
    pub fn find(&self, host: &str, path: &CanonicalPath) -> Option<Match<'_>> {
        let index = self
            .exact
            .get(host)
            .and_then(|node| node.find(path.segments()))
            .or_else(|| self.by_suffix(host, path))
            .or_else(|| self.any.find(path.segments()))?;
        let route = self.routes.get(index)?;
        Some(Match { route, params: Params::new(&route.config().pattern, path) })
    }

    /// Whether a path's segments mean what they look like here: none is another spelling (NFKC) of a name that a route uses.
    ///
    /// # Errors
    /// When one is.
    pub fn check(&self, path: &CanonicalPath) -> Result<(), PathProblem> {
        if (path.is_plain() && !self.names.unusual) || open(Hole::FormsIgnored) {
            return Ok(());
        }
        if path.segments().any(|segment| self.names.resembles(segment)) { Err(PathProblem::Lookalike) } else { Ok(()) }
    }

    /// Whether the path that led to this route leads nowhere else when it is read carelessly: in another case, where that leads to a protected route, or, for
    /// what the route's opt-ins admit, decoded again, folded and cut. Another resource of the same route is elsewhere as well.
    ///
    /// # Errors
    /// When it does, or when the path needs an opt-in that the route does not have.
    pub fn check_readings(&self, host: &str, path: &CanonicalPath, found: &Arc<Route>) -> Result<(), PathProblem> {
        let is_found = |index: usize| self.routes.get(index).is_some_and(|route| Arc::ptr_eq(route, found));
        if !open(Hole::CaseIgnored) && (self.names.upper || path.as_str().bytes().any(|byte| byte.is_ascii_uppercase())) {
            let is_open = |index: usize| self.routes.get(index).is_none_or(|route| route.is_public());
            if self.leads(host, &path.segments(), &|index| !is_found(index) && !is_open(index)) {
                return Err(PathProblem::Lookalike);
            }
        }
        if path.needs().is_empty() || open(Hole::OptInsEverywhere) {
            return Ok(());
        }
        // First, since it costs least.
        if let Some(problem) = path.needs().beyond(found.config().opt_ins).problem() {
            return Err(problem);
        }
        let elsewhere = |reading: &Reading| self.leads(host, &reading.segments(), &|index| !is_found(index));
        let another = |reading: &Reading| found.means_another_resource(path, reading) && self.leads(host, &reading.segments(), &is_found);
        if path.readings()?.iter().any(|reading| elsewhere(reading) || another(reading)) { Err(PathProblem::Elsewhere) } else { Ok(()) }
    }

    /// Whether segments lead to such a route in whatever case they are read.
    fn leads(&self, host: &str, segments: &Segments<'_>, to: &dyn Fn(usize) -> bool) -> bool {
        let mut nodes = self.exact.get(host).into_iter().chain(self.suffixes(host)).chain([&self.any]);
        // As in `find`: where one host's routes know the path, the others are not asked.
        nodes.find_map(|node| node.in_any_case(segments.clone(), to)).unwrap_or(false)
    }

    /// From the left: the longest suffix first. A dot in front is none, as no label is empty.
    fn suffixes<'t>(&'t self, host: &'t str) -> impl Iterator<Item = &'t Node> {
        host.match_indices('.').filter_map(|(at, _)| self.suffix.get(host.get(at..)?))
    }

    /// All routes, in the order of the file.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    fn by_suffix(&self, host: &str, path: &CanonicalPath) -> Option<usize> {
        if self.suffix.is_empty() {
            return None;
        }
        self.suffixes(host).find_map(|node| node.find(path.segments()))
    }

    fn insert(&mut self, config: RouteConfig, problems: &mut Vec<RouteProblem>) {
        for segment in &config.pattern.segments {
            if let Segment::Literal(literal) = segment {
                self.names.add(&decoded(literal));
            }
        }
        let root = match &config.host {
            HostPattern::Exact(host) => self.exact.entry(host.clone()).or_default(),
            HostPattern::Suffix(suffix) => self.suffix.entry(suffix.clone()).or_default(),
            HostPattern::Any => &mut self.any,
        };
        let node = config.pattern.segments.iter().fold(root, Node::child);
        let slot = if config.pattern.rest { &mut node.rest } else { &mut node.end };
        match slot.and_then(|index| self.routes.get(index)) {
            Some(first) => problems.push(RouteProblem::EqualWeight {
                first: first.place(),
                second: config.place,
                path: Arc::clone(&config.pattern.text),
                host: config.host.clone(),
            }),
            None => *slot = Some(self.routes.len()),
        }
        self.routes.push(Arc::new(Route::new(config)));
    }
}

impl Params {
    pub(super) fn new(pattern: &Pattern, path: &CanonicalPath) -> Self {
        let whole = path.as_str().len();
        // A canonical path is shorter than 64 KiB.
        let offset = |text: &str| u16::try_from(whole.saturating_sub(text.len())).unwrap_or(u16::MAX);
        let mut params = Self::default();
        let mut segments = path.segments();
        for part in &pattern.segments {
            let Some(value) = segments.next() else { break };
            let end = offset(segments.rest());
            if let (Segment::Parameter(_), Some(range)) = (part, params.ranges.get_mut(usize::from(params.count))) {
                *range = (end.saturating_sub(u16::try_from(value.len()).unwrap_or(u16::MAX)), end);
                params.count = params.count.saturating_add(1);
            }
        }
        params.rest = offset(segments.rest());
        params
    }

    /// The value of the parameter with this place, as it stands in the path (not decoded). Never empty for a parameter of the matched pattern.
    #[must_use]
    pub fn value<'p>(&self, path: &'p CanonicalPath, place: usize) -> &'p str {
        let (start, end) = self.ranges.get(place).copied().unwrap_or_default();
        path.as_str().get(usize::from(start)..usize::from(end)).unwrap_or_default()
    }

    /// What follows the pattern's own segments: empty, `/`, or a slash and more.
    #[must_use]
    pub fn rest<'p>(&self, path: &'p CanonicalPath) -> &'p str {
        path.as_str().get(usize::from(self.rest)..).unwrap_or_default()
    }

    /// How many parameters there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The place in all patterns that begin with the same segments. Numbers are places in [`RouteTable::routes`].
#[derive(Debug, Default)]
struct Node {
    /// Decoded, in order: `a@b` and `a%40b` are one name, since a server that decodes reads them as one.
    literals: Vec<(Box<[u8]>, Node)>,
    parameter: Option<Box<Node>>,
    end: Option<usize>,
    rest: Option<usize>,
}

impl Node {
    fn find(&self, mut segments: Segments<'_>) -> Option<usize> {
        let Some(segment) = segments.next() else { return self.end.or(self.rest) };
        let after = |node: &Self| node.find(segments.clone());
        self.literal(segment).and_then(after).or_else(|| self.parameter.as_deref().and_then(after)).or(self.rest)
    }

    /// Whether a server that folds case could come to such a route; `None`: there is no route at all. A name that is spelt exactly is not taken for another.
    fn in_any_case(&self, mut segments: Segments<'_>, to: &dyn Fn(usize) -> bool) -> Option<bool> {
        let Some(segment) = segments.next() else { return self.end.or(self.rest).map(to) };
        if let Some(answer) = self.literal(segment).and_then(|node| node.in_any_case(segments.clone(), to)) {
            return Some(answer);
        }
        let text = decoded(segment);
        let is_it = |literal: &[u8]| std::str::from_utf8(literal).is_ok_and(|literal| small(literal).eq(small(&text)));
        let others = self.literals.iter().filter(|(literal, _)| is_it(literal));
        let others = others.filter_map(|(_, node)| node.in_any_case(segments.clone(), to)).reduce(|one, other| one || other);
        let own = || self.parameter.as_deref().and_then(|node| node.in_any_case(segments.clone(), to)).or(self.rest.map(to));
        others.or_else(own)
    }

    fn literal(&self, segment: &str) -> Option<&Self> {
        let place = if segment.contains('%') {
            self.literals.binary_search_by(|(literal, _)| literal.iter().copied().cmp(decoded_bytes(segment)))
        } else {
            self.literals.binary_search_by(|(literal, _)| (**literal).cmp(segment.as_bytes()))
        };
        place.ok().and_then(|place| self.literals.get(place)).map(|(_, node)| node)
    }

    #[expect(clippy::indexing_slicing, reason = "at load only, and the place has just been filled")]
    fn child<'n>(node: &'n mut Self, segment: &Segment) -> &'n mut Self {
        match segment {
            Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            Segment::Literal(literal) => {
                let name: Box<[u8]> = decoded_bytes(literal).collect();
                let place = node.literals.binary_search_by(|(other, _)| other.cmp(&name)).unwrap_or_else(|place| {
                    node.literals.insert(place, (name, Self::default()));
                    place
                });
                &mut node.literals[place].1
            }
        }
    }

    /// Notes every `**` below here whose paths all belong to more specific routes.
    fn unreachable(&self, routes: &[Arc<Route>], problems: &mut Vec<RouteProblem>) {
        if let (Some(rest), Some(end), Some(parameter)) = (self.rest, self.end, &self.parameter) {
            let mut by = vec![end];
            if parameter.takes_all(&mut by)
                && let Some(route) = routes.get(rest)
            {
                let mut by: Vec<Place> = by.into_iter().filter_map(|index| routes.get(index)).map(|route| route.place()).collect();
                by.sort();
                problems.push(RouteProblem::NeverMatches { route: route.place(), path: Arc::clone(route.pattern()), by });
            }
        }
        for node in self.literals.iter().map(|(_, node)| node).chain(self.parameter.as_deref()) {
            node.unreachable(routes, problems);
        }
    }

    /// Whether every continuation finds a route here; adds those that take part.
    fn takes_all(&self, by: &mut Vec<usize>) -> bool {
        if let Some(rest) = self.rest {
            by.push(rest);
            return true;
        }
        match (self.end, &self.parameter) {
            (Some(end), Some(parameter)) => {
                by.push(end);
                parameter.takes_all(by)
            }
            _ => false,
        }
    }
}

/// The names that literals use, for telling look-alikes.
#[derive(Debug, Default)]
struct Names {
    literals: HashSet<Box<str>>,
    compatible: HashSet<Box<str>>,
    /// The compatible forms in small letters: what folds the one often folds the other.
    folded: HashSet<Box<str>>,
    /// Whether a literal itself changes when normalised, so that a plain segment may be its other spelling.
    unusual: bool,
    /// Whether a literal holds a capital, or another letter that folds, so that plain small letters may be its other spelling.
    upper: bool,
}

impl Names {
    fn add(&mut self, name: &str) {
        let form = compatible(name);
        self.unusual |= form != name;
        self.upper |= !small(name).eq(name.chars());
        self.folded.insert(small(&form).collect());
        self.compatible.insert(form.into());
        self.literals.insert(name.into());
    }

    fn resembles(&self, segment: &str) -> bool {
        let text = decoded(segment);
        let form = compatible(&text);
        // Where only the case differs, it matters where the path leads, which is looked at later.
        let is_name = (form != text && self.folded.contains(&*small(&form).collect::<String>())) || (self.unusual && self.compatible.contains(&*form));
        is_name && !self.literals.contains(&*text)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
