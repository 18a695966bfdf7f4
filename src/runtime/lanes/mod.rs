//! Which task may start: one at a time per lane, in source order, by priority, within bounds. Pure.
//!
//! A lane is a list of open tasks in source order; some wait in memory (fresh), some in the retry topic (they
//! have a [`Place`] there: this is the index of rule 4). Only the first may start. The rules of parking
//! (architecture: retry that keeps order) live here:
//!
//! - behind a task that is parked, or on its way there, fresh tasks are parked too, unattempted;
//! - below the lane's lowest parked task a fresh one runs first; so a parked task starts only after its source
//!   record came by again, or is known not to come;
//! - a fresh task that is open already is its own parked copy and needs nothing;
//! - when a lane's first task ends, the next is due at once.
//!
//! Invariant 2 (order) and invariant 3 (isolation: bounds per target, a share of waiting work per target and
//! partition) are tested against this file. Times are epoch milliseconds, passed in.

mod arrive;
mod at_once;
mod found;
mod line;
mod members;
mod moment;
mod operate;
mod ready;
mod slab;
mod table;
mod targets;
mod task;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeSet;

use hashbrown::HashMap;

use self::ready::Ready;
use self::slab::Slab;
use self::table::Table;
use self::targets::{Gates, Targets};
use self::task::{LaneNo, Phase, Standing, Task};
use self::timers::Timers;

pub(crate) use self::ready::Room;
pub(crate) use self::targets::OfTarget;
pub(crate) use self::task::{
    Admitted, Attempt, Census, Count, History, Identity, Indexed, Known, Place, TaskNo, Vacated,
};

/// Tasks of a lane that are looked at for its priority.
const PRIORITY_WINDOW: usize = 64;

/// All lanes of one stage member.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Table,
    tasks: Slab<TaskNo, Task>,
    ready: Ready,
    timers: Timers,
    gates: Gates,
    targets: Targets,
    /// Copies of tasks that were read back from the retry partition before their acknowledgement was here.
    read_back: HashMap<TaskNo, Vec<(Place, History)>>,
    /// Partitions whose lanes may start work, each with the offset below which every source record was admitted.
    flowing: HashMap<i32, i64>,
    /// Lanes whose first task is parked at an offset that was not admitted yet: (partition, offset, lane).
    ahead: BTreeSet<(i32, i64, LaneNo)>,
    census: HashMap<i32, Census>,
}

impl Lanes {
    /// Lets the lanes of a partition start work: its retry partition has been read. Source records below
    /// `admitted` don't come again.
    pub(crate) fn open(&mut self, partition: i32, admitted: i64, now_ms: i64) {
        self.flowing.insert(partition, admitted);
        for slot in self.tasks.slots() {
            let of = self.tasks.at(slot).filter(|task| self.targets.is_on(task.target, partition));
            let lane = of.and_then(|task| self.lanes.no_at(task.lane));
            if let Some(lane) = lane.filter(|lane| self.first(*lane).is_some_and(|(first, _)| first == slot))
            {
                self.consider(lane, now_ms);
            }
        }
    }

    /// Every source record below `offset` was admitted: parked tasks below it have no fresh one before them.
    ///
    /// Invariant 2 (order) across a restart: a former owner may have parked a task whose forerunner was still in
    /// memory, or whose completion in the source was not committed.
    pub(crate) fn admitted(&mut self, partition: i32, offset: i64, now_ms: i64) {
        let Some(known) = self.flowing.get_mut(&partition).filter(|known| **known < offset) else { return };
        *known = offset;
        while let Some(&(number, waiting, lane)) =
            self.ahead.range((partition, i64::MIN, LaneNo::FIRST)..).next()
        {
            if number != partition || waiting >= offset {
                return;
            }
            self.ahead.remove(&(number, waiting, lane));
            self.consider(lane, now_ms);
        }
    }

    /// Starts nothing more of a partition.
    pub(crate) fn freeze(&mut self, partition: i32) {
        self.flowing.remove(&partition);
    }

    /// Forgets a partition.
    pub(crate) fn remove(&mut self, partition: i32) {
        self.freeze(partition);
        let targets = &self.targets;
        self.timers.retain(&mut self.tasks, |task| !targets.is_on(task.target, partition));
        for slot in self.tasks.slots() {
            let Some(no) = self.tasks.key_at(slot) else { continue };
            if self.tasks.at(slot).is_some_and(|task| self.targets.is_on(task.target, partition)) {
                self.read_back.remove(&no);
                if let Some(task) = self.tasks.remove(no) {
                    if let Some(lane) = self.lanes.no_at(task.lane) {
                        self.lanes.remove(lane);
                    }
                    self.forget_target(&task, Standing::of(&task));
                }
            }
        }
        self.ahead.retain(|(number, ..)| *number != partition);
        self.census.remove(&partition);
        self.gates.remove(partition);
    }

    /// The next task to start, or `None` when nothing may: no slot is free, or nothing is ready. `room` says whether a
    /// target may start one more.
    pub(crate) fn next(
        &mut self,
        concurrency: usize,
        room: &dyn Fn(&str) -> Room,
        now_ms: i64,
    ) -> Option<TaskNo> {
        while let Some((lane_no, class)) = self.ready.pop(concurrency, room) {
            let Some(lane) = self.lanes.get_mut(lane_no) else { continue };
            lane.set_queued(false);
            let is_idle = self.lanes.get(lane_no).is_some_and(|lane| self.lanes.active(lane).is_none());
            let Some((slot, task)) = self.first(lane_no) else { continue };
            let (Some(no), Some((partition, target))) =
                (self.tasks.key_at(slot), self.targets.get(task.target))
            else {
                continue;
            };
            let fits = is_idle
                && task.class() == class
                && task.phase == Phase::Waiting
                && !self.gates.is_shut(partition, target, task.offset)
                && task.parked_at().is_none_or(|place| place.due_ms <= now_ms)
                && self.flowing.get(&partition).is_some_and(|admitted| task.may_start(*admitted));
            if !fits || !self.ready.has_room(target, room) {
                self.consider(lane_no, now_ms);
                continue;
            }
            let lane = task.lane;
            self.clear_timer(no);
            self.change(no, |task| {
                task.runs_as = Some(class);
                task.phase = Phase::Running;
                task.attempt += 1;
            });
            self.lanes.set_active(lane, Some(no));
            return Some(no);
        }
        None
    }

    /// The attempt at a running task ended and waits to be on record. Its slot and its target's room are free, its lane
    /// is not.
    pub(crate) fn answered(&mut self, no: TaskNo) {
        self.change(no, |task| task.phase = Phase::Owing);
    }

    /// A running task waits in place until `until_ms`; its slot is free meanwhile.
    pub(crate) fn rest(&mut self, no: TaskNo, until_ms: i64, counts: Attempt, now_ms: i64) {
        self.clear_timer(no);
        self.change(no, |task| {
            task.phase = Phase::Resting;
            task.set_due(until_ms);
            match counts {
                Attempt::Failed => task.failed(now_ms),
                Attempt::NeverBegan => task.attempt = task.attempt.saturating_sub(1),
            }
        });
        self.set_timer(no);
    }

    /// A running task is on its way to the retry topic. Gives the fresh tasks behind it, which must be parked
    /// as well.
    pub(crate) fn park(&mut self, no: TaskNo, now_ms: i64) -> Vec<TaskNo> {
        self.change(no, |task| {
            task.phase = Phase::Moving;
            task.failed(now_ms);
        });
        let lane = self.lane_of(no).and_then(|lane| self.lanes.get(lane));
        let Some(lane) = lane else { return Vec::new() };
        let tasks =
            self.lanes.tasks(lane).filter_map(|slot| Some((self.tasks.key_at(slot)?, self.tasks.at(slot)?)));
        let behind = tasks.skip_while(|(other, _)| *other != no).skip(1);
        let fresh: Vec<TaskNo> = behind.filter(|(_, task)| task.is_fresh()).map(|(no, _)| no).collect();
        for &other in &fresh {
            self.change(other, |task| task.phase = Phase::Moving);
        }
        fresh
    }

    /// A running task is on its way to the dead-letter topic; when it is there, say [`Lanes::complete`].
    pub(crate) fn bury(&mut self, no: TaskNo) {
        self.change(no, |task| task.phase = Phase::Moving);
    }

    /// The retry topic acknowledged a task at `place`.
    pub(crate) fn parked(&mut self, no: TaskNo, place: Place, now_ms: i64) -> Vacated {
        let mut vacated = Vacated::default();
        self.clear_timer(no);
        let lane = self.lane_of(no);
        let copies = self.read_back.remove(&no).unwrap_or_default();
        // One that lies behind it counts: somebody had the task tried again meanwhile.
        let last = copies.iter().filter(|(copy, _)| copy.offset > place.offset);
        let last = last.max_by_key(|(copy, _)| copy.offset).copied();
        let here = last.map_or(place, |(copy, _)| copy);
        self.change(no, |task| {
            match task.put_at(here.offset) {
                Some(older) => vacated.places.push(older),
                None => vacated.source = true,
            }
            task.set_due(here.due_ms);
            if let Some((_, history)) = last {
                task.set_history(history);
            }
            task.phase = Phase::Waiting;
        });
        let places = copies.iter().map(|(copy, _)| copy.offset).chain([place.offset]);
        vacated.places.extend(places.filter(|offset| *offset != here.offset));
        if let Some(lane) = lane {
            self.release_lane(lane, no, now_ms);
        }
        vacated
    }

    /// A task ended for good.
    pub(crate) fn complete(&mut self, no: TaskNo, now_ms: i64) -> Vacated {
        let mut vacated = Vacated::default();
        self.clear_timer(no);
        let lane = self.lane_of(no);
        let Some(task) = self.tasks.remove(no) else { return vacated };
        let standing = Standing::of(&task);
        if let Some((partition, _)) = self.targets.get(task.target) {
            self.census.entry(partition).or_default().leave(standing);
        }
        self.forget_target(&task, standing);
        vacated.source = task.place().is_none();
        vacated.places.extend(task.place());
        let copies = self.read_back.remove(&no).unwrap_or_default();
        vacated.places.extend(copies.into_iter().map(|(copy, _)| copy.offset));
        let Some(lane_no) = lane else { return vacated };
        self.lanes.strike(lane_no, no.slot());
        if self.lanes.get(lane_no).is_some_and(|lane| self.lanes.active(lane) == Some(no)) {
            self.lanes.set_active(task.lane, None);
        }
        if !standing.parked {
            self.lanes.settle(task.lane);
        }
        match self.first(lane_no).and_then(|(slot, _)| self.tasks.key_at(slot)) {
            None => self.lanes.remove(lane_no),
            Some(next) => {
                // A held one waits until somebody decides, whatever ended before it.
                let stays = |task: &Task| task.phase == Phase::Resting || task.is_held();
                if !self.tasks.get(next).is_none_or(stays) {
                    self.clear_timer(next);
                    self.change(next, |task| task.hurry(now_ms));
                }
                self.consider(lane_no, now_ms);
            }
        }
        vacated
    }

    fn forget_target(&mut self, task: &Task, standing: Standing) {
        if let Some((partition, target)) = self.targets.get(task.target) {
            self.ready.shift(partition, target, standing, Standing::default());
        }
        self.targets.give_back(task.target);
    }

    /// Wakes what is due.
    pub(crate) fn wake(&mut self, now_ms: i64) {
        self.ready.wake(now_ms);
        while let Some((due_ms, slot)) = self.timers.first(&self.tasks) {
            if due_ms > now_ms {
                return;
            }
            self.timers.remove(&mut self.tasks, slot);
            let Some(no) = self.tasks.key_at(slot) else { continue };
            let Some(lane) = self.lane_of(no) else { continue };
            if self.tasks.at(slot).is_some_and(|task| task.phase == Phase::Resting) {
                self.change(no, |task| task.phase = Phase::Waiting);
                self.release_lane(lane, no, now_ms);
            } else {
                self.consider(lane, now_ms);
            }
        }
    }

    /// When the next task or target is due, if any waits for a time.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        let timer = self.timers.first(&self.tasks).map(|(due_ms, _)| due_ms);
        timer.into_iter().chain(self.ready.next_due_ms()).min()
    }

    /// What identifies a task.
    pub(crate) fn known(&self, no: TaskNo) -> Option<Known<'_>> {
        let task = self.tasks.get(no)?;
        let (partition, target) = self.targets.get(task.target)?;
        let lane = self.lanes.name(task.lane);
        Some(Known { partition, lane, target, offset: task.offset, priority: task.priority })
    }

    /// The source offset of a task.
    pub(crate) fn offset(&self, no: TaskNo) -> Option<i64> {
        self.tasks.get(no).map(|task| task.offset)
    }

    /// Notes the name of a running task's lane, as its record tells it: while tasks are only parked, names aren't kept.
    /// False when that is another lane's name.
    pub(crate) fn learn(&mut self, no: TaskNo, lane: &str) -> bool {
        let Some(task) = self.tasks.get(no) else { return false };
        let partition = self.targets.get(task.target).map(|(partition, _)| partition);
        partition.is_some_and(|partition| self.lanes.learn(task.lane, partition, lane))
    }

    /// What a task went through.
    pub(crate) fn history(&self, no: TaskNo) -> Option<History> {
        self.tasks.get(no).map(Task::history)
    }

    /// Where a task is parked.
    pub(crate) fn place(&self, no: TaskNo) -> Option<Place> {
        self.tasks.get(no).and_then(Task::parked_at)
    }

    /// Makes a lane ready, or sets its timer, if its first task may start.
    fn consider(&mut self, lane_no: LaneNo, now_ms: i64) {
        let Some(lane) = self.lanes.get(lane_no) else { return };
        if lane.is_queued() || self.lanes.active(lane).is_some() {
            return;
        }
        let first = self.first(lane_no).map(|(slot, task)| (slot, *task));
        let Some((slot, task)) = first.filter(|(_, task)| task.phase == Phase::Waiting) else { return };
        let Some((partition, target)) = self.targets.get(task.target) else { return };
        let Some(&admitted) = self.flowing.get(&partition) else { return };
        if !task.may_start(admitted) {
            self.ahead.insert((partition, task.offset, lane_no));
            return;
        }
        if self.gates.holds(partition, target, task.offset, lane_no) {
            return;
        }
        if task.parked_at().is_some_and(|place| place.due_ms > now_ms) {
            self.timers.remove(&mut self.tasks, slot);
            self.timers.insert(&mut self.tasks, slot);
            return;
        }
        let looked_at = self.lanes.tasks(lane).take(PRIORITY_WINDOW).filter_map(|slot| self.tasks.at(slot));
        let priority = looked_at.map(|task| task.priority).min().unwrap_or(task.priority);
        self.ready.push(lane_no, &task, target, priority);
        if let Some(lane) = self.lanes.get_mut(lane_no) {
            lane.set_queued(true);
        }
    }

    fn set_timer(&mut self, no: TaskNo) {
        if self.tasks.get(no).is_some() {
            self.timers.insert(&mut self.tasks, no.slot());
        }
    }

    fn clear_timer(&mut self, no: TaskNo) {
        if self.tasks.get(no).is_some() {
            self.timers.remove(&mut self.tasks, no.slot());
        }
    }

    fn release_lane(&mut self, lane_no: LaneNo, no: TaskNo, now_ms: i64) {
        let Some(lane) = self.lanes.get(lane_no) else { return };
        if self.lanes.active(lane) == Some(no) {
            self.lanes.set_active(lane_no.slot(), None);
        }
        self.consider(lane_no, now_ms);
    }

    /// Changes a task and keeps slots, shares and counts in step with it.
    fn change(&mut self, no: TaskNo, change: impl FnOnce(&mut Task)) {
        let Some(task) = self.tasks.get_mut(no) else { return };
        let before = Standing::of(task);
        change(task);
        let after = Standing::of(task);
        if before.runs.is_some() && after.runs.is_none() {
            task.runs_as = None;
        }
        let (lane, target) = (task.lane, task.target);
        if before == after {
            return;
        }
        if let Some((partition, name)) = self.targets.get(target) {
            self.census.entry(partition).or_default().shift(before, after);
            self.ready.shift(partition, name, before, after);
        }
        match (before.parked, after.parked) {
            (true, false) => self.lanes.wake(lane),
            (false, true) => self.lanes.settle(lane),
            (true, true) | (false, false) => {}
        }
    }
}
