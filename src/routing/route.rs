//! One route as requests find it: its configuration and what is computed of it once.

use std::sync::Arc;

use http::{HeaderValue, Method};

use super::config::{Access, Pattern, Place, Protect, ResourceChoice, RouteConfig, Segment};
use crate::path::{CanonicalPath, Reading, decoded};
use crate::uma::Scope;

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    config: RouteConfig,
    allow: HeaderValue,
}

impl Route {
    pub(super) fn new(config: RouteConfig) -> Self {
        let allow = allow(&config.access);
        Self { config, allow }
    }

    /// All that the file says of it.
    #[must_use]
    pub const fn config(&self) -> &RouteConfig {
        &self.config
    }

    /// Its path as written.
    #[must_use]
    pub const fn pattern(&self) -> &Arc<str> {
        &self.config.pattern.text
    }

    /// Where it stands in the file.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.config.place
    }

    /// What it protects by permissions; `None` for a public route and for a guard.
    #[must_use]
    pub const fn protect(&self) -> Option<&Protect> {
        match &self.config.access {
            Access::Protect(protect) => Some(protect),
            Access::Public | Access::Guard(_) => None,
        }
    }

    /// Whether its resources are those that owners have registered.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.protect().is_some_and(|protect| matches!(protect.resource, ResourceChoice::Shared { .. }))
    }

    /// Whether everyone may pass.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        matches!(self.config.access, Access::Public)
    }

    /// Whether a reading of a path that led here names another resource than the path does: one segment of its name is neither as it is written nor as it is
    /// meant.
    #[must_use]
    pub fn means_another_resource(&self, path: &CanonicalPath, reading: &Reading) -> bool {
        let Some(resource) = self.protect().map(|protect| &protect.resource) else { return false };
        let mut place = 0_usize;
        self.config.pattern.segments.iter().zip(path.segments().zip(reading.segments())).any(|(segment, (written, read))| {
            let Segment::Parameter(_) = segment else { return false };
            let named = resource.is_named_by(place);
            place = place.saturating_add(1);
            let read = decoded(read);
            named && *read != *written && read != decoded(written)
        })
    }

    /// The scopes that a method needs. `None`: the route needs none, or the method is not mapped. HEAD follows GET wherever GET is mapped.
    #[must_use]
    pub fn needs(&self, method: &Method) -> Option<&Arc<[Scope]>> {
        self.mapping(method).map(|(scopes, _)| scopes)
    }

    /// The same with the place of the mapping in the file.
    #[must_use]
    pub fn mapping(&self, method: &Method) -> Option<(&Arc<[Scope]>, Place)> {
        let methods = &self.protect()?.scopes.methods;
        let find = |wanted: &Method| methods.iter().find(|(method, ..)| method == wanted).map(|(_, scopes, place)| (scopes, *place));
        if method == Method::HEAD { find(&Method::GET).or_else(|| find(method)) } else { find(method) }
    }

    /// `Allow` for a method that needs more than the resource has: those whose scopes `suffice`.
    #[must_use]
    pub fn allow_of(&self, suffice: impl Fn(&[Scope]) -> bool) -> HeaderValue {
        let Some(protect) = self.protect() else { return self.allow() };
        allowed(protect.scopes.methods.iter().filter(|(_, scopes, _)| suffice(scopes)).map(|(method, ..)| method))
    }

    /// `Allow` for a method that a protected route does not map.
    #[must_use]
    pub fn allow(&self) -> HeaderValue {
        self.allow.clone()
    }
}

/// The names of a pattern's parameters that neither the resource's name nor its owner uses.
#[must_use]
pub fn unused_parameters(pattern: &Pattern, resource: &ResourceChoice) -> Vec<Arc<str>> {
    let templates = match resource {
        ResourceChoice::Shared { .. } | ResourceChoice::Uris => return Vec::new(),
        ResourceChoice::Token | ResourceChoice::Id { .. } => [None, None],
        ResourceChoice::Name { name, owner } | ResourceChoice::Register { name, owner, .. } => [Some(name), owner.as_ref()],
    };
    let used: Vec<usize> = templates.into_iter().flatten().flat_map(super::Template::parameters).collect();
    pattern.parameters().enumerate().filter(|(place, _)| !used.contains(place)).map(|(_, name)| Arc::clone(name)).collect()
}

fn allow(access: &Access) -> HeaderValue {
    let Access::Protect(protect) = access else { return HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS") };
    allowed(protect.scopes.methods.iter().map(|(method, ..)| method))
}

fn allowed<'m>(methods: impl Iterator<Item = &'m Method>) -> HeaderValue {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        let followed: &[&str] = if method == Method::GET { &["GET", "HEAD"] } else { &[method.as_str()] };
        for name in followed {
            if !names.contains(name) {
                names.push(name);
            }
        }
    }
    // Methods are tokens, so this is always a valid value.
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}
