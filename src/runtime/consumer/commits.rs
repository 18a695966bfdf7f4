//! Committing: one request at a time is under way, and is answered while the poll thread goes round.
//!
//! A broker answers the requests of a connection in turn, and holds a member's wish to join back until the others have come
//! too. A commit behind that waits as long, and one for a coordinator that is away waits until it is back. Whoever waited for it
//! would deliver nothing and tick nothing for so long; so only who is about to let go of partitions, or to move a position back,
//! waits, and for a bounded time.
//!
//! One at a time, and the next not before the answer: librdkafka repeats by itself what failed on the way, and so an older
//! commit could take effect after a newer one. A position counts as committed when the broker said so, under the assignment
//! that it is of.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::commit_queue::Answer;
use super::context::Membership;
use super::desk::{Desk, Position, Side};

/// How long commits are tried again before partitions are let go, while the group is between generations.
const COMMIT_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between those tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// How often who waits for an answer looks whether it is still of use.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The commit that is under way, and what was told of those before.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// What was sent and is not answered yet.
    under_way: Option<Vec<Position>>,
    /// Why commits fail, once told, until one is taken.
    told: Option<KafkaError>,
}

impl Commits {
    fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What is to be sent: everything pending, and nothing while something is under way. From here on it is under way.
    fn begin(&mut self, desk: &Desk) -> Option<&[Position]> {
        if self.is_under_way() {
            return None;
        }
        let pending = desk.pending();
        self.under_way = (!pending.is_empty()).then_some(pending);
        self.under_way.as_deref()
    }

    /// Notes what was under way as committed, if it was taken. Otherwise it is pending as before.
    fn end(&mut self, desk: &Desk, is_taken: bool) {
        let sent = self.under_way.take().unwrap_or_default();
        if is_taken {
            desk.note_committed(&sent);
        }
    }

    /// False when that was told of the commit before, too.
    fn is_news(&mut self, error: &KafkaError) -> bool {
        self.told.replace(error.clone()).as_ref() != Some(error)
    }
}

impl Membership {
    /// True while a commit is not answered yet.
    pub(super) fn is_committing(&self) -> bool {
        self.commits().is_under_way()
    }

    /// Sends everything pending in one request, unless one is under way. True when one is now. Nothing is sent while the
    /// assignment is lost: a static member that commits then is fenced for good.
    pub(super) fn commit(&self, consumer: &BaseConsumer<Self>) -> bool {
        if consumer.assignment_lost() {
            return false;
        }
        let mut commits = self.commits();
        let Some(positions) = commits.begin(&self.links.desk) else { return commits.is_under_way() };
        match self.list_of(positions).and_then(|list| self.committing.send(&list)) {
            Ok(()) => true,
            Err(error) => {
                self.ended(&mut commits, Err(error));
                false
            }
        }
    }

    /// Takes the answer to what is under way, if it comes within `wait`: whether the positions were taken.
    pub(super) fn hear_answer(&self, wait: Duration) -> Option<bool> {
        let mut commits = self.commits();
        if !commits.is_under_way() {
            return None;
        }
        let answer = self.committing.answer(wait)?;
        Some(self.ended(&mut commits, answer))
    }

    /// Commits until it is taken, after what is under way. Patience begins with the first answer: while the group forms
    /// anew, a commit waits on the connection behind the joining, and may have to be made again for the new generation.
    /// Nothing ticks meanwhile: in a rebalance the client doesn't notice that its session is over.
    pub(super) fn commit_patiently(&self, consumer: &BaseConsumer<Self>) {
        let answered_by = Instant::now() + self.links.answer_within;
        self.await_answer(consumer, answered_by);
        let mut deadline = None;
        while !self.is_committing()
            && self.commit(consumer)
            && !self.await_answer(consumer, answered_by)
            && Instant::now() < *deadline.get_or_insert_with(|| Instant::now() + COMMIT_PATIENCE)
        {
            std::thread::sleep(BETWEEN_TRIES);
        }
    }

    /// Waits until nothing is under way: whether the positions were taken. No longer than the assignment is ours, and not for a
    /// coordinator that is away; what is answered later is heard later, and the client joins no group before that.
    fn await_answer(&self, consumer: &BaseConsumer<Self>, answered_by: Instant) -> bool {
        while self.is_committing() && !consumer.assignment_lost() && Instant::now() < answered_by {
            if let Some(is_taken) = self.hear_answer(LOOK_EVERY) {
                return is_taken;
            }
        }
        false
    }

    /// Something was answered, or couldn't be sent: whether the positions were taken.
    fn ended(&self, commits: &mut Commits, answer: Answer) -> bool {
        commits.end(&self.links.desk, answer.is_ok());
        let Err(error) = answer else {
            commits.told = None;
            return true;
        };
        let passing = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration)
        );
        if passing {
            tracing::debug!(%error, "the group is between generations; committing again shortly");
        } else if commits.is_news(&error) {
            tracing::warn!(stage = %self.links.stage, %error, "positions were not committed; trying again");
        }
        false
    }

    pub(super) fn list_of(&self, positions: &[Position]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let topic = match position.side {
                Side::Source => Some(&self.links.source),
                Side::Retry => self.links.retry.as_ref(),
            };
            if let Some(topic) = topic {
                let offset = Offset::Offset(position.offset);
                let mut element = list.add_partition(topic, position.partition);
                element.set_offset(offset)?;
                element.set_metadata(&*position.metadata);
            }
        }
        Ok(list)
    }

    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
