//! Whether two routes, by which the same path of a content server is asked for, are opened by the same permission.

use super::config::{Access, Protect, ResourceChoice, RouteConfig, Segment, Template, TemplatePart};

/// Whether whoever may pass one of the routes may pass the other for the same path of the content server, where a rewrite of one lets both ask for it.
///
/// In doubt they are not: the same words about paths that are rewritten are often words about another segment.
pub(super) fn by_the_same(one: &RouteConfig, other: &RouteConfig) -> bool {
    match (&one.access, &other.access) {
        (Access::Protect(ours), Access::Protect(theirs)) => {
            ours.server.identity == theirs.server.identity && same_resource((one, ours), (other, theirs)) && same_scopes(ours, theirs)
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
    let (ours, theirs) = (asked(one, ours), asked(other, theirs));
    ours.is_some() && ours == theirs
}

/// A part of a text, by what the content server is asked for.
#[derive(PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// This segment of the path.
    Segment(usize),
}

/// A text by the segments that the content server sees; `None` where a parameter is no segment of its own there, or may stand elsewhere.
fn asked<'a>(route: &'a RouteConfig, text: &'a Template) -> Option<Vec<Part<'a>>> {
    let part = |part: &'a TemplatePart| match part {
        TemplatePart::Text(text) => Some(Part::Text(text)),
        TemplatePart::Parameter(_) if !route.opt_ins.is_empty() => None,
        TemplatePart::Parameter(parameter) => segment(route, *parameter).map(Part::Segment),
    };
    text.parts.iter().map(part).collect()
}

/// Which segment of what the content server is asked for is this parameter.
fn segment(route: &RouteConfig, parameter: usize) -> Option<usize> {
    let name = route.pattern.parameters().nth(parameter)?;
    match &route.rewrite {
        None => route.pattern.segments.iter().position(|segment| matches!(segment, Segment::Parameter(own) if own == name)),
        Some(rewrite) => {
            let alone = format!("{{{name}}}");
            rewrite.template.text.split('/').skip(1).position(|segment| segment == alone)
        }
    }
}

/// Whether each method that both let pass needs the same scopes.
fn same_scopes(ours: &Protect, theirs: &Protect) -> bool {
    ours.scopes.as_scope == theirs.scopes.as_scope
        && ours.scopes.methods.iter().all(|(method, scopes, _)| {
            let Some((_, their_scopes, _)) = theirs.scopes.methods.iter().find(|(their_method, ..)| their_method == method) else { return true };
            let same_set = scopes.iter().all(|scope| their_scopes.contains(scope)) && their_scopes.iter().all(|scope| scopes.contains(scope));
            same_set && (ours.scopes_match == theirs.scopes_match || scopes.len() == 1)
        })
}
