//! The last records, for `explain ID`: bounded in number and in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Record;

/// How many records are kept.
const RECORDS: usize = 10_000;

/// How many bytes they may take together: long paths must not fill the memory.
const BYTES: usize = 32 << 20;

/// The last records. Clones share them. The log's thread writes; only the admin door reads.
#[derive(Clone, Default)]
pub struct Ring(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    records: VecDeque<Box<Record>>,
    bytes: usize,
}

impl Ring {
    /// The record with this id, the newest first.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Record> {
        self.kept().records.iter().rev().find(|record| &*record.id.0 == id).map(|record| Record::clone(record))
    }

    /// The last `count` records, the newest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Record> {
        self.kept().records.iter().rev().take(count).map(|record| Record::clone(record)).collect()
    }

    /// How many records are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept().records.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&self, record: Box<Record>) {
        let mut kept = self.kept();
        kept.bytes = kept.bytes.saturating_add(record.weight());
        kept.records.push_back(record);
        while kept.records.len() > RECORDS || (kept.bytes > BYTES && kept.records.len() > 1) {
            if let Some(oldest) = kept.records.pop_front() {
                kept.bytes = kept.bytes.saturating_sub(oldest.weight());
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::RequestId;

    fn record(id: &str, path: usize) -> Box<Record> {
        let mut record = Box::new(Record::new(RequestId(id.into()), http::Method::GET, None, "http"));
        record.path = Some("a".repeat(path).into());
        record
    }

    #[test]
    fn the_ring_keeps_the_last_ten_thousand() {
        let ring = Ring::default();
        for number in 0..RECORDS + 5 {
            ring.push(record(&number.to_string(), 1));
        }
        assert_eq!(ring.len(), RECORDS);
        assert!(ring.find("4").is_none());
        assert!(ring.find("5").is_some());
        let last: Vec<_> = ring.last(2).into_iter().map(|record| record.id.0.to_string()).collect();
        assert_eq!(last, ["10004", "10003"]);
    }

    #[test]
    fn the_method_of_a_record_counts_among_its_bytes() {
        let of = |method: &str| {
            let mut record = record("1", 1);
            record.method = http::Method::from_bytes(method.as_bytes()).expect("a token");
            record.weight()
        };
        assert_eq!(of(&"M".repeat(30)) - of("GET"), 27);
    }

    #[test]
    fn long_paths_push_out_older_records_before_the_memory_fills() {
        let ring = Ring::default();
        for number in 0..100 {
            ring.push(record(&number.to_string(), 1 << 20));
        }
        assert!(ring.len() < 33, "{} records of 1 MiB", ring.len());
        assert!(ring.find("99").is_some());
        assert!(ring.kept().bytes <= BYTES);
    }
}
