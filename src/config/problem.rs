//! Mistakes in a configuration, with their places.
//!
//! A [`Problem`] says where, what, and what to write instead; [`Problems`] is all of them together with the source that they stand in.
//! No text here ever holds a secret: who makes a problem at a secret's place leaves the value out, and the masked places are hidden when the source is shown.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::render::{Source, visible};
use crate::routing::Place;

/// A stretch of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub(super) struct Span {
    /// Its first character.
    pub(super) place: Place,
    /// How many characters of the first line belong to it; never 0.
    pub(super) length: u32,
    /// The line of its last character.
    pub(super) last_line: u32,
}

impl Span {
    /// A stretch on one line.
    pub(super) fn new(line: u32, column: u32, length: u32) -> Self {
        Self { place: Place { line, column }, length: length.max(1), last_line: line }
    }

    /// The first character of what stands there.
    pub(super) fn at(place: Place) -> Self {
        Self::new(place.line, place.column, 1)
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands; line 0: the file as a whole.
    pub place: Place,
    /// How many characters are underlined.
    pub length: u32,
    /// What is wrong.
    pub message: String,
    /// What stands beside the underline; may be empty.
    pub label: String,
    /// What to do instead, a line each.
    pub hints: Vec<String>,
}

impl Problem {
    /// A mistake at `span`.
    pub(super) fn at(span: Span, message: impl Into<String>) -> Self {
        Self { place: span.place, length: span.length, message: message.into(), label: String::new(), hints: Vec::new() }
    }

    /// A mistake of the file as a whole.
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self { place: Place::default(), length: 0, message: message.into(), label: String::new(), hints: Vec::new() }
    }

    /// With words beside the underline.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With a line that says what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With the text to write instead; what it has from the user goes to a terminal.
    pub(super) fn write(self, text: impl AsRef<str>) -> Self {
        self.hint(format!("write   {}", text.as_ref().chars().map(visible).collect::<String>()))
    }

    /// With "did you mean", if there is something to mean.
    pub(super) fn did_you_mean(self, suggestion: Option<&str>) -> Self {
        match suggestion {
            Some(suggestion) => self.label(format!("did you mean `{suggestion}`?")),
            None => self,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "line": self.place.line, "column": self.place.column, "length": self.length,
            "message": self.message, "label": self.label, "hints": self.hints,
        })
    }
}

/// Everything that is wrong with a configuration, ready to be shown (`Display`) or read by a machine ([`Problems::to_json`]).
#[derive(Clone, Debug, thiserror::Error)]
pub struct Problems {
    pub(super) file: PathBuf,
    /// Other files that it names, as far as it was read.
    pub(super) files: Vec<PathBuf>,
    /// The source, masked: what `Display` shows of it.
    pub(super) shown: Source,
    /// What keeps the configuration from being used.
    pub errors: Vec<Problem>,
    /// What should be known besides.
    pub warnings: Vec<Problem>,
}

impl Problems {
    /// The file that was read.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Other files that it names, as far as it was read: what has to change may stand there.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// One line for each mistake: `gateway.yaml:22:7: what is wrong`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |problem: &Problem| {
            let words = if problem.label.is_empty() { problem.message.clone() } else { format!("{}: {}", problem.message, problem.label) };
            match problem.place.line {
                0 => format!("{}: {words}", self.file.display()),
                line => format!("{}:{line}:{}: {words}", self.file.display(), problem.place.column),
            }
        };
        self.errors.iter().map(line).collect()
    }

    /// That the file as a whole cannot be used.
    pub(super) fn of_file(file: &Path, reason: &str) -> Self {
        Self { file: file.to_owned(), files: Vec::new(), shown: Source::default(), errors: vec![Problem::of_file(reason)], warnings: Vec::new() }
    }

    /// The one problem of a text that could not be read to its end.
    pub(super) fn of_syntax(file: &Path, text: &str, problem: Problem) -> Self {
        Self { file: file.to_owned(), files: Vec::new(), shown: Source::of_syntax_error(text, &problem), errors: vec![problem], warnings: Vec::new() }
    }

    /// The same for machines: `{ "file", "errors": [ { "line", "column", "length", "message", "label", "hints" } ], "warnings": [ … ] }`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "file": self.file.display().to_string(),
            "errors": self.errors.iter().map(Problem::to_json).collect::<Vec<_>>(),
            "warnings": self.warnings.iter().map(Problem::to_json).collect::<Vec<_>>(),
        })
    }
}

/// A text of the user as it may stand in a message: no control characters, not too long.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    if holds_user(text) {
        return "***".to_owned();
    }
    let mut shown: String = text.chars().take(MOST).map(visible).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a text is a URL with a user name or password in it.
pub(super) fn holds_user(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default().contains('@'))
}
