//! Secrets: read from a file or the environment, never from the configuration itself.
//!
//! Nothing here puts a secret, or what stands in the place of one, into a message; what was written out by mistake is hidden in the source as well.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use http::HeaderValue;

use super::checker::Checker;
use super::problem::{Problem, Span, shown};
use super::tree::{Entry, Node, Value};
use super::values::scalar;
use crate::secret::Secret;

/// Longest secret in bytes.
const MOST_BYTES: u64 = 64 * 1024;

/// `{ env: NAME }` or `{ file: PATH }`.
pub(super) fn secret(node: &Node, checker: &mut Checker<'_>) -> Option<Secret> {
    let secret = read_from(node, checker)?;
    if secret.expose().chars().any(char::is_control) {
        let what = secret.origin().unwrap_or("this secret").to_owned();
        checker.error(Problem::at(node.span, format!("{what} holds a control character")).label("one line of text, without tabs"));
        return None;
    }
    Some(secret)
}

/// The same with a text of several lines in it: a private key (PEM).
pub(super) fn secret_lines(node: &Node, checker: &mut Checker<'_>) -> Option<Secret> {
    read_from(node, checker)
}

fn read_from(node: &Node, checker: &mut Checker<'_>) -> Option<Secret> {
    let Value::Map(entries) = &node.value else {
        checker.hidden.hide(node);
        let problem = Problem::at(node.span, "a secret is not written out").label("it belongs into a file or the environment");
        checker.error(problem.write("{ file: PATH }      or { env: NAME }"));
        return None;
    };
    let [Entry { key, value, .. }] = entries.as_slice() else {
        checker.hidden.hide(node);
        return wrong_shape(node, checker);
    };
    match key.as_str() {
        "env" | "file" if checker.environment.is_none() => Some(Secret::from("unread")),
        "env" => from_environment(value, checker),
        "file" => from_file(value, checker),
        _ => {
            checker.hidden.hide(node);
            wrong_shape(node, checker)
        }
    }
}

fn wrong_shape(node: &Node, checker: &mut Checker<'_>) -> Option<Secret> {
    checker.error(Problem::at(node.span, "a secret has exactly one of `env` and `file`").write("{ file: PATH }      or { env: NAME }"));
    None
}

fn from_environment(node: &Node, checker: &mut Checker<'_>) -> Option<Secret> {
    let name = scalar(node, checker, "the name of an environment variable")?;
    let right = !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !right {
        // Perhaps the secret itself.
        checker.hidden.hide(node);
        checker.error(Problem::at(node.span, "this is not the name of an environment variable").label("letters, digits and _").write("{ env: NAME }"));
        return None;
    }
    let Some(text) = checker.environment.and_then(|environment| environment(name)) else {
        checker.error(Problem::at(node.span, format!("the environment variable {} is not set", shown(name))).label("set it, or name a file instead"));
        return None;
    };
    checked(text, &format!("the environment variable {}", shown(name)), node.span, checker)
}

fn from_file(node: &Node, checker: &mut Checker<'_>) -> Option<Secret> {
    let path = checker.directory.join(scalar(node, checker, "a file")?);
    checker.files.push(path.clone());
    let what = format!("the secret file {}", shown(&path.display().to_string()));
    match read(&path) {
        Ok((text, open_to_all)) => {
            if open_to_all {
                let problem = Problem::at(node.span, format!("{what} can be read by every user of this machine"));
                checker.warn(problem.hint(format!("chmod 600 {}", shown(&path.display().to_string()))));
            }
            checked(text, &what, node.span, checker)
        }
        Err(reason) => {
            checker.error(Problem::at(node.span, format!("{what} cannot be read")).label(reason));
            None
        }
    }
}

/// The file's text without one newline at its end, and whether every user may read it.
fn read(path: &Path) -> Result<(String, bool), String> {
    let file = File::open(path).map_err(|error| reason(&error))?;
    let about = file.metadata().map_err(|error| reason(&error))?;
    if about.is_dir() {
        return Err("it is a directory".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err("it is larger than 64 KiB".to_owned());
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok((text, open_to_all(&about)))
}

/// Why a file cannot be read.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(unix)]
fn open_to_all(about: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    about.is_file() && about.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn open_to_all(_: &std::fs::Metadata) -> bool {
    false
}

fn checked(text: String, what: &str, span: Span, checker: &mut Checker<'_>) -> Option<Secret> {
    let secret = Secret::from(text);
    if secret.expose().is_empty() {
        checker.error(Problem::at(span, format!("{what} is empty")));
        return None;
    }
    Some(secret.from_origin(what))
}

/// A header value that is ready to send and marked sensitive. What it is made of is a secret, so a refusal does not show it.
pub(super) fn header_value(text: &Secret, span: Span, checker: &mut Checker<'_>) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text.expose()).ok().filter(|value| value.to_str().is_ok());
    let Some(mut value) = value else {
        checker.error(Problem::at(span, "this secret cannot stand in a header").label("it holds a character outside ASCII"));
        return None;
    };
    value.set_sensitive(true);
    Some(value)
}
