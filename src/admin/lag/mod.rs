//! How far consumer groups are behind: in records, in seconds, and as a verdict.
//!
//! A verdict compares two looks at a group: a [`Meter`] keeps the one before. What it means is decided in `verdict`.

mod verdict;
mod watch;

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use serde::Serialize;
use utoipa::ToSchema;

pub use verdict::Verdict;
pub use watch::Watch;

use super::{OfStage, OperationError, Operations};
use crate::runtime::inspect;
use crate::store::{controls, positions};
use crate::topology::{Objective, StageKind};

/// How far a group is behind its source.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConsumerGroup)]
pub struct GroupLag {
    /// The stage.
    pub stage: String,
    /// Its consumer group.
    pub group: String,
    /// Its source.
    pub topic: String,
    /// Members of the group; absent where the broker doesn't tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<usize>,
    /// Records that are not handled yet; parked ones are not among them.
    pub messages: u64,
    /// How long ago the oldest of them was written, in seconds; 0 when there is none.
    pub seconds: f64,
    /// Seconds until nothing is left, at the pace since the look before; absent when it doesn't get less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<f64>,
    /// What that means.
    pub verdict: Verdict,
    /// By partition.
    pub partitions: Vec<PartitionLag>,
}

/// How far a group is behind on one partition.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionLag {
    /// The partition.
    pub partition: i32,
    /// The next offset to be handled; absent when the group never committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
    /// The offset behind the last record.
    pub end: i64,
    /// Records that are not handled yet.
    pub messages: u64,
    /// How long ago the oldest of them was written, in seconds.
    pub seconds: f64,
}

/// One look at a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    pub(super) at_ms: i64,
    pub(super) members: Option<usize>,
    pub(super) paused: bool,
    pub(super) partitions: Vec<PartitionLag>,
}

impl Look {
    pub(super) fn messages(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.messages).sum()
    }

    pub(super) fn seconds(&self) -> f64 {
        self.partitions.iter().map(|partition| partition.seconds).fold(0.0, f64::max)
    }
}

/// Looks at groups again and again.
#[derive(Debug)]
pub struct Meter {
    operations: Operations,
    before: BTreeMap<String, Look>,
}

impl Meter {
    /// A meter that has seen nothing yet: its first verdicts can't tell whether a group moves.
    pub fn new(operations: Operations) -> Self {
        Self { operations, before: BTreeMap::new() }
    }

    /// Every group, by the name of its stage.
    ///
    /// # Errors
    /// When Kafka or the store is away, or a topic doesn't exist.
    pub async fn look(&mut self) -> Result<Vec<GroupLag>, OperationError> {
        let stages = self.operations.all().await?;
        let looked = try_join_all(stages.iter().map(look)).await?;
        let mut groups = Vec::with_capacity(stages.len());
        let mut seen = BTreeMap::new();
        for (of, now) in stages.iter().zip(looked) {
            let stage = of.stage;
            groups.push(told(of, self.before.get(&stage.name), &now, stage.objective));
            seen.insert(stage.name.clone(), now);
        }
        self.before = seen;
        Ok(groups)
    }
}

fn told(of: &OfStage<'_>, before: Option<&Look>, now: &Look, objective: Objective) -> GroupLag {
    GroupLag {
        stage: of.stage.name.clone(),
        group: of.stage.group.to_string(),
        topic: of.stage.source.to_string(),
        members: now.members,
        messages: now.messages(),
        seconds: now.seconds(),
        drain_seconds: before.and_then(|before| verdict::drains_in(before, now)),
        verdict: verdict::verdict(before, now, objective),
        partitions: now.partitions.clone(),
    }
}

async fn look(of: &OfStage<'_>) -> Result<Look, OperationError> {
    let (group, source) = (&of.stage.group, &of.stage.source);
    let known = inspect::group_positions(of.kafka, group, source).await?;
    let mut partitions = Vec::with_capacity(known.len());
    let mut behind = BTreeMap::new();
    for (partition, at) in known {
        let position = match of.stage.kind {
            StageKind::Effect => at.offset,
            // The stored position is the truth.
            StageKind::Store => positions::position(of.db, &of.place(partition)).await?.or(at.offset),
        };
        let from = position.unwrap_or(at.low).max(at.low);
        let ahead: i64 = at.completed.iter().map(|(first, end)| (end - first.max(&from)).max(0)).sum();
        let messages = u64::try_from(at.high - from - ahead).unwrap_or(0);
        if messages > 0 {
            behind.insert(partition, from);
        }
        partitions.push(PartitionLag { partition, position, end: at.high, messages, seconds: 0.0 });
    }
    let now_ms = of.clock.now_ms();
    if !behind.is_empty() {
        let written = inspect::written_at(of.kafka, source, behind).await?;
        for partition in &mut partitions {
            let at = written.get(&partition.partition);
            partition.seconds = at.map_or(0.0, |at| (now_ms - at).max(0) as f64 / 1_000.0);
        }
    }
    let paused = controls::all(of.db).await?.iter().any(|known| known.stage == of.stage.name && known.paused);
    // Not every broker tells; without it nothing is called stopped.
    let members = inspect::members(of.kafka, group).await.ok();
    Ok(Look { at_ms: now_ms, members, paused, partitions })
}
