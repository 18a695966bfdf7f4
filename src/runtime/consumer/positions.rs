//! First positions, and whether a committed position still makes sense.
//!
//! The reset policy is `error`: nothing ever jumps in silence. A group's first start commits explicit
//! positions for all source and retry partitions in one request while the group is still empty; whoever loses
//! that race reads what the winner wrote. All calls block; they run on the poll thread, outside callbacks.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Span;
use super::context::Membership;
use crate::runtime::error::PartitionFault;
use crate::runtime::options::{StageSpec, StartAt};

/// How long one question to the broker may take.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Commits first positions when the group has none.
pub(super) fn ensure_positions(
    consumer: &BaseConsumer<Membership>,
    spec: &StageSpec,
    partitions: i32,
) -> Result<(), KafkaError> {
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked.add_partition(&spec.source, partition);
        if let Some(retry) = &spec.retry {
            asked.add_partition(retry, partition);
        }
    }
    if committed(consumer, asked)?.values().any(Option::is_some) {
        return Ok(());
    }
    let mut first = TopicPartitionList::new();
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(&spec.source, partition, ANSWER_WITHIN)?;
        let start = match spec.start {
            StartAt::Earliest => low,
            StartAt::Latest => high,
        };
        first.add_partition_offset(&spec.source, partition, Offset::Offset(start))?;
        if let Some(retry) = &spec.retry {
            let (low, _) = consumer.fetch_watermarks(retry, partition, ANSWER_WITHIN)?;
            first.add_partition_offset(retry, partition, Offset::Offset(low))?;
        }
    }
    match consumer.commit(&first, CommitMode::Sync) {
        Ok(()) => {
            tracing::info!(stage = %spec.stage, start = ?spec.start, "first start: positions set");
            Ok(())
        }
        Err(error) if somebody_is_there(&error) => {
            // Members of the group are active, so one of them set the positions in the meantime.
            tracing::debug!(%error, "the group is not empty; its positions stand");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn somebody_is_there(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress
        )
    )
}

/// The positions of `partitions`, source and retry, or what is wrong with them.
pub(super) fn look_up(
    consumer: &BaseConsumer<Membership>,
    source: &str,
    retry: Option<&str>,
    partitions: &[i32],
) -> Result<Vec<(i32, Found)>, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for &partition in partitions {
        asked.add_partition(source, partition);
        if let Some(retry) = retry {
            asked.add_partition(retry, partition);
        }
    }
    let committed = committed(consumer, asked)?;
    let position = |topic: &str, partition| committed.get(&(topic.to_owned(), partition)).copied().flatten();
    let mut found = Vec::with_capacity(partitions.len());
    for &partition in partitions {
        let ends = consumer.fetch_watermarks(source, partition, ANSWER_WITHIN)?;
        let both = match check(source, partition, position(source, partition), ends) {
            Err(fault) => Err(fault),
            Ok(span) => match retry {
                None => Ok((span, None)),
                Some(retry) => {
                    let ends = consumer.fetch_watermarks(retry, partition, ANSWER_WITHIN)?;
                    check(retry, partition, position(retry, partition), ends).map(|retry| (span, Some(retry)))
                }
            },
        };
        found.push((partition, both));
    }
    Ok(found)
}

/// A partition's source and retry spans, or why it can't be read.
pub(super) type Found = Result<(Span, Option<Span>), PartitionFault>;

/// Invariant 8 (nothing lost): a position outside the log is a fault with a name.
fn check(
    topic: &str,
    partition: i32,
    position: Option<i64>,
    (low, high): (i64, i64),
) -> Result<Span, PartitionFault> {
    let topic = topic.to_owned();
    match position {
        None => Err(PartitionFault::PositionMissing { topic, partition }),
        Some(committed) if committed < low || committed > high => {
            Err(PartitionFault::PositionOutsideLog { topic, partition, committed, low, high })
        }
        Some(position) => Ok(Span { position, low, high }),
    }
}

fn committed(
    consumer: &BaseConsumer<Membership>,
    asked: TopicPartitionList,
) -> Result<BTreeMap<(String, i32), Option<i64>>, KafkaError> {
    let answer = consumer.committed_offsets(asked, ANSWER_WITHIN)?;
    let mut found = BTreeMap::new();
    for element in answer.elements() {
        element.error()?;
        let position = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => {
                None
            }
        };
        found.insert((element.topic().to_owned(), element.partition()), position);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_outside_the_log_or_absent_is_a_named_fault() {
        assert!(check("t", 0, Some(5), (0, 10)).is_ok());
        assert!(check("t", 0, Some(10), (0, 10)).is_ok());
        for position in [-1, 11] {
            let fault = check("t", 0, Some(position), (0, 10)).expect_err("outside");
            assert!(fault.to_string().contains("outside the log"), "{fault}");
        }
        assert_eq!(
            check("t", 4, None, (0, 10)),
            Err(PartitionFault::PositionMissing { topic: "t".to_owned(), partition: 4 })
        );
    }
}
