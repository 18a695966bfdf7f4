//! Carries out what the cursors of a partition decide: targets are detached, held, handed back; rows are stored.
//!
//! Invariant 1 (completion): what a cursor takes over completes at the source only once the row is stored. Rows are
//! claimed after the group has accepted this owner and before its marker is appended (rule 5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::engine::Engine;
use super::own_cursors::{Covered, Duty, OwnCursors};
use super::report::What;
use super::survey::Surveyed;
use crate::runtime::backoff::Backoff;
use crate::runtime::consumer::Side;
use crate::runtime::cursor::{Claimed, CursorWish, CursorWrite, Cursors, Detached, Live, StoreAnswer};
use crate::runtime::error::PartitionFault;
use crate::runtime::lanes::{OfTarget, TaskNo};
use crate::runtime::outcome::Failure;
use crate::runtime::record::SourcePartition;
use crate::runtime::stage::{EffectStage, TargetState};

/// How often changed positions are stored when nobody waits for them.
const STORE_EVERY_MS: i64 = 500;
/// Why a target is detached that could be served.
pub(super) const SHARE_USED_UP: &str = "its share of waiting work is used up";
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
        let (at, clock) = (self.source_partition(partition), self.env.clock.clone());
        self.spawn(partition, async move {
            let mut backoff = Backoff::default();
            loop {
                match store.claim(&at).await {
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
            Told::Claimed(claimed) => self.on_claimed(partition, &claimed),
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

    fn on_claimed(&mut self, partition: i32, claimed: &Claimed) {
        let (at, now) = (self.source_partition(partition), self.env.clock.now_ms());
        let remembers = self.hands.stage.identity().map_or(0, |_| self.spec.options.duplicates_window);
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let complete_to = owned.source.runs().next_back().map_or(owned.source.committable(), |(_, end)| end);
        let table = Cursors::restore(&claimed.rows, complete_to);
        for target in table.targets() {
            self.lanes.set_gate(partition, target, table.gate(target), now);
        }
        if !claimed.rows.is_empty() {
            tracing::info!(stage = %self.name, partition, cursors = claimed.rows.len(), "took cursors over");
        }
        owned.cursors = Some(Box::new(OwnCursors::new(at, claimed.epoch, table, remembers)));
        self.begin_scan(partition);
    }

    pub(super) fn cursors_of(&mut self, partition: i32) -> Option<&mut OwnCursors> {
        self.partitions.get_mut(&partition).and_then(|owned| owned.cursors.as_deref_mut())
    }

    /// A live task of `target` at `offset` was opened: answers whether a cursor has it, and whether its record
    /// waits for that to be stored.
    pub(super) fn taken_over(&mut self, partition: i32, target: &Arc<str>, offset: i64) -> Option<bool> {
        self.cursors_of(partition)?;
        self.look_after(partition, target);
        let own = self.cursors_of(partition)?;
        let waits = match own.table.live(target, offset) {
            Live::Own => return None,
            Live::Finished | Live::Handed => false,
            Live::Covered => true,
        };
        if waits {
            let target = Arc::clone(target);
            own.covered.push(Covered { target, offset, duty: Duty::Source, counts: true });
        } else {
            self.balance.handed += 1;
            self.count("handed", 1);
        }
        self.balance.opened += 1;
        self.count("opened", 1);
        Some(waits)
    }

    /// Invariant 3 (isolation): a target that isn't served, or has its share waiting, is detached.
    pub(super) fn look_after(&mut self, partition: i32, target: &Arc<str>) {
        let Some(own) = self.partitions.get(&partition).and_then(|owned| owned.cursors.as_deref()) else {
            return;
        };
        let (detached, held) = (own.table.is_detached(target), own.table.held(target).is_some());
        let is_away = own.is_away(target);
        match self.hands.stage.target_state(target) {
            TargetState::Held(why) if !held => {
                self.note_away(partition, target, false);
                self.suspend(partition, target, &why);
            }
            // Nothing of that is stored: whoever takes the partition over finds out by itself.
            TargetState::Away(why) if !is_away => {
                self.note_away(partition, target, true);
                if held {
                    self.resume(partition, target);
                }
                self.detach(partition, target, &why);
            }
            TargetState::Flowing if is_away || held => {
                self.note_away(partition, target, false);
                self.resume(partition, target);
            }
            TargetState::Flowing if !detached && self.lanes.waiting(partition, target) >= self.share() => {
                self.detach(partition, target, SHARE_USED_UP);
            }
            TargetState::Gone => self.drop_cursor(partition, target),
            TargetState::Flowing | TargetState::Held(_) | TargetState::Away(_) | TargetState::Unknown => {}
        }
    }

    fn note_away(&mut self, partition: i32, target: &Arc<str>, is_away: bool) {
        if let Some(own) = self.cursors_of(partition) {
            own.note_away(target, is_away);
        }
    }

    /// Takes a target from the live stream: a reader serves it from now on. What failed keeps its place in its schedule.
    pub(super) fn detach(&mut self, partition: i32, target: &Arc<str>, why: &str) {
        self.take_apart(partition, target, None, why);
    }

    /// The same without a reader, until it is to be served again. As nothing is tried for who knows how long, what failed
    /// is given back as well, and begins anew with its attempts.
    fn suspend(&mut self, partition: i32, target: &Arc<str>, why: &Arc<str>) {
        self.take_apart(partition, target, Some(Arc::clone(why)), why);
    }

    fn take_apart(&mut self, partition: i32, target: &Arc<str>, held: Option<Arc<str>>, why: &str) {
        let (now, failed_too) = (self.env.clock.now_ms(), held.is_some());
        // Nothing starts while it is taken apart.
        self.lanes.set_gate(partition, target, Some(i64::MIN), now);
        let of_target = self.lanes.of_target(partition, target);
        let in_memory = |task: &&OfTarget| task.place.is_none();
        let open: BTreeSet<i64> = of_target.iter().filter(in_memory).map(|task| task.offset).collect();
        let table = self.cursors_of(partition).map(|own| &own.table);
        let stays: BTreeSet<i64> = of_target
            .iter()
            .filter(|task| task.place.is_some())
            .filter(|task| table.is_some_and(|table| table.is_only_again(target, task.offset)))
            .map(|task| task.offset)
            .collect();
        let leaves = |task: &OfTarget| {
            let fresh = task.place.is_none() && task.attempt == 0;
            let parked_before = task.place.is_some() && stays.contains(&task.offset);
            task.idle && (fresh || failed_too) && !parked_before
        };
        let waiting: BTreeSet<i64> =
            of_target.iter().filter(|task| leaves(task)).map(|task| task.offset).collect();
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let (admitted, complete) = (owned.next_admitted(), owned.source.runs().collect());
        let Some(own) = owned.cursors.as_deref_mut() else { return };
        for task in of_target.iter().filter(|task| task.place.is_none() && !leaves(task)) {
            if !own.has(task.no) {
                let (target, offset) = (Arc::clone(target), task.offset);
                own.adopt(task.no, &target, offset, 0);
                own.covered.push(Covered { target, offset, duty: Duty::Source, counts: true });
                self.balance.opened += 1;
            }
        }
        let from = Detached { admitted, open, waiting, complete };
        own.table.detach(target, &from, held);
        for task in of_target.iter().filter(|task| task.place.is_some() && leaves(task)) {
            own.table.take_back(target, task.offset);
        }
        let leaving: Vec<OfTarget> = of_target.into_iter().filter(|task| leaves(task)).collect();
        tracing::info!(stage = %self.name, partition, %target, given_back = leaving.len(),
            why, "a target was detached: a cursor serves it from now on");
        for task in leaving {
            self.give_back(partition, task.no);
        }
        self.update_gate(partition, target);
    }

    /// Takes a task out of its lane unfinished: the reader brings it again.
    pub(super) fn give_back(&mut self, partition: i32, no: TaskNo) {
        let Some(known) = self.lanes.known(no) else { return };
        let (target, offset) = (Arc::clone(known.target), known.offset);
        self.forget(no);
        let vacated = self.lanes.complete(no, self.env.clock.now_ms());
        let Some(own) = self.cursors_of(partition) else { return };
        if own.give_back(no) {
            self.balance.handed += 1;
            self.count("handed", 1);
            return;
        }
        own.expect(&target, offset);
        let mut duties: Vec<Duty> = vacated.places.into_iter().map(Duty::Place).collect();
        duties.extend(vacated.source.then_some(Duty::Source));
        for (at, duty) in duties.into_iter().enumerate() {
            own.covered.push(Covered { target: Arc::clone(&target), offset, duty, counts: at == 0 });
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

    fn resume(&mut self, partition: i32, target: &Arc<str>) {
        tracing::info!(stage = %self.name, partition, %target, "a target is caught up from now on");
        if let Some(own) = self.cursors_of(partition) {
            own.table.resume(target);
        }
        self.update_gate(partition, target);
    }

    /// True when the target was deleted.
    pub(super) fn is_gone(&self, target: &str) -> bool {
        self.hands.stage.target_state(target) == TargetState::Gone
    }

    /// The target was deleted: what is open of it runs, and ends as skipped.
    fn drop_cursor(&mut self, partition: i32, target: &Arc<str>) {
        if let Some(own) = self.cursors_of(partition) {
            own.table.remove(target);
        }
        self.update_gate(partition, target);
    }

    pub(super) fn update_gate(&mut self, partition: i32, target: &Arc<str>) {
        let now = self.env.clock.now_ms();
        let Some(own) = self.cursors_of(partition) else { return };
        let gate = own.table.gate(target);
        self.lanes.set_gate(partition, target, gate, now);
    }

    /// Once per tick: cursors with nothing left to say go, targets whose state changed are heeded.
    pub(super) fn tend_cursors(&mut self) {
        let (stage, now) = (&self.hands.stage, self.env.clock.now_ms());
        self.lanes.wake_early(&|target| stage.not_before(target, now).is_none_or(|at_ms| at_ms <= now));
        let mut targets: BTreeMap<i32, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (&number, owned) in self.partitions.iter_mut() {
            let Some(own) = owned.cursors.as_deref_mut().filter(|_| !owned.closed) else { continue };
            if let Some(committed) = self.desk.committed(Side::Source, number) {
                own.table.sweep(committed);
            }
            own.paces.keep(|target| own.table.backfilling(target).is_some());
            own.tidy_away();
            // What rests may be away for long: then a cursor has what waits for it.
            let waiting = self.lanes.resting().filter(|target| self.lanes.waiting(number, target) > 0);
            targets.insert(number, own.table.targets().chain(waiting).cloned().collect());
        }
        for (partition, targets) in targets {
            for target in targets {
                self.look_after(partition, &target);
            }
            self.make_room_for_probes(partition);
        }
    }

    /// Stores what changed: at once when somebody waits for it, else now and then.
    pub(super) fn store_cursors(&mut self, partition: i32, now_ms: i64, at_last: bool) {
        let Some(store) = self.spec.cursors.clone() else { return };
        let Some(own) = self.cursors_of(partition) else { return };
        let is_due = (at_last && !own.store_backoff.is_waiting())
            || now_ms >= own.store_at_ms
                && (own.table.is_urgent() || now_ms - own.looked_at_ms >= STORE_EVERY_MS);
        if own.storing || !is_due {
            return;
        }
        let write = own.table.send();
        own.looked_at_ms = now_ms;
        if write.is_empty() {
            return;
        }
        own.storing = true;
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
        let Some(own) = self.cursors_of(partition) else { return };
        own.storing = false;
        match answer {
            Ok(StoreAnswer::Stored) => {
                own.store_backoff = Backoff::default();
                let changed: Vec<Arc<str>> = write.rows.iter().map(|row| Arc::clone(&row.target)).collect();
                own.table.stored(write);
                for target in changed {
                    self.update_gate(partition, &target);
                }
                self.settle_covered(partition);
            }
            Ok(StoreAnswer::Lost) => {
                // Nothing is written any more.
                own.storing = true;
                let epoch = own.epoch.to_string();
                let topic = self.spec.source.clone();
                self.stop(partition, PartitionFault::Superseded { topic, partition, epoch });
            }
            Err(why) => {
                if !own.store_backoff.is_waiting() {
                    tracing::warn!(partition, %why, "cursors can't be stored; trying until it works");
                }
                own.store_at_ms = now + own.store_backoff.next_pause().as_millis() as i64;
            }
        }
    }

    /// What stored cursors cover is complete where it came from.
    fn settle_covered(&mut self, partition: i32) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let Some(own) = owned.cursors.as_deref_mut() else { return };
        let (settled, waiting): (Vec<Covered>, Vec<Covered>) = std::mem::take(&mut own.covered)
            .into_iter()
            .partition(|covered| own.table.is_stored_over(&covered.target, covered.offset));
        own.covered = waiting;
        for covered in &settled {
            match covered.duty {
                Duty::Source => owned.task_complete(covered.offset),
                Duty::Place(place) => owned.place_complete(place),
            }
        }
        let handed = settled.iter().filter(|covered| covered.counts).count() as u64;
        self.balance.handed += handed;
        self.count("handed", handed);
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
