//! The owners' side, and that of whoever tests: shares, withdrawals, counts, faults.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::demo::door::Door;
use serde_json::{Map, Value, json};

use super::asked::{Endpoint, Seen};
use super::faults::Fault;
use super::mint;
use super::serve::Shared;
use super::state::{Client, Granted, Resource, State, TokenKind, User};
use super::uma_grant::merge;
use crate::jose::VerifyingKeys;

/// The resource server whose resources [`Control::register`] makes.
const GATEWAY: &str = "content-gateway";
/// The application that [`Control::grant_rpt`] grants to.
const APPLICATION: &str = "client-app";

/// A handle to a running server. Clones share it and may go to other threads.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
    door: Door,
}

/// Who is who.
impl Control {
    pub(super) const fn new(shared: Arc<Shared>, door: Door) -> Self {
        Self { shared, door }
    }

    /// Adds a user, or gives one a new password.
    pub fn add_user(&self, name: &str, password: &str) {
        self.state(|state| state.users.insert(name.to_owned(), User::new(password)));
    }

    /// Adds an application; without a secret it is a public client. It may redirect to loopback and ask for these scopes besides a ticket's.
    pub fn add_client(&self, id: &str, secret: Option<&str>, scopes: &[&str]) {
        let redirects = vec!["http://127.0.0.1".into(), "http://[::1]".into()];
        let client = Client { redirects, scopes: owned(scopes), ..Client::new(secret) };
        self.state(|state| state.clients.insert(id.to_owned(), client));
    }

    /// Adds a resource server, with a PAT by client credentials.
    pub fn add_resource_server(&self, id: &str, secret: &str) {
        let client = Client { protection: true, resource_server: true, service_account: true, ..Client::new(Some(secret)) };
        self.state(|state| state.clients.insert(id.to_owned(), client));
    }

    /// From now on a client shows who it is by assertions that this key has signed, and by no secret.
    pub fn believe_key(&self, client: &str, key: VerifyingKeys) {
        self.client(client, |client| (client.secret, client.key) = (None, Some(key)));
    }

    /// From now on a client shows no secret: whoever ends TLS in front of this server has looked at its certificate.
    pub fn believe_certificate(&self, client: &str) {
        self.client(client, |client| (client.secret, client.certified) = (None, true));
    }

    /// Gives a client the right to a PAT, or takes it.
    pub fn allow_protection(&self, client: &str, allowed: bool) {
        self.client(client, |client| client.protection = allowed);
    }

    /// Makes a client a resource server, or no longer one (Keycloak: its authorization services are off).
    pub fn authorization_services(&self, client: &str, on: bool) {
        self.client(client, |client| client.resource_server = on);
    }

    /// Enables or disables a user; tokens of a disabled one are inactive.
    pub fn enable_user(&self, user: &str, enabled: bool) {
        self.state(|state| {
            if let Some(user) = state.users.get_mut(user) {
                user.enabled = enabled;
            }
        });
    }

    /// Ends a user's session; all its tokens are inactive from now on.
    pub fn log_out(&self, user: &str) {
        self.state(|state| {
            if let Some(user) = state.users.get_mut(user) {
                user.session = mint::uuid();
            }
        });
    }

    fn client(&self, id: &str, change: impl FnOnce(&mut Client)) {
        self.state(|state| state.clients.get_mut(id).map(change));
    }

    pub(super) fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.shared.lock())
    }
}

/// What owners do.
impl Control {
    /// Registers a resource of an owner with the gateway's client and gives its id.
    pub fn register(&self, owner: &str, name: &str, scopes: &[&str]) -> String {
        self.register_at(GATEWAY, owner, name, scopes)
    }

    /// Registers a resource with another resource server's client.
    pub fn register_at(&self, client: &str, owner: &str, name: &str, scopes: &[&str]) -> String {
        let description = Map::from_iter([("name".to_owned(), json!(name)), ("resource_scopes".to_owned(), json!(scopes))]);
        self.state(|state| state.add_resource(owner, client, description))
    }

    /// Registers a resource with the paths that it stands for, as Keycloak knows them.
    pub fn register_with_uris(&self, owner: &str, name: &str, scopes: &[&str], uris: &[&str]) -> String {
        let description = Map::from_iter([("name".to_owned(), json!(name)), ("resource_scopes".to_owned(), json!(scopes)), ("uris".to_owned(), json!(uris))]);
        self.state(|state| state.add_resource(owner, GATEWAY, description))
    }

    /// Registers a resource under an id of the caller's choice.
    pub fn register_with_id(&self, id: &str, owner: &str, name: &str, scopes: &[&str]) {
        let given = self.register(owner, name, scopes);
        self.state(|state| {
            if let Some(resource) = state.resources.remove(&given) {
                state.resources.insert(id.to_owned(), Resource { id: id.to_owned(), ..resource });
            }
        });
    }

    /// The id of the resource with this name or id.
    #[must_use]
    pub fn resource_id(&self, name: &str) -> Option<String> {
        self.state(|state| state.find_resource(name).map(|resource| resource.id.clone()))
    }

    /// The descriptions of all resources: owner and what was registered.
    #[must_use]
    pub fn resources(&self) -> Vec<(String, Map<String, Value>)> {
        self.state(|state| state.resources.values().map(|resource| (resource.owner.clone(), resource.description.clone())).collect())
    }

    /// Removes a resource by id or name; its shares go with it.
    pub fn remove_resource(&self, resource: &str) -> bool {
        self.state(|state| {
            let id = state.find_resource(resource).map(|found| found.id.clone());
            id.is_some_and(|id| state.remove_resource(&id))
        })
    }

    /// The owner shares a resource (by id or name) with a user; scopes add up. False: there is no such resource of this owner.
    pub fn share(&self, owner: &str, resource: &str, user: &str, scopes: &[&str]) -> bool {
        self.state(|state| state.share_with(owner, resource, user, owned(scopes)))
    }

    /// The owner withdraws whatever is shared with a user. False: nothing was.
    pub fn withdraw(&self, owner: &str, resource: &str, user: &str) -> bool {
        self.state(|state| state.withdraw_from(owner, resource, user))
    }

    /// The owner withdraws some scopes.
    pub fn withdraw_scopes(&self, owner: &str, resource: &str, user: &str, scopes: &[&str]) {
        self.state(|state| {
            let share = state.owned_by(owner, resource).and_then(|id| state.shares.get_mut(&(id, user.to_owned())));
            if let Some(share) = share {
                share.retain(|scope| !scopes.contains(&scope.as_str()));
            }
        });
    }

    /// What a token's permissions were when it was issued: names of resources, and scopes.
    #[must_use]
    pub fn permissions(&self, token: &str) -> Vec<(String, Vec<String>)> {
        self.state(|state| {
            let granted = state.tokens.get(token).map(|token| token.permissions.clone()).unwrap_or_default();
            let name = |id: &str| state.resources.get(id).map_or_else(|| id.to_owned(), Resource::name);
            granted.into_iter().map(|granted| (name(&granted.resource), granted.scopes)).collect()
        })
    }

    /// Requests that no share covers wait for their owner, and clients are told to ask again after so many seconds. `None`: they are denied (the default).
    pub fn ask_owners(&self, interval: Option<u64>) {
        self.state(|state| state.settings.ask_owner = interval);
    }

    /// The requests that wait: resource id, user, scopes.
    #[must_use]
    pub fn pending(&self) -> Vec<(String, String, Vec<String>)> {
        self.state(|state| state.pending.iter().map(|pending| (pending.resource.clone(), pending.user.clone(), pending.scopes.clone())).collect())
    }

    /// The owner approves every request that waits; gives their number.
    pub fn approve_all(&self) -> usize {
        self.state(|state| {
            let pending = std::mem::take(&mut state.pending);
            for request in &pending {
                state.shares.entry((request.resource.clone(), request.user.clone())).or_default().extend(request.scopes.clone());
            }
            pending.len()
        })
    }
}

/// Tokens and tickets.
impl Control {
    /// Shares the resources (by id or name) with a user and issues an RPT for them to the application, without any HTTP. The lifetime is in seconds.
    /// Unknown resources are left out.
    pub fn grant_rpt(&self, user: &str, permissions: &[(&str, &[&str])], lifetime: i64) -> String {
        self.state(|state| {
            let granted = granted(state, user, permissions, lifetime);
            let mut token = state.new_token(TokenKind::Rpt, Some(user), APPLICATION, "", lifetime);
            GATEWAY.clone_into(&mut token.audience);
            token.permissions = granted;
            token.extra = state.next_rpt_claims.clone();
            state.issue_token(token)
        })
    }

    /// Issues a plain access token: active, without permissions.
    pub fn access_token(&self, user: &str, scope: &str, lifetime: i64) -> String {
        self.state(|state| {
            let token = state.new_token(TokenKind::Access, Some(user), APPLICATION, scope, lifetime);
            state.issue_token(token)
        })
    }

    /// Whose token this is, if a person's.
    #[must_use]
    pub fn user_of(&self, token: &str) -> Option<String> {
        self.state(|state| state.tokens.get(token).and_then(|token| token.user.clone()))
    }

    /// Adds a permission (and its share) to an RPT whose text stays the same (UMA 2.0 Grant, 3.3.5.1).
    pub fn upgrade_in_place(&self, rpt: &str, resource: &str, scopes: &[&str]) -> bool {
        self.state(|state| {
            let Some(token) = state.tokens.get(rpt).cloned() else { return false };
            let more = granted(state, &token.user.unwrap_or_default(), &[(resource, scopes)], token.exp.saturating_sub(token.iat));
            state.tokens.get_mut(rpt).map(|token| merge(&mut token.permissions, &more)).is_some()
        })
    }

    /// Members that every RPT from now on carries in its answer to introspection (and, with the JWT form, in its payload), instead of what would be there.
    pub fn rpt_claims(&self, claims: Map<String, Value>) {
        self.state(|state| state.next_rpt_claims = claims);
    }

    /// Revokes one token.
    pub fn revoke(&self, token: &str) {
        self.state(|state| {
            if let Some(token) = state.tokens.get_mut(token) {
                token.revoked = true;
            }
        });
    }

    /// Whether the PAT that was issued last has been shown to the permission or the resource registration endpoint since. True: none was issued.
    #[must_use]
    pub fn newest_pat_was_used(&self) -> bool {
        self.state(|state| {
            let shown = |text: &str| {
                let seen = [Endpoint::Permission, Endpoint::ResourceSet].into_iter().filter_map(|endpoint| state.seen.get(&endpoint)).flatten();
                let expected = format!("Bearer {text}");
                seen.into_iter().any(|seen| seen.headers.get(http::header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes()))
            };
            state.newest_pat.as_deref().is_none_or(shown)
        })
    }

    /// Revokes every PAT; new ones can be had.
    pub fn revoke_pats(&self) {
        self.state(|state| state.tokens.values_mut().filter(|token| token.kind == TokenKind::Pat).for_each(|token| token.revoked = true));
    }

    /// Forgets every ticket: all are unknown from now on.
    pub fn forget_tickets(&self) {
        self.state(|state| state.tickets.clear());
    }

    /// The ticket that was issued last.
    #[must_use]
    pub fn last_ticket(&self) -> Option<String> {
        self.state(|state| state.issued_tickets.last().cloned())
    }

    /// Every ticket that was issued, in order.
    #[must_use]
    pub fn tickets(&self) -> Vec<String> {
        self.state(|state| state.issued_tickets.clone())
    }
}

/// Lifetimes (in seconds) and habits.
impl Control {
    /// Lifetime of a PAT.
    pub fn pat_lifetime(&self, seconds: i64) {
        self.state(|state| state.settings.pat_lifetime = seconds);
    }

    /// Lifetime of access and claims tokens.
    pub fn token_lifetime(&self, seconds: i64) {
        self.state(|state| state.settings.token_lifetime = seconds);
    }

    /// Lifetime of an RPT that is had by HTTP.
    pub fn rpt_lifetime(&self, seconds: i64) {
        self.state(|state| state.settings.rpt_lifetime = seconds);
    }

    /// Lifetime of permissions, if not that of their RPT.
    pub fn permission_lifetime(&self, seconds: Option<i64>) {
        self.state(|state| state.settings.permission_lifetime = seconds);
    }

    /// Lifetime of a ticket (a Keycloak's ticket lives as long as the PAT).
    pub fn ticket_lifetime(&self, seconds: i64) {
        self.state(|state| state.settings.ticket_lifetime = seconds);
    }

    /// Length of a ticket in characters; 0 for the shortest.
    pub fn ticket_length(&self, characters: usize) {
        self.state(|state| state.settings.ticket_length = characters);
    }

    /// Whether an RPT that a client upgrades keeps its text. Only opaque RPTs can.
    pub fn upgrades_in_place(&self, keeps: bool) {
        self.state(|state| state.settings.upgrade_in_place = keeps);
    }

    /// Whether a resource is one of its name, whoever owns it: who registers the name again takes the place of what had it, under the same id, and no
    /// description says whose it is (the Keycloak of 2016).
    pub fn one_of_a_name(&self, only: bool) {
        self.state(|state| state.settings.one_of_a_name = only);
    }

    /// Sets the server's clock so many seconds ahead (or back) of the real one. `Date`, times in tokens and their ends follow it.
    pub fn set_clock(&self, seconds_ahead: i64) {
        self.state(|state| state.clock_offset = seconds_ahead);
    }

    /// The issuer that discovery, tokens and introspection name from now on.
    pub fn set_issuer(&self, issuer: &str) {
        self.state(|state| issuer.clone_into(&mut state.issuer));
    }
}

/// Calls that came.
impl Control {
    /// How many calls an endpoint has had since the start or the last [`Control::reset_calls`].
    #[must_use]
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.state(|state| state.calls.get(&endpoint).copied().unwrap_or(0))
    }

    /// How many calls there were at all.
    #[must_use]
    pub fn all_calls(&self) -> u64 {
        self.state(|state| state.calls.values().sum())
    }

    /// Starts counting and remembering anew.
    pub fn reset_calls(&self) {
        self.state(|state| {
            state.calls.clear();
            state.seen.clear();
        });
    }

    /// Waits until an endpoint has had at least so many calls.
    pub async fn called(&self, endpoint: Endpoint, times: u64) {
        let mut calls = self.shared.called.subscribe();
        while self.calls(endpoint) < times {
            if calls.changed().await.is_err() {
                return;
            }
        }
    }

    /// The calls of an endpoint, at most the last 1,000.
    #[must_use]
    pub fn requests(&self, endpoint: Endpoint) -> Vec<Seen> {
        self.state(|state| state.seen.get(&endpoint).cloned().unwrap_or_default())
    }

    /// The last call of an endpoint.
    #[must_use]
    pub fn last_request(&self, endpoint: Endpoint) -> Option<Seen> {
        self.state(|state| state.seen.get(&endpoint).and_then(|seen| seen.last().cloned()))
    }

    /// The body of the last permission request.
    #[must_use]
    pub fn last_permission_request(&self) -> Option<Value> {
        self.last_request(Endpoint::Permission).and_then(|seen| seen.json())
    }
}

/// Ways to fail.
impl Control {
    /// The next so many calls of an endpoint fail in this way, once the faults that were armed before are used up.
    pub fn fail_next(&self, endpoint: Endpoint, times: u32, fault: Fault) {
        self.state(|state| state.faults.arm(endpoint, fault, Some(times)));
    }

    /// Calls of an endpoint fail in this way until [`Control::heal`].
    pub fn fail(&self, endpoint: Endpoint, fault: Fault) {
        self.state(|state| state.faults.arm(endpoint, fault, None));
    }

    /// Disarms every fault of an endpoint.
    pub fn heal(&self, endpoint: Endpoint) {
        self.state(|state| state.faults.clear(endpoint));
    }

    /// Disarms every fault.
    pub fn heal_all(&self) {
        self.state(|state| state.faults.clear_all());
    }

    /// Stops listening and breaks every connection: from the end of this call the address refuses. What the server knows it keeps.
    pub async fn stop(&self) {
        self.door.shut().await;
    }

    /// Listens again on the same address.
    pub async fn resume(&self) {
        self.door.reopen().await;
    }
}

fn owned(scopes: &[&str]) -> BTreeSet<String> {
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

fn granted(state: &mut State, user: &str, permissions: &[(&str, &[&str])], lifetime: i64) -> Vec<Granted> {
    let exp = state.now().saturating_add(lifetime);
    let mut list = Vec::new();
    for (resource, scopes) in permissions {
        let Some(id) = state.find_resource(resource).map(|found| found.id.clone()) else { continue };
        state.shares.entry((id.clone(), user.to_owned())).or_default().extend(owned(scopes));
        list.push(Granted { resource: id, scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(), exp });
    }
    list
}
