//! Takes opened records in, in order: what can run at once runs here and now, the rest waits in its lane.
//!
//! A task whose lane is clear is polled before anything is made for it. If it ends then, neither lane nor slot nor
//! allocation was needed; only what has to wait becomes a task that the lanes know.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::at_once::{Pass, first_attempt};
use super::attempt::Payload;
use super::engine::{Engine, TIGHT, room};
use super::intake::{self, Opened, Round};
use super::partition::OpenRecord;
use super::report::{Attempted, Kind, What};
use super::running::Label;
use crate::runtime::duplicates::{Seen, Verdict};
use crate::runtime::lanes::{Admitted, Identity, TaskNo};
use crate::runtime::outcome::{ErrorClass, Failure, SkipReason};
use crate::runtime::progress::PartitionState;
use crate::runtime::record::Record;
use crate::runtime::shared::Shared;
use crate::runtime::stage::{EffectStage, Task, TaskSpec, Tasks};

/// Attempts after one that had to wait for which records count as waiting ones: they are taken in as slots are free for
/// them, and with buffers of their own when memory is tight.
const WAITING: u32 = 1_024;

/// How a task was taken in.
enum Now<I> {
    /// It ran, and is over.
    Over,
    /// It runs, or ran and needs more.
    Known(TaskNo, Option<Box<Attempted<I>>>),
    /// Something comes before it.
    NotYet(Box<Task<I>>),
}

/// What taking a record's tasks in left to do.
struct Taken<I> {
    /// Tasks that aren't over.
    open: usize,
    /// Those of them that ran and didn't end well.
    unfinished: Vec<(TaskNo, Box<Attempted<I>>)>,
    /// Those that are to be parked.
    to_park: Vec<TaskNo>,
}

impl<I> Default for Taken<I> {
    fn default() -> Self {
        Self { open: 0, unfinished: Vec::new(), to_park: Vec::new() }
    }
}

impl<S: EffectStage> Engine<S> {
    pub(super) fn on_opened(&mut self, partition: i32, round: Round<S::Input>, began: Instant) {
        let now = self.env.clock.now_ms();
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        owned.intake = false;
        if owned.closed {
            return;
        }
        let generation = owned.generation;
        let tight = round.rest.bytes_in_use() > self.spec.options.max_buffered_bytes / TIGHT;
        owned.queue.put_back(round.rest);
        match round.away {
            Some(why) => {
                if !owned.backoff.is_waiting() {
                    tracing::warn!(stage = %self.name, partition, %why, "the partition waits");
                }
                owned.intake_at_ms = now + owned.backoff.next_pause().as_millis() as i64;
                owned.state = PartitionState::Waiting(why.to_string());
            }
            None if owned.backoff.is_waiting() => {
                tracing::info!(stage = %self.name, partition, "the partition goes on");
                owned.backoff = Default::default();
                owned.state = PartitionState::Flowing;
            }
            None => {}
        }
        let mut pass = Pass::new((partition, generation), tight, now, began);
        for opened in round.opened {
            let offset = opened.record.offset;
            self.admit(&mut pass, opened, &round.tasks);
            if let Some(owned) = self.partitions.get_mut(&partition) {
                owned.admit(offset);
            }
        }
        self.note(&mut pass);
        self.taken_in(partition, now);
    }

    /// Tells the lanes how far the source came by.
    pub(super) fn taken_in(&mut self, partition: i32, now: i64) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.admit_delivered();
            self.lanes.admitted(partition, owned.admitted(), now);
        }
    }

    /// Takes an opened record in. Answers whether it is over, and is noted with the others of the pass.
    #[inline]
    pub(super) fn admit(&mut self, pass: &mut Pass, opened: Opened<S::Input>, tasks: &Tasks) -> bool {
        let Opened { record, what } = opened;
        let partition = pass.partition;
        match what {
            intake::What::Tasks(input, opened, seen) => match self.verdict(partition, record.offset, seen) {
                Verdict::New => return self.admit_tasks(pass, record, input, (tasks, opened)),
                Verdict::Duplicate(_) => self.skip(partition, &record, SkipReason::Duplicate),
                Verdict::Conflict(first) => {
                    let why = format!("offset {first} brought the same event id with other bytes");
                    self.refuse(&record, &Failure::new(ErrorClass::Conflict, why));
                }
            },
            intake::What::Known(seen) => {
                self.verdict(partition, record.offset, seen);
                if let Some(owned) = self.partitions.get(&partition) {
                    owned.gauge.release(1, record.bytes());
                }
            }
            intake::What::Skipped(reason) => self.skip(partition, &record, reason),
            intake::What::Dead(why) => self.refuse(&record, &why),
        }
        pass.disturbed = true;
        false
    }

    pub(super) fn verdict(&mut self, partition: i32, offset: i64, seen: Option<Seen>) -> Verdict {
        let Some(seen) = seen else { return Verdict::New };
        let owned = self.partitions.get_mut(&partition);
        owned.map_or(Verdict::New, |owned| owned.duplicates.see(offset, seen))
    }

    fn skip(&mut self, partition: i32, record: &Record, reason: SkipReason) {
        tracing::trace!(stage = %self.name, partition, offset = record.offset, reason = reason.as_str(), "skipped");
        self.balance.opened += 1;
        self.balance.skipped += 1;
        self.tally.skipped(reason);
        self.count("opened", 1);
        self.count("skipped", 1);
        self.complete_record(partition, record.offset, record.bytes());
    }

    fn refuse(&mut self, record: &Record, why: &Failure) {
        self.balance.opened += 1;
        self.count("opened", 1);
        self.put_dead_record(record, why);
    }

    fn admit_tasks(
        &mut self,
        pass: &mut Pass,
        record: Record,
        input: S::Input,
        (tasks, opened): (&Tasks, Range<usize>),
    ) -> bool {
        let (partition, offset, bytes) = (pass.partition, record.offset, record.bytes());
        let mut taken = Taken::default();
        if opened.len() == 1 {
            if let Some(spec) = tasks.get(opened.start)
                && !self.goes_to_cursor(partition, spec, offset, &mut taken)
            {
                let task = first_attempt(record.into(), input.into(), spec.target);
                self.admit_task(pass, offset, spec, task, &mut taken);
            }
        } else {
            let record = if pass.tight { record.detached() } else { record };
            let (record, input) = (Arc::new(record), Arc::new(input));
            for spec in opened.filter_map(|at| tasks.get(at)) {
                if self.goes_to_cursor(partition, spec, offset, &mut taken) {
                    continue;
                }
                let task = first_attempt(Arc::clone(&record).into(), Arc::clone(&input).into(), spec.target);
                self.admit_task(pass, offset, spec, task, &mut taken);
            }
        }
        self.owe(pass, offset, bytes, taken)
    }

    /// Notes what became of a record's tasks. Answers whether all of them are over.
    #[inline]
    fn owe(&mut self, pass: &mut Pass, offset: i64, bytes: usize, taken: Taken<S::Input>) -> bool {
        let partition = pass.partition;
        if taken.open == 0 {
            self.complete_at_once(pass, offset, bytes);
            return true;
        }
        pass.disturbed = true;
        let Taken { open, unfinished, to_park } = taken;
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.open.insert(offset, OpenRecord { tasks: open, bytes });
        }
        if !unfinished.is_empty() {
            self.glance();
        }
        for (no, attempted) in unfinished {
            let kind = self.kind(&attempted.loaded);
            self.on_attempted(partition, no, *attempted, kind);
        }
        for no in to_park {
            self.put_parked(no, pass.now_ms, None);
        }
        false
    }

    /// True when a cursor has the task, or will have it.
    fn goes_to_cursor(
        &mut self,
        partition: i32,
        spec: TaskSpec<'_>,
        offset: i64,
        taken: &mut Taken<S::Input>,
    ) -> bool {
        if self.spec.cursors.is_none() {
            return false;
        }
        let taken_over = self.taken_over(partition, spec.target, offset);
        taken.open += usize::from(taken_over == Some(true));
        taken_over.is_some()
    }

    /// Takes the only task of a record in. Answers whether it is over.
    #[inline]
    pub(super) fn admit_alone(
        &mut self,
        pass: &mut Pass,
        (offset, bytes): (i64, usize),
        spec: TaskSpec<'_>,
        task: Box<Task<S::Input>>,
    ) -> bool {
        let now = self.run_now(pass, offset, spec, task);
        if matches!(now, Now::Over) {
            self.complete_at_once(pass, offset, bytes);
            return true;
        }
        let mut taken = Taken::default();
        self.take(pass, offset, spec, now, &mut taken);
        self.owe(pass, offset, bytes, taken)
    }

    fn admit_task(
        &mut self,
        pass: &mut Pass,
        offset: i64,
        spec: TaskSpec<'_>,
        task: Box<Task<S::Input>>,
        taken: &mut Taken<S::Input>,
    ) {
        let now = self.run_now(pass, offset, spec, task);
        self.take(pass, offset, spec, now, taken);
    }

    fn take(
        &mut self,
        pass: &mut Pass,
        offset: i64,
        spec: TaskSpec<'_>,
        now: Now<S::Input>,
        taken: &mut Taken<S::Input>,
    ) {
        match now {
            Now::Over => {}
            Now::Known(no, attempted) => {
                taken.open += 1;
                taken.unfinished.extend(attempted.map(|attempted| (no, attempted)));
            }
            Now::NotYet(task) => {
                let (no, park) = match self.queue_up((pass.partition, offset), spec, pass.now_ms) {
                    Admitted::AlreadyParked => return,
                    Admitted::Queued(no) => (no, false),
                    Admitted::Park(no) => (no, true),
                };
                taken.open += 1;
                taken.to_park.extend(park.then_some(no));
                self.balance.opened += 1;
                self.count("opened", 1);
                self.payloads.insert(no, Payload::Fresh(task));
            }
        }
    }

    fn queue_up(&mut self, (partition, offset): (i32, i64), spec: TaskSpec<'_>, now: i64) -> Admitted {
        // What a target has waiting beyond its share is a cursor's, where there are any.
        let share = if self.spec.cursors.is_some() { usize::MAX } else { self.share() };
        self.lanes.fresh(identity(partition, offset, spec), share, now)
    }

    /// Attempts a task whose lane is clear, as far as it comes without waiting.
    #[inline]
    fn run_now(
        &mut self,
        pass: &mut Pass,
        offset: i64,
        spec: TaskSpec<'_>,
        mut task: Box<Task<S::Input>>,
    ) -> Now<S::Input> {
        let (partition, generation) = (pass.partition, pass.generation);
        let concurrency = self.spec.options.concurrency;
        let stage = &self.hands.stage;
        let room = |target: &str| room(&**stage, concurrency, target, pass.now_ms);
        let clear = self.lanes.clear(partition, spec.lane, spec.target, concurrency, &room);
        // What ends at once is told at once.
        let is_told = self.spec.cursors.is_none()
            || self.own_cursors(partition).is_none_or(|own| own.table.unknown(spec.target).is_none());
        let Some(clear) = clear.filter(|_| is_told && !self.stretch.is_over()) else {
            if pass.tight {
                detach(&mut task.record);
            }
            return Now::NotYet(task);
        };
        if pass.tight && self.waits > 0 {
            detach(&mut task.record);
        }
        stage.starting(spec.target, pass.now_ms);
        let label = Label { partition, generation, kind: Kind::Attempt(None) };
        let attempted = match self.running.attempt(label, task) {
            Ok(What::Done { kind, written_ms, spent }) => {
                self.spare(spent);
                self.waits = self.waits.saturating_sub(1);
                self.count_at_once(pass, kind, written_ms);
                return Now::Over;
            }
            Ok(What::Attempted(attempted)) => {
                self.note(pass);
                let kind = self.kind(&attempted.loaded);
                self.tally.took(kind, pass.lap(), 1);
                Some(attempted)
            }
            Ok(What::Answered(owing)) => {
                self.note(pass);
                let kind = self.hands.stage.kind(&owing.attempt.task.input);
                self.tally.took(kind, pass.lap(), 1);
                self.waits = WAITING;
                self.balance.opened += 1;
                self.count("opened", 1);
                let no = self.lanes.begin(identity(partition, offset, spec), clear);
                self.await_record(partition, no, *owing);
                return Now::Known(no, None);
            }
            // The future of an attempt gives nothing else.
            Ok(
                What::Opened(_)
                | What::Recorded(_)
                | What::PutAside { .. }
                | What::NotGivenUp { .. }
                | What::Unfolded { .. }
                | What::Cursors(_)
                | What::Reread(_),
            ) => None,
            Err(slot) => {
                self.waits = WAITING;
                self.balance.opened += 1;
                self.count("opened", 1);
                self.occupy(partition);
                let no = self.lanes.begin(identity(partition, offset, spec), clear);
                self.running.relabel(slot, Kind::Attempt(Some(no)));
                return Now::Known(no, None);
            }
        };
        self.balance.opened += 1;
        self.count("opened", 1);
        Now::Known(self.lanes.begin(identity(partition, offset, spec), clear), attempted)
    }

    pub(super) fn complete_record(&mut self, partition: i32, offset: i64, bytes: usize) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.record_complete(offset, bytes);
        }
    }
}

/// Gives a record a buffer of its own.
pub(super) fn detach(record: &mut Shared<Record>) {
    if let Some(record) = record.alone() {
        *record = record.detached();
    }
}

fn identity<'n>(partition: i32, offset: i64, spec: TaskSpec<'n>) -> Identity<'n> {
    let TaskSpec { lane, target, priority } = spec;
    Identity { partition, lane, target: target.into(), offset, priority }
}
