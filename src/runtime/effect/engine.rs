//! The single owner of an effect stage's state: takes events and what ended, decides, starts work.
//!
//! Nothing here awaits. Decisions about order are in `lanes`, about completion in `offsets`; this file carries
//! them out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use tokio::sync::watch;

use super::appends::Appends;
use super::at_once::{Left, Pass};
use super::attempt::{self, Hands, Job, Parts, Payload};
use super::guard::Guard;
use super::intake;
use super::lone::Lone;
use super::parked::Parked;
use super::partitions::Partitions;
use super::prune::Pruner;
use super::publish::Counted;
use super::report::{Kind, What};
use super::running::{Label, Running};
use super::sparing::Sparing;
use super::tally::Tally;
use crate::runtime::Environment;
use crate::runtime::consumer::{Desk, Event, RecordBatch, Side};
use crate::runtime::control::Supervision;
use crate::runtime::error::PartitionFault;
use crate::runtime::lanes::{History, Lanes, Room, TaskNo};
use crate::runtime::options::StageSpec;
use crate::runtime::progress::{Balance, Progress};
use crate::runtime::rebalance::Draining;
use crate::runtime::stage::{EffectStage, TargetState, Task, Tasks};

/// A target's share of a partition's waiting work: one of so many parts.
const SHARES: usize = 4;
/// The part of the memory for records from which on one that waits doesn't hold its batch.
pub(super) const TIGHT: usize = 4;
/// Probes of targets that are away take at most one of so many slots: each may take as long as a time-out. Whose probe waits
/// longest gets the next.
const PROBES: usize = 4;
/// How long work is started before timers, sockets and the poll thread are looked at again.
const STRETCH: Duration = Duration::from_millis(25);
/// Starts between looks at the time.
const STARTS: u32 = 32;

/// How long the engine has been starting work.
#[derive(Debug)]
pub(super) struct Stretch {
    began: Instant,
    starts: u32,
    over: bool,
}

impl Stretch {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), starts: 0, over: false }
    }

    /// True when something else is to be looked at first. Asked before every start.
    pub(super) fn is_over(&mut self) -> bool {
        self.starts += 1;
        if self.starts.is_multiple_of(STARTS) && !self.over {
            self.over = self.began.elapsed() >= STRETCH;
        }
        self.over
    }
}

/// What runs, for events of this sort.
type Attempts<I> = Running<Kind, Box<Task<I>>, What<I>>;

/// See the module.
pub(super) struct Engine<S: EffectStage> {
    pub(super) spec: StageSpec,
    pub(super) env: Environment,
    pub(super) name: Arc<str>,
    pub(super) cluster_id: Arc<str>,
    pub(super) retry_topic: Arc<str>,
    pub(super) dead_letters: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) desk: Arc<Desk>,
    pub(super) pruner: Pruner,
    pub(super) hands: Arc<Hands<S>>,
    pub(super) running: Attempts<S::Input>,
    /// What ended in one turn; kept for its memory.
    pub(super) done: Vec<(Label<Kind>, Instant, What<S::Input>)>,
    pub(super) tally: Tally,
    pub(super) stretch: Stretch,
    /// When the clock was looked at last, for what ends: the time, and epoch milliseconds.
    pub(super) seen: (Instant, i64),
    /// Counts down from the last attempt that had to wait; see `admit`.
    pub(super) waits: u32,
    /// Tasks of the record that is taken in; kept for its memory.
    pub(super) opening: Tasks,
    /// Tasks that are over; kept for their memory.
    pub(super) spares: Vec<Box<Task<S::Input>>>,
    pub(super) lanes: Lanes,
    pub(super) payloads: HashMap<TaskNo, Payload<S::Input>>,
    pub(super) parked: Parked,
    /// Records on their way to the retry or dead-letter topic.
    pub(super) appends: Arc<Appends>,
    pub(super) guard: Guard,
    /// Tasks of targets that are away whose attempts run.
    pub(super) probing: HashSet<TaskNo>,
    /// Looking what cursors need, and after their targets.
    pub(super) looking: Sparing,
    pub(super) tending: Sparing,
    pub(super) partitions: Partitions,
    pub(super) faulted: BTreeMap<i32, PartitionFault>,
    pub(super) draining: Vec<Draining>,
    pub(super) balance: Balance,
    /// Dead letters written; those of held tasks are not in the balance, for their tasks are still parked.
    pub(super) buried: u64,
    pub(super) counted: Counted,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) supervision: Supervision,
}

impl<S: EffectStage> Engine<S> {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Assigned(assigned) => self.assign(&assigned),
            Event::Records { side, partition, generation, records } => {
                let current = self.partitions.get(&partition).map(|owned| owned.generation);
                if current == Some(generation) {
                    match side {
                        Side::Source => self.take_in(partition, records),
                        Side::Retry => self.index_all(partition, records),
                    }
                }
            }
            Event::Revoked { partitions, deadline, reply } => {
                self.revoke(partitions, deadline, reply);
                // When its time is over, a new assignment of the same partition may follow at once.
                self.finish_drains();
            }
            Event::Faulted { partition, generation, fault } => {
                // The drain of an older assignment must not end this one.
                self.finish_drains();
                // What was found under an older assignment is of no concern.
                if self.partitions.get(&partition).is_none_or(|owned| owned.generation <= generation) {
                    self.faulted.insert(partition, fault);
                }
            }
        }
    }

    fn take_in(&mut self, partition: i32, mut records: RecordBatch) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        self.env.metrics.records_in.with_label_values(&[&*self.name]).inc_by(records.len() as u64);
        let all_new = !owned.closed
            && records.run().is_some_and(|(first, behind)| owned.source.deliver_run(first, behind));
        if !all_new {
            let (count, bytes) = records
                .retain(|offset| !owned.closed && (owned.source.deliver(offset) || owned.recalls(offset)));
            owned.gauge.release(count, bytes);
        }
        owned.queue.push(records);
        owned.admit_delivered();
        self.lanes.admitted(partition, owned.admitted(), self.env.clock.now_ms());
    }

    /// Starts whatever may start: waiting lanes, rounds of intake. Answers whether more could be started at once.
    pub(super) fn pump(&mut self) -> bool {
        self.glance();
        let now = self.seen.1;
        self.lanes.wake(now);
        let starts = self.is_current(now) && self.supervision.paused().is_none();
        self.pump_cursors(now, starts);
        if !starts {
            return false;
        }
        self.stretch = Stretch::new();
        let mut more = self.start_waiting(now);
        let mut number = None;
        while let Some(next) = self.partitions.next_after(number) {
            more |= self.start_intake(next, now);
            number = Some(next);
        }
        more | self.start_waiting(now)
    }

    /// Starts lanes that wait for their turn. Answers whether it left off with some to go.
    fn start_waiting(&mut self, now: i64) -> bool {
        loop {
            if self.stretch.is_over() {
                return true;
            }
            let (concurrency, stage) = (self.spec.options.concurrency, &self.hands.stage);
            let free = (concurrency / PROBES).max(1).saturating_sub(self.probing.len());
            let few = free == 0 || self.lanes.has_line();
            let is_away = |target: &str| matches!(stage.target_state(target), TargetState::Away(_));
            let room = |target: &str| match room(&**stage, concurrency, target, now) {
                Room::AtOnce(_) if few && is_away(target) => Room::OneOfFew { is_free: free > 0 },
                room @ (Room::AtOnce(_) | Room::OneOfFew { .. } | Room::NotBefore(_)) => room,
            };
            self.lanes.call(free);
            let Some(no) = self.lanes.next(concurrency, &room, now) else { return false };
            self.start_attempt(no, now);
        }
    }

    /// Invariant 5 (ownership): work starts only while the poll thread went round within half the session.
    fn is_current(&self, now_ms: i64) -> bool {
        let half = self.env.kafka.session_timeout.as_millis() as i64 / 2;
        now_ms - self.desk.ticked_ms() <= half
    }

    /// Opens the next records of a partition. Answers whether there are more that may be opened now.
    fn start_intake(&mut self, number: i32, now_ms: i64) -> bool {
        let (bound, share) = (self.bound() as u64, self.share());
        let Some(owned) = self.partitions.get_mut(&number) else { return false };
        let idle = !owned.intake && !owned.closed && !owned.queue.is_empty();
        let of_cursors = owned.cursors.as_deref().map_or(0, |own| own.loads.tasks());
        let in_memory = self.lanes.census(number).in_memory;
        if !idle || now_ms < owned.intake_at_ms || in_memory >= bound {
            return false;
        }
        let lone = owned
            .cursors
            .as_deref()
            .and_then(|own| own.lone.target(share, now_ms).filter(|target| !own.table.is_detached(target)));
        if lone.is_some_and(|target| self.lanes.waiting(number, target) >= Lone::ahead(share)) {
            return false;
        }
        let room = usize::try_from(bound - in_memory).unwrap_or(usize::MAX);
        let ahead = match (self.hands.stage.has_priorities(), self.spec.cursors.is_some()) {
            // What is opened without a slot would only be looked at twice.
            (false, _) => 0,
            (true, false) => room,
            // More would bring targets to their shares, and thereby to cursors, that aren't slow at all.
            (true, true) => {
                let in_memory = usize::try_from(in_memory).unwrap_or(usize::MAX);
                share.saturating_sub(in_memory.saturating_sub(of_cursors))
            }
        };
        let slots = self.lanes.free_slots(self.spec.options.concurrency);
        // What ends at once needs no slot for long. Where it could bring a target to a cursor, it isn't counted on.
        let ends_at_once = self.waits == 0 && slots > 0 && self.spec.cursors.is_none();
        let at_once = if ends_at_once { intake::ROUND } else { slots };
        let room = room.min(at_once.max(ahead));
        if room == 0 {
            return false;
        }
        let Some(mut records) = owned.queue.take() else { return false };
        let most = room.min(intake::ROUND);
        let mut known = owned.known(&records, most);
        owned.intake = true;
        let (generation, began) = (owned.generation, Instant::now());
        if known.is_empty() && !owned.backoff.is_waiting() {
            let tight = records.bytes_in_use() > self.spec.options.max_buffered_bytes / TIGHT;
            let mut pass = Pass::new((number, generation), tight, now_ms, began);
            let left = self.take_now(&mut pass, &mut records, most);
            let Some(owned) = self.partitions.get_mut(&number) else { return false };
            if left == Left::Off || owned.closed {
                owned.intake = false;
                if !owned.closed {
                    owned.queue.put_back(records);
                }
                self.taken_in(number, now_ms);
                return self.partitions.get(&number).is_some_and(|owned| !owned.queue.is_empty());
            }
            known = owned.known(&records, most);
        }
        let (hands, label) =
            (Arc::clone(&self.hands), Label { partition: number, generation, kind: Kind::Intake });
        let opening = async move {
            let round = intake::open_round(&*hands.stage, &hands.clock, (records, most), known).await;
            What::Opened(Box::new(round))
        };
        match self.running.start(label, opening) {
            Ok(what) => {
                self.glance();
                self.ended(label, began, what);
                self.partitions.get(&number).is_some_and(|owned| !owned.queue.is_empty())
            }
            Err(_slot) => false,
        }
    }

    /// Tasks of one partition that may wait in memory.
    pub(super) fn bound(&self) -> usize {
        (self.spec.options.max_buffered_records / self.partitions.len().max(1)).max(SHARES)
    }

    /// Fresh tasks of one target that may wait in memory on one partition beside others'; what comes beyond that is a cursor's,
    /// or parked where there are none.
    pub(super) fn share(&self) -> usize {
        (self.bound() / SHARES).max(1)
    }

    fn start_attempt(&mut self, no: TaskNo, now: i64) {
        let Some(known) = self.lanes.known(no) else { return };
        let (partition, target) = (known.partition, Arc::clone(known.target));
        let Some(generation) = self.partitions.get(&partition).map(|owned| owned.generation) else { return };
        let History { attempt, first_failed_at_ms, .. } = self.lanes.history(no).unwrap_or_default();
        let payload = self.payload_for(no);
        if let Payload::Parts(Parts { lane: Some(lane), .. }) = &payload {
            self.learn(no, lane);
        }
        if self.own_cursors(partition).is_some_and(|own| own.loads.is_away(&target)) {
            self.probing.insert(no);
        }
        let began = Instant::now();
        self.hands.stage.starting(&target, now);
        let label = |kind| Label { partition, generation, kind };
        let (label, begun) = match payload {
            Payload::Fresh(mut task) => {
                (task.attempt, task.first_failed_at_ms) = (attempt, first_failed_at_ms);
                let label = label(Kind::Attempt(Some(no)));
                (label, self.running.attempt(label, task))
            }
            Payload::Parts(Parts { record: Some(record), input: Some(input), .. }) => {
                let (record, input) = (record.into(), input.into());
                let label = label(Kind::Attempt(Some(no)));
                let task = Task { record, input, target, attempt, first_failed_at_ms };
                (label, self.running.attempt(label, Box::new(task)))
            }
            Payload::Parts(parts) => {
                let parked_at = self.lanes.place(no).map(|place| (partition, place.offset));
                let loaded = parts.into();
                let job = Job { loaded, target, attempt, first_failed_at_ms, parked_at };
                let work = attempt::load_and_attempt(Arc::clone(&self.hands), job);
                let label = label(Kind::Load(no));
                (label, self.running.start(label, work))
            }
        };
        match begun {
            Ok(what) => {
                self.glance();
                self.ended(label, began, what);
            }
            Err(_slot) => self.occupy(partition),
        }
    }

    /// What is in memory of a task, for an attempt; one that was never attempted is taken out.
    fn payload_for(&mut self, no: TaskNo) -> Payload<S::Input> {
        match self.payloads.entry(no) {
            Entry::Occupied(known) => match known.get() {
                Payload::Parts(parts) => Payload::Parts(parts.clone()),
                Payload::Fresh(_) => known.remove(),
            },
            Entry::Vacant(_) => Payload::Parts(Parts::default()),
        }
    }

    /// Notes that something more runs of a partition.
    pub(super) fn occupy(&mut self, partition: i32) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.jobs += 1;
        }
    }

    /// Runs `work` of a partition; its end is seen in a later turn.
    pub(super) fn spawn(
        &mut self,
        partition: i32,
        work: impl Future<Output = What<S::Input>> + Send + 'static,
    ) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        owned.jobs += 1;
        let label = Label { partition, generation: owned.generation, kind: Kind::Append };
        self.running.keep(label, work);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.partitions.values().any(|owned| owned.jobs > 0)
    }

    pub(super) fn count(&mut self, outcome: &'static str, tasks: u64) {
        self.tally.count(outcome, tasks);
    }

    /// When a timer of a lane fires next, or cursors are looked at again.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let timer = self.lanes.next_due_ms().map(|due_ms| {
            let due = due_ms.saturating_sub(self.env.clock.now_ms());
            Duration::from_millis(u64::try_from(due).unwrap_or(0))
        });
        timer.into_iter().chain(self.looking.wait()).min()
    }
}

/// Whether a target may start one more task. Whatever a stage allows, one leaves half of the slots to the others.
pub(super) fn room<S: EffectStage>(stage: &S, concurrency: usize, target: &str, now_ms: i64) -> Room {
    match stage.not_before(target, now_ms) {
        Some(at_ms) if at_ms > now_ms => Room::NotBefore(at_ms),
        Some(_) | None => Room::AtOnce(stage.target_concurrency(target).min((concurrency / 2).max(1))),
    }
}
