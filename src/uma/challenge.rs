//! `WWW-Authenticate` challenges, read and written (RFC 9110, 11.6.1; UMA 2.0 Grant, 3.2.1).

/// One challenge of a `WWW-Authenticate` field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme as it was written.
    pub scheme: String,
    /// Parameters in their order, names in lower case, values unquoted.
    pub parameters: Vec<(String, String)>,
}

/// Why a `WWW-Authenticate` field could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the challenge cannot be read")]
pub struct ChallengeError;

/// All challenges of one field value.
pub fn parse_challenges(_field: &str) -> Result<Vec<Challenge>, ChallengeError> {
    Err(ChallengeError)
}
