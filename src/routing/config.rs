//! What the configuration says of routes, already checked and parsed.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::{Guard, OnCreate, Upgrade};
use crate::authorization_server;
use crate::path::OptIns;
use crate::uma::Scope;

/// A place in the configuration file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Which hosts a route serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Exactly this one (lower case, without port).
    Exact(Box<str>),
    /// `*.example.org`: any host that ends in `.example.org`, which is what is kept here.
    Suffix(Box<str>),
    /// Any.
    Any,
}

/// A parsed `path` of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// As written.
    pub text: Arc<str>,
    /// Its segments; `/` alone has none.
    pub segments: Vec<Segment>,
    /// Whether it ends in `/**`: the rest, and the prefix itself.
    pub rest: bool,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This text, in canonical form.
    Literal(Box<str>),
    /// `{name}`: any one non-empty segment.
    Parameter(Arc<str>),
}

/// A text with path parameters, such as `album {album}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// As written.
    pub text: Arc<str>,
    /// Its parts, in order.
    pub parts: Vec<TemplatePart>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TemplatePart {
    /// This text.
    Text(Box<str>),
    /// The path parameter with this place among the pattern's parameters, counted from 0 from the left; its value is percent-decoded when filled in.
    Parameter(usize),
}

/// One route.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Where it stands in the file.
    pub place: Place,
    /// The hosts that it serves.
    pub host: HostPattern,
    /// Its path.
    pub pattern: Pattern,
    /// The upstream's place in the snapshot's list.
    pub upstream: usize,
    /// The place of the first upstream that has one of its servers: what stands behind them is one content server.
    pub content: usize,
    /// The upstream's name.
    pub upstream_name: Arc<str>,
    /// Public, protected or guarded.
    pub access: Access,
    /// The path that the upstream sees instead.
    pub rewrite: Option<Rewrite>,
    /// Which origins may read answers.
    pub cors: Option<Cors>,
    /// Headers that tell the upstream who asks.
    pub identity_headers: Vec<(HeaderName, Claim)>,
    /// Largest request body in bytes.
    pub body_limit: Option<u64>,
    /// `upgrade`: protocols that a connection may change to.
    pub upgrades: Vec<Upgrade>,
    /// `upgrade_grace`: how long an upgraded connection goes on when its permission has ended (0 s).
    pub upgrade_grace: Duration,
    /// `covers: all`: parameters that the resource does not use are meant so.
    pub covers_all: bool,
    /// `covers_protected`: a public route that reaches over protected ones is meant so.
    pub covers_protected: bool,
    /// `encoded_slash`, `encoded_percent`, `semicolon`: spellings that its content server reads as the gateway does.
    pub opt_ins: OptIns,
}

/// Who may pass.
#[derive(Clone, Debug)]
pub enum Access {
    /// Everyone.
    Public,
    /// Whoever has a permission.
    Protect(Protect),
    /// Whoever has the credential of the content server behind.
    Guard(Guard),
}

/// What a protected route needs.
#[derive(Clone, Debug)]
pub struct Protect {
    /// The authorization server that decides.
    pub server: Arc<authorization_server::Config>,
    /// The resource.
    pub resource: ResourceChoice,
    /// Where `resource` stands in the file.
    pub place: Place,
    /// Scopes for each method.
    pub scopes: MethodScopes,
    /// Whether all of them are needed or one suffices.
    pub scopes_match: ScopesMatch,
    /// `register_on_create`: what a `POST` makes is registered for whoever has made it.
    pub on_create: Option<Arc<OnCreate>>,
    /// `unregister_on_delete`: what a `DELETE` takes away is withdrawn.
    pub unregister_on_delete: bool,
}

/// How a route names its resource.
#[derive(Clone, Debug)]
pub enum ResourceChoice {
    /// None: the server is a plain OAuth server, and the token's own scopes count.
    Token,
    /// By its id at the server.
    Id {
        /// The id.
        id: Arc<str>,
        /// The owner, whose PAT is needed where each owner has one.
        owner: Option<Template>,
    },
    /// By name and owner, looked up at the server.
    Name {
        /// The name.
        name: Template,
        /// The owner; absent: the gateway's own client.
        owner: Option<Template>,
    },
    /// Registered by the gateway.
    Register {
        /// The name.
        name: Template,
        /// The type.
        kind: Option<Arc<str>>,
        /// All scopes of the resource.
        scopes: Arc<[Scope]>,
        /// The owner.
        owner: Option<Template>,
    },
    /// That of the record which the path belongs to: what an owner has registered by the shares API.
    Shared {
        /// Whose records count; absent: anybody's, and only an operator registers them.
        owner: Option<Template>,
    },
    /// The one at the server whose `uris` have the request's path, whoever owns it.
    Uris,
}

impl ResourceChoice {
    /// Its name and owner, where it is found by them.
    #[must_use]
    pub const fn named(&self) -> Option<(&Template, Option<&Template>)> {
        match self {
            Self::Name { name, owner } | Self::Register { name, owner, .. } => Some((name, owner.as_ref())),
            Self::Token | Self::Id { .. } | Self::Shared { .. } | Self::Uris => None,
        }
    }

    /// Whose it is; absent: the gateway's own client.
    #[must_use]
    pub const fn owner(&self) -> Option<&Template> {
        match self {
            Self::Token | Self::Uris => None,
            Self::Id { owner, .. } | Self::Name { owner, .. } | Self::Register { owner, .. } | Self::Shared { owner } => owner.as_ref(),
        }
    }

    /// Whether the path parameter with this place says which resource it is.
    #[must_use]
    pub fn is_named_by(&self, place: usize) -> bool {
        let (name, owner) = match self {
            Self::Token | Self::Id { .. } => return false,
            // Every segment does.
            Self::Shared { .. } | Self::Uris => return true,
            Self::Name { name, owner } | Self::Register { name, owner, .. } => (name, owner),
        };
        [Some(name), owner.as_ref()].into_iter().flatten().any(|template| template.parts.contains(&TemplatePart::Parameter(place)))
    }
}

/// Methods and the scopes that each needs. HEAD follows GET.
#[derive(Clone, Debug, Default)]
pub struct MethodScopes {
    /// In the order of the file; a method stands once.
    pub methods: Vec<(Method, Arc<[Scope]>, Place)>,
    /// `http_method_as_scope`: each of them needs the scope of its own name. A resource has those that it has, and no other method reaches it.
    pub as_scope: bool,
}

impl MethodScopes {
    /// The scopes that every resource of the route should have.
    pub fn wanted(&self) -> impl Iterator<Item = &Scope> {
        self.methods.iter().filter(|_| !self.as_scope).flat_map(|(_, scopes, _)| scopes.iter())
    }
}

/// `scopes_match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ScopesMatch {
    /// Every scope.
    #[default]
    All,
    /// One of them.
    Any,
}

/// `rewrite`: the upstream's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Literal text and parameters, as they came (not decoded).
    pub template: Template,
    /// Whether it ends in `{**}`: the rest of the path.
    pub rest: bool,
}

/// `cors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins, byte for byte; `*` alone means any (then without credentials).
    pub origins: Vec<HeaderValue>,
    /// Whether cookies may go along.
    pub credentials: bool,
    /// How long a preflight may be kept.
    pub max_age: Duration,
}

/// What an identity header tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// `sub`.
    Subject,
    /// `username` (`preferred_username`).
    Username,
    /// The client application.
    Client,
    /// Another member of the introspection answer.
    Other(Arc<str>),
}
