//! Takes a target from the live stream: which of its open tasks its cursor goes on with, and which are given back for the
//! reader to bring them again. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::own_cursors::OwnCursors;
use super::settle::HELD_MS;
use super::waiting::Duty;
use crate::runtime::cursor::Detached;
use crate::runtime::lanes::{OfTarget, TaskNo};
use crate::runtime::offsets::Tracker;

/// Which of the tasks of a target that is taken from the live stream are given back, if they don't run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveBack {
    /// What was never tried.
    Untried,
    /// What is in memory.
    InMemory,
    /// All, also what is parked.
    All,
}

/// What became of the tasks of a target that was taken from the live stream.
#[derive(Debug)]
pub(super) struct Apart {
    /// How many the cursor goes on with that the live stream had.
    pub(super) adopted: u64,
    /// Those that are to be given back.
    pub(super) leaving: Vec<OfTarget>,
}

impl OwnCursors {
    /// Takes `target`, whose open tasks are `tasks`, from the live stream, which admitted every record below `admitted`; `held`
    /// says why it isn't read, if it isn't.
    pub(super) fn take_apart(
        &mut self,
        target: &Arc<str>,
        tasks: Vec<OfTarget>,
        (which, held): (GiveBack, Option<Arc<str>>),
        (source, admitted): (&Tracker, i64),
        bytes_of: impl Fn(TaskNo) -> usize,
    ) -> Apart {
        let in_memory = |task: &&OfTarget| task.place.is_none();
        let open: BTreeSet<i64> = tasks.iter().filter(in_memory).map(|task| task.offset).collect();
        let placed = tasks.iter().filter(|task| task.place.is_some());
        // What the live stream did not come to is not the cursor's to take back: it may be given the target again before that.
        let stays: BTreeSet<i64> = placed
            .filter(|task| task.offset >= admitted || self.table.is_only_again(target, task.offset))
            .map(|task| task.offset)
            .collect();
        // Nor is what an operator put back: the reader passes a record over that was no task's, and it sends nothing once more. Nor
        // what holds its lane until somebody decides.
        let is_held = |task: &OfTarget| task.place.is_some_and(|place| place.due_ms == HELD_MS);
        let may_leave =
            |task: &OfTarget| !task.is_put_back && !is_held(task) && !stays.contains(&task.offset);
        let leaves = |task: &OfTarget| {
            task.idle
                && match which {
                    GiveBack::Untried => task.place.is_none() && task.attempt == 0,
                    GiveBack::InMemory => task.place.is_none(),
                    GiveBack::All => task.place.is_none() || may_leave(task),
                }
        };
        let waiting: BTreeSet<i64> =
            tasks.iter().filter(|task| leaves(task)).map(|task| task.offset).collect();
        let mut adopted = 0;
        for task in tasks.iter().filter(|task| task.place.is_none() && !leaves(task)) {
            if !self.has(task.no) {
                self.adopt(task.no, target, task.offset, bytes_of(task.no));
                self.cover(target, task.offset, Duty::Source(task.offset), true);
                adopted += 1;
            }
        }
        let live = self.table.live_from(target, open.first().copied().unwrap_or(admitted));
        let is_live = |behind: i64| live.is_some_and(|live| behind > live);
        let runs = source.runs().rev().chain([(i64::MIN, source.committable())]);
        let complete = runs.take_while(|(_, behind)| is_live(*behind)).collect();
        let from = Detached { admitted, open, waiting, complete };
        self.table.detach(target, &from, held);
        for task in tasks.iter().filter(|task| task.place.is_some() && leaves(task)) {
            self.table.take_back(target, task.offset);
        }
        Apart { adopted, leaving: tasks.into_iter().filter(|task| leaves(task)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cursor::Cursors;
    use crate::runtime::lanes::{History, Identity, Lanes, Place};
    use crate::runtime::record::SourcePartition;

    #[test]
    fn what_holds_its_lane_and_what_an_operator_put_back_stays_parked_when_its_target_is_held() {
        let mut lanes = Lanes::default();
        let mut index = |offset: i64, due_ms, is_put_back| {
            let lane = format!("l{offset}");
            let identity = Identity { partition: 0, lane: &lane, target: "t".into(), offset, priority: 100 };
            let history = History { is_put_back, ..History::default() };
            lanes.index(identity, Place { offset: offset + 100, due_ms }, history, 0);
        };
        index(5, 0, false);
        index(6, HELD_MS, false);
        index(7, 0, true);
        let (cluster_id, topic, topic_id) = ("c".into(), "t".into(), "t".into());
        let at = SourcePartition { cluster_id, topic, topic_id, partition: 0 };
        let mut own = OwnCursors::new(at, 1, Cursors::restore(&[], 0), 0);
        let target = Arc::from("t");
        let (tasks, how) = (lanes.of_target(0, &target), (GiveBack::All, Some("paused".into())));
        let apart = own.take_apart(&target, tasks, how, (&Tracker::new(10), 10), |_| 0);
        let leaving: Vec<i64> = apart.leaving.iter().map(|task| task.offset).collect();
        assert_eq!(leaving, [5]);
        assert!(own.table.owes("t", 5) && !own.table.owes("t", 6) && !own.table.owes("t", 7));
    }
}
