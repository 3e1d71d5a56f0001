//! `WWW-Authenticate` challenges, read and written (RFC 9110, 11.6.1; UMA 2.0 Grant, 3.2.1).
//!
//! The writer is strict and the reader is kind: other resource servers leave out quotes and commas, and order parameters as they like.
//! A ticket leaves this file only as a header value that is marked as sensitive, or as a [`PermissionTicket`].

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};

use super::{PermissionTicket, Scope};
use crate::secret::Secret;

/// One challenge of a `WWW-Authenticate` field.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme as it was written.
    pub scheme: String,
    /// What stands after the scheme without a name, as `Negotiate` has it.
    pub token68: Option<String>,
    /// Parameters in their order, names in lower case, values unquoted.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Whether this is a challenge of `scheme`, which is compared without regard to case.
    #[must_use]
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The value of the parameter `name` (lower case); absent also when it stands there twice, since readers would differ on which one counts.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut values = self.parameters.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    }
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A value may be a ticket, so only the names are shown.
        let names: Vec<&str> = self.parameters.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Challenge").field("scheme", &self.scheme).field("parameters", &names).finish_non_exhaustive()
    }
}

/// What a resource server says to a client that lacks an RPT or a permission (UMA 2.0 Grant, 3.2.1).
#[derive(Clone, Debug)]
pub struct UmaChallenge {
    /// The realm, if there is one.
    pub realm: Option<String>,
    /// The issuer of the authorization server, as written.
    pub as_uri: String,
    /// Why the token that was shown does not do (`invalid_token`, `insufficient_scope`), if one was shown and the server says so.
    pub error: Option<String>,
    /// The permission ticket.
    pub ticket: PermissionTicket,
}

impl UmaChallenge {
    /// The first complete UMA challenge of an answer: one with `as_uri` and `ticket`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        challenges_of(headers).iter().filter(|challenge| challenge.is("UMA")).find_map(|challenge| {
            let text = |name| challenge.parameter(name).filter(|value| !value.is_empty());
            Some(Self {
                realm: text("realm").map(str::to_owned),
                as_uri: text("as_uri")?.to_owned(),
                error: text("error").map(str::to_owned),
                ticket: PermissionTicket(text("ticket")?.into()),
            })
        })
    }

    /// A UMA challenge whose ticket, and maybe `as_uri`, is in a JSON body: UMA 1.0.1 Core, 3.3.2, and resource servers that were written for it.
    ///
    /// What the header says counts; where it says nothing, the body does.
    #[must_use]
    pub fn with_body(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Body {
            ticket: String,
            as_uri: Option<String>,
        }
        let found = challenges_of(headers);
        let challenge = found.iter().find(|challenge| challenge.is("UMA"))?;
        let Body { ticket, as_uri } = serde_json::from_slice(body).ok()?;
        let text = |name| challenge.parameter(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let as_uri = text("as_uri").or(as_uri).filter(|as_uri| !as_uri.is_empty())?;
        let ticket = text("ticket").unwrap_or(ticket);
        (!ticket.is_empty()).then(|| Self { realm: text("realm"), as_uri, error: text("error"), ticket: PermissionTicket(ticket.into()) })
    }
}

/// Why a token that was presented does not do: the `error` of a challenge. UMA 2.0 knows no such parameter; clients that do not know it pass it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Inactive, expired, or for somebody else.
    InvalidToken,
    /// Active, without the permission.
    InsufficientScope,
}

impl TokenError {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

/// A ticket, or a scope, that no header can carry: empty, or with a control or non-ASCII character. It counts as a failure of the authorization server.
#[derive(Debug, thiserror::Error)]
#[error("the permission ticket or scope has characters that no header can carry")]
pub struct TicketUnusable;

/// Writes `UMA realm="…", as_uri="…", error="…", ticket="…"` on one line, `ticket` last, and marks it as sensitive.
///
/// `error` is given only when the request carried a token (RFC 6750, 3.1). `realm` and `as_uri` come from the configuration and are header text already.
///
/// # Errors
/// When the ticket cannot stand in a header.
pub fn uma_challenge(realm: &str, as_uri: &str, error: Option<TokenError>, ticket: &PermissionTicket) -> Result<HeaderValue, TicketUnusable> {
    let ticket = ticket.0.expose();
    if ticket.is_empty() || !ticket.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Err(TicketUnusable);
    }
    let mut line = String::with_capacity([realm, as_uri, ticket].into_iter().map(str::len).fold(64, usize::saturating_add));
    line.push_str("UMA realm=");
    push_quoted(&mut line, realm);
    line.push_str(", as_uri=");
    push_quoted(&mut line, as_uri);
    if let Some(error) = error {
        line.push_str(", error=");
        push_quoted(&mut line, error.as_str());
    }
    line.push_str(", ticket=");
    push_quoted(&mut line, ticket);
    let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(line)).map_err(|_| TicketUnusable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Writes `Bearer realm="…", error="…", scope="…"` (RFC 6750, 3): what a plain OAuth server's token needs.
///
/// # Errors
/// When a scope cannot stand in a header.
pub fn bearer_challenge(realm: &str, error: Option<TokenError>, scopes: &[Scope]) -> Result<HeaderValue, TicketUnusable> {
    let mut line = String::from("Bearer realm=");
    push_quoted(&mut line, realm);
    if let Some(error) = error {
        line.push_str(", error=");
        push_quoted(&mut line, error.as_str());
    }
    line.push_str(", scope=");
    push_quoted(&mut line, &scopes.iter().map(|scope| &*scope.0).collect::<Vec<_>>().join(" "));
    HeaderValue::try_from(line).map_err(|_| TicketUnusable)
}

/// `{"ticket":…,"as_uri":…}`: where clients of UMA 1.0 look for the same.
#[must_use]
pub fn challenge_body(as_uri: &str, ticket: &PermissionTicket) -> Secret {
    Secret::from(serde_json::json!({ "ticket": ticket.0.expose(), "as_uri": as_uri }).to_string())
}

fn push_quoted(line: &mut String, value: &str) {
    line.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            line.push('\\');
        }
        line.push(character);
    }
    line.push('"');
}

/// Why a `WWW-Authenticate` field could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the challenge cannot be read")]
pub struct ChallengeError;

/// All challenges of an answer, over all its `WWW-Authenticate` fields. A field that cannot be read is passed over: another one may be what is looked for.
#[must_use]
pub fn challenges_of(headers: &HeaderMap) -> Vec<Challenge> {
    let fields = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|field| std::str::from_utf8(field.as_bytes()).ok());
    fields.filter_map(|field| parse_challenges(field).ok()).flatten().collect()
}

/// All challenges of one field value, in their order.
///
/// Reads quoted and bare values, any order, parameters it does not know, and several challenges; a missing comma is forgiven.
///
/// # Errors
/// When the field starts with no scheme, has a parameter without a value or an open quotation.
pub fn parse_challenges(field: &str) -> Result<Vec<Challenge>, ChallengeError> {
    let mut reader = Reader { rest: field };
    let mut challenges: Vec<Challenge> = Vec::new();
    loop {
        reader.skip(|character| matches!(character, ' ' | '\t' | ','));
        if reader.rest.is_empty() {
            return Ok(challenges);
        }
        let word = reader.take(is_token);
        if word.is_empty() {
            return Err(ChallengeError);
        }
        if reader.equals_sign() {
            let value = reader.value()?;
            let challenge = challenges.last_mut().ok_or(ChallengeError)?;
            challenge.parameters.push((word.to_ascii_lowercase(), value));
        } else {
            let token68 = reader.token68().map(str::to_owned);
            challenges.push(Challenge { scheme: word.to_owned(), token68, parameters: Vec::new() });
        }
    }
}

/// What of a field is still unread.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !belongs(character)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, belongs: impl Fn(char) -> bool) {
        self.take(belongs);
    }

    /// Steps over `=` with blanks around it, if that is what comes; otherwise stays.
    fn equals_sign(&mut self) -> bool {
        let Some(rest) = self.rest.trim_start_matches([' ', '\t']).strip_prefix('=') else { return false };
        self.rest = rest.trim_start_matches([' ', '\t']);
        true
    }

    /// A quoted or bare value. A bare one runs to the next comma or blank, so an address or a JWT without quotes is whole.
    fn value(&mut self) -> Result<String, ChallengeError> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return Ok(self.take(|character| !matches!(character, ',' | ' ' | '\t' | '"')).to_owned());
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        loop {
            match characters.next().ok_or(ChallengeError)? {
                '"' => break,
                '\\' => value.push(characters.next().ok_or(ChallengeError)?),
                character => value.push(character),
            }
        }
        self.rest = characters.as_str();
        Ok(value)
    }

    /// A token68 that fills the challenge: it ends at a comma or at the end of the field.
    fn token68(&mut self) -> Option<&'a str> {
        let rest = self.rest.strip_prefix([' ', '\t'])?.trim_start_matches([' ', '\t']);
        let after = rest.trim_start_matches(|character: char| character.is_ascii_alphanumeric() || "-._~+/".contains(character));
        let word = rest.len().saturating_sub(after.len());
        let end = rest.len().saturating_sub(after.trim_start_matches('=').len());
        let (token, after) = rest.split_at(end);
        let ends = matches!(after.trim_start_matches([' ', '\t']).chars().next(), None | Some(','));
        if word == 0 || !ends {
            return None;
        }
        self.rest = after;
        Some(token)
    }
}

fn is_token(character: char) -> bool {
    u8::try_from(character).is_ok_and(is_token_byte)
}

/// Whether a byte may stand in a token (RFC 9110, 5.6.2).
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
