//! The live channel: messages for the live socket go to a topic keyed by user, which every gateway reads.

use std::sync::Arc;

use super::channel::{Accepted, Carrier, Refusal};
use crate::event::{Codec, EncodeError, LiveNotification, OutboundNotification};
use crate::runtime::{ErrorClass, Failure, OutRecord, Producer};

/// Messages that one member has on their way at once: half of what the stage may do, so that
/// mails keep a share when the live topic is slow.
const CONCURRENCY: usize = 32;

/// Carries messages to the live topic.
#[derive(Debug, Clone)]
pub struct Live {
    codec: Codec,
    producer: Producer,
    topic: Arc<str>,
}

impl Live {
    /// A channel to the topic `topic`.
    pub fn new(codec: Codec, producer: Producer, topic: impl Into<Arc<str>>) -> Self {
        Self { codec, producer, topic: topic.into() }
    }
}

impl Carrier for Live {
    async fn carry(&self, message: &OutboundNotification) -> Result<Accepted, Refusal> {
        let live = LiveNotification {
            notification_id: message.notification_id.clone(),
            tenant_id: message.tenant_id.clone(),
            user_id: message.user_id.clone(),
            order_id: message.order_id.clone(),
            event_id: message.event_id.clone(),
            event_type: message.event_type.clone(),
            message: message.text.clone(),
            occurred_at: message.occurred_at,
        };
        let payload = self.codec.encode_record(&self.topic, &live).await.map_err(unencoded)?;
        let key = message.user_id.clone().into_bytes();
        let record = OutRecord::keyed(Arc::clone(&self.topic), key, payload);
        let delivered = self.producer.send(record).await.map_err(|error| {
            let failure = Failure::new(ErrorClass::Unavailable, error.to_string());
            if error.is_transient() { Refusal::Away(failure) } else { Refusal::Never(failure) }
        })?;
        Ok(Accepted { provider_id: format!("{}/{}@{}", self.topic, delivered.partition, delivered.offset) })
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }
}

fn unencoded(error: EncodeError) -> Refusal {
    let message = error.to_string();
    match error {
        EncodeError::Invalid(_) => Refusal::Never(Failure::new(ErrorClass::Data, message)),
        EncodeError::NotRegistered { .. } | EncodeError::Refused(_) | EncodeError::RegistryUnavailable(_) => {
            Refusal::Away(Failure::new(ErrorClass::Unavailable, message))
        }
    }
}
