//! Looks at topics and groups from outside: ends of partitions, and how far a group has got. Joins nothing.
//!
//! The client's calls block, so that each question runs off the async threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::options::{KafkaOptions, Role};
use super::reader::ReadError;
use crate::task;

/// How long one question to the broker may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The first offset in the log and the one behind the last, of every partition of `topic`.
///
/// # Errors
/// When Kafka doesn't answer or the topic doesn't exist.
pub async fn ends(kafka: &KafkaOptions, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, ReadError> {
    let (kafka, topic): (KafkaOptions, Arc<str>) = (kafka.clone(), topic.into());
    ask(move || {
        let consumer = reader(&kafka)?;
        let partitions = partitions(&consumer, &topic)?;
        let end = |partition| {
            let ends = consumer.fetch_watermarks(&topic, partition, ANSWER_WITHIN);
            Ok((partition, ends.map_err(ReadError::Unavailable)?))
        };
        partitions.into_iter().map(end).collect()
    })
    .await
}

async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    task::spawn_blocking(question).await.map_err(|_panicked| ReadError::Ended)?
}

fn reader(kafka: &KafkaOptions) -> Result<BaseConsumer, ReadError> {
    kafka.client_config(Role::Reader).create().map_err(ReadError::Settings)
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>, ReadError> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN).map_err(unavailable)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions: Vec<i32> =
        found.into_iter().flat_map(|found| found.partitions()).map(|found| found.id()).collect();
    match partitions.is_empty() {
        true => Err(ReadError::TopicMissing(topic.to_owned())),
        false => Ok(partitions),
    }
}

fn unavailable(error: KafkaError) -> ReadError {
    ReadError::Unavailable(error)
}
