//! Starting a fresh task at once: a lane is made only when it turns out that the task has to wait.

use super::task::{Phase, Task};
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
    pub(crate) fn begin(&mut self, identity: Identity) -> TaskNo {
        let lane_no = self.lane_for(&identity);
        let mut task = Task::new(lane_no, identity, Phase::Running);
        task.runs_as = Some(task.class());
        task.history.attempt = 1;
        let no = self.insert(lane_no, 0, task);
        if let Some(lane) = self.lanes.get_mut(lane_no) {
            lane.active = Some(no);
        }
        no
    }
}
