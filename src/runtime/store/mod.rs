//! Runs a store stage: one worker per partition, one batch in flight per worker.
//!
//! ```text
//! poll thread ──► inbox of the partition ──► worker: position known? ──► store (effects + position) ──► commit
//! ```
//!
//! The engine task owns the partitions' state and never waits for a worker. Kafka's committed position follows
//! the stored one, which is the truth.

mod guard;
mod heed;
mod inbox;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use self::inbox::Inbox;
use self::worker::{Report, What, Worker};
use super::Environment;
use super::consumer::{self, Assigned, Desk, Event, Gauge, Position, Side, Start};
use super::control::Supervision;
use super::error::{Ended, PartitionFault, RunError};
use super::leave::{leave, orphaned};
use super::options::StageSpec;
use super::outcome::SkipReason;
use super::progress::{Balance, PartitionProgress, PartitionState, Progress};
use super::rebalance::Draining;
use super::record::SourcePartition;
use super::series;
use super::stage::StoreStage;
use super::watchdog::Watchdog;
use crate::task;

/// How often positions are handed to the poll thread and progress is published.
const TICK: Duration = Duration::from_millis(200);
/// Reports that may wait for the engine.
const REPORTS: usize = 64;

/// Runs `stage` as a member of its group until `stop`, then drains, commits and leaves.
///
/// # Errors
/// When the stage can't start (see [`RunError`]), or the engine breaks.
pub async fn run_store_stage<S: StoreStage>(
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
    progress: watch::Sender<Progress>,
) -> Result<Ended, RunError> {
    series::initialise(&env.metrics, &spec);
    let joined = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Ended { drained: true }),
        joined = consumer::join(&spec, &env.kafka, &env.metrics, &env.clock) => joined?,
    };
    let consumer::Member { mut events, desk, cluster_id, mut left } = joined;
    let (reports_in, mut reports) = mpsc::channel(REPORTS);
    let supervision = Supervision::new(&spec.stage, spec.control.clone(), spec.options.breaker);
    let (paused_in, _) = watch::channel(supervision.paused().is_some());
    let watchdog = Watchdog::new(spec.options.watchdog.for_handlers(spec.options.timeout, Duration::ZERO));
    let mut engine = Engine {
        watchdog,
        spec,
        stage,
        env,
        cluster_id,
        desk: Arc::clone(&desk),
        reports: reports_in,
        partitions: BTreeMap::new(),
        faulted: BTreeMap::new(),
        draining: Vec::new(),
        balance: Balance::default(),
        progress,
        supervision,
        paused: paused_in,
    };
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            ended = &mut left => return Err(orphaned(&engine.spec.stage, ended)),
            Some(event) = events.recv() => engine.on_event(event),
            Some(report) = reports.recv() => engine.on_report(report),
            _ = tick.tick() => engine.on_tick(),
        }
        engine.finish_drains();
    }
    let deadline = tokio::time::Instant::now() + engine.spec.options.shutdown_drain;
    engine.stop_all();
    while engine.is_busy() {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => break,
            Some(event) = events.recv() => engine.on_event_while_stopping(event),
            Some(report) = reports.recv() => engine.on_report(report),
        }
        engine.finish_drains();
    }
    let drained = !engine.is_busy();
    engine.abort_all();
    engine.commit();
    engine.publish(false);
    let committed = leave(&desk, events, left).await;
    Ok(Ended { drained: drained && committed })
}

/// What is known of an assigned partition.
struct Partition {
    generation: u64,
    inbox: Arc<Inbox>,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
    abort: AbortHandle,
    ended: bool,
    /// Taken in and not reported yet.
    in_flight: u64,
    /// Everything below is stored (or was committed in Kafka before).
    position: i64,
    /// True once the stored position is known, so that Kafka's may follow it.
    located: bool,
    state: PartitionState,
}

struct Engine<S> {
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    cluster_id: Arc<str>,
    desk: Arc<Desk>,
    reports: mpsc::Sender<Report>,
    partitions: BTreeMap<i32, Partition>,
    faulted: BTreeMap<i32, PartitionFault>,
    draining: Vec<Draining>,
    balance: Balance,
    progress: watch::Sender<Progress>,
    supervision: Supervision,
    watchdog: Watchdog,
    /// Tells the workers whether they may start a batch.
    paused: watch::Sender<bool>,
}

impl<S: StoreStage> Engine<S> {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Assigned(assigned) => self.assign(assigned),
            Event::Records { partition, generation, records, side: _ } => {
                let Some(owned) = self.partitions.get_mut(&partition) else { return };
                if owned.generation != generation {
                    return;
                }
                let count = records.len() as u64;
                owned.in_flight += count;
                self.balance.opened += count;
                self.balance.in_flight += count;
                self.env.metrics.records_in.with_label_values(&[self.stage.name()]).inc_by(count);
                self.env.metrics.tasks.with_label_values(&[self.stage.name(), "opened"]).inc_by(count);
                owned.inbox.put(records);
            }
            Event::Revoked { partitions, deadline, reply } => self.revoke(partitions, deadline, reply),
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

    /// While stopping nothing new is taken up, but a revoke still gets its answer.
    fn on_event_while_stopping(&mut self, event: Event) {
        match event {
            Event::Revoked { .. } => self.on_event(event),
            Event::Assigned(_) | Event::Records { .. } | Event::Faulted { .. } => {}
        }
    }

    fn assign(&mut self, assigned: Assigned) {
        // The poll thread waits no longer for the drain of an older assignment, which must not end this one.
        self.finish_drains();
        self.faulted.remove(&assigned.partition);
        let inbox = Arc::new(Inbox::default());
        let stop = CancellationToken::new();
        let worker = Worker {
            stage: Arc::clone(&self.stage),
            at: SourcePartition {
                cluster_id: Arc::clone(&self.cluster_id),
                topic: self.spec.source.as_str().into(),
                topic_id: self.spec.source.as_str().into(),
                partition: assigned.partition,
            },
            assigned: assigned.clone(),
            inbox: Arc::clone(&inbox),
            gauge: Arc::clone(&assigned.gauge),
            batch_records: self.spec.options.batch_records,
            batch_bytes: self.spec.options.batch_bytes,
            gather: self.spec.options.gather,
            timeout: self.spec.options.timeout,
            reports: self.reports.clone(),
            stop: stop.clone(),
            paused: self.paused.subscribe(),
            clock: self.env.clock.clone(),
        };
        let abort = task::spawn("store partition", worker.run()).abort_handle();
        let partition = Partition {
            generation: assigned.generation,
            inbox,
            gauge: assigned.gauge,
            stop,
            abort,
            ended: false,
            in_flight: 0,
            position: assigned.source.position,
            located: false,
            state: PartitionState::Starting,
        };
        if let Some(older) = self.partitions.insert(assigned.partition, partition) {
            self.give_up(older);
        }
    }

    /// Invariant 5 (ownership): a report of an older assignment is dropped.
    fn on_report(&mut self, report: Report) {
        let Some(owned) = self.partitions.get_mut(&report.partition) else { return };
        if owned.generation != report.generation {
            return;
        }
        match report.what {
            What::Located { position, from } => {
                owned.located = true;
                owned.position = position.unwrap_or(owned.position).max(owned.position);
                owned.state = PartitionState::Flowing;
                if let Some(from) = from {
                    owned.position = from;
                }
                let (partition, generation) = (report.partition, report.generation);
                self.desk.start(Start { partition, generation, from, source: true });
            }
            What::Dropped { records, position } => {
                owned.in_flight -= records;
                owned.position = position.unwrap_or(0).max(owned.position);
                self.balance.in_flight -= records;
                self.balance.skipped += records;
                self.count("skipped", records);
                self.count_skipped(SkipReason::Duplicate, records);
            }
            What::Stored { next_offset, records, stored, written_ms } => {
                owned.in_flight -= records;
                owned.position = next_offset;
                self.settle(records, &stored);
                let now = self.env.clock.now_ms();
                let end_to_end = self.env.metrics.event_end_to_end.with_label_values(&[self.stage.name()]);
                for written in written_ms {
                    end_to_end.observe((now - written).max(0) as f64 / 1_000.0);
                }
            }
            What::Waiting(Some(why)) => owned.state = PartitionState::Waiting(why),
            What::Waiting(None) => owned.state = PartitionState::Flowing,
            What::Fault(fault) => {
                owned.state = PartitionState::Stopped(fault);
                self.desk.stop(report.partition, report.generation);
            }
            What::MovedBack => self.read_again(report.partition, None),
            What::Ended => {
                owned.ended = true;
                for drain in &mut self.draining {
                    drain.idle(report.partition);
                }
            }
        }
    }

    fn count_skipped(&self, reason: SkipReason, records: u64) {
        let labels = [self.stage.name(), reason.as_str()];
        self.env.metrics.tasks_skipped.with_label_values(&labels).inc_by(records);
    }

    fn settle(&mut self, records: u64, stored: &super::Stored) {
        let skipped: u64 = stored.skipped.iter().map(|(_, count)| count).sum();
        let dead: u64 = stored.dead.iter().map(|(_, count)| count).sum();
        // A stage that miscounts must not unbalance the books: the rest counts as done.
        let done = records.saturating_sub(skipped + dead);
        self.balance.in_flight -= records;
        self.balance.done += done;
        self.balance.skipped += records.min(skipped);
        self.balance.dead += records.min(skipped + dead) - records.min(skipped);
        for (outcome, count) in [("done", done), ("skipped", skipped), ("dead", dead)] {
            self.count(outcome, count);
        }
        for (reason, count) in &stored.skipped {
            self.count_skipped(*reason, *count);
        }
        let metrics = &self.env.metrics;
        for (class, count) in &stored.dead {
            metrics.dead_letters.with_label_values(&[self.stage.name(), class.as_str()]).inc_by(*count);
        }
        let now = self.env.clock.now_ms() as f64 / 1_000.0;
        metrics.last_processed_timestamp.with_label_values(&[self.stage.name()]).set(now);
    }

    fn revoke(&mut self, revoked: Vec<(i32, u64)>, deadline: Instant, reply: SyncSender<Vec<Position>>) {
        let mut busy = BTreeSet::new();
        for &(number, generation) in &revoked {
            if let Some(owned) = self.partitions.get(&number).filter(|owned| owned.generation == generation) {
                owned.stop.cancel();
                if !owned.ended {
                    busy.insert(number);
                }
            }
        }
        let partitions = revoked.into_iter().map(|(number, _)| number).collect();
        self.draining.push(Draining::new(partitions, busy, deadline, reply));
    }

    /// Answers the drains that are over; what still runs then is cut off.
    fn finish_drains(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.draining.iter().position(|drain| drain.is_over(now)) {
            let drain = self.draining.swap_remove(at);
            let mut positions = Vec::new();
            for number in drain.partitions() {
                self.faulted.remove(number);
                if let Some(owned) = self.partitions.remove(number) {
                    series::forget_partition(&self.env.metrics, &self.spec, *number);
                    positions.extend(position_of(*number, &owned));
                    self.give_up(owned);
                }
            }
            drain.revoke(positions);
        }
    }

    fn give_up(&mut self, partition: Partition) {
        partition.stop.cancel();
        partition.abort.abort();
        self.balance.in_flight -= partition.in_flight;
        self.balance.given_up += partition.in_flight;
        self.count("given_up", partition.in_flight);
    }

    fn on_tick(&mut self) {
        self.heed();
        self.watch();
        self.commit();
        self.publish(true);
    }

    fn commit(&self) {
        let positions: Vec<_> =
            self.partitions.iter().filter_map(|(&number, owned)| position_of(number, owned)).collect();
        self.desk.commit(&positions);
    }

    fn publish(&self, joined: bool) {
        let metrics = &self.env.metrics;
        metrics.tasks_in_flight.with_label_values(&[self.stage.name()]).set(self.balance.in_flight as i64);
        let paused = self.supervision.paused().cloned();
        let outside = self.desk.outside();
        let mut now =
            Progress { joined, paused, outside, partitions: BTreeMap::new(), balance: self.balance };
        for (&number, owned) in &self.partitions {
            let end = owned.gauge.end().max(owned.position);
            series::lag(metrics, &self.spec, number, end - owned.position);
            let state = owned.state.clone();
            now.partitions.insert(
                number,
                PartitionProgress {
                    position: owned.position,
                    end,
                    parked: 0,
                    unread: 0,
                    detached: 0,
                    held: 0,
                    state,
                    trouble: self.watchdog.trouble(number),
                },
            );
        }
        for (&number, fault) in &self.faulted {
            now.partitions.insert(number, PartitionProgress::stopped(fault));
        }
        series::troubles(metrics, self.stage.name(), now.partitions.values());
        self.progress.send_if_modified(|progress| {
            let changed = *progress != now;
            *progress = now;
            changed
        });
    }

    fn stop_all(&self) {
        for partition in self.partitions.values() {
            partition.stop.cancel();
        }
    }

    fn is_busy(&self) -> bool {
        self.partitions.values().any(|partition| !partition.ended)
    }

    fn abort_all(&mut self) {
        let commits: Vec<_> =
            self.partitions.iter().filter_map(|(&number, owned)| position_of(number, owned)).collect();
        self.desk.commit(&commits);
        for (number, partition) in std::mem::take(&mut self.partitions) {
            series::forget_partition(&self.env.metrics, &self.spec, number);
            self.give_up(partition);
        }
    }

    fn count(&self, outcome: &str, tasks: u64) {
        self.env.metrics.tasks.with_label_values(&[self.stage.name(), outcome]).inc_by(tasks);
    }
}

impl<S> Drop for Engine<S> {
    /// Dropped without a drain (the process is on its way out, or a test cuts it off): nothing may go on.
    fn drop(&mut self) {
        for partition in self.partitions.values() {
            partition.abort.abort();
        }
    }
}

/// What may be committed of a partition: nothing before its stored position is known.
fn position_of(partition: i32, owned: &Partition) -> Option<Position> {
    // The stored position says everything; Kafka's only follows it.
    let (generation, offset, metadata) = (owned.generation, owned.position, Arc::from(""));
    owned.located.then_some(Position {
        side: Side::Source,
        partition,
        generation,
        offset,
        version: 0,
        metadata,
    })
}
