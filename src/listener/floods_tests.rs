//! Frames of HTTP/2 that cost the gateway something and move nothing, written by hand: the connection ends within a thousand of them, and no other feels it.
//! And how an idle connection ends.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tests::{GET, LONG, answer, beside_that, config, connect, reader};
use super::*;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:method` GET, `:scheme` http, `:path` /, `:authority` a.
pub(super) const GET_BLOCK: &[u8] = b"\x82\x86\x84\x41\x01a";
pub(super) const POST_BLOCK: &[u8] = b"\x83\x86\x84\x41\x01a";
/// CONNECT to `a` that announces five octets of content.
const CONNECT_BLOCK: &[u8] = b"\x02\x07CONNECT\x01\x01a\x0f\x0d\x015";
/// The same as a WebSocket's (RFC 8441).
const WEBSOCKET_BLOCK: &[u8] = b"\x02\x07CONNECT\x86\x84\x01\x01a\x00\x09:protocol\x09websocket\x0f\x0d\x015";
pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// RFC 9113, 7.
const ENHANCE_YOUR_CALM: u32 = 11;
/// Frames within which a flood has to end.
const MOST: u32 = 1_000;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The kind of the next frame, and its payload.
pub(super) async fn next_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

/// Nothing but a budget ends a connection.
pub(super) fn patient() -> Settings {
    Settings { head: HOUR, idle: HOUR, body: HOUR, whole_body: HOUR, write: HOUR, ..Settings::default() }
}

/// Why the connection ended, as its last frame says.
fn goodbye(mut said: &[u8]) -> Option<u32> {
    let mut reason = None;
    while let Some((head, rest)) = said.split_first_chunk::<9>() {
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let (payload, next) = rest.split_at(length);
        reason = (head[3] == 7).then(|| u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        said = next;
    }
    reason
}

/// Sends `first`, and then frames until the connection ends: after a thousand it has to.
async fn flood(first: Vec<u8>, each: impl Fn(u32) -> Vec<u8>) {
    let frames: Vec<u8> = (0..MOST).flat_map(each).collect();
    beside_that(&Config { h2c: true, ..config() }, patient(), reader(), async |address| {
        let mut other = connect(address).await;
        other.write_all(GET).await.unwrap();
        answer(&mut other, 1).await;
        let (mut said, mut says) = connect(address).await.into_split();
        let ends = async {
            let mut all = Vec::new();
            // A reset may come behind the last words.
            let _ = said.read_to_end(&mut all).await;
            all
        };
        let flood = async {
            // It may end before all is said.
            let _ = says.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &first, &frames].concat()).await;
        };
        let ended = timeout(LONG / 2, async { tokio::join!(ends, flood) }).await;
        let Ok((said, ())) = ended else { panic!("{MOST} frames were borne") };
        assert_eq!(goodbye(&said), Some(ENHANCE_YOUR_CALM), "it is told why");
        other.write_all(GET).await.unwrap();
        answer(&mut other, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_requests_that_are_taken_back_ends() {
    flood(Vec::new(), |number| {
        let stream = number / 2 * 2 + 1;
        if number % 2 == 0 { frame(1, 5, stream, GET_BLOCK) } else { frame(3, 0, stream, &8_u32.to_be_bytes()) }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_pings_ends() {
    flood(Vec::new(), |_| frame(6, 0, 0, b"PINGPING")).await;
}

#[tokio::test]
async fn a_flood_of_answers_to_pings_that_were_not_sent_ends() {
    flood(Vec::new(), |_| frame(6, 1, 0, b"PINGPING")).await;
}

#[tokio::test]
async fn a_flood_of_settings_ends() {
    flood(Vec::new(), |_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])).await;
}

#[tokio::test]
async fn a_flood_of_continuations_ends() {
    flood(frame(1, 1, 1, GET_BLOCK), |_| frame(9, 0, 1, b"\0\x01a\x01b")).await;
    flood(frame(1, 1, 1, GET_BLOCK), |_| frame(9, 0, 1, &[])).await;
}

#[tokio::test]
async fn a_flood_of_heads_that_are_too_large_ends() {
    let name = [b"\0\x01x\x7f\x81\x7e".as_slice(), &[b'x'; 16_384 - 6]].concat();
    flood(Vec::new(), |number| match number % 4 {
        0 => frame(1, 1, number / 4 * 2 + 1, GET_BLOCK),
        3 => frame(9, 4, number / 4 * 2 + 1, &[]),
        _ => frame(9, 0, number / 4 * 2 + 1, &name),
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_window_updates_ends() {
    flood(Vec::new(), |_| frame(8, 0, 0, &1_u32.to_be_bytes())).await;
    flood(frame(1, 4, 1, POST_BLOCK), |_| frame(8, 0, 1, &1_u32.to_be_bytes())).await;
}

#[tokio::test]
async fn a_flood_of_empty_data_ends() {
    flood(frame(1, 4, 1, POST_BLOCK), |_| frame(0, 0, 1, &[])).await;
}

#[tokio::test]
async fn a_connect_that_announces_content_ends_and_nothing_else_on_its_connection() {
    beside_that(&Config { h2c: true, ..config() }, patient(), reader(), async |address| {
        for block in [CONNECT_BLOCK, WEBSOCKET_BLOCK] {
            let mut stream = connect(address).await;
            let begun = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 4, 1, POST_BLOCK), &frame(1, 4, 3, block), &frame(1, 4, 5, block)].concat();
            stream.write_all(&begun).await.unwrap();
            stream.write_all(&frame(1, 5, 7, GET_BLOCK)).await.unwrap();
            let (mut resets, mut answers) = (Vec::new(), Vec::new());
            while resets.len() < 2 || answers.len() < 2 {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.expect("the connection stays");
                let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                stream.read_exact(&mut payload).await.unwrap();
                match (head[3], head[8]) {
                    (3, stream) => resets.push(stream),
                    (1, number) => {
                        answers.push(number);
                        if number == 7 {
                            stream.write_all(&frame(0, 1, 1, b"abc")).await.unwrap();
                        }
                    }
                    _ => {}
                }
            }
            assert_eq!((resets, answers), (vec![3, 5], vec![7, 1]));
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_connects_that_announce_content_ends() {
    flood(Vec::new(), |number| frame(1, 5, number * 2 + 1, CONNECT_BLOCK)).await;
    flood(Vec::new(), |number| frame(1, 4, number * 2 + 1, WEBSOCKET_BLOCK)).await;
}

#[tokio::test]
async fn a_flood_of_priorities_or_of_frames_that_nobody_knows_ends() {
    flood(Vec::new(), |_| frame(2, 0, 1, &[0, 0, 0, 0, 9])).await;
    flood(Vec::new(), |_| frame(200, 0, 0, b"?")).await;
}

#[tokio::test]
async fn an_idle_connection_is_told_that_it_ends_and_whether_a_request_was_taken() {
    let (events, heard) = mpsc::channel();
    let events = Mutex::new(events);
    let on_event = Arc::new(move |event| events.lock().unwrap().send(event).unwrap_or_default());
    let settings = Settings { idle: Duration::from_millis(100), on_event, ..patient() };
    beside_that(&Config { h2c: true, ..config() }, settings, reader(), async |address| {
        // The second one does not answer the ping behind the first GOAWAY (RFC 9113, 6.8).
        for answers in [true, false] {
            let mut stream = connect(address).await;
            stream.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, GET_BLOCK)].concat()).await.unwrap();
            let mut goodbyes = Vec::new();
            while let Some((kind, payload)) = next_frame(&mut stream).await {
                match kind {
                    6 if answers => stream.write_all(&frame(6, 1, 0, &payload)).await.unwrap(),
                    7 => goodbyes.push(payload),
                    _ => {}
                }
            }
            let last = if answers { 1 } else { u32::MAX >> 1 };
            assert_eq!(goodbyes.last().map(Vec::as_slice), Some([last.to_be_bytes(), [0; 4]].concat().as_slice()), "{answers}: {goodbyes:?}");
        }
    })
    .await;
    assert_eq!(heard.iter().filter(|event| *event == Event::Expired).count(), 2);
}
