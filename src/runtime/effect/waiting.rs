//! What waits until a cursor is stored: tasks that it takes over, and tasks that are over. Pure.
//!
//! Invariant 1 (completion): what a cursor takes over is done with where it was owed only once the row says so. Invariant 2
//! (order): the row is before the position. Of what ended since a target's row was stored the group hears after the next one.

use std::sync::Arc;

use super::own_cursors::OwnCursors;

/// Where a task is owed, unless it is to a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// To the source record at this offset.
    Source(i64),
    /// To the retry topic: its place there.
    Place(i64),
}

/// Why something waits until a cursor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The cursor takes over the task of the source record at `offset`; `counts` is false for what is owed for the same task a
    /// second time.
    TakenOver { offset: i64, counts: bool },
    /// A task is over, and what its target had finished before isn't stored.
    Over,
}

/// A task that is done with where it was owed, once its target's cursor is stored.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) target: Arc<str>,
    pub(super) duty: Duty,
    why: Why,
    /// The change of the cursor that the store is to know of, by number.
    change: u64,
}

impl Waiting {
    /// True when it is a task that was handed to a cursor.
    pub(super) fn is_handed(&self) -> bool {
        matches!(self.why, Why::TakenOver { counts: true, .. })
    }
}

impl OwnCursors {
    /// Tasks that wait for the cursor that takes them over to be stored.
    pub(super) fn to_be_handed(&self) -> u64 {
        self.waiting.iter().filter(|of| of.is_handed()).count() as u64
    }

    /// Whether the record at `offset` waits for a cursor to be stored.
    pub(super) fn covers(&self, offset: i64) -> bool {
        self.waiting.iter().any(|of| of.duty == Duty::Source(offset))
    }

    /// True while a place in the retry partition waits for a cursor to be stored.
    pub(super) fn has_places_waiting(&self) -> bool {
        self.waiting.iter().any(|of| matches!(of.duty, Duty::Place(_)))
    }

    /// The cursor of `target` takes its task at `offset` over from where it was owed; `counts` is false for what is owed for
    /// the same task a second time.
    pub(super) fn cover(&mut self, target: &Arc<str>, offset: i64, duty: Duty, counts: bool) {
        self.retire(target, duty);
        // Before there is a cursor it is its first row that counts.
        let change = self.table.unknown(target).unwrap_or(0);
        let why = Why::TakenOver { offset, counts };
        self.waiting.push(Waiting { target: Arc::clone(target), duty, why, change });
    }

    /// A task of `target` is over where it was owed. Answers whether the group may hear of it now; if not, it hears of it once
    /// the cursor is stored. Nothing waits for a store that is away: then a crash may repeat it behind what comes later.
    pub(super) fn tells(&mut self, target: &Arc<str>, duty: Duty) -> bool {
        let is_named = self.retire(target, duty);
        match self.table.unknown(target).filter(|_| is_named && self.is_store_there) {
            None => true,
            Some(change) => {
                self.waiting.push(Waiting { target: Arc::clone(target), duty, why: Why::Over, change });
                false
            }
        }
    }

    /// A place in the retry partition is to be named in the row. False when there are too many.
    fn retire(&mut self, target: &Arc<str>, duty: Duty) -> bool {
        match duty {
            Duty::Source(_) => true,
            Duty::Place(place) => self.table.retire(target, place),
        }
    }

    /// Gives what waited for cursors that are stored now, and what is over and waits no longer.
    pub(super) fn take_stored(&mut self) -> Vec<Waiting> {
        let (table, is_store_there) = (&self.table, self.is_store_there);
        let is_done_with = |of: &mut Waiting| {
            let is_known = table.is_known(&of.target, of.change);
            match of.why {
                Why::TakenOver { offset, .. } => is_known && table.is_stored_over(&of.target, offset),
                Why::Over => is_known || !is_store_there,
            }
        };
        self.waiting.extract_if(.., is_done_with).collect()
    }

    /// The places of tasks that are over and wait, with their targets.
    pub(super) fn places_over(self) -> impl Iterator<Item = (Arc<str>, i64)> {
        self.waiting.into_iter().filter(|of| of.why == Why::Over).filter_map(|of| match of.duty {
            Duty::Source(_) => None,
            Duty::Place(place) => Some((of.target, place)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::runtime::cursor::{Cursors, Detached};
    use crate::runtime::record::SourcePartition;

    fn own() -> (OwnCursors, Arc<str>) {
        let (cluster_id, topic, topic_id) = ("c".into(), "t".into(), "t".into());
        let at = SourcePartition { cluster_id, topic, topic_id, partition: 0 };
        let (mut own, target) = (OwnCursors::new(at, 1, Cursors::restore(&[], 0), 0), Arc::from("a"));
        let from = Detached { admitted: 10, open: BTreeSet::from([4]), ..Detached::default() };
        own.table.detach(&target, &from, None);
        (own, target)
    }

    fn stored(own: &mut OwnCursors) -> Vec<Duty> {
        let write = own.table.send();
        own.table.stored(write);
        own.take_stored().into_iter().map(|of| of.duty).collect()
    }

    #[test]
    fn what_is_over_is_told_behind_the_row_that_is_before_it() {
        let (mut own, target) = own();
        assert!(!own.tells(&target, Duty::Source(12)) && own.covers(12));
        assert!(!own.tells(&target, Duty::Place(7)) && own.has_places_waiting());
        assert!(own.tells(&"another".into(), Duty::Place(8)), "it has no cursor");
        assert!(own.take_stored().is_empty());
        assert_eq!(stored(&mut own), [Duty::Source(12), Duty::Place(7)]);
        assert!(own.tells(&target, Duty::Source(13)));
    }

    #[test]
    fn nothing_that_is_over_waits_for_a_store_that_is_away_and_what_a_cursor_takes_over_does() {
        let (mut own, target) = own();
        own.cover(&target, 4, Duty::Source(4), true);
        assert!(!own.tells(&target, Duty::Source(12)));
        own.is_store_there = false;
        let told = own.take_stored();
        assert_eq!(told.iter().map(|of| of.duty).collect::<Vec<_>>(), [Duty::Source(12)]);
        assert!(own.tells(&target, Duty::Place(7)) && own.to_be_handed() == 1);
        own.is_store_there = true;
        assert!(!own.tells(&target, Duty::Place(9)));
        assert_eq!(stored(&mut own), [Duty::Source(4), Duty::Place(9)]);
    }
}
