//! Sends records to Kafka and waits for the acknowledgement: what isn't acknowledged didn't happen.
//!
//! Idempotent, `acks=all`, and patient: within its two minutes the client itself retries in order. A failed
//! delivery is final for that record; callers that need order stop its key or partition.
//!
//! A client that can't go on is replaced behind the callers' backs ([`care`]): what was not acknowledged is sent again by the
//! new one, in the order in which it was sent first, before anything later. What the old one had got into the log without
//! hearing of it is then there twice, and what is still in a socket of the old one may land at any later time: whoever reads has to
//! recognise repeats, as after a crash of a sender.

mod book;
mod care;
mod client;
mod flights;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::oneshot;

use self::book::{Answer, Book};
use self::client::{Client, Sent};
pub use self::flights::{Flights, Seat};
use super::error::is_of_missing_topic;
use super::options::KafkaOptions;
use super::record::Headers;
use crate::telemetry::Metrics;

/// How long a send waits for room in the client's queue before it is refused.
const QUEUE_WAIT: Duration = Duration::from_secs(30);
/// Between looks whether there is room.
const QUEUE_PAUSE: Duration = Duration::from_millis(100);
/// How often a send that waits looks whether something is wrong with the client.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The one producer of a process. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    kafka: KafkaOptions,
    /// What was sent and isn't answered. Never locked while the line is waited for.
    book: Arc<Mutex<Book>>,
    line: Mutex<Line>,
    /// True while a thread looks after a client that seems to be stuck.
    is_looked_after: AtomicBool,
    metrics: OnceLock<Arc<Metrics>>,
}

/// The way into Kafka: whoever holds it decides on the order.
struct Line {
    client: Arc<Client>,
    /// The client is being replaced: what is sent now waits in the book for the next one.
    moving: bool,
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
    /// True when it was sent more than once: a copy of it may lie at a lower offset, or come to lie at a higher one.
    pub resent: bool,
}

/// Why a record was not sent. None of it is in the log, but perhaps what is [in doubt](ProduceError::is_in_doubt).
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
    /// No room in the queue.
    #[error("there is no room for a record for {topic}: {why}")]
    NoRoom {
        /// The topic.
        topic: String,
        /// The client's words.
        why: String,
    },
    /// Not acknowledged in time.
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
            Self::Unavailable { .. } | Self::NoRoom { .. } | Self::UnknownTopic { .. } => true,
            Self::TooLarge { .. } | Self::Refused { .. } => false,
        }
    }

    /// True when the record may be in the log all the same: only its acknowledgement is missing.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::NoRoom { .. }
            | Self::UnknownTopic { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. } => false,
        }
    }
}

impl Producer {
    /// A producer with these settings; connects in the background.
    ///
    /// # Errors
    /// When the client refuses the settings.
    pub fn new(options: &KafkaOptions) -> Result<Self, KafkaError> {
        let book = Arc::default();
        let client = Arc::new(Client::new(options, &book, 0)?);
        let inner = Inner {
            kafka: options.clone(),
            book,
            line: Mutex::new(Line { client, moving: false }),
            is_looked_after: AtomicBool::new(false),
            metrics: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Counts replaced clients in `metrics`, from the first call on.
    pub fn tell(&self, metrics: &Arc<Metrics>) {
        let metrics = self.inner.metrics.get_or_init(|| Arc::clone(metrics));
        for why in care::REASONS {
            metrics.producer_rebuilds.with_label_values(&[why]);
        }
    }

    /// Sends `record` and waits for the acknowledgement of all in-sync replicas. The first poll hands it to the client,
    /// which keeps the order within a partition from there on.
    ///
    /// # Errors
    /// See [`ProduceError`]; the record is then not in the log.
    pub async fn send(&self, record: OutRecord) -> Result<Delivered, ProduceError> {
        let record = Arc::new(record);
        let mut waited = Duration::ZERO;
        let mut answer = loop {
            match self.inner.hand_over(&record) {
                Ok(answer) => break answer,
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    if waited >= QUEUE_WAIT {
                        return Err(self.explain(&record, &error));
                    }
                    self.look_after();
                    tokio::time::sleep(QUEUE_PAUSE).await;
                    waited += QUEUE_PAUSE;
                }
                Err(error) => return Err(self.explain(&record, &error)),
            }
        };
        loop {
            tokio::select! {
                biased;
                answered = &mut answer => return match answered {
                    Ok(Ok(delivered)) => Ok(delivered),
                    Ok(Err(error)) => Err(self.explain(&record, &error)),
                    Err(_gone) => Err(self.explain(&record, &KafkaError::Canceled)),
                },
                () = tokio::time::sleep(LOOK_EVERY) => self.look_after(),
            }
        }
    }

    /// Has somebody look after the client, if something is wrong with it.
    fn look_after(&self) {
        care::look_after(&self.inner);
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
                    limit: self.inner.kafka.max_message_bytes,
                }
            }
            Some(code) if is_of_missing_topic(code) => ProduceError::UnknownTopic { topic },
            Some(RDKafkaErrorCode::QueueFull) => ProduceError::NoRoom { topic, why },
            Some(
                RDKafkaErrorCode::MessageTimedOut
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

impl Inner {
    /// Notes the record and gives it to the client. Never waits.
    fn hand_over(&self, record: &Arc<OutRecord>) -> Result<oneshot::Receiver<Answer>, KafkaError> {
        let full = || KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
        let line = book::lock(&self.line);
        let by = (!line.moving && line.client.is_well()).then(|| line.client.number());
        let (number, answer) = book::lock(&self.book).note(record, by).ok_or_else(full)?;
        if by.is_none() {
            return Ok(answer);
        }
        match line.client.send(record, number) {
            Ok(Sent::OnItsWay) => Ok(answer),
            // The next client sends it.
            Ok(Sent::Broken) => {
                book::lock(&self.book).give_back(number, line.client.number());
                Ok(answer)
            }
            Err(error) => {
                book::lock(&self.book).strike(number);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
