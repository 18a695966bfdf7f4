//! Looks at topics and groups from outside: ends of partitions, and how far a group has got. Joins nothing.
//!
//! The client's calls block, so that each question runs off the async threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::consumer::to_record;
use super::offsets::{self, Tracker};
use super::options::{KafkaOptions, Role};
use super::reader::{ReadError, ReadFrom, TopicReader};
use super::record::Record;
use crate::task;

/// How long one question to the broker may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Records that are read over rather than looked up anew.
const READ_OVER: i64 = 200;
/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);

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

/// How far a group has got on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPosition {
    /// The next offset to be handled; none when nothing was committed.
    pub offset: Option<i64>,
    /// Completed above it: first offset, and the one behind the last.
    pub completed: Vec<(i64, i64)>,
    /// The number of the assignment that committed it.
    generation: u64,
    /// The first offset in the log.
    pub low: i64,
    /// The offset behind the last.
    pub high: i64,
}

/// How far `group` has got on every partition of `topic`.
///
/// # Errors
/// When Kafka doesn't answer or the topic doesn't exist.
pub async fn group_positions(
    kafka: &KafkaOptions,
    group: &str,
    topic: &str,
) -> Result<BTreeMap<i32, GroupPosition>, ReadError> {
    let (kafka, group, topic) = (kafka.clone(), group.to_owned(), topic.to_owned());
    ask(move || {
        let consumer = of_group(&kafka, &group)?;
        let mut asked = TopicPartitionList::new();
        for partition in partitions(&consumer, &topic)? {
            asked.add_partition(&topic, partition);
        }
        let committed = consumer.committed_offsets(asked, ANSWER_WITHIN).map_err(unavailable)?;
        let position = |element: &TopicPartitionListElem<'_>| {
            let (low, high) =
                consumer.fetch_watermarks(&topic, element.partition(), ANSWER_WITHIN).map_err(unavailable)?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::Invalid
                | Offset::OffsetTail(_) => None,
            };
            let map = offsets::decode(element.metadata()).filter(|map| Some(map.base) == offset);
            let (generation, completed) = map.map_or((0, Vec::new()), |map| (map.generation, map.runs));
            Ok((element.partition(), GroupPosition { offset, completed, generation, low, high }))
        };
        committed.elements().iter().map(position).collect()
    })
    .await
}

/// When the first record at or behind each of these offsets was written, in epoch milliseconds, by partition; those that
/// can't be had in time are left out.
///
/// # Errors
/// When the client refuses its settings.
pub async fn written_at(
    kafka: &KafkaOptions,
    topic: &str,
    offsets: BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, i64>, ReadError> {
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    ask(move || {
        let consumer = reader(&kafka)?;
        let mut list = TopicPartitionList::new();
        for (&partition, &offset) in &offsets {
            list.add_partition_offset(&topic, partition, Offset::Offset(offset)).map_err(unavailable)?;
        }
        consumer.assign(&list).map_err(unavailable)?;
        let (mut seen, mut written) = (BTreeSet::new(), BTreeMap::new());
        let deadline = Instant::now() + ANSWER_WITHIN;
        while seen.len() < offsets.len() && Instant::now() < deadline {
            let Some(Ok(message)) = consumer.poll(POLL) else { continue };
            let partition = message.partition();
            if seen.insert(partition) {
                written.extend(message.timestamp().to_millis().map(|at| (partition, at)));
                // One of each is enough.
                let mut enough = TopicPartitionList::new();
                enough.add_partition(&topic, partition);
                consumer.pause(&enough).map_err(unavailable)?;
            }
        }
        Ok(written)
    })
    .await
}

/// The records of a partition at these offsets; those that the log doesn't hold any more are left out.
///
/// # Errors
/// When Kafka doesn't answer in time.
pub async fn records_at(
    kafka: &KafkaOptions,
    topic: &str,
    partition: i32,
    offsets: BTreeSet<i64>,
) -> Result<BTreeMap<i64, Record>, ReadError> {
    let (kafka, topic): (KafkaOptions, Arc<str>) = (kafka.clone(), topic.into());
    ask(move || {
        let consumer = reader(&kafka)?;
        let (low, high) = consumer.fetch_watermarks(&topic, partition, ANSWER_WITHIN).map_err(unavailable)?;
        let (mut records, mut next) = (BTreeMap::new(), None);
        for offset in offsets.into_iter().filter(|offset| (low..high).contains(offset)) {
            if !next.is_some_and(|next| (next..next + READ_OVER).contains(&offset)) {
                let mut list = TopicPartitionList::new();
                let place = list.add_partition_offset(&topic, partition, Offset::Offset(offset));
                place.and_then(|()| consumer.assign(&list)).map_err(unavailable)?;
            }
            let deadline = Instant::now() + ANSWER_WITHIN;
            loop {
                match consumer.poll(POLL) {
                    Some(Ok(message)) => {
                        next = Some(message.offset() + 1);
                        if message.offset() == offset {
                            records.insert(offset, to_record(&message, &topic));
                        }
                        if message.offset() >= offset {
                            break;
                        }
                    }
                    Some(Err(KafkaError::PartitionEOF(_))) => break,
                    Some(Err(error)) if Instant::now() >= deadline => return Err(unavailable(error)),
                    None if Instant::now() >= deadline => {
                        let late = RDKafkaErrorCode::OperationTimedOut;
                        return Err(unavailable(KafkaError::MessageConsumption(late)));
                    }
                    Some(Err(_)) | None => {}
                }
            }
        }
        Ok(records)
    })
    .await
}

/// How many members a group has.
///
/// # Errors
/// When Kafka doesn't answer, or tells nothing of groups.
pub async fn members(kafka: &KafkaOptions, group: &str) -> Result<usize, ReadError> {
    let (kafka, group) = (kafka.clone(), group.to_owned());
    ask(move || {
        let groups = reader(&kafka)?.fetch_group_list(Some(&group), ANSWER_WITHIN).map_err(unavailable)?;
        let found = groups.groups().iter().find(|found| found.name() == group);
        Ok(found.map_or(0, |found| found.members().len()))
    })
    .await
}

/// Commits earlier positions of `group` on `topic`, when no member of the group is there: answers false when one is.
///
/// # Errors
/// When Kafka doesn't answer.
pub async fn commit_back(
    kafka: &KafkaOptions,
    group: &str,
    topic: &str,
    positions: &BTreeMap<i32, (GroupPosition, i64)>,
) -> Result<bool, ReadError> {
    let (kafka, group, topic, positions) =
        (kafka.clone(), group.to_owned(), topic.to_owned(), positions.clone());
    ask(move || {
        let consumer = of_group(&kafka, &group)?;
        let mut list = TopicPartitionList::new();
        for (partition, (known, to)) in positions {
            let mut element = list.add_partition(&topic, partition);
            element.set_offset(Offset::Offset(to)).map_err(unavailable)?;
            // The map goes, the number of the assignment stays: later ones must be higher.
            element.set_metadata(Tracker::new(to).map(known.generation));
        }
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => Ok(true),
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::RebalanceInProgress,
                ) => Ok(false),
                Some(_) | None => Err(unavailable(error)),
            },
        }
    })
    .await
}

/// The first offset of every partition of `topic` whose record was written at `at_ms` or later; the end when there is none.
///
/// # Errors
/// When Kafka doesn't answer or the topic doesn't exist.
pub async fn first_since(
    kafka: &KafkaOptions,
    topic: &str,
    at_ms: i64,
) -> Result<BTreeMap<i32, i64>, ReadError> {
    let (options, name) = (kafka.clone(), topic.to_owned());
    let looked_up: BTreeMap<i32, Option<i64>> = ask(move || {
        let consumer = reader(&options)?;
        let mut asked = TopicPartitionList::new();
        for partition in partitions(&consumer, &name)? {
            asked.add_partition_offset(&name, partition, Offset::Offset(at_ms)).map_err(unavailable)?;
        }
        let found = consumer.offsets_for_times(asked, ANSWER_WITHIN);
        let elements = found.as_ref().map(TopicPartitionList::elements).unwrap_or_default();
        let known = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => {
                None
            }
        });
        let known: BTreeMap<i32, i64> = known.collect();
        Ok(partitions(&consumer, &name)?.into_iter().map(|id| (id, known.get(&id).copied())).collect())
    })
    .await?;
    let ends = ends(kafka, topic).await?;
    let mut first = BTreeMap::new();
    for (partition, (low, high)) in ends {
        let offset = match looked_up.get(&partition).copied().flatten() {
            Some(offset) => offset,
            None => read_since(kafka, topic, partition, (low, high), at_ms).await?,
        };
        first.insert(partition, offset);
    }
    Ok(first)
}

/// The same by reading, for brokers that look nothing up by time (the one inside the process).
async fn read_since(
    kafka: &KafkaOptions,
    topic: &str,
    partition: i32,
    (low, high): (i64, i64),
    at_ms: i64,
) -> Result<i64, ReadError> {
    let is_late = |record: &Record| record.timestamp_ms.is_some_and(|written| written >= at_ms);
    if low >= high {
        return Ok(high);
    }
    // A broker that does look up has said so: then the last one isn't late either.
    let mut last = TopicReader::open(kafka, topic, Some(partition), ReadFrom::Offset(high - 1)).await?;
    if !last.next_to_end().await.as_ref().is_some_and(is_late) {
        return Ok(high);
    }
    let mut reader = TopicReader::open(kafka, topic, Some(partition), ReadFrom::Offset(low)).await?;
    while let Some(record) = reader.next_to_end().await {
        if is_late(&record) {
            return Ok(record.offset);
        }
    }
    Ok(high)
}

fn of_group(kafka: &KafkaOptions, group: &str) -> Result<BaseConsumer, ReadError> {
    kafka
        .client_config(Role::Member { group, stage: "operator", gather: Duration::ZERO })
        .create()
        .map_err(ReadError::Settings)
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
