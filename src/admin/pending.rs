//! Everything that waits, taken up at once: retries that are not yet due, and dead letters if asked.
//!
//! Lanes and dead letters do the work; here is only how much of it. What a lane's first task waits for, those behind it
//! wait for as well, so that a lane is taken up whole.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::dead_letters::{DeadLetters, Filter, Wanted};
use super::lanes::{Lanes, WaitingLane};
use super::operations::{OperationError, Operations};
use super::operator::Operator;
use crate::topology::StageKind;

/// What is to be taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingWanted {
    /// Of this stage alone; else of all that have something waiting.
    pub stage: Option<String>,
    /// How many tasks and dead letters at most; the last lane is taken up whole.
    pub limit: usize,
    /// Dead letters too.
    pub include_dead: bool,
    /// Dead letters that were redriven this often are left alone.
    pub most_redrives: u32,
}

/// What waited, and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Tasks that waited in retry topics, and dead letters if they were asked for.
    pub pending: u64,
    /// Those of them that are tried now, or when the one before them in their lane is done.
    pub taken_up: u64,
    /// The others.
    pub still_pending: u64,
}

impl Operations {
    /// Takes up what waits, the longest waiting first. Lanes that are held wait for the dead letter of their first task:
    /// they go on when it is redriven.
    ///
    /// # Errors
    /// When there is no such stage, it has no lanes and dead letters weren't asked for, or Kafka or the store is away.
    pub async fn process_pending(
        &self,
        wanted: &PendingWanted,
        patience: Duration,
        by: &Operator,
    ) -> Result<Pending, OperationError> {
        let mut told = Pending::default();
        let mut left = wanted.limit as u64;
        let stages = match wanted.stage.as_deref() {
            Some(stage) => vec![self.of(stage).await?],
            None => self.all().await?,
        };
        let has_lanes = |kind| kind == StageKind::Effect || wanted.stage.is_some() && !wanted.include_dead;
        let mut waiting: Vec<WaitingLane> = Vec::new();
        for of in stages.iter().filter(|of| has_lanes(of.stage.kind)) {
            waiting.extend(Lanes { of: of.clone(), patience }.list().await?);
        }
        told.pending = waiting.iter().map(|lane| lane.tasks).sum();
        waiting.retain(|lane| !lane.held);
        // Times are of RFC 3339 in UTC, so that their text sorts as they do.
        waiting.sort_by(|a, b| a.waits_since.cmp(&b.waits_since));
        let mut asked: BTreeMap<&str, Vec<&WaitingLane>> = BTreeMap::new();
        for lane in &waiting {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(lane.tasks);
            asked.entry(&lane.stage).or_default().push(lane);
        }
        for of in &stages {
            if let Some(lanes) = asked.get(of.stage.name.as_str()) {
                told.taken_up += Lanes { of: of.clone(), patience }.release_all(lanes, by).await?;
            }
        }
        if wanted.include_dead {
            for of in stages {
                let letters = DeadLetters { of };
                told.pending += letters.waiting().await?.0;
                let limit = usize::try_from(left).unwrap_or(usize::MAX);
                if limit > 0 {
                    let wanted = Wanted {
                        filter: Filter::default(),
                        limit,
                        rate: None,
                        most_redrives: wanted.most_redrives,
                    };
                    let redriven = letters.redrive(&wanted, &self.tools(by)).await?;
                    // A task that was dead-lettered several times is one.
                    let gone = redriven.sent + redriven.superseded;
                    told.taken_up += gone;
                    left = left.saturating_sub(gone);
                }
            }
        }
        told.still_pending = told.pending.saturating_sub(told.taken_up);
        Ok(told)
    }
}
