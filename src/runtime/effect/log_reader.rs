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
/// What the client fetches ahead.
const AHEAD_KIB: &str = "1024";
/// What it asks for in one request, as it lies in the log (one batch always comes).
const FETCHED_AT_ONCE: &str = "131072";
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
        // Every partition may have such a client, and what it fetches ahead is bounded only here: a few chunks, which it counts
        // when they are unpacked.
        config.set("queued.max.messages.kbytes", AHEAD_KIB);
        config.set("max.partition.fetch.bytes", FETCHED_AT_ONCE);
        config.set("fetch.queue.backoff.ms", "3");
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
        if self.position != Some(from) {
            self.go_to(from)?;
        }
        // The client was put where it is when the log was known to hold everything below `to`.
        let mut is_proven = false;
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
                Some(Err(KafkaError::PartitionEOF(_))) if is_proven => {
                    chunk.next = to;
                    return Ok(chunk);
                }
                // The end as it was a while ago, or of a broker that lags behind: asked anew.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let (_, high) = self.ends()?;
                    if high < to {
                        let (topic, partition) = (&self.topic, self.partition);
                        return Err(away(format!("{topic}/{partition} ends at {high}, before {to}")));
                    }
                    self.go_to(from)?;
                    is_proven = true;
                }
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return out_of_range((from, to), self.ends()?).map_err(away);
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

    /// Where the log begins, and the offset behind its end.
    fn ends(&self) -> Result<(i64, i64), Failure> {
        self.consumer
            .fetch_watermarks(&self.topic, self.partition, ANSWER_WITHIN)
            .map_err(|error| Failure::new(ErrorClass::Unavailable, error.to_string()))
    }
}

/// What comes of `from..to` when the broker says that `from` isn't in its log, which goes from `low` to `high`: a gap at its
/// beginning; or, in words, why that can't be told now. Pure.
fn out_of_range((from, to): (i64, i64), (low, high): (i64, i64)) -> Result<Chunk, String> {
    if low > from {
        return Ok(Chunk { records: Vec::new(), next: low.min(to), low: Some(low) });
    }
    // Reading on at once would ask the same again. A log that lost its end is named by whoever reads it live.
    Err(format!("{from} is out of range of a log from {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_before_the_log_s_beginning_is_passed_over() {
        let told = |stretch, log| out_of_range(stretch, log).map(|chunk| (chunk.next, chunk.low));
        assert_eq!(told((5, 20), (10, 100)), Ok((10, Some(10))));
        assert_eq!(told((5, 20), (50, 100)), Ok((20, Some(50))), "no further than was asked for");
        assert!(told((200, 300), (10, 100)).is_err(), "beyond the end: to be asked again later");
        assert!(told((50, 60), (10, 100)).is_err(), "it is there by now");
    }
}
