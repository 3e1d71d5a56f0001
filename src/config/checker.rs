//! The checker: collects every problem while sections are opened and values are read.
//!
//! [`Checker::section`] holds a mapping against its description; [`Keys::read`] hands a value to a reader, which returns nothing when it has reported a
//! problem. Whoever reads a section reads all its keys before it gives up, so that no mistake hides another.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::description::{Kind, Section, keys};
use super::mask::Hidden;
use super::problem::{Problem, Span, shown};
use super::suggest::nearest;
use super::tree::{Entry, Node, Value};

/// The value of an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What one reading of a configuration finds and needs.
pub(super) struct Checker<'a> {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) hidden: Hidden,
    /// Files that the configuration names and whose content counts.
    pub(super) files: Vec<PathBuf>,
    /// The directory of the file: relative paths begin there.
    pub(super) directory: &'a Path,
    /// The value of a variable; absent: secrets are not read.
    pub(super) environment: Option<Environment<'a>>,
}

/// A mapping that was held against its description.
pub(super) struct Keys<'t> {
    about: &'static Section,
    /// Where the section is named.
    pub(super) span: Span,
    entries: Vec<&'t Entry>,
    /// Keys that stand there misspelt: reported as such, so not missing as well.
    meant: Vec<&'static str>,
    /// Whether a key stands there that means nothing.
    strange: bool,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl Checker<'_> {
    /// Reports a mistake.
    pub(super) fn error(&mut self, problem: Problem) {
        self.errors.push(problem);
    }

    /// Reports what should be known.
    pub(super) fn warn(&mut self, problem: Problem) {
        self.warnings.push(problem);
    }

    /// Opens a section: unknown, missing, empty and excluding keys are reported. `span` is the place that names it.
    pub(super) fn section<'t>(&mut self, node: &'t Node, span: Span, about: &'static Section) -> Option<Keys<'t>> {
        let Value::Map(entries) = &node.value else {
            if about.leads_to_secret() || !node.is_short() {
                self.hidden.hide(node);
            }
            self.error(Problem::at(node.span, format!("{} is a section, and here stands {}", about.what, node.kind())).write(instead(node, about)));
            return None;
        };
        let (mut known, mut meant, mut strange): (Vec<&Entry>, Vec<&'static str>, bool) = Default::default();
        for entry in entries {
            match about.key(&entry.key) {
                // A duplicate has been reported with both places; the first counts.
                Some(_) if known.iter().any(|other| other.key == entry.key) => {}
                Some(key) if entry.value.is_null() => {
                    self.error(
                        Problem::at(entry.key_span, format!("`{}` has no value", key.name))
                            .label(format!("give it a value such as `{}`, or leave it out", key.sample())),
                    );
                    known.push(entry);
                }
                Some(_) => known.push(entry),
                None => {
                    strange = true;
                    meant.extend(self.unknown(entry, about, entries));
                }
            }
        }
        let keys = Keys { about, span, entries: known, meant, strange, asked: RefCell::default() };
        self.needed(&keys);
        Some(keys)
    }

    /// Reports an unknown key; gives the one that was meant, if one is near.
    fn unknown(&mut self, entry: &Entry, about: &'static Section, beside: &[Entry]) -> Option<&'static str> {
        if about.holds_secret() {
            self.hidden.hide(&entry.value);
        }
        let free = about.keys.iter().map(|key| key.name).filter(|name| !beside.iter().any(|other| other.key == *name));
        let problem = Problem::at(entry.key_span, format!("unknown key `{}`", shown(&entry.key)));
        let suggestion = nearest(&entry.key, free.clone()).or_else(|| called_elsewhere(&entry.key, free));
        let problem = match suggestion {
            None if entry.key == "<<" => problem.label("merge keys are not read").hint("defaults for several routes stand in `hosts`"),
            None => {
                let names: Vec<String> = about.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                problem.label(format!("{} has no such key", about.what)).hint(format!("known   {}", names.join(", ")))
            }
            Some(_) => problem.did_you_mean(suggestion),
        };
        let problem = match elsewhere(&entry.key) {
            // A slip of the hand is likelier than another place.
            Some(places) if suggestion.is_none() => problem.hint(format!("{places} has a key of that name")),
            _ => problem,
        };
        self.error(problem);
        suggestion
    }

    fn needed(&mut self, keys: &Keys<'_>) {
        let about = keys.about;
        for key in about.keys.iter().filter(|key| key.required && !keys.names(key.name)) {
            let problem = Problem::at(keys.span, format!("`{}` is missing: {} needs it", key.name, about.what));
            self.error(problem.write(format!("{}: {}", key.name, key.sample())));
        }
        if about.one_of.is_empty() {
            return;
        }
        let names = |group: &&[&str]| group.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        let choice = about.one_of.iter().map(names).collect::<Vec<_>>().join(", or ");
        let present: Vec<&&[&str]> = about.one_of.iter().filter(|group| group.iter().any(|name| keys.names(name))).collect();
        match present.as_slice() {
            [] if keys.strange => {}
            [] => self.error(Problem::at(keys.span, format!("{} has exactly one of {choice}", about.what)).label("and here is none")),
            [group] => {
                for missing in group.iter().filter(|name| !keys.names(name)) {
                    self.error(Problem::at(keys.span, format!("`{missing}` is missing: {} has {}", about.what, names(group))));
                }
            }
            [_, second, ..] => {
                let span = second.iter().find_map(|name| keys.key_span(name)).unwrap_or(keys.span);
                self.error(Problem::at(span, format!("{} has exactly one of {choice}", about.what)).label("and here is more than one: leave one out"));
            }
        }
    }
}

/// What to write in the place of something that is no section: where a text alone says what is meant, the section with that text.
fn instead(node: &Node, about: &Section) -> String {
    match &node.value {
        Value::Scalar { text, .. } if node.is_short() && !text.is_empty() && !about.leads_to_secret() && !text.contains(['"', '\\']) => {
            Some(about.of_text.replace('…', &shown(text))).filter(|meant| !meant.is_empty()).unwrap_or_else(|| about.sample())
        }
        _ => about.sample(),
    }
}

/// What other programs' words are here, if there is such a key.
fn called_elsewhere(key: &str, mut free: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const WORDS: [(&str, &[&str]); 6] = [
        ("location", &["path"]),
        ("match", &["path"]),
        ("proxy_pass", &["upstream"]),
        ("backend", &["upstream"]),
        ("server_name", &["host", "hosts"]),
        ("listen", &["address", "listeners"]),
    ];
    let (_, meant) = WORDS.iter().find(|(word, _)| *word == key)?;
    free.find(|name| meant.contains(name))
}

/// The sections that have this key, where they are few enough to say which was meant.
fn elsewhere(key: &str) -> Option<String> {
    const MOST: usize = 3;
    let places = keys::FILE.places(key);
    let named = |place: &String| if place.is_empty() { "the top of the file".to_owned() } else { format!("`{place}`") };
    (1..=MOST).contains(&places.len()).then(|| places.iter().map(named).collect::<Vec<_>>().join(" or "))
}

impl<'t> Keys<'t> {
    /// Whether the key stands there, with whatever value, perhaps misspelt.
    pub(super) fn names(&self, name: &str) -> bool {
        self.meant.contains(&name) || self.entries.iter().any(|entry| entry.key == name)
    }

    /// Where the key stands.
    pub(super) fn key_span(&self, name: &str) -> Option<Span> {
        self.entries.iter().find(|entry| entry.key == name).map(|entry| entry.key_span)
    }

    /// The key's entry, unless it has no value.
    pub(super) fn entry(&self, name: &'static str) -> Option<&'t Entry> {
        debug_assert!(self.about.key(name).is_some(), "`{name}` is read and not described");
        self.asked.borrow_mut().insert(name);
        self.entries.iter().find(|entry| entry.key == name && !entry.value.is_null()).copied()
    }

    /// The key's value as `reader` reads it; nothing when it is absent or wrong.
    pub(super) fn read<T>(&self, name: &'static str, checker: &mut Checker<'_>, reader: impl FnOnce(&'t Node, &mut Checker<'_>) -> Option<T>) -> Option<T> {
        self.entry(name).and_then(|entry| reader(&entry.value, checker))
    }

    /// Opens the section at the key.
    pub(super) fn open(&self, name: &'static str, checker: &mut Checker<'_>) -> Option<Keys<'t>> {
        let entry = self.entry(name)?;
        match self.about.key(name).map(|key| &key.kind) {
            Some(Kind::Section(about)) => checker.section(&entry.value, entry.key_span, about),
            _ => None,
        }
    }

    /// The description of what the values of a list or mapping at the key are.
    pub(super) fn section_of(&self, name: &str) -> Option<&'static Section> {
        match self.about.key(name).map(|key| &key.kind) {
            Some(Kind::Section(about) | Kind::List(Kind::Section(about) | Kind::ServerOr(about)) | Kind::Map(_, Kind::Section(about))) => Some(about),
            _ => None,
        }
    }
}

#[cfg(test)]
impl Drop for Keys<'_> {
    /// A key that is described and never read would be accepted without effect.
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        let forgotten = self.about.keys.iter().find(|key| !asked.contains(key.name));
        if let Some(key) = forgotten.filter(|_| !std::thread::panicking()) {
            panic!("`{}` of {} is described and not read", key.name, self.about.what);
        }
    }
}
