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

use super::OfStage;
use crate::runtime::redrive::DeadLetter;
use crate::runtime::{ProduceError, Producer, ReadError, ReadFrom, Record, TopicReader};
use crate::store::StoreError;
use crate::store::redrives::{self, Shelf};
use crate::topology::StageKind;

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
    /// The stage, and what it is reached by.
    pub of: OfStage<'a>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The letters, in the order in which they lie in their partitions.
    pub letters: Vec<DeadLetter>,
    /// Those of them that a redrive took up before: partition and offset.
    pub taken: BTreeSet<(i32, i64)>,
    /// There are more than was asked for.
    pub more: bool,
    bytes: usize,
}

impl Found {
    /// Takes a record of the topic in, if it is a letter of ours that `filter` wants; false when there is no room for it.
    fn take(&mut self, record: Record, filter: &Filter, limit: usize) -> bool {
        let size = record.bytes();
        let known = self.taken.contains(&(record.partition, record.offset));
        let Some(letter) = DeadLetter::read(record).ok().filter(|letter| filter.wants(letter, known)) else {
            return true;
        };
        if self.letters.len() >= limit || self.bytes + size > MOST_BYTES {
            self.more = true;
            return false;
        }
        self.bytes += size;
        self.letters.push(letter);
        true
    }
}

impl DeadLetters<'_> {
    /// The letters that `filter` wants, at most `limit` of them.
    ///
    /// # Errors
    /// When Kafka or the store is away, or the topic doesn't exist.
    pub async fn find(&self, filter: &Filter, limit: usize) -> Result<Found, DeadLetterError> {
        let taken: BTreeSet<(i32, i64)> =
            redrives::taken(self.of.db, self.shelf()).await?.into_iter().collect();
        let mut reader =
            TopicReader::open(self.of.kafka, &self.of.stage.dead_letters, None, ReadFrom::Earliest).await?;
        let mut found = Found { letters: Vec::new(), taken, bytes: 0, more: false };
        while let Some(record) = reader.next_to_end().await {
            if !found.take(record, filter, limit) {
                break;
            }
        }
        Ok(found)
    }

    /// The same by partition and offset, behind the place `after`: for lists that are told in pages.
    ///
    /// # Errors
    /// When Kafka or the store is away, or the topic doesn't exist.
    pub async fn page(
        &self,
        filter: &Filter,
        after: Option<(i32, i64)>,
        limit: usize,
    ) -> Result<Found, DeadLetterError> {
        let taken = redrives::taken(self.of.db, self.shelf()).await?.into_iter().collect();
        let mut found = Found { letters: Vec::new(), taken, bytes: 0, more: false };
        let topic = &self.of.stage.dead_letters;
        for (partition, (low, high)) in crate::runtime::inspect::ends(self.of.kafka, topic).await? {
            let from = match after {
                Some((before, _)) if partition < before => continue,
                Some((before, offset)) if partition == before => low.max(offset.saturating_add(1)),
                Some(_) | None => low,
            };
            if from >= high {
                continue;
            }
            let from = ReadFrom::Offset(from);
            let mut reader = TopicReader::open(self.of.kafka, topic, Some(partition), from).await?;
            while let Some(record) = reader.next_to_end().await {
                if !found.take(record, filter, limit) {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The letter at these coordinates.
    ///
    /// # Errors
    /// [`DeadLetterError::NotFound`], or when Kafka is away.
    pub async fn at(&self, partition: i32, offset: i64) -> Result<DeadLetter, DeadLetterError> {
        let topic = &self.of.stage.dead_letters;
        let ends = crate::runtime::inspect::ends(self.of.kafka, topic).await?;
        let missing = || DeadLetterError::NotFound { topic: topic.to_string(), partition, offset };
        let (low, high) = ends.get(&partition).copied().ok_or_else(missing)?;
        if offset < low || offset >= high {
            return Err(missing());
        }
        let from = ReadFrom::Offset(offset);
        let mut reader = TopicReader::open(self.of.kafka, topic, Some(partition), from).await?;
        let record = reader.next_to_end().await.filter(|record| record.offset == offset);
        record.and_then(|record| DeadLetter::read(record).ok()).ok_or_else(missing)
    }

    /// Where a redriven letter of this stage goes: its retry topic, or back to its source.
    fn target(&self) -> &Arc<str> {
        match (self.of.stage.kind, &self.of.stage.retry_topic) {
            (StageKind::Effect, Some(retry)) => retry,
            (StageKind::Effect | StageKind::Store, _) => &self.of.stage.source,
        }
    }

    fn shelf(&self) -> Shelf<'_> {
        Shelf { cluster_id: &self.of.cluster_id, topic: &self.of.stage.dead_letters }
    }

    fn out(&self, letter: &DeadLetter, redrive: &str) -> crate::runtime::OutRecord {
        match &self.of.stage.retry_topic {
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
