//! The way of most records: opened, run and over in one go, without a round of intake, a lane or a look at the clock of
//! their own.
//!
//! What can't be told without waiting goes through a round of intake (`intake`); what has to wait gets a lane (`admit`).
//! What ended in one go is counted and completed together, as a [`Pass`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backlog::Chunk;
use super::engine::Engine;
use super::intake::{self, Opened};
use super::partition::Partition;
use crate::runtime::duplicates::Verdict;
use crate::runtime::record::Record;
use crate::runtime::shared::Shared;
use crate::runtime::stage::{EffectStage, Task};

/// Tasks that are over whose memory is kept, at most, and never more than may run at once: what their events hold stays as
/// long.
const SPARES: usize = 1_024;

/// Records of one partition that are taken in one after the other, and what is still to be noted of them.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) partition: i32,
    pub(super) generation: u64,
    /// So much memory is in use that what has to wait gets a buffer of its own: a view of a batch holds all of it.
    pub(super) tight: bool,
    /// When it began, in epoch milliseconds.
    pub(super) now_ms: i64,
    /// Behind the last attempt whose time was noted.
    lap: Instant,
    /// Attempts at things of one kind that ended well at once, and share one look at the clock.
    kind: &'static str,
    attempts: u32,
    /// Complete records without one missing between them: the first offset, the one behind the last.
    complete: (i64, i64),
    records: usize,
    bytes: usize,
    /// Something else than success happened: the partition may have been stopped.
    pub(super) disturbed: bool,
}

impl Pass {
    pub(super) fn new((partition, generation): (i32, u64), tight: bool, now_ms: i64, began: Instant) -> Self {
        Self {
            partition,
            generation,
            tight,
            now_ms,
            lap: began,
            kind: "",
            attempts: 0,
            complete: (0, 0),
            records: 0,
            bytes: 0,
            disturbed: false,
        }
    }

    /// The time since it was asked last, or since the pass began.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.lap, now))
    }

    fn hand_in(&mut self, owned: &mut Partition) {
        let (first, behind) = self.complete;
        if first < behind {
            owned.source.complete_run(first, behind);
            owned.admit(behind - 1);
            owned.gauge.release(self.records, self.bytes);
            owned.note_ended();
        }
        (self.records, self.bytes) = (0, 0);
    }
}

/// Why taking records in came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// There are no more of them, no slots for them, or something else is to be looked at first.
    Off,
    /// The next one has to wait for something.
    Waiting,
}

/// The record that is taken in, in the memory of a task that is over where there is one.
enum Draft<I> {
    New(Record),
    Again(Box<Task<I>>),
}

impl<I> Draft<I> {
    fn of(spare: Option<Box<Task<I>>>) -> Self {
        match spare {
            Some(task) => Self::Again(task),
            None => Self::New(Record::blank()),
        }
    }

    fn fill(&mut self, records: &mut Chunk) -> bool {
        match self {
            Self::New(record) => records.next_into(record),
            Self::Again(task) => task.record.alone().is_some_and(|record| records.next_into(record)),
        }
    }

    fn record(&self) -> &Record {
        match self {
            Self::New(record) => record,
            Self::Again(task) => &task.record,
        }
    }

    fn into_record(self) -> Record {
        match self {
            Self::New(record) => record,
            Self::Again(mut task) => match task.record.alone() {
                Some(record) => std::mem::replace(record, Record::blank()),
                None => (*task.record).clone(),
            },
        }
    }

    fn into_task(self, input: I, target: &Arc<str>) -> Box<Task<I>> {
        match self {
            Self::New(record) => first_attempt(record.into(), input.into(), target),
            Self::Again(mut task) => {
                task.input = input.into();
                if !Arc::ptr_eq(&task.target, target) {
                    task.target = Arc::clone(target);
                }
                (task.attempt, task.first_failed_at_ms) = (1, None);
                task
            }
        }
    }
}

/// A task as its record opens it.
pub(super) fn first_attempt<I>(record: Shared<Record>, input: Shared<I>, target: &Arc<str>) -> Box<Task<I>> {
    Box::new(Task { record, input, target: Arc::clone(target), attempt: 1, first_failed_at_ms: None })
}

impl<S: EffectStage> Engine<S> {
    /// Takes in at most `most` of `records`, as far as it can be told without waiting what they open.
    pub(super) fn take_now(&mut self, pass: &mut Pass, records: &mut Chunk, most: usize) -> Left {
        let stage = Arc::clone(&self.hands.stage);
        let (cursors, priorities) = (self.spec.cursors.is_some(), stage.has_priorities());
        let mut tasks = std::mem::take(&mut self.opening);
        let mut left = Left::Off;
        for _ in 0..most {
            let crowded = self.waits > 0 && !priorities;
            let no_slot = crowded && self.lanes.free_slots(self.spec.options.concurrency) == 0;
            if no_slot || self.stretch.is_over() {
                break;
            }
            let mut draft = Draft::of(self.spares.pop());
            if !draft.fill(records) {
                break;
            }
            tasks.truncate(0);
            let Some(what) = intake::open_now(&*stage, draft.record(), &mut tasks) else {
                records.put_back(draft.into_record());
                left = Left::Waiting;
                break;
            };
            let offset = draft.record().offset;
            let plain = match (what, tasks.get(0)) {
                (intake::What::Tasks(input, _, seen), Some(spec))
                    if tasks.len() == 1
                        && !cursors
                        && self.verdict(pass.partition, offset, seen) == Verdict::New =>
                {
                    let (bytes, task) = (draft.record().bytes(), draft.into_task(input, spec.target));
                    self.admit_alone(pass, (offset, bytes), spec, task)
                }
                (what, _) => self.admit(pass, Opened { record: draft.into_record(), what }, &tasks),
            };
            if cursors || !plain {
                self.note(pass);
                if let Some(owned) = self.partitions.get_mut(&pass.partition) {
                    owned.admit(offset);
                }
            }
            if std::mem::take(&mut pass.disturbed)
                && self.partitions.get(&pass.partition).is_none_or(|owned| owned.closed)
            {
                break;
            }
        }
        self.note(pass);
        self.opening = tasks;
        left
    }

    /// Keeps the memory of a task that is over.
    #[inline]
    pub(super) fn spare(&mut self, mut spent: Box<Task<S::Input>>) {
        if self.spares.len() < self.spec.options.concurrency.min(SPARES)
            && let Some(record) = spent.record.alone()
        {
            record.empty();
            self.spares.push(spent);
        }
    }

    /// Counts an attempt that ended well at once.
    #[inline]
    pub(super) fn count_at_once(&mut self, pass: &mut Pass, kind: &'static str, written_ms: Option<i64>) {
        if !std::ptr::eq(pass.kind, kind) && pass.kind != kind {
            self.time(pass);
            pass.kind = kind;
        }
        pass.attempts += 1;
        self.tally.complete(written_ms, pass.now_ms);
    }

    /// Notes a record that is complete and leaves memory.
    #[inline]
    pub(super) fn complete_at_once(&mut self, pass: &mut Pass, offset: i64, bytes: usize) {
        if pass.complete.1 != offset || pass.records == 0 {
            if let Some(owned) = self.partitions.get_mut(&pass.partition) {
                pass.hand_in(owned);
            }
            pass.complete = (offset, offset);
        }
        pass.complete.1 = offset + 1;
        pass.records += 1;
        pass.bytes += bytes;
    }

    /// Notes what a pass came to so far.
    pub(super) fn note(&mut self, pass: &mut Pass) {
        self.time(pass);
        if let Some(owned) = self.partitions.get_mut(&pass.partition) {
            pass.hand_in(owned);
        }
        pass.complete = (0, 0);
    }

    /// Attempts that ended at once took each its part of the time that all of them took.
    fn time(&mut self, pass: &mut Pass) {
        let attempts = std::mem::take(&mut pass.attempts);
        if attempts == 0 {
            return;
        }
        let each = pass.lap().checked_div(attempts).unwrap_or(Duration::ZERO);
        let attempts = u64::from(attempts);
        self.tally.took(pass.kind, each, attempts);
        self.balance.opened += attempts;
        self.balance.done += attempts;
        self.count("opened", attempts);
        self.count("done", attempts);
    }
}
