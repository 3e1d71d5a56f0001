//! One line for each step of a fetch, for `--explain` and the demo. Of secrets only the first characters get in here.

use std::fmt;

use http::Uri;

use super::{Asked, FetchRequest, address, says_unreachable};
use crate::secret::Secret;
use crate::uma::Rpt;

/// What kind of step it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// The resource was asked.
    Ask,
    /// The authorization server was discovered.
    Discover,
    /// The user signed in: there is a claims token.
    SignIn,
    /// The ticket was traded, or refused.
    Trade,
    /// The authorization server asked the user for claims.
    Gather,
    /// A pause before the next poll.
    Wait,
}

/// One step, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its kind.
    pub kind: StepKind,
    /// What was done.
    pub what: String,
    /// The status of the answer, if one came.
    pub status: Option<u16>,
    /// What came of it.
    pub detail: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or_else(String::new, |status| status.to_string());
        let line = format!("{:<48} {status:<3}  {}", self.what, self.detail);
        f.write_str(line.trim_end())
    }
}

impl Step {
    pub(super) fn new(kind: StepKind, what: impl Into<String>, status: Option<u16>, detail: impl Into<String>) -> Self {
        Self { kind, what: what.into(), status, detail: detail.into() }
    }

    pub(super) fn asked(request: &FetchRequest, rpt: Option<&Rpt>, asked: &Asked) -> Self {
        let with = rpt.map_or_else(|| "no token".to_owned(), |rpt| format!("RPT {}", shortened(&rpt.0)));
        let what = format!("{} {}, {with}", request.method, request.address.path());
        let (status, detail) = match asked {
            Asked::Challenge(status, challenge) => {
                let error = challenge.error.as_ref().map_or_else(String::new, |error| format!("{}  ", excerpt(error)));
                (*status, format!("{error}ticket={}  as_uri={}", shortened(&challenge.ticket.0), excerpt(&challenge.as_uri)))
            }
            Asked::Answer(response) if says_unreachable(response.headers()) => {
                (response.status(), "the gateway cannot reach its authorization server".to_owned())
            }
            Asked::Answer(response) => {
                let length = response.headers().get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                (response.status(), length.map_or_else(String::new, |length| format!("{length} bytes")))
            }
        };
        Self::new(StepKind::Ask, what, Some(status.as_u16()), detail)
    }

    pub(super) fn discovered(issuer: &str, document: &Uri) -> Self {
        Self::new(StepKind::Discover, format!("discover {}", excerpt(issuer)), Some(200), address::shown(document))
    }
}

/// The first four characters of a secret, or none of a short one.
pub(super) fn shortened(secret: &Secret) -> String {
    let text = secret.expose();
    if text.len() < 12 { "…".to_owned() } else { text.chars().take(4).filter(|character| !character.is_control()).chain(['…']).collect() }
}

/// A server's words as they may be shown: one line, printable, not too long.
pub(super) fn excerpt(text: &str) -> String {
    const LIMIT: usize = 200;
    let mut shown: String = text.chars().filter(|character| !character.is_control()).take(LIMIT).collect();
    if text.chars().count() > LIMIT {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_secret_four_characters_are_shown_and_of_a_short_one_none() {
        assert_eq!(shortened(&"8f2c91d0-1b6e-4a1f".into()), "8f2c…");
        assert_eq!(shortened(&"8f2c91d".into()), "…");
    }

    #[test]
    fn words_of_a_server_stay_on_one_line() {
        assert_eq!(excerpt("not\nauthorized\u{1b}[2J"), "notauthorized[2J");
        assert_eq!(excerpt(&"x".repeat(300)).chars().count(), 201);
    }
}
