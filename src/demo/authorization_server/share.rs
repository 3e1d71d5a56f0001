//! Where owners share and withdraw. UMA leaves this to the server; here it is a form with the owner's name and password as Basic credentials.

use std::collections::BTreeSet;

use http::{Method, StatusCode};

use super::answer::Answer;
use super::asked::Asked;
use super::state::State;
use super::token::words;

impl State {
    /// `POST`: resource, user, scope (words). `DELETE` with resource and user in the query: withdrawn.
    pub(super) fn share(&mut self, asked: &Asked) -> Answer {
        let owner = match asked.client_credentials() {
            Ok(Some((name, Some(password)))) if self.user_is(&name, &password) => name,
            _ => return Answer::unauthorized("Basic realm=\"owners\"", "access_denied", "sign in as the owner"),
        };
        let parameters = if asked.method == Method::DELETE { &asked.query } else { &asked.form };
        let (Some(resource), Some(user)) = (parameters.get("resource"), parameters.get("user")) else {
            return Answer::bad_request("invalid_request", "resource or user is missing");
        };
        let done = match asked.method {
            Method::DELETE => self.withdraw_from(&owner, resource, user),
            Method::POST => {
                let scopes = words(parameters.get("scope").unwrap_or_default()).map(str::to_owned).collect();
                self.share_with(&owner, resource, user, scopes)
            }
            _ => return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "unsupported_method_type", ""),
        };
        if done { Answer::empty(StatusCode::NO_CONTENT) } else { Answer::error(StatusCode::NOT_FOUND, "not_found", "") }
    }

    /// Adds scopes to what the owner shares with a user. False: there is no such resource of this owner.
    pub(super) fn share_with(&mut self, owner: &str, resource: &str, user: &str, scopes: BTreeSet<String>) -> bool {
        let Some(id) = self.owned_by(owner, resource) else { return false };
        self.shares.entry((id, user.to_owned())).or_default().extend(scopes);
        true
    }

    /// Withdraws all that is shared with a user. False: nothing was.
    pub(super) fn withdraw_from(&mut self, owner: &str, resource: &str, user: &str) -> bool {
        self.owned_by(owner, resource).is_some_and(|id| self.shares.remove(&(id, user.to_owned())).is_some())
    }

    /// The id of an owner's resource, named by id or name.
    pub(super) fn owned_by(&self, owner: &str, resource: &str) -> Option<String> {
        let by_id = self.resources.get(resource);
        let found = by_id.or_else(|| self.resources.values().find(|found| found.name() == resource && found.owner == owner));
        found.filter(|found| found.owner == owner).map(|found| found.id.clone())
    }
}
