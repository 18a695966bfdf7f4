//! Which partitions the engine works on: taken up, opened, stopped, drained and let go.
//!
//! Invariant 5 (ownership) is kept here: what a partition's assignment started ends, or is cut off, with it.

use std::collections::BTreeSet;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::engine::Engine;
use super::partition::Partition;
use crate::runtime::consumer::{Assigned, Position, Rewind, Side, Start};
use crate::runtime::error::PartitionFault;
use crate::runtime::progress::PartitionState;
use crate::runtime::rebalance::Draining;
use crate::runtime::retry::{Epoch, Marked};
use crate::runtime::series;
use crate::runtime::stage::EffectStage;

impl<S: EffectStage> Engine<S> {
    pub(super) fn assign(&mut self, assigned: &Assigned) {
        let number = assigned.partition;
        // The poll thread waits no longer for the drain of an older assignment, which must not end this one.
        self.finish_drains();
        self.let_go(number);
        self.faulted.remove(&number);
        let with_map = self.spec.options.completed_runs_map;
        let remembers = self.hands.stage.identity().map_or(0, |_| self.spec.options.duplicates_window);
        self.partitions.insert(number, Partition::new(assigned, self.incarnation, with_map, remembers));
        self.hands.stage.owns(self.partitions.len());
        self.expect_unread();
        self.claim(number);
        // What is still to be read back is told from the start.
        self.publish(true);
    }

    /// Rule 5: hands in a claim to the partition; what follows begins when it is committed.
    pub(super) fn claim(&mut self, partition: i32) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        self.desk.commit(&owned.positions(partition).into_iter().flatten().collect::<Vec<_>>());
        self.desk.hurry();
    }

    /// True while the claim to some partition isn't committed.
    pub(super) fn claims(&self) -> bool {
        self.partitions.values().any(|owned| !owned.closed && owned.tenure.is_claiming())
    }

    /// Partitions whose claim is committed: their retry partition is read, up to a marker that is appended now.
    pub(super) fn mark_claimed(&mut self) {
        let mut claimed = Vec::new();
        for (&number, owned) in self.partitions.iter_mut() {
            if owned.closed || !owned.tenure.is_claiming() {
                continue;
            }
            if owned.positions(number).is_some_and(|[source, _]| self.desk.has_committed(&source)) {
                owned.tenure.claimed();
                claimed.push(number);
            }
        }
        for partition in claimed {
            if !self.claim_cursors(partition) {
                self.begin_scan(partition);
            }
        }
    }

    /// The cursors are claimed: the retry partition is read, up to a marker that is appended now.
    pub(super) fn begin_scan(&mut self, partition: i32) {
        let Some(generation) = self.partitions.get(&partition).map(|owned| owned.generation) else { return };
        self.desk.start(Start { partition, generation, from: None, source: false });
        self.put_marker(partition);
    }

    /// A marker was read in the retry partition.
    pub(super) fn on_marker(&mut self, partition: i32, offset: i64, epoch: Epoch) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        owned.retry.complete(offset);
        match owned.tenure.on_marker(offset, epoch) {
            Marked::Passed => {}
            Marked::Ours => self.open(partition),
            Marked::Again => self.claim(partition),
            Marked::Superseded => {
                let topic = self.retry_topic.to_string();
                self.stop(
                    partition,
                    PartitionFault::Superseded { topic, partition, epoch: epoch.to_string() },
                );
            }
        }
    }

    /// The retry partition was read back: its lanes may start, and the source flows.
    fn open(&mut self, partition: i32) {
        let now = self.env.clock.now_ms();
        if let Some(owned) = self.partitions.get_mut(&partition).filter(|owned| !owned.closed) {
            owned.state = PartitionState::Flowing;
            if let Some(own) = owned.cursors.as_deref_mut() {
                own.is_open = true;
                own.table.note_read_back(owned.retry.version());
            }
            let (generation, from) = (owned.generation, owned.recall_from);
            self.desk.start(Start { partition, generation, from, source: true });
            self.lanes.open(partition, owned.admitted(), now);
            tracing::info!(stage = %self.name, partition, parked = self.lanes.census(partition).parked,
                "parked work was read back; the source flows");
            self.unfold(partition);
            self.publish(true);
        }
    }

    /// Stops a partition by name; the others go on, and what runs may end.
    pub(super) fn stop(&mut self, partition: i32, fault: PartitionFault) {
        let Some(generation) = self.close(partition) else { return };
        tracing::error!(stage = %self.name, partition, %fault, "a partition stopped");
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.state = PartitionState::Stopped(fault);
        }
        self.desk.stop(partition, generation);
    }

    /// Lets go of a partition as for a revoke (what runs may end, positions are committed) and takes it up again under a
    /// higher epoch, if it is still ours.
    pub(super) fn take_up_anew(&mut self, partition: i32) {
        let Some(generation) = self.close(partition) else { return };
        self.desk.rewinds.ask(Rewind { order: None, partition, generation, to: None });
    }

    /// Starts nothing more of a partition; what runs may end. Gives its assignment.
    fn close(&mut self, number: i32) -> Option<u64> {
        let owned = self.partitions.get_mut(&number)?;
        owned.close();
        self.lanes.freeze(number);
        Some(owned.generation)
    }

    pub(super) fn revoke(
        &mut self,
        revoked: Vec<(i32, u64)>,
        deadline: Instant,
        reply: SyncSender<Vec<Position>>,
    ) {
        let mut busy = BTreeSet::new();
        for &(number, generation) in &revoked {
            if self.partitions.get(&number).is_some_and(|owned| owned.generation == generation) {
                self.close(number);
                self.store_at_last(number);
                if self.partitions.get(&number).is_some_and(|owned| owned.jobs > 0) {
                    busy.insert(number);
                }
            }
        }
        let partitions = revoked.into_iter().map(|(number, _)| number).collect();
        self.draining.push(Draining::new(partitions, busy, deadline, reply));
    }

    /// Answers the drains that are over; what still runs then is cut off and left to the next owner.
    pub(super) fn finish_drains(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.draining.iter().position(|drain| drain.is_over(now)) {
            let drain = self.draining.swap_remove(at);
            let mut positions = Vec::new();
            for &number in drain.partitions() {
                if let Some(owned) = self.partitions.get_mut(&number) {
                    positions.extend(owned.positions(number).into_iter().flatten());
                }
                self.let_go(number);
                self.faulted.remove(&number);
            }
            drain.revoke(positions);
        }
    }

    /// Forgets a partition and cuts off what runs of it.
    pub(super) fn let_go(&mut self, number: i32) {
        let Some(owned) = self.partitions.remove(&number) else { return };
        self.hands.stage.owns(self.partitions.len());
        self.running.cut(number);
        series::forget_partition(&self.env.metrics, &self.spec, number);
        let census = self.lanes.census(number);
        let covered = owned.cursors.as_deref().map_or(0, |own| own.to_be_handed());
        let given_up = census.parked + census.in_memory + owned.records_moving + covered;
        self.balance.given_up += given_up;
        self.count("given_up", given_up);
        for no in self.lanes.tasks_of(number) {
            self.forget(no);
        }
        self.lanes.remove(number);
        self.probing.retain(|no| self.lanes.known(*no).is_some());
    }

    /// Starts nothing more anywhere.
    pub(super) fn close_all(&mut self) {
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        for number in numbers {
            self.close(number);
            self.store_at_last(number);
        }
    }

    /// Hands the positions of all partitions to the poll thread, and takes up what it has committed.
    pub(super) fn commit(&mut self) {
        let owned = self.partitions.iter_mut();
        let positions: Vec<_> =
            owned.filter_map(|(&number, owned)| owned.positions(number)).flatten().collect();
        self.desk.commit(&positions);
        for (&number, owned) in self.partitions.iter_mut() {
            if let (Some(own), Some(version)) =
                (owned.cursors.as_deref_mut(), self.desk.committed_version(Side::Retry, number))
            {
                own.table.note_committed(version);
            }
        }
        self.mark_claimed();
        self.carry_all_forward();
        self.prune();
    }
}
