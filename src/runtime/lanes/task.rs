//! What is known of one task and of one lane. Pure data; the rules are in the parent.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ready::Class;
use super::slab::Key;

/// Names an open task within this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskNo(Key);

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) partition: i32,
    pub(crate) lane: Arc<str>,
    pub(crate) target: Arc<str>,
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
    /// Waits in place for its next attempt.
    Resting,
    /// On its way to the retry or dead-letter topic.
    Moving,
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) lane: LaneNo,
    pub(super) identity: Identity,
    pub(super) place: Option<Place>,
    pub(super) phase: Phase,
    pub(super) history: History,
    /// The class under which it holds a slot.
    pub(super) runs_as: Option<Class>,
    /// Copies that were read back from the retry partition before their acknowledgement was here.
    pub(super) read_back: Vec<i64>,
    /// When it is looked at again.
    pub(super) timer: Option<i64>,
}

impl Task {
    pub(super) fn new(lane: LaneNo, identity: Identity, phase: Phase) -> Self {
        Self {
            lane,
            identity,
            place: None,
            phase,
            history: History::default(),
            runs_as: None,
            read_back: Vec::new(),
            timer: None,
        }
    }

    /// Retries are what failed before and what comes back from the retry topic.
    pub(super) fn class(&self) -> Class {
        if self.place.is_some() || self.history.attempt > 0 { Class::Retry } else { Class::Fresh }
    }

    /// Parked, or on its way there: fresh tasks behind it are parked too.
    pub(super) fn is_set_aside(&self) -> bool {
        self.place.is_some() || self.phase == Phase::Moving
    }

    /// A parked task waits until its source record came by; see [`super::Lanes::admitted`].
    pub(super) fn may_start(&self, admitted: i64) -> bool {
        self.place.is_none() || self.identity.offset < admitted
    }

    /// Waits for its target in memory.
    fn waits(&self) -> bool {
        self.place.is_none() && matches!(self.phase, Phase::Waiting | Phase::Resting)
    }

    /// Waiting in memory, never parked.
    pub(super) fn is_fresh(&self) -> bool {
        self.place.is_none() && self.phase == Phase::Waiting
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: Arc<str>,
    pub(super) partition: i32,
    /// The hash of both.
    pub(super) hash: u64,
    /// In source order.
    pub(super) tasks: VecDeque<TaskNo>,
    /// The one that runs, rests, or is moving after an attempt.
    pub(super) active: Option<TaskNo>,
    /// True while it stands in a ready queue.
    pub(super) queued: bool,
}

/// What a task counts for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// It waits in the retry topic.
    pub(super) parked: bool,
    /// It waits for its target in memory: counts against the target's share.
    pub(super) waits: bool,
    /// It holds a slot of this class.
    pub(super) runs: Option<Class>,
}

impl Standing {
    pub(super) fn of(task: &Task) -> Self {
        Self {
            parked: task.place.is_some() && task.phase == Phase::Waiting,
            waits: task.waits(),
            runs: task.runs_as.filter(|_| task.phase == Phase::Running),
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
}

impl Census {
    pub(super) fn enter(&mut self, standing: Standing) {
        if standing.parked {
            self.parked += 1;
        } else {
            self.in_memory += 1;
        }
    }

    pub(super) fn shift(&mut self, before: Standing, after: Standing) {
        if before.parked && !after.parked {
            self.parked -= 1;
            self.in_memory += 1;
        } else if !before.parked && after.parked {
            self.in_memory -= 1;
            self.parked += 1;
        }
    }
}
