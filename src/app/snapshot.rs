//! From a checked configuration to the snapshot that requests carry, and to what the control thread keeps ready for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::StartError;
use crate::authorization_server::{Declared, ResourceKey, ServerIdentity, Wanted};
use crate::config;
use crate::credentials::oauth2::{Grant, Token};
use crate::credentials::{self, Credential, Proxy, Reserved, Trial};
use crate::listener::Settings;
use crate::routing::{Access, Authority, Links, Protect, ResourceChoice, RouteConfig, RouteTable, ServedHosts, Template};
use crate::stack::Snapshot;
use crate::store::Lookup;
use crate::telemetry::{Metrics, SecretKind};
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

/// What is in force, as far as the next snapshot goes on with it.
pub struct Before {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Tokens for upstreams.
    pub tokens: Vec<(Arc<Token>, Grant)>,
}

/// Builds the whole snapshot. What has not changed since `before` stays the same object: connections, tokens and trials of credentials hang on it.
pub fn build(config: &config::Gateway, before: Option<&Before>, records: &Lookup, metrics: &Arc<Metrics>) -> Result<Built, StartError> {
    let routes = RouteTable::new(with_passwords_of(before, &config.routes)).map_err(|problems| StartError::Routes(format!("{problems:?}")))?;
    let reserved = Arc::new(reserved(config));
    let (mut upstreams, mut proxies, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for (upstream, credential) in config.upstreams.iter().zip(&config.credentials) {
        let old = before.and_then(|before| Old::find(&before.snapshot, &upstream.name));
        let token = grant(upstream, credential).map(|grant| (kept_token(before, &grant), grant));
        let proxy = Proxy::new(credential, upstream.host.clone(), Arc::clone(&reserved), token.as_ref().map(|(token, _)| Arc::clone(token)));
        proxies.push(match &old {
            // A credential never goes to servers that it was not meant for.
            Some(old) if old.upstream.servers == upstream.servers => {
                if proxy.is_same(old.proxy) {
                    Arc::clone(old.proxy)
                } else {
                    Arc::new(proxy.replacing(old.proxy, tell(&upstream.name, metrics)))
                }
            }
            _ => Arc::new(proxy),
        });
        upstreams.push(match old {
            Some(old) if **old.upstream == *upstream => Arc::clone(old.upstream),
            _ => Arc::new(upstream.clone()),
        });
        tokens.extend(token);
    }
    let snapshot = Snapshot {
        routes,
        upstreams,
        proxies,
        trusted_proxies: config.trusted_proxies.clone(),
        limits: config.limits.clone(),
        requests_per_client: config.connections.connections_per_client.unwrap_or_else(|| Settings::default().connections_per_client),
        open_with: config.open_with.clone(),
        links: config.shares.as_ref().map(|shares| Links::new(shares.host.clone(), Arc::clone(&shares.prefix), records.clone())),
        public: config.shares.as_ref().and_then(|shares| Authority::parse(shares.public_url.split_once("://")?.1.as_bytes()).ok()),
        // The configuration has been checked; a listener refuses what is no host.
        hosts: ServedHosts::of_all(config.listeners.iter().map(|listener| &*listener.hosts)).unwrap_or_default(),
    };
    Ok(Built { snapshot, wanted: wanted(config), tokens })
}

/// The routes, whose guards go on accepting for a while what those of the same routes accepted before.
fn with_passwords_of(before: Option<&Before>, routes: &[RouteConfig]) -> Vec<RouteConfig> {
    let (mut routes, now) = (routes.to_vec(), Instant::now());
    let Some(before) = before else { return routes };
    for route in &mut routes {
        let Access::Guard(guard) = &route.access else { continue };
        let old = before.snapshot.routes.routes().iter().map(|old| old.config());
        let old = old.filter(|old| old.host == route.host && old.pattern == route.pattern).find_map(|old| match &old.access {
            Access::Guard(old) => Some(old),
            Access::Public | Access::Protect(_) => None,
        });
        if let Some(old) = old {
            route.access = Access::Guard(guard.clone().replacing(old, now));
        }
    }
    routes
}

/// An upstream of the snapshot before.
struct Old<'s> {
    upstream: &'s Arc<upstream::Config>,
    proxy: &'s Arc<Proxy>,
}

impl<'s> Old<'s> {
    fn find(snapshot: &'s Snapshot, name: &str) -> Option<Self> {
        let mut all = snapshot.upstreams.iter().zip(&snapshot.proxies);
        all.find(|(upstream, _)| *upstream.name == *name).map(|(upstream, proxy)| Self { upstream, proxy })
    }
}

/// The token that is kept for this grant, though its client's secret may be another one now.
fn kept_token(before: Option<&Before>, grant: &Grant) -> Arc<Token> {
    let same = |known: &Grant| {
        known.upstream == grant.upstream && known.token_endpoint == grant.token_endpoint && known.client.id == grant.client.id && known.scopes == grant.scopes
    };
    let known = before.and_then(|before| before.tokens.iter().find(|(_, known)| same(known)));
    known.map_or_else(|| Arc::new(Token::default()), |(token, _)| Arc::clone(token))
}

/// Says what came of a new proxy credential.
fn tell(upstream: &Arc<str>, metrics: &Arc<Metrics>) -> Arc<dyn Fn(Trial) + Send + Sync> {
    let (upstream, metrics) = (Arc::clone(upstream), Arc::clone(metrics));
    Arc::new(move |trial| match trial {
        Trial::Refused => tracing::warn!(upstream = &*upstream, "the upstream refuses the new credential; the one before stays in use"),
        Trial::Worked => {
            metrics.secret_loaded(SecretKind::ProxyCredential, &upstream);
            tracing::info!(upstream = &*upstream, "the new credential works and is in use");
        }
    })
}

/// Every name that the gateway sets for any upstream or route, and those in which clients present tokens: none goes further, wherever it comes from.
fn reserved(config: &config::Gateway) -> Reserved {
    let credentials = config.credentials.iter().flat_map(|credential| match &credential.credential {
        Credential::Headers(headers) => headers.iter().map(|(name, _)| name).collect(),
        Credential::None | Credential::Authorization(_) | Credential::Jwt(_) | Credential::Oauth2 { .. } => Vec::new(),
    });
    let tokens = config.authorization_servers.iter().filter_map(|server| server.rpt_header.as_ref());
    Reserved::new(credentials.chain(tokens).chain(config.routes.iter().flat_map(|route| route.identity_headers.iter().map(|(name, _)| name))))
}

/// Where an upstream's token is had, if it wants one.
pub(super) fn grant(upstream: &upstream::Config, credential: &credentials::Config) -> Option<Grant> {
    match &credential.credential {
        Credential::Oauth2 { token_endpoint, client, scopes } => {
            Some(Grant { upstream: Arc::clone(&upstream.name), token_endpoint: token_endpoint.clone(), client: client.clone(), scopes: scopes.clone() })
        }
        Credential::None | Credential::Authorization(_) | Credential::Jwt(_) | Credential::Headers(_) => None,
    }
}

/// Resources that routes name without path parameters: these can be known before anybody asks.
fn wanted(config: &config::Gateway) -> BTreeMap<ServerIdentity, Vec<Wanted>> {
    let mut all: BTreeMap<ServerIdentity, Vec<Wanted>> = BTreeMap::new();
    for route in &config.routes {
        let Access::Protect(protect) = &route.access else { continue };
        let Some((key, declared)) = fixed(protect) else { continue };
        let scopes: Vec<Scope> = protect.scopes.wanted().cloned().collect();
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
        ResourceChoice::Token | ResourceChoice::Id { .. } | ResourceChoice::Shared { .. } | ResourceChoice::Uris => return None,
        ResourceChoice::Name { name, owner } | ResourceChoice::Register { name, owner, .. } => (name, owner),
    };
    let owner = match owner {
        Some(owner) => Some(constant(owner)?),
        None => None,
    };
    let key = ResourceKey { server: protect.server.identity, owner, name: constant(name)?, alone: true };
    let declared = match &protect.resource {
        ResourceChoice::Register { kind, scopes, .. } => Some(Declared { key: key.clone(), kind: kind.clone(), icon_uri: None, scopes: Arc::clone(scopes) }),
        _ => None,
    };
    Some((key, declared))
}

fn constant(template: &Template) -> Option<Arc<str>> {
    template.is_constant().then(|| Arc::clone(&template.text))
}
