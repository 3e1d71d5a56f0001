//! From YAML to a small tree whose keys and values know their places.
//!
//! Scalars stay as they were written: `007` is a text of three digits, `on` is no boolean, and whether a text was quoted is known.
//! Size, depth and the growth by aliases are bounded. Nothing here knows what a key means; only this file and `syntax` name the YAML parser.

use std::collections::HashMap;

use serde_yaml::granit_parser::{Event, Options, Parser, ScalarStyle, Span as Marks};

use super::problem::{Problem, Span, shown};
use super::syntax;

/// Most bytes of a configuration.
pub(super) const MOST_BYTES: usize = 1024 * 1024;
/// Most values that aliases and what they name add to those that stand in the file, whose size bounds their number.
const MOST_COPIES: usize = 50_000;
/// Deepest nesting.
const MOST_DEPTH: usize = 48;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A scalar as written, and whether it stood there without quotes.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, with duplicates.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) value: Node,
}

impl Node {
    /// Whether nothing stands there (`key:`, `~`, `null`).
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The kind of value in words.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { plain: true, text } if matches!(text.as_str(), "true" | "false") => "true or false",
            Value::Scalar { plain: true, text } if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        }
    }

    /// Whether it is a word or two on one line, and no key or token.
    pub(super) fn is_short(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, .. } if text.len() < 40 && self.span.place.line == self.span.last_line)
    }

    /// How many values there are in it, itself included.
    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Self::size).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.size()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
        }
    }
}

/// A document, and what is wrong with it although it can be read on: duplicate keys, tags, keys that are no text.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Node,
    pub(super) problems: Vec<Problem>,
}

/// Reads one document.
///
/// # Errors
/// The one mistake after which nothing more can be read: a syntax error, a bound that is exceeded, an empty file.
pub(super) fn parse(text: &str) -> Result<Tree, Problem> {
    if text.len() > MOST_BYTES {
        return Err(Problem::of_file("the file is larger than 1 MiB"));
    }
    let mut options = Options::default();
    options.emit_comments = false;
    options.flow_nesting_limit = MOST_DEPTH;
    options.block_nesting_limit = MOST_DEPTH;
    let mut builder = Builder { lines: text.lines().collect(), ..Builder::default() };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, marks) = event.map_err(|error| syntax::explain(&builder.lines, &error))?;
        builder.take(event, marks)?;
    }
    match builder.root {
        Some(root) if !root.is_null() => Ok(Tree { root, problems: builder.problems }),
        _ => Err(Problem::of_file("the file is empty").write("version: 1")),
    }
}

#[derive(Default)]
struct Builder<'t> {
    lines: Vec<&'t str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    /// Values in copies.
    copies: usize,
    problems: Vec<Problem>,
}

/// A collection whose end has not come yet.
struct Open {
    marks: Marks,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashMap<String, Span>, key: Option<(String, Span)> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, marks: Marks) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.span(marks, marks);
                self.refuse_tag(tag.is_some(), span);
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.done(Node { span, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => self.start(marks, anchor, tag.is_some(), Items::List(Vec::new())),
            Event::MappingStart(_, anchor, tag) => {
                self.start(marks, anchor, tag.is_some(), Items::Map { entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let span = self.span(open.marks, marks);
                let value = match open.items {
                    Items::List(items) => Value::List(items),
                    Items::Map { entries, .. } => Value::Map(entries),
                };
                self.done(Node { span, value }, open.anchor)
            }
            Event::Alias(id) => self.alias(id, marks),
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Problem::at(self.span(marks, marks), "a second document begins here: a configuration is one document"))
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, marks: Marks, anchor: usize, tagged: bool, items: Items) -> Result<(), Problem> {
        let span = self.span(marks, marks);
        self.refuse_tag(tagged, span);
        if self.open.len() >= MOST_DEPTH {
            return Err(too_deep(span));
        }
        self.open.push(Open { marks, anchor, items });
        Ok(())
    }

    fn refuse_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            self.problems.push(Problem::at(span, "a YAML tag (`!…`) has no meaning here").label("leave the tag out, or put the text in quotes"));
        }
    }

    fn alias(&mut self, id: usize, marks: Marks) -> Result<(), Problem> {
        let span = self.span(marks, marks);
        let Some(node) = self.anchors.get(&id) else {
            return Err(Problem::at(span, "this alias stands inside the value that it names"));
        };
        if self.open.len() + node.depth() > MOST_DEPTH {
            return Err(too_deep(span));
        }
        let node = node.clone();
        self.copied(&node)?;
        self.done(node, 0)
    }

    fn copied(&mut self, node: &Node) -> Result<(), Problem> {
        self.copies += node.size();
        if self.copies > MOST_COPIES {
            return Err(Problem::at(node.span, "too many values: aliases make the file grow by more than 50,000"));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn done(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            // What an anchor keeps is a copy, so it counts as well.
            self.copied(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map { entries, seen, key }) => match key.take() {
                Some((name, key_span)) => {
                    if let Some(first) = seen.get(&name) {
                        self.problems.push(twice(&name, key_span, *first));
                    } else {
                        seen.insert(name.clone(), key_span);
                    }
                    entries.push(Entry { key: name, key_span, value: node });
                }
                None => {
                    *key = Some(match node.value {
                        Value::Scalar { text, .. } => (text, node.span),
                        _ => {
                            self.problems.push(Problem::at(node.span, "a key must be a text").hint("a text that begins with { or [ needs quotes"));
                            (String::new(), node.span)
                        }
                    });
                }
            },
        }
        Ok(())
    }

    /// From the parser's marks (lines from 1, columns from 0) to a stretch.
    fn span(&self, start: Marks, end: Marks) -> Span {
        let (line, column) = (number(start.start.line()), number(start.start.col()) + 1);
        let text = || line.checked_sub(1).and_then(|line| self.lines.get(line as usize)).copied().unwrap_or_default();
        let end = end.end;
        let last = if number(end.line()) == line { number(end.col()) } else { number(text().trim_end().chars().count()) };
        let length = last.saturating_sub(column - 1);
        // A collection in block style ends where the next token begins, which may be lines below.
        Span { last_line: number(end.line()).max(line), ..Span::new(line, column, length) }
    }
}

fn twice(name: &str, second: Span, first: Span) -> Problem {
    Problem::at(second, format!("`{}` stands twice", shown(name))).label(format!("it stands at {}:{} already", first.place.line, first.place.column))
}

fn too_deep(span: Span) -> Problem {
    Problem::at(span, format!("nested deeper than {MOST_DEPTH} levels"))
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX - 1)
}
