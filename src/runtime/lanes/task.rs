//! What is known of one task and of one lane. Pure data; the rules are in the parent.

use std::sync::Arc;

use super::moment::Moment;
use super::ready::Class;
use super::slab::Key;
use super::targets::TargetName;
use super::timers::NOWHERE;

/// Names an open task within this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskNo(Key);

impl TaskNo {
    /// Where the task is.
    pub(super) fn slot(self) -> u32 {
        self.0.slot()
    }
}

impl From<Key> for TaskNo {
    fn from(key: Key) -> Self {
        Self(key)
    }
}

impl From<TaskNo> for Key {
    fn from(no: TaskNo) -> Self {
        no.0
    }
}

/// Names a lane that has open tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LaneNo(Key);

impl LaneNo {
    /// Before every lane.
    pub(super) const FIRST: Self = Self(Key::FIRST);

    /// Where the lane is.
    pub(super) fn slot(self) -> u32 {
        self.0.slot()
    }
}

impl From<Key> for LaneNo {
    fn from(key: Key) -> Self {
        Self(key)
    }
}

impl From<LaneNo> for Key {
    fn from(no: LaneNo) -> Self {
        no.0
    }
}

/// Lanes, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// All of them.
    pub(crate) lanes: usize,
    /// Those whose first task is parked.
    pub(crate) parked: usize,
    /// Of these, those that are held until somebody decides.
    pub(crate) held: usize,
    /// When the oldest of these failed first, in epoch milliseconds.
    pub(crate) oldest_failed_ms: Option<i64>,
}

/// Where a parked task lies, and when it may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its offset in the retry partition.
    pub(crate) offset: i64,
    /// Not before this time.
    pub(crate) due_ms: i64,
}

/// What identifies a task, and how urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity<'n> {
    pub(crate) partition: i32,
    pub(crate) lane: &'n str,
    pub(crate) target: TargetName<'n>,
    /// The source offset.
    pub(crate) offset: i64,
    pub(crate) priority: u16,
}

/// What is known of an open task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known<'n> {
    pub(crate) partition: i32,
    /// The name of its lane, as long as it is in memory: see [`super::Lanes::learn`].
    pub(crate) lane: Option<&'n str>,
    pub(crate) target: &'n Arc<str>,
    /// The source offset.
    pub(crate) offset: i64,
    pub(crate) priority: u16,
}

/// What becomes of a fresh task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It waits for its turn.
    Queued(TaskNo),
    /// It must be parked behind the others, unattempted; say so with [`Lanes::parked`].
    Park(TaskNo),
    /// It is open already: its parked copy stands for it.
    AlreadyParked,
}

/// What becomes of a record read from the retry partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Indexed {
    /// A task that wasn't known.
    New(TaskNo),
    /// A later copy of a known one: its older place is complete.
    Replaced {
        /// The task.
        task: TaskNo,
        /// The place that is void now.
        older: i64,
    },
    /// The record just read is the older copy: it is complete.
    Older,
    /// Our own append, read back.
    Known,
}

/// A task that ended or moved: these retry offsets are complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vacated {
    /// Offsets in the retry partition.
    pub(crate) places: Vec<i64>,
    /// True when the task was owed to the source partition: it had no place before.
    pub(crate) source: bool,
}

/// What a task went through so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Attempts begun.
    pub(crate) attempt: u32,
    /// When the first one failed.
    pub(crate) first_failed_at_ms: Option<i64>,
    /// An operator put it back: the retry topic alone has it, whatever its source record comes to when it is read again.
    pub(crate) is_put_back: bool,
}

/// Whether a rest follows an attempt that failed, or one that couldn't begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The attempt failed and counts.
    Failed,
    /// Something that is needed first was away: it doesn't count.
    NeverBegan,
}

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for its turn, in memory or parked.
    Waiting,
    /// An attempt runs.
    Running,
    /// Its attempt ended, and waits to be on record: it holds its lane, but neither a slot nor its target's room.
    Owing,
    /// Waits in place for its next attempt.
    Resting,
    /// On its way to the retry or dead-letter topic.
    Moving,
}

/// Stands for no place, and for no time (see [`Moment::NONE`]).
const NONE: i64 = i64::MIN;
/// The bit of a place that says that an operator put the task back: no log gets that long.
const PUT_BACK: i64 = 1 << 62;

/// A task. There may be a million that are parked: numbers instead of names, and no gaps between the fields.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
pub(super) struct Task {
    /// The source offset.
    pub(super) offset: i64,
    place: i64,
    first_failed_at: Moment,
    due: Moment,
    /// Attempts begun.
    pub(super) attempt: u32,
    /// The slot of its lane.
    pub(super) lane: u32,
    /// Its target on its partition.
    pub(super) target: u32,
    /// Its place among the timers.
    pub(super) timer: u32,
    pub(super) priority: u16,
    pub(super) phase: Phase,
    /// The class under which it holds a slot.
    pub(super) runs_as: Option<Class>,
}

impl Task {
    pub(super) fn new(lane: u32, target: u32, offset: i64, priority: u16, phase: Phase) -> Self {
        Self {
            offset,
            place: NONE,
            first_failed_at: Moment::NONE,
            due: Moment::NONE,
            attempt: 0,
            lane,
            target,
            timer: NOWHERE,
            priority,
            phase,
            runs_as: None,
        }
    }

    /// Where it is parked.
    pub(super) fn place(&self) -> Option<i64> {
        Some(self.place & !PUT_BACK).filter(|place| *place != NONE)
    }

    /// The same, with the time from which on it may be tried.
    pub(super) fn parked_at(&self) -> Option<Place> {
        self.place().map(|offset| Place { offset, due_ms: self.due_ms() })
    }

    /// Not to be looked at before: when a parked task is due, or one that rests is tried again.
    pub(super) fn due_ms(&self) -> i64 {
        self.due.ms()
    }

    /// Says when to look at it. It must not be among the timers.
    pub(super) fn set_due(&mut self, due_ms: i64) {
        self.due = due_ms.into();
    }

    /// Notes where it is parked; gives where it was before.
    pub(super) fn put_at(&mut self, place: i64) -> Option<i64> {
        let before = self.place();
        self.place = place | self.place & PUT_BACK;
        before
    }

    /// True when an operator put it back.
    pub(super) fn is_put_back(&self) -> bool {
        self.place & PUT_BACK != 0
    }

    /// What it went through.
    pub(super) fn history(&self) -> History {
        let first = Some(self.first_failed_at.ms()).filter(|first| *first != NONE);
        History { attempt: self.attempt, first_failed_at_ms: first, is_put_back: self.is_put_back() }
    }

    pub(super) fn set_history(&mut self, history: History) {
        self.attempt = history.attempt;
        self.first_failed_at = history.first_failed_at_ms.unwrap_or(NONE).into();
        self.place = self.place & !PUT_BACK | if history.is_put_back { PUT_BACK } else { 0 };
    }

    /// Notes that an attempt failed.
    pub(super) fn failed(&mut self, now_ms: i64) {
        if self.first_failed_at == Moment::NONE {
            self.first_failed_at = now_ms.into();
        }
    }

    /// Makes it due. It must not be among the timers.
    pub(super) fn hurry(&mut self, now_ms: i64) {
        self.set_due(self.due_ms().min(now_ms));
    }

    /// True when it waits in the retry topic until somebody decides.
    pub(super) fn is_held(&self) -> bool {
        self.place().is_some() && self.phase != Phase::Resting && self.due_ms() == i64::MAX
    }

    /// Retries are what failed before and what comes back from the retry topic.
    pub(super) fn class(&self) -> Class {
        if self.place().is_some() || self.attempt > 0 { Class::Retry } else { Class::Fresh }
    }

    /// Parked, or on its way there: fresh tasks behind it are parked too.
    pub(super) fn is_set_aside(&self) -> bool {
        self.place().is_some() || self.phase == Phase::Moving
    }

    /// A parked task waits until its source record came by; see [`super::Lanes::admitted`].
    pub(super) fn may_start(&self, admitted: i64) -> bool {
        self.place().is_none() || self.offset < admitted
    }

    /// Waits for its target in memory.
    fn waits(&self) -> bool {
        self.place().is_none() && matches!(self.phase, Phase::Waiting | Phase::Resting)
    }

    /// Waiting in memory, never parked.
    pub(super) fn is_fresh(&self) -> bool {
        self.place().is_none() && self.phase == Phase::Waiting
    }
}

/// What a task counts for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// It has a place in the retry topic.
    pub(super) placed: bool,
    /// It waits there.
    pub(super) parked: bool,
    /// It waits for its target in memory: counts against the target's share.
    pub(super) waits: bool,
    /// It holds a slot of this class.
    pub(super) runs: Option<Class>,
    /// Its attempt waits to be on record.
    pub(super) owes: bool,
}

impl Standing {
    pub(super) fn of(task: &Task) -> Self {
        Self {
            placed: task.place().is_some(),
            parked: task.place().is_some() && task.phase == Phase::Waiting,
            waits: task.waits(),
            runs: task.runs_as.filter(|_| task.phase == Phase::Running),
            owes: task.phase == Phase::Owing,
        }
    }
}

/// Numbers for metrics and the balance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Waiting in the retry topic.
    pub(crate) parked: u64,
    /// Everything else that is open.
    pub(crate) in_memory: u64,
    /// Those of both that have a place in the retry topic.
    pub(crate) placed: u64,
}

impl Census {
    pub(super) fn enter(&mut self, standing: Standing) {
        if standing.parked {
            self.parked += 1;
        } else {
            self.in_memory += 1;
        }
        self.placed += u64::from(standing.placed);
    }

    pub(super) fn leave(&mut self, standing: Standing) {
        if standing.parked {
            self.parked -= 1;
        } else {
            self.in_memory -= 1;
        }
        self.placed -= u64::from(standing.placed);
    }

    pub(super) fn shift(&mut self, before: Standing, after: Standing) {
        if before.parked && !after.parked {
            self.parked -= 1;
            self.in_memory += 1;
        } else if !before.parked && after.parked {
            self.in_memory -= 1;
            self.parked += 1;
        }
        if !before.placed && after.placed {
            self.placed += 1;
        }
    }
}
