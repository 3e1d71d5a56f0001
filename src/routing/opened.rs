//! Whether two routes, by which the same path of a content server is asked for, are opened by the same permission.

use http::Method;

use super::config::{Access, Protect, ResourceChoice, RouteConfig, ScopesMatch, Segment, Template, TemplatePart};
use crate::uma::Scope;

/// Whether whoever may pass `one` of the routes may pass the `other` for the same path of the content server, where a rewrite lets both ask for it.
///
/// In doubt they are not: the same words about paths that are rewritten are often words about another segment.
pub(super) fn by_the_same(one: &RouteConfig, other: &RouteConfig) -> bool {
    match (&one.access, &other.access) {
        (Access::Protect(ours), Access::Protect(theirs)) => {
            ours.server.identity == theirs.server.identity && same_resource((one, ours), (other, theirs)) && needs_no_less(ours, theirs)
        }
        (Access::Guard(ours), Access::Guard(theirs)) => ours.accepts_what(theirs),
        (Access::Public, Access::Public) => true,
        _ => false,
    }
}

fn same_resource((one, ours): (&RouteConfig, &Protect), (other, theirs): (&RouteConfig, &Protect)) -> bool {
    match (&ours.resource, &theirs.resource) {
        (ResourceChoice::Token, ResourceChoice::Token) => true,
        (ResourceChoice::Id { id: ours, .. }, ResourceChoice::Id { id: theirs, .. }) => ours == theirs,
        // What is found by the path that was asked for is found by another one at the other route.
        (ResourceChoice::Shared { .. } | ResourceChoice::Uris, _) => false,
        (ours, theirs) => match (ours.named(), theirs.named()) {
            (Some((name, owner)), Some((their_name, their_owner))) => {
                same_text((one, name), (other, their_name))
                    && match (owner, their_owner) {
                        (None, None) => true,
                        (Some(owner), Some(their_owner)) => same_text((one, owner), (other, their_owner)),
                        _ => false,
                    }
            }
            _ => false,
        },
    }
}

/// Whether two texts are the same for one path of the content server.
fn same_text((one, ours): (&RouteConfig, &Template), (other, theirs): (&RouteConfig, &Template)) -> bool {
    let (asked, theirs_asked) = (asked(one, ours), asked(other, theirs));
    asked.is_some() && asked == theirs_asked && (ours.is_constant() || one.opt_ins == other.opt_ins)
}

/// A part of a text, by what the content server is asked for.
#[derive(PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// What stands for `{}` in this segment of the path.
    Within(usize, String),
}

/// A text by the segments that the content server sees; `None` where a parameter is not alone in its segment there.
fn asked<'a>(route: &'a RouteConfig, text: &'a Template) -> Option<Vec<Part<'a>>> {
    let part = |part: &'a TemplatePart| match part {
        TemplatePart::Text(text) => Some(Part::Text(text)),
        TemplatePart::Parameter(parameter) => within(route, *parameter),
    };
    text.parts.iter().map(part).collect()
}

/// Where this parameter stands in what the content server is asked for.
fn within<'a>(route: &RouteConfig, parameter: usize) -> Option<Part<'a>> {
    let name = route.pattern.parameters().nth(parameter)?;
    let Some(rewrite) = &route.rewrite else {
        let place = route.pattern.segments.iter().position(|segment| matches!(segment, Segment::Parameter(own) if own == name))?;
        return Some(Part::Within(place, "{}".into()));
    };
    let written = format!("{{{name}}}");
    let (place, segment) = rewrite.template.text.split('/').skip(1).enumerate().find(|(_, segment)| segment.contains(&written))?;
    let text = segment.replacen(&written, "{}", 1);
    (text.matches('{').count() == 1).then_some(Part::Within(place, text))
}

/// Whether each method that both let pass needs as much of whoever comes by ours as of whoever comes by theirs.
fn needs_no_less(ours: &Protect, theirs: &Protect) -> bool {
    if ours.scopes.as_scope != theirs.scopes.as_scope {
        return false;
    }
    let methods = ours.scopes.methods.iter().map(|(method, ..)| method).chain([&Method::HEAD]);
    methods.filter_map(|method| Some((needed(ours, method)?, needed(theirs, method)?))).all(|(needed, theirs_needed)| {
        let within = |few: &[Scope], many: &[Scope]| few.iter().all(|scope| many.contains(scope));
        let all = |protect: &Protect, scopes: &[Scope]| protect.scopes_match == ScopesMatch::All || scopes.len() == 1;
        match (all(ours, needed), all(theirs, theirs_needed)) {
            (true, true) => within(theirs_needed, needed),
            // One of ours is one of theirs.
            (_, false) => within(needed, theirs_needed),
            (false, true) => false,
        }
    })
}

/// What a method needs; HEAD follows GET.
fn needed<'a>(protect: &'a Protect, method: &Method) -> Option<&'a [Scope]> {
    let of = |wanted: &Method| protect.scopes.methods.iter().find(|(method, ..)| method == wanted).map(|(_, scopes, _)| &**scopes);
    of(method).or_else(|| of(&Method::GET).filter(|_| *method == Method::HEAD))
}
