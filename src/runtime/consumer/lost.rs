//! Invariant 8: a read position that left the log (its records were deleted before they were handled) is a fault with a
//! name; that partition stands still.

use std::ops::ControlFlow;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::Membership;
use super::thread::{End, Poller};
use super::{Event, positions};
use crate::runtime::error::PartitionFault;

impl Poller {
    /// Names those of the positions that lie outside their logs. What the broker doesn't answer for stays, to be asked again.
    pub(super) fn name_lost_positions(
        &self,
        consumer: &BaseConsumer<Membership>,
        lost: &mut Vec<(Arc<str>, i32, i64)>,
    ) -> ControlFlow<End> {
        for (topic, partition, committed) in std::mem::take(lost) {
            let current = consumer.context().book().owned.get(&partition).map(|owned| owned.generation);
            let Some(generation) = current else { continue };
            match consumer.fetch_watermarks(&topic, partition, positions::ANSWER_WITHIN) {
                Ok((low, high)) if committed < low || committed > high => {
                    let topic = topic.to_string();
                    let fault = PartitionFault::PositionOutsideLog { topic, partition, committed, low, high };
                    tracing::error!(stage = %self.links.stage, partition, %fault, "a partition is not read any more");
                    self.links.desk.stop(partition, generation);
                    self.tell(Event::Faulted { partition, fault })?;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(stage = %self.links.stage, partition, %error, "the ends of a partition are not known");
                    lost.push((topic, partition, committed));
                }
            }
        }
        ControlFlow::Continue(())
    }
}
