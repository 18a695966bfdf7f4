//! Rule 9: retry topics keep records for ever, so that a lane may wait for as long as it has to; their owner deletes what
//! lies below its committed position.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::engine::Engine;
use crate::runtime::consumer::Side;
use crate::runtime::options::{KafkaOptions, Role};
use crate::runtime::stage::EffectStage;
use crate::task;

/// Deletes from one retry topic, now and then.
#[derive(Debug)]
pub(super) struct Pruner {
    kafka: KafkaOptions,
    topic: Arc<str>,
    next_ms: i64,
    /// Everything below is deleted, or somebody was asked to.
    pruned: BTreeMap<i32, i64>,
    /// True while a request is on its way.
    busy: Arc<AtomicBool>,
}

impl Pruner {
    pub(super) fn new(kafka: &KafkaOptions, topic: Arc<str>) -> Self {
        Self { kafka: kafka.clone(), topic, next_ms: 0, pruned: BTreeMap::new(), busy: Arc::default() }
    }

    /// Asks for the deletion of what lies below `positions`. Nothing depends on it: it is asked again next time.
    fn prune(&mut self, positions: BTreeMap<i32, i64>) {
        let fresh: Vec<(i32, i64)> = positions
            .iter()
            .filter(|(partition, position)| {
                self.pruned.get(partition).is_none_or(|before| before < *position)
            })
            .map(|(&partition, &position)| (partition, position))
            .collect();
        if fresh.is_empty() || self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        self.pruned = positions;
        let (kafka, topic, busy) = (self.kafka.clone(), Arc::clone(&self.topic), Arc::clone(&self.busy));
        task::spawn("prune retry topic", async move {
            match delete(&kafka, &topic, &fresh).await {
                Ok(()) => tracing::debug!(%topic, ?fresh, "deleted what is complete"),
                Err(error) => {
                    tracing::warn!(%topic, %error, "what is complete can't be deleted; it stays for now")
                }
            }
            busy.store(false, Ordering::Relaxed);
        });
    }
}

async fn delete(kafka: &KafkaOptions, topic: &str, below: &[(i32, i64)]) -> Result<(), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = kafka.client_config(Role::Admin).create()?;
    let mut list = TopicPartitionList::with_capacity(below.len());
    for &(partition, position) in below {
        list.add_partition_offset(topic, partition, Offset::Offset(position))?;
    }
    let deleted = admin.delete_records(&list, &AdminOptions::new()).await?;
    deleted.elements().iter().try_for_each(|element| element.error())
}

impl<S: EffectStage> Engine<S> {
    /// Deletes what the group will never read again, if it is time to.
    pub(super) fn prune(&mut self) {
        let now = self.env.clock.now_ms();
        if now < self.pruner.next_ms {
            return;
        }
        self.pruner.next_ms = now + self.spec.options.prune_interval.as_millis() as i64;
        let owned = self.partitions.iter().filter(|(_, owned)| !owned.closed && owned.tenure.is_held());
        let positions =
            owned.filter_map(|(&number, _)| Some((number, self.desk.committed(Side::Retry, number)?)));
        let positions = positions.filter(|(_, position)| *position > 0).collect();
        self.pruner.prune(positions);
    }
}
