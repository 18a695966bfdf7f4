//! Tasks in their lanes: where they are found, by what identifies them, and how they get there. Pure.

use super::task::{LaneNo, Standing, Task};
use super::{Identity, Lanes, TaskNo};

impl Lanes {
    pub(super) fn lane_of(&self, no: TaskNo) -> Option<LaneNo> {
        self.tasks.get(no).and_then(|task| self.lanes.no_at(task.lane))
    }

    /// The first task of a lane.
    pub(super) fn first(&self, lane: LaneNo) -> Option<(u32, &Task)> {
        let slot = self.lanes.get(lane).and_then(|lane| self.lanes.task_at(lane, 0))?;
        Some((slot, self.tasks.at(slot)?))
    }

    /// The open task with that source offset and target, or where it belongs in its lane.
    pub(super) fn find(&self, lane_no: LaneNo, offset: i64, target: &str) -> Result<TaskNo, usize> {
        let Some(lane) = self.lanes.get(lane_no) else { return Err(0) };
        let (mut low, mut high) = (0, self.lanes.count(lane));
        while low < high {
            let middle = usize::midpoint(low, high);
            let slot = self.lanes.task_at(lane, middle);
            let Some((no, task)) =
                slot.and_then(|slot| Some((self.tasks.key_at(slot)?, self.tasks.at(slot)?)))
            else {
                return Err(low);
            };
            match (task.offset, self.targets.name(task.target)).cmp(&(offset, Some(target))) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(no),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Makes the task of `identity` in its lane.
    pub(super) fn insert(
        &mut self,
        lane_no: LaneNo,
        at: usize,
        identity: Identity<'_>,
        task: Task,
    ) -> TaskNo {
        let standing = Standing::of(&task);
        self.census.entry(identity.partition).or_default().enter(standing);
        if let Some(target) = self.targets.name_of(task.target) {
            self.ready.shift(identity.partition, target, Standing::default(), standing);
        }
        let (no, lane) = (self.tasks.insert(task), task.lane);
        self.lanes.enlist(lane_no, at, no.slot());
        if !standing.parked {
            self.lanes.wake(lane);
        }
        self.lanes.call(lane, identity.partition, identity.lane);
        no
    }
}
