//! The control thread: authorization servers, proxy credentials that are renewed, health, the operator's door.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use super::StartError;
use super::explain::{Explainer, Question};
use crate::admin::{self, ExplainRequest, OpenDoor, Status};
use crate::authorization_server::{Config, Resources, Server, ServerIdentity, Wanted};
use crate::cache::Introspections;
use crate::config;
use crate::credentials::oauth2::{self, Grant, Token};
use crate::enforcement::{Desk, Limits, Questions};
use crate::http_client::{HttpClient, TlsFiles};
use crate::telemetry::{Health, Telemetry};
use crate::upstream::{self, Checks, Fleet};

/// Everything that the control thread is made of.
pub struct Parts {
    pub servers: Vec<Arc<Config>>,
    pub wanted: BTreeMap<ServerIdentity, Vec<Wanted>>,
    pub tokens: Vec<(Arc<Token>, Grant)>,
    pub questions: Questions,
    pub cache: Arc<Introspections>,
    pub resources: Resources,
    pub limits: Arc<Limits>,
    pub health: Health,
    pub fleet: Arc<Fleet>,
    /// Those whose servers may want health checks.
    pub upstreams: Vec<Arc<upstream::Config>>,
    pub telemetry: Telemetry,
    pub status: Arc<Status>,
}

/// The bound sockets of the control plane.
pub struct Doors {
    health: Option<std::net::TcpListener>,
    admin: Option<OpenDoor>,
}

impl Doors {
    /// Binds them.
    pub fn bind(config: &config::Gateway) -> Result<Self, StartError> {
        let health = config
            .health
            .as_ref()
            .map(|health| std::net::TcpListener::bind(health.address).map_err(|error| StartError::Health { address: health.address, error }));
        let admin = config.admin.as_ref().map(OpenDoor::open);
        Ok(Self { health: health.transpose()?, admin: admin.transpose()? })
    }

    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health.as_ref()?.local_addr().ok()
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.address()
    }
}

/// Starts the thread. Its runtime ends when `stopped` says so and the drain is over.
pub fn start(parts: Parts, doors: Doors, explainer: Explainer, stopped: watch::Receiver<bool>) -> Result<JoinHandle<()>, StartError> {
    let clients = clients(&parts.servers)?;
    let plain = HttpClient::new(&TlsFiles::default()).map_err(|error| StartError::System(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| StartError::System(error.to_string()))?;
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, run(parts, clients, plain, doors, explainer, stopped));
        })
        .map_err(|error| StartError::System(error.to_string()))
}

fn clients(servers: &[Arc<Config>]) -> Result<Vec<HttpClient>, StartError> {
    servers.iter().map(|server| HttpClient::new(&server.tls).map_err(|error| StartError::Tls { name: Arc::clone(&server.name), error })).collect()
}

/// Answers questions on the caller's own runtime, without keeping servers ready and without doors.
pub fn answer_only(parts: Parts) -> Result<(), StartError> {
    let clients = clients(&parts.servers)?;
    let servers = servers(&parts, clients);
    let desk = Desk::new(servers, parts.cache, parts.resources, &parts.limits);
    spawn_local(desk.answer(parts.questions));
    Ok(())
}

fn servers(parts: &Parts, clients: Vec<HttpClient>) -> Vec<Rc<Server>> {
    let metrics = parts.telemetry.metrics();
    let configs = parts.servers.iter().zip(clients);
    configs.map(|(config, client)| Rc::new(Server::new(Arc::clone(config), client, &parts.health, Arc::clone(metrics)))).collect()
}

async fn run(mut parts: Parts, clients: Vec<HttpClient>, plain: HttpClient, doors: Doors, explainer: Explainer, mut stopped: watch::Receiver<bool>) {
    let servers = servers(&parts, clients);
    for server in &servers {
        let (status, name) = (Arc::clone(&parts.status), Arc::clone(&server.config().name));
        let wanted = parts.wanted.remove(&server.config().identity).unwrap_or_default();
        spawn_local(Rc::clone(server).keep(parts.resources.clone(), wanted, move || status.contacted(&name)));
    }
    for (token, grant) in parts.tokens {
        spawn_local(oauth2::keep(token, grant, plain.clone(), parts.health.clone()));
    }
    // They end with this function.
    let mut checks = Checks::default();
    checks.set(&parts.fleet, parts.upstreams.iter().map(|upstream| &**upstream));
    if let Some(listener) = doors.health {
        spawn_local(admin::serve_health(listener, parts.status, Arc::clone(parts.telemetry.metrics())));
    }
    if let Some(admin) = doors.admin {
        spawn_local(admin::serve_admin(admin, parts.telemetry, explaining(explainer)));
    }
    spawn_local(Desk::new(servers, parts.cache, parts.resources, &parts.limits).answer(parts.questions));
    // Told only after the last worker has ended: requests that are under way may still ask while they drain.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The explainer as the admin door asks it.
fn explaining(explainer: Explainer) -> admin::Explain {
    Rc::new(move |request: ExplainRequest| {
        let explainer = explainer.clone();
        Box::pin(async move { Ok(explainer.explain(Question { method: request.method, url: request.url, token: request.token }).await) })
    })
}
