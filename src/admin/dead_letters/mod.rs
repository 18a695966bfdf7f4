//! Dead letters: finding them, showing them, and taking them back to their stage.

mod filter;
mod measure;
mod pace;
mod redrive;
mod resume;
mod shown;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use filter::Filter;
pub use measure::Watch;
pub use redrive::{Redriven, Wanted};
pub use shown::{Listed, Shown};

use crate::clock::Clock;
use crate::runtime::redrive::DeadLetter;
use crate::runtime::{KafkaOptions, ProduceError, Producer, ReadError, ReadFrom, TopicReader};
use crate::store::redrives::{self, Shelf};
use crate::store::{Database, StoreError};
use crate::topology::{Stage, StageKind};

/// Bytes of dead letters held at once; what goes beyond is left for a second go.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// Why dead letters can't be read or redriven.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// A topic can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record was not taken; the redrive can be continued.
    #[error(
        "the dead letter {place} was not taken by {topic}: {why}; continue the redrive with --continue {redrive}"
    )]
    Send {
        /// Where the dead letter lies.
        place: String,
        /// Where it was to go.
        topic: String,
        /// Which redrive.
        redrive: String,
        /// The producer's words.
        why: ProduceError,
    },
    /// No such dead letter.
    #[error("there is no dead letter {partition}@{offset} in {topic}")]
    NotFound {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// No such redrive, or it can't be continued.
    #[error("redrive {id} can't be continued: {why}")]
    NotContinued {
        /// Which.
        id: String,
        /// Why not.
        why: String,
    },
}

/// The dead letters of one stage.
#[derive(Debug)]
pub struct DeadLetters<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaOptions,
    /// Remembers what was redriven.
    pub db: &'a Database,
    /// Tells the time.
    pub clock: &'a Clock,
    /// The Kafka cluster's id.
    pub cluster_id: Arc<str>,
    /// The stage.
    pub stage: &'a Stage,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The letters, in the order in which they lie in their partitions.
    pub letters: Vec<DeadLetter>,
    /// Those of them that a redrive took up before: partition and offset.
    pub taken: BTreeSet<(i32, i64)>,
    /// Records of the topic that aren't ours.
    pub foreign: u64,
    /// There are more than was asked for.
    pub more: bool,
}

impl DeadLetters<'_> {
    /// The letters that `filter` wants, at most `limit` of them.
    ///
    /// # Errors
    /// When Kafka or the store is away, or the topic doesn't exist.
    pub async fn find(&self, filter: &Filter, limit: usize) -> Result<Found, DeadLetterError> {
        let taken: BTreeSet<(i32, i64)> = redrives::taken(self.db, self.shelf()).await?.into_iter().collect();
        let mut reader =
            TopicReader::open(self.kafka, &self.stage.dead_letters, None, ReadFrom::Earliest).await?;
        let mut found = Found { letters: Vec::new(), taken, foreign: 0, more: false };
        let mut bytes = 0;
        while let Some(record) = reader.next_to_end().await {
            let size = record.bytes();
            let known = found.taken.contains(&(record.partition, record.offset));
            let Ok(letter) = DeadLetter::read(record) else {
                found.foreign += 1;
                continue;
            };
            if !filter.wants(&letter, known) {
                continue;
            }
            if found.letters.len() >= limit || bytes + size > MOST_BYTES {
                found.more = true;
                break;
            }
            bytes += size;
            found.letters.push(letter);
        }
        Ok(found)
    }

    /// The letter at these coordinates.
    ///
    /// # Errors
    /// [`DeadLetterError::NotFound`], or when Kafka is away.
    pub async fn at(&self, partition: i32, offset: i64) -> Result<DeadLetter, DeadLetterError> {
        let topic = &self.stage.dead_letters;
        let ends = crate::runtime::inspect::ends(self.kafka, topic).await?;
        let missing = || DeadLetterError::NotFound { topic: topic.to_string(), partition, offset };
        let (low, high) = ends.get(&partition).copied().ok_or_else(missing)?;
        if offset < low || offset >= high {
            return Err(missing());
        }
        let from = ReadFrom::Offset(offset);
        let mut reader = TopicReader::open(self.kafka, topic, Some(partition), from).await?;
        let record = reader.next_to_end().await.filter(|record| record.offset == offset);
        record.and_then(|record| DeadLetter::read(record).ok()).ok_or_else(missing)
    }

    /// Where a redriven letter of this stage goes: its retry topic, or back to its source.
    fn target(&self) -> &Arc<str> {
        match (self.stage.kind, &self.stage.retry_topic) {
            (StageKind::Effect, Some(retry)) => retry,
            (StageKind::Effect | StageKind::Store, _) => &self.stage.source,
        }
    }

    fn shelf(&self) -> Shelf<'_> {
        Shelf { cluster_id: &self.cluster_id, topic: &self.stage.dead_letters }
    }

    fn out(&self, letter: &DeadLetter, redrive: &str) -> crate::runtime::OutRecord {
        match &self.stage.retry_topic {
            Some(retry) => letter.to_retry(retry, redrive),
            None => letter.to_source(redrive),
        }
    }
}

/// What a redrive needs beside what reading needs.
#[derive(Debug)]
pub struct Tools<'a> {
    /// Appends the records.
    pub producer: &'a Producer,
    /// Who asks for it.
    pub by: &'a super::Operator,
}
