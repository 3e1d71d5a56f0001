//! Shareable links: `{prefix}/{id}` names a record, and the record's path takes the place of the link's before anything is decided.
//!
//! A link opens nothing: what a request needs is decided by route and method as for the path itself, and nothing of the link goes further.

use std::sync::Arc;

use crate::path::{CanonicalPath, OptIns};
use crate::store::{Lookup, Registered, UNREAD};

/// Where links begin, and the records that they name.
#[derive(Clone, Debug)]
pub struct Links {
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
    /// Links below `prefix`, which begins with a slash and ends without one.
    #[must_use]
    pub const fn new(prefix: Arc<str>, records: Lookup) -> Self {
        Self { prefix, records }
    }

    /// The record that a path names as a link, and the record's own path, or why it leads nowhere. `None`: the path is no link.
    pub(super) fn follow(&self, path: &CanonicalPath) -> Option<Result<(CanonicalPath, Arc<Registered>), &'static str>> {
        let behind = path.as_str().strip_prefix(&*self.prefix)?;
        if !behind.is_empty() && !behind.starts_with('/') {
            return None;
        }
        let id = behind.trim_matches('/');
        let record = self.records.by_link(id).filter(|_| !id.is_empty());
        let leads = record.and_then(|record| Some((own_path(&record)?, record)));
        Some(leads.ok_or(if self.records.is_open() { "no share has this link" } else { UNREAD }))
    }
}

/// The path of a record; of one that has all below a folder, the folder.
fn own_path(record: &Registered) -> Option<CanonicalPath> {
    let path = record.path.as_deref()?;
    let path = match path.strip_suffix("/**") {
        Some("") => "/",
        Some(folder) => folder,
        None => path,
    };
    CanonicalPath::parse_within(path, OptIns::default()).ok()
}
