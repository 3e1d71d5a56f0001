//! The two corpora: spellings that have two readings, and ordinary ones that must pass.

use proptest::prelude::*;

use super::*;

fn refused(raw: &str) -> PathProblem {
    CanonicalPath::parse(raw).map(|path| panic!("{raw} passed as {path}")).unwrap_or_else(|problem| problem)
}

#[test]
fn what_two_servers_can_read_differently_is_refused() {
    let corpus: &[(&str, PathProblem)] = &[
        ("", PathProblem::NotRooted),
        ("albums", PathProblem::NotRooted),
        ("*", PathProblem::NotRooted),
        ("/a b", PathProblem::Byte),
        ("/a\tb", PathProblem::Byte),
        ("/a\u{7f}", PathProblem::Byte),
        ("/caf\u{e9}", PathProblem::Byte),
        ("/a\"b", PathProblem::Byte),
        ("/<a>", PathProblem::Byte),
        ("/a^b", PathProblem::Byte),
        ("/{a}", PathProblem::Byte),
        ("/a|b", PathProblem::Byte),
        ("/a`b", PathProblem::Byte),
        ("/a#b", PathProblem::Byte),
        ("/a?b", PathProblem::Byte),
        ("/api\\admin", PathProblem::Backslash),
        ("/api/admin;x=1", PathProblem::Semicolon),
        ("/api/admin;x=1/", PathProblem::Semicolon),
        ("/..;/admin", PathProblem::Semicolon),
        ("/a;/admin", PathProblem::Semicolon),
        ("/a%", PathProblem::Escape),
        ("/a%2", PathProblem::Escape),
        ("/a%zz", PathProblem::Escape),
        ("/a%u002f", PathProblem::Escape),
        ("/a%2/", PathProblem::Escape),
        ("/api/admin%00", PathProblem::EncodedControl),
        ("/a%0d%0aX", PathProblem::EncodedControl),
        ("/a%7F", PathProblem::EncodedControl),
        ("/a%2Fb", PathProblem::EncodedSlash),
        ("/a%2fb", PathProblem::EncodedSlash),
        ("/a%5cb", PathProblem::EncodedSlash),
        ("/..%2f..%2fetc", PathProblem::EncodedSlash),
        ("/a%3Bx", PathProblem::Semicolon),
        ("/a%3b", PathProblem::Semicolon),
        ("/a%3Fb", PathProblem::EncodedDelimiter),
        ("/a%23b", PathProblem::EncodedDelimiter),
        ("/a%252e", PathProblem::EncodedPercent),
        ("/%252e%252e/admin", PathProblem::EncodedPercent),
        ("/a%25%32%65", PathProblem::EncodedPercent),
        ("/a%2525", PathProblem::EncodedPercent),
        ("/a%25u002f", PathProblem::EncodedPercent),
        ("/a%25%75002f", PathProblem::EncodedPercent),
        ("/a%25%2541", PathProblem::EncodedPercent),
        ("/a%25%EF%BC%92%EF%BD%85", PathProblem::EncodedPercent),
        // The mark makes one letter with the last digit where a server normalises, and stands for itself where it does not.
        ("/a%252F%CC%87b", PathProblem::EncodedPercent),
        ("/a%25u002f%CC%87b", PathProblem::EncodedPercent),
        ("//", PathProblem::EmptySegment),
        ("//admin", PathProblem::EmptySegment),
        ("/api///admin", PathProblem::EmptySegment),
        ("/api//", PathProblem::EmptySegment),
        ("/.", PathProblem::DotSegment),
        ("/..", PathProblem::DotSegment),
        ("/a/./b", PathProblem::DotSegment),
        ("/api/foo/../admin", PathProblem::DotSegment),
        ("/a/../", PathProblem::DotSegment),
        ("/%2e%2e/admin", PathProblem::DotSegment),
        ("/a/%2E", PathProblem::DotSegment),
        ("/a/.%2e/b", PathProblem::DotSegment),
        ("/%c0%af", PathProblem::NotUtf8),
        ("/%c0%ae%c0%ae/", PathProblem::NotUtf8),
        ("/%E9", PathProblem::NotUtf8),
        ("/%F4%90%80%80", PathProblem::NotUtf8),
        ("/%ED%A0%80", PathProblem::NotUtf8),
        ("/%C3/%A9", PathProblem::NotUtf8),
        ("/a%EF%BC%8Fb", PathProblem::Unicode),
        ("/%EF%BC%8E%EF%BC%8E/a", PathProblem::Unicode),
        ("/%E2%80%A5/a", PathProblem::Unicode),
        ("/a%CD%BEb", PathProblem::Unicode),
        ("/%EF%BC%852e", PathProblem::Unicode),
        ("/%E2%84%80", PathProblem::Unicode),
        ("/a%C2%85", PathProblem::Unicode),
    ];
    for (raw, problem) in corpus {
        assert_eq!(refused(raw), *problem, "{raw}");
    }
    assert_eq!(CanonicalPath::parse([b'/', 0xff]), Err(PathProblem::Byte));
}

#[test]
fn what_an_opt_in_admits_is_marked_and_keeps_its_bytes() {
    let (slash, percent, semicolon) = (
        OptIns { encoded_slash: true, ..OptIns::default() },
        OptIns { encoded_percent: true, ..OptIns::default() },
        OptIns { semicolon: true, ..OptIns::default() },
    );
    for (raw, canonical, needs) in [
        ("/a%2fb", "/a%2Fb", slash),
        ("/iiif/https:%2F%2Fexample.org%2F1/info.json", "/iiif/https:%2F%2Fexample.org%2F1/info.json", slash),
        ("/a%252Fb", "/a%252Fb", percent),
        ("/a%2541", "/a%2541", percent),
        ("/a;v=1/b", "/a;v=1/b", semicolon),
        ("/a%3bb", "/a%3Bb", semicolon),
    ] {
        let target = PathAndQuery::from_maybe_shared(raw.as_bytes().to_vec()).unwrap();
        let (path, _) = CanonicalPath::of_target(&target).unwrap();
        assert_eq!((path.as_str(), path.needs()), (canonical, needs), "{raw}");
        assert_eq!(CanonicalPath::parse(raw), Err(needs.problem().unwrap()));
        assert_eq!(CanonicalPath::parse_within(raw, needs), Ok(path));
        assert!(CanonicalPath::parse_within(raw, OptIns { semicolon: !needs.semicolon, ..OptIns::default() }).is_err());
    }
    for (raw, problem) in [
        ("/a%5Cb", PathProblem::EncodedSlash),
        ("/a%2F..%2Fb", PathProblem::DotSegment),
        ("/a;/..;x/b", PathProblem::DotSegment),
        ("/%252e%252e/b", PathProblem::DotSegment),
        ("/a%2500", PathProblem::EncodedControl),
    ] {
        let target = PathAndQuery::from_maybe_shared(raw.as_bytes().to_vec()).unwrap();
        assert_eq!(CanonicalPath::of_target(&target).map(|(path, _)| path), Err(problem), "{raw}");
    }
}

#[test]
fn ordinary_spellings_pass_with_the_bytes_they_came_in() {
    let corpus = [
        "/",
        "/albums/vacation/beach.jpg",
        "/albums/vacation/",
        "/a/b/c/d/e/f/g",
        "/100%25.pdf",
        "/100%25",
        "/50%25%20off",
        "/100%25-%C3%A9",
        "/%C3%A9-100%25",
        "/%25usa",
        "/a%25/b",
        "/.well-known/security.txt",
        "/.hidden",
        "/...",
        "/a..b/c.",
        "/file.tar.gz",
        "/~alice/_x-y",
        "/a+b",
        "/a%20b",
        "/a:b@c!$&'()*+,=d",
        "/wiki/C%2B%2B",
        "/wiki/AT%26T",
        "/user%40example.org",
        "/a%3Ab",
        "/a[1]",
        "/a%5B1%5D",
        "/caf%C3%A9",
        "/cafe%CC%81",
        "/%E6%9D%B1%E4%BA%AC",
        "/%F0%9F%98%80",
        "/%EF%BD%81%EF%BD%82",
        "/%C2%BD",
        "/%E2%84%A2",
        "/%22quoted%22",
        "/%3Ctag%3E",
        "/a%7Cb",
        "/a%5Eb",
        "/%7Bid%7D",
        "/matrix=1,2",
        "/%D9%81%D8%A7%D8%B1%D8%B3%DB%8C",
    ];
    for raw in corpus {
        match CanonicalPath::parse(raw) {
            Ok(path) => assert_eq!(path.as_str(), raw),
            Err(problem) => panic!("{raw} was refused: {problem}"),
        }
    }
}

#[test]
fn safe_spellings_are_made_one() {
    for (raw, canonical) in [
        ("/%61dmin", "/admin"),
        ("/a%2db%5fc%7e%2e", "/a-b_c~."),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%2Bb%2b", "/a%2Bb%2B"),
        ("/%41/%30/", "/A/0/"),
        ("/%2ehidden", "/.hidden"),
        ("/%2e%2e%2e", "/..."),
    ] {
        assert_eq!(CanonicalPath::parse(raw).map(|path| path.to_string()), Ok(canonical.to_owned()), "{raw}");
    }
}

#[test]
fn segments_leave_out_a_trailing_slash() {
    let segments = |raw: &str| CanonicalPath::parse(raw).map(|path| path.segments().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(segments("/"), Ok(vec![]));
    assert_eq!(segments("/a"), Ok(vec!["a".to_owned()]));
    assert_eq!(segments("/a/b/"), Ok(vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_slash_at_the_end_is_a_trailing_one_unless_it_is_the_first() {
    for (raw, expected) in [("/", false), ("/a", false), ("/a/", true), ("/a/b", false), ("/a/b/", true)] {
        assert_eq!(CanonicalPath::parse(raw).map(|path| path.has_trailing_slash()), Ok(expected), "{raw}");
    }
}

#[test]
fn a_path_without_escapes_is_plain_and_has_one_reading() {
    for (raw, expected) in [("/", true), ("/a/b.c", true), ("/caf%C3%A9", false), ("/%61", true), ("/100%25", false)] {
        let path = CanonicalPath::parse(raw).unwrap();
        assert_eq!(path.is_plain(), expected, "{raw}");
        assert_eq!(path.readings(), Ok(Vec::new()), "{raw}");
    }
    assert!(OptIns::default().is_empty());
}

#[test]
fn paths_are_equal_when_they_are_written_the_same_and_are_shown_without_their_query() {
    let path = |raw: &str| CanonicalPath::parse(raw).unwrap();
    assert_eq!(path("/%61"), path("/a"));
    assert_ne!(path("/a"), path("/b"));
    assert_ne!(path("/a"), path("/a/"));
    assert_eq!(format!("{:?}", path("/%61")), "CanonicalPath(/a)");
}

#[test]
fn what_is_left_of_the_segments_keeps_its_slashes() {
    let path = CanonicalPath::parse("/a/b/").unwrap();
    let mut segments = path.segments();
    for (segment, rest) in [(Some("a"), "/b/"), (Some("b"), "/"), (None, "/")] {
        assert_eq!((segments.next(), segments.rest()), (segment, rest));
    }
}

#[test]
fn an_opt_in_that_two_segments_need_is_needed() {
    for (raw, problem) in [
        ("/a%2541/b%2541", PathProblem::EncodedPercent),
        ("/a%2541/b", PathProblem::EncodedPercent),
        ("/a%2Fb/c%2Fd", PathProblem::EncodedSlash),
        ("/a%3Bb/c%3Bd", PathProblem::Semicolon),
        ("/a%2Fb%2Fc", PathProblem::EncodedSlash),
        ("/a%3Bb%3Bc", PathProblem::Semicolon),
    ] {
        assert_eq!(refused(raw), problem, "{raw}");
    }
}

#[test]
fn a_canonical_target_goes_on_without_a_copy() {
    let target = PathAndQuery::from_maybe_shared(b"/albums/caf%C3%A9?x=1".to_vec()).unwrap();
    let (path, query) = CanonicalPath::of_target(&target).unwrap();
    let place = target.as_str().as_ptr();
    assert!(std::ptr::eq(path.as_str().as_ptr(), place));
    assert!(std::ptr::eq(path.with_query(query.as_ref()).as_str().as_ptr(), place));
}

#[test]
fn a_target_keeps_its_query_apart_and_goes_on_whole() {
    for (raw, path, query, whole) in [
        ("/a?x=%zz&y", "/a", Some("x=%zz&y"), "/a?x=%zz&y"),
        ("/%61?", "/a", Some(""), "/a?"),
        ("/a", "/a", None, "/a"),
        ("?x", "/", Some("x"), "/?x"),
        ("/a?b/../c;d", "/a", Some("b/../c;d"), "/a?b/../c;d"),
    ] {
        let target = PathAndQuery::from_maybe_shared(raw.as_bytes().to_vec()).unwrap();
        let (canonical, kept) = CanonicalPath::of_target(&target).unwrap();
        assert_eq!((canonical.as_str(), kept.as_ref().map(Query::as_str)), (path, query), "{raw}");
        assert_eq!(canonical.with_query(kept.as_ref()).as_str(), whole, "{raw}");
        assert_eq!(canonical.with_query(None).as_str(), path, "{raw}");
    }
}

#[test]
fn a_query_is_never_shown() {
    let target = PathAndQuery::from_static("/a?access_token=secret");
    let (path, query) = CanonicalPath::of_target(&target).unwrap();
    assert!(!format!("{path} {path:?} {query:?}").contains("secret"));
    assert_eq!(format!("{query:?}"), "Some(Query(..))");
}

proptest! {
    #[test]
    fn a_canonical_path_reads_as_itself(raw in "/(([a-cA%./;?u0-9]|%25|%2[0-9a-fA-F]|%[0-9a-fA-F]{2}|%C3%A9|%EF%BC%8[0-9A-F]){0,12})") {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            prop_assert_eq!(CanonicalPath::parse(path.as_str()), Ok(path.clone()));
            prop_assert!(path.as_str().len() <= raw.len());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_accepted_without_panic(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = CanonicalPath::parse(&raw);
    }

    /// Any text that a client escapes by the rules passes, but for the few characters that are refused by name.
    #[test]
    fn an_escaped_name_passes(name in "[a-z0-9äöüßéñ東京 !$&'()*+,=:@_~-]{1,20}") {
        let escaped = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC).to_string();
        let path = CanonicalPath::parse(format!("/{escaped}")).unwrap();
        let segment = path.segments().next().unwrap().to_owned();
        prop_assert_eq!(crate::path::decoded(&segment), name);
    }

    /// A careless server decodes again and again, folds backslashes, drops parameters, collapses slashes and resolves dots:
    /// from an accepted path it still reads the same segments.
    #[test]
    fn a_careless_reader_sees_the_same_segments(raw in "/(([ab./]|%25|%2[eE5fF]|%5[cC]|%3[bBfF]|[;\\\\u0-9]|%6[1-3]|%C3%A9|%00){0,10})") {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let ours: Vec<Vec<u8>> = path.segments().map(|segment| crate::path::decoded(segment).into_owned().into_bytes()).collect();
            prop_assert_eq!(careless(path.as_str().as_bytes()), ours);
        }
    }
}

fn careless(path: &[u8]) -> Vec<Vec<u8>> {
    let mut text = path.to_vec();
    loop {
        let again: Vec<u8> = percent_encoding::percent_decode(&text).collect();
        if again == text {
            break;
        }
        text = again;
    }
    let mut segments: Vec<Vec<u8>> = Vec::new();
    for segment in text.split(|byte| matches!(byte, b'/' | b'\\')) {
        match segment.split(|byte| matches!(byte, b';' | b'?' | b'#' | 0)).next().unwrap_or_default() {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(segment.to_vec()),
        }
    }
    segments
}
