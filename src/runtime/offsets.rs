//! Which offsets of a partition are complete, and how far it may be committed.
//!
//! Pure. Invariant 1 (completion) rests on this: [`Tracker::committable`] never passes an offset that was
//! delivered and isn't complete. Offsets that were never delivered between two delivered ones (transaction
//! markers, aborted batches) count as complete. An offset may complete before it is delivered: that is our own
//! append to a retry partition, done before it was read back.

mod completed_runs;

use std::collections::BTreeMap;

use self::completed_runs::run_bytes;

pub(crate) use self::completed_runs::{CompletedRuns, MOST_CHARACTERS, decode, encode};

/// The contiguous watermark of one partition and the completed runs above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tracker {
    /// Everything below is complete.
    watermark: i64,
    /// Everything below was delivered, or will never be.
    delivered: i64,
    /// Completed runs above the watermark: first offset → offset behind the last. Never touching.
    runs: BTreeMap<i64, i64>,
    /// What the runs take in a map, before base64: kept exact with every change, so that a map that is too large is
    /// known without encoding it.
    runs_bytes: usize,
    /// Counts the changes.
    version: u64,
}

impl Tracker {
    /// Starts at `position`, the next offset to be delivered.
    pub(crate) fn new(position: i64) -> Self {
        Self { watermark: position, delivered: position, runs: BTreeMap::new(), runs_bytes: 0, version: 0 }
    }

    /// Starts at `position`, with `runs` above it complete before they are delivered.
    pub(crate) fn resume(position: i64, runs: &[(i64, i64)]) -> Self {
        let mut tracker = Self::new(position);
        for &(first, behind) in runs {
            tracker.complete_run(first, behind);
        }
        tracker
    }

    /// Notes that `offset` was delivered. Answers false when it needs no work: delivered before, or complete.
    pub(crate) fn deliver(&mut self, offset: i64) -> bool {
        if offset < self.delivered {
            return false;
        }
        if offset > self.delivered {
            self.complete_run(self.delivered, offset);
        }
        self.delivered = offset + 1;
        !self.is_complete(offset)
    }

    /// Notes that all of `first..behind` was delivered, if all of it needs work; else says false and notes nothing.
    pub(crate) fn deliver_run(&mut self, first: i64, behind: i64) -> bool {
        let plain = first >= self.delivered && self.is_behind_all_runs(first);
        if plain {
            self.complete_run(self.delivered, first);
            self.delivered = behind;
        }
        plain
    }

    /// The next offset that may be delivered: everything below came by, or never will.
    pub(crate) fn delivered(&self) -> i64 {
        self.delivered
    }

    /// Notes that `offset` is complete; saying it again changes nothing.
    pub(crate) fn complete(&mut self, offset: i64) {
        self.complete_run(offset, offset + 1);
    }

    /// True when `offset` is complete.
    #[inline]
    pub(crate) fn is_complete(&self, offset: i64) -> bool {
        offset < self.watermark
            || !self.runs.is_empty()
                && self.runs.range(..=offset).next_back().is_some_and(|(_, &end)| offset < end)
    }

    /// True when neither `offset` nor anything behind it is complete.
    pub(crate) fn is_behind_all_runs(&self, offset: i64) -> bool {
        offset >= self.runs.last_key_value().map_or(self.watermark, |(_, &end)| end)
    }

    /// The offset to commit: the next one to be handled after a restart.
    pub(crate) fn committable(&self) -> i64 {
        self.watermark
    }

    /// Changes with everything that [`Tracker::map`] would say.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Characters of the map with all runs. More than [`MOST_CHARACTERS`] can't be committed.
    pub(crate) fn map_characters(&self, generation: u64) -> usize {
        let bytes = completed_runs::map_bytes(self.watermark, generation, self.runs_bytes);
        completed_runs::characters(bytes)
    }

    /// The map for the commit's metadata, cut to its lowest part where it is too large.
    pub(crate) fn map(&self, generation: u64) -> String {
        completed_runs::encode(self.watermark, generation, self.runs())
    }

    /// The completed runs above the watermark, as (first, behind the last), ascending.
    pub(crate) fn runs(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> {
        self.runs.iter().map(|(&first, &end)| (first, end))
    }

    /// Completes `start..end`, joining what it touches.
    pub(crate) fn complete_run(&mut self, start: i64, end: i64) {
        let (mut start, mut end) = (start.max(self.watermark), end);
        if start >= end {
            return;
        }
        if start == self.watermark && self.runs.is_empty() {
            self.watermark = end;
            self.version += 1;
            return;
        }
        if let Some((&first, &last)) = self.runs.range(..=start).next_back()
            && last >= start
        {
            if last >= end {
                return;
            }
            start = first;
        }
        let before = self.runs.range(..start).next_back().map_or(self.watermark, |(_, &last)| last);
        // Each run's bytes count from the end of the one before it.
        let mut former = before;
        while let Some((&first, &last)) = self.runs.range(start..=end).next() {
            self.runs_bytes -= run_bytes(first - former, last - first);
            self.runs.remove(&first);
            former = last;
            end = end.max(last);
        }
        if let Some((&first, &last)) = self.runs.range(end..).next() {
            self.runs_bytes -= run_bytes(first - former, last - first);
            self.runs_bytes += run_bytes(first - end, last - first);
        }
        if start == self.watermark {
            self.watermark = end;
        } else {
            self.runs_bytes += run_bytes(start - before, end - start);
            self.runs.insert(start, end);
        }
        self.version += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offsets_that_are_never_delivered_do_not_hold_the_watermark() {
        let mut tracker = Tracker::new(10);
        assert!(tracker.deliver(10));
        assert!(tracker.deliver(14));
        tracker.complete(14);
        assert_eq!(tracker.committable(), 10);
        tracker.complete(10);
        assert_eq!(tracker.committable(), 15);
    }

    #[test]
    fn a_run_is_delivered_at_once_only_if_all_of_it_needs_work() {
        let mut tracker = Tracker::resume(5, &[(7, 9)]);
        assert!(!tracker.deliver_run(5, 8), "7 is complete");
        assert!(!tracker.deliver_run(8, 10), "8 is complete");
        assert_eq!(tracker.delivered(), 5);
        assert!(tracker.deliver_run(11, 13), "9 and 10 will never be");
        assert!(!tracker.deliver_run(12, 14), "12 was");
        tracker.complete_run(11, 13);
        assert_eq!((tracker.committable(), tracker.delivered()), (13, 13));
        tracker.complete(13);
        assert!(!tracker.deliver_run(13, 15), "13 is complete before it is read back");
        assert!(tracker.deliver_run(14, 15));
    }

    #[test]
    fn an_append_that_completes_before_it_is_read_back_needs_no_work_then() {
        let mut tracker = Tracker::new(5);
        tracker.complete(7);
        assert_eq!(tracker.committable(), 5);
        assert!(tracker.deliver(5));
        assert!(tracker.deliver(6));
        assert!(!tracker.deliver(7));
        tracker.complete(6);
        tracker.complete(5);
        assert_eq!(tracker.committable(), 8);
    }

    #[test]
    fn what_a_former_owner_completed_needs_no_work_when_it_comes_again() {
        let mut tracker = Tracker::resume(5, &[(7, 9), (12, 13)]);
        let to_do: Vec<i64> = (5..14).filter(|&offset| tracker.deliver(offset)).collect();
        assert_eq!(to_do, [5, 6, 9, 10, 11, 13]);
        assert_eq!((tracker.committable(), tracker.delivered()), (5, 14));
    }

    proptest! {
        /// Invariant 1, against sets: gaps in delivery, completion in any order, repeats.
        #[test]
        fn the_watermark_never_passes_an_open_offset(
            base in 0i64..100,
            steps in prop::collection::vec((0i64..4, any::<prop::sample::Index>()), 1..200),
        ) {
            let mut tracker = Tracker::new(base);
            let mut open = BTreeSet::new();
            let mut next = base;
            for (step, pick) in steps {
                if step < 2 || open.is_empty() {
                    next += step;
                    prop_assert!(tracker.deliver(next));
                    open.insert(next);
                    next += 1;
                } else {
                    let offset = *open.iter().nth(pick.index(open.len())).expect("in range");
                    open.remove(&offset);
                    tracker.complete(offset);
                    tracker.complete(offset);
                }
                let expected = open.first().copied().unwrap_or(next);
                prop_assert_eq!(tracker.committable(), expected);
                for offset in base..next {
                    prop_assert_eq!(tracker.is_complete(offset), !open.contains(&offset));
                }
                prop_assert!(tracker.runs.len() <= open.len() + 1);
                // The map's size is known without encoding it, and a restart from it knows as much.
                let map = tracker.map(3);
                prop_assert_eq!(map.len(), tracker.map_characters(3));
                let read = decode(&map).expect("ours");
                let resumed = Tracker::resume(read.base, &read.runs);
                for offset in base..next {
                    prop_assert_eq!(resumed.is_complete(offset), tracker.is_complete(offset));
                }
            }
        }
    }
}
