//! What happens when the group gives partitions to this member or takes them away.
//!
//! Superset assignment: whoever owns source partition p also assigns retry partition p, with exactly the same
//! extras on the way in and out. Everything assigned is paused until the engine has started it. A revoke asks
//! the engine to drain, waits for its answer (with a deadline, the one time that the poll thread waits for
//! user work), commits (and waits for that, too), and lets go.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::batch_queue::Forwarding;
use super::commit_queue::Committing;
use super::commits::Commits;
use super::desk::Position;
use super::gauge::Gauge;
use super::{Event, Links, Owned};

/// How long the engine may take to answer a revoke beyond its drain deadline.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);

/// The rebalance side of one consumer client.
pub(crate) struct Membership {
    pub(super) links: Links,
    pub(super) book: Mutex<Book>,
    /// Where what is fetched goes.
    pub(super) forwarding: Forwarding,
    pub(super) committing: Committing,
    pub(super) commits: Mutex<Commits>,
}

/// Which partitions are ours.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) owned: BTreeMap<i32, Owned>,
    /// Assigned, but their positions are not looked up yet.
    pub(super) fresh: Vec<i32>,
    /// True while the consumer is closed on purpose: the engine has drained before.
    pub(super) closing: bool,
}

impl Book {
    /// Under which assignment a partition is ours, if it is.
    pub(super) fn generation(&self, partition: i32) -> Option<u64> {
        self.owned.get(&partition).map(|owned| owned.generation)
    }
}

impl Membership {
    pub(super) fn new(links: Links) -> Self {
        Self {
            links,
            book: Mutex::default(),
            forwarding: Forwarding::default(),
            committing: Committing::default(),
            commits: Mutex::default(),
        }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The given source partitions and the retry partitions of the same number.
    fn superset(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition(&self.links.source, partition);
            if let Some(retry) = &self.links.retry {
                list.add_partition(retry, partition);
            }
        }
        list
    }

    /// Lets what is fetched of the partitions go where batches are read.
    pub(super) fn forward(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) {
        for element in self.superset(partitions).elements() {
            self.forwarding.forward(consumer.client(), element.topic(), element.partition());
        }
    }

    fn given(&self, list: &TopicPartitionList) -> Vec<i32> {
        list.elements()
            .iter()
            .filter(|element| element.topic() == &*self.links.source)
            .map(|element| element.partition())
            .collect()
    }

    pub(super) fn assigned(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) {
        let all = self.superset(partitions);
        self.forward(consumer, partitions);
        let taken = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&all),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(&all),
        };
        // Nothing flows before the engine knows the partition and has said where to start.
        if let Err(error) = taken.and_then(|()| consumer.pause(&all)) {
            tracing::error!(%error, ?partitions, "an assignment could not be taken up");
        }
        self.count("assign");
        tracing::info!(stage = %self.links.stage, ?partitions, "partitions assigned");
        let mut book = self.book();
        for &partition in partitions {
            let generation = self.links.next_generation();
            book.owned.insert(partition, Owned::new(generation, Arc::new(Gauge::default())));
            self.links.desk.take_up(partition, generation);
            book.fresh.push(partition);
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) {
        self.let_go(consumer, partitions);
    }

    /// Drains `partitions`, commits them and lets them go. Gives the positions that the engine handed in. After this
    /// nothing of them is committed here until they are assigned anew, whatever an engine that didn't answer still asks.
    pub(super) fn let_go(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Vec<Position> {
        let lost = consumer.assignment_lost();
        self.count(if lost { "lost" } else { "revoke" });
        let closing = self.book().closing;
        let mut handed_in = Vec::new();
        if !closing {
            tracing::info!(stage = %self.links.stage, ?partitions, lost, "partitions revoked");
            let positions = self.drain(partitions, lost);
            if !lost {
                self.links.desk.commit(&positions);
                self.commit_patiently(consumer);
            }
            handed_in = positions;
        }
        {
            let mut book = self.book();
            for partition in partitions {
                book.owned.remove(partition);
                self.links.desk.forget(*partition);
            }
            book.fresh.retain(|partition| !partitions.contains(partition));
        }
        let all = self.superset(partitions);
        let left = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(&all),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        };
        if let Err(error) = left {
            tracing::error!(%error, ?partitions, "partitions could not be let go");
        }
        handed_in
    }

    /// Asks the engine to end its work on `partitions`, and waits for the positions to commit.
    pub(super) fn drain(&self, partitions: &[i32], lost: bool) -> Vec<Position> {
        let generations: Vec<(i32, u64)> = {
            let book = self.book();
            let known = partitions.iter();
            known.filter_map(|number| Some((*number, book.generation(*number)?))).collect()
        };
        let within = if lost { Duration::ZERO } else { self.links.revoke_drain };
        let deadline = Instant::now() + within;
        let (reply, answer) = sync_channel(1);
        let asked =
            self.links.events.blocking_send(Event::Revoked { partitions: generations, deadline, reply });
        if asked.is_err() {
            return Vec::new();
        }
        while Instant::now() < deadline + DRAIN_MARGIN {
            self.links.tick();
            match answer.recv_timeout(Duration::from_millis(100)) {
                Ok(positions) => return positions,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Vec::new(),
            }
        }
        tracing::error!(stage = %self.links.stage, ?partitions, "the engine did not answer a revoke in time");
        Vec::new()
    }

    fn count(&self, kind: &str) {
        self.links.metrics.rebalances.with_label_values(&[&*self.links.group, kind]).inc();
    }
}

impl ClientContext for Membership {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = false;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "kafka client");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
    }

    /// Ends of the partitions as the last fetch saw them, for the lag.
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&*self.links.source) else { return };
        let book = self.book();
        for (number, owned) in &book.owned {
            let Some(partition) = topic.partitions.get(number) else { continue };
            if partition.hi_offset >= 0 {
                owned.gauge.note_end(partition.hi_offset);
            }
            owned.gauge.note_next_fetch(partition.next_offset);
        }
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = self.given(list);
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assigned(consumer, &partitions);
        } else {
            self.revoked(consumer, &partitions);
        }
    }
}

#[cfg(test)]
mod tests;
