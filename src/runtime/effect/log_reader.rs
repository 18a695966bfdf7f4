//! Reads the source again for the cursors of one partition: a chunk at a time, on a thread with a client of its own.
//!
//! The member's client stays where it is. A chunk is bounded, and the next one is read only when somebody asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use crate::runtime::consumer::to_record;
use crate::runtime::options::{KafkaOptions, Role};
use crate::runtime::outcome::{ErrorClass, Failure};
use crate::runtime::reader::Listener;
use crate::runtime::record::Record;
use crate::task;

/// Records of a chunk, at most.
const RECORDS: usize = 256;
/// Bytes of a chunk, at most (one record is always taken).
const BYTES: usize = 1024 * 1024;
/// How long a chunk may take to begin.
const WITHIN: Duration = Duration::from_secs(10);
/// How long one question to the broker may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A stretch of the log.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Its records, in order.
    pub(super) records: Vec<Record>,
    /// The offset behind what was read, whether there were records or not.
    pub(super) next: i64,
    /// Where the log begins, when that is behind the offset that was asked for.
    pub(super) low: Option<i64>,
}

type Question = (i64, i64, oneshot::Sender<Result<Chunk, Failure>>);

/// Reads one partition; dropping it ends the thread.
#[derive(Debug, Clone)]
pub(super) struct LogReader(mpsc::Sender<Question>);

impl LogReader {
    pub(super) fn start(kafka: &KafkaOptions, topic: &str, partition: i32) -> Result<Self, Failure> {
        let away = |why: String| Failure::new(ErrorClass::Unavailable, why);
        let mut config = kafka.client_config(Role::Reader);
        // A fetch that waits at the end of the log holds up the next one, which is often for another place.
        config.set("fetch.wait.max.ms", "20");
        let consumer: BaseConsumer<Listener> =
            config.create_with_context(Listener).map_err(|error| away(error.to_string()))?;
        let (sender, mut questions) = mpsc::channel::<Question>(1);
        let topic = topic.into();
        let mut reader = Reader { consumer, topic, partition, position: None, last: None };
        task::spawn_thread("cursor-reader", move || {
            while let Some((from, to, reply)) = questions.blocking_recv() {
                if !reply.is_closed() {
                    let _ = reply.send(reader.chunk(from, to));
                }
            }
        })
        .map_err(|error| away(error.to_string()))?;
        Ok(Self(sender))
    }

    /// The records from `from` on and below `to`, as many as a chunk holds.
    ///
    /// # Errors
    /// When Kafka doesn't answer in time.
    pub(super) async fn chunk(&self, from: i64, to: i64) -> Result<Chunk, Failure> {
        let ended = || Failure::new(ErrorClass::Unavailable, "the reader of cursors ended");
        let (reply, answer) = oneshot::channel();
        self.0.send((from, to, reply)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// The thread's side.
struct Reader {
    consumer: BaseConsumer<Listener>,
    topic: Arc<str>,
    partition: i32,
    /// Where the client stands; `None` when that isn't known.
    position: Option<i64>,
    /// What was read last, and from where: a target without room comes back for the rest of it.
    last: Option<(i64, Chunk)>,
}

impl Reader {
    fn chunk(&mut self, from: i64, to: i64) -> Result<Chunk, Failure> {
        if let Some((began, last)) = &self.last
            && (*began..last.next).contains(&from)
        {
            let rest = last.records.iter().filter(|record| (from..to).contains(&record.offset));
            return Ok(Chunk { records: rest.cloned().collect(), next: last.next.min(to), low: None });
        }
        let chunk = self.read(from, to)?;
        // What has left the log is told anew to whoever asks for it.
        let last = Chunk { records: chunk.records.clone(), next: chunk.next, low: None };
        self.last = chunk.low.is_none().then_some((from, last));
        Ok(chunk)
    }

    fn read(&mut self, from: i64, to: i64) -> Result<Chunk, Failure> {
        let away = |why: String| Failure::new(ErrorClass::Unavailable, why);
        let mut is_fresh = self.position != Some(from);
        if is_fresh {
            self.go_to(from)?;
        }
        // Only a chunk that was read to its end leaves the client where the next one goes on.
        self.position = None;
        let (mut chunk, mut bytes) = (Chunk { records: Vec::new(), next: from, low: None }, 0);
        let (deadline, mut last) = (Instant::now() + WITHIN, "no answer in time".to_owned());
        while chunk.next < to && chunk.records.len() < RECORDS && bytes < BYTES {
            match self.consumer.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    let record = to_record(&message, &self.topic);
                    if record.offset >= to {
                        chunk.next = to;
                        return Ok(chunk);
                    }
                    bytes += record.bytes();
                    chunk.next = record.offset + 1;
                    chunk.records.push(record);
                }
                Some(Err(KafkaError::PartitionEOF(_))) if !chunk.records.is_empty() => break,
                // What lies between here and `to` are marks of transactions, or gone.
                Some(Err(KafkaError::PartitionEOF(_))) if is_fresh => {
                    chunk.next = to;
                    return Ok(chunk);
                }
                // Perhaps the end as it was a while ago: asked anew.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.go_to(from)?;
                    is_fresh = true;
                }
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return self.behind_the_gap(from, to);
                }
                Some(Err(error)) => last = error.to_string(),
                None if !chunk.records.is_empty() => break,
                None if Instant::now() >= deadline => {
                    let (topic, partition) = (&self.topic, self.partition);
                    return Err(away(format!("{topic}/{partition} can't be read from {from} on: {last}")));
                }
                None => {}
            }
        }
        self.position = Some(chunk.next);
        Ok(chunk)
    }

    fn go_to(&self, offset: i64) -> Result<(), Failure> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| Failure::new(ErrorClass::Unavailable, error.to_string()))
    }

    /// The log begins behind the offset that was asked for.
    fn behind_the_gap(&self, from: i64, to: i64) -> Result<Chunk, Failure> {
        let (low, _) = self
            .consumer
            .fetch_watermarks(&self.topic, self.partition, ANSWER_WITHIN)
            .map_err(|error| Failure::new(ErrorClass::Unavailable, error.to_string()))?;
        Ok(Chunk { records: Vec::new(), next: low.clamp(from, to), low: (low > from).then_some(low) })
    }
}
