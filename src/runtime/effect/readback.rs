//! Reads parked records again, by offset, when they aren't in memory any more.
//!
//! A thread with a small client of its own, started at the first need: the member's client stays where it is. Lanes are
//! served in the order in which their work was parked, so what follows a record is kept in a window per partition: a
//! question that finds its record there costs no fetch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{OnceCell, mpsc, oneshot};

use crate::runtime::consumer::to_record;
use crate::runtime::options::{KafkaOptions, Role};
use crate::runtime::outcome::{ErrorClass, Failure};
use crate::runtime::reader::Listener;
use crate::runtime::record::Record;
use crate::task;

/// Questions that may wait.
const WAITING: usize = 64;
/// How long one record may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Bytes of a partition's records that are kept because they followed one that was asked for.
const WINDOW_BYTES: usize = 1024 * 1024;
/// How long to wait for a further record to keep.
const AHEAD_WAIT: Duration = Duration::from_millis(5);

type Question = (i32, i64, oneshot::Sender<Result<Record, Failure>>);

/// Reads single records of one retry topic.
#[derive(Debug)]
pub(super) struct Readback {
    kafka: KafkaOptions,
    topic: Arc<str>,
    questions: OnceCell<mpsc::Sender<Question>>,
}

impl Readback {
    pub(super) fn new(kafka: &KafkaOptions, topic: Arc<str>) -> Self {
        Self { kafka: kafka.clone(), topic, questions: OnceCell::new() }
    }

    /// The record at that offset.
    ///
    /// # Errors
    /// When it doesn't come in time: the lane waits and asks again.
    pub(super) async fn fetch(&self, partition: i32, offset: i64) -> Result<Record, Failure> {
        let away = |why: String| Failure::new(ErrorClass::Unavailable, why);
        let questions = self
            .questions
            .get_or_try_init(|| async { self.start() })
            .await
            .map_err(|error| away(format!("parked records can't be read: {error}")))?;
        let (reply, answer) = oneshot::channel();
        questions
            .send((partition, offset, reply))
            .await
            .map_err(|_| away("the reader of parked records ended".to_owned()))?;
        answer.await.unwrap_or_else(|_| Err(away("the reader of parked records ended".to_owned())))
    }

    fn start(&self) -> Result<mpsc::Sender<Question>, String> {
        let settings = self.kafka.client_config(Role::Reader);
        let consumer: BaseConsumer<Listener> =
            settings.create_with_context(Listener).map_err(|error| error.to_string())?;
        let (sender, mut questions) = mpsc::channel::<Question>(WAITING);
        let topic = Arc::clone(&self.topic);
        let mut reader = Reader { consumer, topic, windows: Windows::default() };
        task::spawn_thread("parked-reader", move || {
            while let Some((partition, offset, reply)) = questions.blocking_recv() {
                if !reply.is_closed() {
                    let _ = reply.send(reader.read(partition, offset));
                }
            }
        })
        .map_err(|error| error.to_string())?;
        Ok(sender)
    }
}

/// The thread's side.
struct Reader {
    consumer: BaseConsumer<Listener>,
    topic: Arc<str>,
    windows: Windows,
}

impl Reader {
    fn read(&mut self, partition: i32, offset: i64) -> Result<Record, Failure> {
        if let Some(record) = self.windows.take(partition, offset) {
            return Ok(record);
        }
        let record = self.fetch(partition, offset)?;
        let consumer = &self.consumer;
        let next = std::iter::from_fn(|| consumer.poll(AHEAD_WAIT).and_then(Result::ok));
        self.windows.refill(partition, next.map(|message| to_record(&message, &self.topic)));
        Ok(record)
    }

    fn fetch(&self, partition: i32, offset: i64) -> Result<Record, Failure> {
        let away = |why: String| Failure::new(ErrorClass::Unavailable, why);
        let topic = &self.topic;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| away(error.to_string()))?;
        let deadline = Instant::now() + WITHIN;
        let mut last = "no answer in time".to_owned();
        while Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let record = to_record(&message, topic);
                    if record.partition == partition && record.offset == offset {
                        return Ok(record);
                    }
                }
                Some(Err(error)) => last = error.to_string(),
                None => {}
            }
        }
        Err(away(format!("the parked record {topic}/{partition}@{offset} can't be read: {last}")))
    }
}

/// Records that followed one that was asked for, by partition, ascending; at most [`WINDOW_BYTES`] each.
#[derive(Debug, Default)]
struct Windows(HashMap<i32, VecDeque<Record>>);

impl Windows {
    fn take(&mut self, partition: i32, offset: i64) -> Option<Record> {
        let window = self.0.get_mut(&partition)?;
        let at = window.binary_search_by_key(&offset, |record| record.offset).ok()?;
        window.remove(at)
    }

    /// Puts `following` in place of what the partition's window held.
    fn refill(&mut self, partition: i32, following: impl Iterator<Item = Record>) {
        let window = self.0.entry(partition).or_default();
        window.clear();
        let mut bytes = 0;
        for record in following.filter(|record| record.partition == partition) {
            bytes += record.bytes();
            window.push_back(record);
            if bytes >= WINDOW_BYTES {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::runtime::record::Headers;

    fn log(partition: i32, from: i64) -> impl Iterator<Item = Record> {
        (from..).map(move |offset| Record {
            topic: "retry".into(),
            partition,
            offset,
            timestamp_ms: None,
            key: None,
            payload: Some(Bytes::from_static(&[7; 1024])),
            headers: Headers::default(),
        })
    }

    #[test]
    fn partitions_read_in_turns_keep_their_windows_and_each_stays_within_its_bound() {
        let mut windows = Windows::default();
        let mut fetches = 0;
        for offset in 0..5_000 {
            for partition in 0..3 {
                if windows.take(partition, offset).is_none() {
                    fetches += 1;
                    windows.refill(partition, log(partition, offset + 1));
                }
            }
        }
        assert!(fetches <= 3 * 6, "{fetches}");
        let held = |window: &VecDeque<Record>| window.iter().map(Record::bytes).sum::<usize>();
        assert!(windows.0.values().all(|window| held(window) < WINDOW_BYTES + 2 * 1024));
    }
}
