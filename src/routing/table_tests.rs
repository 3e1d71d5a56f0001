//! The table against its rules, and against a matcher that takes every route in turn.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::super::testing::{protected, public};
use super::*;

fn table(routes: Vec<RouteConfig>) -> RouteTable {
    RouteTable::new(routes).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn open(paths: &[&str]) -> RouteTable {
    table(paths.iter().zip(1..).map(|(path, line)| public(line, "", path)).collect())
}

fn path(raw: &str) -> CanonicalPath {
    CanonicalPath::parse(raw).unwrap_or_else(|problem| panic!("{raw}: {problem}"))
}

fn found<'t>(table: &'t RouteTable, host: &str, raw: &str) -> Option<&'t str> {
    table.find(host, &path(raw)).map(|found| &**found.route.pattern())
}

#[test]
fn patterns_match_whole_segments() {
    for (pattern, matching, other) in [
        ("/", &["/"][..], &["/a"][..]),
        ("/**", &["/", "/a", "/a/b/"], &[]),
        ("/k/**", &["/k", "/k/", "/k/a", "/k/a/b/"], &["/", "/kx", "/kx/a", "/K"]),
        ("/a/b", &["/a/b", "/a/b/"], &["/a", "/a/b/c", "/a/B"]),
        ("/res/{id}", &["/res/1", "/res/1.json", "/res/1/"], &["/res", "/res/", "/res/1/2"]),
        ("/res/{id}/**", &["/res/1", "/res/1/", "/res/1/a/b"], &["/res", "/res/"]),
        ("/{a}/{b}", &["/x/y", "/x/y/"], &["/x", "/x/y/z"]),
        ("/wiki/a%40b", &["/wiki/a%40b", "/wiki/a@b"], &["/wiki/a"]),
        ("/wiki/a@b", &["/wiki/a%40b", "/wiki/a@b"], &["/wiki/a"]),
        ("/caf%C3%A9", &["/caf%c3%a9"], &["/cafe"]),
    ] {
        let table = open(&[pattern]);
        for raw in matching {
            assert_eq!(found(&table, "h", raw), Some(pattern), "{pattern} {raw}");
        }
        for raw in other {
            assert_eq!(found(&table, "h", raw), None, "{pattern} {raw}");
        }
    }
}

#[test]
fn the_first_segment_that_differs_decides_whatever_the_order() {
    let cases: &[(&[&str], &[(&str, &str)])] = &[
        (&["/a/b/**", "/a/{x}/c"], &[("/a/b/c", "/a/b/**"), ("/a/x/c", "/a/{x}/c"), ("/a/b", "/a/b/**")]),
        (&["/res/{id}", "/res/special"], &[("/res/special", "/res/special"), ("/res/1", "/res/{id}")]),
        (&["/res/{id}/**", "/res/{id}/sub/{sid}"], &[("/res/1/sub/2", "/res/{id}/sub/{sid}"), ("/res/1/sub", "/res/{id}/**")]),
        (&["/{a}/c", "/x/{b}"], &[("/x/c", "/x/{b}"), ("/y/c", "/{a}/c")]),
        (&["/**", "/api/**", "/api/v1/**"], &[("/api/v1/x", "/api/v1/**"), ("/api/v1", "/api/v1/**"), ("/api/x", "/api/**"), ("/x", "/**")]),
        (&["/k/**", "/k"], &[("/k", "/k"), ("/k/", "/k"), ("/k/a", "/k/**")]),
        (&["/a/b/c", "/a/{x}/d", "/{y}/b/e", "/**"], &[("/a/b/d", "/a/{x}/d"), ("/a/b/e", "/{y}/b/e"), ("/a/b/f", "/**")]),
    ];
    for (patterns, expected) in cases {
        let mut backwards = patterns.to_vec();
        backwards.reverse();
        for table in [open(patterns), open(&backwards)] {
            for (raw, pattern) in *expected {
                assert_eq!(found(&table, "h", raw), Some(*pattern), "{patterns:?} {raw}");
            }
        }
    }
}

#[test]
fn the_more_exact_host_wins_and_falls_through_where_it_has_no_path() {
    let table = table(vec![
        public(1, "", "/a/b"),
        public(2, "*.example.org", "/a/**"),
        public(3, "*.x.example.org", "/a/{p}"),
        public(4, "h.x.example.org", "/**"),
        public(5, "g.x.example.org", "/only"),
    ]);
    for (host, raw, pattern) in [
        ("h.x.example.org", "/a/b", Some("/**")),
        ("g.x.example.org", "/a/b", Some("/a/{p}")),
        ("g.x.example.org", "/a/b/c", Some("/a/**")),
        ("g.example.org", "/a/b", Some("/a/**")),
        ("example.org", "/a/b", Some("/a/b")),
        ("badexample.org", "/a/b", Some("/a/b")),
        ("example.org", "/a/c", None),
    ] {
        assert_eq!(found(&table, host, raw), pattern, "{host} {raw}");
    }
}

#[test]
fn parameters_and_rest_are_places_in_the_path() {
    let table = open(&["/users/{owner}/albums/{album}/**"]);
    let asked = path("/users/al%20ice/albums/caf%c3%a9/2024/a.jpg");
    let found = table.find("h", &asked).unwrap();
    assert_eq!(found.params.len(), 2);
    assert_eq!(found.params.value(&asked, 0), "al%20ice");
    assert_eq!(found.params.value(&asked, 1), "caf%C3%A9");
    assert_eq!(found.params.value(&asked, 2), "");
    assert_eq!(found.params.rest(&asked), "/2024/a.jpg");
    let template = super::super::Template::parse("album {album} of {owner}", &["owner".into(), "album".into()]).unwrap();
    assert_eq!(&*template.fill(&found.params, &asked), "album café of al ice");
}

#[test]
fn a_rewrite_keeps_the_rest_and_the_trailing_slash() {
    for (pattern, rewrite, asked, expected) in [
        ("/v1/**", "/{**}", "/v1", Ok("/")),
        ("/v1/**", "/{**}", "/v1/", Ok("/")),
        ("/v1/**", "/{**}", "/v1/a/b/", Ok("/a/b/")),
        ("/v1/**", "/x/{**}", "/v1", Ok("/x")),
        ("/v1/**", "/x/{**}", "/v1/", Ok("/x/")),
        ("/v1/{a}/**", "/{a}/y/{**}", "/v1/caf%c3%a9/z", Ok("/caf%C3%A9/y/z")),
        ("/a/{x}", "/b/{x}", "/a/1/", Ok("/b/1/")),
        ("/a/{x}", "/b/{x}", "/a/1", Ok("/b/1")),
        ("/a/{x}", "/b/", "/a/1/", Ok("/b/")),
        ("/a/{x}/{y}", "/{x}{y}", "/a/100%25/41", Err(PathProblem::EncodedPercent)),
        ("/a/{x}", "/.{x}", "/a/-", Ok("/.-")),
    ] {
        let table = open(&[pattern]);
        let rewrite = super::super::Rewrite::parse(rewrite, &Pattern::parse(pattern).unwrap()).unwrap();
        let asked = path(asked);
        let params = table.find("h", &asked).unwrap().params;
        assert_eq!(rewrite.apply(&params, &asked).map(|path| path.to_string()), expected.map(str::to_owned), "{pattern} {asked}");
    }
}

#[test]
fn contradictions_are_told_with_the_places_of_all_routes() {
    let place = |line| Place { line, column: 5 };
    let problems = |routes| RouteTable::new(routes).map(|_| panic!("no problem")).unwrap_or_else(|problems| problems);

    let equal =
        problems(vec![public(1, "", "/a/{x}/c"), public(2, "", "/a/{y}/c"), public(3, "h", "/a/{y}/c"), public(4, "", "/w/a@b"), public(5, "", "/w/a%40b")]);
    assert_eq!(
        equal.iter().map(|problem| (problem.place(), problem.others().to_vec())).collect::<Vec<_>>(),
        [(place(2), vec![place(1)]), (place(5), vec![place(4)])]
    );
    assert_eq!(equal[0].to_string(), "two routes of equal weight: `/a/{y}/c` on any host stands at line 1 already");

    let never = problems(vec![public(1, "", "/a/**"), public(2, "", "/a"), public(3, "", "/a/{x}"), public(4, "", "/a/{x}/{y}/**")]);
    assert_eq!((never[0].place(), never[0].others()), (place(1), &[place(2), place(3), place(4)][..]));
    assert_eq!(never[0].to_string(), "this route can never match: all its paths belong to the more specific routes at line 2 and 3 and 4");

    let open = problems(vec![protected(1, "", "/albums/{album}/**"), public(2, "", "/**"), public(3, "", "/albums/x/**")]);
    assert_eq!((open.len(), open[0].place(), open[0].others()), (1, place(2), &[place(1)][..]));
}

#[test]
fn a_public_route_may_open_a_part_of_a_protected_one_but_not_reach_over_it() {
    let fine = |public_host: &str, public_path: &str, protected_host: &str, protected_path: &str| {
        RouteTable::new(vec![public(1, public_host, public_path), protected(2, protected_host, protected_path)]).is_ok()
    };
    assert!(fine("", "/public/**", "", "/**"));
    assert!(fine("", "/a", "", "/a/**"));
    assert!(fine("h", "/**", "g", "/**"));
    assert!(fine("h", "/a/**", "", "/**"));
    assert!(fine("", "/public/**", "", "/albums/**"));
    assert!(!fine("", "/**", "", "/albums/**"));
    assert!(!fine("", "/**", "h", "/albums/**"));
    assert!(!fine("h", "/**", "", "/albums/**"));
    assert!(!fine("*.org", "/**", "a.org", "/x"));
    assert!(!fine("", "/a/b/**", "", "/a/{x}/c"));
    assert!(!fine("", "/a/{x}/c", "", "/a/b/**"));
    // For a server that folds case these are protected paths.
    assert!(!fine("", "/Albums/**", "", "/albums/vacation/**"));
    assert!(!fine("", "/ALBUMS/**", "", "/albums/**"));
    assert!(!fine("", "/Albums/vacation/{x}", "", "/albums/vacation/**"));
    assert!(!fine("", "/stra%C3%9Fe/**", "", "/STRASSE/a"));
    assert!(fine("", "/Albumen/**", "", "/albums/**"));
    let meant = RouteConfig { covers_protected: true, ..public(1, "", "/**") };
    assert!(RouteTable::new(vec![meant, protected(2, "", "/albums/**")]).is_ok());
}

#[test]
fn another_spelling_of_a_name_that_a_route_uses_is_refused() {
    let table = open(&["/admin/**", "/caf%C3%A9/**", "/{any}"]);
    for raw in ["/%EF%BD%81dmin/x", "/x/%EF%BD%81%EF%BD%84%EF%BD%8D%EF%BD%89%EF%BD%8E", "/cafe%CC%81", "/%EF%BC%A1dmin", "/%EF%BD%81DMIN", "/CAFE%CC%81"] {
        assert_eq!(table.check(&path(raw)), Err(PathProblem::Lookalike), "{raw}");
    }
    for raw in ["/admin", "/Admin", "/caf%C3%A9", "/cafe", "/th%C3%A9", "/the%CC%81", "/%EF%BD%81"] {
        assert_eq!(table.check(&path(raw)), Ok(()), "{raw}");
    }
    // The route itself may be written in the unusual form; then the usual one is the other spelling.
    let unusual = open(&["/%EF%BD%81dmin/**"]);
    assert_eq!(unusual.check(&path("/admin")), Err(PathProblem::Lookalike));
    assert_eq!(unusual.check(&path("/%EF%BD%81dmin")), Ok(()));
}

#[test]
fn head_follows_get_and_what_is_not_listed_is_not_mapped() {
    use http::Method;
    let table = table(vec![protected(1, "", "/a"), public(9, "", "/b")]);
    let route = table.find("h", &path("/a")).unwrap().route;
    assert_eq!(route.needs(&Method::HEAD), route.needs(&Method::GET));
    assert!(route.needs(&Method::GET).is_some() && route.needs(&Method::POST).is_none() && route.needs(&Method::OPTIONS).is_none());
    assert_eq!(route.allow(), "GET, HEAD, PUT, DELETE");
    assert!(table.find("h", &path("/b")).unwrap().route.needs(&Method::GET).is_none());
}

#[test]
fn a_parameter_that_the_resource_does_not_use_is_named() {
    use super::super::{ResourceChoice, Template, unused_parameters};
    let pattern = Pattern::parse("/users/{owner}/{album}/{photo}").unwrap();
    let names: Vec<Arc<str>> = pattern.parameters().cloned().collect();
    let template = |text: &str| Template::parse(text, &names).unwrap();
    let resource = ResourceChoice::Name { name: template("album {album}"), owner: Some(template("{owner}")) };
    assert_eq!(unused_parameters(&pattern, &resource), ["photo".into()]);
    assert_eq!(unused_parameters(&pattern, &ResourceChoice::Id { id: "x".into(), owner: None }).len(), 3);
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("a"), 4 => Just("b"), 1 => Just("a%40"), 1 => Just("a@"), 3 => Just("{p}")].prop_map(str::to_owned)
}

fn pattern() -> impl Strategy<Value = String> {
    (proptest::collection::vec(segment(), 0..5), any::<bool>()).prop_map(|(segments, rest)| {
        let mut text: String = segments.iter().enumerate().map(|(at, segment)| format!("/{}", segment.replace("{p}", &format!("{{p{at}}}")))).collect();
        if rest {
            text.push_str("/**");
        }
        if text.is_empty() { "/".to_owned() } else { text }
    })
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("*.o"), Just("*.b.o"), Just("a.b.o"), Just("o")].prop_map(str::to_owned)
}

fn asked() -> impl Strategy<Value = String> {
    (proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("a@"), Just("a%40"), Just("z")], 0..6), any::<bool>())
        .prop_map(|(segments, slash)| format!("/{}{}", segments.join("/"), if slash && !segments.is_empty() { "/" } else { "" }))
}

/// Whether a pattern matches, written as the rule is spoken.
fn matches(pattern: &Pattern, segments: &[String]) -> bool {
    let enough = if pattern.rest { segments.len() >= pattern.segments.len() } else { segments.len() == pattern.segments.len() };
    enough
        && pattern.segments.iter().zip(segments).all(|(part, segment)| match part {
            Segment::Literal(literal) => decoded(literal) == *segment,
            Segment::Parameter(_) => true,
        })
}

/// Which of two patterns that match the same path wins.
fn weigh(one: &Pattern, other: &Pattern) -> Ordering {
    let kind = |pattern: &Pattern, at: usize| match pattern.segments.get(at) {
        Some(Segment::Literal(_)) => 0,
        Some(Segment::Parameter(_)) => 1,
        None if pattern.rest => 3,
        None => 2,
    };
    (0..=one.segments.len().max(other.segments.len())).map(|at| kind(one, at).cmp(&kind(other, at))).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn exactness(host: &HostPattern) -> usize {
    match host {
        HostPattern::Exact(_) => 0,
        HostPattern::Suffix(suffix) => 1000 - suffix.len(),
        HostPattern::Any => 1000,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_compiled_table_finds_what_the_naive_matcher_finds(
        routes in proptest::collection::vec((host(), pattern()), 1..8),
        host in prop_oneof![Just("a.b.o"), Just("x.b.o"), Just("x.o"), Just("o"), Just("bo")],
        raw in asked(),
    ) {
        let configs: Vec<RouteConfig> = routes.iter().zip(1..).map(|((host, path), line)| public(line, host, path)).collect();
        let asked = path(&raw);
        let segments: Vec<String> = asked.segments().map(|segment| decoded(segment).into_owned()).collect();
        let naive = configs
            .iter()
            .filter(|route| route.host.matches(host) && matches(&route.pattern, &segments))
            .min_by(|one, other| exactness(&one.host).cmp(&exactness(&other.host)).then(weigh(&one.pattern, &other.pattern)))
            .map(|route| route.place);
        match RouteTable::new(configs.clone()) {
            Ok(table) => {
                let found = table.find(host, &asked);
                prop_assert_eq!(found.map(|found| found.route.place()), naive);
                if let Some(found) = found {
                    let values: Vec<&str> = (0..found.params.len()).map(|place| found.params.value(&asked, place)).collect();
                    let expected: Vec<&str> = found.route.config().pattern.segments.iter().zip(asked.segments())
                        .filter(|(part, _)| matches!(part, Segment::Parameter(_))).map(|(_, value)| value).collect();
                    prop_assert_eq!(values, expected);
                }
            }
            // What is called unreachable is indeed never the best, and what is called equal is equal.
            Err(problems) => for problem in problems {
                match problem {
                    RouteProblem::NeverMatches { route, .. } => prop_assert_ne!(Some(route), naive),
                    RouteProblem::EqualWeight { first, second, .. } => {
                        let by_place = |place: Place| configs.iter().find(|route| route.place == place).unwrap();
                        prop_assert_eq!(&by_place(first).host, &by_place(second).host);
                        prop_assert_eq!(weigh(&by_place(first).pattern, &by_place(second).pattern), Ordering::Equal);
                    }
                    _ => prop_assert!(false, "nothing is protected or rewritten here"),
                }
            },
        }
    }
}

#[test]
fn an_opt_in_never_leads_to_another_route() {
    use crate::path::OptIns;
    let all = OptIns { encoded_slash: true, encoded_percent: true, semicolon: true };
    let with = |line, pattern: &str, opt_ins| RouteConfig { opt_ins, covers_protected: true, ..public(line, "", pattern) };
    let routes =
        vec![with(1, "/files/**", all), with(2, "/ids/{id}/info.json", all), protected(3, "", "/files/secret/**"), with(7, "/plain/**", OptIns::default())];
    let table = RouteTable::new(routes).unwrap();
    let answer = |raw: &str| {
        let target = http::uri::PathAndQuery::from_maybe_shared(raw.as_bytes().to_vec()).unwrap();
        let (path, _) = CanonicalPath::of_target(&target)?;
        let found = table.find("h", &path).expect("a route");
        table.check_readings("h", &path, found.route)
    };
    for raw in
        ["/files/a%2Fb", "/files/a;v=1/b", "/files/a%2541", "/ids/a%2Fb/info.json", "/ids/https:%2F%2Fh%2Fsecret/info.json", "/files/x%2Fsecret", "/plain/A"]
    {
        assert_eq!(answer(raw), Ok(()), "{raw}");
    }
    for raw in [
        "/files/secret%2Fx",
        "/files/SECRET%2fx",
        "/files/secret;v=1/x",
        "/files/;/secret/x",
        "/files/%2Fsecret/x",
        "/files/se%2563ret/x",
        "/files/secret%253Bx",
        "/files/%25u0073ecret/x",
        "/files/secret%253Fx",
    ] {
        assert_eq!(answer(raw), Err(PathProblem::Elsewhere), "{raw}");
    }
    for (raw, problem) in [
        ("/plain/a%2Fb", PathProblem::EncodedSlash),
        ("/plain/a;b", PathProblem::Semicolon),
        ("/plain/a%2541", PathProblem::EncodedPercent),
        ("/files/a%2F../b", PathProblem::DotSegment),
        ("/files/a%2F..%2Fsecret", PathProblem::DotSegment),
    ] {
        assert_eq!(answer(raw), Err(problem), "{raw}");
    }
}

#[test]
fn letters_that_are_one_only_as_capitals_are_another_case_too() {
    let open = |line, pattern: &str| RouteConfig { covers_protected: true, ..public(line, "", pattern) };
    let table = RouteTable::new(vec![open(1, "/**"), protected(2, "", "/%C4%B1d/**"), protected(5, "", "/stra%C3%9Fe"), protected(8, "", "/strom")]).unwrap();
    let answer = |raw: &str| {
        let path = path(raw);
        table.check_readings("h", &path, table.find("h", &path).expect("a route").route)
    };
    for raw in ["/id/x", "/ID", "/strasse", "/STRASSE", "/%C4%B1D"] {
        assert_eq!(answer(raw), Err(PathProblem::Lookalike), "{raw}");
    }
    for raw in ["/%C4%B1d/x", "/stra%C3%9Fe", "/strom", "/strase"] {
        assert_eq!(answer(raw), Ok(()), "{raw}");
    }
}

#[test]
fn another_case_of_a_path_never_leads_past_a_protected_route() {
    let open = |line, pattern: &str| RouteConfig { covers_protected: true, ..public(line, "", pattern) };
    let routes =
        vec![open(1, "/**"), protected(2, "", "/admin/**"), open(5, "/Wiki/**"), protected(6, "", "/users/{user}/Keys"), protected(9, "", "/users/{user}/**")];
    let table = RouteTable::new(routes).unwrap();
    let answer = |raw: &str| {
        let path = path(raw);
        table.check_readings("h", &path, table.find("h", &path).expect("a route").route)
    };
    for raw in ["/Admin", "/aDMIN/x", "/users/bob/keys", "/users/bob/KEYS", "/USERS/bob"] {
        assert_eq!(answer(raw), Err(PathProblem::Lookalike), "{raw}");
    }
    for raw in ["/admin", "/wiki/Admin", "/WIKI/x", "/Wiki/x", "/users/BOB/Keys", "/users/Bob/photos", "/Administration", "/README.md"] {
        assert_eq!(answer(raw), Ok(()), "{raw}");
    }
}
