//! Reads parked records again, by offset, when they aren't in memory any more.
//!
//! A thread with a small client of its own, started at the first need: the member's client stays where it is. Work is
//! due about in the order in which it was parked, so what follows a record is kept for a while: a question that finds
//! its record there costs no fetch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{OnceCell, mpsc, oneshot};

use crate::runtime::consumer::to_record;
use crate::runtime::options::{KafkaOptions, Role};
use crate::runtime::outcome::{ErrorClass, Failure};
use crate::runtime::record::Record;
use crate::task;

/// Questions that may wait.
const WAITING: usize = 64;
/// How long one record may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Bytes of records that are kept because they followed one that was asked for.
const AHEAD_BYTES: usize = 4 * 1024 * 1024;
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
        let consumer: BaseConsumer =
            self.kafka.client_config(Role::Reader).create().map_err(|error| error.to_string())?;
        let (sender, mut questions) = mpsc::channel::<Question>(WAITING);
        let topic = Arc::clone(&self.topic);
        let mut reader = Reader { consumer, topic, ahead: VecDeque::new(), ahead_bytes: 0 };
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
    consumer: BaseConsumer,
    topic: Arc<str>,
    /// Records that followed one that was asked for, oldest first, at most [`AHEAD_BYTES`].
    ahead: VecDeque<Record>,
    ahead_bytes: usize,
}

impl Reader {
    fn read(&mut self, partition: i32, offset: i64) -> Result<Record, Failure> {
        let kept = self.ahead.iter().position(|kept| kept.partition == partition && kept.offset == offset);
        if let Some(record) = kept.and_then(|at| self.ahead.remove(at)) {
            self.ahead_bytes -= record.bytes();
            return Ok(record);
        }
        let record = self.fetch(partition, offset)?;
        self.keep_what_follows();
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

    /// Takes what the fetch brought beside the record, up to half of the bound; the oldest give way.
    fn keep_what_follows(&mut self) {
        let mut taken = 0;
        while taken < AHEAD_BYTES / 2 {
            let Some(Ok(message)) = self.consumer.poll(AHEAD_WAIT) else { return };
            let record = to_record(&message, &self.topic);
            taken += record.bytes();
            self.ahead_bytes += record.bytes();
            self.ahead.push_back(record);
            while self.ahead_bytes > AHEAD_BYTES {
                let Some(oldest) = self.ahead.pop_front() else { return };
                self.ahead_bytes -= oldest.bytes();
            }
        }
    }
}
