//! Holes that tests open on purpose, to know that the corpus would see them.
//!
//! Each place that keeps something out asks [`open`] first. That is a constant `false` unless the feature `holes` is on, which only debug builds may have, so
//! nothing of this is in a binary that ships. `tests/corpus` opens one hole after the other and fails where no case notices it.

#[cfg(all(feature = "holes", not(debug_assertions)))]
compile_error!("the feature `holes` takes the gateway's defences down one by one: it is for the tests of debug builds only");

macro_rules! holes {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Something that the gateway would do wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Hole { $($(#[doc = $doc])+ $name,)+ }

        impl Hole {
            /// Every hole.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

holes! {
    /// A permission on the resource suffices, whatever its scopes.
    ScopeIgnored,
    /// The path goes on as it came, not as it was decided on.
    RawPathForwarded,
    /// Nobody looks at what a second decoding would find.
    DecodedOnce,
    /// Dot segments are left to the content server.
    DotsForwarded,
    /// Every route has every opt-in.
    OptInsEverywhere,
    /// Compatibility forms are ordinary names.
    FormsIgnored,
    /// The case of a protected name decides nothing.
    CaseIgnored,
    /// Names by which content servers are told who asks, or what to do instead, pass.
    IdentityHeaderKept,
    /// Names with `_` pass.
    UnderscoreKept,
    /// `Connection` is obeyed when the gateway's own fields are there already.
    CredentialDroppedByConnection,
    /// The beginning of a token is its key in the cache.
    CacheKeyCut,
    /// Who was let through once is let through again on the same connection.
    StickyConnection,
    /// What cannot be decided passes.
    FailOpen,
    /// `active` need not be the JSON value `true`.
    ActiveTruthy,
    /// A token's own end is not looked at.
    ExpiryUnchecked,
    /// Another issuer's tokens are as good.
    IssuerUnchecked,
    /// Tokens for others are as good.
    AudienceUnchecked,
    /// What the HTTP library settles silently is not looked at: two lengths, a length beside a coding, a fragment.
    ContradictionsPassed,
    /// Of two fields that may stand only once the first counts.
    FirstOfTwo,
    /// Any transfer coding is taken for `chunked`.
    CodingsPassed,
    /// Methods may be written in any case.
    MethodsInAnyCase,
    /// Connections change their protocol on routes that do not say so.
    TunnelOnUpgrade,
    /// Answers are used although they are too old.
    StaleCache,
    /// Connections may be silent for ever.
    NoTimeouts,
    /// Frames of HTTP/2 that carry nothing may come without end.
    FloodsBorne,
    /// A token in the query is overlooked.
    TokenInQueryIgnored,
    /// Of two tokens the first counts.
    FirstOfTwoTokens,
    /// An upstream's answer may be framed in two ways.
    AnswersUnchecked,
}

#[cfg(not(feature = "holes"))]
/// Whether the hole is open, which it never is.
#[must_use]
pub const fn open(_hole: Hole) -> bool {
    false
}

#[cfg(feature = "holes")]
pub use opened::{close, open, open_only, remember, remembers};

#[cfg(feature = "holes")]
mod opened;

/// For [`Hole::StickyConnection`], which is shut.
#[cfg(not(feature = "holes"))]
pub const fn remember(_client: std::net::SocketAddr) {}

/// For [`Hole::StickyConnection`], which is shut.
#[cfg(not(feature = "holes"))]
#[must_use]
pub const fn remembers(_client: std::net::SocketAddr) -> bool {
    false
}
