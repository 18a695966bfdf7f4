//! Receipts: what was tried and how it ended, on `webhooks.attempts`, acknowledged before the task ends.
//!
//! A receipt that can't be written is written later, never dropped: until then its task stays open, and with it
//! the record's offset. If the process ends meanwhile the delivery is repeated, under the same id.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::{Codec, WebhookAttempt};
use crate::runtime::{OutRecord, Producer};

/// Pauses between tries double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Writes receipts.
#[derive(Debug)]
pub(super) struct Receipts {
    codec: Codec,
    producer: Producer,
    topic: Arc<str>,
    clock: Clock,
}

impl Receipts {
    /// Writes to `topic`.
    pub(super) fn new(codec: Codec, producer: Producer, topic: Arc<str>, clock: Clock) -> Self {
        Self { codec, producer, topic, clock }
    }

    /// Returns when Kafka has acknowledged `attempt`.
    pub(super) async fn acknowledged(&self, attempt: &WebhookAttempt) {
        let mut pause = FIRST_PAUSE;
        while let Err(why) = self.write(attempt).await {
            tracing::warn!(
                endpoint = attempt.endpoint_id,
                why,
                "a webhook receipt can't be written; trying again"
            );
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn write(&self, attempt: &WebhookAttempt) -> Result<(), String> {
        let payload =
            self.codec.encode_record(&self.topic, attempt).await.map_err(|error| error.to_string())?;
        let record = OutRecord::keyed(Arc::clone(&self.topic), attempt.order_id.clone(), payload);
        self.producer.send(record).await.map(drop).map_err(|error| error.to_string())
    }
}
