//! Target `path`: any bytes as the path of a request, against tables that have something to lose.

use std::sync::OnceLock;

use http::uri::PathAndQuery;

use super::accepted::Tables;
use super::rules;
use crate::path::{CanonicalPath, OptIns, Query, alike, query_has_parameter, query_without_parameter, spelling};

const ALL: OptIns = OptIns { encoded_slash: true, encoded_percent: true, semicolon: true };

/// Longer paths have too many readings to follow in the time of one execution.
const LONGEST: usize = 160;

/// The first byte chooses a table, the rest is the target.
pub fn path(input: &[u8]) {
    let Some((choice, target)) = input.split_first() else { return };
    let raw = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let read = CanonicalPath::parse_within(raw, ALL);
    of_target(target, &read);
    for admitted in (0..8_u8).map(|bits| OptIns { encoded_slash: bits & 1 > 0, encoded_percent: bits & 2 > 0, semicolon: bits & 4 > 0 }) {
        let within = CanonicalPath::parse_within(raw, admitted);
        let expected = read.as_ref().is_ok_and(|path| path.needs().beyond(admitted).is_empty());
        assert_eq!(within.is_ok(), expected, "what is admitted differs from what is needed");
    }
    let path = match read {
        Ok(path) => path,
        Err(problem) => {
            assert_eq!(problem.to_string(), problem.reason());
            return;
        }
    };
    canonical(raw, &path);
    refused_without(raw, &path);
    if path.needs().is_empty() {
        spelt(&path);
    }
    if raw.len() <= LONGEST {
        let tables = tables();
        let chosen = tables.get(usize::from(*choice) % tables.len()).expect("a table");
        for host in ["photos.example.org", "a.example.net"] {
            chosen.look_up(host, &path);
        }
    }
}

fn canonical(raw: &[u8], path: &CanonicalPath) {
    let text = path.as_str();
    assert!(text.len() <= raw.len(), "{text} has grown");
    assert_eq!(CanonicalPath::parse_within(text, ALL).as_ref(), Ok(path), "{text} is not its own canonical form");
    assert_eq!(CanonicalPath::parse_within(text, ALL).map(|again| again.needs()), Ok(path.needs()), "{text} needs something else the second time");
    assert!(text.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && !b"\"<>^`{}|\\?#".contains(&byte)), "{text} holds what no path may hold");
    assert_eq!(path.is_plain(), !text.contains('%'));
    assert_eq!((path.to_string().as_str(), format!("{path:?}")), (text, format!("CanonicalPath({text})")));
    let segments: Vec<&str> = path.segments().collect();
    assert_eq!(format!("/{}{}", segments.join("/"), if path.has_trailing_slash() { "/" } else { "" }), text);
    assert_eq!(super::lenient::decoded(text.as_bytes()), super::lenient::decoded(raw), "{text} does not mean what was sent");
}

/// A path that needs opt-ins is refused without them, for one that would admit it; one that needs none is taken.
fn refused_without(raw: &[u8], path: &CanonicalPath) {
    let needs = path.needs();
    let names: Vec<&str> = needs.names().collect();
    let expected = [(needs.encoded_slash, "encoded_slash"), (needs.encoded_percent, "encoded_percent"), (needs.semicolon, "semicolon")];
    assert!(expected.iter().all(|(needed, name)| names.contains(name) == *needed), "{names:?}");
    let refused = CanonicalPath::parse(raw).err();
    assert_eq!(refused, needs.problem());
    assert!(refused.map_or(names.is_empty(), |problem| problem.is_opt_in() && !names.is_empty()), "{refused:?} and {names:?}");
}

/// Records are found by one spelling, which is a path of its own and means the same; in other letters it is alike.
fn spelt(path: &CanonicalPath) {
    let text = spelling(path);
    let again = CanonicalPath::parse(&*text).expect("a path without opt-ins");
    assert_eq!(spelling(&again), text, "{text} is not its own spelling");
    let own = Some(path.as_str().trim_end_matches('/')).filter(|own| !own.is_empty()).unwrap_or("/");
    assert_eq!(super::lenient::decoded(text.as_bytes()), super::lenient::decoded(own.as_bytes()), "{text} is another name than {path}");
    assert_eq!(alike(&text), alike(&text.to_ascii_uppercase()), "{text} in capitals is another file");
}

/// The same with a query behind it.
fn of_target(target: &[u8], read: &Result<CanonicalPath, crate::path::PathProblem>) {
    let Ok(whole) = PathAndQuery::try_from(target) else { return };
    if !target.starts_with(b"/") || target.contains(&b'#') {
        return;
    }
    let again = CanonicalPath::of_target(&whole);
    assert_eq!(again.as_ref().map(|(path, _)| path).map_err(|problem| *problem), read.as_ref().map_err(|problem| *problem), "a target is read differently");
    let Ok((path, query)) = again else { return };
    assert_eq!(query.as_ref().map(Query::as_str), whole.query());
    let sent = path.with_query(query.as_ref());
    assert_eq!((sent.path(), sent.query()), (path.as_str(), whole.query()));
    assert_eq!(path.with_query(None).as_str(), path.as_str());
    if let Some(query) = query {
        assert_eq!(format!("{query:?}"), "Query(..)", "a query may hold a token");
        // Kept apart and put behind it again.
        assert_eq!(CanonicalPath::parse_within(path.as_str(), ALL).map(|own| own.with_query(Some(&query))), Ok(sent));
        parameters(query.as_str());
        assert_eq!(query.has_parameter("access_token"), query_has_parameter(query.as_str(), "access_token"));
    }
}

fn parameters(query: &str) {
    let is_token = |pair: &str| super::lenient::is_token(pair.as_bytes());
    assert_eq!(query_has_parameter(query, "access_token"), query.split(['&', ';']).any(is_token), "{query}");
    let without = query_without_parameter(query, "access_token");
    assert!(!query_has_parameter(&without, "access_token"), "{query} still has it as {without}");
    let kept = without.split(['&', ';']).filter(|pair| !pair.is_empty()).count();
    let others = query.split(['&', ';']).filter(|pair| !pair.is_empty() && !is_token(pair)).count();
    assert_eq!(kept, others, "{query} has become {without}");
}

fn tables() -> &'static [Tables] {
    static TABLES: OnceLock<Vec<Tables>> = OnceLock::new();
    TABLES.get_or_init(|| TEXTS.iter().map(|text| rules::table(text).expect("tables that are right")).collect())
}

const TEXTS: [&str; 5] = [
    // A public whole around protected parts.
    "protect - /secret/** all\npublic - /** covers\nprotect - /open/admin all\nprotect - /Docs/{a}/** all\npublic - /docs/free/x covers",
    // The same with every opt-in.
    "protect - /secret/** all slash percent semicolon\npublic - /** covers slash percent semicolon\nprotect - /a/{b}/c all slash percent semicolon\nprotect - /d/{e} name={e} slash percent semicolon",
    // Names that another spelling resembles.
    "protect - /m%C3%BCnze/** all\npublic - /** covers slash percent semicolon\nprotect - /%EF%AC%81le/{a} all\nprotect - /stra%C3%9Fe all\nprotect - /%C4%B1d/** all\nprotect - /a%40b/** all\nprotect - /x/a%EF%AC%81 all",
    // Hosts.
    "protect photos.example.org /secret/** all\npublic *.example.org /** covers\npublic - /** covers slash percent semicolon\nprotect *.example.net /SECRET/{a} all\nprotect a.example.net /a all",
    // One opt-in each.
    "protect - /s/{a} name={a} slash\nprotect - /p/{a} name={a} percent\nprotect - /m/{a}/{b} name={b} all semicolon\npublic - /o/** slash\nprotect - /sp/** all slash percent",
];
