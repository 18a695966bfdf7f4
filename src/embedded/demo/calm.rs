//! When everything has settled: nothing waits anywhere, and nothing can come any more.
//!
//! Stages lead to further events through the outbox, so one look at one place proves nothing. The order of
//! the looks does: first how far every stage is, then whether the outbox is empty, then whether the topics
//! still end where they ended before. What a stage wrote to the outbox before its position was read is either
//! still there, or was published and moved an end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::runtime::{KafkaOptions, Role};
use crate::store::{Database, StoreError, notifications, outbox, positions};
use crate::task;
use crate::topology::{StageKind, Topology};

const BROKER_WAIT: Duration = Duration::from_secs(10);

/// Why it can't be seen whether everything has settled.
#[derive(Debug, thiserror::Error)]
pub enum CalmError {
    /// The broker didn't answer.
    #[error("the in-process broker doesn't tell positions: {0}")]
    Kafka(#[from] KafkaError),
    /// The store didn't answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blocking call was cut off.
    #[error("the look at positions broke off: {0}")]
    Broken(String),
}

/// How much is still to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Records that stages haven't finished.
    pub records: i64,
    /// Parked work.
    pub parked: i64,
    /// Messages that wait in the outbox.
    pub outbox: i64,
    /// Notifications that wait for their channel.
    pub queued: i64,
}

impl Remaining {
    /// Nothing at all.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Looks at positions; it commits nothing and joins no group. Cheap to clone.
#[derive(Clone)]
pub struct Calm {
    db: Database,
    stages: Arc<Vec<Watched>>,
}

impl std::fmt::Debug for Calm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calm").finish_non_exhaustive()
    }
}

/// A stage and a client that may ask for its group's commits.
struct Watched {
    name: String,
    kind: StageKind,
    source: Arc<str>,
    retry: Option<Arc<str>>,
    partitions: i32,
    client: BaseConsumer,
}

/// Where partitions end, or how far a stage is: (topic, partition) → next offset.
type Positions = BTreeMap<(Arc<str>, i32), i64>;

impl Calm {
    /// Watches `stages` of `topology`.
    ///
    /// # Errors
    /// When the client refuses its settings.
    pub fn new(
        db: Database,
        topology: &Topology,
        stages: &[&str],
        kafka: &KafkaOptions,
    ) -> Result<Self, CalmError> {
        let mut watched = Vec::new();
        for stage in topology.stages().filter(|stage| stages.contains(&stage.name.as_str())) {
            let partitions = topology.topic_on_broker(&stage.source).map_or(0, |topic| topic.partitions);
            let mut settings = kafka.client_config(Role::Admin);
            settings.set("group.id", &*stage.group);
            settings.set("enable.auto.commit", "false");
            watched.push(Watched {
                name: stage.name.clone(),
                kind: stage.kind,
                source: Arc::clone(&stage.source),
                retry: stage.retry_topic.clone(),
                partitions,
                client: settings.create()?,
            });
        }
        Ok(Self { db, stages: Arc::new(watched) })
    }

    /// What is still to be done. When it says none, there is none and none will come, unless somebody publishes.
    ///
    /// # Errors
    /// When broker or store don't answer.
    pub async fn remaining(&self) -> Result<Remaining, CalmError> {
        let ends = self.ends().await?;
        let mut remaining = Remaining::default();
        for (at, stage) in self.stages.iter().enumerate() {
            let done = match stage.kind {
                StageKind::Store => self.stored(stage).await?,
                StageKind::Effect => self.committed(at).await?,
            };
            for (topic, partition) in stage.all_partitions() {
                let key = (topic, partition);
                let behind = ends.get(&key).unwrap_or(&0) - done.get(&key).unwrap_or(&0);
                let is_source = key.0 == stage.source;
                *(if is_source { &mut remaining.records } else { &mut remaining.parked }) += behind.max(0);
            }
        }
        remaining.queued = notifications::count(&self.db).await?.queued;
        remaining.outbox = outbox::depth(&self.db).await?.0;
        let later = self.ends().await?;
        let new: i64 = later.iter().map(|(key, end)| end - ends.get(key).unwrap_or(&0)).sum();
        remaining.records += new;
        Ok(remaining)
    }

    async fn ends(&self) -> Result<Positions, CalmError> {
        let stages = Arc::clone(&self.stages);
        blocking(move || {
            let mut ends = Positions::new();
            for stage in stages.iter() {
                for (topic, partition) in stage.all_partitions() {
                    let (_, end) = stage.client.fetch_watermarks(&topic, partition, BROKER_WAIT)?;
                    ends.insert((topic, partition), end);
                }
            }
            Ok(ends)
        })
        .await
    }

    /// How far an effect stage's group has committed.
    async fn committed(&self, at: usize) -> Result<Positions, CalmError> {
        let stages = Arc::clone(&self.stages);
        blocking(move || {
            let stage = &stages[at];
            let mut asked = TopicPartitionList::new();
            for (topic, partition) in stage.all_partitions() {
                asked.add_partition(&topic, partition);
            }
            let answer = stage.client.committed_offsets(asked, BROKER_WAIT)?;
            let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
            let elements = answer.elements();
            Ok(elements
                .iter()
                .map(|element| ((Arc::from(element.topic()), element.partition()), offset(element.offset())))
                .collect())
        })
        .await
    }

    /// How far a store stage is by the database, which is the truth for it.
    async fn stored(&self, stage: &Watched) -> Result<Positions, CalmError> {
        let known = positions::of_stage(&self.db, &stage.name).await?;
        Ok(known
            .into_iter()
            .map(|(partition, next)| ((Arc::clone(&stage.source), partition), next))
            .collect())
    }
}

impl Watched {
    /// Source partitions, then those of the retry topic.
    fn all_partitions(&self) -> impl Iterator<Item = (Arc<str>, i32)> + '_ {
        let topics = std::iter::once(&self.source).chain(&self.retry);
        topics.flat_map(|topic| (0..self.partitions).map(move |partition| (Arc::clone(topic), partition)))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, CalmError> {
    let ended = task::spawn_blocking(work).await.map_err(|error| CalmError::Broken(error.to_string()))?;
    Ok(ended?)
}
