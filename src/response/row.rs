//! The project's own copy of the decision table, as an enum: every answer the gateway gives has a row.
//!
//! A request passes several rows (`I4`, then `E10`, then `U1`); the last one that decides is the row of the answer. The audit log,
//! `explain` and the tests all name rows by [`Row::label`]; the meaning of a row stands in its doc line and in [`Row::meaning`].

macro_rules! rows {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A row of the decision table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Row { $($(#[doc = $doc])+ $name,)+ }

        impl Row {
            /// Every row, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The row's name in logs, in `explain` and in tests.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What the row says, in one line.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

rows! {
    /// malformed HTTP or framing: 400, and the connection is closed
    D1,
    /// an authority that this listener does not serve: 421
    D2,
    /// the path has no single safe reading: 400
    D3,
    /// TRACE or CONNECT: 405
    D5,
    /// a public route: forwarded, the token neither judged nor passed on
    D6,
    /// no route: 404, no challenge
    D7,
    /// a CORS preflight on a protected route, or an OPTIONS that may go no further: answered 204 by the gateway
    D8,
    /// the method is not mapped to scopes: 405
    D9,
    /// the route leads to no resource that the authorization server knows: 404
    D10,
    /// the resource is declared but not registered yet: unreachable, registration goes on in the background
    D11,
    /// two tokens in one request: 400
    D12,
    /// a token that is empty, malformed or too long: 400
    D13,
    /// a token in the query: 400
    D14,
    /// no token, or another scheme than Bearer: a challenge without an error
    D15,
    /// the cache holds a fresh answer for the token
    I1,
    /// as I1, and the answer is renewed in the background
    I2,
    /// the cache holds a fresh refusal of the token: a challenge
    I3,
    /// this client makes too many introspections or live decisions, or was wrong at guards too often: 429
    I3b,
    /// the authorization server calls the token active
    I4,
    /// the authorization server calls the token inactive: a challenge
    I5,
    /// the authorization server gave no usable answer, and the cache holds nothing: unreachable
    I6,
    /// the authorization server gave no usable answer, and what the cache holds is too old: unreachable
    I7a,
    /// the authorization server refused the gateway's own credential: renewed and asked once more
    I8,
    /// the authorization server refuses the token as such: a challenge
    I9,
    /// there is no protection API access token to introspect with, or the resource's owner has to consent: unreachable
    I10,
    /// the token's own time has passed or not begun, or its issuer differs: a challenge, the entry is dropped
    E1,
    /// the token is for another audience: a challenge
    E2,
    /// the token is bound to a key or certificate, which this gateway does not check: 401 without a ticket
    E5,
    /// a permission or scope is missing in an answer that is not new: introspected once more
    E7,
    /// a permission or scope is missing: a challenge
    E8,
    /// the live decision refuses or lacks a scope: a challenge
    E8a,
    /// the live decision grants what is needed
    E8b,
    /// the live decision could not be had: unreachable
    E8c,
    /// the permission suffices: forwarded
    E10,
    /// this client asks for too many tickets: 429
    C1,
    /// no protection API access token to ask for a ticket with, or the server is given a rest: unreachable
    C2,
    /// a ticket: 401 with the challenge
    C3,
    /// a plain OAuth server, which gives no tickets: 401, or 403 for a missing scope, with a Bearer challenge
    O1,
    /// the authorization server does not know the resource any more: unreachable, looked up again
    C4,
    /// the authorization server refuses the permission request: unreachable
    C5,
    /// the authorization server refused the protection API access token: renewed and asked once more
    C6,
    /// no usable answer to the permission request: unreachable
    C7,
    /// a guard: no credential, or one of another scheme than it asks for: 401
    G1,
    /// a guard: the credential is not accepted: 401
    G2,
    /// a guard: the connection has no client certificate that is accepted: 403
    G3,
    /// a guard: the credential is accepted: forwarded, without it
    G4,
    /// the upstream's answer, relayed
    U1,
    /// the upstream refuses the gateway's own credential: 502, its challenge is kept back
    U2,
    /// the upstream cannot be reached or does not speak HTTP: 502
    U3,
    /// the upstream does not answer in time: 504
    U4,
    /// no room for another request: 503
    U5,
    /// the permission of an upgraded connection has ended or was withdrawn: cut
    U6,
    /// the gateway's own credential cannot be had: 503
    U7,
    /// the request did not arrive in time: 408
    H408,
    /// the body is larger than the limit: 413
    H413,
    /// the request target is longer than the limit: 414
    H414,
    /// more header fields or bytes than the limit: the HTTP library answers 431, a status only, before there is a request to be recorded
    H431,
    /// a transfer coding, expectation or upgrade that is not built: 501
    H501,
    /// the request has come through this gateway before: 508
    H508,
    /// the gateway failed: 500
    H500,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

/// The rows that one request has passed, in order; at most eight, later ones replace the last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trail {
    rows: [Option<Row>; 8],
    length: u8,
}

impl Trail {
    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        let at = usize::from(self.length).min(7);
        if let Some(slot) = self.rows.get_mut(at) {
            *slot = Some(row);
        }
        self.length = self.length.saturating_add(1).min(8);
    }

    /// The rows in their order.
    pub fn iter(&self) -> impl Iterator<Item = Row> + Clone + '_ {
        self.rows.iter().copied().flatten()
    }

    /// The row that decided the answer: the last one, but for a relayed answer (`U1`) the decision before it.
    #[must_use]
    pub fn deciding(&self) -> Option<Row> {
        self.iter().filter(|row| *row != Row::U1).last()
    }
}
