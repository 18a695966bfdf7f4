//! What becomes of work that ended: outcomes to offsets, by exhaustive match.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::admit::detach;
use super::attempt::{Ending, Loaded, Parts, Payload};
use super::engine::Engine;
use super::partition::Partition;
use super::report::{Aside, Attempted, Kind, What};
use super::running::Label;
use crate::runtime::error::PartitionFault;
use crate::runtime::lanes::{Attempt, Identity, Place, TaskNo, Vacated};
use crate::runtime::outcome::{ErrorClass, Failure, Outcome, SkipReason};
use crate::runtime::producer::{Delivered, ProduceError};
use crate::runtime::record::Record;
use crate::runtime::stage::EffectStage;

/// Pause before an attempt that couldn't begin is tried again.
const NEVER_BEGAN: Duration = Duration::from_secs(1);
/// When a held task is due: never, until somebody decides.
pub(super) const HELD_MS: i64 = i64::MAX;

impl<S: EffectStage> Engine<S> {
    /// Polls some of what was woken, and carries out what ended. Answers whether there is more to poll.
    pub(super) fn turn(&mut self) -> bool {
        let mut done = std::mem::take(&mut self.done);
        let more = self.running.turn(&mut done);
        self.glance();
        for (label, began, what) in done.drain(..) {
            if let (Some(owned), Kind::Attempt(_) | Kind::Load(_) | Kind::Append | Kind::Record(_)) =
                (self.partitions.get_mut(&label.partition), label.kind)
                && owned.generation == label.generation
            {
                owned.jobs -= 1;
            }
            self.ended(label, began, what);
            self.store_at_last(label.partition);
            // Work may have started in the meantime (an append after an attempt), so look again.
            if self.partitions.get(&label.partition).is_some_and(|owned| owned.jobs == 0) {
                for drain in &mut self.draining {
                    drain.idle(label.partition);
                }
            }
        }
        self.done = done;
        self.partitions.values_mut().for_each(Partition::note_ended);
        more
    }

    /// Looks at the clock once for much that ended.
    pub(super) fn glance(&mut self) {
        self.seen = (Instant::now(), self.env.clock.now_ms());
    }

    /// Carries out what became of some work.
    pub(super) fn ended(&mut self, label: Label<Kind>, began: Instant, what: What<S::Input>) {
        let Label { partition, generation, kind } = label;
        if let Kind::Attempt(Some(no)) | Kind::Load(no) = kind
            && !self.probing.is_empty()
        {
            self.probing.remove(&no);
        }
        if self.partitions.get(&partition).is_none_or(|owned| owned.generation != generation) {
            return;
        }
        match (what, kind) {
            (What::Done { kind, written_ms, spent }, Kind::Attempt(Some(no)) | Kind::Load(no)) => {
                self.spare(spent);
                self.tally.took(kind, self.seen.0.saturating_duration_since(began), 1);
                self.balance.done += 1;
                self.end(partition, no, "done", written_ms);
            }
            (What::Opened(round), _) => self.on_opened(partition, *round, began),
            (What::Attempted(attempted), Kind::Attempt(Some(no)) | Kind::Load(no)) => {
                let kind = self.kind(&attempted.loaded);
                self.tally.took(kind, self.seen.0.saturating_duration_since(began), 1);
                self.on_attempted(partition, no, *attempted, kind);
            }
            (What::Answered(owing), Kind::Attempt(Some(no)) | Kind::Load(no)) => {
                let kind = self.hands.stage.kind(&owing.attempt.task.input);
                self.tally.took(kind, self.seen.0.saturating_duration_since(began), 1);
                self.await_record(partition, no, *owing);
            }
            (What::Recorded(recorded), Kind::Record(no)) => self.on_recorded(partition, no, *recorded),
            (What::Done { .. } | What::Attempted(_) | What::Answered(_) | What::Recorded(_), _) => {
                tracing::error!(stage = %self.name, partition, "an attempt ended that belongs to no task");
            }
            (What::Cursors(told), _) => self.on_cursors(partition, *told),
            (What::Reread(reread), _) => self.on_reread(partition, *reread),
            (What::PutAside { what, offset, result }, _) => {
                self.on_put_aside(partition, offset, what, result);
            }
            (What::NotGivenUp { offset, why }, _) => {
                let (topic, why) = (self.spec.source.clone(), why.to_string());
                self.stop(partition, PartitionFault::Fatal { topic, partition, offset, why });
            }
            (What::Unfolded(unfolded), _) => self.on_unfolded(partition, *unfolded),
        }
    }

    /// What kind of thing an attempt was at, as a metric label.
    pub(super) fn kind(&self, loaded: &Loaded<S::Input>) -> &'static str {
        loaded.input.as_ref().map_or("other", |input| self.hands.stage.kind(input))
    }

    pub(super) fn on_attempted(
        &mut self,
        partition: i32,
        no: TaskNo,
        Attempted { loaded, ending }: Attempted<S::Input>,
        kind: &str,
    ) {
        let written_ms = loaded.record.as_ref().and_then(|record| record.timestamp_ms);
        let outcome = match ending {
            Ending::NeverBegan(why) => {
                tracing::debug!(stage = %self.name, partition, %why, "an attempt could not begin");
                let now = self.env.clock.now_ms();
                let until = now + NEVER_BEGAN.as_millis() as i64;
                self.remember(no, loaded);
                self.lanes.rest(no, until, Attempt::NeverBegan, now);
                return;
            }
            Ending::Ran(outcome) => outcome,
        };
        match outcome {
            Outcome::Done => {
                self.balance.done += 1;
                self.end(partition, no, "done", written_ms);
            }
            Outcome::Skipped(reason) => self.end_skipped(partition, no, reason, written_ms),
            Outcome::Handed(_cursor) => {
                self.balance.handed += 1;
                self.end(partition, no, "handed", written_ms);
            }
            Outcome::Dead(why) => {
                self.failed(kind, &why);
                self.remember(no, loaded);
                self.give_up(partition, no, &why);
            }
            Outcome::Postponed(why) => {
                self.failed(kind, &why);
                self.remember(no, loaded);
                self.postpone(partition, no);
            }
            Outcome::Retry { after, why } => {
                self.failed(kind, &why);
                self.remember(no, loaded);
                if self.is_held_back(partition, no) {
                    return;
                }
                let now = self.env.clock.now_ms();
                let until = now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
                let closed = self.partitions.get(&partition).is_some_and(|owned| owned.closed);
                // A closed partition starts nothing: the task is left open for the next owner.
                let is_final = self.spec.options.not_retryable.contains(&why.class).then(|| why.clone());
                let given_up = is_final.or_else(|| self.too_old(no, until, &why, now));
                if let Some(why) = given_up.filter(|_| !closed) {
                    self.give_up(partition, no, &why);
                } else if after <= self.spec.options.in_place_limit || closed {
                    self.lanes.rest(no, until, Attempt::Failed, now);
                } else {
                    self.park(no, until, why, now);
                }
            }
            Outcome::Fatal(why) => {
                self.failed(kind, &why);
                self.remember(no, loaded);
                let offset = self.lanes.offset(no).unwrap_or(-1);
                self.lanes.rest(no, i64::MAX, Attempt::Failed, self.env.clock.now_ms());
                let topic = self.spec.source.clone();
                self.stop(
                    partition,
                    PartitionFault::Fatal { topic, partition, offset, why: why.to_string() },
                );
            }
        }
    }

    /// The attempt doesn't count; what was never tried otherwise is its cursor's while the target isn't served, or can't be
    /// reached and there is no room to keep it.
    fn postpone(&mut self, partition: i32, no: TaskNo) {
        let now = self.env.clock.now_ms();
        self.lanes.rest(no, now + NEVER_BEGAN.as_millis() as i64, Attempt::NeverBegan, now);
        let never_tried = self.lanes.history(no).is_some_and(|history| history.attempt == 0);
        if never_tried && self.lanes.place(no).is_none() && !self.is_held_back(partition, no) {
            self.shed_probe(partition, no);
        }
    }

    /// Keeps what an attempt loaded, for the next one in place.
    fn remember(&mut self, no: TaskNo, mut loaded: Loaded<S::Input>) {
        // It may be kept for long: not with the whole batch that it came in.
        loaded.record.iter_mut().for_each(detach);
        if let Some(lane) = &loaded.lane {
            self.learn(no, lane);
        }
        if self.lanes.place(no).is_some() {
            // When a parked one has rested in place it counts as parked again, and its lane's name is forgotten.
            loaded.lane = self.lanes.known(no).and_then(|known| known.lane.map(Into::into));
        }
        let parts = Parts::from(loaded);
        if let Some(record) = &parts.record
            && self.lanes.place(no).is_some()
            && self.payloads.get(&no).is_none_or(|known| known.record().is_none())
        {
            // It counts while it is here, even beyond the bound: running tasks are bounded by their number.
            self.parked.bytes += record.bytes();
        }
        self.payloads.insert(no, Payload::Parts(parts));
        let (partition, bytes) = (self.lanes.known(no).map(|known| known.partition), self.bytes_of(no));
        if let Some(own) = partition.and_then(|partition| self.cursors_of(partition)) {
            own.weigh(no, bytes);
        }
    }

    /// What the record of a task takes in memory, if it is there.
    pub(super) fn bytes_of(&self, no: TaskNo) -> usize {
        bytes_of(&self.payloads, no)
    }

    fn park(&mut self, no: TaskNo, due_ms: i64, why: Failure, now: i64) {
        let step = self.lanes.history(no).unwrap_or_default().attempt.to_string();
        self.env.metrics.retry_parked.with_label_values(&[&*self.name, &step]).inc();
        let behind = self.lanes.park(no, now);
        self.put_parked(no, due_ms, Some(why));
        for follower in behind {
            self.put_parked(follower, now, None);
        }
    }

    /// A task is dead-lettered.
    fn give_up(&mut self, partition: i32, no: TaskNo, why: &Failure) {
        self.lanes.bury(no);
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.dying.begin(no);
        }
        self.put_dead(no, why);
    }

    /// The task lies in the dead-letter topic, and begins anew at the place `back` if it was taken back from there already.
    fn bury(&mut self, partition: i32, no: TaskNo, back: Option<i64>) {
        let known = self.lanes.known(no).zip(back).map(|(known, place)| {
            (known.lane.map(Arc::<str>::from), Arc::clone(known.target), known.offset, known.priority, place)
        });
        self.balance.dead += 1;
        let record = self.payloads.get(&no).and_then(Payload::record);
        let written_ms = record.and_then(|record| record.timestamp_ms);
        self.end(partition, no, "dead", written_ms);
        // It ran, so that the name of its lane is known.
        if let Some((Some(lane), target, offset, priority, place)) = known {
            let identity = Identity { partition, lane: &lane, target: (&target).into(), offset, priority };
            self.index_redriven(identity, place);
        }
    }

    /// Rule 7: the task lies in the dead-letter topic; its place at the head of its lane stays taken until it is redriven or
    /// an operator lets the lane go on.
    fn hold(&mut self, no: TaskNo, class: ErrorClass) {
        let behind = self.lanes.park(no, self.env.clock.now_ms());
        self.put_parked(no, HELD_MS, Some(Failure::new(class, "in the dead-letter topic; its lane is held")));
        let now = self.env.clock.now_ms();
        for follower in behind {
            self.put_parked(follower, now, None);
        }
    }

    /// Rule 7: why a task whose next attempt is at `until_ms` is given up before its attempts are used up.
    fn too_old(&self, no: TaskNo, until_ms: i64, why: &Failure, now: i64) -> Option<Failure> {
        let limit = self.spec.options.age_limit?;
        let first = self.lanes.history(no)?.first_failed_at_ms.unwrap_or(now);
        let age = u128::from(until_ms.saturating_sub(first).unsigned_abs());
        (age > limit.as_millis()).then(|| {
            let message = format!("given up after {limit:?}: {}", why.message);
            Failure::new(ErrorClass::Exhausted, message).with_answer(why.answered)
        })
    }

    fn on_put_aside(
        &mut self,
        partition: i32,
        offset: i64,
        what: Aside,
        result: Result<Delivered, ProduceError>,
    ) {
        let delivered = match result {
            Ok(delivered) => delivered,
            Err(error) => {
                let topic = self.spec.source.clone();
                let why = error.to_string();
                self.stop(partition, PartitionFault::CannotPutAside { topic, partition, offset, why });
                return;
            }
        };
        if delivered.resent && matches!(what, Aside::Parked { .. }) {
            self.void_copies(partition);
        }
        match what {
            // A copy of it changes nothing.
            Aside::Marker => {}
            Aside::Parked { task: no, due_ms } => {
                if let Some(owned) = self.partitions.get_mut(&partition)
                    && let back @ Some(_) = owned.dying.end(no)
                {
                    // Its letter was taken back before its lane was held.
                    owned.place_complete(self.lanes.known(no).map(|known| known.target), delivered.offset);
                    return self.bury(partition, no, back);
                }
                let record = self.parts_of(no).and_then(|parts| parts.record);
                let lane = self.lanes.known(no).and_then(|known| known.lane.map(Into::into));
                self.forget(no);
                let (place, target) = (Place { offset: delivered.offset, due_ms }, self.target_of(no));
                let vacated = self.lanes.parked(no, place, self.env.clock.now_ms());
                self.vacate(partition, (no, target, offset), vacated, false);
                self.note_placed(partition, no);
                if let (Some(record), Some(lane)) = (record, lane) {
                    self.keep(no, record.bytes(), || (record, lane));
                }
                self.shed();
            }
            Aside::DeadTask { task: no, class } => {
                self.dead_lettered(class.as_str());
                let Some(owned) = self.partitions.get_mut(&partition) else { return };
                if self.spec.options.holds_lanes && !owned.dying.is_back(no) {
                    // Until that is acknowledged its letter may still be taken back.
                    self.hold(no, class);
                } else {
                    let back = owned.dying.end(no);
                    self.bury(partition, no, back);
                }
            }
            Aside::DeadRecord { bytes, class } => {
                self.balance.dead += 1;
                self.dead_lettered(class.as_str());
                self.count("dead", 1);
                if let Some(owned) = self.partitions.get_mut(&partition) {
                    owned.records_moving -= 1;
                }
                self.complete_record(partition, offset, bytes);
            }
            Aside::Foreign { place } => {
                self.balance.dead += 1;
                self.dead_lettered("decode");
                self.count("dead", 1);
                if let Some(owned) = self.partitions.get_mut(&partition) {
                    owned.records_moving -= 1;
                    owned.retry.complete(place);
                }
            }
        }
    }

    /// A task ended for good.
    pub(super) fn end(&mut self, partition: i32, no: TaskNo, outcome: &'static str, written_ms: Option<i64>) {
        let now = self.seen.1;
        self.count(outcome, 1);
        self.tally.complete(written_ms, now);
        let offset = self.lanes.offset(no).unwrap_or(-1);
        if !self.payloads.is_empty() {
            self.forget(no);
        }
        let target = self.target_of(no);
        let vacated = self.lanes.complete(no, now);
        self.vacate(partition, (no, target, offset), vacated, outcome == "done");
    }

    /// A task ended without an effect.
    pub(super) fn end_skipped(
        &mut self,
        partition: i32,
        no: TaskNo,
        reason: SkipReason,
        written_ms: Option<i64>,
    ) {
        self.glance();
        self.balance.skipped += 1;
        self.tally.skipped(reason);
        self.end(partition, no, "skipped", written_ms);
    }

    /// The target of a task, where targets may have cursors.
    fn target_of(&self, no: TaskNo) -> Option<Arc<str>> {
        self.spec.cursors.as_ref()?;
        self.lanes.known(no).map(|known| Arc::clone(known.target))
    }

    fn vacate(
        &mut self,
        partition: i32,
        (no, target, offset): (TaskNo, Option<Arc<str>>, i64),
        vacated: Vacated,
        took_effect: bool,
    ) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.vacate((no, target.as_ref(), offset), vacated, took_effect);
        }
    }

    fn failed(&self, kind: &str, why: &Failure) {
        let labels = [&*self.name, kind, why.class.as_str()];
        self.env.metrics.event_handler_errors.with_label_values(&labels).inc();
    }

    pub(super) fn dead_lettered(&mut self, class: &str) {
        self.buried += 1;
        self.env.metrics.dead_letters.with_label_values(&[&*self.name, class]).inc();
    }
}

/// The same, of these.
pub(super) fn bytes_of<I>(payloads: &HashMap<TaskNo, Payload<I>>, no: TaskNo) -> usize {
    payloads.get(&no).and_then(Payload::record).map_or(0, Record::bytes)
}
