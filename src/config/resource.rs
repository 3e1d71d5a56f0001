//! `resource`: which resource a route protects, and whether one permission would open more than was meant.

use std::sync::Arc;

use super::checker::{Checker, Keys};
use super::methods::scope;
use super::problem::{Problem, Span, shown};
use super::tree::{Entry, Node, Value};
use super::values::{list, only_true, scalar, text};
use crate::authorization_server::{Config, PatOwners, ProfileChoice};
use crate::routing::{MethodScopes, Pattern, ResourceChoice, Template, TemplateProblem, unused_parameters};
use crate::uma::Scope;

/// A route's path and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) pattern: &'a Pattern,
    pub(super) span: Span,
}

/// What stands for a resource that has mistakes. It is never used: there is a problem.
pub(super) fn stand_in() -> ResourceChoice {
    ResourceChoice::Id { id: Arc::from(""), owner: None }
}

/// `{ id }`, `{ name, owner }`, `{ register }`, `{ shared }` or `{ uris }`. `needed` are the scopes that the route's methods need.
pub(super) fn resource(
    keys: &Keys<'_>,
    node: &Node,
    path: Option<Path<'_>>,
    needed: Option<&MethodScopes>,
    covers: bool,
    checker: &mut Checker<'_>,
) -> Option<ResourceChoice> {
    let id = keys.read("id", checker, text);
    let name = keys.read("name", checker, |node, checker| template(node, path, checker));
    let owner = keys.read("owner", checker, |node, checker| template(node, path, checker));
    let register = keys.open("register", checker).map(|keys| register(&keys, path, needed, checker));
    if let Some(span) = keys.key_span("owner").filter(|_| keys.names("register")) {
        checker.error(Problem::at(span, "`owner` stands beside `name` or `id`").label("move it into `register`"));
    }
    let shared = keys.read("shared", checker, only_true).is_some();
    let uris = keys.read("uris", checker, only_true).is_some();
    if let Some(span) = keys.key_span("owner").filter(|_| keys.names("uris")) {
        checker.error(Problem::at(span, "`owner` stands beside `name` or `id`: whoever owns the resource that has the path").label("leave it out"));
    }
    let owner_failed = keys.names("owner") && owner.is_none();
    let resource = if let Some(register) = register {
        register?
    } else if shared {
        ResourceChoice::Shared { owner: if owner_failed { return None } else { owner } }
    } else if uris {
        ResourceChoice::Uris
    } else if keys.names("id") {
        ResourceChoice::Id { id: id?, owner: if owner_failed { return None } else { owner } }
    } else {
        ResourceChoice::Name { name: name?, owner: if owner_failed { return None } else { owner } }
    };
    if let Some(path) = path.filter(|_| !covers) {
        opens_too_much(&resource, node, path, checker);
    }
    Some(resource)
}

fn register(keys: &Keys<'_>, path: Option<Path<'_>>, needed: Option<&MethodScopes>, checker: &mut Checker<'_>) -> Option<ResourceChoice> {
    let name = keys.read("name", checker, |node, checker| template(node, path, checker));
    let kind = keys.read("type", checker, text);
    let owner = keys.read("owner", checker, |node, checker| template(node, path, checker));
    if needed.is_some_and(|needed| needed.as_scope) && !keys.names("scopes") {
        let problem = Problem::at(keys.span, "`scopes` is missing: where methods are scopes, the resource says which it has");
        checker.error(problem.write("scopes: [GET, PUT]"));
    }
    let needed: Vec<&Scope> = needed.iter().flat_map(|needed| needed.wanted()).collect();
    let scopes = keys.entry("scopes").map(|entry| {
        let scopes = list(&entry.value, checker, scope)?;
        if let Some(missing) = needed.iter().find(|needed| !scopes.contains(needed)) {
            let problem = Problem::at(entry.value.span, format!("the route's methods need `{missing}`, which is not registered"));
            let all: Vec<String> = scopes.iter().map(ToString::to_string).chain([missing.to_string()]).collect();
            checker.error(problem.write(format!("[{}]", all.join(", "))));
        }
        Some(scopes)
    });
    let scopes = scopes.unwrap_or_else(|| {
        let mut all: Vec<Scope> = Vec::new();
        for scope in needed {
            if !all.contains(scope) {
                all.push(scope.clone());
            }
        }
        Some(all)
    });
    for (key, template) in [("name", &name), ("owner", &owner)] {
        if let (Some(entry), Some(template)) = (keys.entry(key), template)
            && !template.is_constant()
        {
            // Otherwise whoever asks for a path would decide what is registered in somebody's account.
            let problem = Problem::at(entry.value.span, "what is registered is named by the configuration, not by the address that somebody asks for");
            checker.error(
                problem
                    .label("holds a path parameter")
                    .hint("use     { name, owner } for resources that exist already, or one route for each registered resource"),
            );
        }
    }
    Some(ResourceChoice::Register { name: name?, kind, scopes: scopes?.into(), owner })
}

/// A text with the parameters of the route's path. Where the path is wrong nothing can be said about it.
fn template(node: &Node, path: Option<Path<'_>>, checker: &mut Checker<'_>) -> Option<Template> {
    let text = scalar(node, checker, "a text")?;
    let names: Vec<Arc<str>> = path?.pattern.parameters().cloned().collect();
    Template::parse(text, &names).map_err(|problem| checker.error(template_problem(node, &problem))).ok()
}

/// How a problem of a template or rewrite looks at the node that it was read from.
pub(super) fn template_problem(node: &Node, problem: &TemplateProblem) -> Problem {
    let at = Problem::at(part(node, problem.offset, problem.length), problem.to_string());
    match &problem.instead {
        Some(instead) => at.write(format!("\"{}\"", shown(instead))),
        None => at,
    }
}

/// The part of a scalar from a byte offset on. A text with escapes or over several lines is shown whole.
pub(super) fn part(node: &Node, offset: usize, length: usize) -> Span {
    let Value::Scalar { text, plain } = &node.value else { return node.span };
    let whole = text.chars().count() + if *plain { 0 } else { 2 };
    let (Some(before), Some(part)) = (text.get(..offset), text.get(offset..offset.saturating_add(length))) else { return node.span };
    if length == 0 || whole != node.span.length as usize || node.span.last_line != node.span.place.line {
        return node.span;
    }
    let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(0);
    Span::new(node.span.place.line, node.span.place.column + u32::from(!plain) + count(before), count(part))
}

/// A route of a plain OAuth server: no resource, and a scope for each method, since any token would do otherwise.
pub(super) fn of_token(keys: &Keys<'_>, needed: Option<&MethodScopes>, checker: &mut Checker<'_>) -> ResourceChoice {
    if let Some(span) = keys.key_span("resource") {
        checker.error(Problem::at(span, "this authorization server knows no resources: its profile is `oauth`").label("leave it out"));
    }
    let empty = needed.and_then(|needed| needed.methods.iter().find(|(_, scopes, _)| scopes.is_empty()));
    if let Some((method, ..)) = empty {
        let span = keys.key_span("scopes").unwrap_or(keys.span);
        let problem = Problem::at(span, format!("{method} needs no scope here, so any token of this authorization server would do"));
        checker.error(problem.label("name a scope"));
    }
    ResourceChoice::Token
}

/// Where a PAT is for its owner's resources only, a route says whose its resource is, and the server's section has that owner's.
pub(super) fn has_pat(server: &Config, resource: &ResourceChoice, span: Span, checker: &mut Checker<'_>) {
    let pats = match server.profile {
        ProfileChoice::Named(profile) => profile.pats,
        ProfileChoice::Auto if server.owners.is_empty() => PatOwners::Client,
        ProfileChoice::Auto => PatOwners::Each,
    };
    if pats == PatOwners::Client && server.owners.is_empty() {
        return;
    }
    let write = |owner: &str| format!("pat: {{ owners: {{ {owner}: {{ password: {{ file: PATH }} }} }} }}");
    match resource.owner() {
        // Whose it is stands in the record.
        None if matches!(resource, ResourceChoice::Shared { .. } | ResourceChoice::Uris) => {}
        None if pats == PatOwners::Persons => {
            let problem = Problem::at(span, "`owner` is missing: every PAT of this authorization server belongs to an owner");
            checker.error(problem.label("whose is it?"));
        }
        Some(owner) if owner.is_constant() && !server.owners.contains_key(&owner.text) => {
            let problem = Problem::at(span, format!("the authorization server `{}` has no PAT of {}", shown(&server.name), shown(&owner.text)));
            checker.error(problem.label("nothing of this owner's could be asked for").hint(format!("there   {}", write(&shown(&owner.text)))));
        }
        _ => {}
    }
}

/// Only a server that finds resources by their `uris` is asked for one of a path. What `auto` finds out is known at the first request only.
pub(super) fn finds_uris(server: &Config, resource: &ResourceChoice, span: Span, checker: &mut Checker<'_>) {
    if let (ResourceChoice::Uris, ProfileChoice::Named(profile)) = (resource, server.profile)
        && !profile.finds_uris
    {
        let message = format!("`{}` finds no resource by its `uris`: its profile is `{}`, and only `keycloak` does", shown(&server.name), profile.name);
        checker.error(Problem::at(span, message).write("{ name: NAME, owner: OWNER }      or { id: ID }"));
    }
}

/// A parameter that the resource does not use: every value of it is opened by the same permission.
fn opens_too_much(resource: &ResourceChoice, node: &Node, path: Path<'_>, checker: &mut Checker<'_>) {
    let unused = unused_parameters(path.pattern, resource);
    let Some(first) = unused.first() else { return };
    let braces = unused.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
    let problem = Problem::at(node.span, format!("this route opens every {} with one permission", unused.join(" and every ")));
    let problem = problem.label(format!("does not use {braces} of line {}", path.span.place.line));
    let covers = "say `covers: all`, if one permission is meant for all of them";
    let Value::Map(entries) = &node.value else { return };
    let owner = match resource {
        ResourceChoice::Name { owner, .. } | ResourceChoice::Register { owner, .. } => owner.as_ref(),
        ResourceChoice::Token | ResourceChoice::Id { .. } | ResourceChoice::Shared { .. } | ResourceChoice::Uris => None,
    };
    // With one parameter forgotten there is one name to propose; with several any name would be a guess.
    let name = match resource {
        ResourceChoice::Token | ResourceChoice::Id { .. } | ResourceChoice::Name { .. } if unused.len() == 1 => Some(format!("\"{first} {{{first}}}\"")),
        _ => None,
    };
    let owner =
        owner.map(|owner| format!(", owner: {}", if owner.is_constant() { owner.text.to_string() } else { format!("\"{}\"", owner.text) })).unwrap_or_default();
    let problem = match (name, fixed_path(entries, path.pattern, first)) {
        (Some(name), Some(fixed)) => problem.write(format!("{{ name: {name}{owner} }}      or fix the path: {fixed}")),
        (Some(name), None) => problem.write(format!("{{ name: {name}{owner} }}      or {covers}")),
        (None, _) => problem.hint(format!("use     {braces} in the resource's name or owner, or {covers}")),
    };
    checker.error(problem);
}

/// The path with the last word of the resource's name in the place of the parameter: `/albums/vacation/**` for "Alice vacation".
fn fixed_path(entries: &[Entry], pattern: &Pattern, parameter: &str) -> Option<String> {
    let Value::Scalar { text, .. } = &entries.iter().find(|entry| entry.key == "name")?.value.value else { return None };
    let word = text.split_whitespace().next_back().filter(|word| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))?;
    (text.contains(' ')).then(|| pattern.text.replace(&format!("{{{parameter}}}"), word))
}
