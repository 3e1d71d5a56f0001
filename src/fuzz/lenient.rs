//! What careless servers make of a path: decoded again and again, `%u` too, folded, normalised, cut, in every order.
//!
//! It shares no code with `path/`, so that both cannot be wrong in the same way.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization as _;

/// Most readings that are followed.
const MANY: usize = 600;

/// The segments of one reading.
pub(super) type Segments = Vec<Vec<u8>>;

/// All readings of a path; `None`: there are too many to follow.
pub(super) fn readings(path: &[u8]) -> Option<HashSet<Vec<u8>>> {
    // Every server decodes once; before that it may have cut.
    let steps: [fn(&[u8]) -> Vec<u8>; 3] = [without_parameters, cut, forward];
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

/// Letters that some server takes for one another: through capitals to small letters, as Java compares.
pub(super) fn folded(segment: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(segment) {
        Ok(text) => text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>().into_bytes(),
        Err(_) => segment.to_ascii_lowercase(),
    }
}

/// Escapes decoded once.
pub(super) fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let octet = if *first == b'%' { behind.get(..2).and_then(hexadecimal).and_then(|octet| u8::try_from(octet).ok()) } else { None };
        out.push(octet.unwrap_or(*first));
        rest = behind.get(if octet.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    out
}

fn wide(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let marked = *first == b'%' && matches!(behind.first(), Some(b'u' | b'U'));
        let character = if marked { behind.get(1..5).and_then(hexadecimal).and_then(char::from_u32) } else { None };
        match character {
            Some(character) => out.extend(character.to_string().bytes()),
            None => out.push(*first),
        }
        rest = behind.get(if character.is_some() { 5 } else { 0 }..).unwrap_or_default();
    }
    out
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

fn compatible(text: &[u8]) -> Vec<u8> {
    std::str::from_utf8(text).map_or_else(|_| text.to_vec(), |text| text.nfkc().collect::<String>().into_bytes())
}

fn without_parameters(text: &[u8]) -> Vec<u8> {
    let segments = text.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join(&b'/')
}

fn cut(text: &[u8]) -> Vec<u8> {
    text.split(|byte| matches!(byte, b'?' | b'#' | 0)).next().unwrap_or_default().to_vec()
}

fn forward(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}
