//! What work that ran tells the engine. Each names its assignment: what belongs to an older one is dropped
//! (invariant 5).

use std::fmt;
use std::sync::Arc;

use super::attempt::{Ending, Loaded};
use super::catch_up::Reread;
use super::cursors::Told;
use super::intake::Round;
use super::redriven::Unfolded;
use super::running::Pooled;
use crate::runtime::lanes::TaskNo;
use crate::runtime::outcome::{ErrorClass, Failure, Outcome};
use crate::runtime::producer::{Delivered, ProduceError};
use crate::runtime::stage::{Owed, Task};

/// What runs in a slot.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A round of intake.
    Intake,
    /// An attempt at this task; at one that the lanes don't know while it is polled for the first time.
    Attempt(Option<TaskNo>),
    /// An attempt at this task, for which something is to be loaded first.
    Load(TaskNo),
    /// An append.
    Append,
    /// An attempt at this task ended and waits to be on record.
    Record(TaskNo),
}

impl Pooled for Kind {
    fn pool(self) -> usize {
        match self {
            Self::Attempt(_) => 0,
            Self::Intake => 1,
            Self::Append => 2,
            Self::Load(_) => 3,
            Self::Record(_) => 4,
        }
    }
}

/// How it ended. Small: what is large is boxed, so that the one that comes with every task costs no copying.
#[derive(Debug)]
pub(super) enum What<I> {
    /// Records were opened.
    Opened(Box<Round<I>>),
    /// An attempt ended well: at a thing of this kind, written at that time. The task's memory can be used again.
    Done { kind: &'static str, written_ms: Option<i64>, spent: Box<Task<I>> },
    /// An attempt ended otherwise.
    Attempted(Box<Attempted<I>>),
    /// An attempt ended, and has to be on record before anything follows from that.
    Answered(Box<Owing<I>>),
    /// It is on record.
    Recorded(Box<Recorded<I>>),
    /// Something that cursors need ended.
    Cursors(Box<Told>),
    /// A chunk of the log was read again for cursors.
    Reread(Box<Result<Reread<I>, Failure>>),
    /// An append ended.
    PutAside { what: Aside, offset: i64, result: Result<Delivered, ProduceError> },
    /// The stage can't bear that a task is given up.
    NotGivenUp { offset: i64, why: Failure },
    /// Redriven records were opened.
    Unfolded(Box<Unfolded>),
}

/// An attempt that didn't end well, with what it needed.
#[derive(Debug)]
pub(super) struct Attempted<I> {
    pub(super) loaded: Loaded<I>,
    pub(super) ending: Ending,
}

/// An attempt that is on record.
#[derive(Debug)]
pub(super) struct Recorded<I> {
    pub(super) task: Box<Task<I>>,
    /// The name of its lane, when it was read with the record.
    pub(super) lane: Option<Arc<str>>,
    pub(super) outcome: Outcome,
}

/// An attempt that ended, and what has to be acknowledged before it is on record.
pub(super) struct Owing<I> {
    pub(super) attempt: Recorded<I>,
    pub(super) owed: Owed,
}

impl<I: fmt::Debug> fmt::Debug for Owing<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owing").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

/// What was put aside.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aside {
    /// This assignment's marker, in the retry topic.
    Marker,
    /// A task, in the retry topic, due then.
    Parked { task: TaskNo, due_ms: i64 },
    /// A task, in the dead-letter topic.
    DeadTask { task: TaskNo, class: ErrorClass },
    /// A whole source record, in the dead-letter topic.
    DeadRecord { bytes: usize, class: ErrorClass },
    /// A record of the retry topic that isn't ours, in the dead-letter topic.
    Foreign { place: i64 },
}
