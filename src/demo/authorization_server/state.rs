//! What the server knows: users, clients, resources, shares, tickets, tokens. All of it in memory.
//!
//! Every method is plain and synchronous; `serve` holds the lock for one call of one. Nothing here sends or waits.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::asked::{Asked, Endpoint, Place, Seen};
use super::faults::Faults;
use super::{Kind, Options, RptForm, mint};
use crate::jose::VerifyingKeys;
use crate::secret::Secret;
use crate::uma::Timestamp;

/// How many calls of each endpoint are remembered.
const REMEMBERED: usize = 1_000;

pub(super) struct State {
    pub kind: Kind,
    pub issuer: String,
    pub settings: Settings,
    pub users: BTreeMap<String, User>,
    pub clients: BTreeMap<String, Client>,
    pub resources: BTreeMap<String, Resource>,
    /// (resource, user) → the scopes that the owner has granted.
    pub shares: BTreeMap<(String, String), BTreeSet<String>>,
    pub tickets: HashMap<String, Ticket>,
    pub tokens: HashMap<String, Token>,
    pub refresh_tokens: HashMap<String, Refresh>,
    pub codes: HashMap<String, Code>,
    /// Persisted claims tokens: client and user.
    pub pcts: HashMap<String, (String, String)>,
    pub pending: Vec<Pending>,
    pub faults: Faults,
    pub calls: BTreeMap<Endpoint, u64>,
    pub seen: BTreeMap<Endpoint, Vec<Seen>>,
    pub issued_tickets: Vec<String>,
    pub newest_pat: Option<String>,
    pub next_rpt_claims: Map<String, Value>,
    /// `jti` of every assertion that a client was believed by.
    pub assertions: RefCell<BTreeSet<String>>,
    pub clock_offset: i64,
}

pub(super) struct Settings {
    pub pat_lifetime: i64,
    pub token_lifetime: i64,
    pub rpt_lifetime: i64,
    /// Lifetime of the permissions of an RPT, if not that of the RPT.
    pub permission_lifetime: Option<i64>,
    pub ticket_lifetime: i64,
    pub ticket_length: usize,
    pub jwt_shaped: bool,
    pub client_may_introspect: bool,
    /// What happens to a request that no share covers: asked of the owner, polled after so many seconds; or denied.
    pub ask_owner: Option<u64>,
    pub upgrade_in_place: bool,
    /// A resource is one of its name, whoever owns it, and no description says whose it is.
    pub one_of_a_name: bool,
}

pub(super) struct User {
    pub password: Secret,
    pub enabled: bool,
    /// Changes with every logout: tokens of an older session are dead.
    pub session: String,
}

pub(super) struct Client {
    /// None, no key and no certificate either: a public client, which must use PKCE.
    pub secret: Option<Secret>,
    /// What it signs assertions by.
    pub key: Option<VerifyingKeys>,
    /// Whoever ends TLS in front has looked at its certificate.
    pub certified: bool,
    /// Whether it may have a PAT.
    pub protection: bool,
    /// Whether it is a resource server at all (Keycloak: authorization services).
    pub resource_server: bool,
    /// Whether it may use client credentials.
    pub service_account: bool,
    /// Prefixes of redirect addresses; loopback addresses may have any port (RFC 8252, 7.3).
    pub redirects: Vec<String>,
    /// Scopes that it may ask for besides those of a ticket (UMA 2.0 Grant, 3.3.4).
    pub scopes: BTreeSet<String>,
}

#[derive(Clone)]
pub(super) struct Resource {
    pub id: String,
    pub owner: String,
    pub client: String,
    pub scopes: Vec<String>,
    /// The description as it was registered.
    pub description: Map<String, Value>,
}

pub(super) struct Ticket {
    /// The resource server that asked for it.
    pub client: String,
    pub permissions: Vec<(String, Vec<String>)>,
    pub exp: i64,
    /// Who signed in for it, by claims gathering.
    pub user: Option<String>,
}

#[derive(Clone)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub user: Option<String>,
    pub client: String,
    pub audience: String,
    pub scope: String,
    pub session: String,
    pub id: String,
    pub iat: i64,
    pub exp: i64,
    pub revoked: bool,
    pub permissions: Vec<Granted>,
    pub extra: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Access,
    Id,
    Pat,
    Rpt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub resource: String,
    pub scopes: Vec<String>,
    pub exp: i64,
}

#[derive(Clone)]
pub(super) struct Refresh {
    pub token: Token,
    pub lifetime: i64,
}

pub(super) struct Code {
    pub client: String,
    pub user: String,
    pub scope: String,
    pub redirect: String,
    pub challenge: Option<String>,
    pub exp: i64,
}

/// A request that waits for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub resource: String,
    pub user: String,
    pub scopes: Vec<String>,
}

impl State {
    pub fn new(options: &Options, address: SocketAddr) -> Self {
        let issuer = match &options.kind {
            Kind::Uma2 => format!("http://{address}"),
            Kind::Keycloak { realm } => format!("http://{address}/realms/{realm}"),
            Kind::Am | Kind::OpenAm => format!("http://{address}/am/oauth2"),
        };
        let keycloak = matches!(options.kind, Kind::Keycloak { .. });
        let settings = Settings {
            pat_lifetime: 300,
            token_lifetime: 300,
            rpt_lifetime: 300,
            permission_lifetime: None,
            ticket_lifetime: 120,
            ticket_length: 0,
            jwt_shaped: keycloak || options.rpt == RptForm::Jwt,
            client_may_introspect: keycloak || options.kind == Kind::OpenAm || options.client_may_introspect,
            ask_owner: None,
            upgrade_in_place: false,
            one_of_a_name: false,
        };
        let loopback = vec!["http://127.0.0.1".to_owned(), "http://[::1]".to_owned()];
        let redirects = loopback.clone();
        let gateway = Client { protection: true, resource_server: true, service_account: true, redirects, ..Client::new(Some("gateway-secret")) };
        let application = Client { redirects: loopback, ..Client::new(Some("client-secret")) };
        Self {
            kind: options.kind.clone(),
            issuer,
            settings,
            users: ["alice", "bob", "carol"].into_iter().map(|name| (name.to_owned(), User::new(name))).collect(),
            clients: BTreeMap::from([("content-gateway".to_owned(), gateway), ("client-app".to_owned(), application)]),
            resources: BTreeMap::new(),
            shares: BTreeMap::new(),
            tickets: HashMap::new(),
            tokens: HashMap::new(),
            refresh_tokens: HashMap::new(),
            codes: HashMap::new(),
            pcts: HashMap::new(),
            pending: Vec::new(),
            faults: Faults::default(),
            calls: BTreeMap::new(),
            seen: BTreeMap::new(),
            issued_tickets: Vec::new(),
            newest_pat: None,
            next_rpt_claims: Map::new(),
            assertions: RefCell::default(),
            clock_offset: 0,
        }
    }

    /// The address of the discovery document.
    pub fn discovery_address(&self) -> String {
        match self.kind {
            Kind::Uma2 | Kind::Keycloak { .. } => format!("{}/.well-known/uma2-configuration", self.issuer),
            Kind::Am => self.issuer.replace("/am/oauth2", "/am/uma/.well-known/uma2-configuration"),
            Kind::OpenAm => self.issuer.replace("/am/oauth2", "/am/uma/.well-known/uma-configuration"),
        }
    }

    /// Whether it speaks like AM, old or new.
    pub fn am(&self) -> bool {
        matches!(self.kind, Kind::Am | Kind::OpenAm)
    }

    /// Whether it speaks UMA 1.0.1.
    pub fn uma1(&self) -> bool {
        self.kind == Kind::OpenAm
    }

    pub fn keycloak(&self) -> bool {
        matches!(self.kind, Kind::Keycloak { .. })
    }

    pub fn now(&self) -> i64 {
        Timestamp::now().0.saturating_add(self.clock_offset)
    }

    /// Counts and remembers a call.
    pub fn note(&mut self, asked: &Asked) {
        let endpoint = asked.endpoint();
        *self.calls.entry(endpoint).or_default() += 1;
        let seen = self.seen.entry(endpoint).or_default();
        if seen.len() >= REMEMBERED {
            seen.remove(0);
        }
        seen.push(asked.seen());
    }

    /// The answer to a request.
    pub fn answer(&mut self, asked: &Asked) -> Answer {
        match &asked.place {
            Place::Root => self.welcome(asked),
            Place::Uma2Configuration | Place::OpenidConfiguration => self.discovery(asked),
            Place::Token => self.token(asked),
            Place::Introspection => self.introspect(asked),
            Place::Permission => self.permission(asked),
            Place::ResourceSet(id) => self.resource_set(asked, id.as_deref()),
            Place::Authorize => self.authorize(asked),
            Place::Claims => self.gather_claims(asked),
            Place::Revocation => self.revocation(asked),
            Place::Share => self.share(asked),
            Place::NoRealm => Answer::json(http::StatusCode::NOT_FOUND, &json!({ "error": "Realm does not exist" })),
            Place::Nowhere => Answer::error(http::StatusCode::NOT_FOUND, "not_found", ""),
        }
    }

    /// The scopes of a resource that a user has now.
    pub fn granted_now(&self, resource: &str, user: &str) -> BTreeSet<String> {
        let Some(found) = self.resources.get(resource) else { return BTreeSet::new() };
        // Keycloak has no implicit grant for owners; here an owner may read what is hers.
        if found.owner == user && !self.keycloak() {
            return found.scopes.iter().cloned().collect();
        }
        self.shares.get(&(resource.to_owned(), user.to_owned())).cloned().unwrap_or_default()
    }

    /// The resource with this id or, failing that, this name.
    pub fn find_resource(&self, id_or_name: &str) -> Option<&Resource> {
        self.resources.get(id_or_name).or_else(|| self.resources.values().find(|resource| resource.name() == id_or_name))
    }

    /// A new ticket: random, single-use.
    pub fn issue_ticket(&mut self, ticket: Ticket) -> String {
        let mut text = mint::opaque();
        while text.len() < self.settings.ticket_length {
            text.push_str(&mint::opaque());
        }
        if self.settings.ticket_length > 0 {
            text.truncate(self.settings.ticket_length.max(22));
        }
        if self.kind == Kind::Am {
            text = mint::jwt_shaped(json!({ "iss": self.issuer, "exp": ticket.exp, "jti": text }));
        }
        self.tickets.insert(text.clone(), ticket);
        self.issued_tickets.push(text.clone());
        text
    }

    /// Takes a ticket; it dies with its first presentation (UMA 2.0 Grant, 5.5).
    pub fn take_ticket(&mut self, text: &str) -> Option<Ticket> {
        let now = self.now();
        self.tickets.remove(text).filter(|ticket| ticket.exp > now)
    }

    /// Keeps a token and gives its text.
    pub fn issue_token(&mut self, token: Token) -> String {
        let text = if self.settings.jwt_shaped { mint::jwt_shaped(self.payload(&token)) } else { mint::opaque() };
        if token.kind == TokenKind::Pat {
            self.newest_pat = Some(text.clone());
        }
        self.tokens.insert(text.clone(), token);
        text
    }

    /// A token that this server issued and that is alive.
    pub fn live_token(&self, text: &str) -> Option<&Token> {
        self.tokens.get(text).filter(|token| self.alive(token))
    }

    pub fn alive(&self, token: &Token) -> bool {
        let user_alive = token.user.as_ref().is_none_or(|name| self.users.get(name).is_some_and(|user| user.enabled && user.session == token.session));
        !token.revoked && token.exp > self.now() && user_alive && self.clients.contains_key(&token.client)
    }

    /// A new token with this server's times, not kept yet.
    pub fn new_token(&self, kind: TokenKind, user: Option<&str>, client: &str, scope: &str, lifetime: i64) -> Token {
        let session = user.and_then(|name| self.users.get(name)).map(|user| user.session.clone()).unwrap_or_default();
        let iat = self.now();
        Token {
            kind,
            user: user.map(str::to_owned),
            client: client.to_owned(),
            audience: client.to_owned(),
            scope: scope.to_owned(),
            session,
            id: mint::uuid(),
            iat,
            exp: iat.saturating_add(lifetime),
            revoked: false,
            permissions: Vec::new(),
            extra: Map::new(),
        }
    }

    /// The claims that a JWT-shaped token carries, with the names that Keycloak uses.
    fn payload(&self, token: &Token) -> Value {
        let mut payload = json!({
            "exp": token.exp, "iat": token.iat, "jti": token.id, "iss": self.issuer, "aud": token.audience, "typ": "Bearer", "azp": token.client,
            "scope": token.scope,
        });
        if let Some(members) = payload.as_object_mut() {
            if let Some(user) = &token.user {
                members.insert("sub".into(), subject(user).into());
                members.insert("sid".into(), token.session.clone().into());
                members.insert("preferred_username".into(), user.clone().into());
            }
            if token.kind == TokenKind::Rpt {
                members.remove("scope");
                let permissions: Vec<Value> = token.permissions.iter().map(|granted| self.keycloak_permission(granted)).collect();
                members.insert("authorization".into(), json!({ "permissions": permissions }));
            }
            members.extend(token.extra.clone());
        }
        payload
    }

    /// A permission with the names that Keycloak uses.
    pub fn keycloak_permission(&self, granted: &Granted) -> Value {
        let name = self.resources.get(&granted.resource).map_or_else(String::new, Resource::name);
        json!({ "scopes": granted.scopes, "rsid": granted.resource, "rsname": name })
    }
}

/// The `sub` of a user: not the name, so that nobody can mistake one for the other.
pub(super) fn subject(user: &str) -> String {
    format!("id-of-{user}")
}

impl Resource {
    pub fn name(&self) -> String {
        self.description.get("name").and_then(Value::as_str).unwrap_or(&self.id).to_owned()
    }
}

impl User {
    pub fn new(password: &str) -> Self {
        Self { password: Secret::from(password), enabled: true, session: mint::uuid() }
    }
}

impl Client {
    pub fn new(secret: Option<&str>) -> Self {
        Self {
            secret: secret.map(Secret::from),
            key: None,
            certified: false,
            protection: false,
            resource_server: false,
            service_account: false,
            redirects: Vec::new(),
            scopes: BTreeSet::new(),
        }
    }
}

impl std::fmt::Debug for State {
    // Tokens, tickets and passwords are in here.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({})", self.issuer)
    }
}
