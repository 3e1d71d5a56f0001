//! Trailers with pseudo-fields: in every spelling, however the bytes are cut, and on a connection that goes on.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::floods_tests::{GET_BLOCK, POST_BLOCK, PREFACE, frame, next_frame, patient};
use super::super::tests::{beside_that, config, connect, reader};
use super::super::*;
use super::*;

/// Spellings of a pseudo-field, or of ordinary fields, behind a head that has put `:authority: b`, `x: y` and `:x: y` into the table.
const PSEUDO_FIELDS: [(&str, &[u8]); 13] = [
    ("of the static table", b"\x84"),
    ("with another value", b"\x44\x02/x"),
    ("that is not kept", b"\x04\x02/x"),
    ("that is never kept", b"\x14\x02/x"),
    ("of its name alone, never kept", b"\x1f\x2f\x01z"),
    ("of the dynamic table", b"\xbe"),
    ("further down in it", b"\xc0"),
    ("of its name alone", b"\x0f\x2f\x01z"),
    ("written out", b"\0\x05:path\x02/x"),
    ("in Huffman's code", b"\0\x84\xb9\x58\xd3\x3f\x02/x"),
    ("behind another field", b"\0\x03x-y\x01z\x84"),
    ("behind a size of the table", b"\x3f\xe1\x0f\x84"),
    ("that was kept in the trailers themselves", b"\x40\x02:q\x01z\xbe"),
];
const ORDINARY: [(&str, &[u8]); 7] = [
    ("of the static table", b"\x8f"),
    ("of the dynamic table", b"\xbf"),
    ("of its name alone", b"\x7f\x00\x01z"),
    ("written out", b"\0\x03x-y\x01:"),
    ("in Huffman's code", b"\0\x84\xf2\xb1\x2d\x3f\x01:"),
    ("behind a size of the table", b"\x3f\xe1\x0f\0\x03x-y\x01:"),
    ("none", b""),
];
/// What fills the table.
const KEPT: &[u8] = b"\x41\x01b\x40\x01x\x01y\x40\x02:x\x01y";

fn fed(bytes: &[u8], piece: usize) -> (bool, Vec<u8>) {
    let mut trailers = Trailers::new();
    let mut all = bytes.to_vec();
    let ends = all.chunks_mut(piece).any(|piece| trailers.read(piece));
    (ends, all)
}

/// A connection whose first stream ends in these trailers; the head stands in two frames, with all that may stand around a block.
fn connection(trailers: &[u8]) -> (Vec<u8>, usize) {
    let (kept, rest) = KEPT.split_at(4);
    let padded = [b"\x03\0\0\0\0\x10".as_slice(), kept, b"\0\0\0"].concat();
    let before = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 0x28, 1, &padded), &frame(9, 4, 1, rest), &frame(0, 0, 1, b"hello \x84")].concat();
    let flags = before.len() + 4;
    ([before, frame(1, 5, 1, trailers), frame(1, 5, 3, GET_BLOCK)].concat(), flags)
}

#[test]
fn a_pseudo_field_in_trailers_is_seen_in_every_spelling() {
    for (how, trailers) in PSEUDO_FIELDS {
        let (bytes, flags) = connection(trailers);
        let (ends, passed) = fed(&bytes, bytes.len());
        assert!(!ends, "{how}: the stream ends, not the connection");
        let mut expected = bytes.clone();
        expected[flags] = 4;
        assert_eq!(passed, expected, "{how}");
        for piece in 1..24 {
            let (ends, passed) = fed(&bytes, piece);
            assert!(ends || passed == expected, "{how}, in pieces of {piece}");
        }
    }
}

#[test]
fn ordinary_trailers_pass_unchanged() {
    for (how, trailers) in ORDINARY {
        let (bytes, _) = connection(trailers);
        for piece in (1..24).chain([bytes.len()]) {
            assert_eq!(fed(&bytes, piece), (false, bytes.clone()), "{how}, in pieces of {piece}");
        }
    }
}

async fn until(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let (next, payload) = next_frame(stream).await.expect("a connection that is open");
        if next == kind {
            return payload;
        }
    }
}

#[tokio::test]
async fn a_request_with_a_pseudo_field_in_its_trailers_is_reset_and_the_next_one_answered() {
    beside_that(&Config { h2c: true, ..config() }, patient(), reader(), async |address| {
        let mut stream = connect(address).await;
        let request = [frame(1, 4, 1, POST_BLOCK), frame(0, 0, 1, b"hello"), frame(1, 5, 1, b"\0\x05:path\x02/x")].concat();
        stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &request].concat()).await.unwrap();
        assert_eq!(until(&mut stream, 3).await, [0, 0, 0, 1], "PROTOCOL_ERROR");
        stream.write_all(&frame(1, 5, 3, GET_BLOCK)).await.unwrap();
        assert_eq!(until(&mut stream, 1).await.first(), Some(&0x88), "200");
    })
    .await;
}

#[tokio::test]
async fn where_the_head_of_such_trailers_has_passed_already_the_connection_ends() {
    beside_that(&Config { h2c: true, ..config() }, patient(), reader(), async |address| {
        let mut stream = connect(address).await;
        let trailers = frame(1, 5, 1, b"\0\x05:path\x02/x");
        let (begin, rest) = trailers.split_at(10);
        stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 4, 1, POST_BLOCK), &frame(6, 0, 0, b"PINGPING"), begin].concat()).await.unwrap();
        // The answer to the ping says that all before it was read.
        until(&mut stream, 6).await;
        stream.write_all(rest).await.unwrap();
        let goodbye = until(&mut stream, 7).await;
        assert_eq!(goodbye.get(4..8), Some([0, 0, 0, 1].as_slice()), "PROTOCOL_ERROR");
    })
    .await;
}

#[tokio::test]
async fn ordinary_trailers_are_read_over_and_the_request_is_answered() {
    beside_that(&Config { h2c: true, ..config() }, patient(), reader(), async |address| {
        let mut stream = connect(address).await;
        stream.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
        for number in [1, 3, 5] {
            let request = [frame(1, 4, number, POST_BLOCK), frame(0, 0, number, b"hello"), frame(1, 5, number, b"\x40\x0ax-checksum\x015")].concat();
            stream.write_all(&request).await.unwrap();
            assert_eq!(until(&mut stream, 1).await.first(), Some(&0x88), "200");
        }
    })
    .await;
}
