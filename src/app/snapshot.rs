//! From a checked configuration to the snapshot that requests carry, and to what the control thread keeps ready for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::StartError;
use crate::authorization_server::{Declared, ResourceKey, ServerIdentity, Wanted};
use crate::config;
use crate::credentials::oauth2::{Grant, Token};
use crate::credentials::{self, Credential, Proxy, Reserved};
use crate::routing::{Access, Protect, ResourceChoice, RouteTable, Template};
use crate::stack::Snapshot;
use crate::uma::Scope;
use crate::upstream;

/// A snapshot and what it needs besides.
pub struct Built {
    /// What requests carry.
    pub snapshot: Snapshot,
    /// The resources that each server is to know.
    pub wanted: BTreeMap<ServerIdentity, Vec<Wanted>>,
    /// Tokens for upstreams, to be kept ready.
    pub tokens: Vec<(Arc<Token>, Grant)>,
}

/// Builds the whole snapshot.
pub fn build(config: &config::Gateway) -> Result<Built, StartError> {
    let routes = RouteTable::new(config.routes.clone()).map_err(|problems| StartError::Routes(format!("{problems:?}")))?;
    let reserved = Arc::new(reserved(config));
    let mut tokens = Vec::new();
    let mut proxies = Vec::with_capacity(config.upstreams.len());
    for (upstream, credential) in config.upstreams.iter().zip(&config.credentials) {
        let token = grant(upstream, credential).map(|grant| (Arc::new(Token::default()), grant));
        proxies.push(Arc::new(Proxy::new(credential, upstream.host.clone(), Arc::clone(&reserved), token.as_ref().map(|(token, _)| Arc::clone(token)))));
        tokens.extend(token);
    }
    let snapshot =
        Snapshot { routes, upstreams: config.upstreams.iter().cloned().map(Arc::new).collect(), proxies, trusted_proxies: config.trusted_proxies.clone() };
    Ok(Built { snapshot, wanted: wanted(config), tokens })
}

/// Every name that the gateway sets for any upstream or route: no client may set one of them anywhere.
fn reserved(config: &config::Gateway) -> Reserved {
    let credentials = config.credentials.iter().flat_map(|credential| match &credential.credential {
        Credential::Headers(headers) => headers.iter().map(|(name, _)| name).collect(),
        Credential::None | Credential::Authorization(_) | Credential::Oauth2 { .. } => Vec::new(),
    });
    Reserved::new(credentials.chain(config.routes.iter().flat_map(|route| route.identity_headers.iter().map(|(name, _)| name))))
}

/// Where an upstream's token is had, if it wants one.
pub(super) fn grant(upstream: &upstream::Config, credential: &credentials::Config) -> Option<Grant> {
    match &credential.credential {
        Credential::Oauth2 { token_endpoint, client, scopes } => {
            Some(Grant { upstream: Arc::clone(&upstream.name), token_endpoint: token_endpoint.clone(), client: client.clone(), scopes: scopes.clone() })
        }
        Credential::None | Credential::Authorization(_) | Credential::Headers(_) => None,
    }
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

/// The resource of a route, and that it is declared; `None`: it needs a path, or is named by its id.
pub(super) fn fixed(protect: &Protect) -> Option<(ResourceKey, Option<Declared>)> {
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
