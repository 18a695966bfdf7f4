//! Makes a store stage of a handler: reading, duplicates of offsets, bad records and the position are the same
//! for all of them.
//!
//! A batch takes effect in one transaction: what the handler writes, its outgoing messages, the dead letters and
//! the partition's position. If the handler fails by a record's own fault, that record is found by cutting the
//! batch, dead-lettered, and the rest is stored.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Parts;
use super::intake::{Reader, Reading};
use crate::clock::Clock;
use crate::event::{Event, EventType};
use crate::runtime::{
    ErrorClass, Failure, Intake, Record, SkipReason, SourcePartition, StageHandle, StageSpec, StoreBatch,
    StoreFault, StoreStage, Stored, dead_letter, redrive, start_store_stage,
};
use crate::store::outbox::{self, Message};
use crate::store::positions::{self, Place};
use crate::store::{Database, StoreError, Transaction};
use crate::telemetry::Metrics;

/// What a store stage does with events. Everything is written through the transaction, or it didn't happen.
pub trait StoreHandler: Send + Sync + 'static {
    /// Whether the stage takes events of this type; others are skipped without being decoded.
    fn takes(&self, event_type: EventType) -> bool;

    /// What is to be counted once a batch is committed.
    type Tally: Send;

    /// Applies events of one partition in their order, all or nothing. May be called again for the same events
    /// with a fresh transaction: nothing may be remembered but through `tx`, and nothing counted.
    fn apply(
        &self,
        tx: &mut Transaction,
        batch: &[Incoming],
    ) -> impl Future<Output = Result<Self::Tally, HandlerError>> + Send;

    /// Counts what a batch came to, after its commit.
    fn committed(&self, tally: Self::Tally);
}

/// An event to be applied.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The record it came in.
    pub record: Record,
    /// The event.
    pub event: Event,
    /// Its id; what the handler writes is named by it.
    pub event_id: Uuid,
    /// The id of the schema it was written with.
    pub schema_id: i32,
}

impl Incoming {
    /// SHA-256 of the record's value: two records of one event id must have the same.
    pub fn payload_hash(&self) -> Vec<u8> {
        Sha256::digest(self.record.payload.as_deref().unwrap_or_default()).to_vec()
    }
}

/// Why a batch couldn't be applied.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The store refused; whether that is a record's fault, it says itself.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record holds what can't be applied: its own fault.
    #[error("{0}")]
    Data(String),
    /// The same event id came before with other bytes: its own fault.
    #[error("{0}")]
    Conflict(String),
    /// Something that is needed (the registry, say) is away: wait.
    #[error("{0}")]
    Unavailable(String),
}

impl HandlerError {
    /// The record's own fault as a dead letter's cause, or `None` when it is nobody's fault and has to wait.
    fn records_fault(&self) -> Option<Failure> {
        match self {
            Self::Store(error) if error.is_records_fault() => {
                Some(Failure::new(ErrorClass::Data, error.to_string()))
            }
            Self::Data(message) => Some(Failure::new(ErrorClass::Data, message.clone())),
            Self::Conflict(message) => Some(Failure::new(ErrorClass::Conflict, message.clone())),
            Self::Store(_) | Self::Unavailable(_) => None,
        }
    }
}

/// How often an unknown schema id is asked for before its record is dead-lettered.
const SCHEMA_TRIES: u32 = 3;

/// The type, as a metric label, of records that can't be read.
const UNREAD: &str = "other";

/// A handler as a stage of the engine.
#[derive(Debug)]
struct Handled<H> {
    /// The stage's name, as in topic and metric names.
    name: Arc<str>,
    handler: H,
    db: Database,
    reader: Reader,
    clock: Clock,
    metrics: Arc<Metrics>,
    dead_letters: Arc<str>,
}

/// A record and what becomes of it.
enum Entry {
    Ready(Incoming),
    Skipped(SkipReason),
    Dead(Record, Failure),
}

/// Starts one member of the stage that `handler` makes of `spec`.
pub(super) fn start<H: StoreHandler>(
    parts: &Parts,
    handler: H,
    spec: StageSpec,
    stop: CancellationToken,
) -> StageHandle {
    let stage = Handled {
        name: spec.stage.as_str().into(),
        handler,
        db: parts.db.clone(),
        reader: parts.reader(&spec.stage),
        clock: parts.env.clock.clone(),
        metrics: Arc::clone(&parts.env.metrics),
        dead_letters: spec.dead_letters.as_str().into(),
    };
    start_store_stage(spec, Arc::new(stage), parts.env.clone(), stop)
}

impl<H: StoreHandler> Handled<H> {
    async fn read(&self, record: Record) -> Result<Entry, StoreFault> {
        if redrive::is_for_another(&record, &self.name) {
            return Ok(Entry::Skipped(SkipReason::Filtered));
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.reader.read(&record, |event_type| self.handler.takes(event_type)).await {
                Intake::Ready(Reading { event, event_id, schema_id }) => {
                    return Ok(Entry::Ready(Incoming { record, event, event_id, schema_id }));
                }
                Intake::Skipped(reason) => return Ok(Entry::Skipped(reason)),
                Intake::Dead(failure) => return Ok(Entry::Dead(record, failure)),
                Intake::Retry(failure) if tries >= SCHEMA_TRIES => return Ok(Entry::Dead(record, failure)),
                Intake::Retry(_) => self.clock.sleep(Duration::from_millis(200)).await,
                Intake::Unavailable(failure) => return Err(StoreFault::Unavailable(failure)),
            }
        }
    }

    /// Applies the ready entries, and nothing else, without keeping anything: who is at fault?
    async fn try_out(&self, batch: &[Incoming]) -> Result<Option<Failure>, StoreFault> {
        let mut tx = self.db.begin().await.map_err(|error| away(&error))?;
        match self.handler.apply(&mut tx, batch).await {
            Ok(_) => Ok(None),
            Err(error) => error.records_fault().map(Some).ok_or_else(|| away(&error)),
        }
    }

    /// The first of `batch` that can't be applied behind those before it, found by halving; `None` when the
    /// whole batch can be applied after all.
    async fn find_culprit(&self, batch: &[Incoming]) -> Result<Option<(usize, Failure)>, StoreFault> {
        let Some(mut why) = self.try_out(batch).await? else {
            return Ok(None);
        };
        // The first `good` events can be applied, the first `bad` can't.
        let (mut good, mut bad) = (0, batch.len());
        while bad - good > 1 {
            let middle = good.midpoint(bad);
            match self.try_out(&batch[..middle]).await? {
                None => good = middle,
                Some(failure) => (bad, why) = (middle, failure),
            }
        }
        Ok(Some((good, why)))
    }

    /// Stores everything that isn't at fault; gives the handler's complaint when some record still is.
    async fn commit(
        &self,
        at: &SourcePartition,
        batch: &StoreBatch,
        ready: &[Incoming],
        dead: &[(Record, &'static str, Failure)],
    ) -> Result<Option<Failure>, StoreFault> {
        let mut tx = self.db.begin().await.map_err(|error| away(&error))?;
        let last = ready.last().map(|incoming| incoming.event_id.to_string());
        let place = place_of(&self.name, at);
        let moved = positions::advance(&mut tx, &place, batch.expected, batch.next_offset, last.as_deref());
        if !moved.await.map_err(|error| away(&error))? {
            return Err(StoreFault::PositionMoved);
        }
        let tally = match self.handler.apply(&mut tx, ready).await {
            Ok(tally) => tally,
            Err(error) => return error.records_fault().map(Some).ok_or_else(|| away(&error)),
        };
        let now_ms = self.clock.now_ms();
        for (record, _, failure) in dead {
            let letter = dead_letter_of(&self.name, &self.dead_letters, at, record, failure, now_ms);
            outbox::append(&mut tx, &letter, now_ms).await.map_err(|error| away(&error))?;
        }
        tx.commit().await.map_err(|error| away(&error))?;
        self.handler.committed(tally);
        Ok(None)
    }

    /// Measures a stored batch: each event's share of the time it took, and the faults of the others.
    fn measure(&self, took: Duration, ready: &[Incoming], dead: &[(Record, &'static str, Failure)]) {
        let (stage, records) = (&*self.name, ready.len() + dead.len());
        let share = took.as_secs_f64() / records.max(1) as f64;
        for incoming in ready {
            let labels = [stage, incoming.event.event_type().as_str()];
            self.metrics.event_processing_duration.with_label_values(&labels).observe(share);
        }
        for (_, kind, failure) in dead {
            self.metrics.event_handler_errors.with_label_values(&[stage, kind, failure.class.as_str()]).inc();
        }
    }
}

impl<H: StoreHandler> StoreStage for Handled<H> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn position(&self, at: &SourcePartition) -> Result<Option<i64>, Failure> {
        positions::position(&self.db, &place_of(&self.name, at))
            .await
            .map_err(|error| Failure::new(ErrorClass::Unavailable, error.to_string()))
    }

    async fn store(&self, at: &SourcePartition, mut batch: StoreBatch) -> Result<Stored, StoreFault> {
        let begun = Instant::now();
        let (mut ready, mut dead, mut stored) = (Vec::new(), Vec::new(), Stored::default());
        for record in std::mem::take(&mut batch.records) {
            match self.read(record).await? {
                Entry::Ready(incoming) => ready.push(incoming),
                Entry::Skipped(reason) => stored.skipped.push((reason, 1)),
                Entry::Dead(record, failure) => dead.push((record, UNREAD, failure)),
            }
        }
        while let Some(complaint) = self.commit(at, &batch, &ready, &dead).await? {
            // Found by trying out; where trying finds nobody, the batch is simply tried again.
            let Some((culprit, failure)) = self.find_culprit(&ready).await? else {
                return Err(StoreFault::Retry(complaint));
            };
            let culprit = ready.remove(culprit);
            dead.push((culprit.record, culprit.event.event_type().as_str(), failure));
        }
        self.measure(begun.elapsed(), &ready, &dead);
        stored.done = ready.len() as u64;
        stored.dead = dead.iter().map(|(_, _, failure)| (failure.class, 1)).collect();
        Ok(stored)
    }
}

/// The dead letter of `record`, which `stage` gave up because of `failure`, on its way to `topic`. Written in the
/// transaction that moves the position past the record.
pub(super) fn dead_letter_of(
    stage: &str,
    topic: &str,
    at: &SourcePartition,
    record: &Record,
    failure: &Failure,
    now_ms: i64,
) -> Message {
    let place = format!("{}/{}/{}/{}", at.cluster_id, at.topic_id, record.partition, record.offset);
    let name = format!("dead-letter/{stage}/{place}");
    let headers = dead_letter::headers(record, stage, failure, now_ms);
    Message {
        id: Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()),
        tenant: String::new(),
        topic: topic.to_owned(),
        partition: Some(record.partition),
        key: record.key.as_ref().map(|key| key.to_vec()),
        kind: "dead_letter".to_owned(),
        payload: record.payload.as_ref().map(|payload| payload.to_vec()),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_owned(), value.map_or_else(Vec::new, |v| v.to_vec())))
            .collect(),
    }
}

/// Where `stage` is on a partition, as the store knows it.
pub(super) fn place_of<'a>(stage: &'a str, at: &'a SourcePartition) -> Place<'a> {
    Place { stage, cluster_id: &at.cluster_id, topic_id: &at.topic_id, partition: at.partition }
}

pub(super) fn away(error: &impl std::fmt::Display) -> StoreFault {
    StoreFault::Unavailable(Failure::new(ErrorClass::Unavailable, error.to_string()))
}
