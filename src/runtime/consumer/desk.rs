//! What the engine asks of its poll thread: positions to commit, partitions to start or stop, the end.
//!
//! A desk, not a queue: orders are kept per partition and the newest replaces the older, so it is bounded by
//! the number of partitions and nobody waits on it.
//!
//! Invariant 5 (ownership): Kafka takes positions of any partition from any true member, so the desk must not. The poll
//! thread says which partitions are its own and under which assignment; what an engine that is late orders under another
//! one is dropped on sight.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::rewind::Rewinds;

/// One of the two topics that a member reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    /// The source topic.
    Source,
    /// The stage's retry topic.
    Retry,
}

/// A position to commit: the next offset to be handled after a restart, and what is known beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// Of which topic.
    pub(crate) side: Side,
    /// Of which partition.
    pub(crate) partition: i32,
    /// Under which assignment; a position of another one is void.
    pub(crate) generation: u64,
    /// The next offset.
    pub(crate) offset: i64,
    /// Of the retry side: of two under one assignment the later has the higher one.
    pub(crate) version: u64,
    /// The commit's metadata; at most [`MOST_CHARACTERS`](crate::runtime::offsets::MOST_CHARACTERS).
    pub(crate) metadata: Arc<str>,
}

impl Position {
    fn slot(&self) -> (Side, i32) {
        (self.side, self.partition)
    }
}

/// Lets a partition flow, from its committed position or from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Which partition.
    pub(crate) partition: i32,
    /// Under which assignment; an order for an older one is void.
    pub(crate) generation: u64,
    /// Read the source from here instead of the committed position.
    pub(crate) from: Option<i64>,
    /// Whether the source flows too; otherwise only the retry partition does, until it is said again.
    pub(crate) source: bool,
}

/// Orders of one engine for its poll thread.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    orders: Mutex<Orders>,
    /// Partitions to be read again.
    pub(crate) rewinds: Rewinds,
    /// Something was committed.
    committed: Notify,
    ticked_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct Orders {
    /// Partitions that are ours, and the assignment of each. Positions of others are not kept.
    owned: BTreeMap<i32, u64>,
    pending: BTreeMap<(Side, i32), Position>,
    committed: BTreeMap<(Side, i32), Position>,
    starts: Vec<Start>,
    stopped: BTreeSet<i32>,
    /// Partitions of which somebody wants to know where their source ends.
    ends: BTreeSet<i32>,
    #[cfg(test)]
    hushed: BTreeSet<i32>,
    /// Commit before the interval is over.
    hurry: bool,
    close: bool,
    /// Why the member is outside of its group, while its client is made anew.
    outside: Option<Arc<str>>,
    /// Whether everything was committed when the member left.
    farewell: Option<bool>,
}

impl Orders {
    fn is_ours(&self, partition: i32, generation: u64) -> bool {
        self.owned.get(&partition) == Some(&generation)
    }

    fn forget(&mut self, partition: i32) {
        self.owned.remove(&partition);
        self.pending.retain(|(_, number), _| *number != partition);
        self.committed.retain(|(_, number), _| *number != partition);
        self.starts.retain(|start| start.partition != partition);
        self.stopped.remove(&partition);
        self.ends.remove(&partition);
    }
}

impl Desk {
    /// Hands in positions to commit: one consistent snapshot of everything that moved. Those of partitions that aren't
    /// ours, or not under this assignment any more, are dropped: another member may have come further.
    pub(crate) fn commit(&self, snapshot: &[Position]) {
        let mut orders = self.lock();
        for position in snapshot {
            if !orders.is_ours(position.partition, position.generation) {
                tracing::debug!(?position, "a position of an assignment that is over is dropped");
                continue;
            }
            let slot = position.slot();
            // What stands needs no commit; an older order that still waits is void by it.
            if orders.committed.get(&slot) == Some(position) {
                orders.pending.remove(&slot);
            } else {
                orders.pending.insert(slot, position.clone());
            }
        }
    }

    /// Asks for a commit as soon as can be.
    pub(crate) fn hurry(&self) {
        self.lock().hurry = true;
    }

    /// What was committed last, while the partition is ours.
    pub(crate) fn committed(&self, side: Side, partition: i32) -> Option<i64> {
        self.lock().committed.get(&(side, partition)).map(|position| position.offset)
    }

    /// The version of what was committed last, while the partition is ours.
    pub(crate) fn committed_version(&self, side: Side, partition: i32) -> Option<u64> {
        self.lock().committed.get(&(side, partition)).map(|position| position.version)
    }

    /// True when exactly this was committed last, under this assignment.
    pub(crate) fn has_committed(&self, position: &Position) -> bool {
        self.lock().committed.get(&position.slot()) == Some(position)
    }

    /// Waits until something is committed; at once when that happened since the last time that somebody waited.
    pub(crate) async fn next_commit(&self) {
        self.committed.notified().await;
    }

    /// Lets an assigned partition flow.
    pub(crate) fn start(&self, start: Start) {
        self.lock().starts.push(start);
    }

    /// Reads no more of this partition's source until it is assigned again. Void when it was meanwhile.
    pub(crate) fn stop(&self, partition: i32, generation: u64) {
        let mut orders = self.lock();
        if orders.is_ours(partition, generation) {
            orders.stopped.insert(partition);
        }
    }

    /// Has the client hold back a partition behind everybody's back: a fault for tests, of which nothing tells.
    #[cfg(test)]
    pub(crate) fn hush(&self, partition: i32) {
        self.lock().hushed.insert(partition);
    }

    /// False once that is done.
    #[cfg(test)]
    pub(crate) fn is_to_be_hushed(&self) -> bool {
        !self.lock().hushed.is_empty()
    }

    /// Why the member is outside of its group, while its client is made anew.
    pub(crate) fn outside(&self) -> Option<Arc<str>> {
        self.lock().outside.clone()
    }

    pub(super) fn note_outside(&self, why: Option<Arc<str>>) {
        self.lock().outside = why;
    }

    /// Asks the broker where the source of a partition ends; [`Gauge::asked_end`] has the answer once it came.
    ///
    /// [`Gauge::asked_end`]: super::Gauge::asked_end
    pub(crate) fn ask_end(&self, partition: i32) {
        self.lock().ends.insert(partition);
    }

    /// Ends the member: commit what is pending, leave the group.
    pub(crate) fn close(&self) {
        self.lock().close = true;
    }

    /// When the poll thread last went round, in epoch milliseconds (invariant 5, ownership).
    pub(crate) fn ticked_ms(&self) -> i64 {
        self.ticked_ms.load(Ordering::Relaxed)
    }

    /// True when every position that was handed in was committed before the member left.
    pub(crate) fn is_committed(&self) -> bool {
        let orders = self.lock();
        orders.farewell.unwrap_or(orders.pending.is_empty())
    }

    /// Notes whether everything is committed now, for after the member has left.
    pub(super) fn note_farewell(&self) {
        let mut orders = self.lock();
        orders.farewell = Some(orders.pending.is_empty());
    }

    pub(super) fn tick(&self, now_ms: i64) {
        self.ticked_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().close
    }

    pub(super) fn take_starts(&self) -> Vec<Start> {
        std::mem::take(&mut self.lock().starts)
    }

    pub(super) fn take_ends(&self) -> BTreeSet<i32> {
        std::mem::take(&mut self.lock().ends)
    }

    #[cfg(test)]
    pub(super) fn take_hushed(&self) -> BTreeSet<i32> {
        std::mem::take(&mut self.lock().hushed)
    }

    pub(super) fn take_hurry(&self) -> bool {
        std::mem::take(&mut self.lock().hurry)
    }

    pub(super) fn is_stopped(&self, partition: i32) -> bool {
        self.lock().stopped.contains(&partition)
    }

    pub(super) fn pending(&self) -> Vec<Position> {
        self.lock().pending.values().cloned().collect()
    }

    /// Notes what the broker has taken. It may say so when a partition has gone meanwhile, or has come back under another
    /// assignment: then that is no claim to it.
    pub(super) fn note_committed(&self, positions: &[Position]) {
        let mut orders = self.lock();
        for position in positions {
            if !orders.is_ours(position.partition, position.generation) {
                continue;
            }
            let slot = position.slot();
            if orders.pending.get(&slot) == Some(position) {
                orders.pending.remove(&slot);
            }
            orders.committed.insert(slot, position.clone());
        }
        drop(orders);
        self.committed.notify_one();
    }

    /// Takes the unchanged positions of the retry topic up again, so that the group doesn't forget them.
    pub(super) fn renew_retry(&self) {
        let mut orders = self.lock();
        let kept: Vec<_> = orders
            .committed
            .iter()
            .filter(|((side, _), _)| *side == Side::Retry)
            .map(|(&slot, position)| (slot, position.clone()))
            .collect();
        for (slot, position) in kept {
            orders.pending.entry(slot).or_insert(position);
        }
    }

    /// A partition is ours under this assignment, which begins with nothing of an older one.
    pub(super) fn take_up(&self, partition: i32, generation: u64) {
        let mut orders = self.lock();
        orders.forget(partition);
        orders.owned.insert(partition, generation);
    }

    /// Forgets what belongs to a partition that is no longer ours. From here on nothing of it is taken in until it is
    /// taken up again, also from an engine that doesn't know yet.
    pub(super) fn forget(&self, partition: i32) {
        self.lock().forget(partition);
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(side: Side, offset: i64) -> Position {
        Position { side, partition: 3, generation: 1, offset, version: 0, metadata: "".into() }
    }

    fn owning() -> Desk {
        let desk = Desk::default();
        desk.take_up(3, 1);
        desk
    }

    #[test]
    fn only_positions_that_moved_are_committed_and_the_newest_wins() {
        let desk = owning();
        desk.commit(&[at(Side::Source, 5), at(Side::Retry, 1)]);
        let sent = desk.pending();
        desk.commit(&[at(Side::Source, 6), at(Side::Retry, 1)]);
        desk.note_committed(&sent);
        assert_eq!(desk.pending(), vec![at(Side::Source, 6)]);
        desk.commit(&[at(Side::Retry, 1)]);
        assert_eq!(desk.pending(), vec![at(Side::Source, 6)]);
    }

    #[test]
    fn a_map_that_changed_is_committed_though_the_offset_stands() {
        let desk = owning();
        desk.commit(&[at(Side::Source, 5)]);
        desk.note_committed(&desk.pending());
        let grown = Position { metadata: "map".into(), ..at(Side::Source, 5) };
        desk.commit(std::slice::from_ref(&grown));
        assert_eq!(desk.pending(), vec![grown]);
    }

    #[test]
    fn unchanged_retry_positions_are_renewed_and_a_lost_partition_is_forgotten() {
        let desk = owning();
        desk.commit(&[at(Side::Source, 5), at(Side::Retry, 1)]);
        desk.note_committed(&desk.pending());
        assert!(desk.is_committed());
        desk.renew_retry();
        assert_eq!(desk.pending(), vec![at(Side::Retry, 1)]);
        desk.forget(3);
        assert!(desk.is_committed());
    }

    #[test]
    fn what_a_late_engine_orders_for_a_partition_that_was_let_go_is_void() {
        let desk = owning();
        desk.commit(&[at(Side::Source, 5), at(Side::Retry, 1)]);
        desk.note_committed(&desk.pending());
        desk.commit(&[at(Side::Source, 6)]);
        desk.forget(3);
        let late = [at(Side::Source, 7), at(Side::Retry, 2)];
        desk.commit(&late);
        desk.stop(3, 1);
        desk.renew_retry();
        assert_eq!(desk.pending(), []);
        assert_eq!(desk.committed(Side::Retry, 3), None);
        desk.take_up(3, 2);
        desk.commit(&late);
        desk.stop(3, 1);
        desk.renew_retry();
        assert_eq!(desk.pending(), []);
        assert!(!desk.is_stopped(3), "the new assignment flows");
        assert!(desk.is_committed(), "nothing of ours waits");
        let ours = Position { generation: 2, ..at(Side::Source, 9) };
        desk.commit(&[ours.clone(), at(Side::Source, 8)]);
        desk.stop(3, 2);
        assert_eq!(desk.pending(), [ours]);
        assert!(desk.is_stopped(3));
    }

    #[test]
    fn what_was_committed_under_another_assignment_is_no_claim_of_this_one() {
        let desk = owning();
        desk.commit(&[at(Side::Source, 5)]);
        desk.note_committed(&desk.pending());
        assert!(desk.has_committed(&at(Side::Source, 5)));
        desk.take_up(3, 2);
        let again = Position { generation: 2, ..at(Side::Source, 5) };
        assert!(!desk.has_committed(&again));
        desk.commit(std::slice::from_ref(&again));
        assert_eq!(desk.pending(), [again]);
    }
}
