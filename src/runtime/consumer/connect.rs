//! How a member comes to be: a client, its topics checked, first positions set, subscribed.
//!
//! Kafka is waited for, and so is a topic that the broker doesn't tell of: one that was made a moment ago is known to some
//! brokers sooner than to others. What waiting doesn't mend ends the start. All calls block; they run on the poll thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::Membership;
use super::positions;
use super::thread::{AWAY, Poller};
use crate::runtime::error::RunError;
use crate::runtime::options::{Role, StageSpec};

/// A subscribed client, and the cluster's id.
pub(super) type Connected = (BaseConsumer<Membership>, Arc<str>);

impl Poller {
    /// A subscribed client, or `None` when the engine went away meanwhile.
    pub(super) fn connect(&self, first: bool) -> Result<Option<Connected>, RunError> {
        let StageSpec { group, stage, options, .. } = &self.spec;
        let role = Role::Member { group, stage, gather: options.gather };
        let mut config = self.kafka.client_config(role);
        config.set("statistics.interval.ms", "1000");
        let consumer: BaseConsumer<Membership> =
            config.create_with_context(Membership::new(self.links.clone())).map_err(RunError::Settings)?;
        let mut waiting = Waiting { poller: self, first, began: Instant::now(), away: false, missing: None };
        loop {
            if self.links.desk.is_closing() || self.links.events.is_closed() {
                return Ok(None);
            }
            self.links.tick();
            match self.prepare(&consumer) {
                Ok(cluster) => {
                    waiting.is_over();
                    return Ok(Some((consumer, cluster)));
                }
                Err(why) => waiting.go_on(why, Instant::now())?,
            }
            std::thread::sleep(AWAY);
        }
    }

    /// Checks the topics, sets first positions, subscribes. Gives the cluster's id.
    fn prepare(&self, consumer: &BaseConsumer<Membership>) -> Result<Arc<str>, Prepare> {
        let source_partitions = partitions(consumer, &self.spec.source)?;
        for topic in self.spec.retry.iter().chain([&self.spec.dead_letters]) {
            let partitions = partitions(consumer, topic)?;
            if partitions != source_partitions {
                return Err(Prepare::Refused(RunError::PartitionCounts {
                    stage: self.spec.stage.clone(),
                    topic: topic.clone(),
                    partitions,
                    source_topic: self.spec.source.clone(),
                    source_partitions,
                }));
            }
        }
        let count = i32::try_from(source_partitions).unwrap_or(i32::MAX);
        positions::ensure_positions(consumer, &self.spec, count)?;
        // Positions of store stages are kept under it, so that it must be known.
        let cluster = consumer
            .client()
            .fetch_cluster_id(positions::ANSWER_WITHIN)
            .ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::RequestTimedOut))?;
        consumer.subscribe(&[&self.spec.source])?;
        Ok(cluster.into())
    }
}

/// How many partitions a topic has.
fn partitions(consumer: &BaseConsumer<Membership>, topic: &str) -> Result<usize, Prepare> {
    let metadata = consumer.fetch_metadata(Some(topic), positions::ANSWER_WITHIN)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.map_or(0, |found| found.partitions().len()) {
        0 => {
            let why = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
            let why = why.unwrap_or(RDKafkaErrorCode::UnknownTopicOrPartition);
            Err(Prepare::Missing { topic: topic.to_owned(), why })
        }
        count => Ok(count),
    }
}

/// What a start waits for, and since when.
struct Waiting<'p> {
    poller: &'p Poller,
    /// The member's first client: Kafka is waited for no longer than `start_timeout`.
    first: bool,
    began: Instant,
    /// It was told that Kafka is away.
    away: bool,
    /// Since when topics are missing.
    missing: Option<Instant>,
}

impl Waiting<'_> {
    /// Says that waiting goes on, once for each reason.
    ///
    /// # Errors
    /// When it makes no sense, or has lasted long enough.
    fn go_on(&mut self, why: Prepare, now: Instant) -> Result<(), RunError> {
        let spec = &self.poller.spec;
        match why {
            Prepare::Refused(error) => Err(error),
            Prepare::Away(error) => {
                let bound = spec.options.start_timeout.filter(|_| self.first);
                let servers = &self.poller.kafka.bootstrap_servers;
                if let Some(waited) = bound.filter(|bound| now - self.began >= *bound) {
                    return Err(RunError::Unavailable { servers: servers.clone(), waited });
                }
                if !self.away {
                    tracing::warn!(stage = %spec.stage, %servers, %error, "kafka does not answer; waiting for it");
                }
                self.away = true;
                Ok(())
            }
            Prepare::Missing { topic, why } => {
                let limit = spec.options.topic_timeout;
                let waited = self.missing.map_or(Duration::ZERO, |since| now - since);
                if waited >= limit {
                    return Err(RunError::TopicMissing { stage: spec.stage.clone(), topic, waited, why });
                }
                if self.missing.replace(now - waited).is_none() {
                    tracing::warn!(stage = %spec.stage, topic, %why, ?limit,
                        "the broker does not tell of a topic; waiting for it, as it may have been made a moment ago");
                }
                Ok(())
            }
        }
    }

    /// Says so when something was waited for.
    fn is_over(&self) {
        if self.away || self.missing.is_some() {
            tracing::info!(stage = %self.poller.spec.stage, "kafka and the topics are there");
        }
    }
}

/// Why the client isn't ready.
enum Prepare {
    /// It never will be.
    Refused(RunError),
    /// The broker doesn't tell of a topic (yet).
    Missing { topic: String, why: RDKafkaErrorCode },
    /// Kafka is away, or busy electing.
    Away(KafkaError),
}

impl From<KafkaError> for Prepare {
    fn from(error: KafkaError) -> Self {
        Self::Away(error)
    }
}
