//! Shareable links: `{prefix}/{id}` names a record, and the record's path takes the place of the link's before anything is decided.
//!
//! A link opens nothing: what a request needs is decided by route and method as for the path itself, and nothing of the link goes further.

use std::sync::Arc;

use super::config::HostPattern;
use super::table::RouteTable;
use crate::path::{CanonicalPath, OptIns};
use crate::store::{Lookup, Registered, UNREAD, one_path};

/// Where links begin, and the records that they name.
#[derive(Clone, Debug)]
pub struct Links {
    host: Box<str>,
    prefix: Arc<str>,
    records: Lookup,
}

/// A link that a request came by.
#[derive(Clone, Debug)]
pub struct Link {
    /// The record that it names.
    pub record: Arc<Registered>,
    /// The path that was asked for.
    pub asked: CanonicalPath,
}

impl Links {
    /// Links at `host`, in its one spelling, below `prefix`, which begins with a slash and ends without one.
    #[must_use]
    pub const fn new(host: Box<str>, prefix: Arc<str>, records: Lookup) -> Self {
        Self { host, prefix, records }
    }

    /// As [`Self::follow`], but for what a route of another host than that of links takes: the path is its own.
    pub(super) fn follow_at(&self, host: &str, path: &CanonicalPath, table: &RouteTable) -> Option<Result<(CanonicalPath, Arc<Registered>), &'static str>> {
        let is_of_that_host = || table.find(host, path).is_some_and(|found| found.route.config().host != HostPattern::Any);
        self.follow(path).filter(|_| *host == *self.host || !is_of_that_host())
    }

    /// The record that a path names as a link, and the record's own path, or why it leads nowhere. `None`: the path is no link.
    fn follow(&self, path: &CanonicalPath) -> Option<Result<(CanonicalPath, Arc<Registered>), &'static str>> {
        let behind = path.as_str().strip_prefix(&*self.prefix)?;
        if !behind.is_empty() && !behind.starts_with('/') {
            return None;
        }
        let id = behind.trim_matches('/');
        let record = self.records.by_link(id).filter(|_| !id.is_empty());
        let Some(record) = record else { return Some(Err(if self.records.is_open() { "no share has this link" } else { UNREAD })) };
        Some(own_path(&record).map(|path| (path, record)).ok_or("the share of this link has many paths, and a link leads to one"))
    }
}

/// The path of a record; of one that has all below a folder, the folder. None of a template: it has no path of its own.
fn own_path(record: &Registered) -> Option<CanonicalPath> {
    CanonicalPath::parse_within(one_path(record.path.as_deref()?)?, OptIns::default()).ok()
}
