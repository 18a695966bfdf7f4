//! One librdkafka producer, as long as it is good for anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};

use super::OutRecord;
use super::book::{Book, lock};
use crate::runtime::options::{KafkaOptions, Role};

/// How long the cluster may take to say where its leaders are.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long a client that is told to give everything back may take.
const GIVES_BACK_WITHIN: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Client {
    native: ThreadedProducer<Reports>,
}

/// How handing a record to the client went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Its end is told to the book.
    OnItsWay,
    /// The client takes nothing any more.
    Broken,
}

/// Tells the book what became of records.
struct Reports {
    book: Arc<Mutex<Book>>,
    number: u64,
    is_broken: AtomicBool,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.is_broken.store(true, Ordering::Relaxed);
        }
        tracing::debug!(%error, reason, "the kafka producer complains");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let number = number as u64;
        match result {
            Ok(message) => lock(&self.book).delivered(number, (message.partition(), message.offset())),
            Err((error, _)) if ends_the_client(error) => {
                self.is_broken.store(true, Ordering::Relaxed);
                lock(&self.book).give_back(number, self.number);
            }
            Err((error, _)) if is_given_back(error) => lock(&self.book).give_back(number, self.number),
            Err((error, _)) => lock(&self.book).failed(number, self.number, error.clone()),
        }
    }
}

/// An idempotent producer that lost its place with the broker can't go on; the record itself may.
fn ends_the_client(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::OutOfOrderSequenceNumber
                | RDKafkaErrorCode::DuplicateSequenceNumber
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::UnknownProducerId
                | RDKafkaErrorCode::InvalidProducerIdMapping
        )
    )
}

/// What a purge does.
fn is_given_back(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
}

impl Client {
    /// Client `number` of its producer; connects in the background.
    pub(super) fn new(
        options: &KafkaOptions,
        book: &Arc<Mutex<Book>>,
        number: u64,
    ) -> Result<Self, KafkaError> {
        let reports = Reports { book: Arc::clone(book), number, is_broken: AtomicBool::new(false) };
        Ok(Self { native: options.client_config(Role::Producer).create_with_context(reports)? })
    }

    pub(super) fn number(&self) -> u64 {
        self.native.context().number
    }

    /// False once it takes nothing any more.
    pub(super) fn is_well(&self) -> bool {
        !self.native.context().is_broken.load(Ordering::Relaxed)
    }

    /// Why it can't go on, in librdkafka's words.
    pub(super) fn fault(&self) -> Option<String> {
        let fatal = self.native.client().fatal_error().map(|(code, why)| format!("{code}: {why}"));
        fatal.or_else(|| (!self.is_well()).then(|| "it lost its place with the broker".to_owned()))
    }

    /// Puts a record into its queue.
    pub(super) fn send(&self, record: &OutRecord, number: u64) -> Result<Sent, KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers.iter() {
            headers = headers.insert(Header { key, value: value.map(AsRef::<[u8]>::as_ref) });
        }
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let mut out = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&record.topic, number).headers(headers);
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
        match self.native.send(out) {
            Ok(()) => Ok(Sent::OnItsWay),
            Err((error, _)) if ends_the_client(&error) => {
                self.native.context().is_broken.store(true, Ordering::Relaxed);
                Ok(Sent::Broken)
            }
            Err((error, _)) => Err(error),
        }
    }

    /// Whether the cluster says that somebody leads the record's partition (any partition that it may go to). Blocks.
    pub(super) fn has_leader(&self, record: &OutRecord) -> bool {
        let Ok(metadata) = self.native.client().fetch_metadata(Some(&record.topic), ANSWER_WITHIN) else {
            return false;
        };
        let topic = metadata.topics().iter().find(|topic| topic.name() == &*record.topic);
        let partitions = topic.map_or(&[][..], |topic| topic.partitions());
        let mut asked =
            partitions.iter().filter(|known| record.partition.is_none_or(|id| id == known.id())).peekable();
        asked.peek().is_some() && asked.all(|partition| partition.leader() >= 0)
    }

    /// Has it give back everything that it has. Blocks.
    pub(super) fn give_up(&self) {
        self.native.purge(PurgeConfig::default().queue().inflight());
        let deadline = Instant::now() + GIVES_BACK_WITHIN;
        while self.native.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
