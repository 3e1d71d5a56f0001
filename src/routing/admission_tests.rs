//! Raw bytes through hyper into admission: what arrives is refused or has one reading.

use std::convert::Infallible;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::authority::ServedHosts;
use super::*;
use crate::response::Row;
use crate::telemetry::RequestId;

fn request(head: http::request::Parts, body: Body, hosts: &[&str]) -> Request {
    let peer = Peer {
        address: "192.0.2.1:4000".parse().unwrap(),
        local: "127.0.0.1:80".parse().unwrap(),
        scheme: "http",
        hosts: ServedHosts::new(hosts).unwrap(),
        certificate: None,
        counted: Default::default(),
    };
    let recorder = Recorder::new(RequestId("r1".into()), head.method.clone(), None, "http");
    Request { head, body, peer, refusal: None, recorder }
}

/// One connection on which these bytes are sent; the whole answer. An admitted request is answered with what was read of it.
fn send(raw: &str, hosts: &'static [&'static str]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let service = hyper::service::service_fn(|incoming: hyper::Request<hyper::body::Incoming>| async move {
            let (head, body) = incoming.into_parts();
            let (status, text) = match admit(request(head, Body::stream(body), hosts), "gw-1") {
                Ok(admitted) => {
                    let query = admitted.query.as_ref().map_or("-", Query::as_str).to_owned();
                    let read = admitted.body.collect().await.map_or(usize::MAX, |body| body.to_bytes().len());
                    (200, format!("{} {} {} {}", admitted.authority, admitted.path, query, read))
                }
                Err(rejection) => (rejection.status().as_u16(), rejection.reason().to_owned()),
            };
            Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
        });
        let server = hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
        let client = async {
            near.write_all(raw.as_bytes()).await.unwrap();
            near.shutdown().await.unwrap();
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::join!(async { drop(server.await) }, client).1
    })
}

fn status(raw: &str) -> u16 {
    let answer = send(raw, &[]);
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{raw:?} got {answer:?}"))
}

fn last_line(raw: &str) -> String {
    send(raw, &[]).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn what_two_servers_could_read_differently_is_refused() {
    let corpus: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:http\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("Get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G ET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GETGETGETGETGETGETGETGETGETGETGETG / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
        ("GET //a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a%5cb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        // An opt-in of the route would admit the spelling, and still not this.
        ("GET /a%2f..%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /?caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 front, 1.1 GW-1 (x)\r\n\r\n", 508),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    ];
    for (raw, expected) in corpus {
        assert_eq!(status(raw), *expected, "{raw:?}");
    }
}

#[test]
fn a_length_is_one_number() {
    let digits = "0".repeat(5000);
    assert_eq!(status(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {digits}5\r\n\r\nhello")), 400);
    assert_eq!(last_line("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello"), "a / - 5");
}

/// hyper settles these before a request exists, and the listener, which is not here, has them refused. Were it blind, the reading that goes on would be
/// the one that hyper used, and after a contradiction the connection ends.
#[test]
fn what_the_library_settles_has_one_reading_behind_it() {
    let smuggled = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = send(smuggled, &[]);
    assert!(answer.ends_with("a / - 0") && !answer.contains("smuggled"), "{answer}");
    assert_eq!(last_line("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), "a / - 5");
    assert_eq!(last_line("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), "a /a - 0");
}

#[test]
fn ordinary_requests_pass() {
    for (raw, read) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a / - 0"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "a / - 0"),
        ("GET /a?b=c;d&e=/../ HTTP/1.1\r\nHost: Example.ORG:8080\r\n\r\n", "example.org:8080 /a b=c;d&e=/../ 0"),
        ("GET /a? HTTP/1.1\r\nHost: a.\r\n\r\n", "a /a  0"),
        ("GET /%61?q=%zz{}|\\^` HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "[::1]:80 /a q=%zz{}|\\^` 0"),
        ("GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "a /x - 0"),
        ("GET http://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n", "a /x - 0"),
        ("GET HTTP://a?x HTTP/1.1\r\nHost: a:80\r\n\r\n", "a:80 / x 0"),
        ("GET https://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n", "a:443 / - 0"),
        ("OPTIONS /x HTTP/1.1\r\nHost: a\r\n\r\n", "a /x - 0"),
        ("PROPFIND /x/ HTTP/1.1\r\nHost: a\r\nDepth: 1\r\n\r\n", "a /x/ - 0"),
        ("VERSION-CONTROL /x HTTP/1.1\r\nHost: a\r\n\r\n", "a /x - 0"),
        ("M-SEARCH /x HTTP/1.1\r\nHost: a\r\n\r\n", "a /x - 0"),
        ("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked \r\n\r\n3\r\nabc\r\n0\r\n\r\n", "a /x - 3"),
        ("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "a /x - 3"),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\nX_Odd: b\r\nX-Empty:\r\nX-High: \u{e4}\r\nConnection: close, x-odd\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
            "a /x - 0",
        ),
        ("GET /x HTTP/1.1\r\nhost: a\r\nVia: 1.0 fred, 1.1 gw-12\r\nExpect: 100-Continue\r\n\r\n", "a /x - 0"),
        ("GET /x HTTP/1.0\r\nhost: a\r\nExpect: the unexpected\r\n\r\n", "a /x - 0"),
    ] {
        assert_eq!(last_line(raw), read, "{raw:?}");
    }
}

#[test]
fn a_target_has_a_length_limit_of_its_own() {
    let fits = "a".repeat(8_191);
    assert_eq!(status(&format!("GET /{fits} HTTP/1.1\r\nHost: a\r\n\r\n")), 200);
    assert_eq!(status(&format!("GET /{fits}a HTTP/1.1\r\nHost: a\r\n\r\n")), 414);
    assert_eq!(status(&format!("GET /?{fits} HTTP/1.1\r\nHost: a\r\n\r\n")), 414);
}

#[test]
fn a_listener_that_names_its_hosts_serves_no_other() {
    let ask = |host: &str| send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), &["a.example", "*.b.example"]);
    for host in ["a.example", "A.Example.:8080", "x.b.example"] {
        assert!(ask(host).starts_with("HTTP/1.1 200"), "{host}");
    }
    for host in ["b.example", "c", "127.0.0.1"] {
        assert!(ask(host).starts_with("HTTP/1.1 421"), "{host}");
    }
}

fn admitted(request_line: (&str, &str), headers: &[(&str, &[u8])]) -> (Result<Admitted, Rejection>, Recorder) {
    admitted_in(Version::HTTP_11, request_line, headers)
}

fn admitted_in(version: Version, request_line: (&str, &str), headers: &[(&str, &[u8])]) -> (Result<Admitted, Rejection>, Recorder) {
    let mut builder = http::Request::builder().method(request_line.0).uri(request_line.1).version(version);
    for (name, value) in headers {
        builder = builder.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    let (head, ()) = builder.body(()).unwrap().into_parts();
    let request = request(head, Body::empty(), &[]);
    let recorder = request.recorder.clone();
    (admit(request, "gw-1"), recorder)
}

#[test]
fn what_the_listener_suspects_is_refused_whatever_the_head_shows() {
    let (head, ()) = http::Request::builder().uri("/").header(HOST, "a").body(()).unwrap().into_parts();
    let request = Request { refusal: Some(Rejection::Malformed("the target holds a fragment")), ..request(head, Body::empty(), &[]) };
    assert!(matches!(admit(request, "gw-1"), Err(Rejection::Malformed("the target holds a fragment"))));
}

/// A second lock behind the listener's: hyper of today shows neither.
#[test]
fn two_framings_are_refused_should_they_arrive() {
    for (name, value) in [("transfer-encoding", &b"chunked"[..]), ("content-length", b"1")] {
        let (answer, _) = admitted(("POST", "/"), &[("host", b"a"), ("content-length", b"1"), (name, value)]);
        assert!(matches!(answer, Err(Rejection::Malformed(_))), "{name}");
    }
}

/// hyper and h2 let none of these through.
#[test]
fn a_transfer_coding_is_chunked_alone_and_only_where_the_version_has_any_should_it_arrive() {
    for (version, coding, expected) in [
        (Version::HTTP_2, &b"chunked"[..], "HTTP/2 has no Transfer-Encoding"),
        (Version::HTTP_10, b"chunked", "HTTP/1.0 has no Transfer-Encoding"),
        (Version::HTTP_11, b"gzip, deflate", "Transfer-Encoding is not chunked"),
        (Version::HTTP_11, b"gzip", "Transfer-Encoding is not chunked"),
        (Version::HTTP_11, b"", "Transfer-Encoding is not chunked"),
    ] {
        let (answer, _) = admitted_in(version, ("POST", "http://a/"), &[("host", b"a"), ("transfer-encoding", coding)]);
        assert_eq!(answer.map(|_| ()).map_err(|rejection| rejection.reason()), Err(expected));
    }
}

#[test]
fn a_method_may_be_as_long_as_any_and_somewhat_longer() {
    for (length, expected) in [(1, true), (LONGEST_METHOD, true), (LONGEST_METHOD + 1, false)] {
        assert_eq!(admitted((&"M".repeat(length), "/"), &[("host", b"a")]).0.is_ok(), expected, "{length}");
    }
}

#[test]
fn over_http2_alone_the_authority_stands_for_a_host_that_is_missing() {
    let asked = |version, target, headers: &[(&str, &[u8])]| {
        admitted_in(version, ("GET", target), headers).0.map(|admitted| admitted.authority.as_str().to_owned()).map_err(|rejection| rejection.reason())
    };
    assert_eq!(asked(Version::HTTP_2, "https://A.example/x", &[]), Ok("a.example".to_owned()));
    assert_eq!(asked(Version::HTTP_2, "https://a.example/x", &[("host", b"A.example.")]), Ok("a.example".to_owned()));
    assert_eq!(asked(Version::HTTP_2, "https://a.example/x", &[("host", b"b.example")]), Err("the target names another authority than Host"));
    assert_eq!(asked(Version::HTTP_2, "/x", &[]), Err("Host is missing"));
    for version in [Version::HTTP_11, Version::HTTP_10] {
        assert_eq!(asked(version, "http://a.example/x", &[]), Err("Host is missing"));
    }
}

#[test]
fn crumbs_of_a_cookie_are_put_together_over_http2_alone() {
    let crumbs = [&b"a=1"[..], b"b=2", b"c=3"];
    for (version, count, expected) in [
        (Version::HTTP_2, 0, &[][..]),
        (Version::HTTP_2, 1, &["a=1"]),
        (Version::HTTP_2, 2, &["a=1; b=2"]),
        (Version::HTTP_2, 3, &["a=1; b=2; c=3"]),
        (Version::HTTP_11, 3, &["a=1", "b=2", "c=3"]),
    ] {
        let headers: Vec<_> = [("host", &b"a"[..])].into_iter().chain(crumbs.into_iter().take(count).map(|crumb| ("cookie", crumb))).collect();
        let admitted = admitted_in(version, ("GET", "http://a/"), &headers).0.unwrap();
        assert_eq!(admitted.head.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), expected, "{version:?}");
    }
}

#[test]
fn the_raw_target_and_host_end_here() {
    let (answer, recorder) = admitted(("GET", "/%61?token=secret"), &[("host", b"A.example."), ("user-agent", b"x\xffy\tz")]);
    let admitted = answer.unwrap();
    assert_eq!(admitted.head.uri, "/");
    assert!(!admitted.head.headers.contains_key(HOST));
    let record = recorder.snapshot();
    assert_eq!((record.host.as_deref(), record.path.as_deref(), record.user_agent.as_deref()), (Some("a.example"), Some("/a"), Some("x?y?z")));
    assert!(!format!("{admitted:?}").contains("secret"));
}

#[test]
fn a_user_agent_is_shortened() {
    let (_, recorder) = admitted(("GET", "/"), &[("host", b"a"), ("user-agent", &[b'x'; 1000])]);
    assert_eq!(recorder.snapshot().user_agent.map(|text| text.len()), Some(MAX_USER_AGENT));
}

#[test]
fn each_refusal_has_its_row() {
    for (line, headers, row) in [
        (("GET", "/"), &[][..], Row::D1),
        (("GET", "//"), &[("host", &b"a"[..])], Row::D3),
        (("CONNECT", "//"), &[("host", b"a")], Row::D5),
        (("GET", "/"), &[("host", b"a"), ("expect", b"x")], Row::H501),
        (("GET", "/"), &[("host", b"a"), ("via", b"HTTP/1.1 gw-1")], Row::H508),
    ] {
        assert_eq!(admitted(line, headers).0.map(|_| ()).map_err(|rejection| rejection.row()), Err(row), "{line:?}");
    }
}
