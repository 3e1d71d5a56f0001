//! The scanner alone, and beside hyper: both must see the same requests in the same bytes.

use std::cell::RefCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What is said of the first requests, when the bytes come in pieces of this size.
fn verdicts(raw: &str, requests: usize, piece: usize) -> Vec<Option<&'static str>> {
    let mut heads = RawHeads::new(1024);
    raw.as_bytes().to_vec().chunks_mut(piece).for_each(|piece| heads.read(piece));
    (0..requests).map(|_| heads.asked()).collect()
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

#[test]
fn what_hyper_hides_is_seen_however_the_bytes_come() {
    for (raw, reason) in [
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), CONTRADICTION),
        (post("tRANSFER-encoding:chunked\r\nX: y\r\nCONTENT-length:\t5 ", "0\r\n\r\n"), CONTRADICTION),
        (post("Transfer-Encoding: chunked\r\nContent-Length:", "0\r\n\r\n"), CONTRADICTION),
        (post("Transfer-Encoding: chunked\nContent-Length: x", "0\r\n\r\n"), CONTRADICTION),
        (post("Content-Length: 5\r\nContent-Length: 5", "hello"), TWICE),
        (post("Content-Length: 5\r\nContent-Length: 05", "hello"), TWICE),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".into(), FRAGMENT),
        ("\r\n\nGET /?a# HTTP/1.1\nHost: a\n\n".into(), FRAGMENT),
        ("A#B /#x HTTP/1.1\r\n\r\n".into(), FRAGMENT),
        ("GET http://a/#/ HTTP/1.1\r\n\r\n".into(), FRAGMENT),
    ] {
        for piece in 1..=raw.len() {
            assert_eq!(verdicts(&raw, 1, piece), [Some(reason)], "{raw:?} in pieces of {piece}");
            assert_eq!(verdicts(&format!("{GET}{raw}{GET}"), 3, piece), [None, Some(reason), Some(reason)], "{raw:?} in pieces of {piece}");
        }
    }
}

#[test]
fn bodies_and_values_are_not_taken_for_heads() {
    let text = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nGET /# HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n";
    for raw in [
        post(&format!("Content-Length: {}", text.len()), text),
        post("Transfer-Encoding: chunked", &format!("{:x} ;a=\"b\"\r\n{text}\r\n00\r\nContent-Length: 1\r\nX: y\r\n\r\n", text.len())),
        post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "3\r\n\r\n#\r\n0\r\n\r\n"),
        post("X: Content-Length: 1\r\nY: Transfer-Encoding: #\r\nX-Content-Length: 1\r\nContent-Length-X: 1\r\nReferer: /a#b", ""),
        "A#B / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        post("Content-Length: 000", ""),
    ] {
        for piece in 1..=raw.len() {
            assert_eq!(verdicts(&format!("{raw}\r\n{raw}{GET}"), 3, piece), [None; 3], "{raw:?} in pieces of {piece}");
        }
    }
}

#[test]
fn what_cannot_be_followed_is_followed_by_nothing() {
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body) + GET;
    for raw in [
        post("Content-Length: +1", "a") + GET,
        chunked("x\r\n"),
        chunked("1\na\r\n0\r\n\r\n"),
        chunked("1x\r\na\r\n0\r\n\r\n"),
        chunked("1;x=\u{0}\r\na\r\n0\r\n\r\n"),
        chunked("1\r\na\r\n0;\u{1b}\r\n\r\n"),
        chunked("1\r\nab\r\n0\r\n\r\n"),
        chunked("0\r\nX: a\n\r\nY: b\r\n\r\n"),
        chunked("0\r\n\n"),
        chunked("10000000000000000\r\n"),
        chunked(&"0".repeat(2 * LONGEST_LINE)),
    ] {
        assert_eq!(verdicts(&raw, 2, 7), [None, Some(LOST)], "{raw:.80?}");
    }
    assert_eq!(verdicts(GET, 2, 7), [None, Some(LOST)], "a request of which nothing was seen");
}

#[test]
fn a_head_that_comes_whole_leaves_nothing_behind() {
    let mut heads = RawHeads::new(1024);
    heads.read(&mut GET.as_bytes().to_vec());
    assert_eq!(heads.begun.capacity(), 0);
}

#[test]
fn a_size_line_with_a_control_character_loses_its_end_and_no_other_byte_changes() {
    let raw = post("Transfer-Encoding: chunked", "1;a=\"b\t\u{e9}\"\r\na\r\n2;x=\u{7f}\r\n\r\n\r\n0\r\n\r\n");
    let end = raw.find("\u{7f}\r\n").unwrap() + 2;
    let expected = [&raw.as_bytes()[..end], b"\0", &raw.as_bytes()[end + 1..]].concat();
    for piece in 1..=raw.len() {
        let (mut heads, mut bytes) = (RawHeads::new(1024), raw.as_bytes().to_vec());
        bytes.chunks_mut(piece).for_each(|piece| heads.read(piece));
        assert_eq!(bytes, expected, "in pieces of {piece}");
    }
}

#[test]
fn a_bare_line_feed_in_the_trailers_is_spoiled_and_nothing_is_read_behind_it() {
    for (before, behind) in [("0\r\n", ""), ("0\r\n", GET), ("0\r\n", "\r\n"), ("0\r\nX: y", "\n"), ("0\r\nX: y", "\r\n"), ("0\r\nX: y\r\n", GET)] {
        let start = post("Transfer-Encoding: chunked", before);
        let raw = format!("{start}\n{behind}");
        let expected = format!("{start}\0{behind}");
        for piece in 1..=raw.len() {
            let (mut heads, mut bytes) = (RawHeads::new(1024), raw.as_bytes().to_vec());
            bytes.chunks_mut(piece).for_each(|piece| heads.read(piece));
            assert!(heads.is_broken(), "{raw:?}");
            assert_eq!(String::from_utf8_lossy(&bytes), expected, "in pieces of {piece}");
        }
    }
    let mut heads = RawHeads::new(1024);
    heads.read(&mut post("Transfer-Encoding: chunked", "0\r\nX: y\r\n\r\n").into_bytes());
    assert!(!heads.is_broken());
}

/// What hyper makes of the bytes: for each request whether it was marked as one to refuse.
async fn hyper_sees(raw: &str) -> Vec<bool> {
    let seen = RefCell::new(Vec::new());
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let service = hyper::service::service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
        seen.borrow_mut().push(request.headers().contains_key("x-refuse"));
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let server = hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service);
    let client = async {
        near.write_all(raw.as_bytes()).await.unwrap();
        near.shutdown().await.unwrap();
        let _ = near.read_to_end(&mut Vec::new()).await;
    };
    tokio::join!(async { drop(server.await) }, client);
    seen.into_inner()
}

fn pieces() -> impl Strategy<Value = String> {
    let messages = [
        GET.to_owned(),
        "\r\nGET /x HTTP/1.1\nHost: a\n\n".to_owned(),
        post("Content-Length: 5", "hello"),
        post("Content-Length: 9", "a\r\n\r\nb\r\n\r\n"),
        post("Content-Length: 28", GET),
        post("Transfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: Chunked", "5\r\nhello\r\n0A;x\r\n\r\n\r\n0\r\n\r\n\r\n000 \r\nX: y\r\n\r\n"),
        post("Expect: 100-continue\r\nContent-Length: 1", "a"),
    ];
    let refused = [
        post("X-Refuse: 1\r\nContent-Length: 5\r\nContent-Length: 5", "hello"),
        post("X-Refuse: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        "GET /a#b HTTP/1.1\r\nHost: a\r\nX-Refuse: 1\r\n\r\n".to_owned(),
    ];
    let scraps = ["\r\n", "\n", "\r", "0\r\n", "0\r\n\r\n", "5\r\nhello\r\n", "X: y\r\n", "X: y\n", "a", "GET / HTTP/1.1\r\n", "Content-Length: 3\r\n", " "];
    prop_oneof![
        8 => proptest::sample::select(messages.to_vec()),
        1 => proptest::sample::select(refused.to_vec()),
        1 => proptest::sample::select(scraps.to_vec()).prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn hyper_and_the_scanner_see_the_same_requests(messages in proptest::collection::vec(pieces(), 1..8), piece in 1..100_usize) {
        let raw = messages.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = runtime.block_on(hyper_sees(&raw));
        let said = verdicts(&raw, seen.len(), piece);
        let first = seen.iter().position(|refuse| *refuse).unwrap_or(seen.len());
        prop_assert!(said[first..].iter().all(Option::is_some), "let through: {seen:?} {said:?}");
        prop_assert!(said[..first].iter().all(|reason| matches!(reason, None | Some(LOST))), "seen where there was none: {seen:?} {said:?}");
    }
}
