//! The single owner of an effect stage's state: takes events and reports, decides, starts jobs.
//!
//! Nothing here awaits. Decisions about order are in `lanes`, about completion in `offsets`; this file carries
//! them out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::attempt::{self, Job, Payload};
use super::intake;
use super::partition::Partition;
use super::prune::Pruner;
use super::readback::Readback;
use super::report::{Report, What};
use crate::runtime::Environment;
use crate::runtime::consumer::{Desk, Event, Side};
use crate::runtime::control::Supervision;
use crate::runtime::error::PartitionFault;
use crate::runtime::lanes::{Lanes, TaskNo};
use crate::runtime::options::StageSpec;
use crate::runtime::progress::{Balance, Progress};
use crate::runtime::rebalance::Draining;
use crate::runtime::record::Record;
use crate::runtime::stage::EffectStage;
use crate::task;

/// A target's share of a partition's waiting work: one of so many parts.
const SHARES: usize = 4;

/// See the module.
pub(super) struct Engine<S: EffectStage> {
    pub(super) spec: StageSpec,
    pub(super) stage: Arc<S>,
    pub(super) env: Environment,
    pub(super) name: Arc<str>,
    pub(super) retry_topic: Arc<str>,
    pub(super) dead_letters: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) desk: Arc<Desk>,
    pub(super) pruner: Pruner,
    pub(super) readback: Arc<Readback>,
    pub(super) reports: mpsc::Sender<Report<S::Input>>,
    pub(super) lanes: Lanes,
    pub(super) payloads: HashMap<TaskNo, Payload<S::Input>>,
    pub(super) parked_bytes: usize,
    pub(super) partitions: BTreeMap<i32, Partition>,
    pub(super) faulted: BTreeMap<i32, PartitionFault>,
    pub(super) draining: Vec<Draining>,
    pub(super) balance: Balance,
    pub(super) jobs: u64,
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
                        Side::Retry => records.into_iter().for_each(|record| self.index(partition, record)),
                    }
                }
            }
            Event::Revoked { partitions, deadline, reply } => self.revoke(partitions, deadline, reply),
            Event::Faulted { partition, fault } => {
                self.faulted.insert(partition, fault);
            }
        }
    }

    fn take_in(&mut self, partition: i32, records: Vec<Record>) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        self.env.metrics.records_in.with_label_values(&[&*self.name]).inc_by(records.len() as u64);
        for record in records {
            if owned.closed || !(owned.source.deliver(record.offset) || owned.recalls(record.offset)) {
                owned.gauge.release(1, record.bytes());
            } else {
                owned.queue.push_back(record);
            }
        }
        owned.admit_delivered();
        self.lanes.admitted(partition, owned.admitted(), self.env.clock.now_ms());
    }

    /// Starts whatever may start: rounds of intake, attempts.
    pub(super) fn pump(&mut self) {
        let now = self.env.clock.now_ms();
        self.lanes.wake(now);
        if !self.is_current(now) || self.supervision.paused().is_some() {
            return;
        }
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        for number in numbers {
            self.start_intake(number, now);
        }
        let concurrency = self.spec.options.concurrency;
        loop {
            let stage = &self.stage;
            // Whatever a stage allows, one target leaves half of the slots to the others.
            let limit = |target: &str| stage.target_concurrency(target).min((concurrency / 2).max(1));
            let Some(no) = self.lanes.next(concurrency, &limit, now) else { break };
            self.start_attempt(no);
        }
    }

    /// Invariant 5 (ownership): work starts only while the poll thread went round within half the session.
    fn is_current(&self, now_ms: i64) -> bool {
        let half = self.env.kafka.session_timeout.as_millis() as i64 / 2;
        now_ms - self.desk.ticked_ms() <= half
    }

    fn start_intake(&mut self, number: i32, now_ms: i64) {
        let bound = self.bound();
        let Some(owned) = self.partitions.get_mut(&number) else { return };
        let idle = owned.intake.is_none() && !owned.closed && !owned.queue.is_empty();
        if !idle || now_ms < owned.intake_at_ms || self.lanes.census(number).in_memory >= bound as u64 {
            return;
        }
        let round = owned.queue.len().min(intake::ROUND);
        let records: Vec<Record> = owned.queue.drain(..round).collect();
        let offsets = records.iter().map(|record| record.offset);
        let known: Vec<i64> = offsets.filter(|&offset| owned.source.is_complete(offset)).collect();
        let (stage, clock) = (Arc::clone(&self.stage), self.env.clock.clone());
        let (reports, generation) = (self.reports.clone(), owned.generation);
        let job = task::spawn("intake", async move {
            let round = Box::pin(intake::open_round(&*stage, &clock, records, &known)).await;
            let report = Report { partition: number, generation, job: None, what: What::Opened(round) };
            let _ = reports.send(report).await;
        });
        owned.intake = Some(job.abort_handle());
    }

    /// Tasks of one partition that may wait in memory.
    pub(super) fn bound(&self) -> usize {
        (self.spec.options.max_buffered_records / self.partitions.len().max(1)).max(SHARES)
    }

    /// Fresh tasks of one target that may wait in memory on one partition; more are parked.
    pub(super) fn share(&self) -> usize {
        (self.bound() / SHARES).max(1)
    }

    fn start_attempt(&mut self, no: TaskNo) {
        let Some(identity) = self.lanes.identity(no).cloned() else { return };
        let history = self.lanes.history(no).unwrap_or_default();
        let payload = self.payloads.get(&no).cloned().unwrap_or(Payload { record: None, input: None });
        let job = Job {
            payload,
            target: identity.target,
            attempt: history.attempt,
            first_failed_at_ms: history.first_failed_at_ms,
            parked_at: self.lanes.place(no).map(|place| (identity.partition, place.offset)),
        };
        let (stage, clock) = (Arc::clone(&self.stage), self.env.clock.clone());
        let readback = Arc::clone(&self.readback);
        self.spawn(identity.partition, async move {
            let began = Instant::now();
            let (payload, ending) = attempt::attempt(&*stage, &readback, &clock, job).await;
            What::Attempted { task: no, took: began.elapsed(), payload, ending }
        });
    }

    /// Runs `work` as a job of a partition; its end comes back as a report.
    pub(super) fn spawn(
        &mut self,
        partition: i32,
        work: impl Future<Output = What<S::Input>> + Send + 'static,
    ) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        self.jobs += 1;
        let (job, generation, reports) = (self.jobs, owned.generation, self.reports.clone());
        let running = task::spawn("effect job", async move {
            let what = work.await;
            let _ = reports.send(Report { partition, generation, job: Some(job), what }).await;
        });
        owned.jobs.insert(job, running.abort_handle());
    }

    pub(super) fn is_busy(&self) -> bool {
        self.partitions.values().any(|owned| !owned.jobs.is_empty())
    }

    pub(super) fn count(&self, outcome: &str, tasks: u64) {
        self.env.metrics.tasks.with_label_values(&[&*self.name, outcome]).inc_by(tasks);
    }

    /// When a timer of a lane fires next.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = self.lanes.next_due_ms()?.saturating_sub(self.env.clock.now_ms());
        Some(Duration::from_millis(u64::try_from(due).unwrap_or(0)))
    }
}

impl<S: EffectStage> Drop for Engine<S> {
    /// Dropped without a drain (the process is on its way out, or a test cuts it off): nothing may go on.
    fn drop(&mut self) {
        for owned in self.partitions.values_mut() {
            owned.abort();
        }
    }
}
