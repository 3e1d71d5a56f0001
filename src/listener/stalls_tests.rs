//! Peers that hold an exchange up: what they hold is let go within a bounded time.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::floods_tests::{GET_BLOCK, HOUR, POST_BLOCK, PREFACE, frame, next_frame, patient};
use super::streaming_tests::{SHORT, between, between_at, head};
use super::*;
use crate::upstream::Timeouts;

fn timeouts(response: Duration) -> Timeouts {
    Timeouts { response, idle: HOUR, ..Timeouts::default() }
}

/// Answers at once, and then neither reads nor closes until it is told.
fn early(done: oneshot::Receiver<()>) -> impl AsyncFnOnce(TcpStream) + 'static {
    async move |mut stream| {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch").await.unwrap();
        let _ = done.await;
    }
}

#[tokio::test]
async fn an_upload_ends_when_the_server_has_answered_and_neither_reads_nor_closes() {
    let (end, done) = oneshot::channel();
    between(patient(), timeouts(SHORT), early(done), async move |mut client| {
        client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n").await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 413 "));
        let piece = vec![b'x'; 64 * 1024];
        // Without a deadline this waits until the test gives up.
        while client.write_all(&piece).await.is_ok() {}
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn an_upload_ends_when_the_server_neither_reads_nor_answers() {
    let (end, done) = oneshot::channel::<()>();
    let server = async move |mut stream: TcpStream| {
        head(&mut stream).await;
        let _ = done.await;
    };
    between(patient(), timeouts(SHORT), server, async move |client| {
        let (mut reader, mut writer) = client.into_split();
        let upload = async {
            let piece = vec![b'x'; 64 * 1024];
            writer.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n").await.unwrap();
            while writer.write_all(&piece).await.is_ok() {}
        };
        let answer = async {
            let mut all = Vec::new();
            // What was not taken may come back as a reset.
            let _ = reader.read_to_end(&mut all).await;
            // Whichever is found first: that it takes nothing, or that it says nothing.
            assert!([b"HTTP/1.1 502 ", b"HTTP/1.1 504 "].iter().any(|line| all.starts_with(*line)), "{:?}", String::from_utf8_lossy(&all));
        };
        tokio::join!(upload, answer);
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn over_http2_it_is_the_request_that_ends_and_others_go_on() {
    let (end, done) = oneshot::channel();
    between_at(true, patient(), timeouts(SHORT), early(done), async move |client| {
        let (mut reader, mut writer) = client.into_split();
        writer.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 4, 1, POST_BLOCK)].concat()).await.unwrap();
        let mut window = 65_535_u32;
        loop {
            let mut head = [0; 9];
            // As much as fits at once; most of it stays on the way to the server, which does not read.
            while window > 0 {
                let piece = window.min(16_384);
                writer.write_all(&frame(0, 0, 1, &vec![b'x'; piece as usize])).await.unwrap();
                window -= piece;
            }
            reader.read_exact(&mut head).await.expect("the connection stays");
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            reader.read_exact(&mut payload).await.unwrap();
            match (head[3], head[8]) {
                // The connection has more room than the request.
                (8, 1) => window += u32::from_be_bytes(payload[..4].try_into().unwrap()),
                (3, 1) => break,
                _ => {}
            }
        }
        drop(end);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_drips_its_head_has_no_longer_than_one_that_is_silent() {
    let server = async |mut stream: TcpStream| {
        head(&mut stream).await;
        let drip = b"HTTP/1.1 200 OK\r\nX: ".iter().copied().chain(std::iter::repeat(b'x'));
        for byte in drip {
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(SHORT / 20).await;
        }
    };
    between(patient(), timeouts(SHORT), server, async |mut client| {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 504 "));
    })
    .await;
}

/// An answer without end, until nobody wants it any more.
async fn endless(mut stream: TcpStream) {
    head(&mut stream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await.unwrap();
    let piece = vec![b'x'; 64 * 1024];
    while stream.write_all(&piece).await.is_ok() {}
}

#[tokio::test]
async fn a_client_that_takes_nothing_lets_the_server_go() {
    let (gone, going) = oneshot::channel::<()>();
    let server = async move |stream| {
        endless(stream).await;
        drop(gone);
    };
    between(Settings { write: SHORT, ..patient() }, timeouts(HOUR), server, async |mut client| {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        head(&mut client).await;
        assert!(going.await.is_err(), "the server has given up");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_reset_so_that_the_kernel_keeps_nothing_for_it_either() {
    let room = [PREFACE, &frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]), &frame(8, 0, 0, &[0x7f, 0, 0, 0]), &frame(1, 5, 1, GET_BLOCK)].concat();
    for (http2, asked) in [(false, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()), (true, room)] {
        between_at(http2, Settings { write: SHORT, ..patient() }, timeouts(HOUR), endless, async move |mut client| {
            client.write_all(&asked).await.unwrap();
            // Of an orderly end nobody hears who does not read.
            assert!(client.ready(tokio::io::Interest::ERROR).await.unwrap().is_error());
            assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_gives_an_answer_no_room_over_http2_lets_the_server_go_and_keeps_its_connection() {
    between_at(true, Settings { write: SHORT, ..patient() }, timeouts(HOUR), endless, async |mut client| {
        client.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, GET_BLOCK)].concat()).await.unwrap();
        let started = Instant::now();
        let mut came = 0;
        loop {
            match next_frame(&mut client).await.expect("the connection stays") {
                (0, data) => came += data.len(),
                (3, reason) => break assert_eq!(reason, 8_u32.to_be_bytes(), "it is cancelled"),
                _ => {}
            }
        }
        assert!(came <= 65_535 && started.elapsed() >= SHORT, "{came} bytes");
        client.write_all(&frame(6, 0, 0, b"PINGPING")).await.unwrap();
        while !matches!(next_frame(&mut client).await.expect("the connection stays"), (6, _)) {}
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_an_answer_slowly_over_http2_gets_it_all() {
    const SIZE: usize = 300 * 1024;
    let server = async |mut stream: TcpStream| {
        head(&mut stream).await;
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; SIZE]).await.unwrap();
    };
    // Five pieces take longer, and one piece does not, even where the machine stands still for a while.
    let (limit, rest) = (Duration::from_secs(3), Duration::from_millis(800));
    let settings = Settings { write: limit, whole_write: limit, ..patient() };
    between_at(true, settings, timeouts(HOUR), server, async |mut client| {
        client.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, GET_BLOCK)].concat()).await.unwrap();
        let (mut came, mut untold) = (0, 0);
        while came < SIZE {
            let Some((kind, data)) = next_frame(&mut client).await else { panic!("cut after {came} bytes") };
            assert_ne!(kind, 3, "reset after {came} bytes");
            if kind == 0 {
                came += data.len();
                untold += data.len();
            }
            if untold >= 60 * 1024 {
                tokio::time::sleep(rest).await;
                let room = u32::try_from(std::mem::take(&mut untold)).unwrap().to_be_bytes();
                client.write_all(&[frame(8, 0, 0, &room), frame(8, 0, 1, &room)].concat()).await.unwrap();
            }
        }
    })
    .await;
}
