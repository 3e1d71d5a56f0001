//! A realm as its owners, resource servers and administrator use it. Nothing here goes through the gateway.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use uma_gateway::http_client::{HttpClient, basic_auth, form};

use super::people::{Application, text};
use super::{ClientKey, http, keycloak, send, unique};

const FORM: &str = "application/x-www-form-urlencoded";

/// A realm, seen by one of its resource servers.
pub struct Realm {
    name: &'static str,
    client: String,
    secret: String,
    http: HttpClient,
}

/// A resource of a test's own.
#[derive(Clone, Debug)]
pub struct Album {
    pub id: String,
    pub name: String,
}

impl Album {
    /// How a route names it.
    pub fn by_name(&self) -> String {
        format!("{{ name: \"{}\", owner: alice }}", self.name)
    }

    /// The other way to name it.
    pub fn by_id(&self) -> String {
        format!("{{ id: {} }}", self.id)
    }
}

impl Realm {
    /// The realm of the photographs.
    pub fn photoz() -> Self {
        Self::of("photoz", "content-gateway", "gateway-secret")
    }

    /// The same realm by the resource server whose PAT and tickets live four seconds.
    pub fn short() -> Self {
        Self::of("photoz", "short-gateway", "short-gateway-secret")
    }

    /// Another realm.
    pub fn research() -> Self {
        Self::of("research", "content-gateway", "research-secret")
    }

    /// The same realm by a resource server that was just made.
    pub async fn with_new_resource_server(self) -> Self {
        self.with_new_client(json!({ "standardFlowEnabled": false })).await
    }

    /// The same, where owners sign in as well; browsers go back to this address.
    pub async fn with_new_resource_server_for_owners(self, redirect: &str) -> Self {
        self.with_new_client(json!({ "standardFlowEnabled": true, "redirectUris": [redirect] })).await
    }

    async fn with_new_client(mut self, more: Value) -> Self {
        let (client, secret) = (unique("gateway").replace(' ', "-"), "secret".to_owned());
        let mut description = json!({ "clientId": client, "secret": secret, "publicClient": false, "serviceAccountsEnabled": true,
            "directAccessGrantsEnabled": true, "authorizationServicesEnabled": true });
        let more = more.as_object().expect("members").clone();
        description.as_object_mut().expect("members").extend(more);
        self.administer(Method::POST, "/clients", &description).await;
        (self.client, self.secret) = (client, secret);
        self
    }

    fn of(name: &'static str, client: &str, secret: &str) -> Self {
        Self { name, client: client.into(), secret: secret.into(), http: http() }
    }

    pub fn issuer(&self) -> String {
        format!("{}/realms/{}", keycloak(), self.name)
    }

    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub fn client(&self) -> (&str, &str) {
        (&self.client, &self.secret)
    }

    // The resource server's side.

    /// Registers an album of Alice's, with `view` and `edit`.
    pub async fn album(&self) -> Album {
        self.register(&unique("Album")).await
    }

    /// Registers an album of Alice's by this name.
    pub async fn register(&self, name: &str) -> Album {
        let description = json!({ "name": name, "owner": "alice", "ownerManagedAccess": true, "resource_scopes": ["view", "edit"] });
        let answer = self.protection(Method::POST, "resource_set", Some(&description)).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        Album { id: text(&read(&answer), "_id"), name: name.to_owned() }
    }

    /// Registers a resource of this owner's, or of the client's own, with these scopes, for these paths.
    pub async fn register_with_uris(&self, owner: Option<&str>, scopes: &[&str], uris: &[&str]) -> Album {
        let name = unique("Resource");
        let mut description = json!({ "name": name, "ownerManagedAccess": owner.is_some(), "resource_scopes": scopes, "uris": uris });
        if let Some(owner) = owner {
            description["owner"] = owner.into();
        }
        let answer = self.protection(Method::POST, "resource_set", Some(&description)).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{answer:?}");
        Album { id: text(&read(&answer), "_id"), name }
    }

    /// Deletes it.
    pub async fn delete(&self, album: &Album) {
        let answer = self.protection(Method::DELETE, &format!("resource_set/{}", album.id), None).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }

    /// The ids of all resources of this name and owner.
    pub async fn named(&self, name: &str, owner: &str) -> Vec<String> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", name).append_pair("owner", owner).finish();
        let answer = self.protection(Method::GET, &format!("resource_set?exactName=true&{query}"), None).await;
        serde_json::from_slice(answer.body()).expect("a list of ids")
    }

    /// Owner's name, type and scopes (in order) of a resource.
    pub async fn described(&self, name: &str, owner: &str) -> (String, Option<String>, Vec<String>) {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", name).append_pair("owner", owner).finish();
        let answer = self.protection(Method::GET, &format!("resource_set?deep=true&exactName=true&{query}"), None).await;
        let resource = &read(&answer)[0];
        let mut scopes: Vec<String> = resource["scopes"].as_array().expect("scopes").iter().map(|scope| text(scope, "name")).collect();
        scopes.sort();
        (text(&resource["owner"], "name"), resource["type"].as_str().map(str::to_owned), scopes)
    }

    /// The requests that wait for the owner.
    pub async fn pending(&self, album: &Album) -> Vec<Value> {
        let answer = self.protection(Method::GET, &format!("permission/ticket?resourceId={}&returnNames=true&granted=false", album.id), None).await;
        serde_json::from_slice(answer.body()).expect("a list")
    }

    /// Grants one of them.
    pub async fn approve(&self, mut request: Value) {
        request["granted"] = json!(true);
        let answer = self.protection(Method::PUT, "permission/ticket", Some(&request)).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }

    // The owner's side.

    /// Alice shares; returns the policy.
    pub async fn share(&self, album: &Album, user: &str, scopes: &[&str]) -> String {
        let fields = [("grant_type", "password"), ("username", "alice"), ("password", "alice")];
        let (status, token) = self.token(&self.client, &self.secret, &fields).await;
        assert_eq!(status, StatusCode::OK, "alice cannot sign in: {token}");
        let policy = json!({ "name": unique("share"), "users": [user], "scopes": scopes });
        let answer = self.call(Method::POST, &format!("authz/protection/uma-policy/{}", album.id), &text(&token, "access_token"), Some(&policy)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", read(&answer));
        text(&read(&answer), "id")
    }

    /// Alice takes it back.
    pub async fn withdraw(&self, policy: &str) {
        let fields = [("grant_type", "password"), ("username", "alice"), ("password", "alice")];
        let (_, token) = self.token(&self.client, &self.secret, &fields).await;
        let answer = self.call(Method::DELETE, &format!("authz/protection/uma-policy/{policy}"), &text(&token, "access_token"), None).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }

    // The administrator's side.

    /// From now on this realm's resource server shows who it is by what this key signs, and by no secret.
    pub async fn believe_key(&self, key: &ClientKey) {
        let found = self.administer(Method::GET, &format!("/clients?clientId={}", self.client), &Value::Null).await;
        let mut description = read(&found)[0].clone();
        description["clientAuthenticatorType"] = "client-jwt".into();
        description["attributes"]["use.jwks.string"] = "true".into();
        description["attributes"]["jwks.string"] = key.jwks().to_string().into();
        self.administer(Method::PUT, &format!("/clients/{}", text(&description, "id")), &description).await;
    }

    /// Makes a user whose password is the name; returns the name.
    pub async fn new_user(&self) -> String {
        let name = unique("user").replace(' ', "-");
        let user = json!({ "username": name, "enabled": true, "email": format!("{name}@photoz.example"), "emailVerified": true, "firstName": "New",
            "lastName": "User", "credentials": [{ "type": "password", "value": name, "temporary": false }] });
        let answer = self.administer(Method::POST, "/users", &user).await;
        assert!(answer.headers().contains_key(LOCATION));
        name
    }

    /// A user's own tokens from this realm's resource server open the protection API.
    pub async fn let_protect(&self, user: &str) {
        let found = self.administer(Method::GET, &format!("/clients?clientId={}", self.client), &Value::Null).await;
        let client = text(&read(&found)[0], "id");
        let role = read(&self.administer(Method::GET, &format!("/clients/{client}/roles/uma_protection"), &Value::Null).await);
        let user = self.user(user).await;
        self.administer(Method::POST, &format!("/users/{user}/role-mappings/clients/{client}"), &json!([role])).await;
    }

    /// Makes a client scope by which owners share, with this realm's resource server as audience, and lets an application ask for it; returns its name.
    pub async fn let_share(&self, application: Application) -> String {
        let name = unique("share").replace(' ', "-");
        let config = json!({ "included.client.audience": self.client, "access.token.claim": "true", "introspection.token.claim": "true" });
        let audience = json!({ "name": "gateway", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper", "config": config });
        let scope = json!({ "name": name, "protocol": "openid-connect", "attributes": { "include.in.token.scope": "true" }, "protocolMappers": [audience] });
        let made = self.administer(Method::POST, "/client-scopes", &scope).await;
        let id = made.headers()[LOCATION].to_str().expect("text").rsplit('/').next().expect("an id");
        let found = self.administer(Method::GET, &format!("/clients?clientId={}", application.id), &Value::Null).await;
        let client = text(&read(&found)[0], "id");
        self.administer(Method::PUT, &format!("/clients/{client}/optional-client-scopes/{id}"), &Value::Null).await;
        name
    }

    /// A user's consent may outlive the session; what the realm's files give to nobody.
    pub async fn let_consent_offline(&self, user: &str) {
        let role = read(&self.administer(Method::GET, "/roles/offline_access", &Value::Null).await);
        let user = self.user(user).await;
        self.administer(Method::POST, &format!("/users/{user}/role-mappings/realm"), &json!([role])).await;
    }

    /// A user takes back what was consented to for this realm's resource server.
    pub async fn take_consent_back(&self, user: &str) {
        let user = self.user(user).await;
        self.administer(Method::DELETE, &format!("/users/{user}/consents/{}", self.client), &Value::Null).await;
    }

    async fn user(&self, name: &str) -> String {
        let found = self.administer(Method::GET, &format!("/users?exact=true&username={name}"), &Value::Null).await;
        text(&read(&found)[0], "id")
    }

    /// Takes a user out of service.
    pub async fn disable(&self, user: &str) {
        let found = self.administer(Method::GET, &format!("/users?exact=true&username={user}"), &Value::Null).await;
        let mut description = read(&found)[0].clone();
        description["enabled"] = json!(false);
        self.administer(Method::PUT, &format!("/users/{}", text(&description, "id")), &description).await;
    }

    /// Every token of this realm's resource server that was issued before `time` counts no more.
    pub async fn refuse_tokens_before(&self, time: i64) {
        let found = self.administer(Method::GET, &format!("/clients?clientId={}", self.client), &Value::Null).await;
        let mut description = read(&found)[0].clone();
        description["notBefore"] = json!(time);
        self.administer(Method::PUT, &format!("/clients/{}", text(&description, "id")), &description).await;
    }

    async fn administer(&self, method: Method, path: &str, body: &Value) -> Response<Bytes> {
        let token = form(&[("client_id", "admin-cli"), ("grant_type", "password"), ("username", "admin"), ("password", "admin")]);
        let request = Request::post(format!("{}/realms/master/protocol/openid-connect/token", keycloak())).header(CONTENT_TYPE, FORM);
        let token = text(&read(&send(&self.http, request.body(token).expect("a request")).await), "access_token");
        let request = Request::builder().method(&method).uri(format!("{}/admin/realms/{}{path}", keycloak(), self.name));
        let request = request.header(AUTHORIZATION, format!("Bearer {token}")).header(CONTENT_TYPE, "application/json");
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = send(&self.http, request.body(body).expect("a request")).await;
        assert!(answer.status().is_success(), "{method} {path}: {} {:?}", answer.status(), answer.body());
        answer
    }

    // The wire.

    /// A call to the token endpoint.
    pub async fn token(&self, client: &str, secret: &str, fields: &[(&str, &str)]) -> (StatusCode, Value) {
        self.form("token", client, secret, fields).await
    }

    /// A call to one of the endpoints that take a form.
    pub async fn form(&self, endpoint: &str, client: &str, secret: &str, fields: &[(&str, &str)]) -> (StatusCode, Value) {
        let request = Request::post(format!("{}/protocol/openid-connect/{endpoint}", self.issuer()));
        let request = request.header(CONTENT_TYPE, FORM).header(AUTHORIZATION, basic_auth(client, secret));
        let answer = send(&self.http, request.body(form(fields)).expect("a request")).await;
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    async fn protection(&self, method: Method, path: &str, body: Option<&Value>) -> Response<Bytes> {
        let (status, pat) = self.token(&self.client, &self.secret, &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, StatusCode::OK, "no PAT: {pat}");
        self.call(method, &format!("authz/protection/{path}"), &text(&pat, "access_token"), body).await
    }

    async fn call(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(format!("{}/{path}", self.issuer()));
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).expect("a token");
        let request = request.header(AUTHORIZATION, bearer).header(CONTENT_TYPE, "application/json");
        send(&self.http, request.body(body.map(Value::to_string).unwrap_or_default().into()).expect("a request")).await
    }
}

fn read(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}
