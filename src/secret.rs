//! Secrets that cannot be printed.
//!
//! A [`Secret`] is a text that `Debug` shows as `Secret(..)`; its memory is wiped when it is dropped. Comparison takes constant time.
//! Nothing here reads files or the environment: `config/` does, and hands the finished value on.

mod fields;
mod memory;
mod private;
mod random;
mod rotating;

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

pub use fields::conceal;
pub use memory::leave_no_core;
pub use private::is_private;
pub use random::{random_part, random_text, s256};
pub use rotating::Rotating;

/// A password, client secret or token.
#[derive(Clone)]
pub struct Secret {
    text: SecretString,
    origin: Option<Arc<str>>,
}

impl Secret {
    /// The text itself. Every caller puts it on a wire or into a hash, never into a message.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The same secret, remembering where it came from.
    #[must_use]
    pub fn from_origin(self, origin: &str) -> Self {
        Self { origin: Some(origin.into()), ..self }
    }

    /// Where it came from, for people who have to change it: a file or an environment variable.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Whether `other` is the same text, in a time that does not depend on where they differ (their length may show).
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        self.expose().as_bytes().ct_eq(other.as_bytes()).into()
    }
}

/// The same text, wherever it came from.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self { text: SecretString::from(text), origin: None }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        assert_eq!(format!("{:?}", Secret::from("open sesame").from_origin("the secret file key")), "Secret(..)");
    }

    #[test]
    fn a_secret_matches_itself_and_nothing_else() {
        let secret = Secret::from("open sesame");
        assert!(secret.matches("open sesame"));
        assert!(!secret.matches("open sesam"));
        assert!(!secret.matches("Open sesame"));
    }
}
