//! Sections with names, and the places that refer to them: upstreams and authorization servers.

use super::checker::Checker;
use super::problem::{Problem, Span, shown};
use super::suggest::nearest;
use super::tree::{Entry, Node, Value};

/// What can be referred to by name.
pub(super) struct Names<T> {
    /// "upstream".
    pub(super) what: &'static str,
    /// The key that refers to it.
    pub(super) key: &'static str,
    /// In the order of the file.
    pub(super) all: Vec<(Box<str>, T)>,
    /// Whether the section stands in the file.
    pub(super) present: bool,
}

impl<T: Clone> Names<T> {
    /// What a name refers to. `place` is where the name could be given.
    pub(super) fn find(&self, name: Option<(&str, Span)>, place: Span, checker: &mut Checker<'_>) -> Option<T> {
        let Some((name, span)) = name else { return self.only(place, checker) };
        if let Some((_, found)) = self.all.iter().find(|(known, _)| &**known == name) {
            return Some(found.clone());
        }
        let problem = Problem::at(span, format!("{} `{}` is not defined", self.what, shown(name)));
        let suggestion = nearest(name, self.names());
        let problem = match suggestion {
            None if self.all.is_empty() => problem.label(format!("`{}s` has none", self.key)),
            None => problem.hint(format!("defined {}", self.listed())),
            some => problem.did_you_mean(some),
        };
        checker.error(problem);
        None
    }

    /// The only one there is.
    fn only(&self, place: Span, checker: &mut Checker<'_>) -> Option<T> {
        match self.all.as_slice() {
            [(_, only)] => return Some(only.clone()),
            // A missing or empty section of upstreams is reported at its own place.
            [] if self.key == "upstream" || self.present => {}
            [] => {
                let problem = Problem::at(place, format!("`{}s` is missing: a protected route needs one", self.key));
                checker.error(problem.write(format!("{}s: {{ NAME: {{ issuer: …, client: {{ id: …, secret: {{ file: PATH }} }} }} }}", self.key)));
            }
            [(first, _), ..] => {
                let problem = Problem::at(place, format!("`{}` is missing: the file has {}", self.key, self.listed()));
                checker.error(problem.write(format!("{}: {first}", self.key)));
            }
        }
        None
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _)| &**name)
    }

    fn listed(&self) -> String {
        self.names().take(12).map(|name| format!("`{}`", shown(name))).collect::<Vec<_>>().join(", ")
    }
}

/// The entries of a mapping whose keys are names of the user's choice, each once.
pub(super) fn named_entries<'t>(node: &'t Node, what: &str, checker: &mut Checker<'_>) -> Vec<&'t Entry> {
    let Value::Map(entries) = &node.value else {
        checker.hidden.hide(node);
        checker.error(Problem::at(node.span, format!("names are wanted, each with {what}, and here stands {}", node.kind())).write("{ NAME: { … } }"));
        return Vec::new();
    };
    if entries.is_empty() {
        checker.error(Problem::at(node.span, "this section is empty").label(format!("give {what} a name of your choice")));
    }
    let mut kept: Vec<&Entry> = Vec::new();
    for entry in entries.iter() {
        let right = entry.key.starts_with(|c: char| c.is_ascii_alphanumeric()) && entry.key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !right || entry.key.len() > 64 {
            let problem = Problem::at(entry.key_span, format!("`{}` is not a name", shown(&entry.key)));
            checker.error(problem.label("at most 64 letters, digits and - _ . with a letter or digit in front"));
        }
        if !kept.iter().any(|other| other.key == entry.key) {
            kept.push(entry);
        }
    }
    kept
}
