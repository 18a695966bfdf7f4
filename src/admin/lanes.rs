//! The waiting lanes of a stage, read from where they wait: the open part of its retry topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::orders::{Answered, Desk};
use super::{OfStage, Operator};
use crate::clock::rfc3339;
use crate::runtime::inspect;
use crate::runtime::retry::Mark;
use crate::runtime::{ReadError, ReadFrom, TopicReader};
use crate::store::StoreError;
use crate::store::orders::Kind;

/// Why lanes can't be listed or changed.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// Kafka can't be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Only effect stages have lanes.
    #[error("stage {0} has no lanes: its effects are rows, and it waits as a whole when the store is away")]
    NoLanes(String),
    /// No such lane waits.
    #[error("no lane {0:?} waits; see `orderflow lane list`")]
    NotWaiting(String),
}

/// A lane whose first task waits in the retry topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingLane {
    /// The stage.
    pub stage: String,
    /// The lane.
    pub lane: String,
    /// Its partition.
    pub partition: i32,
    /// Where its first task's effect goes.
    pub target: String,
    /// Tasks that wait in the retry topic, the first included.
    pub tasks: u64,
    /// The source offset of the first.
    pub source_offset: i64,
    /// Attempts made at the first.
    pub attempts: u32,
    /// Held until somebody decides.
    pub held: bool,
    /// When the first is tried again (RFC 3339), unless it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// When the first failed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_since: Option<String>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The tasks of a lane, by source offset and target.
type Waiting = BTreeMap<(i64, Arc<str>), Mark>;

/// Lanes of one stage.
#[derive(Debug)]
pub struct Lanes<'a> {
    /// The stage, and what it is reached by.
    pub of: OfStage<'a>,
    /// How long to wait for the owner.
    pub patience: Duration,
}

/// What may be asked of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Go on now.
    Release,
    /// End the first task without its effect.
    Skip,
}

impl Lanes<'_> {
    /// Every waiting lane, by partition and name. Positions are committed a few times a second: what ended a moment ago may
    /// still be told.
    ///
    /// # Errors
    /// When Kafka is away, or the stage has no lanes.
    pub async fn list(&self) -> Result<Vec<WaitingLane>, LaneError> {
        let retry = self.retry()?;
        let positions = inspect::group_positions(self.of.kafka, &self.of.stage.group, retry).await?;
        let mut lanes: BTreeMap<(i32, Arc<str>), Waiting> = BTreeMap::new();
        for (partition, at) in positions {
            let from = at.offset.unwrap_or(at.low).max(at.low);
            if from >= at.high {
                continue;
            }
            let from = ReadFrom::Offset(from);
            let mut reader = TopicReader::open(self.of.kafka, retry, Some(partition), from).await?;
            while let Some(record) = reader.next_to_end().await {
                let done = at.completed.iter().any(|(first, end)| (*first..*end).contains(&record.offset));
                let Ok(mark) = Mark::read(&record.headers) else { continue };
                let Some(task) = mark.task.clone().filter(|_| !done) else { continue };
                // Of several copies the latest counts.
                let lane = lanes.entry((partition, task.lane)).or_default();
                lane.insert((mark.source.offset, task.target), mark);
            }
        }
        Ok(lanes
            .into_iter()
            .filter_map(|((partition, lane), tasks)| self.told(partition, &lane, &tasks))
            .collect())
    }

    /// Asks the owner of `lane` to let it go on, or to skip its first task; the audit has it.
    ///
    /// # Errors
    /// [`LaneError::NotWaiting`], or when Kafka or the store is away.
    pub async fn ask(&self, lane: &str, what: Ask, by: &Operator) -> Result<Vec<Answered>, LaneError> {
        let waiting = self.list().await?;
        let wanted: Vec<(i32, String)> = waiting
            .into_iter()
            .filter(|waiting| waiting.lane == lane)
            .map(|waiting| (waiting.partition, waiting.lane))
            .collect();
        if wanted.is_empty() {
            return Err(LaneError::NotWaiting(lane.to_owned()));
        }
        let (kind, action) = match what {
            Ask::Release => (Kind::Release, "lane.release"),
            Ask::Skip => (Kind::Skip, "lane.skip"),
        };
        let desk = Desk { db: self.of.db, clock: self.of.clock, by, patience: self.patience };
        Ok(desk.ask(&self.of.stage.name, kind, action, &wanted).await?)
    }

    /// Asks the owners of all of `lanes` to let them go on now; gives how many tasks are in those that do. A lane whose
    /// first task has begun meanwhile needs nobody.
    ///
    /// # Errors
    /// When the store is away.
    pub(super) async fn release_all(&self, lanes: &[&WaitingLane], by: &Operator) -> Result<u64, LaneError> {
        let wanted: Vec<(i32, String)> =
            lanes.iter().map(|lane| (lane.partition, lane.lane.clone())).collect();
        let desk = Desk { db: self.of.db, clock: self.of.clock, by, patience: self.patience };
        let answers = desk.ask(&self.of.stage.name, Kind::Release, "lane.release", &wanted).await?;
        let taken_up = lanes.iter().zip(answers).filter(|(_, answer)| !answer.unanswered);
        Ok(taken_up.map(|(lane, _)| lane.tasks).sum())
    }

    fn retry(&self) -> Result<&Arc<str>, LaneError> {
        self.of.stage.retry_topic.as_ref().ok_or_else(|| LaneError::NoLanes(self.of.stage.name.clone()))
    }

    fn told(&self, partition: i32, lane: &str, tasks: &Waiting) -> Option<WaitingLane> {
        let ((source_offset, target), first) = tasks.first_key_value()?;
        Some(WaitingLane {
            stage: self.of.stage.name.clone(),
            lane: lane.to_owned(),
            partition,
            target: target.to_string(),
            tasks: tasks.len() as u64,
            source_offset: *source_offset,
            attempts: first.attempt,
            held: first.held,
            due: first.not_before_ms.filter(|_| !first.held).map(rfc3339),
            waits_since: first.first_failed_at_ms.map(rfc3339),
            error: first.error.as_ref().map(ToString::to_string),
        })
    }
}
