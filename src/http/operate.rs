//! What operators may do to the running system: the API's port to Kafka's topics and groups, and to the owners of
//! partitions. Database work of theirs needs no port.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Code, Problem};
use crate::admin::dead_letters::{DeadLetterError, Filter, Listed, Redriven, Wanted};
use crate::admin::lag::{GroupLag, Meter};
use crate::admin::lanes::{Ask, LaneError, WaitingLane};
use crate::admin::{Answered, OperationError, Operations, Operator, Pending, PendingWanted};
use crate::task;

/// How long the owner of a lane has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long lies between the two looks that a verdict compares.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Which dead letters a page of the list holds.
#[derive(Debug, Clone, Default)]
pub struct LettersWanted {
    /// Of this stage alone.
    pub stage: Option<String>,
    /// Which of them.
    pub filter: Filter,
    /// Behind this one: its stage and its place.
    pub after: Option<(String, (i32, i64))>,
    /// How many at most.
    pub limit: usize,
}

/// What is to be redriven.
#[derive(Debug, Clone)]
pub struct RedriveWanted {
    /// The stage.
    pub stage: String,
    /// Which letters, and how.
    pub wanted: Wanted,
    /// Only say what would be done.
    pub dry: bool,
    /// The redrive that this one continues.
    pub continued: Option<String>,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, OperationError>>;

/// Does what operators ask for. The real one is [`Operations`]; tests bring their own.
pub trait Operate: Send + Sync {
    /// Dead letters by stage, partition and offset.
    fn dead_letters(&self, wanted: LettersWanted) -> Answer<'_, Vec<Listed>>;

    /// Takes dead letters back to their stage. What was begun is finished, also when nobody waits for the answer.
    fn redrive(&self, wanted: RedriveWanted, by: Operator) -> Answer<'_, Redriven>;

    /// The waiting lanes of one stage or of all, by stage, partition and name.
    fn lanes(&self, stage: Option<String>) -> Answer<'_, Vec<WaitingLane>>;

    /// Asks the owner of a lane to let it go on.
    fn release(&self, stage: String, lane: String, by: Operator) -> Answer<'_, Vec<Answered>>;

    /// Takes up what waits. What was begun is finished, also when nobody waits for the answer.
    fn process_pending(&self, wanted: PendingWanted, by: Operator) -> Answer<'_, Pending>;

    /// How far every group is behind.
    fn groups(&self) -> Answer<'_, Vec<GroupLag>>;
}

impl Operate for Operations {
    fn dead_letters(&self, wanted: LettersWanted) -> Answer<'_, Vec<Listed>> {
        async move {
            let LettersWanted { stage, filter, after, limit } = wanted;
            let after = after.as_ref().map(|(stage, place)| (stage.as_str(), *place));
            Operations::dead_letters(self, stage.as_deref(), &filter, after, limit).await
        }
        .boxed()
    }

    fn redrive(&self, wanted: RedriveWanted, by: Operator) -> Answer<'_, Redriven> {
        let operations = self.clone();
        let redriven = task::spawn("redrive", async move {
            let how = (wanted.dry, wanted.continued.as_deref());
            operations.redrive(&wanted.stage, &wanted.wanted, how, &by).await
        });
        async move { redriven.await.unwrap_or(Err(OperationError::NoAnswer)) }.boxed()
    }

    fn lanes(&self, stage: Option<String>) -> Answer<'_, Vec<WaitingLane>> {
        async move { Operations::lanes(self, stage.as_deref()).await }.boxed()
    }

    fn release(&self, stage: String, lane: String, by: Operator) -> Answer<'_, Vec<Answered>> {
        async move { self.ask_lane(&stage, &lane, (Ask::Release, PATIENCE), &by).await }.boxed()
    }

    fn process_pending(&self, wanted: PendingWanted, by: Operator) -> Answer<'_, Pending> {
        let operations = self.clone();
        let taken_up = task::spawn("process pending", async move {
            Operations::process_pending(&operations, &wanted, PATIENCE, &by).await
        });
        async move { taken_up.await.unwrap_or(Err(OperationError::NoAnswer)) }.boxed()
    }

    fn groups(&self) -> Answer<'_, Vec<GroupLag>> {
        async move {
            let mut meter = Meter::new(self.clone());
            meter.look().await?;
            self.clock().sleep(BETWEEN_LOOKS).await;
            meter.look().await
        }
        .boxed()
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let words = error.to_string();
        match error {
            OperationError::Stage(error) => error.into(),
            OperationError::Store(error)
            | OperationError::DeadLetters(DeadLetterError::Store(error))
            | OperationError::Lanes(LaneError::Store(error)) => error.into(),
            OperationError::Cluster(_)
            | OperationError::NoAnswer
            | OperationError::Read(_)
            | OperationError::DeadLetters(DeadLetterError::Read(_) | DeadLetterError::Send { .. })
            | OperationError::Lanes(LaneError::Read(_)) => Self::new(Code::KafkaUnavailable, words),
            OperationError::DeadLetters(
                DeadLetterError::NotFound { .. } | DeadLetterError::NotContinued { .. },
            ) => Self::new(Code::Conflict, words),
            OperationError::Lanes(LaneError::NoLanes(_)) => Self::field("stage", words),
            OperationError::Lanes(LaneError::NotWaiting(_)) => Self::new(Code::LaneNotFound, words),
        }
    }
}
