//! Resources at the server: found by name and owner, or registered because the configuration declares them.
//!
//! [`Resources`] is the view that workers read without asking anybody; the control thread fills it. Nothing is ever deleted at a server but what its owner has
//! withdrawn.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, IF_MATCH};
use http::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::config::{Config, ServerIdentity};
use super::discovery::{Endpoint, Metadata, with_path};
use super::error::AskError;
use super::json as strict;
use super::profile::{PatOwners, Profile};
use super::server::{Protected, Server, status};
use super::uris::{PathResource, Paths, UriKey};
use crate::telemetry::AsEndpoint;
use crate::uma::{ResourceId, Scope};

pub(super) const ENDPOINT: AsEndpoint = AsEndpoint::Resource;

/// Octets of the resources that are kept in the view, and of the names that the server does not know, which anybody may make up; and how long those are
/// remembered.
const KNOWN: u64 = 64 << 20;
const UNKNOWN: u64 = 8 << 20;
/// What an entry takes besides its texts.
const ENTRY: usize = 320;
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// A name may come to mean another resource; after this it is looked up again.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// Octets of an address that is kept.
const LONGEST_URI: usize = 2_048;

/// What a resource is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceKey {
    /// The server.
    pub server: ServerIdentity,
    /// The owner; absent: the gateway's own client.
    pub owner: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
    /// Whether the name says it all: whatever of a request's path says who the owner is stands in the name as well. Where a server does not say whose a resource
    /// is, only such a resource is found.
    pub alone: bool,
}

impl ResourceKey {
    /// The octets that it takes, kept.
    fn weight(&self) -> u32 {
        let texts = self.name.len() + self.owner.as_ref().map_or(0, |owner| owner.len());
        u32::try_from(ENTRY + texts).unwrap_or(u32::MAX)
    }
}

/// A resource that the configuration declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Name and owner.
    pub key: ResourceKey,
    /// Type.
    pub kind: Option<Arc<str>>,
    /// `icon_uri`: a picture that stands for it (UMA 2.0 Federated Authorization, 3.1; UMA 1.0.1 Resource Set Registration, 2.2).
    pub icon_uri: Option<Arc<str>>,
    /// All its scopes.
    pub scopes: Arc<[Scope]>,
}

/// What the view knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its id.
    Known(ResourceId),
    /// The server knew no such resource a moment ago.
    Unknown,
    /// Nobody has asked yet.
    Unasked,
}

/// The view, shared by all threads.
#[derive(Clone, Debug)]
pub struct Resources {
    known: moka::sync::Cache<ResourceKey, ResourceId>,
    unknown: moka::sync::Cache<ResourceKey, ()>,
    paths: Paths,
    /// Owners who have to consent, by their identities.
    closed: Arc<ArcSwap<HashSet<ServerIdentity>>>,
}

impl Default for Resources {
    fn default() -> Self {
        let known = moka::sync::Cache::builder()
            .weigher(|key: &ResourceKey, id: &ResourceId| key.weight().saturating_add(u32::try_from(id.0.len()).unwrap_or(u32::MAX)))
            .max_capacity(KNOWN)
            .time_to_live(KNOWN_FOR)
            .build();
        let unknown = moka::sync::Cache::builder().weigher(|key: &ResourceKey, ()| key.weight()).max_capacity(UNKNOWN).time_to_live(UNKNOWN_FOR).build();
        Self { known, unknown, paths: Paths::default(), closed: Arc::default() }
    }
}

impl Resources {
    /// What is known of `key`, without asking anybody.
    #[must_use]
    pub fn see(&self, key: &ResourceKey) -> Seen {
        match self.known.get(key) {
            Some(id) => Seen::Known(id),
            None if self.unknown.contains_key(key) => Seen::Unknown,
            None => Seen::Unasked,
        }
    }

    /// Keeps what a server said.
    pub fn keep(&self, key: &ResourceKey, id: Option<&ResourceId>) {
        match id {
            Some(id) => {
                self.unknown.invalidate(key);
                self.known.insert(key.clone(), id.clone());
            }
            None => {
                self.known.invalidate(key);
                self.unknown.insert(key.clone(), ());
            }
        }
    }

    /// Forgets a resource that the server does not know any more.
    pub fn forget(&self, key: &ResourceKey) {
        self.known.invalidate(key);
    }

    /// Whether the owner with this identity has to consent: nothing of the owner's is open until then. Takes no lock.
    #[must_use]
    pub fn is_closed(&self, owner: ServerIdentity) -> bool {
        self.closed.load().contains(&owner)
    }

    /// Keeps which of these owners have to consent.
    pub fn close(&self, owners: &[(ServerIdentity, bool)]) {
        self.closed.rcu(|known| {
            let mut closed = HashSet::clone(known);
            for (owner, has_to_consent) in owners {
                if *has_to_consent {
                    closed.insert(*owner);
                } else {
                    closed.remove(owner);
                }
            }
            closed
        });
    }

    /// What is known of a path, without asking anybody. `None`: nobody has asked, or too long ago.
    #[must_use]
    pub fn see_path(&self, key: &UriKey, now: Instant) -> Option<PathResource> {
        self.paths.see(key, now)
    }

    /// Keeps what a server said of a path at `asked`: a resource for `max_age`, anything else for `negative_max_age`.
    pub fn keep_path(&self, key: &UriKey, place: &PathResource, config: &Config, asked: Instant) {
        self.paths.keep(key, place, config, asked);
    }

    /// Forgets a path whose resource the server does not know any more.
    pub fn forget_path(&self, key: &UriKey) {
        self.paths.forget(key);
    }
}

/// A description as the server keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: Option<String>,
    /// Owner, where the server tells it: name, else id.
    pub owner: Option<String>,
    /// The owner's id, where it tells both.
    pub owner_id: Option<String>,
    /// Scopes.
    pub scopes: Vec<String>,
    /// The paths that Keycloak knows it by.
    pub uris: Vec<String>,
}

/// A resource that the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// `_id`.
    pub id: ResourceId,
    /// `user_access_policy_uri`: where its owner shares it.
    pub policy_uri: Option<String>,
    /// Whether the server has said that its owner is the one who was asked for.
    pub is_owners: bool,
}

/// What became of a declared resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// It was as declared.
    Unchanged,
    /// It was not there and has been registered.
    Created,
    /// It lacked scopes or had another type and has been updated.
    Updated,
    /// It has scopes that are not declared; they stay.
    Drifted,
}

impl Server {
    pub(super) async fn list(&self, metadata: &Metadata, endpoint: &Endpoint, owner: Option<&str>, deadline: Instant) -> Result<Vec<ResourceId>, AskError> {
        let request = || Request::builder().method(Method::GET).header(ACCEPT, "application/json");
        let call = Protected { name: ENDPOINT, metadata, endpoint, owner, deadline };
        let response = self.protected(call, request, &Bytes::new(), &mut false).await?;
        let ids = || {
            let Ok(Value::Array(ids)) = strict::parse(response.body()) else { return Err(AskError::unusable(ENDPOINT.label(), "it is not a list of ids")) };
            ids.iter()
                .map(|id| id.as_str().map(|id| ResourceId(id.into())).ok_or_else(|| AskError::unusable(ENDPOINT.label(), "an id is not a text")))
                .collect()
        };
        self.judged(ENDPOINT, &response, if response.status() == StatusCode::OK { ids() } else { Err(status(ENDPOINT, &response)) })
    }

    /// The descriptions that a query with `deep=true` lists, as the server wrote them.
    pub(super) async fn listed(&self, metadata: &Metadata, query: &str, owner: Option<&str>, deadline: Instant) -> Result<Vec<Value>, AskError> {
        let endpoint = with_query(metadata.registration()?, query)?;
        let request = || Request::builder().method(Method::GET).header(ACCEPT, "application/json");
        let call = Protected { name: ENDPOINT, metadata, endpoint: &endpoint, owner, deadline };
        let response = self.protected(call, request, &Bytes::new(), &mut false).await?;
        let read = match response.status() {
            StatusCode::OK => match strict::parse(response.body()) {
                Ok(Value::Array(all)) => Ok(all),
                _ => Err(AskError::unusable(ENDPOINT.label(), "it is not a list of resources")),
            },
            _ => Err(status(ENDPOINT, &response)),
        };
        self.judged(ENDPOINT, &response, read)
    }

    /// The description of a resource of `owner`; `None`: the server does not know it.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn describe(&self, owner: Option<&str>, id: &ResourceId, deadline: Instant) -> Result<Option<Description>, AskError> {
        Ok(self.document(owner, id, deadline).await?.as_ref().map(describe))
    }

    /// The same as the server wrote it.
    async fn document(&self, owner: Option<&str>, id: &ResourceId, deadline: Instant) -> Result<Option<Value>, AskError> {
        let metadata = self.metadata(deadline).await?;
        let endpoint = below(metadata.registration()?, id)?;
        let request = || Request::builder().method(Method::GET).header(ACCEPT, "application/json");
        let call = Protected { name: ENDPOINT, metadata: &metadata, endpoint: &endpoint, owner, deadline };
        let response = self.protected(call, request, &Bytes::new(), &mut false).await?;
        let read = match response.status() {
            StatusCode::OK => strict::parse(response.body()).map(Some).map_err(|error| AskError::no_json(ENDPOINT.label(), &error)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(status(ENDPOINT, &response)),
        };
        self.judged(ENDPOINT, &response, read)
    }

    /// Brings a declared resource to the server: creates it, or adds the scopes and the type that it lacks. What else the server knows of it stays as it
    /// is, and nothing is taken away: a scope that only the server has may be shared with somebody.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn reconcile(&self, declared: &Declared, deadline: Instant) -> Result<(ResourceId, Reconciled), AskError> {
        let metadata = self.metadata(deadline).await?;
        let Some(id) = self.find_declared(&declared.key, deadline).await? else {
            return Ok((self.register(&metadata, declared, deadline).await?.id, Reconciled::Created));
        };
        let owner = declared.key.owner.as_deref();
        let Some(document) = self.document(owner, &id, deadline).await? else { return Err(AskError::unusable(ENDPOINT.label(), "the resource has just gone")) };
        let current = describe(&document);
        let wanted: Vec<&str> = declared.scopes.iter().map(|scope| &*scope.0).collect();
        let lacks = wanted.iter().any(|scope| !current.scopes.iter().any(|has| has == scope));
        let retyped = declared.kind.is_some() && declared.kind.as_deref() != current.kind.as_deref();
        if !lacks && !retyped {
            let more = current.scopes.iter().any(|has| !wanted.contains(&has.as_str()));
            return Ok((id, if more { Reconciled::Drifted } else { Reconciled::Unchanged }));
        }
        let document = completed(metadata.profile, document, &current, declared);
        let response = self.alter(&metadata, &id, owner, Some(&document), deadline).await?;
        let read = match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok((id, Reconciled::Updated)),
            _ => Err(status(ENDPOINT, &response)),
        };
        self.judged(ENDPOINT, &response, read)
    }

    /// The resource with this name and owner, if the server has one.
    ///
    /// # Errors
    /// No usable answer before `deadline`, or there are several.
    pub async fn known_as(&self, key: &ResourceKey, deadline: Instant) -> Result<Option<Created>, AskError> {
        let Some(id) = self.find_anew(key, deadline).await? else { return Ok(None) };
        let Some(document) = self.document(key.owner.as_deref(), &id, deadline).await? else { return Ok(None) };
        let is_owners = !self.may_hide_owners(deadline).await? || describe(&document).owner.as_deref() == key.owner.as_deref();
        Ok(Some(Created { id, policy_uri: policy_uri(&document), is_owners }))
    }

    /// Whether a resource that is found by its name may be anybody's: one PAT is for all owners, and the server need not say whose a resource is.
    ///
    /// # Errors
    /// No metadata before `deadline`.
    pub async fn may_hide_owners(&self, deadline: Instant) -> Result<bool, AskError> {
        Ok(self.metadata(deadline).await?.profile.hides_owners())
    }

    /// What of a name makes it one that no share can have at this server.
    ///
    /// # Errors
    /// No metadata before `deadline`.
    pub async fn unfit_in_name(&self, name: &str, deadline: Instant) -> Result<Option<char>, AskError> {
        Ok(self.metadata(deadline).await?.profile.unfit_in(name))
    }

    /// Registers a resource, whether or not the server has one of its name. An error does not say that it was not registered.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn register_new(&self, declared: &Declared, deadline: Instant) -> Result<Created, AskError> {
        let metadata = self.metadata(deadline).await?;
        let created = self.register(&metadata, declared, deadline).await?;
        self.answers.good(ENDPOINT);
        Ok(created)
    }

    /// Gives a resource another name and other scopes; what else the server knows of it stays as it is. False: the server does not know it.
    ///
    /// # Errors
    /// No usable answer before `deadline`.
    pub async fn describe_anew(&self, id: &ResourceId, declared: &Declared, deadline: Instant) -> Result<bool, AskError> {
        let metadata = self.metadata(deadline).await?;
        let owner = declared.key.owner.as_deref();
        let Some(document) = self.document(owner, id, deadline).await? else { return Ok(false) };
        let nothing = Description::default();
        let mut document = completed(metadata.profile, document, &nothing, declared);
        if let Value::Object(members) = &mut document {
            members.insert("name".into(), json!(&*declared.key.name));
        }
        let response = self.alter(&metadata, id, owner, Some(&document), deadline).await?;
        let read = match response.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(status(ENDPOINT, &response)),
        };
        self.judged(ENDPOINT, &response, read)
    }

    /// Deletes a resource of `owner`. One that the server does not know is gone already.
    ///
    /// # Errors
    /// No usable answer before `deadline`; it may be gone all the same.
    pub async fn delete(&self, owner: Option<&str>, id: &ResourceId, deadline: Instant) -> Result<(), AskError> {
        let metadata = self.metadata(deadline).await?;
        let response = self.alter(&metadata, id, owner, None, deadline).await?;
        let read = match response.status() {
            StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            _ => Err(status(ENDPOINT, &response)),
        };
        self.judged(ENDPOINT, &response, read)
    }

    /// Describes a resource anew, or deletes it where there is no description. An update replaces all members (UMA 2.0 Federated Authorization, 3.2.3).
    async fn alter(
        &self,
        metadata: &Metadata,
        id: &ResourceId,
        owner: Option<&str>,
        document: Option<&Value>,
        deadline: Instant,
    ) -> Result<Response<Bytes>, AskError> {
        let endpoint = below(metadata.registration()?, id)?;
        let body = document.map_or_else(Bytes::new, |document| Bytes::from(document.to_string()));
        let request = || {
            let request = Request::builder().header(ACCEPT, "application/json");
            let request = if metadata.profile.if_match { request.header(IF_MATCH, "*") } else { request };
            match document {
                Some(_) => request.method(Method::PUT).header(CONTENT_TYPE, "application/json"),
                None => request.method(Method::DELETE),
            }
        };
        let call = Protected { name: ENDPOINT, metadata, endpoint: &endpoint, owner, deadline };
        self.protected(call, request, &body, &mut false).await
    }

    async fn register(&self, metadata: &Metadata, declared: &Declared, deadline: Instant) -> Result<Created, AskError> {
        let _turn =
            if metadata.profile.registers_in_turn { Some(timeout_at(deadline, self.registering.lock()).await.map_err(|_| AskError::Busy)?) } else { None };
        let body = Bytes::from(Self::registration(metadata.profile, declared).to_string());
        let request = || Request::builder().method(Method::POST).header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
        let call = Protected { name: ENDPOINT, metadata, endpoint: metadata.registration()?, owner: declared.key.owner.as_deref(), deadline };
        let response = self.protected(call, request, &body, &mut false).await?;
        self.judged(ENDPOINT, &response, if response.status() == StatusCode::CREATED { created(response.body()) } else { Err(status(ENDPOINT, &response)) })
    }

    /// The description of a resource that is new at the server.
    fn registration(profile: &Profile, declared: &Declared) -> Value {
        let scopes: Vec<&str> = declared.scopes.iter().map(|scope| &*scope.0).collect();
        let mut description = Map::new();
        description.insert("name".into(), json!(&*declared.key.name));
        description.insert(profile.words.described_scopes.into(), json!(scopes));
        describe_further(&mut description, declared);
        // Where a PAT is its owner's, the server knows whose it is.
        if let Some(owner) = declared.key.owner.as_ref().filter(|_| profile.pats == PatOwners::Client) {
            description.insert("owner".into(), json!(&**owner));
            if profile == Profile::KEYCLOAK {
                description.insert("ownerManagedAccess".into(), json!(true));
            }
        }
        Value::Object(description)
    }
}

/// What the server has registered.
fn created(body: &[u8]) -> Result<Created, AskError> {
    let document = strict::parse(body).map_err(|error| AskError::no_json(ENDPOINT.label(), &error))?;
    let id = document.get("_id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let id = id.map(|id| ResourceId(id.into())).ok_or_else(|| AskError::unusable(ENDPOINT.label(), "it has no `_id`"))?;
    Ok(Created { id, policy_uri: policy_uri(&document), is_owners: true })
}

/// The server's own description with what the declaration adds: an update replaces all members (UMA 2.0 Federated Authorization, 3.2.3), so all are sent.
fn completed(profile: &Profile, document: Value, current: &Description, declared: &Declared) -> Value {
    let Value::Object(mut members) = document else { return document };
    // Keycloak tells the scopes twice, under both names.
    members.remove("scopes");
    members.remove("resource_scopes");
    if let Some(known) = profile.updates {
        members.retain(|name, _| name == "name" || known.contains(&name.as_str()));
    }
    let added = declared.scopes.iter().map(|scope| scope.0.to_string()).filter(|scope| !current.scopes.contains(scope));
    let scopes: Vec<String> = current.scopes.iter().cloned().chain(added).collect();
    members.insert(profile.words.described_scopes.into(), json!(scopes));
    describe_further(&mut members, declared);
    Value::Object(members)
}

/// What a description may say besides name, scopes and owner. Every profile's server takes it.
fn describe_further(description: &mut Map<String, Value>, declared: &Declared) {
    for (name, text) in [("type", &declared.kind), ("icon_uri", &declared.icon_uri)] {
        if let Some(text) = text {
            description.insert(name.into(), json!(&**text));
        }
    }
}

/// `user_access_policy_uri`, if it is a web address of sane length, with its fragment: the page of a share at OpenAM stands there.
fn policy_uri(document: &Value) -> Option<String> {
    let text = document.get("user_access_policy_uri").and_then(Value::as_str).filter(|text| text.len() <= LONGEST_URI)?;
    let (uri, fragment) = text.split_once('#').map_or((text, None), |(uri, fragment)| (uri, Some(fragment)));
    let uri = uri.parse::<http::Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("https" | "http")))?;
    match fragment {
        None => Some(uri.to_string()),
        Some(fragment) => fragment.bytes().all(|octet| octet.is_ascii_graphic()).then(|| format!("{uri}#{fragment}")),
    }
}

pub(super) fn describe(document: &Value) -> Description {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let owner = document.get("owner");
    let scopes = ["resource_scopes", "scopes"].iter().find_map(|name| document.get(*name)).and_then(Value::as_array);
    Description {
        name: document.get("name").and_then(text).unwrap_or_default(),
        kind: document.get("type").and_then(text),
        // A text, or an object with a name, an id, or both.
        owner: owner.and_then(|owner| text(owner).or_else(|| owner.get("name").and_then(text)).or_else(|| owner.get("id").and_then(text))),
        owner_id: owner.and_then(|owner| owner.get("name").and(owner.get("id"))).and_then(text),
        uris: document.get("uris").and_then(Value::as_array).map(|uris| uris.iter().filter_map(text).collect()).unwrap_or_default(),
        scopes: scopes.map(|scopes| scopes.iter().filter_map(|scope| text(scope).or_else(|| scope.get("name").and_then(text))).collect()).unwrap_or_default(),
    }
}

/// What is encoded in a segment of a path. OpenAM compares ids as they are written, so what needs no encoding has none (RFC 3986, 2.3); but a full stop has,
/// since two of them are no name.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

fn below(endpoint: &Endpoint, id: &ResourceId) -> Result<Endpoint, AskError> {
    let id = percent_encoding::utf8_percent_encode(&id.0, SEGMENT);
    with_path(endpoint, &format!("{}/{id}", endpoint.uri.path().trim_end_matches('/')))
}

pub(super) fn with_query(endpoint: &Endpoint, query: &str) -> Result<Endpoint, AskError> {
    with_path(endpoint, &format!("{}?{query}", endpoint.uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_a_share_is_told_as_the_server_wrote_it_if_it_is_one() {
        let told = |text: &str| policy_uri(&json!({ "user_access_policy_uri": text }));
        for page in ["https://id.example.org/openam/XUI/?realm=/#uma/share/f6ab", "http://id.example.org/a", "https://id.example.org/#"] {
            assert_eq!(told(page).as_deref(), Some(page));
        }
        for text in ["javascript:alert(1)", "/a#b", "#a", "https://id.example.org/#a b", "https://id.example.org/#a\nb", ""] {
            assert_eq!(told(text), None, "{text}");
        }
    }

    #[test]
    fn names_that_anybody_makes_up_take_a_bounded_part_of_memory() {
        let resources = Resources::default();
        let server = super::super::testing::config().identity;
        let key = |number: u32| ResourceKey { server, owner: None, name: format!("{number}{}", "x".repeat(8 * 1024)).into(), alone: true };
        for number in 0..3_000 {
            resources.keep(&key(number), None);
        }
        resources.unknown.run_pending_tasks();
        assert!((1..=UNKNOWN).contains(&resources.unknown.weighted_size()));
        assert!(resources.unknown.entry_count() * 8 * 1024 <= UNKNOWN, "{}", resources.unknown.entry_count());
    }

    #[test]
    fn an_id_stands_in_a_path_as_the_server_wrote_it_and_leads_nowhere_else() {
        let endpoint = Endpoint { uri: "https://id.example.org/openam/oauth2/resource_set".parse().unwrap(), host: http::HeaderValue::from_static("id") };
        let path = |id: &str| below(&endpoint, &ResourceId(id.into())).unwrap().uri.path().rsplit_once("resource_set/").unwrap().1.to_owned();
        assert_eq!(path("05bce9a9-9b9c_436d~0"), "05bce9a9-9b9c_436d~0");
        assert_eq!(path(".."), "%2E%2E");
        assert_eq!(path("a/../b?c#d e%2F"), "a%2F%2E%2E%2Fb%3Fc%23d%20e%252F");
    }
}
