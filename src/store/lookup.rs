//! How requests find records: by their path, the most exact one first, or by their link.
//!
//! A [`Lookup`] finds nothing until the store is open, and nothing ever in a build without records: what is not found is closed. Nothing here waits.

use std::sync::Arc;
#[cfg(feature = "store")]
use std::sync::OnceLock;

#[cfg(feature = "store")]
use super::view::View;
use crate::path::{CanonicalPath, alike, spelling};

/// Most segments of a path that is shared. However deep the path of a request is, it is looked for in so many folders.
pub const DEEPEST: usize = 64;

/// Why nothing is found where there are no records to look into.
pub const UNREAD: &str = "what owners have shared is known to a gateway that runs";

/// Which resource record: never used again, not even when the record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey(pub(super) i64);

impl ResourceKey {
    /// One for tests of what never comes to the records.
    #[cfg(test)]
    pub const fn of(number: i64) -> Self {
        Self(number)
    }
}

/// What a request needs of a registered resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its record.
    pub key: ResourceKey,
    /// The issuer.
    pub authorization_server: Arc<str>,
    /// The canonical path, or a template: a segment `*` is any one, and with `/**` at its end it is all that stands below, too.
    pub path: Option<Box<str>>,
    /// The id of its link.
    pub link: Option<Box<str>>,
    /// What the authorization server calls it.
    pub resource_id: Arc<str>,
    /// The resource owner.
    pub owner: Arc<str>,
    /// Its scopes.
    pub scopes: Arc<[Box<str>]>,
    /// Where the content is.
    pub upstream: Box<str>,
}

impl Registered {
    /// Whether it is what stands at exactly this path, and there alone.
    #[must_use]
    pub fn is_exactly(&self, spelling: &str) -> bool {
        self.path.as_deref().is_some_and(|path| path == spelling && !path.contains('*'))
    }
}

/// The records that requests see. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    #[cfg(feature = "store")]
    view: Arc<OnceLock<Arc<View>>>,
}

impl Lookup {
    /// From now on the records of this view are found. A lookup is opened once.
    #[cfg(feature = "store")]
    pub fn open(&self, view: Arc<View>) {
        let _ = self.view.set(view);
    }

    /// Whether there are records to look into.
    #[must_use]
    pub fn is_open(&self) -> bool {
        #[cfg(feature = "store")]
        return self.view.get().is_some();
        #[cfg(not(feature = "store"))]
        false
    }

    /// The record that a path belongs to at this authorization server: that of exactly this path, else the one that names most of it from the left, where a
    /// segment `*` comes before `/**`. None where a server that is careless about case or normalisation could come to another record.
    #[must_use]
    pub fn at(&self, authorization_server: &str, path: &CanonicalPath) -> Option<Arc<Registered>> {
        let path = spelling(path);
        // Once for all folders above: they are the beginnings of it.
        let as_alike = alike(&path);
        // The root is the folder without a name.
        let mut folder = (path.trim_end_matches('/'), as_alike.trim_end_matches('/'));
        let below = |text: &str| text.match_indices('/').nth(DEEPEST).map(|(at, _)| at);
        match (below(&path), below(&as_alike)) {
            (None, None) => {
                if let Some(found) = self.exactly(authorization_server, &path, &as_alike) {
                    return found;
                }
            }
            (Some(end), Some(end_alike)) => folder = (path.get(..end)?, as_alike.get(..end_alike)?),
            _ => return None,
        }
        let mut patterns = (String::with_capacity(path.len().saturating_add(3)), String::with_capacity(as_alike.len().saturating_add(3)));
        loop {
            for (pattern, folder) in [(&mut patterns.0, folder.0), (&mut patterns.1, folder.1)] {
                pattern.clear();
                pattern.push_str(folder);
                pattern.push_str("/**");
            }
            let template = || self.template(authorization_server, folder.1, &path, &as_alike);
            if let Some(found) = template().or_else(|| self.exactly(authorization_server, &patterns.0, &patterns.1)) {
                return found;
            }
            folder = (folder.0.rsplit_once('/')?.0, folder.1.rsplit_once('/')?.0);
        }
    }

    /// The record with this link.
    #[must_use]
    pub fn by_link(&self, link: &str) -> Option<Arc<Registered>> {
        #[cfg(feature = "store")]
        return self.view.get()?.by_link(link);
        #[cfg(not(feature = "store"))]
        {
            let _ = link;
            None
        }
    }

    /// Whether this record is still what its path leads to.
    #[must_use]
    pub fn holds(&self, known: &Registered) -> bool {
        #[cfg(feature = "store")]
        return known.path.as_deref().and_then(|path| self.view.get()?.by_path(&known.authorization_server, path)).is_some_and(|found| *found == *known);
        #[cfg(not(feature = "store"))]
        {
            let _ = known;
            false
        }
    }

    /// As [`exactly`](Self::exactly), of those that name no more than this folder before a segment that stands for any.
    fn template(&self, authorization_server: &str, folder_alike: &str, path: &str, as_alike: &str) -> Option<Option<Arc<Registered>>> {
        #[cfg(feature = "store")]
        return self.view.get()?.template(authorization_server, folder_alike, path, as_alike);
        #[cfg(not(feature = "store"))]
        {
            let _ = (authorization_server, folder_alike, path, as_alike);
            None
        }
    }

    /// `None`: there is nothing here. `Some(None)`: there is one that could be taken for it.
    fn exactly(&self, authorization_server: &str, path: &str, as_alike: &str) -> Option<Option<Arc<Registered>>> {
        #[cfg(feature = "store")]
        return self.view.get()?.at(authorization_server, path, as_alike);
        #[cfg(not(feature = "store"))]
        {
            let _ = (authorization_server, path, as_alike);
            None
        }
    }
}

#[cfg(test)]
#[cfg(feature = "store")]
mod tests {

    use super::*;
    use crate::path::OptIns;
    use crate::secret::Secret;
    use crate::store::template::{exactness, takes};
    use crate::store::view::Filling;
    use crate::store::{Config, Key, Resource, ResourceRecord, State, Store, StoreError};

    const SERVER: &str = "https://id.example.org";

    fn resource(path: &str) -> Resource {
        Resource {
            authorization_server: SERVER.into(),
            path: Some(path.into()),
            link: None,
            owner: "alice".into(),
            name: path.into(),
            kind: None,
            icon_uri: None,
            scopes: vec!["view".into()],
            upstream: "content".into(),
            credential: None,
        }
    }

    async fn with(paths: &[&str]) -> (tempfile::TempDir, Store, Lookup) {
        let folder = tempfile::tempdir().expect("a folder");
        let key = Key::parse(&Secret::from(format!("1{}", "a".repeat(63)))).expect("a key");
        let store = Store::open(&Config { file: folder.path().join("records.db"), key, old_keys: Vec::new() }).await.expect("a store");
        for path in paths {
            let record = store.want(&resource(path)).await.expect("wanted");
            store.registered(record, path, None).await.expect("registered");
        }
        let lookup = Lookup::default();
        lookup.open(store.view());
        (folder, store, lookup)
    }

    fn at(lookup: &Lookup, path: &str) -> Option<String> {
        lookup.at(SERVER, &CanonicalPath::parse(path).unwrap()).map(|found| found.resource_id.to_string())
    }

    #[tokio::test]
    async fn the_most_exact_record_counts_whatever_the_spelling() {
        let (_folder, _store, lookup) = with(&["/a/**", "/a/b", "/a/b/c/**", "/a/x@y"]).await;
        for (path, expected) in [
            ("/a", Some("/a/**")),
            ("/a/", Some("/a/**")),
            ("/a/z/z", Some("/a/**")),
            ("/a/b", Some("/a/b")),
            ("/a/b/", Some("/a/b")),
            ("/a/b/z", Some("/a/**")),
            ("/a/b/c", Some("/a/b/c/**")),
            ("/a/b/c/d", Some("/a/b/c/**")),
            ("/a/x@y", Some("/a/x@y")),
            ("/a/x%40y/", Some("/a/x@y")),
            ("/", None),
            ("/ab", None),
            ("/b", None),
        ] {
            assert_eq!(at(&lookup, path).as_deref(), expected, "{path}");
        }
        assert!(lookup.at("https://other.example.org", &CanonicalPath::parse("/a").unwrap()).is_none());
    }

    #[tokio::test]
    async fn a_template_takes_what_no_record_names() {
        let paths = ["/a/**", "/a/*", "/a/b", "/a/b/**", "/a/*/c", "/a/*/*/**", "/x/*/Both", "/x/*/BOTH", "/x/*/*", "/y/*/**", "/y/b/c", "/*"];
        let (_folder, store, lookup) = with(&paths).await;
        for (path, expected) in [
            ("/a/b", Some("/a/b")),
            ("/a/z", Some("/a/*")),
            ("/a/z/", Some("/a/*")),
            ("/a/*", Some("/a/*")),
            ("/a/b/c", Some("/a/b/**")),
            ("/a/z/c", Some("/a/*/c")),
            ("/a/z/d", Some("/a/*/*/**")),
            ("/a/z/c/d", Some("/a/*/*/**")),
            ("/a", Some("/a/**")),
            ("/z", Some("/*")),
            ("/", None),
            ("/z/z", None),
            ("/x/z/Both", Some("/x/*/Both")),
            ("/x/z/BOTH", Some("/x/*/BOTH")),
            ("/x/z/y", Some("/x/*/*")),
            ("/y/z/c", Some("/y/*/**")),
        ] {
            assert_eq!(at(&lookup, path).as_deref(), expected, "{path}");
        }
        // What a careless server could take for what another record names.
        for path in ["/a/B", "/A/z", "/a/z/C", "/x/z/both", "/y/B/c", "/X/z/y"] {
            assert_eq!(at(&lookup, path), None, "{path}");
        }
        let slash = OptIns { encoded_slash: true, ..OptIns::default() };
        for path in ["/a/z%2Fc", "/y/b%2Fc", "/x/y%2Fz"] {
            let path = CanonicalPath::parse_within(path, slash).expect("admitted");
            assert!(lookup.at(SERVER, &path).is_none(), "{path:?}");
        }
        let known = lookup.at(SERVER, &CanonicalPath::parse("/a/z/c").unwrap()).expect("found");
        assert!(lookup.holds(&known));
        store.unwant(known.key).await.expect("unwanted");
        assert_eq!(at(&lookup, "/a/z/c").as_deref(), Some("/a/*/*/**"));
        assert!(!lookup.holds(&known));
    }

    fn triples(of: [&str; 4]) -> impl Iterator<Item = (&str, &str, &str)> {
        of.into_iter().flat_map(move |one| of.into_iter().flat_map(move |two| of.into_iter().map(move |three| (one, two, three))))
    }

    /// What is seen of records that nobody has written down.
    fn view(paths: &[&str]) -> Arc<View> {
        let mut filling = Filling::new();
        for (key, path) in (0..).zip(paths) {
            let record =
                ResourceRecord { key: ResourceKey(key), resource: resource(path), state: State::Registered { resource_id: (*path).into(), policy_uri: None } };
            filling.add(Registered::of(record).expect("registered"));
        }
        Arc::new(filling.finish())
    }

    /// All records compared with the path, one by one.
    fn slowly<'a>(records: &[&'a str], path: &str) -> Option<&'a str> {
        let careless: Vec<&str> = records.iter().copied().filter(|record| takes(&alike(record), &alike(path))).collect();
        let best = careless.iter().copied().min_by(|one, other| exactness(one, other))?;
        careless.into_iter().find(|record| exactness(record, best).is_eq() && takes(record, path))
    }

    #[test]
    fn the_record_of_a_path_is_the_most_exact_of_all_that_take_it() {
        let (segments, ends) = (["a", "b", "A", "*"], ["", "/**"]);
        let mut all = vec!["/**".to_owned()];
        for (one, two, three) in triples(segments) {
            for end in ends {
                all.extend([format!("/{one}{end}"), format!("/{one}/{two}{end}"), format!("/{one}/{two}/{three}{end}")]);
            }
        }
        all.sort();
        all.dedup();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut chance = |of: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.is_multiple_of(of)
        };
        let (mut open, mut closed) = (0, 0);
        for _ in 0..100 {
            let records: Vec<&str> = all.iter().map(String::as_str).filter(|_| chance(16)).collect();
            let lookup = Lookup::default();
            lookup.open(view(&records));
            for (one, two, three) in triples(segments) {
                for path in [format!("/{one}"), format!("/{one}/{two}"), format!("/{one}/{two}/{three}"), format!("/{one}/{two}/{three}/a")] {
                    let expected = slowly(&records, &path);
                    assert_eq!(at(&lookup, &path).as_deref(), expected, "{path} of {records:?}");
                    *if expected.is_some() { &mut open } else { &mut closed } += 1;
                }
            }
        }
        assert!(open > 1000 && closed > 1000, "{open} {closed}");
    }

    fn of(owner: &str, path: &str) -> Resource {
        Resource { owner: owner.into(), ..resource(path) }
    }

    #[tokio::test]
    async fn an_owner_has_so_many_templates_in_a_folder_and_keeps_none_from_another() {
        let paths: Vec<String> = (0..32).map(|number| if number == 0 { "/a/*".to_owned() } else { format!("/a/*/{number}") }).collect();
        let all: Vec<&str> = paths.iter().map(String::as_str).chain(["/a/**", "/a/b/*/32", "/aa/*", "/a/x", "/a0/*"]).collect();
        let (_folder, store, lookup) = with(&all).await;
        assert!(matches!(store.want(&resource("/a/*/32")).await, Err(StoreError::TooManyTemplates { of_owner: true })));
        assert_eq!((at(&lookup, "/a/z/31").as_deref(), at(&lookup, "/a/z/32").as_deref()), (Some("/a/*/31"), Some("/a/**")));

        let bobs = store.want(&of("bob", "/a/*/32")).await.expect("there is room for others");
        store.registered(bobs, "of bob", None).await.expect("registered");
        assert_eq!(at(&lookup, "/a/z/32").as_deref(), Some("of bob"));
    }

    #[tokio::test]
    async fn a_folder_has_so_many_templates_of_all_owners() {
        let (_folder, store, lookup) = with(&[]).await;
        for number in 0..1024 {
            let record = store.want(&of(&format!("owner {}", number / 32), &format!("/a/*/{number}"))).await.expect("wanted");
            store.registered(record, &number.to_string(), None).await.expect("registered");
        }
        assert!(matches!(store.want(&of("alice", "/a/*/more")).await, Err(StoreError::TooManyTemplates { of_owner: false })));
        for number in [0, 500, 1023] {
            assert_eq!(at(&lookup, &format!("/a/z/{number}")), Some(number.to_string()));
        }
        assert_eq!(at(&lookup, "/a/z/more"), None);
    }

    #[tokio::test]
    async fn a_template_is_found_as_long_as_there_is_one_of_its_kind() {
        let (_folder, store, lookup) = with(&["/a/*/x", "/a/*/y", "/a/*/**"]).await;
        let withdraw = async |path: &str| {
            let known = lookup.at(SERVER, &CanonicalPath::parse(path).unwrap()).expect("found");
            store.unwant(known.key).await.expect("unwanted");
            store.remove(known.key).await.expect("removed");
        };
        let found = || ["/a/z/x", "/a/z/y", "/a/z/z"].map(|path| at(&lookup, path));
        let text = |path: &str| Some(path.to_owned());
        // Its record in another form takes its own place.
        let known = lookup.at(SERVER, &CanonicalPath::parse("/a/z/x").unwrap()).expect("found");
        store.describe(known.key, "another name", &["view".to_owned()]).await.expect("described");
        assert_eq!(store.view().shapes(), 2);
        withdraw("/a/z/x").await;
        assert_eq!(found(), [text("/a/*/**"), text("/a/*/y"), text("/a/*/**")]);
        withdraw("/a/z/z").await;
        assert_eq!(found(), [None, text("/a/*/y"), None]);
        withdraw("/a/z/y").await;
        assert_eq!((found(), store.view().shapes()), ([None, None, None], 0));
        let record = store.want(&resource("/a/*/x")).await.expect("wanted");
        store.registered(record, "again", None).await.expect("registered");
        assert_eq!(found(), [text("again"), None, None]);
    }

    #[tokio::test]
    async fn what_could_be_taken_for_another_record_is_not_found() {
        let (_folder, _store, lookup) = with(&["/a/**", "/a/Secret", "/a/both", "/a/BOTH"]).await;
        for (path, expected) in [("/a/SECRET", None), ("/a/secret/", None), ("/A/x", None), ("/a/both", Some("/a/both")), ("/a/BOTH", Some("/a/BOTH"))] {
            assert_eq!(at(&lookup, path).as_deref(), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn a_path_of_any_depth_is_looked_for_in_so_many_folders() {
        let deep = |segments: usize| "/A".repeat(segments);
        let (all, beyond) = (format!("{}/**", deep(DEEPEST)), format!("{}/**", deep(DEEPEST + 1)));
        let (_folder, _store, lookup) = with(&["/**", &all, &beyond, &deep(DEEPEST - 1)]).await;
        assert_eq!(at(&lookup, &deep(4000)).as_deref(), Some(&*all));
        assert_eq!(at(&lookup, &deep(DEEPEST)).as_deref(), Some(&*all));
        assert_eq!(at(&lookup, &deep(DEEPEST - 1)).as_deref(), Some(&*deep(DEEPEST - 1)));
        assert_eq!(at(&lookup, &format!("{}/x", deep(DEEPEST - 2))).as_deref(), Some("/**"));
        assert_eq!(at(&lookup, &deep(4000).to_lowercase()), None, "in another case");
    }

    #[tokio::test]
    async fn the_root_may_be_a_record() {
        let (_folder, store, lookup) = with(&["/**"]).await;
        assert_eq!((at(&lookup, "/").as_deref(), at(&lookup, "/a/b").as_deref()), (Some("/**"), Some("/**")));
        let known = lookup.at(SERVER, &CanonicalPath::parse("/a").unwrap()).expect("found");
        assert!(lookup.holds(&known));
        store.unwant(known.key).await.expect("unwanted");
        assert!(!lookup.holds(&known));
        assert_eq!(at(&lookup, "/a"), None);
    }

    #[test]
    fn nothing_is_found_before_the_records_are_open() {
        let lookup = Lookup::default();
        assert!(lookup.at(SERVER, &CanonicalPath::parse("/a").unwrap()).is_none());
        assert!(lookup.by_link("x").is_none());
    }
}
