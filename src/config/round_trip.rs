//! For the fuzz target `config`: a text is read, printed plainly, and read again; its doors alone; and, where it stays in one folder, with its secrets.
#![expect(clippy::panic, clippy::expect_used, reason = "an oracle that disagrees stops")]

use std::fmt::Write as _;
use std::path::Path;

use super::problem::Problems;
use super::tree::{self, Node, Value};
use super::{Gateway, alone, whole};
use crate::admin::AdminDoor;

const FILE: &str = "gateway.yaml";

/// Reads a text without its secrets, prints what was understood, and reads that: it means the same.
///
/// # Panics
/// Where it does not, or where a problem points at no place of the text.
pub(crate) fn round_trip(text: &str) {
    let tree = match tree::parse(text) {
        Ok(tree) => tree,
        Err(problem) => {
            doors(text, None);
            return told(text, &Problems::of_syntax(Path::new(FILE), text, problem));
        }
    };
    if stays_inside(&tree.root, false) {
        with_secrets(text);
    }
    if !tree.problems.is_empty() {
        // Tags and keys of other kinds are in no tree.
        let refused = whole::read(tree, text, Path::new(FILE), None).expect_err("a document with mistakes was taken");
        return told(text, &refused);
    }
    let mut printed = String::new();
    print(&tree.root, 0, &mut printed);
    let again = tree::parse(&printed).unwrap_or_else(|problem| panic!("what was printed is no YAML: {problem:?}\n{printed}"));
    assert!(same(&tree.root, &again.root), "printed it says something else:\n{printed}");
    let mut twice = String::new();
    print(&again.root, 0, &mut twice);
    assert_eq!(twice, printed);
    let first = whole::read(tree, text, Path::new(FILE), None);
    doors(text, first.as_ref().ok());
    match &first {
        Ok(gateway) => placed(text, gateway),
        Err(problems) => told(text, problems),
    }
    match (&first, &whole::read(again, &printed, Path::new(FILE), None)) {
        (Ok(first), Ok(second)) => assert_eq!(meaning(first), meaning(second), "printed it means something else:\n{printed}"),
        (Err(first), Err(second)) => assert_eq!(first.errors.is_empty(), second.errors.is_empty()),
        (Ok(_), Err(problems)) => panic!("only what was printed is wrong: {problems}\n{printed}"),
        (Err(problems), Ok(_)) => panic!("only what was read is wrong: {problems}\n{printed}"),
    }
}

/// Each door alone is what it is in the whole, and has its own mistakes otherwise.
fn doors(text: &str, gateway: Option<&Gateway>) {
    let (health, admin) = (alone::health_of(text, Path::new(FILE)), alone::admin_of(text, Path::new(FILE), None));
    if let Some(gateway) = gateway {
        let whole = format!("{:?} {:?}", gateway.health, gateway.admin);
        let alone = format!("{:?} {:?}", health.as_ref().ok().and_then(Option::as_ref), admin.as_ref().ok().and_then(Option::as_ref));
        assert_eq!(alone, whole, "a door alone is another one");
    }
    health.err().iter().chain(admin.err().iter()).for_each(|problems| told(text, problems));
}

/// What the gateway opens is found again in the text.
fn placed(text: &str, gateway: &Gateway) {
    let doors = gateway.listeners.iter().map(|listener| listener.address).chain(gateway.health.iter().map(|health| health.address));
    let mut places: Vec<String> = doors.map(|address| gateway.places.of(address).expect("the place of an address")).collect();
    places.extend(gateway.places.socket());
    assert_eq!(gateway.places.socket().is_some(), matches!(gateway.admin, Some(AdminDoor::Socket(_))));
    for place in places {
        let mut numbers = place.rsplit(':').map(|number| number.parse::<usize>().unwrap_or(0));
        let (column, line) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let there = text.split(['\n', '\r']).filter(|line| line.chars().count() >= column).count();
        assert!(place.starts_with(FILE) && column > 0 && line > 0 && there > 0, "nothing stands at {place}");
    }
}

/// What the secrets of the folder hold.
const KEPT: &str = "ne3dle";

/// Whether no value could name a file outside of the folder of secrets. Behind some keys stand paths of URLs.
fn stays_inside(node: &Node, of_url: bool) -> bool {
    match &node.value {
        Value::Scalar { text, .. } => of_url || !(text.starts_with('/') || text.contains("..")),
        Value::List(items) => items.iter().all(|item| stays_inside(item, false)),
        Value::Map(entries) => entries.iter().all(|entry| stays_inside(&entry.value, ["path", "rewrite", "location"].contains(&&*entry.key))),
    }
}

/// Reads a text with its secrets: none of them is shown, and what is right with them is right without.
fn with_secrets(text: &str) {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/files")).join(FILE);
    let environment = |name: &str| name.ends_with("SECRET").then(|| format!("{KEPT}-of-the-environment"));
    let read = |environment: Option<super::checker::Environment<'_>>| whole::read(tree::parse(text).expect("read before"), text, &file, environment);
    let shown = match read(Some(&environment)) {
        Ok(gateway) => {
            let without = read(None).unwrap_or_else(|problems| panic!("right with its secrets alone: {problems}"));
            assert_eq!(gateway.routes.len(), without.routes.len());
            format!("{gateway:?}")
        }
        Err(problems) => {
            told(text, &problems);
            format!("{problems:?}\n{problems}\n{}", problems.to_json())
        }
    };
    let door = alone::admin_of(text, &file, Some(&environment));
    assert!(text.contains(KEPT) || !format!("{shown}\n{door:?}").contains(KEPT), "a secret is shown:\n{shown}");
}

/// Problems have a place in the text and show nothing that was written where a secret belongs.
fn told(text: &str, problems: &Problems) {
    assert!(!problems.errors.is_empty());
    // A break of a line at the end is a place as well.
    let lines = u32::try_from(text.split(['\n', '\r']).count()).unwrap_or(u32::MAX);
    for problem in problems.errors.iter().chain(&problems.warnings) {
        assert!(problem.place.line <= lines.saturating_add(1), "line {} of {lines}", problem.place.line);
        assert!(!problem.message.is_empty());
    }
    let shown = format!("{problems}\n{}\n{}", problems.lines().join("\n"), problems.to_json());
    assert!(shown.chars().all(|character| character == '\n' || !character.is_control()), "what is shown moves the cursor");
    assert!(!hides(text) || !shown.contains(NEEDLE), "a secret is shown:\n{shown}");
}

/// What corpora write where a secret belongs.
const NEEDLE: &str = "n33dle";

/// Whether every needle stands plainly behind the name of a secret, in a text without quotes, flows and aliases.
fn hides(text: &str) -> bool {
    let plain = text.lines().all(|line| line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_:./".contains(&byte)));
    let names = ["password:", "secret:", "token:", "client_secret:", "private_key:"];
    let secret = |line: &str| line.trim_start().trim_start_matches("- ").split_once(' ').is_some_and(|(name, _)| names.contains(&name));
    plain && text.contains(NEEDLE) && text.lines().filter(|line| line.contains(NEEDLE)).all(secret)
}

/// All that it says, but for where it stood.
fn meaning(gateway: &Gateway) -> String {
    let mut left = String::new();
    let debug = format!("{gateway:?}");
    let mut rest = debug.as_str();
    while let Some(at) = rest.find("Place {") {
        let (before, behind) = rest.split_at(at);
        left.push_str(before);
        rest = behind.split_once('}').map_or("", |(_, behind)| behind);
    }
    left.push_str(rest);
    // Warnings begin with a place.
    left.split("warnings: [").next().unwrap_or_default().to_owned()
}

fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Scalar { text, plain }, Value::Scalar { text: other, plain: other_plain }) => text == other && (plain == other_plain || !is_simple(text)),
        (Value::List(one), Value::List(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other)),
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.key == other.key && same(&one.value, &other.value))
        }
        _ => false,
    }
}

fn print(node: &Node, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match &node.value {
        Value::Scalar { text, plain } => {
            let _ = writeln!(out, "{}", scalar(text, *plain));
        }
        Value::List(items) if items.is_empty() => out.push_str("[]\n"),
        Value::Map(entries) if entries.is_empty() => out.push_str("{}\n"),
        Value::List(items) => {
            for item in items {
                let _ = write!(out, "{indent}-{}", begin(item));
                print(item, depth + 1, out);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let key = scalar(&entry.key, false);
                // A longer one is a key only where that is said (YAML 1.2, 7.4.2).
                let said = if key.len() > 1000 { format!("{indent}? {key}\n{indent}") } else { format!("{indent}{key}") };
                let _ = write!(out, "{said}:{}", begin(&entry.value));
                print(&entry.value, depth + 1, out);
            }
        }
    }
}

/// What stands between a key or a dash and its value.
fn begin(node: &Node) -> &'static str {
    match &node.value {
        Value::List(items) if !items.is_empty() => "\n",
        Value::Map(entries) if !entries.is_empty() => "\n",
        _ => " ",
    }
}

/// Whether a text may stand without quotes and mean itself.
fn is_simple(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_/.%+~-".contains(&byte);
    let starts = |byte: u8| byte.is_ascii_alphanumeric() || b"/_~+".contains(&byte);
    text.is_empty() || (text.bytes().all(plain) && text.bytes().next().is_some_and(starts))
}

fn scalar(text: &str, plain: bool) -> String {
    if plain && is_simple(text) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => {
                let _ = write!(out, "\\U{:08X}", u32::from(character));
            }
        }
    }
    out + "\""
}
