//! `scopes`: from methods to the scopes that each needs.

use std::sync::Arc;

use http::Method;

use super::checker::Checker;
use super::description::keys::AS_SCOPE;
use super::problem::{Problem, Span, shown};
use super::suggest::{distance, nearest};
use super::tree::{Entry, Node, Value};
use super::values::{Wrong, list, parsed};
use crate::routing::{MethodScopes, Place};
use crate::uma::Scope;

/// Methods that servers know (RFC 9110, 5789, 4918, 3253, 5323), except CONNECT and TRACE.
const KNOWN: [&str; 21] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "CHECKOUT",
    "MERGE",
    "MKCALENDAR",
    "ACL",
    "QUERY",
];

/// `{ GET: [view], "PUT, DELETE": [edit] }`, or `http_method_as_scope`.
pub(super) fn method_scopes(node: &Node, checker: &mut Checker<'_>) -> Option<MethodScopes> {
    if matches!(&node.value, Value::Scalar { text, .. } if text == AS_SCOPE) {
        return Some(methods_as_scopes(node.span.place));
    }
    let Value::Map(entries) = &node.value else {
        let problem = Problem::at(node.span, format!("`scopes` says which method needs what, and here stands {}", node.kind()));
        checker.error(match &node.value {
            Value::Scalar { text, .. } if nearest(text, [AS_SCOPE]).is_some() => problem.did_you_mean(Some(AS_SCOPE)),
            _ => problem.write("{ GET: [view], \"PUT, DELETE\": [edit] }"),
        });
        return None;
    };
    if entries.is_empty() {
        checker.error(Problem::at(node.span, "no method is named, so nothing could pass").write("{ GET: [view] }"));
        return None;
    }
    let mut methods: Vec<(Method, Arc<[Scope]>, Place)> = Vec::new();
    let mut complete = true;
    for entry in entries {
        let scopes = scopes(entry, checker);
        let names = names(entry, checker);
        complete &= scopes.is_some() && names.is_some();
        for (method, span) in names.unwrap_or_default() {
            match methods.iter().find(|(other, ..)| *other == method) {
                // The whole key twice has been reported as such.
                Some((.., place)) if *place != span.place && entries.iter().filter(|other| other.key == entry.key).count() == 1 => {
                    let problem = Problem::at(span, format!("the method `{method}` stands twice"));
                    checker.error(problem.label(format!("it stands at {}:{} already", place.line, place.column)));
                }
                Some(_) => {}
                None => methods.push((method, scopes.clone().unwrap_or_default(), span.place)),
            }
        }
    }
    let stands = |wanted: &Method| methods.iter().find(|(method, ..)| method == wanted);
    if let (Some((.., place)), Some(_)) = (stands(&Method::HEAD), stands(&Method::GET)) {
        let problem = Problem::at(Span::new(place.line, place.column, 4), "HEAD follows GET, also in what it needs").label("leave it out");
        checker.error(problem);
        complete = false;
    }
    complete.then_some(MethodScopes { methods, as_scope: false })
}

/// Every known method with the scope of its name; HEAD follows GET here as well.
fn methods_as_scopes(place: Place) -> MethodScopes {
    let methods = KNOWN.into_iter().filter(|name| *name != "HEAD").filter_map(|name| {
        let method = Method::from_bytes(name.as_bytes()).ok()?;
        Some((method, [Scope(Arc::from(name))].into(), place))
    });
    MethodScopes { methods: methods.collect(), as_scope: true }
}

/// The methods of a key, each with its place.
fn names(entry: &Entry, checker: &mut Checker<'_>) -> Option<Vec<(Method, Span)>> {
    let at = entry.key_span;
    // In quotes the text begins one column later.
    let quote = u32::from(at.length as usize == entry.key.chars().count() + 2);
    let mut offset = 0_u32;
    let mut names = Vec::new();
    let mut complete = true;
    for part in entry.key.split(',') {
        let before = part.chars().take_while(|c| c.is_whitespace()).count();
        let length = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let column = at.place.column + quote + offset + u32::try_from(before).unwrap_or(0);
        let span = Span::new(at.place.line, column, length(part.trim()));
        match method(part.trim()) {
            Ok(method) => names.push((method, span)),
            Err(problem) => {
                complete = false;
                checker.error(problem(span));
            }
        }
        offset += length(part) + 1;
    }
    complete.then_some(names)
}

/// A method, or how its problem looks at the place where it stands.
fn method(name: &str) -> Result<Method, Box<dyn Fn(Span) -> Problem>> {
    let text = shown(name);
    let upper = name.to_ascii_uppercase();
    let near = KNOWN.iter().find(|known| distance(&upper, known) == 1).copied().filter(|_| !KNOWN.contains(&upper.as_str()));
    match Method::from_bytes(name.as_bytes()) {
        _ if name.is_empty() => Err(Box::new(|span| Problem::at(span, "a method is missing between the commas").write("\"PUT, DELETE\""))),
        _ if matches!(upper.as_str(), "*" | "ANY" | "ALL" | "DEFAULT") => {
            Err(Box::new(move |span| Problem::at(span, format!("`{text}` is not a method: name each one")).write("\"GET, POST, PUT, PATCH, DELETE\"")))
        }
        _ if name.contains(char::is_whitespace) => {
            let commas = shown(&upper.split_whitespace().collect::<Vec<_>>().join(", "));
            Err(Box::new(move |span| {
                Problem::at(span, format!("`{text}` is not a method")).label("commas stand between methods").write(format!("\"{commas}\""))
            }))
        }
        Ok(_) if upper == "CONNECT" || upper == "TRACE" => {
            Err(Box::new(move |span| Problem::at(span, format!("{upper} is refused before any route is asked")).label("leave it out")))
        }
        Ok(_) if near.is_some() => Err(Box::new(move |span| Problem::at(span, format!("`{text}` is not a method")).did_you_mean(near))),
        Ok(_) if name != upper => {
            Err(Box::new(move |span| Problem::at(span, format!("`{text}` is not a method: their names are upper case")).write(shown(&upper))))
        }
        Ok(method) => Ok(method),
        Err(_) => Err(Box::new(move |span| Problem::at(span, format!("`{text}` is not a method")))),
    }
}

fn scopes(entry: &Entry, checker: &mut Checker<'_>) -> Option<Arc<[Scope]>> {
    if entry.value.is_null() {
        let problem = Problem::at(entry.key_span, format!("`{}` has no scopes", shown(&entry.key)));
        checker.error(problem.write("[view]      or, where several methods need the same: \"PUT, DELETE\": [edit], with quotes"));
        return None;
    }
    let scopes = list(&entry.value, checker, scope)?;
    Some(scopes.into())
}

/// One scope: no white space, quote or backslash (RFC 6749, 3.3).
pub(super) fn scope(node: &Node, checker: &mut Checker<'_>) -> Option<Scope> {
    parsed(node, checker, "a scope", |text| {
        if text.contains(' ') && !text.contains(['"', '\\']) {
            let parts: Vec<&str> = text.split_whitespace().collect();
            return Err(Wrong::because("commas stand between scopes").write(shown(&parts.join(", "))));
        }
        match text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            true => Ok(Scope(Arc::from(text))),
            false => Err(Wrong::because("printable ASCII without quotes and backslash")),
        }
    })
}
