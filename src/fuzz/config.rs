//! Target `config`: any text as a configuration, read and printed and read again; what does and what shows problems stands in `config/round_trip.rs`.

/// Reads the text, or says why it cannot be used; no file outside of `fuzz/files/` is opened.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    crate::config::round_trip(text);
}
