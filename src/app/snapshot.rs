//! From a checked configuration to the snapshot that requests carry, and to what the control thread keeps ready for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StartError;
use crate::authorization_server::{Declared, ResourceKey, ServerIdentity, Wanted};
use crate::config;
use crate::credentials::{self, Proxy, Reserved};
use crate::routing::{Access, Protect, ResourceChoice, RouteTable, Template};
use crate::stack::Snapshot;
use crate::telemetry::Health;
use crate::uma::Scope;

/// A snapshot and what it needs besides.
pub struct Built {
    /// What requests carry.
    pub snapshot: Snapshot,
    /// The resources that each server is to know.
    pub wanted: BTreeMap<ServerIdentity, Vec<Wanted>>,
    /// The proxy credentials, some of which must be renewed.
    pub proxies: Vec<Arc<Proxy>>,
}

/// Builds the whole snapshot.
pub fn build(config: &config::Gateway, _health: &Health) -> Result<Built, StartError> {
    let wanted = wanted(config);
    // Every identity and credential header of any route or upstream: no client may send it anywhere.
    let identity = config.routes.iter().flat_map(|route| route.identity_headers.iter().map(|(name, _)| name));
    let reserved = Arc::new(Reserved::new(identity.chain(config.credentials.iter().flat_map(credentials::Config::header_names))));
    let upstreams = config.upstreams.iter().zip(&config.credentials);
    let proxies: Vec<Arc<Proxy>> =
        upstreams.map(|(upstream, credential)| Arc::new(Proxy::new(&upstream.name, credential, upstream.host.clone(), Arc::clone(&reserved)))).collect();
    let routes = RouteTable::new(config.routes.clone()).map_err(|problems| StartError::Routes(format!("{problems:?}")))?;
    let snapshot = Snapshot {
        routes,
        upstreams: config.upstreams.iter().cloned().map(Arc::new).collect(),
        proxies: proxies.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
    };
    Ok(Built { snapshot, wanted, proxies })
}

/// Resources that routes name without path parameters: these can be known before anybody asks.
fn wanted(config: &config::Gateway) -> BTreeMap<ServerIdentity, Vec<Wanted>> {
    let mut all: BTreeMap<ServerIdentity, Vec<Wanted>> = BTreeMap::new();
    for route in &config.routes {
        let Access::Protect(protect) = &route.access else { continue };
        let Some((key, declared)) = fixed(protect) else { continue };
        let scopes: Vec<Scope> = protect.scopes.methods.iter().flat_map(|(_, scopes, _)| scopes.iter().cloned()).collect();
        let list = all.entry(protect.server.identity).or_default();
        match list.iter_mut().find(|known| known.key == key) {
            Some(known) => known.scopes.extend(scopes.into_iter().filter(|scope| !known.scopes.contains(scope)).collect::<Vec<_>>()),
            None => list.push(Wanted { key, declared: declared.map(Arc::new), scopes }),
        }
    }
    all
}

fn fixed(protect: &Protect) -> Option<(ResourceKey, Option<Declared>)> {
    let (name, owner) = match &protect.resource {
        ResourceChoice::Id(_) => return None,
        ResourceChoice::Name { name, owner } | ResourceChoice::Register { name, owner, .. } => (name, owner),
    };
    let owner = match owner {
        Some(owner) => Some(constant(owner)?),
        None => None,
    };
    let key = ResourceKey { server: protect.server.identity, owner, name: constant(name)? };
    let declared = match &protect.resource {
        ResourceChoice::Register { kind, scopes, .. } => Some(Declared { key: key.clone(), kind: kind.clone(), scopes: Arc::clone(scopes) }),
        _ => None,
    };
    Some((key, declared))
}

fn constant(template: &Template) -> Option<Arc<str>> {
    template.is_constant().then(|| Arc::clone(&template.text))
}
