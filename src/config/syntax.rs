//! What a YAML syntax error means to the person who wrote the file.
//!
//! The parser knows where it stopped; the cause is often a few characters before. Nothing here reads a value.

use serde_yaml::granit_parser::{ErrorKind, ScanError};

use super::mask::Hidden;
use super::problem::{Problem, Span, shown};

/// The mistake behind a parser's error. What may be a secret is not repeated.
pub(super) fn explain(lines: &[&str], error: &ScanError) -> Problem {
    let mut problem = cause(lines, error);
    let place = problem.place;
    if Hidden::in_text(lines, place.line).iter().any(|(start, end)| (*start..*end).contains(&place.column)) {
        problem.hints.retain(|hint| !hint.starts_with("write"));
    }
    problem
}

fn cause(lines: &[&str], error: &ScanError) -> Problem {
    let number = u32::try_from(error.marker().line()).unwrap_or(u32::MAX).max(1);
    let column = error.marker().col();
    let line = line(lines, number);
    // A flow collection is noticed to be broken at its end, often on the next line.
    for candidate in [number, number.saturating_sub(1)] {
        if let Some(problem) = unquoted_braces(candidate, self::line(lines, candidate)) {
            return problem;
        }
    }
    if let Some(problem) = unquoted_start(number, line) {
        return problem;
    }
    for candidate in [number, number.saturating_add(1), number.saturating_sub(1)] {
        if let Some(problem) = tab(candidate, self::line(lines, candidate)) {
            return problem;
        }
    }
    let span = Span::new(number, u32::try_from(column).unwrap_or(0) + 1, 1);
    let at = |message: &str| Problem::at(span, message);
    let indentation = "each key of a section begins in the same column";
    match error.kind() {
        ErrorKind::UnknownAnchor => at("`*` begins an alias, and no anchor has this name").hint("a text that begins with * needs quotes"),
        ErrorKind::UnclosedQuotedScalar => at("a quote is opened here and never closed"),
        ErrorKind::MappingValueNotAllowed => at("a second `: ` on one line").hint("a text with a colon and a space in it needs quotes"),
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
            at("a comma or a } is missing before this").hint("a { in this line or above is not closed, perhaps")
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
            at("a comma or a ] is missing before this").hint("a [ in this line or above is not closed, perhaps")
        }
        ErrorKind::UnclosedFlowCollection { open } => at(&format!("a {open} is opened here and never closed")),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => at(&format!("{close} closes what {open} opened")),
        ErrorKind::SimpleKeyExpected => at("a `:` is missing in this line").hint(indentation),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation | ErrorKind::ExpectedBlockSequenceEntry => {
            at("this line is indented otherwise than those that it belongs to").hint(indentation)
        }
        ErrorKind::RecursionLimitExceeded => at("nested too deep"),
        kind => at(&format!("this is not YAML: {kind}")),
    }
}

/// A tab in the indentation.
fn tab(number: u32, line: &str) -> Option<Problem> {
    let at = line.chars().take_while(|character| character.is_whitespace()).position(|character| character == '\t')?;
    Some(Problem::at(Span::new(number, u32::try_from(at).unwrap_or(0) + 1, 1), "YAML is indented with spaces, not with tabs"))
}

fn line<'t>(lines: &[&'t str], number: u32) -> &'t str {
    (number as usize).checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or_default()
}

/// `{ path: /albums/{album}, … }`: inside `{ … }` and `[ … ]` a brace ends the text.
fn unquoted_braces(number: u32, line: &str) -> Option<Problem> {
    let characters: Vec<char> = line.chars().collect();
    let (mut open, mut quote) = (0_u32, None::<char>);
    for (index, &character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| characters.get(before)).copied().unwrap_or(' ');
        match (quote, character) {
            (Some(ended), _) if ended == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if before.is_whitespace() || "{[,:".contains(before) => quote = Some(character),
            (None, '#') if before.is_whitespace() => return None,
            (None, '{') if open > 0 && !before.is_whitespace() && !"{[,:".contains(before) => return Some(quotes_needed(number, &characters, index)),
            (None, '{' | '[') => open += 1,
            (None, '}' | ']') => open = open.saturating_sub(1),
            (None, _) => {}
        }
    }
    None
}

fn quotes_needed(number: u32, characters: &[char], brace: usize) -> Problem {
    let start = characters.iter().take(brace).rposition(|character| character.is_whitespace() || ",{[".contains(*character)).map_or(0, |before| before + 1);
    let mut depth = 0_u32;
    let mut text = String::new();
    for &character in characters.iter().skip(start) {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' | ']' => break,
            character if character.is_whitespace() => break,
            _ => {}
        }
        text.push(character);
    }
    let length = u32::try_from(text.chars().count()).unwrap_or(1);
    let what = if text.starts_with('/') { "path" } else { "text" };
    Problem::at(Span::new(number, u32::try_from(start).unwrap_or(0) + 1, length), format!("this {what} ends at its first {{, because it stands inside {{ … }}"))
        .label(format!("put the {what} in quotes"))
        .write(format!("\"{}\"", shown(&text)))
}

/// `host: *.example.org`, `name: @photos`, `rate: %5`: characters that begin no plain text.
fn unquoted_start(number: u32, line: &str) -> Option<Problem> {
    let mut previous = [' ', ' '];
    for (index, character) in line.chars().enumerate() {
        let starts = previous[1] == ' ' && matches!(previous[0], ':' | '-' | ',' | '[' | '{');
        if starts && matches!(character, '*' | '@' | '`' | '%' | '&' | '!') {
            let text: String = line.chars().skip(index).take_while(|c| !c.is_whitespace() && !",]}".contains(*c)).collect();
            let length = u32::try_from(text.chars().count()).unwrap_or(1);
            return Some(
                Problem::at(Span::new(number, u32::try_from(index).unwrap_or(0) + 1, length), format!("a text that begins with {character} needs quotes"))
                    .write(format!("\"{}\"", shown(&text))),
            );
        }
        previous = [previous[1], character];
    }
    None
}
