//! What an upgraded connection was opened for, looked up in the configuration that is in force: a reload counts for it as for a new request.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, Method};

use super::super::service::Snapshot;
use super::{Asked, Case, Judge, Wanted, offers};
use crate::path::CanonicalPath;
use crate::routing::{Access, Authority, Client, Link, Protect, Routed, Upgrade, find};

/// What the handshake asked for.
pub struct Standing<S> {
    current: Arc<ArcSwap<S>>,
    authority: Authority,
    path: CanonicalPath,
    link: Option<Link>,
    client: Client,
    upgrade: Upgrade,
}

impl<S: Snapshot> Standing<S> {
    /// Of a handshake; `current`: where a reload puts the new snapshot.
    pub fn of(current: &Arc<ArcSwap<S>>, routed: &Routed<S>, upgrade: Upgrade) -> Self {
        Self {
            current: Arc::clone(current),
            authority: routed.authority().clone(),
            path: routed.path().clone(),
            link: routed.link().cloned(),
            client: routed.client().clone(),
            upgrade,
        }
    }

    /// Whether the path has a route that lets the connection be what it is. What that route needs is needed from now on.
    pub(super) fn stands(&self, judge: &Judge, case: &mut Case) -> bool {
        let snapshot = self.current.load_full();
        let Some((route, params)) = find(&*snapshot, &self.authority, &self.path) else { return false };
        if Arc::ptr_eq(&route, &case.route) {
            return true;
        }
        if !route.config().upgrades.contains(&self.upgrade) || (self.link.is_some() && !route.is_shared()) {
            return false;
        }
        match &route.config().access {
            // Whoever has a permission may do what everyone may.
            Access::Public => true,
            // It has shown no credential of this kind.
            Access::Guard(_) => false,
            Access::Protect(protect) => {
                let asked = Asked {
                    route: &route,
                    protect,
                    path: &self.path,
                    link: self.link.as_ref(),
                    fill: &|template| template.fill(&params, &self.path),
                    method: &Method::GET,
                    headers: &HeaderMap::new(),
                    query: None,
                    client: &self.client,
                    limits: snapshot.limits(),
                    open_with: None,
                    address: &String::new,
                    recorder: &case.recorder.clone(),
                };
                judge.stands(&asked, protect, case)
            }
        }
    }
}

impl Judge {
    /// Whether a protected route asks the same server about the same resource.
    fn stands(&self, asked: &Asked<'_>, protect: &Protect, case: &mut Case) -> bool {
        let (Some(scopes), Ok(wanted)) = (asked.route.needs(asked.method), self.wanted(asked)) else { return false };
        if protect.server.identity != case.server.identity || !wanted.is(&case.resource) {
            return false;
        }
        if let Wanted::Shared(share) = &wanted
            && !offers(share, scopes, protect.scopes_match)
        {
            return false;
        }
        (case.route, case.scopes, case.scopes_match) = (Arc::clone(asked.route), Arc::clone(scopes), protect.scopes_match);
        true
    }
}

impl Wanted {
    /// Whether it is the same resource.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token, Self::Token) => true,
            (Self::Id { id, owner }, Self::Id { id: other, owner: of }) => id == other && owner == of,
            (Self::Named { key, .. }, Self::Named { key: other, .. }) => key == other,
            (Self::Shared(share), Self::Shared(other)) => share.key == other.key,
            (Self::AtPath(key), Self::AtPath(other)) => key == other,
            _ => false,
        }
    }
}
