//! The attempts stage: writes the receipts of webhook attempts into the log, in batches, off the delivery's path, and
//! keeps from them how endpoints fare (`health`, pure; `tell`).
//!
//! Its source carries our own records, not events, so it is a store stage of its own rather than a handler of
//! events. What isn't a receipt is dead-lettered like any record that can't be understood.

mod health;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::health::{Ended, Limits, Seen, note};
use self::tell::{Herald, Shown};
use super::Parts;
use super::owner_mail::Scribe;
use super::store_stage::{away, dead_letter_of, place_of};
use crate::clock::Clock;
use crate::crypto::{Subject, Vault};
use crate::event::{Codec, DecodeError, WebhookAttempt, effect_id};
use crate::runtime::{
    ErrorClass, Failure, Record, RuntimeOptions, SkipReason, SourcePartition, StageHandle, StageSpec,
    StoreBatch, StoreFault, StoreStage, Stored, start_store_stage,
};
use crate::store::attempts::{self, Attempt};
use crate::store::webhooks::health::{self as kept_health, Health};
use crate::store::{Database, Transaction, outbox, positions};
use crate::topology::Stage;

/// The stage's name.
pub const NAME: &str = "attempts";

/// How often an unknown schema id is asked for before its record is dead-lettered, and how long in between.
const SCHEMA_TRIES: u32 = 3;
const SCHEMA_PAUSE: Duration = Duration::from_millis(200);

/// How long receipts wait for others, at the broker and in memory: nobody waits for the log, and a transaction costs as much
/// as the rows of fifty.
const GATHER: Duration = Duration::from_millis(250);

/// Keeps receipts.
#[derive(Debug)]
pub struct Attempts {
    /// The stage's name, as in topic and metric names.
    name: Arc<str>,
    db: Database,
    vault: Vault,
    codec: Codec,
    clock: Clock,
    dead_letters: Arc<str>,
    herald: Herald,
}

/// Starts a member of the stage.
pub(super) fn start(parts: &Parts, _: &Stage, spec: StageSpec, stop: CancellationToken) -> StageHandle {
    let stage = Attempts {
        name: spec.stage.as_str().into(),
        db: parts.db.clone(),
        vault: parts.vault.clone(),
        codec: parts.codec.clone(),
        clock: parts.env.clock.clone(),
        dead_letters: spec.dead_letters.as_str().into(),
        herald: Herald {
            scribe: Scribe::new(parts),
            limits: Limits {
                failing_after: parts.options.webhook.failing_after,
                disable_after: parts.options.webhook.disable_after,
            },
        },
    };
    let spec = StageSpec { options: RuntimeOptions { gather: GATHER, ..spec.options }, ..spec };
    start_store_stage(spec, Arc::new(stage), parts.env.clone(), stop)
}

/// The name of the delivery of one event to one endpoint, which all its attempts share.
pub(super) fn delivery_id(tenant: &str, event_id: Uuid, endpoint_id: &str) -> Uuid {
    effect_id(tenant, event_id, super::webhook::NAME, "deliver", endpoint_id)
}

/// A receipt: the row that is kept of it, and which start of the endpoint it is of, where it says so.
#[derive(Debug)]
struct Receipt {
    row: Attempt,
    generation: Option<i64>,
}

/// What an attempt says of its endpoint's health.
fn seen(Receipt { row, generation }: &Receipt) -> Seen {
    let ended = match row.outcome.as_str() {
        "delivered" => Ended::Well,
        "gone" => Ended::Gone,
        _ => Ended::Failed,
    };
    Seen {
        generation: *generation,
        at_ms: row.attempted_at.saturating_add(row.latency_ms),
        ended,
        // It was parsed when the row was made.
        event_id: Uuid::parse_str(&row.event_id).unwrap_or_default(),
        why: row.error.clone().unwrap_or_default(),
    }
}

/// A record and what becomes of it.
enum Entry {
    Row(Record, Box<Receipt>),
    Skipped(SkipReason),
    Dead(Record, Failure),
}

/// What is expected of receipts.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// None of them was stored before.
    New,
    /// Some may have been.
    Repeats,
}

impl Attempts {
    async fn read(&self, record: Record) -> Result<Entry, StoreFault> {
        let Some(payload) = record.payload.clone() else {
            return Ok(Entry::Skipped(SkipReason::Tombstone));
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let (class, message) = match self.codec.decode_record::<WebhookAttempt>(&payload).await {
                Ok(receipt) => {
                    return Ok(match self.row(receipt) {
                        Ok(row) => Entry::Row(record, Box::new(row)),
                        Err(message) => Entry::Dead(record, Failure::new(ErrorClass::Data, message)),
                    });
                }
                Err(error @ DecodeError::RegistryUnavailable(_)) => return Err(away(&error)),
                Err(DecodeError::SchemaUnknown { .. }) if tries < SCHEMA_TRIES => {
                    self.clock.sleep(SCHEMA_PAUSE).await;
                    continue;
                }
                Err(error @ DecodeError::SchemaUnknown { .. }) => {
                    (ErrorClass::SchemaUnknown, error.to_string())
                }
                Err(
                    error @ (DecodeError::NotFramed
                    | DecodeError::Truncated
                    | DecodeError::TrailingBytes(_)
                    | DecodeError::Invalid(_)),
                ) => (ErrorClass::Decode, error.to_string()),
            };
            return Ok(Entry::Dead(record, Failure::new(class, message)));
        }
    }

    /// The row of a receipt, its answer sealed; in words why it can be none.
    fn row(&self, receipt: WebhookAttempt) -> Result<Receipt, String> {
        let event_id = Uuid::parse_str(&receipt.event_id).map_err(|_| "event_id isn't a UUID".to_owned())?;
        let tenant = Subject::Tenant { tenant: &receipt.tenant_id };
        let seal =
            |text: &String| self.vault.seal(tenant, text.as_bytes()).map_err(|error| error.to_string());
        let generation = receipt.endpoint_generation;
        let row = Attempt {
            response: receipt.response.as_ref().map(seal).transpose()?,
            delivery_id: delivery_id(&receipt.tenant_id, event_id, &receipt.endpoint_id).to_string(),
            tenant: receipt.tenant_id,
            attempt_id: receipt.attempt_id,
            endpoint_id: receipt.endpoint_id,
            webhook_id: receipt.webhook_id,
            event_id: receipt.event_id,
            event_type: receipt.event_type,
            order_id: receipt.order_id,
            attempt: receipt.attempt.into(),
            outcome: receipt.outcome,
            status: receipt.status.map(i64::from),
            latency_ms: receipt.latency_ms,
            error: receipt.error,
            attempted_at: receipt.attempted_at,
            next_attempt_at: receipt.next_attempt_at,
            source_topic: receipt.source_topic,
            source_partition: receipt.source_partition.map(i64::from),
            source_offset: receipt.source_offset,
            resend: receipt.resend,
        };
        Ok(Receipt { row, generation })
    }

    /// Stores everything in one transaction; gives the store's complaint when a row is at fault.
    async fn commit(
        &self,
        at: &SourcePartition,
        batch: &StoreBatch,
        receipts: &[Receipt],
        dead: &[(Record, Failure)],
    ) -> Result<Option<Failure>, StoreFault> {
        // Receipts hardly ever come twice.
        match self.commit_as(at, batch, receipts, dead, Expected::New).await? {
            None => Ok(None),
            Some(_) => self.commit_as(at, batch, receipts, dead, Expected::Repeats).await,
        }
    }

    async fn commit_as(
        &self,
        at: &SourcePartition,
        batch: &StoreBatch,
        receipts: &[Receipt],
        dead: &[(Record, Failure)],
        expected: Expected,
    ) -> Result<Option<Failure>, StoreFault> {
        let mut tx = self.db.begin().await.map_err(|error| away(&error))?;
        let place = place_of(&self.name, at);
        let moved = positions::advance(&mut tx, &place, batch.expected, batch.next_offset, None).await;
        if !moved.map_err(|error| away(&error))? {
            return Err(StoreFault::PositionMoved);
        }
        let rows = receipts.iter().map(|receipt| &receipt.row);
        let added = match expected {
            Expected::New => attempts::add_new(&mut tx, rows).await,
            Expected::Repeats => attempts::add(&mut tx, rows).await,
        };
        match added {
            Ok(()) => {}
            Err(error) if error.is_records_fault() => {
                return Ok(Some(Failure::new(ErrorClass::Data, error.to_string())));
            }
            Err(error) => return Err(away(&error)),
        }
        let now_ms = self.clock.now_ms();
        for (record, failure) in dead {
            let letter = dead_letter_of(&self.name, &self.dead_letters, at, record, failure, now_ms);
            outbox::append(&mut tx, &letter, now_ms).await.map_err(|error| away(&error))?;
        }
        self.keep_health(&mut tx, receipts, now_ms).await?;
        tx.commit().await.map_err(|error| away(&error))?;
        Ok(None)
    }

    /// Notes how the endpoints of these attempts fare, and tells their owners what is new.
    async fn keep_health(
        &self,
        tx: &mut Transaction,
        receipts: &[Receipt],
        now_ms: i64,
    ) -> Result<(), StoreFault> {
        let mut endpoints: BTreeMap<(&str, &str), Vec<Seen>> = BTreeMap::new();
        for receipt in receipts {
            let key = (receipt.row.tenant.as_str(), receipt.row.endpoint_id.as_str());
            endpoints.entry(key).or_default().push(seen(receipt));
        }
        let key = |(tenant, endpoint): &(&str, &str)| ((*tenant).to_owned(), (*endpoint).to_owned());
        let keys: Vec<_> = endpoints.keys().map(key).collect();
        let known = kept_health::lock(tx, &keys).await.map_err(|error| away(&error))?;
        let by_key = |health: Health| ((health.tenant.clone(), health.endpoint.clone()), health);
        let mut known: BTreeMap<_, _> = known.into_iter().map(by_key).collect();
        let (mut changed, mut news) = (Vec::new(), Vec::new());
        for (of, all) in &endpoints {
            let Some(mut health) = known.remove(&key(of)) else { continue };
            let (tenant, endpoint) = *of;
            // It was removed while this was under way.
            if health.generation.is_none() {
                kept_health::forget(tx, tenant, endpoint).await.map_err(|error| away(&error))?;
                continue;
            }
            let before = health.clone();
            // What came of another URL, or from before a new start, isn't this one's doing.
            let current = health.generation;
            let is_its = |seen: &&Seen| seen.generation.is_none() || seen.generation == current;
            for seen in all.iter().filter(is_its) {
                let shown = note(&mut health, seen, &self.herald.limits);
                news.extend(shown.map(|(news, failing_since)| Shown {
                    tenant,
                    endpoint,
                    news,
                    failing_since,
                    seen,
                }));
            }
            if health != before {
                changed.push(health);
            }
        }
        kept_health::put(tx, &changed).await.map_err(|error| away(&error))?;
        for shown in &news {
            self.herald.tell(tx, shown, now_ms).await?;
        }
        Ok(())
    }

    /// Why the store refuses this row alone, if it does. Nothing is kept.
    async fn complaint(&self, row: &Attempt) -> Result<Option<Failure>, StoreFault> {
        let mut tx = self.db.begin().await.map_err(|error| away(&error))?;
        match attempts::add(&mut tx, [row]).await {
            Ok(()) => Ok(None),
            Err(error) if error.is_records_fault() => {
                Ok(Some(Failure::new(ErrorClass::Data, error.to_string())))
            }
            Err(error) => Err(away(&error)),
        }
    }
}

impl StoreStage for Attempts {
    fn name(&self) -> &str {
        &self.name
    }

    async fn position(&self, at: &SourcePartition) -> Result<Option<i64>, Failure> {
        positions::position(&self.db, &place_of(&self.name, at))
            .await
            .map_err(|error| Failure::new(ErrorClass::Unavailable, error.to_string()))
    }

    async fn store(&self, at: &SourcePartition, mut batch: StoreBatch) -> Result<Stored, StoreFault> {
        let mut stored = Stored::default();
        let (mut records, mut receipts, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for record in std::mem::take(&mut batch.records) {
            match self.read(record).await? {
                Entry::Row(record, receipt) => {
                    records.push(record);
                    receipts.push(*receipt);
                }
                Entry::Skipped(reason) => stored.skipped.push((reason, 1)),
                Entry::Dead(record, failure) => dead.push((record, failure)),
            }
        }
        if let Some(complaint) = self.commit(at, &batch, &receipts, &dead).await? {
            // Rows don't depend on each other, so each is asked for alone.
            let mut kept = Vec::new();
            for (record, receipt) in records.into_iter().zip(receipts) {
                match self.complaint(&receipt.row).await? {
                    Some(failure) => dead.push((record, failure)),
                    None => kept.push(receipt),
                }
            }
            receipts = kept;
            if self.commit(at, &batch, &receipts, &dead).await?.is_some() {
                return Err(StoreFault::Retry(complaint));
            }
        }
        stored.done = receipts.len() as u64;
        stored.dead = dead.iter().map(|(_, failure)| (failure.class, 1)).collect();
        Ok(stored)
    }
}
