//! The one way by which this program puts events on a topic: command line, HTTP, generator and demo.
//!
//! ```text
//! event ──► its topic, by the topology ──► Avro ──► size ──► producer ──► acknowledged by all replicas
//! ```
//!
//! What must not live here: who may publish (asked of [`Publisher::may_publish`] by those who know the
//! caller), and any second try: an event that was not acknowledged is reported, never sent again in secret.

mod in_order;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::event::{Codec, EncodeError, Event, EventType, TraceParent, headers};
use crate::runtime::{Headers, OutRecord, ProduceError, Producer};
use crate::telemetry::Metrics;
use crate::topology::Topology;
pub use in_order::InOrder;

/// Puts events on their topics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    codec: Codec,
    producer: Producer,
    topology: Arc<Topology>,
    metrics: Arc<Metrics>,
}

/// Where an acknowledged event lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The event's id.
    pub event_id: Uuid,
    /// The topic, as named on the broker.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// An event that is ready to be sent.
#[derive(Debug, Clone)]
pub struct Prepared {
    event_id: Uuid,
    event_type: EventType,
    record: OutRecord,
}

/// Why an event was not published. It is in no log then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Its id isn't a UUID, by which effects are named.
    #[error("the event id `{0}` is not a UUID")]
    NotAnId(String),
    /// A topic's records have a key, and this event's would be empty.
    #[error("the event names no order (or job) and so has no key")]
    NoKey,
    /// It is larger than its topic takes.
    #[error("the event has {bytes} bytes, more than the {limit} that {topic} takes")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Key, value and headers together, in bytes before compression.
        bytes: usize,
        /// The topic's limit.
        limit: usize,
    },
    /// It can't be written as Avro, or its schema isn't registered.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Kafka didn't take it.
    #[error(transparent)]
    Produce(#[from] ProduceError),
}

impl PublishError {
    /// True when the event is larger than its topic, the producer or the broker takes.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Produce(ProduceError::TooLarge { .. }))
    }

    /// True when a service is away and the same event may be taken later; false when the event, or the set-up,
    /// has to change first.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotAnId(_) | Self::NoKey | Self::TooLarge { .. } => false,
            Self::Encode(error) => match error {
                EncodeError::RegistryUnavailable(_) => true,
                EncodeError::NotRegistered { .. } | EncodeError::Refused(_) | EncodeError::Invalid(_) => {
                    false
                }
            },
            Self::Produce(error) => error.is_transient(),
        }
    }
}

impl Publisher {
    /// A publisher over the parts of the process.
    pub fn new(codec: Codec, producer: Producer, topology: Arc<Topology>, metrics: Arc<Metrics>) -> Self {
        for event_type in EventType::ALL {
            metrics.events_published.with_label_values(&[event_type.as_str()]);
        }
        Self { codec, producer, topology, metrics }
    }

    /// Whether somebody with `role` may publish events of this type: the topology says so.
    pub fn may_publish(&self, role: &str, event_type: EventType) -> bool {
        self.topology.may_publish(role, event_type)
    }

    /// Publishes one event and waits until all replicas have it.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        event: &Event,
        trace: Option<TraceParent>,
    ) -> Result<Published, PublishError> {
        let prepared = self.prepare(event, trace).await?;
        self.send(prepared).await
    }

    /// Finds the event's topic, writes its bytes and looks at their size.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn prepare(&self, event: &Event, trace: Option<TraceParent>) -> Result<Prepared, PublishError> {
        let event_id = event
            .meta()
            .event_id
            .parse()
            .map_err(|_| PublishError::NotAnId(event.meta().event_id.clone()))?;
        let topic = self.topology.topic_of(event.event_type());
        let key = event.key().to_owned();
        if key.is_empty() {
            return Err(PublishError::NoKey);
        }
        let payload = self.codec.encode(&topic.name, event).await?;
        let headers = headers(event, Some(&trace.unwrap_or_else(TraceParent::random)));
        let bytes = size(&key, &payload, &headers);
        if bytes > topic.max_message_bytes {
            return Err(PublishError::TooLarge {
                topic: topic.name.to_string(),
                bytes,
                limit: topic.max_message_bytes,
            });
        }
        let mut record = OutRecord::keyed(Arc::clone(&topic.name), key, Bytes::from(payload));
        record.headers = Headers::from(headers);
        Ok(Prepared { event_id, event_type: event.event_type(), record })
    }

    /// Sends a prepared event and waits until all replicas have it. Events of one key arrive in the order in
    /// which their sends were first polled.
    ///
    /// # Errors
    /// When Kafka doesn't take it.
    pub async fn send(&self, prepared: Prepared) -> Result<Published, PublishError> {
        let Prepared { event_id, event_type, record } = prepared;
        let topic = Arc::clone(&record.topic);
        let delivered = self.producer.send(record).await?;
        self.metrics.events_published.with_label_values(&[event_type.as_str()]).inc();
        Ok(Published { event_id, topic, partition: delivered.partition, offset: delivered.offset })
    }
}

/// What a record counts for against the broker's limit: everything, and room for the record's own framing.
fn size(key: &str, payload: &[u8], headers: &[(String, Vec<u8>)]) -> usize {
    /// Batch and record overhead of message format 2, rounded up.
    const FRAMING: usize = 128;
    let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    FRAMING + key.len() + payload.len() + headers
}
