//! Which parts of the source may never be shown: secrets that were written out by mistake.
//!
//! Three nets: keys whose name sounds like a secret (here, also misspelt), places where the description wants a secret, and unknown keys beside a secret
//! (both reported by the checker). They only ever hide too much.

use super::problem::{Span, holds_user};
use super::suggest::distance;
use super::tree::{Entry, Node, Value};

/// The hidden stretches of the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Hidden(Vec<Span>);

impl Hidden {
    /// Everything in the tree that stands under a key which sounds like a secret.
    pub(super) fn by_name(root: &Node) -> Self {
        let mut hidden = Self::default();
        hidden.walk(root, "", false, 0);
        hidden
    }

    /// Hides every scalar below `node`, but for the values of `env` and `file`.
    pub(super) fn hide(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar { .. } => self.0.push(node.span),
            Value::List(items) => items.iter().for_each(|item| self.hide(item)),
            Value::Map(entries) => {
                for entry in entries {
                    if !matches!(entry.key.as_str(), "env" | "file") {
                        self.hide_key(entry.key_span);
                        self.hide(&entry.value);
                    }
                }
            }
        }
    }

    fn hide_key(&mut self, span: Span) {
        self.0.push(span);
    }

    /// The hidden columns of a line, counted from 1, the end excluded.
    pub(super) fn columns(&self, line: u32) -> Vec<(u32, u32)> {
        let of_line = |span: &Span| {
            let (first, last) = (span.place.line, span.last_line);
            if line < first || line > last {
                return None;
            }
            let start = if line == first { span.place.column } else { 1 };
            let end = if first == last { span.place.column + span.length } else { u32::MAX };
            Some((start, end))
        };
        self.0.iter().filter_map(of_line).collect()
    }

    /// `key`: under which the node stands.
    fn walk(&mut self, node: &Node, key: &str, secret: bool, depth: usize) {
        match &node.value {
            Value::Scalar { text, .. } if secret || holds_user(text) => self.0.push(node.span),
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter().for_each(|item| self.walk(item, key, secret, depth + 1)),
            Value::Map(entries) => {
                for entry in entries {
                    // Names that the user chose, such as that of an upstream, say nothing about what they hold.
                    let chosen = depth == 1;
                    let scalar = matches!(entry.value.value, Value::Scalar { .. });
                    let named = !chosen && !sounds_only(key, entry) && (sounds_secret(&entry.key) || (scalar && holds_secrets(&entry.key)));
                    self.walk(&entry.value, &entry.key, (secret || named) && !harmless(&entry.key), depth + 1);
                }
            }
        }
    }

    /// The hidden columns of a line that could not be read as YAML, judged by its text and by the lines that it is nested in.
    pub(super) fn in_text(lines: &[&str], number: u32) -> Vec<(u32, u32)> {
        let index = number.saturating_sub(1) as usize;
        let Some(line) = lines.get(index) else { return Vec::new() };
        let mut secret = enclosing_keys(lines, index).iter().any(|key| sounds_secret(key) || holds_secrets(key));
        let characters: Vec<char> = line.chars().collect();
        let count = |index: usize| u32::try_from(index).unwrap_or(u32::MAX - 1) + 1;
        let mut colons = characters.iter().enumerate().filter(|(_, c)| **c == ':').map(|(at, _)| at).peekable();
        if colons.peek().is_none() && secret {
            return vec![(1, u32::MAX)];
        }
        for colon in colons {
            let key = key_before(&characters, colon);
            let value = characters.iter().skip(colon + 1).position(|c| !c.is_whitespace()).map(|after| colon + 1 + after);
            let Some(value) = value else { break };
            let named = secret || sounds_secret(&key) || holds_secrets(&key);
            if !named || harmless(&key) {
                continue;
            }
            if characters.get(value) == Some(&'{') {
                secret = true;
            } else {
                return vec![(count(value), u32::MAX)];
            }
        }
        Vec::new()
    }
}

/// The word that ends before the colon.
fn key_before(characters: &[char], colon: usize) -> String {
    let word: Vec<char> = characters.iter().take(colon).rev().take_while(|c| !c.is_whitespace() && !"{[,".contains(**c)).copied().collect();
    word.into_iter().rev().filter(|c| !matches!(c, '"' | '\'')).collect()
}

/// The keys of the lines above that are indented less and less.
fn enclosing_keys(lines: &[&str], index: usize) -> Vec<String> {
    let indent = |line: &str| line.chars().take_while(|c| c.is_whitespace() || *c == '-').count();
    let mut least = lines.get(index).map_or(0, |line| indent(line));
    let mut keys = Vec::new();
    for line in lines.iter().take(index).rev().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        if indent(line) < least {
            least = indent(line);
            let characters: Vec<char> = line.chars().collect();
            keys.extend(characters.iter().position(|c| *c == ':').map(|colon| key_before(&characters, colon)));
        }
    }
    keys
}

/// Keys beside a secret whose values are none.
fn harmless(key: &str) -> bool {
    const NAMES: [&str; 16] = [
        "env",
        "file",
        "username",
        "id",
        "token_endpoint",
        "scopes",
        "address",
        "socket",
        "issuer",
        "audience",
        "algorithm",
        "key_id",
        "lifetime",
        "subject",
        "max_lifetime",
        "unbound",
    ];
    NAMES.contains(&key)
}

/// Keys that sound like a secret and hold none where they stand: a mistake in them has to be seen. A key of TLS is the name of a file, unless somebody
/// wrote the key itself.
fn sounds_only(section: &str, entry: &Entry) -> bool {
    let Value::Scalar { text, .. } = &entry.value.value else { return false };
    match (section, entry.key.as_str()) {
        ("sticky", "cookie") | ("cors", "credentials") => text.len() < 64,
        ("certificates", "key") | ("tls", "client_key") => {
            let one_line = entry.value.span.place.line == entry.value.span.last_line;
            one_line && !text.contains("-----") && (text.len() < 40 || (text.len() < 256 && text.contains('.')))
        }
        _ => false,
    }
}

/// Sections that hold secrets: a scalar in their place may be one.
fn holds_secrets(key: &str) -> bool {
    matches!(key, "client" | "basic" | "headers" | "oauth2" | "admin")
}

/// Whether a key is meant to hold a secret, also when it is misspelt.
fn sounds_secret(key: &str) -> bool {
    let key: String = key.chars().take(64).filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    if matches!(&*key, "tokenendpoint" | "bearerjwt") {
        return false;
    }
    let words = ["secret", "password", "passwd", "passphrase", "token", "credential", "apikey", "privatekey", "bearer", "authorization", "cookie"];
    words.iter().any(|word| key.contains(word)) && key != "authorizationservers" && key != "authorizationserver"
        || [("secret", 2), ("password", 2), ("token", 1), ("bearer", 1)].iter().any(|(word, most)| distance(&key, word) <= *most)
        || matches!(key.as_str(), "pass" | "pwd" | "pw" | "key" | "auth")
}
