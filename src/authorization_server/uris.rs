//! Resources found by the path: the one at the server whose `uris` have it.
//!
//! Keycloak finds a text among the `uris` of all resources, but a pattern that matches only among those of the gateway's own client, and tells the best of
//! these. It would so be taken for what an owner has registered below it. Folders (`/albums/*`) are therefore asked for by their text, from the path upwards:
//! the nearest one counts, whoever owns it. What an owner has registered as `/{id}` or `/*.ext` is not found. An answer counts only where its own `uris` have
//! the path; two resources that have it are refused, never chosen from.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::Instant;
use unicode_normalization::UnicodeNormalization as _;

use super::config::{Config, ServerIdentity};
use super::discovery::Metadata;
use super::error::AskError;
use super::resources::describe;
use super::server::Server;
use crate::path::decoded;
use crate::telemetry::AsEndpoint;
use crate::uma::{ResourceId, Scope};

const ENDPOINT: AsEndpoint = AsEndpoint::Resource;
/// Octets of the paths, and of what is kept with each, that have a resource, and that have none.
const KNOWN: u64 = 32 << 20;
const UNKNOWN: u64 = 8 << 20;
/// What an entry takes besides its path.
const ENTRY: usize = 512;
/// Above this nothing is kept, whatever `max_age` says.
const LONGEST: Duration = Duration::from_secs(3600);
/// Folders that are asked for on behalf of one path.
const FOLDERS: usize = 16;

/// All in a segment but unreserved characters (RFC 3986, 2.3); and what is left alone besides by those who escape for the web's pages.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const COMPONENT: &AsciiSet = &RESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');

const SEVERAL: &str = "several resources have this path";
const ELSEWHERE: &str = "the authorization server names a resource that does not have this path";

/// What a resource is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UriKey {
    /// The server.
    pub server: ServerIdentity,
    /// The canonical path in its one spelling: without a trailing slash, and without an escape that could be left out.
    pub path: Arc<str>,
}

/// A resource that has the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its id.
    pub id: ResourceId,
    /// Its name.
    pub name: Arc<str>,
    /// Its owner, where the server tells it.
    pub owner: Option<Arc<str>>,
    /// Its scopes.
    pub scopes: Vec<Scope>,
}

/// What the server has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathResource {
    /// This resource.
    One(Arc<Located>),
    /// None.
    None,
    /// An answer that must not be used, and why: nobody but whoever registered the resources can mend it.
    Unclear(&'static str),
}

/// What is known of paths, shared by all threads.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    known: moka::sync::Cache<UriKey, (PathResource, Instant)>,
    unknown: moka::sync::Cache<UriKey, (PathResource, Instant)>,
}

impl Default for Paths {
    fn default() -> Self {
        let of_size = |octets| {
            let weight = |key: &UriKey, _: &(PathResource, Instant)| u32::try_from(key.path.len().saturating_add(ENTRY)).unwrap_or(u32::MAX);
            moka::sync::Cache::builder().max_capacity(octets).weigher(weight).time_to_live(LONGEST).build()
        };
        Self { known: of_size(KNOWN), unknown: of_size(UNKNOWN) }
    }
}

impl Paths {
    /// What is known of `key`, without asking anybody. `None`: nobody has asked, or too long ago.
    pub(super) fn see(&self, key: &UriKey, now: Instant) -> Option<PathResource> {
        let fresh = |(place, until): (PathResource, Instant)| (now < until).then_some(place);
        self.known.get(key).and_then(fresh).or_else(|| self.unknown.get(key).and_then(fresh))
    }

    /// Keeps what a server said at `asked`: a resource as long as an answer about a token, anything else as long as a refusal of one.
    pub(super) fn keep(&self, key: &UriKey, place: &PathResource, config: &Config, asked: Instant) {
        let (into, other, age) = match place {
            PathResource::One(_) => (&self.known, &self.unknown, config.max_age),
            PathResource::None | PathResource::Unclear(_) => (&self.unknown, &self.known, config.negative_max_age),
        };
        other.invalidate(key);
        into.insert(key.clone(), (place.clone(), asked + age.min(LONGEST)));
    }

    /// Forgets a path whose resource the server does not know any more.
    pub(super) fn forget(&self, key: &UriKey) {
        self.known.invalidate(key);
    }
}

impl UriKey {
    /// How many calls to the server it takes at most to find its resource.
    #[must_use]
    pub fn questions(&self) -> u32 {
        let folders = segments(&self.path).count().saturating_add(1).min(FOLDERS);
        u32::try_from(readings(&self.path).len().saturating_mul(folders.saturating_add(2))).unwrap_or(u32::MAX)
    }
}

impl Server {
    /// The resource of a path, in the spelling of [`UriKey::path`].
    ///
    /// # Errors
    /// No usable answer before `deadline`, or the server finds no resource by its path.
    pub async fn locate(&self, path: &str, deadline: Instant) -> Result<PathResource, AskError> {
        let metadata = self.metadata(deadline).await?;
        if !metadata.profile.finds_uris {
            return Err(AskError::unusable(ENDPOINT.label(), "this kind of server finds no resource by its path; a route names it by `name` or `id`"));
        }
        match (Finder { server: self, metadata: &metadata, deadline }).place(path).await {
            Ok(Some(found)) => Ok(PathResource::One(Arc::new(found.resource))),
            Ok(None) => Ok(PathResource::None),
            Err(Trouble::Unclear(why)) => Ok(PathResource::Unclear(why)),
            Err(Trouble::NoAnswer(error)) => Err(error),
        }
    }
}

/// Why a path has no resource that could be told.
enum Trouble {
    Unclear(&'static str),
    NoAnswer(AskError),
}

impl From<AskError> for Trouble {
    fn from(error: AskError) -> Self {
        Self::NoAnswer(error)
    }
}

/// One search.
struct Finder<'a> {
    server: &'a Server,
    metadata: &'a Metadata,
    deadline: Instant,
}

/// A resource of an answer.
#[derive(Clone, Debug)]
struct Found {
    resource: Located,
    uris: Vec<String>,
}

/// A resource whose pattern has the path.
struct Nearest {
    found: Found,
    shape: Shape,
}

impl Nearest {
    /// Of two spellings of a path each may have led to a folder: the one that names more of it counts.
    fn or_nearer(self, other: Option<Self>) -> Result<Self, Trouble> {
        let Some(other) = other else { return Ok(self) };
        if self.found.resource.id == other.found.resource.id {
            return Ok(other);
        }
        if self.shape.beats_folders || other.shape.beats_folders || self.shape.literals == other.shape.literals {
            return Err(Trouble::Unclear(SEVERAL));
        }
        Ok(if self.shape.literals > other.shape.literals { self } else { other })
    }
}

impl Finder<'_> {
    async fn place(&self, path: &str) -> Result<Option<Found>, Trouble> {
        let readings = readings(path);
        let (mut exact, mut nearest): (Option<Found>, Option<Nearest>) = (None, None);
        for reading in &readings {
            for found in self.ask(reading, true).await? {
                if found.has(reading) {
                    settle(&mut exact, found)?;
                } else {
                    let shape = found.shape(reading).ok_or(Trouble::Unclear(ELSEWHERE))?;
                    nearest = Some(Nearest { found, shape }.or_nearer(nearest)?);
                }
            }
            // A trailing slash never changes the rule, so what is registered with one is meant by both.
            if reading != "/" {
                self.named(&format!("{reading}/"), &mut exact).await?;
            }
        }
        match exact {
            Some(exact) => Ok(Some(exact)),
            None => self.folder(&readings, nearest).await,
        }
    }

    /// The nearest folder, where it is nearer than the pattern that the server has told; else that one.
    async fn folder(&self, readings: &[Cow<'_, str>], nearest: Option<Nearest>) -> Result<Option<Found>, Trouble> {
        let deepest = readings.first().map_or(0, |reading| segments(reading).count());
        let floor = nearest.as_ref().map_or(0, |nearest| nearest.shape.literals);
        if deepest.saturating_sub(floor) >= FOLDERS {
            return Ok(None);
        }
        for depth in (floor..=deepest).rev() {
            let mut at = None;
            for pattern in readings.iter().map(|reading| folder(reading, depth)).collect::<BTreeSet<_>>() {
                self.named(&pattern, &mut at).await?;
            }
            let Some(found) = at else { continue };
            let Some(Nearest { found: told, shape }) = &nearest else { return Ok(Some(found)) };
            if told.resource.id == found.resource.id || (!shape.beats_folders && depth > shape.literals) {
                return Ok(Some(found));
            }
            // What one owner has, the server has weighed itself.
            let weighed = shape.beats_folders && found.resource.owner.is_some() && found.resource.owner == told.resource.owner;
            if !weighed {
                return Err(Trouble::Unclear(SEVERAL));
            }
        }
        Ok(nearest.map(|nearest| nearest.found))
    }

    /// The resources with exactly this text among their `uris`, of which there must be one.
    async fn named(&self, uri: &str, into: &mut Option<Found>) -> Result<(), Trouble> {
        for found in self.ask(uri, false).await? {
            if !found.has(uri) {
                return Err(Trouble::Unclear(ELSEWHERE));
            }
            settle(into, found)?;
        }
        Ok(())
    }

    async fn ask(&self, uri: &str, matching: bool) -> Result<Vec<Found>, AskError> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("uri", uri).append_pair("deep", "true");
        if matching {
            query.append_pair("matchingUri", "true");
        }
        let all = self.server.listed(self.metadata, &query.finish(), None, self.deadline).await?;
        all.iter()
            .map(|document| Found::read(document).ok_or_else(|| AskError::unusable(ENDPOINT.label(), "it describes a resource without id or `uris`")))
            .collect()
    }
}

impl Found {
    fn read(document: &Value) -> Option<Self> {
        let id = document.get("_id")?.as_str().filter(|id| !id.is_empty())?;
        let uris = document.get("uris")?.as_array()?.iter().map(|uri| uri.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        let description = describe(document);
        let resource = Located {
            id: ResourceId(id.into()),
            name: description.name.into(),
            owner: description.owner.map(Arc::from),
            scopes: description.scopes.into_iter().map(|scope| Scope(scope.into())).collect(),
        };
        Some(Self { resource, uris })
    }

    fn has(&self, uri: &str) -> bool {
        self.uris.iter().any(|own| own == uri)
    }

    /// The nearest of its patterns that have the path.
    fn shape(&self, path: &str) -> Option<Shape> {
        self.uris.iter().filter_map(|pattern| shape(pattern, path)).max_by_key(|shape| (shape.literals, shape.beats_folders))
    }
}

/// One and the same resource, however often it is found.
fn settle(slot: &mut Option<Found>, found: Found) -> Result<(), Trouble> {
    match slot {
        Some(other) if other.resource.id != found.resource.id => Err(Trouble::Unclear(SEVERAL)),
        _ => {
            *slot = Some(found);
            Ok(())
        }
    }
}

/// The texts in which a path may have been registered: as it is spelt, as it is meant, and escaped as programs do that escape what need not be. A resource
/// that has one of them is not to be missed for a wider one; nor is what a server that normalises would take the path for.
fn readings(path: &str) -> Vec<Cow<'_, str>> {
    let mut all = vec![Cow::Borrowed(path)];
    // A path that needs no opt-in has no escaped slash: it can be decoded and written as a whole.
    let meant = decoded(path);
    let forms = [meant.to_string(), meant.nfc().collect(), meant.nfkc().collect()].into_iter().flat_map(|form| {
        let escaped = [RESERVED, COMPONENT].map(|escapes| utf8_percent_encode(&form, escapes).to_string());
        std::iter::once(form).chain(escaped)
    });
    // As some file systems write names, without escapes: each further text costs a call for every folder.
    for text in forms.chain([meant.nfd().collect()]) {
        if !all.iter().any(|known| *known == text) {
            all.push(Cow::Owned(text));
        }
    }
    all
}

/// The pattern of the folder with this many segments of the path.
fn folder(path: &str, depth: usize) -> String {
    segments(path).take(depth).flat_map(|segment| ["/", segment]).chain(["/*"]).collect()
}

/// Its segments; `/` has none.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').filter(|behind| !behind.is_empty()).into_iter().flat_map(|behind| behind.split('/'))
}

/// How a pattern has a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Segments that it names from the left.
    literals: usize,
    /// Whether the server prefers it to any folder: it has `{x}` or an extension.
    beats_folders: bool,
}

/// Whether a pattern has a path, segment by segment: `{x}` is any one, `*` at the end is all that follows or nothing, `*.ext` at the end is whatever follows
/// and ends so. Nothing else is a pattern here, whatever the server takes it for: it ignores the folder in front of `*.ext`.
fn shape(pattern: &str, path: &str) -> Option<Shape> {
    let mut shape = Shape { literals: 0, beats_folders: false };
    let (mut own, mut of_path) = (segments(pattern).peekable(), segments(path));
    while let Some(part) = own.next() {
        let is_last = own.peek().is_none();
        let is_any = part.strip_prefix('{').and_then(|name| name.strip_suffix('}')).is_some_and(|name| !name.is_empty() && !name.contains(['{', '}']));
        match part.strip_prefix('*') {
            Some("") if is_last => return Some(shape),
            Some(extension) if is_last && extension.starts_with('.') => {
                return of_path.last().filter(|last| last.ends_with(extension)).map(|_| Shape { beats_folders: true, ..shape });
            }
            _ => {}
        }
        let segment = of_path.next()?;
        match is_any {
            true => shape.beats_folders = true,
            false if part != segment => return None,
            false if !shape.beats_folders => shape.literals = shape.literals.saturating_add(1),
            false => {}
        }
    }
    of_path.next().is_none().then_some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_the_paths_that_the_documents_say_and_no_others() {
        for (pattern, has, has_not) in [
            ("/api/*", &["/api", "/api/x/y"][..], &["/apix", "/", "/b/api/x"][..]),
            ("/*", &["/", "/a", "/a/b"], &[]),
            ("/*.html", &["/a.html", "/x/y/a.html"], &["/a.html/b", "/a.htm", "/"]),
            ("/file/*.suffix", &["/file/a.suffix", "/file/b/a.suffix"], &["/other/a.suffix", "/a.suffix", "/file"]),
            ("/res/{id}", &["/res/1", "/res/1.json"], &["/res", "/res/1/2", "/x/1"]),
            ("/res/{id}/*", &["/res/1", "/res/1/a/b"], &["/res"]),
            ("/{v}/res", &["/1/res"], &["/res", "/1/2/res"]),
            ("/a/*/b", &[], &["/a/x/b", "/a/b"]),
            ("/res*", &[], &["/resx", "/res", "/res/x"]),
            ("/x{id}", &[], &["/x1"]),
            ("/{}", &[], &["/a"]),
            ("a/*", &[], &["/a/b"]),
            ("", &[], &["/a"]),
            ("/a//b", &[], &["/a/b"]),
        ] {
            for path in has {
                assert!(shape(pattern, path).is_some(), "{pattern} {path}");
            }
            for path in has_not {
                assert!(shape(pattern, path).is_none(), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn a_path_is_asked_for_as_it_is_spelt_and_meant_and_otherwise_written() {
        assert_eq!(readings("/a/b-c.d"), ["/a/b-c.d"]);
        assert_eq!(readings("/caf%C3%A9/a%20b"), ["/caf%C3%A9/a%20b", "/café/a b", "/cafe\u{301}/a b"]);
        assert_eq!(readings("/bob@example.org/(1)"), ["/bob@example.org/(1)", "/bob%40example.org/%281%29", "/bob%40example.org/(1)"]);
        assert_eq!(readings("/cafe%CC%81"), ["/cafe%CC%81", "/cafe\u{301}", "/café", "/caf%C3%A9"]);
        assert_eq!(readings("/%EF%BD%82ob"), ["/%EF%BD%82ob", "/ｂob", "/bob"]);
        assert_eq!(readings("/"), ["/"]);
    }

    #[test]
    fn what_is_known_of_a_path_is_used_no_longer_than_an_answer_about_a_token() {
        let (paths, config, now) = (Paths::default(), crate::authorization_server::testing::config(), Instant::now());
        let key = |path: &str| UriKey { server: config.identity, path: path.into() };
        let found = Located { id: ResourceId("a".into()), name: "a".into(), owner: None, scopes: Vec::new() };
        let kept = [
            (PathResource::One(Arc::new(found)), config.max_age),
            (PathResource::None, config.negative_max_age),
            (PathResource::Unclear(SEVERAL), config.negative_max_age),
        ];
        for (place, age) in kept {
            paths.keep(&key("/a"), &place, &config, now);
            assert_eq!(paths.see(&key("/a"), now + age - Duration::from_millis(1)), Some(place));
            assert_eq!((paths.see(&key("/a"), now + age), paths.see(&key("/b"), now)), (None, None));
        }
        paths.keep(&key("/a"), &PathResource::None, &config, now);
        assert_eq!(paths.see(&key("/a"), now), Some(PathResource::None), "what was there before is not seen any more");
    }

    #[test]
    fn folders_are_those_above_and_the_path_itself() {
        let folders: Vec<String> = (0..=2).rev().map(|depth| folder("/a/b", depth)).collect();
        assert_eq!(folders, ["/a/b/*", "/a/*", "/*"]);
        assert_eq!(folder("/", 0), "/*");
    }

    #[test]
    fn a_search_costs_no_more_than_it_says() {
        let questions = |path: &str| UriKey { server: ServerIdentity([0; 16]), path: path.into() }.questions();
        assert_eq!((questions("/"), questions("/a/b"), questions("/caf%C3%A9")), (3, 5, 12));
        assert_eq!(questions(&"/a".repeat(1000)), 18);
    }
}
