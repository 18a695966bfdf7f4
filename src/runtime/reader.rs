//! Reads a topic outside any group: for following, live sockets, reading back and tests.
//!
//! Commits nothing and assigns its partitions itself. One thread per reader; what it reads waits in a bounded
//! channel, so a slow caller slows the reading down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::consumer::to_record;
use super::error::is_of_missing_topic;
use super::options::{KafkaOptions, Role};
use super::record::Record;
use crate::task;

/// Records that wait for the caller.
const WAITING: usize = 1_000;
/// How often the thread looks whether anybody still listens.
const POLL: Duration = Duration::from_millis(100);
/// How long one question to the broker may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Where reading begins, on every partition that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record at the moment of opening.
    Latest,
    /// At this offset.
    Offset(i64),
}

/// Why a topic can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The client refused its settings.
    #[error("kafka client settings are refused: {0}")]
    Settings(#[source] KafkaError),
    /// The topic or the partition doesn't exist.
    #[error("topic {0} (or the asked partition) does not exist; create it with `orderflow topology apply`")]
    TopicMissing(String),
    /// Kafka doesn't answer.
    #[error("kafka does not answer: {0}")]
    Unavailable(#[source] KafkaError),
    /// The operating system refused a thread.
    #[error("no thread for the reader: {0}")]
    Thread(#[source] std::io::Error),
    /// The thread ended early.
    #[error("the reader ended early")]
    Ended,
}

/// A running reader; dropping it ends the reading.
#[derive(Debug)]
pub struct TopicReader {
    received: mpsc::Receiver<Read>,
    unfinished: BTreeSet<i32>,
}

#[derive(Debug)]
enum Read {
    Record(Record),
    /// The partition was read to its end, for now.
    End(i32),
}

impl TopicReader {
    /// Starts to read `topic`: one `partition`, or all of them.
    ///
    /// # Errors
    /// When Kafka doesn't answer or the topic doesn't exist.
    pub async fn open(
        kafka: &KafkaOptions,
        topic: &str,
        partition: Option<i32>,
        from: ReadFrom,
    ) -> Result<Self, ReadError> {
        let (sender, received) = mpsc::channel(WAITING);
        let (opened_in, opened) = oneshot::channel();
        let (kafka, topic): (KafkaOptions, Arc<str>) = (kafka.clone(), topic.into());
        task::spawn_thread("topic-reader", move || match connect(&kafka, &topic, partition, from) {
            Ok((consumer, next)) => {
                if opened_in.send(Ok(next.keys().copied().collect())).is_ok() {
                    read(&consumer, &topic, next, &sender);
                }
            }
            Err(error) => {
                let _ = opened_in.send(Err(error));
            }
        })
        .map_err(ReadError::Thread)?;
        let unfinished = opened.await.map_err(|_| ReadError::Ended)??;
        Ok(Self { received, unfinished })
    }

    /// The next record, in partition order; waits for it. `None` when reading has ended early.
    pub async fn next(&mut self) -> Option<Record> {
        loop {
            match self.received.recv().await? {
                Read::Record(record) => return Some(record),
                Read::End(partition) => {
                    self.unfinished.remove(&partition);
                }
            }
        }
    }

    /// The next record, or `None` once every partition was read to its end.
    pub async fn next_to_end(&mut self) -> Option<Record> {
        while !self.unfinished.is_empty() {
            match self.received.recv().await? {
                Read::Record(record) => return Some(record),
                Read::End(partition) => {
                    self.unfinished.remove(&partition);
                }
            }
        }
        None
    }
}

/// Logs what the client complains of, but not the ends of partitions: those are asked for.
pub(crate) struct Listener;

impl ClientContext for Listener {
    fn error(&self, error: KafkaError, reason: &str) {
        if !matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            tracing::warn!(%error, reason, "the client of a topic reader complains");
        }
    }
}

impl ConsumerContext for Listener {}

fn connect(
    kafka: &KafkaOptions,
    topic: &str,
    partition: Option<i32>,
    from: ReadFrom,
) -> Result<(BaseConsumer<Listener>, BTreeMap<i32, i64>), ReadError> {
    let settings = kafka.client_config(Role::Reader);
    let consumer: BaseConsumer<Listener> =
        settings.create_with_context(Listener).map_err(ReadError::Settings)?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN).map_err(ReadError::Unavailable)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions: Vec<i32> = found
        .into_iter()
        .flat_map(|found| found.partitions())
        .map(|found| found.id())
        .filter(|id| partition.is_none_or(|wanted| wanted == *id))
        .collect();
    if partitions.is_empty() {
        return Err(ReadError::TopicMissing(topic.to_owned()));
    }
    let mut list = TopicPartitionList::new();
    let mut next = BTreeMap::new();
    for id in partitions {
        let offset = match from {
            ReadFrom::Offset(offset) => offset,
            ReadFrom::Earliest | ReadFrom::Latest => {
                let ends = consumer.fetch_watermarks(topic, id, ANSWER_WITHIN);
                let (low, high) = ends.map_err(|error| unread(topic, error))?;
                if from == ReadFrom::Earliest { low } else { high }
            }
        };
        list.add_partition_offset(topic, id, Offset::Offset(offset)).map_err(ReadError::Unavailable)?;
        next.insert(id, offset);
    }
    consumer.assign(&list).map_err(ReadError::Unavailable)?;
    Ok((consumer, next))
}

/// Brokers know of a topic that was made a moment ago one after the other.
fn unread(topic: &str, error: KafkaError) -> ReadError {
    match error.rdkafka_error_code() {
        Some(code) if is_of_missing_topic(code) => ReadError::TopicMissing(topic.to_owned()),
        Some(_) | None => ReadError::Unavailable(error),
    }
}

/// Reads until nobody listens; `next` is where each partition is read from.
fn read(
    consumer: &BaseConsumer<Listener>,
    topic: &Arc<str>,
    mut next: BTreeMap<i32, i64>,
    sender: &mpsc::Sender<Read>,
) {
    let mut complained: Option<RDKafkaErrorCode> = None;
    let mut lost = false;
    while !sender.is_closed() {
        lost = lost && pass_over_deleted(consumer, topic, &mut next).is_err();
        let read = match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => {
                complained = None;
                next.insert(message.partition(), message.offset() + 1);
                Read::Record(to_record(&message, topic))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Read::End(partition),
            Some(Err(error)) => {
                let code = error.rdkafka_error_code();
                lost |= code == Some(RDKafkaErrorCode::AutoOffsetReset);
                if complained != code {
                    tracing::warn!(%topic, %error, "reading a topic fails; going on");
                    complained = code;
                }
                continue;
            }
        };
        if sender.blocking_send(read).is_err() {
            return;
        }
    }
}

/// Goes on at the beginning of what is left of partitions whose next record was deleted in the meantime.
fn pass_over_deleted(
    consumer: &BaseConsumer<Listener>,
    topic: &str,
    next: &mut BTreeMap<i32, i64>,
) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for (&partition, next) in next.iter_mut() {
        let (low, _) = consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
        if *next < low {
            tracing::info!(
                topic,
                partition,
                from = *next,
                to = low,
                "records were deleted before they were read"
            );
            *next = low;
        }
        list.add_partition_offset(topic, partition, Offset::Offset(*next))?;
    }
    // A partition whose fetching failed begins anew only by a new assignment.
    consumer.assign(&list)?;
    Ok(())
}
