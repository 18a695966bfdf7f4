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
use crate::runtime::offsets::{self, CompletedRuns};
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
    if !committed(consumer, asked)?.is_empty() {
        return Ok(());
    }
    if let Some(retry) = &spec.retry {
        for partition in 0..partitions {
            if consumer.fetch_watermarks(retry, partition, ANSWER_WITHIN)?.1 > 0 {
                // The group has worked before (its first owner wrote a marker), so its positions were deleted: beginning
                // anew would repeat everything. Without positions every partition is a named fault.
                tracing::error!(stage = %spec.stage, group = %spec.group, topic = %retry,
                    "the group has no positions, but its retry topic was written to");
                return Ok(());
            }
        }
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
    let position = |topic: &str, partition| committed.get(&(topic.to_owned(), partition));
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
    committed: Option<&Committed>,
    (low, high): (i64, i64),
) -> Result<Span, PartitionFault> {
    let topic = topic.to_owned();
    match committed {
        None => Err(PartitionFault::PositionMissing { topic, partition }),
        Some(&Committed { offset: committed, .. }) if committed < low || committed > high => {
            Err(PartitionFault::PositionOutsideLog { topic, partition, committed, low, high })
        }
        Some(Committed { offset, metadata }) => {
            let map = map_of(metadata, *offset, high);
            if map.is_none() && !metadata.is_empty() {
                tracing::warn!(topic, partition, "the commit's metadata is not ours and is ignored");
            }
            Ok(Span { position: *offset, low, high, map })
        }
    }
}

/// The map in a commit's metadata, unless it is foreign, corrupt, of another position, or tells of offsets that
/// the log doesn't hold: records that come there later are not complete.
fn map_of(metadata: &str, position: i64, high: i64) -> Option<CompletedRuns> {
    let map = offsets::decode(metadata)?;
    let fits = map.base == position && map.runs.last().is_none_or(|&(_, behind)| behind <= high);
    fits.then_some(map)
}

/// What the group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Committed {
    offset: i64,
    metadata: String,
}

fn committed(
    consumer: &BaseConsumer<Membership>,
    asked: TopicPartitionList,
) -> Result<BTreeMap<(String, i32), Committed>, KafkaError> {
    let answer = consumer.committed_offsets(asked, ANSWER_WITHIN)?;
    let mut found = BTreeMap::new();
    for element in answer.elements() {
        element.error()?;
        let Offset::Offset(offset) = element.offset() else { continue };
        // The client panics on metadata that isn't UTF-8 (a broker may hand out raw bytes): that is foreign.
        let read = std::panic::AssertUnwindSafe(|| element.metadata().to_owned());
        let metadata = std::panic::catch_unwind(read).unwrap_or_else(|_| "not UTF-8".to_owned());
        found.insert((element.topic().to_owned(), element.partition()), Committed { offset, metadata });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::offsets::Tracker;

    #[test]
    fn a_position_outside_the_log_or_absent_is_a_named_fault() {
        let at = |offset| Committed { offset, metadata: String::new() };
        assert!(check("t", 0, Some(&at(5)), (0, 10)).is_ok());
        assert!(check("t", 0, Some(&at(10)), (0, 10)).is_ok());
        for position in [-1, 11] {
            let fault = check("t", 0, Some(&at(position)), (0, 10)).expect_err("outside");
            assert!(fault.to_string().contains("outside the log"), "{fault}");
        }
        assert_eq!(
            check("t", 4, None, (0, 10)),
            Err(PartitionFault::PositionMissing { topic: "t".to_owned(), partition: 4 })
        );
    }

    #[test]
    fn metadata_is_read_only_when_it_fits_its_position_and_its_log() {
        let mut tracker = Tracker::new(5);
        tracker.complete(8);
        let metadata = tracker.map(3);
        let read = |offset, high, metadata: &str| {
            let committed = Committed { offset, metadata: metadata.to_owned() };
            check("t", 0, Some(&committed), (0, high)).expect("inside").map.map(|map| map.runs)
        };
        assert_eq!(read(5, 9, &metadata), Some(vec![(8, 9)]));
        assert_eq!(read(4, 9, &metadata), None, "of another position");
        assert_eq!(read(5, 8, &metadata), None, "beyond the log");
        assert_eq!(read(5, 9, "somebody else's"), None);
    }
}
