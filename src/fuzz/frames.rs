//! Target `frames`: frames of HTTP/2 in any pieces, beside a count of those that carry nothing; what is said when there are too many.
//!
//! Three bytes are one step: what, how often, how large. Steps are frames, or what earns more of them, or time that passes. The frames of a step are those
//! of one stream, and pass in the server's direction as well.

use std::time::Duration;

use crate::listener::{Frames, Heads, calm};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How many are free, and what is earned, as `listener/frames.rs` promises it.
const FREE: usize = 500;

/// Goes through the steps twice: whole, and in pieces of the size that the first byte says.
pub fn frames(input: &[u8]) {
    let Some((size, steps)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let refused: Vec<Option<usize>> = [usize::MAX, usize::from(*size).max(1), 1].map(|piece| runtime.block_on(run(steps, piece))).into();
    assert!(refused.iter().all(|at| *at == refused[0]), "pieces are counted in another way: {refused:?}");
}

/// The step in which there were too many.
async fn run(steps: &[u8], piece: usize) -> Option<usize> {
    let mut frames = Frames::new();
    assert!(!frames.read(PREFACE));
    let (mut answers, mut begun) = (Heads::of_answers(), 0);
    let (mut nothing, mut earned, mut waited) = (0_usize, FREE, 0_usize);
    for (number, step) in steps.chunks_exact(3).take(64).enumerate() {
        let [what, often, size] = [usize::from(step[0]), usize::from(step[1]), usize::from(step[2])];
        match what % 16 {
            kind @ 0..=11 => {
                let flags = u8::try_from(what >> 4).unwrap_or(0);
                let stream = u32::try_from(number).unwrap_or(0) * 2 + 1;
                let one = frame(u8::try_from(kind).unwrap_or(0), flags, size, stream);
                followed(&mut answers, &one, often.min(3), piece);
                let bytes = one.repeat(often);
                // Data, and the end of a request, are what a connection is for.
                let carries = kind == 0 && (size > 0 || flags & 1 > 0);
                let before = nothing;
                nothing += if carries { 0 } else { often };
                let refused = bytes.chunks(piece.min(bytes.len().max(1))).any(|piece| frames.read(piece));
                let last = if kind == 1 && often > 0 { stream } else { begun };
                if refused {
                    assert!(nothing > earned, "refused with {nothing} of {earned}");
                    assert!([begun, last].contains(&frames.last()), "{} was begun last", frames.last());
                    last_words(&mut answers, frames.last());
                    return Some(number);
                }
                begun = last;
                assert_eq!(frames.last(), begun, "another stream was begun last");
                assert!(nothing <= earned + waited, "borne with {nothing} of {earned}, {before} before");
            }
            12 => {
                frames.asked();
                earned += 4;
            }
            13 => {
                frames.answered();
                earned += 10;
            }
            14 => {
                frames.sent(often * size);
                earned += 5 + often * size / 128;
            }
            _ => {
                tokio::time::advance(Duration::from_millis(100 * step[1] as u64)).await;
                // One for each second since the last time that it was counted, a part of one at most besides.
                waited += (often / 10).min(FREE) + 1;
            }
        }
    }
    None
}

/// The server's direction is followed from head to head, and nothing is in the middle only where a frame has ended.
fn followed(answers: &mut Heads, frame: &[u8], often: usize, piece: usize) {
    let (mut found, mut passed) = (0, 0);
    let bytes = frame.repeat(often);
    for piece in bytes.chunks(piece.min(bytes.len().max(1))) {
        let mut rest = piece;
        while let Some((head, behind)) = answers.next(rest) {
            assert_eq!(head, frame[..9], "a head that is none");
            (found, rest) = (found + 1, behind);
        }
        passed += piece.len();
        assert_eq!(answers.is_between(), passed % frame.len() == 0, "{passed} octets of frames of {}", frame.len());
    }
    assert_eq!(found, often, "heads were passed over");
}

/// What is said to one that asks too much: one whole GOAWAY behind the answers (RFC 9113, 6.8).
fn last_words(answers: &mut Heads, last: u32) {
    let said = calm(last);
    let (head, behind) = answers.next(&said).expect("a frame");
    assert_eq!(head, [0, 0, 8, 7, 0, 0, 0, 0, 0]);
    assert_eq!(behind, [last.to_be_bytes(), 11_u32.to_be_bytes()].concat());
    assert!(answers.next(behind).is_none() && answers.is_between());
}

/// The reserved bit of the stream's number is set by a flag that no frame has, and means nothing.
fn frame(kind: u8, flags: u8, payload: usize, stream: u32) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap_or(0).to_be_bytes();
    let stream = stream | (u32::from(flags & 2) << 30);
    [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], &vec![0x0a; payload]].concat()
}
