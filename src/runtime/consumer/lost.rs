//! Invariant 8: a read position that left the log (its records were deleted before they were handled) is a fault with a
//! name; that partition stands still.

use std::ops::ControlFlow;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::Membership;
use super::thread::{End, Poller};
use super::{Event, positions};
use crate::runtime::error::PartitionFault;

/// A read position that seems to have left its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Under which assignment it was to be read.
    pub(super) generation: u64,
    /// Where.
    pub(super) offset: i64,
}

impl Poller {
    /// Names those of the positions that lie outside their logs. What the broker doesn't answer for stays, to be asked again,
    /// as long as the assignment lasts: the next one begins at a position of its own.
    pub(super) fn name_lost_positions(
        &self,
        consumer: &BaseConsumer<Membership>,
        lost: &mut Vec<Lost>,
    ) -> ControlFlow<End> {
        for one in std::mem::take(lost) {
            let Lost { ref topic, partition, generation, offset: committed } = one;
            if consumer.context().book().generation(partition) != Some(generation) {
                continue;
            }
            match consumer.fetch_watermarks(topic, partition, positions::ANSWER_WITHIN) {
                Ok((low, high)) if committed < low || committed > high => {
                    let topic = topic.to_string();
                    let fault = PartitionFault::PositionOutsideLog { topic, partition, committed, low, high };
                    tracing::error!(stage = %self.links.stage, partition, %fault, "a partition is not read any more");
                    self.links.desk.stop(partition, generation);
                    self.tell(Event::Faulted { partition, generation, fault })?;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(stage = %self.links.stage, partition, %error, "the ends of a partition are not known");
                    lost.push(one);
                }
            }
        }
        ControlFlow::Continue(())
    }
}
