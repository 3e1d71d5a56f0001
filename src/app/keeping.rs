//! What the control thread keeps running for the configuration in force: authorization servers and tokens for upstreams.
//!
//! All of it outlives a reload that leaves its section alone. A secret is not part of that section: another one is offered to what runs already.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use tokio::task::{AbortHandle, spawn_local};

use super::StartError;
use super::watching::{Content, content};
use crate::admin::Status;
use crate::authorization_server::{ClientCredentials, Config, PatStore, Resources, Server, ServerIdentity, Wanted};
use crate::credentials::oauth2::{self, Grant, Token};
use crate::enforcement::Desk;
use crate::http_client::{HttpClient, TlsFiles};
use crate::secret::Rotating;
use crate::stack::Snapshot;
use crate::telemetry::{Health, Metrics, SecretKind};

/// A task of the control thread that ends with this.
pub struct Task(AbortHandle);

impl Task {
    /// Runs it.
    pub fn start(future: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Everything that is kept.
pub struct Keeping {
    desk: Rc<Desk>,
    resources: Resources,
    health: Health,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    plain: HttpClient,
    pats: PatStore,
    servers: HashMap<ServerIdentity, KeptServer>,
    tokens: Vec<KeptToken>,
    /// Snapshots that requests may still carry.
    old: Vec<Weak<Snapshot>>,
}

struct KeptServer {
    server: Rc<Server>,
    files: Content,
    wanted: Vec<Wanted>,
    /// `None`: no configuration names it any more, but a request may.
    keeper: Option<Task>,
    trial: Option<Task>,
}

struct KeptToken {
    token: Arc<Token>,
    grant: Grant,
    client: Arc<Rotating<ClientCredentials>>,
    _keeper: Task,
}

/// Owners of servers that are new whose consent has ended, by the records.
pub struct Ended(HashMap<ServerIdentity, BTreeSet<Arc<str>>>);

/// HTTP clients for servers that are new or whose files have changed.
pub struct Clients(HashMap<ServerIdentity, (Content, Option<HttpClient>)>);

impl Keeping {
    /// Nothing yet. `desk` is told of every server.
    pub fn new(desk: Rc<Desk>, resources: Resources, health: Health, metrics: Arc<Metrics>, status: Arc<Status>, pats: PatStore) -> Result<Self, StartError> {
        let plain = HttpClient::new(&TlsFiles::default()).map_err(|error| StartError::System(error.to_string()))?;
        Ok(Self { desk, resources, health, metrics, status, plain, pats, servers: HashMap::new(), tokens: Vec::new(), old: Vec::new() })
    }

    /// Reads the files of servers, as far as they are news.
    pub fn clients(&self, configs: &[Arc<Config>]) -> Result<Clients, StartError> {
        let client = |config: &Arc<Config>| {
            let now = content(&files(&config.tls));
            let known = self.servers.get(&config.identity).is_some_and(|kept| kept.files == now);
            let client = if known { None } else { Some(client(config)?) };
            Ok((config.identity, (now, client)))
        };
        configs.iter().map(client).collect::<Result<_, _>>().map(Clients)
    }

    /// Reads what the records have of owners of servers that are not known.
    pub async fn ended(&self, configs: &[Arc<Config>]) -> Ended {
        let mut ended = HashMap::new();
        for config in configs.iter().filter(|config| !self.servers.contains_key(&config.identity)) {
            ended.insert(config.identity, self.pats.ended(config).await);
        }
        Ended(ended)
    }

    /// Keeps these servers. Those of before stay known until [`Keeping::retire`].
    pub fn serve(&mut self, configs: &[Arc<Config>], mut clients: Clients, mut ended: Ended, mut wanted: BTreeMap<ServerIdentity, Vec<Wanted>>) {
        let in_force: Vec<Rc<Server>> = self.servers.values().filter(|kept| kept.keeper.is_some()).map(|kept| Rc::clone(&kept.server)).collect();
        for config in configs {
            let Some((files, client)) = clients.0.remove(&config.identity) else { continue };
            let wanted = wanted.remove(&config.identity).unwrap_or_default();
            let ended = ended.0.remove(&config.identity).unwrap_or_default();
            match (self.servers.get_mut(&config.identity), client) {
                (Some(kept), client) => {
                    kept.files = files;
                    if let Some(client) = client {
                        kept.server.connect_with(client);
                    }
                    kept.server.offer_owners(&config.owners);
                    if kept.keeper.is_none() {
                        kept.server.begin_as(&in_force, &ended);
                    }
                    if kept.server.offer_client(&config.client) {
                        kept.server.ends_trial();
                        kept.trial = Some(Task::start(Rc::clone(&kept.server).try_client()));
                    } else if kept.trial.is_some() && !kept.server.is_on_trial() {
                        kept.server.ends_trial();
                        kept.trial = None;
                    }
                    if kept.keeper.is_none() || kept.wanted != wanted {
                        kept.keeper = Some(keeper(&kept.server, &self.resources, wanted.clone(), &self.status));
                        kept.wanted = wanted;
                    }
                }
                (None, Some(client)) => {
                    let (metrics, resources) = (Arc::clone(&self.metrics), self.resources.clone());
                    let server = Server::new(Arc::clone(config), client, &self.health, metrics, self.pats.clone(), resources);
                    server.begin_as(&in_force, &ended);
                    self.desk.add(Rc::clone(&server));
                    self.metrics.secret_loaded(SecretKind::Client, &config.name);
                    // It begins with what the file has.
                    server.ends_trial();
                    let keeper = Some(keeper(&server, &self.resources, wanted.clone(), &self.status));
                    self.servers.insert(config.identity, KeptServer { server, files, wanted, keeper, trial: None });
                }
                // A server that is not known always comes with a client.
                (None, None) => {}
            }
        }
    }

    /// Waits for protection API access tokens that are being renewed.
    pub async fn settled(&self) {
        let servers: Vec<Rc<Server>> = self.servers.values().map(|kept| Rc::clone(&kept.server)).collect();
        for server in servers {
            server.settled().await;
        }
    }

    /// Keeps these tokens, and no others.
    pub fn renew(&mut self, tokens: Vec<(Arc<Token>, Grant)>) {
        let mut old = std::mem::take(&mut self.tokens);
        for (token, grant) in tokens {
            let kept = old.iter().position(|kept| Arc::ptr_eq(&kept.token, &token)).map(|at| old.swap_remove(at));
            let kept = match kept {
                Some(kept) => {
                    if kept.client.offer(&grant.client) {
                        kept.token.ask_anew();
                    }
                    KeptToken { grant, ..kept }
                }
                None => self.new_token(token, grant),
            };
            self.tokens.push(kept);
        }
    }

    fn new_token(&self, token: Arc<Token>, grant: Grant) -> KeptToken {
        let client = Arc::new(Rotating::new(grant.client.clone()));
        let (metrics, name) = (Arc::clone(&self.metrics), Arc::clone(&grant.upstream));
        let worked = move || metrics.secret_loaded(SecretKind::ProxyCredential, &name);
        let _keeper = Task::start(oauth2::keep(Arc::clone(&token), grant.clone(), Arc::clone(&client), self.plain.clone(), self.health.clone(), worked));
        KeptToken { token, grant, client, _keeper }
    }

    /// The tokens that are kept.
    pub fn tokens(&self) -> Vec<(Arc<Token>, Grant)> {
        self.tokens.iter().map(|kept| (Arc::clone(&kept.token), kept.grant.clone())).collect()
    }

    /// Another snapshot is in force, with these servers; others are forgotten when no request carries an earlier snapshot any more.
    pub fn retire(&mut self, old: &Arc<Snapshot>, configs: &[Arc<Config>]) {
        self.old.push(Arc::downgrade(old));
        for (identity, kept) in &mut self.servers {
            if !configs.iter().any(|config| config.identity == *identity) {
                kept.keeper = None;
                kept.trial = None;
            }
        }
        let named = |name: &str| configs.iter().any(|config| *config.name == *name);
        for kept in self.servers.values().filter(|kept| kept.keeper.is_none() && !named(&kept.server.config().name)) {
            self.metrics.secret_gone(SecretKind::Client, &kept.server.config().name);
        }
    }

    /// Whether somebody waits to be forgotten.
    pub fn has_retired(&self) -> bool {
        self.servers.values().any(|kept| kept.keeper.is_none())
    }

    /// Forgets servers that nobody can ask for.
    pub fn sweep(&mut self) {
        self.old.retain(|snapshot| snapshot.strong_count() > 0);
        if self.old.is_empty() {
            let desk = &self.desk;
            self.servers.retain(|identity, kept| {
                let stays = kept.keeper.is_some();
                if !stays {
                    desk.remove(*identity);
                }
                stays
            });
        }
    }
}

/// A client with the trust of a server's section.
pub fn client(config: &Config) -> Result<HttpClient, StartError> {
    HttpClient::new(&config.tls).map_err(|error| StartError::Tls { name: Arc::clone(&config.name), error })
}

fn keeper(server: &Rc<Server>, resources: &Resources, wanted: Vec<Wanted>, status: &Arc<Status>) -> Task {
    let (status, name) = (Arc::clone(status), Arc::clone(&server.config().name));
    Task::start(Rc::clone(server).keep(resources.clone(), wanted, move || status.contacted(&name)))
}

fn files(tls: &TlsFiles) -> Vec<PathBuf> {
    [&tls.ca, &tls.client_certificate, &tls.client_key].into_iter().flatten().cloned().collect()
}
