//! What a request needs of the records, in memory.
//!
//! The view holds every registered resource, so what is not in it is not registered, and nobody waits for the database. Whoever looks takes no lock: an index
//! is many small tables, each replaced as a whole when one of its resources changes. A table is chosen and asked with one keyed hash, since clients
//! choose the paths. Nothing here reads or writes the database.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashTable;

use super::lookup::Registered;
use super::records::{ResourceRecord, State};
use super::template::{exactness, folder, takes};
use crate::path::alike;

/// Tables of an index: with a million records each change copies about 250 pointers.
const TABLES: usize = 4096;

/// The registered resources by what they are asked for.
#[derive(Debug)]
pub struct View {
    hasher: RandomState,
    paths: Index,
    /// Those that stand for more than one path, by the folder before what stands for any.
    templates: Index,
    links: Index,
}

type Table = HashTable<Arc<Registered>>;

#[derive(Debug)]
struct Index(Box<[ArcSwap<Table>]>);

/// A view that nobody sees yet.
pub(super) struct Filling {
    hasher: RandomState,
    paths: Vec<Entries>,
    templates: Vec<Entries>,
    links: Vec<Entries>,
    servers: BTreeSet<Arc<str>>,
    scopes: BTreeSet<Arc<[Box<str>]>>,
}

/// What a table will hold, with its hashes: a table that is made when its size is known hashes nothing again.
type Entries = Vec<(u64, Arc<Registered>)>;

impl Filling {
    pub(super) fn new() -> Self {
        let tables = || (0..TABLES).map(|_| Entries::new()).collect();
        Self { hasher: RandomState::new(), paths: tables(), templates: tables(), links: tables(), servers: BTreeSet::new(), scopes: BTreeSet::new() }
    }

    /// Adds a resource. What many resources have in common they share.
    pub(super) fn add(&mut self, mut known: Registered) {
        known.authorization_server = shared(&mut self.servers, known.authorization_server);
        known.scopes = shared(&mut self.scopes, known.scopes);
        let known = Arc::new(known);
        let hasher = &self.hasher;
        for (tables, hash) in
            [(&mut self.paths, path_hash(hasher, &known)), (&mut self.templates, template_hash(hasher, &known)), (&mut self.links, link_hash(hasher, &known))]
        {
            if let Some((hash, table)) = hash.and_then(|hash| Some((hash, tables.get_mut(place(hash))?))) {
                table.push((hash, Arc::clone(&known)));
            }
        }
    }

    pub(super) fn finish(self) -> View {
        let paths = Index::new(self.paths, |known| path_hash(&self.hasher, known));
        let templates = Index::new(self.templates, |known| template_hash(&self.hasher, known));
        let links = Index::new(self.links, |known| link_hash(&self.hasher, known));
        View { hasher: self.hasher, paths, templates, links }
    }
}

/// The member of the set that is equal, which the value becomes when there is none.
fn shared<T: ?Sized + Ord>(all: &mut BTreeSet<Arc<T>>, value: Arc<T>) -> Arc<T> {
    if let Some(same) = all.get(&value) {
        return Arc::clone(same);
    }
    all.insert(Arc::clone(&value));
    value
}

fn path_hash(hasher: &RandomState, known: &Registered) -> Option<u64> {
    known.path.as_deref().filter(|path| folder(path).is_none()).map(|path| place_of(hasher, &known.authorization_server, path))
}

/// Paths that are alike stand in one place, so that one look finds both.
fn place_of(hasher: &RandomState, authorization_server: &str, path: &str) -> u64 {
    hasher.hash_one((authorization_server, &*alike(path)))
}

fn template_hash(hasher: &RandomState, known: &Registered) -> Option<u64> {
    known.path.as_deref().and_then(folder).map(|folder| place_of(hasher, &known.authorization_server, folder))
}

fn link_hash(hasher: &RandomState, known: &Registered) -> Option<u64> {
    known.link.as_deref().map(|link| hasher.hash_one(link))
}

/// The table of a hash: the upper bits choose it, within it others do.
fn place(hash: u64) -> usize {
    (hash >> 32) as usize % TABLES
}

impl View {
    /// The resource with exactly this path at this authorization server, be it a template. Absent: none is registered.
    #[must_use]
    pub fn by_path(&self, authorization_server: &str, path: &str) -> Option<Arc<Registered>> {
        let is_it = |known: &Registered| *known.authorization_server == *authorization_server && known.path.as_deref() == Some(path);
        let (index, place) = folder(path).map_or((&self.paths, path), |folder| (&self.templates, folder));
        index.find(place_of(&self.hasher, authorization_server, place), is_it)
    }

    /// What stands at a path, of which it is known what it is [`alike`], but for templates. `None`: nothing. `Some(None)`: another path that a careless server
    /// could take for it.
    #[must_use]
    pub(super) fn at(&self, authorization_server: &str, path: &str, as_alike: &str) -> Option<Option<Arc<Registered>>> {
        let hash = self.hasher.hash_one((authorization_server, as_alike));
        let of_server = |known: &Registered| *known.authorization_server == *authorization_server;
        if let Some(found) = self.paths.find(hash, |known| of_server(known) && known.path.as_deref() == Some(path)) {
            return Some(Some(found));
        }
        let is_alike = |known: &Registered| of_server(known) && known.path.as_deref().is_some_and(|other| alike(other) == as_alike);
        self.paths.find(hash, is_alike).map(|_| None)
    }

    /// The most exact template with that folder before what stands for any that takes a path, of which it is known what it is [`alike`]. `None`: there is none.
    /// `Some(None)`: there is one that takes it for a careless server only.
    #[must_use]
    pub(super) fn template(&self, authorization_server: &str, folder_alike: &str, path: &str, as_alike: &str) -> Option<Option<Arc<Registered>>> {
        let mut best: Option<(bool, Arc<Registered>)> = None;
        self.templates.each(self.hasher.hash_one((authorization_server, folder_alike)), |known| {
            let Some(template) = known.path.as_deref().filter(|_| *known.authorization_server == *authorization_server) else { return };
            let template_alike = alike(template);
            // Another folder's may have the same place.
            if folder(&template_alike) != Some(folder_alike) || !takes(&template_alike, as_alike) {
                return;
            }
            let here = takes(template, path);
            let order = best.as_ref().map_or(Ordering::Less, |(_, best)| exactness(template, best.path.as_deref().unwrap_or_default()));
            if order == Ordering::Less || (order == Ordering::Equal && here) {
                best = Some((here, Arc::clone(known)));
            }
        });
        best.map(|(here, known)| here.then_some(known))
    }

    /// The resource with this link. Absent: none is registered.
    #[must_use]
    pub fn by_link(&self, link: &str) -> Option<Arc<Registered>> {
        self.links.find(self.hasher.hash_one(link), |known| known.link.as_deref() == Some(link))
    }

    /// Every resource that has a path, each once, in no order. Whoever is put in or taken out meanwhile may be among them or not.
    pub fn each(&self, mut seen: impl FnMut(&Registered)) {
        for table in self.paths.0.iter().chain(&self.templates.0) {
            table.load().iter().for_each(|known| seen(known));
        }
    }

    /// Whether it is found, by its path or its link.
    pub(super) fn has(&self, known: &Registered) -> bool {
        let by_path = known.path.as_deref().and_then(|path| self.by_path(&known.authorization_server, path));
        by_path.or_else(|| known.link.as_deref().and_then(|link| self.by_link(link))).is_some_and(|found| found.key == known.key)
    }

    /// From now on it is found. It takes the place of an earlier one of the same record.
    pub(super) fn put(&self, known: &Arc<Registered>) {
        self.change(known, |table, hash, rehash| {
            if let Ok(earlier) = table.find_entry(hash, |other| other.key == known.key) {
                earlier.remove();
            }
            table.insert_unique(hash, Arc::clone(known), rehash);
        });
    }

    /// From now on it is not found.
    pub(super) fn remove(&self, known: &Registered) {
        self.change(known, |table, hash, _| {
            if let Ok(entry) = table.find_entry(hash, |other| other.key == known.key) {
                entry.remove();
            }
        });
    }

    fn change(&self, known: &Registered, change: impl Fn(&mut Table, u64, &dyn Fn(&Arc<Registered>) -> u64)) {
        let hasher = &self.hasher;
        if let Some(hash) = path_hash(hasher, known) {
            self.paths.change(hash, |table| change(table, hash, &|other| path_hash(hasher, other).unwrap_or_default()));
        }
        if let Some(hash) = template_hash(hasher, known) {
            self.templates.change(hash, |table| change(table, hash, &|other| template_hash(hasher, other).unwrap_or_default()));
        }
        if let Some(hash) = link_hash(hasher, known) {
            self.links.change(hash, |table| change(table, hash, &|other| link_hash(hasher, other).unwrap_or_default()));
        }
    }

    /// How many resources are found by their path.
    #[cfg(test)]
    pub(super) fn paths(&self) -> usize {
        self.paths.0.iter().map(|table| table.load().len()).sum()
    }
}

impl Index {
    /// Tables that are empty are one and the same until they change.
    fn new(all: Vec<Entries>, hash: impl Fn(&Registered) -> Option<u64>) -> Self {
        let empty = Arc::new(Table::new());
        let table = |entries: Entries| {
            if entries.is_empty() {
                return Arc::clone(&empty);
            }
            let mut table = Table::with_capacity(entries.len());
            for (of_this, known) in entries {
                table.insert_unique(of_this, known, |other| hash(other).unwrap_or_default());
            }
            Arc::new(table)
        };
        Self(all.into_iter().map(|entries| ArcSwap::new(table(entries))).collect())
    }

    fn find(&self, hash: u64, wanted: impl Fn(&Registered) -> bool) -> Option<Arc<Registered>> {
        self.0.get(place(hash))?.load().find(hash, |known| wanted(known)).cloned()
    }

    fn each(&self, hash: u64, seen: impl FnMut(&Arc<Registered>)) {
        if let Some(table) = self.0.get(place(hash)) {
            table.load().iter_hash(hash).for_each(seen);
        }
    }

    fn change(&self, hash: u64, change: impl Fn(&mut Table)) {
        if let Some(table) = self.0.get(place(hash)) {
            table.rcu(|before| {
                let mut after = Table::clone(before);
                change(&mut after);
                after
            });
        }
    }
}

impl Registered {
    /// What a request needs of a record; none unless it is registered.
    pub(super) fn of(record: ResourceRecord) -> Option<Self> {
        let State::Registered { resource_id, .. } = record.state else { return None };
        let resource = record.resource;
        Some(Self {
            key: record.key,
            authorization_server: resource.authorization_server.into(),
            path: resource.path.map(Into::into),
            link: resource.link.map(Into::into),
            resource_id: resource_id.into(),
            owner: resource.owner.into(),
            scopes: resource.scopes.into_iter().map(Into::into).collect(),
            upstream: resource.upstream.into(),
        })
    }
}
