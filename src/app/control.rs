//! The control thread: authorization servers, proxy credentials that are renewed, reloads, health, the operator's door.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

use super::certificates::Certificates;
use super::doors::{self, Addresses, Beside, Doors};
use super::explain::Explainer;
use super::keeping::{Keeping, Task, client};
use super::listeners::Listeners;
use super::records::Records;
use super::reload::{self, Order, Reloads, Running, Why, note_credentials};
use super::shares::SharesApi;
use super::watching::{Watched, content, watch};
use super::{InForce, StartError};
use crate::admin::Status;
use crate::authorization_server::{PatStore, Resources, Server, ServerIdentity, Wanted};
use crate::cache::Introspections;
use crate::config;
use crate::credentials::oauth2::{Grant, Token};
use crate::enforcement::{Desk, Follows, Questions};
use crate::listener::Terms;
use crate::stack::Current;
use crate::store::Lookup;
use crate::telemetry::{Health, Telemetry};
use crate::upstream::{Checks, Fleet};

/// How long the end waits for tokens that are being renewed.
pub const SETTLING: Duration = Duration::from_secs(10);
/// How often it is looked whether what is not named any more can be forgotten.
const SWEEP: Duration = Duration::from_millis(250);

/// Everything that the control thread is made of.
pub struct Parts {
    pub config: config::Gateway,
    pub wanted: BTreeMap<ServerIdentity, Vec<Wanted>>,
    pub tokens: Vec<(Arc<Token>, Grant)>,
    pub questions: Questions,
    pub follows: Follows,
    pub cache: Arc<Introspections>,
    pub resources: Resources,
    /// What requests see of the records, once they are open.
    pub records: Lookup,
    pub health: Health,
    pub fleet: Arc<Fleet>,
    pub telemetry: Telemetry,
    pub status: Arc<Status>,
    pub current: Current,
}

/// What a gateway that serves needs besides.
pub struct Serving {
    pub workers: usize,
    pub listeners: Listeners,
    pub terms: Terms,
    pub certificates: Certificates,
    pub inherited: Arc<Vec<TcpListener>>,
    pub doors: doors::Bound,
    pub addresses: Addresses,
    pub explainer: Explainer,
    pub in_force: InForce,
    pub reloads: Reloads,
    pub orders: mpsc::UnboundedReceiver<Order>,
    /// Whether files are watched.
    pub watch: bool,
}

/// Starts the thread, and returns when it has the records. Its runtime ends when `stopped` says so and the drain is over.
pub fn start(parts: Parts, serving: Serving, stopped: watch::Receiver<bool>) -> Result<JoinHandle<()>, StartError> {
    // A mistake in a server's files is one of the start.
    for server in &parts.config.authorization_servers {
        client(server)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| StartError::System(error.to_string()))?;
    let (opened, ready) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let records = match runtime.block_on(Records::open(&parts.config)) {
                Ok(records) => records,
                Err(error) => return drop(opened.send(Err(error))),
            };
            records.show(&parts.records);
            drop(opened.send(Ok(())));
            let pats = records.pats(&parts.health);
            let local = LocalSet::new();
            let kept = &records;
            local.block_on(&runtime, async move {
                if let Err(error) = run(parts, serving, kept, pats, stopped).await {
                    tracing::error!(%error, "the control plane cannot start");
                }
            });
            runtime.block_on(records.close());
            // A file that is being read must not hold the end up.
            runtime.shutdown_background();
        })
        .map_err(|error| StartError::System(error.to_string()))?;
    ready.recv().map_err(|_| StartError::System("the control thread has ended".to_owned()))??;
    Ok(thread)
}

/// Answers questions on the caller's own runtime, without keeping servers ready and without doors.
pub fn answer_only(parts: Parts) -> Result<(), StartError> {
    let metrics = parts.telemetry.metrics();
    let server = |config: &Arc<_>| {
        let (metrics, resources) = (Arc::clone(metrics), parts.resources.clone());
        Ok(Server::new(Arc::clone(config), client(config)?, &parts.health, metrics, PatStore::default(), resources))
    };
    let servers = parts.config.authorization_servers.iter().map(server).collect::<Result<Vec<_>, StartError>>()?;
    let desk = Desk::new(servers, parts.cache, parts.resources, &parts.config.limits);
    spawn_local(desk.answer(parts.questions));
    Ok(())
}

async fn run(parts: Parts, serving: Serving, records: &Records, pats: PatStore, mut stopped: watch::Receiver<bool>) -> Result<(), StartError> {
    let Serving { workers, listeners, terms, certificates, inherited, doors: bound, addresses, explainer, in_force, reloads, mut orders, watch: watches } =
        serving;
    let Parts { config, wanted, tokens, questions, follows, cache, resources, records: lookup, health, fleet, telemetry, status, current } = parts;
    let metrics = Arc::clone(telemetry.metrics());
    let desk = Desk::new(Vec::new(), cache, resources.clone(), &config.limits);
    let mut keeping = Keeping::new(Rc::clone(&desk), resources, health.clone(), Arc::clone(&metrics), Arc::clone(&status), pats)?;
    let clients = keeping.clients(&config.authorization_servers)?;
    let ended = keeping.ended(&config.authorization_servers).await;
    keeping.serve(&config.authorization_servers, clients, ended, wanted);
    keeping.renew(tokens);
    let mut checks = Checks::default();
    checks.set(&fleet, current.load().upstreams.iter());
    note_credentials(&metrics, None, &current.load(), &config);
    let beside = Beside { links: doors::links(Rc::clone(&desk), Arc::clone(&in_force)), shares: SharesApi::new(records, &desk, &current, follows, &telemetry) };
    let mut doors = Doors::new(addresses, Arc::clone(&status), telemetry, explainer, reloads.clone(), beside);
    doors.carry_out(bound, &config);
    spawn_local(Rc::clone(&desk).answer(questions));

    let _certificates = watches.then(|| Task::start(certificates.clone().keep(Arc::clone(&metrics))));

    let mut files = config.files.clone();
    files.push(config.file.clone());
    files.sort();
    let watched = Rc::new(Watched::new(files.clone()));
    watched.was_read(&files, content(&files));
    let _watch = watches.then(|| Task::start(watch(Rc::clone(&watched), move || reloads.ask(Why::Files))));
    let fixed = reload::fixed(&config);
    let file = config.file.clone();
    let mut running = Running {
        file,
        workers,
        told: fixed.clone(),
        fixed,
        inherited,
        current,
        records: lookup,
        in_force,
        listeners,
        terms,
        doors,
        desk,
        keeping,
        fleet,
        checks,
        certificates,
        watched,
        status,
        health,
        metrics,
    };
    loop {
        tokio::select! {
            // Told only after the last worker has ended: requests that are under way may still ask while they drain.
            _ = stopped.wait_for(|stopped| *stopped) => {
                // A refresh token that was given for another one has to be written down.
                let _ = tokio::time::timeout(SETTLING, running.keeping.settled()).await;
                return Ok(());
            }
            Some(order) = orders.recv() => running.obey(order, &mut orders).await,
            () = tokio::time::sleep(SWEEP), if running.keeping.has_retired() => running.keeping.sweep(),
        }
    }
}
