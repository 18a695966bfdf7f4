//! Reads a topic outside any group: for following, live sockets, reading back and tests.
//!
//! Commits nothing and assigns its partitions itself. One thread per reader; what it reads waits in a bounded
//! channel, so a slow caller slows the reading down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::consumer::to_record;
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
            Ok((consumer, partitions)) => {
                if opened_in.send(Ok(partitions)).is_ok() {
                    read(&consumer, &topic, &sender);
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
struct Listener;

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
) -> Result<(BaseConsumer<Listener>, BTreeSet<i32>), ReadError> {
    let settings = kafka.client_config(Role::Reader);
    let consumer: BaseConsumer<Listener> =
        settings.create_with_context(Listener).map_err(ReadError::Settings)?;
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN).map_err(ReadError::Unavailable)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions: BTreeSet<i32> = found
        .into_iter()
        .flat_map(|found| found.partitions())
        .map(|found| found.id())
        .filter(|id| partition.is_none_or(|wanted| wanted == *id))
        .collect();
    if partitions.is_empty() {
        return Err(ReadError::TopicMissing(topic.to_owned()));
    }
    let mut list = TopicPartitionList::new();
    for &id in &partitions {
        let offset = match from {
            ReadFrom::Offset(offset) => offset,
            ReadFrom::Earliest | ReadFrom::Latest => {
                let ends = consumer.fetch_watermarks(topic, id, ANSWER_WITHIN);
                let (low, high) = ends.map_err(ReadError::Unavailable)?;
                if from == ReadFrom::Earliest { low } else { high }
            }
        };
        list.add_partition_offset(topic, id, Offset::Offset(offset)).map_err(ReadError::Unavailable)?;
    }
    consumer.assign(&list).map_err(ReadError::Unavailable)?;
    Ok((consumer, partitions))
}

fn read(consumer: &BaseConsumer<Listener>, topic: &Arc<str>, sender: &mpsc::Sender<Read>) {
    let mut complained: Option<RDKafkaErrorCode> = None;
    while !sender.is_closed() {
        let read = match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => {
                complained = None;
                Read::Record(to_record(&message, topic))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Read::End(partition),
            Some(Err(error)) => {
                let code = error.rdkafka_error_code();
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
