//! The relay: claims a bucket, publishes its messages key by key, deletes what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::event::EventType;
use crate::runtime::{Headers, OutRecord, ProduceError, Producer};
use crate::store::outbox::{self, Stored};
use crate::store::{Database, StoreError};
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

/// Keys of one bucket that are published at the same time, at most.
const KEYS_AT_ONCE: usize = 256;

/// Publishes the outbox of one store.
#[derive(Debug, Clone)]
pub struct Relay {
    db: Database,
    producer: Producer,
    metrics: Arc<Metrics>,
    clock: Clock,
    options: RelayOptions,
}

/// Why a pass ended early. What wasn't published stays and is tried again.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Produce(#[from] ProduceError),
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
        Self { db, producer, metrics, clock, options }
    }

    /// Publishes until `stop`. Failures are logged once per change and tried again; they never end it.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            let wait = match self.pass().await {
                Ok(published) => {
                    if failing {
                        tracing::info!("the outbox is published again");
                    }
                    failing = false;
                    if published > 0 { Duration::ZERO } else { self.options.poll_interval }
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "the outbox can't be published; its messages wait");
                    }
                    failing = true;
                    self.options.retry_interval
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Publishes once what is there now, and tells how many messages Kafka acknowledged.
    async fn pass(&self) -> Result<usize, PassError> {
        let buckets = outbox::waiting_buckets(&self.db).await?;
        let mut published = 0;
        let mut failure = None;
        for bucket in buckets {
            match self.publish_bucket(bucket).await {
                Ok((acknowledged, refused)) => {
                    published += acknowledged;
                    failure = failure.or(refused.map(PassError::from));
                }
                Err(error) => failure = Some(error.into()),
            }
        }
        self.measure().await?;
        failure.map_or(Ok(published), Err)
    }

    /// Publishes a bucket's oldest messages; a message that fails stops its key, and no other.
    async fn publish_bucket(&self, bucket: i64) -> Result<(usize, Option<ProduceError>), StoreError> {
        let Some(mut claim) = outbox::claim(&self.db, bucket, i64::from(self.options.batch)).await? else {
            return Ok((0, None));
        };
        let messages = std::mem::take(&mut claim.messages);
        let chains: Vec<_> =
            by_key(messages).into_values().map(|chain| self.publish_in_order(chain)).collect();
        let outcomes: Vec<_> = stream::iter(chains).buffer_unordered(KEYS_AT_ONCE).collect().await;
        let mut published = Vec::new();
        let mut failure = None;
        for (acknowledged, refused) in outcomes {
            published.extend(acknowledged);
            failure = failure.or(refused);
        }
        claim.finish(&self.db, &published).await?;
        Ok((published.len(), failure))
    }

    /// Publishes messages of one key one after another, up to the first that fails.
    async fn publish_in_order(&self, chain: Vec<Stored>) -> (Vec<i64>, Option<ProduceError>) {
        let mut acknowledged = Vec::new();
        for stored in chain {
            let (sequence, kind) = (stored.sequence, label(&stored.message.kind));
            if let Err(error) = self.producer.send(record(stored)).await {
                return (acknowledged, Some(error));
            }
            self.metrics.events_published.with_label_values(&[kind]).inc();
            acknowledged.push(sequence);
        }
        (acknowledged, None)
    }

    async fn measure(&self) -> Result<(), StoreError> {
        let (depth, oldest) = outbox::depth(&self.db).await?;
        let age_ms = oldest.map_or(0, |oldest| (self.clock.now_ms() - oldest).max(0));
        self.metrics.outbox_depth.with_label_values::<&str>(&[]).set(depth);
        self.metrics.outbox_oldest.with_label_values::<&str>(&[]).set(age_ms as f64 / 1000.0);
        Ok(())
    }
}

/// Messages by topic and key, each in its order.
fn by_key(messages: Vec<Stored>) -> BTreeMap<(String, Option<Vec<u8>>), Vec<Stored>> {
    let mut chains: BTreeMap<_, Vec<Stored>> = BTreeMap::new();
    for stored in messages {
        let key = (stored.message.topic.clone(), stored.message.key.clone());
        chains.entry(key).or_default().push(stored);
    }
    chains
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
