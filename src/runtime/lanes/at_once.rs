//! Starting a fresh task at once: a lane is made only when it turns out that the task has to wait.

use super::table::Lacking;
use super::task::Phase;
use super::{Identity, Lanes, Room, TaskNo};

/// A lane that had no open task when it was asked about: what was found out of its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clear(Lacking);

impl Lanes {
    /// Tells when a fresh task of `lane` may start at once: its lane has no open task, nothing that could start waits
    /// for its turn, and there is a free slot.
    pub(crate) fn clear(
        &self,
        partition: i32,
        lane: &str,
        target: &str,
        concurrency: usize,
        room: &dyn Fn(&str) -> Room,
    ) -> Option<Clear> {
        let may = self.flowing.contains_key(&partition)
            && self.ready.free_slots(concurrency) > 0
            && self.ready.has_room(target, room)
            && !self.gates.has(partition, target);
        if may { self.lanes.lacks(partition, lane).map(Clear) } else { None }
    }

    /// How many slots are free for what isn't open yet: none while something that could start waits for one.
    pub(crate) fn free_slots(&self, concurrency: usize) -> usize {
        self.ready.free_slots(concurrency)
    }

    /// Takes in a fresh task that was started at once, because its lane was [`Lanes::clear`] a moment ago.
    pub(crate) fn begin(&mut self, identity: Identity<'_>, Clear(lacking): Clear) -> TaskNo {
        let lane_no = self.lanes.make(identity.partition, identity.lane, lacking);
        let mut task = self.task_for(lane_no, identity, Phase::Running);
        task.runs_as = Some(task.class());
        task.attempt = 1;
        let no = self.insert(lane_no, 0, identity, task);
        self.lanes.set_active(task.lane, Some(no));
        no
    }
}
