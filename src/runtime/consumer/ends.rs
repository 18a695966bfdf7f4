//! Where partitions end, asked of the broker itself: what a fetch knows of it is only as new as the fetch.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::Membership;
use super::thread::Poller;

/// How long the broker may take. The poll thread waits for it; a broker that is away has to be noticed soon.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

impl Poller {
    /// Answers what was asked. A broker that doesn't answer is not asked for the others; somebody asks again.
    pub(super) fn ask_ends(&self, consumer: &BaseConsumer<Membership>) {
        for partition in self.links.desk.take_ends() {
            let gauge = consumer.context().book().owned.get(&partition).map(|owned| Arc::clone(&owned.gauge));
            let Some(gauge) = gauge else { continue };
            // Of what is committed: the client reads nothing else.
            match consumer.fetch_watermarks(&self.links.source, partition, ANSWER_WITHIN) {
                Ok((_, end)) => gauge.note_asked_end(end),
                Err(error) => {
                    tracing::debug!(stage = %self.links.stage, partition, %error, "the end of a partition is not known");
                    return;
                }
            }
        }
    }

    /// See `Desk::hush`.
    #[cfg(test)]
    pub(super) fn hush(&self, consumer: &BaseConsumer<Membership>) {
        for partition in self.links.desk.take_hushed() {
            let mut list = rdkafka::topic_partition_list::TopicPartitionList::new();
            list.add_partition(&self.links.source, partition);
            consumer.pause(&list).expect("it is assigned");
        }
    }
}
