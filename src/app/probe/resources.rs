//! The resources that routes name: whether the server has them, with this owner and with the scopes that the routes need.

use std::sync::Arc;

use super::Report;
use super::server::deadline;
use crate::app::snapshot;
use crate::authorization_server::{AskError, Declared, Description, ResourceKey, Server, ServerIdentity};
use crate::config;
use crate::routing::{Access, ResourceChoice, Template};
use crate::uma::{ResourceId, Scope};

/// A resource as routes name it, and what they need of it.
#[derive(Debug)]
pub struct Target {
    named: Named,
    /// Each with the line of the first method that needs it.
    scopes: Vec<(Scope, u32)>,
    /// The line of `resource` in the first route that names it.
    line: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Named {
    Id(ResourceId, Option<Arc<str>>),
    Key(ResourceKey),
    Declared(Declared),
    /// By the path.
    Uris,
    /// Its name needs a path: the texts as written.
    Template {
        name: Arc<str>,
        owner: Option<Arc<str>>,
    },
}

/// The resources that routes want of one server, each once, in the order of the file.
pub fn targets(config: &config::Gateway, server: ServerIdentity) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for route in &config.routes {
        let Access::Protect(protect) = &route.access else { continue };
        if protect.server.identity != server {
            continue;
        }
        let named = match (&protect.resource, snapshot::fixed(protect)) {
            // What owners have registered is theirs to look after.
            (ResourceChoice::Token | ResourceChoice::Shared { .. }, _) => continue,
            (ResourceChoice::Uris, _) => Named::Uris,
            (ResourceChoice::Id { id, owner }, _) => Named::Id(ResourceId(Arc::clone(id)), owner.as_ref().map(|owner| Arc::clone(&owner.text))),
            (_, Some((_, Some(declared)))) => Named::Declared(declared),
            (_, Some((key, None))) => Named::Key(key),
            (ResourceChoice::Name { name, owner } | ResourceChoice::Register { name, owner, .. }, None) => {
                let text = |template: &Template| Arc::clone(&template.text);
                Named::Template { name: text(name), owner: owner.as_ref().map(text) }
            }
        };
        let at = targets.iter().position(|known| known.named == named).unwrap_or(targets.len());
        if at == targets.len() {
            targets.push(Target { named, scopes: Vec::new(), line: protect.place.line });
        }
        if let Some(target) = targets.get_mut(at) {
            for (_, scopes, place) in protect.scopes.methods.iter().filter(|_| !protect.scopes.as_scope) {
                for scope in scopes.iter() {
                    if !target.scopes.iter().any(|(known, _)| known == scope) {
                        target.scopes.push((scope.clone(), place.line));
                    }
                }
            }
        }
    }
    targets
}

/// Looks each of them up.
pub async fn survey(server: &Server, targets: &[Target], report: &mut Report) {
    for target in targets {
        let looked = match &target.named {
            Named::Id(id, owner) => by_id(server, target, owner.as_deref(), id, report).await,
            Named::Key(key) => by_key(server, target, key, report).await,
            Named::Declared(declared) => declared_one(server, target, declared, report).await,
            Named::Uris => by_uris(server, target, report).await,
            Named::Template { name, owner } => {
                let owner = owner.as_ref().map_or_else(String::new, |owner| format!(" of {owner}"));
                report.ok(format!("resource \"{name}\"{owner} is looked up at first use: its name needs a path (line {})", target.line));
                Ok(())
            }
        };
        if let Err(error) = looked {
            report.fail(format!("the resource of line {} cannot be looked up: {error}", target.line), "");
        }
    }
}

async fn by_id(server: &Server, target: &Target, owner: Option<&str>, id: &ResourceId, report: &mut Report) -> Result<(), AskError> {
    match server.describe(owner, id, deadline(server)).await? {
        Some(description) => scopes(target, &format!("resource {id} (\"{}\")", description.name), &description, report),
        None => {
            report.fail(format!("it has no resource with the id {id} (line {})", target.line), "correct the id, or name the resource by `name` and `owner`");
        }
    }
    Ok(())
}

async fn by_key(server: &Server, target: &Target, key: &ResourceKey, report: &mut Report) -> Result<(), AskError> {
    let Some(id) = server.find(key, deadline(server)).await? else { return missing(server, target, key, report).await };
    let description = server.describe(key.owner.as_deref(), &id, deadline(server)).await?.unwrap_or_default();
    scopes(target, &format!("resource {}", shown(server, key)), &description, report);
    Ok(())
}

/// Whatever has the path of a request. What the server cannot find is said here, since a request gets no more than a 404, or the resource of a folder above.
async fn by_uris(server: &Server, target: &Target, report: &mut Report) -> Result<(), AskError> {
    let line = target.line;
    if !server.metadata(deadline(server)).await?.profile.finds_uris {
        report.fail(
            format!("it finds no resource by its `uris`, as line {line} wants it to: only Keycloak does"),
            "name the resource by `name` and `owner`, or by `id`",
        );
        return Ok(());
    }
    report.ok(format!("resources are looked up by their `uris` at first use (line {line})"));
    let client = &*server.config().client.id;
    for one in server.inventory(None, None, deadline(server)).await? {
        let Some(owner) = one.owner.as_deref().filter(|owner| *owner != client) else { continue };
        for uri in one.uris.iter().filter(|uri| uri.contains('{') || uri.strip_suffix("/*").unwrap_or(uri).contains('*')) {
            report.warn(
                format!("the pattern {uri} of \"{}\" of {owner} is not found: the server matches patterns of {client} only", one.name),
                "write each path, or folders as /folder/*; until then requests there get 404, or what is wanted for a folder above",
            );
        }
    }
    Ok(())
}

/// A resource that the gateway registers itself when it starts; a check only says what will be done.
async fn declared_one(server: &Server, target: &Target, declared: &Declared, report: &mut Report) -> Result<(), AskError> {
    let what = shown(server, &declared.key);
    let Some(id) = server.find(&declared.key, deadline(server)).await? else {
        report.ok(format!("resource {what} is not there yet: the gateway registers it when it starts"));
        return Ok(());
    };
    let description = server.describe(declared.key.owner.as_deref(), &id, deadline(server)).await?.unwrap_or_default();
    let other = description.scopes.len() != declared.scopes.len() || declared.scopes.iter().any(|scope| !description.scopes.iter().any(|has| *has == *scope.0));
    if other {
        let (has, wants) = (description.scopes.join(", "), joined(&declared.scopes));
        report.warn(
            format!("resource {what} has the scopes {has}, line {} declares {wants}", target.line),
            "the gateway sets them when it starts; if the server's are right, correct `register`",
        );
    } else {
        scopes(target, &format!("resource {what}"), &description, report);
    }
    Ok(())
}

fn scopes(target: &Target, what: &str, description: &Description, report: &mut Report) {
    let lacks = |scope: &Scope| !description.scopes.iter().any(|has| *has == *scope.0);
    let (missing, lines): (Vec<Scope>, Vec<u32>) = target.scopes.iter().filter(|(scope, _)| lacks(scope)).cloned().unzip();
    let has = if description.scopes.is_empty() { "none".to_owned() } else { description.scopes.join(", ") };
    let Some(line) = lines.first() else {
        let needs: Vec<Scope> = target.scopes.iter().map(|(scope, _)| scope.clone()).collect();
        let needs = if needs.is_empty() { "any scope".to_owned() } else { joined(&needs) };
        return report.ok(format!("{what} is there, with {needs}"));
    };
    let plural = if missing.len() == 1 { "" } else { "s" };
    report.fail(
        format!("{what} lacks the scope{plural} {} (it has: {has})", joined(&missing)),
        format!("add {} to the resource at the server, or correct `scopes` of line {line}", if missing.len() == 1 { "it" } else { "them" }),
    );
}

/// Says what the name may have been meant for: another owner's, or a name that is nearly the same.
async fn missing(server: &Server, target: &Target, key: &ResourceKey, report: &mut Report) -> Result<(), AskError> {
    let client = &*server.config().client.id;
    let wanted = key.owner.as_deref().unwrap_or(client);
    let line = target.line;
    let same = server.inventory(key.owner.as_deref(), Some(&key.name), deadline(server)).await?;
    let owners: Vec<&str> = same.iter().filter_map(|one| one.owner.as_deref()).filter(|owner| *owner != wanted).collect();
    if !owners.is_empty() {
        let owners = owners.join(", ");
        let mend = if owners == client {
            format!("leave out `owner` in line {line}: the owner is the gateway's own client")
        } else {
            format!("write `owner: {owners}` in line {line}")
        };
        report.fail(format!("resource \"{}\" belongs to {owners}, not to {wanted}", key.name), mend);
        return Ok(());
    }
    let all = server.inventory(key.owner.as_deref(), None, deadline(server)).await?;
    let near = config::nearest(&key.name, all.iter().map(|one| one.name.as_str())).and_then(|name| all.iter().find(|one| one.name == name));
    let mend = match near {
        Some(one) => {
            let owner = one.owner.as_deref().filter(|owner| *owner != wanted).map_or_else(String::new, |owner| format!(" of {owner}"));
            format!("did you mean \"{}\"{owner}? correct line {line}", one.name)
        }
        None => format!("create it at the server, correct line {line}, or let the gateway register it: `register`"),
    };
    report.fail(format!("it has no resource {}", shown(server, key)), mend);
    Ok(())
}

fn shown(server: &Server, key: &ResourceKey) -> String {
    format!("\"{}\" of {}", key.name, key.owner.as_deref().unwrap_or(&server.config().client.id))
}

fn joined(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| &*scope.0).collect::<Vec<_>>().join(", ")
}
