//! Redriven records that are still to be opened, and which of their tasks lie in the retry partition already. Pure.
//!
//! Opening one ends with its place being complete. An owner that dies before that leaves some of its tasks behind it, perhaps
//! done by now; whoever comes next reads the log from that record on, so that it sees which, and parks the others only.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::runtime::retry::TaskOf;

/// Records that are opened together, at most.
const TOGETHER: usize = 64;

/// A task of a source record: lane and target.
pub(super) type There = HashSet<(Arc<str>, Arc<str>)>;

/// See the module. What it holds is bounded as the index of parked work is: by what is open in the retry partition.
#[derive(Debug, Default)]
pub(super) struct Unfolding {
    /// Their places and source offsets, as they were read.
    waiting: VecDeque<(i64, i64)>,
    /// The first of them are being opened.
    is_under_way: bool,
    /// Where the last task lies that was made of those before.
    last: Option<i64>,
    /// By source offset: how many wait, and the tasks that were read behind the first.
    of_source: HashMap<i64, (usize, There)>,
}

impl Unfolding {
    /// A record for the source offset `source` was read at `place`.
    pub(super) fn push(&mut self, place: i64, source: i64) {
        self.waiting.push_back((place, source));
        self.of_source.entry(source).or_default().0 += 1;
    }

    /// True when a task of the source record there may be one of theirs.
    pub(super) fn is_of(&self, source: i64) -> bool {
        !self.of_source.is_empty() && self.of_source.contains_key(&source)
    }

    /// Notes that a task of the source record there was read. Answers whether it had been before.
    pub(super) fn note(&mut self, source: i64, task: &TaskOf) -> bool {
        self.of_source
            .get_mut(&source)
            .is_some_and(|(_, there)| !there.insert((Arc::clone(&task.lane), Arc::clone(&task.target))))
    }

    /// The places of those that are to be opened now, and what is there of each, while the retry partition was read up to
    /// `delivered`; nothing while some are. Of one source record one is opened at a time, and the next once the tasks of those
    /// before were read back: two that were put back at once come to the same tasks.
    pub(super) fn begin(&mut self, delivered: i64) -> Vec<(i64, There)> {
        if self.is_under_way || self.last.is_some_and(|last| delivered <= last) {
            return Vec::new();
        }
        let mut sources = HashSet::new();
        let next = self.waiting.iter().take(TOGETHER).take_while(|(_, source)| sources.insert(*source));
        let next: Vec<_> = next
            .map(|(place, source)| {
                (*place, self.of_source.get(source).map(|(_, there)| there.clone()).unwrap_or_default())
            })
            .collect();
        self.is_under_way = !next.is_empty();
        next
    }

    /// The first is opened. Gives its place.
    pub(super) fn opened(&mut self) -> Option<i64> {
        let (place, source) = self.waiting.pop_front()?;
        if let Some((waiting, _)) = self.of_source.get_mut(&source) {
            *waiting -= 1;
            if *waiting == 0 {
                self.of_source.remove(&source);
            }
        }
        Some(place)
    }

    /// Nothing is being opened any more; the last task that was made lies at `last`.
    pub(super) fn end(&mut self, last: Option<i64>) {
        (self.is_under_way, self.last) = (false, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(target: &str) -> TaskOf {
        TaskOf { lane: "l".into(), target: target.into(), priority: 100 }
    }

    #[test]
    fn what_lies_behind_a_record_is_told_with_it_and_forgotten_with_the_last_of_its_offset() {
        let mut unfolding = Unfolding::default();
        assert!(!unfolding.note(40, &task("before")), "nothing waits");
        unfolding.push(3, 40);
        unfolding.push(4, 41);
        unfolding.push(5, 40);
        assert!(!unfolding.note(40, &task("a")));
        assert!(unfolding.note(40, &TaskOf { priority: 1, ..task("a") }), "a copy of it");
        assert!(unfolding.is_of(41) && !unfolding.is_of(42));
        let there: Vec<_> =
            unfolding.begin(5).into_iter().map(|(place, there)| (place, there.len())).collect();
        assert_eq!(there, [(3, 1), (4, 0)]);
        assert!(unfolding.begin(5).is_empty(), "these first");
        assert_eq!((unfolding.opened(), unfolding.opened()), (Some(3), Some(4)));
        assert!(unfolding.is_of(40) && !unfolding.is_of(41));
        unfolding.end(Some(7));
        assert!(unfolding.begin(7).is_empty(), "what they came to is read back first");
        assert!(!unfolding.note(40, &task("b")));
        assert!(matches!(&unfolding.begin(8)[..], [(5, there)] if there.len() == 2));
        assert_eq!((unfolding.opened(), unfolding.opened()), (Some(5), None));
        assert!(!unfolding.is_of(40) && !unfolding.note(40, &task("a")));
    }

    #[test]
    fn only_so_many_are_opened_together() {
        let mut unfolding = Unfolding::default();
        (0..2 * TOGETHER as i64).for_each(|place| unfolding.push(place, place));
        assert_eq!(unfolding.begin(0).len(), TOGETHER);
    }
}
