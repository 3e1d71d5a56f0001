//! The section `store`: the file of the records and its keys.

use std::path::PathBuf;

use super::checker::{Checker, Keys};
use super::problem::{Problem, shown};
use super::secrets::secret;
use super::tree::{Node, Value};
use super::values::{file, list, may_make, unwritable};
use crate::store::{Config, Key};

/// `store`. None without a problem where secrets are not read: there are no records without a key.
pub(super) fn store(keys: &Keys<'_>, checker: &mut Checker<'_>) -> Option<Config> {
    if cfg!(not(feature = "store")) {
        checker.error(Problem::at(keys.span, "this gateway was built without records").label("leave `store` out, or take a build with the feature `store`"));
    }
    let file = keys.read("file", checker, records);
    let current = keys.read("key", checker, key);
    let old_keys = keys.read("old_keys", checker, old_keys);
    Some(Config { file: file?, key: current?, old_keys: old_keys.unwrap_or_default() })
}

/// The database. It is not opened here: a gateway that runs has it, and would lose its lock when another handle of the same process is closed.
fn records(node: &Node, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let path = file(node, checker)?;
    if checker.environment.is_none() {
        return Some(path);
    }
    let told = |reason: String| Problem::at(node.span, format!("{} cannot be used", shown(&path.display().to_string()))).label(reason);
    if path.is_dir() {
        checker.error(told("it is a directory".to_owned()));
        return None;
    }
    // Its log comes and goes beside it.
    if let Err(error) = may_make(&path) {
        checker.error(told(unwritable(&error)));
        return None;
    }
    Some(path)
}

fn old_keys(node: &Node, checker: &mut Checker<'_>) -> Option<Vec<Key>> {
    if !matches!(node.value, Value::List(_)) {
        // Perhaps the key itself.
        checker.hidden.hide(node);
        checker.error(Problem::at(node.span, "a list of keys is wanted").write("[ { file: PATH } ]"));
        return None;
    }
    list(node, checker, key)
}

fn key(node: &Node, checker: &mut Checker<'_>) -> Option<Key> {
    let secret = secret(node, checker)?;
    checker.environment?;
    match Key::parse(&secret) {
        Ok(key) => Some(key),
        Err(problem) => {
            checker.error(Problem::at(node.span, problem.to_string()).hint("make one   openssl rand -base64 32"));
            None
        }
    }
}
