//! What jobs tell the engine. Each names its assignment: what belongs to an older one is dropped (invariant 5).

use std::time::Duration;

use super::attempt::{Ending, Payload};
use super::intake::Round;
use crate::runtime::lanes::TaskNo;
use crate::runtime::outcome::ErrorClass;
use crate::runtime::producer::{Delivered, ProduceError};

/// From a job of one assignment.
#[derive(Debug)]
pub(super) struct Report<I> {
    pub(super) partition: i32,
    pub(super) generation: u64,
    /// The job's number; intake rounds have none.
    pub(super) job: Option<u64>,
    pub(super) what: What<I>,
}

/// See [`Report`].
#[derive(Debug)]
pub(super) enum What<I> {
    /// Records were opened.
    Opened(Round<I>),
    /// An attempt ended.
    Attempted { task: TaskNo, took: Duration, payload: Payload<I>, ending: Ending },
    /// An append ended.
    PutAside { what: Aside, offset: i64, result: Result<Delivered, ProduceError> },
    /// A redriven record at that place of the retry partition was opened: it had nothing for the stage, is dead again, or
    /// its tasks are parked.
    Unfolded { place: i64, skipped: bool, dead: Option<ErrorClass>, result: Result<(), ProduceError> },
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
