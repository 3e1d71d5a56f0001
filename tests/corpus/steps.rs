//! Steps of servers that read a path carelessly: each makes another text of it. `tests/corpus` and the fuzz targets take them in orders of their own.
//!
//! They share no code with the gateway, so that both cannot be wrong in the same way.

use unicode_normalization::UnicodeNormalization as _;

/// Escapes decoded once.
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let octet = if *first == b'%' { behind.get(..2).and_then(hexadecimal).and_then(|octet| u8::try_from(octet).ok()) } else { None };
        out.push(octet.unwrap_or(*first));
        rest = behind.get(if octet.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    out
}

/// `%uXXXX` decoded once.
pub fn wide(text: &[u8]) -> Vec<u8> {
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

/// In compatibility form (NFKC).
pub fn compatible(text: &[u8]) -> Vec<u8> {
    std::str::from_utf8(text).map_or_else(|_| text.to_vec(), |text| text.nfkc().collect::<String>().into_bytes())
}

/// Each segment without what stands behind `;`.
pub fn without_parameters(text: &[u8]) -> Vec<u8> {
    let segments = text.split(|byte| *byte == b'/').map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join(&b'/')
}

/// What stands before a query, a fragment or NUL.
pub fn cut(text: &[u8]) -> Vec<u8> {
    text.split(|byte| matches!(byte, b'?' | b'#' | 0)).next().unwrap_or_default().to_vec()
}

/// Backslashes as slashes.
pub fn forward(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect()
}
