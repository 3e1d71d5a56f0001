//! Canonical request paths.
//!
//! The router decides on a [`CanonicalPath`], the log names it and the upstream request carries it: one value, so what was checked is what is sent.
//! A spelling that is safe to normalise is normalised; one that two servers could read differently is refused with a constant [`PathProblem`], or, where
//! real content needs it, marked with the [`OptIns`] that its route must name.
//! Nothing here does I/O or logs, and nothing is decoded more than once.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod canonical;
mod opt_ins;
mod query;
mod spelling;
mod unicode;

pub use canonical::{CanonicalPath, Segments};
pub use opt_ins::{OptIns, Reading};
pub use query::{Query, query_has_parameter, query_without_parameter};
pub use spelling::{alike, spelling};
pub use unicode::{compatible, decoded};

pub(crate) use spelling::small;
pub(crate) use unicode::decoded_bytes;

/// Why a path has no single safe reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.reason())]
pub enum PathProblem {
    /// It does not begin with `/`.
    NotRooted,
    /// A byte outside %x21-7E, or one of `" < > ^ { } | #`.
    Byte,
    /// A backslash, which some servers read as `/`.
    Backslash,
    /// `;`, escaped or not, behind which some servers read parameters.
    Semicolon,
    /// A `%` without two hexadecimal digits.
    Escape,
    /// An escaped control character.
    EncodedControl,
    /// An escaped `/` or `\`.
    EncodedSlash,
    /// An escaped `%` in front of what would be an escape when decoded once more.
    EncodedPercent,
    /// An escaped `?` or `#`.
    EncodedDelimiter,
    /// Two slashes in a row.
    EmptySegment,
    /// `.` or `..` as a segment, in any spelling.
    DotSegment,
    /// Escapes that are not UTF-8.
    NotUtf8,
    /// A character that turns into a path character or a control when normalised (NFKC).
    Unicode,
    /// A segment that is another spelling (NFKC) of one that a route names.
    Lookalike,
    /// Admitted by its route's opt-in, and yet another route's in a reading that a careless server could make.
    Elsewhere,
    /// Longer than any path may be.
    TooLong,
}

impl PathProblem {
    /// Whether an opt-in of its route would admit the path.
    #[must_use]
    pub const fn is_opt_in(self) -> bool {
        matches!(self, Self::Semicolon | Self::EncodedSlash | Self::EncodedPercent)
    }

    /// A constant text for the audit line and `explain`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotRooted => "the path does not begin with a slash",
            Self::Byte => "the path holds a byte that must be escaped",
            Self::Backslash => "the path holds a backslash",
            Self::Semicolon => "the path holds a semicolon, escaped or not",
            Self::Escape => "the path holds a % without two hexadecimal digits",
            Self::EncodedControl => "the path holds an escaped control character",
            Self::EncodedSlash => "the path holds an escaped slash or backslash",
            Self::EncodedPercent => "the path is escaped twice",
            Self::EncodedDelimiter => "the path holds an escaped ? or #",
            Self::EmptySegment => "the path holds an empty segment",
            Self::DotSegment => "the path holds a dot segment",
            Self::NotUtf8 => "the path is not UTF-8",
            Self::Unicode => "the path holds a character that reads as a delimiter when normalised",
            Self::Lookalike => "the path holds another spelling of a name that a route uses",
            Self::Elsewhere => "the path leads to another route when it is read carelessly",
            Self::TooLong => "the path is too long",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PathProblem;

    const ALL: [(PathProblem, bool, &str); 16] = [
        (PathProblem::NotRooted, false, "the path does not begin with a slash"),
        (PathProblem::Byte, false, "the path holds a byte that must be escaped"),
        (PathProblem::Backslash, false, "the path holds a backslash"),
        (PathProblem::Semicolon, true, "the path holds a semicolon, escaped or not"),
        (PathProblem::Escape, false, "the path holds a % without two hexadecimal digits"),
        (PathProblem::EncodedControl, false, "the path holds an escaped control character"),
        (PathProblem::EncodedSlash, true, "the path holds an escaped slash or backslash"),
        (PathProblem::EncodedPercent, true, "the path is escaped twice"),
        (PathProblem::EncodedDelimiter, false, "the path holds an escaped ? or #"),
        (PathProblem::EmptySegment, false, "the path holds an empty segment"),
        (PathProblem::DotSegment, false, "the path holds a dot segment"),
        (PathProblem::NotUtf8, false, "the path is not UTF-8"),
        (PathProblem::Unicode, false, "the path holds a character that reads as a delimiter when normalised"),
        (PathProblem::Lookalike, false, "the path holds another spelling of a name that a route uses"),
        (PathProblem::Elsewhere, false, "the path leads to another route when it is read carelessly"),
        (PathProblem::TooLong, false, "the path is too long"),
    ];

    #[test]
    fn each_problem_says_what_it_is_and_whether_a_route_may_admit_it() {
        for (problem, is_opt_in, reason) in ALL {
            assert_eq!((problem.is_opt_in(), problem.reason(), problem.to_string().as_str()), (is_opt_in, reason, reason));
        }
    }
}
