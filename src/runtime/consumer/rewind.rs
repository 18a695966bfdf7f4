//! Reading a partition again from an earlier offset, as its owner.
//!
//! The poll thread does to itself what a rebalance would do: the engine drains the partition and hands in its positions,
//! the earlier position is committed, and the partition is assigned anew. What began before is so cut off from what is
//! read again, and a crash on the way leaves one position or the other.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};

use super::context::Membership;
use super::desk::{Position, Side};
use super::thread::Poller;
use crate::runtime::offsets::{Tracker, decode};

/// Asks for a partition to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewind {
    /// The order to be answered, if somebody gave one.
    pub(crate) order: Option<Arc<str>>,
    /// Which partition.
    pub(crate) partition: i32,
    /// Under which assignment.
    pub(crate) generation: u64,
    /// From where; without, only the engine looks up its position again.
    pub(crate) to: Option<i64>,
}

/// An order and what came of it, in words.
type Answer = (Arc<str>, Result<String, String>);

/// Rewinds asked for and done: at most one open order per partition each.
#[derive(Debug, Default)]
pub(crate) struct Rewinds {
    asked: Mutex<Vec<Rewind>>,
    answered: Mutex<Vec<Answer>>,
}

impl Rewinds {
    /// Asks for one. Once more while it is still to be done changes nothing.
    pub(crate) fn ask(&self, rewind: Rewind) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.contains(&rewind) {
            asked.push(rewind);
        }
    }

    /// Orders that were carried out or refused since it was last asked.
    pub(crate) fn answered(&self) -> Vec<Answer> {
        std::mem::take(&mut self.answered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Vec<Rewind> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self, order: Option<Arc<str>>, answer: Result<String, String>) {
        if let Some(order) = order {
            self.answered.lock().unwrap_or_else(PoisonError::into_inner).push((order, answer));
        }
    }
}

impl Poller {
    /// Carries out what was asked for. Partitions whose positions are only looked up again are let go together: the poll thread
    /// waits for one drain, however many a failure concerns.
    pub(super) fn rewind(&self, consumer: &BaseConsumer<Membership>) {
        let (context, rewinds) = (consumer.context(), &self.links.desk.rewinds);
        let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let mut anew = BTreeSet::new();
        for rewind in rewinds.take() {
            let (partition, generation) = (rewind.partition, rewind.generation);
            let current = context.book().generation(partition);
            let answer = match rewind.to {
                None if current.is_some_and(|current| current != generation) => {
                    Ok("its position was looked up again meanwhile".to_owned())
                }
                _ if current != Some(generation) => {
                    Err("the partition was given to another member meanwhile; ask again".to_owned())
                }
                // Its engine may have closed it, and waits.
                None if !is_cooperative => {
                    rewinds.ask(rewind);
                    continue;
                }
                None => {
                    anew.insert(partition);
                    Ok("its position is looked up again".to_owned())
                }
                Some(_) if !is_cooperative => Err("the group has no cooperative assignor".to_owned()),
                Some(to) => {
                    anew.remove(&partition);
                    self.read_again(consumer, partition, to)
                }
            };
            rewinds.answer(rewind.order, answer);
        }
        let anew: Vec<i32> = anew.into_iter().collect();
        if !anew.is_empty() {
            context.let_go(consumer, &anew);
            context.assigned(consumer, &anew);
        }
    }

    fn read_again(
        &self,
        consumer: &BaseConsumer<Membership>,
        partition: i32,
        to: i64,
    ) -> Result<String, String> {
        let context = consumer.context();
        let positions = context.let_go(consumer, &[partition]);
        let answer = match positions.iter().find(|position| position.side == Side::Source) {
            Some(source) if to < source.offset => self.commit_earlier(consumer, source, to),
            Some(source) => Ok(format!("nothing to do: it stands at {}", source.offset)),
            None => Err("its position is not known; ask again".to_owned()),
        };
        context.assigned(consumer, &[partition]);
        answer
    }

    fn commit_earlier(
        &self,
        consumer: &BaseConsumer<Membership>,
        source: &Position,
        to: i64,
    ) -> Result<String, String> {
        // The map goes, the number of the assignment stays: later ones must be higher.
        let number = decode(&source.metadata).map_or(0, |map| map.generation);
        let metadata: Arc<str> = Tracker::new(to).map(number).into();
        // The partition was let go and isn't assigned yet: this is of an assignment that nobody else knows.
        let (partition, generation) = (source.partition, self.links.next_generation());
        let earlier =
            Position { side: Side::Source, partition, generation, offset: to, version: 0, metadata };
        self.links.desk.take_up(partition, generation);
        self.links.desk.commit(std::slice::from_ref(&earlier));
        consumer.context().commit_patiently(consumer);
        match self.links.desk.has_committed(&earlier) {
            true => Ok(format!("read again from {to}; it stood at {}", source.offset)),
            false => {
                self.links.desk.forget(partition);
                Err("the group did not take the earlier position; ask again".to_owned())
            }
        }
    }
}
