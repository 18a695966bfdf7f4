//! Which offsets of a target are finished: everything below `next`, and runs above it. Pure.
//!
//! Unlike a partition's own tracker it can go back: a backfill reopens what was finished.

use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    next: i64,
    /// First offset → offset behind the last; above `next`, never touching.
    runs: BTreeMap<i64, i64>,
}

impl Finished {
    /// Everything below `next` is finished.
    pub(super) fn below(next: i64) -> Self {
        Self { next, runs: BTreeMap::new() }
    }

    /// The lowest offset that isn't finished.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// The finished runs above `next`, ascending.
    pub(super) fn runs(&self) -> impl Iterator<Item = (i64, i64)> {
        self.runs.iter().map(|(&first, &behind)| (first, behind))
    }

    /// The offset behind the highest finished one.
    pub(super) fn end(&self) -> i64 {
        self.runs.last_key_value().map_or(self.next, |(_, &behind)| behind)
    }

    /// True when `offset` is finished.
    pub(super) fn contains(&self, offset: i64) -> bool {
        offset < self.next
            || self.runs.range(..=offset).next_back().is_some_and(|(_, &behind)| offset < behind)
    }

    /// The lowest offset at or above `from` that isn't finished.
    pub(super) fn first_open(&self, from: i64) -> i64 {
        let from = from.max(self.next);
        match self.runs.range(..=from).next_back() {
            Some((_, &behind)) if from < behind => behind,
            _ => from,
        }
    }

    /// Adds `first..behind`, joining what it touches.
    pub(super) fn add(&mut self, first: i64, behind: i64) {
        let (mut first, mut behind) = (first.max(self.next), behind);
        if first >= behind {
            return;
        }
        if let Some((&before, &end)) = self.runs.range(..=first).next_back()
            && end >= first
        {
            first = before;
            behind = behind.max(end);
            self.runs.remove(&before);
        }
        while let Some((&after, &end)) = self.runs.range(first..=behind).next() {
            behind = behind.max(end);
            self.runs.remove(&after);
        }
        if first == self.next {
            self.next = behind;
        } else {
            self.runs.insert(first, behind);
        }
    }

    /// Takes `offset` out.
    pub(super) fn remove(&mut self, offset: i64) {
        if offset < self.next {
            if offset + 1 < self.next {
                self.runs.insert(offset + 1, self.next);
            }
            self.next = offset;
        } else if let Some((&first, &behind)) = self.runs.range(..=offset).next_back()
            && offset < behind
        {
            self.runs.remove(&first);
            for (first, behind) in [(first, offset), (offset + 1, behind)] {
                if first < behind {
                    self.runs.insert(first, behind);
                }
            }
        }
    }

    /// Takes everything from `from` up to `next` out; what is finished above stays.
    pub(super) fn go_back_to(&mut self, from: i64) {
        self.next = self.next.min(from);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_would(steps in prop::collection::vec((0u8..4, 0i64..40, 0i64..8), 0..80)) {
            let mut finished = Finished::below(10);
            let mut set: BTreeSet<i64> = (0..10).collect();
            for (kind, at, length) in steps {
                match kind {
                    0 | 1 => {
                        finished.add(at, at + length);
                        set.extend(at..at + length);
                    }
                    2 => {
                        finished.remove(at);
                        set.remove(&at);
                    }
                    _ => {
                        let next = (0..).find(|offset| !set.contains(offset)).expect("finite");
                        finished.go_back_to(at);
                        set.retain(|&offset| offset < at || offset >= next);
                    }
                }
                let next = (0..).find(|offset| !set.contains(offset)).expect("finite");
                prop_assert_eq!(finished.next(), next);
                for offset in 0..60 {
                    prop_assert_eq!(finished.contains(offset), set.contains(&offset), "{}", offset);
                    let open = (offset..).find(|offset| !set.contains(offset)).expect("finite");
                    prop_assert_eq!(finished.first_open(offset), open);
                }
                let mut end = finished.next();
                for (first, behind) in finished.runs() {
                    prop_assert!(end < first && first < behind, "runs never touch");
                    end = behind;
                }
                prop_assert_eq!(finished.end(), set.last().map_or(0, |last| last + 1));
            }
        }
    }
}
