//! What operators, redrives and metrics ask of lanes.

use std::collections::BinaryHeap;

use super::slab::Slab;
use super::table::Table;
use super::task::{Phase, Standing, Task};
use super::timers::NOWHERE;
use super::{Census, Count, Identity, Lanes, Place, TaskNo};

/// Tasks for which room is made before they come, at most.
const MOST_EXPECTED: usize = 1 << 20;
/// Bytes of one task, with its place among the timers.
const TASK_BYTES: usize = Slab::<TaskNo, Task>::BYTES + size_of::<u32>();

impl Lanes {
    /// How many tasks of a partition are where.
    pub(crate) fn census(&self, partition: i32) -> Census {
        self.census.get(&partition).copied().unwrap_or_default()
    }

    /// How many lanes there are, in how many the first task is parked, and when the oldest of these failed first.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count { lanes: self.lanes.len(), ..Count::default() };
        let firsts = self.lanes.iter().filter_map(|(_, lane)| self.tasks.at(self.lanes.task_at(lane, 0)?));
        for task in firsts.filter(|task| task.place().is_some()) {
            count.parked += 1;
            count.held += usize::from(task.is_held());
            let failed = task.history().first_failed_at_ms;
            count.oldest_failed_ms = count.oldest_failed_ms.into_iter().chain(failed).min();
        }
        count
    }

    /// Bytes that one parked task in a lane of its own takes.
    pub(crate) const BYTES_EACH: usize = TASK_BYTES + Table::BYTES;

    /// Makes room for so many parked tasks more, or for the first million of them, each in a lane of its own: tables that
    /// grow are copied, and there twice meanwhile. What isn't used of it takes a byte for each lane that doesn't come.
    pub(crate) fn expect(&mut self, tasks: usize) {
        let tasks = tasks.min(MOST_EXPECTED);
        self.tasks.reserve(tasks);
        self.lanes.reserve(tasks);
    }

    /// True when a task simply waits in the retry topic.
    pub(crate) fn is_asleep(&self, no: TaskNo) -> bool {
        self.tasks.get(no).is_some_and(|task| Standing::of(task).parked)
    }

    /// Bytes that open tasks and their lanes take, parked or not, beside their records.
    pub(crate) fn bytes(&self) -> usize {
        self.tasks.len() * TASK_BYTES + self.lanes.len() * Table::BYTES
    }

    /// The first task of a lane when it waits in the retry topic, and whether it is held until somebody decides.
    ///
    /// # Errors
    /// In words, when there is no such lane or it isn't waiting.
    pub(crate) fn waiting_first(&self, partition: i32, lane: &str) -> Result<(TaskNo, bool), String> {
        let known = self.lanes.find(partition, lane).and_then(|no| self.first(no));
        let found = known.and_then(|(slot, task)| Some((self.tasks.key_at(slot)?, task)));
        let (no, task) = found.ok_or("no such lane waits; see `orderflow lane list`")?;
        if task.place().is_some() && task.phase == Phase::Waiting {
            Ok((no, task.is_held()))
        } else {
            Err("its first task runs, or is about to; ask again if it waits later".to_owned())
        }
    }

    /// True when a task of the source record at `offset` waits in memory for its turn: for a slot, for the lane's task
    /// before it, at its target's gate, or for a time that is still to come. Looks at all tasks.
    pub(crate) fn waits_its_turn(&self, partition: i32, offset: i64, now_ms: i64) -> bool {
        let mut of_record = self.tasks.iter().filter(|(_, task)| task.offset == offset && task.is_fresh());
        of_record.any(|(_, task)| {
            let Some((number, target)) = self.targets.get(task.target) else { return false };
            let lane = self.lanes.no_at(task.lane).and_then(|lane| self.lanes.get(lane));
            number == partition
                && (lane.is_some_and(|lane| lane.is_queued() || self.lanes.active(lane).is_some())
                    || self.gates.is_shut(partition, target, offset)
                    || task.timer != NOWHERE && task.due_ms() > now_ms)
        })
    }

    /// Makes a parked task due.
    pub(crate) fn hurry(&mut self, no: TaskNo, now_ms: i64) {
        self.clear_timer(no);
        self.change(no, |task| task.hurry(now_ms));
        if let Some(lane) = self.lane_of(no) {
            self.consider(lane, now_ms);
        }
    }

    /// The lowest places of a partition in the retry topic at which something waits, ascending, with their tasks. Looks at
    /// all tasks, so that places need no list of their own.
    pub(crate) fn lowest_places(&self, partition: i32, most: usize) -> Vec<(i64, TaskNo)> {
        let waiting = self
            .tasks
            .iter()
            .filter(|(_, task)| task.phase == Phase::Waiting && self.targets.is_on(task.target, partition));
        let mut highest_first = BinaryHeap::new();
        for place in waiting.filter_map(|(no, task)| Some((task.place()?, no))) {
            if highest_first.len() < most {
                highest_first.push(place);
            } else if let Some(mut highest) = highest_first.peek_mut().filter(|highest| **highest > place) {
                *highest = place;
            }
        }
        highest_first.into_sorted_vec()
    }

    /// A parked task that waits is copied to the end of the retry topic: gives where it lies. When the copy is there,
    /// say [`Lanes::parked`].
    pub(crate) fn carry(&mut self, no: TaskNo) -> Option<Place> {
        let task = self.tasks.get(no).filter(|task| task.phase == Phase::Waiting)?;
        let place = task.parked_at()?;
        self.change(no, |task| task.phase = Phase::Moving);
        Some(place)
    }

    /// True when a task is known that has not ended, and is not held until somebody decides.
    pub(crate) fn is_open(&self, identity: Identity<'_>) -> bool {
        self.open_of(identity).is_some()
    }

    /// The same task.
    pub(crate) fn open_of(&self, identity: Identity<'_>) -> Option<TaskNo> {
        let lane = self.lanes.find(identity.partition, identity.lane)?;
        let no = self.find(lane, identity.offset, &identity.target).ok()?;
        self.tasks.get(no).filter(|task| !task.is_held()).map(|_| no)
    }
}

#[cfg(test)]
impl Lanes {
    /// Bytes of all that was allocated for tasks and lanes.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.tasks.capacity_bytes() + self.lanes.capacity_bytes() + self.timers.capacity_bytes()
    }
}
