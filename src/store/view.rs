//! What a request needs of the records, in memory.
//!
//! The view holds every registered resource, so what is not in it is not registered, and nobody waits for the database. Whoever looks takes no lock: an index
//! is many small tables, each replaced as a whole when one of its resources changes. A table is chosen and asked with one keyed hash, since clients
//! choose the paths. Nothing here reads or writes the database.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashTable;

use super::lookup::Registered;
use super::records::{ResourceRecord, State};
use super::template::{Shape, exactness, folder, takes};
use crate::path::alike;

/// Tables of an index: with a million records each change copies about 250 pointers.
const TABLES: usize = 4096;

/// The registered resources by what they are asked for.
#[derive(Debug)]
pub struct View {
    hasher: RandomState,
    paths: Index<Registered>,
    /// Those that stand for more than one path.
    templates: Index<Registered>,
    /// What these have before what stands for any.
    folders: Index<Folder>,
    links: Index<Registered>,
}

type Table<T> = HashTable<Arc<T>>;

#[derive(Debug)]
struct Index<T>(Box<[ArcSwap<Table<T>>]>);

/// A folder that templates begin with, and what these look like behind it: a path is looked for once in each shape, however many have it.
#[derive(Clone, Debug)]
struct Folder {
    authorization_server: Arc<str>,
    /// What it is [`alike`].
    path: Box<str>,
    /// And how many have it.
    shapes: Vec<(Shape, usize)>,
}

/// A view that nobody sees yet.
pub(super) struct Filling {
    hasher: RandomState,
    paths: Vec<Entries>,
    templates: Vec<Entries>,
    folders: BTreeMap<(Arc<str>, Box<str>), Folder>,
    links: Vec<Entries>,
    servers: BTreeSet<Arc<str>>,
    scopes: BTreeSet<Arc<[Box<str>]>>,
}

/// What a table will hold, with its hashes: a table that is made when its size is known hashes nothing again.
type Entries<T = Registered> = Vec<(u64, Arc<T>)>;

impl Filling {
    pub(super) fn new() -> Self {
        let (hasher, folders, servers, scopes) = (RandomState::new(), BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { hasher, paths: tables(), templates: tables(), folders, links: tables(), servers, scopes }
    }

    /// Adds a resource. What many resources have in common they share.
    pub(super) fn add(&mut self, mut known: Registered) {
        known.authorization_server = shared(&mut self.servers, known.authorization_server);
        known.scopes = shared(&mut self.scopes, known.scopes);
        let known = Arc::new(known);
        if let Some((folder, shape)) = shape(&known) {
            let server = &known.authorization_server;
            self.folders.entry((Arc::clone(server), folder.clone())).or_insert_with(|| Folder::new(server, folder)).more(shape);
        }
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
        let mut entries: Vec<Entries<Folder>> = tables();
        for folder in self.folders.into_values() {
            let hash = folder.hash(&self.hasher);
            if let Some(table) = entries.get_mut(place(hash)) {
                table.push((hash, Arc::new(folder)));
            }
        }
        let folders = Index::new(entries, |folder: &Folder| Some(folder.hash(&self.hasher)));
        View { hasher: self.hasher, paths, templates, folders, links }
    }
}

fn tables<T>() -> Vec<Entries<T>> {
    (0..TABLES).map(|_| Vec::new()).collect()
}

impl Folder {
    fn new(authorization_server: &Arc<str>, path: Box<str>) -> Self {
        Self { authorization_server: Arc::clone(authorization_server), path, shapes: Vec::new() }
    }

    fn is(&self, authorization_server: &str, path: &str) -> bool {
        *self.authorization_server == *authorization_server && *self.path == *path
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one((&*self.authorization_server, &*self.path))
    }

    /// One more template has this shape.
    fn more(&mut self, shape: Shape) {
        match self.shapes.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.shapes.push((shape, 1)),
        }
    }

    /// One has it no more.
    fn fewer(&mut self, shape: Shape) {
        self.shapes.iter_mut().filter(|(known, _)| *known == shape).for_each(|(_, count)| *count = count.saturating_sub(1));
        self.shapes.retain(|(_, count)| *count > 0);
    }
}

/// The folder of a template, and what it looks like behind it, as a careless server could read both.
fn shape(known: &Registered) -> Option<(Box<str>, Shape)> {
    let template = alike(known.path.as_deref().filter(|path| folder(path).is_some())?);
    let folder = folder(&template)?;
    Some((folder.into(), Shape::of(template.get(folder.len()..)?)?))
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
    known.path.as_deref().filter(|path| folder(path).is_some()).map(|path| place_of(hasher, &known.authorization_server, path))
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
        let index = if folder(path).is_some() { &self.templates } else { &self.paths };
        index.find(place_of(&self.hasher, authorization_server, path), is_it)
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
        let folder = self.folders.find(self.hasher.hash_one((authorization_server, folder_alike)), |known| known.is(authorization_server, folder_alike))?;
        let below = as_alike.get(folder_alike.len()..)?;
        let mut text = String::with_capacity(as_alike.len().saturating_add(3));
        text.push_str(folder_alike);
        let mut best: Option<(bool, Arc<Registered>)> = None;
        for (shape, _) in &folder.shapes {
            text.truncate(folder_alike.len());
            if !shape.write(below, &mut text) {
                continue;
            }
            self.templates.each(self.hasher.hash_one((authorization_server, &*text)), |known| {
                let Some(template) = known.path.as_deref().filter(|_| *known.authorization_server == *authorization_server) else { return };
                // Another one may have the same place.
                if *alike(template) != *text {
                    return;
                }
                let here = takes(template, path);
                let order = best.as_ref().map_or(Ordering::Less, |(_, best)| exactness(template, best.path.as_deref().unwrap_or_default()));
                if order == Ordering::Less || (order == Ordering::Equal && here) {
                    best = Some((here, Arc::clone(known)));
                }
            });
        }
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
        let more = !self.has_template(known);
        self.change(known, |table, hash, rehash| {
            if let Ok(earlier) = table.find_entry(hash, |other| other.key == known.key) {
                earlier.remove();
            }
            table.insert_unique(hash, Arc::clone(known), rehash);
        });
        if more {
            self.change_folder(known, Folder::more);
        }
    }

    /// From now on it is not found.
    pub(super) fn remove(&self, known: &Registered) {
        let fewer = self.has_template(known);
        self.change(known, |table, hash, _| {
            if let Ok(entry) = table.find_entry(hash, |other| other.key == known.key) {
                entry.remove();
            }
        });
        if fewer {
            self.change_folder(known, Folder::fewer);
        }
    }

    /// Whether it is a template, and the shapes of its folder have it.
    fn has_template(&self, known: &Registered) -> bool {
        template_hash(&self.hasher, known).is_some_and(|hash| self.templates.find(hash, |other| other.key == known.key).is_some())
    }

    /// Resources are put in and taken out one after the other, so nothing comes between the look and the change.
    fn change_folder(&self, known: &Registered, change: impl Fn(&mut Folder, Shape)) {
        let Some((path, shape)) = shape(known) else { return };
        let empty = Folder::new(&known.authorization_server, path);
        let hash = empty.hash(&self.hasher);
        self.folders.change(hash, |table| {
            let is_it = |folder: &Arc<Folder>| folder.is(&empty.authorization_server, &empty.path);
            let mut folder = table.find_entry(hash, is_it).map_or_else(|_| empty.clone(), |entry| Folder::clone(&entry.remove().0));
            change(&mut folder, shape);
            if !folder.shapes.is_empty() {
                table.insert_unique(hash, Arc::new(folder), |folder| folder.hash(&self.hasher));
            }
        });
    }

    fn change(&self, known: &Registered, change: impl Fn(&mut Table<Registered>, u64, &dyn Fn(&Arc<Registered>) -> u64)) {
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

    /// In how many shapes a path is looked for, of all folders.
    #[cfg(test)]
    pub(super) fn shapes(&self) -> usize {
        self.folders.0.iter().map(|table| table.load().iter().map(|folder| folder.shapes.len()).sum::<usize>()).sum()
    }

    /// How many resources are found by their path.
    #[cfg(test)]
    pub(super) fn paths(&self) -> usize {
        self.paths.0.iter().map(|table| table.load().len()).sum()
    }
}

impl<T> Index<T> {
    /// Tables that are empty are one and the same until they change.
    fn new(all: Vec<Entries<T>>, hash: impl Fn(&T) -> Option<u64>) -> Self {
        let empty = Arc::new(Table::new());
        let table = |entries: Entries<T>| {
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

    fn find(&self, hash: u64, wanted: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.0.get(place(hash))?.load().find(hash, |known| wanted(known)).cloned()
    }

    fn each(&self, hash: u64, seen: impl FnMut(&Arc<T>)) {
        if let Some(table) = self.0.get(place(hash)) {
            table.load().iter_hash(hash).for_each(seen);
        }
    }

    fn change(&self, hash: u64, change: impl Fn(&mut Table<T>)) {
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
