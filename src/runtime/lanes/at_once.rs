//! Starting a fresh task at once: a lane is made only when it turns out that the task has to wait.

use super::task::Phase;
use super::{Identity, Lanes, Room, TaskNo};

impl Lanes {
    /// True when a fresh task of `lane` may start at once: its lane has no open task, nothing that could start waits
    /// for its turn, and there is a free slot.
    pub(crate) fn is_clear(
        &self,
        partition: i32,
        lane: &str,
        target: &str,
        concurrency: usize,
        room: &dyn Fn(&str) -> Room,
    ) -> bool {
        self.flowing.contains_key(&partition)
            && self.ready.free_slots(concurrency) > 0
            && self.lanes.find(partition, lane).is_none()
            && self.ready.has_room(target, room)
            && !self.gates.has(partition, target)
    }

    /// How many slots are free for what isn't open yet: none while something that could start waits for one.
    pub(crate) fn free_slots(&self, concurrency: usize) -> usize {
        self.ready.free_slots(concurrency)
    }

    /// Takes in a fresh task that was started at once, because [`Lanes::is_clear`].
    pub(crate) fn begin(&mut self, identity: Identity<'_>) -> TaskNo {
        let lane_no = self.lanes.find_or_make(identity.partition, identity.lane);
        let mut task = self.task_for(lane_no, identity, Phase::Running);
        task.runs_as = Some(task.class());
        task.attempt = 1;
        let no = self.insert(lane_no, 0, identity, task);
        self.lanes.set_active(task.lane, Some(no));
        no
    }
}
