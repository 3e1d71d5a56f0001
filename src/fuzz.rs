//! Bodies of the fuzz targets: each takes any bytes and panics when its oracle and the gateway disagree.
//!
//! An oracle is a second reader that shares no code with the first: slow, lenient, or by the letter. `fuzz/` at the root of the repository runs the
//! bodies with a fuzzer; `cargo test` replays the corpora that are kept there, and, with the feature `holes`, sees that a defence which is down is noticed.
//! Nothing here is in a binary that ships: the feature `fuzzing` is for `fuzz/` alone.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "an oracle that disagrees stops, and so does one that is wrong itself"
)]

#[cfg(all(feature = "fuzzing", not(debug_assertions)))]
compile_error!("the feature `fuzzing` is for `fuzz/`, which builds with debug assertions");

mod accepted;
mod admission;
mod authorization;
mod config;
mod frames;
mod h1;
mod introspection;
mod lenient;
mod naive;
mod outbound_headers;
mod path;
mod posing;
mod raw_head;
mod rules;
#[path = "../tests/corpus/steps.rs"]
mod steps;
#[cfg(test)]
mod tests;
mod www_authenticate;

pub use admission::admission;
pub use authorization::authorization;
pub use config::config;
pub use frames::frames;
pub use h1::h1;
pub use introspection::introspection;
pub use outbound_headers::outbound_headers;
pub use path::path;
pub use raw_head::raw_head;
pub use rules::rules;
pub use www_authenticate::www_authenticate;
