//! What the most careless server would make of a target: it decodes again and again (overlong UTF-8 and `%u` too), folds backslashes, case and
//! compatibility forms, strips `;parameters`, cuts at delimiters and NUL, collapses slashes and resolves dots, in every order.
//!
//! It shares no code with the gateway, so that both cannot be wrong in the same way.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization;

use crate::steps::{self, compatible, cut, forward, wide, without_parameters};

/// Below these nothing is reached without the right RPT, or the credential of a guard.
pub const PROTECTED: [&str; 10] = ["/guarded", "/docs", "/open/münze", "/albums", "/named", "/instant", "/tenant", "/live", "/loose/secret", "/open/admin"];

/// Most readings that are followed; hostile targets have some hundred.
const MANY: usize = 3_000;

/// The protected path that some reading of a target comes to.
pub fn protected(target: &[u8]) -> Option<String> {
    leads(target, &PROTECTED)
}

/// Whether a careless server takes this for the host that has protected paths of its own.
pub fn is_site(host: &str) -> bool {
    let host = host.split(':').next().unwrap_or_default().trim_end_matches('.').nfkc().collect::<String>();
    host.eq_ignore_ascii_case("site.example.net")
}

/// The path below one of these that some reading of a target comes to.
pub fn leads(target: &[u8], prefixes: &[&str]) -> Option<String> {
    readings(target).into_iter().map(|reading| String::from_utf8_lossy(&reading).into_owned()).find(|reading| {
        let path = reading.split(['?', '#']).next().unwrap_or_default();
        prefixes.iter().any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    })
}

fn readings(target: &[u8]) -> HashSet<Vec<u8>> {
    let path = origin(target);
    let mut found = HashSet::from([path.to_vec()]);
    let mut new = vec![path.to_vec()];
    while let Some(reading) = new.pop() {
        for step in [decoded, wide, forward, lower, compatible, without_parameters, cut, collapsed, resolved] {
            let next = step(&reading);
            assert!(found.len() < MANY, "{} has too many readings to follow", String::from_utf8_lossy(target));
            if found.insert(next.clone()) {
                new.push(next);
            }
        }
    }
    found
}

/// The path of an absolute-form, without its query.
fn origin(target: &[u8]) -> &[u8] {
    let behind = target.windows(3).position(|window| window == b"://").filter(|at| target[..*at].iter().all(u8::is_ascii_alphabetic));
    let target = match behind {
        Some(at) => {
            let rest = &target[at + 3..];
            &rest[rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())..]
        }
        None => target,
    };
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// Escapes decoded once, also where they hide a character in too many octets.
fn decoded(text: &[u8]) -> Vec<u8> {
    short(&steps::decoded(text))
}

/// Overlong sequences of two and three octets as the character that they hide.
fn short(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let (octet, taken) = match (first, behind) {
            (0xc0 | 0xc1, [second, ..]) if second & 0xc0 == 0x80 => ((first & 1) << 6 | second & 0x3f, 1),
            (0xe0, [second, third, ..]) if second & 0xfe == 0x80 && third & 0xc0 == 0x80 => ((second & 1) << 6 | third & 0x3f, 2),
            _ => (*first, 0),
        };
        out.push(octet);
        rest = &behind[taken..];
    }
    out
}

fn lower(text: &[u8]) -> Vec<u8> {
    std::str::from_utf8(text).map_or_else(|_| text.to_ascii_lowercase(), |text| text.to_lowercase().replace("i\u{307}", "i").into_bytes())
}

fn collapsed(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    out.dedup_by(|one, other| *one == b'/' && *other == b'/');
    out
}

fn resolved(text: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in text.split(|byte| *byte == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    [b"/", kept.join(&b'/').as_slice()].concat()
}

#[test]
fn what_a_careless_server_reads_is_seen() {
    for target in [
        "/albums/x",
        "/public/../albums/x",
        "/public/%2e%2e/albums/x",
        "/public/%252e%252e%252falbums/x",
        "/public/..;a=b/albums/x",
        "//albums/x",
        "/ALBUMS/x",
        "/public\\..\\albums",
        "/albums;x",
        "/albums%00",
        "http://h/albums/x?y",
        "/public/%c0%ae%c0%ae/albums/x",
        "/public/%u002e%u002e/albums/x",
        "/%EF%BD%81lbums/x",
        "/public/%EF%BC%8E%EF%BC%8E/albums/x",
    ] {
        assert!(protected(target.as_bytes()).is_some(), "{target}");
    }
    for target in ["/public/x", "/public/albums/x", "/albumsx", "/public/x?../albums", "/public/a%2Falbums", "/"] {
        assert!(protected(target.as_bytes()).is_none(), "{target}");
    }
}
