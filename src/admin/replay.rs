//! Moves a stage back, so that it does again what it did.
//!
//! The owners of the partitions do it themselves: they drain, take the earlier position and read on from there. Where no
//! member runs, the position is moved directly. For a store stage the stored position is the truth: it is moved back first,
//! in one statement, so that whoever works on the partition loses its next compare-and-set and reads again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::orders::{Answered, Desk};
use super::{OfStage, Operator};
use crate::event::{Codec, DecodeError, Peeked};
use crate::runtime::inspect::{self, GroupPosition};
use crate::runtime::{ReadError, ReadFrom, TopicReader};
use crate::store::orders::Kind;
use crate::store::{StoreError, positions};
use crate::topology::StageKind;

/// Why a stage can't be moved back.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Kafka can't be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A registry that is needed is away.
    #[error("the schema registry does not answer: {0}")]
    Registry(String),
    /// The records are gone.
    #[error("{topic}/{partition} begins at {low}: what lay before was deleted and can't be read again")]
    Deleted {
        /// The source.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset there is.
        low: i64,
    },
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the first record of every partition that was written at this time (epoch milliseconds) or later.
    Time(i64),
    /// To this offset, on one partition or on all that are beyond it.
    Offset(i64),
}

/// What is to be moved back.
#[derive(Debug)]
pub struct Replay<'a> {
    /// The stage, and what it is reached by.
    pub of: OfStage<'a>,
    /// Only this partition.
    pub partition: Option<i32>,
    /// How long to wait for the owners.
    pub patience: Duration,
}

/// One partition's way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// The partition.
    pub partition: i32,
    /// Where it stands: the next offset.
    pub position: i64,
    /// Where it goes.
    pub to: i64,
    /// Records that are read again: those between, and those that were completed ahead of the position.
    pub records: u64,
    /// Of these, the ones that the stage takes: their effects repeat, by event type. Told by dry runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub repeats: BTreeMap<String, u64>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// It was done.
    pub done: bool,
    #[serde(skip)]
    completed: Vec<(i64, i64)>,
}

impl Replay<'_> {
    /// Says which records would be read again, and what would repeat; does nothing.
    ///
    /// # Errors
    /// When Kafka, the store or the registry is away.
    pub async fn dry(&self, target: Target, codec: &Codec) -> Result<Vec<Way>, ReplayError> {
        let (mut ways, _) = self.ways(target).await?;
        for way in &mut ways {
            let from = ReadFrom::Offset(way.to);
            let source = &self.of.stage.source;
            let mut reader = TopicReader::open(self.of.kafka, source, Some(way.partition), from).await?;
            let last = way.completed.iter().map(|(_, end)| *end).max().unwrap_or(0).max(way.position);
            way.records = 0;
            while let Some(record) = reader.next_to_end().await {
                if record.offset >= last {
                    break;
                }
                let ahead = way.completed.iter().any(|(first, end)| (*first..*end).contains(&record.offset));
                if record.offset >= way.position && !ahead {
                    continue;
                }
                way.records += 1;
                if let Some(kind) = self.taken(record.payload.as_deref(), codec).await? {
                    *way.repeats.entry(kind).or_default() += 1;
                }
            }
        }
        Ok(ways)
    }

    /// Moves the stage back.
    ///
    /// # Errors
    /// When Kafka or the store is away.
    pub async fn run(&self, target: Target, by: &Operator) -> Result<Vec<Way>, ReplayError> {
        let (mut ways, known) = self.ways(target).await?;
        let wanted: Vec<(i32, String)> = ways.iter().map(|way| (way.partition, way.to.to_string())).collect();
        if wanted.is_empty() {
            return Ok(ways);
        }
        let desk = Desk { db: self.of.db, clock: self.of.clock, by, patience: self.patience };
        let answers: Vec<Answered> = match self.of.stage.kind {
            StageKind::Store => {
                self.move_stored_back(&ways).await?;
                let mut answers =
                    desk.ask(&self.of.stage.name, Kind::Replay, "stage.replay", &wanted).await?;
                for answer in answers.iter_mut().filter(|answer| answer.unanswered) {
                    answer.done = true;
                    answer.answer =
                        "the stored position is moved back; the next owner reads from there".to_owned();
                }
                answers
            }
            StageKind::Effect => {
                let positions = ways
                    .iter()
                    .filter_map(|way| Some((way.partition, (known.get(&way.partition)?.clone(), way.to))));
                let positions: BTreeMap<_, _> = positions.collect();
                let (group, source) = (&self.of.stage.group, &self.of.stage.source);
                if inspect::commit_back(self.of.kafka, group, source, &positions).await? {
                    self.note(by, &wanted).await?;
                    let moved = "no member runs: its committed position is moved back".to_owned();
                    let done = |(partition, _): (i32, String)| Answered {
                        partition,
                        done: true,
                        unanswered: false,
                        answer: moved.clone(),
                    };
                    wanted.into_iter().map(done).collect()
                } else {
                    desk.ask(&self.of.stage.name, Kind::Replay, "stage.replay", &wanted).await?
                }
            }
        };
        for (way, answered) in ways.iter_mut().zip(answers) {
            way.done = answered.done;
            way.answer = Some(answered.answer);
        }
        Ok(ways)
    }

    /// Every partition that goes back, and how far its group is.
    async fn ways(&self, target: Target) -> Result<(Vec<Way>, BTreeMap<i32, GroupPosition>), ReplayError> {
        let (group, source) = (&self.of.stage.group, &self.of.stage.source);
        let known = inspect::group_positions(self.of.kafka, group, source).await?;
        let first = match target {
            Target::Time(at_ms) => inspect::first_since(self.of.kafka, source, at_ms).await?,
            Target::Offset(offset) => known.keys().map(|partition| (*partition, offset)).collect(),
        };
        let mut ways = Vec::new();
        for (&partition, at) in &known {
            let asked = self.partition.is_none_or(|only| only == partition);
            let Some(&to) = first.get(&partition).filter(|_| asked) else { continue };
            let position = match self.of.stage.kind {
                StageKind::Effect => at.offset,
                StageKind::Store => {
                    positions::position(self.of.db, &self.of.place(partition)).await?.or(at.offset)
                }
            };
            let Some(position) = position.filter(|position| to < *position) else { continue };
            if to < at.low {
                let topic = source.to_string();
                return Err(ReplayError::Deleted { topic, partition, low: at.low });
            }
            let completed = match self.of.stage.kind {
                StageKind::Effect => at.completed.clone(),
                StageKind::Store => Vec::new(),
            };
            let ahead: i64 = completed.iter().map(|(first, end)| end - first).sum();
            ways.push(Way {
                partition,
                position,
                to,
                records: u64::try_from(position - to + ahead).unwrap_or(0),
                repeats: BTreeMap::new(),
                answer: None,
                done: false,
                completed,
            });
        }
        Ok((ways, known))
    }

    async fn move_stored_back(&self, ways: &[Way]) -> Result<(), StoreError> {
        let mut tx = self.of.db.begin().await?;
        for way in ways {
            positions::move_back(&mut tx, &self.of.place(way.partition), way.to).await?;
        }
        tx.commit().await
    }

    async fn note(&self, by: &Operator, wanted: &[(i32, String)]) -> Result<(), StoreError> {
        let audited =
            by.entry(self.of.clock, "stage.replay", &self.of.stage.name, &json!({ "positions": wanted }));
        crate::store::orders::ask(self.of.db, &[], &audited).await
    }

    /// The event type of a record that the stage takes; `other` when its source carries internal records or it can't be read.
    async fn taken(&self, payload: Option<&[u8]>, codec: &Codec) -> Result<Option<String>, ReplayError> {
        let Some(payload) = payload else { return Ok(None) };
        let other = || Some("other".to_owned());
        match codec.identify(payload).await {
            Ok(Peeked::Event(event_type)) => {
                let taken = self.of.stage.takes.contains(&event_type);
                Ok(taken.then(|| event_type.as_str().to_owned()))
            }
            Ok(Peeked::Unknown(_)) => Ok(if self.of.stage.takes.is_empty() { other() } else { None }),
            Err(DecodeError::RegistryUnavailable(why)) => Err(ReplayError::Registry(why)),
            Err(_unreadable) => Ok(other()),
        }
    }
}
