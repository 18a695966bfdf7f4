//! Targets that are held back on a partition, and what is open of a target. Pure.
//!
//! A gate is an offset: tasks of its target at or above it don't start. It stands where the reader of a cursor got
//! to, so that a later task never starts before an earlier one is in its lane (invariant 2, order).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::task::{Identity, LaneNo, Phase};
use super::{Lanes, Place, TaskNo};

/// Where a target is held back, and the lanes that wait there, by the offset of their first task.
#[derive(Debug, Default)]
struct Gate {
    at: i64,
    waiting: BTreeSet<(i64, LaneNo)>,
}

/// Gates by partition and target.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<(i32, Arc<str>), Gate>);

impl Gates {
    /// True when a task may not start for now; its lane is remembered.
    pub(super) fn holds(&mut self, task: &Identity, lane: LaneNo) -> bool {
        if self.0.is_empty() {
            return false;
        }
        match self.0.get_mut(&(task.partition, Arc::clone(&task.target))) {
            Some(gate) if task.offset >= gate.at => {
                gate.waiting.insert((task.offset, lane));
                true
            }
            Some(_) | None => false,
        }
    }

    /// True when a task may not start for now.
    pub(super) fn is_shut(&self, task: &Identity) -> bool {
        let gate = || self.0.get(&(task.partition, Arc::clone(&task.target)));
        !self.0.is_empty() && gate().is_some_and(|gate| task.offset >= gate.at)
    }

    /// True when tasks of `target` are held back from some offset on.
    pub(super) fn has(&self, partition: i32, target: &str) -> bool {
        !self.0.is_empty() && self.0.contains_key(&(partition, target.into()))
    }

    pub(super) fn remove(&mut self, partition: i32) {
        self.0.retain(|(number, _), _| *number != partition);
    }
}

/// Names of targets that are kept, at most.
const MOST_NAMES: usize = 16_384;

/// One copy of each target's name.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    /// The copy that all share.
    pub(super) fn shared(&mut self, name: Arc<str>) -> Arc<str> {
        if let Some(known) = self.0.get(&name) {
            return Arc::clone(known);
        }
        if self.0.len() >= MOST_NAMES {
            self.0.clear();
        }
        self.0.insert(Arc::clone(&name));
        name
    }
}

/// An open task of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfTarget {
    pub(crate) no: TaskNo,
    pub(crate) offset: i64,
    pub(crate) place: Option<Place>,
    /// It neither runs nor is it on its way to another topic.
    pub(crate) idle: bool,
    pub(crate) attempt: u32,
}

impl Lanes {
    /// Lets tasks of `target` start on `partition` only below `gate`; `None` lets all of them.
    pub(crate) fn set_gate(&mut self, partition: i32, target: &Arc<str>, gate: Option<i64>, now_ms: i64) {
        let key = (partition, Arc::clone(target));
        let open = match gate {
            None => self.gates.0.remove(&key).unwrap_or_default().waiting,
            Some(at) => {
                let known = self.gates.0.entry(key).or_default();
                known.at = at;
                let shut = known.waiting.split_off(&(at, LaneNo::FIRST));
                std::mem::replace(&mut known.waiting, shut)
            }
        };
        for (_, lane) in open {
            self.consider(lane, now_ms);
        }
    }

    /// The open tasks of a partition.
    pub(crate) fn tasks_of(&self, partition: i32) -> Vec<TaskNo> {
        let of = self.tasks.iter().filter(|(_, task)| task.identity.partition == partition);
        of.map(|(no, _)| no).collect()
    }

    /// The open tasks of `target` on `partition`.
    pub(crate) fn of_target(&self, partition: i32, target: &str) -> Vec<OfTarget> {
        let of = self
            .tasks
            .iter()
            .filter(|(_, task)| task.identity.partition == partition && &*task.identity.target == target);
        of.map(|(no, task)| OfTarget {
            no,
            offset: task.identity.offset,
            place: task.place,
            idle: matches!(task.phase, Phase::Waiting | Phase::Resting),
            attempt: task.history.attempt,
        })
        .collect()
    }

    /// Tasks of `target` on `partition` that wait for it in memory.
    pub(crate) fn waiting(&self, partition: i32, target: &str) -> usize {
        self.ready.waiting(partition, target)
    }

    /// The targets that may start nothing for a while.
    pub(crate) fn resting(&self) -> impl Iterator<Item = &Arc<str>> {
        self.ready.resting()
    }

    /// The target for which the most tasks of `partition` wait in memory.
    pub(crate) fn busiest(&self, partition: i32) -> Option<Arc<str>> {
        self.ready.busiest(partition)
    }
}
