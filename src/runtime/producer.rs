//! Sends records to Kafka and waits for the acknowledgement: what isn't acknowledged didn't happen.
//!
//! Idempotent, `acks=all`, and patient: within its two minutes the client itself retries in order. A failed
//! delivery is final for that record; callers that need order stop its key or partition.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use super::options::{KafkaOptions, Role};
use super::record::Headers;

/// How long a send waits for room in the client's queue before it is refused.
const QUEUE_WAIT: Duration = Duration::from_secs(30);

/// The one producer of a process. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    inner: FutureProducer,
    max_message_bytes: usize,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

/// A record to be sent.
#[derive(Debug, Clone)]
pub struct OutRecord {
    /// Where to.
    pub topic: Arc<str>,
    /// Which partition; `None` leaves it to the key's hash.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
    /// The timestamp in epoch milliseconds; `None` is now.
    pub timestamp_ms: Option<i64>,
}

impl OutRecord {
    /// A keyed record without headers; the partition follows from the key.
    pub fn keyed(topic: impl Into<Arc<str>>, key: impl Into<Bytes>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: Some(key.into()),
            payload: Some(payload.into()),
            headers: Headers::default(),
            timestamp_ms: None,
        }
    }
}

/// Where an acknowledged record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Why a record was not sent. None of it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// Larger than the producer or the broker accepts.
    #[error("the record for {topic} has {bytes} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The record's size.
        bytes: usize,
        /// The producer's limit (the broker's may be lower).
        limit: usize,
    },
    /// The topic or partition doesn't exist.
    #[error("topic {topic} or its partition does not exist; create it with `orderflow topology apply`")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// Not acknowledged in time, or no room in the queue.
    #[error("kafka did not acknowledge a record for {topic}: {why}")]
    Unavailable {
        /// The topic.
        topic: String,
        /// The client's words.
        why: String,
    },
    /// Refused for good: not authorised, invalid record, fatal client error.
    #[error("kafka refused a record for {topic}: {why}")]
    Refused {
        /// The topic.
        topic: String,
        /// The client's words.
        why: String,
    },
}

impl ProduceError {
    /// True when the same record may be accepted later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::UnknownTopic { .. } => true,
            Self::TooLarge { .. } | Self::Refused { .. } => false,
        }
    }
}

impl Producer {
    /// A producer with these settings; connects in the background.
    ///
    /// # Errors
    /// When the client refuses the settings.
    pub fn new(options: &KafkaOptions) -> Result<Self, KafkaError> {
        Ok(Self {
            inner: options.client_config(Role::Producer).create()?,
            max_message_bytes: options.max_message_bytes,
        })
    }

    /// Sends `record` and waits for the acknowledgement of all in-sync replicas.
    ///
    /// # Errors
    /// See [`ProduceError`]; the record is then not in the log.
    pub async fn send(&self, record: OutRecord) -> Result<Delivered, ProduceError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers.iter() {
            headers = headers.insert(Header { key, value: value.map(AsRef::<[u8]>::as_ref) });
        }
        let mut out = FutureRecord::<[u8], [u8]>::to(&record.topic).headers(headers);
        if let Some(partition) = record.partition {
            out = out.partition(partition);
        }
        if let Some(key) = &record.key {
            out = out.key(key.as_ref());
        }
        if let Some(payload) = &record.payload {
            out = out.payload(payload.as_ref());
        }
        if let Some(timestamp) = record.timestamp_ms {
            out = out.timestamp(timestamp);
        }
        match self.inner.send(out, QUEUE_WAIT).await {
            Ok(delivery) => Ok(Delivered { partition: delivery.partition, offset: delivery.offset }),
            Err((error, _message)) => Err(self.explain(&record, &error)),
        }
    }

    /// Waits until everything sent so far is acknowledged or failed, at most `within`. Blocks: call it off the
    /// async threads. Answers whether the queue is empty.
    pub fn flush(&self, within: Duration) -> bool {
        self.inner.flush(within).is_ok()
    }

    fn explain(&self, record: &OutRecord, error: &KafkaError) -> ProduceError {
        let topic = record.topic.to_string();
        let why = error.to_string();
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                ProduceError::TooLarge {
                    topic,
                    bytes: record.payload.as_ref().map_or(0, Bytes::len)
                        + record.key.as_ref().map_or(0, Bytes::len),
                    limit: self.max_message_bytes,
                }
            }
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopicOrPartition,
            ) => ProduceError::UnknownTopic { topic },
            Some(
                RDKafkaErrorCode::QueueFull
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::NotEnoughReplicas
                | RDKafkaErrorCode::NotEnoughReplicasAfterAppend
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown,
            ) => ProduceError::Unavailable { topic, why },
            Some(_) | None => ProduceError::Refused { topic, why },
        }
    }
}
