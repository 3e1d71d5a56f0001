//! Why there is no content, in words for the person who asked. No message holds a token, ticket, secret or query.

use std::time::Duration;

use super::BrowserError;
use crate::http_client::HttpError;

/// Why an address is not asked.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// No scheme or host.
    #[error("the address is not absolute: write https://host/path")]
    NotAbsolute,
    /// Neither http nor https.
    #[error("only http and https addresses can be fetched")]
    Scheme,
    /// `user:password@` in it.
    #[error("the address holds a user name: leave it out")]
    UserInfo,
    /// Plain http to another machine.
    #[error("http to {0} would show tokens to everybody on the way: use https, or allow it with --allow-insecure")]
    Insecure(String),
    /// http named by https.
    #[error("an https address named a plain http one; this is refused (--allow-insecure lifts it)")]
    Downgrade,
}

/// Why a fetch ended without an answer of the resource.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address must not be asked.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The resource gave no answer.
    #[error("the resource was asked in vain")]
    Resource(#[source] HttpError),
    /// The authorization server gave no answer.
    #[error("the authorization server was asked in vain ({step})")]
    Server {
        /// What it was asked for.
        step: &'static str,
        /// Why.
        source: HttpError,
    },
    /// `as_uri` is no address.
    #[error("the resource names an authorization server that is no address")]
    BadServerAddress,
    /// Another authorization server than the trusted one.
    #[error("the resource names the authorization server {named}, but only {trusted} is trusted")]
    Untrusted {
        /// `as_uri`.
        named: String,
        /// [`super::ClientOptions::issuer`].
        trusted: String,
    },
    /// The discovery document says that it belongs to somebody else.
    #[error("the discovery document of {named} is that of {issuer}: nothing is sent there")]
    IssuerMismatch {
        /// `as_uri`.
        named: String,
        /// `issuer` of the document.
        issuer: String,
    },
    /// The authorization server refuses in a way that the flow has no answer to.
    #[error("the authorization server refuses ({step}): {status} {error}{}{description}", if description.is_empty() { "" } else { ", " })]
    Refused {
        /// What it was asked for.
        step: &'static str,
        /// Status.
        status: u16,
        /// `error`, shortened.
        error: String,
        /// `error_description`, shortened.
        description: String,
    },
    /// An answer that is not what the specification says.
    #[error("the authorization server's answer is not usable ({step})")]
    Malformed {
        /// What it was asked for.
        step: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A member that must be there is not.
    #[error("the authorization server's answer lacks `{member}` ({step})")]
    Lacks {
        /// What it was asked for.
        step: &'static str,
        /// The member.
        member: &'static str,
    },
    /// No application where one is needed.
    #[error("this needs the application's registration: give --client-id and its secret")]
    NeedsApplication,
    /// No user where one is needed.
    #[error("this authorization server speaks UMA 1.0, where a user has to sign in before a ticket is traded")]
    NeedsUser,
    /// No browser where one is needed.
    #[error("the authorization server wants to ask the user by itself, and there is no browser here")]
    NeedsBrowser,
    /// The way through the browser failed.
    #[error(transparent)]
    Browser(#[from] BrowserError),
    /// A token that no header can carry.
    #[error("the token has characters that no header can carry")]
    TokenUnusable,
    /// The server wants claims that the client has not (`need_info`).
    #[error("the authorization server wants to know more about the user: {}", if wanted.is_empty() { "it does not say what".to_owned() } else { wanted.join(", ") })]
    NeedInfo {
        /// Names of the claims, as the server gives them.
        wanted: Vec<String>,
    },
    /// The owner has been asked (`request_submitted`).
    #[error("the request was submitted to the owner, who has not decided yet{}", waited.as_ref().map_or_else(String::new, |time| format!(" after {} s", time.as_secs())))]
    Submitted {
        /// For how long the server was polled, if it was.
        waited: Option<Duration>,
    },
    /// The owner or a policy says no (`request_denied`).
    #[error("the authorization server denies access")]
    Denied,
    /// The ticket was refused although it was new.
    #[error("the authorization server does not know a ticket that the resource has just given out: do both speak of the same server?")]
    TicketRefused,
    /// The new RPT does not do.
    #[error("the resource refuses the new token{}: the server granted less than the resource asks for", error.as_ref().map_or_else(String::new, |word| format!(" ({word})")))]
    StillRefused {
        /// `error` of the challenge, shortened.
        error: Option<String>,
    },
    /// The resource changed its mind about its server between two tickets.
    #[error("the resource names another authorization server than a moment ago")]
    ServerChanged,
}

impl FetchError {
    /// The exit code of `fetch`: 3 when the owner has still to decide, 2 when the call itself is wrong, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Submitted { .. } => 3,
            Self::Address(_) | Self::NeedsApplication | Self::NeedsUser => 2,
            _ => 1,
        }
    }
}
