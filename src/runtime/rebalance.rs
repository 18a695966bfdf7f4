//! Partitions on their way out: Assigned → Draining → Revoked, as types.
//!
//! An assigned partition lives in its engine's table. A revoke turns it into a [`Draining`], from which there
//! is no way back; answering the poll thread with the positions consumes that, and the partition is gone.

use std::collections::BTreeSet;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::consumer::Position;

/// A set of partitions whose started work may still end, until a deadline.
#[derive(Debug)]
pub(crate) struct Draining {
    partitions: Vec<i32>,
    busy: BTreeSet<i32>,
    deadline: Instant,
    reply: SyncSender<Vec<Position>>,
}

impl Draining {
    /// Starts to drain `partitions`, of which `busy` have work running.
    pub(crate) fn new(
        partitions: Vec<i32>,
        busy: BTreeSet<i32>,
        deadline: Instant,
        reply: SyncSender<Vec<Position>>,
    ) -> Self {
        Self { partitions, busy, deadline, reply }
    }

    /// The partitions, idle or not.
    pub(crate) fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// Notes that nothing of `partition` runs any more.
    pub(crate) fn idle(&mut self, partition: i32) {
        self.busy.remove(&partition);
    }

    /// True when it is time to answer: everything ended, or the deadline has come.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.busy.is_empty() || now >= self.deadline
    }

    /// Lets go: the poll thread commits `positions` and hands the partitions over.
    pub(crate) fn revoke(self, positions: Vec<Position>) {
        // The poll thread may have stopped waiting; then the next owner repeats what wasn't committed.
        if self.reply.try_send(positions).is_err() {
            tracing::warn!(partitions = ?self.partitions, "a drain ended after its deadline");
        }
    }
}
