//! The description as a JSON Schema (draft 2020-12), for editors and for machines that write configurations.

use serde_json::{Map, Value, json};

use super::{Key, KeyKind, Kind, Section, keys};

/// The JSON Schema of a configuration file.
#[must_use]
pub fn schema() -> Value {
    let mut schema = of_section(&keys::FILE);
    if let Some(members) = schema.as_object_mut() {
        members.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        members.insert("title".to_owned(), json!("Configuration of uma-gateway"));
        members.insert("$defs".to_owned(), json!({ "secret": secret() }));
    }
    schema
}

fn of_section(section: &Section) -> Value {
    let properties: Map<String, Value> = section.keys.iter().map(|key| (key.name.to_owned(), of_key(key))).collect();
    let required: Vec<&str> = section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if let Some(members) = schema.as_object_mut() {
        if !required.is_empty() {
            members.insert("required".to_owned(), json!(required));
        }
        if !section.one_of.is_empty() {
            members.insert("oneOf".to_owned(), section.one_of.iter().map(|group| alternative(section, group)).collect());
        }
    }
    schema
}

/// One group of keys, and none of the other groups.
fn alternative(section: &Section, group: &[&str]) -> Value {
    let others = section.one_of.iter().flat_map(|other| other.iter()).filter(|name| !group.contains(name));
    let others: Map<String, Value> = others.map(|name| ((*name).to_owned(), json!(false))).collect();
    json!({ "required": group, "properties": others })
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind(&key.kind);
    if let Some(members) = schema.as_object_mut() {
        let default = if key.default.is_empty() { String::new() } else { format!(" Default: {}.", key.default) };
        members.insert("description".to_owned(), json!(format!("{}{default}", key.doc)));
    }
    schema
}

fn of_kind(kind: &Kind) -> Value {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match kind {
        Kind::Version => json!({ "const": 1 }),
        // A text that looks like a number is one for YAML's readers, and the same text for the gateway.
        Kind::Text => json!({ "type": ["string", "number"] }),
        // A word that looks like a number is one for YAML's readers.
        Kind::Word(words) => {
            let numbers = words.iter().filter_map(|word| word.parse::<f64>().ok()).map(Value::from);
            json!({ "enum": words.iter().copied().map(Value::from).chain(numbers).collect::<Vec<_>>() })
        }
        Kind::WordOr(..) | Kind::File | Kind::Host | Kind::Template => json!({ "type": "string", "minLength": 1 }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::True => json!({ "const": true }),
        Kind::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Status(numbers) => json!({ "enum": numbers }),
        Kind::Duration => pattern("^[0-9]+(ms|s|m|h|d)$"),
        Kind::DurationOrZero => json!({ "anyOf": [ { "const": 0 }, pattern("^[0-9]+(ms|s|m|h|d)$") ] }),
        Kind::Size => pattern("^[0-9]+(B|KiB|MiB|GiB)$"),
        Kind::Rate => pattern("^[0-9]+/s$"),
        Kind::Percent => pattern("^[0-9]{1,2}%$"),
        Kind::Address => pattern("^.+:[0-9]+$"),
        Kind::Network => pattern("^[0-9A-Fa-f.:]+(/[0-9]+)?$"),
        Kind::Url => pattern("^https?://"),
        Kind::Server => pattern("^(https?://|unix:/)"),
        Kind::ServerOr(section) => json!({ "anyOf": [ pattern("^(https?://|unix:/)"), of_section(section) ] }),
        Kind::Origin => pattern("^(\\*|https?://[^/]+)$"),
        Kind::Pattern | Kind::Rewrite => pattern("^/"),
        Kind::Secret => json!({ "$ref": "#/$defs/secret" }),
        Kind::List(of) => json!({ "type": "array", "items": of_kind(of) }),
        Kind::Map(names, of) => of_map(*names, of),
        Kind::WordOrMap(words, names, of) => json!({ "anyOf": [ { "enum": words }, of_map(*names, of) ] }),
        Kind::Section(section) => of_section(section),
    }
}

fn of_map(names: KeyKind, of: &Kind) -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": of_names(names) }, "additionalProperties": of_kind(of) })
}

fn of_names(names: KeyKind) -> &'static str {
    match names {
        KeyKind::Name => "^[A-Za-z0-9][A-Za-z0-9._-]*$",
        KeyKind::Host => "^(\\*\\.)?[A-Za-z0-9]",
        KeyKind::Header => "^[A-Za-z][A-Za-z0-9-]*$",
        KeyKind::Owner => "^.+$",
        KeyKind::Methods => "^[A-Z][A-Z-]*( *, *[A-Z][A-Z-]*)*$",
    }
}

fn secret() -> Value {
    json!({
        "type": "object",
        "description": "A secret is never written out: { env: NAME } or { file: PATH }.",
        "additionalProperties": false,
        "properties": {
            "env": { "type": "string", "description": "The environment variable that holds it." },
            "file": { "type": "string", "description": "The file that holds it, relative to the one that names it; a trailing newline is cut." },
        },
        "oneOf": [ { "required": ["env"] }, { "required": ["file"] } ],
    })
}
