//! The doors of the control plane: bound at the start, and anew where a reload says so.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::explain::{Explainer, Question};
use super::keeping::Task;
use super::reload::{Reloads, Why};
use super::shares::{self, OpenShares, SharesApi};
use super::{InForce, StartError};
use crate::admin::{self, AdminDoor, ExplainRequest, HealthConfig, Linking, OpenDoor, Status};
use crate::config;
use crate::enforcement::Desk;
use crate::secret::Rotating;
use crate::telemetry::{SecretKind, Telemetry};

/// Where the doors are. Clones share it.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<Places>>);

#[derive(Clone, Copy, Default)]
struct Places {
    health: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    shares: Option<SocketAddr>,
}

impl Addresses {
    pub fn health(&self) -> Option<SocketAddr> {
        self.lock().health
    }

    pub fn admin(&self) -> Option<SocketAddr> {
        self.lock().admin
    }

    pub fn shares(&self) -> Option<SocketAddr> {
        self.lock().shares
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sockets that are bound and not served yet; `None`: that door stays as it is.
pub struct Bound {
    health: Option<Option<std::net::TcpListener>>,
    admin: Option<Option<OpenDoor>>,
    shares: Option<Option<OpenShares>>,
}

impl Bound {
    /// Binds every door.
    pub fn all(config: &config::Gateway) -> Result<Self, StartError> {
        Ok(Self { health: Some(health(config)?), admin: Some(admin(config)?), shares: Some(shares::open(config)?) })
    }

    /// Says where they are before they are served: connections wait.
    pub fn announce(&self, addresses: &Addresses) -> Addresses {
        let health = self.health.iter().flatten().find_map(|listener| listener.local_addr().ok());
        let admin = self.admin.iter().flatten().find_map(OpenDoor::address);
        *addresses.lock() = Places { health, admin, shares: self.shares.iter().flatten().find_map(OpenShares::address) };
        addresses.clone()
    }
}

fn health(config: &config::Gateway) -> Result<Option<std::net::TcpListener>, StartError> {
    let bind = |health: &HealthConfig| std::net::TcpListener::bind(health.address).map_err(|error| StartError::Health { address: health.address, error });
    config.health.as_ref().map(bind).transpose()
}

fn admin(config: &config::Gateway) -> Result<Option<OpenDoor>, StartError> {
    Ok(config.admin.as_ref().map(OpenDoor::open).transpose()?)
}

/// The doors that are served. Lives on the control thread.
pub struct Doors {
    addresses: Addresses,
    status: Arc<Status>,
    telemetry: Telemetry,
    explainer: Explainer,
    reloads: Reloads,
    links: admin::Links,
    health: Option<(HealthConfig, Task)>,
    admin: Option<(AdminDoor, Option<Arc<Rotating>>, Task)>,
    shares: SharesApi,
}

/// What doors do besides: owners link the gateway, and share.
pub struct Beside {
    pub links: admin::Links,
    pub shares: SharesApi,
}

impl Doors {
    /// None is open yet.
    pub fn new(addresses: Addresses, status: Arc<Status>, telemetry: Telemetry, explainer: Explainer, reloads: Reloads, beside: Beside) -> Self {
        let Beside { links, shares } = beside;
        Self { addresses, status, telemetry, explainer, reloads, links, health: None, admin: None, shares }
    }

    /// Binds the doors that the configuration has elsewhere.
    pub fn plan(&self, config: &config::Gateway) -> Result<Bound, StartError> {
        let same_health = self.health.as_ref().map(|(health, _)| health) == config.health.as_ref();
        let same_admin = match (self.admin.as_ref().map(|(door, ..)| door), &config.admin) {
            (None, None) => true,
            (Some(AdminDoor::Socket(one)), Some(AdminDoor::Socket(other))) => one == other,
            (Some(AdminDoor::Address { address: one, .. }), Some(AdminDoor::Address { address: other, .. })) => one == other,
            _ => false,
        };
        let health = if same_health { None } else { Some(health(config)?) };
        let admin = if same_admin { None } else { Some(admin(config)?) };
        Ok(Bound { health, admin, shares: self.shares.plan(config)? })
    }

    /// Serves what was bound, and closes what was there instead. Whoever is being answered still gets the answer.
    pub fn carry_out(&mut self, bound: Bound, config: &config::Gateway) {
        if let Some(health) = bound.health {
            let address = health.as_ref().and_then(|listener| listener.local_addr().ok());
            self.addresses.lock().health = address;
            self.health = config.health.clone().zip(health).map(|(config, listener)| {
                let (status, metrics) = (Arc::clone(&self.status), Arc::clone(self.telemetry.metrics()));
                (config, Task::start(async move { failed("health", admin::serve_health(listener, status, metrics).await) }))
            });
        }
        if let Some(open) = &bound.shares {
            self.addresses.lock().shares = open.as_ref().and_then(OpenShares::address);
        }
        self.shares.carry_out(bound.shares, config);
        match bound.admin {
            Some(door) => self.open(door, config.admin.clone()),
            None => {
                if let (Some((_, Some(token), _)), Some(AdminDoor::Address { token: next, .. })) = (&self.admin, &config.admin)
                    && token.offer(next)
                {
                    tracing::info!("the admin token has changed; the one before is taken until the new one has been shown once");
                }
            }
        }
    }

    fn open(&mut self, door: Option<OpenDoor>, config: Option<AdminDoor>) {
        self.addresses.lock().admin = door.as_ref().and_then(OpenDoor::address);
        let metrics = self.telemetry.metrics();
        self.admin = config.zip(door).map(|(config, door)| {
            let token = door.token();
            let (telemetry, explain, reload) = (self.telemetry.clone(), explaining(self.explainer.clone()), reloading(self.reloads.clone()));
            let links = Rc::clone(&self.links);
            let task = Task::start(async move { failed("admin", admin::serve_admin(door, telemetry, explain, reload, links).await) });
            (config, token, task)
        });
        match &self.admin {
            Some((_, Some(_), _)) => metrics.secret_loaded(SecretKind::AdminToken, "admin"),
            _ => metrics.secret_gone(SecretKind::AdminToken, "admin"),
        }
    }
}

pub(super) fn failed(door: &'static str, outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(door, %error, "a door cannot be served");
    }
}

/// The explainer as the admin door asks it.
fn explaining(explainer: Explainer) -> admin::Explain {
    Rc::new(move |request: ExplainRequest| {
        let explainer = explainer.clone();
        Box::pin(async move { Ok(explainer.explain(Question { method: request.method, url: request.url, token: request.token }).await) })
    })
}

/// The authorization servers of the configuration in force, as the admin door asks for them.
pub fn links(desk: Rc<Desk>, in_force: InForce) -> admin::Links {
    Rc::new(move |name| {
        let config = in_force.load();
        let section = config.authorization_servers.iter().find(|section| *section.name == *name)?;
        let redirect = format!("{}/owners/{name}/callback", config.public_url.as_ref()?);
        Some(Linking { server: desk.server(section.identity)?, redirect: redirect.into() })
    })
}

/// A reload as the admin door asks for it.
fn reloading(reloads: Reloads) -> admin::Reload {
    Rc::new(move || {
        let reloads = reloads.clone();
        Box::pin(async move { reloads.reload(Why::Operator).await.map_err(|refused| refused.mistakes) })
    })
}
