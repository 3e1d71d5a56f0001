//! Request ids: ten characters of Crockford's base 32.
//!
//! A per-thread counter, put through a keyed hash whose key is random for each thread: no two ids of a thread follow from each other, and
//! making one needs no lock and no system call.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use crate::telemetry::RequestId;

/// Base 32 without letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 10;

thread_local! {
    static COUNTER: Cell<u64> = const { Cell::new(0) };
    static KEY: RandomState = RandomState::new();
}

/// A new id.
pub fn next() -> RequestId {
    let count = COUNTER.get();
    COUNTER.set(count.wrapping_add(1));
    let mut bits = KEY.with(|key| key.hash_one(count));
    let mut text = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        let digit = usize::try_from(bits & 31).unwrap_or(0);
        text.push(ALPHABET.get(digit).copied().map_or('0', char::from));
        bits >>= 5;
    }
    RequestId(text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_are_plain_text() {
        let ids: HashSet<_> = (0..10_000).map(|_| next().0).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == LENGTH && id.bytes().all(|byte| ALPHABET.contains(&byte))));
    }

    #[test]
    fn two_threads_make_different_ids() {
        let here: HashSet<_> = (0..100).map(|_| next().0).collect();
        let there = std::thread::spawn(|| (0..100).map(|_| next().0).collect::<HashSet<_>>()).join().unwrap();
        assert!(here.is_disjoint(&there));
    }
}
