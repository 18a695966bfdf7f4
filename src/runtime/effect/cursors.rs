//! The cursors of a partition are claimed and stored, and take tasks over. Who gets one is decided in `look_after`.
//!
//! Invariant 1 (completion): what a cursor takes over completes at the source only once the row is stored. Rows are
//! claimed after the group has accepted this owner and before its marker is appended (rule 5), with the number that the group
//! has accepted: a member that froze on its way there comes with a lower one, and is refused. Where the number is taken
//! already (positions were reset by hand), a higher one is claimed of the group, which only the true member can.

use std::sync::Arc;

use super::engine::Engine;
use super::own_cursors::{OwnCursors, Storing};
use super::partition::Partition;
use super::report::What;
use super::survey::Surveyed;
use super::waiting::Duty;
use crate::runtime::backoff::Backoff;
use crate::runtime::cursor::{Claimed, CursorRow, CursorWish, CursorWrite, Cursors, Live, StoreAnswer};
use crate::runtime::lanes::TaskNo;
use crate::runtime::outcome::Failure;
use crate::runtime::record::SourcePartition;
use crate::runtime::stage::{EffectStage, TargetState};

/// How often changed positions are stored when nobody waits for them.
const STORE_EVERY_MS: i64 = 500;
/// A store that takes longer is away to what waits for it.
const STORED_WITHIN_MS: i64 = 2_000;
/// How often the store is asked for wishes.
const ASK_EVERY_MS: i64 = 1_000;

/// What jobs for cursors tell the engine.
#[derive(Debug)]
pub(super) enum Told {
    Claimed(Claimed),
    Stored(CursorWrite, Result<StoreAnswer, Failure>),
    Wishes(Result<Vec<(i64, CursorWish)>, Failure>),
    Surveyed(Result<Surveyed, Failure>),
}

impl<S: EffectStage> Engine<S> {
    /// Takes the cursors of a partition over, however long the store is away. False when the stage keeps none.
    pub(super) fn claim_cursors(&mut self, partition: i32) -> bool {
        let Some(store) = self.spec.cursors.clone() else { return false };
        let Some(epoch) = self.cursor_epoch(partition) else { return false };
        let (at, clock) = (self.source_partition(partition), self.env.clock.clone());
        self.spawn(partition, async move {
            let mut backoff = Backoff::default();
            loop {
                match store.claim(&at, epoch).await {
                    Ok(claimed) => return What::Cursors(Box::new(Told::Claimed(claimed))),
                    Err(why) => {
                        if !backoff.is_waiting() {
                            tracing::warn!(partition, %why, "cursors can't be read; the partition waits");
                        }
                        clock.sleep(backoff.next_pause()).await;
                    }
                }
            }
        });
        true
    }

    fn source_partition(&self, partition: i32) -> SourcePartition {
        let topic: Arc<str> = self.spec.source.as_str().into();
        let topic_id = Arc::clone(&topic);
        SourcePartition { cluster_id: Arc::clone(&self.cluster_id), topic, topic_id, partition }
    }

    pub(super) fn on_cursors(&mut self, partition: i32, told: Told) {
        match told {
            Told::Claimed(Claimed::Ours(rows)) => self.on_claimed(partition, &rows),
            Told::Claimed(Claimed::Above(taken)) => {
                tracing::info!(stage = %self.name, partition, taken, "the cursors were claimed with a number as high");
                if let Some(owned) = self.partitions.get_mut(&partition) {
                    owned.tenure.outbid(taken.unsigned_abs());
                }
                self.claim(partition);
            }
            Told::Stored(write, answer) => self.on_stored(partition, write, answer),
            Told::Surveyed(surveyed) => self.on_surveyed(partition, surveyed),
            Told::Wishes(Ok(wishes)) => self.on_wishes(partition, wishes),
            Told::Wishes(Err(why)) => {
                tracing::debug!(partition, %why, "wishes can't be read");
                if let Some(own) = self.cursors_of(partition) {
                    own.asking = false;
                }
            }
        }
    }

    /// What the cursors of a partition are claimed with: the number of its assignment.
    fn cursor_epoch(&self, partition: i32) -> Option<i64> {
        let own = self.partitions.get(&partition)?.tenure.own();
        Some(i64::try_from(own.generation).unwrap_or(i64::MAX))
    }

    fn on_claimed(&mut self, partition: i32, rows: &[CursorRow]) {
        let Some(epoch) = self.cursor_epoch(partition) else { return };
        let (at, now) = (self.source_partition(partition), self.env.clock.now_ms());
        let remembers = self.hands.stage.identity().map_or(0, |_| self.spec.options.duplicates_window);
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let complete_to = owned.source.runs().next_back().map_or(owned.source.committable(), |(_, end)| end);
        let table = Cursors::restore(rows, complete_to);
        for target in table.targets() {
            self.lanes.set_gate(partition, target, table.gate(target), now);
        }
        if !rows.is_empty() {
            tracing::info!(stage = %self.name, partition, cursors = rows.len(), "took cursors over");
        }
        owned.claimed_cursors(OwnCursors::new(at, epoch, table, remembers));
        self.begin_scan(partition);
    }

    pub(super) fn own_cursors(&self, partition: i32) -> Option<&OwnCursors> {
        self.partitions.get(&partition).and_then(|owned| owned.cursors.as_deref())
    }

    pub(super) fn cursors_of(&mut self, partition: i32) -> Option<&mut OwnCursors> {
        self.partitions.get_mut(&partition).and_then(|owned| owned.cursors.as_deref_mut())
    }

    /// A live task of `target` at `offset` was opened: answers whether a cursor has it, and whether its record
    /// waits for that to be stored.
    pub(super) fn taken_over(&mut self, partition: i32, target: &Arc<str>, offset: i64) -> Option<bool> {
        let now = self.seen.1;
        self.cursors_of(partition)?.lone.note(target, now);
        self.look_after_live(partition, target);
        let own = self.cursors_of(partition)?;
        let waits = match own.table.live(target, offset) {
            Live::Own => {
                own.lone.took();
                return None;
            }
            Live::Finished | Live::Handed => false,
            Live::Covered => true,
        };
        if waits {
            own.cover(target, offset, Duty::Source(offset), true);
        } else {
            self.count_handed(1);
        }
        self.balance.opened += 1;
        self.count("opened", 1);
        Some(waits)
    }

    /// Takes a task out of its lane unfinished: the reader brings it again.
    pub(super) fn give_back(&mut self, partition: i32, no: TaskNo) {
        let Some(known) = self.lanes.known(no) else { return };
        let (target, offset) = (Arc::clone(known.target), known.offset);
        self.forget(no);
        let vacated = self.lanes.complete(no, self.env.clock.now_ms());
        let Some(own) = self.cursors_of(partition) else { return };
        if own.give_back(no) {
            return self.count_handed(1);
        }
        own.expect(&target, offset);
        let mut duties: Vec<Duty> = vacated.places.into_iter().map(Duty::Place).collect();
        duties.extend(vacated.source.then_some(Duty::Source(offset)));
        for (at, duty) in duties.into_iter().enumerate() {
            own.cover(&target, offset, duty, at == 0);
        }
    }

    /// A cursor's task is to be tried later, but its target is held: the reader brings it again then.
    pub(super) fn is_held_back(&mut self, partition: i32, no: TaskNo) -> bool {
        let Some(known) = self.lanes.known(no) else { return false };
        let (target, offset) = (Arc::clone(known.target), known.offset);
        let Some(own) = self.cursors_of(partition) else { return false };
        if !own.has(no) || own.table.held(&target).is_none() {
            return false;
        }
        own.table.take_back(&target, offset);
        self.give_back(partition, no);
        true
    }

    /// True when the target was deleted.
    pub(super) fn is_gone(&self, target: &str) -> bool {
        self.hands.stage.target_state(target) == TargetState::Gone
    }

    pub(super) fn update_gate(&mut self, partition: i32, target: &Arc<str>) {
        let now = self.env.clock.now_ms();
        let Some(own) = self.cursors_of(partition) else { return };
        let gate = own.table.gate(target);
        self.lanes.set_gate(partition, target, gate, now);
    }

    /// Stores what changed: at once when somebody waits for it, else now and then.
    pub(super) fn store_cursors(&mut self, partition: i32, now_ms: i64, at_last: bool) {
        let Some(store) = self.spec.cursors.clone() else { return };
        let Some(own) = self.cursors_of(partition) else { return };
        let is_due = (at_last && !own.store_backoff.is_waiting())
            || now_ms >= own.store_at_ms
                && (own.table.is_urgent() || now_ms - own.looked_at_ms >= STORE_EVERY_MS);
        match own.storing {
            Storing::No if is_due => {}
            Storing::Since(at_ms) if own.is_store_there && now_ms - at_ms >= STORED_WITHIN_MS => {
                return self.on_store_away(partition);
            }
            Storing::No | Storing::Since(_) | Storing::NoMore => return,
        }
        own.looked_at_ms = now_ms;
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let (write, handed) = owned.send_rows();
        self.count_handed(handed);
        let Some(own) = self.cursors_of(partition).filter(|_| !write.is_empty()) else { return };
        own.storing = Storing::Since(now_ms);
        let (at, epoch) = (Arc::clone(&own.at), own.epoch);
        self.spawn(partition, async move {
            let answer = store.store(&at, epoch, &write).await;
            What::Cursors(Box::new(Told::Stored(write, answer)))
        });
    }

    /// A partition that is going away: what its cursors came to is stored before it goes, whatever still hangs.
    pub(super) fn store_at_last(&mut self, partition: i32) {
        if self.partitions.get(&partition).is_some_and(|owned| owned.closed) {
            self.store_cursors(partition, self.env.clock.now_ms(), true);
        }
    }

    fn on_stored(&mut self, partition: i32, write: CursorWrite, answer: Result<StoreAnswer, Failure>) {
        let now = self.env.clock.now_ms();
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let Some(own) = owned.cursors.as_deref_mut() else { return };
        own.storing = Storing::No;
        match answer {
            Ok(StoreAnswer::Stored) => {
                own.store_backoff = Backoff::default();
                let changed: Vec<Arc<str>> = write.rows.iter().map(|row| Arc::clone(&row.target)).collect();
                let handed = owned.stored(write);
                self.count_handed(handed);
                for target in changed {
                    self.update_gate(partition, &target);
                }
            }
            Ok(StoreAnswer::Lost) => {
                own.storing = Storing::NoMore;
                let epoch = own.epoch;
                // It was its next owner, or somebody who doesn't go by our numbers. The group knows who owns it.
                tracing::error!(stage = %self.name, partition, epoch,
                    "somebody else claimed the cursors: the partition is taken up anew, if it is still ours");
                self.take_up_anew(partition);
            }
            Err(why) => {
                if !own.store_backoff.is_waiting() {
                    tracing::warn!(partition, %why, "cursors can't be stored; trying until it works");
                }
                own.store_at_ms = now + own.store_backoff.next_pause().as_millis() as i64;
                self.on_store_away(partition);
            }
        }
    }

    /// The store failed, or takes too long.
    fn on_store_away(&mut self, partition: i32) {
        let handed = self.partitions.get_mut(&partition).map_or(0, Partition::store_is_away);
        self.count_handed(handed);
    }

    fn count_handed(&mut self, tasks: u64) {
        self.balance.handed += tasks;
        self.count("handed", tasks);
    }

    /// Asks now and then what is wished of the cursors.
    pub(super) fn ask_for_wishes(&mut self, partition: i32, now_ms: i64) {
        let Some(store) = self.spec.cursors.clone() else { return };
        let Some(own) = self.cursors_of(partition) else { return };
        // What is granted is asked for until the store knows.
        if own.asking || own.table.has_granted() || now_ms < own.ask_at_ms {
            return;
        }
        (own.asking, own.ask_at_ms) = (true, now_ms + ASK_EVERY_MS);
        let (at, stage) = (Arc::clone(&own.at), Arc::clone(&self.hands.stage));
        self.spawn(partition, async move {
            stage.refresh().await;
            What::Cursors(Box::new(Told::Wishes(store.wishes(&at).await)))
        });
    }
}
