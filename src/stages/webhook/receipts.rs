//! Receipts: what was tried and how it ended, on `webhooks.attempts`, and what was given up, on
//! `webhooks.exhausted`; acknowledged before the task ends.
//!
//! A receipt that can't be written is written later, never dropped: until then its task stays open, and with it
//! the record's offset. One that is refused for good stops the partition by name, for somebody has to act. If the process ends meanwhile the delivery is repeated, under the same id.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::{AvroRecord, Codec, EncodeError, WebhookAttempt, WebhookExhausted};
use crate::runtime::{ErrorClass, Failure, Flights, OutRecord, ProduceError, Producer};

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
    /// One by one each receipt would be a request of its own, which costs Kafka and us more than the delivery. Only its lane
    /// waits for a receipt.
    flights: Flights,
}

impl Receipts {
    /// Writes to `topics`.
    pub(super) fn new(codec: Codec, producer: Producer, topics: ReceiptTopics, clock: Clock) -> Self {
        Self { codec, producer, topics, clock, flights: Flights::default() }
    }

    /// Returns when the schemas' ids are known, or can't be had.
    pub(super) async fn prepared(self: Arc<Self>) {
        let attempts = self.codec.encode_record(&self.topics.attempts, &WebhookAttempt::default()).await;
        let exhausted = self.codec.encode_record(&self.topics.exhausted, &WebhookExhausted::default()).await;
        if let (Err(why), _) | (_, Err(why)) = (attempts, exhausted) {
            tracing::debug!(%why, "what receipts need is not at hand yet");
        }
    }

    /// Returns when Kafka has acknowledged `attempt`.
    ///
    /// # Errors
    /// When it never will.
    pub(super) async fn attempted(self: Arc<Self>, attempt: WebhookAttempt) -> Result<(), Failure> {
        self.acknowledged(&self.topics.attempts, &attempt.order_id, &attempt).await
    }

    /// Returns when Kafka has acknowledged `exhausted`.
    ///
    /// # Errors
    /// When it never will.
    pub(super) async fn exhausted(&self, exhausted: &WebhookExhausted) -> Result<(), Failure> {
        self.acknowledged(&self.topics.exhausted, &exhausted.order_id, exhausted).await
    }

    async fn acknowledged<R: AvroRecord>(
        &self,
        topic: &Arc<str>,
        key: &str,
        receipt: &R,
    ) -> Result<(), Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(why) = self.write(topic, key, receipt).await else { return Ok(()) };
            if why.is_for_good() {
                let message = format!("a webhook receipt for {topic} is refused: {why}");
                return Err(Failure::new(ErrorClass::Internal, message));
            }
            tracing::warn!(topic = &**topic, %why, "a webhook receipt can't be written; trying again");
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn write<R: AvroRecord>(
        &self,
        topic: &Arc<str>,
        key: &str,
        receipt: &R,
    ) -> Result<(), ReceiptError> {
        let payload = self.codec.encode_record(topic, receipt).await?;
        let record = OutRecord::keyed(Arc::clone(topic), key.to_owned(), payload);
        let _seat = self.flights.board().await;
        self.producer.send(record).await?;
        Ok(())
    }
}

/// Why a receipt isn't written.
#[derive(Debug, thiserror::Error)]
enum ReceiptError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Produce(#[from] ProduceError),
}

impl ReceiptError {
    /// Whether trying again is of no use until somebody acts. The client asks for half a minute whether a topic is
    /// there before it says that it isn't.
    fn is_for_good(&self) -> bool {
        match self {
            Self::Encode(EncodeError::Invalid(_)) => true,
            Self::Encode(
                EncodeError::NotRegistered { .. }
                | EncodeError::Refused(_)
                | EncodeError::RegistryUnavailable(_),
            ) => false,
            Self::Produce(ProduceError::Unavailable { .. } | ProduceError::NoRoom { .. }) => false,
            Self::Produce(
                ProduceError::UnknownTopic { .. }
                | ProduceError::TooLarge { .. }
                | ProduceError::Refused { .. },
            ) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        let topic = || "webhooks.attempts".to_owned();
        let why = || "why".to_owned();
        let for_good = [
            ReceiptError::from(ProduceError::UnknownTopic { topic: topic() }),
            ProduceError::TooLarge { topic: topic(), bytes: 2, limit: 1 }.into(),
            ProduceError::Refused { topic: topic(), why: why() }.into(),
            EncodeError::Invalid(why()).into(),
        ];
        assert!(for_good.iter().all(ReceiptError::is_for_good));
        let passing = [
            ReceiptError::from(ProduceError::Unavailable { topic: topic(), why: why() }),
            EncodeError::RegistryUnavailable(why()).into(),
        ];
        assert!(!passing.iter().any(ReceiptError::is_for_good));
    }
}
