//! What a YAML syntax error means to the person who wrote the file.
//!
//! The parser knows where it stopped; the cause is often a few characters before. Nothing here reads a value.

use serde_yaml::granit_parser::{ErrorKind, ScanError};

use super::mask::Hidden;
use super::problem::{Problem, Span, shown};
use super::values::bracketed;

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
        let line = self::line(lines, candidate);
        if let Some(problem) = unquoted_braces(candidate, line).or_else(|| unquoted_brackets(candidate, line)) {
            return problem;
        }
    }
    let starts = matches!(error.kind(), ErrorKind::UnknownAnchor | ErrorKind::MissingAnchorOrAliasName | ErrorKind::UnexpectedCharacter { .. });
    if let Some(problem) = unquoted_start(number, line).filter(|_| starts) {
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
        ErrorKind::InvalidTrailingDoubleQuotedScalar | ErrorKind::InvalidTrailingSingleQuotedScalar => unclosed_quote(lines, number)
            .unwrap_or_else(|| at("something follows the end of a text in quotes").hint("a quote in this line or above is one too many")),
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
    let (mut open, mut quote, mut last) = (0_u32, None::<char>, ' ');
    for (index, &character) in characters.iter().enumerate() {
        let spaced = index.checked_sub(1).and_then(|before| characters.get(before)).is_none_or(|before| before.is_whitespace());
        match (quote, character) {
            (Some(ended), _) if ended == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if "{[,: ".contains(last) => quote = Some(character),
            (None, '#') if spaced => return None,
            (None, '{') if open > 0 && !"{[,:".contains(last) => return Some(quotes_needed(number, &characters, index)),
            (None, '{' | '[') => open += 1,
            (None, '}' | ']') => open = open.saturating_sub(1),
            (None, _) => {}
        }
        if !character.is_whitespace() {
            last = character;
        }
    }
    None
}

/// `address: [::1]:8080`: without quotes the bracket of an IPv6 address begins a list, also one that is not closed.
fn unquoted_brackets(number: u32, line: &str) -> Option<Problem> {
    let characters: Vec<char> = line.chars().collect();
    let mut quote = None::<char>;
    for (index, &character) in characters.iter().enumerate() {
        match (quote, character) {
            (Some(ended), _) if ended == character => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => {
                let inner: String = characters.iter().skip(index + 1).take_while(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')).collect();
                if inner.matches(':').count() > 1 {
                    return Some(address_in_quotes(number, &characters, index));
                }
            }
            _ => {}
        }
    }
    None
}

/// The text around a bracket, closed and in quotes.
fn address_in_quotes(number: u32, characters: &[char], bracket: usize) -> Problem {
    let before = characters.iter().take(bracket).rev().take_while(|c| !c.is_whitespace() && !"{[,".contains(**c)).count();
    let start = bracket - before;
    let (scheme, rest) = (characters.get(start..bracket).unwrap_or_default(), characters.get(bracket..).unwrap_or_default());
    let inner = rest.iter().skip(1).take_while(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')).count() + 1;
    let closed = if rest.get(inner) == Some(&']') { inner + 1 } else { 0 };
    let ends = |c: &char| c.is_whitespace() || ",]}".contains(*c);
    let length = closed + rest.iter().skip(closed).take_while(|c| !ends(c)).count();
    let (scheme, written): (String, String) = (scheme.iter().collect(), rest.iter().take(length).collect());
    let (address, behind) = written.split_once('/').map_or((&*written, String::new()), |(address, path)| (address, format!("/{path}")));
    let address = match bracketed(address) {
        Some((ip, Some(port))) => format!("[{ip}]:{port}"),
        Some((ip, None)) => format!("[{ip}]"),
        None => address.to_owned(),
    };
    let span = Span::new(number, u32::try_from(start).unwrap_or(0) + 1, u32::try_from(before + length).unwrap_or(1));
    let problem = Problem::at(span, "an IPv6 address in brackets needs quotes: a bracket begins a list");
    problem.write(format!("\"{}\"", shown(&format!("{scheme}{address}{behind}"))))
}

fn quotes_needed(number: u32, characters: &[char], brace: usize) -> Problem {
    let space = |index: usize| characters.get(index).is_none_or(|character| character.is_whitespace());
    let begins = |(index, character): (usize, &char)| ",{[".contains(*character) || (*character == ':' && space(index + 1));
    let before = characters.iter().enumerate().take(brace).rfind(|pair| begins(*pair));
    let start = before.map_or(0, |(index, _)| index + 1);
    let start = start + characters.iter().skip(start).take_while(|character| character.is_whitespace()).count();
    let mut depth = 0_u32;
    let mut text = String::new();
    for &character in characters.iter().skip(start) {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' | ']' => break,
            _ => {}
        }
        text.push(character);
    }
    let text = text.trim_end();
    let length = u32::try_from(text.chars().count()).unwrap_or(1);
    let what = if text.starts_with('/') { "path" } else { "text" };
    Problem::at(Span::new(number, u32::try_from(start).unwrap_or(0) + 1, length), format!("this {what} ends at its first {{, because it stands inside {{ … }}"))
        .label(format!("put the {what} in quotes"))
        .write(format!("\"{}\"", shown(text)))
}

/// A double quote that is opened in a line above and closed by one that was meant to open.
fn unclosed_quote(lines: &[&str], number: u32) -> Option<Problem> {
    let above = (1_u32..number).zip(lines).collect::<Vec<_>>();
    let (number, line) = above.into_iter().rev().find(|(_, line)| line.matches('"').count() % 2 == 1)?;
    let at = line.chars().collect::<Vec<_>>().iter().rposition(|character| *character == '"')?;
    Some(Problem::at(Span::new(number, u32::try_from(at).unwrap_or(0) + 1, 1), "a quote is opened here and never closed"))
}

/// `host: *.example.org`, `name: @photos`, `rewrite: {**}`: characters that begin no plain text.
fn unquoted_start(number: u32, line: &str) -> Option<Problem> {
    let characters: Vec<char> = line.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or(' ');
    for (index, character) in characters.iter().enumerate().filter(|(_, character)| "*@`%".contains(**character)) {
        let (before, further) = (index.checked_sub(1).map(at), index.checked_sub(2).map(at));
        let first = characters.iter().take(index).all(|character| character.is_whitespace());
        let start = match (further, before) {
            (_, Some('{')) if *character == '*' && at(index + 1) == '*' => index - 1,
            (Some(':' | '-' | ',' | '[' | '{'), Some(' ')) => index,
            _ if first && *character != '%' => index,
            _ => continue,
        };
        let end = |c: char| c.is_whitespace() || c == ',' || c == ']' || (c == '}' && start == index);
        let text: String = characters.iter().skip(start).take_while(|c| !end(**c)).collect();
        let text = text.trim_end_matches(':');
        let length = u32::try_from(text.chars().count()).unwrap_or(1);
        let what = if start == index { format!("a text that begins with {character} needs quotes") } else { "`{**}` needs quotes".to_owned() };
        return Some(Problem::at(Span::new(number, u32::try_from(start).unwrap_or(0) + 1, length), what).write(format!("\"{}\"", shown(text))));
    }
    None
}
