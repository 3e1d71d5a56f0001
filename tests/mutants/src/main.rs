//! `switch ROOT <MUTANTS >PLACES`: writes mutants into the sources below ROOT, each behind `crate::mutants::on(NUMBER)`.
//!
//! MUTANTS is what `cargo mutants --list --json` prints, each with a `number` added. PLACES names, for each mutant that could be written, the lines of the
//! new file that hold it: the compiler's errors lead back to the mutant by them. One mutant is on at a time, so what stands inside a mutated expression is
//! the original text.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

#[derive(Clone, Deserialize)]
struct Mutant {
    number: u32,
    file: String,
    genre: String,
    replacement: String,
    span: Places,
}

#[derive(Clone, Deserialize)]
struct Places {
    start: Place,
}

/// As `cargo mutants` counts: from 1.
#[derive(Clone, Deserialize)]
struct Place {
    line: usize,
    column: usize,
}

#[derive(Serialize)]
struct Written {
    number: u32,
    file: String,
    line: usize,
}

/// The offset of each line's first byte, to turn places into offsets.
struct Source {
    text: String,
    lines: Vec<usize>,
}

impl Source {
    fn new(text: String) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, lines }
    }

    /// `column` counts characters from 0.
    fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.lines[line - 1];
        self.text[start..].char_indices().nth(column).map_or(self.text.len(), |(at, _)| start + at)
    }

    fn range(&self, span: proc_macro2::Span) -> Range<usize> {
        self.offset(span.start().line, span.start().column)..self.offset(span.end().line, span.end().column)
    }
}

/// A change of a stretch of the file. `make` gets the text of the stretch's parts with the switches inside them.
enum Change {
    /// `left op right`, with the mutants' operators.
    Binary { left: Range<usize>, op: Range<usize>, right: Range<usize>, mutants: Vec<Mutant> },
    /// `!operand`.
    Unary { operand: Range<usize>, mutants: Vec<Mutant> },
    /// A guard: the whole expression of it, or nothing where the arm had none.
    Guard { guard: Option<Range<usize>>, arm: Vec<Mutant>, mutants: Vec<Mutant> },
    /// The beginning of a body.
    Body { mutants: Vec<Mutant> },
    /// The beginning of a body that yields an iterator of a type that only the compiler knows, and its end.
    Iterator { mutants: Vec<Mutant> },
    IteratorEnd { sides: usize },
    /// `const` of a function: no switch can be asked where the compiler computes. Left out.
    Const,
}

impl Change {
    fn begins_a_body(&self) -> bool {
        matches!(self, Self::Body { .. } | Self::Iterator { .. })
    }
}

struct Finder<'a> {
    source: &'a Source,
    /// The mutants of this file by the offset where they begin.
    mutants: BTreeMap<usize, Vec<Mutant>>,
    changes: Vec<(Range<usize>, Change)>,
}

impl Finder<'_> {
    fn take(&self, at: usize, genre: &str) -> Vec<Mutant> {
        self.mutants.get(&at).map(|found| found.iter().filter(|mutant| mutant.genre == genre).cloned().collect()).unwrap_or_default()
    }
}

fn holds_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => holds_let(&binary.left) || holds_let(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        let op = self.source.range(node.op.span());
        let mutants = self.take(op.start, "BinaryOperator");
        if !mutants.is_empty() && !holds_let(&node.left) && !holds_let(&node.right) {
            let (left, right) = (self.source.range(node.left.span()), self.source.range(node.right.span()));
            self.changes.push((left.start..right.end, Change::Binary { left, op, right, mutants }));
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        let whole = self.source.range(node.span());
        let mutants = self.take(whole.start, "UnaryOperator");
        if !mutants.is_empty() {
            let operand = self.source.range(node.expr.span());
            self.changes.push((whole, Change::Unary { operand, mutants }));
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        let whole = self.source.range(node.span());
        let arm = self.take(whole.start, "MatchArm");
        let guard = node.guard.as_ref().map(|(_, guard)| self.source.range(guard.span()));
        let mutants = guard.as_ref().map(|guard| self.take(guard.start, "MatchArmGuard")).unwrap_or_default();
        let lets = node.guard.as_ref().is_some_and(|(_, guard)| holds_let(guard));
        if !(arm.is_empty() && mutants.is_empty()) && !lets {
            let place = guard.clone().unwrap_or_else(|| {
                let end = self.source.range(node.pat.span()).end;
                end..end
            });
            self.changes.push((place, Change::Guard { guard, arm, mutants }));
        }
        visit::visit_arm(self, node);
    }

    fn visit_signature(&mut self, node: &'ast syn::Signature) {
        if let Some(word) = &node.constness {
            self.changes.push((self.source.range(word.span()), Change::Const));
        }
        visit::visit_signature(self, node);
    }

    fn visit_block(&mut self, node: &'ast syn::Block) {
        if let Some(first) = node.stmts.first() {
            let start = self.source.range(first.span()).start;
            let mutants = self.take(start, "FnValue");
            // A body within a body that begins at the same place: the outer one has it already.
            if !mutants.is_empty() && !self.changes.iter().any(|(range, change)| range.start == start && change.begins_a_body()) {
                let iterators = mutants.iter().all(|mutant| mutant.replacement.starts_with("::std::iter::"));
                if iterators {
                    let end = self.source.range(node.brace_token.span.close()).start;
                    self.changes.push((end..end, Change::IteratorEnd { sides: mutants.len() }));
                }
                self.changes.push((start..start, if iterators { Change::Iterator { mutants } } else { Change::Body { mutants } }));
            }
        }
        visit::visit_block(self, node);
    }
}

/// Writes the stretch `range` with the changes that lie in it, which are sorted: outer before inner.
struct Writer<'a> {
    text: &'a str,
    changes: &'a [(Range<usize>, Change)],
    /// The mutants written, each with the marker that stands in the text.
    marks: Vec<u32>,
}

impl Writer<'_> {
    fn on(&mut self, mutant: &Mutant) -> String {
        self.marks.push(mutant.number);
        format!("crate::mutants::on({})", mutant.number)
    }

    fn write(&mut self, range: Range<usize>, from: usize) -> String {
        let mut out = String::new();
        let mut at = range.start;
        let mut next = from;
        while let Some((place, change)) = self.changes.get(next) {
            if place.start >= range.end && !(place.is_empty() && place.start == range.end && range.is_empty()) {
                break;
            }
            if place.start < at || place.end > range.end {
                next += 1;
                continue;
            }
            out.push_str(&self.text[at..place.start]);
            let written = self.change(change, next + 1);
            out.push_str(&written);
            at = place.end;
            next += 1;
        }
        out.push_str(&self.text[at..range.end]);
        out
    }

    fn change(&mut self, change: &Change, inner: usize) -> String {
        match change {
            Change::Binary { left, op, right, mutants } => {
                let mut out = "(".to_owned();
                for mutant in mutants {
                    let on = self.on(mutant);
                    out.push_str(&format!("\nif {on} {{ {} {} {} }} else\n", &self.text[left.clone()], mutant.replacement, &self.text[right.clone()]));
                }
                let (before, after) = (self.write(left.clone(), inner), self.write(right.clone(), inner));
                out.push_str(&format!("{{ {before} {} {after} }})", &self.text[op.clone()]));
                out
            }
            Change::Unary { operand, mutants } => {
                let mut out = "(".to_owned();
                let sign = &self.text[operand.start - 1..operand.start];
                for mutant in mutants {
                    let on = self.on(mutant);
                    out.push_str(&format!("\nif {on} {{ {} }} else\n", &self.text[operand.clone()]));
                }
                let inside = self.write(operand.clone(), inner);
                out.push_str(&format!("{{ {sign}{inside} }})"));
                out
            }
            Change::Guard { guard, arm, mutants } => {
                let off: Vec<String> = arm.iter().chain(mutants.iter().filter(|m| m.replacement == "false")).map(|m| format!("!{}", self.on(m))).collect();
                let always: Vec<String> = mutants.iter().filter(|m| m.replacement == "true").map(|m| self.on(m)).collect();
                let off = if off.is_empty() { "true".to_owned() } else { off.join(" && ") };
                match guard {
                    None => format!("\n if {off}\n"),
                    Some(guard) => {
                        let inside = self.write(guard.clone(), inner);
                        let always = always.iter().fold(String::new(), |all, one| all + one + " || ");
                        format!("\n({off}) && ({always} ({inside}))\n")
                    }
                }
            }
            Change::Const => String::new(),
            // Each is another type: the first is on the left, the second on the left of the right, and so on; the body is on the right of them all.
            Change::Iterator { mutants } => {
                let mut out = String::new();
                let right = "crate::mutants::Either::Right(";
                for (place, mutant) in mutants.iter().enumerate() {
                    let on = self.on(mutant);
                    let end = ")".repeat(place);
                    out.push_str(&format!("\nif {on} {{ return {}crate::mutants::Either::Left({}){end}; }}\n", right.repeat(place), mutant.replacement));
                }
                out + &right.repeat(mutants.len()) + "{"
            }
            Change::IteratorEnd { sides } => format!("}}{}", ")".repeat(*sides)),
            Change::Body { mutants } => {
                let mut out = String::new();
                for mutant in mutants {
                    let on = self.on(mutant);
                    out.push_str(&format!("\nif {on} {{ return {}; }}\n", mutant.replacement));
                }
                out
            }
        }
    }
}

fn switch(source: &Source, mutants: &[Mutant]) -> Result<String> {
    let file = syn::parse_file(&source.text)?;
    let mut by_start: BTreeMap<usize, Vec<Mutant>> = BTreeMap::new();
    for mutant in mutants {
        by_start.entry(source.offset(mutant.span.start.line, mutant.span.start.column - 1)).or_default().push(mutant.clone());
    }
    let mut finder = Finder { source, mutants: by_start, changes: Vec::new() };
    finder.visit_file(&file);
    let mut changes = finder.changes;
    // Outer before inner: by start, then the longer first, but a body's beginning before all.
    changes.sort_by_key(|(range, change)| (range.start, !change.begins_a_body(), usize::MAX - range.end));
    let mut writer = Writer { text: &source.text, changes: &changes, marks: Vec::new() };
    Ok(writer.write(0..source.text.len(), 0))
}

fn main() -> Result<()> {
    let root = PathBuf::from(std::env::args().nth(1).context("switch ROOT")?);
    let mutants: Vec<Mutant> = serde_json::from_reader(io::stdin())?;
    let mut by_file: BTreeMap<String, Vec<Mutant>> = BTreeMap::new();
    for mutant in mutants {
        by_file.entry(mutant.file.clone()).or_default().push(mutant);
    }
    let mut written = Vec::new();
    for (file, mutants) in by_file {
        let path = root.join(&file);
        let source = Source::new(std::fs::read_to_string(&path).with_context(|| file.clone())?);
        let text = switch(&source, &mutants).with_context(|| file.clone())?;
        for mutant in &mutants {
            let mark = format!("crate::mutants::on({})", mutant.number);
            for (line, content) in text.lines().enumerate() {
                if content.contains(&mark) {
                    written.push(Written { number: mutant.number, file: file.clone(), line: line + 1 });
                }
            }
        }
        std::fs::write(&path, text)?;
    }
    serde_json::to_writer(io::stdout(), &written)?;
    Ok(())
}
