//! Target `frames`: frames of HTTP/2 in any pieces, beside a count of those that carry nothing.
//!
//! Three bytes are one step: what, how often, how large. Steps are frames, or what earns more of them, or time that passes.

use std::time::Duration;

use crate::listener::Frames;

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
    let (mut nothing, mut earned, mut waited) = (0_usize, FREE, 0_usize);
    for (number, step) in steps.chunks_exact(3).take(64).enumerate() {
        let [what, often, size] = [usize::from(step[0]), usize::from(step[1]), usize::from(step[2])];
        match what % 16 {
            kind @ 0..=11 => {
                let flags = u8::try_from(what >> 4).unwrap_or(0);
                let bytes = frame(u8::try_from(kind).unwrap_or(0), flags, size).repeat(often);
                // Data, and the end of a request, are what a connection is for.
                let carries = kind == 0 && (size > 0 || flags & 1 > 0);
                let before = nothing;
                nothing += if carries { 0 } else { often };
                let refused = bytes.chunks(piece.min(bytes.len().max(1))).any(|piece| frames.read(piece));
                if refused {
                    assert!(nothing > earned, "refused with {nothing} of {earned}");
                    return Some(number);
                }
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

fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap_or(0).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0x0a; payload]].concat()
}
