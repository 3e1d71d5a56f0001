//! The rooms of `ARCHITECTURE.md`: a room names only what stands to its right.

#![expect(clippy::expect_used, clippy::string_slice, reason = "helpers of a test: they stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From left to right. `client` stands apart: it names quiet rooms only, and `demo` and `cli` name it.
const ROOMS: [&str; 15] =
    ["main", "cli", "fuzz", "demo", "app", "config", "shares", "admin", "listener", "stack", "upstream", "credentials", "enforcement", "routing", "cache"];
const RIGHTMOST: [&str; 2] = ["authorization_server", "store"];
const QUIET: [&str; 9] = ["holes", "response", "path", "body", "http_client", "jose", "secret", "uma", "telemetry"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn room(source: &Path, file: &Path) -> String {
    let first = file.strip_prefix(source).expect("below src").components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Code without comments, texts and the tests at its end: what a shipped binary names.
fn code(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    shipped.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The rooms behind `crate::` and `use crate::{…}`.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let word = |text: &str| text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect::<String>();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0_i32;
            let mut item = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(word(item.trim()));
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(character);
            }
            found.insert(word(item.trim()));
        } else {
            found.insert(word(rest));
        }
    }
    found
}

/// The rooms behind as many `super::` as lead out of the file's own: one more than the file is deep.
fn named_from_below(text: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find("super::") {
        let chain = &rest[at..];
        let supers = chain.as_bytes().chunks(7).take_while(|chunk| *chunk == b"super::").count();
        let after = &chain[supers * 7..];
        if supers >= depth {
            // A list would have to be taken apart as behind `crate::`.
            found.extend(named(&format!("crate::{after}")));
        }
        rest = after;
    }
    found
}

fn position(room: &str) -> Option<usize> {
    ROOMS.iter().chain(&RIGHTMOST).position(|known| *known == room)
}

#[test]
fn a_room_names_only_what_stands_to_its_right() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let mut wrong = Vec::new();
    let mut rooms: BTreeMap<String, usize> = BTreeMap::new();
    for file in all {
        let room = room(&source, &file);
        let name = file.file_stem().expect("a name").to_string_lossy();
        if room == "lib" || name.ends_with("tests") || name == "testing" || file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        *rooms.entry(room.clone()).or_default() += 1;
        let code = code(&fs::read_to_string(&file).expect("a text"));
        let depth = file.strip_prefix(&source).expect("below src").components().count();
        for other in named(&code).into_iter().chain(named_from_below(&code, depth)) {
            let allowed = other == room
                || QUIET.contains(&other.as_str())
                || (other == "client" && matches!(room.as_str(), "cli" | "demo"))
                || matches!((position(&room), position(&other)), (Some(here), Some(there)) if there > here);
            if !allowed {
                wrong.push(format!("{} names `{other}`", file.strip_prefix(&source).expect("below src").display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "arrows to the left");
    let known: BTreeSet<&str> = ROOMS.into_iter().chain(QUIET).chain(RIGHTMOST).chain(["client"]).collect();
    let unknown: Vec<&String> = rooms.keys().filter(|room| !known.contains(room.as_str())).collect();
    assert!(unknown.is_empty(), "rooms that ARCHITECTURE.md does not name: {unknown:?}");
}

#[test]
fn an_arrow_to_the_left_would_be_seen() {
    assert_eq!(named("use crate::{config::{self, Gateway}, app};"), BTreeSet::from(["config".into(), "app".into()]));
    assert_eq!(named("let x = crate::stack::stack();"), BTreeSet::from(["stack".into()]));
    assert_eq!(named_from_below("use super::super::app::Gateway; use super::Entry;", 2), BTreeSet::from(["app".into()]));
}
