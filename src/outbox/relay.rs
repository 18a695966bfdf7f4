//! The relay: claims buckets, publishes their messages key by key, deletes what was acknowledged.
//!
//! A message that fails, can't be read or takes long stops its key and nothing else: neither the rest of its bucket, however much
//! stands behind it, nor other buckets. A bucket's lock is given back after [`PATIENCE`] whatever is still on
//! its way, so another process may publish that again: under the same id, as after a crash.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::held::{Held, Key, key_of};
use crate::clock::Clock;
use crate::event::EventType;
use crate::runtime::{Headers, OutRecord, ProduceError, Producer};
use crate::store::outbox::{self, Stored, Unreadable};
use crate::store::{Database, StoreError};
use crate::task;
use crate::telemetry::Metrics;

/// `[outbox]` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayOptions {
    /// Whether this program relays; switch it off where Debezium does.
    pub relay: bool,
    /// How long to wait before looking again when nothing was there.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// How long to wait after a failure before trying again.
    #[serde(with = "humantime_serde")]
    pub retry_interval: Duration,
    /// How many messages of one bucket are taken at once.
    pub batch: u32,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            relay: true,
            poll_interval: Duration::from_millis(100),
            retry_interval: Duration::from_secs(1),
            batch: 500,
        }
    }
}

/// Buckets that are published at the same time, at most: on PostgreSQL each keeps a connection meanwhile.
const BUCKETS_AT_ONCE: usize = 4;

/// How long a bucket waits for what was sent. What takes longer goes on without it; its key waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes the outbox of one store.
#[derive(Debug, Clone)]
pub struct Relay {
    db: Database,
    producer: Producer,
    metrics: Arc<Metrics>,
    clock: Clock,
    options: RelayOptions,
    held: Arc<Held>,
}

/// Why not everything was published. What wasn't stays and is tried again.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Produce(#[from] ProduceError),
    #[error(
        "row {sequence} of the outbox, for {topic}, can't be read: {why}; mend or delete it, its key waits"
    )]
    Unreadable { sequence: i64, topic: String, why: StoreError },
}

/// What came of some of the messages.
#[derive(Debug, Default)]
struct Published {
    acknowledged: Vec<i64>,
    failure: Option<PassError>,
}

impl Published {
    fn and(mut self, other: Self) -> Self {
        self.acknowledged.extend(other.acknowledged);
        self.failure = self.failure.or(other.failure);
        self
    }
}

impl Relay {
    /// A relay from `db` to `producer`.
    pub fn new(
        db: Database,
        producer: Producer,
        metrics: Arc<Metrics>,
        clock: Clock,
        options: RelayOptions,
    ) -> Self {
        Self { db, producer, metrics, clock, options, held: Arc::default() }
    }

    /// Publishes until `stop`. Failures are logged once per change and tried again; they never end it.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            let published = self
                .pass()
                .await
                .unwrap_or_else(|error| Published { failure: Some(error.into()), ..Published::default() });
            match &published.failure {
                Some(error) if !failing => {
                    tracing::warn!(%error, "messages of the outbox can't be published; they wait");
                    failing = true;
                }
                None if failing && !self.held.any() => {
                    tracing::info!("the outbox is published again");
                    failing = false;
                }
                Some(_) | None => {}
            }
            let wait = if !published.acknowledged.is_empty() {
                Duration::ZERO
            } else if published.failure.is_some() || self.held.any() {
                self.options.retry_interval
            } else {
                self.options.poll_interval
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Publishes once what is there now.
    async fn pass(&self) -> Result<Published, StoreError> {
        let late = self.held.arrived();
        outbox::forget(&self.db, &late).await?;
        self.held.forget(&late, self.clock.now_ms());
        let buckets = outbox::waiting_buckets(&self.db).await?;
        let published = stream::iter(buckets)
            .map(|bucket| self.publish_bucket(bucket))
            .buffer_unordered(BUCKETS_AT_ONCE)
            .fold(Published::default(), async |all, bucket| all.and(bucket))
            .await;
        self.measure().await?;
        Ok(published)
    }

    /// Publishes a bucket page by page, until there is nothing more or a page had something to publish.
    ///
    /// Pages pass over keys that wait, however many messages of theirs stand in front. A pass that published
    /// something starts over: a message with a lower sequence may have been committed meanwhile.
    async fn publish_bucket(&self, bucket: i64) -> Published {
        let mut published = Published::default();
        let mut last = 0;
        while published.acknowledged.is_empty() && !self.held.is_full() {
            match self.publish_page(bucket, last).await {
                Ok(Some((page, end))) => {
                    published = published.and(page);
                    last = end;
                }
                Ok(None) => break,
                Err(error) => {
                    return published.and(Published { failure: Some(error.into()), ..Published::default() });
                }
            }
        }
        published
    }

    /// Publishes the oldest messages of a bucket behind `last`, and gives the last one's place; `None` when there
    /// are none, or another process has the bucket.
    async fn publish_page(&self, bucket: i64, last: i64) -> Result<Option<(Published, i64)>, StoreError> {
        let limit = i64::from(self.options.batch);
        let Some(mut claim) = outbox::claim(&self.db, bucket, last, limit).await? else {
            return Ok(None);
        };
        let messages = std::mem::take(&mut claim.messages);
        let unreadable = std::mem::take(&mut claim.unreadable);
        let ends = [messages.last().map(|row| row.sequence), unreadable.last().map(|row| row.sequence)];
        let Some(end) = ends.into_iter().flatten().max() else {
            return Ok(None);
        };
        let mut chains = self.by_key(messages);
        let failure = self.cut_off(&mut chains, unreadable);
        let published = chains
            .into_iter()
            .map(|(key, chain)| self.publish_in_order(key, chain))
            .collect::<FuturesUnordered<_>>()
            .fold(Published { failure, ..Published::default() }, async |all, chain| all.and(chain))
            .await;
        claim.finish(&self.db, &published.acknowledged).await?;
        Ok(Some((published, end)))
    }

    /// Takes off the chains what stands behind a row that can't be read, whose key waits from there on.
    fn cut_off(
        &self,
        chains: &mut BTreeMap<Key, Vec<Stored>>,
        unreadable: Vec<Unreadable>,
    ) -> Option<PassError> {
        let mut first = None;
        for Unreadable { sequence, topic, tenant, key, why } in unreadable {
            let error = PassError::Unreadable { sequence, topic: topic.clone(), why };
            let key = Key { topic, tenant, key };
            if let Some(chain) = chains.get_mut(&key) {
                chain.retain(|stored| stored.sequence < sequence);
            }
            // A key whose last message is still on its way goes on waiting for that.
            if !self.held.holds(&key) {
                self.hold(key, &error);
            }
            first.get_or_insert(error);
        }
        first
    }

    /// Publishes messages of one key one after another, up to the first that fails or takes too long.
    async fn publish_in_order(&self, key: Key, chain: Vec<Stored>) -> Published {
        let mut published = Published::default();
        let mut patience = pin!(self.clock.sleep(PATIENCE));
        for stored in chain {
            let sequence = stored.sequence;
            let mut send = Box::pin(self.clone().send(stored));
            let sent = tokio::select! {
                biased;
                sent = &mut send => sent,
                () = &mut patience => {
                    self.held.on_its_way(key.clone());
                    // Nobody waits for it: how it ended stands in `held`.
                    drop(task::spawn("late outbox message", self.clone().see_off(key, sequence, send)));
                    break;
                }
            };
            if let Err(error) = sent {
                self.hold(key, &error);
                published.failure = Some(error.into());
                break;
            }
            published.acknowledged.push(sequence);
        }
        published
    }

    /// Waits for the end of a message that takes its time; its key waits with it.
    async fn see_off(self, key: Key, sequence: i64, send: impl Future<Output = Result<(), ProduceError>>) {
        match send.await {
            Ok(()) => self.held.acknowledged(key, sequence),
            Err(error) => self.hold(key, &error),
        }
    }

    fn hold(&self, key: Key, error: &impl std::fmt::Display) {
        tracing::debug!(topic = key.topic, %error, "a message of the outbox waits, and its key with it");
        let retry_ms = i64::try_from(self.options.retry_interval.as_millis()).unwrap_or(i64::MAX);
        self.held.failed(key, self.clock.now_ms().saturating_add(retry_ms));
    }

    async fn send(self, stored: Stored) -> Result<(), ProduceError> {
        let kind = label(&stored.message.kind);
        self.producer.send(record(stored)).await?;
        self.metrics.events_published.with_label_values(&[kind]).inc();
        Ok(())
    }

    /// Messages by topic, tenant and key, each in its order, without those that have to wait.
    fn by_key(&self, messages: Vec<Stored>) -> BTreeMap<Key, Vec<Stored>> {
        let mut chains: BTreeMap<_, Vec<Stored>> = BTreeMap::new();
        for stored in messages {
            let key = key_of(&stored);
            if !self.held.holds(&key) {
                chains.entry(key).or_default().push(stored);
            }
        }
        chains
    }

    async fn measure(&self) -> Result<(), StoreError> {
        let (depth, oldest) = outbox::depth(&self.db).await?;
        let age_ms = oldest.map_or(0, |oldest| (self.clock.now_ms() - oldest).max(0));
        self.metrics.outbox_depth.with_label_values::<&str>(&[]).set(depth);
        self.metrics.outbox_oldest.with_label_values::<&str>(&[]).set(age_ms as f64 / 1000.0);
        Ok(())
    }
}

/// The type as a metric label: others than our own are one label, since anybody may write into the table.
fn label(kind: &str) -> &'static str {
    kind.parse::<EventType>().map_or("other", EventType::as_str)
}

fn record(stored: Stored) -> OutRecord {
    let message = stored.message;
    OutRecord {
        topic: message.topic.into(),
        partition: message.partition,
        key: message.key.map(Bytes::from),
        payload: message.payload.map(Bytes::from),
        headers: Headers::from(message.headers),
        timestamp_ms: None,
    }
}
