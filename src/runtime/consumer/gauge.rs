//! How much of a partition is held in memory: counted up by the poll thread, down by whoever lets go.
//!
//! Invariant 6 (bounds): above its share a partition is paused while polling goes on, so the membership lives;
//! at half of it reading resumes.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// Records and bytes of one partition that are in memory.
#[derive(Debug)]
pub(crate) struct Gauge {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// The offset behind the last record of the source partition, as far as is known.
    end: AtomicI64,
    /// The next offset of the source that the client fetches; 0 while it isn't known.
    next_fetch: AtomicI64,
    /// Where the source ended when the broker was asked last; [`NEVER_ASKED`] before.
    asked_end: AtomicI64,
}

/// See [`Gauge`].
const NEVER_ASKED: i64 = i64::MIN;

impl Default for Gauge {
    fn default() -> Self {
        Self {
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            end: AtomicI64::new(0),
            next_fetch: AtomicI64::new(0),
            asked_end: AtomicI64::new(NEVER_ASKED),
        }
    }
}

impl Gauge {
    /// Notes how far the source partition reaches; ends only grow.
    pub(crate) fn note_end(&self, end: i64) {
        self.end.fetch_max(end, Ordering::Relaxed);
    }

    /// The offset behind the last record of the source partition, as far as is known.
    pub(crate) fn end(&self) -> i64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Notes which offset the client fetches next.
    pub(crate) fn note_next_fetch(&self, next: i64) {
        self.next_fetch.store(next, Ordering::Relaxed);
    }

    /// The next offset that the client fetches, if it is known: behind what it passed over (transactions' markers) too.
    pub(crate) fn next_fetch(&self) -> i64 {
        self.next_fetch.load(Ordering::Relaxed)
    }

    /// Notes what the broker answered when it was asked for the end of what can be read.
    pub(crate) fn note_asked_end(&self, end: i64) {
        self.asked_end.store(end, Ordering::Relaxed);
    }

    /// The end of what can be read, as the broker named it last in this assignment.
    pub(crate) fn asked_end(&self) -> Option<i64> {
        Some(self.asked_end.load(Ordering::Relaxed)).filter(|&end| end != NEVER_ASKED)
    }

    /// Counts records in.
    pub(crate) fn take(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts records out.
    pub(crate) fn release(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Records and bytes that are held.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.records.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// True when a partition that may hold `records` and `bytes` holds more; once `already` full, it stays full
    /// until half of both.
    pub(crate) fn is_full(&self, already: bool, records: usize, bytes: usize) -> bool {
        let part = if already { 2 } else { 1 };
        self.records.load(Ordering::Relaxed) > records / part
            || self.bytes.load(Ordering::Relaxed) > bytes / part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_partition_resumes_at_half() {
        let gauge = Gauge::default();
        gauge.take(11, 100);
        assert!(gauge.is_full(false, 10, 1_000));
        gauge.release(5, 50);
        assert!(!gauge.is_full(false, 10, 1_000));
        assert!(gauge.is_full(true, 10, 1_000));
        gauge.release(1, 10);
        assert!(!gauge.is_full(true, 10, 1_000));
    }
}
