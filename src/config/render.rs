//! How problems look: message, place, the line of the source with the mistake underlined, what to write instead.
//!
//! Only the lines that are shown are kept, already masked, so that no copy of the source with a secret in it outlives the reading.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::mask::Hidden;
use super::problem::{Problem, Problems};

/// Longest line that is shown whole.
const MOST_COLUMNS: usize = 160;

/// The lines of the source that problems point at.
#[derive(Clone, Debug, Default)]
pub(super) struct Source(BTreeMap<u32, Line>);

/// A line as it is shown, and where each of its original columns went.
#[derive(Clone)]
struct Line {
    text: Vec<char>,
    columns: Vec<usize>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.iter().collect::<String>())
    }
}

impl Source {
    /// Keeps what `problems` need of `text`.
    pub(super) fn of<'p>(text: &str, hidden: &Hidden, problems: impl Iterator<Item = &'p Problem>) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let kept = problems.map(|problem| problem.place.line).filter(|line| *line > 0);
        Self(kept.filter_map(|number| Some((number, Line::new(lines.get(number as usize - 1)?, &hidden.columns(number))))).collect())
    }

    /// Keeps the line of a syntax error.
    pub(super) fn of_syntax_error(text: &str, problem: &Problem) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let number = problem.place.line;
        let line = (number as usize).checked_sub(1).and_then(|index| lines.get(index));
        Self(line.map(|line| (number, Line::new(line, &Hidden::in_text(&lines, number)))).into_iter().collect())
    }
}

impl Line {
    fn new(line: &str, hidden: &[(u32, u32)]) -> Self {
        let mut shown = Self { text: Vec::new(), columns: Vec::new() };
        let mut masked = false;
        for (column, character) in (1_u32..).zip(line.trim_end().chars()) {
            shown.columns.push(shown.text.len());
            let hide = hidden.iter().any(|(start, end)| (*start..*end).contains(&column));
            if !hide {
                shown.text.push(visible(character));
            } else if !masked {
                // Always three, whatever stands there: the length of a secret says something about it.
                shown.text.extend(['*', '*', '*']);
            }
            masked = hide;
        }
        shown.columns.push(shown.text.len());
        shown
    }

    /// The text, where the underline begins and how long it is, cut to what fits.
    fn window(&self, column: u32, length: u32) -> (String, usize, usize) {
        let at = |column: usize| self.columns.get(column.saturating_sub(1)).or(self.columns.last()).copied().unwrap_or(0);
        let start = at(column as usize);
        let end = at(column as usize + length as usize).max(start + 1);
        if self.text.len() <= MOST_COLUMNS {
            return (self.text.iter().collect(), start, end - start);
        }
        let first = start.saturating_sub(MOST_COLUMNS / 4);
        let text: String = self.text.iter().skip(first).take(MOST_COLUMNS).collect();
        let length = (end - start).min(MOST_COLUMNS - (start - first));
        let cut = |condition: bool| if condition { "…" } else { "" };
        (format!("{}{text}{}", cut(first > 0), cut(first + MOST_COLUMNS < self.text.len())), start - first + usize::from(first > 0), length)
    }
}

/// A character as it may go to a terminal: what would move the cursor or turn the direction of writing is a dot.
pub(super) fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '·',
        character if character.is_control() => '·',
        character => character,
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            show(f, "warning", warning, &self.file, &self.shown)?;
        }
        for error in &self.errors {
            show(f, "error", error, &self.file, &self.shown)?;
        }
        let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let warnings = if self.warnings.is_empty() { String::new() } else { format!(", {}", count(self.warnings.len(), "warning")) };
        write!(f, "{}{warnings}. A gateway that is running keeps its configuration.", count(self.errors.len(), "error"))
    }
}

fn show(f: &mut fmt::Formatter<'_>, grade: &str, problem: &Problem, file: &Path, source: &Source) -> fmt::Result {
    writeln!(f, "{grade}: {}", problem.message)?;
    let place = problem.place;
    let Some(line) = source.0.get(&place.line) else {
        writeln!(f, "  --> {}", file.display())?;
        return problem.hints.iter().try_for_each(|hint| writeln!(f, "   = {hint}"));
    };
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    writeln!(f, "{gutter}--> {}:{}:{}", file.display(), place.line, place.column)?;
    let (text, start, length) = line.window(place.column, problem.length);
    writeln!(f, "{number} | {text}")?;
    let underline = format!("{gutter} | {}{} {}", " ".repeat(start), "^".repeat(length), problem.label);
    writeln!(f, "{}", underline.trim_end())?;
    problem.hints.iter().try_for_each(|hint| writeln!(f, "{gutter} = {hint}"))
}
