//! Resource registration (UMA 2.0 Federated Authorization, 3).

use http::header::{IF_MATCH, LOCATION};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::asked::{Asked, Parameters};
use super::mint;
use super::protection::Protector;
use super::state::{Resource, State, subject};

impl State {
    pub(super) fn resource_set(&mut self, asked: &Asked, id: Option<&str>) -> Answer {
        let protector = match self.protector(asked) {
            Ok(protector) => protector,
            Err(refusal) => return refusal,
        };
        let answered = match (id, asked.method.as_str()) {
            (None, "GET") => Ok(self.list_resources(&asked.query, &protector)),
            (None, "POST") => self.create_resource(asked, &protector),
            (Some(id), "GET") => self.own_resource(id, &protector).map(|resource| Answer::json(StatusCode::OK, &self.describe(resource))),
            (Some(id), "PUT") => self.replace_resource(asked, id, &protector),
            (Some(id), "DELETE") => self.delete_resource(id, &protector),
            _ => Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, "unsupported_method_type", "")),
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    fn own_resource(&self, id: &str, protector: &Protector) -> Result<&Resource, Answer> {
        let known = self.resources.get(id).filter(|resource| belongs(resource, protector));
        known.ok_or_else(|| if self.keycloak() { Answer::empty(StatusCode::NOT_FOUND) } else { Answer::error(StatusCode::NOT_FOUND, "not_found", "") })
    }

    /// The ids of the protector's resources. The query is Keycloak's; without one it is the list of the specification.
    fn list_resources(&self, query: &Parameters, protector: &Protector) -> Answer {
        let exact = query.get("exactName") == Some("true");
        let fits_name = |resource: &Resource| {
            // Keycloak folds case, also where the name is to be exact.
            let name_of = resource.name().to_lowercase();
            query.get("name").map(str::to_lowercase).is_none_or(|name| if exact { name_of == name } else { name_of.contains(&name) })
        };
        let fits_owner = |resource: &Resource| {
            query.get("owner").is_none_or(|owner| resource.owner.to_lowercase() == owner.to_lowercase() || subject(&resource.owner) == owner)
        };
        let fits_uri = |resource: &Resource| query.get("uri").is_none_or(|wanted| uris(resource).any(|uri| uri == wanted));
        let fits_type = |resource: &Resource| query.get("type").is_none_or(|kind| resource.description.get("type").is_some_and(|own| own == kind));
        let fits_scope = |resource: &Resource| query.get("scope").is_none_or(|scope| resource.scopes.iter().any(|own| own == scope));
        let fits = |resource: &&Resource| {
            belongs(resource, protector) && fits_name(resource) && fits_owner(resource) && fits_uri(resource) && fits_type(resource) && fits_scope(resource)
        };
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let mut found: Vec<&Resource> = self.resources.values().filter(fits).collect();
        // Only where no resource has the text itself, and only among those of the client: what Keycloak does.
        if let Some(wanted) = query.get("uri").filter(|_| found.is_empty() && query.get("matchingUri") == Some("true")) {
            let own = self.resources.values().filter(|resource| belongs(resource, protector) && resource.owner == resource.client);
            found.extend(
                own.filter_map(|resource| Some((uris(resource).filter(|uri| in_folder(uri, wanted)).map(str::len).max()?, resource)))
                    .max_by_key(|(length, _)| *length)
                    .map(|(_, resource)| resource),
            );
        }
        let found = found.into_iter();
        let found = found.skip(number("first").unwrap_or(0)).take(number("max").unwrap_or(if self.keycloak() { 100 } else { usize::MAX }));
        let deep = query.get("deep") == Some("true");
        let list: Vec<Value> = found.map(|resource| if deep { self.listed(resource) } else { resource.id.clone().into() }).collect();
        Answer::json(StatusCode::OK, &list.into())
    }

    fn create_resource(&mut self, asked: &Asked, protector: &Protector) -> Result<Answer, Answer> {
        let description = self.description(asked)?;
        let owner = protector.owner.clone().or_else(|| named_owner(&description)).unwrap_or_else(|| protector.client.clone());
        if owner != protector.client && !self.users.contains_key(&owner) {
            return Err(if self.keycloak() {
                Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "unknown_error", "")
            } else {
                Answer::bad_request("invalid_request", "nobody has this owner's name")
            });
        }
        if self.keycloak() {
            let name = description.get("name").and_then(Value::as_str);
            let taken = |resource: &Resource| Some(resource.name().as_str()) == name && resource.owner == owner;
            if name.is_none() || self.resources.values().any(taken) {
                return Err(Answer::error(StatusCode::CONFLICT, "invalid_request", "Resource with name already exists."));
            }
        }
        let id = match self.of_that_name(&description) {
            Some(id) => id,
            None => self.add_resource(&owner, &protector.client, description),
        };
        let body = match self.resources.get(&id) {
            Some(resource) if self.keycloak() => self.describe(resource),
            _ => json!({ "_id": id, "user_access_policy_uri": format!("{}/", self.issuer) }),
        };
        let answer = Answer::json(StatusCode::CREATED, &body);
        // Keycloak sends no `Location`.
        let location = HeaderValue::from_str(&format!("{}/resource_set/{id}", self.issuer)).ok().filter(|_| !self.keycloak());
        Ok(match location {
            Some(location) => answer.with(LOCATION, location),
            None => answer,
        })
    }

    /// The resource whose place a description takes, where resources are one of a name.
    fn of_that_name(&mut self, description: &Map<String, Value>) -> Option<String> {
        let name = description.get("name").and_then(Value::as_str).filter(|_| self.settings.one_of_a_name)?;
        let known = self.resources.values_mut().find(|resource| resource.name() == name)?;
        known.scopes = scopes_of(description).unwrap_or_default();
        known.description.clone_from(description);
        Some(known.id.clone())
    }

    /// Keeps a resource and gives its id.
    pub(super) fn add_resource(&mut self, owner: &str, client: &str, description: Map<String, Value>) -> String {
        let id = mint::uuid();
        let scopes = scopes_of(&description).unwrap_or_default();
        let resource = Resource { id: id.clone(), owner: owner.to_owned(), client: client.to_owned(), scopes, description };
        self.resources.insert(id.clone(), resource);
        id
    }

    fn replace_resource(&mut self, asked: &Asked, id: &str, protector: &Protector) -> Result<Answer, Answer> {
        self.own_resource(id, protector)?;
        if self.uma1() && !asked.headers.contains_key(IF_MATCH) {
            return Err(Answer::bad_request("server_error", "precondition_failed (512) - Require If-Match header to update Resource Set"));
        }
        let description = self.description(asked)?;
        let scopes = scopes_of(&description).unwrap_or_default();
        if let Some(resource) = self.resources.get_mut(id) {
            resource.scopes = scopes;
            resource.description = description;
        }
        let uri = format!("{}/", self.issuer);
        Ok(if self.keycloak() {
            Answer::empty(StatusCode::NO_CONTENT)
        } else {
            Answer::json(StatusCode::OK, &json!({ "_id": id, "user_access_policy_uri": uri }))
        })
    }

    fn delete_resource(&mut self, id: &str, protector: &Protector) -> Result<Answer, Answer> {
        self.own_resource(id, protector)?;
        self.remove_resource(id);
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn remove_resource(&mut self, id: &str) -> bool {
        self.shares.retain(|(resource, _), _| resource != id);
        self.resources.remove(id).is_some()
    }

    /// A description with the scopes that it must have (UMA 2.0 Federated Authorization, 3.1).
    fn description(&self, asked: &Asked) -> Result<Map<String, Value>, Answer> {
        let malformed = |why| Answer::bad_request("invalid_request", why);
        let value: Value = serde_json::from_slice(&asked.body).map_err(|_| malformed("the body is not JSON"))?;
        let Value::Object(description) = value else { return Err(malformed("the body is not an object")) };
        if self.uma1() && (!description.contains_key("scopes") || description.contains_key("resource_scopes") || description.contains_key("_id")) {
            return Err(Answer::bad_request("bad_request", "Invalid Resource Set Description. Missing required attribute, 'scopes'."));
        }
        if scopes_of(&description).is_none() && !(self.keycloak() && description.get("resource_scopes").is_none()) {
            return Err(malformed("resource_scopes is missing or holds other things than texts"));
        }
        Ok(description)
    }

    /// A description in a list: there Keycloak tells the owner's name, too.
    fn listed(&self, resource: &Resource) -> Value {
        let mut description = self.describe(resource);
        if let Some(owner) = description.get_mut("owner").and_then(Value::as_object_mut) {
            owner.insert("name".into(), resource.owner.clone().into());
        }
        description
    }

    fn describe(&self, resource: &Resource) -> Value {
        let mut description = resource.description.clone();
        description.insert("_id".into(), resource.id.clone().into());
        if self.keycloak() {
            let scopes: Vec<Value> = resource.scopes.iter().map(|scope| json!({ "id": format!("id-of-{scope}"), "name": scope })).collect();
            description.insert("resource_scopes".into(), scopes.clone().into());
            description.insert("scopes".into(), scopes.into());
            let service = resource.owner == resource.client;
            let id = if service { resource.owner.clone() } else { subject(&resource.owner) };
            description.insert("owner".into(), json!({ "id": id }));
        } else if self.uma1() {
            description.remove("resource_scopes");
            description.insert("scopes".into(), resource.scopes.clone().into());
            description.insert("labels".into(), json!([]));
            description.insert("user_access_policy_uri".into(), format!("{}/", self.issuer).into());
        } else {
            description.insert("resource_scopes".into(), resource.scopes.clone().into());
            description.insert("owner".into(), resource.owner.clone().into());
            description.insert("user_access_policy_uri".into(), format!("{}/", self.issuer).into());
        }
        if self.settings.one_of_a_name {
            description.remove("owner");
        }
        description.into()
    }
}

fn uris(resource: &Resource) -> impl Iterator<Item = &str> {
    resource.description.get("uris").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a pattern `/folder/*` has the path.
fn in_folder(pattern: &str, path: &str) -> bool {
    let behind = pattern.strip_suffix("/*").and_then(|folder| path.strip_prefix(folder));
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/'))
}

fn belongs(resource: &Resource, protector: &Protector) -> bool {
    resource.client == protector.client && protector.owner.as_ref().is_none_or(|owner| *owner == resource.owner)
}

fn named_owner(description: &Map<String, Value>) -> Option<String> {
    let owner = description.get("owner")?;
    let name = owner.as_str().or_else(|| owner.get("name").and_then(Value::as_str))?;
    Some(name.strip_prefix("id-of-").unwrap_or(name).to_owned())
}

/// The scopes of a description: texts or, with Keycloak, objects with a name.
fn scopes_of(description: &Map<String, Value>) -> Option<Vec<String>> {
    let list = description.get("resource_scopes").or_else(|| description.get("scopes"))?.as_array()?;
    list.iter().map(|scope| scope.as_str().or_else(|| scope.get("name").and_then(Value::as_str)).map(str::to_owned)).collect()
}
