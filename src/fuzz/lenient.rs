//! What careless servers make of a path: decoded again and again, `%u` too, folded, normalised, cut, in every order.
//!
//! It shares no code with `path/`, so that both cannot be wrong in the same way.

use std::collections::HashSet;

pub(super) use super::steps::decoded;
use super::steps::{compatible, cut, forward, wide, without_parameters};

/// Most readings that are followed.
const MANY: usize = 600;

/// Whether a careless server finds `access_token` in a pair of a query: it decodes until nothing is left to decode, may do so before it takes pairs apart, and
/// takes capitals, lists, blanks and what PHP has for `_` for the same.
pub(super) fn is_token(pair: &[u8]) -> bool {
    let mut key = pair.split(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
    loop {
        let next = wide(&decoded(&key));
        if next == key {
            break;
        }
        key = next;
    }
    key.split(|byte| matches!(byte, b'&' | b';')).any(|key| {
        let text: String = key.iter().map(|byte| char::from(*byte).to_ascii_lowercase()).collect();
        let named = text.trim_start_matches(|first| first <= ' ' || "+?".contains(first)).split(['\0', '=']).next().unwrap_or_default();
        [named.to_owned(), named.replacen('[', "_", 1)].iter().any(|name| {
            let name = name.split('[').next().unwrap_or_default().trim_end_matches(|last| last <= ' ' || last == '+');
            name.replace(['.', ' ', '+'], "_") == "access_token"
        })
    })
}

/// The segments of one reading.
pub(super) type Segments = Vec<Vec<u8>>;

/// What a server may do to a path before it looks for it.
type Step = fn(&[u8]) -> Vec<u8>;

/// All readings of a path; `None`: there are too many to follow.
pub(super) fn readings(path: &[u8]) -> Option<HashSet<Vec<u8>>> {
    // Every server decodes once; before that it may have cut.
    let steps: [Step; 3] = [without_parameters, cut, forward];
    let uncut = steps.iter().fold(vec![path.to_vec()], |all, step| all.iter().flat_map(|text| [text.clone(), step(text)]).collect());
    let mut new: Vec<Vec<u8>> = uncut.iter().map(|text| decoded(text)).collect();
    let mut found: HashSet<Vec<u8>> = new.iter().cloned().collect();
    while let Some(reading) = new.pop() {
        for step in [decoded, wide, compatible, without_parameters, cut, forward] {
            let next = step(&reading);
            if found.len() > MANY {
                return None;
            }
            if found.insert(next.clone()) {
                new.push(next);
            }
        }
    }
    Some(found)
}

/// The segments of a reading as they stand there, with empty ones left out.
pub(super) fn segments(reading: &[u8]) -> Segments {
    reading.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).map(<[u8]>::to_vec).collect()
}

/// The same with dots resolved.
pub(super) fn resolved(reading: &[u8]) -> Segments {
    let mut kept = Segments::new();
    for segment in segments(reading) {
        match segment.as_slice() {
            b"." => {}
            b".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    kept
}

/// Letters that some server takes for one another: small, capital and small again, as Java compares; `İ` may lose its dot on the way.
pub(super) fn folded(segment: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(segment) {
        Ok(text) => text.to_lowercase().to_uppercase().to_lowercase().replace('ς', "σ").replace("i\u{307}", "i").into_bytes(),
        Err(_) => segment.to_ascii_lowercase(),
    }
}
