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

mod at_once;
mod operate;
mod ready;
mod slab;
mod table;
mod targets;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use hashbrown::HashMap;

use self::ready::Ready;
use self::slab::Slab;
use self::table::Table;
use self::targets::{Gates, Names};
use self::task::{LaneNo, Phase, Standing, Task};

pub(crate) use self::ready::Room;
pub(crate) use self::targets::OfTarget;
pub(crate) use self::task::{
    Admitted, Attempt, Census, Count, History, Identity, Indexed, Place, TaskNo, Vacated,
};

/// Tasks of a lane that are looked at for its priority.
const PRIORITY_WINDOW: usize = 64;

/// All lanes of one stage member.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Table,
    tasks: Slab<TaskNo, Task>,
    ready: Ready,
    timers: BTreeSet<(i64, TaskNo)>,
    gates: Gates,
    /// One copy of each target's name, for the many parked tasks that say it.
    targets: Names,
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
        let mut lanes = self.lanes_of(partition);
        lanes.sort_unstable();
        for lane in lanes {
            self.consider(lane, now_ms);
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
        for no in self.tasks_of(partition) {
            self.clear_timer(no);
            if let Some(task) = self.tasks.remove(no) {
                self.ready.shift(&task.identity, Standing::of(&task), Standing::default());
            }
        }
        for lane in self.lanes_of(partition) {
            self.lanes.remove(lane);
        }
        self.ahead.retain(|(number, ..)| *number != partition);
        self.census.remove(&partition);
        self.gates.remove(partition);
    }

    /// Takes in a task that a source record opened. `share` bounds the fresh tasks of one target that wait on
    /// one partition; beyond it they are parked, so that a target that hangs never fills the intake.
    pub(crate) fn fresh(&mut self, identity: Identity, share: usize, now_ms: i64) -> Admitted {
        let lane_no = self.lane_for(&identity);
        let at = match self.find(lane_no, &identity) {
            Ok(_open) => return Admitted::AlreadyParked,
            Err(at) => at,
        };
        let behind = self.lanes.get(lane_no).is_some_and(|lane| {
            let below = lane.tasks.iter().take(at).rev();
            below.filter_map(|no| self.tasks.get(no)).any(Task::is_set_aside)
        });
        let park = behind || self.ready.waiting(identity.partition, &identity.target) >= share;
        let phase = if park { Phase::Moving } else { Phase::Waiting };
        let no = self.insert(lane_no, at, Task::new(lane_no, identity, phase));
        if park {
            return Admitted::Park(no);
        }
        self.consider(lane_no, now_ms);
        Admitted::Queued(no)
    }

    /// Takes in a record of the retry partition. Of several copies the latest counts.
    pub(crate) fn index(
        &mut self,
        mut identity: Identity,
        place: Place,
        history: History,
        now_ms: i64,
    ) -> Indexed {
        identity.target = self.targets.shared(identity.target);
        let lane_no = self.lane_for(&identity);
        match self.find(lane_no, &identity) {
            Ok(no) => {
                let indexed = self.index_again(no, place, history);
                // It may be due earlier now: a held one was redriven.
                self.consider(lane_no, now_ms);
                indexed
            }
            Err(at) => {
                let mut task = Task::new(lane_no, identity, Phase::Waiting);
                task.place = Some(place);
                task.history = history;
                let no = self.insert(lane_no, at, task);
                self.consider(lane_no, now_ms);
                Indexed::New(no)
            }
        }
    }

    fn index_again(&mut self, no: TaskNo, place: Place, history: History) -> Indexed {
        let Some(task) = self.tasks.get_mut(no) else { return Indexed::Known };
        if task.phase == Phase::Moving {
            // Perhaps the append under way, read back before its acknowledgement: that will tell.
            task.read_back.push(place.offset);
            return Indexed::Known;
        }
        match task.place {
            Some(known) if known.offset == place.offset => Indexed::Known,
            Some(known) if known.offset > place.offset => Indexed::Older,
            Some(older) => {
                task.place = Some(place);
                task.history = history;
                Indexed::Replaced { task: no, older: older.offset }
            }
            // Fresh here and parked there: a former owner parked it after our position was committed.
            None => {
                task.read_back.push(place.offset);
                Indexed::Known
            }
        }
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
            lane.queued = false;
            let first = lane.tasks.front().copied();
            let Some((no, task)) = first.and_then(|no| Some((no, self.tasks.get(no)?))) else { continue };
            let fits = lane.active.is_none()
                && task.class() == class
                && task.phase == Phase::Waiting
                && !self.gates.is_shut(&task.identity)
                && task.place.is_none_or(|place| place.due_ms <= now_ms)
                && self.flowing.get(&lane.partition).is_some_and(|admitted| task.may_start(*admitted));
            if !fits || !self.ready.has_room(&task.identity.target, room) {
                self.consider(lane_no, now_ms);
                continue;
            }
            lane.active = Some(no);
            self.change(no, |task| {
                task.runs_as = Some(class);
                task.phase = Phase::Running;
                task.history.attempt += 1;
            });
            return Some(no);
        }
        None
    }

    /// A running task waits in place until `until_ms`; its slot is free meanwhile.
    pub(crate) fn rest(&mut self, no: TaskNo, until_ms: i64, counts: Attempt, now_ms: i64) {
        self.change(no, |task| {
            task.phase = Phase::Resting;
            match counts {
                Attempt::Failed => {
                    task.history.first_failed_at_ms.get_or_insert(now_ms);
                }
                Attempt::NeverBegan => task.history.attempt = task.history.attempt.saturating_sub(1),
            }
        });
        self.set_timer(no, until_ms);
    }

    /// A running task is on its way to the retry topic. Gives the fresh tasks behind it, which must be parked
    /// as well.
    pub(crate) fn park(&mut self, no: TaskNo, now_ms: i64) -> Vec<TaskNo> {
        self.change(no, |task| {
            task.phase = Phase::Moving;
            task.history.first_failed_at_ms.get_or_insert(now_ms);
        });
        let Some(lane) = self.tasks.get(no).and_then(|task| self.lanes.get(task.lane)) else {
            return Vec::new();
        };
        let behind = lane.tasks.iter().copied().skip_while(|other| *other != no).skip(1);
        let fresh: Vec<TaskNo> =
            behind.filter(|other| self.tasks.get(other).is_some_and(Task::is_fresh)).collect();
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
        self.change(no, |task| {
            match task.place.replace(place) {
                Some(older) => vacated.places.push(older.offset),
                None => vacated.source = true,
            }
            let copies = std::mem::take(&mut task.read_back);
            vacated.places.extend(copies.into_iter().filter(|&copy| copy != place.offset));
            task.phase = Phase::Waiting;
        });
        self.release_lane(no, now_ms);
        vacated
    }

    /// A task ended for good.
    pub(crate) fn complete(&mut self, no: TaskNo, now_ms: i64) -> Vacated {
        let mut vacated = Vacated::default();
        // Leaves slot and counts while it is still known.
        self.change(no, |task| task.phase = Phase::Moving);
        self.clear_timer(no);
        let Some(task) = self.tasks.remove(no) else { return vacated };
        if let Some(census) = self.census.get_mut(&task.identity.partition) {
            census.in_memory -= 1;
        }
        vacated.source = task.place.is_none();
        vacated.places.extend(task.place.map(|place| place.offset));
        vacated.places.extend(task.read_back);
        let Some(lane) = self.lanes.get_mut(task.lane) else { return vacated };
        lane.tasks.retain(|other| *other != no);
        if lane.active == Some(no) {
            lane.active = None;
        }
        match lane.tasks.front() {
            None => self.lanes.remove(task.lane),
            Some(&next) => {
                self.change(next, |task| {
                    if let Some(place) = &mut task.place {
                        place.due_ms = place.due_ms.min(now_ms);
                    }
                });
                self.consider(task.lane, now_ms);
            }
        }
        vacated
    }

    /// Wakes what is due.
    pub(crate) fn wake(&mut self, now_ms: i64) {
        self.ready.wake(now_ms);
        while let Some(&(due_ms, no)) = self.timers.first() {
            if due_ms > now_ms {
                return;
            }
            self.clear_timer(no);
            let Some(task) = self.tasks.get(no) else { continue };
            let lane = task.lane;
            if task.phase == Phase::Resting {
                self.change(no, |task| {
                    task.phase = Phase::Waiting;
                    if let Some(place) = &mut task.place {
                        place.due_ms = place.due_ms.min(now_ms);
                    }
                });
                self.release_lane(no, now_ms);
            } else {
                self.consider(lane, now_ms);
            }
        }
    }

    /// When the next task or target is due, if any waits for a time.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.timers.first().map(|(due_ms, _)| *due_ms).into_iter().chain(self.ready.next_due_ms()).min()
    }

    /// What identifies a task.
    pub(crate) fn identity(&self, no: TaskNo) -> Option<&Identity> {
        self.tasks.get(no).map(|task| &task.identity)
    }

    /// What a task went through.
    pub(crate) fn history(&self, no: TaskNo) -> Option<History> {
        self.tasks.get(no).map(|task| task.history)
    }

    /// Where a task is parked.
    pub(crate) fn place(&self, no: TaskNo) -> Option<Place> {
        self.tasks.get(no).and_then(|task| task.place)
    }

    /// Makes a lane ready, or sets its timer, if its first task may start.
    fn consider(&mut self, lane_no: LaneNo, now_ms: i64) {
        let Some(lane) = self.lanes.get_mut(lane_no) else { return };
        if lane.active.is_some() || lane.queued {
            return;
        }
        let Some(&admitted) = self.flowing.get(&lane.partition) else { return };
        let Some(&first) = lane.tasks.front() else { return };
        let Some(task) = self.tasks.get(first).filter(|task| task.phase == Phase::Waiting) else { return };
        if !task.may_start(admitted) {
            self.ahead.insert((lane.partition, task.identity.offset, lane_no));
            return;
        }
        if self.gates.holds(&task.identity, lane_no) {
            return;
        }
        if let Some(place) = task.place.filter(|place| place.due_ms > now_ms) {
            self.set_timer(first, place.due_ms);
            return;
        }
        let looked_at = lane.tasks.iter().take(PRIORITY_WINDOW).filter_map(|no| self.tasks.get(no));
        let priority = looked_at.map(|task| task.identity.priority).min().unwrap_or(task.identity.priority);
        lane.queued = true;
        self.ready.push(lane_no, task, priority);
    }

    fn set_timer(&mut self, no: TaskNo, due_ms: i64) {
        self.clear_timer(no);
        if let Some(task) = self.tasks.get_mut(no) {
            task.timer = Some(due_ms);
            self.timers.insert((due_ms, no));
        }
    }

    fn clear_timer(&mut self, no: TaskNo) {
        if let Some(due_ms) = self.tasks.get_mut(no).and_then(|task| task.timer.take()) {
            self.timers.remove(&(due_ms, no));
        }
    }

    fn release_lane(&mut self, no: TaskNo, now_ms: i64) {
        let Some(lane_no) = self.tasks.get(no).map(|task| task.lane) else { return };
        if let Some(lane) = self.lanes.get_mut(lane_no)
            && lane.active == Some(no)
        {
            lane.active = None;
        }
        self.consider(lane_no, now_ms);
    }

    /// Changes a task and keeps slots, shares and counts in step with it.
    fn change(&mut self, no: TaskNo, change: impl FnOnce(&mut Task)) {
        let Some(task) = self.tasks.get_mut(no) else { return };
        let before = Standing::of(task);
        change(task);
        let after = Standing::of(task);
        let census = self.census.entry(task.identity.partition).or_default();
        census.shift(before, after);
        self.ready.shift(&task.identity, before, after);
        if before.runs.is_some() && after.runs.is_none() {
            task.runs_as = None;
        }
    }
}
