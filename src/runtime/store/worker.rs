//! One partition of a store stage: know the stored position, take what is ready, store it, go on.
//!
//! The stored position is the truth (product invariant: effects and position commit together). Nothing is done
//! before it is known; what lies below it is dropped; who loses the compare-and-set reads it again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::inbox::Inbox;
use crate::clock::Clock;
use crate::runtime::backoff::Backoff;
use crate::runtime::consumer::{Assigned, Gauge};
use crate::runtime::error::PartitionFault;
use crate::runtime::outcome::{ErrorClass, Failure};
use crate::runtime::record::{Record, SourcePartition};
use crate::runtime::stage::{StoreBatch, StoreFault, StoreStage, Stored};

/// Tries of a batch that met a conflict, before it counts as "store away".
const QUICK_TRIES: u32 = 5;

/// What a worker tells its engine.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) partition: i32,
    pub(super) generation: u64,
    pub(super) what: What,
}

/// See [`Report`].
#[derive(Debug)]
pub(super) enum What {
    /// The stored position is known; read from `from` if that isn't where Kafka would start.
    Located { position: Option<i64>, from: Option<i64> },
    /// Records that were stored before: the stored position lies behind them.
    Dropped { records: u64, position: Option<i64> },
    /// A batch is stored.
    Stored { next_offset: i64, records: u64, stored: Stored, written_ms: Vec<i64> },
    /// Waiting for the store, in these words, or no longer.
    Waiting(Option<String>),
    /// The partition can't go on.
    Fault(PartitionFault),
    /// The stored position was moved back: the partition has to be read again from there.
    MovedBack,
    /// Nothing runs any more.
    Ended,
}

/// Why a worker stops early.
enum Halt {
    /// It was asked to.
    Asked,
    /// It can't go on.
    Fault(PartitionFault),
    /// The stored position was moved back: what lies between is read again.
    MovedBack,
}

/// The worker of one assignment of one partition.
pub(super) struct Worker<S> {
    pub(super) stage: Arc<S>,
    pub(super) at: SourcePartition,
    pub(super) assigned: Assigned,
    pub(super) inbox: Arc<Inbox>,
    pub(super) gauge: Arc<Gauge>,
    pub(super) batch_records: usize,
    pub(super) batch_bytes: usize,
    /// How long a batch that isn't full waits for more after its first record.
    pub(super) gather: Duration,
    /// How long storing a batch may take.
    pub(super) timeout: Option<Duration>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) stop: CancellationToken,
    /// While true no batch is started.
    pub(super) paused: watch::Receiver<bool>,
    pub(super) clock: Clock,
}

impl<S: StoreStage> Worker<S> {
    /// Runs until asked to stop; a batch in flight is finished first.
    pub(super) async fn run(self) {
        match self.work().await {
            Ok(()) | Err(Halt::Asked) => {}
            Err(Halt::MovedBack) => self.report(What::MovedBack).await,
            Err(Halt::Fault(fault)) => {
                tracing::error!(stage = self.stage.name(), partition = self.at.partition, %fault,
                    "a partition stopped");
                self.report(What::Fault(fault)).await;
            }
        }
        self.report(What::Ended).await;
    }

    async fn work(&self) -> Result<(), Halt> {
        let mut position = self.locate().await?;
        let from = self.read_from(position)?;
        self.report(What::Located { position, from }).await;
        loop {
            let taken = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                taken = self.take() => taken,
            };
            let (count, bytes) = (taken.len(), taken.iter().map(Record::bytes).sum());
            let stored = self.store(taken, position).await;
            self.gauge.release(count, bytes);
            position = stored?;
        }
    }

    /// The next batch, once there is one and the stage isn't paused.
    async fn take(&self) -> Vec<Record> {
        let mut paused = self.paused.clone();
        loop {
            // An error means that the engine is gone, and with it whoever could stop or pause us.
            let _ = paused.wait_for(|paused| !paused).await;
            tokio::select! {
                biased;
                Ok(_) = async { paused.wait_for(|paused| *paused).await.map(drop) } => {}
                taken = self.inbox.take(self.batch_records, self.batch_bytes, self.gather) => return taken,
            }
        }
    }

    /// Where to read from when the stored position lies below the one committed in Kafka.
    fn read_from(&self, position: Option<i64>) -> Result<Option<i64>, Halt> {
        let span = &self.assigned.source;
        match position {
            Some(stored) if stored < span.low || stored > span.high => {
                Err(Halt::Fault(PartitionFault::PositionOutsideLog {
                    topic: self.at.topic.to_string(),
                    partition: self.at.partition,
                    committed: stored,
                    low: span.low,
                    high: span.high,
                }))
            }
            Some(stored) if stored < span.position => Ok(Some(stored)),
            Some(_) | None => Ok(None),
        }
    }

    async fn locate(&self) -> Result<Option<i64>, Halt> {
        let mut backoff = Backoff::default();
        loop {
            match self.stage.position(&self.at).await {
                Ok(position) => {
                    self.recovered(&backoff).await;
                    return Ok(position);
                }
                Err(why) => self.wait(&mut backoff, why).await?,
            }
        }
    }

    /// Stores `records` whatever it takes, and gives the position behind them.
    async fn store(&self, mut records: Vec<Record>, seen: Option<i64>) -> Result<Option<i64>, Halt> {
        let mut position = seen;
        let mut backoff = Backoff::default();
        let mut quick = 0;
        loop {
            let before = records.len();
            records.retain(|record| position.is_none_or(|position| record.offset >= position));
            if records.len() < before {
                let dropped = (before - records.len()) as u64;
                self.report(What::Dropped { records: dropped, position }).await;
            }
            let Some(last) = records.last() else {
                // A batch that was cut off had been committed after all.
                self.recovered(&backoff).await;
                return Ok(position);
            };
            let next_offset = last.offset + 1;
            let first = records.first().map_or(0, |record| record.offset);
            let count = records.len() as u64;
            let written_ms = records.iter().filter_map(|record| record.timestamp_ms).collect();
            let batch = StoreBatch { records: records.clone(), expected: position, next_offset };
            match self.attempt(batch).await {
                Ok(stored) => {
                    self.recovered(&backoff).await;
                    self.report(What::Stored { next_offset, records: count, stored, written_ms }).await;
                    return Ok(Some(next_offset));
                }
                Err(StoreFault::PositionMoved) => {
                    tracing::info!(
                        stage = self.stage.name(),
                        partition = self.at.partition,
                        "the stored position moved; reading it again"
                    );
                    position = self.locate().await?;
                    // Going on here would leave out what lies between.
                    if position < seen {
                        return Err(Halt::MovedBack);
                    }
                }
                Err(StoreFault::Retry(_)) if quick < QUICK_TRIES => quick += 1,
                Err(StoreFault::Retry(why) | StoreFault::Unavailable(why)) => {
                    self.wait(&mut backoff, why).await?;
                }
                Err(StoreFault::Fatal(why)) => {
                    return Err(Halt::Fault(PartitionFault::Fatal {
                        topic: self.at.topic.to_string(),
                        partition: self.at.partition,
                        offset: first,
                        why: why.to_string(),
                    }));
                }
            }
        }
    }

    /// Stores a batch once. What is cut off was not committed, or is: the position tells.
    async fn attempt(&self, batch: StoreBatch) -> Result<Stored, StoreFault> {
        let run = AssertUnwindSafe(self.stage.store(&self.at, batch)).catch_unwind();
        let ended = match self.timeout {
            None => run.await,
            Some(limit) => match tokio::time::timeout(limit, run).await {
                Ok(ended) => ended,
                Err(_elapsed) => {
                    let why = format!("storing a batch took longer than {limit:?} and was cut off");
                    return Err(StoreFault::Unavailable(Failure::new(ErrorClass::Timeout, why)));
                }
            },
        };
        ended.unwrap_or_else(|_| Err(StoreFault::Fatal(panicked())))
    }

    /// Waits out one step; tells and logs only when waiting begins.
    async fn wait(&self, backoff: &mut Backoff, why: Failure) -> Result<(), Halt> {
        if !backoff.is_waiting() {
            tracing::warn!(stage = self.stage.name(), partition = self.at.partition, %why,
                "the store is away; the partition waits");
            self.report(What::Waiting(Some(why.to_string()))).await;
        }
        let pause: Duration = backoff.next_pause();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Halt::Asked),
            () = self.clock.sleep(pause) => Ok(()),
        }
    }

    async fn recovered(&self, backoff: &Backoff) {
        if backoff.is_waiting() {
            tracing::info!(stage = self.stage.name(), partition = self.at.partition, "the store is back");
            self.report(What::Waiting(None)).await;
        }
    }

    async fn report(&self, what: What) {
        let report =
            Report { partition: self.assigned.partition, generation: self.assigned.generation, what };
        // The engine is gone only when the process ends without drain: nobody is left to be told.
        let _ = self.reports.send(report).await;
    }
}

fn panicked() -> Failure {
    Failure::new(ErrorClass::Internal, "the handler panicked")
}
