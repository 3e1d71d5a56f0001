//! Brings records and authorization server into agreement, whoever dies in between.
//!
//! A record is wanted before the server is asked, and registered when it has answered; unwanted before the server is told to delete, and removed when it has.
//! What is left half done, because the server gave no answer or this process was killed, is finished in the background (`finish`): a wanted resource that the
//! server lists by name and owner is that one, and is registered anew only if it lists none. So a name is one of a kind for its owner: the server was asked
//! whether it has one before the record was written. Where a server does not say whose a resource is, what it lists is a record's only if no other record
//! could mean it, and no two records ever have one id.
//!
//! One task at a time has a share. After a call that got no answer the share is left alone for a while, for the server may be about to do what it was asked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::finish::{Stuck, silences};
use super::standing::Standings;
use super::turns::Turns;
use crate::authorization_server::{AskError, Created, Declared, ResourceKey, Server, ServerIdentity};
use crate::enforcement::Desk;
use crate::store::{self, Resource, ResourceRecord, State, Store, StoreError};
use crate::telemetry::{AUDITED, Metrics};
use crate::uma::{ResourceId, Scope};

/// How long a share is left alone after a call that got no answer.
const LINGER: Duration = Duration::from_secs(3);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Another share has the path.
    #[error("another share has this path")]
    PathTaken,
    /// The owner has a resource of that name.
    #[error("the owner has a resource of this name")]
    NameTaken,
    /// The server has a resource of that name, and does not say whether it is this record's or another one's.
    #[error("the authorization server has a resource of this name, and whose it is cannot be told")]
    Ambiguous,
    /// What has this name there could not be shared with anybody, or not be deleted.
    #[error("no share can have a name with {0:?} at this authorization server")]
    UnfitName(char),
    /// The owner has as many as one may have.
    #[error("the owner has too many shares")]
    TooMany,
    /// The folder has as many templates as one may have.
    #[error("the folder has too many templates")]
    TooManyTemplates {
        /// It is the owner who has so many there.
        of_owner: bool,
    },
    /// The server does not know it yet.
    #[error("the share is not registered yet")]
    NotSettled,
    /// The server has deleted it behind the gateway's back.
    #[error("the authorization server has deleted the resource of the share")]
    Lost,
    /// It is gone.
    #[error("the share is gone")]
    Gone,
    /// Nothing can be done for this owner.
    #[error("there is no protection API access token of this owner")]
    NoPat,
    /// The server will not have it.
    #[error("the authorization server refuses: {0}")]
    Refused(AskError),
    /// The server gave no answer.
    #[error("the authorization server gave no answer: {0}")]
    Unreachable(AskError),
    /// The records.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AskError> for Trouble {
    fn from(error: AskError) -> Self {
        match &error {
            AskError::UnknownOwner | AskError::NeedsConsent => Self::NoPat,
            AskError::NoPat(cause) if matches!(**cause, AskError::UnknownOwner | AskError::NeedsConsent) => Self::NoPat,
            AskError::Status { status: StatusCode::CONFLICT, .. } => Self::NameTaken,
            AskError::Status { status: StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, .. } => Self::Unreachable(error),
            AskError::Status { status, .. } if status.is_client_error() => Self::Refused(error),
            _ => Self::Unreachable(error),
        }
    }
}

/// Registers and unregisters. Lives on the control thread.
pub struct Registrar {
    store: Store,
    desk: Rc<Desk>,
    /// What a task has: links, and names with their owners.
    held: RefCell<BTreeSet<Held>>,
    /// What somebody wanted to take that was held.
    missed: RefCell<BTreeSet<Held>>,
    pub(super) left: Notify,
    /// The section that is asked where several have one issuer.
    preferred: Cell<Option<ServerIdentity>>,
    standings: Standings,
    pub(super) turns: Turns,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    Link(String),
    /// Whether the server knows the resource of this record still is being looked at.
    Look(store::ResourceKey),
    /// Without an owner where the server may not tell owners apart.
    Name {
        owner: Option<String>,
        name: String,
    },
}

/// Something is held until this is dropped.
pub(super) struct Hold {
    registrar: Rc<Registrar>,
    what: Held,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.registrar.held.borrow_mut().remove(&self.what);
        self.registrar.standings.count();
        if self.registrar.missed.borrow_mut().remove(&self.what) {
            self.registrar.left.notify_one();
        }
    }
}

impl Hold {
    /// Holds a share for a while longer, and then has it looked after.
    async fn linger(self) {
        sleep(LINGER).await;
        let registrar = Rc::clone(&self.registrar);
        drop(self);
        registrar.left.notify_one();
    }
}

impl Registrar {
    /// With these records, and the servers that the desk knows.
    #[must_use]
    pub fn new(store: Store, desk: Rc<Desk>, metrics: Arc<Metrics>) -> Rc<Self> {
        let standings = Standings::new(store.clone(), metrics);
        Rc::new(Self {
            store,
            desk,
            held: RefCell::default(),
            missed: RefCell::default(),
            left: Notify::new(),
            preferred: Cell::default(),
            standings,
            turns: Turns::default(),
        })
    }

    /// How shares stand.
    #[must_use]
    pub(super) const fn standings(&self) -> &Standings {
        &self.standings
    }

    /// The records, for reading.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Where servers are asked on behalf of somebody.
    #[must_use]
    pub const fn desk(&self) -> &Rc<Desk> {
        &self.desk
    }

    /// The authorization server of an issuer, if the configuration has it.
    #[must_use]
    pub fn server(&self, issuer: &str) -> Option<Rc<Server>> {
        let preferred = self.preferred.get().and_then(|identity| self.desk.server(identity));
        preferred.filter(|server| *server.config().issuer == *issuer).or_else(|| self.desk.server_of(issuer))
    }

    /// The section of the configuration in force that owners share by.
    pub fn prefer(&self, identity: ServerIdentity) {
        self.preferred.set(Some(identity));
    }

    pub(super) fn hold(self: &Rc<Self>, what: Held) -> Option<Hold> {
        if self.held.borrow_mut().insert(what.clone()) {
            return Some(Hold { registrar: Rc::clone(self), what });
        }
        self.missed.borrow_mut().insert(what);
        None
    }

    pub(super) fn hold_link(self: &Rc<Self>, resource: &Resource) -> Option<Hold> {
        self.hold(Held::Link(resource.link.clone().unwrap_or_default()))
    }

    async fn hold_name(self: &Rc<Self>, server: &Server, resource: &Resource) -> Result<Hold, Trouble> {
        let everybodys = server.may_hide_owners(patience(server)).await?;
        let owner = Some(resource.owner.clone()).filter(|_| !everybodys);
        self.hold(Held::Name { owner, name: resource.name.clone() }).ok_or(Trouble::NameTaken)
    }

    /// Registers a new share. It is wanted still where the server gave no answer to the registration itself, which then goes on in the background.
    ///
    /// # Errors
    /// Nothing was registered, and there is no record; or the records failed, and what is there of it is settled in the background.
    pub async fn create(self: Rc<Self>, server: Rc<Server>, resource: Resource, most: u64) -> Result<ResourceRecord, Trouble> {
        resource.check()?;
        fits(&server, &resource.name).await?;
        let _name = self.hold_name(&server, &resource).await?;
        let Some(hold) = self.hold_link(&resource) else { return Err(Trouble::PathTaken) };
        let (issuer, owner) = (&resource.authorization_server, &resource.owner);
        if self.store.count_of(issuer, owner).await? >= most {
            return Err(Trouble::TooMany);
        }
        let declared = declared(&server, &resource);
        self.unused(&server, &declared, None).await?;
        let key = self.store.want_one_of(&resource, most).await.map_err(taken)?;
        self.register(&server, key, &declared, hold, |_| false).await
    }

    /// Registers what a content server has made for its owner. Nothing is asked before the record is written: what was made is there already, so it stays
    /// wanted where the server gives no answer, or the owner has to consent first. The resource has a name that nothing else can have.
    ///
    /// # Errors
    /// Nothing was registered, and there is no record of it.
    pub async fn follow(self: Rc<Self>, server: Rc<Server>, resource: Resource, most: u64) -> Result<ResourceRecord, Trouble> {
        let Some(hold) = self.hold_link(&resource) else { return Err(Trouble::PathTaken) };
        let key = self.store.want_one_of(&resource, most).await.map_err(taken)?;
        self.register(&server, key, &declared(&server, &resource), hold, AskError::needs_consent).await
    }

    /// Has the server register a record that is wanted. What it refuses is removed; what it gave no answer to, or `waits`, is tried again.
    async fn register(
        &self,
        server: &Server,
        key: store::ResourceKey,
        declared: &Declared,
        hold: Hold,
        waits: fn(&AskError) -> bool,
    ) -> Result<ResourceRecord, Trouble> {
        let later =
            |error: &AskError| tracing::warn!(authorization_server = &*server.config().name, %error, "a share is not registered yet; it is tried again");
        // What lingers is counted now.
        self.standings.count();
        match server.register_new(declared, patience(server)).await {
            Ok(created) => match self.keep(key, &created).await {
                // Whatever the server has registered there is another record's, and was it before.
                Err(Trouble::NameTaken) => {
                    self.store.remove(key).await?;
                    return Err(Trouble::NameTaken);
                }
                Err(trouble) => {
                    self.left.notify_one();
                    return Err(trouble);
                }
                Ok(()) => {}
            },
            Err(error) if waits(&error) => {
                later(&error);
                spawn_local(hold.linger());
            }
            Err(error) => match Trouble::from(error) {
                Trouble::Unreachable(error) => {
                    later(&error);
                    spawn_local(hold.linger());
                }
                refused => {
                    self.store.remove(key).await?;
                    return Err(refused);
                }
            },
        }
        self.store.resource(key).await?.ok_or(Trouble::Gone)
    }

    /// That the owner has nothing of this name but `own`, in the records and at the server; nor another owner's record that the server could take for it.
    async fn unused(&self, server: &Server, declared: &Declared, own: Option<&str>) -> Result<(), Trouble> {
        let key = &declared.key;
        let owner = key.owner.as_deref().unwrap_or_default();
        let issuer = &server.config().issuer;
        let here = self.store.resource_named(issuer, owner, &key.name).await?;
        let everybodys = server.may_hide_owners(patience(server)).await?;
        if everybodys && self.store.is_pending(issuer, None, &key.name).await? {
            return Err(Trouble::NameTaken);
        }
        if here.is_some() || server.find_alike(key, patience(server)).await?.iter().any(|id| Some(&*id.0) != own) {
            return Err(Trouble::NameTaken);
        }
        Ok(())
    }

    /// Writes down what the server calls it; if it was withdrawn in the meantime, it is deleted in the background.
    async fn keep(&self, key: store::ResourceKey, created: &Created) -> Result<(), Trouble> {
        match self.store.registered(key, &created.id.0, created.policy_uri.as_deref()).await {
            Err(StoreError::Absent) => {
                self.left.notify_one();
                Err(Trouble::Gone)
            }
            Err(StoreError::Taken) => Err(Trouble::NameTaken),
            registered => {
                self.standings.registered(&registered?);
                Ok(())
            }
        }
    }

    /// Withdraws a share: its path is closed when this returns, whatever the server says. Whether the server has deleted it as well.
    ///
    /// # Errors
    /// It is gone, or the records failed.
    pub async fn withdraw(self: Rc<Self>, record: ResourceRecord) -> Result<bool, Trouble> {
        let record = self.close(record.key).await?;
        Ok(self.forget(&record).await)
    }

    /// Closes a share's path, at once and for good. [`forget`](Self::forget) does the rest.
    ///
    /// # Errors
    /// It is gone, or the records failed.
    pub async fn close(&self, key: store::ResourceKey) -> Result<ResourceRecord, Trouble> {
        let closed = self.store.unwant(key).await.map_err(gone);
        self.standings.withdrawn(key);
        closed
    }

    /// Has the server delete a share that is closed, and says whether it has. What fails is tried again in the background.
    pub async fn forget(self: Rc<Self>, record: &ResourceRecord) -> bool {
        self.turns.forgive(record);
        let done = match self.hold_link(&record.resource) {
            Some(_hold) => self.settle(record).await,
            None => Ok(false),
        };
        match done {
            Ok(true) => true,
            other => {
                if let Err(Stuck { trouble: error, .. }) = other {
                    tracing::warn!(%error, "a share that was withdrawn is closed, and not deleted at the authorization server yet");
                }
                self.left.notify_one();
                false
            }
        }
    }

    /// Gives a share another name or other scopes.
    ///
    /// # Errors
    /// It is as it was, unless the server gave no answer: then it may have the new ones, and the records the old ones.
    pub async fn change(self: Rc<Self>, record: ResourceRecord, name: String, scopes: Vec<String>) -> Result<ResourceRecord, Trouble> {
        let State::Registered { resource_id, .. } = &record.state else { return Err(Trouble::NotSettled) };
        let resource = Resource { name, scopes, ..record.resource.clone() };
        let Some(_hold) = self.hold_link(&resource) else { return Err(Trouble::NotSettled) };
        let Some(server) = self.server(&resource.authorization_server) else { return Err(Trouble::Gone) };
        resource.check()?;
        let declared = declared(&server, &resource);
        let _name = self.hold_name(&server, &resource).await?;
        if resource.name != record.resource.name {
            fits(&server, &resource.name).await?;
            self.unused(&server, &declared, Some(resource_id)).await?;
        }
        if !server.describe_anew(&ResourceId(resource_id.as_str().into()), &declared, patience(&server)).await? {
            self.is_lost(&record, &server.config().name);
            return Err(Trouble::Lost);
        }
        self.standings.found(record.key);
        self.store.describe(record.key, &resource.name, &resource.scopes).await.map_err(gone)
    }

    /// What the server has of a record that has no id, if it is this one's.
    ///
    /// # Errors
    /// [`Trouble::NameTaken`]: it is another record's. [`Trouble::Ambiguous`]: it may be.
    async fn known(&self, server: &Server, record: &ResourceRecord, declared: &Declared) -> Result<Option<Created>, Trouble> {
        let Some(known) = server.known_as(&declared.key, patience(server)).await? else { return Ok(None) };
        let issuer = &record.resource.authorization_server;
        if self.store.is_anothers(issuer, Some(record.key), &known.id.0).await? {
            return Err(Trouble::NameTaken);
        }
        if !known.is_owners {
            // Two: this one, and another that has no id either.
            let namesakes = self.store.namesakes(issuer, &record.resource.name, 2).await?;
            if namesakes.iter().any(|other| other.key != record.key && other.state.resource_id().is_none()) {
                return Err(Trouble::Ambiguous);
            }
        }
        Ok(Some(known))
    }

    /// What the server refuses is not registered, whenever it says so.
    async fn give_up(&self, record: &ResourceRecord, error: &AskError) -> Result<bool, Trouble> {
        let Resource { authorization_server, owner, link, path, .. } = &record.resource;
        let (id, path) = (link.as_deref(), path.as_deref());
        self.store.remove(record.key).await.map_err(gone)?;
        tracing::warn!(target: AUDITED, authorization_server, owner, id, path, %error, "a share is not registered: the authorization server refuses it");
        Ok(true)
    }

    /// Finishes one record, which the caller holds. False: its server is not configured any more.
    pub(super) async fn settle(&self, record: &ResourceRecord) -> Result<bool, Stuck> {
        let Some(server) = self.server(&record.resource.authorization_server) else { return Ok(false) };
        let (declared, owner) = (declared(&server, &record.resource), Some(&*record.resource.owner));
        match &record.state {
            State::Registered { .. } => {}
            State::Wanted => {
                let created = match self.known(&server, record, &declared).await? {
                    Some(known) => known,
                    None => match server.register_new(&declared, patience(&server)).await {
                        Err(error) if is_final(&error) => return Ok(self.give_up(record, &error).await?),
                        created => created.map_err(Stuck::at)?,
                    },
                };
                self.keep(record.key, &created).await?;
                tracing::info!(authorization_server = &*server.config().name, id = &*created.id.0, "a share that was half done is registered");
            }
            State::Unwanted { resource_id } => {
                let id = match resource_id {
                    Some(id) => Some(ResourceId(id.as_str().into())),
                    None => match self.known(&server, record, &declared).await {
                        // What the server has of this name is another record's, so it has nothing of this one.
                        Err(Trouble::NameTaken) => None,
                        other => other?.map(|known| known.id),
                    },
                };
                if let Some(id) = id {
                    let unasked = resource_id.is_some();
                    let stuck = |error: AskError| if unasked && silences(&error) { error.into() } else { Stuck::at(error) };
                    server.delete(owner, &id, patience(&server)).await.map_err(stuck)?;
                }
                self.store.remove(record.key).await.map_err(gone)?;
            }
        }
        Ok(true)
    }
}

/// Whether the server refuses what is registered, and would whenever it is asked. Another status may speak of us, or of the server's own state.
const fn is_final(error: &AskError) -> bool {
    matches!(error, AskError::Status { status: StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY, .. })
}

fn declared(server: &Server, resource: &Resource) -> Declared {
    let key = ResourceKey { server: server.config().identity, owner: Some(resource.owner.as_str().into()), name: resource.name.as_str().into(), alone: true };
    let scopes: Arc<[Scope]> = resource.scopes.iter().map(|scope| Scope(scope.as_str().into())).collect();
    let text = |text: &Option<String>| text.as_deref().map(Arc::from);
    Declared { key, kind: text(&resource.kind), icon_uri: text(&resource.icon_uri), scopes }
}

/// That a share can have this name there.
async fn fits(server: &Server, name: &str) -> Result<(), Trouble> {
    server.unfit_in_name(name, patience(server)).await?.map_or(Ok(()), |unfit| Err(Trouble::UnfitName(unfit)))
}

pub(super) fn patience(server: &Server) -> Instant {
    Instant::now() + server.config().timeout.max(Duration::from_secs(5))
}

fn taken(error: StoreError) -> Trouble {
    match error {
        StoreError::Taken => Trouble::PathTaken,
        StoreError::TooMany => Trouble::TooMany,
        StoreError::TooManyTemplates { of_owner } => Trouble::TooManyTemplates { of_owner },
        other => other.into(),
    }
}

fn gone(error: StoreError) -> Trouble {
    if matches!(error, StoreError::Absent) { Trouble::Gone } else { error.into() }
}
