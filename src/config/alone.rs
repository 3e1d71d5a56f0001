//! One section alone, for commands that only ask a gateway which runs: a mistake elsewhere in the file is none of theirs.
//!
//! A probe that failed with every mistake in the file would have a gateway restarted that serves well with the configuration from before.

use std::path::Path;

use super::checker::{Checker, Environment, Keys};
use super::description::{Kind, keys};
use super::doors;
use super::mask::Hidden;
use super::problem::{Problem, Problems};
use super::render::Source;
use super::tree::{self, Tree, Value};
use crate::admin::{AdminDoor, HealthConfig};

/// `health` of a configuration file, whatever is wrong with the rest of it; `None`: there is none.
///
/// # Errors
/// The file cannot be read, the section has mistakes, or YAML is broken there.
pub fn health(path: &Path) -> Result<Option<HealthConfig>, Problems> {
    health_of(&read(path)?, path)
}

/// The same of its text.
pub(super) fn health_of(text: &str, path: &Path) -> Result<Option<HealthConfig>, Problems> {
    section(text, path, "health", None, |keys, checker| doors::health(keys, &mut Vec::new(), checker))
}

/// `admin` of a configuration file in the same way. The token is read where the door needs one, with the environment of this process.
///
/// # Errors
/// As [`health`]; or the token cannot be read.
pub fn admin(path: &Path) -> Result<Option<AdminDoor>, Problems> {
    let text = read(path)?;
    match admin_of(&text, path, None)? {
        Some(AdminDoor::Address { .. }) => admin_of(&text, path, Some(&|name| std::env::var(name).ok())),
        door => Ok(door),
    }
}

/// The same of its text, with the token or without.
pub(super) fn admin_of(text: &str, path: &Path, environment: Option<Environment<'_>>) -> Result<Option<AdminDoor>, Problems> {
    section(text, path, "admin", environment, |keys, checker| doors::admin(keys, &mut Vec::new(), checker).map(|(door, _)| door))
}

fn read(path: &Path) -> Result<String, Problems> {
    super::read(path).map_err(|reason| Problems::of_file(path, &reason))
}

fn section<T>(
    text: &str,
    path: &Path,
    name: &'static str,
    environment: Option<Environment<'_>>,
    read: impl FnOnce(&Keys<'_>, &mut Checker<'_>) -> Option<T>,
) -> Result<Option<T>, Problems> {
    let tree = parse(text, name).map_err(|problem| Problems::of_syntax(path, text, problem))?;
    let Value::Map(entries) = &tree.root.value else { return Ok(None) };
    let Some(entry) = entries.iter().find(|entry| entry.key == name) else { return Ok(None) };
    let Some(Kind::Section(about)) = keys::FILE.key(name).map(|key| &key.kind) else { return Ok(None) };
    let mut checker = Checker {
        errors: Vec::new(),
        warnings: Vec::new(),
        files: Vec::new(),
        hidden: Hidden::by_name(&tree.root),
        directory: path.parent().unwrap_or(Path::new("")),
        environment,
    };
    let found = checker.section(&entry.value, entry.key_span, about).and_then(|keys| read(&keys, &mut checker));
    let Checker { errors, hidden, files, .. } = checker;
    if found.is_some() && errors.is_empty() {
        return Ok(found);
    }
    let shown = Source::of(text, &hidden, errors.iter());
    Err(Problems { file: path.to_owned(), files, shown, errors, warnings: Vec::new() })
}

/// The whole file, or, where that is no YAML, the lines of the section at their places.
fn parse(text: &str, name: &str) -> Result<Tree, Problem> {
    tree::parse(text).or_else(|problem| {
        let begins = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':'));
        let goes_on = |line: &str| line.trim().is_empty() || line.starts_with([' ', '\t', '#', '}']);
        let mut inside = false;
        let lines = text.lines().map(|line| {
            inside = begins(line) || (inside && goes_on(line));
            if inside { line } else { "" }
        });
        tree::parse(&lines.collect::<Vec<_>>().join("\n")).map_err(|_| problem)
    })
}
