//! The description as README's table.

use std::fmt::Write as _;

use super::{Section, keys};

/// The configuration table, in Markdown.
#[must_use]
pub fn table() -> String {
    let mut table = String::from("| key | value | default | what it does |\n|---|---|---|---|\n");
    rows(&mut table, "", &keys::FILE);
    table
}

fn rows(table: &mut String, prefix: &str, section: &Section) {
    for key in section.keys {
        let path = format!("{prefix}{}", key.name);
        let default = if key.required { "(needed)" } else { key.default };
        let cell = |text: &str| text.replace('|', "\\|");
        // Writing into a text cannot fail.
        let _ = writeln!(table, "| `{path}` | {} | {} | {} |", cell(&key.kind.words()), cell(default), cell(key.doc));
        if let Some((suffix, section)) = key.kind.section() {
            rows(table, &format!("{path}{suffix}."), section);
        }
    }
}
