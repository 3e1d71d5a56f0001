//! What content servers make and delete, on routes with `register_on_create` and `unregister_on_delete`.
//!
//! The same place, owner and registrar as for the API: whoever has made something could have shared it there themselves, else it is not registered, and its path
//! stays closed. No answer of a content server says where content is.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::config::{Config, OwnerClaim};
use super::place::{Place, place_of_one, scopes_of, usual_scopes};
use super::registrar::{Registrar, Trouble};
use crate::enforcement::{Creation, Follow, Follows};
use crate::secret::random_text;
use crate::stack::Current;
use crate::store::{Resource, ResourceKey, ResourceRecord, State};
use crate::telemetry::{AUDITED, Followed, Metrics};

/// Characters of a name; with the link behind it no more are left of the 255 that a record's name may have.
const MOST_OF_NAME: usize = 220;

/// Has the records follow. Lives on the control thread.
pub struct Following {
    /// The section `shares` of the configuration in force.
    config: RefCell<Option<Arc<Config>>>,
    registrar: Rc<Registrar>,
    current: Current,
    metrics: Arc<Metrics>,
}

/// Why something that was made is not registered.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("no route lets anybody share its path")]
    NoPlace,
    #[error("whoever has made it may not share there")]
    NotAnOwner,
    #[error("its scopes are not those that the methods of its route need")]
    Scopes,
    #[error("the configuration in force has no shares, or not their authorization server")]
    NoShares,
    #[error("the system gives no randomness")]
    NoRandomness,
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

impl Following {
    /// Registers by this registrar, where the snapshot in force lets owners share.
    #[must_use]
    pub fn new(registrar: Rc<Registrar>, current: Current, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self { config: RefCell::default(), registrar, current, metrics })
    }

    /// From now on by this section.
    pub fn configure(&self, config: Option<Arc<Config>>) {
        self.config.replace(config);
    }

    /// Does what workers say, until all of them are gone. Each is a task of its own: a server that is slow holds nobody up.
    pub async fn run(self: Rc<Self>, mut follows: Follows) {
        while let Some((follow, done)) = follows.next().await {
            let following = Rc::clone(&self);
            match follow {
                Follow::Created(creation) => spawn_local(async move {
                    following.created(*creation).await;
                    drop(done);
                }),
                Follow::Deleted(key) => spawn_local(following.deleted(key, done)),
                Follow::Lost(key) => spawn_local(Rc::clone(&following.registrar).lost(key)),
            };
        }
    }

    async fn created(&self, creation: Creation) {
        let (path, line) = (creation.path.clone(), creation.route_line);
        let outcome = match self.register(creation).await {
            Ok((outcome, record)) => {
                let (owner, id) = (record.resource.owner.as_str(), record.resource.link.as_deref());
                let path = record.resource.path.as_deref();
                tracing::info!(target: AUDITED, owner, id, path, route_line = line, outcome = outcome.label(), "what a content server has made is shared");
                outcome
            }
            Err(left) => {
                let outcome = match &left {
                    Left::NoPlace => Followed::NotAccepted,
                    // Whoever has no protection API access token here is no owner either.
                    Left::NotAnOwner | Left::Trouble(Trouble::NoPat) => Followed::NotAnOwner,
                    Left::Scopes | Left::NoShares | Left::NoRandomness | Left::Trouble(_) => Followed::Failed,
                };
                let error = &left as &dyn std::error::Error;
                tracing::warn!(error, path = %path, route_line = line, "what a content server has made is not registered, and its path is closed");
                outcome
            }
        };
        self.metrics.share_followed(outcome);
    }

    async fn register(&self, creation: Creation) -> Result<(Followed, ResourceRecord), Left> {
        // A reload may have changed whose owners share since the request was decided; a name says nothing at another server.
        let config = self.config.borrow().clone().filter(|config| config.server.issuer == creation.issuer).ok_or(Left::NoShares)?;
        let place = place_of_one(&self.current.load_full(), &config, &creation.path).map_err(|_| Left::NoPlace)?;
        let who = match config.owner {
            OwnerClaim::Subject => &creation.subject,
            OwnerClaim::Username => &creation.username,
        };
        // A route that does not say whose it is is the operator's alone.
        let owner = who.as_ref().filter(|who| !who.is_empty() && place.owner.as_ref() == Some(who)).ok_or(Left::NotAnOwner)?;
        let server = self.registrar.server(&config.server.issuer).ok_or(Left::NoShares)?;
        if let Some(known) = self.known(&config, &place, owner).await? {
            return Ok((Followed::Known, known));
        }
        let link = random_text::<{ super::ID }>().ok_or(Left::NoRandomness)?;
        let resource = resource(&config, &creation, &place, owner, link)?;
        match Rc::clone(&self.registrar).follow(server, resource, config.per_owner).await {
            Ok(record) if matches!(record.state, State::Registered { .. }) => Ok((Followed::Registered, record)),
            Ok(record) => Ok((Followed::Pending, record)),
            // Somebody was quicker.
            Err(Trouble::PathTaken) => Ok((Followed::Known, self.known(&config, &place, owner).await?.ok_or(Trouble::PathTaken)?)),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// The share that the owner has there already.
    async fn known(&self, config: &Config, place: &Place, owner: &str) -> Result<Option<ResourceRecord>, Trouble> {
        let record = self.registrar.store().resource_at(&config.server.issuer, &place.path).await?;
        Ok(record.filter(|record| record.resource.owner == owner && !matches!(record.state, State::Unwanted { .. })))
    }

    /// Closes the path, says so, and has the authorization server delete the resource.
    async fn deleted(self: Rc<Self>, key: ResourceKey, done: oneshot::Sender<()>) {
        match self.registrar.close(key).await {
            Ok(record) => {
                self.metrics.share_followed(Followed::Withdrawn);
                drop(done);
                let (owner, id, path) = (record.resource.owner.as_str(), record.resource.link.as_deref(), record.resource.path.as_deref());
                tracing::info!(target: AUDITED, owner, id, path, "what a content server has deleted is shared no more");
                Rc::clone(&self.registrar).forget(&record).await;
            }
            // Somebody was quicker: it is closed.
            Err(Trouble::Gone) => self.metrics.share_followed(Followed::Withdrawn),
            Err(trouble) => {
                self.metrics.share_followed(Followed::NotWithdrawn);
                let error = &trouble as &dyn std::error::Error;
                tracing::error!(error, "what a content server has deleted is not withdrawn in the records");
            }
        }
    }
}

fn resource(config: &Config, creation: &Creation, place: &Place, owner: &str, link: String) -> Result<Resource, Left> {
    let all = scopes_of(&place.route);
    let scopes = creation.scopes.as_ref().map(|scopes| scopes.to_vec()).or_else(|| usual_scopes(&place.route)).ok_or(Left::Scopes)?;
    if scopes.is_empty() || !scopes.iter().all(|scope| all.contains(scope)) {
        return Err(Left::Scopes);
    }
    Ok(Resource {
        authorization_server: config.server.issuer.to_string(),
        // The link is in every name: what the authorization server lists by name and owner is this resource then, and never one that was there before, with
        // what its owner has granted on that.
        name: creation.name.as_ref().map_or_else(|| format!("share {link}"), |name| format!("{} ({link})", shortened(name))),
        kind: creation.kind.as_ref().map(ToString::to_string),
        icon_uri: None,
        scopes: scopes.iter().map(|scope| scope.0.to_string()).collect(),
        upstream: place.route.config().upstream_name.to_string(),
        credential: None,
        link: Some(link),
        path: Some(place.path.clone()),
        owner: owner.to_owned(),
    })
}

/// A name, or as much of it as may stand before the link.
fn shortened(name: &str) -> &str {
    name.char_indices().nth(MOST_OF_NAME).map_or(name, |(end, _)| name.split_at(end).0)
}
