//! What becomes of a job's result: outcomes to offsets, by exhaustive match.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Ending, Payload};
use super::engine::Engine;
use super::intake::{self, Opened, Round};
use super::report::{Aside, Report, What};
use crate::runtime::duplicates::{Seen, Verdict};
use crate::runtime::error::PartitionFault;
use crate::runtime::lanes::{Admitted, Attempt, Identity, Place, TaskNo, Vacated};
use crate::runtime::outcome::{ErrorClass, Failure, Outcome, SkipReason};
use crate::runtime::producer::{Delivered, ProduceError};
use crate::runtime::progress::PartitionState;
use crate::runtime::record::Record;
use crate::runtime::stage::{EffectStage, TaskSpec, Tasks};

/// Pause before an attempt that couldn't begin is tried again.
const NEVER_BEGAN: Duration = Duration::from_secs(1);

impl<S: EffectStage> Engine<S> {
    pub(super) fn on_report(&mut self, report: Report<S::Input>) {
        let Report { partition, generation, job, what } = report;
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.generation != generation {
            return;
        }
        if let Some(job) = job {
            owned.jobs.remove(&job);
        }
        match what {
            What::Opened(round) => self.on_opened(partition, round),
            What::Attempted { task, took, payload, ending } => {
                let kind = payload.input.as_ref().map_or("other", |input| self.stage.kind(input));
                let duration = &self.env.metrics.event_processing_duration;
                duration.with_label_values(&[&*self.name, kind]).observe(took.as_secs_f64());
                self.on_attempted(partition, task, payload, ending, kind);
            }
            What::PutAside { what, offset, result } => self.on_put_aside(partition, offset, what, result),
            What::Unfolded { place, skipped, dead, result } => {
                self.on_unfolded(partition, place, skipped, dead, result);
            }
        }
        // Work may have started in the meantime (an append after an attempt), so look again.
        if self.partitions.get(&partition).is_some_and(|owned| owned.jobs.is_empty()) {
            for drain in &mut self.draining {
                drain.idle(partition);
            }
        }
    }

    fn on_opened(&mut self, partition: i32, round: Round<S::Input>) {
        let now = self.env.clock.now_ms();
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.closed {
            return;
        }
        owned.intake = None;
        for record in round.rest.into_iter().rev() {
            owned.queue.push_front(record);
        }
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
        for opened in round.opened {
            let offset = opened.record.offset;
            self.admit(partition, opened, &round.tasks);
            if let Some(owned) = self.partitions.get_mut(&partition) {
                owned.admit(offset);
                self.lanes.admitted(partition, owned.admitted(), now);
            }
        }
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.admit_delivered();
            self.lanes.admitted(partition, owned.admitted(), now);
        }
    }

    fn admit(&mut self, partition: i32, opened: Opened<S::Input>, tasks: &Tasks) {
        let Opened { record, what } = opened;
        match what {
            intake::What::Tasks(input, opened, seen) => match self.verdict(partition, record.offset, seen) {
                Verdict::New => {
                    let specs = opened.filter_map(|at| tasks.get(at));
                    self.admit_tasks(partition, &record, &input, specs);
                }
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
    }

    fn verdict(&mut self, partition: i32, offset: i64, seen: Option<Seen>) -> Verdict {
        let owned = self.partitions.get_mut(&partition);
        owned.zip(seen).map_or(Verdict::New, |(owned, seen)| owned.duplicates.see(offset, seen))
    }

    fn skip(&mut self, partition: i32, record: &Record, reason: SkipReason) {
        tracing::trace!(stage = %self.name, partition, offset = record.offset, reason = reason.as_str(), "skipped");
        self.balance.opened += 1;
        self.balance.skipped += 1;
        self.count("opened", 1);
        self.count("skipped", 1);
        self.complete_record(partition, record.offset, record.bytes());
    }

    fn refuse(&mut self, record: &Record, why: &Failure) {
        self.balance.opened += 1;
        self.count("opened", 1);
        self.put_dead_record(record, why);
    }

    fn admit_tasks<'t>(
        &mut self,
        partition: i32,
        record: &Arc<Record>,
        input: &Arc<S::Input>,
        specs: impl Iterator<Item = TaskSpec<'t>>,
    ) {
        let (now, share) = (self.env.clock.now_ms(), self.share());
        let mut to_park = Vec::new();
        let mut open = 0;
        for TaskSpec { lane, target, priority } in specs {
            let (lane, target) = (lane.into(), Arc::clone(target));
            let identity = Identity { partition, lane, target, offset: record.offset, priority };
            let no = match self.lanes.fresh(identity, share, now) {
                Admitted::AlreadyParked => continue,
                Admitted::Queued(no) => no,
                Admitted::Park(no) => {
                    to_park.push(no);
                    no
                }
            };
            open += 1;
            let payload = Payload { record: Some(Arc::clone(record)), input: Some(Arc::clone(input)) };
            self.payloads.insert(no, payload);
        }
        self.balance.opened += open as u64;
        self.count("opened", open as u64);
        if open == 0 {
            self.complete_record(partition, record.offset, record.bytes());
        } else if let Some(owned) = self.partitions.get_mut(&partition) {
            let waiting = super::partition::OpenRecord { tasks: open, bytes: record.bytes() };
            owned.open.insert(record.offset, waiting);
        }
        for no in to_park {
            self.put_parked(no, now, None);
        }
    }

    fn complete_record(&mut self, partition: i32, offset: i64, bytes: usize) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.record_complete(offset, bytes);
        }
        let now = self.env.clock.now_ms() as f64 / 1_000.0;
        self.env.metrics.last_processed_timestamp.with_label_values(&[&*self.name]).set(now);
    }

    fn on_attempted(
        &mut self,
        partition: i32,
        no: TaskNo,
        payload: Payload<S::Input>,
        ending: Ending,
        kind: &str,
    ) {
        let now = self.env.clock.now_ms();
        self.remember(no, payload);
        let closed = self.partitions.get(&partition).is_some_and(|owned| owned.closed);
        match ending {
            Ending::NeverBegan(why) => {
                tracing::debug!(stage = %self.name, partition, %why, "an attempt could not begin");
                let until = now + NEVER_BEGAN.as_millis() as i64;
                self.lanes.rest(no, until, Attempt::NeverBegan, now);
            }
            Ending::Ran(Outcome::Done) => {
                self.balance.done += 1;
                self.end(partition, no, "done");
            }
            Ending::Ran(Outcome::Skipped(_reason)) => {
                self.balance.skipped += 1;
                self.end(partition, no, "skipped");
            }
            Ending::Ran(Outcome::Handed(_cursor)) => {
                self.balance.handed += 1;
                self.end(partition, no, "handed");
            }
            Ending::Ran(Outcome::Dead(why)) => {
                self.failed(kind, &why);
                self.lanes.bury(no);
                self.put_dead(no, &why);
            }
            Ending::Ran(Outcome::Retry { after, why }) => {
                self.failed(kind, &why);
                let until = now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
                // A closed partition starts nothing: the task is left open for the next owner.
                if after <= self.spec.options.in_place_limit || closed {
                    self.lanes.rest(no, until, Attempt::Failed, now);
                } else {
                    self.park(no, until, why, now);
                }
            }
            Ending::Ran(Outcome::Fatal(why)) => {
                self.failed(kind, &why);
                let offset = self.lanes.identity(no).map_or(-1, |identity| identity.offset);
                self.lanes.rest(no, i64::MAX, Attempt::Failed, now);
                let topic = self.spec.source.clone();
                self.stop(
                    partition,
                    PartitionFault::Fatal { topic, partition, offset, why: why.to_string() },
                );
            }
        }
    }

    /// Keeps what an attempt loaded, for the next one in place.
    fn remember(&mut self, no: TaskNo, payload: Payload<S::Input>) {
        if let Some(record) = &payload.record
            && self.lanes.place(no).is_some()
            && self.payloads.get(&no).is_none_or(|known| known.record.is_none())
        {
            // It counts while it is here, even beyond the bound: running tasks are bounded by their number.
            self.parked_bytes += record.bytes();
        }
        self.payloads.insert(no, payload);
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
        match what {
            Aside::Marker => {}
            Aside::Parked { task: no, due_ms } => {
                let record = self.payloads.get(&no).and_then(|payload| payload.record.clone());
                self.forget(no);
                let place = Place { offset: delivered.offset, due_ms };
                let vacated = self.lanes.parked(no, place, self.env.clock.now_ms());
                self.vacate(partition, offset, vacated);
                self.note_placed(partition, no, place.offset);
                if let Some(record) = record {
                    self.keep(no, record);
                }
            }
            Aside::DeadTask { task: no, class } => {
                self.balance.dead += 1;
                self.dead_lettered(class.as_str());
                self.end(partition, no, "dead");
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
    pub(super) fn end(&mut self, partition: i32, no: TaskNo, outcome: &str) {
        let now = self.env.clock.now_ms();
        self.count(outcome, 1);
        self.env.metrics.last_processed_timestamp.with_label_values(&[&*self.name]).set(now as f64 / 1_000.0);
        let offset = self.lanes.identity(no).map_or(-1, |identity| identity.offset);
        let record = self.payloads.get(&no).and_then(|payload| payload.record.as_ref());
        if let Some(written_ms) = record.and_then(|record| record.timestamp_ms) {
            let end_to_end = self.env.metrics.event_end_to_end.with_label_values(&[&*self.name]);
            end_to_end.observe((now - written_ms).max(0) as f64 / 1_000.0);
        }
        self.forget(no);
        let vacated = self.lanes.complete(no, now);
        self.vacate(partition, offset, vacated);
    }

    fn vacate(&mut self, partition: i32, offset: i64, vacated: Vacated) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        for place in vacated.places {
            owned.place_complete(place);
        }
        if vacated.source {
            owned.task_complete(offset);
        }
    }

    fn failed(&self, kind: &str, why: &Failure) {
        let labels = [&*self.name, kind, why.class.as_str()];
        self.env.metrics.event_handler_errors.with_label_values(&labels).inc();
    }

    pub(super) fn dead_lettered(&self, class: &str) {
        self.env.metrics.dead_letters.with_label_values(&[&*self.name, class]).inc();
    }
}
