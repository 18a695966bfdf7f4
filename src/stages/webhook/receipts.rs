//! Receipts: what was tried and how it ended, on `webhooks.attempts`, and what was given up, on
//! `webhooks.exhausted`; acknowledged before the task ends.
//!
//! A receipt that can't be written is written later, never dropped: until then its task stays open, and with it
//! the record's offset. If the process ends meanwhile the delivery is repeated, under the same id.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::{AvroRecord, Codec, WebhookAttempt, WebhookExhausted};
use crate::runtime::{OutRecord, Producer};

/// Pauses between tries double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Where receipts go, by the broker's names.
#[derive(Debug, Clone)]
pub struct ReceiptTopics {
    /// `webhooks.attempts`: every attempt.
    pub attempts: Arc<str>,
    /// `webhooks.exhausted`: what was given up.
    pub exhausted: Arc<str>,
}

/// Writes receipts.
#[derive(Debug)]
pub(super) struct Receipts {
    codec: Codec,
    producer: Producer,
    topics: ReceiptTopics,
    clock: Clock,
}

impl Receipts {
    /// Writes to `topics`.
    pub(super) fn new(codec: Codec, producer: Producer, topics: ReceiptTopics, clock: Clock) -> Self {
        Self { codec, producer, topics, clock }
    }

    /// Returns when Kafka has acknowledged `attempt`.
    pub(super) async fn attempted(&self, attempt: &WebhookAttempt) {
        self.acknowledged(&self.topics.attempts, &attempt.order_id, attempt).await;
    }

    /// Returns when Kafka has acknowledged `exhausted`.
    pub(super) async fn exhausted(&self, exhausted: &WebhookExhausted) {
        self.acknowledged(&self.topics.exhausted, &exhausted.order_id, exhausted).await;
    }

    async fn acknowledged<R: AvroRecord>(&self, topic: &Arc<str>, key: &str, receipt: &R) {
        let mut pause = FIRST_PAUSE;
        while let Err(why) = self.write(topic, key, receipt).await {
            tracing::warn!(topic = &**topic, why, "a webhook receipt can't be written; trying again");
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn write<R: AvroRecord>(&self, topic: &Arc<str>, key: &str, receipt: &R) -> Result<(), String> {
        let payload = self.codec.encode_record(topic, receipt).await.map_err(|error| error.to_string())?;
        let record = OutRecord::keyed(Arc::clone(topic), key.to_owned(), payload);
        self.producer.send(record).await.map(drop).map_err(|error| error.to_string())
    }
}
