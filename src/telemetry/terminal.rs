//! What a command says to whoever has called it. A reader who has seen enough and gone (`| head`) is no error, and nothing to panic about.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

/// Writes to standard output at once. `false`: nobody reads it any more.
///
/// # Errors
/// When it cannot be written for another reason, such as a full disk.
pub fn say(text: impl Display) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a line to standard error. Where that cannot be written there is nobody left to tell.
pub fn complain(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A word as it is typed at a shell.
#[must_use]
pub fn typed(word: &str) -> Cow<'_, str> {
    let safe = |character: char| character.is_ascii_alphanumeric() || "/._-+,:@%".contains(character);
    if !word.is_empty() && word.chars().all(safe) { Cow::Borrowed(word) } else { Cow::Owned(format!("'{}'", word.replace('\'', "'\\''"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_typed_as_one() {
        assert_eq!(["/run/a-b/gateway.yaml", "other name.yaml", "it's", ""].map(typed), ["/run/a-b/gateway.yaml", "'other name.yaml'", "'it'\\''s'", "''"]);
    }
}
