//! How operators reach the running system: one value a process opens every stage with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::Operator;
use super::dead_letters::{DeadLetterError, DeadLetters, Filter, Listed, Redriven, Tools, Wanted};
use super::lanes::{Ask, LaneError, Lanes, WaitingLane};
use super::orders::Answered;
use super::stages::{StageError, known};
use crate::clock::Clock;
use crate::runtime::{self, KafkaOptions, Producer, ReadError, RunError};
use crate::store::positions::Place;
use crate::store::{Database, StoreError};
use crate::topology::{Stage, StageKind, Topology};

/// How long Kafka may take to say which cluster it is.
const CLUSTER_WITHIN: Duration = Duration::from_secs(20);

/// Why something can't be done for an operator.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// No such stage.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Kafka doesn't say which cluster it is.
    #[error(transparent)]
    Cluster(#[from] RunError),
    /// Kafka was given up before it answered.
    #[error("kafka does not answer")]
    NoAnswer,
    /// Kafka can't be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`DeadLetterError`].
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// See [`LaneError`].
    #[error(transparent)]
    Lanes(#[from] LaneError),
}

/// The running system, as an operator reaches it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations {
    kafka: KafkaOptions,
    db: Database,
    clock: Clock,
    topology: Arc<Topology>,
    producer: Producer,
    /// Known once Kafka was asked for the first time.
    cluster_id: Arc<OnceCell<Arc<str>>>,
}

/// One stage, and what it is reached by.
#[derive(Debug, Clone)]
pub struct OfStage<'a> {
    /// How to reach Kafka.
    pub kafka: &'a KafkaOptions,
    /// What is remembered.
    pub db: &'a Database,
    /// Tells the time.
    pub clock: &'a Clock,
    /// The Kafka cluster's id.
    pub cluster_id: Arc<str>,
    /// The stage.
    pub stage: &'a Stage,
}

impl OfStage<'_> {
    /// Where the store keeps the position of one partition; topics are known by their names to the stages as well.
    pub(super) fn place(&self, partition: i32) -> Place<'_> {
        Place {
            stage: &self.stage.name,
            cluster_id: &self.cluster_id,
            topic_id: &self.stage.source,
            partition,
        }
    }
}

impl Operations {
    /// Reaches the stages of `topology`. Asks nobody anything yet.
    pub fn new(
        kafka: KafkaOptions,
        db: Database,
        clock: Clock,
        topology: Arc<Topology>,
        producer: Producer,
    ) -> Self {
        Self { kafka, db, clock, topology, producer, cluster_id: Arc::default() }
    }

    /// The stage called `name`.
    ///
    /// # Errors
    /// When there is none, or Kafka doesn't answer.
    pub async fn of(&self, name: &str) -> Result<OfStage<'_>, OperationError> {
        let stage = known(&self.topology, name)?;
        let ask = || async {
            let never = CancellationToken::new();
            let asked = runtime::cluster_id(&self.kafka, Some(CLUSTER_WITHIN), &self.clock, &never);
            asked.await?.ok_or(OperationError::NoAnswer)
        };
        let cluster_id = Arc::clone(self.cluster_id.get_or_try_init(ask).await?);
        Ok(OfStage { kafka: &self.kafka, db: &self.db, clock: &self.clock, cluster_id, stage })
    }

    /// Every stage there is, in the order of their names.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn all(&self) -> Result<Vec<OfStage<'_>>, OperationError> {
        let mut stages = Vec::new();
        for stage in self.topology.stages() {
            stages.push(self.of(&stage.name).await?);
        }
        Ok(stages)
    }

    /// The stages that run the one called `runs`, in the order of their names.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub async fn running(&self, runs: &str) -> Result<Vec<OfStage<'_>>, OperationError> {
        let mut stages = Vec::new();
        for stage in self.topology.stages().filter(|stage| stage.runs == runs) {
            stages.push(self.of(&stage.name).await?);
        }
        Ok(stages)
    }

    /// How Kafka is reached.
    pub(super) fn kafka(&self) -> &KafkaOptions {
        &self.kafka
    }

    /// Appends records.
    pub(super) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// What is remembered.
    pub fn db(&self) -> &Database {
        &self.db
    }

    /// Tells the time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What redriving needs, on behalf of `by`.
    pub fn tools<'a>(&'a self, by: &'a Operator) -> Tools<'a> {
        Tools { producer: &self.producer, by }
    }

    /// At most `limit` dead letters that `filter` wants, of one stage or of all, by stage, partition and offset, behind
    /// the one at `after` (stage and place).
    ///
    /// # Errors
    /// When there is no such stage, or Kafka or the store is away.
    pub async fn dead_letters(
        &self,
        stage: Option<&str>,
        filter: &Filter,
        after: Option<(&str, (i32, i64))>,
        limit: usize,
    ) -> Result<Vec<Listed>, OperationError> {
        let stages = match stage {
            Some(stage) => vec![self.of(stage).await?],
            None => self.all().await?,
        };
        let mut listed = Vec::new();
        for of in stages {
            let after = match after {
                Some((stage, _)) if *of.stage.name < *stage => continue,
                Some((stage, place)) if of.stage.name == stage => Some(place),
                Some(_) | None => None,
            };
            let found = DeadLetters { of }.page(filter, after, limit - listed.len()).await?;
            listed.extend(found.letters.iter().map(|letter| {
                Listed::of(letter, found.taken.contains(&(letter.record.partition, letter.record.offset)))
            }));
            if listed.len() >= limit {
                break;
            }
        }
        Ok(listed)
    }

    /// Takes dead letters of `stage` back to it: what is `wanted`, or the rest of the redrive called `continued`; `dry` only
    /// says what would be done.
    ///
    /// # Errors
    /// As for [`DeadLetters::redrive`].
    pub async fn redrive(
        &self,
        stage: &str,
        wanted: &Wanted,
        (dry, continued): (bool, Option<&str>),
        by: &Operator,
    ) -> Result<Redriven, OperationError> {
        let letters = DeadLetters { of: self.of(stage).await? };
        Ok(match continued {
            _ if dry => letters.redrive_dry(wanted).await?,
            Some(id) => letters.resume(id, &self.tools(by)).await?,
            None => letters.redrive(wanted, &self.tools(by)).await?,
        })
    }

    /// The waiting lanes of one stage, or of all that have lanes.
    ///
    /// # Errors
    /// When the stage has none, or Kafka is away.
    pub async fn lanes(&self, stage: Option<&str>) -> Result<Vec<WaitingLane>, OperationError> {
        let stages = match stage {
            Some(stage) => vec![self.of(stage).await?],
            None => self.all().await?.into_iter().filter(|of| of.stage.kind == StageKind::Effect).collect(),
        };
        let mut waiting = Vec::new();
        for of in stages {
            waiting.extend(Lanes { of, patience: Duration::ZERO }.list().await?);
        }
        Ok(waiting)
    }

    /// Asks the owner of `lane` for something, and waits for as long as `patience`.
    ///
    /// # Errors
    /// As for [`Lanes::ask`].
    pub async fn ask_lane(
        &self,
        stage: &str,
        lane: &str,
        (what, patience): (Ask, Duration),
        by: &Operator,
    ) -> Result<Vec<Answered>, OperationError> {
        Ok(Lanes { of: self.of(stage).await?, patience }.ask(lane, what, by).await?)
    }
}
